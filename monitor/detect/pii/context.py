"""Context words before a finding, which support it as in Presidio, without spaCy.

Presidio reads a finding's own token and the five before it that are neither stop words nor punctuation, and
asks whether one of them contains a context word. Here blanks separate words. A word is never shorter than
spaCy's token, so the words read reach at least as far back, and every finding that Presidio supports is
supported here.
"""

import re
from collections.abc import Iterable

_WORDS = 6
_REACH = 240
_PIECE = re.compile(r"\w+")
_PUNCTUATION = ".,;:!?()[]{}\"'"
_BLANK = re.compile(r"\s")
_FORMS = {"save": "saving", "security": "securities", "date": "dating", "license": "licensing"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# spaCy 3.8's English stop words (MIT), and what is left of contractions without their apostrophe.
STOP_WORDS = _words(
    """
    a about above across after afterwards again against ain all almost alone along already also although
    always am among amongst amount an and another any anyhow anyone anything anyway anywhere are aren around
    as at back be became because become becomes becoming been before beforehand behind being below beside
    besides between beyond both bottom but by ca call can cannot could couldn d did didn do does doesn doing
    don done down due during each eight either eleven else elsewhere empty enough even ever every everyone
    everything everywhere except few fifteen fifty first five for former formerly forty four from front full
    further get give go had hadn has hasn have haven he hence her here hereafter hereby herein hereupon hers
    herself him himself his how however hundred i if in indeed into is isn it its itself just keep last
    latter latterly least less ll m made make many may me meanwhile might mine more moreover most mostly
    move much must mustn my myself n name namely needn neither never nevertheless next nine no nobody none
    noone nor not nothing now nowhere of off often on once one only onto or other others otherwise our ours
    ourselves out over own part per perhaps please put quite rather re really regarding s same say see seem
    seemed seeming seems serious several she should shouldn show side since six sixty so some somehow
    someone something sometime sometimes somewhere still such t take ten than that the their them themselves
    then thence there thereafter thereby therefore therein thereupon these they third this those though
    three through throughout thru thus to together too top toward towards twelve twenty two under unless
    until up upon us used using various ve very via was wasn we well were weren what whatever when whence
    whenever where whereafter whereas whereby wherein whereupon wherever whether which while whither who
    whoever whole whom whose why will with within without won would wouldn yet you your yours yourself
    yourselves
    """
)


def context_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return context words in lower case, with inflections that spaCy's lemmas would lead back to them."""
    lowered = [word.lower() for word in words]
    return (*lowered, *(_FORMS[word] for word in lowered if word in _FORMS))


def is_supported(text: str, start: int, words: tuple[str, ...]) -> bool:
    """Return whether one of the words (from `context_words`) is within reach before `start`, or at it."""
    blank = _BLANK.search(text, start)
    stop = blank.start() if blank else len(text)
    reach = _REACH
    while True:
        begin = max(0, start - reach)
        counted = 0
        for word in reversed(text[begin:stop].lower().split()[begin > 0 :]):  # the first may be cut
            counts, supports = _weigh(word, words)
            if supports:
                return True
            if counted == 0 and not counts and _follows(text, stop, words):
                return True
            counted += counts
            if counted == _WORDS:
                return False
        if begin == 0:
            return False
        reach *= 4


def _weigh(word: str, words: tuple[str, ...]) -> tuple[bool, bool]:
    """Return whether a word is certainly one of Presidio's keywords, and whether it supports a finding."""
    bare = word.strip(_PUNCTUATION)
    pieces = [piece for piece in _PIECE.findall(bare) if piece not in STOP_WORDS]
    counts = bool(pieces) and ":" not in bare
    return counts, (bool(pieces) or not bare.isalnum()) and any(wanted in bare for wanted in words)


def _follows(text: str, stop: int, words: tuple[str, ...]) -> bool:
    """Return whether the next word is a context word; as in Presidio, read if the finding's own is not."""
    for word in text[stop : stop + _REACH].lower().split():
        counts, supports = _weigh(word, words)
        if counts or supports:
            return supports
    return False
