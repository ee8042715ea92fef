"""Agent runs: what happened in one, what its policy says, and which calls went in circles or failed.

All is pure and works on `Trace.steps`. A call is a tool or retrieval step. Two calls are alike when tool and
arguments have the same normal form: JSON without order, case, white space, and keys that change by themselves
(request ids, times); free text as the set of its content words, of which three quarters must agree. Numbers
always count, so pages and items differ. What came back is compared too: only a call that taught nothing new
is a repetition, and one that in the end brought something else was worth it.
"""

import fnmatch
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from monitor.errors import ConfigError
from monitor.findings import Evidence
from monitor.text.words import STOPWORDS, stem
from monitor.trace import RETURNS, Step, StepKind, Trace

DESTRUCTIVE = ("*delete*", "*drop*", "*destroy*", "*purge*", "*remove*", "*truncate*", "*wipe*")
USER = "user"  # the approval that is a person's "yes" in the conversation
MAX_PERIOD = 8  # calls; longer cycles look like work
ALIKE = 0.75  # share of content words that two free texts have in common, to be alike
BACK_OFF = 1.25  # growth of a pause; by less it is a tool that happens to be slow
_LONG = 4096  # characters beyond which a text is compared as it is
_GROUPS = 16  # differently worded calls of one form that a new one is compared with
_UNSEEN = 2  # how many more repetitions it takes where results were not captured

_VOLATILE = re.compile(
    r"(?:.*_)?(?:request|req|trace|span|correlation|idempotency)_?(?:id|key)|timestamp|nonce|attempt|retry"
)
_WORD = re.compile(r"[^\W_]+")
_CHANGES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b|\d{6,}")
_WAITS = re.compile(r"(?:^|_)(?:sleep|wait|pause|delay)", re.IGNORECASE)
_FAILED = re.compile(
    r"\s*(?:error|exception|traceback|failed|failure|fatal|panic|http(?:/\d\S*)?\s?[45]\d\d|[45]\d\d\s[A-Z])\b"
    r"|\s*\{[^{}]{0,200}\"(?:error|errors|error_message|exception)\"\s*:\s*+(?!null|false|\"\"|\[\]|\{\}|0\b)"
    r"|\s*\{[^{}]{0,200}\"(?:success|ok|succeeded)\"\s*:\s*false"
    r"|\s*\{[^{}]{0,200}\"(?:is_?error\"\s*:\s*true|status\"\s*:\s*\"error\")",
    re.IGNORECASE,
)


class Run(NamedTuple):
    """The facts of a run that rules see as `run.*`. Tokens and cost are None where no step tells them.

    `seconds` is from the first start to the last end; `depth` is how deeply steps are nested, 1 for a flat
    run; `agents` counts names. What an agent's step says it used is not added to what its own steps used.
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
    def both(one: int | None, other: int | None) -> int | None:
        return None if one is None and other is None else (one or 0) + (other or 0)

    total = _total(trace.steps, [both(step.input_tokens, step.output_tokens) for step in trace.steps])
    if total is None and trace.usage is not None:
        return both(trace.usage.input_tokens, trace.usage.output_tokens)
    return None if total is None else int(total)


def _total(steps: Sequence[Step], own: Sequence[float | None]) -> float | None:
    """Add up what steps used; a step that tells a total of those below it counts for them, not besides."""
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
    """Whether a call ended with an error, or returned a text or object that says so in its beginning."""
    return bool(step.error) or _FAILED.match(step.output, 0, 400) is not None


class Call(NamedTuple):
    """A call of a run: its index in the steps, the tool, whether it failed.

    `form` is the same for calls that are alike; `outcome` for those that returned the same; `words` are those
    of its arguments. `seen` tells whether anything of its result was captured.
    """

    step: int
    tool: str
    failed: bool
    form: int
    outcome: str
    words: frozenset[str]
    seen: bool


def calls(steps: Sequence[Step]) -> list[Call]:
    """Return the calls of a run, in order. Calls of which nothing was captured are unlike any other."""
    forms: dict[tuple[str, str], list[tuple[int, frozenset[str]]]] = {}
    found: list[Call] = []
    for n, step in enumerate(steps):
        if step.kind not in RETURNS:
            continue
        fixed, free, words = _normal(step.input)
        known = forms.setdefault((step.name, fixed), [])
        form = next((number for number, other in known[:_GROUPS] if _alike(free, other)), None)
        if form is None or not (step.input or step.output or step.error):
            form = n
            known.append((n, free))
        bad = failed(step)
        outcome = f"!{step.error}" if step.error else _outcome(step.output)
        found.append(Call(n, step.name, bad, form, outcome, words, bool(step.output or step.error)))
    return found


def _outcome(output: str) -> str:
    return output if len(output) > _LONG else _CHANGES.sub("#", " ".join(output.split()))


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other or len(one & other) >= ALIKE * len(one | other)


@functools.lru_cache(maxsize=1024)
def _normal(arguments: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return what must be equal, the content words of free texts, and all words of the values."""
    if len(arguments) > _LONG:
        return arguments, frozenset(), frozenset()
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        value = arguments
    fixed: list[str] = []
    free: set[str] = set()
    words: set[str] = set()
    for path, leaf in _leaves(value, ""):
        parts = _WORD.findall(str(leaf).casefold())
        words.update(parts)
        if isinstance(leaf, str) and " " in leaf.strip():
            fixed += [f"{path}={part}" for part in parts if part[0].isdigit()]
            free.update(stem(p) for p in parts if not p[0].isdigit() and p not in STOPWORDS)
        else:
            fixed.append(f"{path}={'.'.join(parts) if isinstance(leaf, str) and parts else leaf}")
    return "\n".join(fixed), frozenset(free), frozenset(words)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            if not _VOLATILE.fullmatch(key.lower()):
                yield from _leaves(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value


class Circle(NamedTuple):
    """Calls that went in circles: the index of the last step of it, and how often it went round in vain."""

    step: int
    times: int


def repetitions(found: Sequence[Call], steps: Sequence[Step]) -> list[Circle]:
    """Return calls that were repeated and, to the last, returned what they had returned before.

    Left out: waiting for something (growing pauses, or a tool that waits between).
    """
    forms: dict[int, list[Call]] = {}
    for call in found:
        forms.setdefault(call.form, []).append(call)
    circles: list[Circle] = []
    for same in forms.values():
        last = same[-1]
        first = next((i for i in range(len(same), 0, -1) if same[i - 1].outcome != last.outcome), 0)
        tail = same[first:]
        times = len(tail) - 1 - (0 if last.seen else _UNSEEN)
        if times > 0 and not _waited([steps[call.step] for call in tail], steps[tail[0].step : last.step]):
            circles.append(Circle(last.step, times))
    return circles


def _waited(same: Sequence[Step], between: Sequence[Step]) -> bool:
    if any(_WAITS.search(step.name) for step in between):
        return True
    pauses = [after.start - before.start for before, after in itertools.pairwise(same)]
    grows = (after >= BACK_OFF * before for before, after in itertools.pairwise(pauses))
    return len(pauses) > 1 and min(pauses) > 0 and all(grows)


def cycles(found: Sequence[Call]) -> list[Circle]:
    """Return the longest cycle of two to `MAX_PERIOD` different calls, each round with the same results."""
    ids = [(call.form, call.outcome) for call in found]
    best: Circle | None = None
    for period in range(2, min(MAX_PERIOD, len(ids) // 2) + 1):
        length = 0
        for i in range(period, len(ids) + 1):
            if i < len(ids) and ids[i] == ids[i - period]:
                length += 1
                continue
            round_ = found[i - period : i]
            times = length // period - (0 if all(call.seen for call in round_) else _UNSEEN)
            length = 0
            different = len({call.form for call in round_}) > 1
            if times < 1 or not different or any(_WAITS.search(call.tool) for call in round_):
                continue
            forms = {call.form: call.outcome for call in round_}
            progress = any(call.outcome != forms.get(call.form, call.outcome) for call in found[i:])
            if not progress and (best is None or times > best.times):
                best = Circle(found[i - 1].step, times)
    return [] if best is None else [best]


def failing(found: Sequence[Call]) -> list[Circle]:
    """Return the tools whose last calls all failed: the last step, and how many calls that were."""
    streaks: dict[str, Circle] = {}
    for call in found:
        if call.failed:
            before = streaks.get(call.tool)
            streaks[call.tool] = Circle(call.step, before.times + 1 if before else 1)
        else:
            streaks.pop(call.tool, None)
    return list(streaks.values())


def unrecovered(found: Sequence[Call]) -> list[tuple[Call, bool]]:
    """Return failed calls that no later one made good, and whether the tool worked for something else later.

    A later success makes good what the same tool was asked with a third of the same words, or another tool
    with half of them.
    """
    lost: list[tuple[Call, bool]] = []
    for i, call in enumerate(found):
        if not call.failed:
            continue
        later = [other for other in found[i + 1 :] if not other.failed]
        if not any(_makes_good(call, other) for other in later):
            lost.append((call, any(other.tool == call.tool for other in later)))
    return lost


def _makes_good(call: Call, later: Call) -> bool:
    share = len(call.words & later.words) / len(call.words) if call.words else 1.0
    same = later.tool == call.tool
    return share >= (1 / 3 if same else 1 / 2) and (same or bool(call.words))


def noisy_or(evidence: Sequence[Evidence]) -> float:
    """Return one minus the chance that none of the kinds is right, taking the worst of each kind."""
    worst: dict[str, float] = {}
    for entry in evidence:
        worst[entry.kind] = max(worst.get(entry.kind, 0.0), entry.score)
    none = 1.0
    for score in worst.values():
        none *= 1.0 - score
    return 1.0 - none


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most a run may use; None: no bound. `cost` is in the sender's currency."""

    steps: int | None = 200
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an agent may do. Tools are named by globs.

    `allow`: tools it may call. `destructive`: tools that need an approval before them, by a guardrail or tool
    step named in `approval`, or, where that has `user`, by the user's yes in the conversation. The latest
    approval before the call decides; one that failed or says no is none. Without `approval` none is needed.
    """

    allow: tuple[str, ...] = ("*",)
    destructive: tuple[str, ...] = DESTRUCTIVE
    approval: tuple[str, ...] = ()
    budgets: Budgets = Budgets()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the detector: a policy for every agent, and by `agents` (globs, first match) for some.

    What an entry of `agents` leaves out is as for every agent. `history` is how many runs of an agent are
    remembered and `warm_up` how many it takes to call one unusual; at most `max_agents` and
    `max_conversations` are remembered. A conversation ends after `window_seconds` without a trace;
    `conversation` is what all its runs together may use.
    """

    allow: tuple[str, ...] = ("*",)
    destructive: tuple[str, ...] = DESTRUCTIVE
    approval: tuple[str, ...] = ()
    budgets: dict[str, int | float | None] = {}
    agents: dict[str, dict[str, Any]] = {}
    history: int = 128
    warm_up: int = 30
    max_agents: int = 500
    max_conversations: int = 2000
    window_seconds: float = 1800.0
    conversation: Budgets = Budgets(steps=None)


def options(given: dict[str, Any]) -> Options:
    """Read the detector's options. Raises ConfigError naming the option and the remedy."""
    where = "detectors.agent.options"
    try:
        read = msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}; use {', '.join(Options.__struct_fields__)}") from None
    for name in ("history", "warm_up", "max_agents", "max_conversations", "window_seconds"):
        if getattr(read, name) <= 0:
            raise ConfigError(f"{where}.{name}: must be above 0")
    if read.warm_up > read.history:
        raise ConfigError(f"{where}.warm_up: must be at most history, {read.history}")
    policies(read)
    return read


class Rulebook(NamedTuple):
    """Compiled policies: the pattern of the agents' names, what each may do, and `gates`, all approvals."""

    entries: tuple[tuple[re.Pattern[str], "Compiled"], ...]
    gates: tuple[re.Pattern[str], ...]

    def of(self, agent: str) -> "Compiled":
        """Return the policy of an agent: that of the first glob which matches its name."""
        return next(policy for pattern, policy in self.entries if pattern.fullmatch(agent))


class Compiled(NamedTuple):
    """A policy with its globs compiled; `approval` is None where none is needed."""

    allow: re.Pattern[str]
    destructive: re.Pattern[str]
    approval: re.Pattern[str] | None
    by_user: bool
    budgets: Budgets


def policies(read: Options) -> Rulebook:
    """Compile the policies. Raises ConfigError."""
    base = {
        "allow": read.allow,
        "destructive": read.destructive,
        "approval": read.approval,
        "budgets": read.budgets,
    }
    entries = []
    named = [item for item in read.agents.items() if item[0] != "*"]
    for name, own in (*named, ("*", read.agents.get("*", {}))):
        budgets = own.get("budgets") or {}
        merged = {**base, **own, "budgets": {**read.budgets, **budgets} if isinstance(budgets, dict) else 0}
        try:
            policy = msgspec.convert(merged, Policy)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"detectors.agent.options.agents.{name}: {error}; use {', '.join(Policy.__struct_fields__)}"
            ) from None
        entries.append((_globs((name,)), _compiled(policy)))
    gates = {policy.approval for _, policy in entries if policy.approval is not None}
    return Rulebook(tuple(entries), tuple(sorted(gates, key=lambda gate: gate.pattern)))


def _compiled(policy: Policy) -> Compiled:
    named = tuple(name for name in policy.approval if name != USER)
    return Compiled(
        _globs(policy.allow),
        _globs(policy.destructive),
        _globs(named) if policy.approval else None,
        USER in policy.approval,
        policy.budgets,
    )


def _globs(names: Sequence[str]) -> re.Pattern[str]:
    """One pattern for all globs; none of them matches nothing."""
    return re.compile("|".join(fnmatch.translate(name) for name in names) or r"(?!)")
