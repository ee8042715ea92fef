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
from monitor.daemon.waiting import Waiting
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
from monitor.ledger.reader import Faults
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
    """Everything `riskmon run` runs. Construction checks; `run` opens the ledger and blocks until stopped.

    A ledger that is away, read-only or full, or denies something, is waited for: the daemon is alive and not
    ready meanwhile. `source` replaces the configured ones. `observer` gets the engine's reports besides the
    daemon's own. `reread` reads the configuration again on a reload; without it, only the rules are. `lines`
    is what the log is written to, where its writer can say what was written.
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
        self._destinations = senders(config, clock, lines)
        self.metrics = build.build_metrics(config, self.rules, list(self._destinations), clock)
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
        self._source, self._observer, self._reread = source, observer or Observer(), reread
        # Decided once: a worker replaced later must judge like the others, or not at all.
        self._judging, self._lost_models = without_lost_models(config)
        self.pool = Pool(specs(self._judging), config.pool, clock)
        self._group_watch = build.build_group_watch(config, clock, self.observer) if source is None else None
        self._flags = FlagReader(config.ledger_url(), clock, QUERY_SECONDS)
        self._review = build.build_review(config, self._flags, self.observer)
        self.http = HttpServer(
            config.http.host,
            config.http.port,
            self.metrics.registry,
            self,
            reload=self.reload if config.http.reload else None,
            review=self._review,
            allowed_hosts=config.http.allowed_hosts,
            causes=self.causes,
        )
        self._faults = Faults(log)
        self._waiting = Waiting(clock, self._faults, lambda writable: self.observer.ledger(writable=writable))
        self._opened = self._ready = self._reloading = self._start_recorded = False
        self.components = Components(self._first())

    def _open(self) -> None:
        """Open the ledger, and build all that works on it. Raises Retryable, and may be called again then."""
        config, clock = self.config, self.clock
        ledger, vault = build.open_ledger(config, clock, self._faults)
        try:
            backoff = config.deliver.max_backoff_seconds
            outbox = LedgerOutbox(ledger, longest_wait(self._destinations, backoff))
            dispatcher = Dispatcher(outbox, self._destinations, clock, self.observer, backoff)
            spool = build.build_spool(config, ledger, vault)
            intake = build.build_body_intake(config, spool, clock)
            gate = build.build_gate(config, self.observer)
            self._receiver = build.build_receiver(config, intake, self.observer, gate)
            self._grpc_receiver = build.build_grpc_receiver(config, intake, self.observer, gate)
            observers = Observers(
                self.observer,
                _Wake(dispatcher),
                Reloader(config, self._reread, self.rules, self.observer),
                self._observer,
            )
            self.engine = build.build_engine(
                config,
                clock=clock,
                source=self._source or build.build_source(config, clock, self.observer, spool),
                pool=self.pool,
                rules=self.rules,
                ledger=ledger,
                vault=vault,
                observer=observers,
            )
        except BaseException:
            ledger.close()
            raise
        self.ledger, self.dispatcher, self._intake = ledger, dispatcher, intake
        self.auditor = Auditor(ledger, clock, self.observer, config.ledger.verify_seconds)
        self._watchdog = Watchdog(
            lambda: self.engine.turned_at,
            config.shutdown.watchdog_seconds,
            clock,
            passed=lambda: self.live() and notify("WATCHDOG=1"),
        )
        self.components = Components((*self.components, *self._others()))
        self._opened = True

    def _first(self) -> tuple[Component, ...]:
        """List the parts that start before the ledger is open, in order; they stop last, in the opposite one.

        HTTP comes first, to answer probes from before the models are loaded until the very end; only the
        flags' reader, which its last answers still use, comes before it. The exporters of telemetry come
        next, to report all that follows, and how it ended.
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
        )

    def _others(self) -> tuple[Component, ...]:
        """List the parts that need the ledger, in the order in which they start.

        The ledger comes first: it must close only when nothing writes to it any more. The review page reads
        from it, so it comes after. The receivers come after the intake that they write through, and before
        the pool: bodies that arrive while models load, which takes seconds to minutes, are safe in the spool.
        The start goes on record when the models are loaded, as later parts act on the outside world. The
        watchdog guards a turning loop, and must not fire while the others stop, so it comes last.
        """
        return (
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

    @property
    def totals(self) -> Totals:
        """Return the engine's totals so far."""
        return self.engine.totals if self._opened else Totals()

    def live(self) -> bool:
        """Return whether the loop turns, or has not begun to: the ledger is away, or models are loading."""
        return not self._ready or self.clock.monotonic() - self.engine.turned_at < LIVE_SECONDS

    def ready(self) -> Mapping[str, bool]:
        """Return the conditions of readiness, by name."""
        conditions = {"started": self._ready, "loop_turning": self.live(), **self.components.ready()}
        if self._ready:
            return {**conditions, **self.engine.health()}
        return {**conditions, "ledger_writable": not self._faults.cause}

    def causes(self) -> Mapping[str, str]:
        """Return why conditions fail, where that is known, in words of a bounded set."""
        return {"ledger_writable": self._faults.cause} if self._faults.cause else {}

    def run(self) -> Totals:
        """Start everything, run the engine until stopped, stop everything in order. Return the totals."""
        try:
            self.components.start()
            if not self.open():
                self.pool.close()
                return self.totals
            Components(self.components[len(self._first()) :]).start()
            self._ready = True
            notify("READY=1")
            log.info("started", instance=self.config.name(), version=__version__, port=self.http.port)
            return self.engine.run()
        finally:
            self.components.stop(Deadline(self.clock, STOP_SECONDS))

    def open(self) -> bool:
        """Open the ledger as soon as that is possible; False when asked to stop before."""
        if not self._waiting.done(self._open) or self._waiting.stopped:
            return False
        if self._reloading:
            self.engine.reload()
        return True

    def stop(self) -> None:
        """Ask the daemon to drain and end. Safe from any thread and from signal handlers."""
        notify("STOPPING=1")
        self._waiting.stop()
        if not self._opened:
            return
        # No answer of the ledger may take longer than what the engine has left to drain.
        self.ledger.patience.end_in(self.config.shutdown.deadline_seconds)
        self.engine.stop()
        # At once, not when it is its turn to stop: a refused sender can go to another daemon in time.
        if self._intake is not None:
            self._intake.refuse()

    def reload(self) -> None:
        """Ask for a reload, which follows the start if that is not over. Safe from signal handlers."""
        self._reloading = True
        if self._opened:
            self.engine.reload()

    def handle_signals(self) -> None:
        """Make SIGTERM and SIGINT drain (a second one ends at once), and SIGHUP reload."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.stop()
            # Whoever asks twice does not want to wait for the drain; the ledger survives a kill.
            signal.signal(number, signal.SIG_DFL)

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.reload())
        if early_signals.take():
            self.reload()

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
        body = {"instance": self.config.name(), "version": __version__}
        self._start_recorded = self._waiting.done(lambda: self.ledger.note("started", body))
        self.observer.rules_loaded(self.rules.current.version, ok=True)
        self.observer.config_loaded(ok=True)

    def _note_stop(self) -> None:
        if not self._start_recorded:
            return
        self._start_recorded = False
        totals = self.totals
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
    totals = daemon.totals
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
