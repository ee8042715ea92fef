"""Projection of a judged trace onto the inputs of a group of rules, as a memo key and as values."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from monitor.findings import EVIDENCE_DROPPED, MAX_EVIDENCE, Assessment, Evidence, Status
from monitor.rules.inputs import (
    DETECTOR_FIELDS,
    SUBJECTS,
    Reads,
    number,
    signals,
)

_LISTS = frozenset({"evidence", "leaked", "kinds"})
_DECIDES = {"leaked": "leaked", "kinds": "kind"}  # the field of an entry that decides what such a list holds
_ATTRIBUTES = {"scored": "status"}  # fields derived from another attribute of the assessment


class Projection:
    """The view that a group of rules has of a trace.

    `about` holds the trace and its run by the names in `SUBJECTS`, `by_detector` the assessments.

    A number that the rules only compare with thresholds enters the key as the interval it falls into. Scores
    hardly ever repeat, but intervals do, so the memo hits.
    """

    def __init__(self, reads: Reads) -> None:
        self._detectors = [_DetectorView(name, reads) for name in sorted(reads.variables() - set(SUBJECTS))]
        self._plain = [
            (read[0], read[1], SUBJECTS[read[0]][read[1]].get)
            for read in sorted(reads.exact)
            if read[0] in SUBJECTS
        ]
        self._cells = [
            (read[0], read[1], SUBJECTS[read[0]][read[1]].get, sorted(thresholds))
            for read, thresholds in sorted(reads.compared.items())
            if read[0] in SUBJECTS
        ]

    def key(self, about: Mapping[str, Any], by_detector: Mapping[str, Assessment]) -> Hashable:
        """Return a key; traces with equal keys look the same to every rule of the group."""
        parts = [view.key(by_detector.get(view.name, view.missing)) for view in self._detectors]
        for subject, _, get in self._plain:
            parts.append(get(about[subject]))
        for subject, _, get, thresholds in self._cells:
            parts.append(cell(get(about[subject]), thresholds))
        return tuple(parts)

    def values(
        self, about: Mapping[str, Any], by_detector: Mapping[str, Assessment]
    ) -> dict[str, dict[str, Any]]:
        """Return the variables, each with only the fields that are read."""
        values = {
            view.name: view.values(by_detector.get(view.name, view.missing)) for view in self._detectors
        }
        for subject, name, get in (*self._plain, *[part[:3] for part in self._cells]):
            fields = values.setdefault(subject, {})
            value = get(about[subject])
            if value is not None:
                fields[name] = value
        return values


class _DetectorView:
    """The fields of one assessment that rules read. A detector that did not run counts as skipped."""

    def __init__(self, name: str, reads: Reads) -> None:
        self.name = name
        self.missing = Assessment(detector=name, version="", status=Status.SKIPPED, reason="disabled")
        exact = {read[1:] for read in reads.exact if read[0] == name}
        compared = {read[1:]: sorted(t) for read, t in sorted(reads.compared.items()) if read[0] == name}
        fields = {read[0] for read in (*exact, *compared) if len(read) == 1}
        self._getters = {field: DETECTOR_FIELDS[field].get for field in sorted(fields - _LISTS)}

        # A field that some rule reads exactly enters the key whole; one that rules only compare, as a cell.
        whole = {field for field in fields - _LISTS if (field,) in exact} - {"values"}
        attributes = sorted({_ATTRIBUTES.get(field, field) for field in whole})
        self._attributes = attrgetter(*attributes) if attributes else None
        self._cells = [(DETECTOR_FIELDS[r[0]].get, t) for r, t in compared.items() if len(r) == 1]

        # Of a list's entries the key holds the fields that rules read, and the field that decides which
        # entries the list has: two traces with equal keys must give equal lists.
        self._lists = sorted(fields & _LISTS)
        entry = reads.entry if fields & {"evidence", "leaked"} else frozenset()
        self._entry = [(field, attrgetter(field)) for field in sorted(entry)]
        keyed = sorted(entry | {_DECIDES[field] for field in self._lists if field in _DECIDES})
        self._entry_key: Callable[[Evidence], Hashable] = attrgetter(*keyed) if keyed else _nothing

        self._all_signals = "values" in fields
        self._signals = sorted(r[1] for r in exact if len(r) > 1)
        self._signal_cells = [(r[1], t) for r, t in compared.items() if len(r) > 1]
        self._named = [*self._signals, *[name for name, _ in self._signal_cells]]
        self._counts_dropped = EVIDENCE_DROPPED in self._named

    def key(self, assessment: Assessment) -> Hashable:
        """Return a key of all that `values` can tell apart."""
        parts: list[Hashable] = [self._attributes(assessment)] if self._attributes else []
        for get, thresholds in self._cells:
            parts.append(cell(get(assessment), thresholds))
        evidence = assessment.evidence
        if evidence and self._lists:
            # A long list is cut, and which entries remain depends on fields outside the key: take it whole.
            cut = len(evidence) > MAX_EVIDENCE
            parts.append(evidence if cut else tuple(map(self._entry_key, evidence)))
        elif self._lists:
            parts.append(())
        if self._named or self._all_signals:
            # `signals` adds the count of dropped evidence; without a rule that reads it, spare the copy.
            numbers = signals(assessment) if self._all_signals or self._counts_dropped else assessment.values
            if self._all_signals:
                parts.append(tuple(numbers.items()))
            for name in self._signals:
                parts.append(numbers.get(name))  # noqa: PERF401 - see Projection.key
            for name, thresholds in self._signal_cells:
                parts.append(cell(numbers.get(name), thresholds))
        return parts[0] if len(parts) == 1 else tuple(parts)

    def values(self, assessment: Assessment) -> dict[str, Any]:
        """Return the fields that are read, as the expression engine takes them."""
        values = {name: get(assessment) for name, get in self._getters.items()}
        for name in self._lists:
            entries = DETECTOR_FIELDS[name].get(assessment)
            values[name] = entries if name == "kinds" else [self._seen(entry) for entry in entries]
        if self._named and not self._all_signals:
            numbers = signals(assessment)
            values["values"] = {key: numbers[key] for key in self._named if key in numbers}
        return values

    def _seen(self, evidence: Evidence) -> dict[str, Any]:
        return {
            field: number(get(evidence)) if field == "score" else get(evidence) for field, get in self._entry
        }


def cell(value: float | None, thresholds: Sequence[float]) -> int | None:
    """Return the index of the threshold a number equals, or of the interval it is in; None for no number.

    Two numbers in one cell compare alike with every threshold, by every operator.
    """
    if value is None:
        return None
    if value != value:  # noqa: PLR0124 - NaN compares false with everything and needs a cell of its own
        return -1
    # Odd for a number on a threshold, even between two: `<` and `<=` differ on the threshold only.
    return bisect_left(thresholds, value) + bisect_right(thresholds, value)


def _nothing(_: Evidence) -> Hashable:
    """Return the key of an entry of which rules read no field."""
    return None
