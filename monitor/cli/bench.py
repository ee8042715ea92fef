"""`riskmon bench`: measurements on this machine. Each imports what it needs when it runs."""

from pathlib import Path
from typing import Any

import click

from monitor.cli.shared import config_option, json_option
from monitor.evaluation.labelled import KINDS


@click.group()
def command() -> None:
    """Measure on this machine."""


_external = click.option(
    "--bootstrap-servers",
    "bootstrap",
    metavar="HOST:PORT,…",
    help="A running Kafka with a plaintext listener, instead of the embedded broker.",
)


@command.command("alert")
@config_option
@json_option
@click.option(
    "--leaks", type=click.IntRange(min=1), default=20, show_default=True, help="Leaks measured one by one."
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
def alert(path: Path | None, leaks: int, burst: int, outage: float, *, as_json: bool) -> None:
    """Measure the time from a leak to a real Alertmanager, and the cost of an outage."""
    from monitor.bench import alert as benchmark

    benchmark.run(path, benchmark.AlertOptions(leaks, burst, outage, as_json))


@command.command("decode")
@json_option
@click.option(
    "--records", type=click.IntRange(min=1), default=1000, show_default=True, help="Records of each format."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def decode(records: int, rounds: int, *, as_json: bool) -> None:
    """Measure how fast one core decodes records of each format."""
    from monitor.bench import decode as benchmark

    benchmark.run(records=records, rounds=rounds, as_json=as_json)


@command.command("detect")
@config_option
@json_option
@click.option(
    "--traces", type=click.IntRange(min=8), default=1000, show_default=True, help="Traces per measurement."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Workers, compared with one."
)
@click.option(
    "--price", type=click.FloatRange(min=0), default=0.04, show_default=True, help="Price of a core hour."
)
@click.option("--checkpoint", help="Detoxify checkpoint for the hand-written stack; else random weights.")
@click.option("--checkpoint-config", help="Folder of that model's config.json and tokenizer.")
@click.option(
    "--stack",
    multiple=True,
    type=click.Choice(["presidio", "detoxify", "minilm"]),
    help="Only this part of the hand-written stack; may be given several times.",
)
def detect(
    path: Path | None,
    traces: int,
    rounds: int,
    workers: int,
    price: float,
    checkpoint: str | None,
    checkpoint_config: str | None,
    stack: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Compare the detectors with a hand-written stack, and estimate the cost of a million traces."""
    from monitor.bench import detect as benchmark

    if (checkpoint is None) != (checkpoint_config is None):
        raise click.UsageError("--checkpoint and --checkpoint-config belong together; give both")
    checkpoint_files = (
        {"checkpoint": checkpoint, "config": checkpoint_config} if checkpoint and checkpoint_config else {}
    )
    benchmark.run(
        path, benchmark.DetectOptions(traces, rounds, workers, price, checkpoint_files, stack, as_json)
    )


@command.command("engine")
@json_option
@click.option("--records", type=click.IntRange(min=1000), default=60_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--verdicts", is_flag=True, help="Also write a verdict per trace to the outbox.")
@_external
@click.option("--both", is_flag=True, help="Measure on the embedded broker too, in turn.")
def engine(bootstrap: str | None, *, as_json: bool, **options: Any) -> None:
    """Compare the engine with a bare kafka-python poll loop, interleaved in one run."""
    from monitor.bench import engine as benchmark

    benchmark.engine(bootstrap, benchmark.EngineOptions(**options), as_json=as_json)


@command.command("latency")
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
    help="Share of the full load.",
)
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True)
@_external
def latency(path: Path | None, **options: Any) -> None:
    """Measure the time of traces from a broker to the ledger."""
    from monitor.bench import latency as benchmark

    benchmark.run(path, benchmark.LatencyOptions(**options))


@command.command("profiles")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@config_option
@json_option
@click.option("--limit", type=click.IntRange(min=1), help="At most this many rows of each file.")
def profiles(
    kind: str, files: tuple[Path, ...], path: Path | None, limit: int | None, *, as_json: bool
) -> None:
    """Compare the configured profile's flags with the full profile's, on labelled rows as for eval."""
    from monitor.bench import profiles as benchmark

    benchmark.run(kind, files, path, limit=limit, as_json=as_json)


@command.command("telemetry")
@config_option
@json_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=20.0,
    show_default=True,
    help="Seconds of each arm and round.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--noop", is_flag=True, help="Use no-op detectors, so that the engine is the bottleneck.")
@click.option("--evaluations", is_flag=True, help="Export an evaluation event per assessment, too.")
def telemetry(path: Path | None, **options: Any) -> None:
    """Measure the cost of hanging scrapers and a hanging OTLP endpoint, against answering ones."""
    from monitor.bench import telemetry as benchmark

    benchmark.run(path, benchmark.TelemetryOptions(**options))
