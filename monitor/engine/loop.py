"""The one loop: poll, decode, detect, decide, record, commit. Nothing else polls, pauses, commits or ends.

Order is the promise. A record's effects are in the ledger before its position is, in one transaction, and the
position is in the ledger before Kafka hears of it. Work is held, never dropped: when the detectors are busy
or the ledger fails, intake pauses and the loop keeps polling, so that the daemon stays in its group.
"""

from collections.abc import Callable, Mapping, Sequence

from monitor.assembly import Assembler
from monitor.clock import Clock, Deadline
from monitor.engine.backoff import Backoff
from monitor.engine.intake import Intake
from monitor.engine.judging import Judging
from monitor.engine.load_shedding import LoadShedding
from monitor.engine.partitions import Partition, Partitions
from monitor.engine.portions import MOST_BYTES, portion
from monitor.engine.ports import LedgerPort
from monitor.engine.settings import Settings, Totals
from monitor.engine.settling import count_released, settle
from monitor.engine.staging import Staged
from monitor.engine.throttle import Throttle
from monitor.engine.work import Part
from monitor.errors import Fenced, Retryable
from monitor.events import (
    Assigned,
    Event,
    Exhausted,
    Existing,
    Fetched,
    OutOfRange,
    Passed,
    Revoked,
    Stuck,
    TopicPartition,
)
from monitor.outcome.effects import Policy
from monitor.outcome.transaction import EngineVersion
from monitor.ports import Detectors, Incident, Monitor, Observer, Source, Stage
from monitor.rules import RuleBook
from monitor.trace import Record, Span, Trace

COMMIT_SECONDS = 1.0  # Kafka's position is advisory, the ledger's is exact: no need to be faster
LAG_SECONDS = 1.0
IDLE_SECONDS = 0.1  # longest wait of an idle turn: how late a stop or a reload may be noticed
BUSY_SECONDS = 0.02  # longest wait for detectors while there may be more to read
POLL_SECONDS = 0.2  # longest time between polls with work at hand: heartbeats and rebalances need them
SOON_SECONDS = 0.05  # the same while some partitions crowd out others
ENOUGH_BATCHES = 2  # decoded batches at hand before intake waits


class Engine:
    """Runs the loop on one source, pool and ledger. Other threads may call stop, reload and health only."""

    def __init__(
        self,
        *,
        source: Source,
        decode: Callable[[Record], Sequence[Trace | Span]],
        detectors: Detectors,
        rules: RuleBook,
        monitors: Mapping[str, Monitor],
        ledger: LedgerPort,
        policy: Policy,
        observer: Observer,
        clock: Clock,
        settings: Settings,
        assembler: Assembler[Part],
    ) -> None:
        self._source = source
        self._detectors = detectors
        self._rules = rules
        self._monitors = monitors
        self._ledger = ledger
        self._policy = policy
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._partitions = Partitions(source, ledger, observer, clock, latest=settings.latest)
        self._intake = Intake(decode, assembler, observer, settings.apps)
        self._judging = Judging(
            detectors, rules, monitors, observer, clock, excerpt_chars=settings.excerpt_chars
        )
        self._load_shedding = LoadShedding(clock)
        self._assembler = assembler
        self._staged = Staged()
        self._deferred: list[Event] = []
        self._ledger_backoff = Backoff(clock)
        self._throttle = Throttle(source, settings)
        self._exhausted = self._stopping = self._reloading = False
        self._drain_until: Deadline | None = None
        self._commit_at = self._rules_at = self._lag_at = 0.0
        self._committed: dict[TopicPartition, int] = {}
        self.totals = Totals()
        self.turned_at = self._polled_at = clock.monotonic()

    def stop(self) -> Deadline:
        """Ask the loop to drain from now on and to end. Safe from any thread and from a signal handler."""
        self._drain_until = self._drain_until or Deadline(self._clock, self._settings.drain_seconds)
        self._stopping = True
        return self._drain_until

    def reload(self) -> None:
        """Ask the loop to check the rule files now. Safe from any thread and from a signal handler."""
        self._reloading = True

    def run(self) -> Totals:
        """Run until stopped or until the input has ended; drain, then close the source."""
        while not self.finished:
            self.turn()
        return self.drain()

    @property
    def finished(self) -> bool:
        """Return whether the loop was asked to stop, or the input has ended and all of it is recorded."""
        return self._stopping or (self._exhausted and self.idle)

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of every owned partition, as recorded or staged."""
        return self._partitions.positions()

    def drain(self) -> Totals:
        """Finish the batches in flight, record them, commit and leave; all within one deadline.

        Traces that only wait for a detector are released: with slow detectors they can be minutes of work,
        and if the deadline ran out meanwhile, the batches in flight would be lost too.
        """
        deadline = self.stop()
        self._intake.clear()
        self._deferred = []
        while not self.idle and not deadline.expired():
            self.turn()
        # A partition with work left keeps its last commit, so that its next owner reads that work again.
        positions = dict(self._committed)
        for partition in self._partitions.owned.values():
            if not partition.pending:
                positions[partition.name] = partition.progress.next_offset
            count_released(partition, self.totals, self._observer)
        self._partitions.give_back(self._partitions.owned)
        # A moment even past the deadline: a member that does not leave keeps its partitions until it expires.
        self._source.close(positions, max(1.0, deadline.remaining()))
        return self.totals

    @property
    def idle(self) -> bool:
        """Return whether all taken records are recorded, save spans that wait for others of their trace."""
        unfinished = self._exhausted and not self._stopping and self._assembler
        return not (self._intake or self._judging or self._staged or unfinished)

    @property
    def escalation_rate(self) -> float:
        """Return the probability that a higher tier sees a trace the tier below is unsure of."""
        return self._load_shedding.escalation_rate if self._settings.load_shedding else 1.0

    def health(self) -> dict[str, bool]:
        """Return the conditions of readiness, by name."""
        return {
            "partitions_assigned": bool(self._partitions.owned),
            "no_partition_stuck": not self._partitions.stuck,
            "no_partition_fenced": not self._partitions.fenced,
            "ledger_writable": self._writable,
            "detectors_ready": self._detectors.stats().ready > 0,
            "not_stopping": not self._stopping,
            **self._source.health(),
        }

    @property
    def _writable(self) -> bool:
        return not self._ledger_backoff.failing and not self._partitions.refused

    def turn(self) -> None:
        """Do one round of everything that is due. Waits at most `IDLE_SECONDS`, besides the ledger."""
        self.turned_at = self._clock.monotonic()
        self._observer.turned()
        self._hold()
        if self._wants_more():
            at_hand = self._intake or self._judging or self._staged or self._deferred
            at_work = at_hand and not self._ledger_backoff.failing
            for event in self._poll(0.0 if at_work else IDLE_SECONDS):
                self._handle(event)
        for assigned in self._partitions.due():
            self._own(assigned)
        for name, moved in self._partitions.overtaken().items():
            self._drop_overtaken(name, moved=moved)
        if not self._ledger_backoff.failing:
            now = self._clock.monotonic()
            # Where few records are taken, a trace would wait in vain for spans behind them.
            flush = self._exhausted or bool(self._partitions.suspected())
            self._intake.assemble(self._staged, now, flush=flush, stopping=self._stopping)
            self._judging.submit(self._intake, self.escalation_rate)
            if self._detectors.stats().ready:  # without a worker, shedding would not help
                oldest = self._intake.oldest()
                self._load_shedding.observe(0.0 if oldest is None else now - oldest)
            self._collect()
        if self._staged and self._ledger_backoff.due:
            self._record()
        self._housekeeping()

    def _wants_more(self) -> bool:
        """Return whether to poll; a poll costs a round trip through the client's other thread."""
        if self._ledger_backoff.failing or len(self._intake) < ENOUGH_BATCHES * self._detectors.batch_size:
            return True  # while the ledger fails, this is where the loop waits
        # While some partitions are held, others have little to do, and wait for no one.
        return self.turned_at - self._polled_at >= (SOON_SECONDS if self._throttle.holds else POLL_SECONDS)

    def _hold(self) -> None:
        """Read no more while there is enough to do, or no ledger to put it in."""
        waiting = max(
            (self._intake.whole + self._judging.traces) / self._settings.max_waiting_traces,
            self._intake.bytes / self._settings.max_waiting_bytes,
        )
        closed = self._stopping or self._ledger_backoff.failing
        self._throttle.apply(self._partitions.owned, self._deferred, waiting=waiting, closed=closed)

    def _poll(self, timeout: float) -> Sequence[Event]:
        self._polled_at = self.turned_at
        try:
            events = [*self._deferred, *self._source.poll(timeout, self._settings.max_poll_records)]
        except Retryable:
            self._observer.incident(Incident.SOURCE_RETRY)
            self._clock.sleep(IDLE_SECONDS)
            return ()
        # A transaction that may have been written must be repeated as it was: nothing may join it.
        most = 0 if self._ledger_backoff.failing or self._throttle.paused else MOST_BYTES
        now, self._deferred = portion(events, most, self._rooms())
        return now

    def _rooms(self) -> dict[TopicPartition, int]:
        """Return how many records may be taken now of partitions that crowd out others, or are suspected."""
        for partition in self._partitions.suspected():
            if partition.is_cleared() and not partition.pending:
                self._partitions.calm(partition)
        quiet = self._quiet
        rooms = {partition.name: partition.room(quiet=quiet) for partition in self._partitions.suspected()}
        return rooms | dict.fromkeys(self._throttle.crowding, 0)

    @property
    def _quiet(self) -> bool:
        """Return whether no record is in hand."""
        return not (self._intake or self._judging or self._staged or self._assembler)

    def _handle(self, event: Event) -> None:
        match event:
            case Fetched():
                self._take(event)
            case Passed(topic, number, offset):
                partition = self._partitions.owned.get((topic, number))
                if partition is not None and partition.witness is None:
                    self._staged.pass_to(partition, offset)
            case Existing(ends):
                self._partitions.first_look(ends)
            case Assigned():
                self._own(event)
            case OutOfRange(topic, number, _, begin, end, topic_id, diverged):
                self._own(Assigned(topic, number, None, begin, end, topic_id, diverged))
            case Revoked(topic, number):
                self._drop_partition((topic, number))
                self._partitions.revoked((topic, number))
                self._partitions.give_back([(topic, number)])
            case Stuck():
                self._partitions.await_operator((event.topic, event.partition))
            case Exhausted():
                self._exhausted = True

    def _own(self, assigned: Assigned) -> None:
        """Claim a partition, and drop the work of an earlier claim, which the ledger would refuse now."""
        self._drop_partition((assigned.topic, assigned.partition))
        self._partitions.claim(assigned)
        self.turned_at = self._clock.monotonic()  # the ledger may take long for each of many claims
        if self._partitions.alone is not None:
            others = [p for p in self._partitions.owned.values() if not p.alone]
            for other in others:
                self._drop_partition(other.name)
                self._partitions.set_aside(other.assigned)
            self._partitions.give_back([other.name for other in others])

    def _drop_overtaken(self, name: TopicPartition, *, moved: bool) -> None:
        """Drop a partition that an operator or another daemon has claimed."""
        assigned = self._partitions.assigned(name)
        partition = self._drop_partition(name)
        if moved and assigned is not None:
            self._partitions.follow(assigned)
        elif partition is not None:
            self._observer.incident(Incident.FENCED, *name)
            self._partitions.lost(partition)

    def _drop_partition(self, name: TopicPartition) -> Partition | None:
        """Drop the work of a partition: records that the ledger lacks will be delivered again."""
        # Also of a partition that was not ours: what was delivered before a claim is not what follows it.
        self._deferred = [event for event in self._deferred if event[:2] != name]
        if (partition := self._partitions.give_up(name)) is None:
            return None
        self._committed.pop(name, None)
        self._staged.drop(frozenset({name}))
        if not self._staged:  # nothing is left to repeat, so nothing would end the wait for the ledger
            self._ledger_backoff.reset()
        self._intake.drop_revoked()
        count_released(partition, self.totals, self._observer)
        return partition

    def _take(self, fetched: Fetched) -> None:
        partition = self._partitions.owned.get((fetched.topic, fetched.partition))
        if partition is None:
            return  # revoked in the same poll: its new owner gets these again
        if partition.witness is not None:
            admitted = self._partitions.admit(partition, fetched)
            if isinstance(admitted, Assigned):
                self._own(admitted)
                return
            fetched = admitted
        if partition.alone and not self._note_alone(partition, fetched):
            return
        taken = self._intake.take(partition, fetched, self._staged, self._clock.monotonic())
        partition.pending += taken
        self.totals.consumed += taken
        self._observer.consumed(fetched.topic, taken)

    def _note_alone(self, partition: Partition, fetched: Fetched) -> bool:
        """Tell the ledger which record is in hand now, before anything is done with it; else defer it."""
        for record in fetched.records:  # one at most
            try:
                self._ledger.alone(*partition.name, partition.version, record.offset)
            except Retryable:
                self._observer.incident(Incident.LEDGER_RETRY)
                self._clock.sleep(IDLE_SECONDS)
                self._deferred = [fetched, *self._deferred]
                return False
            partition.alone_left = 0 if record.offset == partition.condemned else partition.alone_left - 1
        return True

    def _collect(self) -> None:
        wait = IDLE_SECONDS if self._throttle.paused else BUSY_SECONDS
        if self._judging.collect(0.0 if self._staged else wait):
            # There is room again: workers need not wait until these are recorded.
            self._judging.submit(self._intake, self.escalation_rate)
        self._judging.stage(self._intake, self._staged)

    def _record(self) -> None:
        """Write the staged transaction. Held and retried while the ledger fails."""
        for detector, monitor in self._monitors.items():
            changed = monitor.snapshot()
            self._staged.snapshots.update({f"{detector}/{name}": body for name, body in changed.items()})
        staged = self._staged
        judged = [each for _, each in staged.assembled]
        rules = staged.rules_version or self._rules.current.version
        version = EngineVersion.of(self._detectors.versions, rules)
        transaction = staged.transaction(self._settings.owner, version, self._policy, self._clock.now())
        # Not kept in `staged`: a drop takes exchanges back, and no snapshot may say that they were judged.
        transaction.snapshots.update(self._assembler.snapshot(judged))
        began = self._clock.monotonic()
        try:
            self._ledger.record(transaction)
        except Retryable:
            self._observer.incident(Incident.LEDGER_RETRY)
            self._ledger_backoff.failed()
            return
        except Fenced as fenced:
            for name in fenced.partitions:
                self._drop_overtaken(name, moved=False)
            return
        self._observer.transaction(self._clock.monotonic() - began)
        self._ledger_backoff.reset()
        # Not before: if the transaction is dropped, these spans will be delivered again and must be judged.
        self._assembler.recorded(judged)
        self._judging.recorded([judgement for _, judgement in staged.judgements])
        self._staged = Staged()
        settle(staged, self.totals, self._observer, self._clock.now())
        if transaction.outgoing:
            self._observer.messages_queued()

    def _housekeeping(self) -> None:
        now = self._clock.monotonic()
        # Progress includes what is staged, and the group's commit must never be ahead of the ledger.
        if now >= self._commit_at and not self._staged:
            self._commit_at = now + COMMIT_SECONDS
            self._commit()
        asked, self._reloading = self._reloading, False
        if asked or now >= self._rules_at:
            self._rules_at = now + self._settings.rules_seconds
            if (reload := self._rules.refresh()) is not None:
                self._observer.rules_loaded(reload.version, ok=not reload.error)
        if asked:
            self._observer.reload_requested()
        if now >= self._lag_at:
            self._lag_at = now + LAG_SECONDS
            self._observer.lag(self._source.lag())
            self._observer.ledger(writable=self._writable)
            self._observer.pool(self._detectors.stats())
            self._observer.escalation_rate(self.escalation_rate)
            self._observer.assembly(self._assembler.stats)
            self._observer.waiting(Stage.DECODED, len(self._intake))
            self._observer.waiting(Stage.DETECTING, self._judging.traces)
            self._observer.waiting(Stage.RECORDING, len(self._staged.judgements))

    def _commit(self) -> None:
        positions = self._partitions.positions()
        if changed := {name: at for name, at in positions.items() if self._committed.get(name) != at}:
            self._source.commit(changed)
            self._committed.update(changed)
