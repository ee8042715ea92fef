"""Kafka tasks for commands: examine what a daemon would find, produce a few records again."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from monitor.config import KafkaConfig
from monitor.errors import Retryable
from monitor.sources.kafka_client import connect, discard, in_thread, settings, unbuildable
from monitor.sources.kafka_diagnosis import Cause, Diagnosis, explain, raise_for_good
from monitor.sources.kafka_logs import topic_id
from monitor.trace import Record

DIAL_SECONDS: Final = 5.0  # for one server to take a connection
TURN_SECONDS: Final = 0.2
LEAST_SECONDS: Final = 1.0  # before a cause that every broker gave is taken for the answer
_READ, _WRITE = 3, 4  # AclOperation of Kafka's protocol


class Access(StrEnum):
    """Access to a topic, or to the group."""

    ALLOWED = "allowed"
    DENIED = "denied"
    MISSING = "missing"


class BrokerExamination(NamedTuple):
    """Result of `examine`. `silent`: servers that accept no connection, while another one does.

    `nameless`: topics that have no id.
    """

    silent: Sequence[str]
    nameless: Sequence[str]
    group: Access
    read: Mapping[str, Access]
    written: Mapping[str, Access]


def examine(config: KafkaConfig, outputs: Iterable[str], seconds: float) -> BrokerExamination:
    """Connect as a daemon would, and ask what it may do with its topics, its group and `outputs`.

    No record is read or written, and no group joined. Raises ConfigError for what ends a daemon with it, and
    Retryable, whose message names cause and remedy, for what a daemon waits for.
    """
    diagnosis = Diagnosis(config)
    wanted = settings(config, "riskmon-check")
    silent = _silent(config, DIAL_SECONDS)
    keywords = wanted | {"bootstrap_timeout_ms": int(seconds * 1000)}
    consumer, client = _opened(config, keywords, diagnosis, seconds)
    try:
        manager = client._manager  # noqa: SLF001 - the library has no public way to ask for allowed operations
        written = list(outputs)
        states = manager.run(_topics, manager, [*config.topics, *written])
        group = _group(consumer, manager, config, seconds) if config.topics else Access.ALLOWED
    except _kafka_error() as error:
        raise _retryable(config, diagnosis.cause, error) from None
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)
    return BrokerExamination(
        silent,
        [topic for topic in config.topics if _is_nameless(states.get(topic))],
        group,
        {topic: _access(states.get(topic), _READ) for topic in config.topics},
        {topic: _access(states.get(topic), _WRITE) for topic in written},
    )


def _kafka_error() -> type[Exception]:
    from kafka.errors import KafkaError

    error: type[Exception] = KafkaError
    return error


def _opened(
    config: KafkaConfig, keywords: dict[str, Any], diagnosis: Diagnosis, seconds: float
) -> tuple[Any, Any]:
    """Connect; give up early once every server that answers has given a reason why it cannot be used."""
    opening = in_thread("kafka-check", lambda: connect(keywords, diagnosis))
    for turn in range(int(2 * seconds / TURN_SECONDS)):
        try:
            consumer, client = opening.result(TURN_SECONDS)
        except TimeoutError:
            late = turn * TURN_SECONDS >= LEAST_SECONDS
            if late and diagnosis.conclusive(len(config.bootstrap_servers)):
                break
        except _kafka_error() as error:
            raise_for_good(error)
            raise _retryable(config, diagnosis.cause, error) from None
        except (ValueError, TypeError, AssertionError, ImportError) as error:
            raise unbuildable(error) from None
        else:
            return consumer, client
    opening.add_done_callback(discard)
    diagnosis.give_up()
    raise _retryable(config, diagnosis.cause, TimeoutError())


def _retryable(config: KafkaConfig, cause: Cause | None, error: BaseException) -> Retryable:
    servers = ", ".join(config.bootstrap_servers)
    why = str(cause) if cause else f"{type(error).__name__}; is the broker up, and is this host:port?"
    return Retryable(f"kafka.bootstrap_servers: {servers} cannot be used: {why}")


async def _topics(manager: Any, names: Sequence[str]) -> dict[str, Any]:
    from kafka.protocol.metadata import MetadataRequest

    topic = MetadataRequest.MetadataRequestTopic
    request = MetadataRequest(
        topics=[topic(name=name) for name in dict.fromkeys(names)],
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=True,
    )
    response = await manager.send(request)
    return {each.name: each for each in response.topics}


def _is_nameless(topic: Any) -> bool:
    return topic is not None and not topic.error_code and topic_id(topic.topic_id) == ""


def _access(topic: Any, operation: int) -> Access:
    from kafka.errors import TopicAuthorizationFailedError

    if topic is not None and topic.error_code == TopicAuthorizationFailedError.errno:
        return Access.DENIED  # without a right, Kafka hides whether the topic exists
    if topic is None or not topic.partitions:
        return Access.MISSING
    # Brokers before 2.3 name no operations; a visible topic then counts as allowed.
    allowed = topic.authorized_operations
    return Access.DENIED if allowed and operation not in allowed else Access.ALLOWED


def _group(consumer: Any, manager: Any, config: KafkaConfig, seconds: float) -> Access:
    """Test access to the group: a heartbeat of an unknown member changes nothing, yet shows a denial."""
    from kafka.errors import GroupAuthorizationFailedError, KafkaTimeoutError
    from kafka.protocol.consumer import HeartbeatRequest

    coordinator = consumer._coordinator  # noqa: SLF001 - nothing public says which broker a group's is
    try:
        if not coordinator.ensure_coordinator_ready(timeout_ms=int(seconds * 1000)):
            raise KafkaTimeoutError
        request = HeartbeatRequest(group_id=config.group_id, generation_id=-1, member_id="nobody")
        answer = manager.run(manager.send, request, coordinator.coordinator_id)
    except GroupAuthorizationFailedError:
        return Access.DENIED
    denied = answer.error_code == GroupAuthorizationFailedError.errno
    return Access.DENIED if denied else Access.ALLOWED


def _silent(config: KafkaConfig, seconds: float) -> list[str]:
    """Return servers that accept no connection; none behind a proxy. Raises Retryable if all are silent."""
    from kafka.cluster import collect_hosts

    if not config.client.keys().isdisjoint({"proxy_url", "socks5_proxy"}):
        return []
    silent: dict[str, OSError] = {}
    for server in config.bootstrap_servers:
        try:
            ((host, port, _),) = collect_hosts([server])
            socket.create_connection((host.strip("[]"), port), seconds).close()
        except ValueError as error:
            raise unbuildable(error) from None
        except OSError as error:
            silent[server] = error
    if len(silent) == len(config.bootstrap_servers):
        first = next(iter(silent.values()))
        raise _retryable(config, explain(first, config), first)
    return list(silent)


def produce(config: KafkaConfig, records: Sequence[Record], seconds: float) -> None:
    """Send records to their topics and wait until all are acknowledged.

    Raises Retryable when one was not; some may have been written then.
    """
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(
            **config.connection(),
            enable_idempotence=True,
            bootstrap_timeout_ms=int(seconds * 1000),
            max_request_size=2**30,  # the broker decides what is too large, not this client
        )
        try:
            sent = [
                producer.send(record.topic, key=record.key, value=record.value, headers=list(record.headers))
                for record in records
            ]
            for future in sent:
                future.get(timeout=seconds)
        finally:
            producer.close(timeout=seconds)
    except (KafkaError, OSError) as error:
        raise Retryable(f"the broker took not all records ({type(error).__name__})") from None
