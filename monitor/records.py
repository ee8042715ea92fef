"""Records of the ledger: coverage, flags, feedback, outgoing messages, dead letters."""

from typing import Any, Final, NamedTuple

import msgspec

from monitor.events import OffsetRange
from monitor.findings import Assessment, Flag
from monitor.trace import TRAFFIC, Origin, SafeText, Traffic


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a partition that one transaction finished: evidence that nothing was skipped.

    `ranges` are the offsets finished, holes left by compaction and transaction markers included;
    `records` how many records they held; `dead` how many of those were dead-lettered; `traces` how many
    traces; `statuses` counts "detector.status"; `flags` how many flags.
    """

    topic: str
    partition: int
    ranges: tuple[OffsetRange, ...]
    records: int
    dead: int
    traces: int
    statuses: dict[str, int]
    flags: int


class FlagRow(msgspec.Struct, frozen=True, kw_only=True):
    """A flag as the ledger keeps it: identifiers, numbers, and excerpts only as `SafeText`.

    `time` is when it was recorded, in Unix seconds. `error` is the type of error
    that the exchange ended with.
    """

    flag: Flag
    origin: Origin
    trace_id: str
    time: float
    traffic: Traffic
    assessments: tuple[Assessment, ...]
    prompt: SafeText
    response: SafeText
    evidence: tuple[SafeText, ...]
    error: str = ""


class FlagFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selection of recorded flags; a field left out does not restrict it.

    `equal` maps one of `FLAG_FIELDS` to the values it may have. `detector` must be among those whose
    assessment the flag rests on. `since` and `until` bound the time of recording, Unix seconds, both
    included. `before` is time and id of a flag: only earlier flags match, or at that time those of lower id.
    """

    equal: dict[str, tuple[str, ...]] = {}
    detector: str = ""
    since: float | None = None
    until: float | None = None
    before: tuple[float, str] | None = None


FLAG_FIELDS: Final = (*TRAFFIC, "rule", "severity", "trace_id")


class FlagPage(NamedTuple):
    """Recorded flags, newest first, and whether more follow."""

    flags: tuple[FlagRow, ...]
    more: bool


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True):
    """A flagged sample offered for retraining. `id` is the flag id; all text is redacted."""

    id: str
    body: dict[str, Any]


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One outgoing message. `key` is its idempotency key, unique per destination."""

    destination: str
    key: str
    body: dict[str, Any]


class Leased(NamedTuple):
    """A row of the outbox, held by this daemon for a while.

    `key` is the idempotency key, unique per destination; `attempts` how many tries have failed so far;
    `created` Unix seconds of when it was written.
    """

    id: int
    destination: str
    key: str
    body: dict[str, Any]
    attempts: int
    created: float


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be judged, with its original bytes; the ledger encrypts all three of them."""

    topic: str
    partition: int
    offset: int
    time: float
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    incarnation: int = 0
