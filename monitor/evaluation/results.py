"""Entries of `riskmon eval`: the measures of one system on the rows of one file, ready to be printed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from monitor.evaluation import measures as measure
from monitor.evaluation.labelled import Judged, Row, one_type
from monitor.evaluation.measures import Confusion, Entity, SpanCounts
from monitor.findings import Assessment

OURS: Final = "riskmon"
Entry: TypeAlias = dict[str, Any]


def own(kind: str, rows: Sequence[Row], judged: Judged, assessments: Sequence[Assessment]) -> Entry:
    """Return our measures, and how our detector came to them: statuses, reasons, tiers, and by category."""
    tiers = Counter(str(assessment.tier) for assessment in assessments)
    return {
        **_entry(kind, OURS, rows, judged),
        "version": assessments[0].version,
        "statuses": Counter(assessment.status.value for assessment in assessments),
        "reasons": Counter(assessment.reason for assessment in assessments if assessment.reason),
        "tiers": {tier: count / len(rows) for tier, count in sorted(tiers.items())},
        "categories": _by_category(kind, rows, judged),
    }


def rules_raised(rows: Sequence[Row], raised: Sequence[Sequence[str]]) -> Entry:
    """Return which rules flag how many positives and negatives."""
    counts = Counter((rule, row.label) for row, rules in zip(rows, raised, strict=True) for rule in rules)
    return {
        rule: {"positives": counts[rule, True], "negatives": counts[rule, False]}
        for rule in sorted({rule for rule, _ in counts})
    }


def versus(kind: str, name: str, rows: Sequence[Row], peer: Judged, ours: Judged) -> Entry:
    """Return a peer's measures, ours on the same rows, and the difference of the main one (ours - peer's).

    The main measure is the AUROC; of personal data, F2 of spans. The interval is paired: in every round of
    the bootstrap both are measured on the same rows.
    """
    peer_measured, ours_measured = measures(kind, rows, peer), measures(kind, rows, ours)
    main = "f2" if kind == "pii" else "auroc"
    defined = ours_measured[main] is not None and peer_measured[main] is not None
    compared = {
        OURS: ours_measured,
        "measure": main,
        "difference": ours_measured[main] - peer_measured[main] if defined else None,
        "interval": _difference(kind, rows, ours, peer) if defined else None,
    }
    return {**_entry(kind, name, rows, peer), "versus": compared}


def measures(kind: str, rows: Sequence[Row], judged: Judged) -> Entry:
    """Return the measures of a system on rows; None where the rows do not define one.

    Of personal data, `f1`, `f2`, `precision` and `recall` are of spans of any type that half overlap, and
    those of whole texts are in `text`. `fpr` is the share of negative texts flagged, always.
    """
    labels = labels_of(rows)
    texts = Confusion.of(labels, judged.flagged)
    result: Entry = {
        "rows": len(rows),
        "positives": int(labels.sum()),
        "auroc": measure.auroc(labels, judged.scores),
        "average_precision": measure.average_precision(labels, judged.scores),
        "balanced_accuracy": texts.balanced_accuracy(),
    }
    rest = {"ece": measure.calibration_error(labels, judged.scores), "fpr": texts.fpr()}
    if kind != "pii":
        return {**result, **_rates(texts), **rest}
    spans = measure.total(_span_counts(rows, judged))
    return {
        **result,
        **_rates(spans),
        **rest,
        "spans": spans.gold,
        "found": spans.predicted,
        "text": _rates(texts),
    }


def labels_of(rows: Sequence[Row]) -> measure.Labels:
    """Return the labels of rows."""
    return np.array([row.label for row in rows], dtype=np.bool_)


def part(judged: Judged, places: Sequence[int]) -> Judged:
    """Return the answers to some of the rows, without times."""
    spans = [judged.entities[place] for place in places] if judged.entities else ()
    return Judged(judged.scores[list(places)], judged.flagged[list(places)], spans)


def _entry(kind: str, system: str, rows: Sequence[Row], judged: Judged) -> Entry:
    labels = labels_of(rows)
    interval = measure.bootstrap(
        lambda at: measure.auroc(labels[at], judged.scores[at]), measure.classes(labels)
    )
    speed = {
        "texts_per_second": len(rows) / judged.seconds if judged.seconds else None,
        "texts_per_cpu_second": len(rows) / judged.cpu_seconds if judged.cpu_seconds else None,
    }
    entry = {"system": system, **measures(kind, rows, judged), **speed, "auroc_interval": interval}
    return {**entry, "types": _by_type(rows, judged)} if kind == "pii" else entry


def _rates(counts: Confusion | SpanCounts) -> dict[str, float | None]:
    return {
        "f1": counts.f(1.0),
        "f2": counts.f(2.0),
        "precision": counts.precision(),
        "recall": counts.recall(),
    }


def _span_counts(rows: Sequence[Row], judged: Judged) -> list[SpanCounts]:
    return [measure.span_counts(row.spans, spans) for row, spans in zip(rows, judged.entities, strict=True)]


def _by_category(kind: str, rows: Sequence[Row], judged: Judged) -> dict[str, Entry]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for category in row.categories:
            places.setdefault(category, []).append(place)
    return {
        category: measures(kind, [rows[place] for place in within], part(judged, within))
        for category, within in sorted(places.items())
    }


def _by_type(rows: Sequence[Row], judged: Judged) -> dict[str, Entry]:
    """Return per type, labelled or predicted, recall and precision by any type and by the same one."""
    free: dict[str, list[SpanCounts]] = {}
    typed: dict[str, list[SpanCounts]] = {}
    for row, entities in zip(rows, judged.entities, strict=True):
        for kind in {entity.kind for entity in (*row.spans, *entities)}:
            gold = [entity for entity in row.spans if entity.kind == kind]
            ours = [entity for entity in entities if entity.kind == kind]
            for counts, others in (
                (free, (row.spans, entities)),
                (typed, (_like(kind, row.spans), _like(kind, entities))),
            ):
                labelled, predicted = others
                hit = sum(measure.covered(entity, predicted) for entity in gold)
                right = sum(measure.covered(entity, labelled) for entity in ours)
                counts.setdefault(kind, []).append(SpanCounts(len(gold), hit, len(ours), right))
    result: dict[str, Entry] = {}
    for kind in sorted(free):
        any_type, same_type = measure.total(free[kind]), measure.total(typed[kind])
        result[kind] = {
            "spans": any_type.gold,
            "recall": any_type.recall(),
            "typed_recall": same_type.recall(),
            "found": any_type.predicted,
            "precision": any_type.precision(),
            "typed_precision": same_type.precision(),
        }
    return result


def _like(kind: str, entities: Sequence[Entity]) -> tuple[Entity, ...]:
    return tuple(entity for entity in entities if one_type(entity.kind) == one_type(kind))


def _difference(kind: str, rows: Sequence[Row], ours: Judged, peer: Judged) -> tuple[float, float] | None:
    if kind == "pii":
        a, b = np.array(_span_counts(rows, ours)), np.array(_span_counts(rows, peer))

        def f2(at: measure.Rows) -> float | None:
            return _minus(*(SpanCounts(*counts[at].sum(axis=0).tolist()).f(2.0) for counts in (a, b)))

        return measure.bootstrap(f2, [np.arange(len(rows))])
    labels = labels_of(rows)

    def auroc(at: measure.Rows) -> float | None:
        return _minus(*(measure.auroc(labels[at], judged.scores[at]) for judged in (ours, peer)))

    return measure.bootstrap(auroc, measure.classes(labels))


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def rounded(value: Any, digits: int = 4) -> Any:
    """Return a value with every float in it rounded."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, Mapping):
        return {key: rounded(item, digits) for key, item in value.items()}
    return [rounded(item, digits) for item in value] if isinstance(value, list | tuple) else value
