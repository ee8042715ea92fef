"""Prompt injection: a text undisguised, named signals in it, a linear model over n-grams.

Features are word n-grams (1 to 3, and pairs with a gap) and character 4-grams within words, hashed into one
table per side (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"), and the named
signals. The sides are `prompt` (what the user wrote) and `indirect` (documents, tool results), because an
ordinary request is an attack where a document makes it (Greshake et al. 2023, arXiv:2302.12173).
"""

import base64
import binascii
import bisect
import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.models.ascii import BASE64, DIGIT, HEX_OR_BLANK, LEET, LETTER, SEPARATOR, AsciiTexts
from monitor.models.linear import windows

Side: TypeAlias = Literal["prompt", "indirect"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.uint32]
Owners: TypeAlias = npt.NDArray[np.intp]

TABLE, SETTINGS = "injection.npy", "injection.json"
WINDOW: Final = 320  # characters, of whole sentences
BITS: Final = 18
SIZE: Final = 1 << BITS
FEW: Final = 40
"""Features of six or seven words. A text of fewer counts as if it had these: a word or two says less."""

# Cyrillic and Greek letters that look like Latin ones.
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0458\u03b1\u03bf\u03b5\u03b9\u03c5\u03ba\u03bd",
    "aeopcyxisjaoeiukv",
)
_MIXED = re.compile(r"[a-z][\u0370-\u04ff]|[\u0370-\u04ff][a-z]", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")  # invisible twins of ASCII
_SPACED = re.compile(r"(?<!\w)(?:[^\W\d_][ .*_-]){3,}[^\W\d_](?!\w)")
_SEPARATORS = re.compile(r"[ .*_-]")
_LEET_WORD = re.compile(r"(?<![\w.@$])[a-z]*[0134578@$]+[a-z][a-z0134578@$]*(?![\w.])")
_LEET = str.maketrans("0134578@$", "oieastbas")
_ORDINALS = {"st", "nd", "rd", "th"}
_NUMBER = re.compile(r"\d+")
_BASE64 = re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{20,}={0,2}(?![\w+/])")
_HEX = re.compile(r"(?<!\w)(?:[0-9a-fA-F]{2}[ ]?){12,}(?!\w)")
_READABLE: Final = 0.9


class TextView(NamedTuple):
    """A part [start, end) of a text as the model reads it. `disguised`: something had to be undone."""

    start: int
    end: int
    text: str
    disguised: bool


def views(text: str) -> list[TextView]:
    """Cut a text into windows of sentences and undisguise each; what it encodes is a view of its own."""
    return all_views([text])[0]


def all_views(texts: Sequence[str]) -> list[list[TextView]]:
    """Return `views` of each text. What takes time is done only for texts that may hold something to undo."""
    batch = AsciiTexts(texts)
    spaced = batch.sequence(*(LETTER, SEPARATOR) * 3, LETTER)
    odd = (spaced | batch.sequence(LEET, LETTER)).tolist()
    encodes = (batch.run(BASE64, 20) | batch.run(HEX_OR_BLANK, 24)).tolist()
    numbers = batch.any(DIGIT).tolist()
    every = []
    for n, text in enumerate(texts):
        read = undisguised if odd[n] else _masked if numbers[n] else _lowered
        views = [TextView(a, b, *read(text[a:b])) for a, b in windows(text, WINDOW)]
        for start, end, payload in _payloads(text) if encodes[n] else ():
            cuts = windows(payload, WINDOW)
            views += [TextView(start, end, undisguised(payload[a:b])[0], True) for a, b in cuts]
        every.append(views)
    return every


def _lowered(text: str) -> tuple[str, bool]:
    """Undisguise an ASCII text without disguise or digits."""
    return " ".join(text.lower().split()), False


def _masked(text: str) -> tuple[str, bool]:
    """Undisguise an ASCII text without disguise."""
    return " ".join(_NUMBER.sub("0", text.lower()).split()), False


def undisguised(text: str) -> tuple[str, bool]:
    """Return the text in the form the model reads, and whether a disguise was undone.

    Undone are invisible characters, look-alike letters inside Latin words, letters spaced out, and leet.
    """
    disguised = False
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
        if _MIXED.search(plain):
            plain, disguised = plain.translate(_LOOK_ALIKES), True
        text = plain
    text = text.casefold()
    joined = _SPACED.sub(lambda m: _SEPARATORS.sub("", m[0]), text)
    joined = _LEET_WORD.sub(_unleet, joined)
    disguised = disguised or joined != text
    return " ".join(_NUMBER.sub("0", joined).split()), disguised


def _unleet(match: re.Match[str]) -> str:
    word = match[0]
    letters = sum(char.isalpha() for char in word)
    plain = letters < 2 or len(word) < 4 or word[-2:] in _ORDINALS  # noqa: PLR2004 - such as 3d, 4k, b2b
    return word if plain else word.translate(_LEET)


def _payloads(text: str) -> list[tuple[int, int, str]]:
    """Return what readable text a text encodes in base64, hexadecimal or invisible twins, with its place."""
    payloads = [
        (m.start(), m.end(), "".join(chr(ord(char) - 0xE0000) for char in m[0])) for m in _TAGS.finditer(text)
    ]
    if len(text) >= 20:  # noqa: PLR2004 - the shortest chunk
        for pattern, decode in ((_BASE64, _from_base64), (_HEX, _from_hex)):
            for match in pattern.finditer(text):
                payload = decode(match[0])
                if payload and sum(c.isalpha() or c in " ,.!?'" for c in payload) >= _READABLE * len(payload):
                    payloads.append((match.start(), match.end(), payload))
    return payloads


def _from_base64(chunk: str) -> str:
    try:
        return base64.b64decode(chunk.rstrip("=") + "=" * (-len(chunk.rstrip("=")) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""  # a long word, an identifier


def _from_hex(chunk: str) -> str:
    try:
        return bytes.fromhex(chunk).decode()
    except ValueError:
        return ""  # a hash


class Signal(NamedTuple):
    """A named pattern of undisguised text. It is looked for where one of its `stems` occurs."""

    kind: str
    stems: tuple[str, ...]
    pattern: re.Pattern[str]


_EARLIER = (
    r"(?:(?:all|any|every|everything|each|the|your|my|our|of|previous|previously|prior|above|preceding|earlier|"
    r"former|initial|original|foregoing|existing|current|these|those|this|that|past|other|system|given|"
    r"default|last|old)[ ,]+){0,6}"
)
_ORDERS = (
    r"(?:instructions?|directives?|prompts?|commands?|orders?|rules?|guidelines?|guidance|context|assignments?|"
    r"tasks?|programming|training|restrictions?|limitations?|directions|messages?|text|conversation|policies)"
)
_DROP = (
    r"(?:ignor(?:e|ing)|forget|disregard|override|overrule|bypass|neglect|dismiss|"
    r"(?:stop|not) follow(?:ing)?)"
)

SIGNALS: Final = (
    Signal(
        "override",
        ("ignor", "forget", "disregard", "overrid", "overrul", "bypass", "neglect", "dismiss", " follow"),
        re.compile(
            rf"\b{_DROP} (?:about )?(?:(?:all|any|every|everything|whatever|what)\b.{{0,40}}\b"
            rf"(?:above|before|previous|said|told|instruct)|{_EARLIER}{_ORDERS}\b|(?:the )?above\b)"
        ),
    ),
    Signal(
        "override",
        ("vergi", "vergess", "ignor", "olvid", "oubli", "dimentica", "missacht", "esque", "negeer"),
        re.compile(
            r"\b(?:vergiss|vergessen sie|missachte|ignoriere?n?|olvid[ae]|ignora|oublie[zr]?|ignore[zr]?|"
            r"dimentica|esqueça|negeer)\b.{0,40}(?:anweisung|instru[kc]|befehl|aufgabe|davor|vorher|zuvor|"
            r"bisher|obig|alles|consigne|[oó]rdenes|ant[eé]rior|pr[eé]c[eé]dent|istruzion|instruç)"
        ),
    ),
    Signal(
        "fake_turn",
        ("<|", "[inst", "<<sys", "###", "\nsystem:", "</system", "system message", "[system"),
        re.compile(
            r"<\|im_(?:start|end)\|>|\[/?inst\]|<</?sys>>|</?system>|\[system\b|new system message|"
            r"#{3,} ?(?:system|instructions?|human|assistant|user)\b"
        ),
    ),
    Signal(
        "exfiltration",
        ("prompt", "instruction", "directive", "anweisung", "consigne"),
        re.compile(
            r"\b(?:reveal|show|print|repeat|display|output|tell|give|leak|expose|write|list|"
            r"what (?:is|was|are|were))(?: out| down)?(?: to)?(?: me| us)?(?: all)?(?: the| your| of)*"
            r"(?: system| initial| hidden| secret| own| exact| internal| first)* ?(?:prompts?|instructions? "
            r"(?:above|you)|prompt texts?)\b|\b(?:your|its) "
            r"(?:system |initial |hidden |secret |original |first )+"
            r"(?:prompt|instructions?|message|directives?)\b"
        ),
    ),
    Signal(
        "role_play",
        ("anything now", " mode", "restriction", "filter", "jailb", "amoral", "limits", "no rules"),
        re.compile(
            r"\bdo anything now\b|\b(?:developer|god|jailbreak|dan|debug|unrestricted|sudo) mode\b|"
            r"\bjailbroken\b|\bunfiltered\b|\bamoral\b|\b"
            r"no (?:ethical |moral |content )*(?:restrictions|filters?|limits|rules)\b|"
            r"\bwithout (?:any )?(?:ethical |moral )*(?:restrictions|filters?|limits|rules)\b"
        ),
    ),
    Signal(
        "to_model",
        ("ai ", "assistant", "language model", "llm", "chatbot", "chatgpt", "your re", "your answer"),
        re.compile(
            r"\b(?:note|message|instructions?|attention|dear|hello|hi|hey|important|to)\b.{0,20}\b(?:ai|assistants?|"
            r"language models?|llms?|chatbots?|chatgpt)\b|\b(?:in|of|to|begin|end|start|modify|write|change) "
            r"your (?:response|reply|answer|summary|output)\b"
        ),
    ),
)
KINDS: Final = tuple(dict.fromkeys(signal.kind for signal in SIGNALS))


def signals(text: str) -> list[str]:
    """Return the kinds of the signals in an undisguised text, each once, the weightiest first."""
    return all_signals([text])[0]


def all_signals(texts: Sequence[str]) -> list[list[str]]:
    """Return `signals` of each text. Stems are looked for in all texts at once."""
    joined = "\0".join((*texts, ""))  # no stem holds the separator
    starts = list(itertools.accumulate((len(text) + 1 for text in texts), initial=0))
    by_text: list[dict[str, None]] = [{} for _ in texts]
    for signal in SIGNALS:
        likely = set()
        for stem in signal.stems:
            at = joined.find(stem)
            while at >= 0:
                n = bisect.bisect_right(starts, at) - 1
                likely.add(n)
                at = joined.find(stem, starts[n + 1])
        for n in likely:
            if signal.kind not in by_text[n] and signal.pattern.search(texts[n]):
                by_text[n][signal.kind] = None
    return [list(kinds) for kinds in by_text]


_MULTIPLIER = np.uint32(0x01000193)  # FNV-1's prime
_SEEDS = np.array([0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646C], np.uint32)
_IS_LETTER = np.array([chr(code).isalnum() for code in range(128)] + [True])
_POWERS = np.cumprod(np.full(64, _MULTIPLIER, np.uint32), dtype=np.uint32)


def hashed(texts: Sequence[str]) -> tuple[Codes, Owners]:
    """Return the buckets in [0, SIZE) of all features of undisguised texts, and each one's text's index."""
    padded = [f" {text} " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    owner = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
    words, of = _words(codes, owner)
    hashes, owners = [_mixed(words ^ _SEEDS[0])], [of]
    for gap, seed in ((1, _SEEDS[1]), (2, _SEEDS[2])):
        together = of[:-gap] == of[gap:]
        hashes.append(_mixed(((words[:-gap] * _MULTIPLIER + words[gap:]) ^ seed)[together]))
        owners.append(of[:-gap][together])
    together = of[:-2] == of[2:]
    triple = (words[:-2] * _MULTIPLIER + words[1:-1]) * _MULTIPLIER + words[2:]
    hashes.append(_mixed((triple ^ _SEEDS[3])[together]))
    owners.append(of[:-2][together])
    grams = ((codes[:-3] * _MULTIPLIER + codes[1:-2]) * _MULTIPLIER + codes[2:-1]) * _MULTIPLIER + codes[3:]
    letter = _IS_LETTER[np.minimum(codes, np.uint32(128))]
    inside = letter[1:-2] & letter[2:-1] & (owner[:-3] == owner[3:])
    hashes.append(_mixed((grams ^ _SEEDS[4])[inside]))
    owners.append(owner[:-3][inside])
    return np.concatenate(hashes), np.concatenate(owners)


def _words(codes: Codes, owner: Owners) -> tuple[Codes, Owners]:
    """Return a hash per word and the index of its text. Every padded text begins and ends with a blank."""
    letter = _IS_LETTER[np.minimum(codes, np.uint32(128))]
    starts = np.flatnonzero(letter[1:] & ~letter[:-1]) + 1
    if not len(starts):
        return np.zeros(0, np.uint32), np.zeros(0, np.intp)
    ends = np.flatnonzero(letter[:-1] & ~letter[1:]) + 1
    lengths = ends - starts
    first = np.cumsum(lengths) - lengths
    place = np.arange(lengths.sum()) - np.repeat(first, lengths)
    letters = codes[letter] * _POWERS[np.minimum(place, len(_POWERS) - 1)]
    return np.add.reduceat(letters, first, dtype=np.uint32), owner[starts]


def _mixed(values: Codes) -> Codes:
    """Spread hashes over the table (the finaliser of MurmurHash3, cut to `BITS` bits)."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values >> np.uint32(32 - BITS)


def norms(counts: npt.NDArray[np.intp]) -> Floats:
    """Return the divisor of the sum of a text's weights, given its count of features."""
    divisors: Floats = np.sqrt(np.maximum(counts, FEW))
    return divisors


class InjectionClassifier:
    """The linear model: int8 weights of shape (sides, SIZE), per side a weight per signal, an intercept.

    `tier0` and `tier1` calibrate, per side: probability = 1 / (1 + exp(-(a * linear + b * encoder + c))).
    """

    def __init__(self, table: npt.NDArray[np.int8], settings: Mapping[str, Any]) -> None:
        self._table = table.astype(np.float32).ravel() * np.float32(settings["scale"])
        self._intercepts = np.array(settings["intercepts"])
        self._signals = np.array([settings["signals"][kind] for kind in KINDS])
        self._tier0 = np.array([settings["tier0"][side] for side in SIDES])
        self._tier1 = np.array([settings["tier1"][side] for side in SIDES])

    @classmethod
    def load(cls) -> "InjectionClassifier":
        """Load the bundled weights. Raises ConfigError when a file is missing or altered."""
        settings = json.loads(models.verified(SETTINGS).read_text(encoding="utf-8"))
        return cls(np.load(models.verified(TABLE), allow_pickle=False), settings)

    def logits(self, texts: Sequence[str], kinds: Sequence[Sequence[str]], sides: Sequence[int]) -> Floats:
        """Return one logit per undisguised text, shape (len(texts),); `kinds` are its signals."""
        if not texts:
            return np.zeros(0)
        side = np.asarray(sides)
        buckets, owner = hashed(texts)
        sums = np.bincount(owner, self._table[(side * SIZE)[owner] + buckets], len(texts))
        counts = np.bincount(owner, minlength=len(texts))
        logits: Floats = sums / norms(counts) + self._intercepts[side]
        for n, named in enumerate(kinds):
            for kind in named:
                logits[n] += self._signals[KINDS.index(kind), sides[n]]
        return logits

    def first(self, linear: Floats, sides: Sequence[int]) -> Floats:
        """Return tier 0's probabilities for the logits of texts of these sides (indices of `SIDES`)."""
        return _blend(self._tier0[np.asarray(sides, np.intp)], linear, np.zeros(len(linear)))

    def second(self, linear: Floats, encoder: Floats, sides: Sequence[int]) -> Floats:
        """Return the probabilities of both tiers together."""
        return _blend(self._tier1[np.asarray(sides, np.intp)], linear, encoder)


def _blend(weights: Floats, linear: Floats, encoder: Floats) -> Floats:
    a, b, c = weights.T
    probability: Floats = 1.0 / (1.0 + np.exp(-np.clip(a * linear + b * encoder + c, -50.0, 50.0)))
    return probability
