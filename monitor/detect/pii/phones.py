"""Phone numbers: what `phonenumbers` accepts in eight regions, as Presidio's recognizer asks it to."""

# ruff: noqa: E501 - a regular expression or a row of a table reads best on one line

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from monitor.detect.pii.context import context_words, is_supported
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

_FILLER = re.compile(r"[ \u00a0\t,-]+")
_DIGITS = re.compile(r"\d+")
_LEAD = 12  # two brackets or pluses with four signs of punctuation each, and the character before
_GAP = 4  # phonenumbers' limit of punctuation between two groups of digits
# The text between a number and its extension, as in phonenumbers' pattern of candidates.
_EXTENSION = re.compile(
    "(?i);ext=|[ \u00a0\t,]*(?:e?xt(?:ensi(?:o\u0301?|\u00f3))?n?|\uff45?\uff58\uff54\uff4e?|\u0434\u043e\u0431|anexo"
    "|[x\uff58#\uff03~\uff5e]|int|\uff49\uff4e\uff54)[:.\uff0e]?[ \u00a0\t,-]*"
)
_SHORT = 6  # digits: a part with fewer is more often a year, a price or a time of day
_PLUS = re.compile("[+\uff0b]")


class _Cluster(NamedTuple):
    start: int
    end: int
    digits: int


class Phones:
    """Phone numbers of some regions, with or without their country's code.

    A number the matcher accepts is valid somewhere, so it has at least as many digits as the shortest valid
    number: of the region, or of any behind an international prefix (two digits and a country code, or a plus).
    Parts of a text with fewer digits are left out.
    """

    def __init__(self, regions: Sequence[str]) -> None:
        import phonenumbers

        self._matcher: Any = phonenumbers.PhoneNumberMatcher
        shortest = {code: _shortest(phonenumbers, code) for code in phonenumbers.SUPPORTED_REGIONS}
        self._anywhere = min(shortest.values())
        calling: dict[int, str] = {}  # regions that share a country code and its main region accept the same
        for region in regions:
            calling.setdefault(phonenumbers.country_code_for_region(region), region)
        self._regions = [(r, min(shortest[r], self._anywhere + 3)) for r in calling.values()]
        self._least = min(least for _, least in self._regions)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of what can be a phone number; one place may come several times."""
        for start, end, digits in _clusters(text):
            signed = digits > self._anywhere and _PLUS.search(text, start, end)
            if digits < self._least and not signed:
                continue
            part = text[start:end]
            short = digits <= _SHORT and not signed and "".join(_DIGITS.findall(part))
            for region, least in self._regions:
                if (digits >= least or signed) and not (short and not _holds_number(short, region, least)):
                    for match in self._matcher(part, region, leniency=1):
                        yield start + match.start, start + match.end


@functools.lru_cache(maxsize=16_384)  # years, prices and times of day come again and again
def _holds_number(digits: str, region: str, least: int) -> bool:
    """Return whether some run of the digits is a valid number of a region; else no candidate can be valid."""
    import phonenumbers

    for start in range(len(digits) - least + 1):
        for end in range(start + least, len(digits) + 1):
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(digits[start:end], region)):
                    return True
            except phonenumbers.NumberParseException:
                continue
    return False


def _shortest(phonenumbers: Any, region: str) -> int:
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return min((n for n in metadata.general_desc.possible_length if n > 0), default=99)


def _clusters(text: str) -> Iterator[_Cluster]:
    """Yield the parts of a text around its digits.

    Digits are in one part when one phone number could span them: at most four signs of punctuation apart, or
    an extension's label. Each part is widened by the leading signs of a number and the characters that can
    rule it out, but never by another part's digits.
    """
    parts: list[_Cluster] = []
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        if parts and _is_one_number(text, parts[-1].end, start):
            first, _, digits = parts[-1]
            parts[-1] = _Cluster(first, end, digits + end - start)
        else:
            parts.append(_Cluster(start, end, end - start))
    befores = [0, *(part.end for part in parts)]
    afters = [*(part.start for part in parts[1:]), len(text)]
    for (start, end, digits), before, after in zip(parts, befores, afters, strict=False):
        yield _Cluster(max(before, start - _LEAD), min(after, end + _LEAD), digits)


def _is_one_number(text: str, end: int, start: int) -> bool:
    if start - end <= _GAP:
        return True
    return (_FILLER.fullmatch(text, end, start) or _EXTENSION.fullmatch(text, end, start)) is not None


_FORM = re.compile(
    r"(?<![\w./+(-])(?<!\d,)(?:\+|00)?\(?\d[\d ().\-/]{4,20}\d(?:(?: ?(?:x|ext\.?|#) ?)\d{1,6})?(?!\w|[/.,:-]\d)"
)
_SURE = re.compile(
    r"(?:\+|00)[1-9]|\(0?\d{2,4}\) ?\d{3,4}[ -]\d{3,4}$|0\d{1,4}[ /-]\d{2,8}(?:[ -]\d{2,5}){0,3}$"
)
_BEFORE = context_words(
    [
        "phone",
        "tel",
        "call",
        "mobile",
        "cell",
        "fax",
        "whatsapp",
        "dial",
        "text",
        "reach",
        "contact",
        "sms",
        "answering",
        "ring",
        "messages",
        "handy",
    ]
)
_CALL = re.compile(
    r"(?i)\b(?:call|ring|dial|text|fax)(?: (?:me|us|him|her|them|back|on|at|my|the))*[ :]{1,2}$"
)
_AFTER = re.compile(r"[ -]{0,2}\(?(?:office|fax|mobile|cell|phone|home|work|desk|tel)\b", re.IGNORECASE)
_ASKED = 40  # characters: the longest wording before a number
_SHORTEST, _LONGEST = 6, 15  # ITU-T E.164; six is the shortest subscriber number people write in groups


def written(view: NumericView) -> Iterator[EntitySpan]:
    """Yield numbers that no numbering plan confirms, but that by form or nearby words are phone numbers."""
    text = view.text
    for match in _FORM.finditer(view.digest):
        value = match.group()
        number = re.split("x|ext|#", value, maxsplit=1)[0]
        digits = sum(c.isdigit() for c in number)
        if not _SHORTEST <= digits <= _LONGEST or number.count("(") != number.count(")") or "  " in value:
            continue
        start = view.place(match.start())
        end = start + len(value)
        asked = _CALL.search(text[max(0, start - _ASKED) : start])
        if asked or _AFTER.match(text, end) or is_supported(text, start, _BEFORE):
            yield EntitySpan(start, end, "PHONE_NUMBER", 0.7)
        elif _SURE.match(number) and 9 <= digits <= 13:  # noqa: PLR2004 - a national number with its trunk prefix
            yield EntitySpan(start, end, "PHONE_NUMBER", 0.45)
