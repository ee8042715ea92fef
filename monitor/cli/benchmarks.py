"""`riskmon bench`: measurements on this machine, interleaved in one run and with their spread."""

import contextlib
import json
import statistics
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import click
import structlog

from monitor.cli.bench_broker import Broker, broker
from monitor.cli.daemon import as_json as to_json
from monitor.cli.daemon import assemble, collect_rarely, open_ledger
from monitor.clock import Clock, SystemClock
from monitor.config import Config, DetectorsConfig
from monitor.detect import specs
from monitor.detect.pool import Pool
from monitor.rules import RuleBook, default_paths
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_client import settings
from monitor.telemetry.logging import configure
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver

PARTITIONS = 4
RECORD_BYTES = 1024
WAIT_SECONDS = 120.0


class Options(NamedTuple):
    """What is asked for; `both` measures on the embedded broker besides."""

    records: int
    rounds: int
    verdicts: bool
    both: bool


class _Arm:
    """A broker with the records on it, and the records per second of each round."""

    def __init__(self, broker: Broker, options: Options, folder: Path, clock: Clock) -> None:
        own = uuid.uuid4().hex[:8]
        self._topic, self._verdicts = f"bench-{own}", f"bench-verdicts-{own}" if options.verdicts else ""
        self._broker, self._records, self._folder, self._clock = broker, options.records, folder, clock
        self.bare: list[float] = []
        self.ours: list[float] = []
        broker.create_topic(self._topic, PARTITIONS)
        if self._verdicts:
            broker.create_topic(self._verdicts, PARTITIONS)
        _fill(broker.bootstrap, self._topic, self._records)

    def measure(self) -> None:
        """Add a round."""
        self.bare.append(self._records / _bare(self._config(), self._records, self._clock))
        self.ours.append(self._records / _ours(self._config(self._verdicts), self._records, self._clock))

    def result(self) -> dict[str, Any]:
        """Medians, and the spread of the ratio."""
        ratios = [mine / theirs for mine, theirs in zip(self.ours, self.bare, strict=True)]
        return {
            "bare_poll": {"records_per_second": round(statistics.median(self.bare))},
            "engine": {"records_per_second": round(statistics.median(self.ours))},
            "ratio": {
                "median": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
            },
        }

    def _config(self, verdicts: str = "") -> Config:
        noop = {
            name: {"factory": "monitor.detect.noop:build", "options": {"name": name}}
            for name in DetectorsConfig.model_fields
        }
        group = uuid.uuid4().hex
        return Config.model_validate(
            {
                "instance": "bench",
                "data_dir": self._folder / group,
                "kafka": self._broker.kafka(self._topic, group_id=group),
                "detectors": noop,
                "deliver": {"verdicts_topic": verdicts},
            }
        )


def engine(bootstrap: str | None, options: Options, *, as_json: bool) -> None:
    """Compare the engine (no-op detectors, shipped rules, real ledger) with a bare poll loop.

    Both read the same topic of native JSON records of 1 KiB with the same client settings, in turn, and are
    timed from the first record to the last: delivered for the loop, recorded for the engine. The broker is
    the Kafka at `bootstrap`, or the embedded one; with both, each round is run on each.
    """
    configure("error")
    clock = SystemClock()
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="riskmon-bench-")))
        where: dict[str, str | None] = {"embedded": None} if bootstrap is None else {"kafka": bootstrap}
        if options.both:
            where |= {"embedded": None}
        arms = {
            name: _Arm(running.enter_context(broker(address, clock)), options, folder, clock)
            for name, address in where.items()
        }
        for number in range(options.rounds):
            for name, arm in arms.items():
                arm.measure()
                speeds = f"{arm.bare[-1]:.0f} bare, {arm.ours[-1]:.0f} engine"
                click.echo(f"round {number + 1}/{options.rounds}, {name}: {speeds}", err=True)
    results = {name: arm.result() for name, arm in arms.items()}
    first, *others = results
    about = {
        "records": options.records,
        "record_bytes": RECORD_BYTES,
        "rounds": options.rounds,
        "verdicts": options.verdicts,
        "python": sys.version.split()[0],
    }
    if as_json:
        click.echo(to_json({"broker": first} | results[first] | {o: results[o] for o in others} | about))
        return
    for name, result in results.items():
        ratio = result["ratio"]
        click.echo(f"{name}:")
        click.echo(f"bare poll loop {result['bare_poll']['records_per_second']:>8} records/s")
        click.echo(f"engine         {result['engine']['records_per_second']:>8} records/s")
        click.echo(f"ratio          {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")


def record(number: int) -> bytes:
    """Return one native trace of `RECORD_BYTES` bytes."""
    trace: dict[str, Any] = {
        "id": f"bench-{number}",
        "time": 1_795_000_000.0,
        "app": "bench",
        "environment": "staging",
        "model": "noop-1",
        "messages": [{"role": "user", "content": "What does the warranty of this kettle cover? " * 4}],
        "response": "",
        "context": [{"id": "doc-1", "content": "The warranty covers two years of ordinary use. " * 6}],
    }
    missing = RECORD_BYTES - len(json.dumps(trace))
    trace["response"] = ("It covers two years of ordinary use, not wear. " * 20)[:missing]
    return json.dumps(trace).encode()


def _fill(bootstrap: str, topic: str, records: int) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=2**17)
    for number in range(records):
        producer.send(topic, record(number), partition=number % PARTITIONS)
    producer.flush(timeout=WAIT_SECONDS)
    producer.close(timeout=5.0)


def _bare(config: Config, records: int, clock: Clock) -> float:
    """Seconds a bare kafka-python poll loop takes for all records."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(**{**settings(config.kafka, "bench"), "auto_offset_reset": "earliest"})
    consumer.subscribe(config.kafka.topics)
    seen, began = 0, clock.monotonic()
    while seen < records:
        before = clock.monotonic()
        batches = consumer.poll(timeout_ms=100, max_records=config.kafka.max_poll_records)
        if batches and not seen:
            began = before
        seen += sum(len(batch) for batch in batches.values())
    took = clock.monotonic() - began
    consumer.close(timeout_ms=5000)
    return took


def _ours(config: Config, records: int, clock: Clock) -> float:
    """Seconds the engine takes until all records are in the ledger."""
    ledger, vault = open_ledger(config, clock, create=True)
    log = structlog.get_logger(__name__)
    pool = Pool(specs(config), config.pool, clock)
    loop = assemble(
        config,
        clock=clock,
        source=KafkaSource(config.kafka, clock, client_id="bench", log=log),
        pool=pool,
        rules=RuleBook(config.rules.paths or default_paths(), clock),
        ledger=ledger,
        vault=vault,
        observer=TelemetryObserver(Metrics(config.telemetry), clock, log),
    )
    collect_rarely()
    pool.start()
    try:
        began = clock.monotonic()
        while loop.totals.recorded < records:
            before = clock.monotonic()
            consumed = loop.totals.consumed
            loop.turn()
            if not consumed and loop.totals.consumed:
                began = before
        took = clock.monotonic() - began
        loop.drain()
    finally:
        pool.close()
        ledger.close()
    return took
