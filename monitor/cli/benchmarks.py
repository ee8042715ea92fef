"""`riskmon bench`: measurements on this machine, interleaved in one run and with their spread."""

import json
import statistics
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import click
import structlog

from monitor.cli.daemon import as_json as to_json
from monitor.cli.daemon import assemble, collect_rarely, open_ledger
from monitor.clock import Clock, SystemClock
from monitor.config import Config, DetectorsConfig
from monitor.demo.broker import EmbeddedBroker
from monitor.detect import specs
from monitor.detect.pool import Pool
from monitor.rules import RuleBook, default_paths
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_client import settings
from monitor.telemetry.logging import configure
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver

TOPIC = "bench"
PARTITIONS = 4
RECORD_BYTES = 1024
WAIT_SECONDS = 120.0


def engine(*, records: int, rounds: int, verdicts: bool, as_json: bool) -> None:
    """Compare the engine (no-op detectors, shipped rules, real ledger) with a bare poll loop.

    Both read the same topic of native JSON records of 1 KiB with the same client settings, in turn, and are
    timed from the first record to the last: delivered for the loop, recorded for the engine.
    """
    configure("error")
    clock = SystemClock()
    with EmbeddedBroker(clock) as broker, tempfile.TemporaryDirectory(prefix="riskmon-bench-") as scratch:
        broker.create_topic(TOPIC, PARTITIONS)
        _fill(broker.bootstrap, records)
        bare: list[float] = []
        ours: list[float] = []
        for number in range(rounds):
            bare.append(records / _bare(_config(broker, Path(scratch)), records, clock))
            config = _config(broker, Path(scratch) / str(number), verdicts=verdicts)
            ours.append(records / _ours(config, records, clock))
            click.echo(f"round {number + 1}/{rounds}: {bare[-1]:.0f} bare, {ours[-1]:.0f} engine", err=True)
    ratios = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
    result: dict[str, Any] = {
        "bare_poll": {"records_per_second": round(statistics.median(bare))},
        "engine": {"records_per_second": round(statistics.median(ours))},
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
        "records": records,
        "record_bytes": RECORD_BYTES,
        "rounds": rounds,
        "verdicts": verdicts,
        "python": sys.version.split()[0],
    }
    if as_json:
        click.echo(to_json(result))
        return
    ratio = result["ratio"]
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


def _fill(bootstrap: str, records: int) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=2**17)
    for number in range(records):
        producer.send(TOPIC, record(number), partition=number % PARTITIONS)
    producer.flush(timeout=WAIT_SECONDS)
    producer.close(timeout=5.0)


def _config(broker: EmbeddedBroker, folder: Path, *, verdicts: bool = False) -> Config:
    noop = {
        name: {"factory": "monitor.detect.noop:build", "options": {"name": name}}
        for name in DetectorsConfig.model_fields
    }
    kafka = broker.kafka(TOPIC, group_id=uuid.uuid4().hex)
    deliver = {"verdicts_topic": "verdicts" if verdicts else ""}
    return Config.model_validate(
        {"instance": "bench", "data_dir": folder, "kafka": kafka, "detectors": noop, "deliver": deliver}
    )


def _bare(config: Config, records: int, clock: Clock) -> float:
    """Seconds a bare kafka-python poll loop takes for all records."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(TOPIC, **{**settings(config.kafka, "bench"), "auto_offset_reset": "earliest"})
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
