"""One invocation: a detector over some traces, with its answer checked before it is used."""

import math
import re
from collections.abc import Iterable, Sequence

import msgspec

from monitor.clock import Clock
from monitor.detect import Detector
from monitor.detect.cascade import Cascade, Tally
from monitor.findings import Assessment, Evidence, Status
from monitor.ports import DECISIONS
from monitor.trace import Trace

TIMEOUT = "timeout"
CRASH = "crash"
BAD_RESULT = "bad_result"
BREAKER_OPEN = "breaker_open"
TOO_LARGE = "too_large"
EXCEPTION = "exception:"
"""Reasons of assessments that the pool makes itself; the last is followed by the name of the exception."""

_REASON = re.compile(r"[A-Za-z0-9_.:/+-]{0,64}")
_NAME = re.compile(r"[A-Za-z0-9_.:/+-]{1,64}")
_FIELD = re.compile(r"[a-z_]{1,32}(\.[a-z0-9_]{1,32}){0,3}")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Assessment).decode


class InvocationError(Exception):
    """The detector raised or its answer cannot be used. `reason` is from a bounded set."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


def tallies(detector: Detector) -> tuple[Tally, ...]:
    """Return the decisions of each higher tier of a detector in its latest invocation."""
    return tuple(cascade.tally() for cascade in _cascades(detector))


def decisions(detector: str, tallies: Iterable[Tally]) -> dict[tuple[str, int, str], int]:
    """Return (detector, tier, decision) to count, for `PoolStats`: `Tally`'s fields by their public names."""
    return {
        (detector, tally.tier, decision): count
        for tally in tallies
        for decision, count in zip(DECISIONS, tally[1:], strict=True)
    }


def invoke(
    detector: Detector, version: str, traces: Sequence[Trace], clock: Clock, escalation_rate: float = 1.0
) -> tuple[float, list[Assessment], list[int]]:
    """Run a detector and return (seconds, distinct assessments, per trace which of them is its own).

    Detectors answer many traces with one object; it is checked, sent and read once. `version` and `seconds`
    (an equal share of the invocation) are set here. Raises InvocationError when the detector raises, or
    answers with another number of results, another detector's name, a wrong type, or a number out of range.
    """
    for cascade in _cascades(detector):
        cascade.escalation_rate = escalation_rate
        cascade.tally()  # forget an invocation that failed
    start = clock.monotonic()
    try:
        answers = list(detector.assess(traces))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a detector raises, it fails this invocation alone
        raise InvocationError(exception_reason(error), clock.monotonic() - start) from None
    seconds = clock.monotonic() - start
    if len(answers) != len(traces):
        raise InvocationError(BAD_RESULT, seconds)
    places: dict[int, int] = {}
    distinct: list[Assessment] = []
    index: list[int] = []
    for answer in answers:
        place = places.setdefault(id(answer), len(distinct))
        if place == len(distinct):
            checked = _checked(answer)
            if checked is None or checked.detector != detector.name:
                raise InvocationError(BAD_RESULT, seconds)
            share = seconds / len(traces)
            distinct.append(msgspec.structs.replace(checked, version=version, seconds=share))
        index.append(place)
    return seconds, distinct, index


def exception_reason(error: BaseException) -> str:
    """Name the exception's type; its message may hold trace text and is dropped."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", type(error).__name__)
    return f"{EXCEPTION}{name[:48]}"


def is_reason(text: str) -> bool:
    """Return whether this can be a reason: at most 64 characters of a name, not words of a text."""
    return _REASON.fullmatch(text) is not None


def _cascades(detector: Detector) -> tuple[Cascade, ...]:
    """Return those of its higher tiers; a detector without any may lack the attribute."""
    cascades: tuple[Cascade, ...] = getattr(detector, "cascades", ())
    return cascades


def _checked(answer: object) -> Assessment | None:
    """Return an equal assessment with every field of its declared type and range, None if there is none.

    Where a tier was reached by chance, tier 0's score must be there: without it no rate can be corrected.
    """
    if not isinstance(answer, Assessment):
        return None
    try:
        checked = _decode(_encode(answer))
    except Exception:  # noqa: BLE001 - whatever a wrongly typed field makes the codec raise
        return None
    scored = checked.status is Status.SCORED
    sound = (
        (
            _share(checked.score)
            if scored and checked.score is not None
            else checked.score is None and not scored
        )
        and checked.probability > 0.0
        and (checked.probability == 1.0 or not scored or "tier0" in checked.values)
        and _share(checked.probability)
        and is_reason(checked.reason)
        and all(map(_sound_evidence, checked.evidence))
        and all(_NAME.fullmatch(name) and math.isfinite(value) for name, value in checked.values.items())
    )
    return checked if sound else None


def _sound_evidence(evidence: Evidence) -> bool:
    return (
        0 <= evidence.start <= evidence.end
        and _share(evidence.score)
        and _NAME.fullmatch(evidence.kind) is not None
        and _FIELD.fullmatch(evidence.field) is not None
    )


def _share(value: float) -> bool:
    return 0.0 <= value <= 1.0  # false for NaN
