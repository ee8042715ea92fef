"""The servers that an emitter talks to: models that it calls, and sinks for what it exports."""

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, NamedTuple

import fake_models
import grpc
from http_served import served

from monitor.receiver import generations

GENERATIONS_HTTP: Final = "/api/v1/generations:export"
GENERATIONS_GRPC: Final = "/agento11y.v1.GenerationIngestService/ExportGenerations"


class Sent(NamedTuple):
    """A request to the sink."""

    path: str
    content_type: str
    body: bytes


class Servers(NamedTuple):
    """Addresses, what the sinks were sent, and the paths of models that were called, each in order."""

    models: str
    sink: str
    grpc: str
    sent: list[Sent]
    called: list[str]


@contextmanager
def servers() -> Iterator[Servers]:
    """Serve models and a sink on ports of their own until the block ends."""
    sent: list[Sent] = []
    called: list[str] = []
    with served(_answer(called)) as models, served(_keep(sent)) as sink, _served_grpc(sent) as calls:
        yield Servers(models, sink, calls, sent, called)


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
            body = self.body()
            sent.append(Sent(self.path, self.headers.get("content-type", ""), body))
            answer = generations.answer(body, as_json=True) if self.path == GENERATIONS_HTTP else b""
            self.reply(HTTPStatus.OK, self.headers.get("content-type", "application/json"), answer)

    return Sink


@contextmanager
def _served_grpc(sent: list[Sent]) -> Iterator[str]:
    def keep(body: bytes, _: Any) -> bytes:
        sent.append(Sent(GENERATIONS_GRPC, "application/grpc", body))
        return generations.answer(body, as_json=False)

    _, service, method = GENERATIONS_GRPC.split("/")
    export = grpc.unary_unary_rpc_method_handler(keep)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: export}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
