"""A linear classifier over hashed n-grams, in numpy: the tier-0 toxicity model.

Features are character n-grams (2 to 5) and word uni- and bigrams of the normalised text, hashed into one
table (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"); the score is the sum of
their weights over the square root of their number, put through Platt's sigmoid. Normalisation undoes common
disguises (compatibility forms, look-alike letters, leet, spaced-out letters) and masks what is not language
(links, handles, digits).
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.models.ascii import BORDER, LEET, LETTER, SEPARATOR, AsciiTexts

Floats: TypeAlias = npt.NDArray[np.float64]
Buckets: TypeAlias = npt.NDArray[np.uint32]

BITS = 20
CHAR_ORDERS = (2, 3, 4, 5)
_MULTIPLIER = np.uint32(0x01000193)  # FNV-1's prime
_WORD_SEED, _PAIR_SEED = np.uint32(0x9E3779B9), np.uint32(0x85EBCA6B)

_LINK = re.compile(r"(?:https?://|www\.)\S+")
_HANDLE = re.compile(r"(?<!\w)@(?!ss)\w+")
_SPACED = re.compile(r"\b(?:[a-z][ .*_-]){2,}[a-z]\b")
_SEPARATORS = re.compile(r"[ .*_-]")
_LEET_WORD = re.compile(
    r"(?<![a-z0-9@$!])(?=[a-z0-9@$!]*[a-z])[a-z0-9@$!]*[0134578@$!](?=[a-z])[a-z0-9@$!]*[a-z]"
)
_LEET = str.maketrans("0134578@$!", "oieastbasi")
_REPEATED = re.compile(r"(.)\1{2,}")
_NUMBER = re.compile(r"\d")
_DIGITS = str.maketrans("123456789", "000000000")
# Cyrillic and Greek letters that look like Latin ones; zero-width characters and soft hyphens are dropped.
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0458\u043a\u043c\u0442\u0432\u043d\u03b1\u03bf\u03b5\u03b9\u03c5\u03ba\u03bd",
    "aeopcyxisjkmtbhaoeiukv",
    "\u200b\u200c\u200d\u2060\ufeff\u00ad",
)


_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+|\n+")


def windows(text: str, size: int) -> list[tuple[int, int]]:
    """Cut a text into (start, end) offsets of whole sentences of at most `size` characters; they tile it.

    A longer sentence is cut at a blank, a longer word anywhere.
    """
    if len(text) <= size:
        return [(0, len(text))]
    cuts = [match.end() for match in _SENTENCE_END.finditer(text)]
    cuts.append(len(text))
    ranges: list[tuple[int, int]] = []
    start, last = 0, 0  # of the open window: where it begins, where its last whole sentence ends
    for cut in cuts:
        if cut - start > size and last > start:
            ranges.append((start, last))
            start = last
        while cut - start > size:
            blank = text.rfind(" ", start + 1, start + size)
            end = blank + 1 if blank > start else start + size
            ranges.append((start, end))
            start = end
        last = cut
    if last > start or not ranges:
        ranges.append((start, last))
    return ranges


def normalised(text: str) -> str:
    """Return the text in the form the model reads."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_LOOK_ALIKES)
    text = _HANDLE.sub("@user", _LINK.sub("url", text))
    text = _SPACED.sub(lambda m: _SEPARATORS.sub("", m[0]), text)
    text = _LEET_WORD.sub(lambda m: m[0].translate(_LEET), text)
    return " ".join(_REPEATED.sub(r"\1\1", _NUMBER.sub("0", text)).split())


def all_normalised(texts: Sequence[str]) -> list[str]:
    """Return `normalised` of each text; of plain ones only case, digits and blanks are touched."""
    batch = AsciiTexts(texts)
    disguised = batch.sequence(BORDER, *(LETTER, SEPARATOR) * 2, LETTER, BORDER) | batch.sequence(
        LEET, LETTER
    )
    odd = (disguised | batch.thrice()).tolist()
    return [normalised(text) if n else _plain(text) for n, text in zip(odd, texts, strict=True)]


def _plain(text: str) -> str:
    """Return `normalised` of an ASCII text that holds no disguise; a link or a handle it may hold."""
    text = text.lower()
    if "@" in text or "://" in text or "www." in text:
        return normalised(text)
    text = text.translate(_DIGITS)
    while "000" in text:
        text = text.replace("000", "00")
    return " ".join(text.split())


def hashed(texts: Sequence[str]) -> tuple[Buckets, npt.NDArray[np.intp]]:
    """Return the buckets of all n-grams of all texts, and the index of each one's text."""
    padded = [f" {text} " for text in all_normalised(texts)]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    owner = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
    buckets, owners = [], []
    gram = codes
    for order in range(2, CHAR_ORDERS[-1] + 1):
        gram = gram[:-1] * _MULTIPLIER + codes[order - 1 :]
        inside = owner[: len(gram)] == owner[order - 1 :]
        buckets.append(_mixed(gram[inside] + np.uint32(order)))
        owners.append(owner[: len(gram)][inside])
    words, word_owner = _words(codes, owner)
    together = word_owner[:-1] == word_owner[1:]
    pairs = (words[:-1] * _MULTIPLIER + words[1:])[together]
    buckets += [_mixed(words ^ _WORD_SEED), _mixed(pairs ^ _PAIR_SEED)]
    owners += [word_owner, word_owner[:-1][together]]
    return np.concatenate(buckets), np.concatenate(owners)


def _words(codes: Buckets, owner: npt.NDArray[np.intp]) -> tuple[Buckets, npt.NDArray[np.intp]]:
    """Return a hash per word and the index of its text. Every padded text begins and ends with a blank."""
    letter = _IS_LETTER[np.minimum(codes, np.uint32(128))]
    starts = np.flatnonzero(letter[1:] & ~letter[:-1]) + 1
    if not len(starts):
        return np.zeros(0, np.uint32), np.zeros(0, np.intp)
    ends = np.flatnonzero(letter[:-1] & ~letter[1:]) + 1
    lengths = ends - starts
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    letters = codes[letter] * _POWERS[np.minimum(place, len(_POWERS) - 1)]
    return np.add.reduceat(letters, np.cumsum(lengths) - lengths, dtype=np.uint32), owner[starts]


def _mixed(values: Buckets) -> Buckets:
    """Spread hashes over the table (the finaliser of MurmurHash3, cut to `BITS` bits)."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values >> np.uint32(32 - BITS)


_IS_LETTER = np.array([chr(code).isalnum() for code in range(128)] + [True])
_POWERS = np.cumprod(np.full(64, _MULTIPLIER, np.uint32), dtype=np.uint32)


class Calibration(NamedTuple):
    """Platt's sigmoid: probability = 1 / (1 + exp(-(slope * score + offset)))."""

    slope: float
    offset: float

    def probability(self, scores: Floats) -> Floats:
        """Return probabilities for raw scores."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.slope * scores + self.offset, -500, 500)))


class NgramClassifier:
    """The trained model: one int8 weight per bucket, a scale, an intercept, a calibration."""

    def __init__(
        self, weights: npt.NDArray[np.int8], scale: float, intercept: float, calibration: Calibration
    ) -> None:
        self._weights = weights.astype(np.float32) * np.float32(scale)
        self._intercept = intercept
        self.calibration = calibration

    @classmethod
    def load(cls, name: str) -> "NgramClassifier":
        """Load `<name>.npy` and `<name>.json`. Raises ConfigError when either is missing or altered."""
        settings: dict[str, Any] = json.loads(models.verified(f"{name}.json").read_text(encoding="utf-8"))
        weights = np.load(models.verified(f"{name}.npy"), allow_pickle=False)
        calibration = Calibration(settings["slope"], settings["offset"])
        return cls(weights, settings["scale"], settings["intercept"], calibration)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return one probability per text, of shape (len(texts),)."""
        return self.calibration.probability(self.scores(texts))

    def scores(self, texts: Sequence[str]) -> Floats:
        """Return one raw score per text, of shape (len(texts),)."""
        if not texts:
            return np.zeros(0)
        buckets, owner = hashed(texts)
        sums = np.bincount(owner, self._weights[buckets], len(texts))
        counts = np.bincount(owner, minlength=len(texts))
        scores: Floats = sums / np.sqrt(np.maximum(counts, 1)) + self._intercept
        return scores
