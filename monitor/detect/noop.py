"""A detector that reads nothing. It measures the cost of everything around the detectors."""

from collections.abc import Sequence

from monitor.errors import ConfigError
from monitor.findings import Assessment, Status
from monitor.trace import Trace


class Noop:
    """Gives every trace the same score."""

    version = "1"

    def __init__(self, name: str, score: float) -> None:
        self.name = name
        self._answer = Assessment(detector=name, version=self.version, status=Status.SCORED, score=score)

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return the score for each trace, at once."""
        return [self._answer] * len(traces)


def build(name: str = "noop", score: float = 0.0) -> Noop:
    """Build it. `score` is in [0, 1]."""
    if not 0.0 <= score <= 1.0:
        raise ConfigError(f"detectors.{name}.options.score: {score} is not in [0, 1]; give a number that is")
    return Noop(name, score)
