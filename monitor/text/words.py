"""Lexicon of single words: stop words, negations, opposites, stems, parts of names."""

import functools
import re
from collections.abc import Sequence

from monitor.text.segments import Token, word_set

STOPWORDS = word_set(
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
NEGATIONS = word_set(
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


def name_tokens(text: str, sentence: Sequence[Token]) -> list[Token]:
    """Return the tokens of one sentence that look like parts of a name: capitalised, or holding a capital.

    A sentence's first word counts only when it holds a second capital or the next word is capitalised too.
    """
    parts: list[Token] = []
    for i, token in enumerate(sentence):
        if not text[token.start].isupper() or token.word in STOPWORDS:
            continue
        if i == 0 and not any(c.isupper() for c in text[token.start + 1 : token.end]):
            following = sentence[1] if len(sentence) > 1 else None
            if following is None or not text[following.start].isupper() or following.word in STOPWORDS:
                continue
        parts.append(token)
    return parts
