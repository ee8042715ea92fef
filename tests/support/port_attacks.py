"""What a peer may do to the HTTP ports, as fast as it can, each in a process of its own."""

import contextlib
import http.client
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

CHUNK: Final = b"1\r\n0\r\n"
TRACES: Final = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
_TIMEOUT: Final = 20.0


def chunks_at_metrics(http_port: int, _: int) -> None:
    """A body of chunks of one byte for a page that takes none."""
    _send(
        http_port, b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK * 10_000
    )


def chunks_at_receiver(_: int, receiver_port: int) -> None:
    """The same for the receiver."""
    _send(receiver_port, f"{TRACES}Transfer-Encoding: chunked\r\n\r\n".encode(), CHUNK * 10_000)


def scrapes(http_port: int, _: int) -> None:
    """Metrics, asked for again at once."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=_TIMEOUT)
            try:
                while True:
                    connection.request("GET", "/metrics")
                    connection.getresponse().read()
            finally:
                connection.close()


def refused(_: int, receiver_port: int) -> None:
    """Requests that the receiver refuses by their head, many in each segment."""
    _send(receiver_port, b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500)


def idlers(_: int, receiver_port: int) -> None:
    """Three hundred connections a second that say nothing."""
    for _made in _connections(receiver_port, 300):
        time.sleep(1 / 300)


def opened_and_closed(http_port: int, _: int) -> None:
    """Connections that say nothing, as many as go."""
    for _made in _connections(http_port, 0):
        pass


def opened_and_left(http_port: int, _: int) -> None:
    """The same, each open for a while."""
    for _made in _connections(http_port, 300):
        pass


def half_requests(http_port: int, _: int) -> None:
    """Connections that begin a request, as many as go."""
    for peer in _connections(http_port, 300):
        with contextlib.suppress(OSError):
            peer.sendall(b"GET /metrics")


Attack = Callable[[int, int], None]
"""Goes on until it is ended; takes the ports of metrics and of the receiver."""
ATTACKS: Final[Mapping[str, Attack]] = {
    each.__name__: each
    for each in (
        chunks_at_metrics,
        chunks_at_receiver,
        scrapes,
        refused,
        idlers,
        opened_and_closed,
        opened_and_left,
        half_requests,
    )
}


@contextmanager
def attacked(name: str, http_port: int, receiver_port: int) -> Iterator[None]:
    """Attack while the block runs."""
    process = multiprocessing.get_context("spawn").Process(
        target=ATTACKS[name], args=(http_port, receiver_port), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _send(port: int, head: bytes, more: bytes) -> None:
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as peer,
        ):
            peer.sendall(head)
            while True:
                peer.sendall(more)


def _connections(port: int, held: int) -> Iterator[socket.socket]:
    """Open connections without end; close each once so many have followed it."""
    open_ones: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            open_ones.append(
                socket.create_connection(
                    ("127.0.0.1", port), timeout=_TIMEOUT, source_address=("127.0.0.2", 0)
                )
            )
            yield open_ones[-1]
        while len(open_ones) > held:
            open_ones.pop(0).close()
