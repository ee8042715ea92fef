"""Numbers that a text states, in one canonical form, and the other ways to write them."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Quantity(NamedTuple):
    """A number of a text: its span and its canonical value ("1,000" and "1000.0" are both "1000")."""

    start: int
    end: int
    value: str


_TO_NINE = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
_UNITS = (*_TO_NINE, *_TEENS, "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {word: i for i, word in enumerate(_UNITS)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_MAGNITUDES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "b": 9, "bn": 9, "billion": 9}
_MAGNITUDES["trillion"] = 12
_NUMBER = re.compile(
    r"(?<![^\W_])(?P<digits>\d+(?:[.,]\d+)*)"
    r"(?:\s?(?P<magnitude>(?ai:thousand|million|billion|trillion|bn|mn|[kmb]))\b)?"
    rf"|\b(?P<tens>(?ai:{'|'.join(_TENS)}))(?:[-\s](?P<unit>(?ai:{'|'.join(_TO_NINE[1:])})))?\b"
    rf"|\b(?P<word>(?ai:{'|'.join(reversed(_UNITS[2:]))}))\b"
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_LIST_MARKER = re.compile(r"(?:^|\n)[ \t>*#-]{0,8}\(?\d{1,3}[.)](?=\s)|\[\d{1,3}(?:[,\s]{1,2}\d{1,3}){0,8}\]")
_MONTHS = ("january february march april may june july august september october november december").split()  # noqa: SIM905 - the words in order read better than a list of strings
_MONTH_NUMBERS = {name: str(i) for i, name in enumerate(_MONTHS, 1)}
_MONTH_NUMBERS |= {name[:3]: number for name, number in _MONTH_NUMBERS.items() if name != "may"}
_ISO_DATE = re.compile(r"\b\d{4}-(\d{2})-\d{2}\b")
_NOON = 12
_LAST_HOUR = 23


def quantities(text: str) -> list[Quantity]:
    """Return the numbers a text states, in digits or words, with magnitudes applied ("1.2 million").

    List markers ("2.", "3)") and reference marks ("[4]") state nothing and are left out; so is "one".
    """
    markers = [(m.start(), m.end()) for m in _LIST_MARKER.finditer(text)]
    stated: list[Quantity] = []
    marker = 0
    for match in _NUMBER.finditer(text):
        while marker < len(markers) and markers[marker][1] <= match.start():
            marker += 1
        if marker < len(markers) and markers[marker][0] <= match.start():
            continue
        stated.append(Quantity(match.start(), match.end(), _canonical_value(match)))
    return stated


def _canonical_value(match: re.Match[str]) -> str:
    digits = match["digits"]
    if digits is None:
        unit = match["unit"]
        value = _NUMBER_WORDS[(match["tens"] or match["word"]).lower()]
        return str(value + (_NUMBER_WORDS[unit.lower()] if unit else 0))
    digits = digits.replace(",", "" if _THOUSANDS.match(digits) else ".")
    whole, _, fraction = digits.partition(".")
    if "." in fraction:  # a version or an address
        return digits
    shift = _MAGNITUDES[match["magnitude"].lower()] if match["magnitude"] else 0
    padded = fraction.ljust(shift, "0")
    whole, fraction = (whole + padded[:shift]).lstrip("0") or "0", padded[shift:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def stated_numbers(text: str, words: Iterable[str]) -> set[str]:
    """Return every canonical number that a text supports: those it states, and other ways to write them.

    `words` are its lower-case words. Months count as their numbers, hours after noon also on the twelve-hour
    clock, and a number with a magnitude also bare ("5m" may be metres).
    """
    known = {"0", "1"}
    for quantity in quantities(text):
        known.add(quantity.value)
        if quantity.value.isdigit() and len(quantity.value) <= len(str(_LAST_HOUR)):
            hour = int(quantity.value)
            if _NOON < hour <= _LAST_HOUR:
                known.add(str(hour - _NOON))
    known.update(match["digits"].lstrip("0") for match in _NUMBER.finditer(text) if match["magnitude"])
    known.update(_MONTH_NUMBERS[word] for word in words if word in _MONTH_NUMBERS)
    return known


def stated_months(text: str) -> set[str]:
    """Return the names of the months that a text's ISO dates fall in."""
    return {_MONTHS[int(m[1]) - 1] for m in _ISO_DATE.finditer(text) if 1 <= int(m[1]) <= len(_MONTHS)}
