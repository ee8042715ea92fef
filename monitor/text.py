"""Text measures shared by detectors: sentences, words, stems, numbers, names, negation, refusals, references.

All are pure, take the text whole and run in linear time: no pattern nests quantifiers over the same
characters. Offsets are Python string indices. English first; other languages keep their words and numbers.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec


class TextSpan(msgspec.Struct, frozen=True, gc=False):
    """A half-open range of characters [start, end)."""

    start: int
    end: int


class Token(NamedTuple):
    """A word or number of a text: its span and its lower-case form."""

    start: int
    end: int
    word: str


class Quantity(NamedTuple):
    """A number of a text: its span and its canonical value ("1,000" and "1000.0" are both "1000")."""

    start: int
    end: int
    value: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Possessive quantifiers, and runs entered only at their beginning, keep this linear.
_BREAK = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]*_]*+\s++|[\u3002\uff01\uff1f]++|\n\s*+"
)
_ABBREVIATIONS = _words(
    "mr mrs ms dr prof sr jr st vs etc inc ltd co corp dept approx est gen col sgt rev hon gov sen rep e.g"
    " i.e a.m p.m u.s u.k ph.d jan feb mar apr jun jul aug sep sept oct nov dec al cf"
)
_BEFORE_NUMBERS = _words("no nos fig figs vol p pp ch sec art")
_LAST_WORD = re.compile(r"[^\W_](?:[\w.]{0,14}\w)?\Z")


def sentences(text: str) -> list[TextSpan]:
    """Return the sentences of a text, trimmed of white space, in order; each line stands alone.

    A full stop ends no sentence after a known abbreviation or a single initial, or before a lower-case
    letter. Every character that is not white space belongs to exactly one sentence.
    """
    found: list[TextSpan] = []
    start = 0
    for match in _BREAK.finditer(text):
        if _ends_sentence(text, start, match):
            _append_trimmed(found, text, start, match.end())
            start = match.end()
    _append_trimmed(found, text, start, len(text))
    return found


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match.group()
    following = text[match.end() : match.end() + 1]
    if mark[0] in "!?\u3002\uff01\uff1f" or "\n" in mark:
        return True
    if following.islower():
        return False
    word = _LAST_WORD.search(text, max(start, match.start() - 16), match.start())
    if word is None or mark[0] == "…" or mark.startswith(".."):
        return True
    last = word.group()
    is_initial = len(last) == 1 and last.isupper() and last != "I"
    is_list_marker = last.isdigit() and not text[start : word.start()].strip(" *#-(")
    introduces_number = last.lower() in _BEFORE_NUMBERS and following.isdigit()
    return not (is_initial or is_list_marker or introduces_number or last.lower() in _ABBREVIATIONS)


def _append_trimmed(found: list[TextSpan], text: str, start: int, end: int) -> None:
    part = text[start:end]
    left = len(part) - len(part.lstrip())
    if left < len(part):
        found.append(TextSpan(start + left, start + len(part.rstrip())))


_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+(?:[.,:]\d+)*")


def tokens(text: str) -> list[Token]:
    """Return words (letters, with an inner apostrophe) and numbers (digits, with inner separators)."""
    return [Token(m.start(), m.end(), m.group().lower().replace("\u2019", "'")) for m in _WORD.finditer(text)]


def words(text: str) -> list[str]:
    """Return the lower-case forms of `tokens`, several times as fast."""
    return [word.lower() for word in _WORD.findall(text.replace("\u2019", "'"))]


STOPWORDS = _words(
    "a about above after again all also although always am an and any are aren't as at be because been before"
    " being below between both but by can can't cannot could couldn't did didn't do does doesn't doing don't"
    " down due during each either else etc even ever every few for from further get gets got had hadn't has"
    " hasn't have haven't having he he's her here here's hers herself him himself his how however i i'd i'll"
    " i'm i've if in into is isn't it it's its itself just let's like may me might more most much must my"
    " myself neither no nor not now of off on once one only or other our ours ourselves out over own per"
    " please quite rather really same she she's should shouldn't since so some such sure than that that's the"
    " their theirs them themselves then there there's these they they're this those though through thus"
    " to too under until up upon us very was wasn't we we'll we're we've well were weren't what what's when"
    " where whether which while who who's whom whose why will with within without won't would wouldn't yes"
    " yet you you'd you'll you're you've your yours yourself"
)
NEGATIONS = _words(
    "no not never none nobody nothing neither nor cannot can't don't doesn't didn't isn't aren't wasn't"
    " weren't won't wouldn't shouldn't couldn't hasn't haven't hadn't without unable fail fails failed refuse"
    " refused deny denied prohibited forbidden excluded impossible lack lacks lacked"
)
_OPPOSED = (
    "increase decrease|increases decreases|increased decreased|increasing decreasing|rise fall|"
    "rises falls|rose fell|up down|high low|higher lower|highest lowest|more less|more fewer|"
    "most least|before after|early late|earlier later|first last|win lose|won lost|victory defeat|"
    "accept reject|accepted rejected|accepted refused|agreed refused|agree disagree|allow forbid|"
    "allowed prohibited|allowed banned|approved rejected|approved denied|confirmed denied|"
    "support oppose|supported opposed|supports opposes|love hate|good bad|best worst|better worse|"
    "positive negative|success failure|successful unsuccessful|strong weak|large small|big small|"
    "bigger smaller|larger smaller|largest smallest|long short|longer shorter|old young|older younger|"
    "oldest youngest|old new|male female|man woman|men women|boy girl|father mother|son daughter|"
    "brother sister|husband wife|king queen|he she|his her|northern southern|eastern western|"
    "left right|buy sell|bought sold|open close|opened closed|open closed|start end|begin end|"
    "began ended|start finish|include exclude|includes excludes|inside outside|above below|over under|"
    "public private|legal illegal|possible impossible|able unable|happy unhappy|happy sad|"
    "satisfied dissatisfied|rich poor|hot cold|hard easy|difficult easy|difficult simple|fast slow|"
    "faster slower|alive dead|born died|true false|safe dangerous|same different|similar different|"
    "common rare|majority minority|gain loss|gains losses|profit loss|growth decline|grew shrank|"
    "grew declined|improve worsen|improved worsened|expand shrink|raise lower|raised lowered|"
    "raised cut|add remove|added removed|join leave|joined left|arrived left|guilty innocent|"
    "internal external|major minor|maximum minimum|optimistic pessimistic|confident doubtful|"
    "interested uninterested|encourage discourage|remember forget|send receive|sent received|give take|"
    "gave took|ancient modern|temporary permanent|voluntary mandatory|optional required|free paid|"
    "cheap expensive|urban rural|domestic foreign|local international|natural artificial|"
    "single married|single multiple|always never|all none|many few|several few|often rarely|"
    "usually rarely|frequently rarely|with without|day night|morning evening|summer winter|"
    "former current|previous next|deep shallow|wide narrow|full empty|near far|active inactive|"
    "present absent|direct indirect|formal informal|friend enemy|agent client|agent customer|"
    "buyer seller|simple complex|simple complicated|specific general|accurate inaccurate|"
    "effective ineffective|efficient inefficient|superior inferior|benefit harm|advantage disadvantage|"
    "reduce increase|reduced increased|declined increased|fell increased|upper lower|top bottom|"
    "stable unstable|continue stop|keep discard|build destroy|built destroyed|praised criticized|"
    "likely unlikely|certain uncertain"
)
_CLASSES = (
    "january february march april may june july august september october november december",
    "monday tuesday wednesday thursday friday saturday sunday",
    "red blue green yellow black white orange purple pink brown gray",
    "north south east west",
    "first second third fourth fifth sixth seventh eighth ninth tenth",
    "minutes hours days weeks months years decades",
    "daily weekly monthly quarterly yearly",
    "gold silver bronze",
    "thousand million billion trillion",
)
OPPOSITES: dict[str, frozenset[str]] = {}
"""Per word, those that cannot be true of the same thing: its antonyms, or the others of its class."""
for _group in (*_OPPOSED.split("|"), *_CLASSES):
    for _word in _group.split():
        OPPOSITES[_word] = OPPOSITES.get(_word, frozenset()) | (frozenset(_group.split()) - {_word})
_VOWEL = re.compile(r"[aeiouyà-öø-ÿ]")
_STEM = 3  # letters a stem keeps at least, so that short words stay apart


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return a lower-case word without its inflection; light, so that different words seldom meet."""
    word = word.removesuffix("'s")
    if len(word) > _STEM and word[-1] == "s" and word[-2] not in "sui":
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > _STEM + 1 else word[:-1]
    for suffix in ("ied", "ing", "ed", "ly"):
        root = word[: -len(suffix)]
        if word.endswith(suffix) and len(root) >= _STEM and _VOWEL.search(root):
            if suffix == "ied":
                return root + "y"
            return root[:-1] if root[-1] == root[-2] and root[-1] not in "lsz" else root.rstrip("e")
    return word.rstrip("e") if len(word) > _STEM else word


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
    found: list[Quantity] = []
    marker = 0
    for match in _NUMBER.finditer(text):
        while marker < len(markers) and markers[marker][1] <= match.start():
            marker += 1
        if marker < len(markers) and markers[marker][0] <= match.start():
            continue
        found.append(Quantity(match.start(), match.end(), _value(match)))
    return found


def _value(match: re.Match[str]) -> str:
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


def names(text: str, of_sentence: Sequence[Token]) -> list[Token]:
    """Return the tokens of one sentence that look like parts of a name: capitalised, or holding a capital.

    A sentence's first word counts only when it holds a second capital or the next word is capitalised too.
    """
    found: list[Token] = []
    for i, token in enumerate(of_sentence):
        if not text[token.start].isupper() or token.word in STOPWORDS:
            continue
        if i == 0 and not any(c.isupper() for c in text[token.start + 1 : token.end]):
            following = of_sentence[1] if len(of_sentence) > 1 else None
            if following is None or not text[following.start].isupper() or following.word in STOPWORDS:
                continue
        found.append(token)
    return found


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
    """Whether a text says that it will not, or cannot, answer."""
    return _DECLINES.search(text) is not None


_CUTOFF = re.compile(
    r"\b(?:my|our)\s(?:knowledge|training)(?:\sdata)?\s(?:cut-?\s?off|only\s(?:goes|extends)|ends|ended|is\slimited)\b"
    r"|\b(?:knowledge|training|data)\scut-?\s?off\b|\bas\sof\smy\s(?:last|latest|knowledge|training)\b"
    r"|\b(?:was|were|been)\s(?:last\s)?(?:trained|updated)\s(?:up\s)?(?:until|through|to|in)\s(?:\w{3,9}\s)?20\d\d\b",
    re.IGNORECASE,
)


def states_cutoff(text: str) -> bool:
    """Whether a text says that its author's knowledge ends at some time."""
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
    """Whether a sentence only serves the conversation: an offer, a thank-you, a lead-in.

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
        found = match[kind].rstrip(".,;:!?)*_`" if kind != "citation" else ".,;")
        yield Reference(match.start(kind), match.start(kind) + len(found), kind, normal_form(found))


def normal_form(reference: str) -> str:
    """Return a text in lower case without URL schemes, `www.`, or repeated white space."""
    bare = re.sub(r"https?://(?:www\.)?", "", reference.lower()).rstrip("/")
    return " ".join(bare.split())
