"""Claude Code: spans of its beta, and log records that are joined by session and prompt."""

from typing import Any

import pytest
from hypothesis import given
from ingest_cases import exchanges
from lines import LINES
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp_wire import SPAN, START, TRACE, attributes, decode, one

from monitor.trace import Message, Side, Span, StepKind, Trace, Unread, Unreadable


def record(name: str, after: int = 0, **values: Any) -> dict[str, Any]:
    """A log record as Claude Code writes it: the whole name only in the body, dots as two underscores."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    held = {"event.name": name, "session.id": "s-77", "user.id": "u-5"} | named
    return {
        "timeUnixNano": str(START + after * 10**9),
        "body": {"stringValue": f"claude_code.{name}"},
        "attributes": attributes(held),
    }


def logged(*records: dict[str, Any]) -> list[Span]:
    """The pieces that these log records make."""
    scope = {"name": "com.anthropic.claude_code.events", "version": "2.1.193"}
    return decode({"resourceLogs": [{"scopeLogs": [{"scope": scope, "logRecords": list(records)}]}]})


def span_of(name: str, values: dict[str, Any], **changes: Any) -> Span:
    """A span of Claude Code."""
    return one({"session.id": "s-77", "span.type": name} | values, name=f"claude_code.{name}", **changes)


@given(question=LINES, answer=LINES)
def test_records_of_one_prompt_are_one_exchange(question: str, answer: str) -> None:
    """Prompt and response of any text come out on their sides, with conversation and user."""
    pieces = logged(
        record("user_prompt", prompt=question, prompt__id="p-1"),
        record("api_request", 3, model="claude-opus-5", prompt__id="p-1", input_tokens="12", output_tokens=7),
        record("assistant_response", 4, response=answer, model="claude-opus-5", prompt__id="p-1"),
    )
    assert len({(piece.trace_id, piece.span_id) for piece in pieces}) == 1
    assert all(piece.partial and piece.log_only for piece in pieces)
    assert {(len(piece.trace_id), len(piece.span_id)) for piece in pieces} == {(32, 16)}
    (trace,) = exchanges(pieces)
    assert trace.messages == (Message("user", question),)
    assert (trace.response, trace.conversation) == (answer, "s-77")
    assert trace.user.startswith("pseudonym")


def test_prompts_are_exchanges_of_their_own() -> None:
    """Two prompts of one session are two exchanges of one conversation."""
    pieces = logged(
        record("user_prompt", prompt="One?", prompt__id="p-1"),
        record("user_prompt", 9, prompt="Two?", prompt__id="p-2"),
        record("assistant_response", 11, response="Two.", prompt__id="p-2"),
        record("assistant_response", 5, response="One.", prompt__id="p-1"),
    )
    first, second = exchanges(pieces)
    assert [first.response, second.response] == ["One.", "Two."]
    assert first.conversation == second.conversation == "s-77"


def test_without_a_prompts_id_the_session_joins() -> None:
    """Older versions name the session alone."""
    pieces = logged(record("user_prompt", prompt="Open?"), record("assistant_response", response="Yes."))
    assert len({piece.trace_id for piece in pieces}) == 1
    assert len(exchanges(pieces)) == 1


@pytest.mark.parametrize("prompt", [{}, {"prompt": "<REDACTED>"}])
def test_a_prompt_that_is_off_is_missing(prompt: dict[str, Any]) -> None:
    """Without OTEL_LOG_USER_PROMPTS the prompt is not there, or a marker: that side is blind."""
    (piece,) = logged(record("user_prompt", prompt_length=31, prompt__id="p-1", **prompt))
    assert piece.exchange is not None
    assert Side.PROMPT in {each.side for each in piece.exchange.unread}


def test_a_tools_result_is_a_call_of_its_prompt() -> None:
    """The record of a tool is a call below the exchange, with its arguments, and its failure."""
    prompt, tool = logged(
        record("user_prompt", prompt="List.", prompt__id="p-1"),
        record(
            "tool_result",
            1,
            tool_name="Bash",
            tool_use_id="t1",
            success="false",
            error_type="Timeout",
            tool_input='{"command":"ls"}',
            prompt__id="p-1",
        ),
    )
    assert (tool.trace_id, tool.parent_id) == (prompt.trace_id, prompt.span_id)
    assert tool.span_id != prompt.span_id
    assert (tool.step.kind, tool.step.error, tool.partial) == (StepKind.TOOL, "Timeout", True)
    assert tool.call is not None
    assert (tool.call.name, tool.call.arguments, tool.call.id, tool.call.error) == (
        "Bash", '{"command":"ls"}', "t1", True,
    )  # fmt: skip


def test_a_tools_result_without_a_prompt_stands_for_nothing() -> None:
    """What cannot be told to belong to a prompt makes no exchange."""
    pieces = logged(record("tool_result", tool_name="Bash", success="true"))
    assert [piece.step.kind for piece in pieces] == [StepKind.OTHER]
    assert exchanges(pieces) == []


def test_records_with_a_span_belong_to_it() -> None:
    """Where traces are on too, a record carries the ids of its span and keeps them."""
    sent = record("assistant_response", response="Yes.", prompt__id="p-1")
    (piece,) = logged(sent | {"traceId": TRACE, "spanId": SPAN})
    assert (piece.trace_id, piece.span_id, piece.log_only) == (TRACE, SPAN, False)


def test_a_failed_request_is_an_error_without_its_message() -> None:
    """The status of a failed request is its error; the message may quote a prompt, and is left."""
    (piece,) = logged(record("api_error", error="no: 'my prompt'", status_code=529, prompt__id="p-1"))
    assert piece.exchange is not None
    assert piece.exchange.labels["error"] == "529"
    assert "my prompt" not in repr(piece)


@given(question=LINES)
def test_spans_of_an_interaction(question: str) -> None:
    """The span of an interaction is an agent's, with what the user asked."""
    span = span_of("interaction", {"user_prompt": question, "user.id": "u-5"})
    assert (span.step.kind, span.step.name, span.conversation) == (StepKind.AGENT, "claude_code", "s-77")
    assert isinstance(span.exchange, Trace)
    assert span.exchange.messages == (Message("user", question),)


def test_the_span_of_a_request_has_no_text_and_is_blind() -> None:
    """A request has tokens and no text: both sides are missing, with model, finish reason and usage."""
    values = {"model": "claude-opus-5", "input_tokens": 2, "output_tokens": 90, "stop_reason": "end_turn"}
    trace = span_of("llm_request", values | {"success": True}).exchange
    assert trace is not None
    assert (trace.model, trace.provider, trace.finish_reason) == ("claude-opus-5", "anthropic", "stop")
    assert trace.unread == (
        Unread(Side.PROMPT, Unreadable.NO_CONTENT),
        Unread(Side.RESPONSE, Unreadable.NO_CONTENT),
    )


def test_a_request_that_failed_is_an_error() -> None:
    """`success` false makes an error of a request, and no missing answer."""
    trace = span_of("llm_request", {"model": "claude-opus-5", "success": False, "status_code": 500}).exchange
    assert trace is not None
    assert (trace.labels["error"], trace.unread) == ("500", ())


@given(output=LINES)
def test_a_tools_output_is_in_an_event(output: str) -> None:
    """With OTEL_LOG_TOOL_CONTENT a tool's span has its output as an event."""
    event = {"name": "tool.output", "attributes": attributes({"output": output, "output_length": 9})}
    values = {"tool_name": "Bash", "tool_use_id": "t1", "full_command": "ls"}
    span = span_of("tool", values, events=[event])
    assert span.call is not None
    assert (span.call.name, span.call.arguments, span.call.result) == ("Bash", "ls", output)


def test_other_steps_are_no_calls() -> None:
    """A wait for the user is an approval; execution and hooks are no steps; other senders are not read."""
    assert span_of("tool.blocked_on_user", {"decision": "reject"}).step.kind is StepKind.GUARDRAIL
    assert span_of("tool.execution", {"success": True}).step.kind is StepKind.OTHER
    assert one({"span.type": "llm_request", "model": "x"}, name="mine").exchange is None


def test_the_name_in_the_body_counts_in_protobuf_too() -> None:
    """Both wire formats take the whole name from the body where the attribute has only its end."""
    request = ExportLogsServiceRequest()
    sent = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START)
    sent.body.string_value = "claude_code.user_prompt"
    for key, value in {"event.name": "user_prompt", "session.id": "s-77", "prompt": "Open?"}.items():
        sent.attributes.add(key=key).value.string_value = value
    (piece,) = decode(request.SerializeToString(), "otlp_proto_logs")
    (same,) = logged(record("user_prompt", prompt="Open?"))
    assert piece.exchange.messages == (Message("user", "Open?"),)
    assert (piece.trace_id, piece.span_id) == (same.trace_id, same.span_id)


def test_the_error_of_a_request_is_that_of_its_exchange() -> None:
    """A record of an error says why the prompt next to it has no answer, and which emitter it was."""
    [trace] = exchanges(logged(record("user_prompt", prompt="hi"), record("api_error", 1, status_code="529")))
    assert (trace.error, trace.labels["error"], trace.finish_reason) == ("529", "529", "error")
    assert (trace.emitter, trace.unread) == ("claude_code", ())
