"""Evaluation events: what they say, where they hang, and that no endpoint can hold up the engine."""

import json
import socket
from collections import Counter

import pytest
from checkout import SHARED
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from patience import PATIENCE, unhindered
from receivers import collecting

from monitor.clock import SystemClock
from monitor.config import TelemetryConfig
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Flag, Judgement, Severity, Status
from monitor.telemetry.evaluations import (
    EVENT_NAME,
    MAX_WAITING,
    EvaluationExporter,
    attributes_of,
    evaluated,
    request_of,
)
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.telemetry.tracing import MAX_EVENTS, BatchTracer
from monitor.trace import Origin, Trace

CANARY = "Jane Canary, 078-05-1120"
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "e3ad6b7169203334"
NOW = 1_795_327_204.0
FLAG = Flag(id="f", rule="R", rule_version="1", severity=Severity.WARNING, actions=(), detectors=("pii",))


def judged(
    *assessments: Assessment,
    flags: tuple[Flag, ...] = (),
    trace_id: str = TRACE_ID,
    span_id: str = SPAN_ID,
) -> Judgement:
    """A judged trace with text that must not leave."""
    trace = Trace(id="chatcmpl-9", time=1.0, response=CANARY, trace_id=trace_id, span_id=span_id)
    return Judgement(origin=Origin("t", 0, 0, 0), trace=trace, assessments=assessments, flags=flags)


def scored(detector: str, score: float, *kinds: str) -> Assessment:
    """An assessment with evidence of some kinds."""
    evidence = tuple(Evidence("response", 0, 4, kind, score) for kind in kinds)
    return Assessment(detector=detector, version="1", status=Status.SCORED, score=score, evidence=evidence)


TIMEOUT = Assessment(detector="toxicity", version="1", status=Status.TIMEOUT)
SKIPPED = Assessment(detector="hallucination", version="1", status=Status.SKIPPED, reason="no_context")


class Outcomes(Counter[str]):
    """Counts of events by outcome."""

    def add(self, outcome: str, events: int) -> None:
        """Count."""
        self[outcome] += events


def exporter(url: str, outcomes: Outcomes, **headers: str) -> EvaluationExporter:
    """A started exporter."""
    made = EvaluationExporter(url, headers, "one", SystemClock(), outcomes.add)
    made.start()
    return made


def test_an_event_says_what_the_sample_says() -> None:
    """The attributes, event name and ids are those of the conventions' `gen_ai.evaluation.result`."""
    path = SHARED / "samples" / "otlp_eval_log.json"
    if not path.exists():
        pytest.skip("../shared is not here")
    sample = json.loads(path.read_text(encoding="utf-8"))
    expected = sample["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    item = evaluated(judged(scored("pii", 0.83, "US_SSN", "US_SSN", "EMAIL"), flags=(FLAG,)), NOW)
    (record,) = request_of([item], {}).resource_logs[0].scope_logs[0].log_records
    assert record.event_name == expected["eventName"] == EVENT_NAME
    assert (record.trace_id.hex(), record.span_id.hex()) == (expected["traceId"], expected["spanId"])
    assert (record.severity_number, record.severity_text) == (expected["severityNumber"], "INFO")
    assert str(record.time_unix_nano) == expected["timeUnixNano"]
    names = {attribute.key for attribute in record.attributes}
    assert names >= {attribute["key"] for attribute in expected["attributes"]}
    assert CANARY.encode() not in record.SerializeToString()


def test_labels_errors_and_explanations() -> None:
    """Flagged is `fail`, scored is `pass`, no score is an error type; kinds explain, with their counts."""
    item = evaluated(
        judged(scored("pii", 0.9, "US_SSN", "US_SSN"), scored("drift", 0.1), TIMEOUT, SKIPPED, flags=(FLAG,)),
        NOW,
    )
    short = [
        {key.removeprefix("gen_ai.evaluation."): value for key, value in attributes.items()}
        for attributes in attributes_of(item)
    ]
    shared = {"gen_ai.response.id": "chatcmpl-9", "riskmon.detector.version": "1"}
    assert short == [
        {"name": "pii", "score.value": 0.9, "score.label": "fail", "explanation": "US_SSN x2", **shared},
        {"name": "drift", "score.value": 0.1, "score.label": "pass", **shared},
        {"name": "toxicity", "error.type": "timeout", **shared},
        {"name": "hallucination", "error.type": "no_context", **shared},
    ]


def test_ids_that_are_no_trace_context_are_left_out() -> None:
    """An event then stands on its own, found by the response id."""
    for trace_id, span_id in (("x", ""), ("0" * 32, "0" * 16)):
        item = evaluated(judged(scored("pii", 0.1), trace_id=trace_id, span_id=span_id), NOW)
        (record,) = request_of([item], {}).resource_logs[0].scope_logs[0].log_records
        assert (record.trace_id, record.span_id) == (b"", b"")


def test_what_is_judged_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the observer to a collector: all events, with the headers asked for, counted as exported."""
    monkeypatch.setattr("monitor.telemetry.evaluations.POST_SECONDS", PATIENCE)
    outcomes = Outcomes()
    with collecting() as collector:
        export = exporter(collector.url + "/", outcomes, **{"x-api-key": "k"})
        metrics, clock = Metrics(TelemetryConfig()), SystemClock()
        observer = TelemetryObserver(metrics, clock, _Silent(), None, export)
        observer.judged([judged(scored("pii", 0.5), SKIPPED)] * 30, NOW - 1, NOW)
        export.close(2 * PATIENCE)
    assert outcomes == {"exported": 60}
    assert len(collector.records()) == 60
    assert {(headers["path"], headers["x-api-key"]) for headers in collector.headers} == {("/v1/logs", "k")}
    resource = {
        a.key: a.value.string_value for a in collector.requests[0].resource_logs[0].resource.attributes
    }
    assert (resource["service.name"], resource["service.instance.id"]) == ("riskmon", "one")


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500])
def test_refused_events_are_counted(status: int) -> None:
    """Whatever is not a 2xx means that the events are lost, which the metric says."""
    outcomes = Outcomes()
    with collecting(status) as collector:
        export = exporter(collector.url, outcomes)
        export.offer([judged(TIMEOUT)], NOW)
        export.close(2 * PATIENCE)
    assert outcomes == {"failed": 1}


def test_nobody_there_is_counted() -> None:
    """A refused connection costs its events and nothing else."""
    outcomes = Outcomes()
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        export = exporter(f"http://127.0.0.1:{taken.getsockname()[1]}", outcomes)
        export.offer([judged(TIMEOUT, SKIPPED)], NOW)
        export.close(2 * PATIENCE)
    assert outcomes == {"failed": 2}


def test_an_endpoint_that_hangs_never_holds_up_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offering goes on at once, the queue stays bounded, closing keeps its deadline; losses are counted."""
    outcomes = Outcomes()
    monkeypatch.setattr("monitor.telemetry.evaluations.POST_SECONDS", 3600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, unhindered():
        export = exporter(f"http://127.0.0.1:{silent.getsockname()[1]}", outcomes)
        batch = [judged(*[TIMEOUT] * 5)] * 1000
        for _ in range(10):
            export.offer(batch, NOW)
        assert export._waiting <= MAX_WAITING
        export.close(0.2)
    export._thread.join(PATIENCE)  # the connection is reset now, and its request, long counted, fails
    assert outcomes == {"dropped": 50_000}


@pytest.mark.parametrize("url", ["", "localhost:4318", "ftp://x", "http://", "http://host:port"])
def test_what_is_no_url_is_a_configuration_error(url: str) -> None:
    """The error names the setting and not the value, which may hold a key."""
    with pytest.raises(ConfigError, match=r"telemetry\.evaluations_endpoint: not a URL"):
        EvaluationExporter(url, {}, "one", SystemClock(), Outcomes().add)


def test_spans_carry_evaluations_when_asked() -> None:
    """Events of flagged traces come first, name the span they judge, are bounded, and hold no text."""
    memory = InMemorySpanExporter()
    tracer = BatchTracer(SimpleSpanProcessor(memory), "g", "i", evaluations=True)
    plain = [judged(*[scored("drift", 0.1)] * 2)] * 100
    tracer.batch([*plain, judged(scored("pii", 0.9), flags=(FLAG,))], NOW - 1, NOW)
    BatchTracer(SimpleSpanProcessor(memory), "g", "i").batch(plain, NOW - 1, NOW)
    with_events, without = memory.get_finished_spans()
    assert len(with_events.events) == MAX_EVENTS
    assert {event.name for event in with_events.events} == {EVENT_NAME}
    first = dict(with_events.events[0].attributes or {})
    assert (first["riskmon.judged.trace_id"], first["riskmon.judged.span_id"]) == (TRACE_ID, SPAN_ID)
    assert first["gen_ai.evaluation.score.label"] == "fail"
    assert CANARY not in with_events.to_json()
    assert without.events == ()


class _Silent:
    def info(self, event: str, **fields: object) -> None:
        """Ignore."""

    warning = error = info
