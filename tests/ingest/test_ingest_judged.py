"""What judging says of payloads of real emitters: findings where there is text, no score where not."""

from collections.abc import Mapping, Sequence

import pytest
from ingest_cases import JUDGED, Case, cases, need_folder

from monitor.config import Config
from monitor.detect import specs
from monitor.detect.inline import InlineDetectors
from monitor.findings import NO_TEXT, Assessment, Status
from monitor.rules import RuleSet
from monitor.trace import Missing, Origin, Trace

OF_TEXT = ("pii", "toxicity", "injection")
HASHED = "collector_redaction_value_hash"

Judged = list[tuple[Trace, Mapping[str, Assessment], set[str]]]


@pytest.fixture(scope="module")
def judged() -> Mapping[str, Judged]:
    """Each case about judging, judged by the built-in detectors and the shipped rules as in the daemon."""
    detectors = InlineDetectors([spec.build() for spec in specs(Config())])
    rules = RuleSet.load()
    found: dict[str, Judged] = {}
    for case in about_judging():
        traces = case.traces()
        detectors.submit(0, traces)
        [batch] = detectors.collect(0.0)
        found[case.name] = [
            (
                trace,
                {each.detector: each for each in assessments},
                {flag.rule for flag in rules.decide(Origin("t", 0, 0, n), trace, assessments).flags},
            )
            for n, (trace, assessments) in enumerate(zip(traces, batch.assessments, strict=True))
        ]
    return found


def about_judging() -> Sequence[Case]:
    """The cases whose expectation says what judging must say."""
    return [case for case in cases() if JUDGED & case.expect.keys()]


def names(key: str) -> list[str]:
    """Names of the cases with this key."""
    return [case.name for case in about_judging() if key in case.expect]


@pytest.mark.parametrize("name", names("detectors"))
def test_what_came_without_text_is_scored_by_no_detector_of_text(
    judged: Mapping[str, Judged], name: str
) -> None:
    """Each exchange of a payload without text lacks content, is blind, and gets no score for a text."""
    assert judged[name]
    for trace, assessments, _ in judged[name]:
        assert trace.blind()
        assert Missing.CONTENT in trace.missing
        for detector in OF_TEXT:
            assert (assessments[detector].status, assessments[detector].reason) == (Status.SKIPPED, NO_TEXT)


@pytest.mark.parametrize("name", names("findings"))
def test_what_the_texts_hold_is_found(judged: Mapping[str, Judged], name: str) -> None:
    """Personal data of the prompt and of the response are found on their sides, in some exchange."""
    [case] = [case for case in about_judging() if case.name == name]
    found = {
        "pii in prompt": any(a["pii"].values.get("prompt") for _, a, _ in judged[name]),
        "pii leaked in response": any(a["pii"].values.get("leaked") for _, a, _ in judged[name]),
        "toxicity in response": any(
            a["toxicity"].values.get("response", 0) >= 0.5 for _, a, _ in judged[name]
        ),
    }
    assert [finding for finding in case.expect["findings"] if not found[finding]] == []


@pytest.mark.parametrize("name", sorted({*names("flags"), *names("not_flags")}))
def test_the_rules_raise_what_is_expected_and_nothing_that_is_not(
    judged: Mapping[str, Judged], name: str
) -> None:
    """Flags that an expectation names are raised, and those it forbids are not."""
    [case] = [case for case in about_judging() if case.name == name]
    assert judged[name]
    raised = {flag for _, _, flags in judged[name] for flag in flags}
    assert set(case.expect.get("flags", ())) <= raised
    assert raised.isdisjoint(case.expect.get("not_flags", ()))


def test_a_digest_in_the_place_of_a_masked_value_is_no_identifier(judged: Mapping[str, Judged]) -> None:
    """Hexadecimal digests that a Collector left of values are nobody's personal data."""
    need_folder()
    [name] = [name for name in names("pii") if HASHED in name]
    assert judged[name]
    for _, assessments, flags in judged[name]:
        assert "OtherIdentifierLeak" not in flags
        assert not any(e.end - e.start >= 32 for e in assessments["pii"].evidence)


def test_the_payloads_are_there() -> None:
    """The folder of payloads is next to the checkout."""
    need_folder()
    assert about_judging()
