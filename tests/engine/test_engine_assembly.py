"""The loop and the real ledger with traces that come in parts: each is judged once, whatever fails."""

from collections import Counter
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from engines import assess, build_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.assembly import Assembler, Bounds
from monitor.engine.work import Part
from monitor.findings import Action
from monitor.ledger import schema as t
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.testing import (
    FlakyLedger,
    ManualClock,
    MemoryLog,
    MemorySource,
    RecordingObserver,
    ScriptedDetectors,
)
from monitor.trace import (
    Message,
    Missing,
    Record,
    Side,
    Span,
    Step,
    StepKind,
    Trace,
    Unread,
    Unreadable,
)

PARTITIONS = [("t", 0), ("t", 1)]
KINDS = {"a": StepKind.AGENT, "r": StepKind.RETRIEVAL}  # the others are chats
LATE = "late"  # the model of which only the log records know
UNREAD = tuple(Unread(side, Unreadable.NO_CONTENT) for side in (Side.PROMPT, Side.RESPONSE))


def decode(record: Record) -> Sequence[Trace | Span]:
    """A record's value names spans: trace number and letter; `a` is the root, `c` and `d` are chats.

    `b` is a chat without its texts, which the log record `l` has.
    """
    assert record.value is not None
    return [_span(word[:-1], word[-1]) for word in record.value.decode().split()]


def _span(trace: str, letter: str) -> Span:
    exchange = None
    if letter in "cd":
        exchange = Trace(id=f"{trace}{letter}", time=1.0, response=letter)
    elif letter == "b":
        exchange = Trace(id=f"{trace}b", time=1.0, response="", unread=UNREAD, trace_id=trace, span_id=letter)
    elif letter == "l":
        messages = (Message("user", "a question"),)
        exchange = Trace(id=f"{trace}b", time=1.0, response="an answer", messages=messages, model=LATE)
    return Span(
        trace_id=trace,
        span_id="b" if letter == "l" else letter,
        parent_id="" if letter in "al" else "a",
        step=Step(kind=KINDS.get(letter, StepKind.CHAT), start=float(ord(letter))),
        end=1000.0 - ord(letter),
        exchange=exchange,
        partial=letter == "l",
        size=10,
    )


class Bench:
    """One daemon after another on one log and one ledger in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog({key: [] for key in PARTITIONS})
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), self.clock, "d0")
        self.flaky = FlakyLedger(self.ledger)
        self.observer = RecordingObserver()
        self.judged = self.observer.judgements
        self.source: MemorySource | None = None
        self.start()

    def start(self) -> None:
        """Kill the daemon, if one runs, and start another."""
        if self.source is not None:
            self.source._leave()
        self.source = MemorySource(self.log, self.clock, finite=False)
        self.detectors = ScriptedDetectors(assess, batch_size=2)
        bounds = Bounds(settle_seconds=2.0, timeout_seconds=1000.0, max_seconds=5000.0)
        self.assembler: Assembler[Part] = Assembler(bounds)
        self.assembler.restore(self.ledger.restore())
        self.engine = build_engine(
            self.source,
            self.detectors,
            self.flaky,
            self.clock,
            decode=decode,
            observer=self.observer,
            assembler=self.assembler,
            max_poll_records=3,
        )

    def turn(self, times: int = 1) -> None:
        """Let the loop turn while detectors finish at once."""
        for _ in range(times):
            self.engine.turn()
            self.detectors.finish_all()

    def settle(self) -> None:
        """Bring everything to an end, time-outs and failures of the ledger included."""
        for _ in self.flaky.faults.copy():  # each may cost one attempt, and the wait until the next
            self.clock.advance(60.0)
            self.turn(2)
        for seconds in (0.0, 2.0, 2.0, 1100.0, 1100.0):
            self.clock.advance(seconds)
            self.turn(8)

    def read(self) -> "Counter[tuple[str, bool]]":
        """How often each exchange is on record, by trace id and by whether log records completed it."""
        with self.ledger.begin() as connection:
            rows = connection.execute(sa.select(t.flags.c.trace_id, t.flags.c.model)).all()
        return Counter((row.trace_id, row.model == LATE) for row in rows)

    def flagged(self) -> "Counter[str]":
        """How often each exchange is on record, by trace id."""
        with self.ledger.begin() as connection:
            return Counter(connection.execute(sa.select(t.flags.c.trace_id)).scalars().all())


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[tuple[tuple[str, int], bytes]], dict[str, set[str]]]:
    """Records of shuffled spans, and per trace the letters of its spans that were not lost."""
    spans = {}
    for number in range(draw(st.integers(1, 6))):
        letters = draw(st.sets(st.sampled_from("abcdlr"), min_size=1))
        spans[f"{number}"] = letters
    words = [f"{trace}{letter}" for trace, letters in spans.items() for letter in sorted(letters)]
    words = draw(st.permutations(words))
    records = []
    while words:
        size = draw(st.integers(1, 3))
        chunk, words = words[:size], words[size:]
        records.append((draw(st.sampled_from(PARTITIONS)), " ".join(chunk).encode()))
    return records, spans


@pytest.mark.slow
@given(
    traffic(),
    st.lists(st.sampled_from(["turn", "turn", "wait", "crash", "before", "after", "evict"]), max_size=25),
)
@settings(max_examples=150, deadline=None)
def test_each_exchange_is_judged_once_whatever_fails(
    drawn: tuple[list[tuple[tuple[str, int], bytes]], dict[str, set[str]]], actions: list[str]
) -> None:
    """Crashes, failing writes and rebalances between spans in any order: no call is judged twice or never.

    A text that comes after its call was judged without it is judged once, too, and no call without it later.
    """
    records, spans = drawn
    bench = Bench()
    pending = list(records)
    for action in actions:
        if pending:
            partition, value = pending.pop()
            bench.log.append(partition, [value])
        if action == "crash":
            bench.start()
        elif action == "evict":
            assert bench.source is not None
            bench.source.evict()
        elif action == "wait":
            bench.clock.advance(0.7)
        elif action != "turn":
            bench.flaky.faults.append(action)
        bench.turn()
    for partition, value in pending:
        bench.log.append(partition, [value])
    bench.start()  # also takes up what the group took away
    bench.settle()
    calls = {f"{trace}{letter}" for trace, letters in spans.items() for letter in letters & {"c", "d"}}
    flagged = bench.flagged()
    assert {name: flagged[name] for name in calls} == dict.fromkeys(calls, 1)
    read = bench.read()
    for trace, letters in spans.items():
        stand_ins = sum(count for name, count in flagged.items() if name.startswith(f"{trace}:"))
        assert stand_ins <= 1
        assert stand_ins == 1 or letters & {"b", "c", "d", "l"}
        assert read[f"{trace}b", True] == ("l" in letters)
        assert read[f"{trace}b", False] <= ("b" in letters)
        assert read[f"{trace}b", False] == 1 or "l" in letters or "b" not in letters
    assert len(bench.assembler) == 0
    assert bench.engine.idle
    assert bench.engine.positions() == {key: bench.log.partitions()[key].end for key in PARTITIONS}
    report = verify(bench.ledger)
    assert report.ok
    assert not report.open


def test_a_record_is_done_when_all_traces_it_has_spans_of_are() -> None:
    """The position waits for a span whose trace is incomplete, and passes it with the trace's judgement."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1c 2c 2a", b"3c 3a"])
    bench.turn(4)
    bench.clock.advance(1.5)
    bench.turn(8)
    assert set(bench.flagged()) == {"2c", "3c"}
    assert bench.engine.positions()[PARTITIONS[0]] == 0
    bench.log.append(PARTITIONS[1], [b"1a"])
    bench.turn(4)
    bench.clock.advance(1.5)
    bench.turn(8)
    assert set(bench.flagged()) == {"1c", "2c", "3c"}
    assert bench.engine.positions() == {PARTITIONS[0]: 2, PARTITIONS[1]: 1}


def test_a_stop_releases_what_waits_and_the_next_daemon_takes_it_up() -> None:
    """Spans of an incomplete trace are handed back at a stop; no half trace is judged."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1c"])
    bench.turn(4)
    totals = bench.engine.drain()
    assert (totals.consumed, totals.released, totals.traces) == (1, 1, 0)
    bench.source = None
    bench.start()
    bench.log.append(PARTITIONS[1], [b"1a"])
    bench.settle()
    ((judgement),) = bench.judged
    assert (judgement.trace.id, judgement.trace.missing) == ("1c", ())


def test_a_trace_judged_before_a_crash_is_known_after_it() -> None:
    """A span that comes late, after a restart, does not bring a second judgement of its trace."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1c 1a"])
    bench.turn(4)
    bench.clock.advance(1.5)
    bench.turn(8)
    bench.start()
    bench.log.append(PARTITIONS[1], [b"1r", b"1c"])
    bench.settle()
    assert bench.flagged() == Counter({"1c": 1})
    assert bench.engine.positions()[PARTITIONS[1]] == 2


@pytest.mark.parametrize("fault", ["before", "fenced"])
def test_an_exchange_that_was_dropped_is_judged_after_a_restart(fault: str) -> None:
    """What a refused transaction held is not remembered as judged, whatever is recorded next."""
    bench = Bench()
    bench.turn(2)
    bench.log.append(PARTITIONS[0], [b"1c 1a"])
    bench.turn(3)
    bench.clock.advance(1.5)
    if fault == "fenced":
        bench.ledger.move(*PARTITIONS[0], 0, "the test fences it")
    else:
        bench.flaky.faults.append(fault)
    bench.turn(2)
    assert bench.source is not None
    bench.source._give_back(PARTITIONS[0])
    bench.turn(2)
    bench.log.append(PARTITIONS[1], [b""])
    bench.turn(4)
    assert bench.engine.positions() == {PARTITIONS[1]: 1}
    bench.start()
    bench.settle()
    assert bench.flagged() == Counter({"1c": 1})


def test_missing_parts_reach_the_judgement() -> None:
    """What did not arrive is named in the trace that rules and detectors see."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1c 2r"])
    bench.settle()
    assert {j.trace.id: j.trace.missing for j in bench.judged} == {
        "1c": (Missing.ROOT,),
        "2:r": (Missing.INFERENCE, Missing.ROOT),
    }


def test_a_text_that_comes_after_a_restart_is_a_judgement_of_its_own() -> None:
    """Judged without its text, then with it: two verdicts of two origins, and the account is settled."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1b 1a"])
    bench.settle()
    bench.start()
    bench.log.append(PARTITIONS[1], [b"1l", b"1l"])
    bench.settle()
    first, second = bench.judged
    assert (first.trace.revision, first.trace.missing) == (0, (Missing.CONTENT,))
    assert (second.trace.revision, second.trace.response) == (1, "an answer")
    assert first.origin != second.origin
    assert bench.engine.positions() == {PARTITIONS[0]: 1, PARTITIONS[1]: 2}
    report = verify(bench.ledger)
    assert (report.ok, report.open, report.traces) == (True, [], 2)


def test_a_revision_alerts_nobody_again() -> None:
    """What was found without the late text is on record twice, and in the outbox once."""
    bench = Bench()
    bench.log.append(PARTITIONS[0], [b"1b 1a"])
    bench.settle()
    bench.log.append(PARTITIONS[1], [b"1l"])
    bench.settle()
    first, second = bench.judged
    assert (first.trace.revision, second.trace.revision) == (0, 1)
    assert [[Action.ALERT in flag.actions for flag in each.flags] for each in bench.judged] == [
        [True],
        [False],
    ]
    assert bench.flagged() == Counter({"1b": 2})
