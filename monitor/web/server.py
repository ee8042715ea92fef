"""An HTTP/1.1 server on its own thread, bounded in connections, bytes and time whatever clients do.

An event loop rather than a thread per connection: a client that hangs holds one small object, each request
has one deadline for everything, and all get a share of a processor's time (`Turns`) from the moment they
connect (`Door`). When too many are open, `Places` closes one. h11 parses (framing, keep-alive, chunks).
"""

import asyncio
import math
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

import h11
import structlog

from monitor.web.door import Door
from monitor.web.hosts import Hosts
from monitor.web.listening import cannot_listen, warn_beyond_loopback
from monitor.web.places import Occupant, Places, Use
from monitor.web.turns import Turns

MAX_HEADER_BYTES: Final = 8 * 1024
_EVENTS: Final = 64  # pieces of bodies that one turn handles, in about a millisecond
_HEAD: Final = 16  # pieces that take as long as a head and its answer
_FEW: Final = 1000  # chunks of a body, whatever they hold
_LEAST: Final = 16  # bytes of each further one on average
JSON: Final = "application/json"

log = structlog.get_logger()


class Head(NamedTuple):
    """A request before its body: method, path and query separate, headers by lower-case name.

    `peer` is the address of the client, or of the proxy before it.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""
    peer: str = ""


class Response(NamedTuple):
    """A whole answer. `headers` are extra headers; the server sets length and connection."""

    status: int
    body: bytes = b""
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Limits(NamedTuple):
    """Limits for clients. `seconds` is the longest a request may take, and a connection may be idle.

    `body_bytes` bounds one body, `waiting_bytes` all those being received and answered together, `share` the
    processor's time for connecting, reading and answering, as a share of one core.
    """

    connections: int = 64
    seconds: float = 10.0
    body_bytes: int = 0
    waiting_bytes: int = 0
    share: float = 0.2


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
    """Serves one `service`. `section` is its part of the configuration; `on_answer` gets each status.

    `allowed_hosts` are names by which it may be asked, besides those that `Hosts` knows.
    """

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
        allowed_hosts: Iterable[str] = (),
    ) -> None:
        self.service = service
        self.bounds = bounds
        self.on_answer = on_answer
        self.waiting_bytes = 0
        self._section = section
        self._address = (host, port)
        self._remedy = remedy
        self._loop = asyncio.new_event_loop()
        self.turns = Turns(self._loop, bounds.share)
        self.hosts = Hosts(section, host, allowed_hosts)
        self.places: Places[Occupant] = Places(bounds.connections, self._loop.time)
        self._doors: list[Door] = []
        self._opening: dict[asyncio.Task[Any], Occupant] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"riskmon-{section}", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on; known after `start`, and still after `stop`."""
        return self._address[1]

    def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be bound."""
        host, port = self._address
        self._thread.start()
        self.hosts.learn()
        try:
            opened = asyncio.run_coroutine_threadsafe(self._open(host, port), self._loop).result()
        except OSError as error:
            self.stop()
            reason = error.strerror or type(error).__name__
            raise cannot_listen(self._section, host, port, reason) from None
        self._address = (host, opened)
        warn_beyond_loopback(self._section, host, self.port, self._remedy)

    def stop(self) -> None:
        """Let requests being served finish, close every connection and end the thread. Idempotent."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _open(self, host: str, port: int) -> int:
        """Listen; return the port."""
        server = await self._loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        for bound in server.sockets:  # each address of a name has one
            door = Door(bound.dup(), self.turns, self.places, self.bounds.seconds, self._admit)
            self._doors.append(door)
        opened = int(server.sockets[0].getsockname()[1])
        server.close()
        return opened

    def _admit(self, bare: socket.socket, address: str, visitor: Occupant) -> None:
        accepted = self._loop.connect_accepted_socket(partial(_Connection, self, address, visitor), bare)
        opening = self._loop.create_task(accepted)
        self._opening[opening] = visitor  # or the loop might lose it
        opening.add_done_callback(lambda done: self.places.leave(self._opening.pop(done)))

    async def _close(self) -> None:
        for door in self._doors:
            door.close()
        # A connection that is being let in would be leaked: let it open, then close it.
        await self._settled()
        for one in list(self.places):
            one.abort()
        await self._settled()
        await asyncio.sleep(0)

    async def _settled(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*others, return_exceptions=True)


class _Connection(asyncio.Protocol):
    """Requests of one client, one after another."""

    def __init__(self, server: Server, address: str, visitor: Occupant) -> None:
        self._visitor, self.peer = visitor, visitor.peer
        self._server = server
        self._address = address
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._head: Head | None = None
        self._body = bytearray()
        self._size = self._chunks = 0
        self._begun = 0.0  # when the request in hand was, by the loop's clock
        self._lingering = self._waits = False
        self._greedy = 0  # turns after which there was more to do
        self._serving: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the open connections."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.places.leave(self._visitor)
        self._server.places.enter(self)
        self._begin_deadline()

    def data_received(self, data: bytes) -> None:
        """Take received bytes."""
        if not self._lingering:
            self._http.receive_data(data)
        self._ask()

    def eof_received(self) -> bool:
        """The client sends no more; it may still be waiting for an answer."""
        if self._lingering:
            return False
        self._http.receive_data(b"")
        return self._ask() or self._serving is not None

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        del error  # the peer is gone, so the error has no reader
        self._deadline.cancel()
        self._drop_body()
        self._server.turns.leave(self)
        self._server.places.leave(self)

    def abort(self) -> None:
        """Drop the connection and any unsent bytes."""
        self._transport.abort()

    def pace(self, now: float) -> float:
        """Return the bytes a second of the body in hand.

        While the connection waits for a turn nobody can blame the client: for ever more, unless it has often
        sent more than a turn can handle; then less than nothing.
        """
        if self._greedy > 1:
            return -self._greedy
        return math.inf if self._waits else self._size / (now - self._begun + 1.0)

    def take(self) -> bool:
        """Handle what has arrived: a turn of it, up to the end of a request that takes time to answer."""
        more = self._advance()
        self._greedy += more
        if not more and self._serving is None:
            self._waits = False
            is_amid = self._head is not None and not self._lingering
            self._server.places.use(self, Use.AMID if is_amid else Use.IDLE)
            self._transport.resume_reading()
        return more

    def _ask(self) -> bool:
        """Ask for a turn; return whether the connection has to wait for it."""
        self._waits = self._server.turns.ask(self)
        if self._waits:
            self._server.places.use(self, Use.AMID)
            self._transport.pause_reading()
        return self._waits

    def _begin_deadline(self) -> None:
        seconds = self._server.bounds.seconds
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _advance(self) -> bool:
        """Return whether there is more to handle."""
        try:
            left = _EVENTS
            while left > 0:
                if self._lingering or self._transport.is_closing():
                    return False
                left -= 1
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    left -= _HEAD
                    self._on_head(event)
                elif isinstance(event, h11.Data):
                    self._on_data(event)
                elif isinstance(event, h11.EndOfMessage):
                    self._on_end()
                elif isinstance(event, h11.ConnectionClosed):
                    self._transport.close()
                else:
                    return False
        except h11.RemoteProtocolError:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                self._refuse(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")
            self._transport.close()
            return False
        return True

    def _on_head(self, request: h11.Request) -> None:
        target = request.target.decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path, _, query = target.partition("?")
        head = self._head = Head(request.method.decode("latin-1"), path, headers, query, self._address)
        self._begun = asyncio.get_running_loop().time()
        length = int(headers.get("content-length", 0))
        is_whole = not length and "transfer-encoding" not in headers
        if is_whole:
            self._http.next_event()  # its end, so that the connection can be kept
        answer = self._from_head(head)
        if answer is not None:
            self._answer(answer)
        elif is_whole:
            self._on_end()
        elif length > self._server.bounds.body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        elif self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _from_head(self, head: Head) -> Response | None:
        refusal = self._server.hosts.refusal(head.method, head.headers)
        if refusal is not None:
            return self._problem(*refusal)
        try:
            return self._server.service.head(head)
        except Exception:
            log.exception("http_fault")  # a probe must get an answer all the same
            return self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")

    def _on_data(self, event: h11.Data) -> None:
        self._body += event.data
        self._size += len(event.data)
        self._chunks += event.chunk_end
        self._server.waiting_bytes += len(event.data)
        bounds = self._server.bounds
        if self._size > bounds.body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        elif self._server.waiting_bytes > bounds.waiting_bytes:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "too much is being received")
        elif self._chunks > _FEW + self._size // _LEAST:
            text = f"chunks of less than {_LEAST} bytes on average: let the client buffer what it sends"
            self._refuse(HTTPStatus.BAD_REQUEST, text)

    def _on_end(self) -> None:
        assert self._head is not None
        self._server.places.use(self, Use.OURS)
        self._transport.pause_reading()  # nothing behind this request is needed yet
        body, self._body = bytes(self._body), bytearray()
        self._serving = asyncio.get_running_loop().create_task(self._serve(self._head, body))

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
        self._ask()

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
        """After an answer: wait for the next request, or close.

        A client that is still sending may see the answer only when it has been read on for a while.
        """
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._head = None
            self._deadline.cancel()
            self._begin_deadline()
        elif self._http.their_state is h11.SEND_BODY:
            self._lingering = True  # until the deadline; nothing is parsed any more
            self._transport.write_eof()
        else:
            self._transport.close()

    def _drop_body(self) -> None:
        self._server.waiting_bytes -= self._size
        self._body, self._size, self._chunks = bytearray(), 0, 0
