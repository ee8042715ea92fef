"""OTLP over gRPC: OK only for what is on disk, and a code a client can act on for everything else."""

import gzip
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc
import pytest
import structlog
from checkout import PYTHONPATH
from generation_wire import field
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from patience import PATIENCE, eventually
from pydantic import SecretStr
from spooling import PROTOBUF, TOPICS, MemorySpool, logs, names_in, request

from monitor.clock import ManualClock, SystemClock
from monitor.config import Config, ReceiverConfig
from monitor.errors import ConfigError, Retryable
from monitor.receiver import otlp_grpc
from monitor.receiver.intake import BodyIntake
from monitor.receiver.otlp_grpc import GrpcReceiver
from monitor.receiver.otlp_http import Receiver
from monitor.spool import Received

MOST: Final = 100  # spans of a record
LARGEST: Final = 8 * 2**20  # bytes of one
LIMIT: Final = 10_000
SERVICE: Final = "/opentelemetry.proto.collector.{}/Export"
TRACES, LOGS = SERVICE.format("trace.v1.TraceService"), SERVICE.format("logs.v1.LogsService")
GENERATIONS: Final = "/agento11y.v1.GenerationIngestService/ExportGenerations"
EARLIER: Final = "/sigil.v1.GenerationIngestService/ExportGenerations"
UNLIMITED: Final = [("grpc.max_send_message_length", -1)]


class Answer(NamedTuple):
    """What came back: a code's name, its text, and after how many seconds to repeat, if it says so."""

    code: str
    text: str = ""
    retry: int | None = None
    body: bytes = b""


class Rig:
    """A running receiver and its spool; time stands still unless it is not `patient`."""

    def __init__(
        self, *, patient: bool = True, limits: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        self.spool = MemorySpool()
        self.codes: Counter[str] = Counter()
        self.clock = ManualClock()
        clock = self.clock if patient else SystemClock()
        self.config = ReceiverConfig.model_validate(
            {"grpc": {"enabled": True, "port": 0}, "port": 0, "max_body_bytes": LIMIT, **settings}
        )
        self.intake = BodyIntake(self.config, self.spool, TOPICS, clock, MOST, LARGEST)
        self.receiver = GrpcReceiver(self.config, self.intake, self._count, **(limits or {}))
        self.receiver.start()
        self.channel = self.connect()

    def _count(self, code: str) -> None:
        self.codes[code] += 1

    def connect(self) -> grpc.Channel:
        """A connection of its own."""
        own = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(f"127.0.0.1:{self.receiver.port}", own)

    def export(
        self,
        body: bytes,
        method: str = TRACES,
        metadata: Sequence[tuple[str, str]] = (),
        compression: grpc.Compression | None = None,
        timeout: float = PATIENCE,
        channel: grpc.Channel | None = None,
    ) -> Answer:
        """Send one request."""
        call = (channel or self.channel).unary_unary(method)
        return answer(lambda: call(body, timeout=timeout, metadata=metadata, compression=compression))

    def close(self) -> None:
        """Stop everything."""
        self.spool.gate.set()
        self.channel.close()
        self.receiver.stop()
        self.intake.close()


def answer(call: Callable[[], bytes]) -> Answer:
    """What a call is answered."""
    try:
        return Answer("OK", body=call())
    except grpc.RpcError as error:
        trailing = dict(error.trailing_metadata())
        if "grpc-status-details-bin" not in trailing:
            return Answer(error.code().name, error.details())
        status = Status.FromString(trailing["grpc-status-details-bin"])
        if (status.code, status.message) != (error.code().value[0], error.details()):
            raise ValueError(f"{status} differs from {error}") from None
        return Answer(error.code().name, status.message, _retry(status))


def _retry(status: Status) -> int | None:
    told = RetryInfo()
    return told.retry_delay.seconds if any(detail.Unpack(told) for detail in status.details) else None


@contextmanager
def running(**settings: Any) -> Iterator[Rig]:
    """A rig that is stopped in the end."""
    rig = Rig(**settings)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A running receiver."""
    with running() as made:
        yield made


@pytest.mark.parametrize(
    ("method", "body", "topic"), [(TRACES, request(), "otlp.traces@one"), (LOGS, logs(), "otlp.logs@one")]
)
def test_a_body_is_spooled_as_it_came(rig: Rig, method: str, body: bytes, topic: str) -> None:
    """Both signals go to their topics, with the content type of protobuf; the answer is an empty response."""
    assert rig.export(body, method) == Answer("OK")
    assert rig.spool.bodies == [Received(topic, rig.clock.now(), PROTOBUF, body)]
    eventually(lambda: rig.codes == {"OK": 1}, "the answer is counted")


def generations(*names: str) -> bytes:
    """An export of generations with these ids."""
    return b"".join(field(1, field(1, name.encode()) + field(7, field(2, b"gpt-4o"))) for name in names)


@pytest.mark.parametrize("method", [GENERATIONS, EARLIER])
@pytest.mark.parametrize("names", [(), ("gen-1",), ("gen-1", "é", "")])
def test_generations_are_spooled_and_each_is_accepted(rig: Rig, method: str, names: tuple[str, ...]) -> None:
    """They go to their topic as they came; the answer says of each, by its id, that it was accepted."""
    body = generations(*names)
    accepted = b"".join(field(1, field(1, name.encode()) + b"\x10\x01") for name in names)
    assert rig.export(body, method, compression=grpc.Compression.Gzip) == Answer("OK", body=accepted)
    spooled = [Received("otlp.generations@one", rig.clock.now(), PROTOBUF, body)] if body else []
    assert rig.spool.bodies == spooled


def test_more_generations_than_a_record_may_have_become_several_records(rig: Rig) -> None:
    """The body is divided, in its order, and answered once for all."""
    names = [f"gen-{number}" for number in range(2 * MOST + 1)]
    done = rig.export(generations(*names), GENERATIONS)
    assert (done.code, done.body.count(b"\x10\x01")) == ("OK", len(names))
    (body,) = rig.spool.bodies
    parts = [names[:MOST], names[MOST : 2 * MOST], names[2 * MOST :]]
    assert [body.value, *body.rest] == [generations(*part) for part in parts]


def test_generations_are_refused_as_spans_are() -> None:
    """Without the token, under pressure and while stopping the same codes answer, with the same RetryInfo."""
    body = generations("gen-1")
    with running(token=SecretStr("canary-of-sixteen")) as rig:
        good = [("authorization", "Bearer canary-of-sixteen")]
        assert rig.export(body, GENERATIONS).code == "UNAUTHENTICATED"
        rig.spool.room = 0
        full = rig.export(body, GENERATIONS, metadata=good)
        assert (full.code, full.retry) == ("RESOURCE_EXHAUSTED", 5)
        rig.clock.advance(5)
        rig.spool.room = 9
        assert rig.export(body, GENERATIONS, metadata=good).code == "OK"
        rig.intake.refuse()
        assert rig.export(body, GENERATIONS, metadata=good).code == "UNAVAILABLE"
    assert [one.value for one in rig.spool.bodies] == [body]


@pytest.mark.parametrize("compression", [*grpc.Compression])
@pytest.mark.parametrize("size", [1, 3_000, 9_000])
def test_each_compression_of_grpc_is_undone(rig: Rig, compression: grpc.Compression, size: int) -> None:
    """What is spooled is the plain body."""
    body = request("x" * size)
    assert rig.export(body, compression=compression).code == "OK"
    assert [one.value for one in rig.spool.bodies] == [body]


def test_an_empty_request_is_fine_and_spools_nothing(rig: Rig) -> None:
    """OTLP allows a request without anything in it."""
    assert rig.export(b"").code == "OK"
    assert rig.spool.bodies == []


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("INVALID_ARGUMENT", {"body": b"\xff\xff\xff\xff"}),
        ("INVALID_ARGUMENT", {"body": b"{}"}),
        ("INVALID_ARGUMENT", {"body": gzip.compress(request())[:-4]}),
        ("INVALID_ARGUMENT", {"body": gzip.compress(request()) * 2}),
        ("INVALID_ARGUMENT", {"body": request("x" * LIMIT), "compression": grpc.Compression.Gzip}),
        ("INVALID_ARGUMENT", {"body": request("x" * LIMIT), "compression": grpc.Compression.Deflate}),
        ("INVALID_ARGUMENT", {"method": GENERATIONS, "body": generations("gen-1")[:-1]}),
        ("INVALID_ARGUMENT", {"method": GENERATIONS, "body": b'{"generations":[]}'}),
        ("INVALID_ARGUMENT", {"method": GENERATIONS, "body": field(1, b"\xff\xff\xff")}),
        ("INVALID_ARGUMENT", {"method": GENERATIONS, "body": field(1, b"") * 4_000}),
        (
            "INVALID_ARGUMENT",
            {
                "method": GENERATIONS,
                "body": generations("x" * LIMIT),
                "compression": grpc.Compression.Gzip,
            },
        ),
        ("UNIMPLEMENTED", {"method": "/agento11y.v1.WorkflowStepIngestService/ExportWorkflowSteps"}),
        ("UNIMPLEMENTED", {"method": SERVICE.format("metrics.v1.MetricsService")}),
        ("UNIMPLEMENTED", {"method": SERVICE.format("profiles.v1development.ProfilesService")}),
    ],
)
def test_what_cannot_be_taken_is_refused_for_good(rig: Rig, code: str, change: dict[str, Any]) -> None:
    """Each refusal has its code and a text, no RetryInfo, is counted, and leaves nothing behind."""
    refused = rig.export(**{"body": request(), **change})
    assert (refused.code, refused.retry) == (code, None)
    assert refused.text
    assert rig.spool.bodies == []
    eventually(lambda: rig.codes == {code: 1}, "the refusal is counted")
    assert rig.export(request()).code == "OK"


def test_a_message_that_is_too_large_is_refused_for_good_and_counted(rig: Rig) -> None:
    """By its size on the wire, gRPC itself does: RESOURCE_EXHAUSTED without RetryInfo, which none repeats."""
    for size in (LIMIT + 1, 1_000_000):
        refused = rig.export(random.Random(size).randbytes(size), compression=grpc.Compression.Gzip)
        assert (refused.code, refused.retry) == ("RESOURCE_EXHAUSTED", None)
        assert "larger than max" in refused.text
    eventually(lambda: rig.codes == {"INVALID_ARGUMENT": 2}, "both are counted as refused for good")
    compressed = rig.export(request("x" * LIMIT), compression=grpc.Compression.Gzip)
    assert all(name in compressed.text for name in ("receiver.max_body_bytes, 10000", "sizer: bytes"))
    assert rig.spool.bodies == []


SERVE = """
import resource, sys
from spooling import MemorySpool, TOPICS
from monitor.clock import SystemClock
from monitor.config import ReceiverConfig
from monitor.receiver.intake import BodyIntake
from monitor.receiver.otlp_grpc import GrpcReceiver
config = ReceiverConfig.model_validate({"grpc": {"enabled": True, "port": 0}, "max_body_bytes": 1_000_000})
intake = BodyIntake(config, MemorySpool(), TOPICS, SystemClock(), 100, 10**7)
receiver = GrpcReceiver(config, intake)
receiver.start()
for _ in range(2):
    print(receiver.port, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    sys.stdin.readline()
receiver.stop()
intake.close()
"""


def test_a_compressed_bomb_is_never_held_in_full() -> None:
    """300 MB in 300 KB, compressed by gRPC as a client does: the server's memory grows by a tenth at most."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        port, before = map(int, server.stdout.readline().split())
        with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
            call = channel.unary_unary(TRACES)
            body = bytes(300_000_000)
            refused = answer(lambda: call(body, timeout=PATIENCE, compression=grpc.Compression.Gzip))
            assert answer(lambda: call(request(), timeout=PATIENCE)).code == "OK"
        server.stdin.write("\n")
        server.stdin.flush()
        after = int(server.stdout.readline().split()[1])
        server.stdin.write("\n")
    assert server.returncode == 0
    assert (refused.code, refused.retry) == ("INVALID_ARGUMENT", None)
    assert after - before < 30_000  # KB


def test_a_method_that_nobody_has_is_unimplemented(rig: Rig) -> None:
    """A health check, say."""
    assert rig.export(b"", "/grpc.health.v1.Health/Check").code == "UNIMPLEMENTED"


@pytest.mark.parametrize("messages", [[], [request(), request()], [request()] * 1000])
def test_a_call_has_one_message(rig: Rig, messages: list[bytes]) -> None:
    """None or several are refused, after the second."""
    call = rig.channel.stream_unary(TRACES)
    assert answer(lambda: call(iter(messages), timeout=PATIENCE)).code == "INVALID_ARGUMENT"
    assert rig.spool.bodies == []


def test_a_token_is_asked_for_where_one_is_set() -> None:
    """Without the right bearer token the answer is UNAUTHENTICATED, before the message is received."""
    with running(token=SecretStr("canary-of-sixteen")) as rig:
        for wrong in ([], [("authorization", "Bearer wrong")], [("authorization", "canary-of-sixteen")]):
            refused = rig.export(bytes(1_000_000), metadata=wrong)
            assert (refused.code, refused.retry) == ("UNAUTHENTICATED", None)
            assert "canary" not in refused.text
        assert rig.export(request(), metadata=[("authorization", "Bearer canary-of-sixteen")]).code == "OK"
        assert rig.codes["UNAUTHENTICATED"] == 3


def test_a_full_spool_says_when_to_come_back(rig: Rig) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo until that time, and readiness knows; then bodies are tried again."""
    rig.spool.room = 1
    assert rig.export(request()).code == "OK"
    accepting = [rig.intake.accepting]
    refused = rig.export(request())
    assert (refused.code, refused.retry) == ("RESOURCE_EXHAUSTED", 5)
    accepting.append(rig.intake.accepting)
    rig.spool.room = 10
    assert rig.export(bytes(LIMIT + 1)).retry == 5
    rig.clock.advance(5)
    accepting.append(rig.intake.accepting)
    assert accepting == [True, False, True]
    assert rig.export(request()).code == "OK"
    assert len(rig.spool.bodies) == 2


def test_a_busy_ledger_is_to_be_retried_and_a_fault_internal(rig: Rig) -> None:
    """What may pass is to be repeated; a bug is logged, answered without detail, and not counted as taken."""
    rig.spool.error = Retryable("database is locked")
    assert rig.export(request()).retry == 5
    rig.clock.advance(5)
    rig.spool.error = RuntimeError("canary-spool")
    with structlog.testing.capture_logs() as lines:
        refused = rig.export(request())
    assert (refused.code, refused.text, refused.retry) == ("INTERNAL", "internal error", None)
    assert [line["event"] for line in lines] == ["grpc_fault"]
    rig.spool.error = None
    assert rig.export(request()).code == "OK"


def test_a_stopping_receiver_sends_clients_away(rig: Rig) -> None:
    """UNAVAILABLE with RetryInfo from the moment a stop is asked for."""
    rig.intake.refuse()
    refused = rig.export(request())
    assert (refused.code, refused.retry) == ("UNAVAILABLE", 5)


def test_more_spans_than_a_record_may_have_become_several_records(rig: Rig) -> None:
    """As over HTTP: the body is divided, and answered once."""
    names = [f"s{number}" for number in range(2 * MOST + 1)]
    assert rig.export(request(*names)).code == "OK"
    (body,) = rig.spool.bodies
    assert [name for value in (body.value, *body.rest) for name in names_in(value)] == names


def test_a_client_that_gives_up_hinders_nobody(rig: Rig) -> None:
    """Its call is counted as cancelled; what waited behind it is written, and memory is given back."""
    rig.spool.gate.clear()
    with ThreadPoolExecutor(9) as clients:
        first = clients.submit(rig.export, request("first"))
        assert rig.spool.asked.wait(PATIENCE)
        impatient = [clients.submit(rig.export, request("gone"), timeout=0.5) for _ in range(3)]
        patient = [clients.submit(rig.export, request(f"p{n}")) for n in range(5)]
        assert {each.result().code for each in impatient} == {"DEADLINE_EXCEEDED"}
        eventually(lambda: rig.codes["CANCELLED"] == 3, "the receiver notices")
        rig.spool.gate.set()
        assert {each.result().code for each in (first, *patient)} == {"OK"}
    written = Counter(names_in(body.value)[0] for body in rig.spool.bodies)
    assert written == Counter(["first", *(f"p{n}" for n in range(5))])
    assert rig.intake.room.used == 0


def test_a_call_that_does_not_end_is_ended() -> None:
    """A client that sends half a call is told to repeat it, and then others have its place."""
    with running(limits={"request_seconds": 0.3}) as rig:
        release = threading.Event()

        def never() -> Iterator[bytes]:
            release.wait(PATIENCE)
            yield request()

        calls = [rig.channel.stream_unary(TRACES).future(never()) for _ in range(otlp_grpc.RECEIVING + 3)]
        codes = Counter(call.code().name for call in calls)
        release.set()
        assert codes == {"UNAVAILABLE": otlp_grpc.RECEIVING + 3}
        assert rig.export(request()).code == "OK"


def test_half_sent_calls_hold_nobody_up_for_long() -> None:
    """While others wait, a body is received in a few seconds or told to come back, and they are served."""
    with running(limits={"request_seconds": PATIENCE, "hurry_seconds": 0.3}) as rig:
        release = threading.Event()

        def never() -> Iterator[bytes]:
            release.wait(PATIENCE)
            yield request()

        stalled = [rig.channel.stream_unary(TRACES).future(never()) for _ in range(otlp_grpc.RECEIVING)]
        eventually(lambda: len(rig.receiver._receiving) == otlp_grpc.RECEIVING, "all places are held")
        assert not any(call.done() for call in stalled)
        assert rig.export(request()).code == "OK"
        assert {call.code().name for call in stalled} == {"UNAVAILABLE"}
        release.set()
        alone = rig.channel.stream_unary(TRACES).future(iter([request()]))
        assert alone.code().name == "OK"


def test_too_many_calls_are_told_to_come_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a call is answered at once, with RetryInfo, without being received."""
    monkeypatch.setattr(otlp_grpc, "MAX_CALLS", 3)
    rig.spool.gate.clear()
    with ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(rig.export, request()) for _ in range(3)]
        eventually(lambda: len(rig.receiver._calls) == 3, "three calls")
        refused = rig.export(request())
        assert (refused.code, refused.retry) == ("RESOURCE_EXHAUSTED", 5)
        rig.spool.gate.set()
        assert {each.result().code for each in waiting} == {"OK"}


def test_an_idle_connection_is_closed_and_opened_again() -> None:
    """After a time without a call the server says so; the client's next call connects anew."""
    with running(limits={"idle_seconds": 1.0}) as rig:
        states: list[grpc.ChannelConnectivity] = []
        rig.channel.subscribe(states.append)
        assert rig.export(request()).code == "OK"
        ready, idle = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE
        eventually(lambda: ready in states and idle in states[states.index(ready) :], "it is closed")
        assert rig.export(request()).code == "OK"


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed, and its client told to try later; the others go on."""
    monkeypatch.setattr(otlp_grpc, "MAX_CONNECTIONS", 2)
    with running() as rig:
        channels = [rig.connect() for _ in range(3)]
        codes = [rig.export(request(), channel=channel).code for channel in channels]
        assert codes == ["OK", "OK", "UNAVAILABLE"]
        assert rig.export(request(), channel=channels[0]).code == "OK"
        for channel in channels:
            channel.close()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_an_sdk_exports_traces_and_logs(rig: Rig, compression: grpc.Compression) -> None:
    """OpenTelemetry's own exporters are content, with a token and without compression or with."""
    url = f"http://127.0.0.1:{rig.receiver.port}"
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(
        SimpleSpanProcessor(
            OTLPSpanExporter(url, insecure=True, compression=compression, timeout=int(PATIENCE))
        )
    )
    records = LoggerProvider(shutdown_on_exit=False)
    records.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(url, insecure=True, compression=compression))
    )
    for number in range(3):
        spans.get_tracer("test").start_span(f"chat {number}").end()
        records.get_logger("test").emit(event_name="gen_ai.choice", body="x" * 2000)
    spans.shutdown()
    records.shutdown()
    topics = Counter(body.topic for body in rig.spool.bodies)
    assert topics == {"otlp.traces@one": 3, "otlp.logs@one": 3}
    names = [
        name for body in rig.spool.bodies if body.topic == "otlp.traces@one" for name in names_in(body.value)
    ]
    assert names == ["chat 0", "chat 1", "chat 2"]


def test_an_sdk_repeats_what_it_is_asked_to() -> None:
    """The SDK reads RetryInfo: a span sent to a full spool arrives once there is room, once."""
    with running(patient=False, retry_after_seconds=1) as full:
        full.spool.room = 0
        exporter = OTLPSpanExporter(
            f"http://127.0.0.1:{full.receiver.port}", insecure=True, timeout=int(PATIENCE)
        )
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with ThreadPoolExecutor(1) as client:
            sent = client.submit(lambda: provider.get_tracer("test").start_span("late").end())
            eventually(lambda: full.codes["RESOURCE_EXHAUSTED"], "a refusal")
            full.spool.room = 10
            sent.result(PATIENCE)
        provider.shutdown()
        assert [names_in(body.value) for body in full.spool.bodies] == [["late"]]


def exporting(rig: Rig, names: Sequence[str], ok: list[str], stopped: Callable[[], bool]) -> None:
    """Export each name as a Collector does: again and again while it is told to."""
    with_own = rig.connect()
    for name in names:
        while not stopped():
            got = rig.export(request(name), channel=with_own, compression=grpc.Compression.Gzip)
            if got.code == "OK":
                ok.append(name)
                break
            assert got.retry is not None or got.code in {"UNAVAILABLE", "CANCELLED"}, got
            time.sleep(0.02)
    with_own.close()


def test_a_burst_on_a_full_spool_arrives_exactly_once() -> None:
    """As from a Collector's consumers: all are told to retry while the spool is full, and then all arrive."""
    names = [[f"{client}-{number}" for number in range(50)] for client in range(16)]
    with running(patient=False, retry_after_seconds=1) as rig, ThreadPoolExecutor(16) as clients:
        rig.spool.room = 100
        ok: list[str] = []
        sending = [clients.submit(exporting, rig, own, ok, lambda: False) for own in names]
        eventually(lambda: rig.codes["RESOURCE_EXHAUSTED"] > 50, "clients that are told to retry")
        assert len(rig.spool.bodies) == 100
        rig.spool.room = 10**6
        for each in sending:
            each.result(PATIENCE)
        expected = Counter(name for own in names for name in own)
        assert Counter(names_in(body.value)[0] for body in rig.spool.bodies) == expected == Counter(ok)


def test_a_stop_during_a_burst_loses_nothing_that_was_answered_ok() -> None:
    """Whatever was answered OK is in the spool; the rest was told to try again, or cut off."""
    with running() as rig, ThreadPoolExecutor(16) as clients:
        ok: list[str] = []
        stopped = threading.Event()
        sending = [
            clients.submit(exporting, rig, [f"{client}-{n}" for n in range(10**6)], ok, stopped.is_set)
            for client in range(16)
        ]
        eventually(lambda: len(ok) > 200, "a burst")
        rig.receiver.stop()
        rig.intake.close()
        stopped.set()
        for each in sending:
            each.result(PATIENCE)
        written = Counter(names_in(body.value)[0] for body in rig.spool.bodies)
        assert set(ok) <= set(written)
        assert len(written) - len(set(ok)) <= 16


def test_http_and_grpc_share_a_spool_and_its_bounds() -> None:
    """Both write through one intake: one writer, one bound on what waits, one time to come back."""
    with running(enabled=True) as rig:
        http = Receiver(rig.config, rig.intake)
        http.start()
        try:
            assert rig.export(request("grpc")).code == "OK"

            def post(name: str) -> int:
                sent = urllib.request.Request(
                    f"http://127.0.0.1:{http.port}/v1/traces", request(name), {"content-type": PROTOBUF}
                )
                try:
                    with urllib.request.urlopen(sent, timeout=PATIENCE) as got:  # noqa: S310 - our own URL, http
                        return int(got.status)
                except urllib.error.HTTPError as error:
                    error.close()
                    return error.code

            assert post("http") == 200
            rig.spool.room = 0
            assert post("full") == 429
            rig.spool.room = 9
            assert rig.export(request()).code == "RESOURCE_EXHAUSTED"
        finally:
            http.stop()
        assert [names_in(body.value) for body in rig.spool.bodies] == [["grpc"], ["http"]]


def test_garbage_leaves_nothing(rig: Rig) -> None:
    """Random messages are refused for good or hold nothing, and the next good request is taken."""
    rng = random.Random(4)
    good = request("x" * 50)
    for _ in range(300):
        cut = rng.randrange(len(good))
        junk = rng.choice((good[:cut], zlib.compress(good)[:cut], gzip.compress(good)[:cut])) + rng.randbytes(
            3
        )
        assert rig.export(junk).code in {"OK", "INVALID_ARGUMENT"}
    assert set(rig.codes) <= {"OK", "INVALID_ARGUMENT"}
    assert rig.export(good).code == "OK"


def test_a_port_in_use_is_a_configuration_error(rig: Rig) -> None:
    """It names both settings, and the receiver can be stopped all the same."""
    taken = rig.config.model_copy(
        update={"grpc": rig.config.grpc.model_copy(update={"port": rig.receiver.port})}
    )
    second = GrpcReceiver(taken, rig.intake)
    with pytest.raises(ConfigError, match=r"receiver\.host, receiver\.grpc\.port: cannot listen on 127"):
        second.start()
    second.stop()


def test_an_open_port_without_a_token_is_said_so() -> None:
    """Listening beyond loopback is allowed, and logged with what to do."""
    with structlog.testing.capture_logs() as lines:
        for token in (None, SecretStr("t" * 16)):
            with running(host="0.0.0.0", token=token):  # noqa: S104 - what is tested
                pass
    assert [(line["event"], line["section"]) for line in lines] == [("not_loopback", "receiver.grpc")]


def test_it_stops_without_a_start_and_twice() -> None:
    """As every component of the daemon."""
    config = ReceiverConfig()
    intake = BodyIntake(config, MemorySpool(), TOPICS, ManualClock(), MOST, LARGEST)
    receiver = GrpcReceiver(config, intake)
    receiver.stop()
    receiver.stop()
    intake.close()


def test_without_grpcio_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is to take gRPC does not start without it, and says what to install."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    config = Config.model_validate({"receiver": {"grpc": {"enabled": True}}})
    intake = BodyIntake(config.receiver, MemorySpool(), TOPICS, ManualClock(), MOST, LARGEST)
    with pytest.raises(ConfigError, match=r"receiver\.grpc\.enabled.*pip install model-risk-monitor\[grpc\]"):
        GrpcReceiver(config.receiver, intake)
    intake.close()
