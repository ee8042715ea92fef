"""Detectors with a cheap and a dear tier whose costs are waited for: for tests of the cascade under load."""

import time
import zlib
from collections.abc import Sequence

from monitor.config import Profile
from monitor.detect import Spec
from monitor.detect.cascade import Cascade
from monitor.findings import Assessment, Status
from monitor.trace import Trace


def uniform(salt: str, trace_id: str) -> float:
    """A number in [0, 1) that the trace's id decides."""
    return zlib.crc32(f"{salt}/{trace_id}".encode()) / 2**32


class Tiered:
    """Unsure of a share of the traces; each look of tier 1 takes time and may change the score."""

    version = "1"

    def __init__(self, name: str, unsure: float, cheap: float, dear: float, profile: Profile) -> None:
        self.name = name
        self.cascades = (Cascade(name, 1, profile=profile),)
        self._unsure = unsure
        self._cheap = cheap
        self._dear = dear

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Wait as long as the looks would take."""
        looks = [self.cascades[0].escalate(one.id, unsure=self.is_unsure(one.id)) for one in traces]
        time.sleep(self._cheap * len(traces) + self._dear * sum(look > 0.0 for look in looks))
        return [self._one(trace.id, look) for trace, look in zip(traces, looks, strict=True)]

    def is_unsure(self, trace_id: str) -> bool:
        """Whether tier 0 is unsure of it."""
        return uniform("unsure", trace_id) < self._unsure

    def _one(self, trace_id: str, look: float) -> Assessment:
        first = float(uniform("tier0", trace_id) < 0.1)
        final = float(uniform("tier1", trace_id) < 0.1) if look and self.is_unsure(trace_id) else first
        return Assessment(
            detector=self.name,
            version=self.version,
            status=Status.SCORED,
            score=final,
            tier=int(look > 0.0),
            probability=look or 1.0,
            values={"tier0": first},
        )


def build(
    name: str,
    unsure: float = 0.5,
    cheap: float = 0.0,
    dear: float = 0.0,
    profile: Profile = "default",
) -> Tiered:
    """Build one: `cheap` seconds per trace and `dear` per look of tier 1."""
    return Tiered(name, unsure, cheap, dear, profile)


def spec(name: str, **options: float) -> Spec:
    """Specify a detector of this module."""
    return Spec(name=name, factory="tiered_detectors:build", options={"name": name} | options)
