"""The audit chain and its verifier. Standard library only, so an auditor can import this file alone.

Every entry's hash covers the previous entry's, its number, time, kind and body, so changing, removing,
inserting or swapping entries breaks the chain at a named place. `coverage` entries prove what was judged:
per partition their ranges must tile the offsets from the `start` entry on, without overlap. An `incarnation`
entry says that the partition's log is another one from some offset on: what is judged from there is new.
Truncating the tail is found by comparing with the ledger's position and flag tables, or with a head
that was stored elsewhere (`entries` and `head` of `riskmon audit verify --json`).

Kinds of entries: `start`, `coverage`, `gap`, `moved` (by an operator) and `incarnation` say what was judged
of a partition, `flag` what it led to, `judge` which engine version judges from here on. The verifier passes
over `topic` (first id seen), `behind` (the group had committed more), `started`, `stopped`, `requeued` and
`dropped`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GENESIS = bytes(32)


class ChainEntry(NamedTuple):
    """One link: `body` is canonical JSON, `time` Unix seconds in microseconds' precision as text."""

    seq: int
    time: str
    kind: str
    body: str
    hash: bytes


def canonical(body: Mapping[str, Any]) -> str:
    """Serialise a body so that equal content has equal bytes (as RFC 8785, but with Python's floats)."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def link(previous: bytes, seq: int, time: str, kind: str, body: str) -> bytes:
    """Hash of an entry given the hash before it."""
    parts = [previous, seq.to_bytes(8, "big")]
    for text in (time, kind, body):
        data = text.encode()
        # With the length in front, a byte cannot move from one field to the next unnoticed.
        parts += [len(data).to_bytes(8, "big"), data]
    return hashlib.sha256(b"".join(parts)).digest()


@dataclass
class _Cover:
    """Covered offsets of one partition."""

    next: int
    beyond: dict[int, int] = field(default_factory=dict)
    incarnation: int = 0

    def add(self, start: int, end: int) -> str | None:
        """Cover [start, end); return the problem with that, if any."""
        if end <= start:
            return f"empty range [{start}, {end})"
        overlaps = start < self.next or any(start < e and s < end for s, e in self.beyond.items())
        if overlaps:
            return f"offsets [{start}, {end}) were judged before"
        self.beyond[start] = end
        self._close_up()
        return None

    def move(self, to: int) -> None:
        """Continue at `to`: ahead over a declared gap, or back to judge offsets again."""
        self.beyond = {} if to < self.next else {s: e for s, e in self.beyond.items() if s >= to}
        self.next = to
        self._close_up()

    def _close_up(self) -> None:
        while self.next in self.beyond:
            self.next = self.beyond.pop(self.next)


@dataclass
class AuditReport:
    """Result of a verification. `ok` means: nothing altered, nothing judged twice, no offset skipped.

    `problems` name the first bad places; `gaps` are offsets declared as never judged, with the reason on
    record; `open` are offsets not judged yet while later ones are (a daemon is at work on them).
    `incarnations` are logs that replaced an earlier one. `letters` is how many dead letters must be kept:
    fewer than `dead` where an operator had records judged again.
    """

    entries: int = 0
    records: int = 0
    traces: int = 0
    dead: int = 0
    letters: int = 0
    flags: int = 0
    head: str = GENESIS.hex()
    problems: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    incarnations: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    flag_digests: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Return whether the chain holds without a gap."""
        return not self.problems and not self.gaps


def verify(entries: Iterable[ChainEntry]) -> AuditReport:
    """Walk the chain from the beginning. Never raises on bad content: it becomes a problem with its place."""
    report = AuditReport()
    covers: dict[str, _Cover] = {}
    previous, expected = GENESIS, 1
    for entry in entries:
        if entry.seq != expected:
            report.problems.append(f"entry {expected} is missing: the next one is {entry.seq}")
        if not _follows(entry, previous):
            report.problems.append(f"entry {entry.seq} ({entry.kind}) was altered, or the one before it")
        # Go on from the stored hash: one altered entry is one problem, not one for each that follows.
        previous, expected = entry.hash, entry.seq + 1
        report.entries += 1
        try:
            problem = _apply(report, covers, entry.kind, json.loads(entry.body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problem = f"has an unreadable body ({type(error).__name__})"
        if problem:
            report.problems.append(f"entry {entry.seq} ({entry.kind}): {problem}")
    report.head = previous.hex()
    for name, cover in covers.items():
        report.positions[name] = cover.next
        at = cover.next
        for start in sorted(cover.beyond):
            report.open.append(f"{name} offsets [{at}, {start})")
            at = cover.beyond[start]
    return report


def _follows(entry: ChainEntry, previous: bytes) -> bool:
    try:
        return link(previous, entry.seq, entry.time, entry.kind, entry.body) == entry.hash
    except (OverflowError, UnicodeEncodeError):  # a number or text that no entry can have
        return False


def _apply(report: AuditReport, covers: dict[str, _Cover], kind: str, body: dict[str, Any]) -> str | None:
    if kind == "flag":
        return _apply_flag(report, body)
    if kind not in {"start", "coverage", "gap", "moved", "incarnation"}:
        return None
    name = f"{body['topic']}/{body['partition']}"
    if (kind == "start") == (name in covers):
        return f"{name} started before" if kind == "start" else f"{name} never started"
    if kind == "start":
        covers[name] = _Cover(body["offset"])
    elif kind == "coverage":
        return _apply_coverage(report, covers[name], name, body)
    elif kind == "incarnation":
        return _apply_incarnation(report, covers[name], name, body)
    else:
        if body["to"] > covers[name].next:
            skipped = f"{name} offsets [{covers[name].next}, {body['to']})"
            report.gaps.append(f"{skipped}: {body['reason']}")
        # A move back has records judged again, and with them their dead letters.
        report.letters -= body.get("letters", 0)
        covers[name].move(body["to"])
    return None


def _apply_flag(report: AuditReport, body: dict[str, Any]) -> str | None:
    if body["id"] in report.flag_digests:
        return f"flag {body['id']} was recorded before"
    report.flags += 1
    report.flag_digests[body["id"]] = body["digest"]
    return None


def _apply_incarnation(report: AuditReport, cover: _Cover, name: str, body: dict[str, Any]) -> str | None:
    if body["incarnation"] != cover.incarnation + 1:
        return f"{name} incarnation {body['incarnation']} follows {cover.incarnation}"
    if body["from"] != cover.next:
        return f"{name} ended at {cover.next}, not at {body['from']}"
    report.incarnations.append(f"{name} is another log from offset {body['since']} on: {body['reason']}")
    cover.incarnation = body["incarnation"]
    # What was judged beyond the cut belonged to the old log.
    cover.beyond = {s: min(e, body["since"]) for s, e in cover.beyond.items() if s < body["since"]}
    cover.next = body["to"]
    return None


def _apply_coverage(report: AuditReport, cover: _Cover, name: str, body: dict[str, Any]) -> str | None:
    report.records += body["records"]
    report.traces += body["traces"]
    report.dead += body["dead"]
    report.letters += body["dead"]
    for status, count in body["statuses"].items():
        report.statuses[status] = report.statuses.get(status, 0) + count
    if body.get("incarnation", 0) != cover.incarnation:
        return f"{name} is at incarnation {cover.incarnation}, judged was {body.get('incarnation', 0)}"
    for start, end in body["ranges"]:
        problem = cover.add(start, end)
        if problem:
            return f"{name} {problem}"
    return None
