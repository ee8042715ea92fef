"""Calls of a run, and which of them are alike.

A call is a tool or retrieval step. Two calls are alike when tool and arguments have the same normal form:
JSON without order, case, white space, and keys that change by themselves (request ids, times); free text as
the set of its content words, of which three quarters must agree. Numbers always count, so pages and items
differ. Results are compared too.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from monitor.agents.runs import failed
from monitor.text.words import STOPWORDS, stem
from monitor.trace import RETURNS, Step

ALIKE = 0.75  # share of content words that two free texts have in common, to be alike
_LONG = 4096  # characters beyond which a text is compared as it is
_GROUPS = 16  # differently worded calls of one form that a new one is compared with

_VOLATILE = re.compile(
    r"(?:.*_)?(?:request|req|trace|span|correlation|idempotency)_?(?:id|key)|timestamp|nonce|attempt|retry"
)
_WORD = re.compile(r"[^\W_]+")
_CHANGES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b|\d{6,}")


class Call(NamedTuple):
    """A call of a run: its index in the steps, the tool, whether it failed.

    `form` is the same for calls that are alike; `outcome` for those that returned the same; `words` are those
    of its arguments; `seen` is whether anything of its result was captured.
    """

    step: int
    tool: str
    failed: bool
    form: int
    outcome: str
    words: frozenset[str]
    seen: bool


def find_calls(steps: Sequence[Step]) -> list[Call]:
    """Return the calls of a run, in order. Calls of which nothing was captured are unlike any other."""
    forms: dict[tuple[str, str], list[tuple[int, frozenset[str]]]] = {}
    calls: list[Call] = []
    for n, step in enumerate(steps):
        if step.kind not in RETURNS:
            continue
        fixed, free, words = _normal_form(step.input)
        known = forms.setdefault((step.name, fixed), [])
        form = next((number for number, other in known[:_GROUPS] if _alike(free, other)), None)
        if form is None or not (step.input or step.output or step.error):
            form = n
            known.append((n, free))
        outcome = f"!{step.error}" if step.error else _normal_outcome(step.output)
        calls.append(Call(n, step.name, failed(step), form, outcome, words, bool(step.output or step.error)))
    return calls


def _normal_outcome(output: str) -> str:
    return output if len(output) > _LONG else _CHANGES.sub("#", " ".join(output.split()))


def _alike(left: frozenset[str], right: frozenset[str]) -> bool:
    return left == right or len(left & right) >= ALIKE * len(left | right)


@functools.lru_cache(maxsize=1024)
def _normal_form(arguments: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return the part that must be equal, the content words of free texts, and all words of the values.

    Identifiers, numbers and flags must be equal, free text only similar: models rephrase a query that they
    repeat, but another id is another question.
    """
    if len(arguments) > _LONG:
        return arguments, frozenset(), frozenset()
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        value = arguments
    fixed: list[str] = []
    free: set[str] = set()
    words: set[str] = set()
    for path, leaf in _leaves(value, ""):
        parts = _WORD.findall(str(leaf).casefold())
        words.update(parts)
        if isinstance(leaf, str) and " " in leaf.strip():
            fixed += [f"{path}={part}" for part in parts if part[0].isdigit()]
            free.update(stem(p) for p in parts if not p[0].isdigit() and p not in STOPWORDS)
        else:
            fixed.append(f"{path}={'.'.join(parts) if isinstance(leaf, str) and parts else leaf}")
    return "\n".join(fixed), frozenset(free), frozenset(words)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            if not _VOLATILE.fullmatch(key.lower()):
                yield from _leaves(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value
