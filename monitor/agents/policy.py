"""Options of the agent detector, and the policies they set: tools, approvals and budgets of each agent."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from monitor.errors import ConfigError

DESTRUCTIVE = ("*delete*", "*drop*", "*destroy*", "*purge*", "*remove*", "*truncate*", "*wipe*")
USER = "user"  # the approval that is a person's "yes" in the conversation


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most a run may use; None: no bound. `cost` is in the sender's currency."""

    steps: int | None = 200
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None


class AgentPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The permissions and budgets of an agent. Tools are named by globs.

    `allow`: tools it may call. `destructive`: tools that need an approval before them, by a guardrail or tool
    step named in `approval`, or, where that has `user`, by the user's yes in the conversation. The latest
    approval before the call decides; one that failed or says no does not count. Without `approval` none is
    needed.
    """

    allow: tuple[str, ...] = ("*",)
    destructive: tuple[str, ...] = DESTRUCTIVE
    approval: tuple[str, ...] = ()
    budgets: Budgets = Budgets()


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the detector: a policy for every agent, and by `agents` (globs, first match) for some.

    An entry of `agents` takes omitted options from the policy for every agent. `history` is the number of
    runs remembered per agent, `warm_up` the number needed to call one unusual; at most `max_agents` and
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


def read_options(raw: dict[str, Any]) -> AgentOptions:
    """Read the detector's options. Raises ConfigError naming the option and the remedy."""
    where = "detectors.agent.options"
    try:
        options = msgspec.convert(raw, AgentOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}; use {', '.join(AgentOptions.__struct_fields__)}") from None
    for name in ("history", "warm_up", "max_agents", "max_conversations", "window_seconds"):
        if getattr(options, name) <= 0:
            raise ConfigError(f"{where}.{name}: must be above 0")
    if options.warm_up > options.history:
        raise ConfigError(f"{where}.warm_up: must be at most history, {options.history}")
    compile_policies(options)
    return options


class Policies(NamedTuple):
    """Compiled policies: the pattern of the agents' names, what each may do, and `gates`, all approvals."""

    entries: tuple[tuple[re.Pattern[str], "CompiledPolicy"], ...]
    gates: tuple[re.Pattern[str], ...]

    def of(self, agent: str) -> "CompiledPolicy":
        """Return the policy of an agent: that of the first glob which matches its name."""
        return next(policy for pattern, policy in self.entries if pattern.fullmatch(agent))


class CompiledPolicy(NamedTuple):
    """A policy with its globs compiled; `approval` is None where none is needed."""

    allow: re.Pattern[str]
    destructive: re.Pattern[str]
    approval: re.Pattern[str] | None
    by_user: bool
    budgets: Budgets


def compile_policies(options: AgentOptions) -> Policies:
    """Compile the policies. Raises ConfigError."""
    base = {
        "allow": options.allow,
        "destructive": options.destructive,
        "approval": options.approval,
        "budgets": options.budgets,
    }
    entries = []
    named = [item for item in options.agents.items() if item[0] != "*"]
    for name, own in (*named, ("*", options.agents.get("*", {}))):
        budgets = own.get("budgets") or {}
        merged = {
            **base,
            **own,
            "budgets": {**options.budgets, **budgets} if isinstance(budgets, dict) else 0,
        }
        try:
            policy = msgspec.convert(merged, AgentPolicy)
        except msgspec.ValidationError as error:
            fields = ", ".join(AgentPolicy.__struct_fields__)
            raise ConfigError(f"detectors.agent.options.agents.{name}: {error}; use {fields}") from None
        entries.append((_globs((name,)), _compile(policy)))
    gates = {policy.approval for _, policy in entries if policy.approval is not None}
    return Policies(tuple(entries), tuple(sorted(gates, key=lambda gate: gate.pattern)))


def _compile(policy: AgentPolicy) -> CompiledPolicy:
    named = tuple(name for name in policy.approval if name != USER)
    return CompiledPolicy(
        _globs(policy.allow),
        _globs(policy.destructive),
        _globs(named) if policy.approval else None,
        USER in policy.approval,
        policy.budgets,
    )


def _globs(names: Sequence[str]) -> re.Pattern[str]:
    """Return one pattern for all globs; without any, one that matches nothing."""
    return re.compile("|".join(fnmatch.translate(name) for name in names) or r"(?!)")
