"""Bodies: each encoding is undone within its bound, and what is too much for a record is divided."""

import gzip
import itertools
import json
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from generation_wire import encoded, field
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from spooling import JSON, PROTOBUF

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder
from monitor.receiver import generations
from monitor.receiver.bodies import Divider, plain
from monitor.receiver.dividing import divide
from monitor.receiver.refusals import BodyRefused, Refusal
from monitor.trace import Record

LIMIT = 10**6
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=4)
KEYS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
ORIGINALS = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}
REQUESTS: dict[str, Any] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}


def divider(most: int, limit: int = LIMIT, size: int = LIMIT, largest: int = LIMIT) -> Divider:
    """A divider that looks at the number of spans, unless a size is given."""
    return Divider(most, limit, size, largest)


@given(st.binary(max_size=4000), st.sampled_from(sorted(COMPRESS)), st.integers(0, 4000))
def test_a_body_is_what_was_sent_or_too_large(body: bytes, encoding: str, limit: int) -> None:
    """Whatever was compressed comes back if it fits the bound, else it is refused as too large."""
    sent = COMPRESS[encoding](body)
    if len(body) <= limit:
        assert plain(sent, encoding, limit) == body
    else:
        with pytest.raises(BodyRefused) as refused:
            plain(sent, encoding, limit)
        assert refused.value.why is Refusal.TOO_LARGE


@given(st.binary(max_size=300), st.sampled_from(("gzip", "deflate", "zstd")), st.data())
def test_a_body_that_is_cut_or_followed_by_more_is_malformed(
    body: bytes, encoding: str, data: st.DataObject
) -> None:
    """A part of a body could be OTLP as well, and what is behind it would be lost."""
    sent = COMPRESS[encoding](body)
    cut = sent[: data.draw(st.integers(0, len(sent) - 1))]
    for wrong in (cut, sent + data.draw(st.binary(min_size=1, max_size=9)), sent + sent):
        with pytest.raises(BodyRefused) as refused:
            plain(wrong, encoding, LIMIT)
        assert refused.value.why is Refusal.MALFORMED


def test_a_zstd_bomb_takes_little_memory() -> None:
    """A gigabyte in 31 KB, whose window alone is a gigabyte or a small one: given up near the bound."""
    stream = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join([*(stream.compress(bytes(2**20)) for _ in range(1000)), stream.flush()])
    assert len(bomb) < 10**5
    huge = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    ).compressobj()
    wide = b"".join([huge.compress(bytes(2**27)), huge.flush()])
    for body, why in ((bomb, Refusal.TOO_LARGE), (wide, Refusal.MALFORMED)):
        tracemalloc.start()
        with pytest.raises(BodyRefused) as refused:
            plain(body, "zstd", LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert refused.value.why is why
        assert peak < 4 * LIMIT


@given(SHAPES, st.integers(1, 12))
def test_dividing_keeps_every_item_once_and_in_order(counts: list[list[int]], most: int) -> None:
    """Parts are full but for the last one, and hold all items of all scopes in their order."""
    parts = list(divide([[[1] * count for count in scopes] for scopes in counts], most, LIMIT))
    found = [
        (each.group, each.scope, n) for part in parts for each in part for n in range(each.begin, each.end)
    ]
    assert found == [
        (g, s, n) for g, scopes in enumerate(counts) for s, count in enumerate(scopes) for n in range(count)
    ]
    sizes = [sum(each.end - each.begin for each in part) for part in parts]
    assert sizes[:-1] == [most] * (len(sizes) - 1)
    assert all(0 < size <= most for size in sizes)


@given(
    st.lists(st.lists(st.lists(st.integers(1, 50), max_size=9), max_size=3), max_size=3),
    st.integers(1, 12),
    st.integers(1, 120),
)
def test_parts_keep_to_their_bytes(sizes: list[list[list[int]]], most: int, most_bytes: int) -> None:
    """No part has more items or bytes than it may, but for a single item; none could take the next item."""
    parts = [
        [sizes[each.group][each.scope][n] for each in part for n in range(each.begin, each.end)]
        for part in divide(sizes, most, most_bytes)
    ]
    assert [size for part in parts for size in part] == [s for of in sizes for items in of for s in items]
    assert all(len(part) == 1 or (len(part) <= most and sum(part) <= most_bytes) for part in parts)
    for part, following in itertools.pairwise(parts):
        assert len(part) == most or sum(part) + following[0] > most_bytes


def flat(signal: str, request: Any) -> list[tuple[Any, ...]]:
    """Each item of a request with its resource, its scope and their schemas."""
    groups, scopes, items = ORIGINALS[signal]
    return [
        (
            group.resource.SerializeToString(),
            group.schema_url,
            scope.scope.SerializeToString(),
            scope.schema_url,
            item.SerializeToString(),
        )
        for group in getattr(request, groups)
        for scope in getattr(group, scopes)
        for item in getattr(scope, items)
    ]


@given(SHAPES, st.integers(1, 12), st.sampled_from(sorted(REQUESTS)), st.sampled_from([LIMIT, 400, 1]))
def test_protobuf_is_divided_without_loss(counts: list[list[int]], most: int, signal: str, size: int) -> None:
    """Each span keeps its resource, scope and schemas; a body that fits is not touched."""
    groups, scopes, items = ORIGINALS[signal]
    request = REQUESTS[signal]()
    for g, of in enumerate(counts):
        group = getattr(request, groups).add(schema_url=f"g{g}")
        group.resource.attributes.add(key="service.name").value.string_value = f"app {g}"
        for s, count in enumerate(of):
            scope = getattr(group, scopes).add(schema_url=f"s{s}")
            scope.scope.name = f"scope {s}"
            for n in range(count):
                getattr(scope, items).add(trace_id=bytes([n]) * 16)
    body = request.SerializeToString()
    parts = divider(most, LIMIT, size).parts(signal, PROTOBUF, body)
    read = [REQUESTS[signal].FromString(part) for part in parts]
    assert [item for part in read for item in flat(signal, part)] == flat(signal, request)
    assert all(len(flat(signal, part)) <= most for part in read)
    if sum(map(sum, counts)) <= most and len(body) <= size:
        assert list(parts) == ([body] if body else [])
    if sum(map(sum, counts)):
        alone = [len(flat(signal, each)) == 1 for each in read]
        assert all(len(part) <= size + 1_000 or one for part, one in zip(parts, alone, strict=True))


IDS = field(1, b"t" * 16) + field(2, b"s" * 8)
MANY = 2**20
HOLLOW = {
    "groups": field(1, b"") * MANY,
    "scopes": field(1, field(2, b"") * MANY),
    "spans": field(1, field(2, field(2, b"") * MANY)),
    "spans of ids": field(1, field(2, field(2, b"\x08\x01") * MANY)),
    "links": field(1, field(2, field(2, IDS + field(13, b"") * MANY))),
    "links in many spans": field(1, field(2, field(2, IDS + field(13, b"") * (MANY // 16)) * 16)),
    "values": field(1, field(2, field(2, IDS + field(9, field(2, field(5, field(1, b"") * MANY)))))),
}


@pytest.mark.parametrize("name", HOLLOW)
def test_empty_messages_take_little_memory(name: str) -> None:
    """A million empty messages, of 2 bytes each: refused, or decoded in pieces of a bounded size.

    In a process of its own, which shows its peak: protobuf's memory is not Python's.
    """
    code = f"""
import resource, sys
from monitor.receiver.bodies import Divider
from monitor.receiver.refusals import BodyRefused
divider = Divider(10_000, 40 * 2**20, {MANY // 4}, 8 * 2**20)
body = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(divider.parts("traces", "{PROTOBUF}", body)), end=" ")
except BodyRefused as refused:
    print(refused.why.name, end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], input=HOLLOW[name], capture_output=True, check=True)
    found, mebibytes = done.stdout.decode().split()
    assert found in {"MALFORMED", "1", "16"}
    # Only what is nested in values is decoded whole; the rest takes no more than a part of it does.
    assert int(mebibytes) < (60 if name == "values" else 30)


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_span_may_be_as_large_as_a_record(kind: str) -> None:
    """A larger one is refused before it is accepted, with the name of the setting; a smaller one is taken."""
    for size, fits in ((40_000, True), (60_000, False)):
        request = ExportTraceServiceRequest()
        request.resource_spans.add().scope_spans.add().spans.add(name="x" * size)
        body = (
            request.SerializeToString()
            if kind == PROTOBUF
            else json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "x" * size}]}]}]}).encode()
        )
        made = divider(10, LIMIT, 1_000, 50_000)
        if fits:
            (part,) = made.parts("traces", kind, body)
            assert part == body or json.loads(part) == json.loads(body)
            continue
        with pytest.raises(BodyRefused, match=r"ingest\.max_record_bytes") as refused:
            made.parts("traces", kind, body)
        assert refused.value.why is Refusal.TOO_LARGE


TEXTS = st.text(st.sampled_from('a"\\/{}[]:,\u0022é \n'), max_size=6)


@given(
    SHAPES,
    st.integers(1, 12),
    st.sampled_from(sorted(REQUESTS)),
    st.sampled_from(("camel", "snake")),
    TEXTS,
    st.sampled_from([LIMIT, 400, 1]),
)
def test_json_is_divided_without_loss(
    counts: list[list[int]], most: int, signal: str, keys: str, text: str, size: int
) -> None:
    """Under either of its names; other keys of the request are in the first part only."""
    groups, scopes, items = (ORIGINALS if keys == "snake" else KEYS)[signal]
    request = {
        "other": text,
        groups: [
            {
                "resource": {"attributes": [{"key": text}]},
                scopes: [
                    {
                        items: [{"traceId": f"{g}{s}{n}", "name": text} for n in range(count)],
                        "scope": {"n": s},
                    }
                    for s, count in enumerate(of)
                ],
                "schemaUrl": text,
            }
            for g, of in enumerate(counts)
        ],
    }
    body = json.dumps(request, ensure_ascii=False, indent=1).encode()
    parts = [json.loads(part) for part in divider(most, LIMIT, size).parts(signal, JSON, body)]

    def unrolled(made: Any) -> list[Any]:
        return [
            (group["resource"], group["schemaUrl"], scope["scope"], item)
            for group in made[groups]
            for scope in group[scopes]
            for item in scope[items]
        ]

    assert [item for part in parts for item in unrolled(part)] == unrolled(request)
    assert all(len(unrolled(part)) <= most for part in parts)
    assert [part.get("other") for part in parts] == [text, *[None] * (len(parts) - 1)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{},{}]}]}],"resourceSpans":[{}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{},{}],"spans":[]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{},{}]}]}],"resource_spans":[]}',
        b'{"resourceSpans":[{"scopeSpans":{"spans":[{},{},{}]}}]}',
        b'{"resourceSpans":7,"a":[{},{},{}]}',
        b'{"resourceSpans":null,"a":[{},{},{}]}',
        b'{"a":[{},{},{},{}]}',
    ],
)
def test_odd_json_stays_whole(body: bytes) -> None:
    """Where dividing would hide a key that occurs twice or a wrong type, the decoder gets the body itself."""
    assert divider(2, LIMIT).parts("traces", JSON, body) == (body,)
    with pytest.raises(BadTrace):
        decoder("otlp_json", IngestConfig(), str)(Record("t", 0, 0, 0.0, None, body))


@pytest.mark.parametrize(("signal", "kind"), [(s, k) for s in KEYS for k in (JSON, PROTOBUF)])
def test_a_resource_is_not_repeated_without_a_bound(signal: str, kind: str) -> None:
    """A body whose parts would be many times its size is refused, and the text names the setting."""
    wide = "x" * 9_000
    groups, scopes, items = KEYS[signal]
    if kind == JSON:
        resource = {"attributes": [{"key": wide}]}
        body = json.dumps({groups: [{"resource": resource, scopes: [{items: [{}] * 100}]}]}).encode()
    else:
        request = REQUESTS[signal]()
        group = getattr(request, ORIGINALS[signal][0]).add()
        group.resource.attributes.add(key=wide)
        scope = getattr(group, ORIGINALS[signal][1]).add()
        for _ in range(100):
            getattr(scope, ORIGINALS[signal][2]).add()
        body = request.SerializeToString()
    with pytest.raises(BodyRefused, match=r"ingest\.max_spans") as refused:
        divider(1, 10_000).parts(signal, kind, body)
    assert refused.value.why is Refusal.TOO_LARGE


@pytest.mark.parametrize("scopes", [False, True])
def test_a_body_of_empty_groups_costs_little(*, scopes: bool) -> None:
    """A megabyte of groups or scopes that hold nothing is refused, undecoded."""
    hollow = bytes.fromhex("1200" if scopes else "0a00") * 500_000
    head = b"\x0a" + bytes([len(hollow) & 127 | 128, len(hollow) >> 7 & 127 | 128, len(hollow) >> 14])
    body = head + hollow if scopes else hollow
    began = time.process_time()
    with pytest.raises(BodyRefused, match="hold nothing"):
        divider(1, LIMIT).parts("traces", PROTOBUF, body)
    empty = b'[{"scopeSpans":[' + b"{}," * 300_000 + b"{}]}]" if scopes else b"[" + b"{}," * 300_000 + b"{}]"
    body = b'{"resourceSpans":' + empty + b"}"
    with pytest.raises(BodyRefused, match="hold nothing"):
        divider(1, LIMIT).parts("traces", JSON, body)
    assert time.process_time() - began < 1.0


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from((JSON, PROTOBUF)), st.sampled_from(sorted(KEYS)))
def test_any_bytes_are_taken_or_malformed(body: bytes, kind: str, signal: str) -> None:
    """Whatever comes, the answer is parts or a refusal of bytes that are not OTLP."""
    why, size = None, 0
    try:
        size = sum(map(len, divider(1, LIMIT).parts(signal, kind, body)))
    except BodyRefused as refused:
        why = refused.why
    assert why in {None, Refusal.MALFORMED}
    assert size <= 2 * LIMIT


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=30), st.integers(1, 9)
)
def test_generations_are_divided_and_answered_one_by_one(names: list[str], most: int) -> None:
    """In either encoding the parts hold all of them in order, and the answer has a result for each."""
    export = {"generations": [{"id": name, "stop_reason": "stop"} for name in names]}
    in_json = divider(most, LIMIT).parts("generations", JSON, json.dumps(export).encode())
    results = [json.loads(generations.answer(part, as_json=True))["results"] for part in in_json]
    assert [len(each) for each in results[:-1]] == [most] * (len(results) - 1)
    assert [one for each in results for one in each] == [
        {"generation_id": name, "accepted": True} for name in names
    ]
    in_protobuf = divider(most, LIMIT).parts("generations", PROTOBUF, encoded(export))
    assert b"".join(in_protobuf) == encoded(export)
    answers = [generations.answer(part, as_json=False) for part in in_protobuf]
    assert [each.count(b"\x10\x01") >= most for each in answers[:-1]] == [True] * (len(answers) - 1)
    accepted = (field(1, field(1, name.encode()) + b"\x10\x01") for name in names)
    assert b"".join(answers) == b"".join(accepted)


@pytest.mark.parametrize("kind", [JSON, PROTOBUF])
def test_generations_that_hold_nothing_are_refused(kind: str) -> None:
    """The answer would be far larger than the body; as many that hold something are divided."""
    hollow = json.dumps({"generations": [{}] * 9_000}).encode() if kind == JSON else field(1, b"") * 9_000
    with pytest.raises(BodyRefused) as refused:
        divider(100, LIMIT).parts("generations", kind, hollow)
    assert refused.value.why is Refusal.MALFORMED
    export = {"generations": [{"stop_reason": "stop" * 20}] * 9_000}
    body = json.dumps(export).encode() if kind == JSON else encoded(export)
    assert len(divider(100, LIMIT).parts("generations", kind, body)) == 90


@given(st.binary(max_size=40), st.booleans())
def test_what_is_no_export_of_generations_is_refused(body: bytes, as_json: bool) -> None:  # noqa: FBT001 - drawn
    """Any bytes are refused as malformed, or taken, and then they can be answered."""
    why = Refusal.MALFORMED
    answers: list[bytes] = []
    try:
        answers += [
            generations.answer(part, as_json=as_json)
            for part in generations.parts(body, 5, LIMIT, as_json=as_json)
        ]
    except BodyRefused as refused:
        why = refused.why
    assert why is Refusal.MALFORMED
    assert all(answer.startswith(b'{"results":[') for answer in answers) or not as_json


@given(st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=3), st.integers(1, 5))
def test_generations_are_divided_without_loss(lists: list[list[int]], most: int) -> None:
    """Each generation is in one part, in order; a body that names them twice stays whole, to be refused."""
    body = ",".join(f'"generations": {each}' for each in lists)
    parts = divider(most, LIMIT).parts("generations", JSON, f"{{{body}}}".encode())
    if len(lists) > 1:
        assert [bytes(part).decode() for part in parts] == [f"{{{body}}}"]
        return
    read = [json.loads(part)["generations"] for part in parts]
    assert [item for part in read for item in part] == lists[0]
    assert all(len(part) <= most for part in read)
