"""What is waited for, what comes too late, and what is seen again elsewhere."""

import random
from collections import Counter
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_cases import FOLDER, decoded, need_folder
from spans import (
    AGENT,
    BOUNDS,
    CHAT,
    NO_ANSWER,
    OTHER,
    RETRIEVAL,
    TOOL,
    exchanges,
    keys,
    log,
    span,
    told,
)

from monitor.assembly import DEFAULT_BOUNDS, Assembled, Assembler, ExchangeId
from monitor.config import Format
from monitor.trace import Document, Missing, Side, Span, ToolCall, Trace, Unread, Unreadable

LATE: Final[tuple[tuple[str, Format], ...]] = (("spans", "otlp_proto"), ("logs", "otlp_proto_logs"))
PROMPT, ANSWER = "How long?", "30 days."


def blind(number: int = 1, parent: int = 0, *, trace: str = "t", **fields: Any) -> Span:
    """A chat whose texts were not captured on its span."""
    return span(CHAT, number, parent, trace=trace, exchange=told(number, trace=trace, **fields))


def traces(done: list[Assembled[int]]) -> list[Trace]:
    """The exchanges that were handed out."""
    return [exchange.trace for each in done for exchange in each.exchanges]


def record(assembler: Assembler[int], done: list[Assembled[int]]) -> dict[str, bytes]:
    """Make judgements durable; return what a ledger holds of the assembler then."""
    judged = [exchange.id for each in done for exchange in each.exchanges]
    stored = dict(assembler.snapshot(judged))
    assembler.recorded(judged)
    return stored


def wait_of(*spans: Span) -> float:
    """After how many seconds spans that came together are judged."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    for key, each in enumerate(spans):
        assembler.add(key, each, 0.0)
    return next(time / 10 for time in range(400) if assembler.due(time / 10))


def test_only_what_is_known_to_lack_something_waits_longer() -> None:
    """A complete trace is judged after a second; a text, parent or result that is missing is waited for."""
    said = told(2, PROMPT, ANSWER)
    chat, root = span(CHAT, 2, 1, exchange=said), span(AGENT, 1)
    documents = (Document("d", "text"),)
    assert wait_of(root, chat) == 1.0
    assert wait_of(root, chat, span(RETRIEVAL, 3, 1, documents=documents)) == 1.0
    assert wait_of(root, chat, span(TOOL, 3, 1, call=ToolCall("a", "", "r"))) == 1.0
    assert wait_of(root, chat, span(TOOL, 3, 1, call=ToolCall("a"), error="timeout")) == 1.0
    assert wait_of(span(OTHER, 1), span(OTHER, 2, 77)) == 1.0
    failed = told(2, PROMPT, unread=(), finish_reason="error")
    assert wait_of(root, span(CHAT, 2, 1, exchange=failed)) == 1.0
    assert wait_of(span(AGENT, 1, exchange=told(1, PROMPT, ANSWER)), blind(2, 1)) == 1.0
    redacted = told(2, ANSWER, unread=(Unread(Side.PROMPT, Unreadable.REDACTED),))
    assert wait_of(root, span(CHAT, 2, 1, exchange=redacted)) == 1.0
    assert wait_of(root, blind(2, 1)) == 6.0
    assert wait_of(root, chat, span(OTHER, 3, 77)) == 6.0
    assert wait_of(root, chat, span(RETRIEVAL, 3, 1)) == 6.0
    assert wait_of(root, chat, span(TOOL, 3, 1, call=ToolCall("a"))) == 6.0


def test_what_arrives_ends_the_wait_for_it() -> None:
    """A text that comes in time is judged a moment later, with its span, and not again."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(), 0.0)
    assert assembler.due(1.0) == []
    assembler.add(1, log(1, PROMPT, ANSWER), 3.0)
    assert assembler.due(3.9) == []
    done = assembler.due(4.0)
    (trace,) = traces(done)
    assert (trace.prompt(), trace.response, trace.missing, trace.revision) == (PROMPT, ANSWER, (), 0)
    assert keys(done) == [0, 1]
    assert assembler.stats.revised == Counter()


def test_steady_pieces_do_not_postpone_the_judgement() -> None:
    """Spans that come while a trace waits do not extend the wait beyond its bound."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(), 0.0)
    for tenth in range(1, 60):
        assembler.add(tenth, span(OTHER, tenth + 10, 1), tenth / 10)
        assert assembler.due(tenth / 10) == []
    assert len(assembler.due(6.0)) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_a_text_that_comes_too_late_is_a_revision(*, recorded: bool) -> None:
    """It is judged with what is still known of its span, under the same ids and a key of its own, once."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    run = [span(AGENT, 1), span(TOOL, 2, 1, call=ToolCall("look", "{}", "30")), blind(3, 1, model="m")]
    for key, each in enumerate(run):
        assembler.add(key, each, 0.0)
    first = assembler.due(6.0)
    assert [trace.missing for trace in traces(first)] == [(Missing.CONTENT,)]
    if recorded:
        record(assembler, first)
    assembler.add(7, log(3, PROMPT, ANSWER, app="shop"), 20.0)
    done = assembler.due(21.0)
    (revised,) = (exchange for each in done for exchange in each.exchanges)
    assert (revised.key, revised.id) == (7, ExchangeId("t", "3", 1))
    trace = revised.trace
    assert (trace.revision, trace.span_id, trace.trace_id, trace.model) == (1, "3", "t", "m")
    assert (trace.prompt(), trace.response, trace.missing) == (PROMPT, ANSWER, ())
    assert (trace.tool_calls[0].result, len(trace.steps)) == ("30", 3)
    assert sum(assembler.stats.revised.values()) == 1
    assert assembler.stats.revised_seconds == 15.0
    assembler.add(8, log(3, PROMPT, ANSWER), 30.0)
    done = assembler.due(40.0)
    assert (traces(done), keys(done)) == ([], [8])
    assert assembler.stats.repeated == 1


def test_a_revision_survives_a_restart() -> None:
    """After a restart it is known what was judged without text; only what comes late can be read."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(), 0.0)
    assembler.add(1, span(CHAT, 1, trace="read", exchange=told(1, PROMPT, ANSWER, trace="read")), 0.0)
    stored = record(assembler, assembler.due(6.0))
    fresh: Assembler[int] = Assembler(BOUNDS)
    fresh.restore(stored)
    fresh.add(2, log(1, PROMPT, ANSWER), 0.0)
    fresh.add(3, log(1, PROMPT, ANSWER, trace="read"), 0.0)
    done = fresh.due(1.0)
    (trace,) = traces(done)
    assert (trace.revision, trace.response) == (1, ANSWER)
    assert trace.missing == (Missing.EARLIER_SPANS, Missing.SPAN)
    assert keys(done) == [2, 3]
    stored |= record(fresh, done)
    again: Assembler[int] = Assembler(BOUNDS)
    again.restore(stored)
    again.add(4, log(1, PROMPT, ANSWER), 0.0)
    assert traces(again.due(6.0)) == []


def test_a_revision_that_was_not_recorded_is_made_again() -> None:
    """Whichever judgement is durable first, a text that is not stays to be judged."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(), 0.0)
    first = assembler.due(6.0)
    assembler.add(1, log(1, PROMPT, ANSWER), 20.0)
    second = assembler.due(21.0)
    for recorded, left in ((first, 1), (second, 0)):
        stored = assembler.snapshot([exchange.id for each in recorded for exchange in each.exchanges])
        fresh: Assembler[int] = Assembler(BOUNDS)
        fresh.restore(stored)
        fresh.add(1, log(1, PROMPT, ANSWER), 0.0)
        assert len(traces(fresh.due(6.0))) == left


def test_a_snapshot_of_the_first_release_is_read() -> None:
    """Buckets hold trace and span ids; nothing that they name counts as judged without text."""
    fresh: Assembler[int] = Assembler(BOUNDS)
    fresh.restore({"assembly.0": msgspec.msgpack.encode((0, [["t", "1"], ["u", "1"]]))})
    fresh.add(0, log(1, PROMPT, ANSWER), 0.0)
    fresh.add(1, blind(trace="u"), 0.0)
    done = fresh.due(6.0)
    assert (traces(done), keys(done)) == ([], [0, 1])
    stored = fresh.snapshot([ExchangeId("v", "1")])
    assert msgspec.msgpack.decode(stored["assembly.0"]) == [0, [["t", "1"], ["u", "1"], ["v", "1"]]]


def test_texts_that_come_one_by_one_are_revisions_one_by_one() -> None:
    """Each adds a side; the last one has all."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(), 0.0)
    record(assembler, assembler.due(6.0))
    assembler.add(1, log(1, PROMPT), 20.0)
    (trace,) = traces(assembler.due(26.0))
    assert (trace.revision, trace.prompt(), trace.unread) == (1, PROMPT, (NO_ANSWER,))
    assembler.add(2, log(1, answer=ANSWER), 30.0)
    (trace,) = traces(assembler.due(31.0))
    assert (trace.revision, trace.prompt(), trace.response, trace.unread) == (2, PROMPT, ANSWER, ())


def test_an_agents_late_text_is_that_of_its_blind_call() -> None:
    """An agent's span that comes after its call was judged completes the call, or stands in for it."""
    agent = span(AGENT, 1, exchange=told(1, PROMPT, ANSWER))
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, blind(2, 1), 0.0)
    stored = record(assembler, assembler.due(30.0))
    assembler.add(1, agent, 40.0)
    (trace,) = traces(assembler.due(46.0))
    assert (trace.span_id, trace.revision, trace.response) == ("2", 1, ANSWER)
    fresh: Assembler[int] = Assembler(BOUNDS)
    fresh.restore(stored)
    fresh.add(1, agent, 0.0)
    (trace,) = traces(fresh.due(6.0))
    assert (trace.response, trace.missing) == (ANSWER, (Missing.INFERENCE, Missing.EARLIER_SPANS))


def test_a_late_blind_span_below_what_was_read_is_no_call() -> None:
    """An SDK's own span that comes after the framework's was judged adds nothing."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, span(CHAT, 1, exchange=told(1, PROMPT, ANSWER)), 0.0)
    record(assembler, assembler.due(1.0))
    assembler.add(1, blind(2, 1), 8.0)
    done = assembler.due(14.0)
    assert (traces(done), keys(done)) == ([], [1])


def test_late_documents_and_results_are_counted() -> None:
    """They change no judgement; the metric says that answers were judged without them."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, span(AGENT, 1), 0.0)
    assembler.add(1, span(CHAT, 2, 1, exchange=told(2, PROMPT, ANSWER)), 0.0)
    record(assembler, assembler.due(1.0))
    assembler.add(2, span(RETRIEVAL, 3, 1, documents=(Document("d", "x"),)), 4.0)
    assert traces(assembler.due(5.0)) == []
    assert (assembler.stats.late, assembler.stats.late_sources) == (1, 1)


@given(st.permutations(range(4)))
def test_a_call_that_an_sdk_records_in_a_trace_of_its_own_is_judged_once(order: list[int]) -> None:
    """Spans without text whose response id another span has with text are that call; others are not."""
    spans = [
        span(CHAT, 1, trace="a", exchange=told(1, PROMPT, ANSWER, trace="a", id="msg_1")),
        blind(1, trace="b", id="msg_1"),
        blind(1, trace="c", id="msg_2"),
        blind(1, trace="d", id="msg_1", app="another"),
    ]
    assembler: Assembler[int] = Assembler(BOUNDS)
    done: list[Assembled[int]] = []
    for time, key in enumerate(order):
        assembler.add(key, spans[key], float(time))
        done += assembler.due(float(time))
    done += assembler.due(20.0)
    assert sorted(trace.trace_id for trace in traces(done)) == ["a", "c", "d"]
    assert keys(done) == [0, 1, 2, 3]
    assert (assembler.stats.repeated, assembler.stats.foreign) == (1, 0)


def test_a_trace_that_only_looks_like_a_model_call_is_on_record() -> None:
    """A foreign trace is one exchange without readable text; spans that ask nothing are none."""
    foreign = span(OTHER, 2, 1, foreign="sdk 1.0", app="shop", environment="production")
    (trace,) = exchanges([span(OTHER, 1), foreign, span(OTHER, 3, 1, foreign="sdk 1.0")])
    assert (trace.app, trace.environment, trace.span_id) == ("shop", "production", "2")
    assert {(each.side, each.reason) for each in trace.unread} == {
        (Side.PROMPT, Unreadable.FOREIGN),
        (Side.RESPONSE, Unreadable.FOREIGN),
    }
    assert trace.missing == (Missing.INFERENCE, Missing.CONTENT)
    assert exchanges([span(OTHER, 1)]) == []
    (trace,) = exchanges([foreign, span(CHAT, 3, 1, exchange=told(3, PROMPT, ANSWER))])
    assert trace.response == ANSWER


def test_foreign_spans_are_counted_by_a_bounded_number_of_scopes() -> None:
    """The first instrumentations are counted by name, all others together."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    for number in range(200):
        assembler.add(number, span(OTHER, 1, trace=str(number), foreign=f"sdk {number % 100}"), 0.0)
    counts = assembler.stats.foreign_spans
    assert (len(counts), counts["sdk 3"], counts["other"], sum(counts.values())) == (65, 2, 72, 200)
    assembler.due(10.0)
    assert assembler.stats.foreign == 200


@pytest.mark.parametrize("late", [3.0, 12.0])
def test_events_that_come_seconds_after_their_spans_are_judged(late: float) -> None:
    """All ten payloads are judged with their content: in time by waiting, and later as revisions."""
    need_folder()
    pieces = {
        name: decoded((FOLDER / "collector" / f"late_event.{name}.otlp_proto.bin").read_bytes(), form)
        for name, form in LATE
    }
    assembler: Assembler[int] = Assembler(DEFAULT_BOUNDS)
    made: list[Trace] = []
    for start, name in ((0.0, "spans"), (late, "logs")):
        for key, piece in enumerate(pieces[name]):
            assert isinstance(piece, Span)
            assembler.add(key if name == "spans" else 100 + key, piece, start)
        for tenth in range(int(late * 10)):
            made += traces(assembler.due(start + tenth / 10))
    read = [trace for trace in made if trace.response]
    assert sorted(trace.response[:17] for trace in read) == [f"Write to late{n}@ex" for n in range(10)]
    assert all("5555 5555 5555 4444" in trace.prompt() and not trace.missing for trace in read)
    assert {trace.revision for trace in read} == {int(late > 6.0)}
    assert len(made) == (20 if late > 6.0 else 10)


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[float, Span]]:
    """Pieces of a few traces in any order at any time: spans, whole or without text, and log records."""
    found: list[tuple[float, Span]] = []
    for name in "tuv"[: draw(st.integers(1, 3))]:
        pieces: list[Span] = [span(draw(st.sampled_from([AGENT, OTHER])), 1, trace=name)]
        for number in range(2, 2 + draw(st.integers(1, 3))):
            parent = draw(st.integers(1, number - 1))
            kind = draw(st.sampled_from([CHAT, CHAT, CHAT, TOOL, RETRIEVAL, OTHER]))
            if kind is not CHAT:
                pieces.append(span(kind, number, parent, trace=name))
                continue
            pieces.append(blind(number, 1, trace=name, id=draw(st.sampled_from(["x", f"{name}:{number}"]))))
            if draw(st.booleans()):
                pieces.append(log(number, f"ask {name}{number}", trace=name))
            if draw(st.booleans()):
                pieces.append(log(number, answer=f"say {name}{number}", trace=name))
            pieces += draw(st.lists(st.sampled_from(pieces), max_size=1))
        found += [(draw(st.floats(0, 60)), piece) for piece in pieces]
    return sorted(found, key=lambda each: each[0])


@given(arrivals(), st.integers(0, 99))
def test_every_key_comes_back_once_and_every_text_is_judged(
    arriving: list[tuple[float, Span]], seed: int
) -> None:
    """Late, repeated or in time: each key is given back once, and no text is left out."""
    chance = random.Random(seed)
    assembler: Assembler[int] = Assembler(DEFAULT_BOUNDS)
    done: list[Assembled[int]] = []
    to_record: list[Assembled[int]] = []
    for key, (time, piece) in enumerate(arriving):
        complete = assembler.due(time)
        done += complete
        to_record += complete
        if chance.random() < 0.5:
            record(assembler, to_record)
            to_record = []
        assembler.add(key, piece, time)
    done += assembler.due(1e4)
    assert keys(done) == list(range(len(arriving)))
    judged = {text for trace in traces(done) for text in (trace.prompt(), trace.response)}
    said = [piece.exchange for _, piece in arriving if piece.exchange is not None]
    texts = {text for each in said for text in (each.prompt(), each.response) if text}
    assert texts <= {line for text in judged for line in text.split("\n")}
    handed_out = Counter(exchange.id for each in done for exchange in each.exchanges)
    assert set(handed_out.values()) <= {1}
