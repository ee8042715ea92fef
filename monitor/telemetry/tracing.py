"""riskmon's own spans: one per batch and topic, linked to the traces it judged; no text, ever.

Export runs on the SDK's own thread behind a bounded queue that drops when full, so a collector that is
down or hangs costs nothing but its spans. The tracer provider is ours; the global one is never touched.
Attributes: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags

from monitor import __version__
from monitor.findings import Judgement
from monitor.telemetry.evaluations import EVENT_NAME, attributes_of, evaluated

SPAN_NAME: Final = "riskmon.process"
MAX_LINKS: Final = 128  # the SDK's own default limit of links per span
MAX_EVENTS: Final = 128  # likewise of events; beyond it the SDK would drop the first ones
_EXPORT_SECONDS: Final = 5.0
_NANOS: Final = 1_000_000_000
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


class BatchTracer:
    """Reports judged batches as spans to `processor`. Thread-safe; `batch` never blocks.

    With `evaluations` a span also has an event per assessment, of flagged traces first, up to `MAX_EVENTS`.
    """

    def __init__(
        self, processor: SpanProcessor, group: str, instance: str, *, evaluations: bool = False
    ) -> None:
        self._evaluations = evaluations
        resource = Resource(
            {"service.name": "riskmon", "service.version": __version__, "service.instance.id": instance}
        )
        # Exit must not wait for a collector that hangs: `close` has the only deadline.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("riskmon", __version__)
        self._group = group

    def batch(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """Report a batch whose detect stage lasted from `started` to `ended`, Unix seconds."""
        topics: defaultdict[str, list[Judgement]] = defaultdict(list)
        for judgement in judgements:
            topics[judgement.origin.topic].append(judgement)
        for topic, judged in topics.items():
            attributes: dict[str, str | int] = {
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": topic,
                "messaging.consumer.group.name": self._group,
                "messaging.batch.message_count": len({(j.origin.partition, j.origin.offset) for j in judged}),
                "riskmon.traces": len(judged),
                "riskmon.flags": sum(len(j.flags) for j in judged),
            }
            span = self._tracer.start_span(
                SPAN_NAME,
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=_links(judged),
                start_time=int(started * _NANOS),
            )
            if self._evaluations:
                _add_evaluations(span, judged, max(started, ended))
            span.end(int(max(started, ended) * _NANOS))

    def close(self, seconds: float) -> bool:
        """Flush within `seconds`; return whether that was enough. Spans left over are dropped."""
        closing = threading.Thread(target=self._provider.shutdown, name="riskmon-spans-close", daemon=True)
        closing.start()
        closing.join(seconds)
        return not closing.is_alive()


def connect(endpoint: str, group: str, instance: str, *, evaluations: bool = False) -> BatchTracer:
    """Return a tracer that exports by OTLP/HTTP to base URL `endpoint`; nothing needs to listen there yet."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    return BatchTracer(
        BatchSpanProcessor(exporter, max_queue_size=512), group, instance, evaluations=evaluations
    )


def _add_evaluations(span: Span, judgements: Sequence[Judgement], time: float) -> None:
    """Add an event per assessment; each names the judged span, as a span event has no span of its own."""
    left = MAX_EVENTS
    for judgement in sorted(judgements, key=lambda judgement: not judgement.flags):
        item = evaluated(judgement, time)
        judged = {"riskmon.judged.trace_id": item.trace_id, "riskmon.judged.span_id": item.span_id}
        for attributes in attributes_of(item):
            if left == 0:
                return
            left -= 1
            span.add_event(EVENT_NAME, {**judged, **attributes}, int(time * _NANOS))


def _links(judgements: Sequence[Judgement]) -> list[Link]:
    """Return links to judged spans, flagged ones first; ids outside W3C trace context are left out."""
    links: list[Link] = []
    for judgement in sorted(judgements, key=lambda judgement: not judgement.flags):
        trace = judgement.trace
        if _TRACE_ID.fullmatch(trace.trace_id) and _SPAN_ID.fullmatch(trace.span_id):
            context = SpanContext(
                int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True, trace_flags=TraceFlags(1)
            )
            links.append(Link(context))
            if len(links) == MAX_LINKS:
                break
    return links
