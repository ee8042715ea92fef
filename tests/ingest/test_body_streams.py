"""Streams of every API that broke off, failed, or were kept as lines: what came is read, and how it ended."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from api_bodies import APIS, Said, sse
from gateway_payloads import LITELLM
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import Decode, decoder
from monitor.trace import Message, Record, Side, ToolCall, Trace, Unread, Unreadable

DECODERS: dict[str, Decode] = {
    "openai": decoder("openai", IngestConfig(), str),
    "litellm": decoder("litellm", IngestConfig(), str),
}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
TOLD = Said(pieces=("¶Yes, ", "¶within ", "¶30 days."))


def decode(payload: object, form: str = "openai") -> Trace:
    """The one trace of a record of this JSON."""
    (trace,) = DECODERS[form](Record("t", 0, 7, 1_600_000_000.0, None, json.dumps(payload).encode()))
    assert isinstance(trace, Trace)
    return trace


def answer(response: object) -> Trace:
    """The trace of a question and this response."""
    return decode({"request": ASKED, "response": response})


def session(*events: dict[str, Any], **more: Any) -> Trace:
    """The trace of a realtime session with these events, as LiteLLM logs it."""
    payload = LITELLM | {"call_type": "_arealtime", "messages": [], "response": {"results": list(events)}}
    return decode(payload | more, "litellm")


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of this type."""
    return {"type": kind} | fields


def spoken(own: str, text: str) -> dict[str, Any]:
    """A finished response of a session that says this."""
    parts = [{"type": "output_audio", "transcript": text}]
    output = [{"type": "message", "role": "assistant", "content": parts}]
    return event("response.done", response={"id": own, "status": "completed", "output": output})


def said_until(api: str, stop: int) -> tuple[list[dict[str, Any]], str]:
    """The first events of a stream, and the answer so far."""
    events = APIS[api](TOLD).events[:stop]
    held = json.dumps(events, ensure_ascii=False)
    return events, "".join(piece for piece in TOLD.pieces if piece in held)


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=20)
@given(data=st.data())
def test_an_error_within_a_stream_is_told_with_what_came_before_it(api: str, data: st.DataObject) -> None:
    """Wherever an error ends a stream, the text so far is judged, and its type is the error."""
    stop = data.draw(st.integers(1, len(APIS[api](TOLD).events)))
    events, text = said_until(api, stop)
    errors = [{"error": {"type": "server_error", "message": "CANARY"}}]
    if api == "responses":
        errors = [event("error", code="server_error"), event("error", **errors[0])]
    failed = data.draw(st.sampled_from(errors))
    streamed: Any = sse([*events, failed]) if data.draw(st.booleans()) else [*events, failed]
    trace = answer(streamed)
    assert (trace.response, trace.error, trace.finish_reason) == (text, "server_error", "error")
    assert (trace.blind(), "CANARY" in str(trace)) == ((), False)


@pytest.mark.parametrize("api", APIS)
def test_lines_without_the_empty_ones_are_the_stream(api: str) -> None:
    """Whether a client kept the text, its lines, or the JSON of each event, the trace is the same."""
    events = APIS[api](TOLD).events
    lines = [line for line in sse(events).split("\n") if line]
    whole = answer(sse(events))
    assert whole.response == TOLD.answer
    for kept in ("\n".join(lines), lines, [json.dumps(each) for each in events], [*lines, "data: [DONE]"]):
        again = answer(kept)
        assert (again.response, again.tool_calls, again.usage) == (
            whole.response,
            whole.tool_calls,
            whole.usage,
        )


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=20)
@given(data=st.data())
def test_more_of_a_stream_is_never_less_text(api: str, data: st.DataObject) -> None:
    """An event in which a stream broke off counts as far as it goes: text only grows with the length."""
    text = sse(APIS[api](TOLD).events)
    lengths = []
    for cut in sorted(data.draw(st.lists(st.integers(6, len(text)), min_size=2, max_size=6))):
        try:
            lengths.append(len(answer(text[:cut]).response))
        except BadTrace as error:
            assert error.reason == "missing_field"  # noqa: PT017 - both outcomes are legal
            lengths.append(0)
    assert lengths == sorted(lengths)
    assert answer(text).response == TOLD.answer


def test_the_event_that_was_cut_is_read_as_far_as_it_goes() -> None:
    """A text that breaks off within an event of a stream, or a line, is the answer to there."""
    first = 'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}'
    cut = first + '\n\ndata: {"choices":[{"delta":{"content":"lo'
    assert answer(cut).response == "Hello"
    lines = '{"message":{"content":"Hel"},"done":false}\n{"message":{"content":"lo","x":'
    trace = answer(lines)
    assert (trace.response, trace.labels) == ("Hello", {"truncated": "true"})


def test_a_text_that_begins_like_a_stream_is_the_answer() -> None:
    """Without any JSON behind it, `data:` begins a text; comments alone are no answer."""
    assert answer("data: the data shows it").response == "data: the data shows it"
    assert [each.side for each in answer(": ping\n\n").blind()] == ["response"]


@pytest.mark.parametrize(
    "calls",
    [
        [{"id": "a", "function": {"name": "one", "arguments": "{}"}},
         {"id": "b", "function": {"name": "two", "arguments": "{}"}}],
        [{"index": 0, "id": "a", "function": {"name": "one", "arguments": "{}"}},
         {"index": 0, "id": "b", "function": {"name": "two", "arguments": "{}"}}],
        [{"index": 0, "id": "a", "function": {"name": "one", "arguments": "{"}},
         {"index": 1, "id": "b", "function": {"name": "two", "arguments": "{"}},
         {"index": 0, "id": "a", "function": {"name": "one", "arguments": "}"}},
         {"index": 1, "function": {"arguments": "}"}}],
    ],
)  # fmt: skip
def test_calls_of_a_stream_are_told_apart_by_index_or_id(calls: list[dict[str, Any]]) -> None:
    """Servers that count no calls, or all as the first, still give each call its own arguments."""
    trace = answer([{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls])
    names = [call.name for call in trace.tool_calls]
    assert names[:2] == ["one", "two"]
    assert [call.id for call in trace.tool_calls] == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("output_text", 0, "Well. "), ("refusal", 1, "I cannot.")),
        (("output_text", 0, "Well. "), ("output_text", 1, "I cannot.")),
        (("output_audio_transcript", 0, "Well. "), ("output_text", 1, "I cannot.")),
    ],
)
@pytest.mark.parametrize("done", [False, True])
def test_all_parts_of_a_message_that_was_cut_are_read(
    first: tuple[str, int, str], second: tuple[str, int, str], *, done: bool
) -> None:
    """A stream that ended within the second part of its message keeps the first one, finished or not."""
    chunks = []
    for kind, part, said in (first, second):
        place = {"output_index": 0, "content_index": part}
        chunks += [event(f"response.{kind}.delta", delta=half, **place) for half in (said[:2], said[2:])]
        if done and not part:
            field = {"output_text": "text", "refusal": "refusal"}.get(kind, "transcript")
            chunks.append(event(f"response.{kind}.done", **place, **{field: said}))
    assert answer(chunks).response == "Well. I cannot."


def test_a_part_that_came_whole_is_read() -> None:
    """Where deltas are not kept, the part that ended counts; reasoning alone is left out, not unread."""
    part = {"type": "output_text", "text": "Yes."}
    assert answer([event("response.content_part.done", output_index=0, part=part)]).response == "Yes."
    thought = [event("response.created", response={"id": "r", "output": []})]
    thought += [event("response.reasoning_summary_text.delta", output_index=0, delta="hm")]
    assert answer(thought).labels == {"left_out.reasoning": "1"}


def test_a_session_keeps_every_response_and_what_came_of_the_last() -> None:
    """Finished responses of a session, and the one in which it broke off, are the answer, each once."""
    delta = "response.output_audio_transcript.delta"
    trace = session(
        event(delta, response_id="r1", output_index=0, delta="One. "),
        spoken("r1", "One. "),
        event(delta, response_id="r2", output_index=0, delta="Two"),
    )
    assert trace.response == "One. Two"
    cut = (event(delta, response_id=own, output_index=0, delta=own) for own in ("b", "a"))
    assert session(*cut).response == "ba"


def test_what_was_heard_is_told_once() -> None:
    """Messages that LiteLLM took from the events are not repeated; sounds without transcript are counted."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi?"}]}
    sound = {"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}]}
    trace = session(
        event("session.created", session={"instructions": "Be brief."}),
        event("conversation.item.added", item=item),
        event("conversation.item.added", item=sound),
        spoken("r1", "Yes."),
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}],
    )
    assert trace.messages == (Message("system", "Be brief."), Message("user", "Hi?"), Message("user", ""))
    assert trace.labels["left_out.input_audio"] == "1"


def test_an_error_does_not_end_a_session() -> None:
    """An event of an error amid a session that went on is none of the exchange; a failed response is."""
    error = event("error", error={"type": "invalid_request_error", "code": "response_cancel_not_active"})
    trace = session(error, spoken("r1", "Yes."))
    assert (trace.response, trace.error) == ("Yes.", "")
    details = {"type": "failed", "error": {"type": "server_error"}}
    failed = event("response.done", response={"status": "failed", "status_details": details, "output": []})
    assert session(failed).error == "server_error"


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([{"type": "completion", "completion": " Ye"}, {"type": "completion", "completion": "s."}], " Yes."),
        ([{"generation": "Ye", "generation_token_count": 1}, {"generation": "s."}], "Yes."),
        ([{"outputText": "Ye", "index": 0}, {"outputText": "s.", "completionReason": "FINISH"}], "Yes."),
        ([{"outputs": [{"text": "Ye"}]}, {"outputs": [{"text": "s.", "stop_reason": "stop"}]}], "Yes."),
        ([{"event_type": "stream-start"}, {"event_type": "text-generation", "text": "Yes."}], "Yes."),
        ([{"event_type": "text-generation", "text": "Ye"},
          {"event_type": "stream-end", "response": {"text": "Yes.", "meta": {"tokens": {}}}}], "Yes."),
        ([{"role": "assistant", "p": "a"}, {"contentBlockIndex": 0, "delta": {"text": "Yes."}, "p": "ab"},
          {"stopReason": "end_turn", "p": "a"}], "Yes."),
        (["Ye", "s."], "Yes."),
    ],
)  # fmt: skip
def test_pieces_of_older_apis_are_joined(chunks: list[Any], text: str) -> None:
    """Models on Bedrock, Cohere's first chat and events without their names give their text."""
    trace = answer(chunks)
    assert (trace.response, trace.unread) == (text, ())


def test_a_live_session_of_gemini_is_read() -> None:
    """Transcripts of both sides, texts and calls of a live session are its prompt and answer."""
    trace = answer([
        {"setupComplete": {}},
        {"serverContent": {"inputTranscription": {"text": "And "}}},
        {"serverContent": {"inputTranscription": {"text": "boots?"}}},
        {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "AAAA"}}]}}},
        {"serverContent": {"outputTranscription": {"text": "Boots "}}},
        {"serverContent": {"modelTurn": {"parts": [{"text": "too."}]}}},
        {"toolCall": {"functionCalls": [{"id": "c", "name": "order", "args": {"id": 7}}]}},
        {"serverContent": {"turnComplete": True}, "usageMetadata": {"responseTokenCount": 7}},
    ])  # fmt: skip
    assert (trace.messages, trace.response) == (
        (Message("user", "Hi?"), Message("user", "And boots?")),
        "Boots too.",
    )
    assert trace.tool_calls == (ToolCall("order", '{"id":7}', "", "c"),)
    silent = [{"serverContent": {"turnComplete": True}, "usageMetadata": {"responseTokenCount": 7}}]
    assert [each.side for each in answer(silent).blind()] == ["response"]


ODD: list[Any] = [None, 7, 1.5, True, "odd", "", [], {}, [7], {"odd": 1}, {"text": []}, {"error": {}}]
RARE: list[Any] = [
    [{"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": own, "function": {"name": "order", "arguments": "{}"}}]}}]} for own in "ab"],
    [{"candidates": [{"content": {"parts": [{"executableCode": {"code": "1"}}, {"codeExecutionResult": {
        "outcome": "OUTCOME_OK", "output": "one"}}]}, "groundingMetadata": {"groundingChunks": [
            {"retrievedContext": {"title": "t", "text": "30 days."}}]}}]}],
    [{"serverContent": {"modelTurn": {"parts": [{"text": "Yes."}]}, "outputTranscription": {"text": "Yes."},
        "inputTranscription": {"text": "Hi?"}}}, {"toolCall": {"functionCalls": [{"name": "order"}]}}],
    [{"contentBlockIndex": 0, "start": {"toolUse": {"name": "order"}}}, {"stopReason": "end_turn"}],
    [event("response.output_text.delta", response_id="r1", output_index=0, content_index=0, delta="Yes."),
     event("conversation.item.added", item={"id": "u", "role": "user", "content": []}), spoken("r2", "Yes.")],
    [{"event_type": "text-generation", "text": "Yes"}, {"event_type": "stream-end", "response": {"text": 1}}],
    [{"outputs": [{"text": "Yes.", "stop_reason": "stop"}]}, {"generation": "Yes.", "done": True}],
    {"outputs": [{"type": "text", "text": "Y."}], "citations": [{"retrievedReferences": [{"content": {}}]}]},
    {"output": {"choices": [{"message": {"content": "Yes.", "images": [{"type": "image_url"}]}}]}},
]  # fmt: skip
"""Bodies and streams of the rarer kinds."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value in a body."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@settings(max_examples=400)
@given(st.sampled_from(RARE), st.data())
def test_odd_values_in_rare_bodies_cost_no_trace(body: Any, data: st.DataObject) -> None:
    """Whatever stands in the place of one or two values, there is a trace with the question."""
    changed = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(list(places(changed)) or [(0,)]))
        holder = changed
        for step in above:
            holder = holder[step]
        if isinstance(holder, dict) or last < len(holder):
            holder[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    assert "Hi?" in answer(changed).prompt()


def test_wire_events_of_converse_hold_calls_and_tokens() -> None:
    """Converse's events without names are told by their fields; an exception alone is an error."""
    use = {"toolUse": {"toolUseId": "c", "name": "order"}}
    trace = answer([
        {"contentBlockIndex": 0, "start": use, "p": "a"},
        {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}, "p": "ab"},
        {"usage": {"inputTokens": 5, "outputTokens": 7}, "metrics": {}, "p": "a"},
    ])  # fmt: skip
    assert trace.tool_calls == (ToolCall("order", "{}", "", "c"),)
    assert trace.usage is not None
    assert trace.usage.output_tokens == 7
    alone = answer([{"throttlingException": {"message": "CANARY"}}])
    assert (alone.error, alone.unread) == ("throttlingException", ())


@pytest.mark.parametrize("alone", [True, False])
def test_an_error_that_is_an_event_itself_is_told(*, alone: bool) -> None:
    """The Responses API ends a stream with an event of the error's code, maybe before any other."""
    events = [event("response.output_text.delta", delta="¶Yes", output_index=0, content_index=0)]
    failed = event("error", code="server_error", message="boom", param=None)
    trace = decode(
        {"request": {"model": "m", "input": "Hi?"}, "chunks": [*(() if alone else events), failed]}
    )
    assert (trace.response, trace.error, trace.unread) == ("" if alone else "¶Yes", "server_error", ())


@pytest.mark.parametrize(
    "choices", [{"0": {"message": {"content": "¶Yes"}}}, [{"index": 0, "said": {"content": "¶Yes"}}], [{}]]
)
def test_a_sample_of_an_unknown_shape_was_not_read(choices: Any) -> None:
    """A sample without any field that a sample has is no empty answer; one that only ended is."""
    trace = answer({"choices": choices})
    assert (trace.response, trace.blind()) == ("", (Unread(Side.RESPONSE, Unreadable.FOREIGN),))
    assert answer({"choices": [{"index": 0, "finish_reason": "stop"}]}).unread == ()
