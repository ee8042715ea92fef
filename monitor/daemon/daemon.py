"""The daemon: starts every adapter of a configuration in order, and runs the engine."""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final, TypeVar

import structlog
from typing_extensions import override

from monitor import __version__
from monitor.clock import Clock, Deadline, SystemClock
from monitor.config import Config
from monitor.console.http import HttpServer
from monitor.console.review import QUERY_SECONDS
from monitor.daemon import build, early_signals
from monitor.daemon.component import Component, Components
from monitor.daemon.reload import Reloader
from monitor.daemon.systemd import notify
from monitor.daemon.watchdog import Watchdog
from monitor.deliver.outbox import Dispatcher, longest_wait
from monitor.deliver.senders import senders
from monitor.detect import specs, tiers, without_lost_models
from monitor.detect.pool import Pool
from monitor.engine import Totals
from monitor.errors import Retryable
from monitor.ledger.auditor import Auditor
from monitor.ledger.flags import FlagReader
from monitor.ledger.outbox import LedgerOutbox
from monitor.ports import Observer, Observers, Source
from monitor.receiver.otlp_grpc import GrpcReceiver
from monitor.receiver.otlp_http import Receiver
from monitor.rules import RuleBook, default_paths
from monitor.telemetry.lines import LineWriter
from monitor.telemetry.observer import TelemetryObserver

LIVE_SECONDS: Final = 15.0  # a stuck client makes readiness false within this time
STOP_SECONDS: Final = 3.0  # after `shutdown.deadline_seconds` (20): less than the promised 25 s

T = TypeVar("T")

log = structlog.get_logger(__name__)


class _Wake(Observer):
    """Wakes delivery as soon as there is something to deliver."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    @override
    def messages_queued(self) -> None:
        self._dispatcher.wake()


class Daemon:
    """Everything `riskmon run` runs. Construction checks and opens; `run` blocks until stopped.

    `source` replaces the configured ones. `observer` gets the engine's reports besides the daemon's own.
    `reread` reads the configuration again on a reload; without it, only the rules are read again.
    `lines` is what the log is written to, where its writer can say what was written.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        source: Source | None = None,
        observer: Observer | None = None,
        reread: Callable[[], Config] | None = None,
        lines: LineWriter | None = None,
    ) -> None:
        self.config = config
        self.clock = clock = clock or SystemClock()
        self.rules = RuleBook(config.rules.paths or default_paths(), clock)
        destinations = senders(config, clock, lines)
        self.ledger, self.vault = build.open_ledger(config, clock)
        self.metrics = build.build_metrics(config, self.rules, list(destinations))
        self._tracer = build.build_tracer(config)
        self._evaluations = build.build_evaluations(config, clock, self.metrics)
        self._pusher = build.build_pusher(config, self.metrics, clock)
        self.observer = TelemetryObserver(
            self.metrics,
            clock,
            log,
            self._tracer,
            self._evaluations,
            risk_thresholds=config.telemetry.risk_thresholds,
            budgets=config.budgets,
        )
        if lines is not None:
            lines.dropped = self.observer.log_lines_dropped
        self.auditor = Auditor(self.ledger, clock, self.observer, config.ledger.verify_seconds)
        # Decided once: a worker replaced later must judge like the others, or not at all.
        self._judging, self._lost_models = without_lost_models(config)
        self.pool = Pool(specs(self._judging), config.pool, clock)
        self.dispatcher = Dispatcher(
            LedgerOutbox(self.ledger, clock, longest_wait(destinations, config.deliver.max_backoff_seconds)),
            destinations,
            clock,
            self.observer,
            config.deliver.max_backoff_seconds,
        )
        spool = build.build_spool(config, self.ledger, self.vault)
        self._intake = build.build_body_intake(config, spool, clock)
        gate = build.build_gate(config, self.observer)
        self._receiver = build.build_receiver(config, self._intake, self.observer, gate)
        self._grpc_receiver = build.build_grpc_receiver(config, self._intake, self.observer, gate)
        self._group_watch = build.build_group_watch(config, clock, self.observer) if source is None else None
        self.engine = build.build_engine(
            config,
            clock=clock,
            source=source or build.build_source(config, clock, self.observer, spool),
            pool=self.pool,
            rules=self.rules,
            ledger=self.ledger,
            vault=self.vault,
            observer=Observers(
                self.observer,
                _Wake(self.dispatcher),
                Reloader(config, reread, self.rules, self.observer),
                observer or Observer(),
            ),
        )
        self._flags = FlagReader(self.ledger, clock, QUERY_SECONDS)
        self._review = build.build_review(config, self._flags, self.observer)
        self.http = HttpServer(
            config.http.host,
            config.http.port,
            self.metrics.registry,
            self,
            reload=self.engine.reload if config.http.reload else None,
            review=self._review,
            allowed_hosts=config.http.allowed_hosts,
        )
        self._watchdog = Watchdog(
            lambda: self.engine.turned_at,
            config.shutdown.watchdog_seconds,
            clock,
            passed=lambda: self.live() and notify("WATCHDOG=1"),
        )
        self._ready = self._start_recorded = False
        self.components = Components(self._components())

    def _components(self) -> tuple[Component, ...]:
        """List the parts in the order in which they start; they stop in the opposite order.

        HTTP comes first, to answer probes from before the models are loaded until the very end; only the
        flags' reader, which its last answers still use, comes before it. The exporters of telemetry come
        next, to report all that follows, and how it ended. The ledger follows: it must close only when
        nothing writes to it any more. The review page reads from it, so it comes after. The receivers come
        after the intake that they write through, and before the pool: bodies that arrive while models load,
        which takes seconds to minutes, are safe in the spool. The start goes on record when the models are
        loaded, as later parts act on the outside world. The watchdog guards a turning loop, and must not fire
        while the others stop, so it comes last.
        """
        return (
            Component("flags", stop=lambda _: self._flags.close()),
            Component("http", self.http.start, lambda _: self.http.stop()),
            *_if_built(self._tracer, lambda t: Component("spans", stop=lambda left: t.close(_share(left)))),
            *_if_built(self._pusher, lambda p: Component("metrics", p.start, p.stop)),
            *_if_built(
                self._evaluations,
                lambda e: Component("evaluations", e.start, lambda left: e.close(_share(left, 2))),
            ),
            Component("ledger", stop=lambda _: self.ledger.close()),
            *_if_built(self._review, lambda r: Component("review", stop=lambda _: r.close())),
            *_if_built(
                self._intake,
                lambda i: Component(
                    "intake", stop=lambda _: i.close(), ready=lambda: {"receiver_accepting": i.accepting}
                ),
            ),
            *_if_built(self._receiver, lambda r: self._receiving("receiver", "http", r)),
            *_if_built(self._grpc_receiver, lambda r: self._receiving("grpc_receiver", "grpc", r)),
            Component("detectors", self._start_detectors, lambda _: self.pool.close()),
            Component("record", self._note_start, lambda _: self._note_stop()),
            *_if_built(self._group_watch, lambda g: Component("group", g.start, g.stop)),
            Component("auditor", self.auditor.start, self.auditor.stop),
            Component(
                "delivery",
                self.dispatcher.start,
                self.dispatcher.stop,
                lambda: {"delivery_running": self.dispatcher.running},
            ),
            Component("watchdog", self._start_watchdog, lambda _: self._watchdog.stop()),
        )

    def live(self) -> bool:
        """Return whether the loop turns, or has not begun to because models are loading."""
        return not self._ready or self.clock.monotonic() - self.engine.turned_at < LIVE_SECONDS

    def ready(self) -> Mapping[str, bool]:
        """Return the conditions of readiness, by name."""
        conditions = {"started": self._ready, "loop_turning": self.live(), **self.components.ready()}
        return {**conditions, **self.engine.health()} if self._ready else conditions

    def run(self) -> Totals:
        """Start everything, run the engine until stopped, stop everything in order. Return the totals."""
        try:
            self.components.start()
            self._ready = True
            notify("READY=1")
            log.info("started", instance=self.config.name(), version=__version__, port=self.http.port)
            return self.engine.run()
        finally:
            self.components.stop(Deadline(self.clock, STOP_SECONDS))

    def stop(self) -> None:
        """Ask the daemon to drain and end. Safe from any thread and from signal handlers."""
        notify("STOPPING=1")
        self.engine.stop()
        # At once, not when it is its turn to stop: a refused sender can go to another daemon in time.
        if self._intake is not None:
            self._intake.refuse()

    def handle_signals(self) -> None:
        """Make SIGTERM and SIGINT drain (a second one ends at once), and SIGHUP reload."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.stop()
            # Whoever asks twice does not want to wait for the drain; the ledger survives a kill.
            signal.signal(number, signal.SIG_DFL)

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.engine.reload())
        if early_signals.take():
            self.engine.reload()

    def _receiving(self, name: str, protocol: str, receiver: Receiver | GrpcReceiver) -> Component:
        def start() -> None:
            receiver.start()
            log.info("receiving", protocol=protocol, host=self.config.receiver.host, port=receiver.port)

        return Component(name, start, lambda _: receiver.stop())

    def _start_detectors(self) -> None:
        self._report_tiers()
        build.tune_gc()
        self.pool.start()

    def _report_tiers(self) -> None:
        statuses = tiers(self._judging)
        self.observer.tiers(statuses)
        for setting in self._lost_models:
            log.error("model_lost", setting=setting, remedy="put the file it names back and restart riskmon")
        for tier in statuses:
            if not tier.present:
                log.warning("tier_missing", detector=tier.detector, tier=tier.tier, remedy=tier.cost)

    def _note_start(self) -> None:
        self.ledger.note("started", {"instance": self.config.name(), "version": __version__})
        self._start_recorded = True
        self.observer.rules_loaded(self.rules.current.version, ok=True)
        self.observer.config_loaded(ok=True)

    def _note_stop(self) -> None:
        if not self._start_recorded:
            return
        self._start_recorded = False
        totals = self.engine.totals
        consumed = totals.consumed - totals.released  # released records are consumed again elsewhere
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

    def _start_watchdog(self) -> None:
        # Loading models may have taken minutes, in which no loop could turn.
        self.engine.turned_at = self.clock.monotonic()
        self._watchdog.start()


def _if_built(part: T | None, make: Callable[[T], Component]) -> tuple[Component, ...]:
    """Return the component of an optional part, if it is configured."""
    return () if part is None else (make(part),)


def _share(deadline: Deadline, parts: int = 1) -> float:
    """Return the seconds left for one of so many parts, at least enough for one attempt."""
    return max(0.1, deadline.remaining() / parts)


def summary(daemon: Daemon) -> dict[str, object]:
    """Return a daemon's totals so far as plain numbers; `consumed` leaves released records out."""
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
    """Run a daemon in a thread; append a failure to the list."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            failures.append(error)

    thread = threading.Thread(target=run, name="riskmon-engine")
    thread.start()
    return thread, failures
