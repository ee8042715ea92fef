"""riskmon's own spans: linked, free of text, and free of cost when nobody listens."""

import socket
import threading
import time

import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from patience import PATIENCE, unhindered

from monitor.findings import Flag, Judgement, Severity
from monitor.telemetry.tracing import MAX_LINKS, SPAN_NAME, BatchTracer, connect
from monitor.trace import Message, Origin, Trace

CANARY = "canary-90af"
FLAG = Flag(id="f", rule="R", rule_version="1", severity=Severity.INFO, actions=(), detectors=())


def judged(
    offset: int,
    topic: str = "t",
    flags: tuple[Flag, ...] = (),
    trace_id: str | None = None,
    span_id: str | None = None,
) -> Judgement:
    """A judged trace full of canaries, with valid W3C ids unless told otherwise."""
    trace = Trace(
        id=f"r{offset}",
        time=0.0,
        response=CANARY,
        messages=(Message("user", CANARY),),
        labels={"k": CANARY},
        trace_id=f"{offset + 1:032x}" if trace_id is None else trace_id,
        span_id=f"{offset + 1:016x}" if span_id is None else span_id,
    )
    return Judgement(origin=Origin(topic, 0, offset, 0), trace=trace, assessments=(), flags=flags)


def spans_of(*batch: Judgement, started: float = 10.0, ended: float = 12.5) -> InMemorySpanExporter:
    """What is exported for one batch."""
    exporter = InMemorySpanExporter()
    tracer = BatchTracer(SimpleSpanProcessor(exporter), "group", "host-1")
    tracer.batch(batch, started, ended)
    assert tracer.close(5.0)
    return exporter


def test_a_batch_is_one_span_per_topic_with_messaging_attributes() -> None:
    """Attributes follow the messaging conventions; two traces of one record are one message."""
    part = Judgement(origin=Origin("a", 0, 1, 1), trace=judged(7).trace, assessments=(), flags=(FLAG,))
    first, second = spans_of(judged(1, "a"), part, judged(2, "b")).get_finished_spans()
    assert (first.name, first.kind.name) == (SPAN_NAME, "CONSUMER")
    assert dict(first.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "a",
        "messaging.consumer.group.name": "group",
        "messaging.batch.message_count": 1,
        "riskmon.traces": 2,
        "riskmon.flags": 1,
    }
    assert (first.start_time, first.end_time) == (10_000_000_000, 12_500_000_000)
    assert (second.attributes or {})["messaging.destination.name"] == "b"
    assert first.resource.attributes["service.instance.id"] == "host-1"


def test_links_lead_to_the_judged_spans_flagged_ones_first() -> None:
    """At most 128 links, and none of a flagged trace is left out for a clean one."""
    [span] = spans_of(
        *(judged(i, flags=(FLAG,) if i == 199 else ()) for i in range(200))
    ).get_finished_spans()
    assert len(span.links) == MAX_LINKS
    assert (span.links[0].context.trace_id, span.links[0].context.span_id) == (200, 200)


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [("0" * 32, None), (None, "0" * 16), (CANARY, None), (None, ""), ("A" * 32, None)],
)
def test_ids_that_are_not_trace_context_make_no_link(trace_id: str | None, span_id: str | None) -> None:
    """Zero, short and textual ids are left out; the span is there all the same."""
    [span] = spans_of(judged(1, trace_id=trace_id, span_id=span_id)).get_finished_spans()
    assert span.links == ()


def test_no_text_of_a_trace_is_in_a_span() -> None:
    """Prompts, responses and labels do not occur in what is exported."""
    for span in spans_of(*(judged(i) for i in range(50))).get_finished_spans():
        assert CANARY not in span.to_json()


def test_the_global_provider_is_left_alone() -> None:
    """An application that embeds riskmon keeps its own tracing."""
    before = opentelemetry.trace.get_tracer_provider()
    spans_of(judged(1))
    assert opentelemetry.trace.get_tracer_provider() is before


def test_a_collector_that_hangs_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a socket that accepts and never answers: batches stay fast, closing keeps its deadline."""
    monkeypatch.setattr("monitor.telemetry.tracing._EXPORT_SECONDS", 3600.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        tracer = connect(f"http://127.0.0.1:{hole.getsockname()[1]}/", "group", "host-1")
        batch = [judged(i) for i in range(64)]
        begun = time.thread_time()
        for _ in range(1_000):
            tracer.batch(batch, 1.0, 2.0)
        assert (time.thread_time() - begun) / 1_000 < 0.005
        with unhindered():
            assert not tracer.close(0.5)


def test_spans_arrive_by_otlp_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real HTTP receiver gets a protobuf on /v1/traces that names the span and no text."""
    monkeypatch.setattr("monitor.telemetry.tracing._EXPORT_SECONDS", PATIENCE)
    received = bytearray()

    def serve(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while b"\r\n\r\n" not in received or SPAN_NAME.encode() not in received:
                chunk = peer.recv(65536)
                if not chunk:
                    break
                received.extend(chunk)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        tracer = connect(f"http://127.0.0.1:{server.getsockname()[1]}", "group", "host-1")
        tracer.batch([judged(3)], 1.0, 2.0)
        assert tracer.close(2 * PATIENCE)
        thread.join(PATIENCE)
    assert received.startswith(b"POST /v1/traces HTTP/1.1")
    assert SPAN_NAME.encode() in received
    assert CANARY.encode() not in received
