"""The audit chain and its verifier."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ledger.audit import GENESIS, ChainEntry, canonical, link, verify


def chain_of(*bodies: tuple[str, dict[str, Any]]) -> list[ChainEntry]:
    """Build a valid chain."""
    entries: list[ChainEntry] = []
    previous = GENESIS
    for seq, (kind, body) in enumerate(bodies, 1):
        text = canonical(body)
        previous = link(previous, seq, "1.000000", kind, text)
        entries.append(ChainEntry(seq, "1.000000", kind, text, previous))
    return entries


def coverage(*ranges: tuple[int, int], partition: int = 0) -> tuple[str, dict[str, Any]]:
    """Make a coverage entry."""
    records = sum(end - start for start, end in ranges)
    counts = {
        "records": records,
        "dead": 0,
        "traces": records,
        "statuses": {"pii.scored": records},
        "flags": 0,
    }
    return "coverage", {"topic": "t", "partition": partition, "ranges": [list(r) for r in ranges], **counts}


START = ("start", {"topic": "t", "partition": 0, "offset": 0, "reason": "earliest"})


def test_a_sound_chain_verifies() -> None:
    """Adjacent ranges, in any order of recording, leave no gap."""
    report = verify(chain_of(START, coverage((0, 5)), coverage((8, 9)), coverage((5, 8))))
    assert report.ok
    assert report.positions == {"t/0": 9}
    assert (report.records, report.statuses) == (9, {"pii.scored": 9})


@pytest.mark.parametrize(
    ("bodies", "word"),
    [
        ([START, coverage((0, 5)), coverage((4, 6))], "judged before"),
        ([START, coverage((3, 3))], "empty range"),
        ([coverage((0, 1))], "never started"),
        ([START, START], "started before"),
        (
            [START, ("flag", {"id": "f", "digest": "d"}), ("flag", {"id": "f", "digest": "d"})],
            "recorded before",
        ),
        ([START, ("coverage", {"topic": "t", "partition": 0})], "unreadable"),
    ],
)
def test_wrong_content_is_named(bodies: list[tuple[str, dict[str, Any]]], word: str) -> None:
    """Overlaps, repeats and nonsense are problems even in a chain whose hashes hold."""
    report = verify(chain_of(*bodies))
    assert not report.ok
    assert any(word in problem for problem in report.problems)


def test_unjudged_offsets_are_open_or_declared_gaps() -> None:
    """A hole is reported as open, a declared gap as a gap, and only a gap fails."""
    hole = verify(chain_of(START, coverage((0, 5)), coverage((7, 9))))
    assert hole.ok
    assert hole.open == ["t/0 offsets [5, 7)"]
    gap = ("gap", {"topic": "t", "partition": 0, "from": 5, "to": 7, "reason": "retention"})
    declared = verify(chain_of(START, coverage((0, 5)), gap, coverage((7, 9))))
    assert declared.gaps == ["t/0 offsets [5, 7): retention"]
    assert not declared.ok


def test_a_move_back_allows_judging_again() -> None:
    """Offsets an operator moved back over may be covered again."""
    moved = ("moved", {"topic": "t", "partition": 0, "from": 5, "to": 2, "reason": "again"})
    assert verify(chain_of(START, coverage((0, 5)), moved, coverage((2, 5)))).ok


@given(data=st.data())
def test_any_change_is_found(data: st.DataObject) -> None:
    """Altering, removing, inserting or swapping entries anywhere before the end breaks the chain."""
    entries = chain_of(START, *(coverage((i, i + 1)) for i in range(8)))
    at = data.draw(st.integers(0, len(entries) - 2))
    how = data.draw(st.sampled_from(["body", "time", "kind", "hash", "seq", "drop", "repeat", "swap"]))
    entry = entries[at]
    if how == "body":
        body = json.loads(entry.body)
        body["partition"] = 7
        entries[at] = entry._replace(body=canonical(body))
    elif how == "time":
        entries[at] = entry._replace(time="2.000000")
    elif how == "kind":
        entries[at] = entry._replace(kind="note")
    elif how == "hash":
        entries[at] = entry._replace(hash=bytes([entry.hash[0] ^ 1]) + entry.hash[1:])
    elif how == "seq":
        entries[at] = entry._replace(seq=entry.seq + 100)
    elif how == "drop":
        del entries[at]
    elif how == "repeat":
        entries.insert(at, entry)
    else:
        entries[at], entries[at + 1] = entries[at + 1], entries[at]
    report = verify(entries)
    assert not report.ok
    assert any(str(n) in p for p in report.problems for n in range(at + 1, at + 3))


def test_the_verifier_needs_only_the_standard_library() -> None:
    """An auditor can import the module in an isolated interpreter, outside the package."""
    code = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("audit", "monitor/ledger/audit.py")
module = sys.modules["audit"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.verify([]).ok)
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
