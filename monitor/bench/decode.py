"""`riskmon bench decode`: how fast one core turns the bytes of records into traces and spans, by format."""

import hashlib
import json
import statistics
import sys
import time
from base64 import b64encode
from typing import Any, Final

import click

from monitor.bench.engine import record as native_record
from monitor.config import Format, IngestConfig
from monitor.daemon.build import tune_gc
from monitor.ingest import decoder_for
from monitor.output import as_json as to_json
from monitor.trace import Record

SPANS: Final = 8  # chat spans in one record, as a batching exporter sends them
_SYSTEM: Final = "Answer only from the policy. Be brief, name the paragraph, and do not promise refunds."
_QUESTION: Final = "Can I return order {}? I have worn the shoes once and still have the box."
_ANSWER: Final = "Yes: shoes may be returned within 30 days if they come in their box. " * 2
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


def run(*, records: int, rounds: int, as_json: bool) -> None:
    """Decode `records` records of each format `rounds` times, in turn, and print the medians.

    Time is this process's processor time, so that what else the machine does is not counted.
    """
    tune_gc()
    values: dict[Format, list[bytes]] = {
        "native": [native_record(number) for number in range(records)],
        "otlp_json": [json.dumps(request(number)).encode() for number in range(records)],
        "otlp_proto": [protobuf(request(number)) for number in range(records)],
        "openai": [json.dumps(pair(number)).encode() for number in range(records)],
        "litellm": [json.dumps(litellm(number)).encode() for number in range(records)],
        "kong": [json.dumps(kong(number)).encode() for number in range(records)],
    }
    results: dict[str, Any] = {}
    for form, payloads in values.items():
        decode = decoder_for(IngestConfig(format=form), str)
        sent = [Record("bench", 0, at, 0.0, None, value) for at, value in enumerate(payloads)]
        spans = sum(len(decode(record)) for record in sent)
        seconds = []
        for _ in range(rounds):
            began = time.process_time()
            for record in sent:
                decode(record)
            seconds.append(time.process_time() - began)
        took = statistics.median(seconds)
        size = sum(map(len, payloads))
        results[form] = {
            "records": records,
            "spans": spans,
            "bytes_per_span": round(size / spans),
            "spans_per_second": round(spans / took),
            "fastest": round(spans / min(seconds)),
            "slowest": round(spans / max(seconds)),
            "megabytes_per_second": round(size / took / 1e6, 1),
        }
    if as_json:
        click.echo(to_json(results | {"rounds": rounds, "python": sys.version.split()[0]}))
        return
    for name, figures in results.items():
        rate, speed = figures["spans_per_second"], figures["megabytes_per_second"]
        click.echo(f"{name:<12}{rate:>8} spans/s{speed:>8} MB/s ({figures['bytes_per_span']} bytes each)")


def request(number: int) -> dict[str, Any]:
    """Return an export request of OTLP/JSON with `SPANS` chat spans, as `openai_v2` instruments them."""
    spans = [_span(number * SPANS + at) for at in range(SPANS)]
    resource = _attributes({
        "service.name": "support-bot", "service.namespace": "acme", "service.version": "2026.11.1",
        "deployment.environment.name": "prod", "telemetry.sdk.language": "python",
    })  # fmt: skip
    scope = {"name": "opentelemetry.instrumentation.openai_v2", "version": "2.4b0"}
    return {
        "resourceSpans": [
            {"resource": {"attributes": resource}, "scopeSpans": [{"scope": scope, "spans": spans}]}
        ]
    }


def pair(number: int) -> dict[str, Any]:
    """Return a chat completion's request and response, with the texts of the spans."""
    body = {
        "id": f"chatcmpl-{_random(number)}", "object": "chat.completion", "created": 1_795_327_201,
        "model": "gpt-5-2026-08-07", "system_fingerprint": "fp_44709d6fcb",
        "choices": [{
            "index": 0, "logprobs": None, "finish_reason": "stop",
            "message": {"role": "assistant", "content": _ANSWER, "refusal": None, "annotations": []},
        }],
        "usage": {"prompt_tokens": 97, "completion_tokens": 52, "total_tokens": 149},
    }  # fmt: skip
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUESTION.format(number)}]
    return {"request": {"model": "gpt-5", "messages": messages, "temperature": 0.2}, "response": body}


def litellm(number: int) -> dict[str, Any]:
    """Return the same as LiteLLM's payload."""
    sent = pair(number)
    return {
        "id": sent["response"]["id"], "trace_id": _random(number), "call_type": "acompletion",
        "status": "success", "custom_llm_provider": "openai", "response_cost": 0.00015, "cache_hit": False,
        "prompt_tokens": 97, "completion_tokens": 52, "total_tokens": 149, "model": "gpt-5",
        "startTime": 1_795_327_200.0, "endTime": 1_795_327_201.84, "model_group": "support",
        "metadata": {"user_api_key_alias": "support-bot", "user_api_key_team_alias": "support"},
        "end_user": f"customer-{number % 500}", "request_tags": ["returns"],
        "messages": sent["request"]["messages"], "response": sent["response"],
    }  # fmt: skip


def kong(number: int) -> dict[str, Any]:
    """Return the same as an entry of Kong's log."""
    bodies = {name: json.dumps(body) for name, body in pair(number).items()}
    return {
        "started_at": 1_795_327_200_000, "latencies": {"kong": 3, "proxy": 970, "request": 976},
        "request": {"id": _random(number), "uri": "/v1/chat/completions"}, "response": {"status": 200},
        "service": {"name": "ai-gateway"}, "route": {"name": "openai-chat"},
        "ai": {"proxy": {
            "meta": {
                "provider_name": "openai", "request_model": "gpt-5", "response_model": "gpt-5-2026-08-07",
                "llm_latency": 972,
            },
            "usage": {"prompt_tokens": 97, "completion_tokens": 52, "cost": 0.0038},
            "payload": bodies,
        }},
    }  # fmt: skip


def _span(number: int) -> dict[str, Any]:
    start = 1_795_327_200_000_000_000 + number * 10_000_000
    attributes = _attributes({
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2026-08-07", "gen_ai.response.id": f"chatcmpl-{_random(number)}",
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.conversation.id": f"conv_{_random(number % 500)}",
        "gen_ai.usage.input_tokens": 97, "gen_ai.usage.output_tokens": 52,
        "gen_ai.usage.cache_read.input_tokens": 0, "gen_ai.request.temperature": 0.2,
        "server.address": "api.openai.com",
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": _SYSTEM}]),
        "gen_ai.input.messages": json.dumps([
            {"role": "user", "parts": [{"type": "text", "content": _QUESTION.format(number)}]}
        ]),
        "gen_ai.output.messages": json.dumps([
            {"role": "assistant", "parts": [{"type": "text", "content": _ANSWER}], "finish_reason": "stop"}
        ]),
    })  # fmt: skip
    return {
        "traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "parentSpanId": "", "kind": 3,
        "name": "chat gpt-5", "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 1_840_000_000),
        "attributes": attributes, "status": {},
    }  # fmt: skip


def _random(number: int) -> str:
    """Return 24 letters and digits, as ids of responses have them."""
    return b64encode(hashlib.sha256(str(number).encode()).digest(), b"xy").decode()[:24]


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"arrayValue": {"values": [_value(item) for item in value]}}


def protobuf(sent: Any) -> bytes:
    """Return a request of OTLP/JSON, of spans or of logs, in protobuf."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    kind: Any = ExportLogsServiceRequest if "resourceLogs" in sent else ExportTraceServiceRequest
    made: bytes = ParseDict(_with_base64_ids(sent), kind()).SerializeToString()
    return made


def _with_base64_ids(value: Any) -> Any:
    """Return the value with ids as protobuf's JSON parser wants them; OTLP/JSON has hexadecimal."""
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_base64_ids(item)
        for key, item in value.items()
    }
