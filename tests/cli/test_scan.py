"""`riskmon scan`: a file or standard input judged by the real pool, a line per trace, in order."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from monitor.config import DetectorsConfig
from monitor.outcome.verdict import schema

LEAK = "Her social security number is 536-90-4399, and her card is 4111 1111 1111 1111."


def scan(*arguments: object, stdin: bytes = b"", folder: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run the command with small batches, which finish out of order, and without names, to be quick."""
    variables = {
        "RISKMON_DATA_DIR": str(folder / "data"),
        "RISKMON_POOL_MAX_BATCH": "2",
        "RISKMON_DETECTORS_PII_OPTIONS": "{tag_names: false}",
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "monitor", "scan", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, env={**os.environ, **variables}, timeout=180, check=False
    )


def lines() -> bytes:
    """Twelve traces, the fourth of which leaks; a malformed line, a blank one and another malformed one."""
    traces: list[dict[str, Any]] = [
        {"id": f"t-{n}", "response": "It is sunny.", "messages": [{"role": "user", "content": "Weather?"}]}
        for n in range(12)
    ]
    traces[3]["response"] = LEAK
    good = [json.dumps(trace).encode() for trace in traces]
    return b"\n".join([*good[:5], b"{broken", b"", *good[5:], b'{"id": "x"}'])


@pytest.mark.slow
def test_json_has_a_line_per_trace_in_order(tmp_path: Path) -> None:
    """`scan - --json` prints published verdicts in input order, malformed lines where they stood."""
    ended = scan("-", "--json", stdin=lines(), folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    before, behind = [f"t-{n}" for n in range(5)], [f"t-{n}" for n in range(5, 12)]
    assert [row.get("response_id") for row in rows] == [*before, None, *behind, None]
    published = jsonschema.Draft202012Validator(schema())
    for row in rows:
        if row["id"] is None:
            assert row.keys() == {"id", "line", "reason", "detail", "detectors", "flags"}
            assert (row["detectors"], row["flags"]) == ({}, [])
            continue
        published.validate(row)
        assert list(row["detectors"]) == list(row["evidence"]) == list(DetectorsConfig.model_fields)
        for answer in row["detectors"].values():
            assert (answer["status"] == "scored") == (answer["score"] is not None)
    dead = [(row["line"], row["reason"]) for row in rows if row["id"] is None]
    assert dead == [(6, "invalid_json"), (15, "missing_field")]
    assert ("PersonalDataLeak", "critical") in {(flag["rule"], flag["severity"]) for flag in rows[3]["flags"]}
    assert {"US_SSN", "CREDIT_CARD"} <= {evidence["kind"] for evidence in rows[3]["evidence"]["pii"]}
    assert b"536-90-4399" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_file_gives_a_summary_and_leaves_nothing(tmp_path: Path) -> None:
    """Without --json a person reads what was found; neither a ledger nor a temporary file stays."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(lines())
    ended = scan(path, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout.decode()
    assert "PersonalDataLeak" in shown
    assert "1 line could not be read: invalid_json" in shown
    assert "which lines, and where in them: --json" in shown
    assert "12 traces judged" in shown
    assert "536-90-4399" not in shown
    left = [entry.name for entry in tmp_path.rglob("*")]
    assert not [name for name in left if "riskmon" in name or name in {"data", "ledger.db"}]


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The message names the file; standard output stays empty."""
    ended = scan(tmp_path / "none.jsonl", "--json", folder=tmp_path)
    assert ended.returncode == 78
    assert ended.stdout == b""
    assert b"none.jsonl: cannot be read" in ended.stderr
