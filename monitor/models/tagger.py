"""Name tagger: people, places, organisations, addresses, dates, titles, ages and numbers that identify.

A token is a run of word characters, a run of line breaks, or a single other character. Its vector is the sum
of hashed word, prefix, suffix and shape rows, a row for the name lists it is in, and a projection of the
bundled static embedding; it is computed once per word form and remembered. Three residual convolutions of
width three (dilation 1, 2, 4: seven tokens either side) turn it into a distribution over "nothing" and the
kinds. `cards/tagger.md` says from what the weights were trained and what they score.
"""

import itertools
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.models import embedding
from monitor.models.embedding import Embedding

WEIGHTS = "tagger.npz"
KINDS = (
    "PERSON",
    "LOCATION",
    "ORGANIZATION",
    "ADDRESS",
    "ZIP_CODE",
    "PHONE_NUMBER",
    "DATE_TIME",
    "AGE",
    "TITLE",
    "NRP",
    "ID_NUMBER",
)
DILATIONS = (1, 2, 4)
PAD = max(DILATIONS)  # empty tokens between texts, so that no convolution reads a neighbour's words
REACH = sum(DILATIONS)
_BLOCK = 1024  # tokens judged at once: bounds memory, stays in the cache's reach
_REMEMBERED = 30_000  # word forms; 8 MB

# Rows of the hashed table, one range per feature of a word.
FEATURES = {"word": 8192, "prefix": 2048, "suffix": 2048, "ending": 1024, "shape": 512, "rarity": 16}
_OFFSETS = dict(zip(FEATURES, np.cumsum([0, *FEATURES.values()]).tolist(), strict=False))
ROWS = sum(FEATURES.values())
LISTS = 8  # bits of a word's name lists; the table of list rows has 2 ** LISTS rows
CASES = 4  # of a line: no capitals, all capitals, every word capitalised, mixed

TOKEN = re.compile(r"\w+|\n+|[^\w\s]")
_NOT_FIRST = frozenset("\n\"'.,;:!?)]}>|*-_/\\=&")
_NOT_LAST = frozenset("\n\"',;:!?([{<>|*-_/\\=&+@")
_BETWEEN = frozenset(",\n")  # may separate the parts of an address
_ONE_ADDRESS = ({"ADDRESS", "LOCATION"}, {"ADDRESS", "ZIP_CODE"}, {"ADDRESS"})

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class TaggedSpan(NamedTuple):
    """A tagged part of a text: character offsets, one of `KINDS`, the probability that it is any of them."""

    start: int
    end: int
    kind: str
    score: float


class Lists:
    """Name lists as sorted CRC-32 hashes of lower-case words; a word's bits say which lists hold it."""

    def __init__(self, hashes: npt.NDArray[np.uint32], bits: npt.NDArray[np.uint8]) -> None:
        self._hashes = hashes
        self._bits = bits

    def __call__(self, keys: npt.NDArray[np.uint32]) -> Ints:
        """Return the bits of each key, 0 where it is in no list."""
        at = np.minimum(np.searchsorted(self._hashes, keys), len(self._hashes) - 1)
        return np.where(self._hashes[at] == keys, self._bits[at], 0).astype(np.int64)


class Words(NamedTuple):
    """Features of word forms: hashed rows (n, len(FEATURES)), list bits (n,), static vectors (n, 256)."""

    rows: Ints
    lists: Ints
    static: Floats


def plain(word: str) -> str:
    """Return a word form in compatibility composition, so that full-width and styled letters are letters."""
    return word if word.isascii() else unicodedata.normalize("NFKC", word)


def key(word: str) -> int:
    """Return the hash under which a plain word is in the name lists."""
    return zlib.crc32(word.lower().encode("utf-8", "replace"))


def shape(word: str) -> str:
    """Return the outline of a plain word: X and x for cases, d per digit; letters repeat at most twice."""
    out: list[str] = []
    for char in word[:16]:
        mark = "d" if char.isdigit() else "X" if char.isupper() else "x" if char.isalpha() else char
        if mark == "d" or len(out) < 2 or (out[-1], out[-2]) != (mark, mark):  # noqa: PLR2004 - two of a kind
            out.append(mark)
    return "".join(out)


def describe(words: Sequence[str], lists: Lists, static: Embedding) -> Words:
    """Return the features of word forms. The same words always get the same features."""
    forms = [plain(word) for word in words]
    lower = [form.lower() for form in forms]
    rows = np.empty((len(words), len(FEATURES)), dtype=np.int64)
    for i, (form, low) in enumerate(zip(forms, lower, strict=True)):
        stem = re.sub(r"\d", "0", low)
        values = (stem, stem[:3], stem[-3:], stem[-2:], shape(form), "")
        for j, (name, value) in enumerate(zip(FEATURES, values, strict=True)):
            if name == "rarity":
                bucket = int(static.rarity(low) * (FEATURES[name] - 1))
            else:
                bucket = zlib.crc32(f"{name}:{value}".encode("utf-8", "replace")) % FEATURES[name]
            rows[i, j] = _OFFSETS[name] + bucket
    keys = np.asarray([key(form) for form in forms], dtype=np.uint32)
    return Words(rows, lists(keys), embedding.normalised(static.words(lower)))


def letter_case(word: str) -> int:
    """Return 0 for a token without letters, 1 without capitals (or "I"), 2 capitalised, 3 all capitals."""
    if not word[0].isalpha():
        return 0
    if word[0].islower() or word == "I" or word.lower() == word:
        return 1
    return 3 if len(word) > 1 and word.isupper() else 2


def line_cases(cases: Ints, breaks: npt.NDArray[np.bool_]) -> Ints:
    """Return for each token how its line is written: 0 no capitals, 1 all, 2 every word capitalised, 3 mixed.

    `cases` are `letter_case` of the tokens, `breaks` the tokens that end a line.
    """
    line: Ints = np.cumsum(breaks) - breaks
    count = int(line[-1]) + 1 if len(line) else 0
    lower, title, upper = (np.bincount(line, cases == k, count) for k in (1, 2, 3))
    style = np.where(
        title + upper == 0,
        0,
        np.where(lower > 0, 3, np.where(title == 0, 1, np.where(title > 2, 2, 3))),  # noqa: PLR2004
    )
    return style[line].astype(np.int64)


class Tagger:
    """Tags whole texts of any length; a text's spans do not depend on the other texts of its batch."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], static: Embedding, version: str) -> None:
        self.version = version
        self.threshold = float(arrays["threshold"])  # the least probability of a token to be of any kind
        self._static = static
        self._lists = Lists(arrays["list_hashes"], arrays["list_bits"])
        self._table = arrays["table"].astype(np.float32) * arrays["scales"].astype(np.float32)[:, None]
        self._list_rows, self._project, self._case_rows, self._out, self._out_bias = (
            arrays[name].astype(np.float32) for name in ("lists", "project", "cases", "out", "out_bias")
        )
        self._layers = [
            (arrays[f"layer{i}"].astype(np.float32), arrays[f"bias{i}"].astype(np.float32))
            for i in range(len(DILATIONS))
        ]
        self._forget()

    @classmethod
    def load(cls, static: Embedding | None = None) -> Self:
        """Load the bundled weights; `static` saves loading the embedding twice.

        Raises ConfigError when a file is missing or altered.
        """
        with np.load(models.verified(WEIGHTS), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls(
            arrays,
            static or Embedding.load(),
            models.version(1, WEIGHTS, embedding.TABLE, embedding.SCALES, embedding.TOKENIZER),
        )

    def spans(self, texts: Sequence[str]) -> list[list[TaggedSpan]]:
        """Return the tagged spans of each text, in order, none overlapping another."""
        ids, firsts = self._ids([TOKEN.findall(text) for text in texts])
        judged = self._probabilities(ids)
        something = 1 - judged[:, 0]
        kinds = np.where((something >= self.threshold) & (ids > 0), judged[:, 1:].argmax(axis=1) + 1, 0)
        edges = np.flatnonzero(np.diff(kinds, prepend=0, append=0))
        borders = np.searchsorted(edges, [*firsts, len(ids)]).tolist()
        out: list[list[TaggedSpan]] = []
        for n, (text, (low, high)) in enumerate(zip(texts, itertools.pairwise(borders), strict=True)):
            if low == high:
                out.append([])
                continue
            first, end = firsts[n], firsts[n + 1] if n + 1 < len(firsts) else len(ids)
            places = (edges[low:high] - first).tolist()
            out.append(_runs(text, places, kinds[first:end].tolist(), something[first:end].tolist()))
        return out

    def _ids(self, texts: Sequence[Sequence[str]]) -> tuple[Ints, list[int]]:
        """Return the word numbers of all texts, with padding between, and where each text begins."""
        if len(self._numbers) > _REMEMBERED:
            self._forget()
        numbers = self._numbers
        new = {word for text in texts for word in text if word not in numbers}
        if new:
            self._learn(sorted(new))
        firsts: list[int] = []
        ids = [0] * PAD
        for text in texts:
            firsts.append(len(ids))
            ids += [numbers[word] for word in text]
            ids += [0] * PAD
        return np.asarray(ids, dtype=np.int64), firsts

    def _forget(self) -> None:
        """Empty the memory of word forms; number 0 is padding, the zero vector."""
        self._numbers: dict[str, int] = {}
        self._vectors: Floats = np.zeros((1, self._table.shape[1]), dtype=np.float32)
        self._cases: Ints = np.zeros(1, dtype=np.int64)
        self._breaks = np.ones(1, dtype=np.bool_)

    def _learn(self, words: Sequence[str]) -> None:
        features = describe(words, self._lists, self._static)
        vectors = self._table[features.rows].sum(axis=1) + self._list_rows[features.lists]
        vectors += features.static @ self._project
        self._numbers.update(
            zip(words, range(len(self._vectors), len(self._vectors) + len(words)), strict=True)
        )
        self._vectors = np.concatenate([self._vectors, vectors])
        self._cases = np.concatenate([self._cases, [letter_case(word) for word in words]])
        self._breaks = np.concatenate([self._breaks, [word[0] == "\n" for word in words]])

    def _probabilities(self, ids: Ints) -> Floats:
        """Return (tokens, 1 + kinds) probabilities, column 0 for "nothing"; blocks overlap."""
        styles = line_cases(self._cases[ids], self._breaks[ids])
        out = np.empty((len(ids), 1 + len(KINDS)), dtype=np.float32)
        for start in range(0, len(ids), _BLOCK):
            begin, end = max(0, start - REACH), min(len(ids), start + _BLOCK + REACH)
            logits = self._logits(ids[begin:end], styles[begin:end])[start - begin :][:_BLOCK]
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            out[start : start + _BLOCK] = logits / logits.sum(axis=1, keepdims=True)
        return out

    def _logits(self, ids: Ints, styles: Ints) -> Floats:
        real = (ids > 0).astype(np.float32)[:, None]
        hidden: Floats = (self._vectors[ids] + self._case_rows[styles]) * real
        for dilation, (weights, bias) in zip(DILATIONS, self._layers, strict=True):
            width = hidden.shape[1]
            around = np.zeros((len(hidden), 3 * width), dtype=np.float32)
            around[dilation:, :width] = hidden[:-dilation]
            around[:, width : 2 * width] = hidden
            around[:-dilation, 2 * width :] = hidden[dilation:]
            update = np.maximum(around @ weights + bias, 0) * real
            hidden = update + hidden if update.shape == hidden.shape else update
        return hidden @ self._out + self._out_bias


def _runs(text: str, edges: Sequence[int], kinds: Sequence[int], scores: Sequence[float]) -> list[TaggedSpan]:
    """Join neighbouring tokens of one kind, and of an address with its place and postal code.

    `edges` are the tokens whose kind differs from the one before.
    """
    matches = list(TOKEN.finditer(text))
    runs: list[tuple[int, int, str]] = []
    for first, last in itertools.pairwise(edges):
        if not kinds[first]:
            continue
        kind = KINDS[kinds[first] - 1]
        if runs and {kind, runs[-1][2]} in _ONE_ADDRESS and _are_near(text, matches, runs[-1][1], first):
            runs[-1] = (runs[-1][0], last, "ADDRESS")
        else:
            runs.append((first, last, kind))
    out: list[TaggedSpan] = []
    for first, last, kind in runs:
        start, end = first, last
        while start < end and text[matches[start].start()] in _NOT_FIRST:
            start += 1
        while start < end and text[matches[end - 1].start()] in _NOT_LAST:
            end -= 1
        if start < end:
            score = sum(scores[start:end]) / (end - start)
            out.append(TaggedSpan(matches[start].start(), matches[end - 1].end(), kind, score))
    return out


def _are_near(text: str, matches: Sequence[re.Match[str]], first: int, end: int) -> bool:
    return all(text[match.start()] in _BETWEEN for match in matches[first:end])
