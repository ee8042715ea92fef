"""OTLP over HTTP: an SDK or a Collector points straight at riskmon, with no broker between.

200 means that the body is on disk in the spool, anything else that it need not be. What a repeat may cure is
answered so that OTLP clients repeat it (429 and 503 with Retry-After), the rest so that they do not. A body
that is no OTLP at all is refused by 400 rather than taken and dead-lettered: only its sender can help, and
the proof is cheap, for protobuf one parse and for JSON one scan. What is OTLP but cannot be judged becomes a
dead letter. gRPC is not spoken: SDKs default to `http/protobuf`, a Collector has an `otlphttp` exporter.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import hmac
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import msgspec

from monitor.clock import Clock
from monitor.config import ReceiverConfig
from monitor.console.server import JSON, Answer, Bounds, Head, Server
from monitor.errors import Retryable
from monitor.spool import Received

PROTOBUF: Final = "application/x-protobuf"
MAX_CONNECTIONS: Final = 256
REQUEST_SECONDS: Final = 30.0
WAITING_BODIES: Final = 8  # of the largest size, being received and written together
GROUP: Final = 256  # bodies of one transaction at most
_GZIP: Final = 31  # zlib's window bits for a gzip wrapper

_SIGNALS: Final = {"/v1/traces": "traces", "/v1/logs": "logs"}


class Spool(Protocol):
    """Where bodies go. Called from one thread."""

    def append(self, bodies: Sequence[Received]) -> int:
        """Write bodies durably; returns how many, from the first on, had room. Raises Retryable."""
        ...


class Receiver(Server):
    """Serves `POST /v1/traces` and `/v1/logs`, writing to `spool`, each signal to its topic of `topics`.

    `on_answer` is told the status of each answer, from the server's thread.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        spool: Spool,
        topics: Mapping[str, str],
        clock: Clock,
        on_answer: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._intake = _Intake(config, spool, topics, clock)
        waiting = WAITING_BODIES * config.max_body_bytes
        super().__init__(
            "receiver",
            config.host,
            config.port,
            self._intake,
            Bounds(MAX_CONNECTIONS, REQUEST_SECONDS, config.max_body_bytes, waiting),
            remedy="" if config.token else "set receiver.token, or let only your applications reach it",
            on_answer=on_answer,
        )

    @property
    def accepting(self) -> bool:
        """Whether the latest bodies were taken."""
        return not self._intake.refusing

    def refuse(self) -> None:
        """From now on answer 503: the daemon ends, and what came would wait for its return."""
        self._intake.stopping = True

    def stop(self) -> None:
        """Answer what was begun, then end. Idempotent."""
        self.refuse()
        super().stop()
        self._intake.close()


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Waiting(NamedTuple):
    body: Received
    written: asyncio.Future[bool]


class _Intake:
    """Checks bodies and writes them in groups: one fsync for all that came during the one before."""

    def __init__(self, config: ReceiverConfig, spool: Spool, topics: Mapping[str, str], clock: Clock) -> None:
        self._config = config
        self._token = config.token.get_secret_value() if config.token else None
        self._spool = spool
        self._topics = {path: topics[signal] for path, signal in _SIGNALS.items()}
        self._holds = _checks()
        self._clock = clock
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="riskmon-spool")
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._refuse_until = 0.0
        self.stopping = False

    @property
    def refusing(self) -> bool:
        return self._clock.monotonic() < self._refuse_until

    def head(self, head: Head) -> Answer | None:
        try:
            self._check(head)
        except _Refused as refused:
            return self.problem(refused.status, refused.text, head)
        return None

    def _check(self, head: Head) -> None:
        if head.path not in self._topics:
            raise _Refused(HTTPStatus.NOT_FOUND, "only /v1/traces and /v1/logs")
        if head.method != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only POST")
        if self._token is not None:
            given = head.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode("latin-1"), f"Bearer {self._token}".encode()):
                raise _Refused(HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong")
        if _kind(head) not in {PROTOBUF, JSON}:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"only {PROTOBUF} and {JSON}")
        if head.headers.get("content-encoding", "identity") not in {"identity", "gzip"}:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only gzip or no content-encoding")
        if self.stopping:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
        if self.refusing:
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "the spool is full or the ledger busy")

    async def body(self, head: Head, body: bytes) -> Answer:
        kind = _kind(head)
        try:
            if head.headers.get("content-encoding") == "gzip":
                body = _gunzip(body, self._config.max_body_bytes)
            if self._holds[head.path, kind](body):
                await self._write(Received(self._topics[head.path], self._clock.now(), kind, body))
        except _Refused as refused:
            return self.problem(refused.status, refused.text, head)
        return Answer(200, b"{}" if kind == JSON else b"", kind)

    def problem(self, status: HTTPStatus, text: str, head: Head | None) -> Answer:
        """A `google.rpc.Status` with only its message, in the request's encoding."""
        later = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
        headers = [
            *([("Retry-After", str(self._config.retry_after_seconds))] if status in later else []),
            *([("Allow", "POST")] if status == HTTPStatus.METHOD_NOT_ALLOWED else []),
            *([("WWW-Authenticate", "Bearer")] if status == HTTPStatus.UNAUTHORIZED else []),
        ]
        if head is not None and _kind(head) == PROTOBUF:
            return Answer(status, b"\x12" + bytes([len(text)]) + text.encode(), PROTOBUF, tuple(headers))
        return Answer(status, msgspec.json.encode({"message": text}), JSON, tuple(headers))

    def close(self) -> None:
        self._writer.shutdown()

    async def _write(self, body: Received) -> None:
        """Wait until a body is on disk."""
        most = WAITING_BODIES * self._config.max_body_bytes
        if self._waiting_bytes + len(body.value) > most:
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "too much is being written")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(body, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += len(body.value)
        if self._writing is None:
            self._writing = loop.create_task(self._write_groups(loop))
        try:
            written = await waiting.written
        except Retryable:
            written = False
        if not written:
            self._refuse_until = self._clock.monotonic() + self._config.retry_after_seconds
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "the spool is full or the ledger busy")

    async def _write_groups(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            try:
                append = self._spool.append
                taken = await loop.run_in_executor(self._writer, append, [one.body for one in group])
            except Exception as error:  # noqa: BLE001 - the waiting requests raise it
                for one in group:
                    one.written.set_exception(error)
            else:
                for number, one in enumerate(group):
                    one.written.set_result(number < taken)
            self._waiting_bytes -= sum(len(one.body.value) for one in group)
        self._writing = None


def _kind(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def _gunzip(body: bytes, limit: int) -> bytes:
    """Decompress one gzip member of at most `limit` bytes, never making more than a byte over that of it."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not gzip") from None
    if len(plain) > limit:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large decompressed")
    if not stream.eof or stream.unused_data:
        raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not one gzip member, to its end")
    return plain


def _checks() -> Mapping[tuple[str, str], Callable[[bytes], bool]]:
    """Per path and encoding: whether a body holds anything. They raise _Refused for what is not OTLP."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

    def json_holds(body: bytes) -> bool:
        try:
            return bool(decoder.decode(body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not a JSON object") from None

    def protobuf_holds(
        kind: type[ExportTraceServiceRequest | ExportLogsServiceRequest],
    ) -> Callable[[bytes], bool]:
        def holds(body: bytes) -> bool:
            try:
                return bool(kind.FromString(body).ByteSize())
            except DecodeError:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"the body is no {kind.__name__}") from None

        return holds

    return {
        ("/v1/traces", PROTOBUF): protobuf_holds(ExportTraceServiceRequest),
        ("/v1/logs", PROTOBUF): protobuf_holds(ExportLogsServiceRequest),
        ("/v1/traces", JSON): json_holds,
        ("/v1/logs", JSON): json_holds,
    }
