"""Measure the PII detector: `python -m monitor.training.pii_eval`. Prints what the model card quotes.

A gold span is found when half of its characters are covered by predictions of any type; a prediction is right
when half of its characters are covered by gold spans. F2 counts recall twice, as presidio-evaluator does. The
bundled tagger has seen the dev halves: with it these figures are in-sample, `cards/tagger.md` has the others.
"""

import json
import re
import resource
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.detect import pii
from monitor.detect.pii import names
from monitor.evaluation.measures import Entity, covered
from monitor.trace import Trace
from monitor.training import rows

Spans = Sequence[tuple[int, int]]

SETS = ("presidio_synth_v2", "presidio_generated_large")
CHAT = ("traindata", "toxicity", "sgd_neutral_chat.jsonl")
PLAIN = ("clinc150", "banking77")
SIGN = re.compile(r"\d+|(?<=[\w,] )[^\W\d_a-z]\w*")  # a digit, or a capital that begins no sentence
NEAR = 40  # characters: seven words, which is as far as the tagger sees
SPEED_CHARS, SPEED_TRACES = 1500, 300


def measure(detector: pii.Pii, name: str) -> dict[str, Any]:
    """Return precision, recall, F2 and recall per gold type on one labelled set."""
    data = list(rows("evaldata", "pii", f"{name}.jsonl"))
    answers = detector.assess([Trace(id=row["id"], time=0.0, response=row["text"]) for row in data])
    gold: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    right = predicted = 0
    for row, answer in zip(data, answers, strict=True):
        wanted = [Entity(span["start"], span["end"], span["type"]) for span in row["spans"]]
        predicted_spans = [Entity(e.start, e.end, e.kind) for e in answer.evidence]
        gold.update(span.kind for span in wanted)
        hit.update(span.kind for span in wanted if covered(span, predicted_spans))
        predicted += len(predicted_spans)
        right += sum(covered(span, wanted) for span in predicted_spans)
    recall, precision = hit.total() / gold.total(), right / max(1, predicted)
    return {
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "f2": round(5 * precision * recall / (4 * precision + recall), 3),
        "found": {kind: f"{hit[kind]}/{count}" for kind, count in gold.most_common()},
    }


def microseconds(detector: pii.Pii, texts: Sequence[str]) -> float:
    """Return the processor time one process takes per character of different texts of 1,500 characters."""
    text = " ".join(texts)
    traces = [
        Trace(id=str(n), time=0.0, response=text[n * SPEED_CHARS : (n + 1) * SPEED_CHARS])
        for n in range(min(SPEED_TRACES, len(text) // SPEED_CHARS))
    ]
    detector.assess(traces[:5])
    best = min(_processor_seconds(detector, traces) for _ in range(3))
    return best / len(traces) / SPEED_CHARS * 1e6


def _processor_seconds(detector: pii.Pii, traces: Sequence[Trace]) -> float:
    started = resource.getrusage(resource.RUSAGE_SELF)
    detector.assess(traces)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime


def flagged(detector: pii.Pii, name: str) -> dict[str, Any]:
    """Return the share of plain requests with a score, and what was found in them by kind."""
    data = list(rows("evaldata", "drift", f"{name}.jsonl"))
    answers = detector.assess([Trace(id=row["id"], time=0.0, response=row["text"]) for row in data])
    return {
        "flagged": round(sum(bool(answer.score) for answer in answers) / len(answers), 4),
        "found": Counter(e.kind for answer in answers for e in answer.evidence),
    }


def _around(text: str) -> Spans:
    return [(m.start() - NEAR, m.end() + NEAR) for m in SIGN.finditer(text)]


GATES: Mapping[str, Callable[[str], Spans]] = {
    "texts with a word": lambda text: [(0, len(text))] if names.is_likely(text) else [],
    "texts with a capital": lambda text: [(0, len(text))] if any(c.isupper() for c in text) else [],
    "around a capital inside a sentence or a digit": _around,
}


def kept_by_gate(namer: names.Namer) -> dict[str, dict[str, float]]:
    """Return for each gate the share of characters it lets through, and of people found in them."""
    texts = [
        row["text"] for name in (*SETS, "wnut17", "btc") for row in rows("evaldata", "pii", f"{name}.jsonl")
    ]
    texts += [row["text"] for row in rows("evaldata", "drift", "clinc150.jsonl")]
    people = [
        [Entity(n.start, n.end, n.kind) for n in spans if n.kind == "PERSON"] for spans in namer.spans(texts)
    ]
    report = {}
    for gate, parts in GATES.items():
        seen = [parts(text) for text in texts]
        passed = sum(
            covered(span, [Entity(*place, "") for place in let])
            for spans, let in zip(people, seen, strict=True)
            for span in spans
        )
        looked = sum(
            len({at for start, end in let for at in range(max(0, start), min(len(text), end))})
            for text, let in zip(texts, seen, strict=True)
        )
        report[gate] = {
            "people": round(passed / sum(map(len, people)), 4),
            "characters": round(looked / sum(map(len, texts)), 4),
        }
    return report


def main() -> None:
    """Measure without and with names, and with a spaCy model that is named on the command line."""
    chat = [row["text"] for row in rows(*CHAT)]
    dense = [row["text"] for row in rows("evaldata", "pii", f"{SETS[0]}.jsonl")]
    report: dict[str, Any] = {"gate": kept_by_gate(names.load(names.BUNDLED))}
    options: list[dict[str, Any]] = [
        {"tag_names": False},
        {},
        *({"spacy_model": model} for model in sys.argv[1:]),
    ]
    for option in options:
        detector = pii.build(**option)
        report[f"{option}"] = {
            "version": detector.version,
            **{name: measure(detector, name) for name in SETS},
            **{name: flagged(detector, name) for name in PLAIN},
            "characters_per_second": {
                "chat": round(1e6 / microseconds(detector, chat)),
                "dense": round(1e6 / microseconds(detector, dense)),
            },
        }
    print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    main()
