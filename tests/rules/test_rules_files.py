"""Rule files: what is refused, where, and with which remedy."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import load
from monitor.errors import ConfigError
from monitor.findings import Action, Assessment, Flag, Severity, Status
from monitor.rules import RuleSet, default_paths, run_tests
from monitor.rules.files import MatchSpec, TraceCase
from monitor.rules.ruleset import MAX_RULES
from monitor.strict_yaml import shown_key
from monitor.trace import TRAFFIC, Origin, Trace

GOOD = """\
groups:
  - name: privacy
    match: {environment: production, app: "support-*"}
    rules:
      - alert: Leak
        expr: pii.score >= 0.5
        labels: {severity: critical, team: care}
        annotations: {summary: "{{ $labels.app }} leaks", runbook_url: "https://runbooks.example/leak"}
        controls: ["NIST-AI-600-1:MG-4.1-002"]
        actions: [audit, alert]
tests:
  - name: a leak fires
    trace: {app: support-bot}
    assessments: {pii: {score: 0.5}}
    expect: [Leak]
"""


def compiled(text: str) -> RuleSet:
    """Compile one file."""
    return RuleSet.compile([("rules.yaml", text.encode())])


def test_a_good_file_is_read_as_written() -> None:
    """Every part of a rule arrives where the decision uses it."""
    (rule,) = compiled(GOOD).rules
    assert (rule.name, rule.group, rule.severity) == ("Leak", "privacy", Severity.CRITICAL)
    assert rule.labels == {"team": "care"}
    assert rule.actions == (Action.AUDIT, Action.ALERT)
    assert rule.detectors == ("pii",)
    assert rule.match == {"environment": "production", "app": "support-*"}
    assert (rule.file, rule.line) == ("rules.yaml", 5)
    assert not rule.flag_on_error


def test_actions_default_to_the_audit_record() -> None:
    """A rule that names no action is still on record."""
    (rule,) = compiled(GOOD.replace("        actions: [audit, alert]\n", "")).rules
    assert rule.actions == (Action.AUDIT,)


@pytest.mark.parametrize(
    ("old", "new", "position", "hint"),
    [
        ("groups:", "group:", "1:1", "no such key; did you mean groups?"),
        ("  - name: privacy", "  - nam: privacy", "2:5", "no such key; did you mean name?"),
        ("name: privacy", "name: ''", "2:11", "should match pattern"),
        ("environment: production", "enviroment: x", "3:13", "did you mean environment?"),
        ("environment: production", "environment: 1", "3:26", "should be a valid string"),
        ("    match:", "    matches:", "3:5", "did you mean match?"),
        ("alert: Leak", "alert: leak", "5:16", "should match pattern"),
        ("alert: Leak", "alert: [Leak]", "5:16", "should be a valid string"),
        ("- alert: Leak", "- record: Leak", "5:9", "no such key; use one of"),
        ("expr: pii.score >= 0.5", "exp: pii.score >= 0.5", "6:9", "did you mean expr?"),
        ("pii.score >= 0.5", "pi.score >= 0.5", "6:15", "unknown variable pi; did you mean pii?"),
        ("pii.score >= 0.5", "pii.scores >= 0.5", "6:19", "did you mean score?"),
        (
            "expr: pii.score >= 0.5",
            "expr: >-\n          pii.scored\n          && pi.scored",
            "8:14",
            "did you mean pii?",
        ),
        (
            "expr: pii.score >= 0.5",
            "expr: |\n          pii.scored &&\n          pi.scored",
            "8:11",
            "did you mean pii?",
        ),
        ("expr: pii.score >= 0.5", "expr: 'pii.reason == ''x'' && pi.scored'", "6:39", "did you mean pii?"),
        ("expr: pii.score >= 0.5", 'expr: "pii.reason == \\"x\\" && pi.scored"', "6:39", "did you mean pii?"),
        ("pii.score >= 0.5", "pii.score >= ", "6:27", "ends too early"),
        ("pii.score >= 0.5", "pii.score", "6:15", "must be true or false"),
        ("pii.score >= 0.5", "true", "6:15", "should be a valid string"),
        ("severity: critical", "severity: urgent", "5:9", "severity must be one of info, warning, critical"),
        ("severity: critical, ", "", "5:9", "severity must be one of"),
        ("team: care", "team: 7", "7:44", "should be a valid string"),
        ("team: care", "Team: care", "7:38", "should match pattern"),
        ("team: care", "rule: other", "5:9", "label rule is set by riskmon"),
        ('summary: "{{ $labels.app }} leaks", ', "", "8:22", "summary: is missing"),
        ("$labels.app", "$labels.ap", "5:9", "annotation label ap is unknown; did you mean app?"),
        ("{{ $labels.app }}", "{{ $value }}", "5:9", "templates run nothing"),
        ("leaks", "leaks \\a", "8:32", "no control characters"),
        ("https://runbooks.example/leak", "javascript:x", "8:72", "should match pattern"),
        ("NIST-AI-600-1:MG-4.1-002", "no spaces", "9:20", "should match pattern"),
        ("[audit, alert]", "[audit, alrt]", "10:26", "did you mean alert?"),
        ("[audit, alert]", "[]", "10:18", "at least 1 item"),
        ("        actions:", "        on_error: page\n        actions:", "10:19", "use one of count, flag"),
        ("        actions:", "        for: 5m\n        actions:", "10:9", "no such key"),
        ("app: support-bot", "apps: support-bot", "13:13", "did you mean app?"),
        ("score: 0.5}}", "score: 1.5}}", "14:32", "less than or equal to 1"),
        ("score: 0.5}}", "status: scord}}", "14:33", "did you mean scored?"),
        ("{pii: {score", "{pi: {score", "14:19", "no detector pi; did you mean pii?"),
        ("expect: [Leak]", "expect: [Leek]", "15:14", "no alert Leek in this file; did you mean Leak?"),
        ("    expect: [Leak]\n", "", "12:5", "expect: is missing"),
        ("    trace:", "    trace: {}\n    trace:", "14", "occurs twice; remove one"),
        ("{environment: production", "!!map {environment: production", "3", "tags"),
        ("match: {", "match: {{", "4:5", "not valid YAML"),
        ("    rules:", "    rules: [", "", "not valid YAML"),
        ("name: privacy", "name: *privacy", "2", "aliases are not allowed"),
        ("score: 0.5}}", "score: 0.5, evidence: " + "[" * 30 + "]" * 30 + "}}", "14", "nested deeper"),
        ("team: care", 'team: "\\ud800"', "7:44", "half a character"),
    ],
)
def test_each_fault_is_placed_and_has_a_remedy(old: str, new: str, position: str, hint: str) -> None:
    """A wrong file is refused with file, line, column and what to write instead."""
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        compiled(GOOD.replace(old, new, 1))
    where = f"rules.yaml:{position}:" if ":" in position else "rules.yaml:"
    lines = [line for line in str(caught.value).splitlines() if hint in line]
    assert [line for line in lines if line.startswith(where) and position in line], str(caught.value)


def test_every_fault_of_every_file_is_listed_at_once() -> None:
    """An operator sees all that is wrong in one go, not one fault for each try."""
    first = GOOD.replace("pii.score", "pii.scor").replace("expect: [Leak]", "expect: [Leek]")
    second = GOOD.replace("Leak", "Other").replace("pii.score", "toxcity.score")
    with pytest.raises(ConfigError) as caught:
        RuleSet.compile([("a.yaml", first.encode()), ("b.yaml", second.encode())])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.yaml", "a.yaml", "b.yaml"]


def test_alert_names_are_unique_over_all_files() -> None:
    """The same name twice is refused, and both places are named."""
    with pytest.raises(
        ConfigError, match=r"b\.yaml:5:16: alert Leak is also defined at a\.yaml:5:16; rename"
    ):
        RuleSet.compile([("a.yaml", GOOD.encode()), ("b.yaml", GOOD.encode())])


def test_the_number_of_rules_is_capped() -> None:
    """MAX_RULES rules pass; one more is refused."""

    def rules(count: int) -> str:
        rule = {"expr": "true", "labels": {"severity": "info"}, "annotations": {"summary": "s"}}
        return json.dumps(  # which is YAML too, and writes no aliases
            {"groups": [{"name": "g", "rules": [{"alert": f"A{i}", **rule} for i in range(count)]}]}
        )

    assert len(compiled(rules(MAX_RULES)).rules) == MAX_RULES
    with pytest.raises(ConfigError, match=f"more than {MAX_RULES}"):
        compiled(rules(MAX_RULES + 1))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder / "missing.yaml", "give a rule file or a folder"),
        (lambda folder: folder, "holds no *.yaml file"),
        (lambda folder: written(folder / "a.yml", GOOD.encode()).parent, "rename it to a.yaml"),
        (lambda folder: written(folder / "a.yaml", b"\xff"), "not UTF-8"),
        (lambda folder: written(folder / "a.yaml", b""), "must be a mapping"),
        (lambda folder: written(folder / "a.yaml", b"- x"), "must be a mapping"),
        (lambda folder: written(folder / "a.yaml", b"#" * 262_145), "larger than"),
        (lambda folder: fifo(folder / "a.yaml").parent, "not a file"),
    ],
)
def test_files_that_cannot_be_rules_are_named(
    tmp_path: Path, prepare: Callable[[Path], Path], message: str
) -> None:
    """Missing, empty, binary, huge and special files are refused without hanging."""
    with pytest.raises(ConfigError) as caught:
        RuleSet.load([prepare(tmp_path)])
    assert message in str(caught.value)


def written(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path


def fifo(path: Path) -> Path:
    """Make a pipe that nobody writes to: opening it would block for ever."""
    os.mkfifo(path)
    return path


def test_a_folder_gives_only_its_own_yaml_files(tmp_path: Path) -> None:
    """Sub-folders (Prometheus' own rules) and hidden files (a ConfigMap's) are left alone."""
    written(tmp_path / "a.yaml", GOOD.encode())
    (tmp_path / "prometheus").mkdir()
    for name in ("prometheus/b.yaml", ".hidden.yaml", "README.md"):
        written(tmp_path / name, b"not rules")
    assert [rule.file for rule in RuleSet.load([tmp_path]).rules] == [str(tmp_path / "a.yaml")]


def test_no_paths_means_the_packs_that_come_with_riskmon() -> None:
    """The default is the seven packs, and they are the same by either spelling."""
    assert RuleSet.load().version == RuleSet.load(default_paths()).version
    assert {Path(rule.file).stem for rule in RuleSet.load().rules} == {
        "hallucination",
        "hallucination_guardrails",
        "privacy",
        "toxicity",
        "injection",
        "drift",
        "agents",
    }


def test_inline_tests_tell_what_came_and_what_was_expected(tmp_path: Path) -> None:
    """A failing case reports the alerts it got, the ones it wanted and what could not be evaluated."""
    wrong = GOOD.replace("score: 0.5}}", "score: 0.4}}").replace("pii.score >= 0.5", "pii.values.x >= 0.5")
    (result,) = run_tests([written(tmp_path / "a.yaml", wrong.encode())])
    assert (result.passed, result.got, result.expected) == (False, (), ("Leak",))
    assert result.errors == ("Leak: missing_value",)


def test_cases_are_held_against_their_own_file_only(tmp_path: Path) -> None:
    """A pack added beside another does not break the other's cases."""
    written(tmp_path / "a.yaml", GOOD.encode())
    written(tmp_path / "b.yaml", GOOD.replace("Leak", "Other").encode())
    assert [result.passed for result in run_tests([tmp_path])] == [True, True]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["Leak", "pii.score > 0.5", "critical", "{{ $labels.app }}", "audit", "scored"])
)
WORDS = """groups name match rules alert expr labels severity annotations summary controls actions on_error
tests trace assessments pii score evidence kind values expect app"""
KEYS = st.sampled_from(WORDS.split())
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


def mutated(tree: Any, path: list[int], value: Any) -> Any:
    """Replace one part of a tree, found by walking `path` modulo the number of children."""
    if not path or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    chosen = keys[path[0] % len(keys)]
    copy = tree.copy()
    copy[chosen] = mutated(tree[chosen], path[1:], value)
    return copy


def refused_or_compiled(content: bytes) -> None:
    """Compile, and let nothing but ConfigError out."""
    try:
        assert RuleSet.compile([("fuzz.yaml", content)]).rules
    except ConfigError as error:
        assert str(error).startswith("fuzz.yaml")  # noqa: PT017 - one of two outcomes


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), TREES)
def test_damaged_rule_files_are_refused_cleanly(path: list[int], value: Any) -> None:
    """Whatever stands in place of any part of a good file, the outcome is rules or a ConfigError."""
    tree = mutated(yaml.safe_load(GOOD), path, value)
    refused_or_compiled(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, len(GOOD)), st.integers(0, 30))
def test_damaged_bytes_are_refused_cleanly(insert: bytes, at: int, cut: int) -> None:
    """Bytes cut out of a good file and others put in: the outcome is rules or a ConfigError."""
    content = GOOD.encode()
    refused_or_compiled(content[:at] + insert + content[at + cut :])


@settings(max_examples=200, deadline=None)
@given(st.text("groups:-[]{}&*!|>'\"%@`#?, \n\t0123456789.aZ", max_size=80))
def test_any_yaml_is_refused_cleanly(text: str) -> None:
    """No YAML, valid or not, raises anything but ConfigError."""
    refused_or_compiled(text.encode())


ENVIRONMENTS = b"environments: {sandbox: {max_severity: warning}, 'dev-*': {max_severity: info}}"


def flagged(rule_set: RuleSet, environment: str) -> Flag:
    """The flag of a leak in an environment."""
    found = Assessment(detector="pii", version="1", status=Status.SCORED, score=0.9)
    trace = Trace(id="t", time=0.0, response="", app="support-bot", environment=environment)
    (flag,) = rule_set.decide(Origin("t", 0, 0, 0), trace, [found]).flags
    return flag


def test_one_file_sets_how_severe_flags_may_be_by_environment() -> None:
    """A rule of any file is lowered to the environment's severity; what is not named keeps the rule's own."""
    anywhere = GOOD.replace("environment: production, ", "").encode()
    rule_set = RuleSet.compile([("a.yaml", anywhere), ("environments.yaml", ENVIRONMENTS)])
    severities = {name: flagged(rule_set, name).severity for name in ("production", "sandbox", "unknown")}
    assert severities == {
        "production": Severity.CRITICAL,
        "sandbox": Severity.WARNING,
        "unknown": Severity.CRITICAL,
    }
    assert flagged(rule_set, "sandbox").actions == (Action.AUDIT, Action.ALERT)
    assert flagged(rule_set, "dev-7").severity is Severity.INFO
    assert flagged(rule_set, "dev-7").actions == (Action.AUDIT,), "information alerts nobody"


def test_a_cap_never_raises_a_severity() -> None:
    """A rule below the cap stays as it is, with all its actions."""
    mild = GOOD.replace("environment: production, ", "").replace("critical", "info").encode()
    rule_set = RuleSet.compile([("a.yaml", mild), ("environments.yaml", ENVIRONMENTS)])
    assert flagged(rule_set, "sandbox").severity is Severity.INFO
    assert flagged(rule_set, "dev-7").actions == (Action.AUDIT, Action.ALERT)


def test_environments_are_part_of_every_version() -> None:
    """A flag's rule version tells under which caps it was raised."""
    plain = compiled(GOOD)
    capped = RuleSet.compile([("rules.yaml", GOOD.encode()), ("e.yaml", ENVIRONMENTS)])
    other = ENVIRONMENTS.replace(b"max_severity: warning", b"max_severity: info")
    lower = RuleSet.compile([("rules.yaml", GOOD.encode()), ("e.yaml", other)])
    assert len({plain.version, capped.version, lower.version}) == 3
    assert len({rule_set.rules[0].version for rule_set in (plain, capped, lower)}) == 3


def test_environments_stand_in_one_file() -> None:
    """Two files that set them would contradict each other some day; both places are named."""
    with pytest.raises(ConfigError, match=r"b\.yaml:1:1: environments are also set at a\.yaml:1:1; set"):
        RuleSet.compile([("a.yaml", ENVIRONMENTS), ("b.yaml", ENVIRONMENTS)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("environments: {sandbox: {max_severity: mild}}", "is not a known value"),
        ("environments: {sandbox: {severity: info}}", "no such key"),
        ("environments: {}", "holds no groups"),
        ("groups: []", "holds no groups"),
    ],
)
def test_environments_are_read_strictly(text: str, told: str) -> None:
    """An unknown severity or key, and a file with neither rules nor environments, is refused."""
    with pytest.raises(ConfigError, match=told):
        compiled(text)


def test_the_packs_lower_what_is_not_production() -> None:
    """As shipped, nothing is critical in a sandbox or in staging; production and unknown are not lowered."""
    for rule in RuleSet.load().rules:
        assert rule.severity_in("sandbox") is not Severity.CRITICAL
        assert rule.severity_in("staging") is not Severity.CRITICAL
        assert rule.severity_in("production") is rule.severity_in("unknown") is rule.severity


def test_groups_and_cases_know_all_that_identifies_traffic() -> None:
    """Each field of `Traffic` can be matched by a group, and set by a test case, under its own name."""
    assert set(MatchSpec.model_fields) == set(TRAFFIC)
    assert set(TRAFFIC) <= set(TraceCase.model_fields)


SECRET_FILES = (
    "root:$6$sAlTcAnArY$hAsH:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "cAnArY$hAsH: 19000\n",
    "AKIA0123456789cAnArY: x\n",
    "? [cAnArY]\n: x\n",
    "cAnArY0123456789: 1\ncAnArY0123456789: 2\n",
    "-----BEGIN PRIVATE KEY-----\ncAnArY+/=\n-----END PRIVATE KEY-----\n",
    "[client]\npassword=cAnArY1%\n",
    "password: 'cAnArY1\n",
    "groups: [{name: 'cAnArY1!', rules: [{alert: 'cAnArY!', 'cAnArY 1': 2}]}]\n",
    "machine h login u password cAnArY\n",
    "\tcAnArY\n",
    "%cAnArY\n",
    "&cAnArY1 x: *cAnArY1\n",
    "!cAnArY1 x\n",
    "{{ cAnArY1 }}\n",
)


@pytest.mark.parametrize("content", SECRET_FILES)
def test_a_file_of_secrets_is_not_echoed(tmp_path: Path, content: str) -> None:
    """A rule file or configuration that is a link to one is refused without a word of it."""
    (tmp_path / "secret").write_text(content, encoding="utf-8")
    for name in ("rules.yaml", "riskmon.yaml"):
        (tmp_path / name).symlink_to(tmp_path / "secret")
    for read_it in (
        lambda: RuleSet.load([tmp_path / "rules.yaml"]),
        lambda: load(tmp_path / "riskmon.yaml", {}),
    ):
        with pytest.raises(ConfigError) as refused:
            read_it()
        assert "cAnArY" not in str(refused.value)


@given(st.text(max_size=80))
def test_only_names_are_echoed(key: str) -> None:
    """Whatever else a key is, a message says that it is no name; and it is never long."""
    shown = shown_key(key)
    assert shown in {key, "(not a name)"}
    assert shown == "(not a name)" or re.fullmatch(r"[A-Za-z0-9_.-]+", shown)
