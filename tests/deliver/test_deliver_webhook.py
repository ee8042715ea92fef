"""The webhook: what arrives, what an answer means, and where a URL cannot lead."""

import email.utils
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE, eventually, unhindered
from receivers import receiver

from monitor.clock import Clock, ManualClock, SystemClock
from monitor.config import WebhookConfig
from monitor.deliver.network import (
    MAX_RESPONSE_BYTES,
    Resolve,
    endpoint,
    is_public,
    resolve,
    result_of_status,
)
from monitor.deliver.results import Delivered, Outcome, Reason, Rejected, Result, Retry
from monitor.deliver.webhook import WebhookSender
from monitor.errors import ConfigError
from monitor.records import Leased

ROW = Leased(1, "webhook:ops", "flag-1", {"labels": {"alertname": "Leak"}}, 0, 0.0)
NOW = 1_700_000_000.0


@contextmanager
def trap() -> Iterator[tuple[int, Callable[[], int]]]:
    """A listener on every local address that counts who comes."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with closing(socket.create_server(("", 0), family=family, dualstack_ipv6=both)) as listener:
        listener.setblocking(False)

        def visitors() -> int:
            count = 0
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    return count
                count += 1

        yield listener.getsockname()[1], visitors


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that does to its one connection what `talk` says."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(PATIENCE)


def post(url: str, clock: Clock | None = None, timeout: float = PATIENCE, **config: Any) -> Outcome:
    """Send one row to a URL that may be private."""
    settings = WebhookConfig.model_validate({"name": "ops", "url": url, "allow_private": True} | config)
    sender = WebhookSender(settings, timeout, clock or SystemClock())
    with closing(sender):
        return sender.send([ROW])


def guarded(
    url: str,
    resolver: Resolve = resolve,
    timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
) -> Outcome:
    """Send one row through the guard."""
    config = WebhookConfig(name="ops", url=url)
    with closing(WebhookSender(config, timeout, SystemClock(), resolver, tls)) as sender:
        return sender.send([ROW])


def test_a_message_is_signed_and_deduplicable() -> None:
    """A receiver can check who sent a message and when, and drop repeats by its key."""
    with receiver(status=202) as (host, got):
        assert post(f"http://{host}/hook?a=1", ManualClock(NOW), secret="s3cret") == [Delivered()]
    [(path, headers, body)] = got.got
    assert path == "/hook?a=1"
    assert json.loads(body) == {"schema": "riskmon.alert/1", "id": "flag-1", "alert": ROW.body}
    assert headers["idempotency-key"] == "flag-1"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == host
    expected = hmac.new(b"s3cret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["x-riskmon-signature"] == f"t=1700000000,v1={expected}"


def test_without_a_secret_nothing_pretends_to_be_signed() -> None:
    """A webhook without a key carries no signature header."""
    with receiver() as (host, got):
        post(f"http://{host}/")
    assert "x-riskmon-signature" not in got.got[0][1]


def test_a_burst_shares_one_connection() -> None:
    """Several rows in a row need one connection only."""
    with receiver() as (host, got):
        config = WebhookConfig(url=f"http://{host}/", allow_private=True)
        with closing(WebhookSender(config, PATIENCE, SystemClock())) as sender:
            for _ in range(5):
                assert sender.send([ROW]) == [Delivered()]
    assert (len(got.got), len(got.peers)) == (5, 1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered()),
        (204, Delivered()),
        (301, Retry(Reason.REDIRECTED, 7.0)),
        (302, Retry(Reason.REDIRECTED, 7.0)),
        (308, Retry(Reason.REDIRECTED, 7.0)),
        (400, Rejected(Reason.INVALID)),
        (401, Retry(Reason.UNAUTHORIZED, 7.0)),
        (403, Retry(Reason.UNAUTHORIZED, 7.0)),
        (404, Retry(Reason.NOT_FOUND, 7.0)),
        (405, Retry(Reason.REFUSED, 7.0)),
        (408, Retry(Reason.TIMEOUT, 7.0)),
        (410, Retry(Reason.NOT_FOUND, 7.0)),
        (413, Rejected(Reason.TOO_LARGE)),
        (415, Retry(Reason.REFUSED, 7.0)),
        (422, Rejected(Reason.INVALID)),
        (429, Retry(Reason.THROTTLED, 7.0)),
        (500, Retry(Reason.SERVER_ERROR, 7.0)),
        (503, Retry(Reason.SERVER_ERROR, 7.0)),
    ],
)
def test_statuses_are_judged_by_whether_a_repeat_could_help(status: int, expected: Outcome) -> None:
    """Only what is called malformed is set aside; all else may pass, after the time the receiver asks for."""
    assert result_of_status(status, "7", NOW) == expected


@given(st.integers(200, 599))
def test_no_status_but_three_gives_up_a_row(status: int) -> None:
    """Whatever a receiver answers, a row is delivered (2xx), malformed (400, 413, 422), or tried again."""
    result = result_of_status(status, "", NOW)
    expected = Delivered if status < 300 else Rejected if status in {400, 413, 422} else Retry
    assert type(result) is expected


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e9", "٣", "Wed, 99 Foo 2026 00:00:00 GMT"])
def test_an_unreadable_retry_after_is_no_wish(text: str) -> None:
    """Without a readable Retry-After the dispatcher's own back-off decides."""
    assert result_of_status(503, text, NOW) == Retry(Reason.SERVER_ERROR, 0.0)


@given(st.integers(-10_000, 10_000))
def test_retry_after_may_be_a_date(seconds: int) -> None:
    """A date in the future is a wait, one in the past is none."""
    text = email.utils.format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)
    assert result_of_status(429, text, NOW) == Retry(Reason.THROTTLED, max(0.0, float(seconds)))


def test_redirects_are_not_followed() -> None:
    """An answer cannot send the alert elsewhere."""
    with trap() as (port, visitors):
        for status in (301, 302, 303, 307, 308):
            location = {"location": f"http://127.0.0.1:{port}/"}
            with receiver(status=status, reply=location) as (host, got):
                assert post(f"http://{host}/") == [Retry(Reason.REDIRECTED)]
            assert len(got.got) == 1
        assert visitors() == 0


def test_a_long_answer_is_not_read_to_its_end() -> None:
    """Whatever a receiver answers, only the status counts and little of the rest is read."""
    sent = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"x" * MAX_RESPONSE_BYTES)
        except (BrokenPipeError, ConnectionResetError):
            sent.set()

    with raw_server(talk) as url:
        assert post(url) == [Delivered()]
    assert sent.is_set()


def test_a_trickling_receiver_cannot_hold_a_delivery() -> None:
    """A byte now and then does not move the deadline of a delivery."""
    clock = SystemClock()
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.05):
                connection.sendall(b"x-more: y\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return

    with raw_server(talk) as url:
        with unhindered():
            assert post(url, clock, timeout=0.5) == [Retry(Reason.TIMEOUT)]
        done.set()


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"", Reason.PROTOCOL), (b"SSH-2.0-x\r\n", Reason.PROTOCOL), (b"HTTP/1.1 2", Reason.PROTOCOL)],
)
def test_what_does_not_speak_http_is_tried_again(said: bytes, reason: Reason) -> None:
    """A receiver that closes early or answers nonsense may be well again later."""
    with raw_server(lambda connection: connection.sendall(said)) as url:
        assert post(url) == [Retry(reason)]


def test_nobody_there_is_tried_again() -> None:
    """A refused connection is worth another try."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/") == [Retry(Reason.CONNECT)]


LOCAL_HOSTS = """
    127.0.0.1 127.1 127.0.1 127.255.255.254 2130706433 017700000001 0x7f000001 0x7f.1 0177.0.0.1 0177.0.0.01
    0x7f.0x0.0x0.0x1 127.0.0.1. localhost LOCALHOST localhost. 0 0.0.0.0 00.0.0.0 0x0
    [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [64:ff9b::127.0.0.1]
    [64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:7f00:1::] [::1%25lo] [fe80::1] [fe80::1%25eth0] [fc00::1]
    [fd00:ec2::254] [fec0::1] [ff02::1] 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1
    169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 100.64.0.1 100.100.100.200 168.63.129.16
    192.0.0.192 192.88.99.1 198.18.0.1 192.0.2.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250
    240.0.0.1 255.255.255.255
""".split()  # noqa: SIM905 - sixty lines of quotes would read worse
"""Spellings of hosts that are local, private, link-local, metadata, multicast or reserved."""

ODD_URLS = [
    "https://user:pw@127.0.0.1:{port}/",
    "https://example.org@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@example.org/",
    "https://127.0.0.1:{port}\\@example.org/",
    "https://example.org\\@127.0.0.1:{port}/",
    "https://example.org\r\nhost: 127.0.0.1/",
    "https://127.0.0.1:{port}/\r\nx: y",
    "https://127.0.0.1\t:{port}/",
    "https://127.0.0.1 :{port}/",
    " https://127.0.0.1:{port}/",
    "https:127.0.0.1:{port}",
    "https:/127.0.0.1:{port}/",
    "https:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}",
    "http://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "https://%31%32%37.0.0.1:{port}/",
    "https://①②⑦.0.0.1:{port}/",
    "https://ⓛocalhost:{port}/",
    "https://127。0。0。1:{port}/",
    "https://[127.0.0.1]:{port}/",
    "https://[::1:{port}/",
    "https://::1:{port}/",
    "https://127.0.0.1:99999/",
    "https://127.0.0.1:0/",
    "https://127.0.0.1:{port}:80/",
    "https://127.0.0.1,example.org:{port}/",
    "https://127.0.0.1;@example.org:{port}/",
    "https://:{port}/",
    "https://",
    "",
]
"""URLs that parsers read in different ways, and schemes that are not https."""


def guard_result(url: str) -> Result | ConfigError:
    """What becomes of a row sent to a URL, or why the URL is refused."""
    try:
        return guarded(url)[0]
    except ConfigError as error:
        return error


def test_no_spelling_of_a_url_leads_inside() -> None:
    """Not one of over sixty URL forms makes a connection to a listener on this machine."""
    forms = [f"https://{host}:{{port}}/" for host in LOCAL_HOSTS] + ODD_URLS
    assert len(forms) >= 60
    with trap() as (port, visitors):
        results = {form: guard_result(form.format(port=port)) for form in forms}
        assert visitors() == 0
        # The trap is a real one: with the guard off, the plainest form falls into it.
        eventually(lambda: post(f"http://127.0.0.1:{port}/", timeout=0.2) and visitors(), "a visitor")
    allowed = {Retry(Reason.FORBIDDEN_ADDRESS), Retry(Reason.DNS)}
    assert [form for form, r in results.items() if not isinstance(r, ConfigError) and r not in allowed] == []
    assert all(isinstance(results[form], ConfigError) for form in ODD_URLS)
    assert [form for form, r in results.items() if isinstance(r, ConfigError) and "127.0.0.1" in str(r)] == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],
        ["127.0.0.1", "93.184.215.14"],
        ["2606:4700::1111", "::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["not-an-address"],
    ],
)
def test_a_name_with_any_inner_address_is_refused(addresses: Sequence[str]) -> None:
    """A name is as good as the worst of its addresses; none of them is connected to."""
    with trap() as (port, visitors):
        outcome = guarded(f"https://hooks.example.org:{port}/", lambda *_: addresses)
        assert outcome == [Retry(Reason.FORBIDDEN_ADDRESS)]
        assert visitors() == 0


def test_a_rebinding_resolver_gets_no_second_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the one connected to; nobody asks for the name again."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    connected: list[object] = []

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with trap() as (port, visitors):
        url = f"https://rebind.example.org:{port}/"
        assert guarded(url, lambda *_: next(answers)) == [Retry(Reason.CONNECT)]
        assert visitors() == 0
    assert connected == [("93.184.215.14", port)]
    assert next(answers) == ["127.0.0.1"]


def test_all_checked_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose first address is dead is reached by its second."""
    tried: list[object] = []

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        tried.append(address)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    outcome = guarded("https://h.example.org/", lambda *_: ["2606:4700::1111", "1.1.1.1"])
    assert outcome == [Retry(Reason.TIMEOUT)]
    assert tried == [("2606:4700::1111", 443), ("1.1.1.1", 443)]


@pytest.mark.parametrize("failure", [socket.gaierror(8, "unknown"), OSError(), UnicodeError()])
def test_a_name_that_does_not_resolve_is_tried_again(failure: Exception) -> None:
    """A resolver that fails may answer later; so may one that has no address for the name."""

    def fail(*_: object) -> Sequence[str]:
        raise failure

    assert guarded("https://nowhere.example.org/", fail) == [Retry(Reason.DNS)]
    assert guarded("https://nowhere.example.org/", lambda *_: []) == [Retry(Reason.DNS)]


def authority(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context around a self-signed certificate for `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    began = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


@pytest.fixture
def public_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the public address 93.184.215.14 be reached on this machine."""
    real = socket.create_connection

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        assert address[0] == "93.184.215.14"
        return real(("127.0.0.1", address[1]), *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.usefixtures("public_is_local")
def test_a_pinned_connection_still_proves_the_name(tmp_path: Path) -> None:
    """Certificate and Host header are those of the name, although the connection goes to an address."""
    server, client = authority(tmp_path, "hooks.example.org")
    with receiver(server) as (host, got):
        port = host.partition(":")[2]
        url = f"https://hooks.example.org:{port}/x"
        assert guarded(url, lambda *_: ["93.184.215.14"], tls=client) == [Delivered()]
        assert got.got[0][1]["host"] == f"hooks.example.org:{port}"
        other = f"https://other.example.org:{port}/x"
        assert guarded(other, lambda *_: ["93.184.215.14"], tls=client) == [Retry(Reason.TLS)]
        assert guarded(url, lambda *_: ["93.184.215.14"]) == [Retry(Reason.TLS)]
        assert len(got.got) == 1


@given(st.ip_addresses())
def test_public_means_reachable_from_anywhere(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """No address that Python's registry calls private, local or reserved passes, nor one that embeds IPv4."""
    if not is_public(str(ip)):
        return
    assert ip.is_global
    inner = [
        ip.is_private,
        ip.is_loopback,
        ip.is_link_local,
        ip.is_multicast,
        ip.is_reserved,
        ip.is_unspecified,
    ]
    assert not any(inner)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = [ip.ipv4_mapped, ip.sixtofour, ip.teredo]
        assert not any(embedded)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_pass(address: str) -> None:
    """The guard lets real receivers through."""
    assert is_public(address)


def test_a_url_is_refused_without_being_quoted() -> None:
    """The path of a webhook is often its password, so an error names only the setting."""
    with pytest.raises(ConfigError, match=r"deliver\.webhooks\[ops\]\.url") as caught:
        endpoint("https://10.0.0.1/T0KEN", "deliver.webhooks[ops].url", allow_private=False)
    assert "T0KEN" not in str(caught.value)
    assert "10.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1:8443/x", "http://[::1]:80/", "http://svc.ns.svc.cluster.local/"]
)
def test_private_receivers_can_be_allowed(url: str) -> None:
    """With allow_private, inner names and addresses are fine, and so is http."""
    assert endpoint(url, "s", allow_private=True).host
