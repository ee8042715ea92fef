"""Which parts of a text a recognizer has to see: cheap tests that lose no finding.

Each gate is a necessary condition of a match; the tests compare gated with ungated runs and prove the digit.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Slices: TypeAlias = Iterable[tuple[int, int]]
Gate: TypeAlias = Callable[[str], Slices]

_FILLER = re.compile(r"[ \u00a0\t,-]+")
_DIGITS = re.compile(r"\d+")
_LEAD = 12  # two brackets or pluses with four signs of punctuation each, and the character before
_EXTENSION = re.compile("(?i)[x#~,;\uff58\uff03\uff5e]|int|\uff49\uff4e\uff54|\u0434\u043e\u0431|anexo")
_PLUS = re.compile("[+\uff0b]")


def whole(text: str) -> Slices:
    """Let a recognizer see all of a text."""
    return ((0, len(text)),)


# What every match of a recognizer must contain; a test proves the digit from the patterns' syntax trees.
NEEDED: Mapping[str, re.Pattern[str]] = {
    "EmailRecognizer": re.compile("@"),
    "IpRecognizer": re.compile(r"[:.]"),
    "MacAddressRecognizer": re.compile(r"[0-9A-Fa-f][:.-][0-9A-Fa-f]"),
    "UrlRecognizer": re.compile(r"\.\w\w"),
    "UuidRecognizer": re.compile(r"-[0-9A-Fa-f]{4}-"),
    "ApiKeyRecognizer": re.compile(
        r"sk-|A[A-Z]{3}[A-Z0-9]|gh[pousr]_|github_pat_|xox|AIza|k_live|k_test|[:=]"
    ),
    "PrivateKeyRecognizer": re.compile("-----BEGIN "),
    "JwtRecognizer": re.compile("eyJ"),
    "ConnectionStringRecognizer": re.compile("://|="),
    "PasswordRecognizer": re.compile("(?i)pass|pwd"),
}
_DIGIT = re.compile(r"\d")


def needed(name: str) -> Gate:
    """Skip a text without what every match of the named recognizer contains."""
    sought = NEEDED.get(name, _DIGIT)

    def gate(text: str) -> Slices:
        return ((0, len(text)),) if sought.search(text) else ()

    return gate


def context(words: Sequence[str]) -> Gate:
    """Skip a text that holds no context word: a recognizer that needs one would not be believed anyway."""
    lowered = [word.lower() for word in words]

    def gate(text: str) -> Slices:
        text_lowered = text.lower()
        believed = any(word in text_lowered for word in lowered) and _DIGIT.search(text)
        return ((0, len(text)),) if believed else ()

    return gate


def phone(region: str) -> Gate:
    """Return the slices of a text that can hold a phone number when `region` is assumed.

    A number the matcher accepts is valid somewhere, so it has at least as many digits as the shortest valid
    number: of the region, or of any behind an international prefix (two digits and a country code, or
    a plus).
    """
    import phonenumbers

    def shortest(code: str) -> int:
        metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(code)
        return min((n for n in metadata.general_desc.possible_length if n > 0), default=99)

    anywhere = min(map(shortest, phonenumbers.SUPPORTED_REGIONS))
    least = min(shortest(region), anywhere + 3)

    def gate(text: str) -> Slices:
        for start, end, digits in _digit_clusters(text):
            if digits >= least or (digits > anywhere and _PLUS.search(text, start, end)):
                yield start, end

    return gate


@functools.lru_cache(maxsize=1)  # each region asks about the same text
def _digit_clusters(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return (start, end, number of digits) of the parts of a text around its digits.

    Digits are in one part when one phone number could span them: at most four signs of punctuation apart, or
    an extension's label, which is at most forty characters beside its blanks. Each part is widened by the
    leading signs of a number and the characters that can rule it out, but never by another part's digits.
    """
    parts: list[tuple[int, int, int]] = []
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        if parts and _spans(text, parts[-1][1], start):
            first, _, digits = parts[-1]
            parts[-1] = first, end, digits + end - start
        else:
            parts.append((start, end, end - start))
    befores = [0, *(end for _, end, _ in parts)]
    afters = [*(start for start, _, _ in parts[1:]), len(text)]
    return tuple(
        (max(before, start - _LEAD), min(after, end + _LEAD), digits)
        for (start, end, digits), before, after in zip(parts, befores, afters, strict=False)
    )


def _spans(text: str, end: int, start: int) -> bool:
    if start - end <= 4:  # noqa: PLR2004 - phonenumbers' limit of punctuation between two groups of digits
        return True
    gap = _FILLER.sub("", text[end:start])
    return not gap or (len(gap) <= 40 and _EXTENSION.search(gap) is not None)  # noqa: PLR2004 - see the caller
