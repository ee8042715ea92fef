"""No field of any format is a way out for personal data or keys: each is planted with some, one at a time."""

import copy
import json
import re
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from gateway_payloads import AGENTO11Y, KONG, LITELLM, NATIVE, PAIR
from otlp_wire import request, span_of, talk
from outside import sink
from patience import eventually

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.daemon.daemon import Daemon, wait_in_thread
from monitor.testing import MemoryLog, MemorySource

TOKEN = "token-of-the-review-page"
SHAPES = (
    "+49151########", "49151########", "0151-2#######", "+1-212-55#-####", "21255#####", "1-41#-55#-####",
    "+33.6.1#.##.##.##", "06-1#-##-##-##", "+44-7400-######", "9198########", "98###-#####",
    "+81-90-####-####", "07#05112#", "ssn:07#05112#", "07#-05-112#", "an.na#######@example.org",
    "wa:+5511987######", "user-1212555####", "DE", "4", "sk-proj-{}", "sk-ant-api03-{}", "sk-or-v1-{}",
    "sk_live_{}", "AKIA{:.16}", "ghp_{}", "github_pat_{}", "glpat-{}", "xoxb-{}", "AIza{}", "ya29.{}",
    "SG.{}.x", "hf_{}", "gsk_{}", "npm_{}", "eyJ{}.eyJ{}.x", "bot:sk-proj-{}", "whsec_{}", "lsv2_pt_{}",
    "hvs.{}", "r8_{}", "glsa_{}", "pypi-AgE{}",
)  # fmt: skip
"""Telephone numbers and the like, addresses, keys; DE is an IBAN, 4 a card. Chance for # and braces."""

SPAN = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m",
    "gen_ai.response.model": "m-1", "gen_ai.response.id": "r-1", "gen_ai.conversation.id": "c-1",
    "gen_ai.agent.name": "desk", "gen_ai.agent.id": "a-1", "gen_ai.prompt.name": "greeting", "user.id": "u-1",
    "gen_ai.response.finish_reasons": ["stop"], "error.type": "none", "session.id": "s-1",
    **talk("Hi?", "Hello."),
}  # fmt: skip
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find", "gen_ai.tool.call.id": "t-1"}
RESOURCE = {"service.name": "shop", "deployment.environment.name": "prod"}
TRACE = {
    **NATIVE, "app": "shop", "environment": "prod", "provider": "openai", "model_version": "1",
    "prompt_name": "greeting", "prompt_version": "2", "conversation": "c-1", "user": "u-1", "trace_id": "t-1",
    "span_id": "s-1", "finish_reason": "stop", "error": "none", "agent": "desk", "labels": {"a": "b"},
    "context": [{"id": "d-1", "content": "A document."}],
    "tool_calls": [{"name": "find", "arguments": "{}", "result": "found", "id": "t-1"}],
    "steps": [{"kind": "tool", "name": "find", "id": "1", "error": "none", "input": "a", "output": "b"}] * 2,
}  # fmt: skip
PAYLOADS: dict[str, Any] = {
    "native": TRACE, "openai": PAIR | {"app": "shop", "conversation": "c", "trace_id": "t", "span_id": "s"},
    "litellm": LITELLM, "kong": KONG, "agento11y": AGENTO11Y,
    "otlp_json": request(
        span_of(SPAN), span_of(TOOL, spanId="a7ad6b7169203331", parentSpanId="b7ad6b7169203331"),
        span_of({"llm.foreign": "x"}, spanId="c7ad6b7169203331", parentSpanId="b7ad6b7169203331"),
        resource=RESOURCE,
    ),
}  # fmt: skip
PAYLOADS["otlp_json"]["resourceSpans"][0]["scopeSpans"][0]["scope"] = {"name": "sdk", "version": "1"}
SHARE = 2
"""So many canaries, of different shapes, go into each field."""


def planted(shape: str, pick: Random) -> tuple[str, bytes]:
    """A canary, and what of it cannot stand anywhere by chance: its digits, or the chance of a key."""
    if shape == "DE":
        account = f"{pick.randrange(10**18):018d}"
        text = f"DE{98 - int(f'{account}131400') % 97:02d}{account}"
    elif shape == "4":
        digits = [4, *(pick.randrange(10) for _ in range(14))]
        total = sum(sum(divmod(2 * digit, 10)) for digit in digits[::2]) + sum(digits[1::2])
        text = "".join(map(str, digits)) + str(-total % 10)
    elif "{" in shape:
        chance = "".join(pick.choices("abcdefghjkmnpqrstuvwxyz23456789", k=40)).upper()
        return shape.format(*[chance] * shape.count("{")), chance[:16].lower().encode()
    else:
        text = re.sub("#", lambda _: str(pick.randrange(10)), shape)
    return text, re.sub("[^0-9]", "", text)[-7:].encode() if "@" in text else re.sub(
        "[^0-9]", "", text
    ).encode()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all strings, and one more in each object, for a canary as its key."""
    if isinstance(value, dict):
        yield (*path, None)
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    elif isinstance(value, str):
        yield path


def with_canaries(payload: Any, pick: Random, cores: set[bytes]) -> Iterator[bytes]:
    """The payload again and again, each time with a canary in one of its strings, or as a key."""
    for *path, last in leaves(payload):
        for shape in pick.sample(SHAPES, SHARE):
            text, core = planted(shape, pick)
            cores.add(core)
            changed = inner = copy.deepcopy(payload)
            for key in path:
                inner = inner[key]
            inner[text if last is None else last] = text
            yield json.dumps(changed).encode()


def found_in(text: bytes, cores: set[bytes]) -> list[bytes]:
    """Which canaries stand in a text, whatever separates their digits."""
    lower = text.lower()
    compact = re.sub(rb"[-._:/ +]+", b"", lower)
    return [core for core in cores if core in lower or core in compact]


def rows(path: Path) -> bytes:
    """All that a ledger keeps, but for what is encrypted."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        kept = [repr(row) for table in tables for row in ledger.execute(f"SELECT * FROM {table}")]  # noqa: S608 - its own names
    return "\n".join(kept).encode()


RULES = """
groups:
  - name: everything
    rules:
      - alert: EveryTrace
        expr: pii.status != "skipped" || trace.app != ""
        labels: {severity: warning}
        actions: [audit, alert, review, feedback]
        annotations: {summary: "A trace of {{ $labels.app }} was judged."}
"""


@pytest.mark.slow
def test_no_field_is_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What looks like a person or key in any string or field name is in no metric, log, alert, page, row."""
    pick, cores = Random(13), set[bytes]()
    logs = {(f"llm.{form}", 0): list(with_canaries(sent, pick, cores)) for form, sent in PAYLOADS.items()}
    count = sum(map(len, logs.values()))
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    off = {name: {"enabled": False} for name in Config().enabled_detectors() if name not in {"pii", "agent"}}
    monkeypatch.setenv("RISKMON_HTTP_REVIEW_TOKEN", TOKEN)
    with sink() as outside:
        file = tmp_path / "riskmon.yaml"
        hook = {"url": f"{outside.url}/hook", "secret": "s3cret", "allow_private": True}
        file.write_text(yaml.safe_dump({
            "data_dir": str(tmp_path / "data"),
            "kafka": {"topics": [topic for topic, _ in logs]},
            "ingest": {"formats": {f"llm.{form}": form for form in PAYLOADS}},
            "assembly": {"timeout_seconds": 1.0},
            "detectors": {**off, "pii": {"options": {"tag_names": False}}},
            "rules": {"paths": [str(rules)]},
            "http": {"port": 0},
            "pool": {"workers": 1},
            "ledger": {"sample_ratio": 1.0},
            "telemetry": {"log_level": "debug", "otlp_endpoint": outside.url},
            "deliver": {"alertmanager": {"url": outside.url}, "webhooks": [hook], "feedback_topic": ""},
        }))  # fmt: skip
        clock = SystemClock()
        daemon = Daemon(load(file), clock=clock, source=MemorySource(MemoryLog(logs), clock, finite=False))
        thread, failures = wait_in_thread(daemon)
        try:
            eventually(lambda: daemon.totals.recorded + daemon.totals.dead_lettered == count, "all judged")
            eventually(lambda: len(outside.got.get("/hook", ())) > 10, "alerts")
            places = {}
            for path in ("/metrics", "/review", "/review?format=json", "/readyz"):
                sent = urllib.request.Request(
                    f"http://127.0.0.1:{daemon.http.port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
                )
                with urllib.request.urlopen(sent) as answer:  # noqa: S310 - as above
                    places[path] = answer.read()
        finally:
            daemon.stop()
            thread.join(60)
        places |= {path: outside.bytes(path) for path in outside.got}
    assert not failures
    places["output"] = "".join(capfd.readouterr()).encode()
    places["ledger"] = rows(tmp_path / "data" / "ledger.db")
    assert {
        "/metrics",
        "/review",
        "/hook",
        "/api/v2/alerts",
        "/v1/traces",
        "ledger",
        "output",
    } <= places.keys()
    assert all(places.values())
    assert daemon.totals.dead_lettered < count / 4
    assert {place: found for place, text in places.items() if (found := found_in(text, cores))} == {}
