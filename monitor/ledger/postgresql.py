"""Connections to PostgreSQL that never wait for ever.

A server, or what lies before it, may swallow everything and answer nothing while the network's own checks are
content. So each answer is waited for on this side, for a limited time, and a connection that kept us waiting
for longer is closed. A server that is slow with every answer gets twice that time for a whole transaction.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from typing_extensions import override

from monitor.clock import Deadline, SystemClock
from monitor.errors import ConfigError

CALL_SECONDS: Final = 10.0  # for each answer; the server itself gives up a lock after 5 s
CONNECT_SECONDS: Final = 4.0  # for each host of the URL, unless that has a `connect_timeout`
LEAST_SECONDS: Final = 0.5  # for an answer once the end has come: plenty for a server that is up
_NO_SECONDS: Final = 0.001  # psycopg may take none for no limit
_CONNECT_TIMEOUTS: Final = {str(seconds) for seconds in range(1, int(CALL_SECONDS) + 1)}
_LEAST_TO_CONNECT: Final = 2.0  # psycopg makes less time two seconds

PARAMETERS: Final[Mapping[str, Any]] = {
    # Of libpq, https://www.postgresql.org/docs/current/libpq-connect.html: peers that died are noticed when
    # nothing is sent, and data that nobody acknowledges when something is.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": int(CALL_SECONDS * 1000),
    # PgBouncer before 1.21 may run a transaction where its statement was never prepared.
    "prepare_threshold": None,
}


class Patience:
    """How long an answer is waited for: `usual` seconds, and hardly at all once an end has come.

    For all answers of a transaction that writes, twice as long: others wait for it, and so does the loop.
    """

    def __init__(self, usual: float = CALL_SECONDS) -> None:
        self._usual = usual
        self._end: Deadline | None = None

    def end_in(self, seconds: float) -> None:
        """Wait for nothing beyond this time. Safe from any thread and from a signal handler."""
        self._end = Deadline(SystemClock(), seconds)

    @property
    def seconds(self) -> float:
        """Longest wait for an answer from now on."""
        return max(LEAST_SECONDS, min(self._usual, self.left))

    def transaction(self) -> Deadline:
        """Return when a transaction that begins now must be over."""
        return Deadline(SystemClock(), 2.0 * self._usual)

    @property
    def left(self) -> float:
        """Time until the end, infinite while none is set."""
        return math.inf if self._end is None else self._end.remaining()

    @contextmanager
    def longer(self, seconds: float) -> Iterator[None]:
        """Wait longer in this context, in which no other thread asks."""
        usual, self._usual = self._usual, seconds
        try:
            yield
        finally:
            self._usual = usual


def require(url: sa.URL) -> None:
    """Check what the driver is told. Raises ConfigError for unknown options, or too long a wait."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    try:
        make_conninfo(**{name: str(value) for name, value in url.query.items()})
    except psycopg.Error as error:
        raise ConfigError(  # its message may quote a part of the URL
            f"ledger.url: the driver refuses it ({type(error).__name__}); check its options"
        ) from None
    if url.query.get("connect_timeout", "1") not in _CONNECT_TIMEOUTS:
        raise ConfigError(
            f"ledger.url: connect_timeout must be a whole number from 1 to {CALL_SECONDS:.0f}, since a "
            "daemon's loop waits so long; choose one, or leave it out"
        )


def bound(engine: sa.Engine, patience: Patience) -> None:
    """Make an engine's connections wait only as long as `patience` says, for themselves and for answers."""
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """A connection that is closed when an answer is late: who knows what would arrive later."""

        _end: Deadline | None = None

        def begins(self, *, writing: bool) -> None:
            """Limit the transaction that begins now, if it is to write."""
            self._end = patience.transaction() if writing else None

        @override
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            seconds = patience.seconds
            if self._end is not None:
                seconds = max(_NO_SECONDS, min(seconds, self._end.remaining()))
            try:
                return super().wait(gen, interval, seconds)
            except psycopg.errors._WaitTimeout:  # noqa: SLF001 - what `wait` documents to raise
                self.close()
                raise psycopg.errors.ConnectionTimeout(f"no answer within {seconds:.1f} s") from None

    def connect(_dialect: Any, _record: Any, args: list[Any], parameters: dict[str, Any]) -> Connection:
        left = patience.left
        if left < _LEAST_TO_CONNECT:
            raise psycopg.errors.ConnectionTimeout("no time is left to connect")
        seconds = min(left, float(parameters.get("connect_timeout", CONNECT_SECONDS)))
        return Connection.connect(*args, **{**PARAMETERS, **parameters, "connect_timeout": int(seconds)})

    sa.event.listen(engine, "do_connect", connect)
