"""Decides which traces escalate to a higher tier, each with a known and recorded probability.

The tier below says of each trace whether it is unsure. Unsure traces escalate with probability
`escalation_rate`, which the engine lowers when the machine cannot carry the load; the others with the
exploration rate (the option `audit` of detectors), so that errors of the cheap tier are estimated too.
Because every such probability is known and positive, rates can be corrected for it
(`monitor.telemetry.rates`).

A detector with tiers makes these promises, so that escalations can be counted and rates corrected:

- It exposes `cascades: tuple[Cascade, ...]`, one per higher tier, lowest first, and asks each at most once
  per trace. The worker sets their `escalation_rate` before a batch and reads their `tally` after it.
- A tier that sees only traces which reached another higher tier is built with `after=` that tier, and asked
  with `reached=` the answer that tier got. Both then share one draw: nested exploration adds no variance.
- `Assessment.tier` is the highest tier that judged the trace and `probability` that tier's answer of
  `escalate`; `values["tier0"]` is tier 0's own score wherever a higher tier judged.
- Where tiers lie between 0 and `tier` and judged too, `values["tier1"]` is the score after tier 1 and
  `values["probability1"]` its answer of `escalate` (and so on), because a rate is corrected tier by tier.
"""

import hashlib
from typing import Final, NamedTuple

from monitor.config import Profile
from monitor.errors import ConfigError

EXPLORATION_RATE: Final = 0.01


class Tally(NamedTuple):
    """Decisions of a cascade since its last tally.

    `escalated` traces go to the tier. `suppressed` ones do not, although the tier below is unsure: load
    shedding held them back. `passed` ones do not because the tier below is sure.
    """

    tier: int
    escalated: int
    suppressed: int
    passed: int


class Cascade:
    """Decides for one tier of one detector. `escalation_rate` in [0, 1] is set between batches."""

    def __init__(
        self,
        detector: str,
        tier: int,
        *,
        exploration_rate: float = EXPLORATION_RATE,
        profile: Profile = "default",
        after: "Cascade | None" = None,
    ) -> None:
        """Raise ConfigError when the exploration rate is not in (0, 1]: without it, rates are guesses."""
        if not 0.0 < exploration_rate <= 1.0:
            raise ConfigError(
                f"detectors.{detector}.options.audit: {exploration_rate} is not in (0, 1];"
                f" give a share such as {EXPLORATION_RATE}"
            )
        self.tier = tier
        self.escalation_rate = 1.0
        self._nested = after is not None
        self.salt: str = f"{detector}:{tier}:" if after is None else after.salt
        self._exploration_rate = 1.0 if profile == "full" else exploration_rate
        self._escalated = self._suppressed = self._passed = 0

    def escalate(self, trace_id: str, *, unsure: bool, reached: float | None = None) -> float:
        """Return the probability with which this trace was to escalate, 0.0 when it does not.

        `reached` is the probability that the tier `after` returned for this trace; it is required with such a
        tier and refused without. The draw depends on the trace's id alone, so a repeat is treated alike.
        """
        if (reached is not None) is not self._nested:
            raise TypeError("`reached` belongs to a cascade made with `after`, and to no other")
        before = 1.0 if reached is None else reached
        if before == 0.0:
            return 0.0  # the trace never reached the tier before
        # Never below the exploration rate, even at escalation rate 0: a trace that could not escalate would
        # have probability 0, and no weight could correct a rate for it.
        probability = max(self._exploration_rate, self.escalation_rate) if unsure else self._exploration_rate
        # Both tiers share the draw, and it was below `before` already. At `probability >= before` the trace
        # is certain to go on; below, P(draw < probability) is `probability` itself, not a product.
        if probability >= before or self._draw(trace_id) < probability:
            self._escalated += 1
            return min(before, probability)
        if unsure:
            self._suppressed += 1
        else:
            self._passed += 1
        return 0.0

    def tally(self) -> Tally:
        """Return the decisions since the last call."""
        tally = Tally(self.tier, self._escalated, self._suppressed, self._passed)
        self._escalated = self._suppressed = self._passed = 0
        return tally

    def _draw(self, trace_id: str) -> float:
        """Return a number that is uniform in [0, 1), a function of detector and trace."""
        digest = hashlib.sha256(f"{self.salt}{trace_id}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6]) / 2**48
