"""Spans that the emitters' exports decode to, and the native exchanges that they must equal."""

import json
from typing import Any

import emitters

from monitor.config import Format, IngestConfig
from monitor.ingest import decoder_for
from monitor.trace import Record, Span, Trace


def decode(form: Format, *values: bytes) -> list[Trace | Span]:
    """Return all that these records hold."""
    decoder = decoder_for(IngestConfig(format=form), str)
    return [
        piece for at, value in enumerate(values) for piece in decoder(Record("t", 0, at, 9.0, None, value))
    ]


def decoded_spans(form: Format, *values: bytes) -> list[Span]:
    """Return the spans of these records, by start."""
    spans = [piece for piece in decode(form, *values) if isinstance(piece, Span)]
    return sorted(spans, key=lambda span: span.step.start)


def native_exchanges() -> list[Trace]:
    """Return the exchanges that the emitters had, decoded from native JSON."""
    common: dict[str, Any] = {"app": "support-bot", "provider": "openai", "model": emitters.MODEL}
    common |= {"environment": "prod", "finish_reason": "stop"}
    call = {"name": "get_order", "arguments": emitters.ARGUMENTS, "id": "call_1"}
    sent: list[dict[str, Any]] = [
        {"messages": emitters.CHAT, "response": emitters.ANSWER, "alternatives": [emitters.SECOND]},
        {"messages": emitters.CHAT, "response": emitters.ANSWER},
        {
            "messages": emitters.FOLLOW_UP[:1],
            "response": "",
            "tool_calls": [call],
            "finish_reason": "tool_calls",
        },
        {
            "messages": [{"role": m["role"], "content": m["content"]} for m in emitters.FOLLOW_UP],
            "response": emitters.RESULT,
        },
    ]
    found = decode("native", *(json.dumps(common | fields).encode() for fields in sent))
    return [piece for piece in found if isinstance(piece, Trace)]
