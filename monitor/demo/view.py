"""The demonstration's terminal output: a live picture of the daemon, and a summary that adds up.

Pure functions from `DemoState` to renderables of rich, without any text of a trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor.findings import Severity

WIDTH = 80  # of a terminal by default
SPARK = "▁▂▃▄▅▆▇█"
SPARK_CELLS = 36
RULES_SHOWN = 7
BAR_CELLS = 5
STYLES = {Severity.INFO: "blue", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}


@dataclass(frozen=True, kw_only=True)
class RuleCount:
    """Number of flags of a rule."""

    rule: str
    severity: Severity
    flags: int


@dataclass(frozen=True, kw_only=True)
class DemoState:
    """One moment of a demonstration; counts are totals since its start.

    `rates` are recorded traces per second, oldest first. `detectors` counts flags by detector. `planted`
    counts the traces produced by kind. `textless` counts, by detector, traces that it skipped for want of
    text, and `blind`, by application, those with a text that was there and that nobody saw, of `judged`.
    `phase` is starting, running or draining.
    """

    seconds: float = 0.0
    phase: str = "starting"
    produced: int = 0
    consumed: int = 0
    recorded: int = 0
    dead_lettered: int = 0
    lag_records: int = 0
    lag_seconds: float = 0.0
    rates: Sequence[float] = ()
    detectors: Mapping[str, int] = field(default_factory=dict)
    rules: Sequence[RuleCount] = ()
    alerts: int = 0
    feedback: int = 0
    planted: Mapping[str, int] = field(default_factory=dict)
    judged: int = 0
    textless: Mapping[str, int] = field(default_factory=dict)
    blind: Mapping[str, int] = field(default_factory=dict)
    shifted: bool = False
    metrics_url: str = ""
    health_url: str = ""

    def in_flight(self) -> int:
        """Return the number of records read from the broker but neither recorded nor dead-lettered yet."""
        return self.consumed - self.recorded - self.dead_lettered


def render(state: DemoState) -> RenderableType:
    """Return the live picture, at most 80 columns wide and 20 lines high."""
    body = Group(
        _flow(state),
        Text(),
        _side_by_side(_detectors(state), _rules(state)),
        Text(),
        _outside(state),
    )
    title = Text.assemble(
        ("riskmon demo", "bold"), f" · {state.phase} · {_duration(state.seconds)}", (_topic(state), "magenta")
    )
    hint = "Ctrl-C drains and sums up" if state.phase == "running" else None
    return Panel(body, title=title, subtitle=hint, box=box.ROUNDED, width=WIDTH, border_style="dim")


def summary(state: DemoState) -> RenderableType:
    """Return the final table: where every record went, what was planted and what was flagged."""
    table = Table(box=box.SIMPLE, width=WIDTH, show_header=False, title="Summary", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    adds_up = state.in_flight() == 0
    equation = Text("consumed = recorded + dead-lettered", "green")
    if not adds_up:
        equation = Text(
            f"does not add up: {abs(state.in_flight()):,} records are unaccounted for", "bold red"
        )
    planted = ", ".join(f"{kind} {count:,}" for kind, count in state.planted.items())
    for name, count, note in (
        ("produced", state.produced, Text(planted, "dim")),
        ("consumed", state.consumed, equation),
        ("recorded", state.recorded, Text(f"{_rate(state):,.0f} traces per second", "dim")),
        ("dead-lettered", state.dead_lettered, Text()),
        ("blind", sum(state.blind.values()), _blindness(state)),
        ("flags", sum(rule.flags for rule in state.rules), Text(_by_detector(state), "dim")),
        ("alerts", state.alerts, Text()),
        ("feedback items", state.feedback, Text()),
    ):
        table.add_row(name, f"{count:,}", note)
    return table


def _blindness(state: DemoState) -> Text:
    if not state.blind:
        return Text("every trace could be read", "dim")
    return Text(f"no text from {', '.join(sorted(state.blind))}: not judged, not clean", "bold red")


def sparkline(values: Sequence[float], cells: int = SPARK_CELLS) -> str:
    """Return the last values as bars, the highest one full; one cell per value, up to `cells`."""
    last = values[-cells:]
    top = max(last, default=0.0)
    if top <= 0:
        return SPARK[0] * len(last)
    return "".join(SPARK[min(len(SPARK) - 1, int(value / top * len(SPARK)))] for value in last)


def _flow(state: DemoState) -> Table:
    grid = Table.grid(padding=(0, 2))
    now = state.rates[-1] if state.rates else 0.0
    grid.add_row(
        Text("throughput", "dim"), Text.assemble((sparkline(state.rates), "cyan"), f" {now:,.0f} traces/s")
    )
    behind = "green" if state.lag_seconds < 5 else "yellow"  # noqa: PLR2004 - a page would come much later
    grid.add_row(
        Text("lag", "dim"),
        Text(f"{state.lag_records:,} records, {state.lag_seconds:.1f} s behind", behind),
    )
    grid.add_row(
        Text("consumed", "dim"),
        Text.assemble(
            f"{state.consumed:,} = {state.recorded:,} recorded + ",
            (f"{state.dead_lettered:,} dead-lettered", "red" if state.dead_lettered else ""),
            (f" + {state.in_flight():,} in flight", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        ),
    )
    blind = sum(state.blind.values())
    grid.add_row(
        Text("judged", "dim"),
        Text.assemble(
            f"{state.judged:,} = {state.judged - blind:,} readable + ",
            (f"{blind:,} blind", "bold red" if blind else ""),
            (f": {', '.join(sorted(state.blind))}" if blind else "", "red"),
            no_wrap=True,
            overflow="ellipsis",
        ),
    )
    return grid


def _side_by_side(left: RenderableType, right: RenderableType) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=34)
    grid.add_column(width=38)
    grid.add_row(left, right)
    return grid


def _detectors(state: DemoState) -> Group:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=13)
    table.add_column(width=6, justify="right")
    table.add_column(width=BAR_CELLS)
    table.add_column(width=7, justify="right")
    top = max(state.detectors.values(), default=0)
    for name, flags in state.detectors.items():
        bar = "━" * (0 if not flags else max(1, round(BAR_CELLS * flags / top)))
        textless = state.textless.get(name, 0)
        table.add_row(
            Text(name), f"{flags:,}", Text(bar, "cyan"), Text(f"{textless:,}", "red" if textless else "dim")
        )
    return Group(Text.assemble(("flags by detector", "bold"), ("          no text", "dim")), table)


def _rules(state: DemoState) -> Group:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=30, no_wrap=True, overflow="ellipsis")
    table.add_column(width=7, justify="right")
    most = sorted(state.rules, key=lambda rule: (-rule.flags, rule.rule))
    for rule in most[:RULES_SHOWN]:
        table.add_row(Text(rule.rule, STYLES[rule.severity]), f"{rule.flags:,}")
    if rest := most[RULES_SHOWN:]:
        table.add_row(Text(f"{len(rest)} more", "dim"), f"{sum(rule.flags for rule in rest):,}")
    return Group(Text("flags by rule", "bold"), table)


def _outside(state: DemoState) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("sent", "dim"), Text(f"{state.alerts:,} alerts, {state.feedback:,} samples for retraining")
    )
    grid.add_row(Text("metrics", "dim"), Text(state.metrics_url, "blue", no_wrap=True))
    grid.add_row(Text("health", "dim"), Text(state.health_url, "blue", no_wrap=True))
    return grid


def _topic(state: DemoState) -> str:
    return " · topics have shifted" if state.shifted else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _rate(state: DemoState) -> float:
    return state.recorded / state.seconds if state.seconds > 0 else 0.0


def _by_detector(state: DemoState) -> str:
    return ", ".join(f"{name} {flags:,}" for name, flags in state.detectors.items())
