"""Commands of those who operate riskmon or measure it as a whole; `monitor.cli` puts them into `riskmon`."""

from pathlib import Path
from typing import Any

import click

from monitor.cli.options import config_option, json_option


@click.command()
@config_option
@json_option
def doctor(path: Path | None, *, as_json: bool) -> None:
    """Connect to everything, and say what is wrong and what to do; exit 0, 1 or 78."""
    from monitor.cli import diagnosis

    code = diagnosis.run(path, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


@click.command()
@config_option
@json_option
@click.option("--from", "start", required=True, help="First offset, or a time such as 2026-11-28T09:00Z.")
@click.option("--to", "stop", help="Offset or time to stop before; without it, the end.")
@click.option("--topic", help="Instead of the configured ones.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this one.")
@click.option(
    "--rules",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rule file or folder, instead of the configured ones; may be given several times.",
)
@click.option("--diff", is_flag=True, help="Compare with what the ledger recorded.")
def replay(path: Path | None, start: str, stop: str | None, paths: tuple[Path, ...], **options: Any) -> None:
    """Judge a range of a topic once more, without any effect, and show what would change."""
    from monitor.cli import replaying

    begin, end = replaying.point(start), replaying.point(stop) if stop else None
    replaying.run(path, replaying.Options(begin, end, rules=paths, **options))


@click.command()
@config_option
@click.option("--rate", type=click.FloatRange(1, 2000), default=20.0, show_default=True, help="Per second.")
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after this long.")
def traffic(path: Path | None, rate: float, seconds: float | None) -> None:
    """Write made-up traces to the first configured topic, some with something to find."""
    from monitor.demo import run as demonstration

    demonstration.traffic(path, rate=rate, seconds=seconds)


@click.command("alert")
@config_option
@json_option
@click.option(
    "--leaks", type=click.IntRange(min=1), default=20, show_default=True, help="Measured one by one."
)
@click.option(
    "--burst", type=click.IntRange(min=1), default=500, show_default=True, help="Leaks sent at once."
)
@click.option(
    "--outage",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds without Alertmanager.",
)
def bench_alert(path: Path | None, leaks: int, burst: int, outage: float, *, as_json: bool) -> None:
    """Measure how long a leak takes to a real Alertmanager, and what an outage of it costs."""
    from monitor.bench import alert as bench_alerts

    bench_alerts.run(path, bench_alerts.Options(leaks, burst, outage, as_json))


@click.command("telemetry")
@config_option
@json_option
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Of each arm and round."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--noop", is_flag=True, help="No-op detectors, so that the engine is what limits.")
@click.option("--evaluations", is_flag=True, help="Export an evaluation event per assessment, too.")
def bench_telemetry(path: Path | None, **options: Any) -> None:
    """Measure what it costs when scrapers and the OTLP endpoint hang, against those that answer."""
    from monitor.bench import telemetry as module

    module.run(path, module.Options(**options))


_external = click.option(
    "--bootstrap-servers",
    "bootstrap",
    metavar="HOST:PORT,…",
    help="A Kafka that runs and takes clients in plain text, instead of the embedded broker.",
)


@click.command("engine")
@json_option
@click.option("--records", type=click.IntRange(min=1000), default=60_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--verdicts", is_flag=True, help="Also write a verdict per trace to the outbox.")
@_external
@click.option("--both", is_flag=True, help="Measure on the embedded broker too, in turn.")
def bench_engine(bootstrap: str | None, *, as_json: bool, **options: Any) -> None:
    """Compare the engine with a bare kafka-python poll loop, interleaved in one run."""
    from monitor.bench import engine as benchmarks

    benchmarks.engine(bootstrap, benchmarks.Options(**options), as_json=as_json)


@click.command("latency")
@config_option
@json_option
@click.option(
    "--rate", type=click.FloatRange(min=1), help="Traces per second; else a share of the full load."
)
@click.option(
    "--share",
    type=click.FloatRange(0.01, 2.0),
    default=0.7,
    show_default=True,
    help="Of what can be carried.",
)
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True)
@_external
def bench_latencies(path: Path | None, **options: Any) -> None:
    """Measure how long traces take from a broker to the ledger."""
    from monitor.bench import latency as bench_latency

    bench_latency.run(path, bench_latency.Options(**options))


COMMANDS = (doctor, replay, traffic)
BENCHMARKS = (bench_alert, bench_engine, bench_latencies, bench_telemetry)
