"""Feedback items: flagged samples offered for retraining, as `SafeText` only."""

from typing import Any, Final

from monitor.clock import rfc3339
from monitor.records import FeedbackItem, FlagRow

FEEDBACK_SCHEMA: Final = "riskmon.feedback/1"


def feedback_item(row: FlagRow) -> FeedbackItem:
    """Make the feedback item of a flag: schema `riskmon.feedback/1`, deterministic in `row`.

    `prompt`, `completion` and `label` have the shape of TRL's unpaired preference (KTO) data; a flagged
    answer is one not to repeat, hence `label` false. `review.state` is `unreviewed` until a person decides.
    """
    flag = row.flag
    rule = f"{flag.rule}@{flag.rule_version}"
    body: dict[str, Any] = {
        "schema": FEEDBACK_SCHEMA,
        "id": flag.id,
        "created_at": rfc3339(row.time),
        "task": "unpaired_preference",
        "prompt": [{"role": "user", "content": row.prompt}],
        "completion": [{"role": "assistant", "content": row.response}],
        "label": False,
        "signals": [
            {"detector": a.detector, "version": a.version, "score": a.score, "rule": rule}
            for a in row.assessments
            if a.detector in flag.detectors
        ],
        "review": {"state": "unreviewed"},
        "privacy": {"pii": "redacted"},
        "provenance": {
            "trace_id": row.trace_id,
            **row.traffic.identity(),
            "kafka": {
                "topic": row.origin.topic,
                "partition": row.origin.partition,
                "offset": row.origin.offset,
            },
        },
    }
    return FeedbackItem(id=flag.id, body=body)
