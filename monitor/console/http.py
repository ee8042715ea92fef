"""Metrics and health over HTTP, on a thread of its own.

An asyncio server rather than a thread per connection: a scrape that hangs holds one small object, each
connection has one deadline for everything, and when too many are open the oldest gives way, so that a
health probe is answered whatever a scraper does. Plain HTTP without authentication; loopback by default.
"""

import asyncio
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from monitor import __version__
from monitor.errors import ConfigError

MAX_HEADER_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 10.0

_JSON: Final = "application/json"
_NOT_ALLOWED: Final = 405
_REASONS: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    _NOT_ALLOWED: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_REQUEST: Final = re.compile(r"([A-Z]{1,16}) ([^ ?]{1,256})(?:\?[^ ]*)? HTTP/1\.[01]")

log = structlog.get_logger()


class Health(Protocol):
    """What the daemon says of itself. Called from the server's thread; must neither block nor raise."""

    def live(self) -> bool:
        """Whether the engine's loop turns."""
        ...

    def ready(self) -> Mapping[str, bool]:
        """Named conditions, all of which must hold to be ready."""
        ...


class HttpServer:
    """Serves `/metrics`, `/livez`, `/readyz`, `/version`, and the aliases `/-/healthy` and `/-/ready`.

    `POST /-/reload` calls `reload`, which must not block; without one it is refused.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Health,
        request_seconds: float = REQUEST_SECONDS,
        *,
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._reload = reload
        self._address = (host, port)
        self._registry = registry
        self._health = health
        self.request_seconds = request_seconds
        self._loop = asyncio.new_event_loop()
        self._open: dict[_Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="riskmon-http", daemon=True)

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
            raise ConfigError(
                f"http.host, http.port: cannot listen on {host}:{port} "
                f"({error.strerror or type(error).__name__}); take a free port, or 0 for any"
            ) from None
        self._address = (host, int(self._server.sockets[0].getsockname()[1]))
        if not _is_loopback(host):
            log.warning(
                "http_not_loopback", host=host, port=self.port, remedy="allow only your scraper to reach it"
            )

    def stop(self) -> None:
        """Close every connection and end the thread. Idempotent."""
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
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        server.close()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    def _respond(self, head: bytes) -> bytes:
        """The whole answer to a request head; an empty one stands for a head that is too large."""
        try:
            method, status, kind, body = self._answer(head.decode("latin-1"))
        except Exception:
            log.exception("http_fault")  # a probe must get an answer all the same
            method, status, kind, body = "GET", 500, _JSON, _json(error="internal error")
        fields = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *(["Allow: GET, HEAD"] if status == _NOT_ALLOWED else []),
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ]
        return ("\r\n".join(fields) + "\r\n\r\n").encode("latin-1") + (b"" if method == "HEAD" else body)

    def _answer(self, head: str) -> tuple[str, int, str, bytes]:
        """Answer a request head with (method, status, content type, body)."""
        request, *headers = head.split("\r\n")
        found = _REQUEST.fullmatch(request)
        if found is None:
            return "GET", 400, _JSON, _json(error="not an HTTP/1 request")
        method, path = found.groups()
        if (method, path) == ("POST", "/-/reload"):
            return method, *self._asked_to_reload()
        if method not in ("GET", "HEAD"):
            return method, _NOT_ALLOWED, _JSON, _json(error="only GET and HEAD")
        return method, *self._page(path, headers)

    def _page(self, path: str, headers: list[str]) -> tuple[int, str, bytes]:
        match path:
            case "/metrics":
                return self._metrics(_header(headers, "accept"))
            case "/livez" | "/-/healthy":
                live = self._health.live()
                return 200 if live else 503, _JSON, _json(live=live)
            case "/readyz" | "/-/ready":
                conditions = dict(self._health.ready())
                failing = sorted(name for name, holds in conditions.items() if not holds)
                body = _json(ready=not failing, failing=failing, conditions=conditions)
                return 503 if failing else 200, _JSON, body
            case "/version":
                return 200, _JSON, _json(version=__version__)
            case _:
                return 404, _JSON, _json(error="no such page")

    def _asked_to_reload(self) -> tuple[int, str, bytes]:
        if self._reload is None:
            return 403, _JSON, _json(error="http.reload is off; send SIGHUP, or set it")
        self._reload()
        return 202, _JSON, _json(reload="asked for; the log and riskmon_reloads_total say what came of it")

    def _metrics(self, accept: str) -> tuple[int, str, bytes]:
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call] # as it ships
            return 200, openmetrics.CONTENT_TYPE_LATEST, text
        return 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)


class _Connection(asyncio.Protocol):
    """One request and its answer, with one deadline for both."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the open connections, the oldest's if there is none left."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        others = self._server._open  # noqa: SLF001 - the two classes are one server
        if len(others) >= MAX_CONNECTIONS:
            oldest = next(iter(others))
            del others[oldest]
            oldest.abort()
        others[self] = None
        self._deadline = asyncio.get_running_loop().call_later(self._server.request_seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        """Answer once the head is complete, or too long to be one."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_HEADER_BYTES:
            return
        complete = 0 <= end <= MAX_HEADER_BYTES
        self._transport.write(self._server._respond(self._head[:end] if complete else b""))  # noqa: SLF001 - see above
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Give the place back."""
        del error  # the peer is gone: there is nobody to tell
        self._deadline.cancel()
        self._server._open.pop(self, None)  # noqa: SLF001 - see above

    def abort(self) -> None:
        """Drop the connection with whatever is unsent."""
        self._transport.abort()


def _header(headers: list[str], name: str) -> str:
    for header in headers:
        key, _, value = header.partition(":")
        if key.strip().lower() == name:
            return value
    return ""


def _json(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
