"""One exchange per call of a model, however many spans tell of it."""

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from spans import (
    AGENT,
    CHAT,
    NO_ANSWER,
    OTHER,
    RETRIEVAL,
    TOOL,
    WORKFLOW,
    counted,
    exchanges,
    log,
    span,
    told,
)

from monitor.trace import Document, Message, Side, Span, StepKind, ToolCall, Trace, Unread, Unreadable, Usage

CUT = Unreadable.TRUNCATED


def chat(number: int, parent: int = 0, prompt: str = "", answer: str = "", **told_fields: Any) -> Span:
    """A chat that says no more than the given texts."""
    return span(CHAT, number, parent, exchange=told(number, prompt, answer, **told_fields))


def test_an_empty_outer_span_hides_no_tool_call() -> None:
    """What the inner span says of the call is judged, once, as the outer span's."""
    inner = chat(2, 1, "Delete it.", call="delete_account", model="gpt-5", provider="openai")
    (trace,) = exchanges([chat(1, provider="framework"), inner])
    assert (trace.span_id, trace.prompt(), trace.tool_calls[0].name) == ("1", "Delete it.", "delete_account")
    assert (trace.model, trace.provider, trace.blind(), trace.missing) == ("gpt-5", "openai", (), ())


def test_an_empty_inner_span_gives_its_counts() -> None:
    """An SDK's span without content adds tokens, response id and model to the framework's texts."""
    inner = chat(2, 1, usage=counted(), id="msg_1", model="claude-5")
    (trace,) = exchanges([chat(1, prompt="How long?", answer="30 days.", model="claude"), inner])
    assert (trace.id, trace.model, trace.usage, trace.response) == (
        "msg_1",
        "claude-5",
        counted(),
        "30 days.",
    )
    assert trace.blind() == ()


def test_three_spans_of_one_call_are_one() -> None:
    """A wrapper with a template, a step with the prompt and the call itself: what was sent counts."""
    spans = [
        chat(1, prompt="PromptTemplate(...)", answer="30 days."),
        chat(2, 1, prompt="How long?"),
        chat(3, 2, prompt="How long?", answer="30 days.", usage=counted()),
    ]
    (trace,) = exchanges(spans)
    assert (trace.prompt(), trace.response, trace.alternatives) == ("How long?", "30 days.", ())
    assert trace.usage == counted()


def test_two_prompts_within_each_other_are_two_calls() -> None:
    """Where no answer was read and the prompts differ, nothing says that the spans are of one call."""
    assert len(exchanges([chat(1, prompt="How long?"), chat(2, 1, prompt="How many?")])) == 2
    assert len(exchanges([chat(1, prompt="How long?"), chat(2, 1, prompt="How long?")])) == 1


def test_an_attempt_that_failed_is_no_call_beside_the_answer() -> None:
    """A client's retries under one span are its call; that one of them failed is not its error."""
    failed = chat(2, 1, prompt="How long?", labels={"error": "500"}, finish_reason="error", unread=())
    spans = [chat(1, prompt="How long?", answer="30 days.", finish_reason="stop"), failed, chat(3, 1)]
    (trace,) = exchanges(spans)
    assert (trace.response, trace.finish_reason, trace.labels) == ("30 days.", "stop", {})


def test_a_wrapper_around_several_calls_is_none() -> None:
    """An empty chat above two calls adds nothing to their number; its prompt goes to one without."""
    spans = [chat(1, prompt="How long?"), chat(2, 1, call="look"), chat(3, 1, "How long? [30]", "30 days.")]
    assert [(t.prompt(), t.response) for t in exchanges(spans)] == [
        ("How long?", ""),
        ("How long? [30]", "30 days."),
    ]


def test_a_call_that_a_tool_made_is_another_one() -> None:
    """A chat below a tool below a chat is a call of its own, even where the outer one cannot be read."""
    spans = [
        chat(1, prompt="Sum up."),
        span(TOOL, 2, 1, call=ToolCall("sum", "{}", "r")),
        chat(3, 2, "a", "b"),
    ]
    assert len(exchanges(spans)) == 2


def test_calls_with_equal_texts_are_two_unless_one_ran_under_the_other() -> None:
    """Two samples side by side are judged twice, also below an agent that passes one on."""
    same = [chat(2, 1, "How long?", "30 days."), chat(3, 1, "How long?", "30 days.")]
    assert len(exchanges([span(AGENT, 1, exchange=told(1, "How long?", "30 days.")), *same])) == 2
    assert len(exchanges([same[0], chat(3, 2, "How long?", "30 days."), span(OTHER, 1)])) == 1


def test_an_agents_texts_are_those_of_its_blind_call() -> None:
    """Content on an agent or a workflow alone is judged once, with the model of its call."""
    for kind in (AGENT, WORKFLOW):
        top = span(kind, 1, exchange=told(1, "How long?", "30 days."))
        (trace,) = exchanges([top, chat(2, 1, model="gpt-5"), chat(3, 1, model="gpt-5", usage=counted())])
        assert (trace.span_id, trace.model, trace.usage) == ("3", "gpt-5", counted())
        assert (trace.prompt(), trace.response, trace.missing) == ("How long?", "30 days.", ())
        assert [step.kind for step in trace.steps] == [kind, CHAT, CHAT]


def test_a_plan_that_repeats_its_chat_is_no_call() -> None:
    """A workflow's step with its chat's answer adds nothing, also where it wraps it in JSON."""
    for plan in ("1. look\n2. say", '{"plan":"1. look\\n2. say"}'):
        spans = [
            span(AGENT, 1, exchange=told(1)),
            span(WORKFLOW, 2, 1, exchange=told(2, "How long?", plan)),
            chat(3, 2, "How long?", "1. look\n2. say"),
            chat(4, 1, "How long?", "30 days."),
        ]
        assert [trace.response for trace in exchanges(spans)] == ["1. look\n2. say", "30 days."]


def test_an_agents_span_around_one_call_is_the_call() -> None:
    """A framework's outer span with the same answer is no exchange; its tool call and result are kept."""
    call = ToolCall("find", "{}", "", "c1")
    inner = told(2, "How long?", "30 days.", model="gpt-5")
    spans = [
        span(AGENT, 1, exchange=told(1, "How long?", "30 days.")),
        span(
            CHAT,
            2,
            1,
            exchange=msgspec.structs.replace(inner, tool_calls=(call,)),
        ),
        span(TOOL, 3, 1, call=ToolCall("find", '{"q":1}', "found", "c1")),
    ]
    (trace,) = exchanges(spans)
    assert (trace.span_id, trace.model) == ("2", "gpt-5")
    assert trace.tool_calls == (ToolCall("find", '{"q":1}', "found", "c1"),)


def test_a_failed_calls_prompt_may_stand_on_its_agent() -> None:
    """A call that failed keeps its error, and is judged with the prompt that only its agent's span has."""
    labels = {"error": "openai.InternalServerError"}
    failed = chat(
        2, 1, labels=labels, finish_reason="error", unread=(Unread(Side.PROMPT, Unreadable.NO_CONTENT),)
    )
    agent = span(AGENT, 1, exchange=told(1, "How long?", unread=()), error="error")
    (trace,) = exchanges([agent, failed])
    assert (trace.prompt(), trace.response, trace.blind()) == ("How long?", "", ())
    assert (trace.labels, trace.finish_reason) == (labels, "error")


def test_the_whole_text_wins_over_a_cut_one() -> None:
    """Of a span with cut attributes and its whole event each side counts once, from the event."""
    cut = told(1, "How lo", "30 d", unread=(Unread(Side.PROMPT, CUT), Unread(Side.RESPONSE, CUT)), id="r")
    cut = msgspec.structs.replace(cut, labels={"truncated": "true"})
    for event in (log(1, "How long?", "30 days."), log(1, "How long?", "30 days.", start=0.5)):
        (trace,) = exchanges([span(CHAT, 1, exchange=cut), event])
        assert (trace.prompt(), trace.response, trace.alternatives) == ("How long?", "30 days.", ())
        assert (trace.unread, trace.labels, trace.id) == ((), {}, "r")
    (trace,) = exchanges([span(CHAT, 1, exchange=cut), log(1, "How long?")])
    assert (trace.prompt(), trace.response) == ("How long?", "30 d")
    assert trace.unread == (Unread(Side.RESPONSE, CUT),)


def test_of_each_side_the_reason_comes_with_the_text() -> None:
    """What a log record lacks is not lacking where the span has it; what neither has is."""
    (trace,) = exchanges([chat(1, answer="30 days."), log(1, "How long?")])
    assert trace.unread == ()
    (trace,) = exchanges([chat(1), log(1, "How long?")])
    assert trace.unread == (NO_ANSWER,)
    nothing_to_say = told(1, unread=(), usage=Usage(20, 0))
    (trace,) = exchanges([span(CHAT, 1, exchange=nothing_to_say), log(1, "How long?")])
    assert trace.unread == ()


def test_log_records_that_arrive_twice_count_once() -> None:
    """A repeated event does not double a message or a sample."""
    events = [
        log(1, "Be brief.", start=1.1),
        log(1, "How long?", start=1.2),
        log(1, answer="30 days.", start=1.3),
    ]
    (trace,) = exchanges([chat(1), *events, *events])
    assert trace.messages == (Message("user", "Be brief."), Message("user", "How long?"))
    assert (trace.response, trace.alternatives) == ("30 days.", ())


def test_a_call_seen_by_client_and_server_is_one() -> None:
    """Tool spans of one name within each other are one step, with what any of them knows."""

    def tool(number: int, parent: int, call: ToolCall) -> Span:
        return span(TOOL, number, parent, call=call)

    spans = [
        span(AGENT, 1),
        tool(2, 1, ToolCall("find", '{"q":1}', "", "c1")),
        span(OTHER, 3, 2),
        tool(4, 3, ToolCall("find", "", "found", "")),
        tool(5, 4, ToolCall("find", "", "", "c1")),
        tool(6, 1, ToolCall("find", '{"q":2}', "nothing", "c2")),
        chat(7, 1, "Find.", "Found."),
    ]
    (trace,) = exchanges(spans)
    assert trace.tool_calls == (
        ToolCall("find", '{"q":1}', "found", "c1"),
        ToolCall("find", '{"q":2}', "nothing", "c2"),
    )
    assert [(step.kind, step.parent) for step in trace.steps] == [
        (AGENT, -1),
        (TOOL, 0),
        (TOOL, 0),
        (CHAT, 0),
    ]
    apart = [span(AGENT, 1), tool(2, 1, ToolCall("a", "", "1", "x")), tool(3, 2, ToolCall("a", "", "2", "y"))]
    assert len(exchanges([*apart, chat(7, 1, "p", "r")])[0].tool_calls) == 2


def test_sources_are_what_came_before_or_under_a_call() -> None:
    """A retrieval under the chat, on it, or begun a moment later and ended before it, is its source."""

    def found(number: int, parent: int, start: float, end: float) -> Span:
        return span(
            RETRIEVAL, number, parent, start=start, end=end, documents=(Document(str(number), "text"),)
        )

    call = span(CHAT, 2, 1, start=2.0, end=3.0, exchange=told(2, "p", "r"), documents=(Document("own", "t"),))
    spans = [
        span(OTHER, 1, start=0.0, end=9.0),
        call,
        found(3, 1, 1.0, 1.5),
        found(4, 1, 2.05, 2.5),
        found(5, 2, 2.6, 2.9),
        found(6, 1, 2.05, 3.2),
        found(7, 1, 2.6, 2.9),
    ]
    (trace,) = exchanges(spans)
    assert {document.id for document in trace.context} == {"own", "3", "4", "5"}


def test_what_a_source_did_not_say_is_unread_of_its_exchange() -> None:
    """Redacted documents and results of tools are sides of the exchange that used them."""
    sides = [Unread(Side.DOCUMENTS, Unreadable.REDACTED), Unread(Side.TOOL_RESULTS, Unreadable.REDACTED)]
    spans = [
        span(AGENT, 1),
        span(RETRIEVAL, 2, 1, documents=(Document("d"),), unread=(sides[0],)),
        span(TOOL, 3, 1, call=ToolCall("find", "{}"), unread=(sides[1],)),
        chat(4, 1, "p", "r"),
    ]
    (trace,) = exchanges(spans)
    assert trace.unread == tuple(sides)
    assert trace.missing == ("content",)


def test_whose_conversation_it_is_is_inherited() -> None:
    """User and conversation come from the nearest span above, else the root, else the only one named."""
    spans = [
        span(AGENT, 1, conversation="root", user="u"),
        span(AGENT, 2, 1, conversation="nearer"),
        chat(3, 2, "a", "b"),
        chat(4, 77, "c", "d"),
    ]
    assert [(t.conversation, t.user) for t in exchanges(spans)] == [("nearer", "u"), ("root", "u")]
    spans = [span(OTHER, 1), chat(2, 1, "a", "b"), span(OTHER, 3, 1, conversation="c", user="u")]
    assert [(t.conversation, t.user) for t in exchanges(spans)] == [("c", "u")]
    assert exchanges([*spans, span(OTHER, 4, 1, user="v")])[0].user == ""


@dataclass
class Built:
    """Spans of a trace, and what should come of them: texts of each call, and how many cannot be read."""

    spans: list[Span] = field(default_factory=list)
    texts: list[set[str]] = field(default_factory=list)
    blind: int = 0

    def number(self) -> int:
        """The next span's number."""
        return len(self.spans) + 1


def _add_call(draw: st.DrawFn, built: Built, parent: int, *, readable: bool) -> str:
    """Add a call as one to four spans within each other, each with some of its texts; return its answer."""
    depth = draw(st.integers(1, 4))
    name = f"call {built.number()}"
    prompt, answer = f"ask {name}.", f"say {name}."
    shown = (
        [(draw(st.booleans()), draw(st.booleans())) for _ in range(depth)]
        if readable
        else [(False, False)] * depth
    )
    for asks, says in shown:
        if draw(st.booleans()):
            built.spans.append(span(OTHER, built.number(), parent))
            parent = built.number() - 1
        number = built.number()
        built.spans.append(chat(number, parent, prompt if asks else "", answer if says else ""))
        parent = number
    texts = {text for text, at in ((prompt, 0), (answer, 1)) if any(each[at] for each in shown)}
    if texts:
        built.texts.append(texts)
    else:
        built.blind += 1
    return answer if answer in texts else ""


@st.composite
def traces(draw: st.DrawFn) -> Built:
    """A root with calls and with agents around calls, whose texts are their own, a call's, or none."""
    built = Built([span(OTHER, 1)])
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([None, AGENT, WORKFLOW, CHAT]))
        if kind is None:
            _add_call(draw, built, 1, readable=draw(st.booleans()))
        elif kind is CHAT:
            wrapper = built.number()
            built.spans.append(chat(wrapper, 1))
            for _ in range(2):
                _add_call(draw, built, wrapper, readable=draw(st.booleans()))
        else:
            _add_run(draw, built, kind)
    return built


def _add_run(draw: st.DrawFn, built: Built, kind: StepKind) -> None:
    """Add an agent that passes on its last answer, or alone has the texts of its calls."""
    number = built.number()
    built.spans.append(span(kind, number, 1))
    if draw(st.booleans()):
        blind = built.blind
        for _ in range(draw(st.integers(1, 3))):
            _add_call(draw, built, number, readable=False)
        built.blind = blind
        texts = (f"ask agent {number}.", f"say agent {number}.")
        built.texts.append(set(texts))
        exchange = told(number, *texts)
    else:
        answers = [_add_call(draw, built, number, readable=True) for _ in range(draw(st.integers(1, 3)))]
        passed = draw(st.sampled_from([answer for answer in answers if answer] or [""]))
        exchange = told(number, "", f"Well: {passed}" if passed else "")
    built.spans[number - 1] = span(kind, number, 1, exchange=exchange)


def _texts(trace: Trace) -> list[str]:
    return [
        text for text in (*(m.content for m in trace.messages), trace.response, *trace.alternatives) if text
    ]


@given(traces(), st.randoms(use_true_random=False))
def test_each_text_is_judged_once_and_no_empty_span_beside_it(built: Built, chance: object) -> None:
    """Whatever spans tell of a call, its texts are in one exchange, and only calls without any are blind."""
    spans = built.spans.copy()
    chance.shuffle(spans)  # type: ignore[attr-defined]  # a Random that Hypothesis replays
    made = exchanges(spans)
    with_text = [set(_texts(trace)) for trace in made if _texts(trace)]
    assert sorted(map(sorted, with_text)) == sorted(map(sorted, built.texts))
    assert all(len(_texts(trace)) == len(set(_texts(trace))) for trace in made)
    blind = [trace for trace in made if not _texts(trace)]
    assert len(blind) == built.blind
    assert all(trace.blind() for trace in blind)


@given(answer=st.dictionaries(st.sampled_from("abc"), st.text("xyz é", min_size=1), min_size=1))
def test_an_object_that_was_read_from_an_answer_is_that_answer(answer: dict[str, str]) -> None:
    """A chain returns an object: the model's JSON, spaced otherwise, or the fields of the model's text."""
    made = msgspec.json.encode(answer).decode()
    fields = "\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in answer.items())
    for given_by_model in (json.dumps(answer, indent=2), json.dumps({"data": answer}), fields):
        run = span(WORKFLOW, 1, exchange=told(1, "How long?", made))
        (trace,) = exchanges([run, chat(2, 1, prompt="How long?", answer=given_by_model)])
        assert (trace.span_id, trace.response) == ("2", given_by_model)


@given(st.dictionaries(st.sampled_from(["days", "text"]), st.text(min_size=1), min_size=1), st.booleans())
def test_an_answer_that_a_tool_call_handed_over_is_the_calls(answer: dict[str, str], wrapped: bool) -> None:  # noqa: FBT001 - drawn
    """An object that the agent answers with is the call's, whose tool was named after its class."""
    arguments = msgspec.json.encode({"response": answer} if wrapped else answer).decode()
    own = told(2, "How long?", call="x")
    own = msgspec.structs.replace(own, tool_calls=(ToolCall("Answer", arguments), ToolCall("find", "{}")))
    agent = span(AGENT, 1, exchange=told(1, "How long?", json.dumps(answer)))
    (trace,) = exchanges([agent, span(CHAT, 2, 1, exchange=own)])
    assert (json.loads(trace.response), trace.tool_calls) == (answer, (ToolCall("find", "{}"),))


def test_an_object_with_texts_of_its_own_is_judged() -> None:
    """What a chain adds to a model's answer is said nowhere else."""
    made = '{"days":"Sixty days","note":"Call me."}'
    run = span(WORKFLOW, 1, exchange=told(1, "How long?", made))
    traces = exchanges([run, chat(2, 1, prompt="How long?", answer="Days: sixty")])
    assert sorted(trace.response for trace in traces) == ["Days: sixty", made]


def test_arguments_are_those_that_the_model_wrote() -> None:
    """A tool's span may have none, or print them as Python does; others are what the tool ran with."""
    wrote = ToolCall("find", '{"q":1}', "", "c1")
    first = told(1, "How long?", unread=(), id="r1")
    first = msgspec.structs.replace(first, tool_calls=(wrote,))
    for ran, expected in (
        ("", '{"q":1}'),
        ("{'q': 1}", '{"q":1}'),
        ('{"q":1,"limit":9}', '{"q":1,"limit":9}'),
    ):
        spans = [
            span(WORKFLOW, 9, start=0.0),
            span(CHAT, 1, 9, exchange=first),
            span(TOOL, 2, 9, call=ToolCall("find", ran, "found", "c1")),
            chat(3, 9, prompt="How long? [found]", answer="30 days."),
        ]
        for trace in exchanges(spans):
            assert [(c.arguments, c.result) for c in trace.tool_calls] == [(expected, "found")]
