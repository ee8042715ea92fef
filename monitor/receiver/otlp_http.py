"""OTLP over HTTP: an SDK or a Collector points straight at riskmon, with no broker between.

200 means that the body is on disk in the spool; any other status gives no such promise. Refusals that a
repeat may cure make OTLP clients retry (429 and 503 with Retry-After), the others do not. gRPC is not
supported: SDKs default to `http/protobuf`, a Collector has an `otlphttp` exporter.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
from typing_extensions import override

from monitor.clock import Clock
from monitor.config import ReceiverConfig
from monitor.receiver.intake import (
    JSON,
    PROTOBUF,
    WAITING_BODIES,
    BodyIntake,
    BodyRefused,
    Refusal,
    SpoolWriter,
)
from monitor.web import credentials
from monitor.web.routes import Route, Routes
from monitor.web.server import Head, Limits, Response, Server

MAX_CONNECTIONS: Final = 256
REQUEST_SECONDS: Final = 30.0
_STATUS: Final = {
    Refusal.MALFORMED: HTTPStatus.BAD_REQUEST,
    Refusal.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Refusal.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    Refusal.STOPPING: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Receiver(Server):
    """Serves `POST /v1/traces` and `/v1/logs`, writing to `spool`, each signal to its topic of `topics`.

    `on_answer` gets the status of each answer, from the server's thread.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        spool: SpoolWriter,
        topics: Mapping[str, str],
        clock: Clock,
        on_answer: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._intake = BodyIntake(config, spool, topics, clock)
        routes = [
            Route("POST", f"/v1/{signal}", serve=partial(self._take, signal), guard=self._refusal)
            for signal in ("traces", "logs")
        ]
        waiting = WAITING_BODIES * config.max_body_bytes
        super().__init__(
            "receiver",
            config.host,
            config.port,
            Routes(routes, self._problem, "only /v1/traces and /v1/logs"),
            Limits(MAX_CONNECTIONS, REQUEST_SECONDS, config.max_body_bytes, waiting),
            remedy="" if config.token else "set receiver.token, or let only your applications reach it",
            on_answer=on_answer,
        )

    @property
    def accepting(self) -> bool:
        """Return whether the latest bodies were accepted."""
        return self._intake.accepting

    def refuse(self) -> None:
        """Answer 503 from now on: the daemon stops, and new bodies would wait for its return."""
        self._intake.stopping = True

    @override
    def stop(self) -> None:
        self.refuse()
        super().stop()
        self._intake.close()

    def _refusal(self, head: Head) -> Response | None:
        """Refuse a request for which the head is reason enough."""
        token = self._config.token
        if token is not None and not credentials.holds(head, token.get_secret_value().encode()):
            return self._problem(HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong", head)
        if _content_type(head) not in {PROTOBUF, JSON}:
            return self._problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"only {PROTOBUF} and {JSON}", head)
        if head.headers.get("content-encoding", "identity") not in {"identity", "gzip"}:
            text = "only gzip or no content-encoding"
            return self._problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, head)
        try:
            self._intake.admit()
        except BodyRefused as refused:
            return self._problem(_STATUS[refused.why], refused.text, head)
        return None

    async def _take(self, signal: str, head: Head, body: bytes) -> Response:
        content_type = _content_type(head)
        gzipped = head.headers.get("content-encoding") == "gzip"
        try:
            await self._intake.take(signal, content_type, body, gzipped=gzipped)
        except BodyRefused as refused:
            return self._problem(_STATUS[refused.why], refused.text, head)
        return Response(200, b"{}" if content_type == JSON else b"", content_type)

    def _problem(self, status: HTTPStatus, text: str, head: Head | None) -> Response:
        """Return a `google.rpc.Status` with only its message, in the request's encoding."""
        later = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
        headers = [
            *([("Retry-After", str(self._config.retry_after_seconds))] if status in later else []),
            *([("WWW-Authenticate", "Bearer")] if status == HTTPStatus.UNAUTHORIZED else []),
        ]
        if head is not None and _content_type(head) == PROTOBUF:
            return Response(status, b"\x12" + bytes([len(text)]) + text.encode(), PROTOBUF, tuple(headers))
        return Response(status, msgspec.json.encode({"message": text}), JSON, tuple(headers))


def _content_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()
