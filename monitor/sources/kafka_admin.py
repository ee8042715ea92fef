"""Kafka tasks beside consuming, for commands: see which topics exist, produce a few records again."""

from collections.abc import Sequence

from monitor.config import KafkaConfig
from monitor.errors import Retryable
from monitor.trace import Record


def topics(config: KafkaConfig, seconds: float) -> set[str]:
    """Names of the topics that exist. Raises Retryable when the broker does not answer in time."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    milliseconds = int(seconds * 1000)
    try:
        admin = KafkaAdminClient(
            **config.connection(), bootstrap_timeout_ms=milliseconds, request_timeout_ms=milliseconds
        )
        try:
            return set(admin.list_topics())
        finally:
            admin.close()
    except (KafkaError, OSError) as error:
        raise Retryable(f"the broker does not answer ({type(error).__name__})") from None


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
