"""Recognizers of the user's own, in Presidio's files, run by Presidio's classes."""

import logging
from pathlib import Path

import pytest

from monitor.detect import pii
from monitor.errors import ConfigError
from monitor.findings import Assessment, Status
from monitor.trace import Message, Trace

RECOGNIZERS = r"""
supported_languages: [en]
recognizers:
  - name: Badge recognizer
    supported_entity: BADGE_NUMBER
    patterns:
      - {name: badge, regex: '\bB-[0-9]{4}\b', score: 0.3}
      - {name: long badge, regex: '\bB-[0-9]{6}\b', score: 0.7}
    context: [badge, ausweis]
  - name: Project names
    type: custom
    supported_language: de
    supported_entity: PROJECT_NAME
    deny_list: [Bluebird, Red Herring]
  - name: Plain words
    supported_entity: CODE_WORD
    enabled: false
    deny_list: [answer]
  - name: Room recognizer
    supported_languages: [{language: en, context: [room]}]
    supported_entity: ROOM
    score_thresholds: {ROOM: 0.2}
    patterns: [{name: room, regex: 'R[0-9]{3}', score: 0.25}]
"""


def write(folder: Path, content: str) -> str:
    """Write a recognizer file; return its path."""
    path = folder / "recognizers.yaml"
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.fixture
def detector(tmp_path: Path) -> pii.Pii:
    """Return the detector with the recognizers above."""
    return pii.build(tag_names=False, recognizers=[write(tmp_path, RECOGNIZERS)])


def judge(detector: pii.Pii, response: str, prompt: str = "") -> Assessment:
    """Assess one trace."""
    messages = (Message("user", prompt),)
    return detector.assess([Trace(id="x", time=0.0, response=response, messages=messages)])[0]


def kinds(text: str, got: Assessment) -> dict[str, str]:
    """Values of the evidence in the response, with their kinds."""
    return {text[e.start : e.end]: e.kind for e in got.evidence if e.field == "response"}


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Open it with B-123456 please.", "B-123456", "BADGE_NUMBER"),
        ("Her badge is B-1234 now.", "B-1234", "BADGE_NUMBER"),
        ("We call it red herring here.", "red herring", "PROJECT_NAME"),
        ("Meet me in R101 today.", "R101", "ROOM"),
        ("Open it with B\u2011123456 please.", "B\u2011123456", "BADGE_NUMBER"),
    ],
)
def test_own_recognizers_find(detector: pii.Pii, text: str, value: str, kind: str) -> None:
    """Patterns and deny lists of any language find at their place, helped by context words, as disguised."""
    got = judge(detector, text)
    assert kinds(text, got) == {value: kind}
    assert got.status is Status.SCORED


@pytest.mark.parametrize("text", ["It says B-1234 there.", "The answer is Bluebirds.", ""])
def test_own_recognizers_are_quiet(detector: pii.Pii, text: str) -> None:
    """A weak pattern without its context, a recognizer that is off and a part of a word find nothing."""
    assert kinds(text, judge(detector, text)) == {}


def test_own_kinds_leak_and_score(detector: pii.Pii) -> None:
    """A finding of one's own is a leak, and scores, unless the prompt held it."""
    text = "The badge is B-123456."
    assert judge(detector, text).score == 1.0
    assert judge(detector, text, "My badge: B-123456").score == 0.0


def test_bundled_patterns_still_find(detector: pii.Pii) -> None:
    """Own recognizers add to the bundled ones and replace none."""
    text = "Card 4111 1111 1111 1111, badge B-123456"
    assert kinds(text, judge(detector, text)) == {
        "4111 1111 1111 1111": "CREDIT_CARD",
        "B-123456": "BADGE_NUMBER",
    }


def test_version_follows_the_file(tmp_path: Path) -> None:
    """The detector's version and the tier's tell of other recognizers."""
    first = pii.build(tag_names=False, recognizers=[write(tmp_path, RECOGNIZERS)]).version
    tier = pii.tiers(recognizers=[write(tmp_path, RECOGNIZERS)])[0].version
    second = [write(tmp_path, RECOGNIZERS.replace("0.3", "0.35"))]
    assert (
        len(
            {
                first,
                pii.build(tag_names=False, recognizers=second).version,
                pii.build(tag_names=False).version,
            }
        )
        == 3
    )
    assert len({tier, pii.tiers(recognizers=second)[0].version, pii.tiers()[0].version}) == 3


def test_time_out_is_an_error_and_logs_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pattern that runs out of time fails its trace only, and nothing of the text is logged."""
    caplog.set_level(logging.DEBUG)
    slow = """
    recognizers:
      - name: Slow
        supported_entity: SLOW
        patterns: [{name: slow, regex: '(?:(?:a|aa)+)+c', score: 0.9}]
    """
    detector = pii.build(tag_names=False, recognizers=[write(tmp_path, slow)], regex_timeout_seconds=0.05)
    got = judge(detector, "canary " + "a" * 60)
    assert (got.status, got.reason, got.score) == (Status.ERROR, "regex_timeout", None)
    assert judge(detector, "baac").status is Status.SCORED
    assert "canary" not in f"{caplog.text}{got!r}"


def test_failing_recognizer_is_an_error(detector: pii.Pii, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a recognizer raises or logs as a warning fails the trace, without its message."""
    recognizer = detector._scanner._custom._recognizers[0].recognizer

    def fail(text: str, *_: object) -> None:
        raise ValueError(text)

    def warn(text: str, *_: object) -> list[object]:
        logging.getLogger("presidio-analyzer").warning(text)
        return []

    for broken in (fail, warn):
        monkeypatch.setattr(recognizer, "analyze", broken)
        got = judge(detector, "canary")
        assert (got.status, got.reason) == (Status.ERROR, "recognizer_failed")
        assert "canary" not in repr(got)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("recognizers: [", "not valid YAML"),
        ("patterns: []", "no list `recognizers`"),
        ("recognizers: []", "no list `recognizers`"),
        ("recognizers: [SpacyRecognizer]", "'SpacyRecognizer'.*built in"),
        ("recognizers: [{name: CreditCardRecognizer, type: predefined}]", "'CreditCardRecognizer'.*built in"),
        ("recognizers: [{name: A, deny_list: [x]}]", "'A': supported_entity None"),
        (
            "recognizers: [{supported_entity: a b, deny_list: [x]}]",
            r"recognizers\[0\]: supported_entity 'a b'",
        ),
        ("recognizers: [{name: A, supported_entity: B}]", "'A': Presidio refuses it .*patterns"),
        (
            "recognizers: [{name: A, supported_entity: B, patterns: [{name: p, regex: '(', score: 0.5}]}]",
            "'A': Presidio refuses it .*Invalid regex",
        ),
        (
            "recognizers: [{name: A, supported_entity: B, patterns: [{name: p, regex: 'x', score: 5}]}]",
            "'A': Presidio refuses it .*between 0 and 1",
        ),
    ],
)
def test_bad_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    """What cannot be used is a configuration error with the file, the recognizer and what is wrong."""
    with pytest.raises(ConfigError, match=rf"recognizers\.yaml.*{message}"):
        pii.build(tag_names=False, recognizers=[write(tmp_path, content)])


def test_missing_file_is_named() -> None:
    """A file that is not there, and a text instead of a list, name the option."""
    with pytest.raises(ConfigError, match=r"options\.recognizers: nowhere\.yaml: cannot be read"):
        pii.tiers(recognizers=["nowhere.yaml"])
    with pytest.raises(ConfigError, match=r"options\.recognizers: 'one\.yaml' is one text"):
        pii.build(recognizers="one.yaml")


def test_patterns_that_may_take_long_are_named(tmp_path: Path) -> None:
    """Those that RE2 refuses, the user's by the place of their recognizer; the linear ones are not."""
    slow = """
recognizers:
  - {name: Ahead, supported_entity: X, patterns: [{name: x, regex: '(?=a)a+', score: 0.7}]}
  - {name: Again, supported_entity: X, patterns: [{name: x, regex: '(a)\\1', score: 0.7}]}
  - {name: Linear, supported_entity: X, patterns: [{name: x, regex: 'a+b', score: 0.7}]}
"""
    path = write(tmp_path, slow)
    own = set(pii.backtracking(recognizers=[path])) - set(pii.backtracking())
    assert own == {f"{path}: recognizer 'Ahead'", f"{path}: recognizer 'Again'"}
    assert pii.backtracking(recognizers=[write(tmp_path, RECOGNIZERS)]) == pii.backtracking()
