"""Which requests are meant for this server, and which a page of another site made a browser send.

A page whose own name suddenly leads to this machine (DNS rebinding) may read what it asks for, but its
requests bear that name as `Host`. So a name must be known. Known without being configured are those that
nobody can register in public: addresses, names of one part, and those below `_PRIVATE`.

What another site makes a browser send is told by `Sec-Fetch-Site`, else by `Origin`. Only a method that
changes something is refused for it: the answer to any other is unreadable there.
"""

import ipaddress
import socket
import threading
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

_PRIVATE: Final = frozenset({"localhost", "local", "internal", "svc", "home.arpa"})
"""Nobody can register a name below: RFC 6761, 6762 and 8375, ICANN's `internal`, Kubernetes' `svc`."""
_OWN: Final = frozenset({"same-origin", "none"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Hosts:
    """Knows the names of a server that listens at `host`. `section` is its part of the configuration.

    `allowed` are further names; `*.` before one stands for all below it, `*` alone for any.
    """

    def __init__(self, section: str, host: str, allowed: Iterable[str]) -> None:
        self._section = section
        names = {_plain(name) for name in allowed}
        self._below = tuple(name[1:] for name in names if name.startswith("*."))
        self._any = "*" in names
        self._names = names | {_plain(host), _plain(socket.gethostname())}

    def learn(self) -> None:
        """Ask for this machine's full name, which may take long, on a thread of its own."""
        ask = threading.Thread(target=self._ask, name="riskmon-own-name", daemon=True)
        ask.start()

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """Return status and text for a request that is not answered; names of headers are lower-case."""
        host = headers.get("host", "")
        if host and not self._knows(_plain(_name_of(host))):
            text = (
                f"asked by an unknown name; if it is this server's, add it to {self._section}.allowed_hosts"
            )
            return HTTPStatus.MISDIRECTED_REQUEST, text
        if method not in _SAFE and _is_foreign(headers, host):
            return HTTPStatus.FORBIDDEN, "sent by a page of another origin"
        return None

    def _ask(self) -> None:
        self._names = self._names | {_plain(socket.getfqdn())}

    def _knows(self, name: str) -> bool:
        if self._any or "." not in name or name in self._names or name.endswith(self._below):
            return True
        parts = name.split(".")
        return parts[-1] in _PRIVATE or ".".join(parts[-2:]) in _PRIVATE or _is_address(name)


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OWN
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("://")[2] != host.lower()


def _name_of(host: str) -> str:
    """Return a `Host` without its port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
