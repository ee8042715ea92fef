"""Decisions: pure, deterministic, the same with and without memory, and never silently false."""

import hashlib
import re
import textwrap
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.agents import runs
from monitor.findings import MAX_EVIDENCE, Action, Assessment, Evidence, Severity, Status
from monitor.rules import RuleError, RuleSet
from monitor.rules.expression import Context, EvaluationError
from monitor.rules.inputs import DETECTOR_FIELDS, RUN_FIELDS, TRACE_FIELDS
from monitor.rules.projection import cell
from monitor.rules.ruleset import DETECTORS, MATCHES, QUIET, flag_id, matches
from monitor.trace import Document, Message, Origin, Step, StepKind, ToolCall, Trace, Usage

ORIGIN = Origin("llm.traces", 3, 42, 1)
TRACE = Trace(id="t", time=0.0, response="", app="bot", environment="production", model="m-1")


def rules(*exprs: str, extra: str = "", match: str = "{}", memo: int = 1000) -> RuleSet:
    """Compile one rule for each expression, named R0, R1 and so on."""
    text = f"groups:\n  - name: g\n    match: {match}\n    rules:\n"
    for number, expr in enumerate(exprs):
        text += f"      - alert: R{number}\n        expr: >-\n          {expr}\n"
        text += '        labels: {severity: warning, team: care}\n        annotations: {summary: "s"}\n'
        text += textwrap.indent(extra, " " * 8)
    compiled = RuleSet.compile([("r.yaml", text.encode())])
    return RuleSet(compiled.rules, memo_entries=memo)


def said(detector: str, **fields: Any) -> Assessment:
    """An assessment that scored."""
    return Assessment(
        **{"detector": detector, "version": "1", "status": Status.SCORED, "score": 0.0, **fields}
    )


def fired(rule_set: RuleSet, *assessments: Assessment, trace: Trace = TRACE) -> list[str]:
    """Names of the rules that flag."""
    return [flag.rule for flag in rule_set.decide(ORIGIN, trace, assessments).flags]


def test_a_flag_carries_what_its_rule_says() -> None:
    """Severity, actions, labels, controls, detectors and versions come from the rule."""
    rule_set = rules(
        "pii.score > 0.5 && toxicity.scored",
        extra='actions: [audit, review]\ncontrols: ["EU-AI-Act:72"]\n',
    )
    (rule,) = rule_set.rules
    rule = msgspec.structs.replace(
        rule, annotations={"summary": "{{ $labels.app }}/{{$labels.team}}: {{ $labels.rule }}"}
    )
    (flag,) = RuleSet([rule]).decide(ORIGIN, TRACE, [said("pii", score=0.9), said("toxicity")]).flags
    assert flag.id == hashlib.sha256(b"llm.traces\x003\x0042\x001\x00R0").hexdigest()[:32]
    assert (flag.rule, flag.rule_version, flag.severity) == ("R0", rule.version, Severity.WARNING)
    assert flag.actions == (Action.AUDIT, Action.REVIEW)
    assert flag.detectors == ("pii", "toxicity")
    assert (flag.labels, flag.controls) == ({"team": "care"}, ("EU-AI-Act:72",))
    assert flag.annotations == {"summary": "bot/care: R0"}


def test_what_a_trace_calls_itself_is_not_expanded_again() -> None:
    """A template in an application's name stays text."""
    (rule,) = rules("true").rules
    rule = msgspec.structs.replace(rule, annotations={"summary": "{{ $labels.app }}"})
    trace = msgspec.structs.replace(TRACE, app="{{ $labels.model }}")
    (flag,) = RuleSet([rule]).decide(ORIGIN, trace, ()).flags
    assert flag.annotations["summary"] == "{{ $labels.model }}"


def test_flags_come_in_the_order_of_the_rules() -> None:
    """Whichever detectors they read, rules report in file order."""
    rule_set = rules(
        "toxicity.scored", "pii.scored", "toxicity.scored && pii.scored", "true", "toxicity.scored"
    )
    assert fired(rule_set, said("toxicity"), said("pii")) == ["R0", "R1", "R2", "R3", "R4"]


def test_quiet_traces_share_one_decision() -> None:
    """Nothing is made for a trace on which no rule fires."""
    assert rules("pii.score > 0.5").decide(ORIGIN, TRACE, [said("pii")]) is QUIET


def test_a_detector_that_is_not_enabled_is_skipped_as_disabled() -> None:
    """A rule can still name it, and can tell that it did not run."""
    assert fired(rules('drift.status == "skipped" && drift.reason == "disabled" && drift.score == 0.0')) == [
        "R0"
    ]


@pytest.mark.parametrize(
    ("match", "trace", "looks"),
    [
        ("{}", {}, True),
        ("{environment: production}", {}, True),
        ("{environment: staging}", {}, False),
        ("{app: 'b*', model: m-1}", {}, True),
        ("{app: 'b*', model: m-2}", {}, False),
        ("{app: '*t'}", {"app": "bot"}, True),
        ("{app: Bot}", {}, False),
        ("{app: 'b?t'}", {}, False),
        ("{app: '[b]ot'}", {}, False),
        ("{app: '[b]*'}", {"app": "[b]ot"}, True),
        ("{provider: openai, prompt_name: p, prompt_version: '3', model_version: v}", {}, False),
    ],
)
def test_a_group_looks_only_at_traces_that_match(match: str, trace: dict[str, str], looks: bool) -> None:  # noqa: FBT001 - a table's column
    """Every field given must be equal, where `*` stands for any text and nothing else is special."""
    rule_set = rules("true", match=match)
    assert bool(fired(rule_set, trace=msgspec.structs.replace(TRACE, **trace))) is looks


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_globs_match_as_their_pattern_does(glob: str, text: str) -> None:
    """A star is any text, as in the regular expression that says the same."""
    pattern = ".*".join(map(re.escape, glob.split("*")))
    assert matches(text, glob) == bool(re.fullmatch(pattern, text))


def test_unbounded_application_names_do_not_grow_the_memory() -> None:
    """What is remembered of matches and outcomes stays within its bounds."""
    rule_set = rules("trace.messages > 0", 'trace.model != "x"', match="{app: 'bot*'}", memo=100)
    for number in range(MATCHES + 10):
        name = f"bot{number}"
        fired(rule_set, trace=msgspec.structs.replace(TRACE, app=name, model=name))
    assert len(rule_set._plans) <= MATCHES
    assert len(rule_set._memo) <= 100
    assert len(rule_set._groups) == 1


def test_a_rule_that_cannot_be_evaluated_is_reported() -> None:
    """Absent signals are an error of that rule alone; the others decide."""
    decision = rules("pii.values.x > 0.5", "pii.scored").decide(ORIGIN, TRACE, [said("pii")])
    assert decision.errors == (RuleError("R0", "missing_value"),)
    assert [flag.rule for flag in decision.flags] == ["R1"]


def test_a_rule_that_fails_closed_also_flags() -> None:
    """`on_error: flag` turns an evaluation error into a flag that says so."""
    decision = rules("pii.values.x > 0.5", extra="on_error: flag\n").decide(ORIGIN, TRACE, [said("pii")])
    assert decision.errors == (RuleError("R0", "missing_value"),)
    (flag,) = decision.flags
    assert flag.labels == {"team": "care", "rule_error": "missing_value"}


def test_values_that_cannot_be_shown_fail_every_rule_that_reads_them() -> None:
    """A trace the engine cannot hold is reported by each of its rules, not passed over."""
    trace = msgspec.structs.replace(TRACE, app="\ud800")
    decision = rules('trace.app == "x"', 'trace.app != "y"').decide(ORIGIN, trace, ())
    assert decision.errors == (RuleError("R0", "failed"), RuleError("R1", "failed"))


def test_one_leak_among_thousands_of_entries_is_still_seen() -> None:
    """The cut to MAX_EVIDENCE keeps an entry of each kind and direction, and says how many went."""
    names = [Evidence("response", i, i + 1, "PERSON", 0.9) for i in range(1000)]
    leak = Evidence("response", 0, 1, "US_SSN", 0.1, leaked=True)
    rule_set = rules(
        'pii.leaked.exists(e, e.kind == "US_SSN")',
        '"US_SSN" in pii.kinds',
        f"size(pii.evidence) == {MAX_EVIDENCE}",
        f"pii.values.evidence_dropped == {1001 - MAX_EVIDENCE}.0",
        '"evidence_dropped" in pii.values && pii.values["evidence_dropped"] > 0.0',
        "pii.score >= 0.1",
    )
    flooded = said("pii", evidence=(*names, leak), score=0.1)
    assert fired(rule_set, flooded) == ["R0", "R1", "R2", "R3", "R4", "R5"]


def test_versions_follow_what_a_rule_decides_and_nothing_else() -> None:
    """Comments, layout and tests leave versions alone; expression, match and labels do not."""
    base = rules("pii.score > 0.5")
    again = RuleSet.compile([("other.yaml", b"# a remark\n" + _text("pii.score > 0.5"))])
    assert (base.version, base.rules[0].version) == (again.version, again.rules[0].version)
    for changed in (rules("pii.score > 0.6"), rules("pii.score > 0.5", match="{app: x}")):
        assert changed.version != base.version
        assert changed.rules[0].version != base.rules[0].version


def _text(expr: str) -> bytes:
    return (
        f"groups: [{{name: g, rules: [{{alert: R0, expr: '{expr}', annotations: {{summary: s}}, "
        "labels: {team: care, severity: warning}}]}]"
    ).encode()


KINDS = st.sampled_from(["US_SSN", "PERSON", "API_KEY"])
SCORES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.5000001, 0.8, 1.0]) | st.floats(0, 1)
EVIDENCE = st.builds(
    Evidence,
    st.sampled_from(["response", "messages.0"]),
    st.integers(0, 3),
    st.integers(4, 6),
    KINDS,
    SCORES,
    st.booleans(),
)
SIGNAL = SCORES | st.sampled_from([float("nan"), float("inf"), -1.0])
ASSESSMENT = st.builds(
    Assessment,
    detector=st.sampled_from(DETECTORS),
    version=st.sampled_from(["1", "2"]),
    status=st.sampled_from(Status),
    score=st.none() | SCORES,
    calibrated=st.booleans(),
    evidence=st.lists(EVIDENCE, max_size=3).map(tuple),
    tier=st.integers(0, 2),
    probability=SCORES,
    reason=st.sampled_from(["", "no_context"]),
    values=st.dictionaries(st.sampled_from(["response", "prompt", "a.b"]), SIGNAL, max_size=3),
    seconds=st.floats(0, 1),
)
TRACES = st.builds(
    Trace,
    id=st.just("t"),
    time=st.just(0.0),
    response=st.text(max_size=3),
    app=st.sampled_from(["bot", "app"]),
    environment=st.sampled_from(["production", "staging"]),
    model=st.sampled_from(["m-1", "m-2"]),
    messages=st.lists(st.just(Message()), max_size=2).map(tuple),
    context=st.lists(st.just(Document()), max_size=2).map(tuple),
    tool_calls=st.lists(st.just(ToolCall()), max_size=1).map(tuple),
    latency=st.none() | st.sampled_from([0.0, 1.5, 2.0]),
    agent=st.sampled_from(["", "desk"]),
    steps=st.lists(
        st.builds(
            Step,
            kind=st.sampled_from([StepKind.TOOL, StepKind.CHAT]),
            error=st.sampled_from(["", "timeout"]),
            cost=st.none() | st.sampled_from([0.5, 1.0]),
            seconds=st.sampled_from([0.0, 2.0]),
        ),
        max_size=3,
    ).map(tuple),
    usage=st.none() | st.builds(Usage, st.none() | st.integers(0, 3), st.none() | st.integers(0, 3)),
)
EXPRESSIONS = [
    "pii.score >= 0.5",
    "pii.score > 0.5 || 0.8 > pii.score",
    "pii.score == 0.5 || pii.score != 1",
    "toxicity.score > pii.score",
    "1.0 / toxicity.score > 2.0",
    "toxicity.values.response >= 0.5",
    'toxicity.values["response"] < 0.5 && 0.8 <= toxicity.values.response',
    "has(toxicity.values.prompt)",
    '"a.b" in toxicity.values',
    '"a.b" in drift.values && drift.values["a.b"] > 0.25',
    "size(drift.values) > 1",
    "drift.values[drift.reason] > 0.0",
    '"prompt" in (drift.scored ? drift.values : toxicity.values)',
    'pii.leaked.exists(e, e.kind == "US_SSN" && e.score >= 0.5)',
    "pii.evidence.exists(e, e.end - e.start > 4)",
    "size(pii.leaked) > 1",
    "size(hallucination.evidence) == 2",
    '"API_KEY" in hallucination.kinds',
    'hallucination.kinds[0] == "PERSON"',
    'hallucination.evidence[0].field == "response"',
    'hallucination.status == "error" || hallucination.reason == "no_context"',
    "hallucination.tier > 0 && hallucination.probability < 0.5",
    "hallucination.calibrated && trace.context > 0",
    "trace.latency > 1.5",
    "has(trace.latency) && trace.latency in [2.0]",
    "trace.input_tokens + trace.output_tokens > 3",
    'trace.app == "bot" && trace.messages >= 1',
    "trace.tool_calls == 1",
    "run.steps > 1 && run.tool_errors >= 1",
    "run.cost > 0.5",
    "has(run.tokens) && run.tokens > 2",
    'run.agent == "desk" && run.seconds < 2.0',
]
REMEMBERING = rules(*EXPRESSIONS)
FORGETTING = rules(*EXPRESSIONS, memo=0)


@settings(max_examples=500, deadline=None)
@given(TRACES, st.lists(ASSESSMENT, max_size=4, unique_by=lambda a: a.detector))
def test_memory_is_transparent(trace: Trace, assessments: list[Assessment]) -> None:
    """A set that remembers thousands of traces decides like one that remembers none, and twice the same."""
    decision = FORGETTING.decide(ORIGIN, trace, assessments)
    assert REMEMBERING.decide(ORIGIN, trace, assessments) == decision
    assert REMEMBERING.decide(ORIGIN, trace, list(reversed(assessments))) == decision


@settings(max_examples=100, deadline=None)
@given(
    st.lists(TRACES, min_size=1, max_size=3),
    st.lists(st.lists(ASSESSMENT, max_size=2, unique_by=lambda a: a.detector), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12),
)
def test_neighbours_do_not_matter(
    traces: list[Trace], several: list[list[Assessment]], order: list[tuple[int, int]]
) -> None:
    """Alike or different neighbours change no decision, even where a caller uses one list again and again."""
    used: list[Assessment] = []
    for trace_at, assessments_at in order:
        trace = traces[trace_at % len(traces)]
        used[:] = several[assessments_at % len(several)]
        assert REMEMBERING.decide(ORIGIN, trace, used) == FORGETTING.decide(ORIGIN, trace, used)


@settings(max_examples=300, deadline=None)
@given(TRACES, st.lists(ASSESSMENT, max_size=4, unique_by=lambda a: a.detector))
def test_the_projection_hides_nothing_a_rule_reads(trace: Trace, assessments: list[Assessment]) -> None:
    """Each rule decides as it would with every field of every variable in front of it."""
    missing = {name: said(name, status=Status.SKIPPED, score=None, reason="disabled") for name in DETECTORS}
    given_ = {**missing, **{assessment.detector: assessment for assessment in assessments}}
    values: dict[str, dict[str, Any]] = {}
    for name, assessment in given_.items():
        values[name] = {field: DETECTOR_FIELDS[field].get(assessment) for field in DETECTOR_FIELDS}
        for entries in ("evidence", "leaked"):
            values[name][entries] = [msgspec.structs.asdict(entry) for entry in values[name][entries]]
    fields = {field: TRACE_FIELDS[field].get(trace) for field in TRACE_FIELDS}
    values["trace"] = {field: value for field, value in fields.items() if value is not None}
    facts = {name: field.get(runs.facts(trace)) for name, field in RUN_FIELDS.items()}
    values["run"] = {field: value for field, value in facts.items() if value is not None}
    context = Context(values)
    decision = REMEMBERING.decide(ORIGIN, trace, assessments)
    outcomes = {flag.rule: "fired" for flag in decision.flags} | dict(decision.errors)
    for rule in REMEMBERING.rules:
        try:
            expected = "fired" if rule.expression.evaluate(context) else "quiet"
        except EvaluationError as error:
            expected = error.kind
        assert outcomes.get(rule.name, "quiet") == expected, rule.expr


@settings(max_examples=300, deadline=None)
@given(st.lists(SIGNAL, max_size=4), SIGNAL, SIGNAL)
def test_numbers_in_one_cell_compare_alike(thresholds: list[float], first: float, second: float) -> None:
    """No operator and no threshold tells two numbers of one cell apart."""
    ordered = sorted(t for t in thresholds if t == t)  # noqa: PLR0124 - a literal is never NaN
    if cell(first, ordered) != cell(second, ordered):
        return
    for threshold in ordered:
        assert (first < threshold, first == threshold) == (second < threshold, second == threshold)
        assert (first > threshold) == (second > threshold)


@given(st.tuples(st.text(max_size=5), st.integers(0, 9), st.integers(0, 99), st.integers(0, 9)))
def test_flag_ids_are_the_hash_of_where_and_which(origin: tuple[str, int, int, int]) -> None:
    """The id is SHA-256 over topic, partition, offset, part and rule, joined by NUL: the same for ever."""
    text = "\0".join([*map(str, origin), "Leak"])
    assert flag_id(Origin(*origin), "Leak") == hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    "expr",
    [
        "pii.evidence.filter(e, e.score > 0.1).size() > 1",
        "pii.evidence.map(e, e.kind).exists(k, k == 'x')",
        "pii.evidence.exists(e, " + " && ".join(["e.score > 0.1"] * 100) + " && false)",
    ],
)
def test_the_heaviest_rules_stay_bounded(expr: str) -> None:
    """A rule at the caps over a flood of evidence ends in well under a second of processor time."""
    flooded = said("pii", evidence=tuple(Evidence("response", i, i + 1, "K", 0.5) for i in range(5000)))
    begun = time.thread_time()
    rules(expr).decide(ORIGIN, TRACE, [flooded])
    assert time.thread_time() - begun < 1.0
