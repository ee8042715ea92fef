"""Soak cases of group membership: daemons start, partitions are added, groups rebalance, over and over.

Each runs on Apache Kafka and returns its figures; no daemon may hang, and each is to be ready within
`READY_SECONDS`. One that is not after `HUNG_SECONDS` hangs: its conditions and last events are figures too.
"""

import itertools
import json
import math
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from apache_kafka import ApacheKafka
from daemons import Daemon, cheap, value_of
from soak import tell

from monitor.config import DetectorsConfig
from monitor.sources.kafka_group import described

READY_SECONDS: Final = 10.0
HUNG_SECONDS: Final = 60.0
PARTITIONS: Final = 3
LOOPS: Final = 3
PER_SECOND: Final = 50  # records


def starts(share: float, folder: Path) -> Mapping[str, object]:
    """Start and stop a daemon on a topic that exists 500 times, in three loops side by side, each a group.

    Seconds count from the log line `started`, which comes when models are loaded; those from the start of the
    process are in `processes`.
    """
    with ApacheKafka() as kafka:
        return held(start_and_stop(kafka, folder, math.ceil(500 * share)))


def partitions(share: float, folder: Path) -> Mapping[str, object]:
    """Add a partition to a topic under load 100 times; Kafka is to say it is read, the daemon to be ready."""
    with ApacheKafka() as kafka:
        return held(add_partitions(kafka, folder, math.ceil(100 * share)))


def rebalances(share: float, folder: Path) -> Mapping[str, object]:
    """Stop or kill one of three daemons of a group under load and start it again, 100 times.

    Each time all three are to be ready: seconds count from the log line `started` of the one.
    """
    with ApacheKafka() as kafka:
        return held(rebalance(kafka, folder, math.ceil(100 * share)))


def held(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return figures where nothing hung and nothing was late. Raises AssertionError with them otherwise."""
    assert figures["hung"] == figures["late"] == 0, figures
    return figures


def start_and_stop(kafka: ApacheKafka, folder: Path, cycles: int) -> dict[str, Any]:
    """Figures of `starts`."""
    topic = _topic(kafka)
    joins: list[float | None] = []
    processes: list[float | None] = []
    hangs: list[dict[str, Any]] = []
    left = itertools.count()

    def loop(number: int) -> None:
        pause = random.Random(number)
        with Daemons(folder / str(number), kafka, topic) as group:
            daemon = group.daemon("one")
            while next(left) < cycles:
                up, ready = _start(daemon, daemon.ready)
                processes.append(up)
                joins.append(ready)
                _tell("starts", joins, cycles)
                if ready is None:
                    hangs.append(_last_words(daemon))
                time.sleep(pause.random())
                daemon.stop()

    with ThreadPoolExecutor(LOOPS) as pool:
        list(pool.map(loop, range(LOOPS)))
    return {**summary(joins), "processes": summary(processes), "hangs": hangs[:5]}


def add_partitions(kafka: ApacheKafka, folder: Path, cycles: int) -> dict[str, Any]:
    """Figures of `partitions`. Raises AssertionError when not every record is recorded in the end."""
    from kafka.errors import CoordinatorNotAvailableError

    topic = _topic(kafka)
    waits: list[float | None] = []
    hangs: list[dict[str, Any]] = []
    with Daemons(folder, kafka, topic) as group, kafka.admin() as admin:
        daemon = group.daemon("one")

        def read(total: int) -> bool:
            try:
                found = described(admin.describe_groups([group.name])[group.name])
            except CoordinatorNotAvailableError:  # a broker makes its first group's topic
                return False
            return found is not None and len(found.read) == total and daemon.ready()

        with Traffic(kafka, topic) as traffic:
            _start(daemon, partial(read, PARTITIONS))
            for total in range(PARTITIONS + 1, PARTITIONS + 1 + cycles):
                kafka.add_partitions(topic, total)
                waits.append(_wait(partial(read, total)))
                _tell("partitions", waits, cycles)
                if waits[-1] is None:
                    hangs.append(_last_words(daemon))
                    daemon.kill()
                    _start(daemon, partial(read, total))
        if not hangs:  # else the metric counts from the restart
            recorded = "riskmon_records_recorded_total"
            judged = _wait(lambda: daemon.metric(recorded) == traffic.sent)
            assert judged is not None, f"{daemon.metric(recorded)} of {traffic.sent} records were judged"
        daemon.stop()
    return {**summary(waits), "records": traffic.sent, "hangs": hangs[:5]}


def rebalance(kafka: ApacheKafka, folder: Path, cycles: int) -> dict[str, Any]:
    """Figures of `rebalances`."""
    topic = _topic(kafka)
    waits: list[float | None] = []
    hangs: list[dict[str, Any]] = []
    with Daemons(folder, kafka, topic) as group, Traffic(kafka, topic):
        daemons = [group.daemon(name) for name in ("one", "two", "three")]

        def all_ready() -> bool:
            return all(each.ready() for each in daemons)

        for daemon in daemons:
            _start(daemon, lambda: True)
        _wait(all_ready)
        for cycle in range(cycles):
            daemon = daemons[cycle % len(daemons)]
            if cycle % 4 == 3:
                daemon.kill()
            else:
                daemon.stop()
            waits.append(_start(daemon, all_ready)[1])
            _tell("rebalances", waits, cycles)
            if waits[-1] is None:
                hangs += [_last_words(each) for each in daemons if not each.ready()]
        for daemon in daemons:
            daemon.stop()
    return {**summary(waits), "hangs": hangs[:5]}


class Daemons:
    """Daemons of one group on one topic that share a folder, and so a ledger; leaving kills those left.

    `others` are further settings of `kafka`.
    """

    def __init__(self, folder: Path, kafka: ApacheKafka, topic: str, **others: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"group-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._daemons: list[Daemon] = []
        # A short session, so that others are given a killed daemon's partitions within what is waited for.
        quick = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000, "group_id": self.name}
        self._own = {
            "data_dir": str(folder / "data"),
            "kafka": {"bootstrap_servers": [kafka.bootstrap], "topics": [topic], **quick, **others},
            "pool": {"workers": 1},
            "detectors": {
                name: cheap().get(name, {"enabled": False}) for name in DetectorsConfig.model_fields
            },
            "deliver": {"feedback_topic": ""},
            "http": {"port": 0},
        }

    def daemon(self, name: str) -> Daemon:
        """One of them, not started."""
        path = self._folder / f"{name}.yaml"
        path.write_text(json.dumps(self._own | {"instance": name}), encoding="utf-8")  # JSON is YAML
        daemon = Daemon(name, path)
        self._daemons.append(daemon)
        return daemon

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            if daemon.alive:
                daemon.kill()


class Traffic:
    """Records at a steady pace to every partition of a topic, in a thread, while it is entered."""

    def __init__(self, kafka: ApacheKafka, topic: str) -> None:
        self._bootstrap = kafka.bootstrap
        self._topic = topic
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=20, metadata_max_age_ms=1000)
        while not self._ending.wait(0.1):
            for _ in range(PER_SECOND // 10):
                producer.send(self._topic, value_of(self.sent))
                self.sent += 1
        producer.flush()
        producer.close()


def summary(waits: Sequence[float | None]) -> dict[str, Any]:
    """Number and distribution of waits, how many hung (None) or were late, and how busy the machine is."""
    known = sorted(each for each in waits if each is not None)
    shares = (50, 90, 99, 100)
    return {
        "times": len(waits),
        "hung": len(waits) - len(known),
        "late": sum(each > READY_SECONDS for each in known),
        "seconds": {
            f"p{share}": round(known[(len(known) - 1) * share // 100], 2) for share in shares if known
        },
        "load_average": [round(each, 1) for each in os.getloadavg()],
    }


def _tell(case: str, waits: Sequence[float | None], cycles: int) -> None:
    if len(waits) % 10 == 0:
        tell(f"{case}: {len(waits)} of {cycles}, {waits.count(None)} hung")


def _topic(kafka: ApacheKafka) -> str:
    name = f"traces-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, PARTITIONS)
    return name


def _start(daemon: Daemon, ready: Callable[[], bool]) -> tuple[float | None, float | None]:
    """Start a daemon; seconds from its process, and from the log line `started`, until it is ready."""
    began = time.monotonic()
    daemon.start()
    while not any(event.get("event") == "started" for event in daemon.events()):
        assert daemon.alive, daemon.log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)
    waited = _wait(ready)
    return (None if waited is None else time.monotonic() - began), waited


def _wait(look: Callable[[], bool]) -> float | None:
    """Seconds until it holds; None when it does not within `HUNG_SECONDS`."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < HUNG_SECONDS:
        if look():
            return waited
        time.sleep(0.05)
    return None


def _last_words(daemon: Daemon) -> dict[str, Any]:
    return {"conditions": daemon.health(), "events": [event.get("event") for event in daemon.events()][-4:]}
