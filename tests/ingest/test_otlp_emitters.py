"""What real instrumentations of OpenAI's client export, in every dialect, decodes to the same exchange."""

from collections.abc import Callable
from typing import Any

import emitters
import pytest
from checkout import DATA
from emitted import decoded_spans, native_exchanges

from monitor.trace import Message, Span, StepKind, ToolCall, Trace, Usage

OTLP = DATA / "otlp"
CHAT = tuple(Message(message["role"], message["content"]) for message in emitters.CHAT)
CALL = ToolCall("get_order", emitters.ARGUMENTS, "", "call_1")
ASKED = Message("user", "Where is order 991?")


def exchanges(found: list[Span]) -> list[Trace]:
    """The exchanges of the inference spans among these."""
    return [span.exchange for span in found if span.exchange]


def said(trace: Trace) -> dict[str, Any]:
    """What was said in an exchange, by whom to whom; the model and how it ended."""
    kept = ("messages", "response", "alternatives", "tool_calls", "model", "provider", "finish_reason", "app")
    return {name: getattr(trace, name) for name in kept}


def test_native_is_what_the_emitters_had() -> None:
    """The four exchanges: two samples, a stream, a tool call, and an answer after the tool's result."""
    first, streamed, called, answered = native_exchanges()
    assert (first.messages, first.response, first.alternatives) == (CHAT, emitters.ANSWER, (emitters.SECOND,))
    assert (streamed.messages, streamed.response, streamed.environment) == (
        CHAT,
        emitters.ANSWER,
        "production",
    )
    assert (called.messages, called.response, called.tool_calls) == ((ASKED,), "", (CALL,))
    assert answered.messages == (ASKED, Message("assistant", ""), Message("tool", emitters.RESULT))


@pytest.mark.parametrize("emitter", ["genai", "openinference", "openllmetry"])
def test_every_dialect_gives_the_exchange_that_native_gives(emitter: str) -> None:
    """Messages, response, samples, tool calls, model, provider, reason and application are the same."""
    found = decoded_spans("otlp_proto", *emitters.captured(emitter)[0])
    made = exchanges(found)
    for trace, expected in zip(made, native_exchanges(), strict=True):
        assert said(trace) == said(expected)
        assert trace.environment == "production"
        assert trace.model_version == emitters.ANSWERED_BY
        assert trace.usage == Usage(21, 9)
        assert trace.latency is not None
        assert trace.latency > 0
    root = next(span for span in found if span.step.kind is StepKind.OTHER)
    first = next(span for span in found if span.exchange is made[0])
    assert (root.parent_id, first.parent_id, first.trace_id) == ("", root.span_id, root.trace_id)
    assert all(span.step.name == emitters.MODEL for span in found if span.step.kind is StepKind.CHAT)


def test_content_in_log_records_completes_the_spans() -> None:
    """With content in events only, each log record is a partial span with the content of its span."""
    traces, logs = emitters.captured("genai_events")
    chats = [span for span in decoded_spans("otlp_proto", *traces) if span.exchange]
    parts = decoded_spans("otlp_proto_logs", *logs)
    assert [span.exchange.response for span in chats if span.exchange] == [""] * 4
    assert all(span.partial for span in parts)
    assert [(p.trace_id, p.span_id) for p in parts] == [(c.trace_id, c.span_id) for c in chats]
    expected = native_exchanges()
    for trace, wanted in zip(exchanges(parts), expected, strict=True):
        assert (trace.messages, trace.response, trace.alternatives) == (
            wanted.messages,
            wanted.response,
            wanted.alternatives,
        )
        assert trace.tool_calls == wanted.tool_calls


def test_flattened_prompts_of_older_openllmetry() -> None:
    """What OpenLLMetry 0.40.14 exported for the same calls gives the same exchanges."""
    made = exchanges(decoded_spans("otlp_proto", (OTLP / "openllmetry_0.40.14_spans.pb").read_bytes()))
    assert [said(trace) for trace in made] == [said(trace) for trace in native_exchanges()]
    assert [trace.usage for trace in made] == [Usage(21, 9), None, Usage(21, 9), Usage(21, 9)]


def _joined(parts: list[Span], get: Callable[[Trace], Any]) -> list[Any]:
    return [item for part in parts if part.exchange for item in get(part.exchange)]


def test_messages_as_log_records_of_older_genai() -> None:
    """What `openai-v2` 2.1b0 exported (conventions 1.30) is a partial span per message and choice."""
    chats = exchanges(decoded_spans("otlp_proto", (OTLP / "openai_v2_2.1b0_spans.pb").read_bytes()))
    parts = decoded_spans("otlp_proto_logs", (OTLP / "openai_v2_2.1b0_logs.pb").read_bytes())
    assert len(parts) == 13
    for chat, expected in zip(chats, native_exchanges(), strict=True):
        own = [part for part in parts if (part.trace_id, part.span_id) == (chat.trace_id, chat.span_id)]
        assert all(part.partial for part in own)
        assert _joined(own, lambda trace: trace.messages) == list(expected.messages)
        assert _joined(own, lambda trace: [trace.response] if trace.response else []) == (
            [expected.response] if expected.response else []
        )
        assert _joined(own, lambda trace: trace.alternatives) == list(expected.alternatives)
        assert _joined(own, lambda trace: trace.tool_calls) == list(expected.tool_calls)
        assert (chat.model, chat.model_version) == (emitters.MODEL, emitters.ANSWERED_BY)
