"""Rule files: YAML in the shape of Prometheus rules, read strictly; every fault has file, line and column."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitor.errors import ConfigError
from monitor.findings import ALERT_LABELS, Action, Severity, Status
from monitor.rules.lexer import suggestion
from monitor.strict_yaml import MAX_FILE_BYTES, load_marked_yaml, shown_key

MAX_DEPTH = 20
# Labels that an alert gets from the trace and the rule; a rule's own may not replace them.
OWNED_LABELS = frozenset(
    {*ALERT_LABELS, "provider", "rule", "rule_version", "rule_error", "instance"} - {"severity"}
)
TEMPLATE_LABELS = ("agent", "app", "environment", "provider", "model", "rule", "severity")
TEMPLATE = re.compile(r"\{\{\s*\$labels\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indexes that lead to a part of a file, such as ("groups", 0, "rules", 2, "expr")."""


def _printable(text: str) -> str:
    if any(not c.isprintable() and c not in "\n\t" for c in text):
        raise ValueError("must hold no control characters")
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Name = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{1,63}$")]
LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Glob = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=0, le=1000)]
Count = Annotated[int, Field(ge=0, le=10_000)]


class _Strict(BaseModel):
    """A mapping of a rule file. Unknown keys are errors; a number is never read as text or the reverse."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class MatchSpec(_Strict):
    """The traces of a group: every field given must match, exactly or with `*` for any text."""

    app: Glob | None = None
    environment: Glob | None = None
    provider: Glob | None = None
    model: Glob | None = None
    model_version: Glob | None = None
    prompt_name: Glob | None = None
    prompt_version: Glob | None = None

    def conditions(self) -> dict[str, str]:
        """Return the fields that are set, by name."""
        return {name: value for name, value in self if value is not None}


class AnnotationSpec(_Strict):
    """Texts of an alert. `{{ $labels.app }}` is replaced; nothing else of a trace can appear."""

    summary: Text
    description: Text = ""
    runbook_url: Annotated[Text, Field(pattern=r"^(https?://\S+)?$")] = ""


class RuleSpec(_Strict):
    """One rule.

    `on_error` says what an expression that cannot be evaluated means: `count` only counts it (the default),
    `flag` also flags the trace, for rules that must fail closed.
    """

    alert: Name
    expr: str
    labels: dict[LabelName, Annotated[Text, Field(min_length=1)]]
    annotations: AnnotationSpec
    controls: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:()/-]{1,63}$")]] = []
    actions: Annotated[list[Annotated[Action, Field(strict=False)]], Field(min_length=1)] = [Action.AUDIT]
    on_error: Literal["count", "flag"] = "count"

    @property
    def severity(self) -> Severity:
        """Return the severity of the rule's flags."""
        return Severity(self.labels["severity"])

    @model_validator(mode="after")
    def _labels_are_ours_to_set(self) -> "RuleSpec":
        severities = [severity.value for severity in Severity]
        if self.labels.get("severity") not in severities:
            raise ValueError(f"labels.severity must be one of {', '.join(severities)}")
        if taken := OWNED_LABELS & set(self.labels):
            raise ValueError(f"label {min(taken)} is set by riskmon; use another name")
        for text in (self.annotations.summary, self.annotations.description):
            _check_template(text, {*TEMPLATE_LABELS, *self.labels})
        return self


class GroupSpec(_Strict):
    """Rules that share a name and a match."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    match: MatchSpec = MatchSpec()
    rules: Annotated[list[RuleSpec], Field(min_length=1)]


class EvidenceCase(_Strict):
    """Evidence of a test case; only the kind matters to most rules."""

    kind: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    score: Share = 1.0
    leaked: bool = False
    field: str = "response"
    start: Size = 0
    end: Size = 1


class AssessmentCase(_Strict):
    """A detector's assessment in a test case."""

    status: Annotated[Status, Field(strict=False)] = Status.SCORED
    score: Share = 0.0
    calibrated: bool = True
    reason: str = ""
    tier: Size = 0
    probability: Share = 1.0
    evidence: list[EvidenceCase] = []
    values: dict[str, float] = {}


class TraceCase(_Strict):
    """The trace of a test case; messages, context and tool calls are given as counts."""

    app: str = "unknown"
    environment: str = "production"
    provider: str = "unknown"
    model: str = "unknown"
    model_version: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    finish_reason: str = ""
    error: str = ""
    blind: bool = False
    latency: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    messages: Size = 1
    context: Size = 0
    tool_calls: Size = 0


class RunCase(_Strict):
    """The run of a test case. `steps` are at least those of the kinds given."""

    agent: str = ""
    steps: Count = 0
    tool_calls: Count = 0
    tools: Count = 1
    tool_errors: Count = 0
    chats: Count = 0
    retrievals: Count = 0
    handoffs: Count = 0
    depth: Count = 1
    tokens: int | None = None
    cost: float | None = None
    seconds: float = 0.0


class CaseSpec(_Strict):
    """A test of the file's own rules: the alerts expected, no more and no less."""

    name: Annotated[Text, Field(min_length=1)]
    trace: TraceCase = TraceCase()
    run: RunCase | None = None
    assessments: dict[str, AssessmentCase] = {}
    expect: list[str]


class EnvironmentSpec(_Strict):
    """Limit for every rule in an environment: the highest severity of its flags."""

    max_severity: Annotated[Severity, Field(strict=False)]


class FileSpec(_Strict):
    """A rule file: rules with tests, or the environments, which one file sets for the rules of all."""

    groups: list[GroupSpec] = []
    tests: list[CaseSpec] = []
    environments: dict[Glob, EnvironmentSpec] = {}

    @model_validator(mode="after")
    def _holds_something(self) -> "FileSpec":
        if not self.groups and not self.environments:
            raise ValueError("holds no groups; add one with rules, or environments")
        return self


class RuleFile(NamedTuple):
    """A well-formed rule file; it finds the file, line and column of each part."""

    name: str
    text: str
    spec: FileSpec
    node: yaml.Node

    def at(self, path: Place, offset: int | None = None, *, key: bool = False) -> str:
        """Return `file:line:column` of a part, of the key before it, or of one character of its text."""
        node = _find(self.node, path, key=key)
        if offset is None or not isinstance(node, yaml.ScalarNode):
            return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        index = _source_index(self.text, node, offset)
        line_start = self.text.rfind("\n", 0, index) + 1
        return f"{self.name}:{self.text.count(chr(10), 0, index) + 1}:{index - line_start + 1}"


def default_paths() -> tuple[Path, ...]:
    """Return the folder of the rule packs that come with riskmon. Raises ConfigError when there is none."""
    package = Path(__file__).parents[1]
    for folder in (package / "packs", package.parent / "rules"):
        if folder.is_dir():
            return (folder,)
    raise ConfigError("the rule packs of riskmon are missing; reinstall it or set rules.paths")


def read(paths: Sequence[Path]) -> tuple[tuple[str, bytes], ...]:
    """Return name and content of every rule file: files as given, folders by their direct `*.yaml` files.

    No paths means the packs that come with riskmon. Raises ConfigError with every file that cannot be read.
    """
    contents, problems = [], []
    for path in paths or default_paths():
        try:
            for file in _files(path):
                if not file.is_file():
                    raise ConfigError(f"{file}: not a file; give a rule file or a folder of them")  # noqa: TRY301 - joins the other problems
                with file.open("rb") as stream:
                    contents.append((str(file), stream.read(MAX_FILE_BYTES + 1)))
        except OSError as error:
            problems.append(f"{path}: cannot be read ({type(error).__name__}); give a file or folder")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(contents)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if mistaken := [entry for entry in entries if entry.suffix == ".yml" and entry.is_file()]:
        raise ConfigError(f"{mistaken[0]}: would not be read; rename it to {mistaken[0].stem}.yaml")
    if not (files := [entry for entry in entries if entry.suffix == ".yaml"]):
        raise ConfigError(f"{path}: holds no *.yaml file; give a folder of rule files")
    return files


def parse(name: str, content: bytes) -> RuleFile:
    """Parse one file. Raises ConfigError with every fault of form it has."""
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_FILE_BYTES} bytes; split it")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    data, node = load_marked_yaml(text, name)
    if node is None or not isinstance(data, dict):
        raise ConfigError(f"{name}:1:1: must be a mapping with the key groups")
    _bounded(name, node)
    try:
        return RuleFile(name, text, FileSpec.model_validate(data), node)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise ConfigError("\n".join(_explain(name, node, problem) for problem in problems)) from None


def _bounded(name: str, root: yaml.Node) -> None:
    """Refuse deep nesting, and text that UTF-8 cannot hold."""
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        mark = f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        if depth > MAX_DEPTH:
            raise ConfigError(f"{mark}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.ScalarNode) and any("\ud800" <= c <= "\udfff" for c in node.value):
            raise ConfigError(f"{mark}: holds half a character (a surrogate); write it out")
        waiting += [(child, depth + 1) for child in _children(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _find(node: yaml.Node, path: Place, *, key: bool = False) -> yaml.Node:
    """Return the deepest node on a path that exists; with `key`, a mapping's key instead of its value."""
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                return node
            node = pair[0] if key and part is path[-1] else pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return node
    return node


def _source_index(text: str, node: yaml.ScalarNode, offset: int) -> int:
    """Return the index in the file of a scalar's character, past indentation, folding and quotes."""
    index = node.start_mark.index
    if node.style in {"|", ">"}:
        index = text.find("\n", index) + 1
    for position, character in enumerate(node.value[: offset + 1]):
        start = index
        while index < node.end_mark.index and text[index] != character:
            if character == " " and text[index].isspace():
                break
            index += 1
        if index >= node.end_mark.index:
            return start if position == offset else min(start, len(text))
        index += position < offset
    return min(index, node.end_mark.index)


def _explain(name: str, root: yaml.Node, problem: Mapping[str, Any]) -> str:
    path: Place = tuple(part for part in problem["loc"] if part != "[key]")
    unknown = problem["type"] == "extra_forbidden"
    node = _find(root, path, key=unknown or "[key]" in problem["loc"])
    where = f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    what = ".".join(str(part) if isinstance(part, int) else shown_key(part) for part in path) or "file"
    if unknown:
        hint = suggestion(str(path[-1]), _keys(path[:-1]))
        return f"{where}: {what}: no such key{hint}"
    if problem["type"] == "missing":
        return f"{where}: {what}: is missing; add it"
    if expected := re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", ""))):
        value = node.value if isinstance(node, yaml.ScalarNode) else ""
        return f"{where}: {what}: is not a known value{suggestion(value, expected)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}: {message}"


def _keys(path: Place) -> list[str]:
    """Return the keys that a mapping at this path may have."""
    model: Any = FileSpec
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
        elif get_origin(model) in {list, dict}:
            model = get_args(model)[-1]
        while get_origin(model) is Annotated:
            model = get_args(model)[0]
    return list(model.model_fields) if hasattr(model, "model_fields") else []


def _check_template(text: str, known: set[str]) -> None:
    for name in TEMPLATE.findall(text):
        if name not in known:
            raise ValueError(f"annotation label {name} is unknown{suggestion(name, known)}")
    if "{{" in TEMPLATE.sub("", text) or "}}" in TEMPLATE.sub("", text):
        raise ValueError("an annotation may only hold {{ $labels.name }}; templates run nothing")
