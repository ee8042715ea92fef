"""No bytes break a decoder: they make traces and spans, or a dead letter with a documented reason."""

import random

import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.ingest import FORMATS


def test_mutated_payloads_are_decoded_or_refused() -> None:
    """Hundreds of mutations of good payloads, for each decoder; `python tests/fuzz.py 1000000` runs more."""
    found = fuzz.run(500 * len(FORMATS), seed=random.randrange(2**32))
    for name in FORMATS:
        assert found[name, "accepted"] > 20


@settings(max_examples=300)
@given(value=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    """Bytes of no known shape, the same for every decoder."""
    for make in FORMATS.values():
        fuzz.outcome(make(IngestConfig(), str), value)
