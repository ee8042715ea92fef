"""Large traces, which may take detectors seconds: judged alone, beside the others and not before them."""

from collections.abc import Sequence

from engines import assess, build_engine
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from monitor.assembly import DEFAULT_BOUNDS, Assembler
from monitor.engine.intake import BATCH_CHARS, LARGE, Intake
from monitor.engine.partitions import Partition
from monitor.engine.staging import Staged
from monitor.engine.work import Work
from monitor.errors import Busy
from monitor.events import Assigned, Fetched
from monitor.ledger.claims import Claim
from monitor.ledger.store import Ledger
from monitor.ports import JudgedBatch, Observer
from monitor.privacy.vault import Vault
from monitor.progress import Mark, StartPosition, StartReason
from monitor.testing import ManualClock, MemoryLog, MemorySource, ScriptedDetectors
from monitor.trace import Document, Message, Record, Trace

T0 = ("t", 0)


def decode(record: Record) -> Sequence[Trace]:
    """A trace of a size for each number in the record."""
    sizes = map(int, (record.value or b"").split())
    return [
        Trace(id=f"{record.offset}/{n}", time=1.0, response="r" * size, app="a" if size > LARGE else "b")
        for n, size in enumerate(sizes)
    ]


@given(
    st.lists(st.lists(st.integers(0, 3 * LARGE) | st.integers(0, 200), min_size=1, max_size=3), max_size=30),
    st.integers(1, 64),
)
def test_a_batch_has_few_characters_or_one_trace(records: list[list[int]], count: int) -> None:
    """None that is large delays others in its batch, whatever record it came in; each comes once."""
    intake = Intake(decode, Assembler(DEFAULT_BOUNDS), Observer())
    claim = Claim(1, 0, Mark(0), StartPosition(0, StartReason.LEDGER))
    partition = Partition(Assigned("t", 0, None, 0, len(records)), claim)
    filled = []
    for number, sizes in enumerate(records):
        value = " ".join(map(str, sizes)).encode().ljust(sum(sizes))
        filled.append(Record("t", 0, number, 0.0, None, value))
    intake.take(partition, Fetched("t", 0, filled), Staged(), 0.0)
    seen: list[Work] = []
    while work := intake.first(count):
        assert len(work) == 1 or sum(each.chars for each in work) <= BATCH_CHARS
        assert all(len(each.trace.response) <= LARGE for each in work)
        intake.remove(work)
        seen += work
    while work := intake.large():
        assert len(work) == 1
        intake.remove(work)
        seen += work
    assert len(seen) == sum(map(len, records))
    assert (len(intake), intake.bytes, intake.whole) == (0, 0, 0)


def test_all_texts_of_a_trace_count() -> None:
    """Whatever a detector reads makes a trace large."""
    assert Trace(id="t", time=0.0, response="abc").chars() == 3
    more = Trace(
        id="t", time=0.0, response="abc", messages=(Message("user", "de"),), context=(Document("", "f"),)
    )
    assert more.chars() == 6


class OneLarge(ScriptedDetectors):
    """Detectors that take one large trace at a time, and keep it."""

    def __init__(self) -> None:
        super().__init__(assess, batch_size=4, capacity=3)
        self.large = 0

    @override
    def submit(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        if large and self.large:
            raise Busy("one large trace is being judged")
        super().submit(ticket, traces, escalation_rate)
        self.large += large

    @override
    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        held = {ticket for ticket, traces in self.in_flight.items() if len(traces[0].response) > LARGE}
        self._finished = [ticket for ticket in self._finished if ticket not in held]
        return super().collect(timeout)


def test_traces_of_others_go_past_large_ones_that_wait() -> None:
    """While large traces wait for their turn, all others behind them are judged."""
    clock = ManualClock()
    values = [str(LARGE + 1).encode() + b" " * LARGE] * 5 + [b"10"] * 20
    source = MemorySource(MemoryLog({T0: values}), clock, finite=False)
    detectors = OneLarge()
    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    engine = build_engine(source, detectors, ledger, clock, decode=decode)
    for _ in range(40):
        engine.turn()
        clock.advance(0.3)
        detectors.finish_all()
    assert engine.totals.traces == 20
    assert engine.positions() == {T0: 0}
