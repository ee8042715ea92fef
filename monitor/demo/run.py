"""`riskmon demo`: an embedded broker, made-up traffic and the real daemon, live or summed up as JSON."""

import signal
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.live import Live
from typing_extensions import override

from monitor.clock import Clock, SystemClock
from monitor.config import Config, DetectorsConfig, load
from monitor.daemon.daemon import Daemon, summary, wait_in_thread
from monitor.demo.broker import EmbeddedBroker
from monitor.demo.traffic import TrafficGenerator, publish
from monitor.demo.view import DemoState, RuleCount, render
from monitor.demo.view import summary as summed_up
from monitor.errors import Retryable, RiskmonError
from monitor.findings import NO_TEXT, Action, Judgement, Severity
from monitor.output import as_json
from monitor.ports import Observer
from monitor.telemetry.logging import configure

TOPIC = "llm.traces"
PARTITIONS = 4
FEEDBACK_TOPIC = "riskmon.feedback"
SHIFT_SECONDS = 60.0  # of an open-ended demo; a limited one shifts half-way
CATCH_UP_SECONDS = 120.0  # longest wait for the daemon to judge what was produced
TICK_SECONDS = 0.25
LOG_LINES = 20  # shown of a demonstration that failed
DRIFT_REFERENCE = 60  # traces per app and model; the default of 200 would take minutes of this traffic
SEED = 7
VERIFY_SECONDS = 15.0
ALERTED = ("riskmon_deliveries_total", {"destination": "log", "outcome": "delivered"})
BUDGETED = ("hallucination", "pii", "toxicity", "injection")


class _Watch(Observer):
    """Counts what the daemon records, for the view and the summary."""

    def __init__(self) -> None:
        self.detectors: Counter[str] = Counter(dict.fromkeys(DetectorsConfig.model_fields, 0))
        self.rules: Counter[tuple[str, Severity]] = Counter()
        self.alerts = 0
        self.feedback = 0
        self.judged_traces = 0
        self.textless: Counter[str] = Counter()
        self.blind: Counter[str] = Counter()

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """Count the traces' flags, and those that could not be read."""
        self.judged_traces += len(judgements)
        for judgement in judgements:
            self.textless.update(a.detector for a in judgement.assessments if a.reason == NO_TEXT)
            if judgement.trace.blind():
                self.blind[judgement.trace.app] += 1
        for flag in (flag for judgement in judgements for flag in judgement.flags):
            self.detectors.update(flag.detectors)
            self.rules[flag.rule, flag.severity] += 1
            self.alerts += Action.ALERT in flag.actions
            self.feedback += Action.FEEDBACK in flag.actions


class _Publisher(threading.Thread):
    """Produces traffic until it is stopped or its time is up."""

    def __init__(self, bootstrap: str, rate: float, seconds: float | None, *, content: bool) -> None:
        super().__init__(name="riskmon-demo-traffic", daemon=True)
        self._broker, self._rate, self._seconds = bootstrap, rate, seconds
        self._content = content
        self.shift_seconds = SHIFT_SECONDS if seconds is None else seconds / 2
        self.stopping = threading.Event()
        self.planted: Counter[str] = Counter()
        self.failure: RiskmonError | None = None

    def run(self) -> None:
        """Produce traffic until stopped."""
        try:
            sent = publish(
                self._broker,
                TOPIC,
                self._rate,
                self._seconds,
                TrafficGenerator(SEED, content=self._content),
                self.stopping,
                shift_seconds=self.shift_seconds,
            )
        except RiskmonError as error:
            self.failure = error
        else:
            self.planted.update({str(kind): count for kind, count in sent.items()})


def run(*, seconds: float | None, rate: float, port: int, content: bool, as_json: bool) -> None:
    """Run the demonstration until Ctrl-C or for `seconds` of traffic, then drain and sum up.

    Without `content`, traces come as from an application that does not capture its texts.
    """
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory(prefix="riskmon-demo-") as scratch,
        _log_aside(Path(scratch) / "demo.log"),
        EmbeddedBroker(clock) as broker,
    ):
        broker.create_topic(TOPIC, PARTITIONS)
        broker.create_topic(FEEDBACK_TOPIC, 1)
        config = Config.model_validate(
            {
                "instance": "demo",
                "data_dir": Path(scratch),
                "kafka": broker.kafka(TOPIC),
                "deliver": {"feedback_topic": FEEDBACK_TOPIC},
                "http": {"port": port},
                "detectors": {"drift": {"options": {"reference": DRIFT_REFERENCE}}},
                "ledger": {"verify_seconds": VERIFY_SECONDS},
                "budgets": {"flagged": [{"detector": name, "ratio": 0.02} for name in BUDGETED]},
            }
        )
        watch = _Watch()
        demonstration = _Demonstration(config, watch, clock)
        demonstration.show(broker.bootstrap, rate, seconds, content=content, machine=as_json)


def traffic(path: Path | None, *, rate: float, seconds: float | None) -> None:
    """Write traffic to the first topic of a configuration, for `seconds` or until SIGTERM."""
    kafka = load(path).kafka
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    servers = ",".join(kafka.bootstrap_servers)
    sent = publish(servers, kafka.topics[0], rate, seconds, TrafficGenerator(SEED), threading.Event())
    click.echo(f"{sent.total()} traces written to {kafka.topics[0]}")


@contextmanager
def _log_aside(path: Path) -> Iterator[None]:
    """Keep log lines out of the picture; show the last ones when the demonstration fails."""
    with path.open("w", encoding="utf-8") as log:
        configure("info", stream=log)
        try:
            yield
        except BaseException:
            log.flush()
            for line in path.read_text(encoding="utf-8").splitlines()[-LOG_LINES:]:
                click.echo(line, err=True)
            raise
        finally:
            configure("error")


class _Demonstration:
    """One run: the daemon in one thread, traffic in another, the live picture in this one."""

    def __init__(self, config: Config, watch: _Watch, clock: Clock) -> None:
        self._watch = watch
        self._clock = clock
        self._daemon = Daemon(config, clock=clock, observer=watch)
        self._started = clock.monotonic()
        self._rates: deque[float] = deque(maxlen=36)
        self._last = (self._started, 0)
        self._first_alert: float | None = None
        self._interrupted = threading.Event()

    def show(
        self, bootstrap: str, rate: float, seconds: float | None, *, content: bool, machine: bool
    ) -> None:
        """Run to the end and print the result."""
        signal.signal(signal.SIGINT, lambda *_: self._interrupted.set())
        signal.signal(signal.SIGTERM, lambda *_: self._interrupted.set())
        thread, failures = wait_in_thread(self._daemon)
        publisher = _Publisher(bootstrap, rate, seconds, content=content)
        console = Console()
        live = Live(console=console, auto_refresh=False, transient=True)
        try:
            with live if console.is_terminal and not machine else _Quiet() as view:
                self._run(thread, publisher, view)
        finally:
            publisher.stopping.set()
            self._daemon.stop()
            thread.join()
        if failures:
            raise failures[0]
        if publisher.failure:
            raise publisher.failure
        if machine:
            click.echo(as_json(self._result(publisher)))
        else:
            console.print(summed_up(self._state(publisher, "done")))

    def _run(self, thread: threading.Thread, publisher: _Publisher, view: Any) -> None:
        phase = "starting: loading models"
        while thread.is_alive() and not self._interrupted.is_set():
            if self._daemon.ready().get("started") and publisher.ident is None:
                publisher.start()
                phase = "running"
            if publisher.ident is not None and not publisher.is_alive():
                break
            view.update(render(self._state(publisher, phase)), refresh=True)
            self._interrupted.wait(TICK_SECONDS)
        publisher.stopping.set()
        if publisher.ident is not None:
            publisher.join()
        self._catch_up(thread, publisher.planted.total(), publisher, view)
        self._daemon.stop()
        while thread.is_alive():
            view.update(render(self._state(publisher, "draining")), refresh=True)
            thread.join(TICK_SECONDS)

    def _catch_up(self, thread: threading.Thread, produced: int, publisher: _Publisher, view: Any) -> None:
        """Wait until everything produced is on record; an interrupt ends the wait."""
        until = self._clock.monotonic() + CATCH_UP_SECONDS
        second = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: second.set())
        while thread.is_alive() and self._done() < produced and not second.is_set():
            if self._clock.monotonic() > until:
                raise Retryable(f"{produced - self._done()} traces were not judged in time")
            view.update(render(self._state(publisher, "catching up")), refresh=True)
            second.wait(TICK_SECONDS)

    def _done(self) -> int:
        totals = self._daemon.totals
        return totals.recorded + totals.dead_lettered

    def _taken(self) -> int:
        totals = self._daemon.totals
        return totals.consumed - totals.released

    def _state(self, publisher: _Publisher, phase: str) -> DemoState:
        now, totals, metrics = self._clock.monotonic(), self._daemon.totals, self._daemon.metrics
        if self._first_alert is None and metrics.registry.get_sample_value(*ALERTED):
            self._first_alert = now - self._started
        if now - self._last[0] >= 1.0:
            self._rates.append((totals.recorded - self._last[1]) / (now - self._last[0]))
            self._last = (now, totals.recorded)
        base = f"http://127.0.0.1:{self._daemon.http.port}"
        lag = int(metrics.total_of("lag_records"))
        return DemoState(
            seconds=now - self._started,
            phase=phase,
            produced=publisher.planted.total() or self._taken() + lag,
            consumed=self._taken(),
            recorded=totals.recorded,
            dead_lettered=totals.dead_lettered,
            lag_records=lag,
            lag_seconds=metrics.total_of("lag_seconds"),
            rates=tuple(self._rates),
            detectors=dict(self._watch.detectors),
            rules=[RuleCount(rule=r, severity=s, flags=n) for (r, s), n in self._watch.rules.most_common()],
            alerts=self._watch.alerts,
            feedback=self._watch.feedback,
            planted=dict(publisher.planted),
            judged=self._watch.judged_traces,
            textless=dict(self._watch.textless),
            blind=dict(self._watch.blind),
            shifted=now - self._started > publisher.shift_seconds,
            metrics_url=f"{base}/metrics",
            health_url=f"{base}/readyz",
        )

    def _result(self, publisher: _Publisher) -> dict[str, Any]:
        done = summary(self._daemon)
        return {
            "traces": publisher.planted.total(),
            "consumed": done["consumed"],
            "recorded": done["recorded"],
            "dead_lettered": done["dead_lettered"],
            "released": done["released"],
            "flags": dict(self._watch.detectors),
            "rules": done["flags_by_rule"],
            "alerts": self._watch.alerts,
            "feedback": self._watch.feedback,
            "planted": dict(publisher.planted),
            "blind": dict(self._watch.blind),
            "first_alert_seconds": self._first_alert and round(self._first_alert, 1),
            "seconds": round(self._clock.monotonic() - self._started, 1),
        }


class _Quiet:
    """Replaces the live picture where output is not a terminal."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, picture: object, *, refresh: bool) -> None:
        """Show nothing."""
