"""What is read of spans and log records in the dialects GenAI, OpenInference and OpenLLMetry."""

import json
from typing import Any

import pytest
from otlp_wire import TRACE, attributes, chat, decode, log_request, one, request, sample, span_of

from monitor.trace import (
    Document,
    Message,
    Side,
    Span,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)


def test_a_chat_span_as_the_conventions_show_it() -> None:
    """Every attribute of the conventions' own example reaches the exchange."""
    (span,) = decode(sample("otlp_chat"))
    assert span.exchange == Trace(
        id="chatcmpl-abc123",
        time=1_795_327_200.0,
        response="Yes, within 60 days.",
        app="support-bot",
        environment="production",
        provider="openai",
        model="gpt-5",
        model_version="gpt-5-2026-08-07",
        conversation="conv_5j66UpCpwteGg4YSxUnt7lPY",
        trace_id="5b8efff798038103d269b633813fc60c",
        span_id="eee19b7ec3c1b174",
        finish_reason="stop",
        emitter="opentelemetry.instrumentation.openai_v2",
        messages=(
            Message("system", "Answer only from the policy."),
            Message("user", "Can I return shoes after 40 days?"),
        ),
        usage=Usage(97, 52),
        latency=1.84,
    )
    assert (span.parent_id, span.end, span.partial, span.unread) == ("", 1_795_327_201.84, False, ())
    assert (span.step.kind, span.step.name, span.step.seconds) == (StepKind.CHAT, "gpt-5", 1.84)


def test_an_agent_run_as_the_conventions_show_it() -> None:
    """Agent, retrieval, tool and chat spans come with their place, documents, call and messages."""
    agent, retrieval, tool, answer = decode(sample("otlp_agent"))
    assert [s.step.kind for s in (agent, retrieval, tool, answer)] == ["agent", "retrieval", "tool", "chat"]
    assert [s.parent_id for s in (agent, retrieval, tool, answer)] == ["", *[agent.span_id] * 3]
    assert agent.exchange.agent == agent.step.name == "ReturnsAgent"
    assert retrieval.documents == (
        Document("doc_123", "Items may be returned within 30 days.", 0.95),
        Document("doc_456", "", 0.87),
    )
    assert (retrieval.step.name, retrieval.step.input) == ("policy-kb", "return window")
    assert tool.call == ToolCall(
        "get_order", '{"order_id":991}', '{"status":"shipped","date":"2026-11-03"}', "call_1"
    )
    assert answer.exchange.messages == (Message("user", "Where is order 991?"),)
    assert answer.exchange.app == "returns-agent"


def test_our_own_verdicts_are_passed_over() -> None:
    """Log records that are no part of an exchange, such as evaluations, make nothing and fail nothing."""
    assert decode(sample("otlp_eval_log")) == []


def test_older_names_of_the_conventions() -> None:
    """`gen_ai.system`, prompt and completion tokens, and whole prompts in one attribute are understood."""
    span = one({
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.usage.prompt_tokens": 5,
        "gen_ai.usage.completion_tokens": 6,
        "gen_ai.prompt": '[{"role": "human", "content": "Hi?"}]',
        "gen_ai.completion": "Hello.",
    })  # fmt: skip
    assert span.exchange
    assert (span.step.kind, span.exchange.provider) == (StepKind.CHAT, "openai")
    assert span.exchange.usage == Usage(5, 6)
    assert span.exchange.messages == (Message("user", "Hi?"),)
    assert span.exchange.response == "Hello."


def test_content_kept_elsewhere_is_not_read() -> None:
    """A reference in place of content leaves a side that was not read; next to the content it does not."""
    asked = '[{"role":"user","parts":[{"type":"text","content":"Hi?"}]}]'
    said = '[{"role":"assistant","parts":[{"type":"text","content":"Hi."}]}]'
    for side, key in ((Side.PROMPT, "input.messages_ref"), (Side.RESPONSE, "output.messages.ref")):
        whole = {"gen_ai.input.messages": asked, "gen_ai.output.messages": said}
        assert chat(**whole, **{f"gen_ai.{key}": "s3://bucket/1"}).unread == ()
        del whole["gen_ai.input.messages" if side is Side.PROMPT else "gen_ai.output.messages"]
        exchange = chat(**whole, **{f"gen_ai.{key}": "s3://bucket/1"})
        assert exchange.unread == (Unread(side, Unreadable.NO_CONTENT),)


def test_what_a_model_thinks_is_not_what_it_says() -> None:
    """Reasoning, blobs and files are left out of the response; its texts are joined by a newline."""
    parts = [
        {"type": "reasoning", "content": "They want shoes."},
        {"type": "text", "content": "Yes."},
        {"type": "blob", "content": "AAAA", "mime_type": "image/png"},
        {"type": "text", "content": "Within 30 days."},
    ]
    exchange = chat(gen_ai__output__messages=json.dumps([{"role": "assistant", "parts": parts}]))
    assert exchange.response == "Yes.\nWithin 30 days."


def test_calls_of_tools_with_what_came_back() -> None:
    """Calls of the client's and the server's tools are taken, with a result of the same id."""
    parts = [
        {"type": "tool_call", "id": "1", "name": "search", "arguments": {"q": "shoes"}},
        {"type": "tool_call_response", "id": "1", "result": "none"},
        {"type": "server_tool_call", "id": "2", "name": "code", "server_tool_call": {"code": "1+1"}},
        {"type": "server_tool_call_response", "id": "2", "server_tool_call_response": {"out": 2}},
        {"type": "text", "content": "Two."},
    ]
    exchange = chat(
        gen_ai__output__messages=[{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]
    )
    assert exchange.tool_calls == (
        ToolCall("search", '{"q":"shoes"}', "none", "1"),
        ToolCall("code", '{"code":"1+1"}', '{"out":2}', "2"),
    )
    assert (exchange.response, exchange.finish_reason) == ("Two.", "tool_calls")


def test_results_among_the_input_are_messages_of_the_tool() -> None:
    """A result inside a user's message becomes a message of its own, in front of the user's text."""
    parts = [
        {"type": "tool_call_response", "id": "1", "response": {"status": "shipped"}},
        {"type": "text", "content": "And now?"},
    ]
    exchange = chat(gen_ai__input__messages=json.dumps([{"role": "user", "parts": parts}]))
    assert exchange.messages == (Message("tool", '{"status":"shipped"}'), Message("user", "And now?"))


@pytest.mark.parametrize(
    "text", ['[{"note": "user", "more": [{"type": "te', '[{"role": "user", "role": "system"}]', "Hello", "{"]
)
def test_content_that_is_no_json_is_judged_as_text(text: str) -> None:
    """JSON that is cut off and no message's, or has a key twice, is text as a whole: nothing hides in it."""
    exchange = chat(gen_ai__input__messages=text, gen_ai__output__messages=text)
    assert exchange.messages == (Message("user", text),)
    assert exchange.response == text


def test_a_document_has_its_text_under_the_first_key_there_is() -> None:
    """The keys are configurable; a document that is plain text has neither id nor score."""
    found = [{"id": 7, "page_content": "A"}, {"document.content": "B", "score": 1}, {"body": "C"}, "D"]
    sent = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": json.dumps(found)}
    assert one(sent).documents == (Document("7", "A"), Document("", "B", 1.0), Document(), Document("", "D"))
    (span,) = decode(request(span_of(sent)), document_keys=["body"])
    assert [document.content for document in span.documents] == ["", "", "C", "D"]


def test_application_environment_and_user() -> None:
    """Resource and span name them; an SDK's `unknown_service` is no name, a user becomes a pseudonym."""
    resource = {"service.name": "unknown_service:python", "k8s.deployment.name": "bot"}
    named = {"gen_ai.system": "x", "gen_ai.request.model": "m"}
    span = one(named | {"user.id": 12345}, resource | {"deployment.environment": "Staging"})
    assert span.exchange
    assert (span.exchange.app, span.exchange.environment) == ("bot", "staging")
    assert span.exchange.user == "pseudonym-5"
    assert chat().app == chat().environment == "unknown"
    hostile = one(named, {"service.name": "jane@example.com"}).exchange
    assert hostile
    assert hostile.app.startswith("h:")


def test_errors_are_types_and_never_messages() -> None:
    """`error.type`, else the exception's type, else `error` where the status says so; a call shows it."""
    failed: dict[str, Any] = {"status": {"code": 2, "message": "secret"}}
    assert one({"gen_ai.system": "x", "error.type": "timeout"}, **failed).step.error == "timeout"
    event = {"name": "exception", "attributes": attributes({"exception.type": "ValueError"})}
    assert one({"gen_ai.system": "x"}, events=[event]).step.error == "ValueError"
    tool = one({"gen_ai.operation.name": "execute_tool"}, **failed)
    assert tool.call
    assert (tool.step.error, tool.call.error) == ("error", True)
    assert one({}, status={"code": "STATUS_CODE_ERROR"}).step.error == "error"


def test_events_of_a_span_hold_content_too() -> None:
    """Messages as events of the span fill what its attributes leave out, and do not repeat what they say."""
    events = [
        {"name": "gen_ai.user.message", "attributes": attributes({"content": "Hi?"})},
        {
            "name": "gen_ai.choice",
            "attributes": attributes({"gen_ai.event.content": '{"message": {"content": "A"}}'}),
        },
        {"name": "gen_ai.choice", "attributes": attributes({"index": 1, "content": "B"})},
    ]
    exchange = one({"gen_ai.operation.name": "chat"}, events=events).exchange
    assert exchange
    assert (exchange.messages, exchange.response, exchange.alternatives) == (
        (Message("user", "Hi?"),),
        "A",
        ("B",),
    )
    said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "Hi?", "gen_ai.output.messages": "A"}
    again = one(said, events=events).exchange
    assert again
    assert (again.messages, again.response, again.alternatives) == ((Message("user", "Hi?"),), "A", ())


def test_events_without_content_say_nothing() -> None:
    """Where content was not captured, an event's other attributes are not taken for it."""
    bare = attributes({"gen_ai.system": "openai"})
    events = [{"name": name, "attributes": bare} for name in ("gen_ai.choice", "gen_ai.user.message")]
    exchange = one({"gen_ai.operation.name": "chat"}, events=events).exchange
    assert exchange
    assert (exchange.messages, exchange.response, exchange.alternatives) == ((), "", ())
    written = attributes({"index": 0, "message": '{"role": "assistant", "content": "Hi."}'})
    said = one({"gen_ai.operation.name": "chat"}, events=[{"name": "gen_ai.choice", "attributes": written}])
    assert said.step.output == "Hi."


def test_what_an_agent_was_given_is_kept_whatever_its_shape() -> None:
    """Objects that are no messages are judged as JSON text, in any dialect."""
    given, made = '{"inputs":{"topic":"shoes"}}', '{"outputs":["a","b"]}'
    exchanges = [
        one(
            {"traceloop.span.kind": "agent", "traceloop.entity.input": given, "traceloop.entity.output": made}
        ),
        one({"openinference.span.kind": "AGENT", "input.value": given, "output.value": made}),
        one(
            {"gen_ai.operation.name": "chat", "gen_ai.input.messages": given, "gen_ai.output.messages": made}
        ),
    ]
    for exchange in (span.exchange for span in exchanges):
        assert exchange
        assert (exchange.messages, exchange.response) == ((Message("user", given),), made)


def test_a_log_record_without_a_span_is_an_exchange_of_its_own() -> None:
    """Without ids nothing can be joined to it, so it is judged as it is."""
    said = {"gen_ai.input.messages": [{"role": "user", "content": "Hi?"}], "gen_ai.output.messages": "Hello."}
    name = "gen_ai.client.inference.operation.details"
    (trace,) = decode(log_request(name, None, said, traceId="", spanId=""))
    assert isinstance(trace, Trace)
    assert (trace.messages, trace.response) == ((Message("user", "Hi?"),), "Hello.")
    (span,) = decode(log_request(name, None, said))
    assert isinstance(span, Span)
    assert (span.partial, span.trace_id, span.step.start) == (True, TRACE, 1_795_327_200.0)


def test_openinference_by_kind() -> None:
    """Retrievers, rerankers, tools, hand-offs, chains, guardrails and agents become the step they are."""
    kind = "openinference.span.kind"
    documents = {
        "retrieval.documents.1.document.content": "B",
        "retrieval.documents.0.document.content": "A",
        "retrieval.documents.0.document.id": "a",
        "retrieval.documents.0.document.score": 0.5,
    }
    retrieved = one({kind: "RETRIEVER", "input.value": "q"} | documents)
    assert retrieved.documents == (Document("a", "A", 0.5), Document("", "B"))
    assert (retrieved.step.kind, retrieved.step.input) == (StepKind.RETRIEVAL, "q")
    reranked = {"reranker.query": "q", "reranker.output_documents.0.document.content": "C"}
    assert one({kind: "RERANKER"} | documents | reranked).documents == (Document("", "C"),)
    tool = one({kind: "TOOL", "tool.name": "f", "input.value": '{"a": 1}', "output.value": "ok"})
    assert tool.call == ToolCall("f", '{"a": 1}', "ok")
    assert one({kind: "TOOL", "tool.name": "transfer_to_billing"}).step.kind is StepKind.HANDOFF
    assert one({kind: "CHAIN"}).step.kind is StepKind.WORKFLOW
    assert one({kind: "GUARDRAIL"}).step.kind is StepKind.GUARDRAIL
    assert one({kind: "EMBEDDING"}).step.kind is StepKind.OTHER
    agent = one({kind: "agent", "agent.name": "A", "input.value": "Hi?", "output.value": "Hello."}).exchange
    assert agent
    assert (agent.agent, agent.messages, agent.response) == ("A", (Message("user", "Hi?"),), "Hello.")


def test_openinference_messages_in_pieces() -> None:
    """Contents in parts, calls, session, user, cost and tokens are read, indices in order of number."""
    span = one({
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-5",
        "llm.provider": "azure",
        "session.id": "s-1",
        "user.id": "jane",
        "llm.cost.total": 0.5,
        "llm.token_count.prompt": 3,
        **{f"llm.input_messages.{n}.message.content": str(n) for n in (10, 9)},
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "Look.",
        "llm.input_messages.0.message.contents.1.message_content.type": "image",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
        "llm.output_messages.99999999999.message.content": "out of any bounds",
    })  # fmt: skip
    exchange = span.exchange
    assert exchange
    assert exchange.messages == (Message("system", "Look."), Message("user", "9"), Message("user", "10"))
    assert exchange.tool_calls == (ToolCall("f", "{}"),)
    assert (exchange.conversation, exchange.user, exchange.provider) == ("s-1", "pseudonym-4", "azure")
    assert (span.step.cost, exchange.usage) == (0.5, Usage(3, None))


def test_content_that_was_hidden_is_none() -> None:
    """What OpenInference writes in place of hidden content is not judged as if it had been said."""
    hidden = {"input.value": "__REDACTED__", "output.value": "__REDACTED__", "openinference.span.kind": "LLM"}
    exchange = one(hidden).exchange
    assert exchange
    assert (exchange.messages, exchange.response) == ((), "")


def test_an_unknown_operation_that_answered_is_an_inference() -> None:
    """Whatever it is called, what a model answered is judged; an operation without an answer is not."""
    said = {"gen_ai.operation.name": "responses", "gen_ai.output.messages": "Hello."}
    assert one(said).step.kind is StepKind.CHAT
    assert one({"gen_ai.operation.name": "embeddings", "gen_ai.input.messages": "x"}).exchange is None


def test_openllmetry_workflows_and_stores() -> None:
    """Entities, properties and the events of a vector store are read."""
    kind = "traceloop.span.kind"
    tool = one({
        kind: "tool",
        "traceloop.entity.name": "f",
        "traceloop.entity.input": '{"a": 1}',
        "traceloop.entity.output": "ok",
    })  # fmt: skip
    assert tool.call == ToolCall("f", '{"a": 1}', "ok")
    assert one({kind: "workflow", "traceloop.entity.name": "w"}).step.name == "w"
    found = {"db.query.result.id": "d", "db.query.result.score": 0.5, "db.query.result.document": "A"}
    store = one(
        {"db.system": "chroma"}, events=[{"name": "db.query.result", "attributes": attributes(found)}]
    )
    assert (store.step.kind, store.step.name) == (StepKind.RETRIEVAL, "chroma")
    assert store.documents == (Document("d", "A", 0.5),)
    properties = {"user_id": "jane", "session_id": "s", "tenant": "acme"}
    agent = one(
        {kind: "agent", "traceloop.entity.name": "A", "traceloop.entity.output": "Hello."}
        | {f"traceloop.association.properties.{key}": value for key, value in properties.items()}
    ).exchange
    assert agent
    assert (agent.agent, agent.response, agent.user) == ("A", "Hello.", "pseudonym-4")
    assert (agent.conversation, agent.labels) == ("s", {"tenant": "acme"})


def test_two_events_of_one_exchange_are_its_two_sides() -> None:
    """Strands sends the details of a call apart: instructions and prompt when it begins, then the answer."""
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "60 days"}], "finish_reason": "stop"}]
    asked = [{"role": "user", "parts": [{"type": "text", "content": "How long?"}]}]
    events = [
        {
            "name": "gen_ai.client.inference.operation.details",
            "attributes": attributes({f"gen_ai.{side}.messages": json.dumps(turns)}),
        }
        for side, turns in (("input", asked), ("output", said))
    ]
    system = {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}])}
    events.insert(0, {"name": "gen_ai.client.inference.operation.details", "attributes": attributes(system)})
    trace = one({"gen_ai.operation.name": "chat"}, events=events).exchange
    assert trace is not None
    assert trace.messages == (Message("system", "Be brief."), Message("user", "How long?"))
    assert trace.response == "60 days"


def test_details_of_a_tool_call_hold_its_arguments_and_its_result() -> None:
    """Both are messages of the role tool, one with the call, one with what it returned."""
    call = {"type": "tool_call", "id": "c1", "name": "find", "arguments": {"item": "boots"}}
    result = {"type": "tool_call_response", "id": "c1", "response": [{"text": "30 days"}]}
    events = [
        {
            "name": "gen_ai.client.inference.operation.details",
            "attributes": attributes(
                {f"gen_ai.{side}.messages": json.dumps([{"role": "tool", "parts": [part]}])}
            ),
        }
        for side, part in (("input", call), ("output", result))
    ]
    values = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}
    span = one(values | {"gen_ai.tool.call.id": "c1"}, events=events)
    assert span.call == ToolCall("find", '{"item":"boots"}', "30 days", "c1")


def test_events_that_end_with_the_assistants_words_hold_the_answer() -> None:
    """Azure's agents report the answer as one more message; after a failure it is the prompt's."""
    said = {"content": {"text": {"value": "60 days"}}, "role": "assistant"}
    events = [
        {
            "name": f"gen_ai.{role}.message",
            "attributes": attributes({"gen_ai.event.content": json.dumps(body)}),
        }
        for role, body in (("user", {"role": "user", "content": "How long?"}), ("assistant", said))
    ]
    values = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    trace = one(values, events=events).exchange
    assert trace is not None
    assert (trace.messages, trace.response) == ((Message("user", "How long?"),), "60 days")
    failed = one(values | {"error.type": "timeout"}, events=events).exchange
    assert failed is not None
    assert (len(failed.messages), failed.response) == (2, "")


@pytest.mark.parametrize("names", [("prompt", "completion"), ("input.messages", "output.messages")])
def test_bodies_of_an_api_in_the_place_of_messages_are_opened(names: tuple[str, str]) -> None:
    """Some senders put the whole request and the whole response where messages belong."""
    sent = {"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "How long?"}]}
    made = {"choices": [{"message": {"role": "assistant", "content": "60 days"}, "finish_reason": "stop"}]}
    values = {f"gen_ai.{name}": json.dumps(body) for name, body in zip(names, (sent, made), strict=True)}
    trace = one({"gen_ai.operation.name": "chat"} | values).exchange
    assert trace is not None
    assert trace.messages == (Message("system", "Be brief."), Message("user", "How long?"))
    assert (trace.response, trace.finish_reason) == ("60 days", "stop")
