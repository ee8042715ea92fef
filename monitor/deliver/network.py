"""HTTP POST for senders: one shared deadline, no redirects, no proxies, and no way into the private network.

The guard works where a request becomes a connection: the name is resolved once, every address it resolves to
must be public, and the connection goes to an address just checked, while TLS and the Host header keep the
name. A second answer of a rebinding resolver is therefore never asked for, and odd spellings of an address
(decimal, octal, hexadecimal) are judged by what they resolve to.
"""

import contextlib
import email.utils
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpcore

from monitor.clock import Clock, Deadline
from monitor.deliver.results import Delivered, Reason, Rejected, Result, Retry
from monitor.errors import ConfigError

MAX_RESPONSE_BYTES = 64 * 1024  # of an unneeded body; the rest is left unread and the connection closed

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291; outside are mapped, NAT64, local
_DENIED_V6 = [ipaddress.IPv6Network(net) for net in ("2001::/23", "2002::/16", "3fff::/20")]
_DENIED_V4 = [ipaddress.IPv4Network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]
# What `is_global` lets pass in some or all supported versions of Python: Teredo and its neighbours, 6to4 and
# its relays, documentation, protocol assignments (IANA special-purpose registries), Azure's metadata host.

_MALFORMED: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: Reason.INVALID,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Reason.TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: Reason.INVALID,
}
_PASSING: dict[int, Reason] = {
    HTTPStatus.UNAUTHORIZED: Reason.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: Reason.UNAUTHORIZED,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: Reason.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.GONE: Reason.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: Reason.TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS: Reason.THROTTLED,
}
_HOST = re.compile(r"[a-z0-9._-]{1,253}")


class _ConnectionFailure(Exception):  # noqa: N818 - never leaves this module
    """A connection failed for a reason that httpcore has no exception for."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def is_public(address: str) -> bool:
    """Return whether an IP address is a public unicast one; false for anything that is not an address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        denied = ip not in _GLOBAL_UNICAST or any(ip in net for net in _DENIED_V6)
    else:
        denied = any(ip in net for net in _DENIED_V4)
    return ip.is_global and not (denied or ip.is_multicast or ip.is_reserved)


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver; addresses in its order. Raises OSError or UnicodeError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def endpoint(url: str, setting: str, *, allow_private: bool) -> httpcore.URL:
    """Parse a URL strictly. Raises ConfigError naming the setting, never the URL: its path may be a secret.

    Only https, unless `allow_private`; no user info, fragment, space, control or non-ASCII character.
    """

    def refuse(problem: str) -> ConfigError:
        return ConfigError(f"{setting}: {problem}")

    if re.search(r"[^\x21-\x7e]|\\", url):
        raise refuse("has a space, backslash, control or non-ASCII character; percent-encode or punycode it")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refuse("not a URL; write https://host[:port]/path") from None
    if parts.scheme not in ("https", "http"):
        raise refuse("not a URL; write https://host[:port]/path")
    if parts.scheme == "http" and not allow_private:
        raise refuse("must be https; http is for private addresses, see allow_private")
    if "@" in parts.netloc:
        raise refuse("user info in a URL is not supported; use the settings for credentials")
    if parts.fragment or port == 0:
        raise refuse("a fragment or port 0 makes no sense here; remove it")
    bracketed = "[" in parts.netloc
    if not (_is_ipv6(host) if bracketed else _HOST.fullmatch(host)):
        raise refuse("the host is neither a name nor an address; write https://host[:port]/path")
    literal = host if bracketed else _as_ipv4(host)
    if literal and not allow_private and not is_public(literal):
        raise refuse("the address is not public; set allow_private if the receiver may be internal")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(
        scheme=parts.scheme.encode(),
        host=(f"[{host}]" if bracketed else host).encode(),
        port=port,
        target=target.encode(),
    )


def result_of_status(status: int, retry_after: str, now: float) -> Result:
    """Return what an HTTP status means for the rows sent: delivered, to be retried, or rejected.

    400, 413 and 422 call the rows themselves malformed. All others are about the way there (a log-in, a path,
    a proxy) and tried again, not before `Retry-After` (seconds or an HTTP date, RFC 9110 10.2.3).
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered()
    if status in _MALFORMED:
        return Rejected(_MALFORMED[status])
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = Reason.SERVER_ERROR
    elif status < HTTPStatus.BAD_REQUEST:
        reason = Reason.REDIRECTED
    else:
        reason = _PASSING.get(status, Reason.REFUSED)
    return Retry(reason, _seconds(retry_after, now))


class Poster:
    """Posts to one URL over one kept-alive connection. Used from one thread."""

    def __init__(
        self,
        url: httpcore.URL,
        clock: Clock,
        *,
        guarded: bool,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._network = _Network(clock, resolver, guarded=guarded)
        self._tls = (tls or httpcore.default_ssl_context()) if url.scheme == b"https" else None
        self._pool = httpcore.ConnectionPool(
            ssl_context=self._tls,
            max_connections=1,
            keepalive_expiry=5.0,
            network_backend=self._network,
        )

    def post(self, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> Result:
        """Post JSON and judge the answer; ends at the deadline, a slow resolver apart. Raises nothing."""
        self._network.deadline = deadline
        every = {"content-type": "application/json", "user-agent": "riskmon", **headers}
        try:
            with self._pool.stream("POST", self._url, headers=list(every.items()), content=body) as response:
                answer = {name.lower(): value for name, value in response.headers}
                # The status line is the answer. The rest is read so that the connection can be kept.
                with contextlib.suppress(
                    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError
                ):
                    _drain(response.iter_stream())
        except _FAILURES as failure:
            return Retry(_reason(failure))
        retry_after = answer.get(b"retry-after", b"").decode("latin-1")
        return result_of_status(response.status, retry_after, self._clock.now())

    def reach(self, deadline: Deadline) -> Result:
        """Open another connection and close it again, without a request. Raises nothing."""
        self._network.deadline = deadline
        host = self._url.host.decode("ascii")
        default = 80 if self._tls is None else 443
        try:
            stream = self._network.connect_tcp(host, self._url.port or default)
            if self._tls is not None:
                stream = stream.start_tls(self._tls, host.strip("[]"))
        except _FAILURES as failure:
            return Retry(_reason(failure))
        stream.close()
        return Delivered()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._pool.close()


class _Network(httpcore.NetworkBackend):
    """Opens connections before the deadline; a guarded one only to public addresses."""

    def __init__(self, clock: Clock, resolver: Resolve, *, guarded: bool) -> None:
        self._resolver = resolver
        self._guarded = guarded
        self._system = httpcore.SyncBackend()
        self.deadline = Deadline(clock, 0.0)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline decides
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._checked(host.strip("[]"), port)
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share = self.left(httpcore.ConnectTimeout) / left
            try:
                stream = self._system.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                return _Stream(stream, self)
        raise _ConnectionFailure(Reason.DNS)

    def left(self, late: type[httpcore.TimeoutException]) -> float:
        """Return the seconds until the deadline, for one more wait; raises `late` when none are left."""
        remaining = self.deadline.remaining()
        if remaining <= 0.0:
            raise late
        return remaining

    def _checked(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = self._resolver(host, port)
        except (OSError, UnicodeError):
            raise _ConnectionFailure(Reason.DNS) from None
        if self._guarded and not all(map(is_public, addresses)):
            raise _ConnectionFailure(Reason.FORBIDDEN_ADDRESS)
        return addresses


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the request under way.

    A receiver that sends a byte now and then renews the time-out of each read; it does not move a deadline.
    """

    def __init__(self, inner: httpcore.NetworkStream, network: _Network) -> None:
        self._inner = inner
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - see above
        return self._inner.read(max_bytes, self._network.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - see above
        self._inner.write(buffer, self._network.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - see above
    ) -> httpcore.NetworkStream:
        left = self._network.left(httpcore.ConnectTimeout)
        try:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._network)
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise _ConnectionFailure(Reason.TLS) from None
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


_FAILURES = (_ConnectionFailure, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


def _reason(failure: Exception) -> Reason:
    if isinstance(failure, _ConnectionFailure):
        return failure.reason
    if isinstance(failure, httpcore.TimeoutException):
        return Reason.TIMEOUT
    return Reason.CONNECT if isinstance(failure, httpcore.ConnectError) else Reason.PROTOCOL


def _drain(chunks: Iterable[bytes]) -> None:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            return


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _as_ipv4(host: str) -> str:
    """Return the address a resolver makes of a numeric host, such as 2130706433 or 0x7f.1; else empty."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ""


def _seconds(retry_after: str, now: float) -> float:
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, TypeError):  # absent or unreadable: our own back-off decides
        return 0.0
