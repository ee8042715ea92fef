"""Soak cases: two daemons that are killed again and again, while some of what they read is hostile."""

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from adversary import SHAPES, documents, memory, runs
from apache_kafka import ApacheKafka
from cheap_detectors import trace_id
from checkout import ROOT
from daemons import Rig, cheap
from patience import PATIENCE, eventually
from soak import tell
from soak_million import PARTITIONS, SEED, Million

from monitor.config.judging import DetectorsConfig

RECORDS: Final = 1_000_000
JUDGED: Final = 50_000  # with all detectors
KILLS: Final = 20
GROWTH: Final = 0.05  # of memory, from the first tenth to the end


def siege(share: float, folder: Path) -> Mapping[str, object]:
    """A million records with cheap detectors, five in a hundred of them hostile."""
    return _besieged(int(RECORDS * share), 20, 4 * 1024, {"detectors": cheap()}, share, folder)


def siege_judged(share: float, folder: Path) -> Mapping[str, object]:
    """50,000 records with the default profile, one in a hundred of them hostile."""
    everything: dict[str, dict[str, Any]] = {name: {} for name in DetectorsConfig.model_fields}
    settings: dict[str, dict[str, Any]] = {"detectors": everything, "rules": {"paths": [str(ROOT / "rules")]}}
    return _besieged(int(JUDGED * share), 100, 16 * 1024, settings, share, folder)


def _besieged(
    records: int,
    every: int,
    size: int,
    settings: dict[str, dict[str, Any]],
    share: float,
    folder: Path,
) -> Mapping[str, object]:
    """Send, kill, and count: nothing may be lost or judged twice, no alert lost, and memory stays flat."""
    kills = max(2, round(KILLS * share))
    chance = random.Random(SEED)
    began = time.monotonic()
    sizes: list[int] = []
    with (
        ApacheKafka() as kafka,
        Rig(folder, kafka, partitions=PARTITIONS, ledger={"sample_ratio": 1.0}, **settings) as rig,
    ):
        run = Million(rig, records, ("one", "two"), _values(every, size))
        portion = records // (kills + 1)
        for nth in range(kills):
            futures = run.send(portion)
            time.sleep(chance.uniform(0.0, 1.5))
            run.do("kill")
            run.acknowledged(futures)
            run.catch_up(portion // 10)
            for daemon in rig.daemons:
                eventually(daemon.ready, f"{daemon.name} ready")
            sizes.append(sum(memory(daemon.process.pid) for daemon in rig.daemons))
            tell(f"siege: {run.sent} sent, {run.judged()} judged, {nth + 1} kills, {sizes[-1]} MiB")
        run.acknowledged(run.send(records - run.sent))
        run.catch_up(0)
        rig.deliver("feedback", "log", seconds=10 * PATIENCE)
        took = time.monotonic() - began
        run.close()
        growth = _growth(sizes[kills // 10 :])
        figures = _counted(rig, records) | {
            "kills": kills,
            "records_per_second": round(records / took),
            "memory_mib": sizes,
            "memory_growth": round(growth, 3),
        }
        assert share < 1.0 or growth <= GROWTH, figures
        return figures


def _growth(sizes: Sequence[int]) -> float:
    """Return by what share a line through the sizes rises from its beginning to its end.

    A line, as each kill replaces a daemon by a young one, so that single sizes go up and down.
    """
    rise, begin = np.polyfit(np.linspace(0.0, 1.0, len(sizes)), sizes, 1)
    return float(rise / begin)


def _values(every: int, size: int) -> Callable[[int], bytes]:
    """Return what makes the n-th record: an ordinary trace, or a hostile one of so many characters."""
    hostile = itertools.cycle(_hostile(size))

    def value(number: int) -> bytes:
        body = {"id": trace_id(number), "time": 1_700_000_000 + number, "app": "shop", "response": "Hello."}
        if number % every == 0:  # some of them are flagged by the cheap detectors, too
            body |= {**next(hostile), "app": "adversary"}
        return json.dumps(body).encode()

    return value


def _hostile(size: int) -> Iterator[dict[str, Any]]:
    for shape in SHAPES:
        yield from runs(shape, size)
    yield documents(size // 64)


def _counted(rig: Rig[ApacheKafka], records: int) -> dict[str, object]:
    """Assert that each trace was judged once, each flag is on the chain and delivered; return the counts."""
    names = Counter(name for (name,) in rig.rows("SELECT trace_id FROM assessments"))
    lost = sum(trace_id(number) not in names for number in range(records))
    flags = Counter(key for (key,) in rig.rows("SELECT id FROM flags"))
    on_chain = [json.loads(body)["id"] for (body,) in rig.rows("SELECT body FROM chain WHERE kind = 'flag'")]
    undelivered = rig.rows("SELECT count(*) FROM outbox WHERE state != 'delivered'")
    report = rig.verify()
    figures: dict[str, object] = {
        "records": records,
        "lost": lost,
        "judged_twice": names.total() - len(names),
        "flags": len(flags),
        "undelivered": undelivered[0][0],
        "dead_letters": report["dead_letters"],
    }
    assert (lost, names.total() - len(names)) == (0, 0), figures
    assert sorted(on_chain) == sorted(flags), figures
    assert undelivered == [(0,)], figures
    assert (report["ok"], report["open"], report["dead_letters"]) == (True, [], 0), (figures, report)
    return figures
