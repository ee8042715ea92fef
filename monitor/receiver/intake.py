"""Intake of bodies, for every protocol of the receiver: bytes in, durable or refused. Knows no HTTP.

A body that is not OTLP at all is refused, not dead-lettered: only its sender can correct it, and the check is
cheap: one parse for protobuf, one scan for JSON. OTLP that cannot be judged becomes a dead letter.
"""

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

import msgspec

from monitor.clock import Clock
from monitor.config import ReceiverConfig
from monitor.errors import Retryable
from monitor.spool import Received

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
WAITING_BODIES: Final = 8  # of the largest size, being received and written together
GROUP: Final = 256  # bodies of one transaction at most
_GZIP: Final = 31  # zlib's window bits for a gzip wrapper


class SpoolWriter(Protocol):
    """Writes bodies durably. Called from one thread."""

    def append(self, bodies: Sequence[Received]) -> int:
        """Write bodies; return how many, from the first on, had room. Raises Retryable."""
        ...


class Refusal(Enum):
    """Why a body is not taken. A repeat may cure BUSY and STOPPING."""

    MALFORMED = auto()
    TOO_LARGE = auto()
    BUSY = auto()
    STOPPING = auto()


class BodyRefused(Exception):  # noqa: N818 - an answer, not an error
    """A body that is not taken; the text says why."""

    def __init__(self, why: Refusal, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


class _Waiting(NamedTuple):
    body: Received
    written: asyncio.Future[bool]


class BodyIntake:
    """Checks bodies and writes them in groups: one fsync for all that came during the one before.

    `topics` names the spool's topic of each signal. Used from one event loop, except `stopping`.
    """

    def __init__(
        self, config: ReceiverConfig, spool: SpoolWriter, topics: Mapping[str, str], clock: Clock
    ) -> None:
        self._config = config
        self._spool = spool
        self._topics = topics
        self._checks = _checks()
        self._clock = clock
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="riskmon-spool")
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._refuse_until = 0.0
        self.stopping = False

    @property
    def accepting(self) -> bool:
        """Return whether the latest bodies were accepted."""
        return self._clock.monotonic() >= self._refuse_until

    def admit(self) -> None:
        """Raise BodyRefused if no body would be taken now, before one is read."""
        if self.stopping:
            raise BodyRefused(Refusal.STOPPING, "stopping")
        if not self.accepting:
            raise BodyRefused(Refusal.BUSY, "the spool is full or the ledger busy")

    async def take(self, signal: str, content_type: str, body: bytes, *, gzipped: bool = False) -> None:
        """Return once a body is on disk, or holds nothing. Raises BodyRefused."""
        if gzipped:
            body = _gunzip(body, self._config.max_body_bytes)
        if self._checks[signal, content_type](body):
            await self._write(Received(self._topics[signal], self._clock.now(), content_type, body))

    def close(self) -> None:
        """Write what waits, then end. Idempotent."""
        self._writer.shutdown()

    async def _write(self, body: Received) -> None:
        """Wait until a body is on disk."""
        most = WAITING_BODIES * self._config.max_body_bytes
        if self._waiting_bytes + len(body.value) > most:
            raise BodyRefused(Refusal.BUSY, "too much is being written")
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
            raise BodyRefused(Refusal.BUSY, "the spool is full or the ledger busy")

    async def _write_groups(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            bodies = [waiting.body for waiting in group]
            try:
                taken = await loop.run_in_executor(self._writer, self._spool.append, bodies)
            except Exception as error:  # noqa: BLE001 - the waiting requests raise it
                for waiting in group:
                    waiting.written.set_exception(error)
            else:
                for number, waiting in enumerate(group):
                    waiting.written.set_result(number < taken)
            self._waiting_bytes -= sum(len(body.value) for body in bodies)
        self._writing = None


def _gunzip(body: bytes, limit: int) -> bytes:
    """Decompress one gzip member of at most `limit` bytes, never making more than a byte over that of it."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise BodyRefused(Refusal.MALFORMED, "the body is not gzip") from None
    if len(plain) > limit:
        raise BodyRefused(Refusal.TOO_LARGE, "the body is too large decompressed")
    if not stream.eof or stream.unused_data:
        raise BodyRefused(Refusal.MALFORMED, "the body is not one gzip member, to its end")
    return plain


def _checks() -> Mapping[tuple[str, str], Callable[[bytes], bool]]:
    """Return a check per signal and encoding: whether a body holds anything. Each raises BodyRefused."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

    def json_holds(body: bytes) -> bool:
        try:
            return bool(decoder.decode(body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise BodyRefused(Refusal.MALFORMED, "the body is not a JSON object") from None

    def protobuf_holds(
        kind: type[ExportTraceServiceRequest | ExportLogsServiceRequest],
    ) -> Callable[[bytes], bool]:
        def holds(body: bytes) -> bool:
            try:
                return bool(kind.FromString(body).ByteSize())
            except DecodeError:
                raise BodyRefused(Refusal.MALFORMED, f"the body is not an {kind.__name__}") from None

        return holds

    return {
        ("traces", PROTOBUF): protobuf_holds(ExportTraceServiceRequest),
        ("logs", PROTOBUF): protobuf_holds(ExportLogsServiceRequest),
        ("traces", JSON): json_holds,
        ("logs", JSON): json_holds,
    }
