"""Entries of gateways: what LiteLLM and Kong say about an exchange, and calls of theirs that are none."""

import copy
import json
from typing import Any

import pytest
from api_bodies import APIS, Said, sse
from gateway_payloads import AGENTO11Y, ANSWER, COMPLETION, KONG, LITELLM, MESSAGES
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import Format, IngestConfig
from monitor.ingest import Decode, decoder
from monitor.ingest.fields import OWNERS
from monitor.trace import Message, Record, ToolCall, Trace, Usage

FORMS: tuple[Format, ...] = ("litellm", "kong", "agento11y", "openai")
DECODERS: dict[str, Decode] = {
    form: decoder(form, IngestConfig(), lambda user: f"pseudonym of {user}") for form in FORMS
}
ASKED = (Message("system", Said().system), Message("user", Said().question))


def decode_all(form: Format, payload: object) -> list[Trace]:
    """The traces of a record of this JSON."""
    pieces = DECODERS[form](Record("t", 0, 7, 1_600_000_000.0, None, json.dumps(payload).encode()))
    return [piece for piece in pieces if isinstance(piece, Trace)]


def litellm(**changes: Any) -> Trace:
    """The trace of LiteLLM's payload with these changes."""
    (trace,) = decode_all("litellm", LITELLM | changes)
    return trace


def kong(status: int = 200, **proxy: Any) -> Trace:
    """The trace of Kong's entry with these changes to what the proxy says."""
    entry = copy.deepcopy(KONG)
    entry["response"]["status"] = status
    entry["ai"]["proxy"] |= proxy
    (trace,) = decode_all("kong", entry)
    return trace


@pytest.mark.parametrize("call_type", ["pass_through_endpoint", "allm_passthrough_route"])
@pytest.mark.parametrize("api", APIS)
def test_bodies_that_litellm_passes_on_are_opened_whole_and_streamed(api: str, call_type: str) -> None:
    """The bodies of an endpoint that is passed on are read, whichever way the provider answered."""
    bodies = APIS[api](Said())
    asked = [{"role": "user", "content": json.dumps(bodies.request, indent=1)}]
    for answered in (
        json.dumps(bodies.response, indent=1), sse(bodies.events), json.dumps(bodies.events),
        json.dumps(bodies.response)[:-3],
    ):  # fmt: skip
        trace = litellm(call_type=call_type, messages=asked, response={"response": answered})
        assert (trace.messages, trace.response, trace.blind()) == (ASKED, Said().answer, ())


def test_what_no_model_answered_to_a_passed_on_call_is_text() -> None:
    """A response of an unknown shape is judged as it is, and one of vectors is no exchange."""
    asked = [{"role": "user", "content": '{"text": "Hi?"}'}]
    passed: dict[str, Any] = {"call_type": "pass_through_endpoint", "messages": asked}
    for text in ('{"verdict": "fine"}', "plain words", "<html>"):
        assert litellm(**passed, response={"response": text}).response == text
    vectors = json.dumps({"object": "list", "data": [{"embedding": [0.1]}]})
    assert decode_all("litellm", LITELLM | passed | {"response": {"response": vectors}}) == []


@pytest.mark.parametrize(
    "call_type",
    [
        "embedding", "aembedding", "amoderation", "arerank", "asearch", "aocr", "aspeech", "atranscription",
        "image_generation", "aimage_edit", "passthrough-image-generation", "acreate_video", "video_content",
        "acreate_file", "afile_retrieve", "file_list", "afile_content", "acreate_batch", "aretrieve_batch",
        "acreate_container", "alist_container_files", "avector_store_search", "vector_store_file_list",
        "acreate_fine_tuning_job", "aget_assistants", "acreate_thread", "a_add_message", "aget_messages",
        "aget_responses", "adelete_responses", "acancel_responses", "alist_input_items", "acreate_skill",
        "acreate_realtime_client_secret", "arealtime_calls", "arun_code", "aingest", "call_mcp_tool",
        "list_mcp_tools",
    ],
)  # fmt: skip
def test_calls_that_make_and_manage_things_are_no_exchange(call_type: str) -> None:
    """Files, batches, videos, stores and the like give no trace and no dead letter."""
    made = {"call_type": call_type, "messages": None, "response": {"id": "x", "object": "thing"}}
    assert decode_all("litellm", LITELLM | made) == []


@pytest.mark.parametrize(
    "call_type",
    [
        "completion", "acompletion", "atext_completion", "aresponses", "anthropic_messages", "_arealtime",
        "pass_through_endpoint", "allm_passthrough_route", "agenerate_content_stream", "create_interaction",
        "asend_message", "",
    ],
)  # fmt: skip
def test_calls_of_models_are_exchanges(call_type: str) -> None:
    """Whatever the endpoint, a call that a model answers is a trace."""
    assert litellm(call_type=call_type).response == ANSWER


def test_a_failure_of_litellm_keeps_what_came() -> None:
    """The text of a stream that failed is judged; an error without a class is named by its text."""
    failed = litellm(status="failure", error_information={"error_class": "MidStreamFallbackError"})
    assert (failed.response, failed.error, failed.finish_reason) == (
        ANSWER,
        "MidStreamFallbackError",
        "error",
    )
    told = litellm(
        status="failure", response={}, error_information=None, error_str="litellm.BadRequestError: CANARY"
    )
    assert (told.error, told.unread, "CANARY" in str(told)) == ("litellm.BadRequestError", (), False)


def test_owners_of_a_litellm_call() -> None:
    """User and conversation are those of the call, else of the body passed on, else of the requester."""
    requester = {"requester_metadata": {"session_id": "s2", "user_id": 17}, "user_api_key_user_id": "owner"}
    assert litellm(session_id="s1", metadata=requester).conversation == "s1"
    asked = litellm(end_user=None, metadata=requester)
    assert (asked.conversation, asked.user) == ("s2", "pseudonym of 17")
    body = json.dumps({"messages": MESSAGES, "metadata": {"user_id": "u1"}})
    passed = litellm(
        end_user=None,
        metadata=requester,
        call_type="pass_through_endpoint",
        messages=[{"role": "user", "content": body}],
    )
    assert passed.user == "pseudonym of u1"
    assert litellm(end_user=None, metadata={"user_api_key_user_id": "owner"}).user == "pseudonym of owner"


def test_counters_that_stayed_at_zero_counted_nothing() -> None:
    """Zeros on both sides are no count: the body's own is used, and a text that is not there is unread."""
    counts = {"prompt_tokens": 0, "completion_tokens": 0}
    assert litellm(**counts).usage == Usage(13, 12)
    stored = {"messages": None, "response": None, "metadata": {"cold_storage_object_key": "k"}}
    assert len(litellm(**counts, **stored).blind()) == len(("prompt", "response"))
    assert kong(usage=counts).usage == Usage(13, 12)
    assert len(kong(usage=counts, payload=None).blind()) == len(("prompt", "response"))
    assert kong(503, usage=counts, payload=None).blind() == ()


def test_messages_may_be_json_in_a_text() -> None:
    """A list of messages in a string is opened; a prompt that only looks like one is text."""
    assert litellm(messages=json.dumps(MESSAGES)).messages == litellm().messages
    for prompt in ("[1] is what?", '["a"]', "[{}]"):
        assert litellm(messages=prompt).messages == (Message("user", prompt),)


def test_what_mcp_returned_is_its_text() -> None:
    """The result of a tool over MCP is the text of its parts."""
    result = {"content": [{"type": "text", "text": "30 days."}], "isError": False}
    called = {"mcp_tool_call_metadata": {"name": "find", "arguments": {"q": 1}, "result": result}}
    assert litellm(metadata=called).tool_calls == (ToolCall("find", '{"q":1}', "30 days."),)


def test_names_that_kong_does_not_know_are_unknown() -> None:
    """Kong's word for no name is none: the body's model counts."""
    nameless = {
        "provider_name": "UNSPECIFIED",
        "request_model": "UNSPECIFIED",
        "response_model": "UNSPECIFIED",
    }
    trace = kong(meta=nameless)
    assert (trace.provider, trace.model) == ("unknown", COMPLETION["model"])


def generation(*parts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A generation whose output has these parts."""
    output = [{"role": "MESSAGE_ROLE_ASSISTANT", "parts": list(parts)}]
    made: dict[str, Any] = AGENTO11Y["generations"][0] | {"output": output} | changes
    return made


def test_results_of_a_generation_are_kept_without_their_calls() -> None:
    """A result whose call is not there, or has no id, is not lost."""
    call = {"tool_call": {"name": "order", "input_json": "e30="}}
    result = {"tool_result": {"name": "order", "content": "sent"}}
    (trace,) = decode_all("agento11y", {"generations": [generation(call, result, {"text": "Yes."})]})
    assert trace.tool_calls == (ToolCall("order", "{}", "sent"),)
    other = {"tool_result": {"tool_call_id": "x", "name": "order", "content": "sent"}}
    (trace,) = decode_all("agento11y", {"generations": [generation(other)]})
    assert trace.tool_calls == (ToolCall("order", "", "sent", "x"),)


def test_one_generation_that_cannot_be_read_costs_no_other() -> None:
    """The others of its export are traces, and what was left out is counted."""
    (trace,) = decode_all("agento11y", {"generations": [7, generation({"text": "Yes."}), "x"]})
    assert (trace.response, trace.labels["left_out.value"]) == ("Yes.", "2")


def test_media_of_a_generation_are_left_out() -> None:
    """A part of which the SDK sends the provider's name alone is no text; numbers name users too."""
    asked = [{"role": 1, "parts": [{"metadata": {"provider_type": "input_image"}}]}]
    sent = generation({"text": "Yes."}, system_prompt="", input=asked, metadata={"agento11y.user.id": 77.0})
    (trace,) = decode_all("agento11y", {"generations": [sent]})
    assert (trace.unread, trace.user) == ((), "pseudonym of 77")
    assert trace.labels["left_out.image"] == "1"


@given(st.text(max_size=20) | st.integers() | st.booleans(), st.integers(1, 3))
def test_an_applications_own_count_of_values_costs_no_record(said: object, damaged: int) -> None:
    """Payloads that cannot be read are counted, whatever the requester's metadata have under that name."""
    held = LITELLM | {"metadata": {"requester_metadata": {"left_out.value": said}}}
    (trace,) = decode_all("litellm", [held] + [5] * damaged)
    assert int(trace.labels["left_out.value"]) >= damaged


@given(st.from_regex(r"[a-z]{3,12}( [a-z]{3,12}){1,5}:? #[a-z]{3,12}", fullmatch=True))
def test_the_message_of_an_error_is_no_type_of_it(message: str) -> None:
    """A word after a number sign is a type only where a namespace stands before it, as in AWS's errors."""
    assert litellm(status="failure", error_str=message, response=None).error == "error"
    assert litellm(status="failure", error_str=f"a.b#Kind: {message}", response=None).error == "Kind"


OWNED = st.dictionaries(st.sampled_from(sorted(OWNERS)), st.text("abc", min_size=1).map("owner-{}".format))


@given(OWNED)
def test_no_name_of_an_owner_becomes_a_label(owned: dict[str, str]) -> None:
    """Where metadata name a user or conversation twice, neither name is told but as what it is."""
    metadata = owned | {"team": "blue"}
    request = {"messages": [{"role": "user", "content": "Hi?"}], "metadata": metadata}
    (pair,) = decode_all("openai", {"request": request, "response": COMPLETION})
    logged = litellm(metadata={"requester_metadata": metadata})
    for trace in (pair, logged):
        assert trace.labels["team"] == "blue"
        assert not any("owner-" in label for label in trace.labels.values())
