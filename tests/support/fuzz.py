"""Mutated payloads for every decoder: whatever the bytes, only BadTrace may be raised.

    python tests/support/fuzz.py COUNT [SEED]

runs COUNT mutations over all formats in turn and prints what came of them; a crash shows the payload.
"""

import copy
import itertools
import json
import random
import resource
import sys
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import api_bodies
import gateway_payloads
import ingest_cases
import msgspec
from checkout import DATA
from generation_wire import encoded
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.bench.decode import protobuf
from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import FORMATS, decoder
from monitor.trace import Record, Span, Trace

OTLP = DATA / "otlp"
REASONS = frozenset({
    "too_large", "empty", "invalid_utf8", "invalid_json", "too_deep", "duplicate_key", "wrong_type",
    "missing_field", "out_of_range", "invalid_cloudevent", "invalid_framing", "invalid_protobuf", "bad_id",
    "too_many_spans",
})  # fmt: skip
_NATIVE = {
    "id": "a", "time": 1_700_000_000, "app": "shop", "user": "jane", "response": "Hello.", "latency": 0.5,
    "messages": [{"role": "user", "content": "?"}], "usage": {"input_tokens": 1}, "labels": {"a": "b"},
    "context": [{"id": "d", "content": "x", "score": 0.5}, "y"],
    "tool_calls": [{"name": "f", "arguments": "{}", "result": "1"}],
}  # fmt: skip
_ODD: list[Any] = [
    None, True, 0, -1, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, "", "x", "0" * 32, "9" * 25, "NaN", "\0", "é",
    [], {}, [[]], [None], [{}], {"a": 1}, {"type": "text"}, {"parts": 1}, {"values": None}, "[", "{}", "[{}]",
    '[{"role":1,"parts":[{"type":[],"content":{}}]}]', '[{"content":[1,null,{"type":"text","text":2}]}]',
    '[{"tool_calls":[{"function":{"name":{},"arguments":[]}}]}]', '{"choices":[{"message":1}]}',
    {"stringValue": "a"}, {"arrayValue": {}}, {"kvlistValue": {"values": [{"key": "a"}]}}, {"intValue": "x"},
    {"doubleValue": "NaN"},
]  # fmt: skip
_KEYS = [
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.operation.name", "gen_ai.usage.input_tokens",
    "gen_ai.retrieval.documents", "gen_ai.response.finish_reasons", "gen_ai.response.id", "gen_ai.usage.cost",
    "gen_ai.prompt.0.role", "gen_ai.completion.0.content", "traceloop.association.properties.user_id",
    "openinference.span.kind", "llm.input_messages.0.message.content", "llm.invocation_parameters",
    "llm.output_messages.1.message.tool_calls.0.x", "retrieval.documents.0.document.score", "user.id",
    "traceloop.span.kind", "db.query.result.score", "error.type", "service.name", "deployment.environment",
    "input.value", "event.name", "llm.request.type",
]  # fmt: skip


def seeds() -> dict[str, list[Any]]:
    """Good payloads by what they hold: `spans`, `logs`, or a format's own; JSON, protobuf's too."""
    found: dict[str, list[Any]] = {
        "native": [_NATIVE],
        "openai": [gateway_payloads.PAIR, gateway_payloads.RESPONSES, *_pairs()],
        "litellm": [gateway_payloads.LITELLM, *_litellm()],
        "kong": [gateway_payloads.KONG, gateway_payloads.OLD_KONG, *_kong()],
        "agento11y": [gateway_payloads.AGENTO11Y],
        "spans": [],
        "logs": [],
    }
    for file in sorted(OTLP.iterdir()):
        value = json.loads(file.read_bytes()) if file.suffix == ".json" else _json_of(file)
        found["logs" if "resourceLogs" in value else "spans"].append(value)
    for form, value in _of_emitters():
        found.setdefault(form, []).append(value)
    return found


def _of_emitters() -> Iterator[tuple[str, Any]]:
    """Payloads of the emitters in ../shared, where it is there: the layouts of every dialect."""
    for case in ingest_cases.cases():
        for path, form in case.files:
            if form.startswith("otlp_proto"):
                yield "logs" if form.endswith("logs") else "spans", _json_of(path)
            elif path.suffix == ".json":
                value = json.loads(path.read_text(encoding="utf-8"))
                held = "logs" if "resourceLogs" in value else "spans"
                yield held if form == "otlp_json" else form, value


def _pairs() -> Iterator[Any]:
    """Bodies of every API, whole and streamed."""
    for api in api_bodies.APIS.values():
        bodies = api(api_bodies.Said())
        yield {"request": bodies.request, "response": bodies.response}
        yield {"request": bodies.request, "chunks": bodies.events}
        yield {"request": json.dumps(bodies.request), "response": api_bodies.sse(bodies.events)}


def _litellm() -> Iterator[Any]:
    for pair in _pairs():
        if "response" in pair:
            passed = {"messages": pair["request"], "response": pair["response"]}
            yield gateway_payloads.LITELLM | passed | {"call_type": "pass_through_endpoint"}


def _kong() -> Iterator[Any]:
    for pair in _pairs():
        if isinstance(pair.get("response"), str):
            entry = copy.deepcopy(gateway_payloads.KONG)
            entry["ai"]["proxy"]["payload"] = pair
            yield entry


def _json_of(file: Path) -> Any:
    """Protobuf as OTLP/JSON."""
    kind: Any = ExportLogsServiceRequest if "logs" in file.name else ExportTraceServiceRequest

    def hexadecimal(value: Any) -> Any:
        if isinstance(value, list):
            return [hexadecimal(item) for item in value]
        if not isinstance(value, dict):
            return value
        ids = {key: b64decode(item).hex() for key, item in value.items() if key.lower().endswith("spanid")}
        ids |= {"traceId": b64decode(value["traceId"]).hex()} if "traceId" in value else {}
        return {key: hexadecimal(item) for key, item in value.items()} | ids

    return hexadecimal(MessageToDict(kind.FromString(file.read_bytes())))


_HOLDS = {
    **{name: (name,) for name in ("native", "openai", "litellm", "kong", "agento11y")},
    "agento11y_proto": ("agento11y",),
    "otlp_json": ("spans", "logs"),
    "otlp_proto": ("spans",),
    "otlp_proto_logs": ("logs",),
}


def mutations(form: str, given: dict[str, list[Any]], rng: random.Random) -> Iterator[bytes]:
    """A few mutated payloads, mostly of what this format holds: first its structure, then its bytes too."""
    holds = _HOLDS.get(form, tuple(given)) if rng.random() < 0.9 else tuple(given)
    value = copy.deepcopy(rng.choice(given[rng.choice(holds)]))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        _node(value, rng)
    raw = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if "proto" in form or rng.random() < 0.1:
        try:
            raw = encoded(value) if form == "agento11y_proto" else protobuf(value)
        except Exception:  # noqa: BLE001 - the converter fails in many ways, and is not what is tested
            raw = raw[: rng.randrange(len(raw))]
    yield raw
    for _ in range(3):
        yield _bytes(raw, rng)


def _bytes(raw: bytes, rng: random.Random) -> bytes:
    """Flip, mostly, or cut, repeat or insert at one to three places; flips keep the lengths in protobuf."""
    made = bytearray(raw)
    if rng.random() < 0.7:
        for _ in range(rng.randint(1, 3) if made else 0):
            made[rng.randrange(len(made))] = rng.choice((rng.randrange(256), 0, 0x20, 0x22, 0x30, 0x39, 0x61))
        return bytes(made)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(made) + 1)
        until = min(len(made), at + rng.choice((1, 1, 2, 8, 64)))
        match rng.randrange(5):
            case 0:
                made[at:until] = rng.randbytes(until - at)
            case 1:
                del made[at:until]
            case 2:
                made[at:at] = made[at:until] * rng.choice((1, 2, 50))
            case 3:
                made[at:at] = rng.choice(
                    (b"\xff", b"\0", b'"', b"\\", b"[" * 2000, b"{", b"\xed\xa0\x80", b"\x0a")
                )
            case _:
                del made[at:]
    return bytes(made)


def _node(value: Any, rng: random.Random) -> None:
    """Replace, remove, repeat or rename one node somewhere in a JSON value, in place."""
    places = list(_places(value))
    if not places:
        return
    container, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.extend([container[key]] * rng.choice((1, 2, 30)))
        case 2 if isinstance(container[key], str):
            container[key] = _text(container[key], rng)
        case 3 if isinstance(container, dict):
            container[rng.choice((*_KEYS, "key", "value", "events", "parentSpanId"))] = container.pop(key)
        case 4:
            other, at = rng.choice(places)
            container[key] = copy.deepcopy(other[at]) if not isinstance(container[key], dict) else "x"
        case _:
            container[key] = copy.deepcopy(rng.choice(_ODD))


def _text(text: str, rng: random.Random) -> str:
    """Another text: JSON inside it mutated, else a key that decoders read, else something odd."""
    if text[:1] in {"[", "{"} and rng.random() < 0.8:
        try:
            inner = json.loads(text)
        except ValueError:
            return text[: len(text) // 2]
        _node(inner, rng)
        return json.dumps(inner)
    return rng.choice((*_KEYS, *[odd for odd in _ODD if isinstance(odd, str)]))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    stack = [value]
    while stack:
        here = stack.pop()
        for key in list(here) if isinstance(here, dict) else range(len(here)):
            yield here, key
            if isinstance(here[key], dict | list):
                stack.append(here[key])


def outcome(decode: Callable[[Record], Any], value: bytes) -> str:
    """Reason of the refusal, or `accepted`: then all that was made has the types it declares.

    Raises BadTrace for a reason outside the documented set, and whatever a decoder must not raise.
    """
    try:
        pieces = decode(Record("fuzz", 0, 0, 1_600_000_000.0, None, value))
    except BadTrace as error:
        if error.reason not in REASONS:
            raise
        return error.reason
    for piece in pieces:
        kind = type(piece)
        assert kind in {Trace, Span}
        msgspec.msgpack.decode(msgspec.msgpack.encode(piece), type=kind)
    return "accepted" if pieces else "accepted_nothing"


def run(count: int, seed: int) -> Counter[tuple[str, str]]:
    """Decode `count` mutations, a few of each format in turn; return how often each outcome came of each.

    An interrupt ends it early with what there is.
    """
    rng = random.Random(seed)
    config = IngestConfig()
    decoders = [(name, decoder(name, config, str)) for name in FORMATS]
    found: Counter[tuple[str, str]] = Counter()
    given = seeds()
    payloads = (
        (name, decode, value)
        for name, decode in itertools.cycle(decoders)
        for value in mutations(name, given, rng)
    )
    try:
        for name, decode, value in itertools.islice(payloads, count):
            try:
                found[name, outcome(decode, value)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}, {name}: {value!r}") from error
    except KeyboardInterrupt:
        pass
    return found


def main() -> None:
    """Run from the command line."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    found = run(count, seed)
    for (name, what), times in sorted(found.items()):
        sys.stdout.write(f"{name:<18}{what:<20}{times:>9}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = time.monotonic() - began
    sys.stdout.write(
        f"{sum(found.values())} mutations, seed {seed}, {took:.0f} s, at most {peak:.0f} MiB resident\n"
    )


if __name__ == "__main__":
    main()
