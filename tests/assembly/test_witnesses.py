"""What spans of one call say of it together: errors, emitters, and sides without a text by nature."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spans import CHAT, NO_ANSWER, NO_PROMPT, counted, exchanges, span, told

from monitor.trace import Span, Trace

FAILED = {"error": "RateLimitError", "finish_reason": "error", "labels": {"error": "RateLimitError"}}
IMAGE = {"labels": {"left_out.image": "1"}}
FILTERED = {"finish_reason": "content_filter"}


def nest(*said: dict[str, Any]) -> Trace:
    """The one exchange of spans within each other, the outer one first, that say this of a call."""
    spans: list[Span] = [
        span(CHAT, number, number - 1, exchange=told(number, **fields))
        for number, fields in enumerate(said, start=1)
    ]
    (trace,) = exchanges(spans)
    return trace


@given(depth=st.integers(1, 4), place=st.integers(0, 3), asks=st.booleans())
def test_an_error_that_any_span_tells_is_the_calls(depth: int, place: int, *, asks: bool) -> None:
    """Whichever of its spans has the type of error, the call failed with it, and by whom it was told."""
    said: list[dict[str, Any]] = [{"prompt": "How long?" if asks else "", "unread": ()} for _ in range(depth)]
    said[place % depth] |= FAILED | {"emitter": "sdk"}
    trace = nest(*said)
    assert (trace.error, trace.labels["error"], trace.finish_reason) == (
        "RateLimitError",
        "RateLimitError",
        "error",
    )
    assert (trace.emitter, trace.blind()) == ("sdk", ())


@given(depth=st.integers(2, 4), place=st.integers(1, 3))
def test_a_failed_attempt_is_no_error_of_the_answer(depth: int, place: int) -> None:
    """An inner attempt that failed leaves no error on a call that was answered."""
    said: list[dict[str, Any]] = [{"unread": ()} for _ in range(depth)]
    said[0] |= {"prompt": "How long?", "answer": "30 days."}
    said[max(1, place % depth)] |= FAILED
    assert nest(*said).error == ""


@given(st.permutations(["framework", "sdk"]))
def test_who_did_not_capture_a_text_is_named(order: list[str]) -> None:
    """A blind call's emitter is one that says so: the switch is theirs."""
    unread: dict[str, dict[str, Any]] = {
        "framework": {"prompt": "How long?", "unread": ()},
        "sdk": {"unread": (NO_ANSWER,)},
    }
    usage: dict[str, Any] = {"usage": counted()}
    trace = nest(*(unread[name] | usage | {"emitter": name} for name in order))
    assert (trace.emitter, trace.unread) == ("sdk", (NO_ANSWER,))


@pytest.mark.parametrize("outer_first", [True, False])
@pytest.mark.parametrize(
    ("fields", "left"),
    [
        (IMAGE | {"answer": "A cat."}, ()),
        (FILTERED | {"prompt": "How long?"}, ()),
        (IMAGE | {"prompt": "Draw it."}, ()),
        (FAILED | {"prompt": "How long?"}, (NO_ANSWER,)),
        ({"labels": {"left_out.value": "1"}, "prompt": "How long?"}, (NO_ANSWER,)),
    ],
)
def test_a_side_without_text_by_nature_is_not_blind_for_its_tokens(
    fields: dict[str, Any], left: tuple[object, ...], *, outer_first: bool
) -> None:
    """Images, and what a filter took, have tokens; an SDK's empty span beside them makes no blind call."""
    knows = {"unread": ()} | fields
    empty = {"usage": counted(), "unread": (NO_PROMPT, NO_ANSWER)}
    assert nest(*((knows, empty) if outer_first else (empty, knows))).unread == left
