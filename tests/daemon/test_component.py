"""A daemon's components: started in order, stopped in the opposite order, whatever happens."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import Deadline, ManualClock
from monitor.config import Config
from monitor.daemon.component import Component, Components
from monitor.daemon.daemon import Daemon
from monitor.errors import ConfigError
from monitor.testing import MemoryLog, MemorySource


def recorded(name: str, log: list[str], *, start: bool = True, stop: bool = True) -> Component:
    """A component that writes down what is called, and fails where told."""

    def call(verb: str, well: bool) -> None:  # noqa: FBT001 - said at the call
        log.append(f"{verb} {name}")
        if not well:
            raise ConfigError(f"{verb} {name}")

    return Component(
        name, lambda: call("start", start), lambda _: call("stop", stop), lambda: {f"{name}_well": start}
    )


def deadline() -> Deadline:
    """One far away."""
    return Deadline(ManualClock(), 60.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_a_failure_stops_starting_and_never_stops_stopping(faults: list[tuple[bool, bool]]) -> None:
    """Starting ends at the first failure; stopping reaches all, last first, and then raises the first one."""
    log: list[str] = []
    components = Components(
        recorded(str(n), log, start=start, stop=stop) for n, (start, stop) in enumerate(faults)
    )
    started = next((n + 1 for n, (start, _) in enumerate(faults) if not start), len(faults))
    if all(start for start, _ in faults):
        components.start()
    else:
        with pytest.raises(ConfigError, match=f"start {started - 1}"):
            components.start()
    assert log == [f"start {n}" for n in range(started)]
    log.clear()
    failing = [n for n, (_, stop) in enumerate(faults) if not stop]
    if failing:
        with pytest.raises(ConfigError, match=f"stop {failing[-1]}"):
            components.stop(deadline())
    else:
        components.stop(deadline())
    assert log == [f"stop {n}" for n in reversed(range(len(faults)))]
    assert components.ready() == {f"{n}_well": start for n, (start, _) in enumerate(faults)}


def test_every_component_of_a_daemon_stops_without_a_start_and_twice(tmp_path: Path) -> None:
    """With everything switched on, each component may be stopped before it started, and again."""
    config = Config.model_validate(
        {
            "data_dir": tmp_path,
            "http": {"port": 0, "review_token": "t" * 32},
            "receiver": {"enabled": True, "port": 0, "grpc": {"enabled": True, "port": 0}},
            "telemetry": {
                "otlp_endpoint": "http://127.0.0.1:9",
                "evaluations_endpoint": "http://127.0.0.1:9",
                "otlp_metrics_seconds": 60.0,
            },
            "pool": {"workers": 1},
        }
    )
    clock = ManualClock()
    daemon = Daemon(config, clock=clock, source=MemorySource(MemoryLog({}), clock))
    assert daemon.open()
    names = [component.name for component in daemon.components]
    assert len(set(names)) == len(names) == 15
    for _ in range(2):
        daemon.components.stop(deadline())
