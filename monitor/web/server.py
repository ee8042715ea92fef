"""An HTTP/1.1 server on its own thread, bounded in connections, bytes and time whatever clients do.

An asyncio server rather than a thread per connection: a client that hangs holds one small object, each
request has one deadline for everything, and when too many connections are open, the one idle the longest
is closed. h11 does the parsing (framing, keep-alive, chunked bodies); no TLS.
"""

import asyncio
import ipaddress
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import h11
import structlog

from monitor.errors import ConfigError

MAX_HEADER_BYTES: Final = 8 * 1024
JSON: Final = "application/json"

log = structlog.get_logger()


class Head(NamedTuple):
    """A request before its body: method, path and query separate, headers by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""


class Response(NamedTuple):
    """A whole answer. `headers` are extra headers; the server sets length and connection."""

    status: int
    body: bytes = b""
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Limits(NamedTuple):
    """Limits for clients. `seconds` is the longest a request may take, and a connection may be idle.

    `body_bytes` bounds one body, `waiting_bytes` all those being received and answered together.
    """

    connections: int = 64
    seconds: float = 10.0
    body_bytes: int = 0
    waiting_bytes: int = 0


class Service(Protocol):
    """The application of a server. Runs on its thread and must not block it; a fault is answered by 500."""

    def head(self, head: Head) -> Response | None:
        """Answer from the head alone, whatever the body; None asks for the body first."""
        ...

    async def body(self, head: Head, body: bytes) -> Response:
        """Answer a whole request."""
        ...

    def problem(self, status: HTTPStatus, text: str, head: Head | None) -> Response:
        """Put a refusal of the server into the service's form; `head` is None for what is not HTTP."""
        ...


class Server:
    """Serves one `service`. `section` is its part of the configuration; `on_answer` gets each status."""

    def __init__(
        self,
        section: str,
        host: str,
        port: int,
        service: Service,
        bounds: Limits,
        *,
        remedy: str,
        on_answer: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.service = service
        self.bounds = bounds
        self.on_answer = on_answer
        self.waiting_bytes = 0
        self._section = section
        self._address = (host, port)
        self._remedy = remedy
        self._loop = asyncio.new_event_loop()
        self._open: dict[_Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"riskmon-{section}", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on; known after `start`, and still after `stop`."""
        return self._address[1]

    def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be bound."""
        host, port = self._address
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(
            self._loop.create_server(lambda: _Connection(self), host, port), self._loop
        )
        try:
            self._server = listening.result()
        except OSError as error:
            self.stop()
            reason = error.strerror or type(error).__name__
            raise cannot_listen(self._section, host, port, reason) from None
        self._address = (host, int(self._server.sockets[0].getsockname()[1]))
        warn_beyond_loopback(self._section, host, self.port, self._remedy)

    def stop(self) -> None:
        """Let requests being served finish, close every connection and end the thread. Idempotent."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            if self._server is not None:
                asyncio.run_coroutine_threadsafe(self._close(self._server), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _close(self, server: asyncio.Server) -> None:
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        # A connection being accepted while the server closes would be leaked: let it open, then close it.
        await self._settled()
        server.close()
        for connection in list(self._open):
            connection.abort()
        await self._settled()
        await asyncio.sleep(0)

    async def _settled(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*others, return_exceptions=True)

    def enter(self, connection: "_Connection") -> None:
        """Count a connection as the latest used; if no place is free, close the one unused for longest."""
        self._open.pop(connection, None)
        if len(self._open) >= self.bounds.connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.abort()
        self._open[connection] = None

    def leave(self, connection: "_Connection") -> None:
        """Give a connection's place back."""
        self._open.pop(connection, None)


class _Connection(asyncio.Protocol):
    """Requests of one client, one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._serving: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the open connections."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.enter(self)
        self._begin_deadline()

    def data_received(self, data: bytes) -> None:
        """Take received bytes."""
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """The client sends no more; it may still be waiting for an answer."""
        self._http.receive_data(b"")
        self._advance()
        return self._serving is not None

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        del error  # the peer is gone, so the error has no reader
        self._deadline.cancel()
        self._drop_body()
        self._server.leave(self)

    def abort(self) -> None:
        """Drop the connection and any unsent bytes."""
        self._transport.abort()

    def _begin_deadline(self) -> None:
        seconds = self._server.bounds.seconds
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _advance(self) -> None:
        """Handle what has arrived, up to the end of a request that takes time to answer."""
        try:
            while not self._transport.is_closing():
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._on_head(event)
                elif isinstance(event, h11.Data):
                    self._on_data(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._on_end()
                elif isinstance(event, h11.ConnectionClosed):
                    self._transport.close()
                else:
                    return
        except h11.RemoteProtocolError:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                self._refuse(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
            self._transport.close()

    def _on_head(self, request: h11.Request) -> None:
        target = request.target.decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path, _, query = target.partition("?")
        head = self._head = Head(request.method.decode("latin-1"), path, headers, query)
        self._server.enter(self)
        try:
            answer = self._server.service.head(head)
        except Exception:
            log.exception("http_fault")  # a probe must get an answer all the same
            answer = self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        if answer is not None:
            self._answer(answer)
        elif int(headers.get("content-length", 0)) > self._server.bounds.body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        elif self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _on_data(self, data: bytes) -> None:
        if self._answered:
            return  # refused: read on until the deadline, or the client may never see the answer
        self._body.append(data)
        self._size += len(data)
        self._server.waiting_bytes += len(data)
        bounds = self._server.bounds
        if self._size > bounds.body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        elif self._server.waiting_bytes > bounds.waiting_bytes:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "too much is being received")

    def _on_end(self) -> None:
        if self._answered:
            self._settle()
            return
        assert self._head is not None
        self._transport.pause_reading()  # nothing behind this request is needed yet
        self._serving = asyncio.get_running_loop().create_task(self._serve(self._head, b"".join(self._body)))

    async def _serve(self, head: Head, body: bytes) -> None:
        try:
            answer = await self._server.service.body(head, body)
        except Exception:
            log.exception("http_fault")
            answer = self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        self._serving = None
        if self._transport.is_closing():
            return
        self._answer(answer)
        self._transport.resume_reading()
        self._advance()

    @property
    def _answered(self) -> bool:
        return self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._answer(self._problem(status, text))

    def _problem(self, status: HTTPStatus, text: str) -> Response:
        return self._server.service.problem(status, text, self._head)

    def _answer(self, answer: Response) -> None:
        self._drop_body()
        self._server.on_answer(answer.status)
        unread = self._http.their_state is not h11.DONE
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body))),
            *answer.headers,
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *([("Connection", "close")] if unread else []),
        ]
        reason = HTTPStatus(answer.status).phrase.encode()
        self._send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        if answer.body and not (self._head and self._head.method == "HEAD"):
            self._send(h11.Data(data=answer.body))
        self._send(h11.EndOfMessage())
        self._settle()

    def _send(self, event: h11.Event) -> None:
        self._transport.write(self._http.send(event) or b"")

    def _settle(self) -> None:
        """After an answer: wait for the next request, for the rest of a refused body, or close."""
        if self._http.their_state is h11.SEND_BODY:
            return
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._head = None
            self._deadline.cancel()
            self._begin_deadline()
        else:
            self._transport.close()

    def _drop_body(self) -> None:
        self._server.waiting_bytes -= self._size
        self._body, self._size = [], 0


def warn_beyond_loopback(section: str, host: str, port: int, remedy: str) -> None:
    """Log that a listening port can be reached from outside; nothing for loopback, or without a remedy."""
    if remedy and not _is_loopback(host):
        log.warning("not_loopback", section=section, host=host, port=port, remedy=remedy)


def cannot_listen(section: str, host: str, port: int, reason: str) -> ConfigError:
    """Return the error of an address of a section's `host` and `port` that cannot be bound."""
    name = section.partition(".")[0]  # parts of a section listen at its host
    return ConfigError(
        f"{name}.host, {section}.port: cannot listen on {host}:{port} ({reason}); "
        "take a free port, or 0 for any"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
