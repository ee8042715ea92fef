"""The agent monitor: runs beside the agent's others, turns beside the rest of a conversation."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.agents.history import AgentMonitor
from monitor.config import Config
from monitor.daemon.build import build_monitors
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status
from monitor.trace import Message, Step, StepKind, Trace

STEPS = (Step(kind=StepKind.CHAT, name="m"), Step(kind=StepKind.TOOL, name="t"))


def turn(
    ask: str = "Where is my parcel now?",
    app: str = "shop",
    agent: str = "desk",
    talk: str = "",
    time: float = 0.0,
) -> Trace:
    """A trace of a run."""
    messages = (Message("user", ask),)
    return Trace(
        id="t",
        time=time,
        response="x",
        app=app,
        agent=agent,
        conversation=talk,
        messages=messages,
        steps=STEPS,
    )


def run(kind: str = "", **used: float) -> Assessment:
    """What the detector says of a run that used this, with one piece of evidence if a kind is given."""
    evidence = (Evidence("steps.1", 0, 0, kind, 0.75),) if kind else ()
    score = 0.75 if kind else 0.0
    return Assessment(
        detector="agent", version="1", status=Status.SCORED, score=score, evidence=evidence, values=used
    )


def kinds(assessment: Assessment) -> set[str]:
    """Kinds of evidence."""
    return {e.kind for e in assessment.evidence}


def test_what_is_not_scored_is_returned_as_it_is() -> None:
    """Traces without a run, and failures, leave no trace in the history."""
    monitor = AgentMonitor()
    skipped = Assessment(detector="agent", version="1", status=Status.SKIPPED, reason="no_steps")
    assert monitor.update(turn(talk="c"), skipped) is skipped
    assert monitor.snapshot() == {}


def test_a_run_far_beyond_the_agents_others_is_unusual() -> None:
    """From the thirtieth run on, for each measure by itself; and the next like it is again, for a while."""
    monitor = AgentMonitor()
    for n in range(30):
        found = monitor.update(turn(), run(steps=8.0 + n % 5, tokens=1000.0))
        assert (kinds(found), found.values["history"]) == (set(), float(n))
    found = monitor.update(turn(), run(steps=60.0, tokens=1200.0))
    assert kinds(found) == {"unusual_steps"}
    assert found.score == found.evidence[0].score > 0.5
    assert found.evidence[0].field == "steps.1"


def test_too_few_runs_tell_nothing_and_agents_are_apart() -> None:
    """Before the warm-up no run is unusual, however long; another agent or app has its own history."""
    monitor = AgentMonitor(warm_up=5)
    for _ in range(4):
        monitor.update(turn(), run(steps=5.0))
    assert kinds(monitor.update(turn(), run(steps=500.0))) == set()
    assert kinds(monitor.update(turn(agent="other"), run(steps=500.0))) == set()
    assert kinds(monitor.update(turn(app="other"), run(steps=500.0))) == set()
    assert kinds(monitor.update(turn(), run(steps=500.0))) == {"unusual_steps"}


@given(st.lists(st.floats(1.0, 3.0), min_size=40, max_size=80), st.floats(0.001, 1000.0))
def test_runs_within_three_times_the_least_are_never_unusual(sizes: list[float], scale: float) -> None:
    """Whatever the unit, ordinary variation is no news."""
    monitor = AgentMonitor()
    for size in sizes:
        assert kinds(monitor.update(turn(), run(cost=max(1.0, size * scale)))) == set()


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60))
def test_history_forgets_the_oldest(sizes: list[float]) -> None:
    """After as many runs as are remembered, what came before them makes no difference."""
    one, other = AgentMonitor(history=10, warm_up=3), AgentMonitor(history=10, warm_up=3)
    for size in sizes:
        one.update(turn(), run(steps=size))
    for size in [float(n) for n in range(10)]:
        one.update(turn(), run(steps=size))
        other.update(turn(), run(steps=size))
    last = [monitor.update(turn(), run(steps=400.0)) for monitor in (one, other)]
    assert kinds(last[0]) == kinds(last[1])


def test_a_request_made_three_times_in_a_row_is_repeated() -> None:
    """In one conversation, in about the same words; numbers count, and a short yes in between does not."""
    monitor = AgentMonitor()
    asked = ["Where is my parcel now?", "where's my parcel, now", "yes", "Where is my parcel now?"]
    found = [kinds(monitor.update(turn(ask, talk="c"), run(steps=1.0))) for ask in asked]
    assert found == [set(), set(), set(), {"repeated_request"}]
    for n in range(5):
        ask = f"Where is my parcel {n} right now?"
        assert kinds(monitor.update(turn(ask, talk="d"), run(steps=1.0))) == set()
    assert kinds(monitor.update(turn(talk="e"), run(steps=1.0))) == set()


def test_a_conversation_fails_when_three_turns_in_a_row_do() -> None:
    """A turn that works begins the count anew, and weak or other evidence is no failure."""
    monitor = AgentMonitor()
    plan = [
        "failing_tool",
        "abandoned",
        "",
        "ignored_error",
        "over_cost",
        "abandoned",
        "abandoned",
        "abandoned",
    ]
    found = [
        "failing_conversation" in kinds(monitor.update(turn(f"{n}", talk="c"), run(k)))
        for n, k in enumerate(plan)
    ]
    assert found == [False] * 7 + [True]


def test_a_conversation_has_a_budget_for_all_its_runs() -> None:
    """Turns add up; over the budget each further one is told."""
    monitor = AgentMonitor(conversation={"tokens": 100})
    found = [monitor.update(turn(f"{n}", talk="c"), run(tokens=40.0)) for n in range(4)]
    assert ["conversation_over_budget" in kinds(f) for f in found] == [False, False, True, True]
    assert [f.values["turns"] for f in found] == [1.0, 2.0, 3.0, 4.0]
    assert found[2].evidence[0].score == pytest.approx(1 - 100 / (2 * 120))


def test_a_conversation_ends_after_a_pause() -> None:
    """Past the window since its latest trace, the same id begins anew."""
    monitor = AgentMonitor(window_seconds=60)
    times = [0.0, 50.0, 40.0, 110.0, 171.0]
    turns = [monitor.update(turn(talk="c", time=t), run(steps=1.0)).values["turns"] for t in times]
    assert turns == [1.0, 2.0, 3.0, 4.0, 1.0]


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    """However many agents and conversations come by, no more than the bounds are kept, also in snapshots."""
    monitor = AgentMonitor(max_agents=3, max_conversations=5, warm_up=1, conversation={"steps": 2})
    names = set[str]()
    for n in range(50):
        monitor.update(turn(agent="regular", talk="steady"), run(steps=0.0))
        monitor.update(turn(agent=f"a{n}", talk=f"c{n}"), run(steps=1.0))
        names |= set(monitor.snapshot())
    assert names == {f"agent/{n}" for n in range(3)} | {f"conversation/{n}" for n in range(5)}
    assert monitor.update(turn(agent="regular"), run(steps=1.0)).values["history"] == 50.0
    assert monitor.update(turn(agent="a1"), run(steps=1.0)).values["history"] == 0.0


events = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["", "t1", "t2", "t3"]),
    st.sampled_from(["", "abandoned"]),
    st.sampled_from([1.0, 2.0, 50.0]),
    st.integers(0, 100),
)
OPTIONS: dict[str, Any] = {
    "history": 6,
    "warm_up": 3,
    "max_agents": 2,
    "max_conversations": 2,
    "window_seconds": 60.0,
    "conversation": {"steps": 60},
}


@settings(max_examples=200)
@given(st.lists(events, max_size=25), st.lists(events, max_size=12), st.data())
def test_a_restored_monitor_goes_on_as_if_nothing_had_happened(
    before: list[tuple[str, str, str, float, int]],
    after: list[tuple[str, str, str, float, int]],
    data: st.DataObject,
) -> None:
    """What successive snapshots left behind gives the same assessments as the monitor that never stopped.

    But for repeated requests: their words are never written.
    """
    monitor, ledger = AgentMonitor(**OPTIONS), dict[str, bytes]()

    def feed(to: AgentMonitor, event: tuple[str, str, str, float, int]) -> Assessment:
        agent, talk, kind, steps, time = event
        return to.update(turn(f"{time}", agent=agent, talk=talk, time=float(time)), run(kind, steps=steps))

    for event in before:
        feed(monitor, event)
        if data.draw(st.booleans()):
            ledger |= monitor.snapshot()
    ledger |= monitor.snapshot()
    restored = AgentMonitor(**OPTIONS)
    restored.restore(ledger)
    for event in after:
        assert feed(restored, event) == feed(monitor, event)


def without_ticks(monitor: AgentMonitor) -> dict[str, dict[str, Any]]:
    """What a monitor would store, but for the order of uses."""
    return {name: {**msgspec.msgpack.decode(raw), "tick": 0} for name, raw in monitor.snapshot().items()}


turns = st.tuples(
    st.sampled_from(
        ["Where is my parcel with the red bow?", "Please cancel the third of my orders.", "Yes."]
    ),
    st.sampled_from(["", "ignored_error"]),
    st.integers(1, 9),
    st.sampled_from(["no", "without its texts", "with its prompt", "late"]),
)


@given(st.lists(turns, min_size=1, max_size=12), st.sampled_from(["", "ignored_error"]))
def test_a_turn_that_is_revised_counts_once(talk: list[tuple[str, str, int, str]], fails: str) -> None:
    """A turn judged without a text and again with it leaves the state of one that was judged once."""
    options = {**OPTIONS, "conversation": {"steps": 20}}
    once, twice = AgentMonitor(**options), AgentMonitor(**options)
    late: Trace | None = None
    for n, (ask, kind, steps, first) in enumerate(talk):
        whole = msgspec.structs.replace(turn(ask, talk="c", time=float(n)), trace_id=f"{n}", span_id="1")
        judged = run(kind, steps=float(steps))
        expected = once.update(whole, judged)
        if first == "late":
            late = msgspec.structs.replace(whole, revision=1)
        if first in {"no", "late"}:
            found = twice.update(whole, judged)
        else:
            blind = whole if first == "with its prompt" else msgspec.structs.replace(whole, messages=())
            twice.update(blind, run(fails, steps=float(steps)))
            found = twice.update(msgspec.structs.replace(whole, revision=1), judged)
        of_talk = [e for e in found.evidence if not e.kind.startswith("unusual")]
        assert of_talk == [e for e in expected.evidence if not e.kind.startswith("unusual")]
        assert found.values["turns"] == expected.values["turns"]
        if late is not None and late.trace_id != whole.trace_id:
            assert "turns" not in twice.update(late, run(steps=1.0)).values
    assert without_ticks(once) == without_ticks(twice)


def test_snapshots_hold_no_words() -> None:
    """Numbers and identifiers only: what the user asked is not written."""
    monitor = AgentMonitor()
    monitor.update(turn("Zyxwvut is where my parcel went?", talk="c"), run(steps=1.0))
    written = b"".join(monitor.snapshot().values())
    assert b"desk" in written
    assert b"zyxwvut" not in written.lower()
    assert b"parcel" not in written


def test_a_lowered_bound_drops_the_oldest() -> None:
    """State kept under larger bounds is read, as much of it as still fits."""
    monitor = AgentMonitor(history=10, warm_up=1, max_agents=9)
    for n in range(9):
        for _ in range(10):
            monitor.update(turn(agent=f"a{n}"), run(steps=1.0))
    ledger = monitor.snapshot()
    small = AgentMonitor(history=4, warm_up=1, max_agents=2)
    small.restore(ledger)
    assert small.update(turn(agent="a8"), run(steps=1.0)).values["history"] == 4.0
    assert small.update(turn(agent="a0"), run(steps=1.0)).values["history"] == 0.0


OTHER_FORMAT = {"format": 99, "tick": 1, "app": "a", "name": "b", "used": {}}


@pytest.mark.parametrize("raw", [b"", b"\xc1", *map(msgspec.msgpack.encode, ({"format": 1}, OTHER_FORMAT))])
def test_state_that_cannot_be_read_is_told(raw: bytes) -> None:
    """A snapshot of another kind stops the daemon with the remedy, not later with nonsense."""
    with pytest.raises(ConfigError, match="delete the agent snapshots"):
        AgentMonitor().restore({"agent/0": raw})


def test_the_daemon_gives_each_monitor_its_own_state() -> None:
    """State is kept by detector; a detector that is off, or of one's own, has no monitor here."""
    kept = AgentMonitor()
    kept.update(turn(), run(steps=1.0))
    written = {f"agent/{name}": body for name, body in kept.snapshot().items()}
    found = build_monitors(Config(), {**written, "drift/unrelated": b"", "other/agent/0": b"?"})
    assert set(found) == {"drift", "agent"}
    assert found["agent"].update(turn(), run(steps=1.0)).values["history"] == 1.0
    without = Config.model_validate(
        {"detectors": {"drift": {"enabled": False}, "agent": {"factory": "mine:build"}}}
    )
    assert build_monitors(without, {}) == {}
