"""Tests of rules: runs the cases in rule files, and measures whether they would notice a wrong rule."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.findings import Assessment, Evidence, Status
from monitor.rules.expression import compile_
from monitor.rules.files import AssessmentCase, CaseSpec, RuleFile, RunCase, TraceCase, read
from monitor.rules.inputs import variables
from monitor.rules.lexer import ExpressionError, Lexeme, number, tokens
from monitor.rules.ruleset import DETECTORS, Rule, RuleSet, compile_files, parse_files
from monitor.trace import (
    TRAFFIC,
    Document,
    Message,
    Origin,
    Side,
    Step,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)

STEP = 0.01  # how far a threshold is moved to see whether a case notices
_ORIGIN = Origin("test", 0, 0, 0)
_SWAPS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    "exists": ("all",),
    "all": ("exists",),
    "true": ("false",),
    "false": ("true",),
}


class CaseResult(NamedTuple):
    """Outcome of one case: the alerts its file's rules raised, and those it expects; `errors` name a kind."""

    name: str
    file: str
    passed: bool
    got: tuple[str, ...]
    expected: tuple[str, ...]
    errors: tuple[str, ...]


class RuleCoverage(NamedTuple):
    """Numbers of cases in its file that exercise a rule.

    `firing` cases raise it; `quiet` ones do not, though they set a field it reads; `boundary` ones come out
    differently if one comparison is swapped or one threshold moves by STEP. `mutants` is how many
    such changes pass the static check, `killed` how many of them some case notices.
    """

    rule: str
    file: str
    firing: int
    quiet: int
    boundary: int
    mutants: int
    killed: int

    @property
    def complete(self) -> bool:
        """Return whether the rule has a case of each sort."""
        return bool(self.firing and self.quiet and self.boundary)


def run_tests(paths: Sequence[Path] = (), detectors: Sequence[str] = DETECTORS) -> list[CaseResult]:
    """Run every case against the rules of its own file; no paths means the packs that come with riskmon.

    Raises ConfigError when the files cannot be loaded.
    """
    results = []
    for file, rules in _loaded(paths, detectors):
        rule_set = RuleSet(rules)
        for case in file.spec.tests:
            decision = rule_set.decide(_ORIGIN, *_inputs(case))
            got = tuple(flag.rule for flag in decision.flags)
            errors = tuple(f"{error.rule}: {error.kind}" for error in decision.errors)
            passed = sorted(got) == sorted(case.expect)
            results.append(CaseResult(case.name, file.name, passed, got, tuple(case.expect), errors))
    return results


def coverage(paths: Sequence[Path] = (), detectors: Sequence[str] = DETECTORS) -> list[RuleCoverage]:
    """Return for every rule which sorts of cases it has, and which wrong rules they would notice.

    Raises ConfigError when the files cannot be loaded.
    """
    return [_coverage(file, rule, detectors) for file, rules in _loaded(paths, detectors) for rule in rules]


def mutants(expr: str) -> Iterator[str]:
    """Return variants of an expression that each differ in one comparison, threshold, text or connective."""
    for token in tokens(expr):
        for text in _variants(token):
            yield expr[: token.offset] + text + expr[token.offset + len(token.text) :]


def _variants(token: Lexeme) -> tuple[str, ...]:
    if token.kind == "double":
        return tuple(
            f"{float(token.text) + step:.6f}" for step in (STEP, -STEP) if float(token.text) + step >= 0
        )
    if token.kind == "int":
        return tuple(str(int(number(token)) + step) for step in (1, -1) if number(token) + step >= 0)
    if token.kind == "string":
        body, quote = token.text[1:-1], token.text[-1]
        others = [status.value for status in Status if status.value != body] if body in set(Status) else []
        return tuple(f"{quote}{text}{quote}" for text in others or [f"{body}~"])
    if token.text == "!":
        return ("!!",)
    return _SWAPS.get(token.text, ())


def _loaded(paths: Sequence[Path], detectors: Sequence[str]) -> list[tuple[RuleFile, list[Rule]]]:
    files = parse_files(read(paths))
    rules = compile_files(files, detectors)
    return [(file, [rule for rule in rules if rule.file == file.name]) for file in files]


def _inputs(case: CaseSpec) -> tuple[Trace, list[Assessment]]:
    trace = _trace(case.trace)
    if case.run is not None:
        trace = msgspec.structs.replace(trace, agent=case.run.agent, steps=_steps(case.run))
    return trace, [_assessment(name, assessment) for name, assessment in case.assessments.items()]


def _trace(case: TraceCase) -> Trace:
    return Trace(
        id="test",
        time=0.0,
        response="",
        **{name: getattr(case, name) for name in TRAFFIC},
        finish_reason=case.finish_reason,
        error=case.error,
        unread=(Unread(Side.RESPONSE, Unreadable.NO_CONTENT),) if case.blind else (),
        latency=case.latency,
        usage=Usage(case.input_tokens, case.output_tokens),
        messages=(Message(),) * case.messages,
        context=(Document(),) * case.context,
        tool_calls=(ToolCall(),) * case.tool_calls,
    )


def _steps(case: RunCase) -> tuple[Step, ...]:
    """Return steps of which `runs.facts` says what the case says."""
    counts = {
        StepKind.TOOL: case.tool_calls,
        StepKind.CHAT: case.chats,
        StepKind.RETRIEVAL: case.retrievals,
        StepKind.HANDOFF: case.handoffs,
    }
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    kinds += [StepKind.OTHER] * (max(case.steps, case.depth) - len(kinds))
    return tuple(
        Step(
            kind=kind,
            name=f"t{n % max(1, case.tools)}",
            parent=n - 1 if n < case.depth else -1,
            error="error" if n < case.tool_errors else "",
            seconds=case.seconds if n == 0 else 0.0,
            input_tokens=case.tokens if n == 0 else None,
            cost=case.cost if n == 0 else None,
        )
        for n, kind in enumerate(kinds)
    )


def _assessment(name: str, case: AssessmentCase) -> Assessment:
    evidence = [Evidence(e.field, e.start, e.end, e.kind, e.score, e.leaked) for e in case.evidence]
    return Assessment(
        detector=name,
        version="test",
        status=case.status,
        score=case.score if case.status is Status.SCORED else None,
        calibrated=case.calibrated,
        evidence=tuple(evidence),
        tier=case.tier,
        probability=case.probability,
        reason=case.reason,
        values=case.values,
    )


def _coverage(file: RuleFile, rule: Rule, detectors: Sequence[str]) -> RuleCoverage:
    cases = file.spec.tests
    outcomes = [_fires(rule, case) for case in cases]
    speaks = [bool(set(case.assessments) & set(rule.detectors)) or not rule.detectors for case in cases]
    tried = [_changes(rule, mutant, cases, outcomes, detectors) for mutant in mutants(rule.expr)]
    changes = [change for change in tried if change is not None]
    return RuleCoverage(
        rule=rule.name,
        file=file.name,
        firing=sum(outcomes),
        quiet=sum(not fires and says for fires, says in zip(outcomes, speaks, strict=True)),
        boundary=sum(any(column) for column in zip(*changes, strict=True)),
        mutants=len(changes),
        killed=sum(any(change) for change in changes),
    )


def _fires(rule: Rule, case: CaseSpec) -> bool:
    return bool(RuleSet([rule], memo_entries=0).decide(_ORIGIN, *_inputs(case)).flags)


def _changes(
    rule: Rule, mutant: str, cases: Sequence[CaseSpec], outcomes: Sequence[bool], detectors: Sequence[str]
) -> list[bool] | None:
    """Return per case whether the mutant decides otherwise; None if the static check refuses it."""
    try:
        expression = compile_(mutant, variables(detectors))
    except ExpressionError:
        return None
    changed = Rule(
        **{**{name: getattr(rule, name) for name in rule.__struct_fields__}, "expression": expression}
    )
    return [_fires(changed, case) != fires for case, fires in zip(cases, outcomes, strict=True)]
