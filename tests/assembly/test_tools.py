"""A call of a tool that several spans tell of is one, and two calls stay two."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spans import AGENT, CHAT, TOOL, exchanges, span, told

from monitor.trace import StepKind, ToolCall

PAGES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | st.text(max_size=5), max_size=3)


def tool(number: int, parent: int, call: ToolCall) -> Any:
    """A span of a tool, with its arguments and result on its step too."""
    made = span(TOOL, number, parent, call=call)
    step = msgspec.structs.replace(made.step, input=call.arguments, output=call.result)
    return msgspec.structs.replace(made, step=step)


def written(arguments: object, form: str) -> str:
    """Arguments as one of the sides writes them."""
    if form == "request":
        arguments = {"name": "find", "arguments": arguments}
    spaced = msgspec.json.format(msgspec.json.encode(arguments), indent=2 if form == "indented" else 0)
    return "" if form == "none" else spaced.decode()


@given(
    arguments=PAGES,
    forms=st.lists(st.sampled_from(["plain", "indented", "none"]), min_size=1, max_size=3),
    request_last=st.booleans(),
)
def test_client_and_server_of_a_call_write_its_arguments_as_they_like(
    arguments: dict[str, object], forms: list[str], *, request_last: bool
) -> None:
    """Spacing, the whole request or nothing at all: it is one call, and one step."""
    forms = ["plain", *forms, *(["request"] if request_last else [])]
    calls = [ToolCall("find", written(arguments, form)) for form in forms]
    spans = [span(AGENT, 1), *(tool(n + 2, n + 1, call) for n, call in enumerate(calls))]
    (trace,) = exchanges([*spans, span(CHAT, 9, 1, exchange=told(9, "p", "r"))])
    assert len(trace.tool_calls) == 1
    assert [step.kind for step in trace.steps].count(StepKind.TOOL) == 1


@given(st.lists(PAGES, min_size=2, max_size=4, unique_by=repr))
def test_a_tool_that_calls_itself_is_called_more_than_once(arguments: list[dict[str, object]]) -> None:
    """Other arguments are another call, whose result is judged as well."""
    named = [{"at": f"<{n}>", **each} for n, each in enumerate(arguments)]
    calls = [ToolCall("walk", written(each, "plain"), f"result {n}") for n, each in enumerate(named)]
    spans = [span(AGENT, 1), *(tool(n + 2, n + 1, call) for n, call in enumerate(calls))]
    (trace,) = exchanges([*spans, span(CHAT, 9, 1, exchange=told(9, "p", "r"))])
    assert sorted(call.result for call in trace.tool_calls) == sorted(call.result for call in calls)


@pytest.mark.parametrize(
    ("client", "server", "judged"),
    [
        ("found", '{"content":[{"text":"found"}]}', '{"content":[{"text":"found"}]}'),
        (
            '{"a":"b"}',
            '{"content":[{"text":"{\\"a\\":\\"b\\"}"}]}',
            '{"content":[{"text":"{\\"a\\":\\"b\\"}"}]}',
        ),
        ("3 found", "Ann Lee", "3 found\nAnn Lee"),
        ("", "found", "found"),
        ("found", "", "found"),
    ],
)
def test_what_only_one_side_says_of_a_result_is_judged(client: str, server: str, judged: str) -> None:
    """The fuller account counts, and where each has its own text, both."""
    spans = [
        span(AGENT, 1),
        tool(2, 1, ToolCall("find", "{}", client, "c")),
        tool(3, 2, ToolCall("find", "{}", server, "c")),
        span(CHAT, 9, 1, exchange=told(9, "p", "r")),
    ]
    (trace,) = exchanges(spans)
    assert [call.result for call in trace.tool_calls] == [judged]
    assert [step.output for step in trace.steps if step.kind is StepKind.TOOL] == [judged]


@given(
    arguments=st.lists(PAGES, min_size=1, max_size=4), with_id=st.integers(0, 3), on_the_span=st.booleans()
)
def test_a_call_under_its_model_is_not_listed_twice(
    arguments: list[dict[str, object]], with_id: int, *, on_the_span: bool
) -> None:
    """The answer and the span of a call are of one call also where only one of them has its id."""

    def listed(n: int, each: object, *, span: bool) -> ToolCall:
        known = n < with_id and span == on_the_span
        return ToolCall("find", written(each, "plain"), f"r{n}" if span else "", f"c{n}" if known else "")

    calls = tuple(listed(n, each, span=False) for n, each in enumerate(arguments))
    model = msgspec.structs.replace(told(2, "p", "r"), tool_calls=calls)
    spans = [
        span(AGENT, 1),
        span(CHAT, 2, 1, exchange=model, end=9.0),
        *(tool(n + 3, 2, listed(n, each, span=True)) for n, each in enumerate(arguments)),
    ]
    (trace,) = exchanges(spans)
    assert sorted(call.result for call in trace.tool_calls) == [f"r{n}" for n in range(len(arguments))]


def test_the_same_call_made_before_stays_another_one() -> None:
    """An agent that repeats a call has both on record, with or without ids."""
    model = msgspec.structs.replace(told(3, "p", "r"), tool_calls=(ToolCall("find", '{"q":1}'),))
    spans = [
        span(AGENT, 1),
        tool(2, 1, ToolCall("find", '{"q":1}', "0 hits")),
        span(CHAT, 3, 1, exchange=model),
    ]
    (trace,) = exchanges(spans)
    assert [call.result for call in trace.tool_calls] == ["0 hits", ""]
