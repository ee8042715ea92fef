"""Ownership of partitions: claims them, decides where reading starts, and waits for those it may not read."""

from collections.abc import Collection, Mapping
from enum import Enum, auto
from typing import NamedTuple

from monitor.clock import Clock
from monitor.engine.ports import Claims, PartitionClaim
from monitor.errors import Retryable
from monitor.events import Assigned, Fetched, TopicPartition
from monitor.ports import Incident, Observer, Source
from monitor.progress import SUSPECT, Progress, StartPosition, StartReason, Witness

RETRY_SECONDS = 0.5  # a ledger that is busy answers within milliseconds, one that is away takes longer
LOOK_SECONDS = 2.0  # how soon an operator's `riskmon positions move`, or another daemon's claim, is noticed
RECLAIM_SECONDS = 10.0  # three heartbeats: by then the group has said what we own
FEW = 64  # records in hand at most, while daemons may die of one of those that come next
MANY = 4096  # records that may have been in hand when a daemon died: about as many as may wait
BEYOND_SECONDS = 10.0  # longest time that an end may lag behind after a fail-over of the broker

_INCIDENTS: Mapping[StartReason, Incident] = {
    StartReason.RECREATED: Incident.RECREATED,
    StartReason.TRUNCATED: Incident.TRUNCATED,
    StartReason.LEDGER_BEHIND: Incident.LEDGER_BEHIND,
}


class Partition:
    """A claimed partition. `alive` ends when it is revoked or fenced; its work is dropped then.

    `pending` counts records taken and not yet in the ledger; `queued_bytes` and `queued_traces` (those that
    came whole) wait for detectors. `witness` is the record to be delivered first,
    only to check that the topic was not recreated. If daemons died with its next records in hand, the next
    `few_left` are taken `FEW` at a time; if one died in spite of that, or these are all there is, the next
    `alone_left` are taken one by one, `alone` in the daemon. `condemned` is the one that they died of.
    """

    __slots__ = (
        "alive",
        "alone",
        "alone_left",
        "assigned",
        "condemned",
        "epoch",
        "few_left",
        "incarnation",
        "name",
        "pending",
        "progress",
        "queued_bytes",
        "queued_traces",
        "version",
        "witness",
    )

    def __init__(self, assigned: Assigned, claim: PartitionClaim) -> None:
        self.name = (assigned.topic, assigned.partition)
        self.assigned = assigned
        self.epoch = claim.epoch
        self.version = claim.version
        self.incarnation = claim.incarnation
        self.progress = Progress(claim.mark)
        self.alive = True
        self.pending = self.queued_bytes = self.queued_traces = 0
        deaths, self.condemned = claim.attempt
        left = assigned.end - claim.mark.next_offset
        suspect = deaths >= SUSPECT and left > 0
        self.alone = suspect and (deaths > SUSPECT or left <= FEW)
        self.alone_left = FEW if self.alone else 0
        self.few_left = MANY if suspect and not self.alone else 0
        witness = claim.mark.witness
        usable = witness is not None and not assigned.topic_id and witness.offset >= assigned.begin
        self.witness: Witness | None = witness if usable else None

    def room(self, *, quiet: bool) -> int:
        """Return how many records of a suspected partition may be taken now; `quiet`: none is in hand."""
        if self.alone:
            return int(quiet and self.alone_left > 0)
        return max(0, FEW - self.pending)

    def is_cleared(self) -> bool:
        """Return whether all records that were to be taken with care were, or the cause of death is known."""
        left = self.alone_left if self.alone else self.few_left
        return left <= 0 or self.progress.delivered >= self.assigned.end


class _Why(Enum):
    """Why an assigned partition is not read."""

    REFUSED = auto()  # the ledger did not take the claim
    FENCED = auto()  # another daemon has claimed it
    MOVED = auto()  # an operator has moved its position, and the source looks it up
    LOG_BEHIND = auto()  # what the broker says of the log is older than the ledger: its end, or its id
    UNREADABLE = auto()  # an operator must move the position
    ASIDE = auto()  # records of another one are taken alone


class _Waiting(NamedTuple):
    """An assigned partition that cannot be read: claimed again, or looked up anew, at `at`."""

    assigned: Assigned
    why: _Why
    at: float


class _Beyond(NamedTuple):
    """A position behind the end of its partition, and since when it has been there (monotonic).

    -1 while the topic's id is outdated: that time must not count as a wait for the end.
    """

    offset: int
    since: float


class Partitions:
    """Claims assigned partitions and gives them up.

    A partition that the group has assigned is `owned` once the ledger has our claim. It is read, or waits:

    | why | begins with | ends with |
    | --- | --- | --- |
    | REFUSED | a claim that the ledger did not take | the next claim, every `RETRY_SECONDS` |
    | LOG_BEHIND | a claim that found an old end or id | a look-up that fits, or proves a new log |
    | FENCED | a claim of another daemon | the group, or a claim after `RECLAIM_SECONDS` |
    | MOVED | an operator's move | the look-up that follows |
    | UNREADABLE, still owned | a batch that cannot be read | an operator's move |
    | ASIDE | records of another one that daemons died of | the last of these |
    """

    def __init__(
        self, source: Source, ledger: Claims, observer: Observer, clock: Clock, *, latest: bool
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._latest = latest
        self._ends: Mapping[TopicPartition, int] | None = None  # of the first look, until the ledger has them
        self._waiting: dict[TopicPartition, _Waiting] = {}
        # Outlives `_waiting`, which every new claim ends: the wait for an end is over when the end is there.
        self._beyond: dict[TopicPartition, _Beyond] = {}
        self._look_at = 0.0
        self.owned: dict[TopicPartition, Partition] = {}
        self.alone: Partition | None = None  # the one whose records are taken alone

    @property
    def stuck(self) -> bool:
        """Return whether a partition is stuck until its log is known anew or an operator acts."""
        return self._any(_Why.LOG_BEHIND, _Why.UNREADABLE)

    @property
    def fenced(self) -> bool:
        """Return whether another daemon has claimed a partition that the group assigned to us."""
        return self._any(_Why.FENCED)

    @property
    def refused(self) -> bool:
        """Return whether a claim still waits because the ledger failed."""
        return self._any(_Why.REFUSED)

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember what the topics held, before anything of them is claimed."""
        self._ends = ends

    def claim(self, assigned: Assigned) -> None:
        """Own a partition and begin reading it, now or as soon as the ledger answers."""
        name = (assigned.topic, assigned.partition)
        now = self._clock.monotonic()
        self._waiting.pop(name, None)
        if self.alone is not None:
            self._waiting[name] = _Waiting(assigned, _Why.ASIDE, float("inf"))
            return
        beyond = self._beyond.get(name)
        waited_at = beyond.offset if beyond and now - beyond.since >= BEYOND_SECONDS else None
        try:
            if self._ends is not None:
                self._ledger.first_look(self._ends)
                self._ends = None
            claim = self._ledger.claim(assigned, latest=self._latest, waited_at=waited_at)
        except Retryable:
            self._observer.incident(Incident.LEDGER_RETRY)
            self._waiting[name] = _Waiting(assigned, _Why.REFUSED, now + RETRY_SECONDS)
            return
        if isinstance(claim, StartPosition):
            if beyond is None:
                self._observer.incident(Incident.STUCK, *name)
            if beyond is None or beyond.offset != claim.offset:
                # A position that moves is another daemon's that reads this log: begin to wait again.
                self._beyond[name] = _Beyond(claim.offset, now)
            self._waiting[name] = _Waiting(assigned, _Why.LOG_BEHIND, now + LOOK_SECONDS)
            # Delivers nothing, but makes the broker say where the log was cut off.
            if claim.leader_epoch >= 0:
                self._source.seek(*name, claim.offset, claim.leader_epoch)
            return
        self._begin(assigned, claim)

    def _begin(self, assigned: Assigned, claim: PartitionClaim) -> None:
        """Read a claimed partition from its position on."""
        name = (assigned.topic, assigned.partition)
        self._beyond.pop(name, None)
        if claim.start.gap:
            self._observer.incident(Incident.GAP, *name)
        if claim.start.reason in _INCIDENTS:
            self._observer.incident(_INCIDENTS[claim.start.reason], *name)
        partition = self.owned[name] = Partition(assigned, claim)
        if partition.few_left or partition.alone:
            self._observer.incident(Incident.SUSPECTED, *name)
        if partition.alone:
            self.alone = partition
        if partition.witness is not None:
            self._source.seek(*name, partition.witness.offset, claim.mark.leader_epoch)
        else:
            self._source.seek(*name, claim.mark.next_offset, claim.mark.leader_epoch)

    def admit(self, partition: Partition, fetched: Fetched) -> Fetched | Assigned:
        """Check the first delivery of a partition whose topic has no id, and leave out what was read before.

        A witness that is gone proves nothing. One that is another record than before shows that the topic
        was made anew: the answer is then how to claim the partition.
        """
        witness, partition.witness = partition.witness, None
        first = fetched.records[0]
        if witness is not None and first.offset == witness.offset and first.time != witness.time:
            return partition.assigned._replace(committed=None, diverged=partition.assigned.begin)
        new = [record for record in fetched.records if record.offset >= partition.progress.next_offset]
        return fetched._replace(records=new)

    def give_up(self, name: TopicPartition) -> Partition | None:
        """Stop owning a partition; its traces in flight must not be recorded."""
        self._waiting.pop(name, None)
        partition = self.owned.pop(name, None)
        if partition is not None:
            partition.alive = False
            if partition is self.alone:
                self.rejoin()
        return partition

    def set_aside(self, assigned: Assigned) -> None:
        """Keep a partition unread until no other one is `alone` any more."""
        name = (assigned.topic, assigned.partition)
        self._waiting[name] = _Waiting(assigned, _Why.ASIDE, float("inf"))
        self._source.refresh(*name)

    def suspected(self) -> list[Partition]:
        """Return the partitions with whose next records daemons have died."""
        return [partition for partition in self.owned.values() if partition.few_left or partition.alone]

    def calm(self, partition: Partition) -> None:
        """Read a partition as usual again, and tell the ledger. Untold, the next death counts for more."""
        partition.few_left = partition.alone_left = 0
        if partition is self.alone:
            self.rejoin()
        try:
            self._ledger.calm(*partition.name)
        except Retryable:
            self._observer.incident(Incident.LEDGER_RETRY)

    def rejoin(self) -> None:
        """Read all partitions again: no record need be taken alone any more."""
        if self.alone is not None:
            self.alone.alone = False
            self.alone = None
        for name, waiting in self._waiting.items():
            if waiting.why is _Why.ASIDE:
                self._waiting[name] = waiting._replace(at=0.0)

    def give_back(self, names: Collection[TopicPartition]) -> None:
        """Tell the ledger that this daemon has left partitions alive. Untold, it counts as a death, once."""
        if not names:
            return
        try:
            self._ledger.give_back(names)
        except Retryable:
            self._observer.incident(Incident.LEDGER_RETRY)

    def revoked(self, name: TopicPartition) -> None:
        """End the wait for the end of a partition that the group has assigned to another daemon."""
        self._beyond.pop(name, None)

    def lost(self, partition: Partition) -> None:
        """Another claim exists: wait for the group to say whose it is; claim again if it stays ours."""
        at = self._clock.monotonic() + RECLAIM_SECONDS
        self._waiting[partition.name] = _Waiting(partition.assigned, _Why.FENCED, at)
        self._look_at = 0.0  # it may have been an operator, who waits

    def await_operator(self, name: TopicPartition) -> None:
        """Stay away from a partition until an operator moves its position in the ledger."""
        partition = self.owned.get(name)
        if partition is not None:
            self._observer.incident(Incident.STUCK, *name)
            self._waiting[name] = _Waiting(partition.assigned, _Why.UNREADABLE, float("inf"))

    def due(self) -> list[Assigned]:
        """Return the waiting partitions to claim now; ask the source to look up the others that are due."""
        now = self._clock.monotonic()
        ready = []
        for name, waiting in list(self._waiting.items()):
            if now < waiting.at:
                continue
            if waiting.why is _Why.REFUSED:
                ready.append(waiting.assigned)
                continue
            self._waiting[name] = waiting._replace(at=now + RECLAIM_SECONDS)
            self._source.refresh(*name)
        return ready

    def overtaken(self) -> dict[TopicPartition, bool]:
        """Return the partitions claimed anew since our claim, and whether an operator moved each.

        Asks the ledger every `LOOK_SECONDS`, so a daemon that has nothing to write notices too.
        """
        now = self._clock.monotonic()
        if now < self._look_at:
            return {}
        watched = self.owned.keys() | {n for n, w in self._waiting.items() if w.why is _Why.FENCED}
        if not watched:
            return {}
        self._look_at = now + LOOK_SECONDS
        try:
            holdings = self._ledger.holdings()
        except Retryable:
            return {}  # the next write reports the failure
        moved_by_operator = {}
        for name in watched:
            holding, partition = holdings.get(name), self.owned.get(name)
            if holding is not None and (
                holding.moved if partition is None else holding.epoch != partition.epoch
            ):
                moved_by_operator[name] = holding.moved
        return moved_by_operator

    def assigned(self, name: TopicPartition) -> Assigned | None:
        """Return the assignment of a partition; None when we do not own it."""
        if name in self.owned:
            return self.owned[name].assigned
        return self._waiting[name].assigned if name in self._waiting else None

    def follow(self, assigned: Assigned) -> None:
        """Read a partition from where an operator has moved it, as soon as the source has looked it up."""
        name = (assigned.topic, assigned.partition)
        self._observer.incident(Incident.MOVED, *name)
        self._beyond.pop(name, None)
        # The source answers within a moment; if that answer gets lost, `due` asks again.
        again = self._clock.monotonic() + RECLAIM_SECONDS
        self._waiting[name] = _Waiting(assigned, _Why.MOVED, again)
        self._source.refresh(*name)

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of every owned partition, as recorded or staged."""
        return {name: partition.progress.next_offset for name, partition in self.owned.items()}

    def _any(self, *reasons: _Why) -> bool:
        # A copy: `health` asks from another thread.
        return any(waiting.why in reasons for waiting in list(self._waiting.values()))
