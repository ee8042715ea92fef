"""Facts of a run, which calls are alike, and what goes in circles."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.agents import loops, runs
from monitor.agents import response_acts as answers
from monitor.agents.calls import find_calls
from monitor.trace import Step, StepKind, Trace, Usage


def call(name: str = "look", asked: str = "{}", came: str = "seen", **fields: Any) -> Step:
    """A call of a tool."""
    return Step(kind=StepKind.TOOL, name=name, input=asked, output=came, **fields)


def facts(*steps: Step, **fields: Any) -> runs.Run:
    """Facts of a run of these steps."""
    return runs.facts(Trace(id="t", time=0.0, response="", steps=steps, **fields))


def repeated(*steps: Step) -> list[int]:
    """How often calls were repeated in vain."""
    return [loop.times for loop in loops.repetitions(find_calls(steps), steps)]


def cycled(*steps: Step) -> list[int]:
    """How many more rounds a cycle took."""
    return [loop.times for loop in loops.cycles(find_calls(steps))]


def test_a_trace_without_steps_has_the_facts_of_no_run() -> None:
    """Everything is zero or unknown; the agent's name is kept."""
    assert facts() == runs.NO_RUN
    assert facts(agent="a", usage=Usage(3, 4)) == runs.NO_RUN._replace(agent="a")


def test_facts_count_what_happened() -> None:
    """Steps by kind, distinct tools, errors however they show, names of agents, and depth."""
    found = facts(
        Step(kind=StepKind.AGENT, name="boss"),
        Step(kind=StepKind.CHAT, name="m", parent=0),
        call(parent=0),
        Step(kind=StepKind.HANDOFF, name="to-sub", parent=0),
        Step(kind=StepKind.AGENT, name="sub", parent=3),
        call(error="timeout", parent=4),
        call("dig", came='{"error": "no spade"}', parent=4),
        Step(kind=StepKind.RETRIEVAL, name="kb", parent=4),
        agent="boss",
    )
    assert found == runs.Run(
        agent="boss",
        steps=8,
        tool_calls=3,
        tools=2,
        tool_errors=2,
        chats=1,
        retrievals=1,
        handoffs=1,
        agents=2,
        depth=4,
    )


def test_what_an_agent_tells_of_its_steps_is_not_counted_twice() -> None:
    """A step's own total and those below it are the same tokens and the same money: the larger counts."""
    below = [
        Step(kind=StepKind.CHAT, parent=0, input_tokens=10, output_tokens=5, cost=0.1),
        Step(kind=StepKind.CHAT, parent=0, input_tokens=20, cost=0.2),
    ]
    for told, tokens in ((None, 35), (35, 35), (50, 50), (3, 35)):
        found = facts(Step(kind=StepKind.AGENT, input_tokens=told), *below)
        assert found.tokens == tokens
        assert found.cost == pytest.approx(0.3)
    assert facts(call(), usage=Usage(7, None)).tokens == 7, "of the exchange, where no step tells any"
    assert facts(call()).tokens is None


def test_seconds_are_from_the_first_start_to_the_last_end() -> None:
    """Steps that overlap are not added up; without starts, what the outermost took is."""
    assert facts(call(start=100.0, seconds=5.0), call(start=101.0, seconds=9.0)).seconds == 10.0
    assert facts(call(seconds=5.0), call(seconds=9.0, parent=0), call(seconds=1.0)).seconds == 6.0


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=9))
def test_any_parents_give_a_depth(parents: list[int]) -> None:
    """Whatever a sender writes as parents, circles too, the depth is between one and the number of steps."""
    found = facts(*[call(parent=parent) for parent in parents])
    assert 1 <= found.depth <= len(parents)


@pytest.mark.parametrize(
    ("output", "failed"),
    [
        ("Error: no such row", True),
        ("Traceback (most recent call last): …", True),
        ("HTTP 503 Service Unavailable", True),
        ('{"error": "gone"}', True),
        ('{"id": 3, "success": false}', True),
        ('{"isError": true, "content": []}', True),
        ('{"status": "error"}', True),
        ('{"error": null, "rows": 3}', False),
        ('{"errors": [], "rows": 3}', False),
        ('{"status": "failed", "order": 3}', False),
        ("The error rate is 3 percent.", False),
        ("errors.py", False),
        ("", False),
    ],
)
def test_results_that_say_they_failed(output: str, *, failed: bool) -> None:
    """A result fails by how it begins; a thing that failed, such as a payment, is a result like others."""
    assert runs.failed(call(came=output)) is failed


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ('{"a": 1, "b": "X"}', '{"b": "x ", "a": 1}', True),
        ('{"a": 1, "request_id": "f1"}', '{"a": 1, "request_id": "f2"}', True),
        ('{"q": "cheap hotel in Rome"}', '{"q": "hotel, cheap, Rome"}', True),
        ("reset the shared printer password", "password reset of the shared printer", True),
        ('{"page": 1}', '{"page": 2}', False),
        ('{"q": "pages 1 of it all"}', '{"q": "pages 2 of it all"}', False),
        ('{"city": "Rome"}', '{"city": "Bern"}', False),
        ('{"q": "population of Spain"}', '{"q": "population of France"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ("{", "[", False),
    ],
)
def test_calls_are_alike_by_their_normal_form(one: str, other: str, *, alike: bool) -> None:
    """Order, case, white space and request ids do not matter; numbers, names and other words do."""
    first, second = find_calls([call(asked=one), call(asked=other)])
    assert (first.form == second.form) is alike


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.integers() | st.text(max_size=20), max_size=6))
def test_a_call_is_like_itself_in_any_spelling(arguments: dict[str, Any]) -> None:
    """JSON in another order and layout is the same call."""
    turned = dict(reversed(arguments.items()))
    first, second = find_calls(
        [call(asked=json.dumps(arguments)), call(asked=json.dumps(turned, indent=3, ensure_ascii=False))]
    )
    assert first.form == second.form


def test_repetition_is_what_taught_nothing_new() -> None:
    """The last calls of a kind count, from where they began to return the same."""
    same, new = call(), call(came="something else")
    assert repeated(same) == []
    assert repeated(same, same, same) == [2]
    assert repeated(same, new, same) == []
    assert repeated(new, same, same) == [1]
    assert repeated(same, same, same, new) == [], "it was worth it in the end"
    assert repeated(same, call("dig"), same, call("dig", '{"n": 2}'), same) == [2]


def test_waiting_is_no_repetition() -> None:
    """Growing pauses, or a tool that waits, tell a poll from a loop; even pauses do not."""
    growing = [call(start=start) for start in (10.0, 12.0, 16.0, 24.0)]
    even = [call(start=start) for start in (10.0, 12.0, 14.0, 16.0)]
    assert repeated(*growing) == []
    assert repeated(*even) == [3]
    assert repeated(call(), call("sleep"), call(), call("sleep", '{"s": 2}'), call()) == []


def test_where_results_were_not_captured_it_takes_more() -> None:
    """Calls of which only the arguments are known may have returned anything; the rest is unknown."""
    unseen = call(came="")
    assert repeated(*[unseen] * 3) == []
    assert repeated(*[unseen] * 5) == [2]
    assert repeated(*[call(asked="", came="")] * 9) == []


def test_cycles_need_different_calls_and_whole_rounds() -> None:
    """A-B-A-B is one more round, of two calls to eight; one call again and again is a repetition."""
    a, b, c = call("a"), call("b"), call("c")
    assert cycled(a, b) == cycled(a, b, a) == []
    assert cycled(a, b, a, b) == [1]
    assert cycled(a, b, c, a, b, c, a, b, c) == [2]
    assert cycled(a, a, a, a) == []
    long = [call(f"t{n}") for n in range(loops.MAX_PERIOD + 1)]
    assert cycled(*long[:-1], *long[:-1]) == [1]
    assert cycled(*long, *long) == []
    assert cycled(a, b, a, b, call("b", came="news")) == [], "it led on"
    assert cycled(a, call("wait"), a, call("wait")) == []


@given(st.lists(st.integers(0, 40), unique=True, max_size=30))
def test_calls_that_differ_never_go_in_circles(items: list[int]) -> None:
    """However many pages are read, reading another one is no loop."""
    steps = [call(asked=f'{{"page": {item}}}', came="the same") for item in items]
    assert repeated(*steps) == cycled(*steps) == []


def test_failing_counts_to_the_last_call() -> None:
    """A success in between begins the count anew; tools are counted apart."""
    bad = call(error="timeout")
    other = call("dig", error="timeout")

    def times(*steps: Step) -> list[int]:
        return [loop.times for loop in loops.failing_tools(find_calls(steps))]

    assert times(bad, bad, other) == [2, 1]
    assert times(bad, bad, call(), bad) == [1]
    assert times(bad, call()) == []


@pytest.mark.parametrize(
    ("answer", "does"),
    [
        ("The booking failed.", {"trouble"}),
        ("No problem! Your table has been booked.", {"done"}),
        ("I'm sorry, I can't help with that.", {"trouble", "gives_up"}),
        ("One moment please. I'll check.", {"puts_off"}),
        ("Which one do you mean?", {"asks_back"}),
        ("The shop opens at nine. Anything else?", set()),
        ("I will not do that.", set()),
    ],
)
def test_what_an_answer_does(answer: str, does: set[str]) -> None:
    """Wording tells giving up, putting off and asking back from an answer that tells something."""
    found = {
        "trouble": answers.admits_trouble(answer),
        "done": answers.claims_done(answer),
        "gives_up": answers.gives_up(answer),
        "puts_off": answers.puts_off(answer),
        "asks_back": answers.asks_back(answer),
    }
    assert {name for name, said in found.items() if said} == does


@given(st.text(max_size=400))
def test_wording_takes_any_text(text: str) -> None:
    """No text is too odd to be read, and what an answer claims lies within it."""
    for measure in (answers.admits_trouble, answers.claims_done, answers.gives_up, answers.informs):
        measure(text)
    assert all(
        0 <= action.span.start < action.span.end <= len(text) for action in answers.claimed_actions(text)
    )
