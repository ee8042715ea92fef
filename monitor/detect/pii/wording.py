"""Ages and titles: what the words around a number or a name give away."""

import re
from collections.abc import Iterator

from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

_OLDEST = 120
_REACH = 16  # characters: the longest wording next to an age
_LATER = re.compile(r"(?i)[ -]?(?:years?|yrs?|months?|weeks?)[ -](?:old\b|of age\b)|[ -]?(?:y/o|y\.o\.|yo\b)")
_EARLIER = re.compile(
    r"(?i)\b(?:aged|age(?: is| of|:)?|(?:just|has|have|had|recently|i) turned|turning|turns)[ :]{1,2}$"
)
_NOT_AGE = re.compile(r"[.,:/-]?\d|%| ?(?:times|minutes|hours|percent|degrees|miles|pages|days|points)\b")
_BEING = re.compile(r"(?i)\b(?:i am|i'm|he is|he's|she is|she's|who is|who's) $")
_BEEN = re.compile(
    r"(?i) ?(?:[.,;!?)](?!\d)|$|(?:and|but)\b|years?\b(?! (?:behind|late|ahead))|yrs?\b|(?:fe)?male\b|y/o)"
)
_TITLES = (
    "Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Dame|Rev|Reverend|Hon|Herr|Frau|Mme|Mlle|Monsieur|Madame"
    "|Se\u00f1or|Se\u00f1ora|Sra|Signor|Signora"
)
_TITLE = re.compile(
    rf"\b(?:{_TITLES})\b\.?(?= [^\W\d_a-z])|(?i:\b(?:mr|mrs|ms|mx|dr|prof|rev)\.(?= ?[^\W\d_]))"
    r"|\b(?:mrs|mr|dr)(?= [^\W\d_]{2})"
)
_TITLE_WORDS = frozenset(_TITLES.lower().split("|"))


def find(view: NumericView) -> Iterator[EntitySpan]:
    """Yield ages (the number alone) and titles before names, in no order."""
    for start, end in view.numbers if view.digest else ():
        if end - start <= len(str(_OLDEST)) and 0 < int(view.text[start:end]) <= _OLDEST:
            before, after = view.text[max(0, start - _REACH) : start], view.text[end : end + _REACH]
            stated = _EARLIER.search(before) and not _NOT_AGE.match(after)
            if stated or _LATER.match(after) or (_BEING.search(before) and _BEEN.match(after)):
                yield EntitySpan(start, end, "AGE", 0.7)
    if not view.words.isdisjoint(_TITLE_WORDS):
        for match in _TITLE.finditer(view.text):
            yield EntitySpan(*match.span(), "TITLE", 0.7)
