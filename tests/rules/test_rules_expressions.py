"""Expressions: what the static check accepts, refuses and promises about the evaluator."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.findings import MAX_EVIDENCE
from monitor.rules.checker import MAX_COMPREHENSIONS, check
from monitor.rules.cursor import MAX_DEPTH
from monitor.rules.expression import ERROR_KINDS, Context, EvaluationError, compile_
from monitor.rules.inputs import variables
from monitor.rules.lexer import MAX_LENGTH, ExpressionError, tokens
from monitor.rules.ruleset import DETECTORS

NAMES = variables(DETECTORS)
ENTRY = {"field": "response", "start": 0, "end": 9, "kind": "US_SSN", "score": 0.85, "leaked": True}
PII: dict[str, Any] = {
    "status": "scored",
    "scored": True,
    "score": 0.5,
    "calibrated": False,
    "reason": "",
    "tier": 1,
    "probability": 0.25,
    "evidence": [ENTRY, {**ENTRY, "kind": "PERSON", "leaked": False}],
    "leaked": [ENTRY],
    "kinds": ["US_SSN", "PERSON"],
    "values": {"response": 0.5, "a.b": 0.0},
}
TRACE: dict[str, Any] = {
    **dict.fromkeys(("app", "environment", "provider", "model", "model_version"), "x"),
    **dict.fromkeys(("prompt_name", "prompt_version", "finish_reason"), ""),
    **dict.fromkeys(("messages", "input_tokens", "context", "tool_calls"), 2),
    "latency": 1.5,
}
VALUES = {**dict.fromkeys(DETECTORS, PII), "trace": TRACE}


def evaluate(source: str) -> bool:
    """Compile and evaluate on the values above."""
    return compile_(source, NAMES).evaluate(Context(VALUES))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pii.score >= 0.5", True),
        ("pii.score > 0.5", False),
        ("pii.tier > 0.5 && pii.score < 1", True),
        ('pii.leaked.exists(e, e.kind in ["US_SSN", "CREDIT_CARD"])', True),
        ('pii.evidence.all(e, e.kind == "US_SSN")', False),
        ("pii.evidence.filter(e, e.leaked).size() == 1 && size(pii.kinds) == 2", True),
        ("pii.evidence.map(e, e.score).exists(s, s > 0.8)", True),
        ("pii.evidence.exists_one(e, !e.leaked)", True),
        ('"PERSON" in pii.kinds || pii.kinds[0] == "x"', True),
        ("has(pii.values.response) && pii.values.response >= 0.5", True),
        ("has(pii.values.nothing)", False),
        ('"a.b" in pii.values && pii.values["a.b"] == 0.0', True),
        ("has(trace.latency) && !has(trace.output_tokens)", True),
        ('pii.status == "scored" && pii.status in ["scored", "error"]', True),
        ("(has(pii.values.x) ? pii.values.x : pii.score) >= 0.5", True),
        ('trace.app.startsWith("x") && !trace.model.contains("y") && "ab".endsWith("b")', True),
        ("double(trace.messages) / 2.0 == 1.0 && int(2.5) % 2 == 0", True),
        ("-pii.score < 0.0 // a remark\n && !(1 == 2)", True),
        ("true", True),
    ],
)
def test_accepted_expressions_mean_what_cel_says(source: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """The subset the check accepts evaluates as CEL defines it."""
    assert evaluate(source) is expected


@pytest.mark.parametrize(
    ("source", "offset", "message"),
    [
        ("pi.score > 0.5", 0, "unknown variable pi; did you mean pii?"),
        ("pii.scor > 0.5", 4, "has no field scor; did you mean score?"),
        ("trace.respons > 0", 6, "trace has no field respons"),
        ("pii.leaked[0].knd == ''", 14, "an evidence entry has no field knd; did you mean kind?"),
        ("siz(pii.kinds) > 1", 0, "unknown function siz; did you mean size?"),
        ("pii.kinds.exist(k, k == '')", 10, "did you mean exists?"),
        ("pii.status == 'scord'", 14, "did you mean scored?"),
        ("pii.status in ['error', 'timout']", 24, "did you mean timeout?"),
        ("pii.score = 0.5", 10, "did you mean ==?"),
        ("pii.scored and true", 11, "did you mean &&?"),
        ("not pii.scored", 0, "did you mean !?"),
        ("pii.scored & true", 11, "did you mean &&?"),
        ("pii.score >", 11, "ends too early"),
        ("(pii.scored", 11, "expected ')'"),
        ("pii.scored)", 10, "unexpected ')'"),
        ("pii.reason == 'x", 14, "text is not closed"),
        ("pii.tier > 1u", 11, "not a number"),
        ("pii.score > .5", 12, "unexpected '.'"),
        ("", 0, "ends too early"),
        ("pii.score", 0, "must be true or false, but is double"),
        ("pii", 0, "needs a field"),
        ("pii.size() > 1", 4, "has no functions"),
        ("pii.score > 'x'", 10, "cannot compare double with string"),
        ("pii.scored < true", 11, "cannot compare bool with bool"),
        ("pii.leaked == pii.leaked", 11, "cannot compare list"),
        ("'x' in pii.reason", 7, "needs a list"),
        ("pii.score + 1 > 1.0", 10, "write 1.0 for a double"),
        ("pii.score % 2.0 > 1.0", 10, "cannot combine"),
        ("!pii.score", 1, "needs bool, not double"),
        ("-pii.reason == ''", 1, "needs double or int, not string"),
        ("pii.scored ? 1 : 2", 0, "must be true or false"),
        ("(pii.scored ? 1 : 2.0) > 1", 18, "one type"),
        ("pii.score ? true : false", 0, "before ?"),
        ("pii.scored && pii.score", 14, "needs bool"),
        ("pii.reason.matches('(a+)+$')", 11, "regular expressions are left out"),
        ("pii.leaked.exists(e, pii.kinds.exists(k, k == e.kind))", 21, "not nested"),
        ("pii.leaked.exists(e, [1].exists(i, i == 1))", 25, "not nested"),
        ("pii.leaked.exists(pii, true)", 18, "already means something"),
        ("pii.leaked.exists(e, e.score)", 21, "needs bool"),
        ("pii.leaked.map(e, pii.scored).size() > 1", 18, "must make numbers or texts"),
        ("pii.leaked.exists(e)", 19, "expected ','"),
        ("e.kind == ''", 0, "unknown variable e"),
        ("[] == []", 1, "unexpected ']'"),
        ("1 in [1, 'x']", 5, "only numbers or only texts"),
        ("has(pii)", 4, "needs a field"),
        ("has(pii.kinds[0])", 0, "takes a field"),
        ("pii.values[1] > 0.0", 11, "needs string"),
        ("pii.kinds['x'] == ''", 10, "needs int"),
        ("pii.score[0] > 0.0", 10, "cannot be indexed"),
        ("pii.score.size() > 0", 0, "needs a list or text"),
        ("size(pii.score) > 0", 5, "needs a list or text"),
        ("pii.in > 0", 4, "expected a name"),
        ("null == null", 0, "unexpected 'null'"),
        ("{'a': 1}['a'] == 1", 0, "unexpected '{'"),
        ("b'x' == b'x'", 0, "unknown variable b"),
        ("9223372036854775808 > 1", 0, "invalid int literal"),
        ("pii.score > 1e999", 12, "invalid double literal"),
        ("pii.reason == '\\q'", 14, "token recognition"),
        ("01 > 1 && pii.scor > 0.5", 14, "did you mean score?"),
        ("é == 1", 0, "unexpected 'é'"),
    ],
)
def test_refused_expressions_say_where_and_what(source: str, offset: int, message: str) -> None:
    """Each fault is reported at its first character, with a hint where one is known."""
    with pytest.raises(ExpressionError) as caught:
        compile_(source, NAMES)
    assert (caught.value.offset, message in str(caught.value)) == (offset, True), str(caught.value)


def test_caps_are_exact() -> None:
    """The longest, deepest and busiest expressions allowed pass; one more of anything is refused."""
    fits = "true" + " " * (MAX_LENGTH - 4)
    deep = "(" * (MAX_DEPTH - 1) + "true" + ")" * (MAX_DEPTH - 1)
    busy = " || ".join(["pii.leaked.exists(e, e.leaked)"] * MAX_COMPREHENSIONS)
    for source in (fits, deep, busy, "!" * (MAX_DEPTH - 1) + "true"):
        assert isinstance(evaluate(source), bool)
    for source in (
        fits + " ",
        f"({deep})",
        f"{busy} || pii.leaked.exists(e, e.leaked)",
        "!" * MAX_DEPTH + "true",
    ):
        with pytest.raises(ExpressionError):
            check(source, NAMES)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 1000,
        "[" * 1000,
        "!" * 2000,
        "-" * 1999,
        "1" + "+1" * 900 + " > 0",
        "true" + "||true" * 300,
        "a." * 999,
    ],
)
def test_hostile_shapes_end_quickly_and_cleanly(source: str) -> None:
    """Nesting and long chains, which overflow the stack of other parsers, are judged or refused."""
    with contextlib.suppress(ExpressionError):  # refused is as good as judged: neither crashes
        assert isinstance(evaluate(source), bool)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ('pii.values["nothing"] > 0.1', "missing_value"),
        ("trace.output_tokens > 1", "missing_value"),
        ("pii.leaked[7].leaked", "index_out_of_range"),
        ("1 / (pii.tier - 1) > 0", "division_by_zero"),
        ("9223372036854775807 + pii.tier > 0", "overflow"),
        ("0.0 / 0.0 > 1.0", "not_comparable"),
    ],
)
def test_what_fails_at_run_time_is_named(source: str, kind: str) -> None:
    """The faults that no static check can see come out as one of a bounded set of kinds."""
    with pytest.raises(EvaluationError) as caught:
        evaluate(source)
    assert caught.value.kind == kind
    assert kind in ERROR_KINDS


def test_values_the_engine_cannot_hold_are_an_error_not_a_crash() -> None:
    """Half a character, which UTF-8 cannot hold, is reported like any other failed evaluation."""
    with pytest.raises(EvaluationError) as caught:
        Context({"trace": {"app": "\ud800"}})
    assert caught.value.kind == "failed"


def test_interrupts_are_not_mistaken_for_rule_errors() -> None:
    """Ctrl-C during an evaluation still stops the process."""
    expression = compile_("pii.scored", NAMES)

    class Interrupted:
        @property
        def native(self) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expression.evaluate(Interrupted())  # type: ignore[arg-type]  # a context that is interrupted


NUMBER = st.sampled_from(["0", "1", "7", "0x1F", "9223372036854775807"])
REAL = st.sampled_from(["0.0", "0.5", "1e3", "0.85"])
TEXT = st.sampled_from(['"US_SSN"', "'x'", 'r"\\d"', '"a.b"', '""', '"\\n"'])


def joined(parts: st.SearchStrategy[str], operators: list[str]) -> st.SearchStrategy[str]:
    """Two parts and an operator between them, in brackets."""
    return st.builds(lambda a, o, b: f"({a} {o} {b})", parts, st.sampled_from(operators), parts)


INTS = st.recursive(
    NUMBER
    | st.sampled_from(
        ["pii.tier", "trace.messages", "trace.output_tokens", "size(pii.kinds)", "pii.leaked[0].end"]
    ),
    lambda inner: joined(inner, ["+", "-", "*", "/", "%"]) | inner.map("(-{})".format),
    max_leaves=4,
)
DOUBLES = st.recursive(
    REAL
    | st.sampled_from(["pii.score", 'pii.values["response"]', "pii.values.response", "drift.values.x"])
    | INTS.map("double({})".format),
    lambda inner: joined(inner, ["+", "-", "*", "/"]),
    max_leaves=4,
)
TEXTS = TEXT | st.sampled_from(
    ["pii.reason", "trace.app", "pii.kinds[0]", "pii.kinds[9]", "string(pii.score)"]
)
BODIES = st.sampled_from(
    ["x.leaked", 'x.kind == "US_SSN"', "x.score >= 0.5", "!x.leaked && x.end > 3", "toxicity.score > x.score"]
)
CONDITIONS = st.recursive(
    joined(INTS | DOUBLES, ["<", "<=", ">", ">=", "==", "!="])
    | joined(TEXTS, ["<", "==", "!="])
    | st.builds("({} in {})".format, TEXTS, st.sampled_from(["pii.kinds", '["x", "y"]', "pii.values"]))
    | st.builds(
        "pii.{}.{}(x, {})".format,
        st.sampled_from(["leaked", "evidence"]),
        st.sampled_from(["exists", "all", "exists_one"]),
        BODIES,
    )
    | st.builds("(pii.evidence.filter(x, {}).size() > 0)".format, BODIES)
    | st.sampled_from(
        ["pii.scored", "has(trace.latency)", "has(pii.values.q)", '(pii.status != "error")', "true"]
    ),
    lambda inner: (
        joined(inner, ["&&", "||", "==", "!="])
        | inner.map("!({})".format)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(CONDITIONS)
def test_well_typed_expressions_do_not_go_wrong(source: str) -> None:
    """What the check accepts never fails in the evaluator for its types, and always gives true or false."""
    try:
        assert isinstance(evaluate(source), bool)
    except ExpressionError as error:
        assert "deeper" in str(error) or "list functions" in str(error)  # noqa: PT017 - one of two outcomes
    except EvaluationError as error:
        assert error.kind in ERROR_KINDS - {"failed", "not_boolean"}  # noqa: PT017 - see above
        assert error.kind != "not_comparable" or "/" in source  # noqa: PT017 - NaN comes of a division here


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60) | st.text("pi.scoretax[]()!&|<>=0.5'\"\\ ,?:+-*/%\n", max_size=40))
def test_any_text_is_refused_or_understood(source: str) -> None:
    """No text makes the check or the compiler raise anything but its own error."""
    try:
        compile_(source, NAMES)
    except ExpressionError as error:
        assert 0 <= error.offset <= len(source)  # noqa: PT017 - one of two outcomes


@settings(max_examples=200, deadline=None)
@given(CONDITIONS)
def test_tokens_cover_the_source(source: str) -> None:
    """Tokens stand where they say, in order, and leave out only blanks."""
    end = 0
    for token in tokens(source):
        assert source.startswith(token.text, token.offset)
        assert not source[end : token.offset].strip()
        end = token.offset + len(token.text)
    assert end == len(source)


WORST = Context(
    {
        name: {
            "evidence": [
                {"field": "f" * 128, "start": n, "end": n, "kind": f"{n:0128}", "score": 0.5, "leaked": True}
                for n in range(MAX_EVIDENCE)
            ],
            "leaked": [],
            "kinds": [f"{n:0128}" for n in range(MAX_EVIDENCE)],
            "reason": "r" * 128,
            "score": 1.7e308,
        }
        for name in ("pii", "toxicity")
    }
    | {"trace": {"app": "a" * 128}, "run": {}}
)
"""A trace with as much of everything as there can be."""
WORST_SECONDS = 0.6  # three lists of evidence on a busy machine; one takes 10 to 50 ms on an idle one

PARTS = st.sampled_from(["k", "trace.app", "pii.reason", "'literal'", "string(pii.score)", "pii.kinds[3]"])
SUMS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map(" + ".join),
    st.tuples(PARTS, st.integers(1, 300)).map(lambda pair: " + ".join([pair[0]] * pair[1])),
)
STEPS = st.one_of(
    SUMS.map(".map(k, {})".format),
    st.sampled_from([".filter(k, true)", ".filter(k, k.contains('0') || true)"]),
)
LISTS = st.builds(
    "{}{}".format,
    st.sampled_from(
        ["pii.kinds", "pii.evidence.map(e, e.kind)", "pii.evidence.filter(e, e.leaked).map(e, e.kind)"]
    )
    | st.integers(1, 400).map(lambda count: "[" + ",".join(["'x'"] * count) + "]"),
    st.lists(STEPS, max_size=6).map("".join),
)
COSTLY = st.builds(
    "{}{}".format,
    LISTS,
    st.sampled_from([".size() > 0", ".exists(k, k == 'x')"]) | SUMS.map(".all(k, ({}) != '')".format),
)


@pytest.mark.alone
@settings(max_examples=150, deadline=None)
@given(st.lists(COSTLY, min_size=1, max_size=3).map(" && ".join))
def test_what_is_accepted_is_cheap_on_every_trace(source: str) -> None:
    """Whatever lists and texts an expression makes, no trace makes it cost more than three copied lists."""
    try:
        expression = compile_(source, NAMES)
    except ExpressionError:
        return
    began = time.process_time()
    with contextlib.suppress(EvaluationError):
        expression.evaluate(WORST)
    assert time.process_time() - began < WORST_SECONDS, source


@pytest.mark.parametrize("links", [1, 2, 3, 8])
def test_texts_do_not_multiply(links: int) -> None:
    """A chain in which each step joins what the one before made would take all memory: it is refused."""
    step = f".map(k, {'+'.join(['k'] * 60)})"
    with pytest.raises(ExpressionError, match=r"could write more than|too many or too long lists"):
        check(f"pii.kinds{step * links}.size() > 0", NAMES)


def test_what_rules_need_is_accepted() -> None:
    """A few texts per entry, a list from a list, and joined names are no bombs."""
    for source in (
        "pii.kinds.map(k, k + ':' + trace.app).exists(k, k == 'EMAIL_ADDRESS:support')",
        "pii.evidence.filter(e, e.leaked).map(e, e.kind).size() > 2",
        "trace.app + '/' + trace.environment + '/' + trace.model in ['a/b/c']",
    ):
        check(source, NAMES)
