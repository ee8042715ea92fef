"""HTTP servers that keep what they are sent."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it gets, and answers what the test wants."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    reply: ClassVar[dict[str, str]] = {}
    body: ClassVar[bytes] = b"ok"
    got: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    taken: ClassVar[list[str]] = []
    """Idempotency keys of what it took, that is, answered with 2xx."""
    peers: ClassVar[set[object]] = set()

    def do_POST(self) -> None:
        """Answer a POST."""
        content = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.got.append((self.path, headers, content))
        self.peers.add(self.client_address)
        status = self.status
        if status < 300:
            self.taken.append(headers.get("idempotency-key", ""))
        self.send_response(status)
        for name, value in self.reply.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        try:
            self.wfile.write(self.body)
        except (BrokenPipeError, ConnectionResetError):  # the sender may stop reading a long answer
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Keep the test's output clean."""


@contextmanager
def receiver(tls: ssl.SSLContext | None = None, **answer: Any) -> Iterator[tuple[str, type[Receiver]]]:
    """Run a local HTTP server; yield its address and the class that keeps what it got."""
    fresh = {"got": [], "taken": [], "peers": set(), **answer}
    handler: type[Receiver] = type("Handler", (Receiver,), fresh)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class LogsCollector:
    """Keeps what is posted to its `/v1/logs`, and answers with one status."""

    def __init__(self, status: int = 200) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Keep a request."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.headers.append({**dict(self.headers.items()), "path": self.path})
                outer.requests.append(ExportLogsServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def records(self) -> list[Any]:
        """Every log record that came."""
        return [
            record
            for request in self.requests
            for group in request.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def collecting(status: int = 200) -> Iterator[LogsCollector]:
    """Run a collector of log records until the block ends."""
    collector = LogsCollector(status)
    try:
        yield collector
    finally:
        collector.close()
