"""When a member is live, and when its client is built anew: decisions on a clock of the test's own."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import ManualClock
from monitor.config import KafkaConfig
from monitor.daemon import doctor
from monitor.events import Membership
from monitor.sources.kafka_diagnosis import Diagnosis, Outages
from monitor.sources.kafka_membership import Liveness

SESSION = 10.0
REJOIN = 30.0
UNREACHABLE = 20.0


@dataclass
class Group:
    """A consumer and its client as the library shows them, and what was told."""

    clock: ManualClock = field(default_factory=ManualClock)
    generation: int = -1
    stable: bool = False
    heartbeat: float = float("-inf")
    connected: bool = True
    told: list[Membership] = field(default_factory=list)
    connections: list[bool] = field(default_factory=list)
    bootstraps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = KafkaConfig(
            session_timeout_ms=int(SESSION * 1000),
            rejoin_seconds=REJOIN,
            unreachable_seconds=UNREACHABLE,
        )
        outages = Outages(self.clock, structlog.get_logger(), Diagnosis(config))
        self.liveness = Liveness(config, self.clock, outages, self.connections.append, self.told.append)

    def group_metadata(self) -> Any:
        """As `KafkaConsumer.group_metadata`."""
        from kafka.structs import MemberState

        state = MemberState.STABLE if self.stable else MemberState.REBALANCING
        member = "one" if self.generation >= 0 else ""
        return SimpleNamespace(generation_id=self.generation, member_id=member, state=state)

    @property
    def _coordinator(self) -> Any:
        return SimpleNamespace(heartbeat=SimpleNamespace(last_receive=self.heartbeat))

    def observe(self, seconds: float = 0.0) -> None:
        """Let time pass and look."""
        self.clock.advance(seconds)
        broker = SimpleNamespace(node_id=1)
        client = SimpleNamespace(
            connected=lambda _: self.connected,
            cluster=SimpleNamespace(brokers=lambda: [broker]),
            _manager=SimpleNamespace(bootstrap_async=self._bootstrap),
        )
        self.liveness.observe(self, client)

    def _bootstrap(self, timeout_ms: float) -> None:
        self.bootstraps.append(timeout_ms)

    def join(self) -> None:
        """An assignment is taken."""
        self.generation += 1 if self.generation >= 0 else 2
        self.stable = True
        self.observe()

    def live(self) -> bool:
        """The condition of readiness."""
        return self.liveness.health()["group_member"]


def test_a_member_is_live_from_its_first_assignment() -> None:
    """Neither a connection nor an answered join alone is a membership."""
    group = Group()
    group.observe()
    assert not group.live()
    group.generation = 1
    group.observe(1.0)
    assert not group.live()
    group.stable = True
    group.observe(1.0)
    assert group.live()
    assert group.told[-1] == Membership(live=True, answered=group.clock.now(), renewals=0)


def test_a_member_whose_heartbeats_are_answered_stays_live() -> None:
    """Each answer is good for a session; without polls the last one runs out as well."""
    group = Group()
    group.join()
    for beat in range(10):
        group.heartbeat = float(beat)
        group.observe(SESSION - 0.1)
        assert group.live()
    group.clock.advance(SESSION)
    assert not group.live()


def test_a_rebalance_within_the_session_does_not_end_a_membership() -> None:
    """While the group waits for others it keeps this member; one it has expelled is none at once."""
    group = Group()
    group.join()
    group.stable = False
    group.observe(SESSION - 0.1)
    assert group.live()
    group.join()
    group.observe(SESSION - 0.1)
    assert group.live()
    group.generation = -1
    group.observe()
    assert not group.live()


def test_a_lost_join_is_noticed_and_the_client_built_anew() -> None:
    """A join that nobody takes ends the membership after the session, and later the client, once."""
    group = Group()
    group.join()
    group.stable = False
    group.observe(SESSION)
    assert not group.live()
    assert not group.liveness.is_lost()
    group.observe(REJOIN - 0.1)
    assert not group.liveness.is_lost()
    group.observe(0.1)
    assert group.liveness.is_lost()
    group.liveness.renewed()
    assert not group.liveness.is_lost()
    assert group.told[-1].renewals == 1
    group.generation, group.stable = -1, False
    group.observe()
    group.observe(REJOIN - 0.1)
    assert not group.liveness.is_lost()


def test_without_a_broker_no_client_is_built_anew() -> None:
    """An outage is waited for, and a whole time to rejoin begins when it ends."""
    group = Group()
    group.join()
    group.connected = False
    group.observe(SESSION + REJOIN * 3)
    assert not group.liveness.is_lost()
    group.connected = True
    group.observe()
    group.observe(REJOIN - 0.1)
    assert not group.liveness.is_lost()
    assert group.connections == [True, False, True]


def test_an_outage_makes_the_daemon_unready_after_a_while() -> None:
    """The condition ends when the time is up, not before, and holds again with the first connection."""
    group = Group(connected=False)
    group.clock.advance(UNREACHABLE - 0.1)
    assert group.liveness.health()["broker_connected"]
    group.observe(0.1)
    assert not group.liveness.health()["broker_connected"]
    group.connected = True
    group.observe()
    assert group.liveness.health()["broker_connected"]
    group.liveness.left()
    group.clock.advance(UNREACHABLE)
    assert not group.liveness.health()["broker_connected"]


def test_every_condition_has_its_remedy() -> None:
    """`riskmon doctor` says what to do about each."""
    assert Group().liveness.health().keys() <= doctor.CONDITIONS.keys()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["poll", "beat", "join", "lose", "expel", "cut", "heal"]), st.floats(0, 40)
        ),
        max_size=60,
    )
)
def test_it_is_live_only_with_a_recent_answer_and_rarely_built_anew(steps: list[tuple[str, float]]) -> None:
    """Whatever happens: live means answered within a session, and renewals are far apart."""
    group = Group()
    answered, renewed = float("-inf"), float("-inf")
    for what, seconds in steps:
        group.clock.advance(seconds)
        now = group.clock.monotonic()
        match what:
            case "beat" if group.stable:
                group.heartbeat, answered = now, now
            case "join" if group.connected:
                answered = now
                group.join()
            case "lose":
                group.stable = False
            case "expel":
                group.generation, group.stable = -1, False
            case "cut" | "heal":
                group.connected = what == "heal"
            case _:
                pass
        group.observe()
        assert not group.live() or now - answered < SESSION
        if group.liveness.is_lost():
            assert group.connected
            assert now - max(renewed, answered) >= REJOIN
            renewed = now
            group.liveness.renewed()
            group.generation, group.stable = -1, False


def test_bootstrap_servers_are_asked_again_while_no_broker_is_connected() -> None:
    """After five seconds without one, and every five: those that the library knows may be gone for good."""
    consumer = Group()
    consumer.observe()
    consumer.connected = False
    for _ in range(21):
        consumer.observe(1.0)
    assert len(consumer.bootstraps) == 4
    consumer.connected = True
    for _ in range(20):
        consumer.observe(1.0)
    assert len(consumer.bootstraps) == 4
