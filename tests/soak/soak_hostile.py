"""Soak case: whatever an adversary sends, the loop turns, memory is bounded, others are judged in time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adversary import beside, hostile
from soak import tell

from monitor.config import Config

LONGEST_TURN: Final = 1.0  # processor seconds
MOST_MEMORY: Final = 1536  # MiB, of the daemon and its workers
RATE: Final = 10.0  # traces a second of the application beside
SECONDS: Final = 20.0  # of each attack


def attacks(share: float, folder: Path) -> Mapping[str, object]:
    """Judge each attack beside another application's traffic, and that traffic alone for comparison.

    Reports how many times as long the other's 99th percentile waits; its target is 2.
    """
    del folder
    figures: dict[str, object] = {}
    formats = {"ingest": {"formats": {"attack": "auto", "traffic": "auto"}}}
    config = Config.model_validate({**formats, "instance": "soak"})
    quiet, idle = beside([], SECONDS, RATE, config)
    usual = _percentile(quiet.waits)
    figures["alone"] = {"p99_seconds": usual, "peak_mib": idle}
    for name, records in hostile(share):
        watch, peak = beside(records, SECONDS, RATE, config)
        figures[name] = {
            "longest_turn_seconds": round(watch.longest_turn, 2),
            "peak_mib": peak,
            "p99_seconds": _percentile(watch.waits),
            "p99_ratio": round(_percentile(watch.waits) / usual, 1),
            "judged": watch.judged_traces - len(watch.waits),
        }
        tell(f"hostile: {name}: {figures[name]}")
        assert watch.longest_turn < LONGEST_TURN, (name, figures[name])
        assert peak < MOST_MEMORY, (name, figures[name])
    return figures


def _percentile(waits: list[float]) -> float:
    ordered = sorted(waits)
    return round(ordered[int(0.99 * len(ordered))], 3)
