"""What is read of spans in the layouts of frameworks and gateways, each with texts of its own."""

import json
from typing import Any

import pytest
from dialect_spans import TURNS, event, exchange, without
from hypothesis import given
from hypothesis import strategies as st
from otlp_wire import decode, request, span_of

from monitor.ingest import dialects
from monitor.trace import Message, Side, Span, StepKind, Unread, Unreadable, Usage

NEW = ("vercel", "langfuse", "mlflow", "langsmith", "cloudflare", "genkit", "llamaindex", "springai")
TEXTS = (
    "prompt", "completion", "input", "output", "spanInputs", "spanOutputs", "ai.response.text", "messages",
    "message.blocks",
)  # fmt: skip
QUESTION, ANSWER = "How long may I keep the red boots?", "Write to jo.doe@example.net within 60 days."
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"say {text}")
layouts = pytest.mark.parametrize("layout", TURNS)


@layouts
@given(question=words, answer=words)
def test_any_text_comes_out_on_its_side(layout: str, question: str, answer: str) -> None:
    """The question is the one message, the answer is the response, and nothing is unread."""
    trace = exchange(TURNS[layout](question, answer))
    assert (trace.messages, trace.response) == ((Message("user", question),), answer)
    assert (trace.unread, trace.alternatives, trace.tool_calls) == ((), (), ())


@layouts
def test_a_call_comes_with_what_its_layout_says_of_it(layout: str) -> None:
    """Kind, model, tokens, finish reason, user and conversation are read where the emitter has them."""
    (span,) = decode(request(TURNS[layout](QUESTION, ANSWER)))
    trace = span.exchange
    assert (span.step.kind, span.step.name, trace.model) == (StepKind.CHAT, "gpt-5", "gpt-5")
    assert trace.usage == Usage(20, 14)
    assert trace.finish_reason.lower() == ("" if layout == "cloudflare" else "stop")
    assert trace.conversation == ("" if layout == "llamaindex" else "s-1")
    assert trace.user == ("" if layout in {"llamaindex", "springai"} else "pseudonym-3")
    assert trace.labels.get("team") == ("shoes" if layout in NEW[:4] else None)


@layouts
def test_a_call_without_texts_is_blind_on_both_sides(layout: str) -> None:
    """Where the emitter was told to send no texts, both sides are unread, whatever else it sends."""
    trace = exchange(without(TURNS[layout](QUESTION, ANSWER), TEXTS))
    assert trace.unread == (
        Unread(Side.PROMPT, Unreadable.NO_CONTENT),
        Unread(Side.RESPONSE, Unreadable.NO_CONTENT),
    )
    assert not trace.response
    assert not trace.messages


@layouts
def test_a_redacted_call_is_redacted_on_both_sides(layout: str) -> None:
    """A marker in the place of a text is no text."""
    trace = exchange(TURNS[layout]("__REDACTED__", "__REDACTED__"))
    assert {unread.reason for unread in trace.unread} == {Unreadable.REDACTED}
    assert (len(trace.unread), trace.response, trace.messages) == (2, "", ())


@pytest.mark.parametrize("layout", ["vercel", "langfuse", "mlflow", "langsmith", "cloudflare", "genkit"])
@given(st.data())
def test_a_prompt_that_was_cut_off_is_read_as_far_as_it_goes(layout: str, data: st.DataObject) -> None:
    """A longest length of attributes leaves the beginning of the question, and the side says so."""
    long = QUESTION + " " + "boots " * 20
    span = TURNS[layout](long, ANSWER)
    for pair in span["attributes"]:
        text = pair["value"].get("stringValue", "")
        if long in text:
            begin = text.index(long) + len(QUESTION)
            pair["value"]["stringValue"] = text[: data.draw(st.integers(begin, text.index(long) + len(long)))]
    trace = exchange(span)
    (message,) = trace.messages
    assert message.content.startswith(QUESTION)
    assert long.startswith(message.content)
    assert trace.unread == (Unread(Side.PROMPT, Unreadable.TRUNCATED),)


keys = st.sampled_from(
    ["role", "content", "parts", "type", "text", "messages", "message", "output", "input", "choices", "lc",
     "kwargs", "id", "tool_calls", "generations", "documents", "usage", "system", "args", "blocks", "data",
     "candidates", "toolRequest", "toolResponse", "media", "query", "node", "score", "value", "finishReason"]
)  # fmt: skip
plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
names = sorted({pair["key"] for turn in TURNS.values() for pair in turn("", "")["attributes"]})
events = sorted({name for dialect in dialects.DIALECTS for name in getattr(dialect, "EVENTS", ())})
anything = plain_values.map(lambda value: value if type(value) in {str, bool, int} else json.dumps(value))


@given(
    st.dictionaries(st.sampled_from(names), anything | plain_values.map(json.dumps), max_size=6),
    st.sampled_from(events),
    st.dictionaries(
        st.sampled_from(
            ["messages", "nodes", "response.message.blocks", "query", "arguments", "gen_ai.prompt"]
        ),
        anything,
    ),
)
def test_values_of_any_shape_cost_nothing_but_themselves(
    values: dict[str, Any], name: str, held: dict[str, Any]
) -> None:
    """No value of an attribute that a dialect reads keeps its record from being read."""
    (span,) = decode(request(span_of(values, events=[event(name, held)])))
    assert isinstance(span, Span)


@given(st.dictionaries(st.sampled_from(names), plain_values, max_size=6))
def test_structured_values_of_any_shape_cost_nothing_either(values: dict[str, Any]) -> None:
    """A Collector's ParseJSON leaves lists and maps in the place of JSON."""
    (span,) = decode(request(span_of(values)))
    assert isinstance(span, Span)


def test_no_mark_shows_two_dialects() -> None:
    """An attribute or event shows one dialect, and each of a framework says how its texts are sent."""
    marks = [mark for dialect in dialects.DIALECTS for mark in dialect.MARKS]
    marks += [name for dialect in dialects.DIALECTS for name in getattr(dialect, "EVENTS", ())]
    assert len(marks) == len(set(marks))
    ours = [dialect for dialect in dialects.DIALECTS if dialect.__name__.rpartition(".")[2] in NEW]
    assert len(ours) == len(NEW)
    assert all(dialect.NAME and dialect.CONTENT_ON for dialect in ours)
