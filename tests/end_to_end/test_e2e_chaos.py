"""Faults of a real daemon, under the shipped alerting rules in a real Prometheus: the right alert fires.

Rules have their waits taken away and scrapes come twice a second, so seconds stand for the minute and a
half that the rules promise; `test_prometheus_rules.py` adds up the real ones.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerting import Alerts, watched
from apache_kafka import ApacheKafka
from cross_encoders import logits_table, tokenizer_json, write_graph
from daemons import Daemon, Rig, cheap
from external import small_disk
from patience import eventually
from processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

TRACES = 200


@contextmanager
def installation(
    folder: Path, broker: ApacheKafka, **settings: Any
) -> Iterator[tuple[Rig[ApacheKafka], Daemon, Alerts]]:
    """A daemon that has judged some traces, and a Prometheus in which no alert fires."""
    port = free_port()  # the same after a restart, so that Prometheus finds it again
    with Rig(folder, broker, partitions=1, http={"port": port}, **settings) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "the daemon is ready")
        rig.produce_traces(TRACES)
        rig.finish()
        with watched(folder, port) as alerts:
            yield rig, daemon, alerts


def check_nothing_is_lost(rig: Rig[ApacheKafka], daemon: Daemon) -> None:
    """Assert that every record is judged once, every flag delivered, and the audit record holds."""
    rig.produce_traces(TRACES)
    rig.finish()
    rig.deliver("feedback", "log")
    assert daemon.stop()[0] == 0
    report = rig.verify()
    assert (report["ok"], report["problems"], report["gaps"], report["open"]) == (True, [], [], [])
    assert (report["records"], report["dead_letters"]) == (rig.produced, 0)
    rig.check_effects(rig.oracle())
    [stopped] = [event for event in daemon.events() if event.get("event") == "stopped"]
    assert stopped["consumed"] == stopped["recorded"] + stopped["dead_lettered"] + stopped["released"]


def fill(path: Path) -> None:
    """Write a file until its disk has no room."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(itertools.repeat(bytes(4096)))


@pytest.mark.monitoring
@pytest.mark.alone
def test_broken_rules_and_a_stopped_process_are_told(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """The alerts of exactly these fire, and end with their cause."""
    with installation(tmp_path, apache_kafka, rules={"reload_seconds": 0.5}) as (rig, daemon, alerts):
        rules = (tmp_path / "rules.yaml").read_text()
        (tmp_path / "rules.yaml").write_text("groups: nonsense")
        alerts.only("RiskmonRulesStale")
        (tmp_path / "rules.yaml").write_text(rules)
        alerts.only()
        daemon.signal(signal.SIGSTOP)
        try:
            alerts.only("RiskmonDown", "RiskmonAbsent")  # Alertmanager tells of the absence alone
        finally:
            daemon.signal(signal.SIGCONT)
        alerts.only()
        check_nothing_is_lost(rig, daemon)


@pytest.mark.monitoring
@pytest.mark.alone
def test_a_broker_that_falls_silent_is_told(tmp_path: Path) -> None:
    """A stopped broker keeps connections, takes new ones, answers none: its alert fires, nothing is lost."""
    with (
        ApacheKafka() as kafka,
        installation(tmp_path, kafka, kafka={"client": {"request_timeout_ms": 3000}}) as (
            rig,
            daemon,
            alerts,
        ),
    ):
        os.kill(rig.broker.pid, signal.SIGSTOP)
        try:
            alerts.only("RiskmonBrokerUnreachable")
        finally:
            os.kill(rig.broker.pid, signal.SIGCONT)
        alerts.only()
        check_nothing_is_lost(rig, daemon)


@pytest.mark.monitoring
@pytest.mark.alone
def test_a_full_disk_is_told(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """While something else fills the ledger's disk its alert fires; with room again all is judged.

    A file system of its own, because only that refuses whatever file SQLite wants to lengthen and with the
    system's own ENOSPC; a limit of file size is another error, and one of pages does not hold for the log.
    """
    with (
        small_disk(tmp_path / "data", 8) as disk,
        installation(tmp_path, apache_kafka) as (rig, daemon, alerts),
    ):
        ballast = disk / "ballast"
        fill(ballast)
        rig.produce_traces(TRACES)
        alerts.only("RiskmonLedgerFailing")
        assert rig.done() < rig.produced
        ballast.unlink()
        alerts.only()
        check_nothing_is_lost(rig, daemon)


@pytest.mark.monitoring
@pytest.mark.alone
def test_a_removed_model_is_told(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """Without it no new worker comes up, and a new daemon judges by its other tiers: an alert for each."""
    model, lost = tmp_path / "model.onnx", tmp_path / "lost.onnx"
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    options = {
        "cross_encoder": str(model),
        "cross_encoder_sha256": write_graph(model, logits_table(yes=[0.0, 1.0])),
        "cross_encoder_supported": 1,
    }
    detectors = cheap() | {"hallucination": {"options": options}}
    with installation(tmp_path, apache_kafka, detectors=detectors) as (rig, daemon, alerts):
        model.rename(lost)
        for worker in daemon.workers():
            os.kill(worker, signal.SIGKILL)
        rig.produce_traces(TRACES)
        alerts.only("RiskmonDetectorsDown")
        lost.rename(model)
        alerts.only()
        rig.finish()
        model.rename(lost)
        daemon.stop()
        daemon.start()
        alerts.only("RiskmonDetectorTierMissing")
        lost.rename(model)
        rig.produce_traces(TRACES)
        rig.finish()
        daemon.stop()
        daemon.start()
        alerts.only()
        check_nothing_is_lost(rig, daemon)


@pytest.mark.parametrize("weight", ["groundedness.npz", "toxicity.npy"])
def test_a_missing_bundled_model_keeps_the_daemon_from_starting(weight: str, tmp_path: Path) -> None:
    """A daemon without a weight that each trace needs exits 78 and names it."""
    copy = tmp_path / "installed"
    shutil.copytree(Path("monitor").resolve(), copy / "monitor", copy_function=os.symlink)
    (copy / "rules").symlink_to(Path("rules").resolve())
    (copy / "monitor" / "models" / "weights" / weight).unlink()
    config = tmp_path / "riskmon.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "http": {"port": 0}}))
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "run", "--config", str(config)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, weight in done.stderr) == (78, True), done.stderr
