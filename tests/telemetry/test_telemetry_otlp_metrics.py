"""Metrics by OTLP say what a scrape says, and a collector that is away costs nothing."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from patience import PATIENCE
from prometheus_client import CollectorRegistry

from monitor.clock import Deadline, ManualClock, SystemClock
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.otlp_metrics import connect


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        """Take a request."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.path, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def test_a_collector_gets_every_kind_of_metric_as_it_would_be_scraped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A counter is a cumulative sum, a gauge a gauge, a histogram has the same buckets, sum and count."""
    monkeypatch.setattr("monitor.telemetry.otlp_metrics._EXPORT_SECONDS", PATIENCE)
    metrics = Metrics()
    metrics.inc("records_consumed", 3, topic="t")
    metrics.observe("ledger_transaction_seconds", [0.002, 0.002, 99.0])
    Collector.taken.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        pusher = connect(
            f"http://127.0.0.1:{server.server_port}", metrics.registry, ManualClock(), 3600.0, "here"
        )
        pusher.start()
        pusher.stop(Deadline(SystemClock(), 2 * PATIENCE))  # the last values are sent at the end
        server.shutdown()
        thread.join()
    [(path, body)] = Collector.taken
    assert path == "/v1/metrics"
    [resource] = ExportMetricsServiceRequest.FromString(body).resource_metrics
    attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("riskmon", "here")
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    counter = found["riskmon_records_consumed"].sum
    assert (counter.is_monotonic, counter.aggregation_temporality) == (True, 2)
    assert [(point.attributes[0].value.string_value, point.as_double) for point in counter.data_points] == [
        ("t", 3)
    ]
    [histogram] = found["riskmon_ledger_transaction_seconds"].histogram.data_points
    assert (histogram.count, histogram.sum, histogram.bucket_counts[1], histogram.bucket_counts[-1]) == (
        3, 99.004, 2, 1,
    )  # fmt: skip
    assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1
    assert found["riskmon_build_info"].gauge.data_points[0].as_double == 1


def test_without_a_collector_nothing_is_raised() -> None:
    """A port on which nobody listens: the turn says so and ends within the deadline of an export."""
    pusher = connect("http://127.0.0.1:1", CollectorRegistry(), ManualClock(), 3600.0, "here")
    assert not pusher.push()
