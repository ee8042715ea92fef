"""Train low-rank adapters on the shared encoder's base, in torch.

The frozen weights are those of the base as quantised, so only the rounding of activations separates the
trained model from the exported graph.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS, encoder
from monitor.training.encoder import EPSILON, HEADS, LAYERS, LINEARS, WIDTH, Array


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
    """A task's addition to the base: (A, B) per linear layer, B already scaled, and a head on the mean token.

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
    prepared = list(batches(tokenizer, texts, pairs, batch_tokens))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * len(prepared)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (0.06 * steps + 1), (steps - step) / steps)
    )
    chance = np.random.default_rng(seed)
    step, running = 0, 0.0
    for epoch in range(epochs):
        if epoch:  # ties in length fall into other batches, whose rows stay of similar length
            order = chance.permutation(len(texts))
            prepared = [
                ([int(order[i]) for i in members], feed)
                for members, feed in batches(
                    tokenizer,
                    [texts[i] for i in order],
                    None if pairs is None else [pairs[i] for i in order],
                    batch_tokens,
                )
            ]
        for n in chance.permutation(len(prepared)):
            members, feed = prepared[n]
            with torch.autocast("cpu", torch.bfloat16):
                out = model(feed)
            out = out.float()
            if classes:
                loss = functional.cross_entropy(out, target[members], reduction="none")
            else:
                known = ~target[members].isnan()
                each = functional.binary_cross_entropy_with_logits(
                    out, target[members].nan_to_num(), reduction="none"
                )
                loss = (each * known).sum(1)
            loss = (loss * weight[members]).sum() / weight[members].sum()
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
    logits = np.zeros((len(texts), len(adapter.bias)), dtype=np.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        for members, feed in batches(tokenizer, texts, pairs, 4096):
            logits[members] = model(feed).float().numpy()
    return logits
