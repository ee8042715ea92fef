"""Regular expressions: each is linear in the text, whatever the text."""

import ast
import importlib
import itertools
import pkgutil
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined] # the only reader of patterns there is
from types import BuiltinMethodType
from typing import Any, NamedTuple

import pytest
import regex  # type: ignore[import-untyped] # its stubs are not among our tools

import monitor
from monitor.detect.pii.identifiers import Identifiers
from monitor.detect.pii.secrets import Secrets

AT_REST = ("training", "bench", "demo", "evaluation", "cli", "__main__", "detect.worker")
"""Modules that no trace meets in a daemon, or that run when they are imported."""
SAMPLES = 10  # characters of a pattern, by which texts are made that it nearly matches
SIZE = 16_384
PATIENT = 1.0  # seconds for one text: an exponential pattern would never end
END = "\x00"  # what no pattern wants to come next


class Pattern(NamedTuple):
    """A compiled pattern, the name it was found under, and whether it is only used at a given place."""

    name: str
    compiled: Any
    anchored: bool


def patterns() -> Iterator[Pattern]:
    """Yield the patterns that modules of the daemon hold, however they hold them, or make at its start."""
    seen = set()
    made = {"Secrets": Secrets(PATIENT), "Identifiers": Identifiers(0.0)}
    for info in pkgutil.walk_packages(monitor.__path__, "monitor."):
        if info.name.removeprefix("monitor.").startswith(AT_REST):
            continue
        module = importlib.import_module(info.name)
        uses = _uses(Path(str(module.__file__)).read_text(encoding="utf-8"))
        for name, value in vars(module).items():
            for compiled in _within(made.get(name, value), 0):
                if (compiled.pattern, compiled.flags) not in seen and isinstance(compiled.pattern, str):
                    seen.add((compiled.pattern, compiled.flags))
                    bound = isinstance(value, BuiltinMethodType)
                    called = {value.__name__} if bound else uses.get(name, {""})
                    anchored = called <= {"match", "fullmatch"}
                    yield Pattern(f"{info.name}.{name}", compiled, anchored)


def _uses(source: str) -> dict[str, set[str]]:
    """Return the methods that are called on each name of a module, and `` where it is used otherwise."""
    uses: dict[str, set[str]] = {}
    tree = ast.parse(source)
    called = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            uses.setdefault(node.value.id, set()).add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in called:
            uses.setdefault(node.id, set()).add("")
    return uses


def _within(value: object, depth: int) -> Iterator[Any]:
    if isinstance(value, re.Pattern | regex.Pattern):
        yield value
    elif isinstance(value, BuiltinMethodType):
        yield from _within(value.__self__, depth)
    elif depth < 4:
        inner: Sequence[object] = ()
        if isinstance(value, dict):
            inner = list(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            inner = list(value)
        elif type(value).__module__.startswith("monitor"):
            inner = list(getattr(value, "__dict__", {}).values())
        for each in inner[:500]:
            yield from _within(each, depth + 1)


def characters(pattern: str, flags: int) -> list[str]:
    """Return characters that a pattern speaks of."""
    try:
        found = list(_spoken_of(parser.parse(pattern, flags)))
    except re.error:  # of the regex module, whose syntax is larger
        found = [character for character in pattern if character.isprintable()]
    return [*dict.fromkeys([*found[: 3 * SAMPLES], "1", "a", " "])]


def _spoken_of(tree: Any) -> Iterator[str]:
    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL":
            yield chr(argument)
        elif name == "RANGE":
            yield from map(chr, argument)
        elif name == "CATEGORY":
            yield {"DIGIT": "1", "SPACE": " ", "WORD": "a"}.get(str(argument).removeprefix("CATEGORY_"), "-")
        elif name == "BRANCH":
            yield from itertools.chain.from_iterable(map(_spoken_of, argument[1]))
        elif name in _INNER:
            yield from _spoken_of(_INNER[name](argument))
        else:
            yield "a"


_INNER: Mapping[str, Callable[[Any], Any]] = {
    "IN": lambda argument: argument,
    "ATOMIC_GROUP": lambda argument: argument,
    "ASSERT": itemgetter(1),
    "ASSERT_NOT": itemgetter(1),
    "MAX_REPEAT": itemgetter(2),
    "MIN_REPEAT": itemgetter(2),
    "POSSESSIVE_REPEAT": itemgetter(2),
    "SUBPATTERN": itemgetter(3),
}


def texts(pattern: Pattern) -> Iterator[str]:
    """Yield what texts are made of: one character, two in turn, all in turn, a start and then one."""
    known = characters(pattern.compiled.pattern, pattern.compiled.flags)
    yield from known[:SAMPLES]
    yield from map("".join, itertools.permutations(known[:4], 2))
    yield "".join(known)


def used(pattern: Pattern) -> Callable[[str], object]:
    """Return the use of a pattern on a whole text."""
    if pattern.anchored:
        return lambda text: (pattern.compiled.match(text), pattern.compiled.fullmatch(text))
    return lambda text: sum(1 for _ in pattern.compiled.finditer(text))


def seconds(use: Callable[[str], object], piece: str, size: int) -> float:
    """Return the processor time of one use. Raises TimeoutError after `PATIENT` seconds."""
    text = (piece * (size // len(piece) + 1))[:size] + END
    signal.setitimer(signal.ITIMER_PROF, PATIENT)
    began = time.thread_time()
    try:
        use(text)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return time.thread_time() - began


def is_linear(pattern: Pattern, piece: str) -> bool:
    """Whether a text of `SIZE` takes about four times as long as one of a fourth, where either takes long."""
    use = used(pattern)
    try:
        if seconds(use, piece, SIZE) < 0.01:
            return True
        # The least of several: other work on the machine makes single ones longer.
        whole, fourth = (min(seconds(use, piece, size) for _ in range(5)) for size in (SIZE, SIZE // 4))
        return whole < 8 * fourth
    except TimeoutError:
        return False


def _timed_out(*_: object) -> None:
    raise TimeoutError


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """End a use that takes too long; a pattern checks for signals now and then."""
    before = signal.signal(signal.SIGPROF, _timed_out)
    yield
    signal.signal(signal.SIGPROF, before)


@pytest.mark.slow
def test_every_pattern_is_linear() -> None:
    """Of each pattern that a trace may meet, texts made of what it speaks of take time in proportion."""
    found = list(patterns())
    assert len(found) > 250
    slow = {
        f"{pattern.name}: {piece!r}"
        for pattern in found
        for piece in texts(pattern)
        if not is_linear(pattern, piece)
    }
    assert not slow


@pytest.mark.parametrize(
    ("source", "piece"),
    [(r"(a|a)+$", "ab"), (r"a+b", "a"), (r"(?:[ -]?[A-Z]{1,4}){3,9}x", "A"), (r"\d+:\d+:", "1")],
)
def test_a_pattern_that_is_not_linear_is_found(source: str, piece: str) -> None:
    """Repeats within repeats, and searches that begin anew at every place."""
    pattern = Pattern("made up", re.compile(source), anchored=False)
    assert not all(is_linear(pattern, each) for each in (*texts(pattern), piece))
