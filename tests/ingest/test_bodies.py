"""Bodies of every API come out alike, in every format, whole, streamed, cut off and with an odd value."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from api_bodies import APIS, DOCUMENTED, Said, sse
from external import need_module
from gateway_payloads import KONG, LITELLM
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import Format, IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import Decode, decoder
from monitor.trace import Document, Message, Record, ToolCall, Trace, Usage

FORMS: tuple[Format, ...] = ("openai", "litellm", "kong")
DECODERS: dict[str, Decode] = {
    form: decoder(form, IngestConfig(), lambda user: f"pseudonym-{len(user)}") for form in FORMS
}
words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=20
).filter(
    lambda text: (
        text.strip() and text[0] not in "_<[Rr*" and "¶" not in text
    )  # of redaction markers; of pieces
)
said = st.builds(
    Said, words, words, st.lists(words.map("¶{}".format), min_size=1, max_size=4).map(tuple), words,
    st.dictionaries(words, words, min_size=1, max_size=2), words,
)  # fmt: skip


def decode_all(form: str, payload: object) -> list[Trace]:
    """The traces of a record of this JSON."""
    pieces = DECODERS[form](Record("t", 0, 7, 1_600_000_000.0, None, json.dumps(payload).encode()))
    return [piece for piece in pieces if isinstance(piece, Trace)]


def decode(request: object, response: object, form: str = "openai") -> Trace:
    """The trace of a request and its response, in a record of one format."""
    (trace,) = decode_all(form, wrapped(request, response, form))
    return trace


def wrapped(request: object, response: object, form: str) -> dict[str, Any]:
    """A request and its response in a record of one format."""
    if form == "openai":
        return {"request": request, "response": response}
    if form == "litellm":
        return LITELLM | {"messages": request, "response": response, "model": "m"}
    entry = copy.deepcopy(KONG)
    entry["ai"]["proxy"]["payload"] = {
        name: body if isinstance(body, str) else json.dumps(body)
        for name, body in (("request", request), ("response", response))
    }
    return entry


def same_call(call: ToolCall, told: Said) -> bool:
    """Whether a call is the one that was made."""
    return (call.name, json.loads(call.arguments)) == (told.tool, dict(told.arguments))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("api", APIS)
@settings(max_examples=40)
@given(told=said)
def test_what_a_body_says_comes_out(api: str, form: str, told: Said) -> None:
    """Instructions, question, answer, call and documents of each API are the trace's, in all formats."""
    bodies = APIS[api](told)
    trace = decode(bodies.request, bodies.response, form)
    assert trace.messages == (Message("system", told.system), Message("user", told.question))
    assert trace.response == told.answer
    assert [same_call(call, told) for call in trace.tool_calls] == [True]
    assert (told.document in "".join(document.content for document in trace.context)) or api not in DOCUMENTED
    assert trace.unread == ()


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=40)
@given(told=said, form=st.sampled_from(FORMS), data=st.data())
def test_a_stream_is_what_it_would_have_been_whole(
    api: str, told: Said, form: Format, data: st.DataObject
) -> None:
    """Events as a list and as text give the texts, the call and the usage of the whole body."""
    bodies = APIS[api](told)
    streamed: Any = sse(bodies.events) if form == "kong" or data.draw(st.booleans()) else bodies.events
    whole, trace = decode(bodies.request, bodies.response, form), decode(bodies.request, streamed, form)
    assert (trace.response, trace.messages) == (whole.response, whole.messages)
    assert [same_call(call, told) for call in trace.tool_calls] == [True]
    assert [call.id for call in trace.tool_calls] == [call.id for call in whole.tool_calls]
    assert trace.context == whole.context
    assert trace.unread == ()
    if api != "chat":  # its last chunk has the usage, which this one lacks
        assert trace.usage == whole.usage == (Usage(5, 7) if form == "openai" else Usage(13, 12))


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=40)
@given(told=said, data=st.data())
def test_a_stream_that_broke_off_is_read_as_far_as_it_came(api: str, told: Said, data: st.DataObject) -> None:
    """Cut anywhere, the answer is what its pieces say so far; before its first event there is no trace."""
    bodies = APIS[api](told)
    text = sse(bodies.events)
    cut = text[: data.draw(st.integers(len("event:"), len(text)))]
    try:
        trace = decode(bodies.request, cut)
    except BadTrace as error:
        assert error.reason == "missing_field"  # noqa: PT017 - both outcomes are legal
        assert cut.count("\n\n") <= 1
        return
    assert told.answer.startswith(trace.response)
    assert trace.prompt() == f"{told.system}\n{told.question}"
    held = json.dumps("¶")[1:-1] in cut[: cut.rfind("\n\n") + 1]
    assert bool(trace.response) >= held


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value in a body."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


ODD: list[Any] = [
    None,
    7,
    -1,
    1.5,
    1e300,
    True,
    "odd",
    "",
    [],
    {},
    [None],
    [7],
    ["odd"],
    {"odd": 1},
    {"text": []},
]


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=40)
@given(data=st.data(), form=st.sampled_from(FORMS))
def test_one_odd_value_costs_nothing_but_itself(api: str, form: Format, data: st.DataObject) -> None:
    """Whatever stands in the place of one value, all texts that are still there are in the trace."""
    bodies = copy.deepcopy(APIS[api](Said()))
    record = {"request": bodies.request, "response": bodies.response}
    path = data.draw(st.sampled_from([path for path in places(record) if len(path) > 1]))
    odd = data.draw(st.sampled_from(ODD if path[-1] not in {"type", "thought"} else [None, 7, [], {}]))
    holder: Any = record
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = odd
    told, left = Said(), json.dumps(record)
    try:
        trace = decode(record["request"], record["response"], form)
    except BadTrace:
        assert path[0] == "response"  # of which nothing is left but its identity
        assert len(path) == 2 or path[:2] == ("response", "output")
        assert told.answer not in left or odd == ""
        return
    found = json.dumps(
        [
            trace.response, *trace.alternatives, *(m.content for m in trace.messages),
            *(d.content for d in trace.context), *(call.name + call.arguments for call in trace.tool_calls),
        ]
    )  # fmt: skip
    for text in (told.system, told.question, told.answer, told.document):
        assert text in found or text not in left, (path, odd)


ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
DONE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}


@pytest.mark.parametrize(
    ("item", "call"),
    [
        (
            {
                "type": "code_interpreter_call",
                "id": "i",
                "code": "1+1",
                "outputs": [{"type": "logs", "logs": "2"}],
            },
            ToolCall("code_interpreter", "1+1", "2", "i"),
        ),
        (
            {"type": "web_search_call", "id": "i", "action": {"type": "search", "query": "q"}},
            ToolCall("web_search", '{"type":"search","query":"q"}', "", "i"),
        ),
        (
            {
                "type": "mcp_call",
                "id": "i",
                "name": "find",
                "arguments": "{}",
                "output": None,
                "error": "gone",
            },
            ToolCall("find", "{}", "", "i", error=True),
        ),
        (
            {"type": "custom_tool_call", "call_id": "i", "id": "x", "name": "shell", "input": "ls"},
            ToolCall("shell", "ls", "", "i"),
        ),
        (
            {"type": "local_shell_call", "call_id": "i", "action": {"command": ["ls"]}},
            ToolCall("local_shell", '{"command":["ls"]}', "", "i"),
        ),
        (
            {"type": "mcp_approval_request", "id": "i", "name": "pay", "arguments": "{}"},
            ToolCall("pay", "{}", "", "i"),
        ),
    ],
)
def test_calls_of_hosted_tools_are_calls(item: dict[str, Any], call: ToolCall) -> None:
    """Tools that OpenAI runs are named after their kind; what they were given and returned is judged."""
    trace = decode({"model": "m", "input": "Hi?"}, {"id": "r", "output": [item, DONE]})
    assert (trace.tool_calls, trace.response) == ((call,), "Yes.")


def test_tools_of_anthropics_servers_come_with_their_results() -> None:
    """What a search, a fetch or code returned stands with its call; errors are marked."""
    content = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [
            {"type": "web_search_result", "title": "Returns", "url": "u.example", "encrypted_content": "e"}
        ]},
        {"type": "server_tool_use", "id": "s2", "name": "web_fetch", "input": {"url": "u"}},
        {"type": "web_fetch_tool_result", "tool_use_id": "s2", "content": {
            "type": "web_fetch_result", "url": "u",
            "content": {"type": "document", "source": {"type": "text", "data": "Page."}},
        }},
        {"type": "server_tool_use", "id": "s3", "name": "code_execution", "input": {"code": "1"}},
        {"type": "code_execution_tool_result", "tool_use_id": "s3", "content": {
            "type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []
        }},
        {"type": "mcp_tool_use", "id": "s4", "name": "echo", "server_name": "e", "input": {}},
        {"type": "mcp_tool_result", "tool_use_id": "s4", "is_error": True,
         "content": [{"type": "text", "text": "no"}]},
        {"type": "text", "text": "Yes, "}, {"type": "text", "text": "indeed.", "citations": []},
    ]  # fmt: skip
    trace = decode(ASKED, {"id": "r", "type": "message", "content": content})
    assert trace.response == "Yes, indeed."
    assert [(call.name, call.result, call.error) for call in trace.tool_calls] == [
        ("web_search", "Returns u.example", False),
        ("web_fetch", "Page.", False),
        ("code_execution", "1", False),
        ("echo", "no", True),
    ]
    assert trace.labels == {}


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"choices": [{"message": {"content": None, "audio": {"transcript": "Yes."}}}]}, "Yes."),
        ({"choices": [{"message": {"content": None, "reasoning_content": "Yes."}}]}, "Yes."),
        ({"choices": [{"message": {"content": {"text": {"value": "Yes."}}}}]}, "Yes."),
        ({"choices": [{"message": {"content": [{"type": "odd", "content": "Yes."}]}}]}, "Yes."),
        ({"choices": [{"text": "Yes."}]}, "Yes."),
        ({"output": [{"type": "message", "content": [{"type": "audio", "transcript": "Yes."}]}]}, "Yes."),
        ({"message": {"role": "assistant", "content": "Yes."}, "done": True, "eval_count": 3}, "Yes."),
        ([{"message": {"content": "Ye"}, "done": False}, {"message": {"content": "s."}, "done": 1}], "Yes."),
        ('{"response": "Ye", "done": false}\n{"response": "s.", "done": true}\n', "Yes."),
        ([{"generated_text": "Yes."}], "Yes."),
        ([{"token": {"text": "Ye"}}, {"token": {"text": "s."}, "generated_text": "Yes."}], "Yes."),
        ({"inputTextTokenCount": 3, "results": [{"outputText": "Yes.", "tokenCount": 3}]}, "Yes."),
        ({"generation": "Yes.", "stop_reason": "stop"}, "Yes."),
        ({"text": "Yes."}, "Yes."),
        ('{"choices": [{"message": {"content": "Yes. And', "Yes. And"),
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"candidatesTokenCount": 3}}, ""),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "CANARY"}}, ""),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "CANARY"}}, ""),
        ('event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n', ""),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "length"}],
          "usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 9}}}, ""),
        ({"choices": [{"message": {"content": None, "audio": {"data": "AAAA"}}}],
          "usage": {"completion_tokens": 9}}, ""),
    ],
)  # fmt: skip
def test_wherever_an_answer_stands_it_is_read(response: object, text: str) -> None:
    """Texts, transcripts and pieces of many servers are the response; where none can be, none is unread."""
    trace = decode(ASKED, response)
    assert (trace.response, trace.blind(), trace.missing) == (text, (), ())
    assert "CANARY" not in str(trace)


@pytest.mark.parametrize(
    "response",
    [
        {"object": "list", "data": [{"embedding": [0.1], "index": 0}], "model": "emb"},
        {"created": 1, "data": [{"b64_json": "AAAA"}]},
        {"object": "list", "data": [{"id": "gpt-5", "object": "model"}]},
        {"id": "m", "model": "omni", "results": [{"flagged": False, "categories": {}}]},
        {"results": [{"index": 0, "relevance_score": 0.5}]},
        {"embedding": {"values": [0.1]}},
        {"embeddings": [{"values": [0.1]}]},
        {"totalTokens": 7},
        {"input_tokens": 7},
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_what_answers_with_no_text_is_no_exchange(response: dict[str, Any], form: Format) -> None:
    """Vectors, images, lists of models, ranks and counts of tokens give no trace, and no dead letter."""
    assert decode_all(form, wrapped({"model": "m", "input": "x"}, response, form)) == []


def test_a_call_whose_payload_was_not_logged_may_still_be_no_exchange() -> None:
    """Kong says what kind of route it served: one of embeddings is not blind."""
    entry = copy.deepcopy(KONG)
    del entry["ai"]["proxy"]["payload"]
    entry["ai"]["proxy"]["tried_targets"] = [{"route_type": "llm/v1/embeddings"}]
    assert decode_all("kong", entry) == []
    entry["ai"]["proxy"]["tried_targets"] = [{"route_type": "llm/v1/chat"}]
    assert decode_all("kong", entry)[0].missing == ("content",)


def test_a_spoken_conversation_is_read_from_its_events() -> None:
    """Instructions and what the user said are the prompt; transcripts of all answers are the response."""

    def answer(own: str, text: str) -> dict[str, Any]:
        parts = [{"type": "output_audio", "transcript": text}]
        output = [{"id": own, "type": "message", "role": "assistant", "content": parts}]
        return {"type": "response.done", "response": {"id": own, "status": "completed", "output": output}}

    heard = "conversation.item.input_audio_transcription.completed"
    events = [
        {"type": "session.created", "session": {"instructions": "Be brief."}},
        {"type": "conversation.item.added", "item": {"id": "u1", "role": "user", "content": [
            {"type": "input_audio", "transcript": None}]}},
        {"type": heard, "item_id": "u1", "transcript": "Can I return shoes?"},
        answer("r1", "Yes."),
        {"type": "conversation.item.added", "item": {"id": "u2", "role": "user", "content": [
            {"type": "input_text", "text": "And boots?"}]}},
        answer("r2", " Boots too."),
    ]  # fmt: skip
    (trace,) = decode_all("litellm", LITELLM | {"messages": [], "response": {"results": events}})
    assert trace.response == "Yes. Boots too."
    assert trace.messages == (
        Message("system", "Be brief."), Message("user", "Can I return shoes?"), Message("user", "And boots?"),
    )  # fmt: skip


def test_an_endpoint_that_litellm_passes_on_has_bodies_as_json() -> None:
    """The provider's own bodies, one in the user's message and one in the response, are opened."""
    for api in APIS.values():
        bodies = api(Said())
        payload = LITELLM | {
            "call_type": "pass_through_endpoint",
            "messages": [{"role": "user", "content": json.dumps(bodies.request)}],
            "response": {"response": json.dumps(bodies.response)},
        }
        (trace,) = decode_all("litellm", payload)
        assert trace.messages == (Message("system", Said().system), Message("user", Said().question))
        assert trace.response == Said().answer
    plain = LITELLM | {"messages": [{"role": "user", "content": '{"messages": [1]}'}]}
    assert decode_all("litellm", plain)[0].messages == (Message("user", '{"messages": [1]}'),)


def test_what_azures_search_found_is_the_context() -> None:
    """Citations of an answer on one's own data are its documents."""
    cited = {
        "citations": [{"title": "policy", "content": "30 days.", "url": None, "filepath": "a"}],
        "intent": "[]",
    }
    trace = decode(ASKED, {"choices": [{"message": {"content": "Yes. [doc1]", "context": cited}}]})
    assert trace.context == (Document("policy", "30 days."),)


def test_openai_accepts_its_bodies() -> None:
    """The types of OpenAI's client accept what the tests send."""
    chat, responses = APIS["chat"](Said()), APIS["responses"](Said())
    need_module("openai.types.chat").ChatCompletion.model_validate(chat.response, strict=True)
    need_module("openai.types.responses").Response.model_validate(responses.response, strict=True)
    for chunk in chat.events:
        need_module("openai.types.chat").ChatCompletionChunk.model_validate(chunk, strict=True)
