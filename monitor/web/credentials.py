"""The only check of a secret in a request: one gate for each token, whatever the protocol."""

import base64
import binascii
import hmac
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import structlog
from pydantic import SecretStr

from monitor.clock import Clock, SystemClock

Refused: TypeAlias = Literal["wrong", "slowed"]
FREE_GUESSES: Final = 10.0
"""Wrong tokens that a peer may send at once; after them one a second is looked at."""
TRUST_SECONDS: Final = 3600.0
MOST_PEERS: Final = 1024
LOG_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


class _Peer(NamedTuple):
    guesses: float = 0.0  # at the time `at`; one is forgiven a second
    at: float = 0.0
    trusted_until: float = 0.0

    def left(self, now: float) -> float:
        return max(0.0, self.guesses - (now - self.at))


class Gate:
    """Lets those pass who hold `token`: as a bearer, with `basic` also as a password of any user.

    Compares in constant time. Each peer that guesses is slowed by itself, and not one that has lately brought
    the token: behind a proxy honest clients share its address. Remembers the last MOST_PEERS peers.
    `on_refused` hears of wrong tokens, and of attempts that were not looked at. Thread-safe.
    """

    def __init__(
        self,
        section: str,
        token: SecretStr,
        clock: Clock | None = None,
        *,
        basic: bool = False,
        on_refused: Callable[[Refused], None] = lambda _: None,
    ) -> None:
        self._section = section
        self._token = token.get_secret_value().encode()
        self._clock = clock or SystemClock()
        self._basic = basic
        self._on_refused = on_refused
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self._lock = threading.Lock()
        self._unlogged = 0
        self._log_due = 0.0

    def refusal(self, authorization: str, peer: str) -> float | None:
        """Return None to let a request pass, 0 when its token is missing or wrong, else the seconds to wait.

        `authorization` is the value of the header or metadata, empty without; `peer` the client's address.
        """
        if not authorization:
            return 0.0  # a question, not a guess
        now = self._clock.monotonic()
        network = network_of(peer)
        with self._lock:
            known = self._peers.get(network, _Peer())
            guesses = known.left(now)
            trusted = now < known.trusted_until
            if guesses >= FREE_GUESSES and not trusted:
                refused, seconds = True, guesses - FREE_GUESSES + 1.0
            else:
                refused = not hmac.compare_digest(_brought(authorization, basic=self._basic), self._token)
                seconds = 0.0
                until = known.trusted_until if refused else now + TRUST_SECONDS
                self._remember(network, _Peer(guesses + refused, now, until))
            if not refused:
                return None
            self._unlogged += 1
            count = self._unlogged if now >= self._log_due else 0
            if count:
                self._unlogged, self._log_due = 0, now + LOG_SECONDS
        self._on_refused("slowed" if seconds else "wrong")
        if count:
            log.warning("login_failed", section=self._section, host=network, count=count)
        return seconds

    def _remember(self, network: str, peer: _Peer) -> None:
        self._peers[network] = peer
        self._peers.move_to_end(network)
        if len(self._peers) > MOST_PEERS:
            self._peers.popitem(last=False)


@lru_cache(MOST_PEERS)
def network_of(peer: str) -> str:
    """Return an address as far as it tells a client from others: of IPv6 the first half, RFC 4291 2.5.1."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def _brought(authorization: str, *, basic: bool) -> bytes:
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip().encode("latin-1", "replace")
        case "basic" if basic:
            try:
                return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return b""
        case _:
            return b""
