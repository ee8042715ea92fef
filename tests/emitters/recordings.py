"""Recordings of what an emitter sent: made, kept in `tests/data/emitters`, and read as riskmon reads them."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import scenario
from checkout import DATA
from ingest_cases import decoded, exchanges
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers import GENERATIONS_GRPC, GENERATIONS_HTTP, Sent

from monitor.config import Format
from monitor.trace import Span, StepKind, Trace

FOLDER: Final = DATA / "emitters"
_OF_THE_MACHINE: Final = ("code.", "host.", "os.", "process.", "exception.stacktrace", "service.instance.id")
"""Attributes that say where an emitter ran, and nothing of what it was told."""
_PROTOBUF: Final[Mapping[str, Any]] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
_GENERATIONS: Final = {GENERATIONS_HTTP: "json", GENERATIONS_GRPC: "protobuf"}
_FORMATS: Final[Mapping[tuple[str, str], Format]] = {
    ("traces", "protobuf"): "otlp_proto",
    ("logs", "protobuf"): "otlp_proto_logs",
    ("traces", "json"): "otlp_json",
    ("logs", "json"): "otlp_json",
    ("generations", "protobuf"): "agento11y_proto",
    ("generations", "json"): "agento11y",
}


class Body(NamedTuple):
    """One export: which signal (or format of riskmon's), its encoding, and its bytes."""

    signal: str
    encoding: str
    value: bytes

    @property
    def format(self) -> Format:
        """The format that a topic of such bodies has."""
        return _FORMATS[self.signal, self.encoding]


class Recording(NamedTuple):
    """What an emitter sent in one run of the scenario, and how often it called a model."""

    name: str
    version: str
    calls: int
    bodies: tuple[Body, ...]

    def pieces(self) -> list[Trace | Span]:
        """Return what the bodies decode to."""
        return [piece for body in self.bodies for piece in decoded(body.value, body.format)]

    def traces(self) -> list[Trace]:
        """Return the exchanges, oldest first."""
        return exchanges(self.pieces())

    def sent(self) -> frozenset[str]:
        """Return the parts of the conversation whose text is in the bodies."""
        held = b"\n".join(body.value for body in self.bodies)
        return frozenset(part for part, text in scenario.PARTS.items() if text.encode() in held)

    def dump(self) -> str:
        """Return the recording as JSON."""
        bodies = [
            {"signal": body.signal, "encoding": body.encoding, "body": _readable(body)}
            for body in self.bodies
        ]
        made = {"emitter": self.name, "version": self.version, "calls": self.calls, "bodies": bodies}
        return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def read(traces: Sequence[Trace]) -> frozenset[str]:
    """Return the parts of the conversation that the exchanges hold, each where it belongs."""
    calls = [call for trace in traces for call in trace.tool_calls]
    steps = [step for trace in traces for step in trace.steps]
    told = [message for trace in traces for message in trace.messages if message.role == "tool"]
    holds = {
        "question": any(scenario.QUESTION in trace.question() for trace in traces),
        "answer": any(scenario.ANSWER in trace.response for trace in traces),
        "call": any(c.name.endswith(scenario.TOOL) and scenario.ORDER in c.arguments for c in calls),
        "result": any(
            scenario.RESULT in text
            for text in (
                *(call.result for call in calls),
                *(message.content for message in told),
                *(step.output for step in steps if step.kind is StepKind.TOOL),
            )
        ),
        "documents": any(document.content == scenario.DOCUMENT for t in traces for document in t.context),
        "user": bool(traces) and all(scenario.USER in trace.user for trace in traces),
        "conversation": bool(traces) and all(t.conversation == scenario.CONVERSATION for t in traces),
    }
    return frozenset(part for part, held in holds.items() if held)


def load(name: str) -> Recording:
    """Return the recording of an emitter; raises FileNotFoundError where there is none."""
    held = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    bodies = tuple(
        Body(
            each["signal"],
            each["encoding"],
            base64.b64decode(each["body"]) if each["encoding"] == "protobuf" else _json(each["body"]),
        )
        for each in held["bodies"]
    )
    return Recording(held["emitter"], held["version"], held["calls"], bodies)


def bodies_of(sent: Sequence[Sent]) -> Iterator[Body]:
    """Yield what of the requests are traces, logs and generations, without what tells of the machine."""
    for request in sent:
        if encoding := _GENERATIONS.get(request.path):
            yield Body("generations", encoding, request.body)
            continue
        signal = request.path.rpartition("/")[2]
        if signal not in _PROTOBUF:
            continue
        if "json" in request.content_type:
            yield Body(signal, "json", _json(_cleaned(json.loads(request.body))))
        else:
            message = _PROTOBUF[signal]()
            message.ParseFromString(request.body)
            _clean(message)
            yield Body(signal, "protobuf", message.SerializeToString())


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _readable(body: Body) -> Any:
    return base64.b64encode(body.value).decode() if body.encoding == "protobuf" else json.loads(body.value)


def _cleaned(value: Any) -> Any:
    if isinstance(value, list):
        kept = [
            each
            for each in value
            if not (isinstance(each, dict) and str(each.get("key", "")).startswith(_OF_THE_MACHINE))
        ]
        return [_cleaned(each) for each in kept]
    return {key: _cleaned(each) for key, each in value.items()} if isinstance(value, dict) else value


def _clean(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name == "attributes":
            kept = [each for each in value if not each.key.startswith(_OF_THE_MACHINE)]
            del value[:]
            value.extend(kept)
        elif field.type == field.TYPE_MESSAGE:
            for each in value if hasattr(value, "extend") else [value]:
                _clean(each)
