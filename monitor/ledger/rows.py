"""Turn flags, assessments and messages into rows of the ledger and bodies of its chain, and flags back.

The bytes are part of the ledger's format: the chain vouches for a flag's columns by their digest, so a flag
written by an earlier version must still give the same one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from monitor.findings import Action, Assessment, Flag, Severity
from monitor.ledger import audit
from monitor.ledger import schema as t
from monitor.outcome.transaction import EngineVersion, KeptTrace, Transaction
from monitor.records import Coverage, FlagRow
from monitor.trace import TRAFFIC, Origin, SafeText, Traffic

ORIGIN: Final = ("topic", "partition", "offset", "part", "incarnation")
"""Columns that hold an `Origin`, in its order."""


class FlagBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of `flags.body`: everything of a `FlagRow` that has no column of its own.

    Fields with a default came later: bodies of earlier versions lack them.
    """

    rule_version: str
    actions: tuple[Action, ...]
    detectors: tuple[str, ...]
    labels: dict[str, str]
    annotations: dict[str, str]
    controls: tuple[str, ...]
    prompt: SafeText
    response: SafeText
    evidence: tuple[SafeText, ...]
    assessments: tuple[Assessment, ...]
    error: str = ""


_flag_encoder = msgspec.json.Encoder(order="sorted")
_flag_decoder = msgspec.json.Decoder(FlagBody)


def flag_columns(row: FlagRow) -> dict[str, Any]:
    """Return the columns of a flag, all but `seq`, which the chain gives it."""
    flag = row.flag
    body = FlagBody(
        rule_version=flag.rule_version,
        actions=flag.actions,
        detectors=flag.detectors,
        labels=flag.labels,
        annotations=flag.annotations,
        controls=flag.controls,
        prompt=row.prompt,
        response=row.response,
        evidence=row.evidence,
        assessments=tuple(map(_without_vector, row.assessments)),
        error=row.error,
    )
    return {
        "id": flag.id,
        **dict(zip(ORIGIN, row.origin, strict=True)),
        "trace_id": row.trace_id,
        "time": row.time,
        **row.traffic.identity(),
        "rule": flag.rule,
        "severity": flag.severity.value,
        "body": _flag_encoder.encode(body).decode(),
        "detectors": detectors_column(flag.detectors),
    }


def detectors_column(detectors: Iterable[str]) -> str:
    """Return names in a form in which each can be searched for between its two separators."""
    return "".join(f"+{name}" for name in detectors) + "+"


def flag_row(stored: Any) -> FlagRow:
    """Read a flag back from a row of its table."""
    body = _flag_decoder.decode(stored.body)
    return FlagRow(
        flag=Flag(
            id=stored.id,
            rule=stored.rule,
            rule_version=body.rule_version,
            severity=Severity(stored.severity),
            actions=body.actions,
            detectors=body.detectors,
            labels=body.labels,
            annotations=body.annotations,
            controls=body.controls,
        ),
        origin=origin(stored),
        trace_id=stored.trace_id,
        time=stored.time,
        traffic=Traffic(**{name: getattr(stored, name) for name in TRAFFIC}),
        assessments=body.assessments,
        prompt=body.prompt,
        response=body.response,
        evidence=body.evidence,
        error=body.error,
    )


def origin(stored: Any) -> Origin:
    """Return the origin that a row of `flags` or `assessments` names."""
    return Origin(*(getattr(stored, name) for name in ORIGIN))


def flag_digest(columns: Mapping[str, Any]) -> str:
    """Digest a flag as stored; its chain entry vouches for this. `seq` is left out.

    So are empty columns of later versions, since digests are older than they are, and `detectors`, which
    repeats the body: see `repeats_body`.
    """
    left_out = {"seq", "detectors", *(name for name in t.LATER_FLAG_COLUMNS if not columns[name])}
    digested = {name: columns[name] for name in t.flags.c.keys() if name not in left_out}  # noqa: SIM118 - not a dict
    return hashlib.sha256(audit.canonical(digested).encode()).hexdigest()


def repeats_body(columns: Mapping[str, Any]) -> bool:
    """Return whether the column of detectors says what the body says, which the digest vouches for."""
    try:
        body = _flag_decoder.decode(columns["body"])
    except msgspec.DecodeError:  # an unreadable body was altered
        return False
    return bool(columns["detectors"] == detectors_column(body.detectors))


def flag_entry(row: FlagRow, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a flag's chain entry, given its columns."""
    return {
        "id": row.flag.id,
        "rule": row.flag.rule,
        "rule_version": row.flag.rule_version,
        "severity": row.flag.severity.value,
        "origin": list(row.origin if row.origin.incarnation else row.origin[:4]),
        "trace_id": row.trace_id,
        "digest": flag_digest(columns),
    }


def version_entry(version: EngineVersion, owner: str) -> dict[str, Any]:
    """Return the body of the chain entry that names the versions that judge from here on."""
    return {"id": version.id, "detectors": version.detectors, "rules": version.rules, "instance": owner}


def coverage_entry(coverage: Coverage, transaction: Transaction) -> dict[str, Any]:
    """Return the body of the chain entry that proves what a transaction judged of one partition."""
    claimed = transaction.marks.get((coverage.topic, coverage.partition))
    # A first incarnation is left out: most ledgers have no other.
    another = {"incarnation": claimed.incarnation} if claimed is not None and claimed.incarnation else {}
    return another | {
        "topic": coverage.topic,
        "partition": coverage.partition,
        "ranges": [[span.start, span.end] for span in coverage.ranges],
        "records": coverage.records,
        "dead": coverage.dead,
        "traces": coverage.traces,
        "statuses": coverage.statuses,
        "flags": coverage.flags,
        "judge": transaction.version.id,
    }


def outbox_columns(destination: str, key: str, body: str, now: float) -> dict[str, Any]:
    """Return the columns of a message that waits from `now` on."""
    return {
        "destination": destination,
        "key": key,
        "body": body,
        "created": now,
        "attempts": 0,
        "due": now,
        "state": "waiting",
        "reason": "",
    }


def assessment_columns(trace: KeptTrace) -> dict[str, Any]:
    """Return the columns of a trace's assessments."""
    return {
        **dict(zip(ORIGIN, trace.origin, strict=True)),
        "trace_id": trace.trace_id,
        "time": trace.time,
        "why": trace.why.value,
        "body": msgspec.json.encode([*map(_without_vector, trace.assessments)]).decode(),
    }


def dead_letter_context(topic: str, partition: int, offset: int, incarnation: int) -> bytes:
    """Return the context a dead letter's encryption is bound to, so that rows cannot be swapped."""
    place = f"{topic}/{partition}/{offset}"
    return (f"{place}/{incarnation}" if incarnation else place).encode()


def _without_vector(assessment: Assessment) -> Assessment:
    return msgspec.structs.replace(assessment, vector=b"") if assessment.vector else assessment
