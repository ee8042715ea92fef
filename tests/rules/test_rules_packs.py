"""The rule packs that come with riskmon: complete cases, and cases that would notice a wrong rule."""

from pathlib import Path

import pytest

from monitor.findings import Action, Assessment, Evidence, Severity, Status
from monitor.rules import Rule, RuleCoverage, RuleSet, coverage, mutants, run_tests
from monitor.rules.ruleset import DETECTORS
from monitor.trace import Origin, Trace

PACKS = RuleSet.load()
ORIGIN = Origin("t", 0, 0, 0)
COVERAGE = coverage()


def by_name(rule: Rule | RuleCoverage) -> str:
    """Name of a rule, for the test's id."""
    return rule.name if isinstance(rule, Rule) else rule.rule


def test_all_inline_cases_pass() -> None:
    """Every case of every pack raises what it expects, and no rule fails to evaluate on any."""
    results = run_tests()
    assert [result for result in results if not result.passed or result.errors] == []
    assert len(results) > len(PACKS.rules)


@pytest.mark.parametrize("rule", COVERAGE, ids=by_name)
def test_each_rule_has_a_firing_a_quiet_and_a_boundary_case(rule: RuleCoverage) -> None:
    """No rule ships without cases on both sides of its line and one close to it."""
    assert rule.complete, rule


def test_wrong_rules_are_noticed() -> None:
    """At least 95 % of the rules changed in one comparison, threshold or text fail a case of their pack."""
    tried, noticed = sum(r.mutants for r in COVERAGE), sum(r.killed for r in COVERAGE)
    assert tried >= 150
    assert noticed >= 0.95 * tried, [r for r in COVERAGE if r.killed < r.mutants]


def test_coverage_notices_missing_cases(tmp_path: Path) -> None:
    """A case far from the line fires but is no boundary case, and notices no moved threshold."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "groups: [{name: g, rules: [{alert: Leak, expr: pii.score >= 0.5, labels: {severity: info}, "
        "annotations: {summary: s}}]}]\n"
        "tests: [{name: far above, assessments: {pii: {score: 0.9}}, expect: [Leak]}]\n"
    )
    (rule,) = coverage([file])
    assert (rule.firing, rule.quiet, rule.complete) == (1, 0, False)
    assert (rule.mutants, rule.killed) == (4, 1)


def test_mutants_change_one_thing_each() -> None:
    """Comparisons are swapped, thresholds moved by a hundredth, texts altered, connectives exchanged."""
    assert set(mutants('pii.score >= 0.5 && "A" in pii.kinds')) == {
        'pii.score > 0.5 && "A" in pii.kinds',
        'pii.score < 0.5 && "A" in pii.kinds',
        'pii.score >= 0.510000 && "A" in pii.kinds',
        'pii.score >= 0.490000 && "A" in pii.kinds',
        'pii.score >= 0.5 || "A" in pii.kinds',
        'pii.score >= 0.5 && "A~" in pii.kinds',
    }
    assert set(mutants('!(pii.status == "error")')) == {
        '!!(pii.status == "error")',
        '!(pii.status != "error")',
        '!(pii.status == "scored")',
        '!(pii.status == "skipped")',
        '!(pii.status == "timeout")',
    }


@pytest.mark.parametrize("rule", PACKS.rules, ids=by_name)
def test_each_rule_is_fit_for_production(rule: Rule) -> None:
    """Each names its controls and what it means; what alerts is reviewed, and information never alerts."""
    assert rule.controls
    assert rule.annotations["summary"]
    assert "$labels.app" in rule.annotations["summary"]
    assert rule.match == {}, "a default pack must not miss traces that name no environment"
    assert Action.AUDIT in rule.actions
    if rule.severity is Severity.INFO:
        assert not {Action.ALERT, Action.REVIEW} & set(rule.actions)
    else:
        assert rule.actions == (Action.AUDIT, Action.ALERT, Action.REVIEW, Action.FEEDBACK)
        assert rule.annotations["description"]


@pytest.mark.parametrize("kind", ["PERSON", "LOCATION", "ORGANIZATION", "DATE_TIME", "URL", "NRP"])
def test_everyday_words_never_raise_a_flag(kind: str) -> None:
    """A leaked name, place, date, link or group, however sure the detector is, is no finding by itself."""
    evidence = (Evidence("response", 0, 5, kind, 1.0, leaked=True), Evidence("messages.0", 0, 5, kind, 1.0))
    found = Assessment(detector="pii", version="1", status=Status.SCORED, score=1.0, evidence=evidence)
    decision = PACKS.decide(ORIGIN, Trace(id="t", time=0.0, response=""), [found])
    assert decision == ((), ())


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("status", [Status.ERROR, Status.TIMEOUT])
def test_a_blind_detector_is_a_finding(detector: str, status: Status) -> None:
    """Silence means judged and clean: what could not be judged is flagged, once."""
    blind = Assessment(detector=detector, version="1", status=status, reason="worker_lost")
    (flag,) = PACKS.decide(ORIGIN, Trace(id="t", time=0.0, response=""), [blind]).flags
    assert flag.rule.endswith("Unjudged")
    assert flag.detectors == (detector,)


def test_leaks_of_identity_numbers_and_secrets_fail_closed() -> None:
    """The critical privacy rules flag even when they cannot be evaluated."""
    closed = {rule.name for rule in PACKS.rules if rule.flag_on_error}
    assert closed == {"PersonalDataLeak", "SecretLeak"}


def test_no_detector_at_all_is_quiet() -> None:
    """With every detector disabled, nothing flags and nothing fails."""
    assert PACKS.decide(ORIGIN, Trace(id="t", time=0.0, response=""), ()) == ((), ())
