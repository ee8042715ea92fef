"""kafka-python's consumer: settings that keep the delivery promise, and a connection that was repaired."""

import difflib
import importlib.util
import ssl
from collections.abc import Callable, Collection
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import structlog

from monitor.config import KafkaConfig
from monitor.errors import ConfigError
from monitor.sources.kafka_diagnosis import Diagnosis
from monitor.sources.kafka_repairs import check_heartbeat, repair_fetcher, repair_join
from monitor.sources.kafka_rights import Rights

BOOTSTRAP_MS = 10_000  # one attempt to reach any broker; the source begins another while it is polled
RECONNECT_MS = 5_000  # longest wait between connections: caught up soon after a broker returns
FETCH_WAIT_MS = 500  # how long the broker may hold a fetch for which there are no records
LEAVE_MS = 5_000  # longest time for leaving the group with a consumer that is replaced
METADATA_MS = 5_000  # longest time until a new topic or partition is noticed

log = structlog.get_logger(__name__)

_OWNED = frozenset({
    "auto_commit_interval_ms",
    "auto_offset_reset",
    "bootstrap_servers",
    "check_crcs",
    "client_id",
    "consumer_timeout_ms",
    "default_offset_commit_callback",
    "enable_auto_commit",
    "group_id",
    "isolation_level",
    "kafka_client",
    "key_deserializer",
    "metric_reporters",
    "metrics_enabled",
    "partition_assignment_strategy",
    "selector",
    "value_deserializer",
})  # fmt: skip
"""Settings the delivery promise rests on; `kafka.client` may not set them."""


class Rebalance(NamedTuple):
    """A change by the group coordinator: partitions gained, or no longer owned."""

    gained: bool
    partitions: Collection[tuple[str, int]]


def settings(config: KafkaConfig, client_id: str) -> dict[str, Any]:
    """Keyword arguments for `KafkaConsumer`.

    Raises ConfigError for a missing crc32c, an unknown or forbidden `kafka.client` key, an unusable
    certificate, or a login that cannot be tried.
    """
    from kafka import KafkaConsumer

    if importlib.util.find_spec("crc32c") is None:
        raise ConfigError(
            "crc32c is not installed: kafka-python would check sums in pure Python, 10 to 170 times slower; "
            "pip install 'kafka-python[crc32c]'"
        )
    own: dict[str, Any] = {
        "client_id": client_id,
        "group_id": config.group_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "check_crcs": True,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        "max_poll_records": config.max_poll_records,
        "session_timeout_ms": config.session_timeout_ms,
        "heartbeat_interval_ms": config.heartbeat_interval_ms,
        "max_poll_interval_ms": config.max_poll_interval_ms,
        "fetch_max_bytes": config.fetch_max_bytes,
        "max_partition_fetch_bytes": config.max_partition_fetch_bytes,
    }
    defaults: dict[str, Any] = {
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "metadata_max_age_ms": METADATA_MS,
    }
    _check_login(config)
    own |= config.model_copy(update={"client": {}}).connection()
    _check_extras(config.client, own, KafkaConsumer.DEFAULT_CONFIG)
    _check_tls(config)
    return {**defaults, **config.extras(), **own}


def _check_extras(extras: Collection[str], own: Collection[str], known: Collection[str]) -> None:
    for key in extras:
        if key in _OWNED:
            raise ConfigError(f"kafka.client.{key}: riskmon's delivery promise rests on it; remove it")
        if key in own:
            raise ConfigError(f"kafka.client.{key}: has a setting of its own; see `riskmon check --settings`")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            raise ConfigError(f"kafka.client.{key}: kafka-python has no such setting; {hint}")


def _check_login(config: KafkaConfig) -> None:
    """Refuse a login that kafka-python would only fail at when it connects, again and again."""
    from kafka.net.sasl import SASL_MECHANISMS

    if not config.security_protocol.startswith("SASL_"):
        return
    mechanism = config.sasl_mechanism
    known = sorted(SASL_MECHANISMS.keys() - {"OAUTHBEARER"})  # it wants a callable, which no file can hold
    if mechanism is None or mechanism not in known:
        raise ConfigError(
            f"kafka.sasl_mechanism: {mechanism or 'missing'}; with {config.security_protocol} it is one of "
            + ", ".join(known)
        )
    package = {"GSSAPI": "gssapi", "AWS_MSK_IAM": "botocore"}.get(mechanism)
    if package and importlib.util.find_spec(package) is None:
        raise ConfigError(f"kafka.sasl_mechanism: {mechanism} wants {package}; pip install {package}")
    if mechanism == "PLAIN" or mechanism.startswith("SCRAM-"):
        for name in ("sasl_username", "sasl_password"):
            if not getattr(config, name):
                raise ConfigError(f"kafka.{name}: missing; {mechanism} wants it")


def _check_tls(config: KafkaConfig) -> None:
    files: dict[str, Path | None] = {
        "ssl_cafile": config.ssl_cafile,
        "ssl_certfile": config.ssl_certfile,
        "ssl_keyfile": config.ssl_keyfile,
    }
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"kafka.{name}: {path} is not a file; give a readable PEM file")
    if not any(files.values()):
        return
    password = config.ssl_password.get_secret_value() if config.ssl_password else None
    try:
        context = ssl.create_default_context(cafile=config.ssl_cafile)
        if config.ssl_certfile is not None:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"kafka.ssl_*: the certificates cannot be loaded ({type(error).__name__}); "
            "check that the files are PEM, belong together and ssl_password is right"
        ) from None


def connect(kwargs: dict[str, Any], diagnosis: Diagnosis) -> tuple[Any, Any]:
    """Build a consumer, which connects; return it and its network client, as `open_consumer` does."""
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.net.compat import KafkaNetClient

    clients: list[Any] = []

    def client_of(**configs: Any) -> Any:
        client = KafkaNetClient(**configs)
        # The consumer ignores this setting, and reading a misspelt topic would create it.
        client.cluster.config["allow_auto_create_topics"] = configs["allow_auto_create_topics"]
        clients.append(client)
        diagnosis.watch(client)
        return client

    try:
        consumer = KafkaConsumer(
            **kwargs, kafka_client=client_of, partition_assignment_strategy=[CooperativeStickyAssignor()]
        )
    except BaseException:
        for client in clients:
            client.close()  # the library leaves its IO thread running when construction fails
        raise
    return consumer, clients[0]


def open_consumer(
    kwargs: dict[str, Any],
    topics: list[str],
    notify: Callable[[Rebalance], None],
    diagnosis: Diagnosis,
    rights: Rights,
) -> tuple[Any, Any]:
    """Connect and subscribe; return the consumer and its network client. Blocks up to the bootstrap time-out.

    `notify` is called on the client's IO thread, while `poll` is inside the library. Partitions gained are
    already paused by then, at a placeholder position, so nothing of them is fetched before a seek.
    `diagnosis` and `rights` listen to the client from its first connection on.
    Raises what kafka-python raises, ConfigError for a release that cannot be repaired.
    """
    consumer, client = connect(kwargs, diagnosis)
    try:
        repair_fetcher(consumer)
        repair_join(consumer)
        check_heartbeat(consumer)
        rights.watch(consumer, client)
        consumer.subscribe(topics=topics, listener=_listener(consumer, notify))
    except BaseException:
        consumer.close(autocommit=False, timeout_ms=1000)
        raise
    return consumer, client


def _listener(consumer: Any, notify: Callable[[Rebalance], None]) -> Any:
    from kafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the library is untyped
        """Runs on the IO thread: changes flags in memory, never waits."""

        def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
            notify(Rebalance(gained=False, partitions=sorted(revoked)))

        def on_partitions_lost(self, lost: Collection[Any]) -> None:
            notify(Rebalance(gained=False, partitions=sorted(lost)))

        def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
            for partition in assigned:
                # A position, any position, keeps poll from asking for committed offsets and from raising
                # NoOffsetForPartitionError; the pause keeps it from being used.
                consumer.pause(partition)
                consumer.seek(partition, 0)
            notify(Rebalance(gained=True, partitions=sorted(assigned)))

    return Listener()


def unbuildable(error: Exception) -> ConfigError:
    """Return the ConfigError for a ValueError, TypeError, AssertionError or ImportError of the library."""
    return ConfigError(
        f"kafka: the client cannot be built ({type(error).__name__}); check kafka.bootstrap_servers, "
        "kafka.sasl_* and kafka.client"
    )


def in_thread(name: str, call: Any) -> Future[Any]:
    """Run a call that may never return in a daemon thread."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the caller of result() decides
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return future


def discard(opening: Future[tuple[Any, Any]]) -> None:
    """Close an unneeded client; for `Future.add_done_callback`. Never raises."""
    if opening.exception() is not None:
        return
    try:
        opening.result()[0].close(autocommit=False, timeout_ms=1000)
    except Exception as error:  # noqa: BLE001 - it was given up while it opened: its thread may be gone
        log.info("kafka_client_discarded", error=type(error).__name__)
