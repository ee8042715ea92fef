"""A trace, or a side of it, without text: skipped by every detector that reads text, never scored."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detect import BUILT_IN, Detector, Spec
from monitor.findings import NO_TEXT, Status
from monitor.trace import Document, Message, Side, Step, StepKind, ToolCall, Trace, Unread, Unreadable, Usage

OF_TEXT = sorted(BUILT_IN.keys() - {"agent"})
BLANK = st.text(" \t\r\n\u00a0\u2003", max_size=4)
COUNTS = st.none() | st.integers(0, 10**6)


@st.composite
def textless(draw: st.DrawFn) -> Trace:
    """A trace whose texts are all blank, whatever else it says."""
    return Trace(
        id=draw(st.uuids()).hex,
        time=1_795_327_200.0,
        response=draw(BLANK),
        messages=tuple(
            draw(st.lists(st.builds(Message, st.sampled_from(["user", "tool", "system"]), BLANK)))
        ),
        context=tuple(draw(st.lists(st.builds(Document, st.just("d-1"), BLANK), max_size=3))),
        tool_calls=tuple(draw(st.lists(st.builds(ToolCall, st.just("find"), BLANK, BLANK), max_size=3))),
        alternatives=tuple(draw(st.lists(BLANK, max_size=2))),
        steps=tuple(
            draw(
                st.lists(
                    st.builds(Step, kind=st.sampled_from(StepKind), input=BLANK, output=BLANK), max_size=3
                )
            )
        ),
        usage=draw(st.none() | st.builds(Usage, COUNTS, COUNTS)),
        finish_reason=draw(st.sampled_from(["", "stop", "tool_calls"])),
    )


@pytest.fixture(scope="module")
def built() -> Callable[[str], Detector]:
    """The built-in detector of a name, built once."""
    made: dict[str, Detector] = {}

    def of(name: str) -> Detector:
        if name not in made:
            made[name] = Spec(name=name, factory=BUILT_IN[name]).build()
        return made[name]

    return of


@pytest.mark.parametrize("name", OF_TEXT)
@given(traces=st.lists(textless(), min_size=1, max_size=4))
def test_no_detector_scores_a_trace_without_text(
    built: Callable[[str], Detector], name: str, traces: list[Trace]
) -> None:
    """Whatever a trace without text looks like, detectors of text skip it for that reason."""
    for assessment in built(name).assess(traces):
        assert (assessment.status, assessment.reason, assessment.score) == (Status.SKIPPED, NO_TEXT, None)


@pytest.mark.parametrize("name", OF_TEXT)
def test_traces_with_text_keep_their_place_among_those_without(
    built: Callable[[str], Detector], name: str
) -> None:
    """Of a batch, exactly the traces with text are judged, in order."""
    said = Trace(
        id="a",
        time=1.0,
        response="Shoes may be returned.",
        messages=(Message("user", "May I return shoes?"),),
        context=(Document("d-1", "Shoes may be returned within 30 days."),),
    )
    silent = Trace(id="b", time=1.0, response="")
    found = built(name).assess([silent, said, silent, said])
    assert [assessment.status is Status.SCORED for assessment in found] == [False, True, False, True]


@pytest.mark.parametrize(
    ("trace", "names"),
    [
        (Trace(id="a", time=1.0, response="Yes."), {"response"}),
        (Trace(id="a", time=1.0, response="", messages=(Message("user", "Hi?"),)), {"prompt"}),
    ],
)
def test_a_side_without_text_has_no_score_of_toxicity(
    built: Callable[[str], Detector], trace: Trace, names: set[str]
) -> None:
    """Only the side that has text gets a score of its own."""
    [assessment] = built("toxicity").assess([trace])
    assert assessment.values.keys() & {"prompt", "response"} == names


def test_a_side_without_text_has_no_score_of_injection(built: Callable[[str], Detector]) -> None:
    """Without documents and tool results nothing indirect is scored."""
    [assessment] = built("injection").assess(
        [Trace(id="a", time=1.0, response="", messages=(Message("user", "Hi?"),))]
    )
    assert assessment.values.keys() & {"prompt", "indirect"} == {"prompt"}


def test_an_answer_that_was_not_read_is_not_a_goal_abandoned(built: Callable[[str], Detector]) -> None:
    """A run whose answer is known to have had text that was not read says nothing about its end."""
    run = (
        Step(kind=StepKind.AGENT, name="a"),
        Step(kind=StepKind.TOOL, name="find", parent=0, output="30 days"),
    )
    trace = Trace(id="a", time=1.0, response="", steps=run)
    unread = Trace(
        id="a", time=1.0, response="", steps=run, unread=(Unread(Side.RESPONSE, Unreadable.NO_CONTENT),)
    )
    found = [{e.kind for e in one.evidence} for one in built("agent").assess([trace, unread])]
    assert found == [{"abandoned"}, set()]


def test_lengths_of_texts_that_were_not_read_are_unknown_to_drift(built: Callable[[str], Detector]) -> None:
    """A blind response is not a short one: its length is left out of the vector's signals."""
    asked = (Message("user", "May I return shoes?"),)
    plain = Trace(id="a", time=1.0, response="", messages=asked)
    blind = Trace(
        id="a", time=1.0, response="", messages=asked, unread=(Unread(Side.RESPONSE, Unreadable.REDACTED),)
    )
    known, unknown = (set(one.values) for one in built("drift").assess([plain, blind]))
    assert known - unknown
    assert unknown < known
