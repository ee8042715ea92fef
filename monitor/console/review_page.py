"""Recorded flags as a page to read and as JSON. Pure; all content of a flag is escaped."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from monitor.clock import rfc3339
from monitor.findings import Assessment, Severity
from monitor.outcome.alerts import kinds_of
from monitor.output import quiet_html, quiet_json
from monitor.records import FlagRow
from monitor.trace import Traffic

_COLUMNS: Final = ("Time (UTC)", "Severity and rule", "Where", "Trace", "Why", "Redacted text")
_MARKS: Final = {Severity.INFO: "●", Severity.WARNING: "▲", Severity.CRITICAL: "■"}
_OTHER: Final = (
    "In metrics and so in links from dashboards, <code>other</code> covers every name beyond "
    "<code>telemetry.max_label_values</code>: leave that filter out to see them."
)
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 14px/1.4 system-ui, sans-serif; margin: 1rem }
h1 { font-size: 1.3rem; margin: 0 0 .3rem }
p { margin: .3rem 0 .8rem }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { text-align: left; vertical-align: top; padding: .4rem .5rem; border-bottom: 1px solid #8886 }
th { position: sticky; top: 0; background: Canvas }
td { overflow-wrap: anywhere }
th:nth-child(1) { width: 6.5rem } th:nth-child(2) { width: 10rem } th:nth-child(3) { width: 9rem }
th:nth-child(4) { width: 10rem } th:nth-child(5) { width: 12rem }
.s { font-weight: 700; display: inline-block; padding: 0 .4rem; border-radius: .2rem; color: #fff }
.info { background: #2f6690 } .warning { background: #9a5b00 } .critical { background: #b3261e }
.t { white-space: pre-wrap; unicode-bidi: isolate; max-height: 9rem; overflow: auto; margin: 0 0 .4rem }
.m { opacity: .75; font-size: .85em }
.n { display: inline-block; padding: .6rem 0; font-weight: 700 }
"""


def as_json(flags: Sequence[FlagRow], following: str) -> bytes:
    """Return `{"flags": [...], "next": ...}`; `next` is the query of the next page, null on the last one.

    A flag has id, time (RFC 3339), rule, severity, app, environment, provider, model and their versions,
    trace_id, error (the type of error that the exchange ended with), position (topic, partition, offset), why
    (per assessment detector, status, score or null, reason, kinds with their counts) and text (prompt,
    response, list of evidence, all redacted).
    """
    page = {"flags": list(map(_plain, flags)), "next": following or None}
    return quiet_json(msgspec.json.encode(page).decode()).encode()


def as_html(flags: Sequence[FlagRow], following: str, parameters: Mapping[str, str]) -> bytes:
    """Return the same as a page without scripts; `parameters` selected the flags."""
    chosen = " · ".join(
        f"{escape(name)} <b>{_text(value)}</b>" for name, value in parameters.items() if name != "format"
    )
    count = (
        f"{len(flags)} flag{'' if len(flags) == 1 else 's'}{', more on the next page' if following else ''}"
    )
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, flags))}</tbody></table>"
    link = f'<a class="n" href="{escape(following)}">next: older flags</a>' if following else ""
    hint = f"<p>{_OTHER}</p>" if not flags and "other" in parameters.values() else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Flags on record</title><style>{_STYLE}</style></head><body><h1>Flags on record</h1>"
        f"<p>{count}, the newest first; chosen by: {chosen or 'nothing, all are shown'}.</p>"
        f"{hint}{table if flags else '<p>No flag on record matches.</p>'}{link}</body></html>\n"
    ).encode("utf-8", "replace")


def _plain(row: FlagRow) -> dict[str, Any]:
    topic, partition, offset = row.origin[:3]
    return {
        "id": row.flag.id,
        "time": rfc3339(row.time),
        "rule": row.flag.rule,
        "severity": row.flag.severity,
        **row.traffic.identity(),
        "trace_id": row.trace_id,
        "error": row.error,
        "position": {"topic": topic, "partition": partition, "offset": offset},
        "why": [
            {
                "detector": assessment.detector,
                "status": assessment.status,
                "score": assessment.score,
                "reason": assessment.reason,
                "kinds": Counter(evidence.kind for evidence in assessment.evidence),
            }
            for assessment in row.assessments
        ],
        "text": {"prompt": row.prompt, "response": row.response, "evidence": row.evidence},
    }


def _row(row: FlagRow) -> str:
    day, _, hour = rfc3339(row.time).removesuffix("Z").partition("T")
    severity = row.flag.severity
    topic, partition, offset = row.origin[:3]
    trace = escape("?" + urlencode({"trace_id": row.trace_id}))
    place = f'<br><span class="m">{_text(topic)}/{partition}/{offset}</span>'
    failure = f"<br>failed: <b>{_text(row.error)}</b>" if row.error else ""
    cells = (
        f"{day}<br>{hour}",
        f'<span class="s {severity}">{_MARKS[severity]} {severity}</span><br>{_text(row.flag.rule)}',
        _lines(_where(row.traffic)),
        f'<a href="{trace}">{_text(row.trace_id)}</a>{place}{failure}',
        "<br>".join(map(_why, row.assessments)),
        _excerpt("prompt", row.prompt)
        + _excerpt("response", row.response)
        + "".join(_excerpt("evidence", text) for text in row.evidence),
    )
    return f'<tr id="{escape(row.flag.id)}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _where(traffic: Traffic) -> Iterable[str]:
    """Return the traffic fields, a line each; those that few senders set, only where set."""
    yield from (traffic.app, traffic.environment, traffic.model)
    if traffic.provider not in {"", "unknown"}:
        yield traffic.provider
    yield from filter(None, (traffic.model_version, traffic.prompt_name, traffic.prompt_version))


def _why(assessment: Assessment) -> str:
    result = f"{assessment.score:.2f}" if assessment.score is not None else assessment.status
    kinds = kinds_of(Counter(evidence.kind for evidence in assessment.evidence))
    details = "; ".join(filter(None, (assessment.reason, kinds)))
    small_print = f' <span class="m">{_text(details)}</span>' if details else ""
    return f"<b>{_text(assessment.detector)}</b> {result}{small_print}"


def _excerpt(label: str, text: str) -> str:
    return f'<div class="m">{label}</div><div class="t" dir="auto">{_text(text)}</div>' if text else ""


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(_text(text) or '<span class="m">unknown</span>' for text in texts)


def _text(text: str) -> str:
    return quiet_html(escape(text))
