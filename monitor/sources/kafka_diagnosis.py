"""Diagnosis of failed connections: the cause and the remedy, in an operator's words.

kafka-python reports only that the time for a broker is up; it leaves the cause in the failed connection.
`Diagnosis` keeps the causes per broker, and `explain` puts them into words.

A daemon waits for every failure that may pass, from the first connection on, because it cannot tell a mistake
from a password rotated on one side, an expired certificate, or an access control list being rewritten; it
reports the cause and is not ready meanwhile. A failure that waiting cannot change (a client that cannot be
built, a mechanism that kafka-python does not know, a setting that the broker's group protocol refuses) is a
ConfigError. `riskmon check` and `riskmon doctor` fail on both and name the same cause.
"""

import logging
import ssl
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock
from monitor.config import KafkaConfig
from monitor.errors import ConfigError

SAY_SECONDS: Final = 60.0  # how often a lasting outage is logged
CAUSE_SECONDS: Final = 2.0  # how long the first line of an outage waits for a cause
BETTER_CAUSE_SECONDS: Final = 2.0  # and for a better one, where the cause may be of a broker that ends


class Outage(StrEnum):
    """Reason why a connection to a broker failed; a broker's answers come before network failures."""

    LOGIN_REFUSED = "login_refused"
    MECHANISM_REFUSED = "mechanism_refused"
    NO_LOGIN_THERE = "no_login_there"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_OF_ANOTHER_HOST = "certificate_of_another_host"
    CERTIFICATE_OUTDATED = "certificate_outdated"
    CERTIFICATE_INVALID = "certificate_invalid"
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused"
    NO_TLS_THERE = "no_tls_there"
    TLS_THERE = "tls_there"
    NOT_ALLOWED = "not_allowed"
    NO_BROKER_THERE = "no_broker_there"
    NAME_UNKNOWN = "name_unknown"
    CONNECTION_REFUSED = "connection_refused"
    CLOSED_UNANSWERED = "closed_unanswered"
    NO_ANSWER = "no_answer"


_RANKS: Final = {reason: rank for rank, reason in enumerate(Outage)}
_REMEDIES: Final = {
    Outage.LOGIN_REFUSED: "the broker refuses the login: check kafka.sasl_username and kafka.sasl_password",
    Outage.MECHANISM_REFUSED: "the broker does not offer this kafka.sasl_mechanism: choose one that it does",
    Outage.NO_LOGIN_THERE: "the broker knows no login there: check kafka.security_protocol and the port",
    Outage.CERTIFICATE_UNTRUSTED: "the broker's certificate is signed by none of the authorities in "
    "kafka.ssl_cafile: give the one that signed it",
    Outage.CERTIFICATE_OF_ANOTHER_HOST: "the broker's certificate is for another host: use the name it was "
    "issued for in kafka.bootstrap_servers and the broker's advertised.listeners",
    Outage.CERTIFICATE_OUTDATED: "the broker's certificate has expired or is not valid yet: renew it, and "
    "check the clocks",
    Outage.CERTIFICATE_INVALID: "the broker's certificate cannot be verified: check it and kafka.ssl_cafile",
    Outage.CLIENT_CERTIFICATE_REFUSED: "the broker refuses the client's certificate, or its absence: check "
    "kafka.ssl_certfile and kafka.ssl_keyfile",
    Outage.NO_TLS_THERE: "the broker does not speak TLS there: check kafka.security_protocol and the port",
    Outage.TLS_THERE: "the broker speaks TLS there: check kafka.security_protocol and the port",
    Outage.NOT_ALLOWED: "the broker does not allow this user to use the cluster: change its access control",
    Outage.NO_BROKER_THERE: "what answers is not a broker of Kafka 2.4 or later: check "
    "kafka.bootstrap_servers and the port",
    Outage.NAME_UNKNOWN: "the name does not resolve here: check kafka.bootstrap_servers and the resolver",
    Outage.CONNECTION_REFUSED: "nothing listens there: is the broker up, and is this host:port?",
    Outage.NO_ANSWER: "nothing answers in time: is the broker up, and does a firewall drop packets?",
}
_CLOSED: Final = {
    "PLAINTEXT": "TLS or a login",
    "SASL_PLAINTEXT": "TLS",
    "SSL": "a login or a client certificate",
    "SASL_SSL": "a client certificate",
}
_VERIFY: Final = {  # X509_V_ERR_… of OpenSSL's x509_vfy.h
    9: Outage.CERTIFICATE_OUTDATED,  # not yet valid
    10: Outage.CERTIFICATE_OUTDATED,
    18: Outage.CERTIFICATE_UNTRUSTED,  # self-signed
    19: Outage.CERTIFICATE_UNTRUSTED,  # self-signed in the chain
    20: Outage.CERTIFICATE_UNTRUSTED,  # no issuer here
    21: Outage.CERTIFICATE_UNTRUSTED,  # no issuer at all
    62: Outage.CERTIFICATE_OF_ANOTHER_HOST,
    64: Outage.CERTIFICATE_OF_ANOTHER_HOST,  # IP address
}
_CLASSES: Final = {
    "SaslAuthenticationFailedError": Outage.LOGIN_REFUSED,
    "UnsupportedSaslMechanismError": Outage.MECHANISM_REFUSED,
    "IllegalSaslStateError": Outage.NO_LOGIN_THERE,
    "ClusterAuthorizationFailedError": Outage.NOT_ALLOWED,
    "IncompatibleBrokerVersion": Outage.NO_BROKER_THERE,
    "UnsupportedVersionError": Outage.NO_BROKER_THERE,
    "gaierror": Outage.NAME_UNKNOWN,
    "ConnectionRefusedError": Outage.CONNECTION_REFUSED,
}
_PHRASES: Final = {  # of kafka-python's KafkaConnectionError, which has one class for all
    "DNS": Outage.NAME_UNKNOWN,
    "ECONNREFUSED": Outage.CONNECTION_REFUSED,
    "EHOSTUNREACH": Outage.CONNECTION_REFUSED,
    "ENETUNREACH": Outage.CONNECTION_REFUSED,
    "socket disconnected": Outage.CLOSED_UNANSWERED,
    "Handshake failed": Outage.NO_TLS_THERE,
    "ECONNRESET": Outage.CLOSED_UNANSWERED,
    "Connection reset": Outage.CLOSED_UNANSWERED,
    "Broken pipe": Outage.CLOSED_UNANSWERED,
}


_TLS_RECORDS: Final = (0x1503, 0x1603)  # alert and handshake, as the beginning of a frame's length
_FOR_GOOD: Final = {
    "InconsistentGroupProtocolError": "another kind of consumer uses kafka.group_id; choose another one",
    "InvalidGroupIdError": "choose another kafka.group_id",
    "InvalidSessionTimeoutError": "keep kafka.session_timeout_ms within the broker's limits",
    "InvalidTopicError": "check kafka.topics",
    "FencedInstanceIdError": "another daemon uses the same kafka.client.group_instance_id",
    "UnsupportedVersionError": "the broker is too old; Kafka 2.4 or later is needed",
    "IncompatibleBrokerVersion": "the address in kafka.bootstrap_servers is not a broker",
}
"""Answers that waiting cannot change: error class to remedy."""


class Cause(NamedTuple):
    """Why a broker cannot be used, and what to do about it."""

    reason: Outage
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason.replace('_', ' ')}; {self.remedy}"


def explain(error: BaseException, config: KafkaConfig) -> Cause:
    """Explain an error of kafka-python to the person who configured the connection."""
    reason = _reason(error)
    if reason is Outage.CLOSED_UNANSWERED:
        wanted = _CLOSED[config.security_protocol]
        return Cause(
            reason,
            f"the broker closes the connection without an answer: it may want {wanted}; "
            "check kafka.security_protocol",
        )
    return Cause(reason, _REMEDIES[reason])


def quieten() -> None:
    """Silence the library's log of connections: it writes six lines per attempt, `Outages` one a minute.

    A level already set is left as it is.
    """
    for name in ("kafka.net", "kafka.cluster"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)


def raise_for_good(error: BaseException) -> None:
    """Raise ConfigError for a broker's answer that waiting cannot change; return for others."""
    for kind in type(error).__mro__:
        if kind.__name__ in _FOR_GOOD:
            raise ConfigError(
                f"kafka: refused ({type(error).__name__}); {_FOR_GOOD[kind.__name__]}"
            ) from error


def _reason(error: BaseException) -> Outage:
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _VERIFY.get(each.verify_code, Outage.CERTIFICATE_INVALID)
        if isinstance(each, ssl.SSLError) and "ALERT" in (each.reason or ""):
            # Once its own certificate was accepted, the broker's complaint is about ours.
            about_us = any(word in each.reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED"))
            return Outage.CLIENT_CERTIFICATE_REFUSED if about_us else Outage.NO_TLS_THERE
        if type(each).__name__ == "InvalidReceiveError":  # not a frame of Kafka's protocol
            length = str(each).rpartition(" ")[2]
            tls = length.isdecimal() and int(length) >> 16 in _TLS_RECORDS
            return Outage.TLS_THERE if tls else Outage.NO_BROKER_THERE
        for kind in type(each).__mro__:
            if kind.__name__ in _CLASSES:
                return _CLASSES[kind.__name__]
    for each in chain:
        for phrase, reason in _PHRASES.items():
            if phrase in str(each):
                return reason
    return Outage.NO_ANSWER


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: kafka-python passes errors on as arguments and as contexts."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        related = (each.__cause__, each.__context__, *each.args)
        waiting += [cause for cause in related if isinstance(cause, BaseException)]


class Diagnosis:
    """Causes of failed connections of a source's clients since one last succeeded."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._causes: dict[object, Cause] = {}  # per broker; written by the clients' IO threads
        self._manager: Any = None

    @property
    def cause(self) -> Cause | None:
        """Return the most specific cause, None while connections succeed."""
        return min(list(self._causes.values()), key=lambda cause: _RANKS[cause.reason], default=None)

    def conclusive(self, brokers: int) -> bool:
        """Return whether each of so many brokers has shown why it cannot be used."""
        causes = list(self._causes.values())
        return len(causes) >= brokers and all(cause.reason is not Outage.NO_ANSWER for cause in causes)

    def give_up(self) -> None:
        """End the attempts to connect of the client that is watched."""
        if self._manager is not None:
            self._manager.call_soon(self._manager.close)

    def watch(self, client: Any) -> None:
        """Listen to the connections of a kafka-python client. Raises ConfigError for an unknown release.

        It also repairs a fault of 3.0.x where a broker refuses a login and closes: the refusal is lost when
        it is read together with the end of the connection (`KafkaTCPTransport._read_from_sock`), and as it
        is not raised where the connection is opened, the wait before the next attempt never grows.
        """
        try:
            manager = client._manager  # noqa: SLF001 - the library has no public way to its connections
            connect, reset = manager.get_connection, manager.reset_backoff
        except AttributeError as error:
            raise ConfigError(
                f"this kafka-python has no {error.name}; install a release that riskmon was tested with"
            ) from None
        self._manager = manager
        quieten()
        seen: WeakSet[Any] = WeakSet()
        refused: set[object] = set()

        def get_connection(node: object, *args: Any, **kwargs: Any) -> Any:
            connection = connect(node, *args, **kwargs)
            if connection not in seen:
                seen.add(connection)
                connection.connection_made = partial(_made, connection.connection_made)
                connection.init_future.add_callback(lambda _: self._connected(node, refused))
                connection.init_future.add_errback(partial(self._failed, node, refused=refused))
                connection.close_future.add_errback(partial(self._broken, manager, connection, node))
            return connection

        def reset_backoff(node: object) -> None:
            (manager.update_backoff if node in refused else reset)(node)

        manager.get_connection, manager.reset_backoff = get_connection, reset_backoff

    def _connected(self, node: object, refused: set[object]) -> None:
        refused.discard(node)
        self._causes.clear()

    def _broken(self, manager: Any, connection: Any, node: object, error: BaseException) -> None:
        # A connection that worked and ends says nothing about the configuration; one that ends at once does.
        closed = explain(error, self._config).reason is Outage.CLOSED_UNANSWERED
        if connection.init_future.succeeded() and not (closed and manager.bootstrapped):
            self._failed(node, error)

    def _failed(self, node: object, error: BaseException, refused: set[object] | None = None) -> None:
        if refused is not None:
            refused.add(node)
        cause = explain(error, self._config)
        # An attempt cut short by the time-out of the whole says nothing new.
        if cause.reason is not Outage.NO_ANSWER or node not in self._causes:
            self._causes[node] = cause


def _made(connection_made: Callable[[Any], None], transport: Any) -> None:
    """Let a connection read what was sent to it before it hears that the other side has closed."""
    receive = transport._sock_recv  # noqa: SLF001 - see `Diagnosis.watch`

    def data_first() -> tuple[bytes, Exception | None]:
        data, error = receive()
        return (data, None) if data else (data, error)  # the end is there to be read again

    transport._sock_recv = data_first  # noqa: SLF001 - see above
    connection_made(transport)


class Outages:
    """Logs an outage once at its beginning, once a minute while it lasts and once at its end."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger, diagnosis: Diagnosis) -> None:
        self._clock = clock
        self._log = log
        self._diagnosis = diagnosis
        self._began: float | None = None
        self._logged_at: float | None = None  # when this outage was last logged
        self._first = True

    def away(self) -> None:
        """Note that no broker is connected. May be called at any rate."""
        now = self._clock.monotonic()
        if self._began is None:
            self._began = now
        cause = self._diagnosis.cause
        # A broker that ends closes connections unanswered, too: the next attempt shows that it is not there.
        vague = cause is not None and cause.reason is Outage.CLOSED_UNANSWERED
        wait = BETTER_CAUSE_SECONDS if vague else CAUSE_SECONDS if cause is None else 0.0
        if now - self._began < wait or (self._logged_at is not None and now - self._logged_at < SAY_SECONDS):
            return
        self._logged_at = now
        self._log.warning(
            "kafka_unreachable",
            seconds=round(now - self._began),
            cause=cause.reason if cause else None,
            remedy=cause.remedy if cause else None,
        )

    def back(self) -> None:
        """Note that a broker is connected; log it at the start and at the end of a logged outage."""
        seconds = 0.0 if self._began is None else self._clock.monotonic() - self._began
        if self._first or self._logged_at is not None:
            self._log.info("kafka_connected", seconds=round(seconds))
        self._first, self._began, self._logged_at = False, None, None
