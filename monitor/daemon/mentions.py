"""The names that a configuration mentions: traffic that bears them stays recognisable."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from monitor.agents.policy import read_options
from monitor.config import Config
from monitor.rules import RuleSet

_WILD = frozenset("*?[")
_TOOLS = ("allow", "destructive", "approval")


def mentioned(config: Config, rules: RuleSet) -> Mapping[str, frozenset[str]]:
    """Return names without wildcards by what they name: `app`, `model`, `environment`, …, `agent`, `tool`.

    They come from `telemetry.allow`, error budgets, the rules' `match` and the policies of agents.
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    for kind, name in (*_of_traffic(config, rules), *of_agents(config)):
        if is_exact(name):
            names[kind].add(name)
    return {kind: frozenset(found) for kind, found in names.items()}


def is_exact(name: str) -> bool:
    """Return whether a name is no glob."""
    return _WILD.isdisjoint(name)


def _of_traffic(config: Config, rules: RuleSet) -> Iterator[tuple[str, str]]:
    for label, values in config.telemetry.allow.items():
        for value in values:
            yield label, value
    for budget in config.budgets.flagged:
        yield "app", budget.app
        yield "environment", budget.environment
    for rule in rules.rules:
        yield from rule.match.items()


def of_agents(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the names and globs of the policies of agents, with what they name: `agent` or `tool`."""
    section = config.enabled_detectors().get("agent")
    if section is None or section.factory:
        return
    options = read_options(section.options)
    for agent in options.agents:
        yield "agent", agent
    for tool in (*options.allow, *options.destructive, *options.approval):
        yield "tool", tool
    for policy in options.agents.values():
        for key in _TOOLS:
            for tool in policy.get(key, ()):
                yield "tool", tool
