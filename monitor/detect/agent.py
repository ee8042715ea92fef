"""Agent runs: loops, failing tools, ignored errors, budgets, policy breaches, abandoned goals, empty claims.

Deterministic, from the steps of the run and its final answer; no model. Whether what the answer states is
supported by the results of tools is the hallucination detector's part, which reads those results too. How a
run compares with the agent's others, and with its conversation, `monitor.agents.history` adds in the engine.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from monitor.agents import loops, runs
from monitor.agents import response_acts as answers
from monitor.agents.calls import Call, find_calls
from monitor.agents.evidence import noisy_or
from monitor.agents.loops import Loop
from monitor.agents.policy import Budgets, CompiledPolicy, Policies, compile_policies, read_options
from monitor.agents.runs import Run
from monitor.findings import Assessment, Evidence, Status, TierStatus, skipped
from monitor.trace import RUNS, Side, Step, StepKind, Trace

NAME = "agent"
VERSION = "1"
MAX_EVIDENCE = 32  # per trace, worst first: it is for people to read
LEAST_REPEATS = 2  # once more may be a double check
LEAST_FAILURES = 3  # of a tool in a row, to its last call
_CALLS = 200  # the latest of a run, among which errors and what makes them good are looked for
_READ = 20_000  # characters of one text that are looked through
_APPROVES = frozenset({StepKind.GUARDRAIL, StepKind.TOOL})
_MORE_CALLS = frozenset({"tool_calls", "tool_use", "function_call", "tool_call"})  # the run is not at its end
_DENIES = re.compile(
    r"\b(?:den(?:y|ied|ies)|reject\w*|declin\w*|refus\w*|disapprov\w*|not\s+approved|no)\b"
    r"|\"(?:approved|granted|allowed|ok)\"\s*:\s*false",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"\W*(?:yes|yep|yeah|sure|ok|okay|confirm|confirmed|correct|agreed|approved|do\s+it|go\s+ahead|proceed|ja|oui|s[i\u00ed])\b"
    r"|.{0,400}\b(?:go\s+ahead|please\s+(?:do|proceed|continue)|i\s+(?:confirm|agree|approve)|you\s+may\s+proceed)\b",
    re.IGNORECASE | re.DOTALL,
)


class Agent:
    """Judges runs. The score is the noisy-or of the worst of each kind of evidence; it is not a probability.

    Kinds: `repeated_call`, `call_cycle`, `failing_tool`, `ignored_error`, `over_steps`, `over_tokens`,
    `over_cost`, `over_seconds`, `tool_not_allowed`, `unapproved_call`, `unsupported_action`, `abandoned`.
    `values` are the facts of the run as far as they are known, `repeats` (calls that were repeated in vain)
    and `destructive_calls`.
    """

    name = NAME
    version = VERSION

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; skipped `no_steps` where no run was captured.

        A retrieval and a model's call alone are no run.
        """
        return [self._one(trace) if _is_run(trace) else _NO_STEPS for trace in traces]

    def _one(self, trace: Trace) -> Assessment:
        run = runs.facts(trace)
        calls = find_calls(trace.steps)
        circles = loops.repetitions(calls, trace.steps)
        destructive, breaches = self._policy(trace)
        evidence = [
            *_circles(trace.steps, calls, circles),
            *breaches,
            *_over(trace, run, self._policies.of(trace.agent)),
            *_ending(trace, calls),
        ]
        values = {
            name: float(value)
            for name, value in zip(run._fields, run, strict=True)
            if isinstance(value, int | float)
        }
        return Assessment(
            detector=NAME,
            version=VERSION,
            status=Status.SCORED,
            score=noisy_or(evidence),
            evidence=tuple(sorted(evidence, key=lambda e: -e.score)[:MAX_EVIDENCE]),
            values=values
            | {
                "repeats": float(sum(circle.times for circle in circles)),
                "destructive_calls": float(destructive),
            },
        )

    def _policy(self, trace: Trace) -> tuple[int, list[Evidence]]:
        """Return how many calls were destructive, and the calls that the policy forbids."""
        breaches: list[Evidence] = []
        destructive = 0
        owners: list[str] = []
        approved: dict[re.Pattern[str], bool] = {}  # the latest word of each policy's approvals
        for n, step in enumerate(trace.steps):
            above = owners[step.parent] if 0 <= step.parent < n else trace.agent
            owners.append(step.name if step.kind is StepKind.AGENT and step.name else above)
            if step.kind is StepKind.TOOL and step.name:
                policy = self._policies.of(above)
                if not policy.allow.fullmatch(step.name):
                    breaches.append(_at(trace.steps, n, "input", "tool_not_allowed", 1.0))
                if policy.destructive.fullmatch(step.name):
                    destructive += 1
                    gate = policy.approval
                    if gate is not None and not approved.get(gate, policy.by_user and _user_agreed(trace)):
                        breaches.append(_at(trace.steps, n, "input", "unapproved_call", 1.0))
            if step.kind in _APPROVES:
                for gate in self._policies.gates:
                    if gate.fullmatch(step.name):
                        approved[gate] = not step.error and _DENIES.search(step.output, 0, _READ) is None
        return destructive, breaches


def _is_run(trace: Trace) -> bool:
    return any(step.kind in RUNS for step in trace.steps)


_NO_STEPS = skipped(NAME, VERSION, "no_steps")


def _at(steps: Sequence[Step], n: int, part: Literal["input", "output"], kind: str, score: float) -> Evidence:
    """Return evidence of a whole text of a step, so that a reviewer sees it, redacted."""
    text = steps[n].input if part == "input" else steps[n].output
    return Evidence(f"steps.{n}.{part}", 0, len(text), kind, score)


def _circles(steps: Sequence[Step], calls: Sequence[Call], repeated: Sequence[Loop]) -> Iterator[Evidence]:
    """Score what went wrong n times 1 - 2^-n."""
    for circle in repeated:
        if circle.times >= LEAST_REPEATS:
            yield _at(steps, circle.step, "input", "repeated_call", 1.0 - 0.5**circle.times)
    for circle in loops.cycles(calls):
        yield _at(steps, circle.step, "input", "call_cycle", 1.0 - 0.5 ** (circle.times + 1))
    for circle in loops.failing_tools(calls):
        if circle.times >= LEAST_FAILURES:
            yield _at(steps, circle.step, "output", "failing_tool", 1.0 - 0.5 ** (circle.times - 1))


def _over(trace: Trace, run: Run, policy: CompiledPolicy) -> Iterator[Evidence]:
    """Score what is over its budget 1 - budget / (2 * use): a half at the line, towards one beyond."""
    for name in Budgets.__struct_fields__:
        used, most = getattr(run, name), getattr(policy.budgets, name)
        if most is not None and used is not None and used > most:
            step = _dearest(trace.steps, name) if name != "steps" else min(int(most), run.steps - 1)
            yield Evidence(f"steps.{step}", 0, 0, f"over_{name}", 1.0 - most / (2.0 * used))


def _dearest(steps: Sequence[Step], name: str) -> int:
    def used(n: int) -> float:
        step = steps[n]
        own = (
            (step.input_tokens or 0) + (step.output_tokens or 0) if name == "tokens" else getattr(step, name)
        )
        return own or 0.0

    return max(range(len(steps)), key=used)


def _user_agreed(trace: Trace) -> bool:
    """Return whether the user said yes to something the assistant said."""
    return any(
        (before.role, after.role) == ("assistant", "user") and _AGREES.match(after.content)
        for before, after in itertools.pairwise(trace.messages)
    )


def _ending(trace: Trace, calls: Sequence[Call]) -> Iterator[Evidence]:
    """Judge the final answer against what the calls brought."""
    if trace.finish_reason in _MORE_CALLS or any(each.side is Side.RESPONSE for each in trace.blind()):
        return
    answer, steps = trace.response, trace.steps
    whole = len(answer)
    if not answer.strip():
        yield Evidence("response", 0, whole, "abandoned", 0.9)
    elif abandoned := _abandoned(trace, calls):
        yield Evidence("response", 0, whole, "abandoned", abandoned)
    elif not answers.admits_trouble(answer):
        claims = answers.claims_done(answer)
        for call, works in loops.unrecovered_failures(calls[-_CALLS:])[-MAX_EVIDENCE:]:
            if answers.cites(answer, [steps[call.step].output], trace.question()):
                continue  # it reports the error in its own words
            score = 0.9 if claims else 0.5 if works else 0.75
            yield _at(steps, call.step, "output", "ignored_error", score)
    tools = [step for step in steps if step.kind is StepKind.TOOL]
    for action in itertools.islice(answers.claimed_actions(answer), MAX_EVIDENCE) if tools else ():
        if not any(action.evidence.search(text, 0, _READ) for text in _doings(trace, tools)):
            yield Evidence("response", action.span.start, action.span.end, "unsupported_action", 0.8)


_READS = re.compile(r"(?:get|list|search|find|read|query|describe|fetch|check|look|show|view)(?:_|[A-Z]|\b)")


def _doings(trace: Trace, tools: Sequence[Step]) -> Iterator[str]:
    """Yield texts that may show an action: calls of tools that do more than read, results, earlier turns."""
    for step in tools:
        if not _READS.match(step.name):
            yield step.name
            yield step.input
        yield step.output
    for message in trace.messages:
        if message.role in {"assistant", "tool"}:
            yield message.content


def _abandoned(trace: Trace, calls: Sequence[Call]) -> float:
    """Return how likely the answer gave up although the run had results to report; 0 if it did not."""
    answer, steps = trace.response, trace.steps
    put_off = answers.puts_off(answer)
    if not put_off and not answers.asks_back(answer) and not answers.gives_up(answer):
        return 0.0
    results = [steps[call.step].output for call in calls if not call.failed]
    results = [output for output in results if answers.informs(output)]
    broken = bool(calls) and calls[-1].failed
    if not results and not (put_off and broken):
        return 0.0
    if answers.cites(answer, results, trace.question()):
        return 0.0
    if put_off:
        return 0.85
    return 0.0 if broken else 0.75


def build(**options: Any) -> Agent:
    """Build the worker's half. Options are those of `AgentOptions`. Raises ConfigError."""
    return Agent(compile_policies(read_options(options)))


def tiers(**options: Any) -> list[TierStatus]:
    """Report the one tier, which needs nothing. Raises ConfigError for a bad option."""
    read_options(options)
    return [TierStatus(detector=NAME, tier=0, name="rules", present=True, version=VERSION)]
