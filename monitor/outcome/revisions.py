"""Alerts of revisions: a flag that was raised before on the same grounds is recorded, and alerts nobody."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from monitor.findings import Action, Assessment, Flag
from monitor.trace import Trace

REMEMBERED: Final = 4096  # flagged exchanges that may be revised
# The evidence of a rule's detectors, without scores: they change with what is around a text.
_Grounds: TypeAlias = frozenset[tuple[str, str, str, int, int]]


class RaisedFlags:
    """Remembers flags of exchanges that may be revised, in memory: after a restart, an alert may repeat."""

    def __init__(self) -> None:
        self._raised: OrderedDict[tuple[str, str], dict[str, _Grounds]] = OrderedDict()

    def quieted(
        self, trace: Trace, assessments: Sequence[Assessment], flags: tuple[Flag, ...]
    ) -> tuple[Flag, ...]:
        """Return the flags of a trace; those of a revision raise no alert where they say nothing new.

        New is a rule that had not fired on the exchange, or evidence that it did not have.
        """
        if not flags or not (trace.revision or _may_be_revised(trace)):
            return flags
        exchange = (trace.trace_id, trace.span_id)
        before = self._raised.pop(exchange, {}) if trace.revision else {}
        now = {flag.rule: _grounds(flag, assessments) for flag in flags}
        self._raised[exchange] = {
            rule: now.get(rule, frozenset()) | before.get(rule, frozenset()) for rule in now | before
        }
        if len(self._raised) > REMEMBERED:
            self._raised.popitem(last=False)
        return tuple(
            [
                _quiet(flag) if flag.rule in before and now[flag.rule] <= before[flag.rule] else flag
                for flag in flags
            ]
        )


def _may_be_revised(trace: Trace) -> bool:
    """Return whether a side of an exchange that was assembled has no text yet, or not all of it."""
    return bool(trace.span_id) and bool(trace.unread or not trace.messages or not trace.response)


def _grounds(flag: Flag, assessments: Sequence[Assessment]) -> _Grounds:
    return frozenset(
        (each.detector, e.kind, e.field, e.start, e.end)
        for each in assessments
        if each.detector in flag.detectors
        for e in each.evidence
    )


def _quiet(flag: Flag) -> Flag:
    return msgspec.structs.replace(flag, actions=tuple(a for a in flag.actions if a is not Action.ALERT))
