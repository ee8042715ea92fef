"""The server: work, places and bytes are bounded, and who sends in earnest is served all the same."""

import asyncio
import http.client
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE, eventually

from monitor.web.server import Head, Limits, Response, Server

CONNECTIONS = 32
BODY = 200_000
SHARE = 0.2


class Echo:
    """Answers a POST with the length of its body, once the gate is open; other methods by the head alone."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    def head(self, head: Head) -> Response | None:
        """Ask for the body of a POST."""
        return None if head.method == "POST" else Response(200, b"head")

    async def body(self, head: Head, body: bytes) -> Response:
        """Answer."""
        del head
        await self.gate.wait()
        return Response(200, str(len(body)).encode())

    def problem(self, status: HTTPStatus, text: str, head: Head | None) -> Response:
        """As plain text."""
        del head
        return Response(status, text.encode())


@contextmanager
def running(seconds: float = 60.0) -> Iterator[Server]:
    """A server that is stopped in the end."""
    bounds = Limits(CONNECTIONS, seconds, BODY, 4 * BODY, SHARE)
    server = Server("test", "127.0.0.1", 0, Echo(), bounds, remedy="")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with running() as made:
        yield made


def connect(server: Server, peer: str = "127.0.0.1") -> socket.socket:
    """A connection from a peer's address."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE, source_address=(peer, 0))


def begin(length: int | None = BODY) -> bytes:
    """The head of a POST, chunked without a length."""
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST / HTTP/1.1\r\nHost: x\r\n{how}\r\n\r\n".encode()


def chunked(size: int, count: int) -> bytes:
    """A body in chunks of this size."""
    return (b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n"


def answer_on(peer: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer on a connection."""
    with http.client.HTTPResponse(peer) as answer:
        answer.begin()
        return answer.status, answer.read()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 7, 15, 16, 17, 64, 1000]), st.integers(1, 3000))
def test_a_body_of_tiny_chunks_is_refused(size: int, count: int) -> None:
    """A thousand chunks may be of any size, all others must hold 16 bytes on average."""
    count = min(count, BODY // size)
    with running() as server, connect(server) as peer:
        peer.sendall(begin(None) + chunked(size, count))
        status, text = answer_on(peer)
    if count > 1000 + size * count // 16:
        assert status == 400
        assert b"chunks" in text
    else:
        assert (status, text) == (200, str(size * count).encode())


@pytest.mark.parametrize(
    "head",
    [
        begin(10**9),
        begin(None) + chunked(1, 2000),
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x.example.org\r\nContent-Length: 1000000\r\n\r\n",
    ],
)
def test_what_was_answered_is_not_parsed_on(server: Server, head: bytes) -> None:
    """Who is answered amid a body gets the answer and the end at once, whatever is sent from then on."""
    with connect(server) as peer:
        peer.sendall(head)
        with peer.makefile("rb") as stream:
            text = stream.read()  # to the end: long before the deadline
        assert text.startswith(b"HTTP/1.1 ")
        assert b"connection: close" in text.lower()
        for _ in range(20):
            peer.sendall(b"no chunk at all\r\n" * 1000)
    with connect(server) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_on(peer) == (200, b"head")


def test_a_large_refused_body_can_be_sent_to_its_end(server: Server) -> None:
    """A client that reads only once it has sent all gets its answer."""
    with connect(server) as peer:
        peer.sendall(begin(50 * BODY))
        for _ in range(50):
            peer.sendall(b"x" * BODY)
        assert answer_on(peer)[0] == 413


def test_a_connection_is_kept_after_a_request_without_a_body(server: Server) -> None:
    """Scrapes and probes need not connect each time."""
    with connect(server) as peer:
        for _ in range(3):
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(peer) == (200, b"head")
            peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(peer) == (200, b"0")


def upload(server: Server, amid: Callable[[], None]) -> tuple[int, bytes]:
    """Send a body in ten pieces, with something else before each."""
    with connect(server) as peer:
        peer.sendall(begin())
        for _ in range(10):
            amid()
            peer.sendall(b"x" * (BODY // 10))
        return answer_on(peer)


def test_an_upload_survives_a_flood_of_idle_connections(server: Server) -> None:
    """However many connect and say nothing, what is being sent arrives, and places stay bounded."""
    with ExitStack() as others:

        def flood() -> None:
            for _ in range(3 * CONNECTIONS):
                others.enter_context(connect(server))
            assert len(server.places) <= CONNECTIONS

        assert upload(server, flood) == (200, str(BODY).encode())


@pytest.mark.parametrize("start", [begin(), begin() + b"x", begin(None) + b"1\r\nx\r\n", b"POST / HT"])
def test_an_upload_survives_a_flood_of_slow_ones(server: Server, start: bytes) -> None:
    """Those that begin and then hang make room for new ones; a probe is answered among them."""
    with ExitStack() as others:

        def flood() -> None:
            for _ in range(2 * CONNECTIONS):
                others.enter_context(connect(server)).sendall(start)
            with connect(server) as probe:
                probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer_on(probe)[0] == 200

        first = BODY // 10
        with connect(server) as peer:
            peer.sendall(begin() + b"x" * first)
            eventually(lambda: server.waiting_bytes >= first, "the first piece to arrive")
            for _ in range(9):
                flood()
                peer.sendall(b"x" * first)
            assert answer_on(peer) == (200, str(BODY).encode())


def test_nothing_that_is_being_answered_is_dropped(server: Server) -> None:
    """With a whole request in every place a new connection is closed, and each of them gets its answer.

    One peer alone cannot fill them: even then an eighth is for others.
    """
    assert isinstance(server.service, Echo)
    server.service.gate.clear()
    with ExitStack() as all_of_them:

        def ask(peer: str, count: int) -> list[socket.socket]:
            made = [all_of_them.enter_context(connect(server, peer)) for _ in range(count)]
            for one in made:
                one.sendall(begin(1) + b"x")
            return made

        def serving() -> int:
            return sum(getattr(one, "_serving", None) is not None for one in list(server.places))

        most_of_one = CONNECTIONS * 7 // 8
        peers = ask("127.0.0.2", most_of_one)
        eventually(lambda: serving() == most_of_one, "all of the first peer")
        (late,) = ask("127.0.0.2", 1)
        assert is_closed(late)
        peers += ask("127.0.0.3", CONNECTIONS - most_of_one)
        eventually(lambda: serving() == CONNECTIONS, "all")
        (late,) = ask("127.0.0.4", 1)
        assert is_closed(late)
        server._loop.call_soon_threadsafe(server.service.gate.set)
        assert [answer_on(peer) for peer in peers] == [(200, b"1")] * CONNECTIONS


def is_closed(peer: socket.socket) -> bool:
    """Whether the server ends a connection without an answer."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def cpu_of(server: Server) -> float:
    """The processor time of a server's thread, in seconds."""
    assert server._thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(server._thread.ident))


ATTACKS = {
    "tiny chunks": (begin(None) + chunked(1, 500)) * 2,
    "refused": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(1, 5000),
    "requests": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
    "unknown host": b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n" * 100,
    "one request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a request": b"GET",
    "nothing": b"",
}


@pytest.mark.alone
@pytest.mark.parametrize("held", [0, 100])
@pytest.mark.parametrize("name", ATTACKS)
def test_no_peer_takes_more_than_the_share(server: Server, name: str, held: int) -> None:
    """Whatever a few send on as many connections as they can, closed or left: the thread works for its share.

    Meanwhile the probe of another peer is answered, each time and soon.
    """
    stopping = threading.Event()

    def attack() -> None:
        kept: deque[socket.socket] = deque()
        while not stopping.is_set():
            with suppress(OSError):
                peer = connect(server, "127.0.0.2")
                kept.append(peer)
                peer.settimeout(0.2)
                peer.sendall(ATTACKS[name])
            while len(kept) > held:
                kept.popleft().close()
        for peer in kept:
            peer.close()

    threads = [threading.Thread(target=attack) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.3)  # the burst is over
        began, worked = time.monotonic(), cpu_of(server)
        answered = []
        while time.monotonic() < began + 1.5:
            asked = time.monotonic()
            with connect(server) as probe:
                probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer_on(probe)[0] == 200
            answered.append(time.monotonic() - asked)
            time.sleep(0.05)
        share = (cpu_of(server) - worked) / (time.monotonic() - began)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert share < 1.5 * SHARE
    assert max(answered) < 2.0  # the kernel sends a SYN again after one
