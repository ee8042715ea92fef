"""Texts as people write them, for properties: any characters, no marker, nothing that looks like JSON."""

from typing import Final

from hypothesis import strategies as st

from monitor.config.intake import REDACTION_MARKERS

LINES: Final = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(
    lambda text: bool(text.strip()) and text.strip() not in REDACTION_MARKERS and text[0] not in "[{"
)
