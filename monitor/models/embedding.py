"""Static text embedding: the mean of one vector per WordPiece token, distilled from MiniLM with Model2Vec.

Weights: an int8 table with one scale per row, memory-mapped, so worker processes share its pages. Rows are
already weighted by token rarity (SIF) and their columns are principal components, strongest first.
`cards/embedding.md` says how they were made and what they score.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monitor import models

TABLE, SCALES, TOKENIZER = "embedding.npy", "embedding-scales.npy", "embedding-tokenizer.json"
DIMENSIONS = 256
_BLOCK = 4096  # tokens gathered at once: 4 MiB of float32 stays in the cache's reach and bounds memory

Vectors = npt.NDArray[np.float32]


class Embedding:
    """Embeds whole texts and single words. Deterministic: a text's vector does not depend on its batch."""

    def __init__(self, table: npt.NDArray[np.int8], scales: Vectors, tokenizer: Any, version: str) -> None:
        self.version = version
        self._table = table
        self._scales = scales
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._unknown = self._vocabulary["[UNK]"]
        self._log_size = math.log(len(table))

    @classmethod
    def load(cls) -> Self:
        """Load the bundled weights. Raises ConfigError when a file is missing or altered."""
        from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no stubs

        tokenizer = Tokenizer.from_file(str(models.verified(TOKENIZER)))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(
            table=np.load(models.verified(TABLE), mmap_mode="r", allow_pickle=False),
            scales=np.load(models.verified(SCALES), allow_pickle=False),
            tokenizer=tokenizer,
            version=models.version(1, TABLE, SCALES, TOKENIZER),
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one L2-normalised vector per text, shape (len(texts), 256); a text without tokens is zero.

        The whole text is embedded, however long.
        """
        return normalised(self._sums(self._tokens(texts)))

    def words(self, words: Sequence[str]) -> Vectors:
        """Return the summed token rows of each lower-case word, shape (len(words), 256), not normalised.

        The normalised sum of a text's words is the text's embedding but for its punctuation, so whoever has
        the words already saves the tokenizer's time: most words are one look-up.
        """
        out = np.zeros((len(words), DIMENSIONS), dtype=np.float32)
        ids = np.asarray([self._vocabulary.get(word, self._unknown) for word in words], dtype=np.int64)
        known = ids != self._unknown
        out[known] = self._rows(ids[known])
        rare = np.flatnonzero(~known).tolist()
        if rare:
            out[rare] = self._sums(self._tokens([words[i] for i in rare]))
        return out

    def rarity(self, word: str) -> float:
        """Return how rare a lower-case word is, in [0, 1]: its log rank in the vocabulary, 1 when outside."""
        rank = self._vocabulary.get(word)
        return 1.0 if rank is None else math.log(rank + 1) / self._log_size

    def _tokens(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        tokens = [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]
        return [ids[ids != self._unknown] for ids in tokens]

    def _rows(self, ids: npt.NDArray[np.int64]) -> Vectors:
        rows: Vectors = self._table[ids].astype(np.float32)
        rows *= self._scales[ids, None]
        return rows

    def _sums(self, texts: Sequence[npt.NDArray[np.int64]]) -> Vectors:
        """Sum the rows of each text, always in blocks counted from the text's own beginning."""
        out = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        batch: list[int] = []
        size = 0
        for i, ids in enumerate(texts):
            if len(ids) > _BLOCK:
                for start in range(0, len(ids), _BLOCK):
                    out[i] += self._rows(ids[start : start + _BLOCK]).sum(axis=0)
            elif len(ids):
                if size + len(ids) > _BLOCK:
                    self._sum_batch(texts, batch, out)
                    batch, size = [], 0
                batch.append(i)
                size += len(ids)
        if batch:
            self._sum_batch(texts, batch, out)
        return out

    def _sum_batch(self, texts: Sequence[npt.NDArray[np.int64]], batch: list[int], out: Vectors) -> None:
        lengths = [len(texts[i]) for i in batch]
        starts = np.concatenate(([0], np.cumsum(lengths[:-1]))).astype(np.int64)
        rows = self._rows(np.concatenate([texts[i] for i in batch]))
        out[batch] = np.add.reduceat(rows, starts, axis=0)


def normalised(sums: Vectors) -> Vectors:
    """Scale each row to length one; a zero row stays zero."""
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    out: Vectors = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return out


def quantise(vectors: Vectors) -> tuple[npt.NDArray[np.int8], Vectors]:
    """Return (int8 table, float32 scale per row) such that table * scale is `vectors` to half a scale."""
    scales = np.abs(vectors).max(axis=1) / 127
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def save(vectors: Vectors, tokenizer_json: str) -> tuple[str, ...]:
    """Write the weights files (unpinned) and return their names."""
    table, scales = quantise(vectors)
    np.save(models.WEIGHTS / TABLE, table, allow_pickle=False)
    np.save(models.WEIGHTS / SCALES, scales, allow_pickle=False)
    compact = json.dumps(json.loads(tokenizer_json), ensure_ascii=False, separators=(",", ":"))
    (models.WEIGHTS / TOKENIZER).write_text(compact, encoding="utf-8")
    return TABLE, SCALES, TOKENIZER
