"""`riskmon bench`: measurements on this machine, interleaved in one run and with their spread."""

import contextlib
import json
import statistics
import sys
import time
import uuid
from typing import Any, NamedTuple

import click
import numpy as np
import structlog

from monitor.bench.broker import Broker, broker
from monitor.clock import Clock, SystemClock
from monitor.config import Config, DetectorsConfig
from monitor.daemon.session import session
from monitor.evaluation.measures import bootstrap as interval_of
from monitor.output import as_json as to_json
from monitor.ports import Observer
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_client import settings
from monitor.telemetry.logging import configure

PARTITIONS = 4
RECORD_BYTES = 1024
WAIT_SECONDS = 120.0


class EngineOptions(NamedTuple):
    """Options of the command; `both` also measures on the embedded broker."""

    records: int
    rounds: int
    verdicts: bool
    both: bool


class Spent(NamedTuple):
    """Time to move all records: seconds, and processor seconds of this process, all threads together."""

    seconds: float
    cpu: float


class _Arm:
    """A broker with the records on it, and the time of each round."""

    def __init__(self, broker: Broker, options: EngineOptions, clock: Clock) -> None:
        own = uuid.uuid4().hex[:8]
        self._topic, self._verdicts = f"bench-{own}", f"bench-verdicts-{own}" if options.verdicts else ""
        self._broker, self._records, self._clock = broker, options.records, clock
        self.bare: list[Spent] = []
        self.ours: list[Spent] = []
        broker.create_topic(self._topic, PARTITIONS)
        if self._verdicts:
            broker.create_topic(self._verdicts, PARTITIONS)
        _fill(broker.bootstrap, self._topic, self._records)

    def measure(self) -> str:
        """Add a round; returns what it found."""
        self.bare.append(_bare(self._config(), self._records, self._clock))
        self.ours.append(_ours(self._config(self._verdicts), self._records, self._clock))
        bare, ours = (self._records / spent[-1].seconds for spent in (self.bare, self.ours))
        return f"{bare:.0f} bare, {ours:.0f} engine"

    def ratios(self) -> list[float]:
        """Return the engine's records per second over the bare loop's, by round."""
        return [bare.seconds / ours.seconds for bare, ours in zip(self.bare, self.ours, strict=True)]

    def cpu_ratios(self) -> list[float]:
        """Return the same ratio of records per processor second."""
        return [bare.cpu / ours.cpu for bare, ours in zip(self.bare, self.ours, strict=True)]

    def result(self) -> dict[str, Any]:
        """Return medians, and the spread of the ratios."""
        return {
            "bare_poll": self._medians(self.bare),
            "engine": self._medians(self.ours),
            "ratio": _spread(self.ratios()),
            "cpu_ratio": _spread(self.cpu_ratios()),
        }

    def _medians(self, spent: list[Spent]) -> dict[str, Any]:
        return {
            "records_per_second": round(self._records / statistics.median(run.seconds for run in spent)),
            "cpu_microseconds": round(1e6 * statistics.median(run.cpu for run in spent) / self._records, 1),
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
                "kafka": self._broker.kafka(self._topic, group_id=group),
                "detectors": noop,
                "deliver": {"verdicts_topic": verdicts},
            }
        )


def engine(bootstrap: str | None, options: EngineOptions, *, as_json: bool) -> None:
    """Compare the engine (no-op detectors, shipped rules, real ledger) with a bare poll loop.

    Both read the same topic of native JSON records of 1 KiB with the same client settings, in turn, and are
    timed from the first record to the last: delivered for the loop, recorded for the engine. Processor time
    is this process's: neither the broker's nor that of the workers with the detectors. The broker is the
    Kafka at `bootstrap`, or the embedded one; with both, each round is run on each, and the ratios on the one
    are divided by those on the other.
    """
    configure("error")
    clock = SystemClock()
    with contextlib.ExitStack() as running:
        where: dict[str, str | None] = {"embedded": None} if bootstrap is None else {"kafka": bootstrap}
        if options.both:
            where |= {"embedded": None}
        arms = {
            name: _Arm(running.enter_context(broker(address, clock)), options, clock)
            for name, address in where.items()
        }
        for number in range(options.rounds):
            for name, arm in list(arms.items())[:: -1 if number % 2 else 1]:
                click.echo(f"round {number + 1}/{options.rounds}, {name}: {arm.measure()}", err=True)
    results = {name: arm.result() for name, arm in arms.items()}
    first, *others = results
    for other in others:
        results[other]["compared"] = {
            "ratio": _compared(arms[first].ratios(), arms[other].ratios()),
            "cpu_ratio": _compared(arms[first].cpu_ratios(), arms[other].cpu_ratios()),
        }
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
        click.echo(f"{name}:")
        _tell(result)


def _tell(result: dict[str, Any]) -> None:
    """Print a broker's result for people."""
    for which, label in (("bare_poll", "bare poll loop"), ("engine", "engine")):
        speed, cpu = result[which]["records_per_second"], result[which]["cpu_microseconds"]
        click.echo(f"{label:<15}{speed:>8} records/s{cpu:>8} us of processor time a record")
    for which, label in (("ratio", "ratio"), ("cpu_ratio", "processor time")):
        ratio = result[which]
        click.echo(f"{label:<15}{ratio['median']:>8.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
        if compared := result.get("compared"):
            other = compared[which]
            low, high = other["interval"]
            click.echo(f"  the Kafka's over this: {other['median']:.2f} ({low:.2f} to {high:.2f})")


def _spread(ratios: list[float]) -> dict[str, float]:
    figures = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {name: round(value, 3) for name, value in figures.items()}


def _compared(numerators: list[float], denominators: list[float]) -> dict[str, Any]:
    """Return the median of the quotients by round, with its bootstrap interval of level 0.95."""
    quotients = np.array([above / below for above, below in zip(numerators, denominators, strict=True)])
    interval = interval_of(lambda rows: float(np.median(quotients[rows])), [np.arange(quotients.size)])
    assert interval is not None
    return {"median": round(float(np.median(quotients)), 3), "interval": [round(end, 3) for end in interval]}


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


def _bare(config: Config, records: int, clock: Clock) -> Spent:
    """Time a bare kafka-python poll loop over all records, of no group.

    A client that looks for its group's coordinator may wait for ever, without a time-out.
    """
    from kafka import KafkaConsumer, TopicPartition

    own = {"auto_offset_reset": "earliest", "group_id": None}
    consumer = KafkaConsumer(**{**settings(config.kafka, "bench"), **own})
    consumer.assign([TopicPartition(topic, n) for topic in config.kafka.topics for n in range(PARTITIONS)])
    seen, began = 0, _now(clock)
    while seen < records:
        before = _now(clock)
        batches = consumer.poll(timeout_ms=100, max_records=config.kafka.max_poll_records)
        if batches and not seen:
            began = before
        seen += sum(len(batch) for batch in batches.values())
    took = _since(began, clock)
    consumer.close(timeout_ms=5000)
    return took


def _now(clock: Clock) -> Spent:
    return Spent(clock.monotonic(), time.process_time())


def _since(began: Spent, clock: Clock) -> Spent:
    now = _now(clock)
    return Spent(now.seconds - began.seconds, now.cpu - began.cpu)


def _ours(config: Config, records: int, clock: Clock) -> Spent:
    """Time the engine until all records are in the ledger."""
    source = KafkaSource(config.kafka, clock, client_id="bench", log=structlog.get_logger(__name__))
    with session(
        config, source, clock, Observer(), deliver=config.deliver, ledger=config.ledger, load_shedding=True
    ) as (engine, _):
        began = _now(clock)
        while engine.totals.recorded < records:
            before = _now(clock)
            consumed = engine.totals.consumed
            engine.turn()
            if not consumed and engine.totals.consumed:
                began = before
        took = _since(began, clock)
        engine.drain()
    return took
