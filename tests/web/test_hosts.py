"""Hosts: a name that somebody could have registered must be known, and other sites change nothing here."""

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import eventually

from monitor.web.hosts import Hosts

HOSTS = Hosts("http", "0.0.0.0", ["riskmon.example.org", "*.apps.example.org"])  # noqa: S104 - nothing listens
LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=9)
PORTS = st.sampled_from(["", ":9469", ":80"])


def status(host: str, method: str = "GET", hosts: Hosts = HOSTS, **headers: str) -> int:
    """The status of a refusal, 0 without one."""
    fields = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    refusal = hosts.refusal(method, fields)
    return refusal[0] if refusal else 0


@given(st.builds(IPv4Address, st.integers(0, 2**32 - 1)), PORTS)
def test_an_address_is_always_known(address: IPv4Address, port: str) -> None:
    """Kubernetes' probes and Prometheus ask by address, which no page has as its name."""
    assert status(f"{address}{port}") == 0


@given(st.builds(IPv6Address, st.integers(0, 2**128 - 1)), PORTS)
def test_an_address_of_version_6_is_always_known(address: IPv6Address, port: str) -> None:
    """It stands in brackets."""
    assert status(f"[{address}]{port}") == 0


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:9469", "riskmon-1:9469", "x", socket.gethostname(), "riskmon.example.org",
        "RiskMon.Example.org.:80", "a.b.apps.example.org", "riskmon.llm.svc", "a.b.svc.cluster.local:9",
        "host.docker.internal", "nas.home.arpa", "a.localhost", "", "127.0.0.1:1", "[::1]:9469",
    ],
)  # fmt: skip
def test_names_that_nobody_can_register_are_known(host: str) -> None:
    """Names of compose files, of Kubernetes' services and of this machine; HTTP/1.0 has none."""
    assert status(host) == 0


@given(
    st.lists(LABELS, min_size=1, max_size=4), st.sampled_from(["com", "org", "dev", "io", "example"]), PORTS
)
def test_other_names_are_not_answered(labels: list[str], last: str, port: str) -> None:
    """A page that was rebound to this machine has such a name; the text says where to add it."""
    host = ".".join([*labels, last])
    refusal = HOSTS.refusal("GET", {"host": host + port})
    assert refusal is not None
    assert (refusal[0], "http.allowed_hosts" in refusal[1]) == (421, True)
    assert status(host + port, hosts=Hosts("http", "::", ["*"])) == 0
    assert status(host + port, hosts=Hosts("http", host, [])) == 0


@pytest.mark.parametrize(
    "host",
    [
        "apps.example.org", "xapps.example.org", "riskmon.example.org.evil.com", "127.0.0.1.evil.com",
        "evil.localhost.com", "local.evil.com", "arpa.com", "x.arpa", "1.2.3.4.5",
    ],
)  # fmt: skip
def test_look_alikes_are_not_known(host: str) -> None:
    """A known name as a part of another, or an address as the beginning of one."""
    assert status(host) == 421


def test_the_full_name_of_this_machine_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be registered is not known, so the resolver is asked, which may take its time."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "web1.prod.example.com")
    hosts = Hosts("http", "0.0.0.0", [])  # noqa: S104 - nothing listens
    assert status("web1.prod.example.com:9469", hosts=hosts) == 421
    hosts.learn()
    eventually(lambda: status("web1.prod.example.com:9469", hosts=hosts) == 0, "the name to be known")


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (0, {}),
        (0, {"origin": "http://127.0.0.1:9469"}),
        (0, {"sec_fetch_site": "same-origin", "origin": "https://behind.a.proxy"}),
        (0, {"sec_fetch_site": "none"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (403, {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:9469"}),
        (403, {"origin": "http://127.0.0.1:3000"}),
        (403, {"origin": "http://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"origin": ""}),
    ],
)
def test_another_site_changes_nothing(expected: int, headers: dict[str, str]) -> None:
    """What changes something is refused from another origin; what is only read is not."""
    assert status("127.0.0.1:9469", "POST", HOSTS, **headers) == expected
    assert status("127.0.0.1:9469", "GET", HOSTS, **headers) == 0
