"""A state machine over the engine and the real ledger, for Hypothesis to go through its histories."""

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
from engines import assess, build_engine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from monitor.assembly import DEFAULT_BOUNDS, Assembler
from monitor.engine import Engine
from monitor.engine.work import Part
from monitor.errors import BadTrace
from monitor.ledger import schema as t
from monitor.ledger.audit import GENESIS
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.sources.memory import MARKER
from monitor.testing import (
    FlakyLedger,
    ManualClock,
    MemoryLog,
    MemorySource,
    ScriptedDetectors,
)
from monitor.trace import Message, Record, Side, Span, Step, StepKind, Trace, Unread, Unreadable

SEQUENCES = 400  # `make soak CASE=histories` goes through ten times as many
PARTITIONS = [("t", 0), ("t", 1)]
DAEMONS = 2


PAIR = "pair"  # the application of spans that come without the texts of a later log record
READ = "read"  # the model of which only the log record knows
UNREAD = tuple(Unread(side, Unreadable.NO_CONTENT) for side in (Side.PROMPT, Side.RESPONSE))


def due(value: bytes) -> int:
    """How many effects a record has of its own: a flag per trace, or a dead letter.

    A marker (no bytes) has none; of a span and its log record either may have one: see `pairs_read`.
    """
    return 1 if value == b"x" else int(value) if value.isdigit() else 0


def decode(record: Record) -> Sequence[Trace | Span]:
    """A record's value says how many traces it holds; `x` cannot be decoded.

    `s7` is a span without its texts, and `l7` the log record that has them.
    """
    assert record.value is not None
    if record.value == b"x":
        raise BadTrace("invalid_json", "made up")
    kind, number = record.value[:1], record.value[1:].decode()
    if kind in {b"s", b"l"}:
        return [_span(number, partial=kind == b"l")]
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return [Trace(id=f"{place}/{i}", time=record.time, response="r") for i in range(int(record.value))]


def _span(number: str, *, partial: bool) -> Span:
    exchange = Trace(
        id=f"{PAIR}{number}",
        time=1.0,
        app=PAIR,
        messages=(Message("user", "a question"),) if partial else (),
        response="an answer" if partial else "",
        model=READ if partial else "unknown",
        unread=() if partial else UNREAD,
    )
    return Span(
        trace_id=number, span_id="1", step=Step(kind=StepKind.CHAT), exchange=exchange, partial=partial
    )


class EngineMachine(RuleBasedStateMachine):
    """Two daemons share a log and a ledger; anything may fail, stop or be taken away at any time."""

    ledger = Ledger.open("sqlite://", Vault(bytes(32)), ManualClock(), "template")

    def __init__(self) -> None:
        super().__init__()
        with self.ledger.begin() as connection:
            for table in t.metadata.sorted_tables:
                if table.name != "meta":
                    connection.execute(table.delete())
            connection.execute(t.head.insert().values(id=1, seq=0, hash=GENESIS))
        self.clock = ManualClock()
        self.log = MemoryLog({key: [] for key in PARTITIONS})
        self.values: dict[tuple[str, int], list[bytes]] = {key: [] for key in PARTITIONS}
        self.pairs = 0
        self.unread: list[tuple[int, tuple[str, int]]] = []  # pairs whose log record did not come yet
        self.engines: list[Engine | None] = [None] * DAEMONS
        self.sources: list[MemorySource | None] = [None] * DAEMONS
        self.ledgers = [FlakyLedger(self.ledger) for _ in range(DAEMONS)]
        self.detectors = [ScriptedDetectors(assess) for _ in range(DAEMONS)]

    @initialize()
    def start(self) -> None:
        """Begin with one daemon."""
        self.restart(0)

    @rule(
        partition=st.sampled_from(PARTITIONS),
        values=st.lists(st.sampled_from([b"1", b"1", b"0", b"3", b"x", b""]), max_size=6),
    )
    def produce(self, partition: tuple[str, int], values: list[bytes]) -> None:
        """Records and markers arrive."""
        self.log.append(partition, [value or MARKER for value in values])
        self.values[partition] += values

    @rule(partition=st.sampled_from(PARTITIONS))
    def produce_without_texts(self, partition: tuple[str, int]) -> None:
        """A span arrives whose texts come in a log record of their own."""
        self.unread.append((self.pairs, partition))
        self.produce(partition, [f"s{self.pairs}".encode()])
        self.pairs += 1

    @rule()
    def produce_texts(self) -> None:
        """The texts of the span that has waited longest arrive."""
        if self.unread:
            number, partition = self.unread.pop(0)
            self.produce(partition, [f"l{number}".encode()])

    @rule(daemon=st.integers(0, DAEMONS - 1))
    def restart(self, daemon: int) -> None:
        """Kill a daemon without any clean-up, if it runs, and start it anew."""
        self.crash(daemon)
        source = self.sources[daemon] = MemorySource(self.log, self.clock, finite=False)
        self.detectors[daemon] = ScriptedDetectors(assess)
        assembler: Assembler[Part] = Assembler(DEFAULT_BOUNDS)
        assembler.restore(self.ledger.restore())
        self.engines[daemon] = build_engine(
            source,
            self.detectors[daemon],
            self.ledgers[daemon],
            self.clock,
            decode=decode,
            assembler=assembler,
            owner=f"d{daemon}",
            max_poll_records=4,
            max_waiting_traces=8,
        )

    @rule(daemon=st.integers(0, DAEMONS - 1))
    def crash(self, daemon: int) -> None:
        """A daemon is gone at once; its partitions are free."""
        source = self.sources[daemon]
        if source is not None:
            source._leave()
        self.engines[daemon] = self.sources[daemon] = None

    @rule(
        daemon=st.integers(0, DAEMONS - 1),
        order=st.lists(st.integers(0, 3), min_size=1, max_size=6),
        fault=st.sampled_from(["", "", "before", "after"]),
    )
    def work(self, daemon: int, order: list[int], fault: str) -> None:
        """A daemon's loop turns while batches finish in any order; the ledger may fail once."""
        engine = self.engines[daemon]
        if engine is None:
            return
        if fault:
            self.ledgers[daemon].faults.append(fault)
        for nth in (0, *order):
            self.detectors[daemon].finish(nth)
            engine.turn()
            self.the_position_is_never_ahead()
            self.clock.advance(0.3)

    @rule(seconds=st.sampled_from([1.0, 7.0, 70.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule(daemon=st.integers(0, DAEMONS - 1))
    def take_behind_its_back(self, daemon: int) -> None:
        """The group gives a daemon's partitions away without its knowledge: it goes on as a zombie."""
        source = self.sources[daemon]
        for partition in self.log.partitions().values():
            if partition.owner is source:
                partition.owner = None

    @rule(old=st.integers(0, DAEMONS - 1), values=st.integers(1, 6))
    def duel(self, old: int, values: int) -> None:
        """A zombie and its successor judge the same records; both try to write, the zombie first."""
        new = 1 - old
        zombie = self.engines[old]
        if zombie is None:
            return
        zombie.turn()
        self.take_behind_its_back(old)
        if self.engines[new] is None:
            self.restart(new)
        successor = self.engines[new]
        assert successor is not None
        for key in PARTITIONS:
            self.produce(key, [b"1"] * values)
        for engine, detectors in ((successor, new), (zombie, old), (successor, new), (successor, new)):
            engine.turn()
            self.detectors[detectors].finish_all()
            engine.turn()
            self.the_position_is_never_ahead()

    @rule(daemon=st.integers(0, DAEMONS - 1))
    def evict(self, daemon: int) -> None:
        """The group drops a daemon and tells it."""
        source = self.sources[daemon]
        if source is not None:
            source.evict()

    @rule(daemon=st.integers(0, DAEMONS - 1))
    def stop(self, daemon: int) -> None:
        """A daemon drains and ends."""
        engine = self.engines[daemon]
        if engine is not None:
            self.ledgers[daemon].faults.clear()
            self.detectors[daemon].finish_all()
            engine.drain()
            self.engines[daemon] = self.sources[daemon] = None

    @invariant()
    def the_position_is_never_ahead(self) -> None:
        """No committed or ledger position is ahead of a record whose effects are not recorded."""
        done = self.effects()
        with self.ledger.begin() as connection:
            rows = connection.execute(sa.select(t.positions)).all()
        positions = {(row.topic, row.partition): row.next_offset for row in rows}
        for key, values in self.values.items():
            lowest = next(
                (
                    offset
                    for offset, value in enumerate(values)
                    if any(done[*key, offset, part] == 0 for part in range(due(value)))
                ),
                len(values),
            )
            assert positions.get(key, 0) <= lowest
            assert self.log.committed.get(key, 0) <= positions.get(key, 0)

    def effects(self) -> "Counter[tuple[str, int, int, int]]":
        """How often each trace's flag (or each dead letter) is on record."""
        with self.ledger.begin() as connection:
            flags = connection.execute(
                sa.select(t.flags.c.topic, t.flags.c.partition, t.flags.c.offset, t.flags.c.part).where(
                    t.flags.c.app != PAIR
                )
            ).all()
            dead = connection.execute(
                sa.select(t.dead_letters.c.topic, t.dead_letters.c.partition, t.dead_letters.c.offset)
            ).all()
        return Counter([tuple(row) for row in flags] + [(*row, 0) for row in dead])

    def pairs_read(self) -> "Counter[tuple[str, bool]]":
        """How often each pair is on record, by its number and by whether it was judged with its texts."""
        with self.ledger.begin() as connection:
            rows = connection.execute(
                sa.select(t.flags.c.trace_id, t.flags.c.model).where(t.flags.c.app == PAIR)
            ).all()
        return Counter((row.trace_id.removeprefix(PAIR), row.model == READ) for row in rows)

    def teardown(self) -> None:
        """Whatever happened, a healthy daemon brings everything to an end: each effect exactly once."""
        for daemon in range(DAEMONS):
            self.crash(daemon)
            self.ledgers[daemon].faults.clear()
        self.restart(0)
        engine = self.engines[0]
        assert engine is not None
        for _ in range(400):
            engine.turn()
            self.detectors[0].finish_all()
            self.clock.advance(0.3)
            if engine.idle and engine.positions() == {
                key: len(values) for key, values in self.values.items()
            }:
                break
        expected = {
            (*key, offset, part)
            for key, values in self.values.items()
            for offset, value in enumerate(values)
            for part in range(due(value))
        }
        assert self.effects() == Counter(expected)
        read, unread = self.pairs_read(), {number for number, _ in self.unread}
        for number in range(self.pairs):
            assert read[str(number), True] == (number not in unread)
            assert read[str(number), False] <= 1
            assert read[str(number), False] == 1 or number not in unread
        report = verify(self.ledger)
        assert report.ok, report
        assert not report.open
        everything = [value for values in self.values.values() for value in values if value]
        records, traces = len(everything), sum(due(value) for value in everything if value != b"x")
        traces += sum(read.values())
        assert (report.records, report.traces) == (records, traces)
        assert report.statuses.get("toxicity.scored", 0) == traces


def of_length(examples: int) -> settings:
    """As many histories, of thirty steps each."""
    return settings(max_examples=examples, stateful_step_count=30, deadline=None)
