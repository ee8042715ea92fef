"""Metrics and health over HTTP: plain, without authentication, loopback by default. Flags with a token."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from monitor import __version__
from monitor.console.review import OFF, Review
from monitor.console.server import Answer, Bounds, Head, Server

MAX_CONNECTIONS: Final = 64
REQUEST_SECONDS: Final = 10.0


class Health(Protocol):
    """What the daemon says of itself. Called from the server's thread; must neither block nor raise."""

    def live(self) -> bool:
        """Whether the engine's loop turns."""
        ...

    def ready(self) -> Mapping[str, bool]:
        """Named conditions, all of which must hold to be ready."""
        ...


class HttpServer(Server):
    """Serves `/metrics`, `/livez`, `/readyz`, `/version`, and the aliases `/-/healthy` and `/-/ready`.

    `POST /-/reload` calls `reload`, which must not block; without one it is refused. `/review` is answered by
    `review`, which is closed with the server; without one it says how to turn it on.
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
    ) -> None:
        bounds = Bounds(MAX_CONNECTIONS, request_seconds)
        self._review = review
        pages = _Pages(registry, health, reload, review)
        super().__init__("http", host, port, pages, bounds, remedy="allow only your scraper to reach it")

    def stop(self) -> None:
        """Answer what was begun, then end. Idempotent."""
        if self._review is not None:
            self._review.close()
        super().stop()


class _Pages:
    """The pages. Each but the review's is answered from the head alone: nothing here can be written to."""

    def __init__(
        self,
        registry: CollectorRegistry,
        health: Health,
        reload: Callable[[], None] | None,
        review: Review | None,
    ) -> None:
        self._reload = reload
        self._review = review
        self._registry = registry
        self._health = health

    def head(self, head: Head) -> Answer | None:
        if head.method not in {"GET", "HEAD"}:
            return self._asked(head)
        if head.path == "/review":
            return self._review.refusal(head) if self._review else OFF
        return self._page(head)

    def _page(self, head: Head) -> Answer:
        match head.path:
            case "/metrics":
                return self._metrics(head.headers.get("accept", ""))
            case "/livez" | "/-/healthy":
                live = self._health.live()
                return Answer(200 if live else 503, _json(live=live))
            case "/readyz" | "/-/ready":
                conditions = dict(self._health.ready())
                failing = sorted(name for name, holds in conditions.items() if not holds)
                body = _json(ready=not failing, failing=failing, conditions=conditions)
                return Answer(503 if failing else 200, body)
            case "/version":
                return Answer(200, _json(version=__version__))
            case _:
                return self.problem(HTTPStatus.NOT_FOUND, "no such page", head)

    async def body(self, head: Head, body: bytes) -> Answer:
        del body  # no page reads one
        assert self._review is not None  # of what `head` has not answered there is only this
        return await self._review.answer(head)

    def problem(self, status: HTTPStatus, text: str, head: Head | None) -> Answer:
        del head
        return Answer(status, _json(error=text))

    def _asked(self, head: Head) -> Answer:
        if (head.method, head.path) != ("POST", "/-/reload"):
            refused = self.problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", head)
            return refused._replace(headers=(("Allow", "GET, HEAD"),))
        if self._reload is None:
            return self.problem(HTTPStatus.FORBIDDEN, "http.reload is off; send SIGHUP, or set it", head)
        self._reload()
        return Answer(
            HTTPStatus.ACCEPTED,
            _json(reload="asked for; the log and riskmon_reloads_total say what came of it"),
        )

    def _metrics(self, accept: str) -> Answer:
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call] # as it ships
            return Answer(200, text, openmetrics.CONTENT_TYPE_LATEST)
        return Answer(200, generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)


def _json(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"
