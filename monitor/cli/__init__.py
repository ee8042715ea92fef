"""The `riskmon` command: a module per command, imported when it is asked for, so `--help` answers at once."""

import os
import sys
from importlib import import_module
from typing import Final

import click
from typing_extensions import override

from monitor import errors
from monitor.output import printable

COMMANDS: Final = {
    "audit": "Prove what was judged.",
    "bench": "Measure on this machine.",
    "check": "Check configuration, rules, models, broker and ledger; exit 0 or 78.",
    "decode": "Show how payloads in FORMAT are decoded, field by field.",
    "demo": "Show it all: an embedded broker, realistic traffic, and the daemon.",
    "dlq": "Inspect and requeue records that could not be judged.",
    "doctor": "Connect to everything, and report faults with their remedies.",
    "eval": "Measure a detector on labelled JSONL files.",
    "feedback": "Use flagged samples for retraining.",
    "models": "Show the bundled weights, and export your own checkpoint to a faster file.",
    "outbox": "Show messages that were not delivered, send them again, drop them.",
    "positions": "Show and move the positions that partitions are read from.",
    "replay": "Judge a range of a topic again, without any effect.",
    "rules": "Work on rule files.",
    "run": "Run the daemon until SIGTERM or Ctrl-C; SIGHUP reloads rules and log level.",
    "scan": "Judge a JSONL file of traces; no broker is needed.",
    "schema": "Print the JSON Schema of the native trace, or of verdicts.",
    "spool": "Show received records that wait to be judged.",
    "traffic": "Write synthetic traces to the first configured topic.",
    "version": "Print the version.",
}
"""A command's name, which is its module's, and its line in the help."""


class _Commands(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"{__name__}.{cmd_name}").command  # type: ignore[no-any-return] # a module's

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def riskmon() -> None:
    """Judge LLM traces from Kafka or OTLP/HTTP: hallucination, leaks, toxicity, injection, drift, agents."""


def main() -> None:
    """Run the command line; errors exit 78, altered or damaged data 65, passing troubles 75."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for small arrays spinning threads cost half the speed
    try:
        sys.exit(riskmon(standalone_mode=False))  # click returns the code of `Exit`; commands return None
    except click.Abort:
        sys.exit(130)  # 128 + SIGINT, as shells report it
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (errors.ConfigError, errors.NotFound, errors.Conflict, errors.Tampered, errors.Retryable) as error:
        code = errors.exit_code(error)
        text = f"riskmon: {error}" + "; try again" * (code == errors.EX_TEMPFAIL)
        click.echo("\n".join(map(printable, text.split("\n"))), err=True)
        sys.exit(code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, e.g. `| head`
        sys.exit(141)
