"""The metric catalogue and the bounded store behind it."""

import random
import string
import subprocess
import threading
from pathlib import Path
from typing import Any, get_args

import pytest
from external import need
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from monitor.clock import ManualClock
from monitor.config import TelemetryConfig
from monitor.findings import Status
from monitor.telemetry import reference as reference_page
from monitor.telemetry.catalogue import FAMILIES, CounterName, GaugeName, HistogramName, Kind
from monitor.telemetry.metrics import IDLE_SECONDS, MAX_VALUE_CHARS, Metrics
from monitor.telemetry.reference import reference

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def text(metrics: Metrics) -> str:
    """The classic exposition."""
    return generate_latest(metrics.registry).decode()


def openmetrics(metrics: Metrics) -> str:
    """The OpenMetrics exposition."""
    generate: Any = exposition.generate_latest
    return str(generate(metrics.registry).decode())


def strict_families(metrics: Metrics) -> dict[str, Any]:
    """What the strict OpenMetrics parser reads, by name."""
    parse: Any = parser.text_string_to_metric_families
    return {family.name: family for family in parse(openmetrics(metrics))}


def series(metrics: Metrics) -> int:
    """How many series of riskmon a scrape holds."""
    return sum(1 for line in text(metrics).splitlines() if line.startswith("riskmon_"))


def test_names_that_mypy_accepts_are_those_of_the_catalogue() -> None:
    """The literals of each kind and the table's families of that kind are the same."""
    for names, kind in (
        (CounterName, Kind.COUNTER),
        (GaugeName, Kind.GAUGE),
        (HistogramName, Kind.HISTOGRAM),
    ):
        assert sorted(get_args(names)) == sorted(name for name, f in FAMILIES.items() if f.kind is kind)


def test_exported_names_are_those_the_catalogue_promises() -> None:
    """Scraped families carry exactly the catalogue's names, types and help, and nothing ends in _created."""
    scraped = {
        f.name: f for f in text_string_to_metric_families(text(Metrics())) if f.name.startswith("riskmon_")
    }
    for name, family in FAMILIES.items():
        found = scraped.pop(family.exported(name).removesuffix("_total"))
        assert (found.type, found.documentation) == (family.kind.value, family.help)
    assert not scraped
    assert "_created" not in openmetrics(Metrics())


@pytest.mark.monitoring
def test_the_whole_exposition_is_clean_by_promtool() -> None:
    """`promtool check metrics` finds no fault with any metric, used or not."""
    promtool = need("promtool")
    metrics = Metrics(known={"topic": ["t"], "detector": ["pii"], "rule": ["R"], "destination": ["log"]})
    metrics.inc("flags", rule="R", severity="critical", app="a", environment="production", model="m")
    metrics.observe("score_ratio", [0.5], ("pii", "production"))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text(metrics), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_openmetrics_parses_strictly_with_exemplars() -> None:
    """The OpenMetrics form obeys the strict parser and carries the exemplars of counters and buckets."""
    metrics = Metrics()
    flag = ("R", "critical", "a", "production", "m")
    metrics.add("flags", {flag: 2})
    metrics.exemplar("flags", flag, TRACE_ID, 1_700_000_000.0)
    metrics.observe("end_to_end_latency_seconds", [0.2, 0.3, 4000.0])
    metrics.observe_exemplar("end_to_end_latency_seconds", 4000.0, TRACE_ID, 1_700_000_000.0)
    families = strict_families(metrics)
    [sample] = families["riskmon_flags"].samples
    assert (sample.value, sample.exemplar.labels) == (2.0, {"trace_id": TRACE_ID})
    buckets = {
        s.labels["le"]: s for s in families["riskmon_end_to_end_latency_seconds"].samples if "le" in s.labels
    }
    assert [buckets[le].value for le in ("0.1", "0.25", "0.5", "1800.0", "+Inf")] == [0, 1, 2, 2, 3]
    assert buckets["+Inf"].exemplar.labels == {"trace_id": TRACE_ID}


@pytest.mark.parametrize(
    "bad", ["", "x" * 500, "ZZ" * 16, 'a"} 1\n', "0AF7651916CD43DD8448EB211C80319C", TRACE_ID + "0"]
)
def test_an_exemplar_is_a_trace_id_or_nothing(bad: str) -> None:
    """Anything but 32 lower-case hex digits makes no exemplar."""
    metrics = Metrics()
    metrics.inc("flags", rule="R", severity="info", app="a", environment="staging", model="m")
    metrics.exemplar("flags", ("R", "info", "a", "staging", "m"), bad, 0.0)
    metrics.observe("end_to_end_latency_seconds", [1.0])
    metrics.observe_exemplar("end_to_end_latency_seconds", 1.0, bad, 0.0)
    assert " # {" not in openmetrics(metrics)


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=50))
def test_a_histogram_is_the_sum_of_its_observations(values: list[float]) -> None:
    """Each bucket holds the values up to its bound, however the observations were batched."""
    metrics = Metrics()
    metrics.observe("ledger_transaction_seconds", values[:20])
    for value in values[20:]:
        metrics.observe("ledger_transaction_seconds", [value])
    found = {f.name: f for f in text_string_to_metric_families(text(metrics))}
    for sample in found["riskmon_ledger_transaction_seconds"].samples:
        if sample.name.endswith("_bucket"):
            assert sample.value == sum(value <= float(sample.labels["le"]) for value in values)
        elif sample.name.endswith("_sum"):
            assert sample.value == pytest.approx(sum(values))
        else:
            assert sample.value == len(values)


def test_observations_that_are_not_finite_are_left_out() -> None:
    """NaN and infinity neither count nor poison the sum."""
    metrics = Metrics()
    metrics.observe("ledger_transaction_seconds", [float("nan"), 1.0, float("inf"), float("-inf")])
    assert "riskmon_ledger_transaction_seconds_sum 1.0\n" in text(metrics)
    assert "riskmon_ledger_transaction_seconds_count 1.0\n" in text(metrics)


def test_a_hundred_thousand_distinct_strings_stay_under_two_thousand_series() -> None:
    """Invariant R17: a flood of label values ends in `other`, is counted, and loses no event."""
    metrics = Metrics(
        known={
            "topic": ["t"],
            "detector": ["hallucination", "pii", "toxicity", "injection", "drift", "agent"],
        }
    )
    rng = random.Random(17)
    for i in range(100_000):
        app, model, environment = f"app-{i}", f"model-{rng.random()}", f"env-{i}"
        metrics.inc("traces_judged", app=app, environment=environment, model=model)
        if i % 10 == 0:
            metrics.inc(
                "flags", rule=f"R{i % 20}", severity="critical", app=app, environment=environment, model=model
            )
            metrics.set("drift_statistic_ratio", 0.5, app=app, model=model)
            metrics.inc("pii_entities", direction="prompt", kind=f"KIND{i}")
            metrics.inc("records_dead_lettered", topic="t", reason=f"reason{i}")
            metrics.observe("score_ratio", [0.5], (("pii", "drift")[i % 2], environment))
            metrics.inc("assessments_unscored", detector="pii", reason=f"r{i}")
    assert series(metrics) <= 2_000
    assert metrics.total_of("traces_judged") == 100_000
    assert metrics.total_of("flags") == 10_000
    assert metrics.value("label_overflow", label="app") > 90_000
    assert metrics.value("traces_judged", app="other", environment="other", model="other") > 90_000


def test_a_product_of_bounded_labels_is_bounded_too() -> None:
    """50 apps times 50 models do not make 2,500 series: beyond the family's cap both become `other`."""
    metrics = Metrics(TelemetryConfig(max_label_values=50, allow={"app": ["vip"]}))
    for app in range(50):
        for model in range(50):
            metrics.inc("traces_judged", app=f"a{app}", environment="production", model=f"m{model}")
    metrics.inc("traces_judged", app="vip", environment="production", model="m0")
    assert text(metrics).count("riskmon_traces_judged_total{") <= FAMILIES["traces_judged"].cap + 2
    assert metrics.total_of("traces_judged") == 2_501
    assert metrics.value("traces_judged", app="vip", environment="production", model="other") == 1


def test_allowed_values_are_kept_after_the_flood() -> None:
    """A value named in `telemetry.allow`, for a closed label too, is never replaced."""
    metrics = Metrics(TelemetryConfig(max_label_values=2, allow={"app": ["vip"], "environment": ["canary"]}))
    for i in range(10):
        metrics.inc("traces_judged", app=f"a{i}", environment="production", model="m")
    metrics.inc("traces_judged", app="vip", environment="canary", model="m")
    assert metrics.value("traces_judged", app="vip", environment="canary", model="m") == 1
    assert metrics.value("traces_judged", app="other", environment="production", model="m") == 8


@given(st.lists(st.text(max_size=200), max_size=30))
def test_no_label_value_breaks_a_scrape(values: list[str]) -> None:
    """Whatever characters arrive, both expositions encode and parse, and no event is lost."""
    metrics = Metrics()
    hostile = [*values, "\ud800", "a\nriskmon_fake 1", '"}', "\x1b[31m", "", "x" * (MAX_VALUE_CHARS + 1)]
    for value in hostile:
        metrics.inc("traces_judged", app=value, environment=value, model="m")
    assert "riskmon_fake" not in text(metrics).replace("a\\nriskmon_fake", "")
    found = {f.name: f for f in text_string_to_metric_families(text(metrics))}
    assert sum(s.value for s in found["riskmon_traces_judged"].samples) == len(hostile)
    assert "riskmon_traces_judged" in strict_families(metrics)


def test_known_label_sets_start_at_zero() -> None:
    """The first event of a known kind is an increase, which Prometheus sees, not a birth."""
    metrics = Metrics(known={"topic": ["t"], "dead_letter_reason": ["too_large"], "detector": ["pii"]})
    assert metrics.value("records_dead_lettered", topic="t", reason="too_large") == 0
    assert metrics.value("records_dead_lettered", topic="t", reason="other") == 0
    for status in Status:
        assert metrics.value("assessments", detector="pii", status=status) == 0
    with pytest.raises(KeyError):
        metrics.value("lag_records", topic="t", partition="0")


def test_replace_forgets_the_series_that_are_gone() -> None:
    """A partition given away leaves no frozen lag behind."""
    metrics = Metrics()
    metrics.replace("lag_records", {("t", "0"): 5, ("t", "1"): 7})
    metrics.replace("lag_records", {("t", "1"): 6})
    assert [line for line in text(metrics).splitlines() if line.startswith("riskmon_lag_records")] == [
        'riskmon_lag_records{partition="1",topic="t"} 6.0'
    ]


@pytest.mark.parametrize("labels", [{}, {"topic": "t", "reason": "r"}, {"tpoic": "t"}])
def test_wrong_labels_are_the_callers_bug(labels: dict[str, str]) -> None:
    """A call with labels other than the catalogue's raises at once."""
    with pytest.raises((TypeError, KeyError)):
        Metrics().inc("records_consumed", 1, **labels)


def test_threads_lose_no_increment() -> None:
    """Counting from several threads while scraping adds up."""
    metrics = Metrics()

    def count(apps: str) -> None:
        for app in apps * 2_000:
            metrics.inc("traces_judged", app=app, environment="production", model="m")

    threads = [threading.Thread(target=count, args=(string.ascii_lowercase[i : i + 3],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        text(metrics)
    for thread in threads:
        thread.join()
    assert metrics.total_of("traces_judged") == 4 * 3 * 2_000


def test_two_daemons_in_one_process_share_nothing() -> None:
    """Each instance has its own registry; the library's global one stays empty of riskmon."""
    first, second = Metrics(), Metrics()
    first.inc("incidents", incident="gap")
    assert second.value("incidents", incident="gap") == 0
    from prometheus_client import REGISTRY

    assert "riskmon" not in generate_latest(REGISTRY).decode()


def test_the_reference_lists_every_metric_once() -> None:
    """The committed page is the generated one and has one row per family, under its exported name."""
    assert Path(reference_page.__file__).with_name("METRICS.md").read_text() == reference()
    rows = [row for row in reference().splitlines() if row.startswith("| `")]
    assert len(rows) == len(FAMILIES)
    for name, family in FAMILIES.items():
        assert sum(f"`{family.exported(name)}`" in row for row in rows) == 1


def test_more_series_may_be_asked_for() -> None:
    """`telemetry.max_series` scales what each metric holds before its names become `other`."""
    for max_series, kept in ((2_000, 100), (4_000, 200)):
        metrics = Metrics(TelemetryConfig(max_label_values=1_000, max_series=max_series))
        for app in range(500):
            metrics.inc("traces_judged", app=f"a{app}", environment="production", model="m")
        assert text(metrics).count('riskmon_traces_judged_total{app="a') == kept


def test_names_of_the_configuration_never_become_other() -> None:
    """A name that is to be kept has series of its own, also when it is named after the set was full."""
    metrics = Metrics(TelemetryConfig(max_label_values=3), known={"app": ["support-bot"]})
    for i in range(100):
        metrics.inc("traces_judged", app=f"junk{i}", environment="production", model=f"m{i}")
    metrics.keep({"app": ["hotline"], "model": ["gpt-5"], "no such label": ["x"]})
    for app in ("support-bot", "hotline", "junk99"):
        metrics.inc("traces_judged", app=app, environment="production", model="gpt-5")
    for app in ("support-bot", "hotline"):
        assert metrics.value("traces_judged", app=app, environment="production", model="gpt-5") == 1
    assert metrics.value("traces_judged", app="other", environment="production", model="gpt-5") == 1


def counted(metrics: Metrics, app: str) -> float:
    """What the traces of an application are counted as; 0 where it has no series."""
    try:
        return metrics.value("traces_judged", app=app, environment="production", model="m")
    except KeyError:
        return 0


def test_names_that_went_quiet_give_their_places_to_others() -> None:
    """Junk hides later names for hours, not for the daemon's life; who sends keeps the series."""
    clock = ManualClock()
    metrics = Metrics(TelemetryConfig(max_label_values=10), known={"app": ["vip"]}, clock=clock)

    def send(app: str) -> None:
        metrics.inc("traces_judged", app=app, environment="production", model="m")
        metrics.set("drift_statistic_ratio", 0.1, app=app, model="m")
        metrics.exemplar("traces_judged", (app, "production", "m"), TRACE_ID, clock.now())

    for app in ("steady", "vip", *(f"junk{i}" for i in range(1_000))):
        send(app)
    send("late")
    assert counted(metrics, "late") == 0
    clock.advance(IDLE_SECONDS / 2)
    send("steady")
    clock.advance(IDLE_SECONDS / 2)
    send("later")
    for app in ("late", "steady", "vip"):
        send(app)
    assert [counted(metrics, app) for app in ("late", "steady", "vip")] == [1, 3, 2]
    assert "junk" not in openmetrics(metrics)


def test_names_stay_while_nobody_wants_their_places() -> None:
    """An application that pauses for days keeps its series where there is room for all."""
    clock = ManualClock()
    metrics = Metrics(clock=clock)
    for app in ("weekly", "daily", "daily"):
        metrics.inc("traces_judged", app=app, environment="production", model="m")
        clock.advance(7 * 86_400.0)
    assert counted(metrics, "weekly") == 1


def test_counters_kept_elsewhere_stay_while_they_are_reported() -> None:
    """Their owner reports them although they do not grow: they neither come and go nor overflow each time."""
    clock = ManualClock()
    metrics = Metrics(TelemetryConfig(max_label_values=2), clock=clock)
    for _ in range(5):
        metrics.total("spans_foreign", 7, scope="sdk")
        for i in range(5):
            metrics.inc("traces_judged", app=f"a{i}", environment="production", model="m")
        clock.advance(IDLE_SECONDS)
    assert metrics.value("spans_foreign", scope="sdk") == 7
    with pytest.raises(KeyError):
        metrics.value("label_overflow", label="scope")


def test_places_are_given_up_in_a_full_metric_too() -> None:
    """Where not a label but a metric is full, names without traffic make room for new label sets."""
    clock = ManualClock()
    metrics = Metrics(TelemetryConfig(max_label_values=1_000), clock=clock)
    for i in range(FAMILIES["traces_judged"].cap + 1):
        metrics.inc("traces_judged", app=f"junk{i}", environment="production", model="m")
    metrics.inc("traces_judged", app="a", environment="production", model="m")  # counts are taken
    clock.advance(IDLE_SECONDS)
    for _ in range(2):
        metrics.inc("traces_judged", app="b", environment="production", model="m")
    assert counted(metrics, "b") > 0
