"""`riskmon bench detect`: cost of judging every trace, compared with a stack written by hand.

Each round measures everything once, in turn, so that a machine whose speed changes changes it for all.
Figures are medians over the rounds; the ratio is formed within a round.
"""

import contextlib
import functools
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.bench.arms import BATCH, Alone, Arm, DaemonProcess, Handwritten, Timing
from monitor.bench.traces import characters, traces
from monitor.config import load
from monitor.detect import tiers
from monitor.output import as_json as to_json

SEED: Final = 20261122
HANDWRITTEN_SHARE: Final = 20  # it gets one trace in this many
BAR: Final = 24  # characters
_HOUR, _MILLION, _MIB = 3600.0, 1e6, 2**20


class DetectOptions(NamedTuple):
    """Options of the command. `price` is the cost of a core hour, in any currency."""

    traces: int
    rounds: int
    workers: int
    price: float
    checkpoint: Mapping[str, str]
    stack: Sequence[str] = ()
    as_json: bool = False


class _Round(NamedTuple):
    one_worker: Timing
    all_workers: Timing
    alone: Mapping[str, Timing]
    handwritten: Timing | None
    models: Mapping[str, Timing]


def run(path: Path | None, options: DetectOptions) -> None:
    """Measure and print. Raises ConfigError for a configuration whose detectors cannot be built."""
    config = load(path)
    absent = [
        f"{tier.detector}, tier {tier.tier} ({tier.name}): {tier.cost}"
        for tier in tiers(config)
        if not tier.present
    ]
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Arm(DaemonProcess, config))
        alone = stack.enter_context(Arm(Alone, config))
        peers = stack.enter_context(Arm(Handwritten, dict(options.checkpoint), tuple(options.stack)))
        names, missing, notes = peers.call("about")
        rounds = []
        for number in range(options.rounds):
            rounds.append(_round(daemon, alone, peers if names else None, number, options))
            _tell(number, rounds[-1], options)
    sizes = [characters(record) for record in traces(min(options.traces, 200), SEED)]
    result = summary(rounds, options)
    result |= {
        "notes": [*notes, "the three read one text that joins all of a trace"] if names else notes,
        "missing": [*missing, *absent],
        "trace_characters": round(statistics.mean(sizes)),
        "traces": options.traces,
        "rounds": options.rounds,
        "profile_name": config.profile,
        "python": sys.version.split()[0],
    }
    if options.as_json:
        click.echo(to_json(result))
    else:
        _show(result)


def _round(daemon: Arm, alone: Arm, peers: Arm | None, number: int, options: DetectOptions) -> _Round:
    """Measure everything once, on traces that no other measurement of the run has seen."""
    seed = SEED + 10 * number
    warm = traces(BATCH, seed + 1)
    few = max(2, options.traces // HANDWRITTEN_SHARE)
    return _Round(
        daemon.call("measure", 1, warm, traces(options.traces, seed + 2)),
        daemon.call("measure", options.workers, warm, traces(options.traces, seed + 3)),
        alone.call("measure", warm, traces(max(few, options.traces // 4), seed + 4)),
        peers.call("one_by_one", traces(few, seed + 5)) if peers else None,
        peers.call("batched", traces(few, seed + 6)) if peers else {},
    )


def summary(rounds: Sequence[_Round], options: DetectOptions) -> dict[str, Any]:
    """Return the measured figures of all rounds: medians, and the spread of ratios.

    `ratio` is of traces per second, on all cores; `cpu_ratio` of the CPU time per trace, which a busy machine
    changes less.
    `outside_detectors_share` is the share of the wall time of a run with one worker in which that worker was
    at no detector: waiting, reading, writing. `cpu_seconds_per_trace` counts all processes of the daemon.
    """
    rate = statistics.median(run.all_workers.rate() for run in rounds)
    cpu = [run.all_workers.cpu / run.all_workers.traces for run in rounds if run.all_workers.cpu is not None]
    hours = statistics.median(cpu) * _MILLION / _HOUR if cpu else None
    peaks = [run.all_workers.peak_bytes for run in rounds if run.all_workers.peak_bytes is not None]
    outside = [1.0 - sum(run.one_worker.parts.values()) / run.one_worker.seconds for run in rounds]
    result: dict[str, Any] = {
        "profile": {
            "traces_per_second": _rounded(rate),
            "workers": options.workers,
            "traces_per_second_one_worker": _rounded(
                statistics.median(run.one_worker.rate() for run in rounds)
            ),
        },
        "handwritten": None,
        "ratio": None,
        "cpu_ratio": None,
        "scaling": _rounded(
            statistics.median(run.all_workers.rate() / run.one_worker.rate() for run in rounds)
        ),
        "detectors": _table([run.alone for run in rounds]),
        "models": _table([run.models for run in rounds]),
        "peak_rss_mib": round(max(peaks) / _MIB) if peaks else None,
        "outside_detectors_share": _rounded(statistics.median(outside)),
        "cpu_hours_per_million": _rounded(hours) if hours is not None else None,
        "cost_per_million": _rounded(hours * options.price) if hours is not None else None,
        "price_per_core_hour": options.price,
    }
    handwritten = [run.handwritten for run in rounds if run.handwritten is not None]
    if handwritten:
        pairs = [(run.all_workers, run.handwritten) for run in rounds if run.handwritten is not None]
        by_hand = statistics.median(map(_busy, handwritten)) * _MILLION / _HOUR
        result["handwritten"] = {
            "traces_per_second": _rounded(statistics.median(run.rate() for run in handwritten)),
            "cpu_hours_per_million": _rounded(by_hand),
            "cost_per_million": _rounded(by_hand * options.price),
            "peak_rss_mib": round(max(run.peak_bytes or 0 for run in handwritten) / _MIB) if peaks else None,
            "milliseconds": {
                name: _rounded(statistics.median(1e3 * run.parts[name] / run.traces for run in handwritten))
                for name in handwritten[0].parts
            },
        }
        result["ratio"] = _spread([daemon.rate() / peer.rate() for daemon, peer in pairs])
        if cpu:
            result["cpu_ratio"] = _spread([_busy(peer) / _busy(daemon) for daemon, peer in pairs])
    return result


def _busy(timing: Timing) -> float:
    """Return CPU seconds per trace."""
    return (timing.cpu or 0.0) / timing.traces


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": _rounded(statistics.median(values)),
        "min": _rounded(min(values)),
        "max": _rounded(max(values)),
    }


def _table(rounds: Sequence[Mapping[str, Timing]]) -> dict[str, Any]:
    """Return per name: traces per second and, on one core, milliseconds of CPU per trace."""
    return {
        name: {
            "traces_per_second": _rounded(statistics.median(run[name].rate() for run in rounds)),
            "cpu_milliseconds": _rounded(statistics.median(1e3 * _busy(run[name]) for run in rounds)),
        }
        for name in (rounds[0] if rounds else ())
    }


def _tell(number: int, timings: _Round, options: DetectOptions) -> None:
    by_hand = f", {timings.handwritten.rate():.2f} by hand" if timings.handwritten else ""
    click.echo(
        f"round {number + 1}/{options.rounds}: {timings.one_worker.rate():.0f} traces/s with 1 worker,"
        f" {timings.all_workers.rate():.0f} with {options.workers}{by_hand}",
        err=True,
    )


def _show(result: Mapping[str, Any]) -> None:
    console = Console()
    table = Table("", "traces/s", "CPU ms per trace", "", title="One process each", title_justify="left")
    for column in table.columns[1:3]:
        column.justify = "right"
    rows = {**result["detectors"], **{f"{name}, batched": row for name, row in result["models"].items()}}
    most = max((row["cpu_milliseconds"] for row in rows.values()), default=0.0)
    for name, row in rows.items():
        bar = Text("█" * round(BAR * row["cpu_milliseconds"] / most)) if most else Text()
        table.add_row(name, f"{row['traces_per_second']:,}", f"{row['cpu_milliseconds']:,}", bar)
    console.print(table)
    say = functools.partial(console.print, soft_wrap=True, highlight=False)
    profile, handwritten, ratio = result["profile"], result["handwritten"], result["ratio"]
    say(
        f"riskmon, profile {result['profile_name']}: {profile['traces_per_second']:,} traces/s with"
        f" {profile['workers']} workers, {profile['traces_per_second_one_worker']:,} with one"
        f" ({result['scaling']} times)"
    )
    if handwritten is not None:
        say(
            f"by hand, one trace at a time: {handwritten['traces_per_second']:,} traces/s;"
            f" riskmon does {ratio['median']} times as many ({ratio['min']} to {ratio['max']})"
        )
    if result["cpu_hours_per_million"] is not None:
        by_hand = f"; by hand {handwritten['cost_per_million']:,}" if handwritten is not None else ""
        say(
            f"a million traces: {result['cpu_hours_per_million']:,} CPU hours, {result['cost_per_million']:,}"
            f" at {result['price_per_core_hour']} per core and hour{by_hand}"
        )
    memory = result["peak_rss_mib"]
    say(
        f"peak memory {memory if memory is not None else 'unknown'} MiB;"
        f" {result['outside_detectors_share']:.1%} of the time outside the detectors"
    )
    for line in result["notes"]:
        say(Text(f"note: {line}"))
    for line in result["missing"]:
        say(Text(f"missing: {line}"))


def _rounded(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")
