"""What is judged again: under the ids of its first judgement, and never what was judged already."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spans import AGENT, BOUNDS, CHAT, OTHER, TOOL, log, span, told

from monitor.assembly import Assembler, Exchange
from monitor.trace import Span, StepKind, ToolCall

TIMES = (0.0, 50.0, 100.0)  # of batches; all that came before is judged by then
PROMPT, ANSWER = "How long?", "30 days."


def chat(number: int, parent: int = 0, prompt: str = "", answer: str = "", kind: StepKind = CHAT) -> Span:
    """A call that lasts, as the spans within it do, beyond the last of their numbers."""
    exchange = told(number, prompt, answer, latency=100.0)
    return span(kind, number, parent, exchange=exchange, end=number + 100.0)


def judged(batches: Sequence[Sequence[Span]]) -> list[Exchange[tuple[int, int]]]:
    """What is handed out of spans that come in batches, each recorded before the next one."""
    assembler: Assembler[tuple[int, int]] = Assembler(BOUNDS)
    found = []
    for batch, spans in enumerate(batches):
        for number, each in enumerate(spans):
            assembler.add((batch, number), each, TIMES[batch])
        made = [exchange for done in assembler.due(TIMES[batch] + 40.0) for exchange in done.exchanges]
        assembler.recorded([exchange.id for exchange in made])
        found += made
    return found


def said(exchange: Exchange[Any]) -> tuple[str, str]:
    """Prompt and answer."""
    return exchange.trace.prompt(), exchange.trace.response


@st.composite
def calls(draw: st.DrawFn) -> list[list[Span]]:
    """Calls of one to three spans within each other, each whole, empty, or with its texts in a log record.

    They come in three batches, those of a call from the outside in or the other way round, log records with
    their span or in the last one.
    """
    batches: list[list[Span]] = [[span(OTHER, 1)], [], []]
    number = 1
    for call in range(draw(st.integers(1, 3))):
        parent = 1
        prompt, answer = f"ask {call}.", f"say {call}."
        depth = draw(st.integers(1, 3))
        places = sorted(draw(st.integers(0, 2)) for _ in range(2 * depth))
        if draw(st.booleans()):
            places.reverse()
        for _ in range(depth):
            if draw(st.booleans()):
                number += 1
                batches[places.pop()].append(span(OTHER, number, parent, end=number + 100.0))
                parent = number
            number += 1
            form = draw(st.sampled_from(["whole", "empty", "log"]))
            texts = (prompt, answer) if form == "whole" else ()
            place = places.pop()
            batches[place].append(chat(number, parent, *texts))
            if form == "log":
                batches[draw(st.sampled_from([place, 2]))].append(log(number, prompt, answer, latency=100.0))
            parent = number
    return batches


@given(calls(), st.integers(0, 99))
def test_the_same_texts_of_a_call_are_judged_once(batches: list[list[Span]], seed: int) -> None:
    """Whichever of its spans come late, a call's texts are judged, and no second time."""
    for batch in batches:
        random.Random(seed).shuffle(batch)
    found = Counter(said(exchange) for exchange in judged(batches) if all(said(exchange)))
    texts = {
        (each.exchange.prompt(), each.exchange.response)
        for batch in batches
        for each in batch
        if each.exchange is not None and each.exchange.response
    }
    assert found == Counter(texts)


@given(calls())
def test_a_revision_has_the_ids_of_an_earlier_judgement(batches: list[list[Span]]) -> None:
    """The span of a revision was judged before, with the revision before."""
    seen: set[tuple[str, int]] = set()
    for exchange in judged(batches):
        (_, span_id, revision), trace = exchange.id, exchange.trace
        assert (trace.span_id, trace.revision) == (span_id, revision)
        assert not revision or any(of == span_id and before < revision for of, before in seen)
        assert (span_id, revision) not in seen
        seen.add((span_id, revision))


def test_a_late_log_of_an_inner_span_revises_the_outer_one() -> None:
    """Spans within each other were judged as the outer one, also for what a restart knows of them."""
    spans = [chat(1), chat(2, 1), chat(3, 2)]
    (first, second) = judged([spans, [log(3, PROMPT, ANSWER)]])
    assert (first.id.span_id, second.id.span_id, second.id.revision) == ("1", "1", 1)
    before: Assembler[int] = Assembler(BOUNDS)
    for key, each in enumerate(spans):
        before.add(key, each, 0.0)
    ((made,),) = [done.exchanges for done in before.due(40.0)]
    after: Assembler[int] = Assembler(BOUNDS)
    after.restore(before.snapshot([made.id]))
    after.add(0, log(3, PROMPT, ANSWER), 0.0)
    ((revised,),) = [done.exchanges for done in after.due(40.0)]
    assert revised.id == second.id


@pytest.mark.parametrize("kind", [CHAT, AGENT])
def test_a_parent_that_comes_late_makes_no_revision_of_what_was_read(kind: StepKind) -> None:
    """An empty call that turns out to be below one that was judged with its texts adds nothing."""
    late = [span(OTHER, 3, 2, end=99.0)]
    found = judged([[span(OTHER, 1), chat(2, 1, PROMPT, ANSWER, kind), chat(4, 3)], late])
    assert [(each.id.span_id, *said(each)) for each in found] == [("2", PROMPT, ANSWER), ("4", "", "")]


@pytest.mark.parametrize("by_a_tool", [True, False])
@pytest.mark.parametrize("between", [0, 1, 5])
def test_an_empty_call_behind_other_spans_is_that_around_them(between: int, *, by_a_tool: bool) -> None:
    """An SDK's span that comes late below a client's HTTP span is no blind call, but one of a tool is."""
    late = [span(OTHER, 2 + n, 1 + n, end=99.0) for n in range(between)]
    top = 1 + between
    if by_a_tool:
        top += 1
        late.append(span(TOOL, top, top - 1, call=ToolCall("ask", "{}", "r")))
    found = judged([[chat(1, 0, PROMPT, ANSWER)], [*late, chat(top + 1, top)]])
    assert len(found) == 1 + by_a_tool


def test_equal_texts_at_another_time_are_another_call() -> None:
    """A call that is made again later, in a trace that goes on, is judged again."""
    again = span(CHAT, 300, exchange=told(300, PROMPT, ANSWER, latency=1.0))
    assert len(judged([[chat(1, 0, PROMPT, ANSWER)], [again]])) == 2


def test_what_was_dropped_is_judged_when_it_comes_again() -> None:
    """Texts count as judged only while their exchange does: a revoked partition's come again."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    spans = [span(OTHER, 1), chat(2, 1, PROMPT, ANSWER), chat(3, 1, "Why?", "So.")]
    for key, each in enumerate(spans):
        assembler.add(key, each, 0.0)
    assert [len(done.exchanges) for done in assembler.due(40.0)] == [2]
    assembler.drop(lambda key: key == 1)
    assembler.add(4, spans[1], 50.0)
    ((again,),) = [done.exchanges for done in assembler.due(90.0)]
    assert (again.key, said(again)) == (4, (PROMPT, ANSWER))


@given(st.integers(1, 4), st.integers(0, 3), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_agents_without_a_call_are_one_exchange_whenever_they_come(
    depth: int, says: int, places: list[int]
) -> None:
    """Where no call of a model arrives, the agents' answer is judged once, a late one as a revision."""
    batches: list[list[Span]] = [[], [], []]
    for number in range(1, depth + 1):
        prompt, answer = (PROMPT, ANSWER) if number == 1 + says % depth else ("", "")
        batches[places[number - 1]].append(chat(number, number - 1, prompt, answer, AGENT))
    found = judged(batches)
    assert [said(each) for each in found if any(said(each))] == [(PROMPT, ANSWER)]
    assert len({each.id.span_id for each in found}) == 1
    assert [each.id.revision for each in found] == list(range(len(found)))
