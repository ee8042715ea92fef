"""Payloads of real emitters and of a real Collector, each against its expectation."""

import pytest
from ingest_cases import FOLDER, Case, cases, faults

PENDING: frozenset[str] = frozenset(
    {
        "agento11y_generations",
        "native__aws_glue_framing",
    }
)
"""Payloads that are not read as expected yet."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.xfail(strict=False, reason="not read yet")] if case.name in PENDING else [],
        )
        for case in cases()
    ],
)
def test_a_payload_comes_out_as_expected(case: Case) -> None:
    """Every field that the expectation names is read from the payload as it says."""
    assert faults(case.traces(), case.expect) == []


def test_the_payloads_are_there() -> None:
    """The folder of payloads is next to the checkout."""
    if not FOLDER.exists():
        pytest.skip("no ../shared/cases/ingest")
    assert len(list(cases())) >= 90
