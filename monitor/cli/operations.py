"""Commands of those who operate riskmon; `monitor.cli` puts them into `riskmon`."""

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
    from monitor.cli import bench_alerts

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
    from monitor.cli import bench_telemetry as module

    module.run(path, module.Options(**options))


COMMANDS = (doctor, replay, traffic)
