"""No bytes break a decoder: they make traces and spans, or a dead letter with a documented reason."""

import random
from pathlib import Path

import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.ingest import FORMATS, decoder


def test_mutated_payloads_are_decoded_or_refused() -> None:
    """Hundreds of mutations of good payloads, for each decoder; `tests/support/fuzz.py` runs more."""
    found = fuzz.run(500 * len(FORMATS), seed=random.randrange(2**32))
    for name in FORMATS:
        assert found[name, "accepted"] > 5  # of 500; for the format that is refused most it is 40 on average


@settings(max_examples=300)
@given(value=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    """Bytes of no known shape, the same for every decoder."""
    for name in FORMATS:
        fuzz.outcome(decoder(name, IngestConfig(), str), value)


def test_the_list_of_formats_is_complete() -> None:
    """docs/formats.md names every format and every reason for which a record is refused."""
    text = Path("docs/formats.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"| `{name}` |" not in text] == []
    assert fuzz.REASONS - set(text.replace("`", " ").split()) == set()
