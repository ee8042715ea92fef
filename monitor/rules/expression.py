"""The expression engine behind three calls, so that it can be replaced: `check`, `compile_`, `evaluate`.

CEL by `common-expression-language` (a Rust evaluator: no `eval`, no I/O). It has no cost limit of its own and
its parser overflows the stack on long chains, so only what `monitor.rules.checker` accepts ever reaches it.
"""

import re
from collections.abc import Mapping
from typing import Any

from monitor.rules.checker import check
from monitor.rules.inputs import Reads, Type
from monitor.rules.lexer import ExpressionError

_POSITION = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (KeyError, "missing_value"),
    (IndexError, "index_out_of_range"),
    (ZeroDivisionError, "division_by_zero"),
    (OverflowError, "overflow"),
    (TypeError, "not_comparable"),  # the static check leaves only NaN, and integers over 64 bits
)
ERROR_KINDS = frozenset({*(kind for _, kind in _KINDS), "not_boolean", "failed"})


class EvaluationError(Exception):
    """An expression that could not be evaluated on a trace; `kind` is one of ERROR_KINDS."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Context:
    """Variables converted once and read by many expressions."""

    __slots__ = ("native",)

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise EvaluationError when a value does not fit the engine, such as half a surrogate pair."""
        import cel  # 0.2 s: it loads a command line of its own

        try:
            self.native = cel.Context(dict(values))
        except BaseException as error:  # noqa: BLE001 - see _is_failure; anything else is raised again
            raise _failure(error) from None


class Expression:
    """A compiled boolean expression; `reads` are its inputs."""

    __slots__ = ("_program", "reads")

    def __init__(self, program: Any, reads: Reads) -> None:
        self._program = program
        self.reads = reads

    def evaluate(self, context: Context) -> bool:
        """Return what the expression says. Raises EvaluationError, never anything else."""
        try:
            result = self._program.execute(context.native)
        except BaseException as error:  # noqa: BLE001 - see _is_failure; anything else is raised again
            raise _failure(error) from None
        if not isinstance(result, bool):
            raise EvaluationError("not_boolean")
        return result


def compile_(source: str, variables: Mapping[str, Type]) -> Expression:
    """Check and compile. Raises ExpressionError with the offset of the fault."""
    import cel

    reads = check(source, variables)
    try:
        return Expression(cel.compile(source), reads)
    except BaseException as error:
        if not _is_failure(error):
            raise
        raise _located(source, str(error)) from None


def _is_failure(error: BaseException) -> bool:
    # A panic of the Rust evaluator derives from BaseException alone.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _failure(error: BaseException) -> BaseException:
    if not _is_failure(error):
        return error
    return EvaluationError(next((kind for type_, kind in _KINDS if isinstance(error, type_)), "failed"))


def _located(source: str, message: str) -> ExpressionError:
    match = _POSITION.search(message)
    if match is None:
        return ExpressionError(0, "cannot be compiled")
    line, column = int(match[1]), int(match[2])
    before = sum(len(text) for text in source.splitlines(keepends=True)[: line - 1])
    return ExpressionError(before + column - 1, match[3])
