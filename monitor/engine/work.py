"""Work on its way through the loop: traces to judge, from one record or from parts of several."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from monitor.assembly import ExchangeId
from monitor.engine.partitions import Partition
from monitor.trace import Origin, Trace


class Part(NamedTuple):
    """One trace, or one span of a trace, in a record."""

    partition: Partition
    offset: int
    part: int


@dataclasses.dataclass(slots=True)
class Siblings:
    """Parts that are done once `left` more exchanges of their trace are."""

    parts: Sequence[Part]
    left: int


class Work(msgspec.Struct, frozen=True):
    """A trace to judge, taken at `taken` (monotonic).

    `size` is its record's bytes, on its first trace only, so that the sum over the queue counts each record
    once; of a trace assembled from spans it is the share of their bytes. `chars` is about how many characters
    detectors will read. `exchange` is the id of such a trace remembered against repeats, and `siblings` are
    the parts of it that need no judgement of their own.
    """

    partition: Partition
    origin: Origin
    trace: Trace
    size: int
    taken: float
    exchange: ExchangeId | None = None
    siblings: Siblings | None = None
    chars: int = 0


class SubmittedBatch(NamedTuple):
    """A batch that the detectors have had since `started` (Unix seconds)."""

    work: Sequence[Work]
    started: float
