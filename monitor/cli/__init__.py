"""The `riskmon` command. Each sub-command imports what it needs when it runs, so `--help` answers at once."""

import os
import sys
from pathlib import Path
from typing import IO, Any

import click

from monitor import __version__
from monitor.cli import operations
from monitor.cli.options import config_option as _config
from monitor.cli.options import json_option as _json
from monitor.errors import EX_CONFIG, ConfigError, Retryable

EX_DATAERR = 65  # sysexits.h
EX_TEMPFAIL = 75


def main() -> None:
    """Run the command line; configuration errors exit 78, passing troubles 75."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for small arrays spinning threads cost half the speed
    try:
        sys.exit(riskmon(standalone_mode=False))  # click returns the code of `Exit`; commands return None
    except click.Abort:
        sys.exit(130)  # 128 + SIGINT, as shells report it
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConfigError as error:
        click.echo(f"riskmon: {error}", err=True)
        sys.exit(EX_CONFIG)
    except Retryable as error:
        click.echo(f"riskmon: {error}; try again", err=True)
        sys.exit(EX_TEMPFAIL)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, e.g. `| head`
        sys.exit(141)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def riskmon() -> None:
    """Judge every LLM trace in Kafka: hallucination, leaks, toxicity, injection, drift, agent runs."""


for _command in operations.COMMANDS:
    riskmon.add_command(_command)


@riskmon.command()
@_config
@click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True)
def run(path: Path | None, log_format: str) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which drain it. SIGHUP reloads the rules."""
    from monitor.config import load
    from monitor.daemon.daemon import Daemon
    from monitor.telemetry.logging import configure

    config = load(path)
    configure(config.telemetry.log_level, form="console" if log_format == "console" else "json")
    daemon = Daemon(config, reread=lambda: load(path))
    daemon.handle_signals()
    daemon.run()


@riskmon.command()
@_config
@_json
@click.option(
    "--settings", "list_settings", is_flag=True, help="List every setting, its variable and default."
)
@click.option("--offline", is_flag=True, help="Do not connect to the broker.")
def check(path: Path | None, *, as_json: bool, list_settings: bool, offline: bool) -> None:
    """Check configuration, rules, models, broker and ledger; exit 0 or 78."""
    from monitor.cli import checks

    if list_settings:
        checks.print_settings(as_json=as_json)
    elif not checks.run(path, as_json=as_json, offline=offline):
        raise click.exceptions.Exit(EX_CONFIG)


@riskmon.command()
@click.argument("file", type=click.Path(allow_dash=True))
@_config
@_json
def scan(file: str, path: Path | None, *, as_json: bool) -> None:
    """Judge a JSONL file of traces (`-`: standard input) without a broker."""
    from monitor.cli import scanning

    scanning.run(file, path, as_json=as_json)


@riskmon.command("decode")
@click.argument("form", metavar="FORMAT")
@click.argument("file", type=click.Path(allow_dash=True))
@_config
@_json
@click.option("--raw", is_flag=True, help="Print texts as they are instead of redacted previews.")
def decode_file(form: str, file: str, path: Path | None, *, as_json: bool, raw: bool) -> None:
    """Show what is made of payloads in FORMAT, field by field, and what is not used; exit 0 or 65.

    FORMAT is one that `ingest.format` takes, `auto` included. FILE (`-`: standard input) holds one payload or
    a JSON object per line.
    """
    from monitor.cli import decoding

    if not decoding.run(form, file, path, as_json=as_json, raw=raw):
        raise click.exceptions.Exit(EX_DATAERR)


@riskmon.command("eval")
@click.argument("kind", type=click.Choice(["hallucination", "toxicity", "pii", "injection"]))
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@_config
@click.option(
    "--profile", type=click.Choice(["default", "full", "offline"]), help="Instead of the configured one."
)
@click.option(
    "--compare", is_flag=True, help="Measure installed peers and published scores on the same rows."
)
@click.option(
    "--anchors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="With --compare: a file of scores per row; else those in a folder `anchors` beside the data.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for ROC and reliability diagrams.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Only so many rows of each file, from its beginning."
)
@click.option(
    "--negatives", is_flag=True, help="Rows without a label or spans are negative, e.g. plain chat."
)
@click.option(
    "--types", help="pii: count only these types, with commas; for data that labels only some, e.g. PERSON."
)
@click.option("--categories", is_flag=True, help="Also by the rows' `category` (always in the JSON).")
@_json
def evaluate(kind: str, files: tuple[Path, ...], path: Path | None, **options: Any) -> None:
    """Measure a detector on labelled JSONL files, as the daemon would judge them."""
    from monitor import evaluation

    types = (options.pop("types") or "").split(",")
    asked = evaluation.Options(types=tuple(t.strip().upper() for t in types if t.strip()), **options)
    evaluation.run(kind, files, path, asked)


@riskmon.command()
@click.option("--seconds", type=click.FloatRange(min=5), help="End by itself after this long.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1, max=2000),
    default=50.0,
    show_default=True,
    help="Traces per second.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of metrics and health; 0 takes a free one."
)
@_json
def demo(seconds: float | None, rate: float, port: int, *, as_json: bool) -> None:
    """Show it all: an embedded broker, realistic traffic, and the daemon judging it."""
    from monitor.demo import run as demonstration

    demonstration.run(seconds=seconds, rate=rate, port=port, as_json=as_json)


@riskmon.group()
def rules() -> None:
    """Work on rule files."""


@rules.command("test")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@_json
def rules_test(paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Run the tests inside rule files (default: the packs that come with riskmon)."""
    from monitor.cli import records

    if not records.test_rules(paths, as_json=as_json):
        raise click.exceptions.Exit(1)


@riskmon.group()
def audit() -> None:
    """Prove what was judged."""


@audit.command("verify")
@_config
@_json
def audit_verify(path: Path | None, *, as_json: bool) -> None:
    """Verify that nothing was altered, skipped or judged twice; exit 0 or 1."""
    from monitor.cli import records

    if not records.verify(path, as_json=as_json):
        raise click.exceptions.Exit(1)


@riskmon.group()
def dlq() -> None:
    """Look after records that could not be judged."""


@dlq.command("list")
@_config
@_json
@click.option("--reason", help="Only those with this reason.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
def dlq_list(path: Path | None, reason: str | None, limit: int, *, as_json: bool) -> None:
    """List dead letters, oldest first."""
    from monitor.cli import records

    records.list_letters(path, reason=reason, limit=limit, as_json=as_json)


@dlq.command("show")
@click.argument("letter", type=int)
@_config
@click.option("--raw", is_flag=True, help="Write the original value's bytes and nothing else.")
def dlq_show(letter: int, path: Path | None, *, raw: bool) -> None:
    """Decrypt one dead letter. Its content may be personal data."""
    from monitor.cli import records

    records.show_letter(path, letter, raw=raw)


@dlq.command("requeue")
@click.argument("letters", type=int, nargs=-1)
@_config
@click.option("--all", "everything", is_flag=True, help="All that were not requeued yet.")
def dlq_requeue(letters: tuple[int, ...], path: Path | None, *, everything: bool) -> None:
    """Send dead letters to their topics again, e.g. after an upgrade that can read them."""
    from monitor.cli import records

    records.requeue_letters(path, list(letters), everything=everything)


@riskmon.group()
def feedback() -> None:
    """Use flagged samples for retraining."""


@feedback.command("export")
@_config
@click.option("--format", "form", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
@click.option(
    "--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="File to write."
)
def feedback_export(path: Path | None, form: str, output: IO[str]) -> None:
    """Write redacted, deduplicated samples."""
    from monitor.cli import records

    records.export_feedback(path, form, output)


@riskmon.group()
def positions() -> None:
    """See and move where partitions are read from."""


@positions.command("list")
@_config
@_json
def positions_list(path: Path | None, *, as_json: bool) -> None:
    """List every partition the ledger knows."""
    from monitor.cli import records

    records.list_positions(path, as_json=as_json)


@positions.command("move")
@click.argument("topic")
@click.argument("partition", type=int)
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--reason", required=True, help="Why; goes on the audit chain.")
@_config
def positions_move(topic: str, partition: int, offset: int, reason: str, path: Path | None) -> None:
    """Read a partition on from OFFSET, e.g. past a corrupt batch; goes on the audit chain."""
    from monitor.cli import records

    records.move_position(path, topic, partition, offset, reason)


@riskmon.group()
def spool() -> None:
    """See what was received and waits to be judged."""


@spool.command("list")
@_config
@_json
def spool_list(path: Path | None, *, as_json: bool) -> None:
    """List what waits per instance; one that is gone left it until a daemon of its name runs again."""
    from monitor.cli import records

    records.list_spools(path, as_json=as_json)


@riskmon.group("models")
def weights() -> None:
    """See the bundled weights, and make a checkpoint of yours cheaper to run."""


@weights.command("list")
@_json
def models_list(*, as_json: bool) -> None:
    """List the bundled weights: size, state, version, what made them, model card."""
    from monitor.cli import models

    models.show(as_json=as_json)


@weights.command("verify")
@_json
def models_verify(*, as_json: bool) -> None:
    """Check that every bundled weight is the pinned one; exit 0 or 1."""
    from monitor.cli import models

    if not models.show(as_json=as_json):
        raise click.exceptions.Exit(1)


@weights.group("export")
def models_export() -> None:
    """Turn a checkpoint into an ONNX file, checked to score alike."""


@models_export.command("detoxify")
@click.option("--checkpoint", required=True, help="Detoxify checkpoint (.ckpt).")
@click.option("--config", "folder", required=True, help="Folder of the model's config.json and tokenizer.")
@click.option(
    "--type",
    "model_type",
    type=click.Choice(["original", "unbiased", "multilingual"]),
    default="original",
    show_default=True,
    help="Which of Detoxify's models it is.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, ending in .onnx; the report goes beside it, ending in .json.",
)
@click.option("--int8", is_flag=True, help="Quantise: a quarter of the size, about three times as fast.")
@_json
def models_export_detoxify(
    checkpoint: str, folder: str, model_type: str, out: Path, *, int8: bool, as_json: bool
) -> None:
    """Export Detoxify; exit 78 and write nothing when the scores differ."""
    from monitor.cli import models

    models.export_detoxify(
        checkpoint, config=folder, model_type=model_type, out=out, int8=int8, as_json=as_json
    )


@riskmon.group()
def bench() -> None:
    """Measure on this machine."""


for _command in operations.BENCHMARKS:
    bench.add_command(_command)


@bench.command("decode")
@_json
@click.option(
    "--records", type=click.IntRange(min=1), default=1000, show_default=True, help="Of each format."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def bench_decoders(records: int, rounds: int, *, as_json: bool) -> None:
    """Measure how fast one core decodes records of each format."""
    from monitor.bench import decode

    decode.run(records=records, rounds=rounds, as_json=as_json)


@bench.command("detect")
@_config
@_json
@click.option(
    "--traces", type=click.IntRange(min=8), default=1000, show_default=True, help="Per measurement."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Compared with one worker."
)
@click.option(
    "--price", type=click.FloatRange(min=0), default=0.04, show_default=True, help="Of a core hour."
)
@click.option("--checkpoint", help="Detoxify checkpoint for the hand-written stack; else random weights.")
@click.option("--checkpoint-config", help="Folder of that model's config.json and tokenizer.")
@click.option(
    "--stack",
    multiple=True,
    type=click.Choice(["presidio", "detoxify", "minilm"]),
    help="Only these of the hand-written stack; may be given several times.",
)
def bench_detectors(
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
    """Compare the detectors with a stack written by hand, and say what a million traces cost."""
    from monitor.bench import detect

    if (checkpoint is None) != (checkpoint_config is None):
        raise click.UsageError("--checkpoint and --checkpoint-config belong together; give both")
    given = (
        {"checkpoint": checkpoint, "config": checkpoint_config} if checkpoint and checkpoint_config else {}
    )
    detect.run(path, detect.Options(traces, rounds, workers, price, given, stack, as_json))


@bench.command("profiles")
@click.argument("kind", type=click.Choice(["hallucination", "toxicity", "pii", "injection"]))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@_config
@_json
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows of each file.")
def bench_profiles_of(
    kind: str, files: tuple[Path, ...], path: Path | None, limit: int | None, *, as_json: bool
) -> None:
    """Count how much of what the full profile flags the configured one flags too, on rows as of eval."""
    from monitor.bench import profiles

    profiles.run(kind, files, path, limit=limit, as_json=as_json)


@riskmon.command()
@click.argument("what", type=click.Choice(["trace", "verdict"]), default="trace")
def schema(what: str) -> None:
    """Print the JSON Schema of the native trace, or of the verdicts that are published."""
    import json

    from monitor.ingest.native import schema as native_schema
    from monitor.verdict import schema as verdict_schema

    click.echo(json.dumps(native_schema() if what == "trace" else verdict_schema(), indent=2))


@riskmon.command()
@_json
def version(*, as_json: bool) -> None:
    """Print the version."""
    click.echo(f'{{"version": "{__version__}"}}' if as_json else f"riskmon {__version__}")
