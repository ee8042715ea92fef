"""Bounded memory of what was seen: spans of traces judged without a text, and which texts were read."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from monitor.assembly.sides import texts
from monitor.trace import Span, Trace

ANSWERS: Final = 16_384  # response ids, and exchanges: more than a minute of 200 a second


class RememberedTrace(NamedTuple):
    """The spans of a trace that was judged at `time` (monotonic), and their size."""

    time: float
    spans: Sequence[Span]
    size: int


class KeptSpans:
    """Spans of traces with an exchange whose text may still come, the latest ones, within bounds."""

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._traces: OrderedDict[str, RememberedTrace] = OrderedDict()
        self._bytes = 0

    def add(self, trace_id: str, spans: Iterable[Span], now: float) -> None:
        """Keep further spans of a trace, each once, and forget the oldest traces beyond the bounds."""
        spans = tuple(spans)
        if trace_id in self._traces:
            spans = tuple({_content(span): span for span in (*self._traces[trace_id].spans, *spans)}.values())
            self.forget(trace_id)
        kept = self._traces[trace_id] = RememberedTrace(now, spans, sum(span.size for span in spans))
        self._bytes += kept.size
        while self._traces:
            oldest, kept = next(iter(self._traces.items()))
            if self._bytes <= self._max_bytes and now - kept.time <= self._max_seconds:
                return
            self.forget(oldest)

    def of(self, trace_id: str) -> RememberedTrace | None:
        """Return the spans of a trace, None where there are none."""
        return self._traces.get(trace_id)

    def forget(self, trace_id: str) -> None:
        """Keep the spans of a trace no more."""
        kept = self._traces.pop(trace_id, None)
        if kept is not None:
            self._bytes -= kept.size


def _content(span: Span) -> tuple[object, ...]:
    """Return what tells a span or log record from others of its id; one that is sent again is alike."""
    said = span.exchange
    said_texts = said and (said.messages, said.response, said.alternatives, said.tool_calls, said.usage)
    return (
        span.span_id,
        span.parent_id,
        span.partial,
        span.step,
        span.end,
        said_texts,
        span.call,
        span.documents,
    )


class ReadAnswers:
    """Response ids of exchanges with a text, by application, the latest ones."""

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, app: str, response_id: str) -> None:
        """Note that the answer of this id was read."""
        self._ids[app, response_id] = None
        self._ids.move_to_end((app, response_id))
        if len(self._ids) > ANSWERS:
            self._ids.popitem(last=False)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._ids


class JudgedTexts:
    """Exchanges that were handed out with prompt and answer, the latest ones: by trace and what they say."""

    def __init__(self) -> None:
        self._judged: OrderedDict[tuple[str, int], tuple[str, float, float]] = OrderedDict()

    def add(self, trace_id: str, span_id: str, trace: Trace) -> None:
        """Note that an exchange of this trace and span, with both sides, was handed out."""
        self._judged[trace_id, hash(texts(trace))] = (span_id, *_during(trace))
        if len(self._judged) > ANSWERS:
            self._judged.popitem(last=False)

    def span(self, trace_id: str, trace: Trace) -> str:
        """Return the span of an exchange that said the same at the same time, an empty string without any."""
        span_id, begin, end = self._judged.get((trace_id, hash(texts(trace))), ("", 0.0, 0.0))
        own_begin, own_end = _during(trace)
        return span_id if own_begin <= end and begin <= own_end else ""


def _during(trace: Trace) -> tuple[float, float]:
    return trace.time, trace.time + (trace.latency or 0.0)
