"""Which partitions this daemon owns, from where it reads them, and what it does when it may not."""

from typing import NamedTuple, Protocol

from monitor.clock import Clock
from monitor.errors import Retryable
from monitor.progress import Mark, Placement, Progress
from monitor.stream import Assigned, Incident, Observer, Source, TopicPartition

RETRY_SECONDS = 0.5  # a busy ledger answers within milliseconds
OPERATOR_SECONDS = 5.0  # how soon an operator's `riskmon positions move` is noticed
RECLAIM_SECONDS = 60.0  # > 45 s session time-out: by then the group has told us what we own
UNLIMITED = 2**62


class Claim(Protocol):
    """A partition claimed in the ledger."""

    @property
    def epoch(self) -> int:
        """Fencing token: a later claim has a higher one."""
        ...

    @property
    def version(self) -> int:
        """Number of transactions of the partition so far."""
        ...

    @property
    def mark(self) -> Mark:
        """Progress to continue from."""
        ...

    @property
    def placement(self) -> Placement:
        """Why reading begins there."""
        ...


class Claims(Protocol):
    """What is needed of a ledger to own partitions."""

    def claim(self, assigned: Assigned, *, latest: bool) -> Claim | Placement:
        """Claim a partition and say where to read on; a bare Placement means that it must not be read."""
        ...

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset of a partition, None when it was never claimed."""
        ...


class Partition:
    """A claimed partition. `alive` ends when it is revoked or fenced; its work is dropped then.

    `pending` counts records taken and not yet in the ledger.
    """

    __slots__ = ("alive", "epoch", "name", "pending", "progress", "version")

    def __init__(self, name: TopicPartition, claim: Claim) -> None:
        self.name = name
        self.epoch = claim.epoch
        self.version = claim.version
        self.progress = Progress(claim.mark)
        self.alive = True
        self.pending = 0


class _Waiting(NamedTuple):
    """An assigned partition that cannot be read: claimed again at `at`, or when an operator has moved it.

    `refused`: the ledger did not take the claim.
    """

    assigned: Assigned
    at: float
    operator: bool
    refused: bool = False


class Partitions:
    """Claims assigned partitions and gives them up."""

    def __init__(
        self, source: Source, ledger: Claims, observer: Observer, clock: Clock, *, latest: bool
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._latest = latest
        self._waiting: dict[TopicPartition, _Waiting] = {}
        self.owned: dict[TopicPartition, Partition] = {}

    @property
    def stuck(self) -> bool:
        """Whether a partition waits for an operator."""
        return any(waiting.operator for waiting in list(self._waiting.values()))  # asked from health, too

    @property
    def refused(self) -> bool:
        """Whether the ledger fails, as it took the claim of a partition not yet."""
        return any(waiting.refused for waiting in list(self._waiting.values()))  # asked from health, too

    def claim(self, assigned: Assigned) -> None:
        """Own a partition and begin reading it, now or as soon as the ledger answers."""
        name = (assigned.topic, assigned.partition)
        self._waiting.pop(name, None)
        try:
            claim = self._ledger.claim(assigned, latest=self._latest)
        except Retryable:
            self._observer.incident(Incident.LEDGER_RETRY)
            again = self._clock.monotonic() + RETRY_SECONDS
            self._waiting[name] = _Waiting(assigned, again, operator=False, refused=True)
            return
        if isinstance(claim, Placement):
            self.await_operator(name)
            return
        if claim.placement.gap:
            self._observer.incident(Incident.GAP, *name)
        partition = self.owned[name] = Partition(name, claim)
        self._source.seek(*name, partition.progress.next_offset)

    def give_up(self, name: TopicPartition) -> Partition | None:
        """Own a partition no longer; what is in flight for it must not be recorded."""
        self._waiting.pop(name, None)
        partition = self.owned.pop(name, None)
        if partition is not None:
            partition.alive = False
        return partition

    def fenced(self, name: TopicPartition) -> None:
        """Another claim exists: wait for the group to say whose it is; claim again if it stays ours."""
        assigned = Assigned(*name, None, 0, UNLIMITED)
        self._waiting[name] = _Waiting(assigned, self._clock.monotonic() + RECLAIM_SECONDS, operator=False)

    def await_operator(self, name: TopicPartition) -> None:
        """Stay away from a partition until an operator moves its position in the ledger."""
        self._observer.incident(Incident.STUCK, *name)
        assigned = Assigned(*name, None, 0, UNLIMITED)
        self._waiting[name] = _Waiting(assigned, self._clock.monotonic() + OPERATOR_SECONDS, operator=True)

    def due(self) -> list[Assigned]:
        """Waiting partitions to be claimed now."""
        now = self._clock.monotonic()
        return [w.assigned for name, w in self._waiting.items() if now >= w.at and self._ready(name, w, now)]

    def _ready(self, name: TopicPartition, waiting: _Waiting, now: float) -> bool:
        if not waiting.operator:
            return True
        self._waiting[name] = waiting._replace(at=now + OPERATOR_SECONDS)
        try:
            position = self._ledger.position(*name)
        except Retryable:
            return False
        partition = self.owned.get(name)
        return partition is not None and position != partition.progress.next_offset

    def positions(self) -> dict[TopicPartition, int]:
        """Next offset of every owned partition, as recorded or staged."""
        return {name: partition.progress.next_offset for name, partition in self.owned.items()}
