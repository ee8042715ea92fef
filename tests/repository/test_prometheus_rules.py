"""The Prometheus rules: valid, tested by promtool, and tested in earnest (a changed threshold is noticed)."""

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT
from external import exported_series, metrics_in, need

from monitor.telemetry.catalogue import FAMILIES
from monitor.telemetry.rates import Sums, estimate

pytestmark = pytest.mark.monitoring

FOLDER = ROOT / "rules" / "prometheus"
RULES = FOLDER / "riskmon.rules.yml"
OBJECTIVES = FOLDER / "objectives.rules.yml"
TESTS = {
    RULES: (FOLDER / "riskmon.tests.yml", FOLDER / "hours.tests.yml", FOLDER / "windows.tests.yml"),
    OBJECTIVES: (FOLDER / "objectives.tests.yml", FOLDER / "windows.tests.yml"),
}
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def rules(kind: str, *files: Path) -> dict[str, dict[str, Any]]:
    """Rules of a kind (`alert` or `record`) by name."""
    groups = [group for path in files or TESTS for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def run_tests(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """`promtool test rules` in a folder that holds rules and tests."""
    command = [need("promtool"), "test", "rules", *names]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` has no complaint."""
    command = [need("promtool"), "check", "rules", *map(str, TESTS)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "tests", sorted({path for paths in TESTS.values() for path in paths}), ids=lambda p: p.stem
)
def test_the_rules_pass_their_own_tests(tests: Path) -> None:
    """`promtool test rules` passes."""
    done = run_tests(FOLDER, tests.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_test_wants_the_last_digit_of_a_rate() -> None:
    """Versions differ in it: what is expected of a recorded series is rounded or counted."""
    for path in {path for paths in TESTS.values() for path in paths}:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for asked in test.get("promql_expr_test", []):
                assert re.match(r"(round|count)\b", asked["expr"]), (path.name, asked["expr"])


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", [-1, 1])
def test_the_rules_do_not_care_which_ends_belong_to_a_range(milliseconds: int, tmp_path: Path) -> None:
    """A sample at the very begin of a range counts until Prometheus 2, no longer in 3; no test depends on it.

    A range a millisecond shorter or longer is one with its begin left out or let in, in either version.
    """
    for path in TESTS:
        changed = re.sub(
            r"(?<=\[)(\d+)([smhd])(?=\])",
            lambda found: f"{int(found[1]) * DURATION[found[2]] * 1000 + milliseconds}ms",
            path.read_text(),
        )
        (tmp_path / path.name).write_text(changed)
    names = {test.name for tests in TESTS.values() for test in tests}
    for name in names:
        (tmp_path / name).write_text((FOLDER / name).read_text())
    done = run_tests(tmp_path, *sorted(names))
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_metrics_that_exist_are_used() -> None:
    """A rule on a metric nobody exports would be silent for ever; recorded series must be recorded here."""
    known, recorded = exported_series(), set(rules("record"))
    for rule in [*rules("alert").values(), *rules("record").values()]:
        assert metrics_in(rule["expr"]) <= known
        assert set(re.findall(r"\w+:\w+:\w+", rule["expr"])) <= recorded


def test_each_alert_says_what_to_do() -> None:
    """Every alert has a severity, a summary, a description and a page of the runbook, in three sections."""
    pages = {path.stem: path.read_text() for path in (FOLDER / "runbook").glob("*.md")}
    known = exported_series() | {family.exported(name) for name, family in FAMILIES.items()}
    assert set(pages) == set(rules("alert"))
    for name, alert in rules("alert").items():
        assert re.fullmatch(r"Riskmon[A-Z]\w+", name)
        assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
        assert alert["annotations"]["summary"].endswith(".")
        assert re.search(r"[.?]$", alert["annotations"]["description"])
        assert alert["annotations"]["runbook_url"] == f"rules/prometheus/runbook/{name}.md"
        title, *sections = re.findall(r"^#+ (.+)$", pages[name], re.MULTILINE)
        assert (title, sections) == (name, ["What it means", "What to look at", "What to do"])
        for link in re.findall(r"\]\((\S+)\)", pages[name]):
            assert (FOLDER / "runbook" / link).exists(), (name, link)
        series = metrics_in(pages[name]) | set(re.findall(r"\w*:riskmon_\w+:\w+", pages[name]))
        assert series <= known | set(rules("record")), name


def test_each_alert_is_tested_firing_and_quiet() -> None:
    """Every alert but the watchdog, which never is quiet, has at least a quiet moment and a firing one."""
    moments: dict[str, list[bool]] = {name: [] for name in rules("alert")}
    for path in chain.from_iterable(TESTS.values()):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for moment in test.get("alert_rule_test", []):
                moments[moment["alertname"]].append(bool(moment["exp_alerts"]))
    for name, fires in moments.items():
        assert any(fires), name
        assert name == "RiskmonWatchdog" or False in fires, name


def test_each_window_is_recorded_by_the_same_rule() -> None:
    """The rule of a window is that of 5m with another range, and ranges are those of its name."""
    recorded = rules("record", OBJECTIVES)
    for series in ("job_objective:riskmon_bad_events", "job_detector_app_environment:riskmon_flagged"):
        shortest = recorded[f"{series}:ratio_rate5m"]["expr"]
        for window in WINDOWS:
            assert recorded[f"{series}:ratio_rate{window}"]["expr"] == shortest.replace("[5m]", f"[{window}]")
        hour, six = (recorded[f"{series}:increase{window}"]["expr"] for window in ("1h", "6h"))
        assert six == hour.replace("[1h]", "[6h]")


def test_late_is_a_bound_of_the_histogram() -> None:
    """The freshness objective reads a bucket that exists."""
    [bound] = set(re.findall(r'le="([\d.]+)"', OBJECTIVES.read_text()))
    assert float(bound) in FAMILIES["end_to_end_latency_seconds"].buckets


SECONDS_UNTIL_EXPORTED = {
    "RiskmonDown": 0,
    "RiskmonAbsent": 0,
    "RiskmonBrokerUnreachable": 30,  # kafka-python's default of request_timeout_ms
    "RiskmonLedgerFailing": 1,
    "RiskmonDetectorsDown": 1,
    "RiskmonRulesStale": 5,
    "RiskmonConfigStale": 0,
    "RiskmonDetectorTierMissing": 0,
}
"""How long a daemon takes at most to show what is wrong, at its defaults."""


def test_what_stops_judging_is_told_within_ninety_seconds() -> None:
    """Invariant R18: delay of the metric, scrape and evaluation interval and wait add up to at most 90 s."""
    interval = 15
    stale = rules("alert")["RiskmonHeartbeatStale"]
    threshold = int(re.fullmatch(r"time\(\) - riskmon_heartbeat_timestamp_seconds > (\d+)", stale["expr"])[1])  # type: ignore[index] # a mismatch must fail
    assert "for" not in stale
    assert interval + threshold + interval <= 90
    for name, noticed in SECONDS_UNTIL_EXPORTED.items():
        wait = int(rules("alert")[name]["for"].removesuffix("s"))
        assert noticed + interval + wait + interval <= 90, name


NUMBER = r"(?<![\w.:\"])\d+(?:\.\d+)?(?![\w.\"])"
DURATION = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def longer(window: str) -> str:
    """A range half as long again."""
    return f"{int(window[:-1]) * DURATION[window[-1]] * 3 // 2}s"


def mutants(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """The rule with one comparison, threshold, range or wait changed."""
    expr, changes = rule["expr"], []
    for found in re.finditer(r" (>=|<=|==|>|<) ", expr):
        replaced = {">": (" < ", " >= "), ">=": (" < ", " > "), "==": (" != ",)}[found[1]]
        changes += [(found.span(), new) for new in replaced]
    for found in re.finditer(rf"(?<=[>=] ){NUMBER}|(?<=clamp_max\(){NUMBER}|(?<=:max, ){NUMBER}", expr):
        changes.append((found.span(), f"{float(found[0]) * 1.2 + (not float(found[0])):g}"))
    for found in re.finditer(r"(?<=clamp_max\()[\d.]+", expr):
        changes.append((found.span(), f"{float(found[0]) * 0.8:g}"))
    for found in re.finditer(r"(?<=\[)\d+[smhd](?=\])", expr):
        changes.append((found.span(), longer(found[0])))
    for found in re.finditer(r"(?<=:ratio_rate)\w+", expr):
        changes.append((found.span(), WINDOWS[(WINDOWS.index(found[0]) + 1) % len(WINDOWS)]))
    changed = [rule | {"expr": expr[:start] + new + expr[end:]} for (start, end), new in changes]
    return changed + [rule | {"for": wait} for wait in ("0s", longer(rule.get("for", "0s"))) if "for" in rule]


RISKS = {
    "nothing": Sums(traces=480.0, unseen=480.0),
    "certain": Sums(traces=2400.0, unseen=2400.0, unseen_flagged=240.0, certain=240.0),
    "found": Sums(24000.0, 21600.0, 0.0, 0.0, 240.0, 24000.0, 0.0, 0.0, 2.4e6),
    "refuted": Sums(24000.0, 21600.0, 480.0, 720.0, 0.0, 0.0, 240.0, 24000.0, 2.4e6),
    "all": Sums(72000.0, 64800.0, 2400.0, 3600.0, 2400.0, 120000.0, 1200.0, 96000.0, 7.2e6),
}
"""What an hour sums up to, by application."""


def test_recorded_rates_are_those_of_the_estimator(tmp_path: Path) -> None:
    """PromQL over two daemons' counters yields the ratio and the interval of `telemetry.rates.estimate`."""
    steps = 240  # of 15 s: one hour
    half = [
        {
            "series": f'riskmon_risk_terms_total{{job="r", instance="{name}", app="{app}", term="{term}"}}',
            "values": f"0+{value / steps / 2!r}x{steps}",
        }
        for app, sums in RISKS.items()
        for term, value in sums._asdict().items()
        for name in "ab"
    ]
    exact = [
        {
            "expr": f'count(abs({series}{{app="{app}", job="r"}} - {expected!r}) < 1e-9)',
            "eval_time": "1h",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for app, sums in RISKS.items()
        for series, expected in zip(
            ("riskmon:risk_ratio:1h", "riskmon:risk_ratio_low:1h", "riskmon:risk_ratio_high:1h"),
            estimate(sums),
            strict=True,
        )
    ]
    (tmp_path / RULES.name).write_text(RULES.read_text())
    (tmp_path / "rates.tests.yml").write_text(
        yaml.safe_dump(
            {
                "rule_files": [RULES.name],
                "evaluation_interval": "15s",
                "group_eval_order": ["riskmon.recording", "riskmon.risk", "riskmon.alerts"],
                "tests": [{"interval": "15s", "input_series": half, "promql_expr_test": exact}],
            }
        )
    )
    done = run_tests(tmp_path, "rates.tests.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def failing(
    folder: Path,
    recorded: Sequence[dict[str, Any]],
    tried: Sequence[dict[str, Any]],
    tests: Sequence[dict[str, Any]],
) -> set[str]:
    """Names of the alerts and recorded series that fail when the rules that are tried are run by the tests.

    Each test is given the rules that it is about and what they read: most of the time would else go into
    evaluating all others.
    """
    names = {rule.get("alert") or rule["record"]: rule for rule in tried}
    files: list[str] = []
    for document in tests:
        for test in document["tests"]:
            about = [names[name] for name in sorted(names.keys() & subjects(test))]
            if not about:
                continue
            read = " ".join(rule["expr"] for rule in about)
            groups = {"first": [rule for rule in recorded if rule["record"] in read], "then": about}
            there = [{"name": name, "rules": rules} for name, rules in groups.items() if rules]
            file = f"{len(files)}.yml"
            own = {"group_eval_order": [group["name"] for group in there], "rule_files": [f"rules-{file}"]}
            (folder / f"rules-{file}").write_text(yaml.safe_dump({"groups": there}))
            (folder / file).write_text(yaml.safe_dump(document | own | {"tests": [test]}))
            files.append(file)
    told = run_tests(folder, *files).stderr
    return set(re.findall(r"alertname: (\w+), time", told)) | set(re.findall(r"\w+:riskmon_\w+:\w+", told))


def subjects(test: dict[str, Any]) -> set[str]:
    """Alerts and recorded series that a promtool test is about."""
    alerts = {moment["alertname"] for moment in test.get("alert_rule_test", [])}
    exprs = " ".join(moment["expr"] for moment in test.get("promql_expr_test", []))
    return alerts | set(re.findall(r"\w+:riskmon_\w+:\w+", exprs))


@pytest.mark.slow
def test_a_changed_rule_fails_its_tests(tmp_path: Path) -> None:
    """Invariant R15: at least 95 % of changed comparisons, thresholds, ranges and waits fail a test.

    Each round changes every alert in one way at once, beside the recorded series as they are, or every series
    that no other test holds equal to another one; a change is caught if a test of what was changed fails.
    """
    rounds: list[tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]] = []
    for path, paths in TESTS.items():
        # The rates have a test of their own, against the estimator.
        groups = [g for g in yaml.safe_load(path.read_text())["groups"] if g["name"] != "riskmon.risk"]
        tests = [yaml.safe_load(test.read_text()) for test in paths]
        recorded = [rule for group in groups for rule in group["rules"] if "record" in rule]
        alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
        windowed = [rule for rule in recorded if re.search(r":(ratio_rate5m|increase1h)$", rule["record"])]
        for number, subject in enumerate((alerts, windowed)):
            unchanged = tmp_path / f"{path.stem}-{number}"
            unchanged.mkdir()
            names = {rule.get("alert") or rule["record"] for rule in subject}
            assert not names & failing(unchanged, recorded, subject, tests), "fails as it is"
            turns = zip_longest(*map(mutants, subject))
            rounds += [(recorded, [rule for rule in turn if rule], tests) for turn in turns]

    def survivors(number: int) -> list[tuple[str, str]]:
        recorded, tried, tests = rounds[number]
        folder = tmp_path / str(number)
        folder.mkdir()
        found = failing(folder, recorded, tried, tests)
        names = [rule.get("alert") or rule["record"] for rule in tried]
        return [
            (n, rule["expr"] + rule.get("for", ""))
            for n, rule in zip(names, tried, strict=True)
            if n not in found
        ]

    with ThreadPoolExecutor(2) as pool:
        survived = [*chain.from_iterable(pool.map(survivors, range(len(rounds))))]
    total = sum(len(tried) for _, tried, _ in rounds)
    assert total >= 200
    assert len(survived) <= 0.05 * total, (total, survived)
