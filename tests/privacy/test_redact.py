"""Redaction: nothing shaped like personal data gets out, whole or in part."""

import ast
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import seconds

from monitor.findings import Assessment, Evidence, Status
from monitor.ports import RedactionRequest
from monitor.privacy.personal import KEY_BEGINNINGS
from monitor.privacy.redact import WITHHELD, Mask, Redacted, TraceRedactor, redact, text_of
from monitor.trace import Document, Message, Step, StepKind, ToolCall, Trace

SECRETS = [
    "jane.doe+x@example.co.uk",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "078-05-1120",
    "078 05 1120",
    "DE89 3704 0044 0532 0130 00",
    "gb82west12345698765432",
    "+44 20 7946 0958 12",
    "sk-abcdefghijklmnopqrstuvwx",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123456",
    "postgres://app:hunter2@db.internal/prod",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----",
    "four\u200bfive j\u200bane@exa\u200bmple.com",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_net_masks_without_any_detector(secret: str) -> None:
    """Common shapes of personal data and secrets are masked even when no detector found them."""
    core = secret.rsplit(maxsplit=1)[-1] if "@" in secret else secret
    shown = Redacted(f"Please use {secret} for that.", ()).render()
    assert core not in shown
    assert "<" in shown


@pytest.mark.parametrize(
    "secret",
    [
        "".join(chr(ord(digit) + 0x0630) for digit in "4111111111111111"),  # Arabic digits
        "".join(chr(ord(digit) + 0xFEE0) for digit in "4111111111111111"),  # full-width digits
        "4111\u20031111\u20031111\u20031111",  # spaces that ASCII does not know
        "078\u201105\u20111120",
        "jane\uff20example.com",
        "DE\u0668\u0669 3704 0044 0532 0130 00",
        "\ud8004111 1111 1111 1111",  # half of a character
    ],
)
def test_the_net_knows_unicode(secret: str) -> None:
    """Digits, spaces and signs of any script count, though RE2's own classes are of ASCII."""
    shown = Redacted(f"Please use {secret} for that.", ()).render()
    assert "<" in shown
    assert secret[1:-1] not in shown


@pytest.mark.parametrize("beginning", KEY_BEGINNINGS)
def test_the_net_knows_the_beginnings_of_keys(beginning: str) -> None:
    """A key is masked by its issuer's beginning, also where the sender has cut off most of it."""
    assert Redacted(f"Use {beginning}Ab3dEfGhIj now", ()).render() == "Use <SECRET> now"


def test_invisible_characters_hide_nothing() -> None:
    """Whatever a reader does not see between two digits, a card's number is masked."""
    unseen = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"]
    for character in (*unseen, "\u034f", "\u115f", "\u17b4", "\u180b", "\ufe00", "\ufe0f", "\U000e0100"):
        assert Redacted(f"Pay {character.join('4111111111111111')}.", ()).render() == "Pay <NUMBER>."


@pytest.mark.parametrize("before", ["\u00e9", "\u65e5", "_", "x"])
def test_a_letter_of_any_script_before_a_number_hides_nothing(before: str) -> None:
    """What touches a shape of the net is no way around it."""
    assert "west12345698765432" not in Redacted(f"{before}gb82west12345698765432", ()).render()


WORK = [
    lambda n: "AA11" + "B" * n,
    lambda n: ("AA11" + "B" * 37 + " ") * (n // 42),
    lambda n: "1 " * (n // 2),
    lambda n: "1" * n,
    lambda n: "://" * (n // 3),
    lambda n: "://a:" * (n // 5),
    lambda n: "a" * n,
    lambda n: "@" * n,
    lambda n: "a@" * (n // 2),
    lambda n: "-----BEGIN PRIVATE KEY-----" * (n // 27),
    lambda n: "\x00" * n,
    lambda n: "\u200b1" * (n // 2),
    lambda n: "sk-" * (n // 3),
    lambda n: "(" * n,
]
"""Texts of n characters that are a single shape, or nearly one."""


@pytest.mark.parametrize("make", WORK)
def test_work_is_linear_in_the_text(make: Callable[[int], str]) -> None:
    """Four times the text takes about four times as long, whatever it is made of."""
    short, long = 20_000, 80_000
    ratio = seconds(lambda n: Redacted(make(n), ()).render(), long) / seconds(
        lambda n: Redacted(make(n), ()).render(), short
    )
    assert ratio < 10


def test_work_is_linear_in_the_findings() -> None:
    """A trace of many findings, each shown by many detectors, has each text masked once."""

    def run(count: int) -> None:
        evidence = tuple(Evidence("response", 4 * n, 4 * n + 3, "PERSON", 0.9) for n in range(count))
        pii = Assessment(detector="pii", version="1", status=Status.SCORED, score=1.0, evidence=evidence)
        trace = Trace(id="t", time=0.0, response="Ann " * count)
        redact(RedactionRequest(trace, (pii,), ("pii",), 100))

    assert seconds(run, 8000) / seconds(run, 2000) < 10


def test_ordinary_text_stays_readable() -> None:
    """Dates, prices, versions and short numbers are not personal data."""
    text = "On 2024-05-12 we refunded $1,250.00 for order 12345 (v2.10.3), within 30 days. Call us at 9:30."
    assert Redacted(text, ()).render() == text


@given(
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    start=st.integers(0, 60),
    length=st.integers(0, 60),
    limit=st.none() | st.integers(0, 60),
)
def test_no_cut_leaves_a_fragment(
    before: str, after: str, start: int, length: int, limit: int | None
) -> None:
    """However a window or a limit cuts, no five characters of a masked value show."""
    value = "QZ7#kVw!93xTr"
    text = before + value + after
    masked = Redacted(text, [Mask(len(before), len(before) + len(value), "SECRET")])
    shown = masked.render(start, start + length, limit)
    assert not any(value[i : i + 5] in shown for i in range(len(value) - 4))


def _pii(status: Status = Status.SCORED, **more: object) -> Assessment:
    evidence = (Evidence("response", 3, 7, "PERSON", 0.9),)
    return Assessment(detector="pii", version="1", status=status, evidence=evidence, **more)  # type: ignore[arg-type] # a test helper


TRACE = Trace(
    id="t",
    time=0.0,
    response="Hi Jane, done.",
    messages=(Message("system", "Be kind."), Message("user", "Fix it")),
    context=(Document("d", "Doc"),),
    tool_calls=(ToolCall("look", "{}", "found"),),
    alternatives=("Other",),
)


def test_detected_spans_are_masked() -> None:
    """What the PII detector found is replaced by its kind."""
    assert TraceRedactor(TRACE, [_pii()]).response(100) == "Hi <PERSON>, done."
    assert TraceRedactor(TRACE, [_pii()]).prompt(100) == "Fix it"


@pytest.mark.parametrize(
    "assessments",
    [
        [],
        [_pii(Status.ERROR)],
        [_pii(Status.TIMEOUT)],
        [_pii(Status.SKIPPED)],
        [_pii(values={"evidence_dropped": 3.0})],
    ],
)
def test_unjudged_text_is_withheld(assessments: list[Assessment]) -> None:
    """Where PII was not judged completely, no text is kept at all."""
    assert TraceRedactor(TRACE, assessments).response(100) == WITHHELD


def test_evidence_paths_name_texts() -> None:
    """Every path of evidence leads to its text; unknown ones to nothing."""
    paths = ["response", "messages.1", "context.0", "tool_calls.0.result", "tool_calls.0.arguments"]
    found = [text_of(TRACE, path) for path in paths]
    assert found == ["Hi Jane, done.", "Fix it", "Doc", "found", "{}"]
    assert text_of(TRACE, "alternatives.0") == "Other"
    assert [text_of(TRACE, path) for path in ("messages.9", "context.x", "labels")] == ["", "", ""]


def test_only_redact_makes_safe_text() -> None:
    """No other module of the package calls SafeText."""
    makers = set()
    for path in Path("monitor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SafeText":
                makers.add(path.as_posix())
    assert makers == {"monitor/privacy/redact.py"}


def test_texts_of_steps_are_redacted_like_any_other() -> None:
    """A step's arguments and result have paths; the step alone names none of its text."""
    step = Step(kind=StepKind.TOOL, name="t", input="ask Anna", output="Anna said no")
    trace = Trace(id="t", time=0.0, response="", steps=(step,))
    found = Assessment(
        detector="pii",
        version="1",
        status=Status.SCORED,
        score=0.0,
        evidence=(Evidence("steps.0.output", 0, 4, "PERSON", 0.8),),
    )
    redactor = TraceRedactor(trace, [found])
    assert redactor.field("steps.0.output") == "<PERSON> said no"
    assert redactor.field("steps.0.input") == "ask Anna"
    assert redactor.field("steps.0") == redactor.field("steps.9.input") == ""


def test_a_text_is_masked_wherever_it_stands() -> None:
    """A tool's result that is a step's output too was read in one place, and is masked in both."""
    text = "Anna said no"
    step = Step(kind=StepKind.TOOL, name="t", output=text)
    trace = Trace(id="t", time=0.0, response="", tool_calls=(ToolCall("t", "", text),), steps=(step,))
    found = Assessment(
        detector="pii",
        version="1",
        status=Status.SCORED,
        score=0.0,
        evidence=(Evidence("tool_calls.0.result", 0, 4, "PERSON", 0.8),),
    )
    assert TraceRedactor(trace, [found]).field("steps.0.output") == "<PERSON> said no"
