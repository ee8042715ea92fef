"""Conversion of kafka-python's records and partitions to ours and back."""

from typing import Any

from monitor.events import TopicPartition
from monitor.trace import Record


def to_record(record: Any, *, time_if_none: float) -> Record:
    """Return a ConsumerRecord as a Record. The absent value of a header is empty."""
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp / 1000 if record.timestamp >= 0 else time_if_none,
        record.key,
        record.value,
        tuple((name, value or b"") for name, value in record.headers or ()),
    )


def library_partition(key: TopicPartition) -> Any:
    """Return a partition's name as kafka-python wants it."""
    from kafka.structs import TopicPartition as LibraryPartition

    return LibraryPartition(*key)
