"""What one trace and one call may take is bounded, and what is left out is named."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from spans import AGENT, BOUNDS, CHAT, OTHER, RETRIEVAL, TOOL, assemble, exchanges, keys, told
from spans import span as made

from monitor.assembly import Assembler, Bounds
from monitor.ports import Completion
from monitor.trace import PARTLY, Document, Missing, Side, Span, ToolCall, Trace, Unread, Unreadable

BIG = BOUNDS._replace(max_bytes=10**9)
TOO_MUCH, LEFT_OUT = Unreadable.TOO_MUCH, Unreadable.LEFT_OUT


def retrieved(number: int, *texts: str) -> Span:
    """A retrieval of documents with these texts."""
    documents = tuple(Document(id=text, content=text) for text in texts)
    return made(RETRIEVAL, number, 1, documents=documents)


def ran(number: int, result: str, call_id: str = "", parent: int = 1) -> Span:
    """A tool that returned this."""
    return made(TOOL, number, parent, call=ToolCall(f"tool {number}", "{}", result, call_id))


def asked(number: int, parent: int = 1, **fields: object) -> Span:
    """A chat of which all was read."""
    exchange = told(number, f"ask {number}", f"answer {number}", **fields)  # type: ignore[arg-type]
    return made(CHAT, number, parent, exchange=exchange)


def why(trace: Trace, side: Side) -> Unreadable | None:
    """Why a side was not read."""
    return next((each.reason for each in trace.unread if each.side is side), None)


def judged(spans: Sequence[Span], bounds: Bounds) -> list[Trace]:
    """The exchanges of spans within bounds, in order of time."""
    found = [exchange.trace for done in assemble(spans, bounds) for exchange in done.exchanges]
    return sorted(found, key=lambda trace: trace.time)


@given(st.lists(st.sampled_from("dtc"), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 40))
def test_a_call_is_given_the_nearest_sources_and_the_others_are_named(
    letters: list[str], most: int, chars: int
) -> None:
    """No more than the bounds allow, the last ones before it, and no document is lost without a name."""
    spans = [made(OTHER, 1)]
    texts: list[str] = []
    before: list[int] = []
    for number, letter in enumerate(letters, 2):
        text = f"<{number:03}>"
        if letter == "c":
            before.append(len(texts))
            spans.append(asked(number))
        else:
            spans.append(retrieved(number, text) if letter == "d" else ran(number, text))
            texts.append(text)
    if not before:
        return
    calls = judged(spans, BIG._replace(max_sources=most, max_source_chars=chars))
    assert len(calls) == len(before)
    seen: set[str] = set()
    for trace, count in zip(calls, before, strict=True):
        contents = [document.content for document in trace.context]
        results = [call.result for call in trace.tool_calls]
        assert len(contents) + len(results) <= most
        assert sum(map(len, (*contents, *results))) <= chars
        given = {text for text in (*contents, *results) if text}
        earlier = texts[:count]
        # Of the nearest source that does not fit as a whole, the beginning is given.
        assert all(any(text.startswith(each) for text in earlier[-most:]) for each in given)
        if given.issuperset(earlier):
            assert not trace.unread
        seen |= given
        documents = {text for text in earlier if letters[int(text[1:4]) - 2] == "d"}
        if not documents <= given:
            assert why(trace, Side.DOCUMENTS) in {TOO_MUCH, LEFT_OUT}
    all_documents = {text for text in texts[: before[-1]] if letters[int(text[1:4]) - 2] == "d"}
    if not all_documents <= seen:
        assert TOO_MUCH in {why(trace, Side.DOCUMENTS) for trace in calls}
        assert any(Missing.CONTENT in trace.missing for trace in calls)


def test_what_another_call_was_given_makes_no_exchange_blind() -> None:
    """Of two calls the second lacks the oldest documents: detectors saw them with the first."""
    spans = [made(OTHER, 1), retrieved(2, "a", "b"), asked(3), retrieved(4, "c", "d"), asked(5)]
    first, second = judged(spans, BIG._replace(max_sources=3))
    assert [document.content for document in second.context] == ["c", "d"]
    assert (first.unread, why(second, Side.DOCUMENTS)) == ((), LEFT_OUT)
    assert not second.blind()
    assert Missing.CONTENT not in second.missing


def test_a_document_that_no_call_was_given_makes_its_exchange_blind() -> None:
    """More was retrieved at once than one call may be given: a detector may have missed something."""
    (trace,) = judged([made(OTHER, 1), retrieved(2, "a", "b", "c"), asked(3)], BIG._replace(max_sources=2))
    assert [document.content for document in trace.context] == ["a", "b"]
    assert trace.blind() == (Unread(Side.DOCUMENTS, TOO_MUCH),)


def test_a_text_longer_than_all_may_be_is_given_to_its_bound() -> None:
    """Its beginning is judged, and the rest named."""
    (trace,) = judged([made(OTHER, 1), retrieved(2, "x" * 50), asked(3)], BIG._replace(max_source_chars=70))
    assert [len(document.content) for document in trace.context] == [20]  # its id takes 50
    assert why(trace, Side.DOCUMENTS) is TOO_MUCH


def test_the_last_exchange_of_a_run_has_the_results_of_all_tools() -> None:
    """Those that it was not given are among its steps, so nothing of it is unread."""
    spans = [made(OTHER, 1), *[ran(number, f"r {number}") for number in range(2, 9)], asked(9), asked(10)]
    first, last = judged(spans, BIG._replace(max_sources=2))
    assert [call.result for call in last.tool_calls] == ["r 7", "r 8"]
    assert {step.id for step in last.steps} >= {str(number) for number in range(2, 11)}
    assert (why(first, Side.TOOL_RESULTS), why(last, Side.TOOL_RESULTS)) == (LEFT_OUT, None)


def test_a_result_that_many_calls_name_is_not_given_to_all_of_them() -> None:
    """A thousand calls of one id with a long result are no thousand results."""
    wanted = (ToolCall("tool 2", "{}", id="x"),) * 1000
    chat = msgspec.structs.replace(told(3, "ask", "answer"), tool_calls=wanted)
    spans = [made(OTHER, 1), ran(2, "r" * 1000, "x"), made(CHAT, 3, 1, exchange=chat), asked(4)]
    first, _ = judged(spans, BIG._replace(max_source_chars=5000))
    assert sum(len(call.result) for call in first.tool_calls) <= 5000
    assert why(first, Side.TOOL_RESULTS) is LEFT_OUT


def test_sources_below_a_call_are_its_own_however_many_there_are_beside_it() -> None:
    """A model with tools of its own: what ran under its call counts, the last ones first."""
    under = [
        made(RETRIEVAL, 3 + n, 2, documents=(Document(id=f"{n}"),), start=3 + n / 100, end=4)
        for n in range(9)
    ]
    beside = [
        made(RETRIEVAL, 20 + n, 1, documents=(Document(id=f"no {n}"),), start=3 + n / 99, end=4)
        for n in range(9)
    ]
    chat = made(CHAT, 2, 1, start=2, end=9, exchange=told(2, "ask", "answer"))
    (trace,) = judged([made(OTHER, 1), chat, *under, *beside], BIG._replace(max_sources=4))
    assert [document.id for document in trace.context] == ["5", "6", "7", "8"]
    assert why(trace, Side.DOCUMENTS) is TOO_MUCH


@given(
    st.lists(st.sampled_from([CHAT, AGENT, TOOL, OTHER]), min_size=1, max_size=40),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_a_trace_of_too_many_spans_is_judged_in_pieces(kinds: list[str], most: int, random: object) -> None:
    """Each chat once, each answer of an agent, all keys come back, and each piece says what it lacks."""
    spans = [made(OTHER, 1)]
    for number, kind in enumerate(kinds, 2):
        exchange = told(number, f"ask {number}", f"answer {number}") if kind in {CHAT, AGENT} else None
        spans.append(made(kind, number, 1, exchange=exchange))  # type: ignore[arg-type]
    random.shuffle(spans)  # type: ignore[attr-defined]
    bounds = BIG._replace(max_spans=most)
    done = assemble(spans, bounds)
    assert keys(done) == list(range(len(spans)))
    assert all(len(each.rest) + len(each.exchanges) <= most for each in done)
    traces = [exchange.trace for each in done for exchange in each.exchanges]
    spoken = [trace.response for trace in traces if trace.response]
    assert len(spoken) == len(set(spoken))
    wanted = {f"answer {n}" for n, kind in enumerate(kinds, 2) if kind is CHAT}
    if len(spans) > most or CHAT in kinds:
        wanted |= {f"answer {n}" for n, kind in enumerate(kinds, 2) if kind is AGENT}
    assert set(spoken) >= wanted if len(done) > 1 or CHAT in kinds else len(spoken) <= 1
    last = len(done) - 1
    for place, each in enumerate(done):
        for _, _, trace in each.exchanges:
            assert (Missing.LATER_SPANS in trace.missing) == (place < last)
            assert (Missing.EARLIER_SPANS in trace.missing) == (place > 0)


def test_pieces_are_counted_and_wait_for_no_root() -> None:
    """A full piece is complete at once; the rest when its trace would be."""
    assembler: Assembler[int] = Assembler(BIG._replace(max_spans=3))
    for number in range(1, 6):
        assembler.add(number, made(OTHER, 1) if number == 1 else asked(number), 0.0)
    (piece,) = assembler.due(0.0)
    assert [exchange.key for exchange in piece.exchanges] == [2, 3]
    assert len(assembler) == 1
    (rest,) = assembler.due(1.5)
    assert [exchange.key for exchange in rest.exchanges] == [4, 5]
    assert assembler.stats.completions == {Completion.SPANS: 1, Completion.ROOT: 1}
    assert (assembler.stats.late, assembler.stats.waiting_bytes, len(assembler)) == (0, 0, 0)


def test_tools_of_a_piece_without_a_call_are_judged_too() -> None:
    """A piece that holds results alone has an exchange that stands in for the call, with its steps."""
    spans = [made(OTHER, 1), asked(2), *[ran(number, f"r {number}") for number in range(3, 7)]]
    traces = judged(spans, BIG._replace(max_spans=3))
    told_of = {step.id for trace in traces for step in trace.steps}
    assert told_of >= {"3", "4", "5", "6"}
    assert [Missing.INFERENCE in trace.missing for trace in traces] == [False, True]


def test_a_text_that_comes_in_a_later_piece_is_judged() -> None:
    """A call judged without its texts is revised by what a further piece has of it."""
    blind = told(2)
    late = made(CHAT, 2, 1, exchange=told(2, "ask", "answer"), start=9.0)
    first, second = judged(
        [made(OTHER, 1), made(CHAT, 2, 1, exchange=blind), late], BIG._replace(max_spans=2)
    )
    assert (first.revision, second.revision, second.response) == (0, 1, "answer")


def test_pieces_of_a_partition_that_is_gone_are_dropped() -> None:
    """Full pieces that wait to be handed out are another daemon's, too."""
    assembler: Assembler[int] = Assembler(BIG._replace(max_spans=1))
    for number in range(1, 4):
        assembler.add(number, asked(number, 0), 0.0)
    assembler.drop(lambda key: key < 3)
    assert [exchange.key for done in assembler.flush() for exchange in done.exchanges] == [3]
    assert assembler.stats.waiting_bytes == 0


def test_one_call_of_due_completes_as_much_as_one_trace_may_hold() -> None:
    """Many traces that are complete at once are handed out by and by, none is forgotten."""
    assembler: Assembler[int] = Assembler(BIG._replace(max_spans=4))
    for number in range(10):
        assembler.add(2 * number, made(OTHER, 1, trace=f"t{number}"), 0.0)
        assembler.add(2 * number + 1, made(CHAT, 2, 1, trace=f"t{number}"), 0.0)
    counts = [len(assembler.due(2.0)) for _ in range(6)]
    assert counts == [2, 2, 2, 2, 2, 0]


def test_only_partly_read_sides_are_not_blind() -> None:
    """Of the reasons, those that leave a text which no detector saw make a trace blind."""
    assert set(Unreadable) - PARTLY == {
        Unreadable.NO_CONTENT,
        Unreadable.REDACTED,
        Unreadable.FOREIGN,
        TOO_MUCH,
    }


def test_without_bounds_reached_nothing_is_named() -> None:
    """An ordinary run with a few sources is judged as ever."""
    (trace,) = exchanges([made(OTHER, 1), retrieved(2, "a"), ran(3, "r"), asked(4)])
    assert (trace.unread, trace.missing) == ((), ())
