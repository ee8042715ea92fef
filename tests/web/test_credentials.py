"""The one check of a token: who holds it passes, who guesses is counted, logged and slowed."""

import base64

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from monitor.config import Config
from monitor.daemon.build import build_gate, build_review
from monitor.ledger.flags import FlagReader
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.testing import ManualClock
from monitor.web.credentials import (
    FREE_GUESSES,
    LOG_SECONDS,
    MOST_PEERS,
    TRUST_SECONDS,
    Gate,
    Refused,
    network_of,
)
from monitor.web.server import Head

TOKEN = "a-token-of-sixteen"
RIGHT, WRONG = f"Bearer {TOKEN}", "Bearer wrong"
FREE = int(FREE_GUESSES)


class Rig:
    """A gate with its clock, and what it reported."""

    def __init__(self, *, basic: bool = False) -> None:
        self.clock = ManualClock()
        self.refused: list[Refused] = []
        self.gate = Gate("review", SecretStr(TOKEN), self.clock, basic=basic, on_refused=self.refused.append)

    def guess(self, times: int, peer: str = "192.0.2.1") -> list[float | None]:
        """Answers to wrong tokens."""
        return [self.gate.refusal(WRONG, peer) for _ in range(times)]


def test_only_the_token_passes() -> None:
    """As a bearer; as a password only where that is asked for; nothing that begins or ends like it."""
    password = "Basic " + base64.b64encode(f"any:{TOKEN}".encode()).decode()
    wrong = (
        WRONG,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"Token {TOKEN}",
        "Basic %",
        "Bearer",
        "ü ü",
    )
    rig, basic = Rig(), Rig(basic=True)
    assert rig.gate.refusal(RIGHT, "::1") is None
    assert basic.gate.refusal(password, "::1") is None
    for authorization in (*wrong, password):
        assert rig.gate.refusal(authorization, "192.0.2.1") == 0.0


def test_a_daemon_counts_guesses_by_port() -> None:
    """Its receivers and its review page report them, before and after guessing is slowed."""
    metrics = Metrics()
    observer = TelemetryObserver(metrics, ManualClock(), structlog.get_logger())
    config = Config.model_validate({"receiver": {"token": TOKEN}, "http": {"review_token": TOKEN}})
    gate = build_gate(config, observer)
    assert gate is not None
    for _ in range(5 * FREE):  # in less than a second
        gate.refusal(WRONG, "192.0.2.1")
    flags = FlagReader("sqlite://", ManualClock(), 1.0)
    review = build_review(config, flags, observer)
    assert review is not None
    assert review.refusal(Head("GET", "/review", {"authorization": WRONG}, peer="192.0.2.1"))
    review.close()
    flags.close()

    def counted(port: str, outcome: str) -> float:
        labels = {"port": port, "outcome": outcome}
        return metrics.registry.get_sample_value("riskmon_logins_refused_total", labels) or 0.0

    assert counted("receiver", "wrong") >= FREE
    assert counted("receiver", "slowed") > 0
    assert counted("receiver", "wrong") + counted("receiver", "slowed") == 5 * FREE
    assert counted("review", "wrong") == 1.0


def test_a_question_is_no_guess() -> None:
    """A browser asks first without a password: it is refused, and neither counted nor slowed."""
    rig = Rig()
    assert {rig.gate.refusal("", "192.0.2.1") for _ in range(100)} == {0.0}
    assert rig.refused == []


def test_who_guesses_is_slowed() -> None:
    """Ten wrong tokens are looked at at once, and one a second after them; then even the right one waits."""
    rig = Rig()
    assert rig.guess(FREE + 2) == [0.0] * FREE + [1.0, 1.0]
    assert rig.gate.refusal(RIGHT, "192.0.2.1") == 1.0
    assert rig.refused == ["wrong"] * FREE + ["slowed"] * 3
    rig.clock.advance(1.0)
    assert rig.guess(2) == [0.0, 1.0]
    rig.clock.advance(1.0)
    assert rig.gate.refusal(RIGHT, "192.0.2.1") is None


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_guesses_are_bounded_whatever_the_rhythm(pauses: list[float]) -> None:
    """In any time no more are looked at than ten, and one for each second."""
    rig = Rig()
    looked_at = 0
    for pause in pauses:
        rig.clock.advance(pause)
        looked_at += rig.guess(1) == [0.0]
        assert looked_at <= FREE + 1 + sum(pauses)
    assert rig.refused.count("wrong") == looked_at


def test_one_peer_locks_no_other_out() -> None:
    """Each is slowed by itself; an IPv6 client is its network, for it has billions of addresses."""
    rig = Rig()
    rig.guess(99, "2001:db8::1")
    assert rig.gate.refusal(RIGHT, "2001:db8::2") == 1.0
    assert rig.gate.refusal(RIGHT, "2001:db8:0:1::1") is None
    assert rig.gate.refusal(RIGHT, "192.0.2.7") is None


def test_behind_a_proxy_honest_clients_are_not_locked_out() -> None:
    """An address that has brought the token is looked at for an hour, whoever else guesses from there."""
    rig = Rig()
    assert rig.gate.refusal(RIGHT, "192.0.2.1") is None
    assert set(rig.guess(99)) == {0.0}
    assert rig.gate.refusal(RIGHT, "192.0.2.1") is None
    rig.clock.advance(TRUST_SECONDS)
    assert rig.guess(FREE + 1)[-1] == 1.0
    assert rig.refused.count("wrong") == 99 + FREE


def test_memory_is_bounded() -> None:
    """However many addresses guess, the last ones are remembered."""
    rig = Rig()
    for n in range(3 * MOST_PEERS):
        rig.guess(1, f"10.0.{n // 256}.{n % 256}")
    assert len(rig.gate._peers) == MOST_PEERS


def test_failures_are_logged_once_a_minute() -> None:
    """With the address and how many there were, never with what was sent."""
    rig = Rig()
    with structlog.testing.capture_logs() as logs:
        rig.guess(50)
        rig.clock.advance(LOG_SECONDS)
        rig.guess(1)
    assert [(line["event"], line["section"], line["host"], line["count"]) for line in logs] == [
        ("login_failed", "review", "192.0.2.1", 1),
        ("login_failed", "review", "192.0.2.1", 50),
    ]
    assert "wrong" not in str(logs)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("\x1b[31m", "unknown"),
    ],
)
def test_what_is_logged_is_an_address(peer: str, network: str) -> None:
    """Nothing else that a peer may call itself."""
    assert network_of(peer) == network
