"""OpenLLMetry and those beside it: entities, retrievals, properties, LiteLLM's callback, OpenLIT, MCP."""

import json
from typing import Any

import pytest
from hypothesis import given
from lines import LINES
from otlp_wire import decode, log_request, one, request, span_of

from monitor.ingest.dialects import DIALECTS
from monitor.ingest.dialects.emitters import CONTENT_ON, content_on
from monitor.trace import Document, Message, StepKind

PROPERTY = "traceloop.association.properties"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}


def test_a_task_may_say_that_it_is_an_agent() -> None:
    """A task whose operation is invoke_agent is an agent's run, with its output as the answer."""
    span = one(
        {
            "gen_ai.operation.name": "invoke_agent",
            "traceloop.span.kind": "task",
            "traceloop.entity.name": "check stock",
            "traceloop.entity.output": "There are 3 pairs left.",
        }
    )
    assert (span.step.kind, span.step.name) == (StepKind.AGENT, "check stock")
    assert span.exchange is not None
    assert span.exchange.response == "There are 3 pairs left."


def test_a_crew_has_its_result_as_the_answer() -> None:
    """The span of a crew keeps its result in an attribute of CrewAI."""
    span = one({"gen_ai.operation.name": "invoke_agent", "crewai.crew.result": "All done."})
    assert span.exchange is not None
    assert (span.step.kind, span.exchange.response) == (StepKind.AGENT, "All done.")


@given(query=LINES, text=LINES)
def test_a_retrieval_has_query_and_documents(query: str, text: str) -> None:
    """`vector_db_retrieve` is a retrieval: its entity holds what was searched, and what was found."""
    found = {"documents": [{"page_content": text, "metadata": {"source": "faq.md"}}], "count": 1}
    span = one(
        {
            "gen_ai.operation.name": "vector_db_retrieve",
            "traceloop.span.kind": "task",
            "traceloop.entity.name": "Shelf",
            "traceloop.entity.input": json.dumps({"query": query}),
            "traceloop.entity.output": json.dumps(found),
        }
    )
    assert (span.step.kind, span.step.name, span.step.input) == (StepKind.RETRIEVAL, "Shelf", query)
    assert span.documents == (Document("faq.md", text),)


@pytest.mark.parametrize("user", ["user_id", "userId", "langfuse_user_id"])
@pytest.mark.parametrize("conversation", ["session_id", "thread_id", "langfuse_session_id"])
def test_properties_are_read_on_any_span(user: str, conversation: str) -> None:
    """User and conversation stand under several names, on spans that are nothing else of this dialect too."""
    own = {f"{PROPERTY}.{user}": "u1", f"{PROPERTY}.{conversation}": "c1", f"{PROPERTY}.plan": "gold"}
    span = one(CHAT | own | {f"{PROPERTY}.ls_provider": "openai"})
    assert (span.conversation, span.user) == ("c1", "pseudonym-2")
    assert span.exchange is not None
    assert span.exchange.labels == {"plan": "gold"}
    other = one(own | {"db.system": "redis"})
    assert (other.step.kind, other.conversation, other.user) == (StepKind.OTHER, "c1", "pseudonym-2")


def test_baggage_alone_is_nothing() -> None:
    """A workflow's name on a span of a database makes it no step, and nothing foreign."""
    span = one({"traceloop.workflow.name": "rag", "db.system": "redis", "session.id": "s-1"})
    assert (span.step.kind, span.foreign, span.conversation) == (StepKind.OTHER, "", "s-1")


@given(arguments=LINES, result=LINES)
def test_a_tool_of_langchain_without_its_wrapping(arguments: str, result: str) -> None:
    """Of LangChain's callback the inputs are the arguments and the message's content is the result."""
    message = {"lc": 1, "type": "constructor", "id": ["ToolMessage"], "kwargs": {"content": result}}
    sent = {"input_str": "…", "tags": [], "metadata": {}, "inputs": {"q": arguments}}
    made = {"output": message, "kwargs": {}}
    span = one(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "search",
            "traceloop.entity.input": json.dumps(sent),
            "traceloop.entity.output": json.dumps(made),
            "gen_ai.tool.call.arguments": json.dumps(sent),
            "gen_ai.tool.call.result": json.dumps(made),
        }
    )
    assert span.call is not None
    assert (json.loads(span.call.arguments), span.call.result) == ({"q": arguments}, result)


def test_arguments_of_a_decorated_function() -> None:
    """The SDK's decorators keep positional and named arguments apart; those that are used are shown."""
    values = {"traceloop.span.kind": "tool", "traceloop.entity.name": "f"}
    named = one(values | {"traceloop.entity.input": '{"args": [], "kwargs": {"q": 1}}'})
    alone = one(values | {"traceloop.entity.input": '{"args": ["boots"], "kwargs": {}}'})
    assert (named.step.input, alone.step.input) == ('{"q":1}', "boots")


def test_an_agents_state_of_messages() -> None:
    """An agent's output that is a state of messages answers with the last one."""
    message = {"lc": 1, "type": "constructor", "id": ["AIMessage"], "kwargs": {"content": 'Say "yes".'}}
    span = one(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "graph",
            "traceloop.span.kind": "workflow",
            "traceloop.entity.input": '{"inputs": {"messages": [["user", "Open?"]]}, "tags": []}',
            "traceloop.entity.output": json.dumps({"outputs": {"messages": [message]}, "kwargs": {}}),
        }
    )
    assert span.exchange is not None
    assert (span.exchange.messages, span.exchange.response) == ((Message("user", "Open?"),), 'Say "yes".')


@pytest.mark.parametrize(
    ("call", "kind"),
    [("acompletion", "chat"), ("aresponses", "chat"), ("aembedding", "other"), ("arerank", "other")],
)
def test_operations_of_litellm(call: str, kind: str) -> None:
    """LiteLLM names operations by its functions: some are calls of a model, embeddings are not."""
    span = one(
        {
            "gen_ai.operation.name": call,
            "gen_ai.request.model": "gpt-5",
            "litellm.call_id": "1",
            "gen_ai.usage.output_tokens": 3,
            "metadata.user_api_key_end_user_id": "u1",
            "metadata.user_api_key_team_alias": "shop",
        }
    )
    assert (span.step.kind, span.user) == (kind, "pseudonym-2")
    assert span.exchange is None or span.exchange.labels == {"team": "shop"}


def test_the_raw_request_of_litellm_is_not_foreign() -> None:
    """The span that repeats a request's body is told of by the span around it."""
    raw = {"llm.openai.messages": "[]", "llm.openai.model": "gpt-5"}
    assert one(raw, name="raw_gen_ai_request").foreign == ""
    assert one(raw, name="mine").foreign


def test_openlit_leaves_out_the_turn_that_called_a_tool() -> None:
    """A result of a tool follows a turn that called it, so that turn is put back, without its text."""
    held = [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Open?"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "9-17"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c2", "response": "daily"}]},
    ]
    values = CHAT | {"gen_ai.input.messages": json.dumps(held)}
    trace = one(values | {"telemetry.sdk.name": "openlit"}).exchange
    other = one(values | {"telemetry.sdk.name": "opentelemetry"}).exchange
    assert trace is not None
    assert other is not None
    assert [m.role for m in trace.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert trace.messages[2].content == ""
    assert [m.role for m in other.messages] == ["system", "user", "tool", "tool"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tools/call lookup", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"}),
        ("MCP send tools/call lookup", {}),
    ],
)
def test_a_call_on_its_way_through_mcp_is_a_step(name: str, values: dict[str, Any]) -> None:
    """Client and server spans of a tool's call are tool steps of its name, so that they can be joined."""
    span = one({"mcp.method.name": "tools/call", "jsonrpc.request.id": "2"} | values, name=name)
    assert (span.step.kind, span.step.name) == (StepKind.TOOL, "lookup")
    assert span.call is not None
    assert span.call.name == "lookup"


def test_other_requests_of_mcp_are_no_steps() -> None:
    """Listing tools and pinging call no tool."""
    span = one({"mcp.method.name": "tools/list"}, name="tools/list")
    assert (span.step.kind, span.call) == (StepKind.OTHER, None)


def test_names_of_people_and_talks_in_genai() -> None:
    """Users and conversations stand under several names of GenAI's family."""
    for name in ("user.id", "enduser.id", "gen_ai.user.id", "gen_ai.user", "gen_ai.request.user"):
        assert one(CHAT | {name: "u1"}).user == "pseudonym-2"
    assert one(CHAT | {"gen_ai.session.id": "s1"}).conversation == "s1"


@pytest.mark.parametrize("operation", ["generateText", "streamText", "llm_call", "chat.completions"])
def test_operations_that_are_calls_of_a_model(operation: str) -> None:
    """Emitters name a call of a model in words of their own; without text it is blind."""
    values = {"gen_ai.operation.name": operation, "gen_ai.request.model": "m"}
    span = one(values | {"gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 4})
    assert span.step.kind is StepKind.CHAT
    assert span.exchange is not None
    assert len(span.exchange.blind()) == 2


def test_a_prompt_as_a_log_record_of_its_own() -> None:
    """Semantic Kernel sends the prompt of a text completion as the record `gen_ai.prompt`."""
    (piece,) = decode(log_request("gen_ai.prompt", "Complete this."))
    assert piece.exchange.messages == (Message("user", "Complete this."),)


def test_instructions_apart_on_an_agents_span() -> None:
    """Strands' agents of 0.2 keep the instructions in `system_prompt`, and messages as events."""
    event = {
        "name": "gen_ai.user.message",
        "attributes": [{"key": "content", "value": {"stringValue": "Hi."}}],
    }
    values = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "system_prompt": "Be kind."}
    (span,) = decode(request(span_of(values, events=[event])))
    assert [(m.role, m.content) for m in span.exchange.messages] == [("system", "Be kind."), ("user", "Hi.")]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("end_turn", "stop"), ("STOP", "stop"), ("FinishReason.STOP", "stop"), ("tool_use", "tool_calls"),
        ("tool-calls", "tool_calls"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"),
        ("refusal", "content_filter"), ("pause_turn", "pause_turn"),
    ],
)  # fmt: skip
def test_finish_reasons_are_of_one_language(sent: str, reason: str) -> None:
    """Finish reasons of all emitters become OpenAI's words; others stay."""
    trace = one(CHAT | {"gen_ai.response.finish_reasons": [sent]}).exchange
    assert trace is not None
    assert trace.finish_reason == reason


def test_every_emitter_says_how_to_switch_texts_on() -> None:
    """Each dialect names its emitter and a switch in one line; scopes are found by their beginning."""
    for dialect in DIALECTS:
        assert dialect.NAME
        assert dialect.CONTENT_ON
        assert "\n" not in dialect.CONTENT_ON
    assert content_on("github.com/grafana/sigil/sdks/python") == CONTENT_ON["github.com/grafana/sigil"]
    assert content_on("mine") == ""


def test_a_mark_is_of_one_dialect() -> None:
    """What shows a dialect shows no other one, and so do events and log records."""
    for kind in ("MARKS", "EVENTS", "LOGS"):
        marks = [mark for dialect in DIALECTS for mark in getattr(dialect, kind, ())]
        assert len(marks) == len(set(marks))


def test_a_completion_whose_prompt_stands_under_its_role() -> None:
    """Completions flatten their prompt as `gen_ai.prompt.0.user`."""
    span = one(
        {"llm.request.type": "completion", "gen_ai.request.model": "m"} | {"gen_ai.prompt.0.user": "hi"}
    )
    assert span.exchange is not None
    assert span.exchange.messages == (Message("user", "hi"),)


def test_an_embedding_is_no_exchange() -> None:
    """What is embedded stands in the place of a prompt."""
    values = {"llm.request.type": "embedding", "gen_ai.request.model": "m", "gen_ai.prompt.0.content": "hi"}
    assert one(values).exchange is None


def test_documents_that_langchain_serialised() -> None:
    """A retriever's output are LangChain's constructors, and its input what its callback got."""
    found = {"page_content": "30 days", "metadata": {"source": "s"}, "type": "Document"}
    path = ["langchain", "schema", "document", "Document"]
    made = {"documents": [{"lc": 1, "type": "constructor", "id": path, "kwargs": found}]}
    span = one(
        {
            "gen_ai.operation.name": "vector_db_retrieve",
            "traceloop.span.kind": "task",
            "traceloop.entity.input": json.dumps({"inputs": "boots", "tags": [], "metadata": {}}),
            "traceloop.entity.output": json.dumps(made),
        }
    )
    assert (span.documents, span.step.input, span.unread) == ((Document("s", "30 days"),), "boots", ())


def test_an_agent_of_crewai_is_named_by_its_role() -> None:
    """Its span names no entity, and its model is not its name."""
    values = {"traceloop.span.kind": "agent", "crewai.agent.role": "Senior Researcher"}
    span = one(values | {"gen_ai.request.model": "m"})
    assert (span.step.kind, span.step.name) == (StepKind.AGENT, "Senior Researcher")
