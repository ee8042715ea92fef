"""A set of compiled rules and the decision it makes of a judged trace.

Rules that match a trace and read the same detectors form a group. A group's outcome is a pure function of
its projection, so the projection's key finds it in a memo: a trace like earlier ones costs a few dictionary
look-ups, and only an unseen combination reaches the expression engine. Traces without findings often have
the same assessments as the trace before; those cost one comparison.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from monitor.config import DetectorsConfig
from monitor.errors import ConfigError
from monitor.findings import Action, Assessment, Flag, Severity
from monitor.rules.expression import Context, EvaluationError, Expression, compile_
from monitor.rules.files import TEMPLATE, GroupSpec, Place, RuleFile, RuleSpec, parse, read
from monitor.rules.inputs import SUBJECTS, merged, subjects, variables
from monitor.rules.lexer import ExpressionError, suggestion
from monitor.rules.projection import Projection
from monitor.trace import Origin, Trace

DETECTORS = tuple(DetectorsConfig.model_fields)
MAX_RULES = 500
MEMO_ENTRIES = 8_192
MEMO_EVIDENCE = 16
MATCHES = 4_096  # distinct (app, environment, …) whose rules are remembered


class Rule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A compiled rule. `version` hashes all that makes its decision; `file` and `line` are its place.

    `caps` are the highest severities by glob of the environment; the first match applies.
    """

    name: str
    group: str
    expr: str
    version: str
    severity: Severity
    actions: tuple[Action, ...]
    controls: tuple[str, ...]
    labels: dict[str, str]
    annotations: dict[str, str]
    flag_on_error: bool
    match: dict[str, str]
    detectors: tuple[str, ...]
    expression: Expression
    file: str
    line: int
    caps: tuple[tuple[str, Severity], ...] = ()

    def severity_in(self, environment: str) -> Severity:
        """Return the severity of its flags in an environment; without a matching cap, the rule's own."""
        cap = next((most for glob, most in self.caps if matches(environment, glob)), self.severity)
        return min(self.severity, cap, key=list(Severity).index)


class RuleError(NamedTuple):
    """A rule that could not be evaluated on a trace. `kind` is one of `expression.ERROR_KINDS`."""

    rule: str
    kind: str


class Decision(NamedTuple):
    """Flags and errors that the rules raise on one trace, in the order of the rules."""

    flags: tuple[Flag, ...]
    errors: tuple[RuleError, ...]


QUIET = Decision((), ())
_LOUD = frozenset({Action.ALERT, Action.REVIEW})


class _Hit(NamedTuple):
    """A rule that fired, or failed to evaluate with an `error`."""

    rule: int
    error: str


class _Group(NamedTuple):
    """Rules evaluated together, by their index in the set."""

    number: int
    projection: Projection
    rules: tuple[int, ...]


class RuleSet:
    """Rules, compiled and immutable. Used from one thread only, because it remembers outcomes.

    `version` hashes every rule in order, so equal rules have equal versions on every machine and comments,
    layout and tests do not count.
    """

    def __init__(self, rules: Sequence[Rule], *, memo_entries: int = MEMO_ENTRIES) -> None:
        self.rules = tuple(rules)
        self.version = _hash([rule.version for rule in rules])
        self._matched = tuple(sorted({field for rule in rules for field in rule.match}))
        self._selector = attrgetter(*self._matched) if self._matched else None
        self._plans: dict[Hashable, tuple[_Group, ...]] = {}
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._memo: dict[Hashable, tuple[_Hit, ...]] = {}
        self._memo_entries = memo_entries
        reads = merged(rule.expression.reads for rule in rules)
        fields = {read[:2] for read in (*reads.exact, *reads.compared) if read[0] in SUBJECTS}
        self._subject_fields = [(read[0], SUBJECTS[read[0]][read[1]].get) for read in sorted(fields)]
        self._last: tuple[Hashable, tuple[Assessment, ...]] = (None, ())
        self._last_hits: tuple[_Hit, ...] = ()

    @classmethod
    def load(cls, paths: Sequence[Path] = (), detectors: Sequence[str] = DETECTORS) -> "RuleSet":
        """Read and compile rule files; no paths means the packs that come with riskmon.

        Raises ConfigError that lists every fault with file, line, column and a remedy.
        """
        return cls.compile(read(paths), detectors)

    @classmethod
    def compile(
        cls, contents: Sequence[tuple[str, bytes]], detectors: Sequence[str] = DETECTORS
    ) -> "RuleSet":
        """Compile files given by name and content. Raises ConfigError like `load`."""
        return cls(compile_files(parse_files(contents), detectors))

    def decide(self, origin: Origin, trace: Trace, assessments: Sequence[Assessment]) -> Decision:
        """Evaluate every matching rule. Pure: the same arguments always give the same decision.

        A rule that cannot be evaluated is in `errors`, and in `flags` too if it says `on_error: flag`.
        """
        selected = self._selector(trace) if self._selector else None
        about = subjects(trace)
        seen = (selected, *[get(about[subject]) for subject, get in self._subject_fields])
        # Compared as a whole, before any key is built: many traces in a row get equal assessments.
        latest = (seen, tuple(assessments))
        if latest != self._last or not self._memo_entries:
            self._last_hits = self._hits(selected, trace, about, assessments)
            self._last = latest
        hits = self._last_hits
        return self._decision(origin, trace, sorted(hits)) if hits else QUIET

    def _hits(
        self,
        selected: Hashable,
        trace: Trace,
        about: Mapping[str, Any],
        assessments: Sequence[Assessment],
    ) -> tuple[_Hit, ...]:
        plan = self._plans.get(selected)
        if plan is None:
            plan = self._plan(selected, trace)
        by_detector = {assessment.detector: assessment for assessment in assessments}
        hits: tuple[_Hit, ...] = ()
        for group in plan:
            key = (group.number, group.projection.key(about, by_detector))
            outcome = self._memo.get(key)
            if outcome is None:
                outcome = self._evaluate(group, about, by_detector)
                # A key with much evidence is large and will hardly come again.
                if sum(len(assessment.evidence) for assessment in assessments) <= MEMO_EVIDENCE:
                    self._remember(key, outcome)
            if outcome:
                hits += outcome
        return hits

    def _plan(self, selected: Hashable, trace: Trace) -> tuple[_Group, ...]:
        by_detectors: dict[tuple[str, ...], list[int]] = {}
        for index, rule in enumerate(self.rules):
            if all(matches(getattr(trace, field), glob) for field, glob in rule.match.items()):
                by_detectors.setdefault(rule.detectors, []).append(index)
        plan = tuple(self._group(tuple(indexes)) for indexes in by_detectors.values())
        # Apps and models are named by the traffic, so what is kept per name is bounded.
        if len(self._plans) >= MATCHES:
            self._plans.clear()
        self._plans[selected] = plan
        return plan

    def _group(self, indexes: tuple[int, ...]) -> _Group:
        if indexes not in self._groups:
            if len(self._groups) >= MATCHES:
                # Group numbers start again, and plans and memo refer to the old ones.
                self._groups.clear()
                self._plans.clear()
                self._memo.clear()
            reads = merged(self.rules[index].expression.reads for index in indexes)
            self._groups[indexes] = _Group(len(self._groups), Projection(reads), indexes)
        return self._groups[indexes]

    def _evaluate(
        self, group: _Group, about: Mapping[str, Any], by_detector: Mapping[str, Assessment]
    ) -> tuple[_Hit, ...]:
        try:
            context = Context(group.projection.values(about, by_detector))
        except EvaluationError as error:
            # All rules of a group read the same values, so all of them fail where one value does.
            return tuple(_Hit(index, error.kind) for index in group.rules)
        hits = []
        for index in group.rules:
            try:
                if self.rules[index].expression.evaluate(context):
                    hits.append(_Hit(index, ""))
            except EvaluationError as error:
                hits.append(_Hit(index, error.kind))
        return tuple(hits)

    def _remember(self, key: Hashable, outcome: tuple[_Hit, ...]) -> None:
        if self._memo_entries:
            if len(self._memo) >= self._memo_entries:
                self._memo.clear()  # an order of use would cost more on every hit than a refill now and then
            self._memo[key] = outcome

    def _decision(self, origin: Origin, trace: Trace, hits: Sequence[_Hit]) -> Decision:
        fired = [hit for hit in hits if not hit.error or self.rules[hit.rule].flag_on_error]
        return Decision(
            tuple(_flag(self.rules[hit.rule], origin, trace, hit.error) for hit in fired),
            tuple(RuleError(self.rules[hit.rule].name, hit.error) for hit in hits if hit.error),
        )


def flag_id(origin: Origin, rule: str) -> str:
    """Return the id of the flag that a rule raises at an origin: 32 hex of SHA-256, the same on every run."""
    return hashlib.sha256("\0".join([*origin.names, rule]).encode()).hexdigest()[:32]


def matches(text: str, glob: str) -> bool:
    """Match a text against a glob in which only `*` is special. Linear time."""
    head, *parts = glob.split("*")
    if not parts:
        return text == glob
    *middle, tail = parts
    at, end = len(head), len(text) - len(tail)
    if at > end or not text.startswith(head) or not text.endswith(tail):
        return False
    for part in middle:
        index = text.find(part, at, end)
        if index < 0:
            return False
        at = index + len(part)
    return True


def _flag(rule: Rule, origin: Origin, trace: Trace, error: str) -> Flag:
    severity = rule.severity_in(trace.environment)
    # A flag that its environment lowers to information sends no alert and asks for no review.
    silent = severity is Severity.INFO and rule.severity is not Severity.INFO
    known = {
        "agent": trace.agent or "unknown",
        **rule.labels,
        "app": trace.app,
        "environment": trace.environment,
        "provider": trace.provider,
        "model": trace.model,
        "rule": rule.name,
        "severity": severity.value,
    }
    return Flag(
        id=flag_id(origin, rule.name),
        rule=rule.name,
        rule_version=rule.version,
        severity=severity,
        actions=tuple(a for a in rule.actions if a not in _LOUD) if silent else rule.actions,
        detectors=rule.detectors,
        labels={**rule.labels, "rule_error": error} if error else rule.labels,
        annotations={
            name: TEMPLATE.sub(lambda match: known[match[1]], text) if "{{" in text else text
            for name, text in rule.annotations.items()
        },
        controls=rule.controls,
    )


def parse_files(contents: Sequence[tuple[str, bytes]]) -> list[RuleFile]:
    """Parse every file. Raises ConfigError that lists the faults of form of all of them."""
    files, problems = [], []
    for name, content in contents:
        try:
            files.append(parse(name, content))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return files


def compile_files(files: Sequence[RuleFile], detectors: Sequence[str] = DETECTORS) -> list[Rule]:
    """Compile the rules of all files. Raises ConfigError that lists every fault of meaning."""
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    caps, problems = _caps(files)
    for file in files:
        for g, group in enumerate(file.spec.groups):
            for r, spec in enumerate(group.rules):
                place: Place = ("groups", g, "rules", r)
                location = file.at((*place, "alert"))
                if spec.alert in seen:
                    problems.append(
                        f"{location}: alert {spec.alert} is also defined at {seen[spec.alert]}; rename one"
                    )
                seen.setdefault(spec.alert, location)
                try:
                    expression = compile_(spec.expr, variables(detectors))
                    rules.append(_rule(spec, group, expression, location, detectors, caps))
                except ExpressionError as error:
                    where = file.at((*place, "expr"), error.offset)
                    problems.append(f"{where}: expr of {spec.alert}: {error}")
        problems += _case_problems(file, detectors)
    if len(rules) > MAX_RULES:
        problems.append(f"{len(rules)} rules are more than {MAX_RULES}; drop some")
    if problems:
        raise ConfigError("\n".join(problems))
    return rules


def _caps(files: Sequence[RuleFile]) -> tuple[tuple[tuple[str, Severity], ...], list[str]]:
    """Return the caps of the one file that sets them, and what is wrong if several do."""
    setting = [file for file in files if file.spec.environments]
    problems = [
        f"{file.at(('environments',), key=True)}: environments are also set at"
        f" {setting[0].at(('environments',), key=True)}; set them in one file"
        for file in setting[1:]
    ]
    spec = setting[0].spec.environments if setting else {}
    return tuple((glob, most.max_severity) for glob, most in spec.items()), problems


def _rule(
    spec: RuleSpec,
    group: GroupSpec,
    expression: Expression,
    location: str,
    detectors: Sequence[str],
    caps: tuple[tuple[str, Severity], ...],
) -> Rule:
    file, line, _ = location.rsplit(":", 2)
    read_from = expression.reads.variables() - set(SUBJECTS)
    return Rule(
        name=spec.alert,
        group=group.name,
        expr=spec.expr,
        version=_hash([group.name, group.match.conditions(), spec.model_dump(mode="json"), *caps]),
        severity=spec.severity,
        actions=tuple(dict.fromkeys(spec.actions)),
        controls=tuple(spec.controls),
        labels={name: value for name, value in spec.labels.items() if name != "severity"},
        annotations={name: text for name, text in spec.annotations if text},
        flag_on_error=spec.on_error == "flag",
        match=group.match.conditions(),
        detectors=tuple(name for name in detectors if name in read_from),
        expression=expression,
        file=file,
        line=int(line),
        caps=caps,
    )


def _case_problems(file: RuleFile, detectors: Sequence[str]) -> list[str]:
    """Return the faults of test cases that name an unknown alert or detector."""
    problems = []
    alerts = {rule.alert for group in file.spec.groups for rule in group.rules}
    for number, case in enumerate(file.spec.tests):
        place: Place = ("tests", number)
        problems += [
            f"{file.at((*place, 'expect', i))}: no alert {name} in this file{suggestion(name, alerts)}"
            for i, name in enumerate(case.expect)
            if name not in alerts
        ]
        for name in case.assessments:
            if name not in detectors:
                location = file.at((*place, "assessments", name), key=True)
                problems.append(f"{location}: no detector {name}{suggestion(name, detectors)}")
    return problems


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
