"""`riskmon bench latency`: time from the broker to the ledger at a share of the load that can be carried."""

import json
import statistics
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import structlog
from typing_extensions import override

from monitor.bench.broker import Broker, broker
from monitor.bench.traces import traces
from monitor.clock import Clock, SystemClock
from monitor.config import Config, LedgerConfig, load
from monitor.daemon.session import session
from monitor.errors import Retryable
from monitor.findings import Judgement
from monitor.output import as_json as to_json
from monitor.ports import Observer
from monitor.sources.kafka import KafkaSource
from monitor.telemetry.logging import configure

PARTITIONS: Final = 4
BURST: Final = 1000  # traces that wait at once when the full load is measured
WARM_SECONDS: Final = 3.0  # of paced traffic that are not counted: speeds are learnt in them
TICK_SECONDS: Final = 0.01
SEED: Final = 7


class LatencyOptions(NamedTuple):
    """Options of the command. `rate` is in traces per second; None means `share` of the full load.

    `bootstrap` is a running Kafka; None starts the embedded broker.
    """

    rate: float | None
    share: float
    seconds: float
    bootstrap: str | None
    as_json: bool


class _Run(NamedTuple):
    """`seconds`: per trace, from the broker's timestamp to its record. `escalation_rates`: per turn."""

    seconds: list[float]
    escalation_rates: list[float]
    took: float


def run(path: Path | None, options: LatencyOptions) -> None:
    """Measure and print. Raises ConfigError for a configuration whose detectors cannot be built."""
    configure("error")
    config = load(path)
    clock = SystemClock()
    capacity: float | None = None
    with broker(options.bootstrap, clock) as kafka:
        bench = _Bench(config, kafka, clock)
        rate = options.rate
        if rate is None:
            burst = bench.run(traces(BURST, SEED), None, load_shedding=False)
            capacity = len(burst.seconds) / burst.took
            rate = options.share * capacity
            click.echo(f"{capacity:.0f} traces/s can be carried; pacing {rate:.0f}", err=True)
        count = int(rate * (WARM_SECONDS + options.seconds))
        paced = bench.run(traces(count, SEED + 1), rate, load_shedding=True)
    counted = paced.seconds[int(rate * WARM_SECONDS) :]
    at = statistics.quantiles(counted, n=100, method="inclusive")
    result: dict[str, Any] = {
        "capacity": capacity and {"traces_per_second": round(capacity, 1)},
        "traces_per_second": round(rate, 1),
        "traces": len(counted),
        "seconds": {
            "p50": round(at[49], 3),
            "p90": round(at[89], 3),
            "p99": round(at[98], 3),
            "max": round(max(counted), 3),
        },
        "effort": {
            "min": round(min(paced.escalation_rates), 3),
            "mean": round(statistics.mean(paced.escalation_rates), 3),
        },
    }
    if options.as_json:
        click.echo(to_json(result))
        return
    click.echo(f"{result['traces']} traces at {rate:.0f}/s, from broker timestamp to ledger:")
    for name, value in result["seconds"].items():
        click.echo(f"  {name:<4} {value:.3f} s")
    click.echo(f"escalation rate {result['effort']['mean']:.2f} (least {result['effort']['min']:.2f})")


class _Bench:
    """Runs the daemon's engine on traffic of its own."""

    def __init__(self, config: Config, broker: Broker, clock: Clock) -> None:
        self._config = config
        self._broker = broker
        self._clock = clock

    def run(self, records: Sequence[bytes], rate: float | None, *, load_shedding: bool) -> _Run:
        """Judge these traces, all at once or at a rate; return how long each took, in order of recording."""
        clock, topic = self._clock, f"bench-{uuid.uuid4().hex[:8]}"
        self._broker.create_topic(topic, PARTITIONS)
        kafka = self._broker.kafka(topic, group_id=topic)
        config = self._config.model_copy(update={"kafka": self._config.kafka.model_validate(kafka)})
        judged = _Seconds(clock)
        escalation_rates: list[float] = []
        source = KafkaSource(config.kafka, clock, client_id="bench", log=structlog.get_logger(__name__))
        feeder = _Feeder(self._broker.bootstrap, topic, records, rate, clock)
        with session(config, source, clock, judged, ledger=LedgerConfig(), load_shedding=load_shedding) as (
            engine,
            _,
        ):
            while not engine.positions():
                engine.turn()
            feeder.start()
            began = clock.monotonic()
            while len(judged.seconds) < len(records):
                feeder.check()
                engine.turn()
                escalation_rates.append(engine.escalation_rate)
            took = clock.monotonic() - began
            engine.drain()
        return _Run(judged.seconds, escalation_rates, took)


class _Seconds(Observer):
    """Per trace, the seconds from the broker's timestamp, which one without a time of its own has."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds: list[float] = []

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        now = self._clock.now()
        self.seconds += [now - judgement.trace.time for judgement in judgements]


class _Feeder:
    """Produces records in a thread of its own, at a rate or as fast as it can."""

    def __init__(
        self, bootstrap: str, topic: str, records: Sequence[bytes], rate: float | None, clock: Clock
    ) -> None:
        self._thread = threading.Thread(target=self._send, name="bench-feeder", daemon=True)
        self._bootstrap = bootstrap
        self._topic = topic
        self._records = records
        self._rate = rate
        self._clock = clock
        self._sent = 0

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def check(self) -> None:
        """Raise Retryable when it has ended before everything was sent."""
        if not self._thread.is_alive() and self._sent < len(self._records):
            raise Retryable("the broker took no more traces; try again")

    def _send(self) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self._bootstrap)
        began, count = self._clock.monotonic(), len(self._records)
        while self._sent < count:
            passed = self._clock.monotonic() - began
            due = count if self._rate is None else min(count, int(passed * self._rate))
            for number in range(self._sent, due):
                trace = json.loads(self._records[number])
                del trace["time"]  # so that the broker's counts
                producer.send(self._topic, json.dumps(trace).encode(), partition=number % PARTITIONS)
            self._sent = due
            self._clock.sleep(TICK_SECONDS)
        producer.flush(timeout=60.0)
        producer.close(timeout=5.0)
