"""Bad input and bad neighbours of a real daemon: malformed records, a failing ledger, faulty detectors."""

import contextlib
import json
import random
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_kafka import ApacheKafka
from cheap_detectors import trace_id
from daemons import FULL, TRACES, Rig, bad_numbers, value_of
from faulty_detectors import score_of
from malformed import shapes
from patience import eventually

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

MALFORMED = [(name, value) for name, value in shapes().items() if value is not None]
LOCKED_SECONDS = 14.0 if FULL else 8.0  # longer than the session time-out of 6 s


def poisoned(size: int, poison: int, seed: int) -> tuple[list[bytes | None], dict[int, str]]:
    """`size` records of which `poison` are malformed, every shape in turn; and which are, by place."""
    places = sorted(random.Random(seed).sample(range(size), poison))
    planted = {place: MALFORMED[nth % len(MALFORMED)][0] for nth, place in enumerate(places)}
    by_name = dict(MALFORMED)
    return [by_name[planted[n]] if n in planted else value_of(n) for n in range(size)], planted


@pytest.mark.slow
def test_malformed_records_are_dead_lettered_and_all_others_judged(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """Of the records 1 % are malformed, in every known shape: just these are dead letters, byte for byte."""
    poison = max(TRACES // 100, len(MALFORMED))
    values, planted = poisoned(TRACES, poison, seed=5)
    with Rig(tmp_path, apache_kafka) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "ready")
        placed = rig.produce(values)
        rig.finish(120)
        assert daemon.alive
        letters = rig.letters()
        where = {(rig.topic, *placed[place]): values[place] for place in planted}
        assert sorted((one["topic"], one["partition"], one["offset"]) for one in letters) == sorted(where)
        report = rig.verify()
        assert (report["ok"], report["open"], report["records"]) == (True, [], TRACES)
        assert (report["traces"], report["dead_letters"]) == (TRACES - poison, poison)
        for letter in letters[: len(MALFORMED)]:
            value = where[letter["topic"], letter["partition"], letter["offset"]]
            raw = rig.command("dlq", "show", str(letter["id"]), "--raw").stdout_bytes
            assert raw == value, letter["reason"]
            shown = json.loads(rig.command("dlq", "show", str(letter["id"])).stdout)
            assert shown["value"] is not None
        assert daemon.stop()[0] == 0


@pytest.mark.slow
def test_a_failing_ledger_pauses_intake_and_drops_nothing(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """While nothing can be written, records wait, the daemon keeps its membership, and says why."""
    size = TRACES // 2
    values, planted = poisoned(size, max(size // 100, 20), seed=6)
    with Rig(tmp_path, apache_kafka) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "ready")
        placed = rig.produce(values[: size // 4])
        rig.finish()
        with exclusive(rig.database):
            locked_at = time.monotonic()
            placed += rig.produce(values[size // 4 : size // 2])
            eventually(lambda: not daemon.health()["ledger_writable"], "the failure is told")
            consumed = daemon.metric("riskmon_records_consumed_total")
            done = rig.done()
            placed += rig.produce(values[size // 2 :])
            while time.monotonic() < locked_at + LOCKED_SECONDS:
                health = daemon.health()
                assert not health["ledger_writable"]
                assert health["loop_turning"]
                assert health["partitions_assigned"]
                time.sleep(0.5)
            assert daemon.metric("riskmon_records_consumed_total") == consumed < size
            assert rig.done() == done
        rig.finish()
        eventually(daemon.ready, "ready again")
        epochs = [epoch for (epoch,) in rig.rows("SELECT epoch FROM positions")]
        assert epochs == [1] * rig.partitions, "a partition was claimed again: the group was left"
        letters = {(one["partition"], one["offset"]) for one in rig.letters()}
        assert letters == {placed[place] for place in planted}
        report = rig.verify()
        assert (report["ok"], report["open"], report["records"]) == (True, [], size)
        assert daemon.stop()[0] == 0


@contextlib.contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Hold the ledger's write lock, as a backup gone wrong would."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.slow
def test_a_black_hole_outside_delays_no_judgement(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """An Alertmanager that accepts and never answers: all is judged while its alerts wait in the outbox."""
    with (
        black_hole() as port,
        Rig(
            tmp_path,
            apache_kafka,
            deliver={"alertmanager": {"url": f"http://127.0.0.1:{port}"}, "timeout_seconds": 2.0},
        ) as rig,
    ):
        daemon = rig.daemon()
        eventually(daemon.ready, "ready")
        rig.produce_traces(TRACES)
        rig.finish()
        rig.deliver("feedback", "log")
        alerts = rig.rows("SELECT state, count(*) FROM outbox WHERE destination = 'alertmanager' GROUP BY 1")
        assert alerts == [("waiting", bad_numbers(TRACES))]
        eventually(
            lambda: rig.rows("SELECT DISTINCT reason FROM outbox WHERE attempts > 0") == [("timeout",)],
            "a send times out",
        )
        code, seconds = daemon.stop()
        assert (code, seconds < 25) == (0, True)
        assert rig.verify()["traces"] == TRACES


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in held:
        connection.close()


FAULTS = {"hang": "timeout", "raise": "error", "kill": "error", "too_few": "error"}


@pytest.mark.alone
def test_detector_faults_cost_only_the_guilty_verdicts(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """One trace in 200 makes a detector hang, raise, die or answer too little: that verdict alone is lost."""
    size = TRACES // 5
    guilty: dict[int, tuple[str, str]] = {}
    names = ("toxicity", "hallucination")
    for nth, number in enumerate(range(100, size, 200)):
        guilty[number] = (names[nth // len(FAULTS) % 2], list(FAULTS)[nth % len(FAULTS)])
    detectors = {name: {"factory": "faulty_detectors:build", "options": {"name": name}} for name in names}
    with Rig(tmp_path, apache_kafka, detectors=detectors, pool={"workers": 2, "timeout_seconds": 4.0}) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "ready")
        rig.produce([faulty_value(number, *guilty.get(number, ("", ""))) for number in range(size)])
        rig.finish(120)
        assert daemon.stop()[0] == 0
        expected = Counter(f"{name}.scored" for name in names for _ in range(size))
        for name, fault in guilty.values():
            expected[f"{name}.scored"] -= 1
            expected[f"{name}.{FAULTS[fault]}"] += 1
        report = rig.verify()
        assert (report["ok"], report["traces"], report["statuses"]) == (True, size, dict(expected))
        for trace, body in rig.rows("SELECT trace_id, body FROM assessments"):
            number = int(trace.partition("-")[2])
            name, fault = guilty.get(number, ("", ""))
            for assessment in json.loads(body):
                where = (trace, assessment)
                if assessment["detector"] == name:
                    assert assessment["status"] == FAULTS[fault], where
                else:
                    assert assessment["status"] == "scored", where
                    assert assessment["score"] == score_of(assessment["detector"], trace), where
        failed = rig.rows(
            "SELECT trace_id FROM assessments WHERE body LIKE '%timeout%' OR body LIKE '%error%'"
        )
        assert {trace for (trace,) in failed} == {trace_id(number) for number in guilty}


def faulty_value(number: int, name: str, fault: str) -> bytes:
    """The n-th trace, with a fault for one detector."""
    body = json.loads(value_of(number))
    return json.dumps(body | ({"labels": {name: fault}} if name else {})).encode()
