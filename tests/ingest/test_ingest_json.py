"""Strict JSON: the quick proof that no key occurs twice agrees with an exact reference."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.errors import BadTrace
from monitor.ingest.cut_json import read_cut
from monitor.ingest.strict_json import parse

keys = st.sampled_from(["a", "b", "\\", '"', '\\"', ":", '":', "", "é", "\u2028"]) | st.text(max_size=3)
spaces = st.sampled_from(["", " ", "\n", "\t\r\n "])


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON text with odd keys, odd spacing, all escapings and, now and then, a key that occurs twice."""
    escaping = draw(st.sampled_from(["ascii", "least", "numbers"]))

    def text(value: str) -> str:
        if escaping == "numbers":
            units = memoryview(value.encode("utf-16-le")).cast("H")
            return '"' + "".join(f"\\u{unit:04x}" for unit in units) + '"'
        return json.dumps(value, ensure_ascii=escaping == "ascii")

    kind = draw(st.sampled_from(["object", "array", "scalar"] if depth else ["scalar"]))
    if kind == "scalar":
        return (
            draw(spaces)
            + draw(keys.map(text) | st.sampled_from(["1", "-0.5e3", "null", "true"]))
            + draw(spaces)
        )
    items = [draw(documents(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "array":
        return draw(spaces) + "[" + ",".join(items) + "]" + draw(spaces)
    members = [draw(spaces) + text(draw(keys)) + draw(spaces) + ":" + item for item in items]
    return "{" + ",".join(members) + "}"


def repeats(document: str) -> bool:
    """Whether any object repeats a key, by the standard library."""
    found = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.append(len(dict(pairs)) < len(pairs))

    json.loads(document, object_pairs_hook=look)
    return any(found)


@given(documents())
@example('{"a\\\\":1,"a\\\\" :2}')
@example('{"a":"\\":","a":"b"}')
@example('{"a":":\\"","b":{"a":"\\\\"},"b":0}')
@example('{"\\u0061":1,"a":2}')
@example('{"\\u0022\\u0022":0,"a":1,"a":2}')
def test_duplicate_keys_are_found_exactly(document: str) -> None:
    """A document is refused as duplicate_key if and only if an object in it repeats a key."""
    try:
        value = parse(document.encode(), 10, ())
    except BadTrace as error:
        assert error.reason == "duplicate_key"  # noqa: PT017 - both outcomes are legal
        assert repeats(document)
    else:
        assert not repeats(document)
        assert value == json.loads(document)


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from(["[{}]", '{{"a": {}}}']))
def test_depth_is_bounded_exactly(depth: int, limit: int, container: str) -> None:
    """`depth` nested containers pass if and only if the limit is not below."""
    document = "1"
    for _ in range(depth):
        document = container.format(document)
    if depth <= limit:
        assert parse(document.encode(), limit, ()) == json.loads(document)
    else:
        with pytest.raises(BadTrace) as caught:
            parse(document.encode(), limit, ())
        assert caught.value.reason == "too_deep"


def test_a_limit_beyond_the_interpreter_is_still_a_limit() -> None:
    """A depth that Python's own recursion cannot reach is too deep, whatever the configured limit."""
    with pytest.raises(BadTrace) as caught:
        parse(b"[" * 100_000 + b"]" * 100_000, 10**6, ())
    assert caught.value.reason == "too_deep"


def test_only_known_keys_are_named() -> None:
    """The message names a repeated key only if it is one of the documented ones."""
    for known, wanted in ((("id",), "key id"), ((), "unknown key")):
        with pytest.raises(BadTrace, match=wanted):
            parse(b'{"id": 1, "id": 2}', 5, known)


pieces = st.text(max_size=5) | st.sampled_from(
    ["\ud83d\ude00", "\ud83d", "\ude00", "NaN", "\\ud83d", "\\", '"']
)


@st.composite
def faulty(draw: st.DrawFn, depth: int = 3) -> tuple[str, Any]:
    """JSON text with halves of surrogate pairs, NaN and numbers beyond a float; and what it should be."""
    kind = draw(st.sampled_from(["object", "array", "text", "number"] if depth else ["text", "number"]))
    if kind == "number":
        return draw(
            st.sampled_from(
                [
                    ("NaN", None),
                    ("-Infinity", None),
                    ("Infinity", None),
                    ("1e999", None),
                    ("-1.5", -1.5),
                    ("7", 7),
                ]
            )
        )
    if kind == "text":
        text = "".join(draw(st.lists(pieces, max_size=4)))
        return json.dumps(text), text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    items = [draw(faulty(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "array":
        return f"[{', '.join(text for text, _ in items)}]", [value for _, value in items]
    members = [f'"k{n} NaN": {text}' for n, (text, _) in enumerate(items)]
    return f"{{{', '.join(members)}}}", {f"k{n} NaN": value for n, (_, value) in enumerate(items)}


@given(faulty())
def test_faults_of_writers_cost_only_themselves(drawn: tuple[str, Any]) -> None:
    """Half of a surrogate pair is U+FFFD, what no number is null, and everything else as it was written."""
    document, value = drawn
    assert parse(document.encode(), 10, ()) == value


def test_text_that_never_closes_is_gone_over_once() -> None:
    """Mending is linear: a megabyte of escaped quotes in an open string is refused at once."""
    with pytest.raises(BadTrace, match="invalid_json"):
        parse(b'["' + b'\\"' * 500_000, 10, ())
    assert parse(b'["' + b'\\"' * 500_000 + b'\\ud800"]', 10, ()) == ['"' * 500_000 + "\ufffd"]


@given(documents() | st.text(min_size=1).map(json.dumps), st.data())
def test_what_is_cut_off_begins_what_was_whole(document: str, data: st.DataObject) -> None:
    """JSON cut anywhere is read as far as it goes: every text in it begins one of the whole."""
    cut = document[: data.draw(st.integers(0, len(document)))]
    read = read_cut(cut, 10)
    # As lists of pairs: of equal keys all are there, where an object would keep the last.
    pairs = json.loads(document, object_pairs_hook=lambda members: [list(pair) for pair in members])
    whole = list(strings(pairs))
    assert all(any(text.startswith(found) for text in whole) for found in strings(read))


def strings(value: Any) -> Iterator[str]:
    """Every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


def test_a_long_text_that_was_cut_off_is_gone_over_once() -> None:
    """Half a million escaped quotes in a string without an end are read at once."""
    assert read_cut('[{"a": "' + '\\"' * 500_000, 10) == [{"a": '"' * 500_000}]
