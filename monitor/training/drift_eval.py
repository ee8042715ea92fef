"""Measure the drift monitor: `python -m monitor.training.drift_eval`.

Streams of 500 CLINC150 messages, reference 200 of five random domains, a sixth domain after 250. Prints, as
JSON, the share of streams with a false alarm, the share of the others in which the change is detected, the
median delay in messages, and the time taken per trace.
"""

import json
import random
import sys
from typing import Any

import numpy as np

from monitor.clock import Clock, SystemClock
from monitor.detect.drift import Drift
from monitor.drift.monitor import DriftMonitor
from monitor.findings import Assessment
from monitor.models.embedding import Embedding
from monitor.trace import Message, Trace
from monitor.training import rows

RUNS, REFERENCE, LENGTH, CHANGE = 40, 200, 500, 250

Traced = tuple[Trace, Assessment]


def stream(topics: dict[str, list[Traced]], share: float, chance: random.Random) -> list[Traced]:
    """Return reference and stream: five domains, and from the change on a share of another one."""
    names = sorted(topics)
    chance.shuffle(names)
    known = [item for name in names[:5] for item in topics[name]]
    chance.shuffle(known)
    new = list(topics[names[5]])
    chance.shuffle(new)
    traces = known[: REFERENCE + CHANGE]
    rest = known[REFERENCE + CHANGE :]
    for i in range(LENGTH - CHANGE):
        traces.append(new[i % len(new)] if chance.random() < share else rest[i % len(rest)])
    return traces


def alarms(items: list[Traced], monitor: DriftMonitor) -> list[int]:
    """Return the places after the reference at which the monitor alarms."""
    after = [monitor.update(*item).values.get("alarm", 0.0) for item in items][REFERENCE:]
    return [i for i, alarm in enumerate(after) if alarm]


def measure(clock: Clock) -> dict[str, Any]:
    """Run the streams with the default settings."""
    detector = Drift(Embedding.load())
    data = list(rows("evaldata", "drift", "clinc150.jsonl"))
    traces = [
        Trace(id=row["id"], time=0.0, response="", messages=(Message(role="user", content=row["text"]),))
        for row in data
    ]
    topics: dict[str, list[Traced]] = {}
    for row, item in zip(data, zip(traces, detector.assess(traces), strict=True), strict=True):
        if row["intent_or_topic"] != "oos":
            topics.setdefault(row["intent_or_topic"].partition("/")[0], []).append(item)
    report: dict[str, Any] = {}
    for bound in (2_000, 10_000, 100_000):
        result = report[f"false_alarm_traces={bound}"] = {}
        for share in (0.0, 1.0, 0.5, 0.25):
            chance = random.Random(11)  # noqa: S311 - sampling, not cryptography
            runs = [
                alarms(
                    stream(topics, share, chance), DriftMonitor(reference=REFERENCE, false_alarm_traces=bound)
                )
                for _ in range(RUNS)
            ]
            if not share:
                result["false_alarms_per_500"] = float(np.mean([bool(run) for run in runs]))
                continue
            clean = [run for run in runs if not run or run[0] >= CHANGE]
            delays = [run[0] - CHANGE for run in clean if run]
            result[f"new_topic_{share:.0%}"] = {
                "detected": round(len(delays) / max(1, len(clean)), 3),
                "median_delay": float(np.median(delays)) if delays else None,
            }
    monitor = DriftMonitor(reference=REFERENCE, false_alarm_traces=1e12)
    items = stream(topics, 0.0, random.Random(3)) * 4  # noqa: S311 - see above
    started = clock.monotonic()
    for item in items:
        monitor.update(*item)
    report["microseconds_per_trace"] = round(1e6 * (clock.monotonic() - started) / len(items), 1)
    return report


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(SystemClock()), indent=1) + "\n")
