"""Flags and judged traces, made up."""

from typing import Any

import msgspec

from monitor.findings import Action, Assessment, Evidence, Flag, Judgement, Severity, Status
from monitor.privacy.redact import redact, request_for
from monitor.records import FlagRow
from monitor.trace import TRAFFIC, Message, Origin, SafeText, Trace, Traffic

NOW = 1_700_000_000.0
CANARY = "kanarienvogel"
MAIL = "jane@example.com"
ADDRESS = Evidence(field="response", start=3, end=12, kind="EMAIL_ADDRESS", score=0.9, leaked=True)
PII = Assessment(detector="pii", version="1", status=Status.SCORED, score=0.91, evidence=(ADDRESS, ADDRESS))


def flag_row(name: str = "f1", **changes: Any) -> FlagRow:
    """Return a flag of rule PersonalDataLeak on two social security numbers and one e-mail address."""
    flag: dict[str, Any] = {
        "id": name,
        "rule": "PersonalDataLeak",
        "rule_version": "abc123",
        "severity": Severity.CRITICAL,
        "actions": (Action.AUDIT, Action.ALERT, Action.FEEDBACK),
        "detectors": ("pii",),
        "labels": {"team": "privacy"},
        "annotations": {"summary": "Personal data in an answer"},
    }
    evidence = tuple(
        Evidence(field="response", start=i, end=i + 9, kind=kind, score=0.9, leaked=True)
        for i, kind in enumerate(("US_SSN", "EMAIL_ADDRESS", "US_SSN"))
    )
    row: dict[str, Any] = {
        "origin": Origin("llm.traces", 3, 1881, 0),
        "trace_id": f"trace-{name}",
        "time": NOW - 10.0,
        "assessments": (
            Assessment(detector="pii", version="1+aa", status=Status.SCORED, score=0.91, evidence=evidence),
            Assessment(detector="toxicity", version="1+bb", status=Status.SCORED, score=0.99),
            Assessment(detector="drift", version="1+cc", status=Status.SKIPPED, reason="warming_up"),
        ),
        "prompt": SafeText(f"{CANARY} asked"),
        "response": SafeText(f"{CANARY} answered <US_SSN>"),
        "evidence": (SafeText(f"{CANARY} <US_SSN>"),),
    }
    return _changed(flag, row, {"app": "support-bot", "environment": "production", "model": "m-1"}, changes)


def numbered_flag_row(number: int, **changes: Any) -> FlagRow:
    """Return the n-th flag, recorded `number` seconds after a time, with changed fields of flag and row."""
    flag: dict[str, Any] = {
        "id": f"flag-{number:05}",
        "rule": "Leak",
        "rule_version": "1",
        "severity": Severity.WARNING,
        "actions": (Action.AUDIT, Action.REVIEW),
        "detectors": ("pii",),
        "labels": {},
        "annotations": {},
        "controls": (),
    }
    row: dict[str, Any] = {
        "origin": Origin("traces", 3, number, 0),
        "trace_id": f"trace-{number}",
        "time": 1_700_000_000.0 + number,
        "assessments": (PII,),
        "prompt": SafeText("Who is it?"),
        "response": SafeText("It is <EMAIL_ADDRESS>."),
        "evidence": (SafeText("<EMAIL_ADDRESS>"),),
    }
    return _changed(flag, row, {"app": "shop", "environment": "production", "model": "m-1"}, changes)


def _changed(
    flag: dict[str, Any], row: dict[str, Any], traffic: dict[str, str], changes: dict[str, Any]
) -> FlagRow:
    """Build the row with these fields; each change goes to the part that has a field of its name."""
    traffic = traffic | {name: changes[name] for name in TRAFFIC if name in changes}
    flag = flag | {name: changes[name] for name in flag if name in changes}
    rest = {name: value for name, value in changes.items() if name not in {*TRAFFIC, *flag}}
    return FlagRow(flag=Flag(**flag), **(row | {"traffic": Traffic(**traffic)} | rest))


def flag(*actions: Action, rule: str = "R") -> Flag:
    """Return a flag of a rule on PII."""
    return Flag(
        id=f"id-{rule}",
        rule=rule,
        rule_version="1",
        severity=Severity.WARNING,
        actions=actions,
        detectors=("pii",),
    )


def judgement(
    *flags: Flag, status: Status = Status.SCORED, evidence: tuple[Evidence, ...] = (), offset: int = 0
) -> Judgement:
    """Return a judged trace with an address in prompt and response."""
    return Judgement(
        origin=Origin("t", 0, offset, 0),
        trace=Trace(
            id=f"t-{offset}",
            time=1.0,
            response=f"Ask {MAIL} or Jane Doe.",
            messages=(Message("system", "Be kind."), Message("user", f"Who is {MAIL}?")),
        ),
        assessments=(
            Assessment(
                detector="pii",
                version="1",
                status=status,
                score=0.5 if status is Status.SCORED else None,
                evidence=evidence,
            ),
            Assessment(detector="toxicity", version="1", status=Status.SCORED, score=0.1),
        ),
        flags=flags,
    )


def redacted(judged: Judgement, limit: int = 100) -> Judgement:
    """Return a judgement with its texts, as the engine has them redacted."""
    return msgspec.structs.replace(judged, redaction=redact(request_for(judged, limit)))
