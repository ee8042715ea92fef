"""Which traces a dearer tier looks at, with a probability that is known and recorded.

A tier's cheap predecessor says of each trace whether it is unsure. Unsure traces are looked at with
probability `effort`, which the engine lowers when the machine cannot carry the load; the others with
probability `audit`, so that what the cheap tier misses is estimated too. Because the probability of every
look is known and positive, rates can be corrected for it (Horvitz and Thompson, 1952,
doi:10.1080/01621459.1952.10483446).
"""

import hashlib
from typing import Final, Literal, TypeAlias

from monitor.errors import ConfigError

Profile: TypeAlias = Literal["default", "full", "offline"]
"""`default`: each tier looks at what the one before is unsure of, and at a random share of the rest. `full`:
every tier looks at every trace. `offline`: as `default`, with the bundled tiers only."""

AUDIT: Final = 0.01


class Cascade:
    """Decides for one tier of one detector. `effort` in [0, 1] is set between batches; 1: no hurry."""

    def __init__(
        self, detector: str, tier: int, *, audit: float = AUDIT, profile: Profile = "default"
    ) -> None:
        """Raise ConfigError when `audit` is not in (0, 1]: rates without any audit would be guesses."""
        if not 0.0 < audit <= 1.0:
            raise ConfigError(
                f"detectors.{detector}.options.audit: {audit} is not in (0, 1]; give a share such as {AUDIT}"
            )
        self._salt = f"{detector}:{tier}:"
        self._audit = 1.0 if profile == "full" else audit
        self.effort = 1.0

    def look(self, trace_id: str, *, unsure: bool) -> float:
        """Return with which probability the tier was to look at this trace, 0.0 when it is not going to.

        The draw depends on the trace's id alone, so a trace judged again is treated alike.
        """
        probability = max(self._audit, self.effort) if unsure else self._audit
        if probability >= 1.0:
            return 1.0
        digest = hashlib.sha256(f"{self._salt}{trace_id}".encode("utf-8", "surrogatepass")).digest()
        return probability if int.from_bytes(digest[:8]) < probability * 2**64 else 0.0
