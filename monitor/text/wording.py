"""Wording that gives a sentence away: refusals, a knowledge cut-off, courtesies, references to sources."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_DECLINES = re.compile(
    r"\b(?:(?:could|can|did|do|does|was|is|are|were|will|would)(?:n['\u2019]?t|\s?not)|can['\u2019]?t|won['\u2019]?t|unable\s+to|no)\s+"
    r"(?:be\s+|been\s+|able\s+to\s+|specifically\s+|explicitly\s+|currently\s+|any\s+|enough\s+|further\s+)?"
    r"(?:find|found|locate|know|see|have|contain|mention|mentioned|specify|specified|state|stated|say|include|"
    r"included|provide|provided|cover|covered|answer|help|assist|discuss|comply|fulfil|fulfill|determine|confirm|"
    r"verify|available|information|details|mention|data|documents?|results?|address|sure|certain)\b"
    r"|\b(?:i['\u2019]?m|i\s+am|we\s+are|we['\u2019]re)\s+(?:sorry|unable|not\s+(?:able|sure|certain))\b"
    r"|\bas\s+an\s+ai\b|\binsufficient\s+information\b|\bbeyond\s+(?:my|the)\s+(?:scope|knowledge)\b",
    re.IGNORECASE,
)


def declines(text: str) -> bool:
    """Return whether a text says that it will not, or cannot, answer."""
    return _DECLINES.search(text) is not None


_CUTOFF = re.compile(
    r"\b(?:my|our)\s(?:knowledge|training)(?:\sdata)?\s(?:cut-?\s?off|only\s(?:goes|extends)|ends|ended|is\slimited)\b"
    r"|\b(?:knowledge|training|data)\scut-?\s?off\b|\bas\sof\smy\s(?:last|latest|knowledge|training)\b"
    r"|\b(?:was|were|been)\s(?:last\s)?(?:trained|updated)\s(?:up\s)?(?:until|through|to|in)\s(?:\w{3,9}\s)?20\d\d\b",
    re.IGNORECASE,
)


def states_cutoff(text: str) -> bool:
    """Return whether a text says that its author's knowledge ends at some time."""
    return _CUTOFF.search(text) is not None


_COURTESY = re.compile(
    r"(?:\W*(?:sure|of course|certainly|absolutely|great|okay|ok|hello|hi)\b[\s,.!]*)?"
    r"(?:please\b|let\s+(?:me|us)\s+know\b|feel\s+free\b|if\s+you\s+(?:have|need|want|would|['\u2019]d)\b|thank|"
    r"(?:i|we)\s+hope\b|(?:i|we)(?:['\u2019]m|\s+am|['\u2019]d|\s+are|\s+would)\s+(?:be\s+)?(?:happy|glad)\b|"
    r"here(?:['\u2019]s|\s+is|\s+are)\b|you['\u2019]re\s+welcome\b|sorry\b|i\s+apologi[sz]e\b)",
    re.IGNORECASE,
)


_POLITE = re.compile(
    r"(?:ask(?:ing)?|assist|assistance|certainly|course|glad|happy|hello|help(?:ed|s)?|hi|hope|else|pleasure|"
    r"questions?|sure|thank|thanks|understood|unclear|welcome)"
)
_FILLER = frozenset({
    "a", "and", "answers", "any", "anything", "are", "can", "clear", "day", "feel", "for", "found", "further",
    "good", "great", "have", "hear", "here", "how", "i", "if", "in", "is", "it", "just", "know", "let", "me",
    "more", "my", "need", "of", "ok", "okay", "other", "out", "problem", "reach", "something", "sounds",
    "that", "the", "there", "this", "to", "today", "touch", "up", "us", "we", "what", "will", "with",
    "would", "you", "your",
})  # fmt: skip
_POLITE_WORDS = 14  # beyond this many words a sentence is about something


def is_courtesy(sentence: str) -> bool:
    """Return whether a sentence only serves the conversation: an offer, a thank-you, a lead-in.

    It opens like one, or it is short and holds nothing but polite words and fillers.
    """
    if _COURTESY.match(sentence) is not None:
        return True
    words = [
        word.partition("'")[0] for word in re.findall(r"[\w']+", sentence.lower().replace("\u2019", "'"))
    ]
    polite = [_POLITE.fullmatch(word) is not None for word in words[: _POLITE_WORDS + 1]]
    if not any(polite) or len(words) > _POLITE_WORDS:
        return False
    return all(kind or word in _FILLER for word, kind in zip(words, polite, strict=True))


_REFERENCES = re.compile(
    r"(?P<doi>\b10\.\d{4,9}/[^\s\"<>]{1,200})"
    r"|(?P<url>\bhttps?://[^\s<>\"'\]\uff09]{1,2000})"
    r"|(?P<citation>\barXiv:\s?\d{4}\.\d{4,5}"
    r"|\b[A-Z][\w'\u2019-]{1,30}(?:\s(?:et\sal\.?|(?:and|&)\s[A-Z][\w'\u2019-]{1,30}))?,?\s\(?(?:19|20)\d\d[a-z]?\)"
    r"|\b[A-Z][\w.'\u2019-]{1,30}\sv\.\s[A-Z][\w.'\u2019-]{1,30})"
    r"|\b(?:pip3?|uv(?:\spip)?|npm|yarn|pnpm|cargo|gem)\s(?:install|add|i)\s(?P<package>[@\w][\w./@-]{1,80})"
    r"|[\u201c\"](?P<quote>[^\u201c\u201d\"\n]{30,400})[\u201d\"]"
)


class Reference(NamedTuple):
    """A pointer to a source in a text: its span, its kind and its normal form.

    Kinds: `url`, `doi`, `citation`, `package` (what an install command names) and `quote`.
    """

    start: int
    end: int
    kind: str
    target: str


def references(text: str) -> Iterator[Reference]:
    """Yield URLs, DOIs, literature or case citations, packages and quotes, normalised for comparison."""
    for match in _REFERENCES.finditer(text):
        kind = str(match.lastgroup)
        # The closing bracket of a citation belongs to it: "Smith (2020)".
        target = match[kind].rstrip(".,;:!?)*_`" if kind != "citation" else ".,;")
        yield Reference(match.start(kind), match.start(kind) + len(target), kind, normal_form(target))


def normal_form(reference: str) -> str:
    """Return a text in lower case without URL schemes, `www.`, or repeated white space."""
    bare = re.sub(r"https?://(?:www\.)?", "", reference.lower()).rstrip("/")
    return " ".join(bare.split())
