"""Entries of Kong's `kafka-log` plugin for requests that its AI proxy served, one per record.

Sources: developer.konghq.com, "Kafka Log" and "AI Gateway audit log reference", and Kong's
`kong/llm/plugin/shared-filters/serialize-analytics.lua`. Older gateways have the statistics under the name of
each plugin (`ai.ai-proxy`) and count `prompt_token`, newer ones under `ai.proxy` and count `prompt_tokens`.
Texts are logged only with `logging.log_payloads`: bodies in the format of the client, which with `llm_format`
is the provider's own.
"""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.ingest.bodies import (
    Answer,
    Body,
    Prompt,
    Request,
    answer_to,
    exchange_fields,
    failed_answer,
    is_exchange,
    lost_label,
    prompt_of,
)
from monitor.ingest.fields import Parse, convert, event_id, labels_of, one_object, unix_seconds
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import Markers
from monitor.ingest.unused import Shapes
from monitor.trace import Record, Trace, Usage

_PROXIES = ("proxy", "ai-proxy", "ai-proxy-advanced")
_FIRST_FAILURE = 400  # HTTP status codes from here on are errors
_NO_EXCHANGE = frozenset({
    "embeddings", "images", "generations", "edits", "files", "batches", "transcriptions", "translations",
    "speech", "rerank", "video", "assistants",
})  # fmt: skip
"""Last parts of the types of routes whose answers are no text of a model."""
_UNKNOWN = "UNSPECIFIED"
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]
_Milliseconds = Annotated[float, Meta(ge=0)]


class Bodies(msgspec.Struct, gc=False):
    """Bodies of request and response, JSON in strings as a rule."""

    request: Any = None
    response: Any = None


class Target(msgspec.Struct, gc=False):
    """Provider and model that the request went to."""

    provider_name: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    request_mode: str | None = None
    llm_latency: _Milliseconds | None = None


class Counts(msgspec.Struct, gc=False):
    """Tokens and cost."""

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    prompt_token: _Tokens | None = None
    completion_token: _Tokens | None = None
    cost: float | None = None


class Cache(msgspec.Struct, gc=False):
    """State of the cache for this request."""

    cache_status: str | None = None


class Tried(msgspec.Struct, gc=False):
    """A target that was tried."""

    route_type: str | None = None


class Proxy(msgspec.Struct, gc=False):
    """Statistics of the AI proxy."""

    meta: Target | None = None
    usage: Counts | None = None
    payload: Bodies | None = None
    cache: Cache | None = None
    tried_targets: tuple[Tried, ...] | None = None


class KongName(msgspec.Struct, gc=False):
    """A consumer, service or route."""

    username: str | None = None
    name: str | None = None


class HttpRequest(msgspec.Struct, gc=False):
    """The client's request."""

    id: str | None = None


class HttpResponse(msgspec.Struct, gc=False):
    """The response to the client."""

    status: int | None = None


class Latencies(msgspec.Struct, gc=False):
    """Milliseconds."""

    request: _Milliseconds | None = None


class KongEntry(msgspec.Struct, gc=False):
    """The fields read from an entry."""

    ai: dict[str, Any] | None = None
    started_at: float | None = None
    request: HttpRequest | None = None
    response: HttpResponse | None = None
    latencies: Latencies | None = None
    consumer: KongName | None = None
    service: KongName | None = None
    route: KongName | None = None
    workspace_name: str | None = None
    trace_id: dict[str, Any] | str | None = None


SHAPES: Shapes = {
    "": KongEntry,
    "ai.payload": Bodies,
    "ai.payload.request": Request,
    **{f"ai.{name}": Proxy for name in _PROXIES},
    **{f"ai.{name}.payload.request": Request for name in _PROXIES},
    **{f"ai.{name}.payload.response": Body for name in _PROXIES},
}


def decode(record: Record, parse: Parse, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return the entry's trace; none for a request that no AI proxy served, nor for embeddings and the like.

    Without logged payloads the trace has no texts and is blind, unless it failed. The application is the
    consumer, else the service, else the route. Raises BadTrace: wrong_type, missing_field, out_of_range, and
    what `parse` raises.
    """
    value = record.value or b""
    lost: list[Lost] = []
    entry = convert(one_object(parse(value)), KongEntry, lost, strict={"ai"})
    ai = entry.ai or {}
    name = next((name for name in _PROXIES if isinstance(ai.get(name), dict)), None)
    if name is None:
        return ()
    proxy = convert(ai[name], Proxy, lost, f"ai.{name}")
    shared = ai.get("payload")
    bodies = convert(shared, Bodies, lost, "ai.payload") if isinstance(shared, dict) else Bodies()
    meta, usage, own = proxy.meta or Target(), proxy.usage or Counts(), proxy.payload or Bodies()
    if _is_no_exchange(proxy) or not is_exchange(own.response, parse):
        return ()
    asked, where = (own.request, f"ai.{name}.payload") if own.request else (bodies.request, "ai.payload")
    prompt = prompt_of(asked, f"{where}.request", parse) if asked else Prompt()
    failed = entry.response is not None and (entry.response.status or 0) >= _FIRST_FAILURE
    at = f"ai.{name}.payload.response"
    if failed:
        answer = failed_answer(own.response, at, parse)
    else:
        answer = answer_to(prompt, own.response, at, parse) if own.response else Answer()
    tokens = (
        usage.prompt_token if usage.prompt_tokens is None else usage.prompt_tokens,
        usage.completion_token if usage.completion_tokens is None else usage.completion_tokens,
    )
    counted = Usage(*tokens) if any(tokens) else None  # Kong's counters begin at 0
    captured = bool(asked and own.response)
    fields, text_labels = exchange_fields(prompt, answer, clean, markers, usage=counted, captured=captured)
    if model := _known(meta.response_model) or _known(meta.request_model):
        fields["model"] = clean.name(model)
    app = next((n for n in _names(entry) if n), None)
    trace_id = entry.trace_id.get("w3c") if isinstance(entry.trace_id, dict) else entry.trace_id
    latency = meta.llm_latency or (entry.latencies.request if entry.latencies else None)
    request_id = entry.request.id if entry.request else None
    started = None if entry.started_at is None else entry.started_at / 1000
    time = unix_seconds(started, record.time, "started_at / 1000", lost)
    return (
        Trace(
            id=clean.trace_id(answer.id or request_id or event_id(record), "", "", value),
            time=time,
            app=clean.optional(app, "unknown"),
            provider=clean.optional(_known(meta.provider_name), "unknown"),
            user=clean.user(prompt.user) if prompt.user else "",
            trace_id=clean.id(trace_id) if isinstance(trace_id, str) and trace_id else "",
            emitter="kong",
            latency=None if latency is None else latency / 1000,
            labels=labels_of(
                [
                    *_labels(entry, proxy, answer),
                    *text_labels,
                    lost_label(lost, prompt.lost, answer.lost),
                    *prompt.metadata.items(),
                ]
            ),
            **fields,
        ),
    )


def _known(name: str | None) -> str | None:
    """Return the name of a provider or model, unless Kong did not know it."""
    return None if name == _UNKNOWN else name


def _is_no_exchange(proxy: Proxy) -> bool:
    kinds = [tried.route_type or "" for tried in proxy.tried_targets or ()]
    return bool(kinds) and all(kind.rpartition("/")[2] in _NO_EXCHANGE for kind in kinds)


def _names(entry: KongEntry) -> Iterator[str | None]:
    for named in (entry.consumer, entry.service, entry.route):
        if named:
            yield named.username or named.name


def _labels(entry: KongEntry, proxy: Proxy, answer: Answer) -> Iterator[tuple[str, object]]:
    yield "error", answer.failed
    yield "refused", answer.refused or None
    yield "status", entry.response.status if entry.response else None
    yield "service", entry.service.name if entry.service else None
    yield "route", entry.route.name if entry.route else None
    yield "consumer", entry.consumer.username if entry.consumer else None
    yield "workspace", entry.workspace_name
    yield "request_mode", proxy.meta.request_mode if proxy.meta else None
    yield "request_model", proxy.meta.request_model if proxy.meta else None
    yield "cost", proxy.usage.cost if proxy.usage else None
    yield "cache_status", proxy.cache.cache_status if proxy.cache else None
