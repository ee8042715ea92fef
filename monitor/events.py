"""Events of a source: records, partitions assigned and revoked, and the state of its consumer group.

Sources never decide: they report events, and the engine answers with `seek`, `pause`, `resume`, `commit`.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import msgspec

from monitor.trace import Record

TopicPartition: TypeAlias = tuple[str, int]

_TOPIC = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}")  # as Topic.validate of Apache Kafka


class OffsetRange(msgspec.Struct, frozen=True, gc=False):
    """A half-open range of offsets [start, end)."""

    start: int
    end: int


def checked_topic(name: str) -> str:
    """Return the name of a topic. Raises ValueError for one that Kafka does not allow, e.g. a pattern."""
    if not _TOPIC.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a topic name (1 to 249 letters, digits, '.', '_', '-'); "
            "patterns are not supported: name every topic"
        )
    return name


class Fetched(NamedTuple):
    """Records of one partition, in offset order.

    `leader_epoch` is that of the last record, -1 where unknown. `stamped`: the source stores the record's
    time, so another record at the same offset can be recognised.
    """

    topic: str
    partition: int
    records: Sequence[Record]
    leader_epoch: int = -1
    stamped: bool = False


class Passed(NamedTuple):
    """All records of a partition before `offset` were delivered; any other offset holds nothing to judge."""

    topic: str
    partition: int
    offset: int


class Existing(NamedTuple):
    """Ends of the topics when this daemon first looked: partition to the next offset to be written.

    Comes before the first `Assigned`, from sources where a group may begin at the end.
    """

    ends: Mapping[TopicPartition, int]


class Assigned(NamedTuple):
    """This daemon now reads a partition. Nothing of it is delivered until the engine calls `seek`.

    `committed` is the group's committed next offset, None when there is none; `begin` is the first offset
    that still exists and `end` the next one to be written. `topic_id` distinguishes a topic from earlier or
    later ones of the same name; empty where the source has no such ids. `diverged` is the first offset at
    which the log is known to differ from the one read before.
    """

    topic: str
    partition: int
    committed: int | None
    begin: int
    end: int
    topic_id: str = ""
    diverged: int | None = None


class Revoked(NamedTuple):
    """This daemon no longer reads a partition; another may already do so."""

    topic: str
    partition: int


class OutOfRange(NamedTuple):
    """The requested position does not exist (any more), or belongs to another log.

    Delivery stops until the engine seeks. The fields are those of `Assigned`.
    """

    topic: str
    partition: int
    position: int
    begin: int
    end: int
    topic_id: str = ""
    diverged: int | None = None


class StuckReason(StrEnum):
    """Why reading a partition cannot continue."""

    CORRUPT_BATCH = "corrupt_batch"
    BEYOND_END = "beyond_end"


class Stuck(NamedTuple):
    """A partition cannot be read at `offset`; the source has paused it and an operator must act."""

    topic: str
    partition: int
    offset: int
    reason: StuckReason


class Exhausted(NamedTuple):
    """The input has ended and nothing more will come (files only)."""


Event: TypeAlias = Fetched | Passed | Existing | Assigned | Revoked | OutOfRange | Stuck | Exhausted


class Lag(NamedTuple):
    """Distance of reading from a partition's end: records not delivered, age of the last delivered one.

    For a partition without a reader, `seconds` is how long it has had none.
    """

    topic: str
    partition: int
    records: int
    seconds: float


class Right(StrEnum):
    """A right that Kafka's access control must grant a daemon; `Read` there includes `Describe`."""

    READ_TOPIC = "read_topic"
    READ_GROUP = "read_group"


class Denial(NamedTuple):
    """A right that is missing; `topic` is empty where it is about the consumer group."""

    right: Right
    topic: str = ""


class Membership(NamedTuple):
    """A source's membership in its consumer group.

    `answered` is when the group last answered this member, Unix seconds, 0 before; `renewals` counts clients
    that were replaced because they had dropped out of the group.
    """

    live: bool
    answered: float
    renewals: int


class GroupLook(NamedTuple):
    """State of the whole group, not only of this member, as its coordinator reports it.

    `unread` counts, per topic, the partitions that two queries in a row found unassigned. `lags` holds the
    lag of those that this daemon reports: one daemon of the group reports each partition.
    """

    unread: Mapping[str, int]
    lags: Sequence[Lag]
