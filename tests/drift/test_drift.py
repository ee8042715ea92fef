"""The drift monitor: its guarantee, its detections, its state; and the worker's feature vector."""

import math

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.detect.drift import DIMENSIONS, Drift, build, tiers
from monitor.drift.monitor import DriftMonitor
from monitor.drift.statistics import SCALARS
from monitor.errors import ConfigError
from monitor.findings import Assessment, Status
from monitor.models.embedding import Embedding
from monitor.trace import Message, Trace, Usage

WORKER = Drift(Embedding.load())
WIDTH = 16


def _trace(app: str = "app", model: str = "model") -> Trace:
    return Trace(id="t", time=0.0, response="", app=app, model=model)


def _assessment(
    prompt: npt.NDArray[np.float64], scalars: npt.NDArray[np.float64], version: str = "1+a"
) -> Assessment:
    vector = np.concatenate((prompt / np.linalg.norm(prompt), scalars)).astype("<f4")
    return Assessment(
        detector="drift", version=version, status=Status.SCORED, score=0.0, vector=vector.tobytes()
    )


def _traffic(seed: int, count: int, topic: int = 0, length: float = 5.0) -> list[Assessment]:
    """Make independent traces about one topic: a direction with noise, and five plausible scalars."""
    chance = np.random.default_rng((seed, topic))
    centre = np.zeros(WIDTH)
    centre[topic] = 3.0
    found = []
    for _ in range(count):
        scalars = np.asarray([length, length, 0.0, 6.0, 4.0]) + chance.normal(size=5) * 0.5
        scalars[2] = 15.0 * (chance.random() < 0.1)
        found.append(_assessment(centre + chance.normal(size=WIDTH), np.clip(scalars, 0, 15.9)))
    return found


def _run(monitor: DriftMonitor, traffic: list[Assessment], **where: str) -> list[Assessment]:
    return [monitor.update(_trace(**where), item) for item in traffic]


def _alarms(found: list[Assessment]) -> list[int]:
    return [i for i, item in enumerate(found) if item.values.get("alarm")]


def test_a_segment_warms_up_first() -> None:
    """Until the reference is full a trace is skipped by name; then it is scored, without its vector."""
    found = _run(DriftMonitor(reference=40), _traffic(1, 60))
    assert [item.status for item in found] == [Status.SKIPPED] * 40 + [Status.SCORED] * 20
    assert {item.reason for item in found[:40]} == {"warming_up"}
    assert all(not item.vector for item in found)
    assert all(item.score is not None and 0.0 <= item.score <= 1.0 for item in found[40:])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_an_exchange_is_in_the_test_once(exchanges: list[tuple[bool, bool]]) -> None:
    """A revision counts only where the judgement before it had no vector."""
    monitor = DriftMonitor(reference=60)
    statuses = []
    for n, (scored, revised) in enumerate(exchanges):
        trace = msgspec.structs.replace(_trace(), trace_id=f"{n}", span_id="1")
        (item,) = _traffic(n, 1)
        if scored or not revised:
            monitor.update(trace, item)
        if revised:
            statuses.append(monitor.update(msgspec.structs.replace(trace, revision=1), item).reason)
    expected = ["revised" if scored else "warming_up" for scored, revised in exchanges if revised]
    assert statuses == expected
    segment = monitor.update(_trace(), _traffic(99, 1)[0])
    assert segment.values["reference"] == len(exchanges) + 1


def test_false_alarms_keep_their_bound() -> None:
    """Over 40,000 unchanged traces, alarms are no more than one per `false_alarm_traces` on average."""
    found = [
        _alarms(_run(DriftMonitor(reference=60, false_alarm_traces=500), _traffic(s, 2000)))
        for s in range(20)
    ]
    assert sum(len(alarms) for alarms in found) <= 40_000 / 500


@pytest.mark.parametrize("change", [{"topic": 3}, {"length": 8.0}])
def test_a_lasting_change_alarms_once(change: dict[str, float]) -> None:
    """A new topic, or another length, alarms once soon after it, and the new normal alarms no more."""
    monitor = DriftMonitor(reference=100)
    assert not _alarms(_run(monitor, _traffic(2, 400)))
    after = _run(monitor, _traffic(3, 800, **change))  # type: ignore[arg-type] # one of two keywords
    alarms = _alarms(after)
    assert len(alarms) == 1
    assert alarms[0] < 120
    assert after[alarms[0]].score == 1.0
    assert after[alarms[0] + 1].reason == "warming_up"
    kind = "drift_topics" if "topic" in change else "drift_prompt_length"
    values = after[alarms[0]].values
    assert values[kind] + values["drift_novelty"] + values["drift_response_length"] > values["statistic"] / 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.integers(0, 139), max_size=6))
def test_a_restored_monitor_continues_bit_for_bit(seed: int, crashes: list[int]) -> None:
    """Restarted from its snapshots at any points, the monitor gives the same bits as one never restarted."""
    traffic = _traffic(seed, 70) + _traffic(seed, 70, topic=5, length=9.0)
    steady = DriftMonitor(reference=50, false_alarm_traces=200)
    shaken = DriftMonitor(reference=50, false_alarm_traces=200)
    kept: dict[str, bytes] = {}
    for i, item in enumerate(traffic):
        where = {"app": ("a", "b")[i % 5 == 0]}
        assert steady.update(_trace(**where), item) == shaken.update(_trace(**where), item)
        if i in crashes:
            kept.update(shaken.snapshot())
            shaken = DriftMonitor(reference=50, false_alarm_traces=200)
            shaken.restore(kept)
    kept.update(shaken.snapshot())
    whole = DriftMonitor(reference=50, false_alarm_traces=200)
    whole.restore(kept)
    assert _run(whole, traffic[:5]) == _run(steady, traffic[:5])


def test_a_snapshot_holds_only_what_changed() -> None:
    """The reference is written once; afterwards only the small state of the segments seen."""
    monitor = DriftMonitor(reference=64)
    _run(monitor, _traffic(1, 64))
    _run(monitor, _traffic(2, 10), app="other")
    first = monitor.snapshot()
    assert sum("/reference/" in key for key in first) == 3
    assert monitor.snapshot() == {}
    _run(monitor, _traffic(3, 5))
    [(key, value)] = monitor.snapshot().items()
    assert key.endswith("/state")
    assert len(value) < 8192


def test_unreadable_snapshots_are_refused() -> None:
    """A snapshot of another format, or with a part missing, is a configuration error with a remedy."""
    monitor = DriftMonitor(reference=40)
    _run(monitor, _traffic(1, 50))
    snapshot = monitor.snapshot()
    state = next(key for key in snapshot if key.endswith("/state"))
    for broken in ({state: b"?"}, {state: snapshot[state]}, {state: msgspec.msgpack.encode({"format": 9})}):
        with pytest.raises(ConfigError, match="delete the drift"):
            DriftMonitor(reference=40).restore(broken)


def test_another_reference_size_begins_anew() -> None:
    """After the reference size was changed, a restored segment collects a new reference."""
    monitor = DriftMonitor(reference=40)
    _run(monitor, _traffic(1, 50))
    resized = DriftMonitor(reference=60)
    resized.restore(monitor.snapshot())
    assert [item.reason for item in _run(resized, _traffic(2, 60))] == ["warming_up"] * 60


def test_another_embedding_begins_anew() -> None:
    """Vectors of another version are not compared with the old reference."""
    monitor = DriftMonitor(reference=40)
    _run(monitor, _traffic(1, 50))
    changed = [msgspec.structs.replace(item, version="1+b") for item in _traffic(2, 1)]
    assert _run(monitor, changed)[0].reason == "warming_up"


def test_segments_are_apart_and_bounded() -> None:
    """Each app and model warms up alone; beyond the bound they share one segment."""
    monitor = DriftMonitor(reference=40, max_segments=2)
    for app in ("a", "b"):
        assert len([x for x in _run(monitor, _traffic(1, 41), app=app) if x.status is Status.SCORED]) == 1
    for i in range(40):
        assert _run(monitor, _traffic(i, 1), app=f"new-{i}")[0].values["reference"] == i + 1
    assert len({key.partition("/")[0] for key in monitor.snapshot()}) == 3


def test_what_was_not_scored_passes_through() -> None:
    """A trace the worker timed out on leaves the test alone."""
    monitor = DriftMonitor(reference=40)
    failed = Assessment(detector="drift", version="1+a", status=Status.TIMEOUT, reason="timeout")
    assert monitor.update(_trace(), failed) is failed
    assert monitor.snapshot() == {}


def test_unknown_scalars_are_left_out() -> None:
    """A trace without latency and tokens is tested on what it has."""
    monitor = DriftMonitor(reference=40)
    traffic = [
        msgspec.structs.replace(
            item,
            vector=np.concatenate((np.frombuffer(item.vector, "<f4")[:-2], [np.nan, np.nan]))
            .astype("<f4")
            .tobytes(),
        )
        for item in _traffic(1, 80)
    ]
    last = _run(monitor, traffic)[-1]
    assert last.values["drift_latency"] == last.values["drift_output_tokens"] == 0.0
    assert math.isfinite(last.values["statistic"])


@pytest.mark.parametrize("options", [{"reference": 3}, {"false_alarm_traces": 1.0}])
def test_unusable_settings_are_refused(options: dict[str, int]) -> None:
    """Settings that make the test meaningless are refused, also through the detector's factory."""
    for make in (DriftMonitor, build, tiers):
        with pytest.raises(ConfigError, match="drift"):
            make(**options)


def test_the_worker_makes_one_vector_per_trace() -> None:
    """Vectors hold the question's embedding, of length one, and the scalars, whatever the trace lacks."""
    traces = [
        Trace(id="1", time=0.0, response="Yes.", messages=(Message(content="Is it open?"),), latency=0.5,
              usage=Usage(output_tokens=2)),
        Trace(id="2", time=0.0, response="Sorry, I can't help with that."),
        Trace(id="3", time=0.0, response="", messages=(Message(content="And now?"),)),
    ]  # fmt: skip
    found = WORKER.assess(traces)
    vectors = [np.frombuffer(item.vector, dtype="<f4") for item in found]
    assert [len(vector) for vector in vectors] == [DIMENSIONS + len(SCALARS)] * 3
    assert np.linalg.norm(vectors[0][:DIMENSIONS]) == pytest.approx(1.0, abs=1e-4)
    assert found[0].values["output_tokens"] == pytest.approx(math.log1p(2))
    assert found[1].values["refusal"] > 0 == found[0].values["refusal"]
    assert "latency" not in found[2].values
    assert WORKER.assess([]) == []
    monitor = DriftMonitor(reference=32)
    for item in list(WORKER.assess(traces * 20)):
        monitor.update(_trace(), item)


def test_build_and_tiers() -> None:
    """The factory loads the bundled weights, takes the monitor's options, and refuses others."""
    [tier] = tiers(reference=300)
    assert tier.present
    assert build(reference=300).version == tier.version == WORKER.version
    with pytest.raises(ConfigError, match=r"options\.window"):
        build(window=5)
