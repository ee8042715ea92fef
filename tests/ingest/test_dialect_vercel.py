"""What is read of the spans of the Vercel AI SDK."""

import json
from typing import Any

import pytest
from otlp_wire import one

from monitor.trace import Document, Message, StepKind, ToolCall

QUESTION, ANSWER = "How long may I keep the red boots?", "Write to jo.doe@example.net within 60 days."


def test_vercel_outer_call_is_an_agent_and_its_tool_a_tool() -> None:
    """`ai.generateText` holds the whole call, `ai.toolCall` arguments and result as they were sent."""
    prompt = {"system": "Be brief.", "prompt": QUESTION}
    agent = one(
        {
            "ai.operationId": "ai.generateText",
            "ai.telemetry.functionId": "support",
            "ai.prompt": json.dumps(prompt),
            "ai.response.text": ANSWER,
            "ai.settings.context.userId": "u-1",
        }
    )
    assert (agent.step.kind, agent.step.name, agent.user) == (StepKind.AGENT, "support", "pseudonym-3")
    assert agent.exchange is not None
    assert agent.exchange.messages == (Message("system", "Be brief."), Message("user", QUESTION))
    assert agent.exchange.response == ANSWER
    tool = one(
        {
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": "find",
            "ai.toolCall.id": "c1",
            "ai.toolCall.args": '{"item":"boots"}',
            "ai.toolCall.result": '{"days":30}',
        }
    )
    assert tool.call == ToolCall("find", '{"item":"boots"}', '{"days":30}', "c1")


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (
            {"toolCallId": "c1", "toolName": "find", "input": {"item": "boots"}},
            {"output": {"type": "json", "value": {"days": 30}}},
        ),
        ({"toolCallId": "c1", "toolName": "find", "args": '{"item":"boots"}'}, {"result": {"days": 30}}),
    ],
    ids=["5 and 6", "4"],
)
def test_vercel_calls_of_tools_and_their_results(call: dict[str, Any], result: dict[str, Any]) -> None:
    """A call is the output, with its finish reason in OpenAI's words; its result is a tool's message."""
    turns = [
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "tool-call", **call}]},
        {
            "role": "tool",
            "content": [{"type": "tool-result", "toolCallId": "c1", "toolName": "find", **result}],
        },
    ]
    span = one(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.prompt.messages": json.dumps(turns),
            "ai.response.toolCalls": json.dumps([call]),
            "gen_ai.response.finish_reasons": ["tool-calls"],
        }
    )
    assert span.exchange is not None
    assert span.exchange.messages == (
        Message("user", QUESTION),
        Message("assistant", ""),
        Message("tool", '{"days":30}'),
    )
    assert span.exchange.tool_calls == (ToolCall("find", '{"item":"boots"}', "", "c1"),)
    assert (span.exchange.finish_reason, span.exchange.unread) == ("tool_calls", ())


def test_vercel_objects_reasoning_files_and_embeddings() -> None:
    """A structured answer is text; reasoning and files are left out; an embedding is no model's call."""
    made = one({"ai.operationId": "ai.generateObject.doGenerate", "ai.response.object": '{"days":30}'})
    assert made.exchange is not None
    assert made.exchange.response == '{"days":30}'
    thought = one(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.prompt.messages": json.dumps([{"role": "user", "content": QUESTION}]),
            "ai.response.reasoning": "the user asks",
            "ai.response.files": '[{"type":"file","mediaType":"image/png","data":"aGk="}]',
            "ai.usage.outputTokens": 9,
        }
    )
    assert thought.exchange is not None
    assert (thought.exchange.response, thought.exchange.unread) == ("", ())
    assert thought.exchange.labels == {"left_out.reasoning": "1", "left_out.file": "1"}
    embedded = one({"ai.operationId": "ai.embed.doEmbed", "ai.values": ['"x"'], "gen_ai.request.model": "e"})
    assert (embedded.step.kind, embedded.exchange) == (StepKind.OTHER, None)


def test_vercel_reranking_orders_its_documents() -> None:
    """Documents come by rank, with their scores."""
    span = one(
        {
            "ai.operationId": "ai.rerank.doRerank",
            "ai.documents": ['"boots"', '{"text":"shoes"}', '"hats"'],
            "ai.ranking": [
                '{"index":1,"relevanceScore":0.9}',
                '{"index":0,"relevanceScore":0.5}',
                '{"index":7}',
            ],
        }
    )
    assert span.step.kind == StepKind.RETRIEVAL
    assert span.documents == (Document("", "shoes", 0.9), Document("", "boots", 0.5))


def test_vercel_speech_is_asked_and_transcripts_are_answered() -> None:
    """Text that was spoken is a prompt without an answer in text; a transcript is an answer."""
    spoken = one(
        {"ai.operationId": "ai.generateSpeech", "ai.request.text": ANSWER, "ai.response.audio.size": 9}
    )
    assert spoken.exchange is not None
    assert (spoken.exchange.messages, spoken.exchange.unread) == ((Message("user", ANSWER),), ())
    heard = one({"ai.operationId": "ai.transcribe", "ai.request.audio.size": 9, "ai.response.text": QUESTION})
    assert heard.exchange is not None
    assert (heard.exchange.response, heard.exchange.unread) == (QUESTION, ())
