"""Every assessment as a `gen_ai.evaluation.result` event on the span it is about, to any OTLP/HTTP backend.

Best effort, and never in the way: the engine hands over judged traces, a thread of its own turns them into
OTLP log records and posts them; traces beyond the bounded queue are dropped and counted. The records are
built on opentelemetry-proto, as the SDK's API for logs is not declared stable (its modules are private).
https://github.com/open-telemetry/semantic-conventions-genai, events: `gen_ai.evaluation.result`
"""

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import httpcore
import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from monitor import __version__
from monitor.clock import Clock, Deadline
from monitor.errors import ConfigError
from monitor.findings import Assessment, Judgement, Status
from monitor.outcome.alerts import kinds_of

EVENT_NAME: Final = "gen_ai.evaluation.result"
MAX_WAITING: Final = 20_000  # events; about 10 MiB
BATCH: Final = 2_000  # events of one request
POST_SECONDS: Final = 5.0
_NANOS: Final = 1_000_000_000
_MAX_ANSWER: Final = 64 * 1024
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")

log = structlog.get_logger(__name__)

Attributes: TypeAlias = dict[str, str | float]


class Evaluated(NamedTuple):
    """Summary of a judgement, without text. `flagged` names the detectors whose answers a rule acted on."""

    trace_id: str
    span_id: str
    response_id: str
    assessments: Sequence[Assessment]
    flagged: frozenset[str]
    time: float


def evaluated(judgement: Judgement, time: float) -> Evaluated:
    """Summarise a judgement for events; `time` is when it was judged, Unix seconds."""
    trace = judgement.trace
    return Evaluated(
        trace.trace_id if _TRACE_ID.fullmatch(trace.trace_id) else "",
        trace.span_id if _SPAN_ID.fullmatch(trace.span_id) else "",
        trace.id,
        judgement.assessments,
        frozenset(name for flag in judgement.flags for name in flag.detectors),
        time,
    )


def attributes_of(item: Evaluated) -> Iterator[Attributes]:
    """Make the attributes of each assessment's event.

    The label is `fail` where a rule flagged the trace for this detector and `pass` where none did; an
    assessment without a score has `error.type` instead. The explanation names kinds of findings, never text.
    """
    for assessment in item.assessments:
        attributes: Attributes = {
            "gen_ai.evaluation.name": assessment.detector,
            "gen_ai.response.id": item.response_id,
            "riskmon.detector.version": assessment.version,
        }
        if assessment.status is Status.SCORED and assessment.score is not None:
            attributes["gen_ai.evaluation.score.value"] = assessment.score
            attributes["gen_ai.evaluation.score.label"] = (
                "fail" if assessment.detector in item.flagged else "pass"
            )
        else:
            attributes["error.type"] = assessment.reason or assessment.status.value
        explanation = kinds_of(Counter(evidence.kind for evidence in assessment.evidence))
        if explanation:
            attributes["gen_ai.evaluation.explanation"] = explanation
        yield attributes


class EvaluationExporter:
    """Posts events to `endpoint`, an OTLP/HTTP base URL. Thread-safe; only `close` ever waits.

    `on_outcome` gets how many events were `exported`, `failed` (refused or unanswered) or `dropped` (the
    queue was full). Raises ConfigError for an invalid URL.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        instance: str,
        clock: Clock,
        on_outcome: Callable[[str, int], None],
    ) -> None:
        try:
            self._url = httpcore.URL(f"{endpoint.rstrip('/')}/v1/logs")
        except ValueError:
            self._url = httpcore.URL("")
        if self._url.scheme not in {b"http", b"https"} or not self._url.host:
            raise ConfigError("telemetry.evaluations_endpoint: not a URL; write http[s]://host[:port]")
        every = {"content-type": "application/x-protobuf", "user-agent": "riskmon", **headers}
        self._headers = list(every.items())
        self._resource = {
            "service.name": "riskmon",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        self._clock = clock
        self._on_outcome = on_outcome
        self._queue: deque[Evaluated] = deque()
        self._waiting = 0
        self._posting = 0  # events of the request in flight; the thread that resets it to 0 counts them
        self._changed = threading.Condition()
        self._closing = False
        # A daemon thread: an endpoint that hangs past the deadline must not keep the process.
        self._thread = threading.Thread(target=self._run, name="riskmon-evaluations", daemon=True)

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def offer(self, judgements: Iterable[Judgement], time: float) -> None:
        """Queue judged traces; never blocks on the network."""
        dropped = 0
        with self._changed:
            for judgement in judgements:
                events = len(judgement.assessments)
                if self._waiting + events > MAX_WAITING:
                    dropped += events
                    continue
                self._queue.append(evaluated(judgement, time))
                self._waiting += events
            self._changed.notify()
        if dropped:
            self._on_outcome("dropped", dropped)

    def close(self, seconds: float) -> None:
        """Export the queue, for at most `seconds`; drop and count the rest, in flight or not."""
        deadline = Deadline(self._clock, seconds)
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining())
        with self._changed:
            left, self._waiting, self._posting = self._waiting + self._posting, 0, 0
            self._queue.clear()
        if left:
            self._on_outcome("dropped", left)

    def _run(self) -> None:
        with httpcore.ConnectionPool(max_connections=1) as pool:
            while batch := self._take():
                try:
                    taken = self._post(pool, batch)
                except Exception as error:  # noqa: BLE001 - a bug here must not end the export, nor judging
                    # The type only: a message could quote a trace.
                    log.error("evaluations_fault", error=type(error).__name__)  # noqa: TRY400 - see above
                    taken = False
                with self._changed:
                    events, self._posting = self._posting, 0
                if events:
                    self._on_outcome("exported" if taken else "failed", events)

    def _take(self) -> list[Evaluated]:
        """Wait for events to export; return none once closed and empty."""
        batch: list[Evaluated] = []
        events = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            while self._queue and (not batch or events + len(self._queue[0].assessments) <= BATCH):
                batch.append(self._queue.popleft())
                events += len(batch[-1].assessments)
            self._waiting -= events
            self._posting = events
        return batch

    def _post(self, pool: httpcore.ConnectionPool, batch: Sequence[Evaluated]) -> bool:
        body = request_of(batch, self._resource).SerializeToString()
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), POST_SECONDS)
        try:
            with pool.stream(
                "POST", self._url, headers=self._headers, content=body, extensions={"timeout": timeout}
            ) as answer:
                read = 0
                for chunk in answer.iter_stream():
                    read += len(chunk)
                    if read > _MAX_ANSWER:
                        break
                return answer.status in range(200, 300)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            return False


def request_of(batch: Iterable[Evaluated], resource: Mapping[str, str]) -> ExportLogsServiceRequest:
    """Make the OTLP request of a batch."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(_key_values(resource))
    scope = group.scope_logs.add()
    scope.scope.name, scope.scope.version = "riskmon", __version__
    for item in batch:
        nanos = int(item.time * _NANOS)
        scope.log_records.extend(
            LogRecord(
                time_unix_nano=nanos,
                observed_time_unix_nano=nanos,
                severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
                severity_text="INFO",
                event_name=EVENT_NAME,
                trace_id=bytes.fromhex(item.trace_id),
                span_id=bytes.fromhex(item.span_id),
                attributes=_key_values(attributes),
            )
            for attributes in attributes_of(item)
        )
    return request


def _key_values(attributes: Mapping[str, str | float]) -> list[KeyValue]:
    return [
        KeyValue(
            key=key,
            value=AnyValue(string_value=value) if isinstance(value, str) else AnyValue(double_value=value),
        )
        for key, value in attributes.items()
    ]
