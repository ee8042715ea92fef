"""Facts of an agent's run, from `Trace.steps` alone."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from monitor.trace import RETURNS, Step, StepKind, Trace

_FAILED = re.compile(
    r"\s*(?:error|exception|traceback|failed|failure|fatal|panic|http(?:/\d\S*)?\s?[45]\d\d|[45]\d\d\s[A-Z])\b"
    r"|\s*\{[^{}]{0,200}\"(?:error|errors|error_message|exception)\"\s*:\s*+(?!null|false|\"\"|\[\]|\{\}|0\b)"
    r"|\s*\{[^{}]{0,200}\"(?:success|ok|succeeded)\"\s*:\s*false"
    r"|\s*\{[^{}]{0,200}\"(?:is_?error\"\s*:\s*true|status\"\s*:\s*\"error\")",
    re.IGNORECASE,
)


class Run(NamedTuple):
    """The facts of a run that rules see as `run.*`. Tokens and cost are None where no step states them.

    `seconds` is from the first start to the last end; `depth` is how deeply steps are nested, 1 for a flat
    run; `agents` counts names. Totals that an agent's step reports are not added to those of its own steps.
    """

    agent: str = ""
    steps: int = 0
    tool_calls: int = 0
    tools: int = 0
    tool_errors: int = 0
    chats: int = 0
    retrievals: int = 0
    handoffs: int = 0
    agents: int = 0
    depth: int = 0
    tokens: int | None = None
    cost: float | None = None
    seconds: float = 0.0


NO_RUN = Run()


def facts(trace: Trace) -> Run:
    """Return the facts of a trace's run; `NO_RUN` with the agent's name for a trace without steps."""
    steps = trace.steps
    if not steps:
        return NO_RUN if not trace.agent else NO_RUN._replace(agent=trace.agent)
    kinds = [step.kind for step in steps]
    tools = [step for step in steps if step.kind is StepKind.TOOL]
    return Run(
        agent=trace.agent,
        steps=len(steps),
        tool_calls=len(tools),
        tools=len({step.name for step in tools}),
        tool_errors=sum(failed(step) for step in steps if step.kind in RETURNS),
        chats=kinds.count(StepKind.CHAT),
        retrievals=kinds.count(StepKind.RETRIEVAL),
        handoffs=kinds.count(StepKind.HANDOFF),
        agents=len({step.name for step in steps if step.kind is StepKind.AGENT} | {trace.agent} - {""}),
        depth=_depth(steps),
        tokens=_tokens(trace),
        cost=_total(steps, [step.cost for step in steps]),
        seconds=_seconds(steps),
    )


def _depth(steps: Sequence[Step]) -> int:
    depths: list[int] = []
    for n, step in enumerate(steps):
        depths.append(depths[step.parent] + 1 if 0 <= step.parent < n else 1)
    return max(depths)


def _tokens(trace: Trace) -> int | None:
    def both(inputs: int | None, outputs: int | None) -> int | None:
        return None if inputs is None and outputs is None else (inputs or 0) + (outputs or 0)

    total = _total(trace.steps, [both(step.input_tokens, step.output_tokens) for step in trace.steps])
    if total is None and trace.usage is not None:
        return both(trace.usage.input_tokens, trace.usage.output_tokens)
    return None if total is None else int(total)


def _total(steps: Sequence[Step], own: Sequence[float | None]) -> float | None:
    """Add up what steps used; a step with a total of those below it counts for them, not in addition."""
    if all(value is None for value in own):
        return None
    below = [0.0] * len(steps)
    total = 0.0
    for n in range(len(steps) - 1, -1, -1):
        used = max(own[n] or 0.0, below[n])
        parent = steps[n].parent
        if 0 <= parent < n:
            below[parent] += used
        else:
            total += used
    return total


def _seconds(steps: Sequence[Step]) -> float:
    started = [step for step in steps if step.start > 0]
    if not started:
        return sum(step.seconds for step in steps if step.parent < 0)
    return max(step.start + step.seconds for step in started) - min(step.start for step in started)


def failed(step: Step) -> bool:
    """Return whether a call ended with an error, or its result says so in its beginning."""
    return bool(step.error) or _FAILED.match(step.output, 0, 400) is not None
