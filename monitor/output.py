"""Text for terminals and other programs: nothing that a terminal obeys, and no line that a sender made up."""

import json
import re
from typing import Final

# Controls (C0 but the line feed and tab, C1), marks that turn the direction of text, what some readers take
# for the end of a line, and lone surrogates.
_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return a text on one line, with the characters that end a line or control a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quiet_json(text: str) -> str:
    """Return JSON that means the same, with those characters of its strings escaped."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def quiet_html(text: str) -> str:
    """Return HTML with these characters replaced or, if they turn the direction, written as references."""
    return _OBEYED.sub(
        lambda found: f"&#x{ord(found[0]):x};" if "\u0600" < found[0] < "\ud800" else "\ufffd", text
    )


def as_json(value: object) -> str:
    """Return one line of JSON; types that JSON lacks are written as their `str`."""
    return quiet_json(json.dumps(value, ensure_ascii=False, default=str))
