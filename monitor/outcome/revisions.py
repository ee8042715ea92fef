"""Alerts of revisions: a flag that was raised before on the same grounds is recorded, and alerts nobody."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from monitor.findings import Action, Assessment, Flag, Judgement
from monitor.trace import Trace

REMEMBERED: Final = 4096  # flagged exchanges that may be revised
# The evidence of a rule's detectors, without scores: they change with what is around a text.
_Grounds: TypeAlias = frozenset[tuple[str, str, str, int, int]]


class RaisedFlags:
    """Remembers recorded flags of exchanges that may be revised, in memory: a restart repeats alerts."""

    def __init__(self) -> None:
        self._raised: OrderedDict[tuple[str, str], dict[str, _Grounds]] = OrderedDict()

    def quieted(
        self, trace: Trace, assessments: Sequence[Assessment], flags: tuple[Flag, ...]
    ) -> tuple[Flag, ...]:
        """Return the flags of a trace; those of a revision raise no alert where they say nothing new.

        New is a rule that had not fired on the exchange, or evidence that it did not have.
        """
        before = self._raised.get((trace.trace_id, trace.span_id)) if trace.revision else None
        if not before:
            return flags
        return tuple(
            [
                _quiet(flag)
                if flag.rule in before and _grounds(flag, assessments) <= before[flag.rule]
                else flag
                for flag in flags
            ]
        )

    def recorded(self, judgements: Iterable[Judgement]) -> None:
        """Remember flags that are durable: what a dropped transaction raised, nobody was told of."""
        for each in judgements:
            trace = each.trace
            if not each.flags or not (trace.revision or trace.may_be_revised()):
                continue
            exchange = (trace.trace_id, trace.span_id)
            before = self._raised.pop(exchange, {}) if trace.revision else {}
            now = {flag.rule: _grounds(flag, each.assessments) for flag in each.flags}
            self._raised[exchange] = before | {
                rule: grounds | before.get(rule, frozenset()) for rule, grounds in now.items()
            }
            if len(self._raised) > REMEMBERED:
                self._raised.popitem(last=False)


def _grounds(flag: Flag, assessments: Sequence[Assessment]) -> _Grounds:
    return frozenset(
        (each.detector, e.kind, e.field, e.start, e.end)
        for each in assessments
        if each.detector in flag.detectors
        for e in each.evidence
    )


def _quiet(flag: Flag) -> Flag:
    return msgspec.structs.replace(flag, actions=tuple(a for a in flag.actions if a is not Action.ALERT))
