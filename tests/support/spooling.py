"""What receivers are sent, and a spool in memory that they write to."""

import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from patience import PATIENCE

from monitor.spool import Received

TOPICS: Final = {
    "traces": "otlp.traces@one",
    "logs": "otlp.logs@one",
    "generations": "otlp.generations@one",
}
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


def logs() -> bytes:
    """A request of one log record as protobuf."""
    made = ExportLogsServiceRequest()
    made.resource_logs.add().scope_logs.add().log_records.add(event_name="gen_ai.choice")
    body: bytes = made.SerializeToString()
    return body


def request(*names: str) -> bytes:
    """A request of spans of these names as protobuf, one by default."""
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for name in names or ("chat",):
        spans.add(name=name)
    body: bytes = made.SerializeToString()
    return body


def names_in(body: bytes) -> list[str]:
    """Names of the spans of a request."""
    return [
        span.name
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


class MemorySpool:
    """A spool in memory that can be full, slow, busy or broken."""

    def __init__(self) -> None:
        self.groups: list[list[Received]] = []
        self.room = 10**9
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    @property
    def bodies(self) -> list[Received]:
        """Everything written."""
        return [body for group in self.groups for body in group]

    def append(self, bodies: Sequence[Received]) -> int:
        """Write what there is room for, once the gate is open."""
        self.asked.set()
        assert self.gate.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        taken = list(bodies[: self.room])
        self.room -= len(taken)
        self.groups.append(taken)
        return len(taken)
