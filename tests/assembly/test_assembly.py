"""Assembly of traces from spans, without an engine: what is joined, when, and what is named as missing."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from spans import AGENT, BOUNDS, CHAT, OTHER, RETRIEVAL, TOOL, assemble, keys, span

from monitor.assembly import Assembler, ExchangeId
from monitor.assembly.memory import BUCKET, REMEMBERED
from monitor.trace import (
    Document,
    Message,
    Missing,
    Side,
    Span,
    Step,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
)


def agent_run(trace: str = "t") -> list[Span]:
    """An agent looks something up, calls a tool and answers."""
    return [
        span(AGENT, 1, trace=trace),
        span(RETRIEVAL, 2, 1, trace=trace, documents=(Document("d", "thirty days"),)),
        span(TOOL, 3, 1, trace=trace, call=ToolCall("get_order", "{}", "shipped", "call_1")),
        span(CHAT, 4, 1, trace=trace, response="It was shipped."),
    ]


@given(st.permutations(range(4)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    """A chat gets the documents and tool results before it and its agent's steps, whatever came first."""
    run = agent_run()
    (done,) = assemble([run[i] for i in order])
    (exchange,) = done.exchanges
    trace = exchange.trace
    assert exchange.id == ExchangeId("t", "4")
    assert trace.context == (Document("d", "thirty days"),)
    assert trace.tool_calls == (ToolCall("get_order", "{}", "shipped", "call_1"),)
    assert [(step.kind, step.parent) for step in trace.steps] == [
        (AGENT, -1),
        (RETRIEVAL, 0),
        (TOOL, 0),
        (CHAT, 0),
    ]
    assert trace.steps[3].output == "It was shipped."
    assert trace.agent == "agent 1"
    assert trace.missing == ()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(StepKind), st.integers(0, 5)), max_size=30))
def test_every_key_comes_back_exactly_once(drawn: list[tuple[int, StepKind, int]]) -> None:
    """Whatever spans arrive, repeated ones and cycles of parents included, each key is given back once."""
    spans = [
        span(kind, number % 7 + 1, parent, trace=f"t{trace}")
        for number, (trace, kind, parent) in enumerate(drawn)
    ]
    assert keys(assemble(spans)) == list(range(len(spans)))


def test_a_trace_is_complete_a_moment_after_its_root() -> None:
    """The root's arrival starts the wait for stragglers; before it, only silence ends a trace."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    run = agent_run()
    assembler.add(1, run[3], 0.0)
    assert assembler.due(29.0) == []
    assembler.add(2, run[2], 29.0)
    assert assembler.due(58.0) == []
    assembler.add(0, run[0], 58.5)
    assert assembler.due(59.4) == []
    assembler.add(3, run[1], 59.4)
    (done,) = assembler.due(59.5)
    assert keys([done]) == [0, 1, 2, 3]


def test_a_root_that_comes_before_the_call_waits_for_it() -> None:
    """A rooted trace about a model waits for a call of it as long as for a root; others do not wait."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    run = agent_run()
    assembler.add(0, run[0], 0.0)
    assembler.add(2, run[2], 0.0)
    assembler.add(9, span(OTHER, 9, trace="web"), 0.0)
    assert [keys([done]) for done in assembler.due(1.0)] == [[9]]
    assembler.add(3, run[3], 20.0)
    assert assembler.due(20.9) == []
    assert [keys([done]) for done in assembler.due(21.0)] == [[0, 2, 3]]


def test_a_trace_without_a_root_is_judged_after_the_time_out() -> None:
    """Silence completes a trace, which then names its root as missing."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    assembler.add(0, span(CHAT, 4, 1), 0.0)
    assert assembler.due(29.9) == []
    ((exchange,),) = [done.exchanges for done in assembler.due(30.0)]
    assert exchange.trace.missing == (Missing.ROOT,)


def test_a_trace_that_never_rests_is_judged_at_its_greatest_age() -> None:
    """Spans that keep coming do not hold a trace back for ever."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    for second in range(0, 600, 20):
        assembler.add(second, span(CHAT, second + 2, 1), float(second))
        assert assembler.due(float(second)) == []
    assert len(assembler.due(600.0)) == 1


def test_each_exchange_knows_when_its_trace_ended() -> None:
    """Freshness counts from there: an early call of a long run is complete only with the run."""
    (done,) = assemble([span(AGENT, 1, response="all"), span(CHAT, 2, 1), span(CHAT, 300, 1)])
    assert [exchange.trace.complete() for exchange in done.exchanges] == [300.5, 300.5, 300.5]


def test_a_lost_call_is_named_and_the_agents_answer_judged() -> None:
    """Where no inference arrived, the outermost answer stands in for it."""
    answer = msgspec.structs.replace(span(AGENT, 1, response="It was shipped."), end=9.0)
    (done,) = assemble([answer, *agent_run()[1:3]])
    (exchange,) = done.exchanges
    assert exchange.trace.response == "It was shipped."
    assert exchange.trace.missing == (Missing.INFERENCE,)
    assert exchange.trace.tool_calls[0].result == "shipped"


def test_a_trace_of_which_only_tools_arrived_is_on_record_as_such() -> None:
    """A trace of a language model is judged even when neither prompt nor response arrived."""
    (done,) = assemble([span(TOOL, 3, 1, app="bot", environment="production")])
    (exchange,) = done.exchanges
    assert (exchange.trace.response, exchange.trace.app) == ("", "bot")
    assert exchange.trace.missing == (Missing.INFERENCE, Missing.ROOT)


def test_a_trace_of_other_spans_is_not_judged() -> None:
    """Spans of databases and servers are done without a judgement."""
    (done,) = assemble([span(OTHER, 1), span(OTHER, 2, 1)])
    assert done.exchanges == []
    assert keys([done]) == [0, 1]


def test_a_chat_under_a_chat_with_the_same_answer_is_one_call() -> None:
    """A framework's span and its client library's are judged once; different answers both are."""
    (done,) = assemble([span(CHAT, 1, response="yes"), span(CHAT, 2, 1, response="yes")])
    assert [exchange.id for exchange in done.exchanges] == [ExchangeId("t", "1")]
    (done,) = assemble([span(CHAT, 1, response="yes"), span(CHAT, 2, 1, response="no")])
    assert len(done.exchanges) == 2


def test_an_agents_own_words_are_judged_too() -> None:
    """An agent's answer that no call of a model gave is an exchange of its own."""
    run = agent_run()
    (done,) = assemble([span(AGENT, 1, response="Something else."), *run[1:]])
    assert {exchange.trace.response for exchange in done.exchanges} == {"Something else.", "It was shipped."}
    (done,) = assemble([span(AGENT, 1, response="Sure! It was shipped. Bye."), *run[1:]])
    assert len(done.exchanges) == 1


def test_what_comes_after_a_call_is_no_source_of_it() -> None:
    """Documents retrieved after a chat began are not its context; its own tool calls get their results."""
    first = Trace(id="a", time=1.0, response="", tool_calls=(ToolCall("look", "{}", "", "c1"),))
    spans = [
        span(CHAT, 2, 1, exchange=first),
        span(TOOL, 3, 1, call=ToolCall("look", "{}", "found", "c1")),
        span(RETRIEVAL, 4, 1, documents=(Document("d", "later"),)),
        span(CHAT, 5, 1),
        span(AGENT, 1),
    ]
    (done,) = assemble(spans)
    early, late = (exchange.trace for exchange in done.exchanges)
    assert (early.context, early.tool_calls) == ((), (ToolCall("look", "{}", "found", "c1"),))
    assert (len(late.context), len(late.tool_calls)) == (1, 1)
    assert early.steps == ()
    assert len(late.steps) == 5


def test_log_records_fill_in_what_a_span_does_not_hold() -> None:
    """Messages and choices logged one by one become the prompt and the responses of their span."""

    def part(second: float, *messages: Message, response: str = "", other: tuple[str, ...] = ()) -> Span:
        exchange = Trace(id="x", time=second, response=response, messages=messages, alternatives=other)
        return Span(
            trace_id="t",
            span_id="1",
            parent_id="",
            step=Step(kind=CHAT, start=second),
            exchange=exchange,
            partial=True,
        )

    bare = Trace(id="resp_1", time=1.0, response="", model="gpt-5")
    spans = [
        part(1.4, response="Within 30 days."),
        part(1.2, Message("user", "How long?")),
        part(1.1, Message("system", "Be brief.")),
        span(CHAT, 1, exchange=bare),
        part(1.5, response="A month."),
        part(1.6, other=("Four weeks.",)),
    ]
    (done,) = assemble(spans)
    (exchange,) = done.exchanges
    trace = exchange.trace
    assert (trace.id, trace.model, trace.response) == ("resp_1", "gpt-5", "Within 30 days.")
    assert trace.messages == (Message("system", "Be brief."), Message("user", "How long?"))
    assert trace.alternatives == ("A month.", "Four weeks.")
    assert trace.missing == ()
    (done,) = assemble(spans[:3])
    assert done.exchanges[0].trace.missing == (Missing.ROOT, Missing.SPAN)


def test_content_that_was_not_read_is_named() -> None:
    """An exchange with a side whose text was not read is judged as lacking content."""
    empty = Trace(id="x", time=1.0, response="", unread=(Unread(Side.PROMPT, Unreadable.REDACTED),))
    (done,) = assemble([span(CHAT, 1, exchange=empty)])
    assert done.exchanges[0].trace.missing == (Missing.CONTENT,)


def test_a_full_buffer_gives_up_the_oldest() -> None:
    """More traces or bytes than may wait complete the oldest ones at once."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    for number in range(103):
        assembler.add(number, span(CHAT, 2, 1, trace=f"t{number}", size=10), 0.0)
    assert [done.exchanges[0].id.trace_id for done in assembler.due(0.0)] == ["t0", "t1", "t2"]
    assembler.add(200, span(CHAT, 2, 1, trace="big", size=9_500), 0.0)
    assert len(assembler.due(0.0)) == 50
    assert assembler.stats.waiting_bytes <= 10_000


def test_a_late_span_is_counted_once_and_judged_only_if_it_is_a_call() -> None:
    """After its trace was judged, a tool's span changes nothing, a call is judged, a repeated one is not."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    run = agent_run()
    for key in (0, 3):
        assembler.add(key, run[key], 0.0)
    (done,) = assembler.due(1.0)
    assembler.recorded([exchange.id for exchange in done.exchanges])
    assembler.add(2, run[2], 5.0)
    assembler.add(30, run[3], 5.0)
    (late,) = assembler.due(6.0)
    assert late.exchanges == []
    assert keys([late]) == [2, 30]
    assembler.add(4, span(CHAT, 9, 1, response="And more."), 7.0)
    (late,) = assembler.due(8.0)
    assert [exchange.trace.missing for exchange in late.exchanges] == [()]
    assert (assembler.stats.late, assembler.stats.repeated) == (3, 1)


def test_what_was_handed_out_is_not_handed_out_again_unless_dropped() -> None:
    """A repeated span is refused while its exchange is being judged, and taken when that was given up."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    chat = span(CHAT, 1)
    assembler.add(0, chat, 0.0)
    assert len(assembler.due(1.0)[0].exchanges) == 1
    assembler.add(1, chat, 2.0)
    assert assembler.due(3.0)[0].exchanges == []
    assembler.drop(lambda key: key == 0)
    assembler.add(2, chat, 4.0)
    assert len(assembler.due(5.0)[0].exchanges) == 1


@given(st.integers(0, 3 * BUCKET), st.integers(0, 40))
def test_memory_survives_a_restart(before: int, again: int) -> None:
    """What was stored with the judgements is known after a restart, bucket by bucket."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    stored: dict[str, bytes] = {}
    rng = random.Random(before)
    done = 0
    while done < before:
        judged = [ExchangeId(f"t{done + n}", "1") for n in range(rng.randint(1, 100))]
        stored.update(assembler.snapshot(judged))
        stored.update(assembler.snapshot(judged))  # a transaction may be built twice
        assembler.recorded(judged)
        done += len(judged)
    fresh: Assembler[int] = Assembler(BOUNDS)
    fresh.restore(stored)
    for number in range(0, done, max(1, again)):
        fresh.add(number, span(CHAT, 1, trace=f"t{number}"), 0.0)
    assert all(not each.exchanges for each in fresh.due(1e6))


def test_memory_is_bounded() -> None:
    """The oldest exchanges are forgotten, and the stored entries are used again."""
    assembler: Assembler[int] = Assembler(BOUNDS)
    stored: dict[str, bytes] = {}
    total = REMEMBERED + 10 * BUCKET
    for start in range(0, total, BUCKET):
        judged = [ExchangeId(f"t{start + n}", "1") for n in range(BUCKET)]
        stored.update(assembler.snapshot(judged))
        assembler.recorded(judged)
    assert len(stored) == REMEMBERED // BUCKET
    fresh: Assembler[int] = Assembler(BOUNDS)
    fresh.restore(stored)
    for each in (assembler, fresh):
        each.add(0, span(CHAT, 1, trace=f"t{total - 1}"), 0.0)
        each.add(1, span(CHAT, 1, trace="t0"), 0.0)
        assert [len(done.exchanges) for done in each.due(1e6)] == [0, 1]


def test_an_exchange_keeps_what_its_sender_said() -> None:
    """Documents and tool calls that the span itself names stay, and are not doubled."""
    own = Trace(id="x", time=4.0, response="r", context=(Document("d", "thirty days"),))
    run = agent_run()
    (done,) = assemble([*run[:3], msgspec.structs.replace(run[3], exchange=own)])
    assert done.exchanges[0].trace.context == (Document("d", "thirty days"),)
