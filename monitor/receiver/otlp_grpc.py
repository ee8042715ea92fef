"""OTLP over gRPC: an SDK or a Collector exports to port 4317 as it does to any Collector.

OK means that the body is on disk in the spool; no other code gives such a promise. RESOURCE_EXHAUSTED and
UNAVAILABLE have a `RetryInfo`, which makes OTLP clients retry; INVALID_ARGUMENT and UNAUTHENTICATED they do
not repeat. A message that gRPC itself finds too large is RESOURCE_EXHAUSTED without one: not repeated either.
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc

Grafana's Agent Observability SDKs may send their generations here too.
"""

import asyncio
import importlib.util
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import structlog

from monitor.config import ReceiverConfig
from monitor.errors import ConfigError
from monitor.receiver import generations
from monitor.receiver.bodies import PROTOBUF
from monitor.receiver.intake import BodyIntake
from monitor.receiver.otlp_http import MAX_CONNECTIONS, REMEDY, REQUEST_SECONDS, SLOWED, gate_of
from monitor.receiver.refusals import BodyRefused, Refusal, status, too_large
from monitor.web.credentials import Gate
from monitor.web.listening import cannot_listen, warn_beyond_loopback

MAX_CALLS: Final = 1024  # open at once; a waiting one holds what flow control let its client send
CALLS_PER_CONNECTION: Final = 128  # further ones wait at the client
RECEIVING: Final = 32  # bodies that are received at once; the other calls wait
RECEIVING_BYTES: Final = 256 * 2**20  # or fewer, at least 2, that could be so large together
IDLE_SECONDS: Final = 300.0  # until a connection without calls is closed
HURRY_SECONDS: Final = 3.0  # for a body while others wait; 8 MiB in that time are 22 Mbit/s
STOP_SECONDS: Final = 1.0  # for calls that are open when a stop begins
_PING_SECONDS: Final = 10  # a client that pings more often is sent away; gRPC's own bound for clients
_SECTION: Final = "receiver.grpc"
_OTLP: Final = "opentelemetry.proto.collector."
_SERVICES: Final = {
    f"{_OTLP}trace.v1.TraceService": ("Export", "traces"),
    f"{_OTLP}logs.v1.LogsService": ("Export", "logs"),
    f"{_OTLP}metrics.v1.MetricsService": ("Export", ""),
    f"{_OTLP}profiles.v1development.ProfilesService": ("Export", ""),
    "agento11y.v1.GenerationIngestService": ("ExportGenerations", generations.SIGNAL),
    "agento11y.v1.WorkflowStepIngestService": ("ExportWorkflowSteps", ""),
    "sigil.v1.GenerationIngestService": ("ExportGenerations", generations.SIGNAL),  # the SDKs' earlier name
}
"""Services with their method, and the signal of those that are taken."""
_CODES: Final = {
    Refusal.MALFORMED: "INVALID_ARGUMENT",
    Refusal.TOO_LARGE: "INVALID_ARGUMENT",
    Refusal.BUSY: "RESOURCE_EXHAUSTED",
    Refusal.STOPPING: "UNAVAILABLE",
}
_ALGORITHMS: Final = 0b111  # of compression: none, deflate, gzip

log = structlog.get_logger(__name__)


class _CallRefused(Exception):  # noqa: N818 - an answer, not an error
    """A call that is refused, by a code's name; `later` if it is to be repeated."""

    def __init__(self, code: str, text: str, *, later: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.later = later


class GrpcReceiver:
    """Serves calls that export traces, logs and generations; bodies go to `intake`, which others may use too.

    `on_answer` gets the name of each answer's code, from the server's thread: `CANCELLED` for a client that
    did not wait. Raises ConfigError without grpcio.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        intake: BodyIntake,
        on_answer: Callable[[str], None] = lambda _: None,
        *,
        gate: Gate | None = None,
        idle_seconds: float = IDLE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        hurry_seconds: float = HURRY_SECONDS,
    ) -> None:
        require_grpc()
        self._config = config
        self._intake = intake
        self._gate = gate or gate_of(config)
        self._on_answer = on_answer
        self._idle_seconds = idle_seconds
        self._request_seconds = request_seconds
        self._hurry_seconds = hurry_seconds
        self._port = config.grpc.port
        self._calls: set[asyncio.Task[Any]] = set()
        self._places = asyncio.Semaphore(max(2, min(RECEIVING, RECEIVING_BYTES // config.max_body_bytes)))
        self._waiting = 0  # for a place
        self._receiving: dict[asyncio.Timeout, float] = {}  # since when, by the event loop's clock
        self._server: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="riskmon-grpc", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on; known after `start`, and still after `stop`."""
        return self._port

    def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be bound."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except RuntimeError:
            self.stop()
            raise cannot_listen(_SECTION, self._config.host, self._port, "gRPC cannot bind it") from None
        warn_beyond_loopback(_SECTION, self._config.host, self._port, "" if self._config.token else REMEDY)

    def stop(self) -> None:
        """Refuse new calls, let open ones finish for a second, and end the thread. Idempotent."""
        self._intake.refuse()
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        import grpc

        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # or a port that another process listens on would do
                ("grpc.max_receive_message_length", self._config.max_body_bytes),
                # The intake decompresses: older releases of gRPC do so before they look at the size.
                ("grpc.per_message_decompression", 0),
                ("grpc.compression_enabled_algorithms_bitset", _ALGORITHMS),
                ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
                ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
                ("grpc.max_connection_idle_ms", int(1000 * self._idle_seconds)),
                ("grpc.keepalive_time_ms", int(1000 * REQUEST_SECONDS)),
                ("grpc.keepalive_timeout_ms", int(1000 * REQUEST_SECONDS)),
                ("grpc.http2.min_ping_interval_without_data_ms", 1000 * _PING_SECONDS),
            ]
        )
        for service, (method, signal) in _SERVICES.items():
            # As a stream of messages, which looks the same to a client, so that none need be received.
            export = grpc.stream_unary_rpc_method_handler(partial(self._serve, signal))
            handler = grpc.method_handlers_generic_handler(service, {method: export})
            server.add_generic_rpc_handlers((handler,))
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        self._port = server.add_insecure_port(f"{host}:{self._port}")
        await server.start()
        self._server = server

    async def _close(self) -> None:
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _serve(self, signal: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        """Answer one call: a response, which OTLP's services leave empty, or a status."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            metadata = dict(context.invocation_metadata())
            answer = await self._take(signal, messages, metadata, _address(context.peer()))
        except _CallRefused as refused:
            await self._abort(context, refused)
        except BodyRefused as refused:
            later = refused.why in {Refusal.BUSY, Refusal.STOPPING}
            await self._abort(context, _CallRefused(_CODES[refused.why], refused.text, later=later))
        except asyncio.CancelledError:
            self._on_answer("CANCELLED")
            raise
        except Exception:
            log.exception("grpc_fault")
            await self._abort(context, _CallRefused("INTERNAL", "internal error"))
        self._on_answer("OK")
        return answer

    async def _take(
        self, signal: str, messages: AsyncIterator[bytes], metadata: dict[str, str], peer: str
    ) -> bytes:
        """Take the body of a call, and return the response. Raises BodyRefused and _CallRefused."""
        if self._gate is not None:
            seconds = self._gate.refusal(metadata.get("authorization", ""), peer)
            if seconds:
                raise _CallRefused("RESOURCE_EXHAUSTED", SLOWED, later=True)
            if seconds is not None:
                raise _CallRefused("UNAUTHENTICATED", "the bearer token is missing or wrong")
        if not signal:
            raise _CallRefused(
                "UNIMPLEMENTED", "only traces, logs and generations: give this signal another exporter"
            )
        self._intake.admit()
        if len(self._calls) > MAX_CALLS:
            raise BodyRefused(Refusal.BUSY, "too many calls")
        body = await self._received(messages)
        return await self._intake.take(signal, PROTOBUF, body, _encoding(body))

    async def _received(self, messages: AsyncIterator[bytes]) -> bytes:
        """Receive the one message of a call."""
        try:
            async with asyncio.timeout(self._request_seconds) as limit, self._place(limit):
                body = await anext(messages, None)
                more = await anext(messages, None)
        except TimeoutError:
            text = f"not received in time: within {self._request_seconds:g} s, less while others wait"
            raise _CallRefused("UNAVAILABLE", text, later=True) from None
        if body is None or more is not None:
            # Where gRPC has found it too large, the client gets gRPC's own answer instead of this one.
            raise _CallRefused(
                "INVALID_ARGUMENT", f"not one message; {too_large(self._config.max_body_bytes)}"
            )
        return body

    @asynccontextmanager
    async def _place(self, limit: asyncio.Timeout) -> AsyncIterator[None]:
        """Wait for a place to receive in. While anybody waits, those who have one have little time for it."""
        self._waiting += 1
        try:
            if self._places.locked():
                self._hurry(self._receiving)
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._receiving[limit] = self._loop.time()
        try:
            if self._waiting:
                self._hurry([limit])
            yield
        finally:
            del self._receiving[limit]
            self._places.release()

    def _hurry(self, limits: Iterable[asyncio.Timeout]) -> None:
        now = self._loop.time()
        for limit in limits:
            end = max(now, self._receiving[limit] + self._hurry_seconds)
            due = limit.when()
            if due is not None and end < due and not limit.expired():
                limit.reschedule(end)

    async def _abort(self, context: Any, refused: _CallRefused) -> None:
        import grpc

        self._on_answer(refused.code)
        code = grpc.StatusCode[refused.code]
        details = status(
            refused.text, code.value[0], self._config.retry_after_seconds if refused.later else None
        )
        await context.abort(code, refused.text, (("grpc-status-details-bin", details),))


def require_grpc() -> None:
    """Raise ConfigError unless grpcio is installed; silence its core, which writes to stderr."""
    if importlib.util.find_spec("grpc") is None:
        raise ConfigError(
            "receiver.grpc.enabled: grpcio is not installed; pip install model-risk-monitor[grpc], "
            "or let clients use http/protobuf"
        )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _address(peer: str) -> str:
    """Return the address in gRPC's name of a peer: `ipv4:192.0.2.1:5`, `ipv6:%5B2001:db8::1%5D:5`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _encoding(body: bytes) -> str:
    """Return how a message is compressed, which gRPC does not tell.

    The first bytes do: gzip's would be a wire type that protobuf has not, zlib's a field of OTLP that there
    is not (RFC 1950 section 2.2: a method of 8, and a multiple of 31).
    """
    if body[:2] == b"\x1f\x8b":
        return "gzip"
    is_zlib = body[:1] == b"\x78" and int.from_bytes(body[:2]) % 31 == 0
    return "deflate" if is_zlib else "identity"
