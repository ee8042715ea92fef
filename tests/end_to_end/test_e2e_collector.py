"""SDK to Collector to riskmon, each of them real: over Apache Kafka, and straight to the receiver."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml
from apache_kafka import ApacheKafka
from collector import Collector, complaint
from compose import DOCKER
from daemons import RECEIVER, TOKEN, Rig
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from patience import eventually

# As in the tests of Kafka: its client leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.timeout(1800),  # the first on a machine builds the Collector, niced: for minutes
]

ENCODINGS: Final = ("otlp_proto", "otlp_json")
TRACES: Final = 100  # runs of each way
FEW: Final = 10
ADDRESS: Final = "jane.doe@example.org"
DETECTORS: Final = {"pii": {"options": {"tag_names": False}}}  # an address is found by its pattern
RULES: Final = """
groups:
  - name: collector
    rules:
      - alert: Judged
        expr: pii.score >= 0.0
        labels: {severity: info}
        annotations: {summary: "An exchange was judged."}
        actions: [audit]
      - alert: Address
        expr: pii.leaked.exists(e, e.kind == "EMAIL_ADDRESS")
        labels: {severity: warning}
        annotations: {summary: "The answer holds an address that nobody gave."}
        actions: [audit]
"""


class Sdk:
    """An application that OpenTelemetry's SDK observes: an agent that asks a model; `url` takes its OTLP."""

    def __init__(self, url: str) -> None:
        resource = Resource.create({"service.name": "shop"})
        self._spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics"), float("inf"))
        self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left."""
        for provider in (self._logs, self._spans, self._metrics):
            provider.shutdown()

    def run(self, *calls: str, prompt: str = "Who handles returns?", events: bool = False) -> None:
        """One run of the agent with calls of a model of these ids.

        The content of a call whose id ends in 0 has the planted address. It is on the span, or with `events`
        in a log record.
        """
        tracer, logger = self._spans.get_tracer("test"), self._logs.get_logger("test")
        about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}
        with tracer.start_as_current_span("run", attributes={"gen_ai.operation.name": "invoke_agent"}):
            for call in calls:
                answer = f"Write to {ADDRESS}." if call.endswith("0") else "The desk does."
                content = {
                    "gen_ai.input.messages": _message("user", prompt),
                    "gen_ai.output.messages": _message("assistant", answer),
                }
                own = about | {"gen_ai.response.id": call}
                with tracer.start_as_current_span("chat", attributes=own if events else own | content):
                    if events:
                        name = "gen_ai.client.inference.operation.details"
                        logger.emit(event_name=name, attributes=about | content)

    def count(self) -> None:
        """Send a metric."""
        self._metrics.get_meter("test").create_counter("calls").add(1)
        assert self._metrics.force_flush()


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def shipped() -> dict[str, Any]:
    """The Collector's configuration of the compose file."""
    config: dict[str, Any] = yaml.safe_load((DOCKER / "collector.yaml").read_text(encoding="utf-8"))
    return config


def exporter(kafka: ApacheKafka, topics: dict[str, str], encoding: str, **others: Any) -> dict[str, Any]:
    """The shipped exporter to Kafka, writing each signal to its topic in this encoding."""
    own: dict[str, Any] = shipped()["exporters"]["kafka"] | {"brokers": [kafka.bootstrap]} | others
    return own | {signal: {"topic": topic, "encoding": encoding} for signal, topic in topics.items()}


def to_receiver(rig: Rig[ApacheKafka], protocol: str = "http") -> dict[str, Any]:
    """The documented exporter to the receiver of a protocol, sending to the rig's daemon."""
    text = (DOCKER.parent / "docs" / "collector.md").read_text(encoding="utf-8")
    documented: dict[str, Any] = {}
    for block in re.findall("```yaml\n(.*?)```", text, re.DOTALL):
        documented |= yaml.safe_load(block)
    own: dict[str, Any] = documented["otlp_http"]
    if protocol == "grpc":
        own |= documented["otlp_grpc"]
    scheme = "http://" if protocol == "http" else ""
    address = f"{scheme}127.0.0.1:{rig.daemons[0].receiver_port(protocol)}"
    return own | {"endpoint": address, "headers": {"authorization": f"Bearer {TOKEN}"}}


def judged(rig: Rig[ApacheKafka], rule: str) -> Counter[str]:
    """How often this rule flagged each call."""
    return Counter(name for which, name in rig.rows("SELECT rule, trace_id FROM flags") if which == rule)


def check(rig: Rig[ApacheKafka], calls: list[str]) -> None:
    """Each of these calls, and nothing else, is judged once, and the planted addresses are found."""
    eventually(lambda: judged(rig, "Judged").total() >= len(calls), "everything judged")
    assert judged(rig, "Judged") == Counter(calls)
    assert judged(rig, "Address") == Counter(call for call in calls if call.endswith("0"))
    report = rig.verify()
    assert (report["ok"], report["traces"], report["dead_letters"]) == (True, len(calls), 0)


@contextmanager
def rig_of(
    folder: Path, kafka: ApacheKafka, formats: dict[str, str], **settings: Any
) -> Iterator[Rig[ApacheKafka]]:
    """A daemon that reads these topics in these formats and looks for personal data."""
    for topic in formats:
        kafka.create_topic(topic, 2)
    rules = folder / "collector-rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    own: dict[str, Any] = {
        "kafka": {"topics": list(formats)},
        "ingest": {"formats": formats},
        "rules": {"paths": [str(rules)]},
    }
    with Rig(folder, kafka, detectors=DETECTORS, **(own | settings)) as rig:
        rig.daemon()
        yield rig


@pytest.mark.slow
def test_each_exchange_is_judged_once_on_every_way(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """From an SDK by a Collector, over Kafka or to the receiver, by all encodings and compressions."""
    topics = {encoding: f"{encoding}-{tmp_path.name}" for encoding in ENCODINGS}
    formats = {topic: encoding for encoding, topic in topics.items()}
    with rig_of(tmp_path, apache_kafka, formats, receiver=RECEIVER) as rig:
        exporters: dict[str, Any] = {}
        for encoding, topic in topics.items():
            exporters[f"kafka/{encoding}"] = exporter(apache_kafka, {"traces": topic}, encoding)
            exporters[f"otlp_http/{encoding}"] = to_receiver(rig) | {
                "encoding": encoding.removeprefix("otlp_")
            }
        for compression in ("gzip", "none"):
            exporters[f"otlp_grpc/{compression}"] = to_receiver(rig, "grpc") | {"compression": compression}
        for compression in ("zstd", "zlib", "deflate"):
            exporters[f"otlp_http/{compression}"] = to_receiver(rig) | {"compression": compression}
        ways = {name: name.replace("/", "-") for name in exporters}
        config = {
            "receivers": {f"otlp/{way}": {"protocols": {"http": {}}} for way in ways.values()},
            "exporters": exporters,
            "service": {
                "pipelines": {
                    f"traces/{way}": {"receivers": [f"otlp/{way}"], "exporters": [name]}
                    for name, way in ways.items()
                }
            },
        }
        assert complaint(config) == ""
        with Collector(tmp_path, config) as collector:
            for way in ways.values():
                with Sdk(collector.urls[f"otlp/{way}"]) as sdk:
                    for number in range(TRACES):
                        sdk.run(f"{way}-{number}")
            check(rig, [f"{way}-{number}" for way in ways.values() for number in range(TRACES)])
            collector.stop()


@pytest.mark.slow
def test_signals_that_share_a_topic_are_told_apart_by_their_header(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """Spans, the log records with their content, and metrics on one topic: judged whole, metrics skipped."""
    topics = {encoding: f"shared-{encoding}-{tmp_path.name}" for encoding in ENCODINGS}
    formats = {topic: encoding for encoding, topic in topics.items()}
    late = {"assembly": {"settle_seconds": 3.0}}  # the log records take a way of their own
    signals = ("traces", "logs", "metrics")
    with rig_of(tmp_path, apache_kafka, formats, **late) as rig:
        config = {
            "receivers": {f"otlp/{encoding}": {"protocols": {"http": {}}} for encoding in ENCODINGS},
            "exporters": {
                f"kafka/{encoding}": exporter(
                    apache_kafka, dict.fromkeys(signals, topic), encoding, signal_header=True
                )
                for encoding, topic in topics.items()
            },
            "service": {
                "pipelines": {
                    f"{signal}/{encoding}": {
                        "receivers": [f"otlp/{encoding}"],
                        "exporters": [f"kafka/{encoding}"],
                    }
                    for encoding in ENCODINGS
                    for signal in signals
                }
            },
        }
        with Collector(tmp_path, config) as collector:
            for encoding in ENCODINGS:
                with Sdk(collector.urls[f"otlp/{encoding}"]) as sdk:
                    for number in range(FEW):
                        sdk.run(f"{encoding}-{number}", events=True)
                    sdk.count()
            check(rig, [f"{encoding}-{number}" for encoding in ENCODINGS for number in range(FEW)])
            eventually(
                lambda: all(
                    rig.daemons[0].metric(
                        f'riskmon_records_skipped_total{{reason="metrics",topic="{topic}"}}'
                    )
                    for topic in formats
                ),
                "the metrics of both topics are skipped",
            )


CALLS: Final = 30
PROMPT: Final = "Why? " * 7_600  # 38 KB: a run is 1.2 MB
# Sent at once, the last are more than the exporters put into a body.
LONG_RUNS: Final = {"otlp": 2, "otlp/http": 8, "otlp/grpc": 8}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_collector_keeps_what_a_full_receiver_refuses(
    apache_kafka: ApacheKafka, tmp_path: Path, protocol: str
) -> None:
    """A burst that the spool has no room for waits at the Collector, and is judged once in the end."""
    small = RECEIVER | {"max_spool_records": 8, "retry_after_seconds": 1}
    with rig_of(tmp_path, apache_kafka, {f"none-{tmp_path.name}": "otlp_proto"}, receiver=small) as rig:
        own = to_receiver(rig, protocol)
        own["retry_on_failure"] |= {"initial_interval": "100ms", "max_interval": "1s"}
        own["sending_queue"] |= {"num_consumers": 20, "batch": {"min_size": 1, "max_size": 2_000}}
        config = {
            "receivers": {"otlp": {"protocols": {"http": {}}}},
            "exporters": {f"otlp_{protocol}": own},
            "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": [f"otlp_{protocol}"]}}},
        }
        calls = [f"{protocol}-{number}" for number in range(TRACES)]
        with Collector(tmp_path, config) as collector:
            with Sdk(collector.urls["otlp"]) as sdk:
                for call in calls:
                    sdk.run(call)
            check(rig, calls)
            code = {"http": "429", "grpc": "RESOURCE_EXHAUSTED"}[protocol]
            assert rig.daemons[0].metric(f'riskmon_receiver_requests_total{{code="{code}"}}') > 0
            assert not re.search("(Dropp|Reject)ing data", collector.log)


@pytest.mark.slow
def test_no_run_is_too_long_for_the_shipped_collector(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """Runs that are larger than a message or a body may be arrive in parts, and each call is judged once."""
    config = shipped()
    assert complaint(config) == ""
    topic = f"long-{tmp_path.name}"
    config["exporters"]["kafka"]["brokers"] = [apache_kafka.bootstrap]
    config["exporters"]["kafka"]["traces"]["topic"] = topic
    with rig_of(tmp_path, apache_kafka, {topic: "otlp_proto"}, receiver=RECEIVER) as rig:
        for protocol in ("http", "grpc"):
            config["receivers"][f"otlp/{protocol}"] = {"protocols": {"http": {}}}
            config["exporters"][f"otlp_{protocol}"] = to_receiver(rig, protocol)
            config["service"]["pipelines"][f"traces/{protocol}"] = {
                "receivers": [f"otlp/{protocol}"],
                "exporters": [f"otlp_{protocol}"],
            }
        calls = []
        with Collector(tmp_path, config) as collector:
            for way, url in collector.urls.items():
                with Sdk(url) as sdk:
                    for run in range(LONG_RUNS[way]):
                        own = [f"{way.replace('/', '-')}-{run}-{call}" for call in range(CALLS)]
                        sdk.run(*own, prompt=PROMPT)
                        calls += own
            check(rig, calls)
            assert not re.search("(Dropp|Reject)ing data", collector.log)
