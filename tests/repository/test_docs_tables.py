"""Tables and examples of docs/ say what the code says: rules, fields, options, payloads, statuses."""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from checkout import ROOT
from flags import flag_row

from monitor.agents.policy import AgentOptions
from monitor.config import WebhookConfig
from monitor.console.review import _PARAMETERS
from monitor.deliver.formats import body_of
from monitor.deliver.webhook import signature
from monitor.detect import BUILT_IN
from monitor.drift.monitor import DriftMonitor
from monitor.feedback.items import feedback_item
from monitor.findings import Action
from monitor.outcome.alerts import alert_of
from monitor.records import Leased
from monitor.rules import RuleSet
from monitor.rules.inputs import FIELDS

NOW = 1_700_000_000.0


def page(name: str) -> str:
    """Return the text of a page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose first line is given."""
    table = text[text.index(header) :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_table_of_rules_is_that_of_the_shipped_packs() -> None:
    """Every shipped rule has a row with its severity; each threshold of the row is in its expression."""
    listed = {
        name: (severity, condition)
        for names, severity, condition in rows(page("rules.md"), "| rule | severity | fires when |")
        for name in names.split(", ")
    }
    shipped = {rule.name: rule for rule in RuleSet.load().rules}
    assert listed.keys() == shipped.keys()
    for name, (severity, condition) in listed.items():
        assert severity == shipped[name].severity, name
        for threshold in re.findall(r"\d\.\d+", condition):
            assert re.search(rf">= {re.escape(threshold)}\b", shipped[name].expr), (name, threshold)


def test_the_actions_of_shipped_rules_follow_from_their_severity() -> None:
    """The sentence before the table of rules holds."""
    for rule in RuleSet.load().rules:
        expected = {"audit"} if rule.severity == "info" else {action.value for action in Action}
        if rule.name in {"UnsupportedFigure", "StatedCutoff"}:
            expected = {"audit", "feedback"}
        assert set(rule.actions) == expected, rule.name


def test_the_table_of_names_holds_every_field() -> None:
    """What expressions can read is documented in full, and nothing else is."""
    listed = {
        subject: set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", fields)))
        for subject, fields in rows(page("rules.md"), "| variable | fields |")
    }
    assert listed == {
        "detector": set(FIELDS["detector"]),
        "entry of `evidence`, `leaked`": set(FIELDS["evidence"]),
        "`trace`": set(FIELDS["trace"]),
        "`run`": set(FIELDS["run"]),
    }


def test_the_table_of_actions_is_complete() -> None:
    """Each action has a row."""
    listed = [re.findall(r"`(\w+)`", cells[0])[0] for cells in rows(page("rules.md"), "| action | effect |")]
    assert listed == [action.value for action in Action]


def options(kind: str) -> dict[str, Any]:
    """Return the options of a detector and their defaults, as the code has them."""
    if kind == "agent":
        return dict.fromkeys(AgentOptions.__struct_fields__)
    module, _, name = BUILT_IN[kind].partition(":")
    build = getattr(importlib.import_module(module), name) if kind != "drift" else DriftMonitor.__init__
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(build).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "profile"
    }


def test_the_table_of_options_is_complete() -> None:
    """Each option of each built-in detector has a row; a number or word given as default is the code's."""
    listed: dict[str, set[str]] = {kind: set() for kind in BUILT_IN}
    for kinds, names, _ in rows(page("detectors.md"), "| kind | option (default) | meaning |"):
        for name, shown in re.findall(r"`([a-z0-9_]+)`(?: \(([\w.]+)\))?", re.sub(r"\(`[^)]*\)", "", names)):
            for kind in kinds.split(", "):
                listed[kind].add(name)
                default = options(kind)[name]
                if shown and default is not None:
                    assert (
                        float(shown) == default
                        if isinstance(default, float)
                        else (shown.lower() == str(default).lower())
                    ), (kind, name)
    assert listed == {kind: set(options(kind)) for kind in BUILT_IN}


def payload(number: int) -> dict[str, Any]:
    """Return the n-th JSON example of payloads.md."""
    shown = re.findall(r"^```json\n(.*?)^```", page("payloads.md"), re.DOTALL | re.MULTILINE)
    value: dict[str, Any] = json.loads(shown[number])
    return value


def shape(value: Any) -> Any:
    """Return a value with its keys and the types of its parts."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


def test_the_alert_shown_has_the_shape_of_a_real_one() -> None:
    """Keys and types are those that a webhook gets."""
    row = flag_row(labels={})
    leased = Leased(
        id=1,
        destination="webhook:ops",
        key=row.flag.id,
        body=alert_of(row, NOW, 300.0),
        attempts=0,
        created=NOW,
    )
    real = body_of(WebhookConfig(name="ops", url="https://example.org/hook"), leased)
    assert shape(payload(0)) == shape(real)


def test_the_feedback_item_shown_has_the_shape_of_a_real_one() -> None:
    """Keys and types are those that the topic and the export have."""
    assert shape(payload(1)) == shape(feedback_item(flag_row()).body)


@pytest.mark.parametrize(
    ("secret", "body", "now", "genuine"),
    [
        ("s3cret", b"{}", NOW + 5, True),
        ("other", b"{}", NOW + 5, False),
        ("s3cret", b"{ }", NOW + 5, False),
        ("s3cret", b"{}", NOW + 301, False),
    ],
)
def test_the_check_of_signatures_works(secret: str, body: bytes, now: float, *, genuine: bool) -> None:
    """The function shown accepts what riskmon signed, and no other secret, body or old message."""
    (source,) = re.findall(r"^```python\n(.*?)^```", page("payloads.md"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(source, "payloads.md", "exec"), names)  # noqa: S102 - our own page
    is_genuine: Callable[[str, str, bytes, float], bool] = names["is_genuine"]
    assert is_genuine(secret, signature("s3cret", int(NOW), b"{}"), body, now) is genuine


def test_the_filters_of_the_review_page_are_named() -> None:
    """Each parameter of `/review` is in the text about it."""
    text = page("alerts-and-dashboards.md").partition("## Reading flags")[2]
    assert [name for name in _PARAMETERS if f"`{name}`" not in text] == []
