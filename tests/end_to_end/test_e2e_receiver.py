"""A real daemon that is sent spans: what it answered 200 for is judged or dead-lettered, whatever happens."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emitters
import jsonschema
import pytest
from apache_kafka import ApacheKafka
from daemons import RECEIVER, TOKEN, Rig
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from patience import PATIENCE, eventually
from receivers import collecting

from monitor.outcome.verdict import schema

# As in the tests of Kafka: its client leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SPANS = 40
VERDICTS = "verdicts"
OTLP = "otlp_spans"


def export(protocol: str, port: int, spans: int) -> None:
    """Send spans with OpenTelemetry's own exporter of a protocol, one a request, some at once."""
    url, headers = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {TOKEN}"}
    exporter = (
        grpc_exporter.OTLPSpanExporter(url, insecure=True, headers=headers)
        if protocol == "grpc"
        else OTLPSpanExporter(f"{url}/v1/traces", headers=headers)
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda n: tracer.start_span(f"chat {n}").end(), range(spans)))
    provider.shutdown()


def post(port: int, body: bytes) -> None:
    """Send what an emitter exported."""
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/traces", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - our own URL, http
        assert answer.status == 200


@pytest.mark.slow
def test_kafka_and_the_receiver_feed_one_daemon_that_publishes_verdicts(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """Native traces, and what real emitters export to Kafka and to the receiver: each has its verdicts."""
    traces, spanned = 200, 4  # exchanges of each emitter
    sent, published = emitters.captured("genai")[0], emitters.captured("openinference")[0]
    with (
        collecting() as collector,
        Rig(
            tmp_path,
            apache_kafka,
            receiver=RECEIVER,
            ingest={"formats": {OTLP: "otlp_proto"}},
            deliver={"verdicts_topic": VERDICTS},
            telemetry={"evaluations_endpoint": collector.url},
        ) as rig,
    ):
        rig.broker.create_topic(VERDICTS, 2)
        rig.broker.create_topic(OTLP, 1)
        daemon = rig.daemon(kafka={"topics": [rig.topic, OTLP]})
        rig.produce_traces(traces)
        rig.publish(OTLP, published)
        for body in sent:
            post(daemon.receiver_port(), body)
        records = traces + len(sent) + len(published)
        eventually(lambda: rig.done() == records, "everything on record")
        rig.deliver("verdicts")
        judged = traces + 2 * spanned
        eventually(lambda: daemon.metric("riskmon_traces_judged_total") == judged, "every trace counted")
        eventually(
            lambda: daemon.metric("riskmon_evaluation_events_total") == 2 * judged, "every event exported"
        )
        assert daemon.stop()[0] == 0
        report = rig.verify()
        assert (report["ok"], report["records"], report["traces"]) == (True, records, judged)
        assert report["dead_letters"] == 0
        validator = jsonschema.Draft202012Validator(schema())
        verdicts = [json.loads(message.value or b"") for message in rig.consumed_topic(VERDICTS)]
        for verdict in verdicts:
            validator.validate(verdict)
        assert len({verdict["id"] for verdict in verdicts}) == judged
        flags = {flag["id"] for verdict in verdicts for flag in verdict["flags"]}
        assert flags >= rig.oracle(range(traces))
        assert len(collector.records()) == 2 * judged


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_was_answered_200_survives_a_kill(
    tmp_path: Path, apache_kafka: ApacheKafka, protocol: str
) -> None:
    """Killed before it has judged any, and without Kafka, the daemon judges all of it when it is back."""
    loading = {"toxicity": {"factory": "faulty_detectors:build_never", "options": {"name": "toxicity"}}}
    with Rig(
        tmp_path,
        apache_kafka,
        detectors=loading,
        kafka={"topics": []},
        deliver={"feedback_topic": ""},
        receiver=RECEIVER,
    ) as rig:
        daemon = rig.daemon()
        export(
            protocol, daemon.receiver_port(protocol), SPANS
        )  # while its detector is being loaded: nothing is judged yet
        daemon.kill()
        daemon.config.write_text(daemon.config.read_text().replace("build_never", "build"))
        waiting = json.loads(rig.command("spool", "list", "--json").stdout)
        assert [(row["topic"], row["records"], row["ours"]) for row in waiting] == [
            ("otlp.traces@one", SPANS, True)
        ]
        assert rig.done() == 0
        daemon.start()
        refused = urllib.request.Request(
            f"http://127.0.0.1:{daemon.receiver_port()}/v1/traces", b"", method="POST"
        )
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(refused, timeout=PATIENCE)  # noqa: S310 - our own URL, http
        error.value.close()
        assert error.value.code == 401
        eventually(lambda: rig.done() == SPANS, "all spans on record")
        eventually(daemon.ready, "ready")
        eventually(lambda: daemon.metric("riskmon_spool_records") == 0, "an empty spool")
        assert daemon.metric("riskmon_records_consumed_total") == SPANS
        eventually(lambda: daemon.metric("riskmon_receiver_requests_total") == 1, "the request is counted")
        assert daemon.stop()[0] == 0
        assert json.loads(rig.command("spool", "list", "--json").stdout) == []
        report = rig.verify()
        assert (report["ok"], report["records"], report["gaps"]) == (True, SPANS, [])
        assert TOKEN not in daemon.log.read_text(encoding="utf-8")
