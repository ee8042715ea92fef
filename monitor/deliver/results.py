"""What a sender is, and what it may answer.

Only one answer of a destination is final: that a message is malformed. Any other refusal (log in first, no
such path, go elsewhere) is a fault of configuration or network that an operator can correct, so the message
is kept and retried.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

from monitor.records import Leased


class Reason(StrEnum):
    """Why a row was not delivered. A metric label, hence bounded."""

    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden_address"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    BROKER = "broker"
    STREAM = "stream"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    STOPPED = "stopped"
    INTERNAL = "internal"


REFUSALS: Final = frozenset({Reason.UNAUTHORIZED, Reason.NOT_FOUND, Reason.REDIRECTED, Reason.REFUSED})
"""Reasons that need an operator: the destination answers, but refuses every message."""


class Delivered(NamedTuple):
    """The receiver has the row."""


class Retry(NamedTuple):
    """The failure may pass: send again, not before `after` seconds from now if the cap allows it."""

    reason: Reason
    after: float = 0.0


class Rejected(NamedTuple):
    """The receiver calls this very row malformed: it is set aside until an operator sends it again."""

    reason: Reason


Result: TypeAlias = Delivered | Retry | Rejected
Outcome: TypeAlias = Sequence[Result]  # one per row of the batch, in order


class Sender(Protocol):
    """Sends rows to one destination. The sender alone decides whether a failure is worth another try.

    Used from one thread. `batch` is the most rows one `send` takes, `timeout` about the longest it may last
    in seconds.
    """

    @property
    def batch(self) -> int:
        """Most rows of one send."""
        ...

    @property
    def timeout(self) -> float:
        """Longest time of one send, in seconds."""
        ...

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Send rows; return the outcome of each. Expected failures are outcomes, not exceptions."""
        ...

    def close(self) -> None:
        """Close connections, within a second or two. Idempotent."""
        ...
