"""Builds the adapters of a configuration, and the engine."""

import gc
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import structlog

from monitor.agents.history import AgentMonitor
from monitor.assembly import Assembler, Bounds
from monitor.clock import Clock
from monitor.config import Config, DetectorsConfig, SecretUrl
from monitor.console.review import Review
from monitor.daemon.mentions import mentioned
from monitor.drift.monitor import DriftMonitor
from monitor.engine import Engine, Settings
from monitor.engine.work import Part
from monitor.errors import ConfigError
from monitor.ingest import KeptNames, decoder_for
from monitor.ingest.times import with_plausible_times
from monitor.ledger import keys
from monitor.ledger.database import Purpose, exists, file_of
from monitor.ledger.database import connect as connect_ledger
from monitor.ledger.flags import FlagReader
from monitor.ledger.postgresql import CALL_SECONDS, Patience
from monitor.ledger.reader import Faults, LedgerReader
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.outcome.effects import Policy
from monitor.ports import Detectors, Monitor, Observer, Source
from monitor.privacy.vault import Vault
from monitor.receiver.intake import BodyIntake
from monitor.receiver.otlp_grpc import GrpcReceiver
from monitor.receiver.otlp_http import Receiver, gate_of
from monitor.rules import RuleBook
from monitor.sources.combined import CombinedSource
from monitor.sources.kafka_group import GroupWatch
from monitor.sources.spool import SpoolSource
from monitor.telemetry.evaluations import EvaluationExporter
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.telemetry.otlp_metrics import MetricsPusher
from monitor.telemetry.otlp_metrics import connect as push
from monitor.telemetry.tracing import BatchTracer, connect
from monitor.web.credentials import Gate

MONITORS: Final[Mapping[str, Callable[..., Monitor]]] = {"drift": DriftMonitor, "agent": AgentMonitor}
"""Detectors that keep state: the engine builds a monitor for each, with the options of its workers."""

log = structlog.get_logger(__name__)


def vault_path(config: Config) -> Path:
    """Return the path of a configuration's key file."""
    return config.data_dir / "riskmon.key"


def open_ledger(config: Config, clock: Clock, faults: Faults | None = None) -> tuple[Ledger, Vault]:
    """Open the ledger of a configuration for a daemon, with its key; a first start makes both.

    Only this makes a ledger or a key, or brings a schema up to date. Raises Retryable while it has to wait,
    and ConfigError when the key is lost or another one: with a new key what the ledger keeps encrypted could
    not be read, and users would have other pseudonyms.
    """
    url, key = config.ledger_url(), vault_path(config)
    path = file_of(url)
    # Asked before the key: another daemon that is just starting makes the key first.
    there = path is not None and exists(path)
    if not os.path.lexists(key):
        if there:
            raise ConfigError(
                f"{key}: the key file of the ledger {path} is lost; restore it from the backup, or move the "
                "ledger away to begin with a new one"
            )
        # Before the key is made: of a server's ledger only the server can say whether one was made already.
        if path is None and (known := _fingerprint(url, clock)):
            raise ConfigError(
                f"{key}: is not there, and the ledger belongs to the key {known[:8]}; copy that file from "
                "another daemon of this ledger, or restore it from the backup"
            )
    vault = Vault.open_or_make(key)
    # Each answer comes, or is given up, long before the watchdog bites.
    patience = Patience(min(CALL_SECONDS, config.shutdown.watchdog_seconds / 4))
    ledger = Ledger.open(url, vault, clock, config.name(), patience=patience, faults=faults)
    try:
        keys.bind(ledger, vault)
    except BaseException:
        ledger.close()
        raise
    return ledger, vault


def _fingerprint(url: SecretUrl, clock: Clock) -> str:
    with closing(LedgerReader(connect_ledger(url, Purpose.INSPECT), clock)) as ledger:
        return keys.fingerprint_of(ledger)


def open_ledger_to_write(config: Config, clock: Clock) -> Ledger:
    """Open an existing ledger for a command that changes it, which takes no key.

    Raises Retryable, NotFound when it does not exist, and ConfigError when its schema is another one.
    """
    return Ledger.open(config.ledger_url(), None, clock, config.name(), make=False)


def inspect_ledger(config: Config, clock: Clock) -> LedgerReader:
    """Open an existing ledger to read it: nothing is made or changed, and no key is needed.

    Raises as `open_ledger_to_write` does.
    """
    return LedgerReader.inspect(config.ledger_url(), clock)


def open_vault(config: Config, ledger: LedgerReader) -> Vault:
    """Open the key of an existing ledger. Raises Retryable, or ConfigError when it is lost or another one."""
    vault = Vault.open(vault_path(config))
    keys.require(keys.fingerprint_of(ledger), vault)
    return vault


def tune_gc() -> None:
    """Let Python look for reference cycles less often, in the process that runs an engine.

    Each batch makes tens of thousands of objects and no cycles; looking for some among them takes a seventh
    of the loop's time at Python's own thresholds (`riskmon bench engine`, CPU time of the main thread).
    """
    gc.set_threshold(50_000, 20, 100)


def build_monitors(config: Config, snapshots: Mapping[str, bytes]) -> dict[str, Monitor]:
    """Build the stateful side of each enabled built-in detector that has one, from "detector/name" to state.

    Raises ConfigError for a bad option, or for state that cannot be read.
    """
    monitors: dict[str, Monitor] = {}
    for name, section in config.enabled_detectors().items():
        if name in MONITORS and not section.factory:
            monitors[name] = monitor = MONITORS[name](**section.options)
            own = f"{name}/"
            monitor.restore(
                {key.removeprefix(own): body for key, body in snapshots.items() if key.startswith(own)}
            )
    return monitors


def build_engine(
    config: Config,
    *,
    clock: Clock,
    source: Source,
    pool: Detectors,
    rules: RuleBook,
    ledger: Ledger,
    vault: Vault,
    observer: Observer,
    load_shedding: bool = True,
) -> Engine:
    """Build the engine with the given adapters; it continues from the ledger's snapshots.

    Raises Retryable when the ledger does not answer.
    """
    snapshots = ledger.restore()
    assembler: Assembler[Part] = Assembler(Bounds(**config.assembly.model_dump()))
    assembler.restore(snapshots)
    kept = KeptNames()
    rules.follow(lambda current: kept.replace(chain(*mentioned(config, current).values())))
    decode = decoder_for(config.bounds(), vault.pseudonym, config.spool_topics(), kept)
    return Engine(
        source=source,
        decode=with_plausible_times(decode, clock, observer.times_replaced),
        detectors=pool,
        rules=rules,
        monitors=build_monitors(config, snapshots),
        ledger=ledger,
        policy=Policy(
            deliver=config.deliver,
            sample_ratio=config.ledger.sample_ratio,
        ),
        observer=observer,
        clock=clock,
        settings=Settings(
            owner=config.name(),
            latest=config.kafka.start == "latest",
            max_poll_records=config.kafka.max_poll_records,
            drain_seconds=config.shutdown.deadline_seconds,
            excerpt_chars=config.ledger.excerpt_chars,
            rules_seconds=config.rules.reload_seconds,
            load_shedding=load_shedding,
            apps=mentioned(config, rules.current).get("app", frozenset()),
        ),
        assembler=assembler,
    )


def build_metrics(config: Config, rules: RuleBook, destinations: list[str], clock: Clock) -> Metrics:
    """Build the metrics, with a series from the start for every name that is known."""
    metrics = Metrics(
        config.telemetry,
        known={
            "topic": [*config.kafka.topics, *config.spool_topics().values()],
            "detector": list(DetectorsConfig.model_fields),
            "destination": destinations,
            "rule": [rule.name for rule in rules.current.rules],
            **mentioned(config, rules.current),
        },
        clock=clock,
    )
    rules.follow(lambda current: metrics.keep(mentioned(config, current)))
    return metrics


def build_source(
    config: Config, clock: Clock, observer: TelemetryObserver, spool: LedgerSpool | None
) -> Source:
    """Build the source: Kafka, the spool, or both as one."""
    sources: list[Source] = []
    if config.kafka.topics:
        sources.append(_kafka(config, clock, observer))
    if spool is not None:
        sources.append(SpoolSource(spool, clock, observer.spooled))
    return sources[0] if len(sources) == 1 else CombinedSource(sources, clock)


def build_spool(config: Config, ledger: Ledger, vault: Vault) -> LedgerSpool | None:
    """Build the spool that receivers write to; None when all are off."""
    if not config.receiver.receives:
        return None
    return LedgerSpool(
        ledger,
        vault,
        tuple(config.spool_topics().values()),
        max_records=config.receiver.max_spool_records,
        max_bytes=config.receiver.max_spool_bytes,
    )


def build_body_intake(config: Config, spool: LedgerSpool | None, clock: Clock) -> BodyIntake | None:
    """Build what all receivers give bodies to; None without a spool to write to."""
    if spool is None:
        return None
    bounds = config.bounds()
    return BodyIntake(
        config.receiver, spool, config.spool_topics(), clock, bounds.max_spans, bounds.max_record_bytes
    )


def build_gate(config: Config, observer: TelemetryObserver) -> Gate | None:
    """Build the check of the receivers' token; None without one."""
    return gate_of(config.receiver, partial(observer.login_refused, "receiver"))


def build_receiver(
    config: Config, intake: BodyIntake | None, observer: TelemetryObserver, gate: Gate | None
) -> Receiver | None:
    """Build the receiver of OTLP over HTTP; None when it is off."""
    if intake is None or not config.receiver.enabled:
        return None
    return Receiver(config.receiver, intake, observer.answered, gate=gate)


def build_grpc_receiver(
    config: Config, intake: BodyIntake | None, observer: TelemetryObserver, gate: Gate | None
) -> GrpcReceiver | None:
    """Build the receiver of OTLP over gRPC; None when it is off. Raises ConfigError without grpcio."""
    if intake is None or not config.receiver.grpc.enabled:
        return None
    return GrpcReceiver(config.receiver, intake, observer.answered, gate=gate)


def build_review(config: Config, flags: FlagReader, observer: TelemetryObserver) -> Review | None:
    """Build the page of flags; None without a token."""
    token = config.http.review_token
    if not token:
        return None
    refused = partial(observer.login_refused, "review")
    return Review(Gate("review", token, basic=True, on_refused=refused), flags.find)


def build_group_watch(config: Config, clock: Clock, observer: TelemetryObserver) -> GroupWatch | None:
    """Build the watch on the consumer group; None without Kafka."""
    if not config.kafka.topics:
        return None
    return GroupWatch(config.kafka, clock, client_id=_client_id(config), log=log, on_look=observer.group)


def build_tracer(config: Config) -> BatchTracer | None:
    """Build the exporter of spans; None without an endpoint."""
    if not config.telemetry.otlp_endpoint:
        return None
    return connect(
        config.telemetry.otlp_endpoint.get_secret_value(),
        config.kafka.group_id,
        config.name(),
        evaluations=config.telemetry.evaluation_span_events,
    )


def build_evaluations(config: Config, clock: Clock, metrics: Metrics) -> EvaluationExporter | None:
    """Build the exporter of evaluation events; None without an endpoint."""
    section = config.telemetry
    if not section.evaluations_endpoint:
        return None
    return EvaluationExporter(
        section.evaluations_endpoint.get_secret_value(),
        {name: value.get_secret_value() for name, value in section.evaluations_headers.items()},
        config.name(),
        clock,
        lambda outcome, events: metrics.inc("evaluation_events", events, outcome=outcome),
    )


def build_pusher(config: Config, metrics: Metrics, clock: Clock) -> MetricsPusher | None:
    """Build the exporter of metrics by OTLP; None without an endpoint or an interval."""
    seconds = config.telemetry.otlp_metrics_seconds
    if not config.telemetry.otlp_endpoint or not seconds:
        return None
    return push(
        config.telemetry.otlp_endpoint.get_secret_value(), metrics.registry, clock, seconds, config.name()
    )


def _kafka(config: Config, clock: Clock, observer: TelemetryObserver) -> Source:
    from monitor.sources.kafka import KafkaSource

    return KafkaSource(
        config.kafka,
        clock,
        client_id=_client_id(config),
        log=log,
        on_connection=lambda connected: observer.broker(connected=connected),
        on_denial=lambda denial, begins: observer.denied(denial, begins=begins),
        on_topic=lambda topic, known: observer.named(topic, known=known),
        on_member=observer.member,
    )


def _client_id(config: Config) -> str:
    return f"riskmon-{config.name()}"
