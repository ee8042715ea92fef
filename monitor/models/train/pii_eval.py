"""Measure the PII detector: `python -m monitor.models.train.pii_eval`. Prints what the model card quotes.

A gold span is found when half of its characters are covered by predictions of any type; a prediction is right
when half of its characters are covered by gold spans. F2 counts recall twice, as presidio-evaluator does.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from monitor.clock import SystemClock
from monitor.detect import pii
from monitor.models.train import rows
from monitor.trace import Trace

SETS = ("presidio_synth_v2", "presidio_generated_large")
CHAT = ("traindata", "toxicity", "sgd_neutral_chat.jsonl")
CHAT_ROWS = 2000
SPEED_CHARS, SPEED_TRACES = 1500, 100


def covered(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    """Whether half of a span's characters lie in the others."""
    inside = {at for start, end in others for at in range(max(start, span[0]), min(end, span[1]))}
    return 2 * len(inside) >= span[1] - span[0]


def measure(detector: pii.Pii, name: str) -> dict[str, Any]:
    """Return precision, recall, F2 and recall per gold type on one labelled set."""
    data = list(rows("evaldata", "pii", f"{name}.jsonl"))
    answers = detector.assess([Trace(id=row["id"], time=0.0, response=row["text"]) for row in data])
    gold: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    right = predicted = 0
    for row, answer in zip(data, answers, strict=True):
        wanted = [(span["start"], span["end"], span["type"]) for span in row["spans"]]
        found = [(e.start, e.end) for e in answer.evidence]
        gold.update(kind for _, _, kind in wanted)
        hit.update(kind for start, end, kind in wanted if covered((start, end), found))
        predicted += len(found)
        right += sum(covered(span, [(start, end) for start, end, _ in wanted]) for span in found)
    recall, precision = hit.total() / gold.total(), right / max(1, predicted)
    return {
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "f2": round(5 * precision * recall / (4 * precision + recall), 3),
        "found": {kind: f"{hit[kind]}/{count}" for kind, count in gold.most_common()},
    }


def traces_per_second(detector: pii.Pii) -> float:
    """Return how many different traces of 1,500 characters of chat one process judges per second."""
    text = " ".join(row["text"] for row in rows(*CHAT))
    traces = [
        Trace(id=str(n), time=0.0, response=text[n * SPEED_CHARS : (n + 1) * SPEED_CHARS])
        for n in range(SPEED_TRACES)
    ]
    detector.assess(traces[:5])
    clock = SystemClock()
    started = clock.monotonic()
    detector.assess(traces)
    return round(len(traces) / (clock.monotonic() - started), 1)


def main() -> None:
    """Measure without and with named entities."""
    chat = [Trace(id=row["id"], time=0.0, response=row["text"]) for row in rows(*CHAT)][:CHAT_ROWS]
    report: dict[str, Any] = {}
    for options in (
        {"spacy_model": "none"},
        {"spacy_model": "auto"},
        {"spacy_model": "auto", "organization": True},
    ):
        detector = pii.build(**options)
        report[f"{options}"] = {
            "version": detector.version,
            **{name: measure(detector, name) for name in SETS},
            "chat_findings": Counter(e.kind for a in detector.assess(chat) for e in a.evidence),
            "traces_per_second": traces_per_second(detector),
        }
    print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    main()
