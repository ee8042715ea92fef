"""Metrics and health over HTTP: plain, without authentication, loopback by default. Flags with a token."""

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from time import perf_counter
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from typing_extensions import override

from monitor import __version__
from monitor.console.review import OFF, Review
from monitor.web.routes import Route, Routes
from monitor.web.server import Head, Limits, Response, Server

MAX_CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 10.0
KEPT: Final = 10  # times as long as it takes to write the metrics, for which they are answered again


class Health(Protocol):
    """Health of the daemon. Called from the server's thread; must neither block nor raise."""

    def live(self) -> bool:
        """Return whether the engine's loop turns."""
        ...

    def ready(self) -> Mapping[str, bool]:
        """Return the named conditions of readiness; all of them must hold."""
        ...


class Scrape:
    """Metrics as text. Who asks in a loop gets the same text for `KEPT` times as long as it took to write.

    So however often they are asked for, writing them takes at most a tenth of the time.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        write: Callable[[CollectorRegistry], bytes],
        timer: Callable[[], float] = perf_counter,
    ) -> None:
        self._registry = registry
        self._write = write
        self._timer = timer
        self._text = b""
        self._until = float("-inf")

    def text(self) -> bytes:
        """Return the metrics as they are, or were a moment ago."""
        began = self._timer()
        if began >= self._until:
            self._text = self._write(self._registry)
            end = self._timer()
            self._until = end + KEPT * (end - began)
        return self._text


class HttpServer(Server):
    """Serves `/metrics`, `/livez`, `/readyz`, `/version`, and the aliases `/-/healthy` and `/-/ready`.

    `POST /-/reload` calls `reload`, which must not block; without one it is refused. `review` answers
    `/review` and is closed with the server; without one the answer says how to enable it. `causes` says, in
    words that anyone may read, why conditions fail, where that is known.
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
        review: Review | None = None,
        allowed_hosts: Iterable[str] = (),
        causes: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._scrapes = {
            CONTENT_TYPE_PLAIN_0_0_4: Scrape(registry, generate_latest),
            openmetrics.CONTENT_TYPE_LATEST: Scrape(registry, openmetrics.generate_latest),
        }
        self._health = health
        self._causes = causes
        self._reload = reload
        self._review = review
        routes = [
            Route("GET", "/metrics", self._metrics),
            Route("GET", "/livez", self._livez),
            Route("GET", "/-/healthy", self._livez),
            Route("GET", "/readyz", self._readyz),
            Route("GET", "/-/ready", self._readyz),
            Route("GET", "/version", lambda _head: Response(200, _json(version=__version__))),
            Route("POST", "/-/reload", self._request_reload),
            _review_route(review),
        ]
        super().__init__(
            "http",
            host,
            port,
            Routes(routes, _problem, "no such page"),
            Limits(MAX_CONNECTIONS, request_seconds),
            remedy="allow only your scraper to reach it",
            allowed_hosts=allowed_hosts,
        )

    @override
    def stop(self) -> None:
        if self._review is not None:
            self._review.close()
        super().stop()

    def _metrics(self, head: Head) -> Response:
        wants_open = "application/openmetrics-text" in head.headers.get("accept", "")
        kind = openmetrics.CONTENT_TYPE_LATEST if wants_open else CONTENT_TYPE_PLAIN_0_0_4
        return Response(200, self._scrapes[kind].text(), kind)

    def _livez(self, _head: Head) -> Response:
        live = self._health.live()
        return Response(200 if live else 503, _json(live=live))

    def _readyz(self, _head: Head) -> Response:
        conditions = dict(self._health.ready())
        failing = sorted(name for name, holds in conditions.items() if not holds)
        causes = {name: why for name, why in self._causes().items() if name in failing}
        body = _json(ready=not failing, failing=failing, causes=causes, conditions=conditions)
        return Response(503 if failing else 200, body)

    def _request_reload(self, head: Head) -> Response:
        if self._reload is None:
            return _problem(HTTPStatus.FORBIDDEN, "http.reload is off; send SIGHUP, or set it", head)
        self._reload()
        text = "reload requested; see the log or riskmon_reloads_total for the result"
        return Response(HTTPStatus.ACCEPTED, _json(reload=text))


def _review_route(review: Review | None) -> Route:
    if review is None:
        return Route("GET", "/review", lambda _head: OFF)
    return Route("GET", "/review", serve=lambda head, _body: review.answer(head), guard=review.refusal)


def _problem(status: HTTPStatus, text: str, _head: Head | None) -> Response:
    return Response(status, _json(error=text))


def _json(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"
