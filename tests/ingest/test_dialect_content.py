"""What is read of the parts of a message: files of plain text, objects of APIs, and parts that came empty."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lines import LINES
from otlp_wire import attributes, chat, one

from monitor.ingest.dialects import messages
from monitor.trace import Document, Message, Side, ToolCall, Unread, Unreadable, Usage

QUESTION = "How long may I keep the red boots?"


def asking(*parts: Any, **more: Any) -> Any:
    """The exchange of a chat that asks with these parts, and answers."""
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "60 days"}]}]
    asked = [{"role": "user", "parts": list(parts)}]
    return chat(gen_ai__input__messages=asked, gen_ai__output__messages=said, **more)


def base64_of(text: str) -> str:
    """A text as bytes are sent in JSON."""
    return base64.b64encode(text.encode()).decode()


@given(text=LINES)
def test_a_file_of_plain_text_is_a_document(text: str) -> None:
    """The conventions' blob, Gemini's and Bedrock's data, and the Vercel AI SDK's file are sources."""
    encoded = base64_of(text)
    for part in (
        {"type": "blob", "modality": "document", "mime_type": "text/plain", "content": encoded},
        {"type": "binary", "media_type": "text/markdown", "content": encoded},
        {"type": "file", "mediaType": "text/csv", "data": f"data:text/csv;base64,{encoded}"},
        {"inline_data": {"mime_type": "text/plain", "data": encoded}},
        {"document": {"format": "txt", "source": {"bytes": encoded}}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}},
        {"type": "search_result", "source": "", "content": [{"type": "text", "text": text}]},
    ):
        trace = asking(part, {"type": "text", "content": QUESTION})
        assert [document.content for document in trace.context] == [text], part
        assert (trace.messages, trace.labels, trace.unread) == ((Message("user", QUESTION),), {}, ())


@pytest.mark.parametrize(
    ("part", "label"),
    [
        ({"type": "blob", "mime_type": "image/png", "content": "AAAA"}, "left_out.blob"),
        ({"type": "binary", "media_type": "image/png", "content": "AAAA"}, "left_out.blob"),
        ({"type": "image-url", "url": "https://example.com/x.png"}, "left_out.image_url"),
        ({"type": "file", "file_id": "f-1", "mime_type": "text/plain"}, "left_out.file"),
        ({"document": {"format": "pdf", "source": {"bytes": "AAAA"}}}, "left_out.document"),
    ],
)
def test_a_file_without_plain_text_is_left_out(part: dict[str, Any], label: str) -> None:
    """Bytes that are no text are no message of the user."""
    trace = asking(part, {"type": "text", "content": QUESTION})
    assert (trace.messages, trace.context) == ((Message("user", QUESTION),), ())
    assert trace.labels == {label: "1"}


def test_a_document_that_is_nothing_but_a_marker_was_not_read() -> None:
    """A marker is no text, within a prompt's documents too."""
    trace = asking({"type": "document", "source": {"type": "text", "data": "[REDACTED]"}}, "hello")
    assert trace.context == (Document("", ""),)
    assert trace.unread == (Unread(Side.DOCUMENTS, Unreadable.REDACTED),)


@given(st.dictionaries(st.sampled_from(["fact", "city", "note"]), LINES, min_size=1))
def test_an_object_that_is_no_part_is_text(value: dict[str, str]) -> None:
    """Nothing of a message is passed over because nobody knows its shape."""
    [message] = asking(value).messages
    assert json.loads(message.content) == value


def test_code_that_a_model_ran_is_a_call_with_its_result() -> None:
    """Gemini's code and its output stand among the parts of the answer."""
    trace = chat(
        gen_ai__output__messages=[
            {
                "role": "model",
                "parts": [
                    {"executable_code": {"language": "PYTHON", "code": "print(1)"}},
                    {"code_execution_result": {"outcome": "OUTCOME_OK", "output": "1"}},
                    {"text": "It is 1."},
                ],
            }
        ]
    )
    assert trace.response == "It is 1."
    assert trace.tool_calls == (ToolCall("code_execution", "print(1)", "1"),)


@pytest.mark.parametrize("parts", [[{"type": "text"}], [{"type": "text"}, {"type": "text"}], [{}], []])
def test_parts_that_came_without_their_text_were_not_read(parts: list[Any]) -> None:
    """Pydantic AI without content sends the kinds of the parts alone."""
    trace = asking(*parts)
    assert trace.messages == ()
    assert trace.unread == (Unread(Side.PROMPT, Unreadable.NO_CONTENT),)


def test_a_text_that_was_sent_empty_is_no_loss() -> None:
    """An empty text is what its sender wrote."""
    assert asking({"type": "text", "content": ""}).unread == ()


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        ((12.0, "7"), Usage(12, 7)),
        (("12", 7), Usage(12, 7)),
        ((12.5, "seven"), None),
        ((float("nan"), -1), None),
        ((float("inf"), "1" * 400), None),
    ],
)
def test_counts_of_tokens_in_other_types(sent: tuple[Any, Any], usage: Usage | None) -> None:
    """Bridges of other systems send each attribute as text, or each number as a float."""
    span = one(
        {"gen_ai.operation.name": "chat"}
        | {"gen_ai.usage.input_tokens": sent[0], "gen_ai.usage.output_tokens": sent[1]}
    )
    assert span.exchange is not None
    assert span.exchange.usage == usage


@given(text=LINES, data=st.data())
def test_messages_that_were_cut_off_are_never_text_as_a_whole(text: str, data: st.DataObject) -> None:
    """What is left of a message is read, or missed; its JSON is not taken for what was said."""
    for side in ("input", "output"):
        turns = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
        whole = json.dumps(turns, ensure_ascii=False)
        cut = whole[: data.draw(st.integers(len('[{"role":'), len(whole) - 1))]
        trace = chat(**{f"gen_ai__{side}__messages": cut})
        said = trace.messages[0].content if trace.messages else trace.response
        assert text.startswith(said)
        [reason] = [
            each.reason for each in trace.unread if each.side == {"input": "prompt"}.get(side, "response")
        ]
        assert reason is (Unreadable.TRUNCATED if said else Unreadable.NO_CONTENT)


def test_a_whole_event_beats_an_attribute_that_was_cut_before_its_text() -> None:
    """Of two readings of one side the one with the text counts."""
    said = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "60 days"}]}])
    name = "gen_ai.client.inference.operation.details"
    whole = {"name": name, "attributes": attributes({"gen_ai.output.messages": said})}
    values = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": said[:50]}
    trace = one(values, events=[whole]).exchange
    assert trace is not None
    assert (trace.response, trace.alternatives) == ("60 days", ())


@pytest.mark.parametrize("note", ["redaction.masked.keys", "redaction.redacted.keys"])
@pytest.mark.parametrize(
    ("values", "names", "side"),
    [
        (
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"},
            ["gen_ai.tool.call.arguments", "gen_ai.tool.call.result"],
            Side.TOOL_RESULTS,
        ),
        ({"gen_ai.operation.name": "retrieval"}, ["gen_ai.retrieval.documents"], Side.DOCUMENTS),
        ({"gen_ai.operation.name": "search_memory"}, ["gen_ai.memory.records"], Side.DOCUMENTS),
        ({"mlflow.spanType": '"TOOL"'}, ["mlflow.spanOutputs"], Side.TOOL_RESULTS),
    ],
)
def test_what_a_step_returned_and_a_collector_masked_was_not_read(
    values: dict[str, Any], names: list[str], side: Side, note: str
) -> None:
    """A result or documents that a Collector masked or removed are not clean: they are missing."""
    masked = dict.fromkeys(names, "****") if note == "redaction.masked.keys" else {}
    span = one(values | masked | {note: ",".join(names)})
    assert span.unread == (Unread(side, Unreadable.REDACTED),)


def test_an_exchange_of_mlflow_that_a_collector_masked_was_not_read() -> None:
    """Names of attributes are told in any case of their letters."""
    names = ("mlflow.spanInputs", "mlflow.spanOutputs")
    values = dict.fromkeys(names, "****") | {"redaction.masked.keys": ",".join(names)}
    trace = one({"mlflow.spanType": '"CHAT_MODEL"'} | values).exchange
    assert trace is not None
    assert {each.reason for each in trace.unread} == {Unreadable.REDACTED}
    assert len(trace.unread) == 2


@given(
    st.text("abc", min_size=1), st.text("def", min_size=1), st.text("ghi", min_size=1), st.text(min_size=1)
)
def test_items_of_responses_find_their_results(own: str, of_result: str, call: str, result: str) -> None:
    """An item has an id of its own beside that of the call, by which its result finds it."""
    items = [
        {"type": "function_call", "id": own, "call_id": call, "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "id": of_result, "call_id": call, "output": result},
    ]
    answered = messages.answered([{"role": "assistant", "content": items}])
    assert answered.tool_calls == (ToolCall("look", "{}", result, call),)
