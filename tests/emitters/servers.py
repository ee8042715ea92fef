"""The two servers that an emitter talks to: models that it calls, and a sink for what it exports."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import fake_models


class Sent(NamedTuple):
    """A request to the sink."""

    path: str
    content_type: str
    body: bytes


class Servers(NamedTuple):
    """Base addresses, what the sink was sent, and the paths of models that were called, each in order."""

    models: str
    sink: str
    sent: list[Sent]
    called: list[str]


@contextmanager
def servers() -> Iterator[Servers]:
    """Serve models and a sink on ports of their own until the block ends."""
    sent: list[Sent] = []
    called: list[str] = []
    with _served(_answer(called)) as models, _served(_keep(sent)) as sink:
        yield Servers(models, sink, sent, called)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        """Return the body, without its encoding."""
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        encoding = self.headers.get("content-encoding")
        return gzip.decompress(body) if encoding == "gzip" else body

    def reply(self, status: int, content_type: str, body: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.reply(HTTPStatus.OK, "application/json", b'{"data": []}')

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _answer(called: list[str]) -> type[_Handler]:
    class Models(_Handler):
        def do_POST(self) -> None:
            answered = fake_models.answer(self.path, json.loads(self.body() or b"{}"))
            if answered is None:
                self.reply(
                    HTTPStatus.NOT_FOUND, "application/json", b'{"error": {"message": "no such path"}}'
                )
                return
            if not self.path.endswith("/embeddings"):
                called.append(self.path)
            self.reply(HTTPStatus.OK, *answered)

    return Models


def _keep(sent: list[Sent]) -> type[_Handler]:
    class Sink(_Handler):
        def do_POST(self) -> None:
            sent.append(Sent(self.path, self.headers.get("content-type", ""), self.body()))
            self.reply(HTTPStatus.OK, self.headers.get("content-type", "application/json"), b"")

    return Sink


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
