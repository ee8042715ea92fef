"""OTLP records to spans: any wire format, any dialect.

A record holds spans of many traces, and a position in Kafka is either done or not; so one span whose ids or
times cannot be used makes the whole record a dead letter, which names it. Values that a dialect cannot use
cost nothing but themselves, and log records other than GenAI events are passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import dialects
from monitor.ingest.fields import YEAR_2200
from monitor.ingest.identifiers import Names
from monitor.ingest.resources import resource_of
from monitor.ingest.spans import build, build_log, light
from monitor.ingest.texts import Markers
from monitor.ingest.unused import name_of
from monitor.ingest.wire import NANO, ExportedBatch, Wanted, WireSpan
from monitor.trace import Record, Span, Trace

Read = Callable[[bytes, int, Wanted], Iterator[ExportedBatch]]
_END_OF_TIME = YEAR_2200 * NANO


class OtlpDecoder:
    """Decodes records whose bytes `read` takes apart, within the bounds of `config`.

    `names` cleans what may be logged.
    """

    def __init__(self, read: Read, config: IngestConfig, names: Names) -> None:
        self._read = read
        self._max_depth = config.max_depth
        self._max_spans = config.max_spans
        self._document_keys = tuple(config.document_keys)
        self._names = names
        self._markers = Markers(config.redaction_markers)

    def decode(self, record: Record) -> tuple[Trace | Span, ...]:
        """Return the record's spans in its order; a `Trace` is a log record that belongs to no span.

        Raises BadTrace with one of the reasons invalid_protobuf, invalid_utf8, invalid_json, too_deep,
        duplicate_key, wrong_type, missing_field, out_of_range, bad_id, too_many_spans; the detail names the
        field and never holds a value.
        """
        value = record.value or b""
        pieces: list[Trace | Span] = []
        add, time, names, keys = pieces.append, record.time, self._names, self._document_keys
        markers = self._markers
        for batch in self._read(value, self._max_depth, dialects.WANTED):
            resource = resource_of(batch.resource, names)
            for span in batch.spans:
                if not (0 <= span.start < _END_OF_TIME and 0 <= span.end < _END_OF_TIME):
                    raise _bad_time(len(pieces))
                reading = dialects.read_span(span, keys)
                if reading is None:
                    add(self._light(span, time))
                else:
                    add(build(span, reading, resource, names, markers, time))
                if len(pieces) > self._max_spans:
                    raise self._too_many()
            for log in batch.logs:
                if not 0 <= log.event.time < _END_OF_TIME:
                    raise _bad_time(len(pieces))
                add(build_log(log, dialects.read_log(log, keys), resource, names, markers, time))
                if len(pieces) > self._max_spans:
                    raise self._too_many()
        return tuple(pieces)

    def foreign(self, record: Record) -> Counter[str]:
        """Count attributes and events, by name, of spans that look like a model's call and are of no dialect.

        Names of events come after the word "event".
        """
        batches = self._read(record.value or b"", self._max_depth, dialects.WANTED)
        counts: Counter[str] = Counter()
        for span in (span for batch in batches for span in batch.spans):
            if dialects.read_span(span, self._document_keys) is None and dialects.looks_foreign(span):
                counts.update(name_of(key) for key in span.attributes)
                counts.update(f"event {name_of(event.name)}" for event in span.sent)
        return counts

    def _light(self, span: WireSpan, time: float) -> Span:
        foreign = ""
        if dialects.looks_foreign(span):
            foreign = self._names.name("@".join(part for part in span.scope if part) or "unknown")
        return light(span, self._names, time, foreign)

    def _too_many(self) -> BadTrace:
        limit = f"ingest.max_spans is {self._max_spans}"
        return BadTrace("too_many_spans", f"more spans; {limit}: raise it or send smaller batches")


def _bad_time(number: int) -> BadTrace:
    where = f"number {number} of the record, counted from 0"
    return BadTrace("out_of_range", f"{where}: a time must be Unix nanoseconds from 1970 to 2199")
