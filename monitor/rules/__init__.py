"""Rules: YAML files of CEL expressions over one trace's assessments, compiled into a decision.

`RuleBook` holds the rules in force and reloads them; its `current.decide(origin, trace, assessments)` gives
the flags of a trace. `run_tests` and `coverage` check the cases written next to the rules.
"""

from monitor.rules.book import Reload, RuleBook
from monitor.rules.cases import CaseResult, RuleCoverage, coverage, mutants, run_tests
from monitor.rules.files import default_paths
from monitor.rules.ruleset import Decision, Rule, RuleError, RuleSet, flag_id

__all__ = [
    "CaseResult",
    "Decision",
    "Reload",
    "Rule",
    "RuleBook",
    "RuleCoverage",
    "RuleError",
    "RuleSet",
    "coverage",
    "default_paths",
    "flag_id",
    "mutants",
    "run_tests",
]
