"""Combines evidence of several kinds into a score."""

from collections.abc import Sequence

from monitor.findings import Evidence


def noisy_or(evidence: Sequence[Evidence]) -> float:
    """Return one minus the chance that every kind is wrong, with the worst evidence of each kind."""
    worst: dict[str, float] = {}
    for entry in evidence:
        worst[entry.kind] = max(worst.get(entry.kind, 0.0), entry.score)
    none = 1.0
    for score in worst.values():
        none *= 1.0 - score
    return 1.0 - none
