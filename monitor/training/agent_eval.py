"""Measure how often real runs are flagged: `python -m monitor.training.agent_eval`.

Reads ../shared/traindata/agents: tau-bench airline, and the reference calls of BFCL multi-turn. A run is what
an assistant did between a user's message and its own next one. It is judged under the default options, then
with the user's yes as the approval of every booking, change and cancellation, as the airline demands. Of BFCL
only loops can be judged: it has no results and no answers. Prints runs and conversations with evidence of at
least a half, by kind, apart for conversations that reached their goal; and how many answers are unsupported
by the shipped line.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.detect import agent, hallucination
from monitor.trace import Message, Step, StepKind, Trace

FOLDER = Path("../shared/traindata/agents")
UNSUPPORTED = 0.93  # rules/hallucination.yaml, for answers from results of tools
CONFIRMED: dict[str, Any] = {"destructive": ["book_*", "cancel_*", "update_*"], "approval": ["user"]}


def rows(name: str) -> list[dict[str, Any]]:
    """Return the conversations of one file."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def runs(conversation: dict[str, Any]) -> Iterator[Trace]:
    """Yield the runs of a conversation that called a tool."""
    messages: list[Message] = []
    steps: list[Step] = []
    for turn in conversation["steps"]:
        role, content = turn["role"], turn["content"]
        if role == "user":
            messages.append(Message("user", content))
            steps = []
        elif turn.get("type") == "tool_call":
            steps.append(Step(kind=StepKind.TOOL, name=turn["name"], input=json.dumps(turn["arguments"])))
        elif role == "tool":
            call = steps.pop()
            steps.append(Step(kind=StepKind.TOOL, name=call.name, input=call.input, output=content))
        elif role == "assistant":
            if steps:
                yield Trace(
                    id="",
                    time=0.0,
                    response=content,
                    messages=tuple(messages),
                    steps=tuple(steps),
                    agent="airline",
                )
            messages += [*[Message("tool", step.output) for step in steps], Message("assistant", content)]
            steps = []


def calls(conversation: dict[str, Any]) -> Trace:
    """Return all calls of a conversation as one run, of which neither results nor an answer are known."""
    steps = tuple(
        Step(kind=StepKind.TOOL, name=turn["name"], input=json.dumps(turn["arguments"]))
        for turn in conversation["steps"]
        if turn.get("type") == "tool_call"
    )
    return Trace(id="", time=0.0, response="", steps=steps, finish_reason="tool_calls")


def flagged(detector: agent.Agent, trace: Trace) -> set[str]:
    """Return the kinds of evidence that are more likely than not."""
    (assessment,) = detector.assess([trace])
    return {entry.kind for entry in assessment.evidence if entry.score >= 0.5}  # noqa: PLR2004 - the rules' threshold


def show(title: str, kinds: list[list[set[str]]]) -> None:
    """Print how many of the conversations, and of their runs, have each kind."""
    each = [kind for conversation in kinds for run in conversation for kind in run]
    several = sum(any(conversation) for conversation in kinds)
    single = sum(bool(run) for conversation in kinds for run in conversation)
    count = sum(map(len, kinds))
    summary = f"{several} of {len(kinds)} conversations, {single} of {count} runs {dict(Counter(each))}"
    sys.stdout.write(f"{title}: {summary}\n")


def main() -> None:
    """Print every figure."""
    plain, confirming, grounded = agent.build(), agent.build(**CONFIRMED), hallucination.build()
    conversations = [(row["success"], list(runs(row))) for row in rows("taubench_airline")]
    for success in (True, False):
        group = [traces for reached, traces in conversations if reached is success]
        name = f"tau-bench airline, goal {'reached' if success else 'missed'}"
        show(name, [[flagged(plain, run) for run in traces] for traces in group])
        show(f"{name}, confirmed", [[flagged(confirming, run) for run in traces] for traces in group])
        answers = [run for traces in group for run in traces]
        scores = [answer.score or 0.0 for answer in grounded.assess(answers)]
        unsupported = sum(score >= UNSUPPORTED for score in scores)
        sys.stdout.write(f"{name}: {unsupported} of {len(scores)} answers unsupported\n")
    show("BFCL multi-turn", [[flagged(plain, calls(row))] for row in rows("bfcl_multi_turn_reference")])


if __name__ == "__main__":
    main()
