"""Identifiers that may be logged: what does not look like one, or looks like personal data, is replaced.

Identifiers (ids, names of apps and models) go into logs, labels and spans, so a sender who puts an e-mail
address or a card number there would publish it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

MAX_CHARS = 128

_ALLOWED = re.compile(rf"[A-Za-z0-9._:/+=@-]{{1,{MAX_CHARS}}}")
_EMAIL = re.compile(r"[^@]@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_ADDRESS = re.compile(r"[^\s@]@[^\s@]+\.[^\s@]{2}")  # in any script
_SSN = re.compile(r"(?<![A-Za-z0-9])\d{3}[-._:/]\d{2}[-._:/]\d{4}(?![A-Za-z0-9])")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
# W3C trace ids and UUIDs are random; one in a thousand would pass for a card number or an IBAN by chance.
_RANDOM = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GROUPS = re.compile(r"[A-Za-z0-9]+")
_DIGITS = re.compile(r"[0-9](?:[^A-Za-z0-9]*[0-9]){8}")  # in every SSN, card number and IBAN
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_SHORTEST = 9  # an SSN without its hyphens
_CARD_DIGITS = range(13, 20)  # ISO/IEC 7812-1
_IBAN_CHARS = range(15, 35)  # ISO 13616-1


def clean_identifier(text: str, pseudonym: Callable[[str], str]) -> str:
    """Return `text` if it may be logged, else `h:` and 16 hexadecimal digits.

    Allowed are 1 to 128 of `A-Z a-z 0-9 . _ : / + = @ -` that hold no e-mail address, US social security
    number, payment card number (valid check digit) or IBAN (valid check digits), whatever separates their
    groups. The digits come from the keyed `pseudonym`, because a bare hash of so short a number can be
    reversed by trying them all.
    """
    if _ALLOWED.fullmatch(text) and not _is_personal(text):
        return text
    return _hashed(text, pseudonym)


def clean_title(text: str, pseudonym: Callable[[str], str]) -> str:
    """Return the name of an agent, tool, workflow or data source if it may be logged, else its hash.

    Besides what `clean_identifier` allows, spaces and any other printable characters are, 128 at most without
    those at its ends, as in the GenAI conventions' own example, "Math Tutor". What only such characters
    separate counts as personal data all the same, and so do nine digits.
    """
    text = text.strip()
    if _ALLOWED.fullmatch(text) and not _is_personal(text):
        return text
    if 0 < len(text) <= MAX_CHARS and text.isprintable():
        folded = "".join(_folded(char) for char in unicodedata.normalize("NFKC", text))
        if not (_is_personal(folded) or _DIGITS.search(folded) or _ADDRESS.search(folded)):
            return text
    return _hashed(text, pseudonym)


def _folded(char: str) -> str:
    """Return the ASCII digit of any script's digit; other characters as they are."""
    digit = unicodedata.decimal(char, None)
    return char if digit is None else str(digit)


def _hashed(text: str, pseudonym: Callable[[str], str]) -> str:
    return "h:" + hashlib.sha256(pseudonym(text).encode()).hexdigest()[:16]


def _is_personal(text: str) -> bool:
    if "@" in text and _EMAIL.search(text):
        return True
    if len(text) < _SHORTEST or len(text.encode().translate(None, _NO_DIGITS)) < _SHORTEST:
        return False
    if _RANDOM.fullmatch(text) or not _DIGITS.search(text):
        return False
    return bool(_SSN.search(text)) or any(_is_card(run) or _is_iban(run) for run in _runs(text))


def _runs(text: str) -> Iterator[str]:
    """Return neighbouring groups of letters and digits, joined without their separators."""
    groups = _GROUPS.findall(text)
    for first in range(len(groups)):
        run = ""
        for group in groups[first:]:
            run += group
            if len(run) >= _IBAN_CHARS.stop:
                break
            yield run


def _is_card(run: str) -> bool:
    """Return whether the Luhn check digit holds (ISO/IEC 7812-1 annex B)."""
    if len(run) not in _CARD_DIGITS or not run.isdigit():
        return False
    doubled = (int(digit) * 2 for digit in run[-2::-2])
    return (sum(map(int, run[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0  # noqa: PLR2004 - the sum of the digits of a two-digit product


def _is_iban(run: str) -> bool:
    """Return whether the check digits hold (ISO 7064, MOD 97-10)."""
    run = run.upper()
    if len(run) not in _IBAN_CHARS or not _IBAN.fullmatch(run):
        return False
    return int("".join(str(int(char, 36)) for char in run[4:] + run[:4])) % 97 == 1


CACHED = 4096  # values of one daemon's `app`, `model`, `user`, …; bounds what a sender can make it keep
ENVIRONMENTS = {
    **dict.fromkeys(("prod", "prd", "live"), "production"),
    **dict.fromkeys(("stage", "stg", "preprod", "pre-production", "uat"), "staging"),
    **dict.fromkeys(("dev", "development", "test", "testing", "local", "sbx"), "sandbox"),
}


class _Remembered(dict[str, str]):
    """A cache of a function's results: short arguments only, at most `CACHED`."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> str:
        made = self._function(text)
        if len(text) <= MAX_CHARS:
            if len(self) >= CACHED:
                self.clear()
            self[text] = made
        return made


class Names:
    """Cleans a sender's names with the keyed `pseudonym`; see `clean_identifier`.

    `name` and `id` clean; `name` also caches, for names that repeat. `title` cleans names that people gave to
    agents and tools (see `clean_title`). `user` gives a pseudonym. `environment`
    gives production, staging, internal or sandbox for their usual names in any case, else the cleaned name.
    """

    def __init__(self, pseudonym: Callable[[str], str]) -> None:
        self.id: Callable[[str], str] = lambda text: clean_identifier(text, pseudonym)
        self.name: Callable[[str], str] = _Remembered(self.id).__getitem__
        self.title: Callable[[str], str] = _Remembered(lambda text: clean_title(text, pseudonym)).__getitem__
        self.user: Callable[[str], str] = _Remembered(pseudonym).__getitem__
        self.environment: Callable[[str], str] = _Remembered(self._environment).__getitem__

    def optional(self, text: str | None, absent: str = "") -> str:
        """Return the cleaned name, or `absent` for none."""
        return self.name(text) if text else absent

    def trace_id(self, own: str | None, trace_id: str, span_id: str, value: bytes, part: int = 0) -> str:
        """Return a trace's id: its own, else trace:span (both cleaned already), else a hash of the record."""
        if own:
            return self.id(own)
        if trace_id and span_id:
            return f"{trace_id}:{span_id}"
        return _content_id(value) + (f":{part}" if part else "")

    def _environment(self, text: str) -> str:
        plain = text.strip().lower()
        known = plain in {"production", "staging", "internal", "sandbox"}
        return plain if known else ENVIRONMENTS.get(plain) or self.id(text)


@lru_cache(1)  # the parts of one record ask one after the other
def _content_id(value: bytes) -> str:
    return "sha256:" + hashlib.sha256(value).hexdigest()[:32]
