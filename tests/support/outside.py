"""The outside world as far as a daemon sends something to it: one HTTP server that keeps all it gets."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Sink:
    """Everything that an HTTP server of the outside was sent, by path: headers and body."""

    got: dict[str, list[bytes]] = field(default_factory=dict)
    url: str = ""

    def bytes(self, path: str) -> bytes:
        """All that came to a path."""
        return b"\n".join(self.got.get(path, []))


@contextmanager
def sink() -> Iterator[Sink]:
    """Run an Alertmanager, a webhook and an OTLP collector, as far as they take what they are sent."""
    seen = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            seen.got.setdefault(self.path, []).append(str(self.headers).encode() + body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
