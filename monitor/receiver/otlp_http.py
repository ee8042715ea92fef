"""OTLP over HTTP: an SDK or a Collector points straight at riskmon, with no broker between.

Grafana's Agent Observability SDKs may send their generations here too, in JSON, instead of to Grafana.

200 means that the body is on disk in the spool; any other status gives no such promise. Refusals that a
repeat may cure make OTLP clients retry (429 and 503 with Retry-After), the others do not.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from typing_extensions import override

from monitor.config import ReceiverConfig
from monitor.receiver import generations
from monitor.receiver.bodies import ENCODINGS, JSON, PROTOBUF
from monitor.receiver.intake import BodyIntake, most_waiting
from monitor.receiver.refusals import BodyRefused, Refusal, status, too_large
from monitor.web.credentials import Gate, Refused
from monitor.web.routes import Route, Routes
from monitor.web.server import Head, Limits, Response, Server

MAX_CONNECTIONS: Final = 256
REQUEST_SECONDS: Final = 30.0
SHARE: Final = 0.4  # of a core, for all that the thread of this server does
SLOWED: Final = "too many wrong tokens came from this address; try again later"
REMEDY: Final = "set receiver.token, or let only your applications reach it"
PATHS: Final = {
    "/v1/traces": ("traces", frozenset({PROTOBUF, JSON})),
    "/v1/logs": ("logs", frozenset({PROTOBUF, JSON})),
    "/api/v1/generations:export": (generations.SIGNAL, frozenset({JSON})),
}
"""Signals by path, with the content types in which they are taken."""
_PREFACE: Final = ("PRI", "*")  # method and path of the first bytes of HTTP/2, RFC 9113 section 3.4
_STATUS: Final = {
    Refusal.MALFORMED: HTTPStatus.BAD_REQUEST,
    Refusal.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Refusal.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    Refusal.STOPPING: HTTPStatus.SERVICE_UNAVAILABLE,
}


log = structlog.get_logger(__name__)


def gate_of(config: ReceiverConfig, on_refused: Callable[[Refused], None] = lambda _: None) -> Gate | None:
    """Return the gate of all receivers of a configuration; None where it has no token."""
    return Gate("receiver", config.token, on_refused=on_refused) if config.token else None


class Receiver(Server):
    """Serves POST at each of `PATHS`, giving bodies to `intake`, which others may use as well.

    Who shares an `intake` should share the `gate`.

    `on_answer` gets the status of each answer, from the server's thread.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        intake: BodyIntake,
        on_answer: Callable[[int], None] = lambda _: None,
        *,
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self._intake = intake
        self._gate = gate or gate_of(config)
        self._met_grpc = False
        routes = [
            Route("POST", path, serve=partial(self._take, signal), guard=partial(self._refusal, kinds))
            for path, (signal, kinds) in PATHS.items()
        ]
        waiting = most_waiting(config.max_body_bytes)
        super().__init__(
            "receiver",
            config.host,
            config.port,
            Routes(routes, self._problem, f"only {', '.join(PATHS)}"),
            Limits(MAX_CONNECTIONS, REQUEST_SECONDS, config.max_body_bytes, waiting, SHARE),
            remedy="" if config.token else REMEDY,
            on_answer=on_answer,
            allowed_hosts=config.allowed_hosts if config.token is None else ["*"],
        )

    @override
    def stop(self) -> None:
        self._intake.refuse()
        super().stop()

    def _refusal(self, kinds: frozenset[str], head: Head) -> Response | None:
        """Refuse a request for which the head is reason enough."""
        if self._gate is not None:
            seconds = self._gate.refusal(head.headers.get("authorization", ""), head.peer)
            if seconds:
                return self._problem(HTTPStatus.TOO_MANY_REQUESTS, SLOWED, head)
            if seconds is not None:
                return self._problem(HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong", head)
        if _content_type(head) not in kinds:
            text = f"only {' and '.join(sorted(kinds, reverse=True))}"
            return self._problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, head)
        if _encoding(head) not in ENCODINGS:
            text = f"content-encoding must be one of {', '.join(ENCODINGS)}, or none"
            return self._problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, head)
        try:
            self._intake.admit()
        except BodyRefused as refused:
            return self._problem(_STATUS[refused.why], refused.text, head)
        return None

    async def _take(self, signal: str, head: Head, body: bytes) -> Response:
        content_type = _content_type(head)
        try:
            answer = await self._intake.take(signal, content_type, body, _encoding(head))
        except BodyRefused as refused:
            return self._problem(_STATUS[refused.why], refused.text, head)
        return Response(200, answer, content_type)

    def _problem(self, code: HTTPStatus, text: str, head: Head | None) -> Response:
        """Return a `google.rpc.Status` with only its message, in the request's encoding."""
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            text = too_large(self._config.max_body_bytes)
        elif head is not None and (head.method, head.path) == _PREFACE:
            code, text = HTTPStatus.BAD_REQUEST, self._not_grpc()
        later = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
        headers = [
            *([("Retry-After", str(self._config.retry_after_seconds))] if code in later else []),
            *([("WWW-Authenticate", "Bearer")] if code == HTTPStatus.UNAUTHORIZED else []),
        ]
        if head is not None and _content_type(head) == PROTOBUF:
            return Response(code, status(text), PROTOBUF, tuple(headers))
        return Response(code, msgspec.json.encode({"message": text}), JSON, tuple(headers))

    def _not_grpc(self) -> str:
        """Return what to tell a gRPC client; tell it to the operator too, once, as few clients show it."""
        grpc = self._config.grpc
        where = f"port {grpc.port or 4317}" + ("" if grpc.enabled else ", once receiver.grpc.enabled is true")
        remedy = f"this port takes OTLP over HTTP/1.1; send gRPC to {where}, or use http/protobuf"
        if not self._met_grpc:
            self._met_grpc = True
            log.warning("grpc_on_http_port", port=self.port, remedy=remedy)
        return f"this is HTTP/2, as gRPC uses it: {remedy}"


def _content_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def _encoding(head: Head) -> str:
    return head.headers.get("content-encoding", "").strip().lower() or "identity"
