"""The OTLP receiver: 200 only for what is on disk, and an answer a client can act on for everything else."""

import asyncio
import gzip
import http.client
import json
import random
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
import zstandard
from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from patience import PATIENCE, eventually
from pydantic import SecretStr
from spooling import JSON, PROTOBUF, TOPICS, MemorySpool, logs, names_in, request

from monitor.clock import ManualClock, SystemClock
from monitor.config import Config, Format, ReceiverConfig
from monitor.errors import BadTrace, Retryable
from monitor.ingest.content_types import by_content_type
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.receiver import generations
from monitor.receiver.intake import WAITING_BODIES, BodyIntake
from monitor.receiver.otlp_http import Receiver
from monitor.spool import Received
from monitor.trace import Record

ZSTD = zstandard.ZstdCompressor()
VAULT = Vault(bytes(range(32)))
MOST = 100  # spans of a record
LARGEST = 8 * 2**20  # bytes of one
EMPTY = b'{"resourceSpans":[]}'


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Rig:
    """A running receiver and its spool."""

    def __init__(self, **settings: Any) -> None:
        self.spool = MemorySpool()
        self.codes: Counter[int] = Counter()
        self.clock = ManualClock()
        config = ReceiverConfig(enabled=True, port=0, max_body_bytes=10_000, **settings)
        self.intake = BodyIntake(config, self.spool, TOPICS, self.clock, MOST, LARGEST)
        self.receiver = Receiver(config, self.intake, self._count)
        self.receiver.start()

    def _count(self, status: int) -> None:
        self.codes[status] += 1

    def connect(self) -> http.client.HTTPConnection:
        """A kept-alive connection."""
        return http.client.HTTPConnection("127.0.0.1", self.receiver.port, timeout=PATIENCE)

    def post(
        self,
        body: bytes,
        kind: str = PROTOBUF,
        path: str = "/v1/traces",
        method: str = "POST",
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request."""
        own = connection or self.connect()
        try:
            fields = {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
            own.request(method, path, body, fields)
            answer = own.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.headers))
        finally:
            if connection is None:
                own.close()


@contextmanager
def running(**settings: Any) -> Iterator[Rig]:
    """A rig that is stopped in the end."""
    rig = Rig(**settings)
    try:
        yield rig
    finally:
        rig.spool.gate.set()
        rig.receiver.stop()
        rig.intake.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A running receiver."""
    with running() as made:
        yield made


@pytest.mark.parametrize(
    ("path", "kind", "body", "topic", "reply"),
    [
        ("/v1/traces", PROTOBUF, request(), "otlp.traces@one", b""),
        ("/v1/logs", PROTOBUF, logs(), "otlp.logs@one", b""),
        ("/v1/traces", JSON, EMPTY, "otlp.traces@one", b"{}"),
        ("/v1/logs", f"{JSON}; charset=utf-8", b'{"resourceLogs":[{}]}', "otlp.logs@one", b"{}"),
        (
            "/api/v1/generations:export",
            JSON,
            b'{"generations":[{"id":"gen-1"},{"id":7}]}',
            "otlp.generations@one",
            b'{"results":[{"generation_id":"gen-1","accepted":true},{"generation_id":"","accepted":true}]}',
        ),
    ],
)
def test_a_body_is_spooled_as_it_came(
    rig: Rig, path: str, kind: str, body: bytes, topic: str, reply: bytes
) -> None:
    """Each signal in its encodings: the body goes to its topic, the answer is in that encoding.

    It is empty, but for generations: of these it has a result for each.
    """
    answer = rig.post(body, kind, path)
    bare = kind.partition(";")[0]
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, reply, bare)
    assert rig.spool.bodies == [Received(topic, rig.clock.now(), bare, body)]


def test_generations_beyond_the_bound_are_divided(rig: Rig) -> None:
    """Each part has at most so many as a record may hold, in their order."""
    sent = [{"id": str(number)} for number in range(2 * MOST + 1)]
    body = json.dumps({"generations": sent}).encode()
    assert rig.post(body, JSON, "/api/v1/generations:export").status == 200
    (body_of,) = rig.spool.bodies
    parts = [json.loads(part)["generations"] for part in (body_of.value, *body_of.rest)]
    assert [len(part) for part in parts] == [MOST, MOST, 1]
    assert [one for part in parts for one in part] == sent


def test_gzip_and_chunks_are_undone(rig: Rig) -> None:
    """What is spooled is the plain body."""
    body = request("x" * 3000)
    assert rig.post(gzip.compress(body), Content_Encoding="gzip").status == 200
    connection = rig.connect()
    connection.request("POST", "/v1/traces", iter([body[:1000], body[1000:]]), {"Content-Type": PROTOBUF})
    assert connection.getresponse().status == 200
    connection.close()
    assert [one.value for one in rig.spool.bodies] == [body, body]


@pytest.mark.parametrize("size", [1, 3_000, 9_000])
def test_each_encoding_of_a_collector_is_undone(rig: Rig, size: int) -> None:
    """Gzip, zlib and zstd, with its length in the frame or not; names of any case."""
    body = request("x" * size)
    stream = zstandard.ZstdCompressor().compressobj()
    sent = {
        "identity": body,
        "GZIP": gzip.compress(body),
        "deflate": zlib.compress(body),
        "zlib": zlib.compress(body),
        "zstd": ZSTD.compress(body),
        "Zstd": stream.compress(body) + stream.flush(),
    }
    for name, content in sent.items():
        assert rig.post(content, Content_Encoding=name).status == 200
    assert [one.value for one in rig.spool.bodies] == [body] * len(sent)


@pytest.mark.parametrize(("kind", "body"), [(PROTOBUF, b""), (JSON, b"{}")])
def test_an_empty_request_is_fine_and_spools_nothing(rig: Rig, kind: str, body: bytes) -> None:
    """OTLP allows a request without anything in it."""
    assert rig.post(body, kind).status == 200
    assert rig.spool.bodies == []


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (404, {"path": "/v1/metrics"}),
        (404, {"path": "/"}),
        (405, {"method": "GET"}),
        (405, {"method": "PUT"}),
        (415, {"kind": "text/plain"}),
        (415, {"path": "/api/v1/generations:export", "kind": PROTOBUF}),
        (415, {"kind": ""}),
        (415, {"Content_Encoding": "br"}),
        (415, {"Content_Encoding": "gzip, gzip"}),
        (400, {"body": b"\xff\xff\xff\xff"}),
        (400, {"body": b"[]", "kind": JSON}),
        (400, {"body": b'{"a": nonsense}', "kind": JSON}),
        (400, {"body": b'{"a": ' + b"[" * 4000, "kind": JSON}),
        (400, {"body": b"no gzip", "Content_Encoding": "gzip"}),
        (400, {"body": gzip.compress(request())[:-4], "Content_Encoding": "gzip"}),
        (400, {"body": gzip.compress(request()) * 2, "Content_Encoding": "gzip"}),
        (413, {"body": b"x" * 10_001}),
        (413, {"body": b"x" * 1_000_000}),
        (413, {"body": gzip.compress(bytes(5_000_000)), "Content_Encoding": "gzip"}),
        (413, {"body": zlib.compress(bytes(5_000_000)), "Content_Encoding": "deflate"}),
        (413, {"body": ZSTD.compress(bytes(5_000_000)), "Content_Encoding": "zstd"}),
        (400, {"body": b"no zstd", "Content_Encoding": "zstd"}),
        (400, {"body": ZSTD.compress(request())[:-1], "Content_Encoding": "zstd"}),
        (400, {"body": ZSTD.compress(request()) * 2, "Content_Encoding": "zstd"}),
        (400, {"body": b"", "Content_Encoding": "zstd"}),
    ],
)
def test_what_cannot_be_taken_is_refused_for_good(rig: Rig, status: int, change: dict[str, Any]) -> None:
    """Each refusal has its status, a Status message in the request's encoding, and leaves nothing behind."""
    answer = rig.post(**{"body": request(), **change})
    assert answer.status == status
    if answer.headers["Content-Type"] == PROTOBUF:
        assert Status.FromString(answer.body).message
    else:
        assert json.loads(answer.body)["message"]
    assert "Retry-After" not in answer.headers
    assert rig.spool.bodies == []
    assert rig.codes == {status: 1}
    assert rig.post(request()).status == 200


def test_a_gzip_bomb_is_given_up_at_the_bound() -> None:
    """Ten kilobytes that would become ten megabytes are never made more than the bound."""
    with running() as rig:
        bomb = gzip.compress(bytes(9_000_000))
        assert len(bomb) < 10_000
        assert rig.post(bomb, Content_Encoding="gzip").status == 413


def test_a_body_that_is_too_large_names_the_remedy_of_a_collector(rig: Rig) -> None:
    """Before it is read and after it was decompressed: the limit, and what to set at the sender."""
    large = b"x" * 10_001
    for body, encoding in (
        (large, "identity"),
        (gzip.compress(large), "gzip"),
        (ZSTD.compress(large), "zstd"),
    ):
        text = Status.FromString(rig.post(body, Content_Encoding=encoding).body).message
        assert all(
            name in text for name in ("receiver.max_body_bytes, 10000", "sending_queue", "sizer: bytes")
        )


def test_a_refused_encoding_names_those_that_are_taken(rig: Rig) -> None:
    """A Collector drops the body and logs the text."""
    text = Status.FromString(rig.post(request(), Content_Encoding="snappy").body).message
    assert text == "content-encoding must be one of identity, gzip, deflate, zlib, zstd, or none"


@pytest.mark.parametrize("size", [1, 300])
def test_a_grpc_client_is_told_where_grpc_is_taken(size: int) -> None:
    """HTTP/2's preface gets an answer that names gRPC and its port, and the operator one line in the log."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * size
    with running() as rig, structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", rig.receiver.port), timeout=PATIENCE) as peer:
                peer.sendall(preface)
                with peer.makefile("rb") as stream:
                    answer = stream.read().decode()
            assert answer.startswith("HTTP/1.1 400 ")
            assert all(word in answer for word in ("gRPC", "4317", "receiver.grpc.enabled", "http/protobuf"))
    assert [line["event"] for line in logs] == ["grpc_on_http_port"]


def test_more_spans_than_a_record_may_have_become_several_records(rig: Rig) -> None:
    """A body that the decoder would refuse as a whole is divided, and answered once."""
    names = [f"s{number}" for number in range(2 * MOST + 1)]
    assert rig.post(request(*names)).status == 200
    (body,) = rig.spool.bodies
    parts = [names_in(value) for value in (body.value, *body.rest)]
    assert [len(part) for part in parts] == [MOST, MOST, 1]
    assert [name for part in parts for name in part] == names


def test_a_token_is_asked_for_where_one_is_set() -> None:
    """Without the right bearer token the answer is 401, before any of the body is kept."""
    with running(token=SecretStr("canary-of-sixteen")) as rig:
        assert rig.post(request()).status == 401
        refused = rig.post(request(), Authorization="Bearer wrong")
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert b"canary" not in refused.body
        assert rig.post(request(), Authorization="Bearer canary-of-sixteen").status == 200


def test_a_full_spool_says_when_to_come_back(rig: Rig) -> None:
    """429 with Retry-After until that time, and readiness knows; then bodies are tried again."""
    rig.spool.room = 1
    assert rig.post(request()).status == 200
    accepting = [rig.intake.accepting]
    answer = rig.post(request())
    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    accepting.append(rig.intake.accepting)
    rig.spool.room = 10
    assert rig.post(request()).status == 429
    rig.clock.advance(5)
    accepting.append(rig.intake.accepting)
    assert accepting == [True, False, True]
    assert rig.post(request()).status == 200
    assert len(rig.spool.bodies) == 2


def test_a_busy_ledger_is_a_429_and_a_fault_a_500(rig: Rig) -> None:
    """What may pass is to be repeated; a bug is logged, answered without detail, and not counted as taken."""
    rig.spool.error = Retryable("database is locked")
    assert rig.post(request()).status == 429
    rig.clock.advance(5)
    rig.spool.error = RuntimeError("canary-spool")
    with structlog.testing.capture_logs() as logs:
        answer = rig.post(request())
    assert answer.status == 500
    assert b"canary" not in answer.body
    assert [line["event"] for line in logs] == ["http_fault"]
    rig.spool.error = None
    assert rig.post(request()).status == 200


def test_requests_at_once_share_a_transaction(rig: Rig) -> None:
    """While one group is written the others gather, and are written together; each gets its own answer."""
    rig.spool.gate.clear()
    with ThreadPoolExecutor(20) as clients:
        answers = [clients.submit(rig.post, request("0"))]
        assert rig.spool.asked.wait(PATIENCE)
        answers += [clients.submit(rig.post, request(str(n))) for n in range(1, 20)]
        eventually(lambda: len(rig.intake._waiting) == 19, "the others to wait")
        rig.spool.gate.set()
        assert {answer.result().status for answer in answers} == {200}
    assert [len(group) for group in rig.spool.groups] == [1, 19]


def test_what_waits_to_be_written_is_bounded(rig: Rig) -> None:
    """With a ledger that hangs, memory holds a few bodies of the largest size; the next client gets 429."""
    rig.spool.gate.clear()
    body = request("x" * 9_000)
    with ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(rig.post, body) for _ in range(12)]
        eventually(lambda: rig.codes[429], "a client that is sent away")
        assert rig.intake.room.used <= WAITING_BODIES * 10_000
        rig.spool.gate.set()
        assert {answer.result().status for answer in answers} == {200, 429}


def test_what_waits_counts_as_what_it_becomes(rig: Rig) -> None:
    """Bodies of a few bytes that decompress to many are bounded by these, and release them."""
    rig.spool.gate.clear()
    body = gzip.compress(request("x" * 9_000))
    assert len(body) < 200
    with ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(rig.post, body, Content_Encoding="gzip") for _ in range(12)]
        eventually(lambda: rig.codes[429] == 4, "the clients that are sent away")
        assert rig.intake.room.used <= WAITING_BODIES * 10_000
        rig.spool.gate.set()
        assert Counter(answer.result().status for answer in answers) == {200: 8, 429: 4}
    assert rig.intake.room.used == 0


def test_bodies_are_checked_one_at_a_time_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is checked the next ones wait, and every other request is answered."""
    gate, at_once, most = threading.Event(), 0, 0
    parts = rig.intake._divider.parts

    def slow(*arguments: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert gate.wait(PATIENCE)
        at_once -= 1
        return parts(*arguments)

    monkeypatch.setattr(rig.intake._divider, "parts", slow)
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(rig.post, request()) for _ in range(4)]
        eventually(lambda: at_once, "a check to begin")
        assert rig.post(request(), method="GET").status == 405
        gate.set()
        assert {answer.result().status for answer in answers} == {200}
    assert most == 1


def test_generations_are_answered_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has a result for each of perhaps a million generations: no other request waits for it."""
    threads: list[str] = []
    answer = generations.answer

    def watched(body: bytes, *, as_json: bool) -> bytes:
        threads.append(threading.current_thread().name.rpartition("_")[0])
        return answer(body, as_json=as_json)

    monkeypatch.setattr(generations, "answer", watched)
    assert rig.post(b'{"generations":[{"id":"a"}]}', JSON, "/api/v1/generations:export").status == 200
    asyncio.run(rig.intake.take("generations", PROTOBUF, b""))  # as gRPC gives it
    assert threads == ["riskmon-check"] * 2


def test_a_client_that_goes_leaves_no_bytes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is still being checked when its call is cancelled holds nothing in the end."""
    gate, begun = threading.Event(), threading.Event()
    parts = rig.intake._divider.parts

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert gate.wait(PATIENCE)
        return (*parts(*arguments), b"x")

    monkeypatch.setattr(rig.intake._divider, "parts", slow)

    async def cancelled() -> None:
        calls = [asyncio.create_task(rig.intake.take("traces", PROTOBUF, request())) for _ in range(3)]
        await asyncio.to_thread(begun.wait, PATIENCE)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gate.set()

    asyncio.run(cancelled())
    rig.intake._checker.submit(bool).result()
    assert rig.intake.room.used == 0


def test_a_default_batch_of_a_collector_fits() -> None:
    """8,192 spans with prompts of 3 KB are within the default limit, as protobuf and as JSON."""
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for number in range(8_192):
        span = spans.add(trace_id=bytes(16), span_id=bytes(8), name="chat gpt-5", start_time_unix_nano=number)
        for key, size in (("gen_ai.input.messages", 3_080), ("gen_ai.output.messages", 400), ("other", 300)):
            span.attributes.add(key=key).value.string_value = "x" * size
    limit = ReceiverConfig().max_body_bytes
    assert made.ByteSize() < limit
    assert len(MessageToJson(made, indent=None)) + 8_192 * 40 < limit  # quotes of JSON in JSON are escaped


def test_any_host_will_do_with_a_token_and_a_known_one_without() -> None:
    """A page that was rebound to the receiver has no token; an ingress may have any name."""
    secret = "a token of enough characters"
    for token, expected in ((None, 421), (SecretStr(secret), 200)):
        with running(token=token) as rig:
            for host, status in (("otlp.example.com", expected), ("riskmon:4318", 200)):
                assert rig.post(request(), Authorization=f"Bearer {secret}", Host=host).status == status
    with running(allowed_hosts=["otlp.example.com"]) as rig:
        assert rig.post(request(), Host="otlp.example.com").status == 200


def test_a_stopping_receiver_sends_clients_away(rig: Rig) -> None:
    """503 with Retry-After from the moment a stop is asked for."""
    rig.intake.refuse()
    answer = rig.post(request())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


def test_a_connection_carries_many_requests(rig: Rig) -> None:
    """Keep-alive: three requests on one connection, a refused one among them."""
    connection = rig.connect()
    statuses = [
        rig.post(body, connection=connection).status for body in (request(), b"\xff\xff\xff", request())
    ]
    connection.close()
    assert statuses == [200, 400, 200]


def test_expect_continue_is_answered_before_the_body(rig: Rig) -> None:
    """A client that asks first, as curl does for large bodies, is told to go on."""
    body = request()
    head = (
        f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", rig.receiver.port), timeout=PATIENCE) as peer:
        peer.sendall(head.encode())
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.sendall(body)
        assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_garbage_is_answered_or_dropped_and_leaves_nothing(rig: Rig) -> None:
    """500 mutilated requests: no 5xx, no bytes held, and the next good request is taken."""
    rng = random.Random(4)
    body = request()
    good = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
    good += b"Content-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(500):
        cut = rng.randrange(len(good))
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
        with socket.create_connection(("127.0.0.1", rig.receiver.port), timeout=PATIENCE) as peer:
            try:
                peer.sendall(good[:cut] + junk + good[cut + rng.randrange(3) :])
                peer.shutdown(socket.SHUT_WR)
                answer = peer.recv(65536)
            except OSError:
                answer = b""
        assert not answer.startswith(b"HTTP/1.1 5")
    assert rig.post(body).status == 200
    eventually(lambda: rig.receiver.waiting_bytes == 0, "all bytes released")


def test_an_open_port_without_a_token_is_said_so() -> None:
    """Listening beyond loopback is allowed, and logged with what to do."""
    with structlog.testing.capture_logs() as logs:
        for token in (None, SecretStr("t" * 16)):
            config = ReceiverConfig(enabled=True, host="0.0.0.0", port=0, token=token)  # noqa: S104 - what is tested
            intake = BodyIntake(config, MemorySpool(), TOPICS, SystemClock(), MOST, LARGEST)
            receiver = Receiver(config, intake)
            receiver.start()
            receiver.stop()
            intake.close()
    assert [(line["event"], line["section"]) for line in logs] == [("not_loopback", "receiver")]
    assert "receiver.token" in logs[0]["remedy"]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_an_sdk_exports_into_a_real_spool(tmp_path: Path, compression: Compression) -> None:
    """OpenTelemetry's own exporter is content, and what it sent can be read back, span by span."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", VAULT, SystemClock(), "one")
    spool = LedgerSpool(ledger, VAULT, tuple(TOPICS.values()), max_records=100, max_bytes=10**6)
    config = ReceiverConfig(enabled=True, port=0)
    intake = BodyIntake(config, spool, TOPICS, SystemClock(), MOST, LARGEST)
    receiver = Receiver(config, intake)
    receiver.start()
    url = f"http://127.0.0.1:{receiver.port}/v1/traces"
    exporter = OTLPSpanExporter(url, compression=compression, timeout=PATIENCE)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for number in range(3):
        provider.get_tracer("test").start_span(f"chat {number}", attributes={"gen_ai.system": "x"}).end()
    provider.shutdown()
    receiver.stop()
    intake.close()
    records = spool.read(TOPICS["traces"], 0, 10, 10**6)
    ledger.close()
    names = [name for record in records for name in names_in(record.value or b"")]
    assert names == ["chat 0", "chat 1", "chat 2"]


def test_received_records_are_decoded_by_their_content_type() -> None:
    """Each encoding of each signal has its format; a record without one is a bad trace."""

    def named(name: str) -> Any:
        return lambda record: [(name, record.offset)]

    formats: tuple[Format, ...] = (
        "otlp_proto", "otlp_json", "otlp_proto_logs", "agento11y", "agento11y_proto",
    )  # fmt: skip
    decoders = {name: named(name) for name in formats}
    found = {
        (signal, kind): by_content_type(decoders, signal)(
            Record("t", 0, 7, 0.0, None, b"", (("content-type", kind.encode()),))
        )
        for signal in TOPICS
        for kind in (PROTOBUF, JSON)
    }
    assert found == {
        ("traces", PROTOBUF): [("otlp_proto", 7)],
        ("traces", JSON): [("otlp_json", 7)],
        ("logs", PROTOBUF): [("otlp_proto_logs", 7)],
        ("logs", JSON): [("otlp_json", 7)],
        ("generations", PROTOBUF): [("agento11y_proto", 7)],
        ("generations", JSON): [("agento11y", 7)],
    }
    with pytest.raises(BadTrace, match="content_type"):
        by_content_type(decoders, "traces")(Record("t", 0, 0, 0.0, None, b""))


def test_what_is_received_fits_the_decoder() -> None:
    """With a receiver the largest record that is decoded is at least the largest part of a body."""
    small = Config.model_validate({"receiver": {"enabled": True, "max_body_bytes": 5}})
    assert small.bounds().max_record_bytes == 2 * 2**20
    assert Config.model_validate({"receiver": {"enabled": True}}).bounds().max_record_bytes == 8 * 2**20
    assert Config().bounds() == Config().ingest
