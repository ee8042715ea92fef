"""Texts that stand on another record than their call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lines import LINES
from otlp_wire import PARENT, SPAN, START, judged, log_request, parts, request, span_of, talk

from monitor.trace import Document, Side, ToolCall, Unread, Unreadable

DETAILS = "gen_ai.client.inference.operation.details"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find", "gen_ai.tool.call.id": "c1"}


@given(LINES, LINES, st.booleans(), st.booleans())
def test_a_tools_texts_may_come_in_a_log_record(query: str, result: str, named: bool, first: bool) -> None:  # noqa: FBT001 - drawn
    """A tool's arguments and result count from the event of its span, whichever record comes first."""
    texts = {"gen_ai.tool.call.arguments": json.dumps({"q": query}), "gen_ai.tool.call.result": result}
    tool = request(span_of(TOOL))
    told = log_request(DETAILS, None, texts | (TOOL if named else {}))
    model = request(span_of(CHAT | talk("q", "a"), spanId=PARENT, startTimeUnixNano=str(START + 10**9)))
    trace = judged(*((told, tool) if first else (tool, told)), model)
    assert trace.tool_calls == (ToolCall("find", texts["gen_ai.tool.call.arguments"], result, "c1"),)
    assert [(step.input, step.output) for step in trace.steps if step.name == "find"] == [
        (texts["gen_ai.tool.call.arguments"], result)
    ]


@given(LINES)
def test_what_a_retrieval_found_may_come_in_a_log_record(text: str) -> None:
    """Documents count from the event of the retrieval's span; without it they are only known to be gone."""
    found = {"gen_ai.operation.name": "retrieval"}
    masked = found | {"gen_ai.retrieval.documents": [{"content": "[REDACTED]"}]}
    told = log_request(DETAILS, None, found | {"gen_ai.retrieval.documents": [{"content": text}]})
    model = request(span_of(CHAT | talk("q", "a"), spanId=PARENT, startTimeUnixNano=str(START + 10**9)))
    assert judged(request(span_of(found)), told, model).context == (Document("", text),)
    trace = judged(request(span_of(masked)), model)
    assert trace.unread == (Unread(Side.DOCUMENTS, Unreadable.REDACTED),)


@given(LINES, LINES)
def test_an_event_of_a_call_on_a_servers_span_is_the_call(question: str, answer: str) -> None:
    """An instrumentation without a span of its own leaves the whole exchange with the one that is open."""
    event = {"name": DETAILS, "attributes": span_of(CHAT | talk(question, answer))["attributes"]}
    trace = judged(request(span_of({"http.method": "POST"}, events=[event])))
    assert (trace.prompt(), trace.response, trace.model) == (question, answer, "gpt-5")


@given(LINES)
def test_the_prompt_of_a_failed_call_may_stand_on_its_agent(question: str) -> None:
    """A call that failed without a text is judged with the prompt of the run that made it."""
    agent = span_of(
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.input.messages": parts("user", question)}
    )
    failed = span_of(CHAT | {"error.type": "RateLimit"}, spanId=PARENT, parentSpanId=SPAN)
    trace = judged(request(agent, failed))
    assert (trace.prompt(), trace.error, trace.blind()) == (question, "RateLimit", ())


@pytest.mark.parametrize("user", ["user.id", "enduser.id"])
@pytest.mark.parametrize("session", ["session.id", "gen_ai.conversation.id"])
def test_whose_call_it_is_may_stand_beside_another_dialect(user: str, session: str) -> None:
    """General names of user and conversation count on a span that only a framework's attributes mark."""
    root = span_of({"traceloop.workflow.name": "shop", user: "u-1", session: "c-1"})
    call = span_of(CHAT | talk("q", "a"), spanId=PARENT, parentSpanId=SPAN)
    trace = judged(request(root, call))
    assert (trace.user, trace.conversation) == ("pseudonym of u-1", "c-1")


@given(st.text("abcdefgh ", min_size=30, max_size=60).filter(lambda text: bool(text.strip())), st.data())
def test_what_was_cut_off_a_call_may_be_whole_on_its_agent(text: str, data: st.DataObject) -> None:
    """Of each side of which a call has only the beginning, its run's text counts where that goes on."""
    said = talk(text, text)
    cut = {name: value[: data.draw(st.integers(60, len(value)))] for name, value in said.items()}
    agent = request(span_of({"gen_ai.operation.name": "invoke_agent"} | said))
    trace = judged(agent, request(span_of(CHAT | cut, spanId=PARENT, parentSpanId=SPAN)))
    assert (trace.prompt(), trace.response, trace.alternatives) == (text, text, ())
    assert (trace.unread, trace.labels) == ((), {})


def test_a_cut_text_that_goes_on_otherwise_stays() -> None:
    """A call's prompt is its own, even cut off, where its run was asked something else."""
    said = talk("How long may I keep them? And why?", "30 days.")
    agent = request(
        span_of({"gen_ai.operation.name": "invoke_agent"} | talk("Tell me.", "You have 30 days."))
    )
    cut = CHAT | said | {"gen_ai.input.messages": said["gen_ai.input.messages"][:80]}
    trace = judged(agent, request(span_of(cut, spanId=PARENT, parentSpanId=SPAN)))
    assert said["gen_ai.input.messages"].find(trace.prompt()) > 0
    assert trace.labels == {"truncated": "true"}
