"""OpenInference: what its instrumentations of clients, CrewAI and smolagents emit beyond plain messages."""

from hypothesis import given
from lines import LINES
from otlp_wire import one

from monitor.trace import Message, Side, StepKind, Unread, Unreadable

LLM = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
ASKED, SAID = "llm.input_messages.0.message", "llm.output_messages.0.message"


@given(question=LINES, spoken=LINES)
def test_a_transcript_of_audio_is_the_answer(question: str, spoken: str) -> None:
    """What was spoken stands as a transcript among the contents, next to the audio itself."""
    part = f"{SAID}.contents.0.message_content"
    trace = one(
        LLM
        | {f"{ASKED}.role": "user", f"{ASKED}.content": question, f"{SAID}.role": "assistant"}
        | {f"{part}.type": "audio", f"{part}.audio.transcript": spoken, f"{part}.audio.url": "s3://x"}
    ).exchange
    assert trace is not None
    assert (trace.messages, trace.response) == ((Message("user", question),), spoken)


def test_a_call_among_the_contents_counts_once() -> None:
    """Calls may stand among the contents, next to them, or in both places."""
    call = {"tool_call.id": "t1", "tool_call.function.name": "seek", "tool_call.function.arguments": "{}"}
    inside = {f"{SAID}.contents.0.{key}": value for key, value in call.items()}
    beside = {f"{SAID}.tool_calls.0.{key}": value for key, value in call.items()}
    for values in (inside, beside, inside | beside):
        trace = one(LLM | values | {f"{SAID}.role": "assistant"}).exchange
        assert trace is not None
        assert [(c.name, c.arguments, c.id) for c in trace.tool_calls] == [("seek", "{}", "t1")]


def test_hidden_texts_are_missing() -> None:
    """With OPENINFERENCE_HIDE_INPUTS and _OUTPUTS a marker stands in the place of texts."""
    trace = one(LLM | {"input.value": "__REDACTED__", "output.value": "__REDACTED__"}).exchange
    assert trace is not None
    assert trace.unread == (
        Unread(Side.PROMPT, Unreadable.REDACTED),
        Unread(Side.RESPONSE, Unreadable.REDACTED),
    )


def test_roles_of_smolagents() -> None:
    """Roles may be names of an enumeration that was printed, and steps of a tool's use."""
    roles = ["MessageRole.SYSTEM", "MessageRole.USER", "tool-call", "tool-response"]
    values = {f"llm.input_messages.{n}.message.role": role for n, role in enumerate(roles)}
    values |= {f"llm.input_messages.{n}.message.content": f"text {n}" for n in range(len(roles))}
    trace = one(LLM | values).exchange
    assert trace is not None
    assert [message.role for message in trace.messages] == ["system", "user", "assistant", "tool"]


def test_an_agent_may_have_a_name_with_spaces() -> None:
    """CrewAI's agents have roles for names; they stay readable."""
    span = one(
        {"openinference.span.kind": "AGENT", "agent.name": "Senior Shoe Expert", "output.value": "Yes."}
    )
    assert (span.step.kind, span.step.name) == (StepKind.AGENT, "Senior Shoe Expert")
    assert span.exchange is not None
    assert span.exchange.agent == "Senior Shoe Expert"
