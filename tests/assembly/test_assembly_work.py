"""Work on a trace grows with its spans, not with their square, whatever tree they make."""

import sys
from collections.abc import Callable, Sequence
from types import FrameType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spans import AGENT, BOUNDS, CHAT, OTHER, RETRIEVAL, TOOL, log, told
from spans import span as made
from work import seconds

from monitor.assembly import Assembler
from monitor.assembly.kept import KeptSpans
from monitor.trace import Document, Span, ToolCall

BIG = BOUNDS._replace(max_bytes=10**9)


class Id(str):
    """A span's id that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Id.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def tools_in_tools(count: int) -> list[Span]:
    """Each tool calls a model and the next tool."""
    spans = [made(OTHER, 1)]
    for number in range(2, 2 * count, 2):
        spans.append(made(TOOL, number, max(1, number - 2), call=ToolCall(f"tool {number}", "{}", "r")))
        spans.append(made(CHAT, number + 1, number, exchange=told(number + 1, f"ask {number}", f"{number}.")))
    return spans


def agents_in_agents(count: int) -> list[Span]:
    """Each agent has an answer of its own, calls a model and the next agent."""
    spans = []
    for number in range(1, 2 * count, 2):
        answer = told(number, f"ask agent {number}", f"agent {number}.")
        spans.append(made(AGENT, number, max(0, number - 2), exchange=answer))
        spans.append(made(CHAT, number + 1, number, exchange=told(number + 1, f"ask {number}", f"{number}.")))
    return spans


def pairs_without_a_root(count: int) -> list[Span]:
    """Spans whose parents did not arrive, each with one below it."""
    tops = [made(OTHER, number, 10**6 + number) for number in range(1, count)]
    return tops + [made(CHAT, count + number, number) for number in range(1, count)]


def counted(spans: Sequence[Span]) -> int:
    """How many functions of the code and comparisons of ids the assembly of spans takes."""
    calls = 0

    def profile(_frame: FrameType, event: str, _of: object) -> None:
        nonlocal calls
        calls += event == "call"

    assembler: Assembler[int] = Assembler(BIG)
    for key, each in enumerate(spans):
        assembler.add(key, each, 0.0)
    Id.compared = 0
    sys.setprofile(profile)
    try:
        (done,) = assembler.due(1e6)
    finally:
        sys.setprofile(None)
    assert done.exchanges
    return calls + Id.compared


@pytest.mark.parametrize("tree", [tools_in_tools, agents_in_agents, pairs_without_a_root])
def test_twice_the_spans_are_twice_the_work(tree: Callable[[int], list[Span]]) -> None:
    """From some hundred spans on the work is linear."""
    few, many = (counted([_with_counting_ids(each) for each in tree(count)]) for count in (300, 600))
    assert many < 2.5 * few


def _with_counting_ids(span: Span) -> Span:
    return msgspec.structs.replace(span, span_id=Id(span.span_id), parent_id=Id(span.parent_id))


def accounts_in_accounts(count: int) -> list[Span]:
    """Tools of one name within each other, the outermost with long arguments, each with its result."""
    calls = [
        ToolCall("look", "x" * 100 * count if number == 1 else "", f"{number}" * 9)
        for number in range(1, count)
    ]
    return [made(TOOL, number, number - 1, call=call) for number, call in enumerate(calls, 1)]


def accounts_side_by_side(count: int) -> list[Span]:
    """Tools of one name, which one of the same name with long arguments calls."""
    outer = made(TOOL, 1, call=ToolCall("look", "x" * 100 * count, "r"))
    return [outer, *[made(TOOL, n, 1, call=ToolCall("look", f"{n}", "r")) for n in range(2, count)]]


def agents_around_a_long_answer(count: int) -> list[Span]:
    """Agents within each other, whose answers are not the model's."""
    answers = [told(n, f"ask {n}", f"agent {n}") for n in range(1, count)]
    long = told(count, "ask", "x y " * 100 * count)
    agents = [made(AGENT, n, n - 1, exchange=answer) for n, answer in enumerate(answers, 1)]
    return [*agents, made(CHAT, count, count - 1, exchange=long)]


def agent_with_many_fields(count: int) -> list[Span]:
    """An agent's object, of which each text is in the model's answer."""
    fields = [f"{number:06}" for number in range(4 * count)]
    held = msgspec.json.encode({f"k{field}": field for field in fields}).decode()
    return [
        made(AGENT, 1, exchange=told(1, "ask", held)),
        made(CHAT, 2, 1, exchange=told(2, "ask", " ".join(fields))),
    ]


def tools_before_chats(count: int) -> list[Span]:
    """Tools with their results, and as many chats after all of them."""
    tools = [
        made(TOOL, n, 1, start=2 + n / 1e6, end=3, call=ToolCall(f"t{n}", f"{n}", f"r{n}"))
        for n in range(2, count)
    ]
    chats = [made(CHAT, count + n, 1, exchange=told(n, f"ask {n}", f"{n}.")) for n in range(count)]
    return [made(OTHER, 1), *tools, *chats]


def documents_before_chats(count: int) -> list[Span]:
    """Retrievals with their documents, and as many chats after all of them, in no order."""
    documents = [
        made(
            RETRIEVAL,
            n,
            1,
            start=2 + n / 1e6,
            end=3,
            documents=tuple(Document(id=f"{n}/{m}", content=f"{n} {m} " * 9) for m in range(3)),
        )
        for n in range(2, count)
    ]
    chats = [made(CHAT, count + n, 1, exchange=told(n, f"ask {n}", f"{n}.")) for n in range(count)]
    return [span for pair in zip(chats, [made(OTHER, 1), *documents], strict=False) for span in pair]


def tools_beside_long_chats(count: int) -> list[Span]:
    """Chats that all last as long as the tools run, none of which is theirs."""
    chats = [
        made(CHAT, count + n, 1, start=2 + n / 1e6, end=10**6, exchange=told(n, f"ask {n}", f"{n}."))
        for n in range(count)
    ]
    tools = [made(TOOL, n, 1, start=10.0 + n, call=ToolCall("t", f"{n}", f"r{n}")) for n in range(2, count)]
    return [made(OTHER, 1), *chats, *tools]


def tools_within_chats(count: int) -> list[Span]:
    """Chats within each other, each around a tool of its own, so that the outer ones are around all tools."""
    spans = [made(OTHER, 1)]
    for n in range(2, 2 * count, 2):
        spans.append(
            made(CHAT, n, max(1, n - 2), start=n / 1e6, end=10**6, exchange=told(n, f"ask {n}", f"{n}."))
        )
        spans.append(made(TOOL, n + 1, n, start=10.0 + n, call=ToolCall("t", f"{n}", f"r{n}")))
    return spans


def chats_that_name_one_call(count: int) -> list[Span]:
    """Chats that each list many times the id of one call with a long result."""
    listed = (ToolCall("t", "{}", id="x"),) * 20
    chats = [
        made(CHAT, n, 1, exchange=msgspec.structs.replace(told(n, f"ask {n}", f"{n}."), tool_calls=listed))
        for n in range(3, count)
    ]
    return [made(OTHER, 1), made(TOOL, 2, 1, call=ToolCall("t", "{}", "r" * 100 * count, id="x")), *chats]


def chats_of_one_answer(count: int) -> list[Span]:
    """Chats within each other that all tell of one answer, each with a document and a sample of its own."""
    return [
        made(
            CHAT,
            n,
            n - 1,
            exchange=msgspec.structs.replace(
                told(n, "ask", "the answer"), context=(Document(id=f"{n}"),), alternatives=(f"{n}",)
            ),
        )
        for n in range(1, count)
    ]


MANY_TO_MANY = [
    tools_before_chats,
    documents_before_chats,
    tools_beside_long_chats,
    tools_within_chats,
    chats_that_name_one_call,
    chats_of_one_answer,
]


@pytest.mark.parametrize("tree", MANY_TO_MANY)
def test_four_times_the_spans_are_four_times_as_much_to_judge(tree: Callable[[int], list[Span]]) -> None:
    """What all exchanges of a trace hold together grows with its spans: workers and detectors read it all."""

    def held(count: int) -> tuple[int, int]:
        assembler: Assembler[int] = Assembler(BIG)
        for key, each in enumerate(tree(count)):
            assembler.add(key, each, 0.0)
        (done,) = assembler.due(1e6)
        traces = [exchange.trace for exchange in done.exchanges]
        items = sum(len(each.context) + len(each.tool_calls) + len(each.steps) for each in traces)
        return items, sum(len(msgspec.msgpack.encode(each)) for each in traces)

    few, many = held(600), held(2400)
    assert many[0] < 5 * few[0]
    assert many[1] < 5 * few[1]


@pytest.mark.alone
@pytest.mark.parametrize(
    "tree",
    [
        *MANY_TO_MANY,
        accounts_in_accounts,
        accounts_side_by_side,
        agents_around_a_long_answer,
        agent_with_many_fields,
    ],
)
def test_twice_the_spans_of_twice_the_text_are_no_more_than_that(tree: Callable[[int], list[Span]]) -> None:
    """A text is not gone over again for each span of its trace, however they lie within each other."""
    trees = {count: tree(count) for count in (500, 2000)}

    def assemble(count: int) -> None:
        assembler: Assembler[int] = Assembler(BIG)
        for key, each in enumerate(trees[count]):
            assembler.add(key, each, 0.0)
        assembler.due(1e6)

    assert seconds(assemble, 2000) < 8 * seconds(assemble, 500)


@given(st.permutations(range(4)), st.integers(1, 6))
def test_spans_that_are_sent_again_are_kept_once(order: list[int], times: int) -> None:
    """A client that repeats its spans costs no more room or work each time; log records of one time stay."""
    spans = [
        made(CHAT, 1, exchange=told(1)),
        made(OTHER, 2, 1),
        log(1, "one", start=2.0),
        log(1, "two", start=2.0),
    ]
    kept = KeptSpans(10**6, 600.0)
    for _ in range(times):
        kept.add("t", [spans[place] for place in order[:2]], 0.0)
        kept.add("t", [spans[place] for place in order[1:]], 0.0)
    trace = kept.of("t")
    assert trace is not None
    assert sorted(map(repr, trace.spans)) == sorted(map(repr, spans))
