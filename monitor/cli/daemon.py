"""The composition root: builds every adapter from a configuration and runs the engine among them."""

import gc
import json
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import structlog

from monitor import __version__
from monitor.assembly import Bounds
from monitor.cli.reloading import Reloading
from monitor.cli.systemd import notify
from monitor.clock import Clock, Deadline, SystemClock
from monitor.config import Config, DetectorsConfig
from monitor.console.http import HttpServer
from monitor.console.receiver import Receiver
from monitor.console.review import QUERY_SECONDS, Review
from monitor.deliver.outbox import Dispatcher
from monitor.deliver.senders import senders
from monitor.detect import specs, tiers, without_lost_models
from monitor.detect.pool import Pool
from monitor.drift import DriftMonitor
from monitor.effects import Policy
from monitor.engine import Engine, Settings, Totals
from monitor.engine.watchdog import Watchdog
from monitor.errors import ConfigError, Retryable
from monitor.findings import DeadLetter, Judgement
from monitor.history import AgentMonitor
from monitor.ingest import decoder_for
from monitor.ledger.auditor import Auditor
from monitor.ledger.flags import FlagReader
from monitor.ledger.outbox import LedgerOutbox
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.rules import RuleBook, default_paths
from monitor.sources.combined import CombinedSource
from monitor.sources.kafka_group import GroupWatch
from monitor.sources.spool import SpoolSource
from monitor.stream import Detectors, Monitor, Observer, Source
from monitor.telemetry.evaluations import EvaluationExporter
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.telemetry.pushing import MetricsPusher
from monitor.telemetry.pushing import connect as push
from monitor.telemetry.tracing import BatchTracer, connect
from monitor.vault import Vault

MONITORS: Mapping[str, Callable[..., Monitor]] = {"drift": DriftMonitor, "agent": AgentMonitor}
"""Detectors that keep state: what the engine builds beside them, with the same options."""
LIVE_SECONDS = 15.0  # invariant R7: a stuck client makes readiness false within 15 s

log = structlog.get_logger(__name__)


def vault_path(config: Config) -> Path:
    """Where the key file of a configuration is."""
    return config.data_dir / "riskmon.key"


def open_vault(config: Config) -> Vault:
    """Open the key file. Raises ConfigError."""
    return Vault.open(vault_path(config))


def open_ledger(config: Config, clock: Clock, *, create: bool = False) -> tuple[Ledger, Vault]:
    """Open the ledger of a configuration. Raises ConfigError when it does not exist and may not be made."""
    url = config.ledger_url()
    if not create and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise ConfigError(
            f"{url}: there is no ledger yet; run `riskmon run` first, or name its configuration with --config"
        )
    vault = open_vault(config)
    return Ledger.open(url, vault, clock, config.name()), vault


def collect_rarely() -> None:
    """Let Python look for reference cycles less often, in the process that runs an engine.

    Each batch makes tens of thousands of objects and no cycles; looking for some among them takes a seventh
    of the loop's time at Python's own thresholds (`riskmon bench engine`, CPU time of the main thread).
    """
    gc.set_threshold(50_000, 20, 100)


def monitors(config: Config, snapshots: Mapping[str, bytes]) -> dict[str, Monitor]:
    """Build the stateful side of each enabled built-in detector that has one, from "detector/name" to state.

    Raises ConfigError for a bad option, or for state that cannot be read.
    """
    found: dict[str, Monitor] = {}
    for name, section in config.enabled_detectors().items():
        if name in MONITORS and not section.factory:
            found[name] = monitor = MONITORS[name](**section.options)
            own = f"{name}/"
            monitor.restore(
                {key.removeprefix(own): body for key, body in snapshots.items() if key.startswith(own)}
            )
    return found


def assemble(
    config: Config,
    *,
    clock: Clock,
    source: Source,
    pool: Detectors,
    rules: RuleBook,
    ledger: Ledger,
    vault: Vault,
    observer: Observer,
    on_outgoing: Callable[[], None] = lambda: None,
    on_judged: Callable[[Judgement], None] | None = None,
    on_dead: Callable[[DeadLetter], None] | None = None,
    on_reload: Callable[[], None] = lambda: None,
    sheds: bool = True,
) -> Engine:
    """Build the engine of a configuration among given adapters; it continues from the ledger's snapshots."""
    snapshots = ledger.restore()
    engine = Engine(
        source=source,
        decode=decoder_for(config.bounds(), vault.pseudonym, config.spool_topics()),
        detectors=pool,
        rules=rules,
        monitors=monitors(config, snapshots),
        ledger=ledger,
        policy=Policy(
            deliver=config.deliver,
            excerpt_chars=config.ledger.excerpt_chars,
            sample_ratio=config.ledger.sample_ratio,
        ),
        observer=observer,
        clock=clock,
        settings=Settings(
            owner=config.name(),
            latest=config.kafka.start == "latest",
            max_poll_records=config.kafka.max_poll_records,
            drain_seconds=config.shutdown.deadline_seconds,
            rules_seconds=config.rules.reload_seconds,
            sheds=sheds,
            assembly=Bounds(**config.assembly.model_dump()),
        ),
        on_outgoing=on_outgoing,
        on_judged=on_judged,
        on_dead=on_dead,
        on_reload=on_reload,
    )
    engine.assembler.restore(snapshots)
    return engine


class Daemon:
    """Everything `riskmon run` runs. Construction checks and opens; `run` blocks until stopped.

    `reread` reads the configuration again when a reload is asked for; without, only the rules are.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        source: Source | None = None,
        on_judged: Callable[[Judgement], None] | None = None,
        on_dead: Callable[[DeadLetter], None] | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self.config = config
        self.clock = clock = clock or SystemClock()
        self.rules = RuleBook(config.rules.paths or default_paths(), clock)
        self._senders = senders(config, clock)
        self.ledger, self.vault = open_ledger(config, clock, create=True)
        self.metrics = Metrics(
            config.telemetry,
            known={
                "topic": [*config.kafka.topics, *config.spool_topics().values()],
                "detector": list(DetectorsConfig.model_fields),
                "destination": list(self._senders),
                "rule": [rule.name for rule in self.rules.current.rules],
            },
        )
        self._tracer = _tracer(config)
        self._evaluations = _evaluations(config, clock, self.metrics)
        self.observer = TelemetryObserver(
            self.metrics,
            clock,
            log,
            self._tracer,
            self._evaluations,
            risk_thresholds=config.telemetry.risk_thresholds,
            budgets=config.budgets,
        )
        self.auditor = Auditor(self.ledger, clock, self.observer, config.ledger.verify_seconds)
        # Decided once: a worker that is replaced later must judge as the others do, or not at all.
        self._judging, self._lost_models = without_lost_models(config)
        self.pool = Pool(specs(self._judging), config.pool, clock)
        self.dispatcher = Dispatcher(
            LedgerOutbox(self.ledger, clock),
            self._senders,
            clock,
            self.observer,
            config.deliver.max_backoff_seconds,
        )
        self._spool = self._receiver = None
        if config.receiver.enabled:
            topics = config.spool_topics()
            self._spool = LedgerSpool(
                self.ledger,
                self.vault,
                tuple(topics.values()),
                max_records=config.receiver.max_spool_records,
                max_bytes=config.receiver.max_spool_bytes,
            )
            self._receiver = Receiver(config.receiver, self._spool, topics, clock, self.observer.answered)
        self.engine = assemble(
            config,
            clock=clock,
            source=source or self._source(),
            pool=self.pool,
            rules=self.rules,
            ledger=self.ledger,
            vault=self.vault,
            observer=self.observer,
            on_outgoing=self.dispatcher.wake,
            on_judged=on_judged,
            on_dead=on_dead,
            on_reload=Reloading(config, reread, self.rules, self.observer),
        )
        reload = self.engine.reload if config.http.reload else None
        self._flags = FlagReader(self.ledger, clock, QUERY_SECONDS)
        self._review = _review(config, self._flags)
        self.http = HttpServer(
            config.http.host,
            config.http.port,
            self.metrics.registry,
            self,
            reload=reload,
            review=self._review,
        )
        self._watchdog = Watchdog(
            lambda: self.engine.turned_at,
            config.shutdown.watchdog_seconds,
            clock,
            passed=lambda: self.live() and notify("WATCHDOG=1"),
        )
        self._pusher = _pusher(config, self.metrics, clock)
        self._group_watch = _group_watch(config, clock, self.observer) if source is None else None
        self._ready = False

    def live(self) -> bool:
        """Whether the loop turns, or has not begun to because models are loading."""
        return not self._ready or self.clock.monotonic() - self.engine.turned_at < LIVE_SECONDS

    def ready(self) -> Mapping[str, bool]:
        """Conditions under which this daemon does its work, by name."""
        conditions = {
            "started": self._ready,
            "loop_turning": self.live(),
            "delivery_running": self.dispatcher.failure is None,
        }
        if self._receiver is not None:
            conditions["receiver_accepting"] = self._receiver.accepting
        return {**conditions, **self.engine.health()} if self._ready else conditions

    def run(self) -> Totals:
        """Start everything, run the engine until stopped, end everything in order. Returns what was done."""
        try:
            self.http.start()
            if self._receiver is not None:
                self._receiver.start()
                log.info("receiving", host=self.config.receiver.host, port=self._receiver.port)
            self._note_tiers()
            collect_rarely()
            self.pool.start()
            self.ledger.note("started", {"instance": self.config.name(), "version": __version__})
            self.observer.rules_loaded(self.rules.current.version, ok=True)
            self.observer.config_loaded(ok=True)
            self.dispatcher.start()
            if self._evaluations is not None:
                self._evaluations.start()
            self.auditor.start()
            if self._group_watch is not None:
                self._group_watch.start()
            if self._pusher is not None:
                self._pusher.start()
            self.engine.turned_at = self.clock.monotonic()
            self._watchdog.start()
            self._ready = True
            notify("READY=1")
            log.info("started", instance=self.config.name(), version=__version__, port=self.http.port)
            return self.engine.run()
        finally:
            self._end()

    def stop(self) -> None:
        """Ask for a drained end. Safe from any thread and from signal handlers."""
        notify("STOPPING=1")
        self.engine.stop()
        if self._receiver is not None:
            self._receiver.refuse()

    def handle_signals(self) -> None:
        """Make SIGTERM and SIGINT drain (a second one ends at once), and SIGHUP reload."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.stop()
            signal.signal(number, signal.SIG_DFL)

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.engine.reload())

    def _source(self) -> Source:
        """What is read: Kafka, the spool, or both as one."""
        sources: list[Source] = []
        if self.config.kafka.topics:
            sources.append(_kafka(self.config, self.clock, self.observer))
        if self._spool is not None:
            sources.append(SpoolSource(self._spool, self.clock, self.observer.spooled))
        return sources[0] if len(sources) == 1 else CombinedSource(sources, self.clock)

    def _note_tiers(self) -> None:
        found = tiers(self._judging)
        self.observer.tiers(found)
        for setting in self._lost_models:
            log.error("model_lost", setting=setting, remedy="put the file it names back and restart riskmon")
        for tier in found:
            if not tier.present:
                log.warning("tier_missing", detector=tier.detector, tier=tier.tier, remedy=tier.cost)

    def _end(self) -> None:
        deadline = Deadline(self.clock, 3.0)  # after the engine's own: 20 s + 3 s < 25 s (invariant R3)
        self._watchdog.stop()
        if self._review is not None:
            self._review.close()
        if self._receiver is not None:
            self._receiver.stop()
        self.dispatcher.stop(deadline)
        self.auditor.stop(deadline)
        if self._group_watch is not None:
            self._group_watch.stop(deadline)
        self.pool.close()
        if self._ready:
            totals = self.engine.totals
            consumed = totals.consumed - totals.released  # what was handed back, someone consumes again
            try:
                self.ledger.note("stopped", {"instance": self.config.name(), "consumed": consumed})
            except Retryable:
                log.warning("ledger_busy_at_stop")
            log.info(
                "stopped",
                consumed=totals.consumed,
                recorded=totals.recorded,
                dead_lettered=totals.dead_lettered,
                released=totals.released,
            )
        self.ledger.close()
        if self._evaluations is not None:
            self._evaluations.close(max(0.1, deadline.remaining() / 2))
        if self._pusher is not None:
            self._pusher.stop(deadline)
        if self._tracer is not None:
            self._tracer.close(max(0.1, deadline.remaining()))
        self.http.stop()
        self._flags.close()


def _review(config: Config, flags: FlagReader) -> Review | None:
    token = config.http.review_token
    return Review(token.get_secret_value(), flags.find) if token else None


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


def _group_watch(config: Config, clock: Clock, observer: TelemetryObserver) -> GroupWatch | None:
    if not config.kafka.topics:
        return None
    return GroupWatch(config.kafka, clock, client_id=_client_id(config), log=log, on_look=observer.group)


def _client_id(config: Config) -> str:
    return f"riskmon-{config.name()}"


def _tracer(config: Config) -> BatchTracer | None:
    if not config.telemetry.otlp_endpoint:
        return None
    return connect(
        config.telemetry.otlp_endpoint,
        config.kafka.group_id,
        config.name(),
        evaluations=config.telemetry.evaluation_span_events,
    )


def _evaluations(config: Config, clock: Clock, metrics: Metrics) -> EvaluationExporter | None:
    section = config.telemetry
    if not section.evaluations_endpoint:
        return None
    return EvaluationExporter(
        section.evaluations_endpoint,
        {name: value.get_secret_value() for name, value in section.evaluations_headers.items()},
        config.name(),
        clock,
        lambda outcome, events: metrics.inc("evaluation_events", events, outcome=outcome),
    )


def _pusher(config: Config, metrics: Metrics, clock: Clock) -> MetricsPusher | None:
    seconds = config.telemetry.otlp_metrics_seconds
    if not config.telemetry.otlp_endpoint or not seconds:
        return None
    return push(config.telemetry.otlp_endpoint, metrics.registry, clock, seconds, config.name())


def summary(daemon: Daemon) -> dict[str, object]:
    """What a daemon has done so far, as plain numbers; `consumed` leaves out what was handed back."""
    totals = daemon.engine.totals
    return {
        "consumed": totals.consumed - totals.released,
        "recorded": totals.recorded,
        "dead_lettered": totals.dead_lettered,
        "released": totals.released,
        "traces_judged": totals.traces,
        "flags_by_rule": dict(sorted(totals.flags.items())),
    }


def wait_in_thread(daemon: Daemon) -> tuple[threading.Thread, list[BaseException]]:
    """Run a daemon in a thread; a failure ends up in the list."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            failures.append(error)

    thread = threading.Thread(target=run, name="riskmon-engine")
    thread.start()
    return thread, failures


def as_json(value: object) -> str:
    """One line of JSON for machines."""
    return json.dumps(value, ensure_ascii=False, default=str)
