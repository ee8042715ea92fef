"""Personal data by the thousand: the same findings as by comparing all pairs, in time linear in the text."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from customers import copied, crowded, customers, misters
from hypothesis import given
from hypothesis import strategies as st

from monitor.detect import pii
from monitor.detect.pii import names
from monitor.detect.pii.prompt_index import PromptIndex, _fold
from monitor.detect.pii.spans import EntitySpan, Index, Kinds
from monitor.trace import Message, Trace

KINDS: Final = ("PERSON", "PHONE_NUMBER", "ID_NUMBER", "URL")
SPANS = st.lists(
    st.builds(
        lambda start, length, kind, score: EntitySpan(start, start + length, kind, score),
        st.integers(0, 60),
        st.integers(1, 20),
        st.sampled_from(KINDS),
        st.sampled_from([0.4, 0.5, 1.0]),
    ),
    max_size=30,
)


def overlap(a: EntitySpan, b: EntitySpan) -> bool:
    """The definition: they share a character."""
    return a.start < b.end and b.start < a.end


@given(SPANS, SPANS)
def test_an_index_finds_what_comparing_all_pairs_finds(
    spans: list[EntitySpan], others: list[EntitySpan]
) -> None:
    """Of any kind, and of the same."""
    index, kinds = Index(spans), Kinds(spans)
    for other in others:
        assert index.overlaps(other) == any(overlap(span, other) for span in spans)
        assert kinds.repeat(other) == any(span.kind == other.kind and overlap(span, other) for span in spans)


@given(SPANS, SPANS)
def test_additions_are_seen_by_later_ones(spans: list[EntitySpan], others: list[EntitySpan]) -> None:
    """Each is kept unless it repeats one of the first or one that was added before it."""
    kinds, all_so_far = Kinds(spans), list(spans)
    for other in others:
        new = not any(span.kind == other.kind and overlap(span, other) for span in all_so_far)
        assert kinds.add_if_new(other) == new
        if new:
            all_so_far.append(other)


@given(SPANS, SPANS)
def test_merging_is_that_of_all_pairs(patterns: list[EntitySpan], named: list[EntitySpan]) -> None:
    """A name gives way to a pattern that it overlaps and does not hold, and a number to any."""

    def yields(name: EntitySpan, pattern: EntitySpan) -> bool:
        if not overlap(name, pattern):
            return False
        held = name.start <= pattern.start and pattern.end <= name.end
        return name.kind in {"PHONE_NUMBER", "ID_NUMBER"} or not held or name[:2] == pattern[:2]

    allowed = [name for name in named if not any(yields(name, pattern) for pattern in patterns)]
    assert names.merged(patterns, named) == sorted([*patterns, *allowed])


def by_search(texts: Sequence[str], value: str, kind: str) -> bool:
    """Whether texts hold a value: its definition, one search per value."""
    words = [word for text in texts for word in _words(text)]
    joined, ends, at = "".join(words), set(), 0
    for word in words:
        at += len(word)
        ends.add(at)
    wanted = "".join(_words(value))
    partial = kind == "PHONE_NUMBER" and len(wanted) > 9
    wanted = wanted[-9:] if partial else wanted
    return any(
        joined.startswith(wanted, start) and start + len(wanted) in ends and (partial or start in ends | {0})
        for start in range(len(joined))
        if wanted
    )


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in _fold(text)).split()


WORD = st.text("ab1", min_size=1, max_size=3)
TEXT = st.lists(WORD, max_size=20).map(" ".join)


@given(st.lists(TEXT, max_size=3), st.lists(st.lists(WORD, max_size=6).map(" ".join), max_size=40))
def test_many_values_are_found_as_each_alone(texts: list[str], values: list[str]) -> None:
    """Whether a few are searched for, or many compared with all words."""
    pairs = [(value, kind) for value in values for kind in KINDS[:2]]
    expected = {pair for pair in pairs if by_search(texts, *pair)}
    assert PromptIndex(texts).held(pairs) == expected
    assert {pair for pair in pairs if PromptIndex(texts).has(*pair)} == expected


@pytest.fixture(scope="module")
def detector() -> pii.Pii:
    """The detector as it is shipped."""
    return pii.build()


@pytest.mark.alone
@pytest.mark.parametrize("text", [customers, misters, crowded, copied])
def test_work_is_linear_in_the_findings(detector: Any, text: Callable[[int], str]) -> None:
    """Four times the text takes at most six times as long, the prompt growing with the response."""

    def seconds(rows: int) -> float:
        trace = Trace(id="1", time=1.0, response=text(rows), messages=(Message("user", customers(rows)),))
        began = time.process_time()
        (assessment,) = detector.assess([trace])
        assert assessment.values["response"] > rows
        return time.process_time() - began

    seconds(20)
    small = min(seconds(100), seconds(100))
    assert seconds(400) < 6 * small + 0.2
