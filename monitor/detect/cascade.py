"""Decides which traces a higher tier looks at, each with a known and recorded probability.

A tier's cheap predecessor says of each trace whether it is unsure. Unsure traces are looked at with
probability `effort`, which the engine lowers when the machine cannot carry the load; the others with
probability `audit`, so that what the cheap tier misses is estimated too. Because the probability of every
look is known and positive, rates can be corrected for it (`monitor.telemetry.rates`).

What a detector with tiers promises, so that its looks can be counted and its rates corrected:

- It exposes `cascades: tuple[Cascade, ...]`, one per higher tier, lowest first, and asks each at most once
  per trace. The worker sets their `effort` before a batch and reads their `tally` after it.
- A tier that sees only what another higher tier has seen is built with `after=` that tier, and asked with
  `reached=` the answer that tier got. Both then share one draw: nested audits cost no extra variance.
- `Assessment.tier` is the highest tier that looked and `probability` that tier's answer of `look`;
  `values["tier0"]` is tier 0's own score wherever a higher tier looked.
- Where tiers lie between 0 and `tier` and looked too, `values["tier1"]` is the score after tier 1 and
  `values["probability1"]` its answer of `look` (and so on), because a rate is corrected tier by tier.
"""

import hashlib
from typing import Final, NamedTuple

from monitor.config import Profile
from monitor.errors import ConfigError

AUDIT: Final = 0.01


class Tally(NamedTuple):
    """What a tier did with the traces it was asked about. `left_out` were unsure; `spared` were not."""

    tier: int
    looked: int
    left_out: int
    spared: int


class Cascade:
    """Decides for one tier of one detector. `effort` in [0, 1] is set between batches; 1: no hurry."""

    def __init__(
        self,
        detector: str,
        tier: int,
        *,
        audit: float = AUDIT,
        profile: Profile = "default",
        after: "Cascade | None" = None,
    ) -> None:
        """Raise ConfigError when `audit` is not in (0, 1]: rates without any audit would be guesses."""
        if not 0.0 < audit <= 1.0:
            raise ConfigError(
                f"detectors.{detector}.options.audit: {audit} is not in (0, 1]; give a share such as {AUDIT}"
            )
        self.tier = tier
        self.effort = 1.0
        self._nested = after is not None
        self.salt: str = f"{detector}:{tier}:" if after is None else after.salt
        self._audit = 1.0 if profile == "full" else audit
        self._looked = self._left_out = self._spared = 0

    def look(self, trace_id: str, *, unsure: bool, reached: float | None = None) -> float:
        """Return with which probability the tier was to look at this trace, 0.0 when it is not going to.

        `reached` is the answer that the tier named by `after` got for this trace, and is needed exactly where
        there is one. The draw depends on the trace's id alone, so a trace judged again is treated alike.
        """
        if (reached is not None) is not self._nested:
            raise TypeError("`reached` belongs to a cascade made with `after`, and to no other")
        before = 1.0 if reached is None else reached
        if before == 0.0:
            return 0.0  # nobody asked this tier
        probability = max(self._audit, self.effort) if unsure else self._audit
        # The draw is shared with the tier before: below `before` is certain.
        if probability >= before or self._draw(trace_id) < probability:
            self._looked += 1
            return min(before, probability)
        if unsure:
            self._left_out += 1
        else:
            self._spared += 1
        return 0.0

    def tally(self) -> Tally:
        """Return what it did since the last call."""
        tally = Tally(self.tier, self._looked, self._left_out, self._spared)
        self._looked = self._left_out = self._spared = 0
        return tally

    def _draw(self, trace_id: str) -> float:
        """Uniform in [0, 1), a function of detector and trace."""
        digest = hashlib.sha256(f"{self.salt}{trace_id}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6]) / 2**48
