"""The live view: compact, complete, and honest about sums."""

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from monitor.demo.view import SPARK, DemoState, RuleCount, render, sparkline, summary
from monitor.findings import Severity

STATE = DemoState(
    seconds=83.4,
    phase="running",
    produced=12_400,
    consumed=12_345,
    recorded=12_300,
    dead_lettered=5,
    lag_records=55,
    lag_seconds=0.4,
    rates=[10, 40, 80, 120, 160],
    detectors={"hallucination": 240, "pii": 251, "toxicity": 238, "injection": 190, "drift": 3},
    rules=[
        RuleCount(rule="PersonalDataLeak", severity=Severity.CRITICAL, flags=120),
        RuleCount(rule="UnsupportedAnswer", severity=Severity.WARNING, flags=240),
        RuleCount(rule="TopicDrift", severity=Severity.INFO, flags=3),
    ],
    alerts=41,
    feedback=729,
    planted={"ordinary": 6_076, "rag": 5_580},
    judged=12_300,
    textless={"pii": 7},
    blind={"support-bot": 7},
    shifted=True,
    metrics_url="http://127.0.0.1:9469/metrics",
    health_url="http://127.0.0.1:9469/readyz",
)


def printed(renderable: RenderableType, width: int = 80) -> str:
    """What a terminal of this width shows, without colours."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(renderable)
    return console.export_text()


def test_the_live_picture_shows_everything() -> None:
    """Throughput, lag, counts, flags by detector and rule, deliveries and addresses are all there."""
    picture = printed(render(STATE))
    for part in (
        "running · 1:23 · topics have shifted",
        "▁▃▅▇█ 160 traces/s",
        "55 records, 0.4 s behind",
        "12,345 = 12,300 recorded + 5 dead-lettered + 40 in flight",
        "12,300 = 12,293 readable + 7 blind: support-bot",
        "hallucination    240 ━━━━━       0",
        "pii              251 ━━━━━       7",
        "UnsupportedAnswer                  240",
        "41 alerts, 729 samples for retraining",
        "http://127.0.0.1:9469/metrics",
        "http://127.0.0.1:9469/readyz",
        "Ctrl-C drains and sums up",
    ):
        assert part in picture, picture


def test_rules_are_sorted_and_the_tail_is_summed() -> None:
    """The most frequent rules come first and those that do not fit are one line that adds them up."""
    rules = [RuleCount(rule=f"Rule{n:02}", severity=Severity.INFO, flags=n) for n in range(20)]
    lines = printed(render(replace(STATE, rules=rules))).splitlines()
    shown = [line for line in lines if "Rule" in line]
    assert "Rule19" in shown[0]
    assert len(shown) == 7
    assert any("13 more" in line and "78" in line for line in lines)


@settings(max_examples=50)  # laying out a table takes rich some hundredths of a second
@given(
    st.builds(
        DemoState,
        consumed=st.integers(0, 10**9),
        recorded=st.integers(0, 10**9),
        lag_records=st.integers(0, 10**9),
        lag_seconds=st.floats(0, 1e5),
        rates=st.lists(st.floats(0, 1e5), max_size=100),
        detectors=st.dictionaries(
            st.from_regex(r"[a-z]{1,13}", fullmatch=True), st.integers(0, 10**6), max_size=4
        ),
        rules=st.lists(
            st.builds(
                RuleCount,
                rule=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=60),
                severity=st.sampled_from(Severity),
                flags=st.just(1),
            ),
            max_size=30,
        ),
    )
)
def test_the_picture_never_outgrows_the_terminal(state: DemoState) -> None:
    """Whatever the numbers and names, it is 80 columns wide and 20 lines high at most."""
    lines = printed(render(state), width=120).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) <= 20


def test_markup_in_names_is_shown_as_it_is() -> None:
    """A rule called like rich's markup changes no style and raises nothing."""
    odd = RuleCount(rule="[bold]x[/nope]", severity=Severity.INFO, flags=1)
    assert "[bold]x[/nope]" in printed(render(replace(STATE, rules=[odd])))


def test_the_summary_adds_up() -> None:
    """The final table lists every count and confirms the equation."""
    text = printed(summary(replace(STATE, consumed=12_305)))
    for part in ("produced", "12,400", "12,305", "12,300", "363", "729", "147 traces per second"):
        assert part in text, text
    assert "consumed = recorded + dead-lettered" in text


@pytest.mark.parametrize("consumed", [12_345, 12_300])
def test_a_summary_that_does_not_add_up_says_so(consumed: int) -> None:
    """Records that are missing, or too many, are named instead of the equation."""
    text = printed(summary(replace(STATE, consumed=consumed)))
    assert f"does not add up: {abs(consumed - 12_305):,} records" in text
    assert "consumed = recorded" not in text


@given(st.lists(st.floats(0, 1e6), max_size=60))
def test_a_sparkline_has_one_bar_per_value(values: list[float]) -> None:
    """Up to the width each value has a bar, the highest is full, and bars keep the order of values."""
    bars = sparkline(values, 36)
    last = values[-36:]
    assert len(bars) == len(last)
    assert set(bars) <= set(SPARK)
    if last and max(last) > 0:
        assert bars[last.index(max(last))] == SPARK[-1]
    heights = [bar for _, bar in sorted(zip(last, map(SPARK.index, bars), strict=True))]
    assert heights == sorted(heights)


def test_nothing_yet_is_a_picture_too() -> None:
    """Before the first record there is a view with zeros and without a division by zero."""
    assert "0 = 0 recorded + 0 dead-lettered" in printed(render(DemoState()))
    assert "0 traces per second" in printed(summary(DemoState()))
