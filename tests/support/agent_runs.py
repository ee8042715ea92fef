"""The labelled agent runs of tests/data/agents, as native records and as traces."""

import json
from typing import Any, NamedTuple

import yaml
from checkout import DATA

from monitor.config import IngestConfig
from monitor.ingest import decoder
from monitor.trace import Record, Trace

FOLDER = DATA / "agents"
BEGIN = 1_770_000_000.0
KINDS = {
    "tool": "tool",
    "fail": "tool",
    "find": "retrieval",
    "say": "chat",
    "gate": "guardrail",
    "agent": "agent",
}


class Labelled(NamedTuple):
    """A run, and what is wrong with it: one or more of the labels of `ALERTS`; nothing if it is healthy."""

    id: str
    expect: frozenset[str]
    trace: Trace


def policies() -> dict[str, Any]:
    """Options of the detector under which the runs are judged."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "policies.yaml").read_text(encoding="utf-8"))
    return found


def labelled(name: str) -> list[Labelled]:
    """Runs of one file."""
    runs = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    decode = decoder("native", IngestConfig(), str)
    found = []
    for run in runs:
        (trace,) = decode(Record("t", 0, 0, BEGIN, None, json.dumps(native(run)).encode()))
        assert isinstance(trace, Trace)
        found.append(Labelled(run["id"], frozenset(run["expect"]), trace))
    return found


def native(run: dict[str, Any]) -> dict[str, Any]:
    """A run as a native trace: an agent's step, under it the steps, one second each unless told otherwise."""
    steps: list[dict[str, Any]] = [
        {"kind": "agent", "name": run["agent"], "input": run["ask"], "start": BEGIN}
    ]
    for kind, name, asked, *rest in run["steps"]:
        extras: dict[str, Any] = rest[-1] if rest and isinstance(rest[-1], dict) else {}
        came = rest[0] if rest and not isinstance(rest[0], dict) else ""
        times = extras.get("times", 1)
        for n in range(1, times + 1):
            steps.append(
                {
                    "kind": KINDS[kind],
                    "name": name,
                    "parent": 0,
                    "start": BEGIN + (extras["at"] if "at" in extras else len(steps) * 1.0),
                    "seconds": extras.get("seconds", 0.5),
                    "error": extras.get("error", ""),
                    "input": str(asked).replace("#", str(n)) if times > 1 else str(asked),
                    "output": str(came).replace("#", str(n)) if times > 1 else str(came),
                    "input_tokens": extras.get("tokens", (None, None))[0],
                    "output_tokens": extras.get("tokens", (None, None))[1],
                    "cost": extras.get("cost"),
                }
            )
    before = [{"role": role, "content": content} for role, content in run.get("before", [])]
    return {
        "id": run["id"],
        "app": "agents",
        "agent": run["agent"],
        "messages": [*before, {"role": "user", "content": run["ask"]}],
        "response": run["answer"],
        "steps": steps if run["steps"] else [],
    }
