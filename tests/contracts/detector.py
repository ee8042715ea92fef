"""What every detector promises, whatever it looks for. Each check takes a detector that is already built."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from monitor.clock import SystemClock
from monitor.detect import Detector, invocation
from monitor.findings import Assessment, Status
from monitor.trace import Document, Message, Step, StepKind, ToolCall, Trace, Usage

CANARY = "Zyxwvut-canary-80312"

ORDINARY = (
    Trace(
        id="o-1",
        time=1_700_000_000.0,
        app="support",
        model="m-1",
        messages=(Message("system", "Be brief."), Message("user", f"When does my order {CANARY} arrive?")),
        response="Your order left the warehouse on Monday and arrives on 3 June. Carrier: Northmail.",
        context=(Document("d1", "The order left on Monday. It arrives on 3 June with Northmail."),),
        tool_calls=(ToolCall(name="track", arguments='{"order": 7}', result='{"eta": "3 June"}'),),
        usage=Usage(40, 20),
        latency=0.8,
    ),
    Trace(
        id="o-2",
        time=1_700_000_001.0,
        messages=(Message("user", "Who are you?"),),
        response=f"Write to anna.berg@example.org or call +1 212 555 0142, {CANARY}. You are a stupid idiot!",
        alternatives=("I am an assistant.", "I am Bob, a plumber from Leeds."),
    ),
    Trace(id="o-3", time=1_700_000_002.0, messages=(Message("user", "Thanks"),), response="You are welcome."),
    Trace(
        id="o-4",
        time=1_700_000_003.0,
        messages=(Message("user", "Was kostet das?"),),
        response="Das kostet 12,50 €. Kartennummer 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00.",
        context=(Document("p", "Preis: 15 €."),),
    ),
    Trace(
        id="o-5",
        time=1_700_000_004.0,
        agent="desk",
        messages=(Message("user", "Where is my parcel?"),),
        response=f"The parcel {CANARY} is in Leeds, ask for Anna Berg on 020 7946 0018.",
        steps=(
            Step(kind=StepKind.AGENT, name="desk", input="Where is my parcel?"),
            *[
                Step(
                    kind=StepKind.TOOL,
                    name="track",
                    parent=0,
                    error="timeout",
                    input=f'{{"parcel": "{CANARY}"}}',
                    output=f"no answer for {CANARY}, call 020 7946 0018",
                )
            ]
            * 4,
        ),
    ),
)

STRANGE = tuple(
    Trace(
        id=f"s-{number}",
        time=0.0,
        messages=(Message("user", text),),
        response=text,
        context=(Document("d", text),),
    )
    for number, text in enumerate(
        [
            "",
            " \n\t ",
            "\x00\x01\x7f",
            "👩🏽‍🚀🇺🇳" * 50,
            "مرحبا بالعالم",
            "a" * 5000,
            "word " * 4000,
            "1234567890" * 300,
            "e\u0301\u0302\u0303" * 300,
            "\u202e\u200b\ufeff",
            "((((" * 500,
            "@" * 2000,
            "http://" * 300,
        ]
    )
)


def is_named_and_versioned(detector: Detector) -> None:
    """Its name is an identifier and its version says which code and which weights."""
    assert detector.name.isidentifier()
    assert re.fullmatch(r"\d+(\+[A-Za-z0-9._-]{1,100})?", detector.version)


def answers_nothing_for_nothing(detector: Detector) -> None:
    """No traces, no assessments."""
    assert list(detector.assess([])) == []


def judges_ordinary_and_strange_text(detector: Detector) -> None:
    """Every trace is scored or skipped for a reason; odd text is no error."""
    for answer in _assess(detector, ORDINARY + STRANGE):
        assert answer.status in {Status.SCORED, Status.SKIPPED}
        assert answer.status is Status.SCORED or answer.reason


def repeats_itself(detector: Detector) -> None:
    """The same traces get the same answer again, so a re-judged trace raises the same flags."""
    assert _plain(_assess(detector, ORDINARY)) == _plain(_assess(detector, ORDINARY))


def judges_each_trace_for_itself(detector: Detector) -> None:
    """A verdict does not depend on what else is in the batch: the pool cuts batches as it needs."""
    together = _assess(detector, ORDINARY)
    alone = [_assess(detector, [one])[0] for one in ORDINARY]
    for left, right in zip(together, alone, strict=True):
        assert (left.status, left.reason, left.tier) == (right.status, right.reason, right.tier)
        # Batched matrix products round differently; no rule depends on the fourth digit.
        assert abs((left.score or 0.0) - (right.score or 0.0)) < 1e-4


def points_into_the_trace(detector: Detector) -> None:
    """Each piece of evidence is a span that exists, in a field that exists."""
    traces = ORDINARY + STRANGE
    for one, answer in zip(traces, _assess(detector, traces), strict=True):
        for evidence in answer.evidence:
            assert evidence.end <= len(text_of(one, evidence.field))


def keeps_text_to_itself(detector: Detector) -> None:
    """No answer holds a word of the trace: evidence is offsets and names."""
    assert CANARY not in repr(_assess(detector, ORDINARY))


CHECKS: tuple[Callable[[Detector], None], ...] = (
    is_named_and_versioned,
    answers_nothing_for_nothing,
    judges_ordinary_and_strange_text,
    repeats_itself,
    judges_each_trace_for_itself,
    points_into_the_trace,
    keeps_text_to_itself,
)


def text_of(trace: Trace, field: str) -> str:
    """Return the text that an evidence's `field` names."""
    here: Any = trace
    for part in field.split("."):
        here = here[int(part)] if isinstance(here, tuple) else getattr(here, part)
    if isinstance(here, Step):
        return ""  # names a step
    text = here.content if isinstance(here, Message | Document) else here
    assert isinstance(text, str), f"{field} is no text"
    return text


def _assess(detector: Detector, traces: Sequence[Trace]) -> list[Assessment]:
    """Assess as a worker does: the answers are checked, the version set."""
    _, distinct, index = invocation.invoke(detector, detector.version, traces, SystemClock())
    return [distinct[place] for place in index]


def _plain(answers: Sequence[Assessment]) -> list[dict[str, object]]:
    """Everything but the time it took."""
    names = [name for name in Assessment.__struct_fields__ if name != "seconds"]
    return [{name: getattr(answer, name) for name in names} for answer in answers]
