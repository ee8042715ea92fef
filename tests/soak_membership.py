"""Soak cases of group membership: daemons start, partitions are added, groups rebalance, over and over.

Each case takes a running Apache Kafka and an empty folder, and returns its figures. A daemon that is not
ready after `HUNG_SECONDS` counts as one that hangs: its conditions and last events are in the figures.
"""

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from daemons import Daemon, cheap, value_of

from monitor.config import DetectorsConfig

HUNG_SECONDS: Final = 60.0
PARTITIONS: Final = 3
LOOPS: Final = 3
_names = itertools.count()


class Daemons:
    """Daemons of one group on one topic, sharing a folder and so a ledger."""

    def __init__(self, folder: Path, bootstrap: str, topic: str) -> None:
        self.folder = folder
        self.topic = topic
        self._own = {
            "data_dir": str(folder / "data"),
            "kafka": {
                "bootstrap_servers": [bootstrap],
                "topics": [topic],
                "group_id": f"group-{next(_names)}-{os.getpid()}",
                "session_timeout_ms": 10_000,
            },
            "pool": {"workers": 1},
            "detectors": {
                name: cheap().get(name, {"enabled": False}) for name in DetectorsConfig.model_fields
            },
            "deliver": {"feedback_topic": ""},
            "ledger": {"sample_ratio": 1.0},
            "http": {"port": 0},
        }
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def group(self) -> str:
        """The consumer group they share."""
        kafka: dict[str, Any] = self._own["kafka"]  # type: ignore[assignment] # a section is a mapping
        return str(kafka["group_id"])

    def daemon(self, name: str) -> Daemon:
        """One of them, not started."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(self._own | {"instance": name}), encoding="utf-8")  # JSON is YAML
        return Daemon(name, path)


def wait_for(look: Callable[[], bool], began: float) -> float | None:
    """Seconds from `began` until it holds; None when it does not within `HUNG_SECONDS`."""
    while (waited := time.monotonic() - began) < HUNG_SECONDS:
        if look():
            return waited
        time.sleep(0.05)
    return None


def summary(waits: Sequence[float | None]) -> dict[str, Any]:
    """Count, hangs and distribution of waits, and how busy the machine is."""
    known = sorted(each for each in waits if each is not None)
    quantile = {
        f"p{share}": round(known[min(len(known) - 1, len(known) * share // 100)], 2)
        for share in (50, 90, 99)
        if known
    }
    return {
        "times": len(waits),
        "hung": len(waits) - len(known),
        "over_10_s": sum(each > 10.0 for each in known) + len(waits) - len(known),
        "seconds": quantile | {"most": round(known[-1], 2) if known else None},
        "load_average": [round(each, 1) for each in os.getloadavg()],
    }


def _last_words(daemon: Daemon) -> dict[str, Any]:
    return {"conditions": daemon.health(), "events": [event.get("event") for event in daemon.events()][-4:]}


def _told_started(daemon: Daemon) -> bool:
    return any(event.get("event") == "started" for event in daemon.events())


def starts(bootstrap: str, topic: str, folder: Path, cycles: int = 500) -> dict[str, Any]:
    """Start and stop a daemon on a topic that exists, in three loops side by side, each in its own group.

    Wanted: none hangs, each is ready within 10 s of the log line `started`, which comes when models are
    loaded. `processes` are the seconds from the start of the process.
    """
    whole: list[float | None] = []
    joining: list[float | None] = []
    hung: list[dict[str, Any]] = []
    left = itertools.count()

    def loop(number: int) -> None:
        daemon = Daemons(folder / str(number), bootstrap, topic).daemon("one")
        pause = random.Random(number)
        while next(left) < cycles:
            began = time.monotonic()
            daemon.start()
            up = wait_for(lambda: _told_started(daemon), began)
            since = time.monotonic()
            ready = wait_for(daemon.ready, since)
            joining.append(ready)
            whole.append(None if up is None or ready is None else up + ready)
            if ready is None:
                hung.append(_last_words(daemon))
            time.sleep(pause.random())
            daemon.stop()

    with ThreadPoolExecutor(LOOPS) as pool:
        list(pool.map(loop, range(LOOPS)))
    return {"case": "starts", **summary(joining), "processes": summary(whole), "hangs": hung[:5]}


class Traffic:
    """Records at a steady pace to every partition of a topic, in a thread, while it is entered."""

    def __init__(self, bootstrap: str, topic: str, per_second: float) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._per_second = per_second
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
            for _ in range(int(self._per_second / 10)):
                producer.send(self._topic, value_of(self.sent))
                self.sent += 1
        producer.flush()
        producer.close()


def partitions(
    bootstrap: str,
    topic: str,
    folder: Path,
    add: Callable[[int], None],
    cycles: int = 100,
    rate: float = 50.0,
) -> dict[str, Any]:
    """Add a partition to a topic under load, over and over; `add` takes the new total.

    Wanted each time: within 10 s the daemon reports the lag of the new partition, which it does once it reads
    it, and is ready.
    """
    waits: list[float | None] = []
    hung: list[dict[str, Any]] = []
    daemon = Daemons(folder, bootstrap, topic).daemon("one").start()
    with Traffic(bootstrap, topic, rate):
        first = wait_for(daemon.ready, time.monotonic())
        for total in range(PARTITIONS + 1, PARTITIONS + 1 + cycles):
            began = time.monotonic()
            add(total)
            waits.append(wait_for(partial(_reads, daemon, topic, total), began))
            if waits[-1] is None:
                hung.append(_last_words(daemon) | {"partitions": _owned(daemon, topic)})
                daemon.kill()
                daemon.start()
                wait_for(daemon.ready, time.monotonic())
    daemon.stop()
    return {"case": "partitions", **summary(waits), "first_ready": first, "hangs": hung[:5]}


def _owned(daemon: Daemon, topic: str) -> int:
    return len(daemon.samples("riskmon_lag_records", f'topic="{topic}"'))


def _reads(daemon: Daemon, topic: str, total: int) -> bool:
    return daemon.ready() and _owned(daemon, topic) == total


def rebalances(
    bootstrap: str, topic: str, folder: Path, cycles: int = 100, rate: float = 50.0
) -> dict[str, Any]:
    """Three daemons in one group, one of which is stopped or killed and started again, over and over.

    Wanted each time: within 10 s of its start it is ready, and so are the two others.
    """
    waits: list[float | None] = []
    hung: list[dict[str, Any]] = []
    group = Daemons(folder, bootstrap, topic)
    daemons = [group.daemon(name).start() for name in ("one", "two", "three")]
    with Traffic(bootstrap, topic, rate):
        for daemon in daemons:
            wait_for(daemon.ready, time.monotonic())
        for cycle in range(cycles):
            daemon = daemons[cycle % len(daemons)]
            if cycle % 4 == 3:
                daemon.kill()
            else:
                daemon.stop()
            began = time.monotonic()
            daemon.start()
            waits.append(wait_for(lambda: all(each.ready() for each in daemons), began))
            if waits[-1] is None:
                hung += [_last_words(each) for each in daemons if not each.ready()]
    for daemon in daemons:
        daemon.stop()
    return {"case": "rebalances", **summary(waits), "hangs": hung[:5]}
