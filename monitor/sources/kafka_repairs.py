"""Repairs of kafka-python 3.0.x, where it breaks the delivery promise.

They are applied to one consumer instance, never to the library's classes. All reach into private methods, so
a release that no longer has them is refused.

- An exception while a fetched batch is decoded leaves a dead generator behind, and the next `poll` never
  returns (`Fetcher.fetched_records`). Here the batch is dropped and the exception says where it happened, so
  that one corrupt batch stops one partition.
- What was fetched of a partition that is paused is put aside, and taken up again only while no batch is in
  hand. One that was read to its end counts as one, so that the partition may stand still for good although it
  is resumed (docs/kafka-python-paused-partition.md). Here a batch that is done is let go.
- A group join that completes between two polls is lost. Where the member knew by itself that it must join,
  the finished join is thrown away and begun again (`BaseCoordinator.join_group_async`): a caller that polls
  for 100 ms every 400 ms never joins (`test_sources_kafka.py::test_joins_although_polls_are_short`). Where
  only changed metadata said so, joining makes `ConsumerCoordinator.need_rejoin` false: no one takes the join,
  no heartbeat is sent, and the group expels the member (docs/kafka-python-lost-rejoin.md). Here a join stays
  wanted from its beginning until it is taken, and a finished one is kept.
"""

from collections.abc import Callable
from typing import Any

from monitor.errors import ConfigError
from monitor.sources.kafka_membership import last_heartbeat


class BadFetch(Exception):  # noqa: N818 - names what was fetched, not what to do
    """Fetched data of one partition could not be used. `__cause__` is the library's error.

    `decoding` is true when the bytes of a batch are at fault, false when the broker answered with an error.
    """

    def __init__(self, topic: str, partition: int, offset: int, *, decoding: bool) -> None:
        super().__init__(f"{topic}[{partition}] at {offset}")
        self.key = (topic, partition)
        self.offset = offset
        self.decoding = decoding


def repair_fetcher(consumer: Any) -> None:
    """Let `poll` raise BadFetch where it would never return, and go on with what was paused.

    Look-ups raise KafkaError where they fail. Raises ConfigError for a release that cannot be repaired.
    """
    try:
        parse = consumer._fetcher._parse_fetched_data  # noqa: SLF001 - see the module's docstring
        look_up = consumer._fetcher.beginning_or_end_offset  # noqa: SLF001 - see above
        drain = consumer._fetcher.fetched_records  # noqa: SLF001 - see above
        _ = consumer._fetcher._next_partition_records  # noqa: SLF001 - see above
    except AttributeError as error:
        raise unrepairable(error) from None
    consumer._fetcher._parse_fetched_data = _safe_parse(parse)  # noqa: SLF001 - see above
    consumer._fetcher.beginning_or_end_offset = _safe_lookup(look_up)  # noqa: SLF001 - see above
    consumer._fetcher.fetched_records = _letting_go(consumer._fetcher, drain)  # noqa: SLF001 - see above


def repair_join(consumer: Any) -> None:
    """Let `poll` take every group join that was begun. Raises ConfigError like `repair_fetcher`."""
    try:
        coordinator = consumer._coordinator  # noqa: SLF001 - see the module's docstring
        join = coordinator._do_join_and_sync_async  # noqa: SLF001 - see above
        repaired = _kept_join(join, coordinator.rebalance_in_progress, coordinator.request_rejoin)
    except AttributeError as error:
        raise unrepairable(error) from None
    coordinator._do_join_and_sync_async = repaired  # noqa: SLF001 - see above


def check_heartbeat(consumer: Any) -> None:
    """Raise ConfigError for a release whose last heartbeat cannot be seen."""
    try:
        last_heartbeat(consumer)
    except AttributeError as error:
        raise unrepairable(error) from None


def unrepairable(error: AttributeError) -> ConfigError:
    """Return the ConfigError for a release of kafka-python that lacks a method to repair or watch."""
    import kafka

    return ConfigError(
        f"kafka-python {kafka.__version__} has no {error.name}; install kafka-python>=3.0.12,<4 "
        "in a release that riskmon was tested with"
    )


def _letting_go(fetcher: Any, drain: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Fetcher.fetched_records` so that a batch that is done keeps none from being taken up again."""

    def letting_go(*arguments: Any, **keywords: Any) -> Any:
        if not fetcher._next_partition_records:  # noqa: SLF001 - see the module's docstring
            fetcher._next_partition_records = None  # noqa: SLF001 - see above
        return drain(*arguments, **keywords)

    return letting_go


def _safe_lookup(look_up: Callable[..., Any]) -> Callable[..., Any]:
    from kafka.errors import UnknownTopicOrPartitionError

    def safe_lookup(*arguments: Any) -> Any:
        try:
            return look_up(*arguments)
        except KeyError:  # the broker left one out, as it may when its topic is being deleted
            raise UnknownTopicOrPartitionError from None

    return safe_lookup


def _safe_parse(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap `Fetcher._parse_fetched_data` so that a failure names its partition and leaves no dead batch."""

    def safe_parse(fetch: Any) -> Any:
        topic, partition = fetch.topic_partition
        try:
            batches = parse(fetch)
        except Exception as error:
            decoding = fetch.partition_data.error_code == 0
            raise BadFetch(topic, partition, fetch.fetched_offset, decoding=decoding) from error
        if batches is not None:
            take = batches.take

            def safe_take(n: int | None = None) -> Any:
                try:
                    return take(n)
                except Exception as error:
                    offset = batches.next_fetch_offset
                    batches.drain()
                    raise BadFetch(topic, partition, offset, decoding=True) from error

            batches.take = safe_take
        return batches

    return safe_parse


def _kept_join(
    join: Callable[[], Any], is_untaken: Callable[[], bool], want: Callable[[], None]
) -> Callable[[], Any]:
    """Wrap `_do_join_and_sync_async`: `poll` comes back for a finished join, which is not repeated."""
    finished: list[Any] = []

    async def kept_join() -> Any:
        # Taking the result makes the member stable; one that is still rebalancing has not taken it.
        if finished and is_untaken():
            return finished[0]
        finished.clear()
        # The reason for this join may be gone once it is done. Taking the result withdraws the request.
        want()
        assignment = await join()
        finished.append(assignment)
        return assignment

    return kept_join
