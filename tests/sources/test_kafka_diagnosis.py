"""What errors of kafka-python mean, how an outage is told of, and when a denied right is tried again."""

import ssl
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors
from structlog.testing import capture_logs

from monitor.clock import ManualClock
from monitor.config import KafkaConfig
from monitor.errors import ConfigError
from monitor.events import Denial, Right
from monitor.sources.kafka_diagnosis import (
    BETTER_CAUSE_SECONDS,
    CAUSE_SECONDS,
    SAY_SECONDS,
    Diagnosis,
    Outage,
    Outages,
    explain,
    raise_for_good,
)
from monitor.sources.kafka_rights import GROUP, TRIAL_SECONDS, TRY_SECONDS, Rights


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    """A certificate that was not verified, with OpenSSL's code."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def alert(reason: str) -> ssl.SSLError:
    """What a broker complains of."""
    error = ssl.SSLError(1, "alert")
    error.reason = reason
    return error


KNOWN: list[tuple[Exception, Outage]] = [
    (errors.SaslAuthenticationFailedError("Authentication failed"), Outage.LOGIN_REFUSED),
    (errors.UnsupportedSaslMechanismError(), Outage.MECHANISM_REFUSED),
    (errors.IllegalSaslStateError(), Outage.NO_LOGIN_THERE),
    (untrusted(18), Outage.CERTIFICATE_UNTRUSTED),
    (untrusted(20), Outage.CERTIFICATE_UNTRUSTED),
    (untrusted(10), Outage.CERTIFICATE_OUTDATED),
    (untrusted(62), Outage.CERTIFICATE_OF_ANOTHER_HOST),
    (untrusted(64), Outage.CERTIFICATE_OF_ANOTHER_HOST),
    (untrusted(999), Outage.CERTIFICATE_INVALID),
    (alert("SSLV3_ALERT_BAD_CERTIFICATE"), Outage.CLIENT_CERTIFICATE_REFUSED),
    (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Outage.CLIENT_CERTIFICATE_REFUSED),
    (alert("TLSV1_ALERT_UNKNOWN_CA"), Outage.CLIENT_CERTIFICATE_REFUSED),
    (errors.KafkaConnectionError("Handshake failed: [SSL: WRONG_VERSION_NUMBER]"), Outage.NO_TLS_THERE),
    (errors.KafkaConnectionError("111 ECONNREFUSED"), Outage.CONNECTION_REFUSED),
    (errors.KafkaConnectionError("DNS Resolution failure"), Outage.NAME_UNKNOWN),
    (errors.KafkaConnectionError("socket disconnected"), Outage.CLOSED_UNANSWERED),
    (errors.InvalidReceiveError("Invalid frame length: 352518912"), Outage.TLS_THERE),  # an alert
    (errors.InvalidReceiveError("Invalid frame length: 1213486160"), Outage.NO_BROKER_THERE),  # HTTP
    (errors.RequestTimedOutError("Request timed out after 200 ms"), Outage.NO_ANSWER),
    (RuntimeError("whatever"), Outage.NO_ANSWER),
]


@given(st.sampled_from(KNOWN), st.lists(st.sampled_from(["argument", "context", "cause"]), max_size=4))
def test_a_cause_is_found_however_the_library_wraps_it(
    known: tuple[Exception, Outage], wrappings: list[str]
) -> None:
    """As an argument, a context or a cause of other errors: the reason is the same, with a remedy."""
    error, reason = known
    for how in wrappings:
        outer = errors.KafkaConnectionError(*[error] * (how == "argument"))
        outer.__context__ = error if how == "context" else None
        outer.__cause__ = error if how == "cause" else None
        error = outer
    for protocol in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        cause = explain(error, KafkaConfig(security_protocol=protocol))
        assert cause.reason is reason
        assert str(cause).startswith(reason.replace("_", " "))
        assert "check" in cause.remedy or ":" in cause.remedy


def test_only_what_no_waiting_changes_ends_the_daemon() -> None:
    """A withdrawn right or a refused login is waited for; a group protocol that does not fit is not."""
    for passing in ("GroupAuthorizationFailedError", "SaslAuthenticationFailedError", "NotCoordinatorError"):
        raise_for_good(getattr(errors, passing)())
    for lasting in ("InconsistentGroupProtocolError", "InvalidGroupIdError", "IncompatibleBrokerVersion"):
        with pytest.raises(ConfigError, match=lasting):
            raise_for_good(getattr(errors, lasting)())


def reason_of(diagnosis: Diagnosis) -> Outage | None:
    """What it has found out."""
    cause = diagnosis.cause
    return cause.reason if cause else None


def test_the_cause_that_says_most_is_told() -> None:
    """A login refused by one broker comes before another that is down, and a time-out says nothing new."""
    diagnosis = Diagnosis(KafkaConfig())
    assert reason_of(diagnosis) is None
    diagnosis._failed("one", errors.KafkaConnectionError("111 ECONNREFUSED"))
    diagnosis._failed("two", errors.SaslAuthenticationFailedError())
    diagnosis._failed("two", errors.RequestTimedOutError())
    assert reason_of(diagnosis) is Outage.LOGIN_REFUSED
    assert diagnosis.conclusive(2)
    assert not diagnosis.conclusive(3)
    diagnosis._connected("one", set())
    assert reason_of(diagnosis) is None


@given(st.lists(st.floats(0.01, 20), min_size=1, max_size=60))
def test_an_outage_is_told_at_its_beginning_once_a_minute_and_at_its_end(steps: list[float]) -> None:
    """However often it is looked at: no line comes sooner than a minute after the one before."""
    clock, diagnosis = ManualClock(), Diagnosis(KafkaConfig())
    outages = Outages(clock, structlog.get_logger(), diagnosis)
    with capture_logs() as logs:
        outages.back()
        for step in steps:
            outages.away()
            clock.advance(step)
        outages.away()
        outages.back()
        outages.back()
    first, *lines = logs
    assert first["event"] == "kafka_connected"
    total = clock.monotonic()  # their sum, rounded as the clock's
    away = [line["seconds"] for line in lines if line["event"] == "kafka_unreachable"]
    assert bool(away) == (total >= CAUSE_SECONDS)
    assert len(away) <= 1 + total / SAY_SECONDS
    assert all(after - before >= SAY_SECONDS - 1 for before, after in pairwise(away))
    ends = [line["seconds"] for line in lines if line["event"] == "kafka_connected"]
    assert ends == ([round(total)] if away else [])


def test_an_outage_with_a_known_cause_is_told_of_at_once() -> None:
    """The line waits only for a cause."""
    diagnosis = Diagnosis(KafkaConfig())
    diagnosis._failed("one", errors.KafkaConnectionError("111 ECONNREFUSED"))
    with capture_logs() as logs:
        Outages(ManualClock(), structlog.get_logger(), diagnosis).away()
    (line,) = logs
    assert line["cause"] is Outage.CONNECTION_REFUSED


@pytest.mark.parametrize("refused", [True, False])
def test_a_connection_that_is_closed_unanswered_is_tried_again_first(*, refused: bool) -> None:
    """A broker that ends does that as well: only where it stays so is it the cause."""
    clock, diagnosis = ManualClock(), Diagnosis(KafkaConfig())
    outages = Outages(clock, structlog.get_logger(), diagnosis)
    diagnosis._failed("one", errors.KafkaConnectionError("socket disconnected"))
    with capture_logs() as logs:
        outages.away()
        assert logs == []
        clock.advance(BETTER_CAUSE_SECONDS)
        if refused:
            diagnosis._failed("one", errors.KafkaConnectionError("111 ECONNREFUSED"))
        outages.away()
    assert logs[0]["cause"] is (Outage.CONNECTION_REFUSED if refused else Outage.CLOSED_UNANSWERED)


class Denied:
    """Rights over a cluster that is asked for its metadata again and again."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[tuple[Denial, bool]] = []
        self.asked = 0
        self.rights = Rights(
            KafkaConfig(heartbeat_interval_ms=3000), self.clock, structlog.get_logger(), self._tell
        )
        self.rights._cluster = SimpleNamespace(request_update=self._ask)

    def _tell(self, denial: Denial, begins: bool) -> None:  # noqa: FBT001 - the port's
        self.told.append((denial, begins))

    def _ask(self) -> None:
        self.asked += 1

    def wait(self, seconds: float, *, asking: bool = True) -> None:
        """Let time pass, a tenth of a second at a time."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.rights.turn(asking=asking)


def test_a_denied_topic_is_left_alone_tried_and_given_back() -> None:
    """A trial that is refused begins the wait again; one that is not ends the denial. Others are read."""
    it = Denied()
    error: Any = errors.TopicAuthorizationFailedError({"a"})
    assert it.rights.refused(error)
    assert (it.rights.holds("a"), it.rights.holds("b"), it.rights.complete) == (True, False, False)
    for _ in range(3):
        it.wait(TRY_SECONDS + 0.2)
        assert not it.rights.holds("a")
        assert it.rights.refused(error, "a")
        assert it.rights.holds("a")
    assert it.asked == 3
    it.wait(TRY_SECONDS + TRIAL_SECONDS + 0.3)
    assert it.rights.complete
    denial = Denial(Right.READ_TOPIC, "a")
    assert it.told == [(denial, True), (denial, False)]


def test_a_trial_counts_only_while_something_is_asked() -> None:
    """Without a broker, or while intake is paused, nothing could be refused, so nothing is given back."""
    it = Denied()
    it.rights.refused(errors.TopicAuthorizationFailedError(), "a")
    it.wait(60, asking=False)
    assert not it.rights.complete
    it.wait(TRIAL_SECONDS + 0.3)
    assert it.rights.complete


def test_without_its_group_nothing_is_asked_for() -> None:
    """Every topic is held, until a trial outlasts the next heartbeat."""
    it = Denied()
    assert it.rights.refused(errors.GroupAuthorizationFailedError())
    assert (it.rights.holds("any"), it.rights.holds_all) == (True, True)
    it.wait(TRY_SECONDS + 0.2)
    assert (it.rights.holds("any"), it.rights.holds_all) == (False, False)
    it.wait(TRIAL_SECONDS + 0.2)
    assert it.rights.group_denied
    it.wait(3.0)
    assert it.rights.complete
    assert it.told == [(GROUP, True), (GROUP, False)]


def test_other_errors_are_no_denials() -> None:
    """Only what access control answers is taken for a missing right."""
    it = Denied()
    others: list[Exception] = [errors.UnknownError(), errors.TopicAuthorizationFailedError(), OSError()]
    assert not any(it.rights.refused(error) for error in others)
    assert it.rights.complete
