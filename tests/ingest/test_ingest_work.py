"""Work on a record grows with its size, not with its square, whatever its sender repeats in it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import seconds

from monitor.ingest.bodies import response_of
from monitor.ingest.dialects import genai, messages
from monitor.ingest.dialects.flat import nested
from monitor.ingest.texts import Asked, cut_prompt
from monitor.ingest.wire import SpanEvent, WireSpan
from monitor.trace import Message

CALL = {"function": {"name": "look", "arguments": "{}"}}


def span(attributes: dict[str, Any], events: list[SpanEvent]) -> WireSpan:
    """A span of these attributes and events."""
    return WireSpan("a" * 32, "b" * 16, "", 1, 2, failed=False, attributes=attributes, events=events)


def calls_of_many_indexes(count: int) -> None:
    """Read a delta with a call of each index."""
    pieces = [{"index": n, **CALL} for n in range(count)]
    response_of([{"choices": [{"delta": {"tool_calls": pieces}}]}], "", msgspec.json.decode)


def pieces_without_an_id(count: int) -> None:
    """Read a call that comes in many pieces of one index."""
    piece = {"index": 0, "function": {"arguments": "a"}}
    chunk = {"choices": [{"delta": {"tool_calls": [piece]}}]}
    response_of([chunk] * count, "", msgspec.json.decode)


def samples_with_calls(count: int) -> None:
    """Read samples that each call a tool."""
    choices = [{"index": n, "message": {"tool_calls": [CALL]}} for n in range(8 * count)]
    response_of({"choices": choices}, "", msgspec.json.decode)


def candidates_with_calls(count: int) -> None:
    """Read candidates that each call a tool."""
    part = {"functionCall": {"name": "look"}}
    response_of({"candidates": [{"content": {"parts": [part]}}] * (8 * count)}, "", msgspec.json.decode)


def calls_that_hand_over_the_answer(count: int) -> None:
    """Read a message with many calls of an agent's output tool."""
    call = {"function": {"name": "final_result", "arguments": "x" * 100}}
    messages.answered([{"role": "assistant", "tool_calls": [call] * (8 * count)}])


def events_of_messages(count: int) -> None:
    """Read a span with an event for each message."""
    events = [SpanEvent("gen_ai.user.message", 0, {"content": f"{n}"}) for n in range(8 * count)]
    genai.read(span({"gen_ai.operation.name": "chat"}, events), ())


def events_of_details(count: int) -> None:
    """Read a span with many events of details."""
    events = [SpanEvent(genai.DETAILS, 0, {"gen_ai.input.messages": f"{n}"}) for n in range(4 * count)]
    genai.read(span({"gen_ai.operation.name": "chat"}, events), ())


def flattened_messages(count: int) -> None:
    """Read a message whose parts a Collector flattened."""
    nested({f"m.parts.{n}.{key}": "x" for n in range(count) for key in ("type", "content")}, ("m",))


def empty_messages_of_a_cut_prompt(count: int) -> None:
    """Read a prompt that was cut off behind many empty messages."""
    cut_prompt(Asked((Message("user", ""),) * (32 * count)))


@pytest.mark.alone
@pytest.mark.parametrize(
    "read",
    [
        calls_of_many_indexes,
        pieces_without_an_id,
        samples_with_calls,
        candidates_with_calls,
        calls_that_hand_over_the_answer,
        events_of_messages,
        events_of_details,
        flattened_messages,
        empty_messages_of_a_cut_prompt,
    ],
)
def test_a_record_of_four_times_the_size_takes_four_times_the_time(read: Callable[[int], None]) -> None:
    """No list in a record makes its reader go over the whole of it again for each of its items."""
    assert seconds(read, 4000) < 8 * seconds(read, 1000)


NAMES = st.text("abcdefg_", min_size=1, max_size=4)
ITEMS = st.recursive(
    st.text(max_size=4),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1),
    max_leaves=12,
)


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A value as a Collector flattens it: the leaves by their paths."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for at, item in items for key, leaf in flat(item, f"{path}{at}.").items()}
    return {path.removesuffix("."): value}


@given(st.dictionaries(NAMES, ITEMS))
def test_what_was_flattened_is_made_whole_again(message: dict[str, Any]) -> None:
    """Lists and objects of any depth come back as they were."""
    assert nested(flat({"m": message}), ("m",)).get("m", {}) == message


@given(st.integers(1, 20_000))
def test_names_of_any_depth_are_read(depth: int) -> None:
    """A flattened name of thousands of parts costs its text its place, and nothing else."""
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages.0.content": "hello"}
    attributes[f"gen_ai.output.messages.0.{'a.' * depth}b"] = "deep"
    reading = genai.read(span(attributes, []), ())
    assert [message.content for message in reading.asked.messages] == ["hello"]
