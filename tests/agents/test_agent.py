"""The agent detector: the labelled runs by the shipped rules, what each signal is, and the contract."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from agent_runs import Labelled, labelled, policies
from contracts.detector import CHECKS
from hypothesis import given
from hypothesis import strategies as st
from ingest_cases import exchanges
from otlp_wire import decode, request, span_of

from monitor.agents.history import AgentMonitor
from monitor.clock import SystemClock
from monitor.detect import Detector, agent, hallucination, invocation
from monitor.errors import ConfigError
from monitor.findings import Assessment, Severity, Status
from monitor.rules import RuleSet
from monitor.trace import Message, Origin, Step, StepKind, ToolCall, Trace

ALERTS = {
    "loop": {"AgentLoop"},
    "failing": {"ToolKeepsFailing"},
    "ignored_error": {"ToolErrorIgnored"},
    "over_budget": {"RunOverBudget"},
    "not_allowed": {"ToolNotAllowed"},
    "unapproved": {"UnapprovedCall"},
    "unsupported": {"UnsupportedAnswer", "UnsupportedAction"},
    "abandoned": {"GoalAbandoned"},
}
RULES = RuleSet.load()
JUDGE = agent.build(**policies())


def raised(runs: list[Labelled]) -> list[set[str]]:
    """Alerts (not mere information) that the shipped rules raise on each run."""
    traces = [run.trace for run in runs]
    pairs = zip(JUDGE.assess(traces), hallucination.build().assess(traces), strict=True)
    return [
        {
            flag.rule
            for flag in RULES.decide(Origin("t", 0, 0, 0), trace, pair).flags
            if flag.severity is not Severity.INFO
        }
        for trace, pair in zip(traces, pairs, strict=True)
    ]


def test_labelled_runs_are_told_apart() -> None:
    """Of bad runs at least 95 % raise the alert of each of their labels; of healthy ones at most 5 % any.

    With `-s` it prints the figures of the card, for the runs held out by themselves too.
    """
    missed, mistaken, told, bad, healthy = [], [], [""], 0, 0
    for name in ("tuning", "held_out"):
        runs = labelled(name)
        confusion = Counter[tuple[str, str]]()
        here_missed, here_mistaken = [], []
        for run, found in zip(runs, raised(runs), strict=True):
            for label in run.expect or {"healthy"}:
                confusion.update((label, alert) for alert in found or {"none"})
            if any(not ALERTS[label] & found for label in run.expect):
                here_missed.append(run.id)
            if not run.expect and found:
                here_mistaken.append(run.id)
        here_bad = sum(bool(run.expect) for run in runs)
        told += [
            f"{name}: recall {here_bad - len(here_missed)}/{here_bad}, missed {here_missed};",
            f"  false positives {len(here_mistaken)}/{len(runs) - here_bad}",
            *[f"  {label:14} {alert:20} {n}" for (label, alert), n in sorted(confusion.items())],
        ]
        missed += here_missed
        mistaken += here_mistaken
        bad += here_bad
        healthy += len(runs) - here_bad
    print("\n".join(told))  # noqa: T201 - the figures of the card
    assert 1 - len(missed) / bad >= 0.95, missed
    assert len(mistaken) / healthy <= 0.05, mistaken


def test_there_are_enough_labelled_runs() -> None:
    """Sixty and more, a third of them held out, each label several times, a third healthy."""
    tuning, held_out = labelled("tuning"), labelled("held_out")
    runs = [*tuning, *held_out]
    assert len(runs) >= 60
    assert len(held_out) >= len(runs) / 3
    assert len({run.id for run in runs}) == len(runs)
    counts = Counter(label for run in runs for label in run.expect)
    assert set(counts) == set(ALERTS)
    assert min(counts.values()) >= 3
    assert sum(not run.expect for run in runs) >= len(runs) / 3


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Detector], None]) -> None:
    """The agent detector keeps what every detector promises."""
    check(agent.build())


def run(*steps: Step, answer: str = "The door is open.", ask: str = "Open the door.", **fields: Any) -> Trace:
    """A trace of a run with these steps."""
    messages = fields.pop("messages", (Message("user", ask),))
    return Trace(id="r", time=0.0, response=answer, steps=steps, messages=messages, **fields)


def tool(name: str = "look", asked: str = "{}", came: str = "it is open", **fields: Any) -> Step:
    """A call of a tool."""
    return Step(kind=StepKind.TOOL, name=name, input=asked, output=came, **fields)


def judged(trace: Trace, **options: Any) -> Assessment:
    """What the detector says of a trace, as the pool would take it."""
    detector = agent.build(**options)
    _, (found,), _ = invocation.invoke(detector, detector.version, [trace], SystemClock())
    return found


def kinds(trace: Trace, **options: Any) -> set[str]:
    """Kinds of evidence, those of half a chance and more."""
    return {e.kind for e in judged(trace, **options).evidence if e.score >= 0.5}


def test_a_trace_without_steps_is_skipped() -> None:
    """Tool calls alone are no run: there is nothing to tell the order of things by."""
    found = judged(Trace(id="t", time=0.0, response="Yes.", tool_calls=(ToolCall("look"),)))
    assert (found.status, found.reason, found.score) == (Status.SKIPPED, "no_steps", None)


def test_an_unremarkable_run_scores_zero() -> None:
    """No evidence, no score; the facts are there as values."""
    found = judged(run(tool(seconds=2.0, cost=0.25), agent="porter"))
    assert (found.score, found.evidence) == (0.0, ())
    assert found.values["steps"] == found.values["tool_calls"] == 1.0
    assert found.values["cost"] == 0.25
    assert "tokens" not in found.values, "unknown is not zero"


def test_evidence_names_the_steps() -> None:
    """Each piece names the step it is about, and the arguments where they are what is wrong."""
    trace = run(tool(), tool("shell", '{"command": "ls"}'), tool("shell", '{"command": "ls"}'))
    found = judged(trace, allow=["look"])
    assert [(e.field, e.end) for e in found.evidence] == [("steps.1.input", 17), ("steps.2.input", 17)]
    assert found.score == 1.0


@given(st.lists(st.sampled_from(range(6)), min_size=1, max_size=30), st.sampled_from(["", "came", "error"]))
def test_any_run_has_a_score_and_evidence_within_it(places: list[int], came: str) -> None:
    """However steps repeat, the score is a share, each kind is at most it, and every step named exists."""
    steps = [tool(f"t{place % 3}", f'{{"page": {place}}}', came) for place in places]
    found = judged(run(*steps, agent="a"))
    assert found.score is not None
    assert all(e.score <= found.score + 1e-9 for e in found.evidence)
    assert all(int(e.field.split(".")[1]) < len(steps) for e in found.evidence if e.field != "response")


@pytest.mark.parametrize(
    ("name", "policy", "allowed"),
    [
        ("read_file", {"allow": ["read_*"]}, True),
        ("write_file", {"allow": ["read_*"]}, False),
        ("anything", {}, True),
        ("anything", {"allow": []}, False),
        ("", {"allow": []}, True),
    ],
)
def test_tools_outside_the_allow_list_are_named(name: str, policy: dict[str, Any], *, allowed: bool) -> None:
    """A call whose tool matches no glob of `allow` is a breach; a call without a name cannot be judged."""
    assert ("tool_not_allowed" in kinds(run(tool(name)), **policy)) is not allowed


def test_policies_go_by_the_agent_that_called() -> None:
    """A sub-agent's call is held against its own policy, found by the first glob of its name."""
    options = {"allow": ["look"], "agents": {"sub-*": {"allow": ["dig"]}}}
    steps = (
        Step(kind=StepKind.AGENT, name="boss"),
        Step(kind=StepKind.AGENT, name="sub-1", parent=0),
        tool("dig", parent=1),
        tool("look", parent=0),
    )
    assert "tool_not_allowed" not in kinds(run(*steps, agent="boss"), **options)
    swapped = (*steps[:2], tool("dig", parent=0), tool("look", parent=1))
    assert [e.field for e in judged(run(*swapped, agent="boss"), **options).evidence] == [
        "steps.2.input",
        "steps.3.input",
    ]


def test_policies_match_names_with_spaces() -> None:
    """Names of agents and tools as people write them reach the policies, from spans too."""
    operation, own = "gen_ai.operation.name", "b" * 16
    sent = request(
        span_of({operation: "invoke_agent", "gen_ai.agent.name": "Shop Helper"}, spanId=own),
        span_of(
            {operation: "execute_tool", "gen_ai.tool.name": "wipe the shelf"},
            spanId="c" * 16,
            parentSpanId=own,
        ),
        span_of({operation: "chat", "gen_ai.request.model": "m"}, spanId="d" * 16, parentSpanId=own),
    )
    (trace,) = exchanges(decode(sent))
    assert trace.agent == "Shop Helper"
    named = {"agents": {"Shop Helper": {"allow": ["look *"]}}}
    assert "tool_not_allowed" in kinds(trace, **named)
    assert "tool_not_allowed" not in kinds(trace, agents={"Shop *": {"allow": ["wipe the *"]}})


GATE = {"destructive": ["delete_*"], "approval": ["gate", "user"]}
GONE = tool("delete_row", '{"row": 3}', "row 3 is gone")


def gate(came: str, **fields: Any) -> Step:
    """A step of approval."""
    return Step(kind=StepKind.GUARDRAIL, name="gate", output=came, **fields)


@pytest.mark.parametrize(
    ("steps", "approved"),
    [
        ((gate("approved"), GONE), True),
        ((gate(""), GONE), True),
        ((GONE, gate("approved")), False),
        ((gate("denied"), GONE), False),
        ((gate('{"approved": false}'), GONE), False),
        ((gate("approved", error="timeout"), GONE), False),
        ((gate("approved"), gate("rejected"), GONE), False),
        ((gate("rejected"), gate("approved"), GONE), True),
        ((tool("gate", came="approved"), GONE), True),
        ((Step(kind=StepKind.GUARDRAIL, name="spelling", output="approved"), GONE), False),
    ],
)
def test_a_destructive_call_needs_the_latest_approval_to_be_a_yes(
    steps: tuple[Step, ...], *, approved: bool
) -> None:
    """A gate that the policy names must stand before the call, and its latest word decides."""
    trace = run(*steps, answer="Row 3 is gone.", ask="Tidy up row 3.")
    assert ("unapproved_call" in kinds(trace, **GATE)) is not approved
    assert judged(trace, **GATE).values["destructive_calls"] == 1.0


@pytest.mark.parametrize(
    ("said", "approved"),
    [("Yes, do it.", True), ("ok", True), ("Please go ahead", True), ("No, wait.", False), ("Row 3?", False)],
)
def test_a_user_approves_in_reply(said: str, *, approved: bool) -> None:
    """Where the policy takes the user's word, it is a yes to something the assistant said before."""
    asked = (Message("user", "Delete it."), Message("assistant", "Row 3?"), Message("user", said))
    assert ("unapproved_call" in kinds(run(GONE, messages=asked), **GATE)) is not approved
    first = (Message("user", said),)
    assert "unapproved_call" in kinds(run(GONE, messages=first), **GATE)


def test_no_approval_is_asked_for_unless_a_policy_names_one() -> None:
    """Destructive calls are counted by default, not flagged."""
    found = judged(run(GONE, answer="Row 3 is gone."))
    assert (found.score, found.values["destructive_calls"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "used", "fields"),
    [
        ("tokens", 100, {"input_tokens": 60, "output_tokens": 40}),
        ("cost", 2.5, {"cost": 2.5}),
        ("seconds", 8, {"seconds": 8.0}),
        ("steps", 2, {}),
    ],
)
def test_a_budget_is_the_most_that_is_fine(name: str, used: float, fields: dict[str, Any]) -> None:
    """At its budget a run is quiet; over it the score begins at a half and nears one."""
    trace = run(tool(**fields), Step(kind=StepKind.CHAT, name="m"))
    assert kinds(trace, budgets={name: used}) == set()
    less = used - 1
    (found,) = judged(trace, budgets={name: less}).evidence
    assert found.kind == f"over_{name}"
    assert found.score == pytest.approx(1 - less / (2 * used))


@pytest.mark.parametrize(
    "answer",
    ["", " ", "Let me check that for you.", "I'm sorry, I can't help with that.", "What else can I do?"],
)
def test_an_answer_that_tells_nothing_abandons_the_goal(answer: str) -> None:
    """Empty, a promise, an apology or a question back, although a tool had returned something."""
    trace = run(tool(came='{"door": "blue", "state": "ajar"}'), answer=answer)
    assert "abandoned" in kinds(trace)
    assert "abandoned" not in kinds(msgspec.structs.replace(trace, finish_reason="tool_calls"))


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, I can't open it: the blue door is ajar already.",
        "The door is ajar. Shall I close it?",
        "I will not open a door that stands ajar.",
    ],
)
def test_a_refusal_that_cites_what_was_found_is_an_answer(answer: str) -> None:
    """Whoever tells what the tools returned has not given up."""
    assert kinds(run(tool(came='{"door": "blue", "state": "ajar"}'), answer=answer)) == set()


def test_errors_must_be_made_good_or_told() -> None:
    """An error that a later call makes good, or that the answer mentions, is none that was ignored."""
    broken = tool("open", '{"door": "blue"}', "the hinge is stuck", error="stuck")
    fixed = tool("open", '{"door": "blue"}', "opened")
    other = tool("open", '{"door": "red"}', "opened")
    pushed = tool("push", '{"at": "blue"}', "opened")
    done = "Done, the door has been opened."
    assert kinds(run(broken, answer=done)) == {"ignored_error"}
    assert kinds(run(broken, other, answer=done)) == {"ignored_error"}
    assert kinds(run(fixed, broken, answer=done)) == {"ignored_error"}
    assert kinds(run(broken, fixed, answer=done)) == set()
    assert kinds(run(broken, pushed, answer=done)) == set()
    assert kinds(run(broken, answer="I could not open the door.")) == set()
    assert kinds(run(broken, answer="The hinge is stuck.")) == set()


def test_an_action_must_show_in_the_run() -> None:
    """What an answer says was done stands in a call that does more than read, a result or an earlier turn."""
    said = "I have cancelled your booking."
    read = tool("get_booking", '{"id": 7}', '{"state": "active"}')
    assert kinds(run(read, answer=said)) == {"unsupported_action"}
    assert kinds(run(read, tool("cancel_booking", '{"id": 7}', "ok"), answer=said)) == set()
    assert kinds(run(tool("get_booking", "{}", '{"state": "cancelled"}'), answer=said)) == set()
    before = (Message("user", "Cancel."), Message("assistant", "It is cancelled."), Message("user", "Sure?"))
    assert kinds(run(read, answer=said, messages=before)) == set()
    assert kinds(run(Step(kind=StepKind.CHAT, name="m"), answer=said)) == set(), "tools may not be captured"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alow": []}, "alow"),
        ({"budgets": {"stepz": 3}}, "stepz"),
        ({"agents": {"a": {"allow": "x"}}}, "agents.a"),
        ({"history": 0}, "history"),
        ({"warm_up": 300}, "warm_up"),
        ({"window_seconds": "long"}, "window_seconds"),
    ],
)
def test_bad_options_are_told(options: dict[str, Any], told: str) -> None:
    """An option that does not exist or cannot be used stops the daemon, by its name."""
    with pytest.raises(ConfigError, match=told):
        agent.build(**options)
    with pytest.raises(ConfigError, match=told):
        agent.tiers(**options)


def test_a_run_of_thousands_of_steps_is_judged_in_time() -> None:
    """Cost grows with the steps, not with their square, whatever they do."""
    step_ = tool("delete_row", '{"row": "a b"}', "Error: no", error="gone")
    deep = [msgspec.structs.replace(step_, parent=n - 1, input=f'{{"row": {n}}}') for n in range(10_000)]
    said = "I have cancelled it. " * 1000
    began = time.process_time()
    found = judged(run(*deep, answer=said), **GATE, budgets={"steps": 5})
    assert len(found.evidence) == agent.MAX_EVIDENCE
    assert time.process_time() - began < 10


def test_a_run_costs_little() -> None:
    """Judging a run takes under a millisecond of a core, its history under a tenth; `-s` prints how long."""
    traces = [run.trace for run in (*labelled("tuning"), *labelled("held_out")) if run.trace.steps]
    traces = [msgspec.structs.replace(trace, conversation=trace.id) for trace in traces]
    monitor = AgentMonitor()
    best = [(1.0, 1.0)] * len(traces)  # the quickest of many tries: what else the machine does is not ours
    for _ in range(20):
        for n, trace in enumerate(traces):
            began = time.thread_time()
            (found,) = JUDGE.assess([trace])
            between = time.thread_time()
            monitor.update(trace, found)
            best[n] = min(best[n][0], between - began), min(best[n][1], time.thread_time() - between)
    judging, history = (sum(times) / len(traces) for times in zip(*best, strict=True))
    steps = sum(len(trace.steps) for trace in traces) / len(traces)
    told = f"{1000 * judging:.3f} ms a run of {steps:.0f} steps, {1000 * history:.3f} ms its history"
    print(f"\n{told}")  # noqa: T201 - figures of the card
    assert judging < 1e-3
    assert history < 1e-4
