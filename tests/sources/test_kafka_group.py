"""What an independent look at the group makes of Kafka's answers."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from kafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from structlog.testing import capture_logs

from monitor.clock import ManualClock
from monitor.config import KafkaConfig
from monitor.events import GroupLook, Lag
from monitor.sources import kafka_group
from monitor.sources.kafka_group import GroupWatch

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def member(client: str, *partitions: int) -> dict[str, Any]:
    """A member as `describe_groups` tells it."""
    assignment = {"assigned_partitions": [{"topic": "t", "partitions": list(partitions)}], "user_data": ""}
    return {"client_id": client, "member_assignment": assignment if partitions else ""}


class Admin:
    """An administrator's client whose answers, or errors, a test gives. Each partition holds 10 records."""

    def __init__(self) -> None:
        self.state = "Stable"
        self.members: list[dict[str, Any]] = []
        self.partitions = 2
        self.error: Exception | None = None
        self.closed = 0

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        """The group."""
        if self.error is not None:
            raise self.error
        return {groups[0]: {"group_state": self.state, "members": self.members}}

    def describe_topics(self, topics: list[str]) -> list[dict[str, Any]]:
        """The first topic; the others do not exist."""
        found = {"name": topics[0], "partitions": [{"partition_index": n} for n in range(self.partitions)]}
        return [found, *({"name": name, "partitions": []} for name in topics[1:])]

    def list_partition_offsets(self, specs: Mapping[Any, int]) -> dict[Any, Any]:
        """From 2 to 10."""
        return {name: SimpleNamespace(offset=10 if spec == -1 else 2) for name, spec in specs.items()}

    def list_group_offsets(self, specs: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
        """Partition 0 is committed, others are not."""
        (names,) = specs.values()
        return {
            group: {name: SimpleNamespace(offset=-1 if name.partition else 6) for name in names}
            for group in specs
        }

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class Watched:
    """A watch on such a client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client_id: str = "riskmon-b") -> None:
        self.admin = Admin()
        self.clock = ManualClock()
        self.looks: list[GroupLook | None] = []
        monkeypatch.setattr(kafka_group, "_open", lambda *_: self.admin)
        self.watch = GroupWatch(
            KafkaConfig(topics=["t", "gone"]),
            self.clock,
            client_id=client_id,
            log=structlog.get_logger(),
            on_look=self.looks.append,
        )

    def look(self) -> GroupLook | None:
        """Look again, some seconds later."""
        self.clock.advance(15.0)
        self.watch.turn()
        return self.looks[-1]


def test_a_partition_counts_when_two_looks_found_it_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once may be a rebalance between its steps; how long is counted from the first look."""
    it = Watched(monkeypatch)
    it.admin.members = [member("riskmon-b", 0)]
    assert it.look() == GroupLook({"t": 0}, ())
    assert it.look() == GroupLook({"t": 1}, [Lag("t", 1, 8, 15.0)])
    assert it.look() == GroupLook({"t": 1}, [Lag("t", 1, 8, 30.0)])
    it.admin.members = [member("riskmon-b", 1)]
    assert it.look() == GroupLook({"t": 0}, ())
    assert it.look() == GroupLook({"t": 1}, [Lag("t", 0, 4, 15.0)])


def test_one_daemon_reports_the_lag_of_what_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """All count the partitions; the first member reports their lag, or everybody where there is no member."""
    it = Watched(monkeypatch)
    it.admin.members = [member("riskmon-b", 0), member("riskmon-a")]
    it.look()
    assert it.look() == GroupLook({"t": 1}, ())
    it.admin.members, it.admin.state = [], "Empty"
    it.look()
    found = it.look()
    assert found is not None
    assert [(lag.partition, lag.records) for lag in found.lags] == [(0, 4), (1, 8)]


@pytest.mark.parametrize("state", ["PreparingRebalance", "CompletingRebalance", ""])
def test_a_rebalance_says_nothing(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """While nobody knows who reads what, the last result stays."""
    it = Watched(monkeypatch)
    it.admin.members = [member("riskmon-b", 0, 1)]
    it.look()
    it.admin.members, it.admin.state = [member("riskmon-b")], state
    it.look()
    it.look()
    assert it.looks == [GroupLook({"t": 0}, ())]


def test_a_refusal_is_told_and_logged_once_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is claimed while Kafka refuses; with the right given, looks go on from the start."""
    it = Watched(monkeypatch)
    it.look()
    it.admin.error = GroupAuthorizationFailedError("riskmon")
    with capture_logs() as logs:
        assert it.look() is None
        assert it.look() is None
    assert [(each["event"], each["error"]) for each in logs] == [
        ("kafka_group_not_seen", "GroupAuthorizationFailedError")
    ]
    assert "DESCRIBE" in logs[0]["remedy"]
    it.admin.error = None
    assert it.look() == GroupLook({"t": 0}, ())
    assert it.admin.closed == 2


def test_a_broker_that_does_not_answer_is_logged_once_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was known stays known; the outage itself is told by others."""
    it = Watched(monkeypatch)
    it.admin.members = [member("riskmon-b", 0, 1)]
    it.look()
    it.admin.error = KafkaConnectionError()
    with capture_logs() as logs:
        it.look()
        it.look()
    assert [each["error"] for each in logs] == ["KafkaConnectionError"]
    it.admin.error = None
    it.look()
    assert it.looks == [GroupLook({"t": 0}, ())] * 2
