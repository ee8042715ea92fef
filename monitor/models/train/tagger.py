"""Train and measure the name tagger: `python -m monitor.models.train.tagger [--measure]`.

Without an option it trains on everything and writes the weights. With `--measure` it writes nothing and prints
what the model card quotes: five folds over the templates of the presidio sets, and the Twitter sets left out.
"""

import argparse
import json
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.clock import SystemClock
from monitor.models import tagger
from monitor.models.embedding import DIMENSIONS, Embedding
from monitor.models.tagger import DILATIONS, KINDS, PAD, Tagger
from monitor.models.train import pin, rows
from monitor.models.train import tagger_data as data
from monitor.models.train.tagger_data import Sample

SEED = 20
WIDTH = 64
EPOCHS = 4
MADE, COPIES, WEAK = 30_000, 12, 3_000
BATCH = 6_000  # tokens
PRESIDIO = (("presidio_synth_v2", "evaldata"), ("presidio_generated_large", "evaldata"), ("presidio_rest", "traindata"))
TWITTER = (("evaldata", "wnut17"), ("evaldata", "btc"), ("traindata", "wnut17_train"), ("traindata", "btc_abef"))
FOLDS = 5


class Corpus(NamedTuple):
    """Texts as word numbers with padding between, allowed kinds as bits, line cases, and where texts begin."""

    words: list[str]
    ids: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]
    styles: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def name_lists() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Return sorted hashes and bits of the words of the name lists: common and rare first and last names, places."""
    bits: dict[int, int] = {}

    def add(word: str, bit: int) -> None:
        key = tagger.key(tagger.plain(word))
        bits[key] = bits.get(key, 0) | bit

    seen: dict[str, int] = {}
    for row in rows("traindata", "pii", "gazetteer.jsonl"):
        kind, value = row["type"], row["value"]
        seen[kind] = seen.get(kind, 0) + 1
        if kind.startswith("FIRST"):
            add(value, 1 if seen[kind] <= 400 else 2)  # noqa: PLR2004 - about 80 % of the bearers
        elif kind == "LAST_NAME":
            add(value, 4 if seen[kind] <= 3000 else 8)  # noqa: PLR2004 - about 60 % of the bearers
        else:
            bit = {"CITY": 16, "US_STATE": 32, "US_COUNTY": 32, "COUNTRY": 64}[kind]
            for word in re.findall(r"\w{3,}", value):
                if word[0].isupper():
                    add(word, bit)
    for word in data.NATIONALITIES:
        add(word, 128)
    order = sorted(bits)
    return np.asarray(order, dtype=np.uint32), np.asarray([bits[k] for k in order], dtype=np.uint8)


def allowed(sample: Sample, matches: Sequence[re.Match[str]]) -> npt.NDArray[np.bool_]:
    """Return (tokens, 1 + kinds): which answers the loss accepts for each token."""
    kinds = {kind: i + 1 for i, kind in enumerate(KINDS)}
    out = np.zeros((len(matches), 1 + len(KINDS)), dtype=bool)
    out[:, 0] = True
    for kind, column in kinds.items():
        out[:, column] = kind not in sample.looked_for
    if sample.weak:
        for i, match in enumerate(matches):
            word = match.group()
            if word[0].isupper() and word != "I":
                out[i, [kinds[k] for k in ("PERSON", "LOCATION", "ORGANIZATION", "NRP", "TITLE", "DATE_TIME")]] = True
            elif word[0].isdigit() or not word[0].isalnum():
                out[i, [kinds[k] for k in ("DATE_TIME", "ADDRESS", "PHONE_NUMBER", "ORGANIZATION")]] = True
            else:
                out[i, kinds["DATE_TIME"]] = True
    for start, end, kind in sample.spans:
        for i, match in enumerate(matches):
            if match.start() < end and match.end() > start:
                out[i] = False
                out[i, kinds[kind]] = True
    return out


def corpus(samples: Iterable[Sample]) -> Corpus:
    """Number the words of the samples; number 0 is padding."""
    numbers: dict[str, int] = {}
    ids, marks, starts = [0] * PAD, [np.zeros((PAD, 1 + len(KINDS)), dtype=bool)], []
    for sample in samples:
        matches = list(tagger.TOKEN.finditer(sample.text))
        starts.append(len(ids))
        ids += [numbers.setdefault(m.group(), len(numbers) + 1) for m in matches] + [0] * PAD
        marks += [allowed(sample, matches), np.zeros((PAD, 1 + len(KINDS)), dtype=bool)]
    words = list(numbers)
    cases = np.asarray([0, *map(tagger.letter_case, words)])
    breaks = np.asarray([True, *(word[0] == "\n" for word in words)])
    numbered = np.asarray(ids)
    styles = tagger.line_cases(cases[numbered], breaks[numbered])
    return Corpus(words, numbered, np.concatenate(marks), styles, np.asarray([*starts, len(ids)]))


def train(samples: Sequence[Sample], static: Embedding, *, seed: int = SEED, threshold: float = 0.5) -> dict[str, Any]:
    """Return the weights, as `Tagger` takes them."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    hashes, bits = name_lists()
    text = corpus(samples)
    found = tagger.describe(text.words, tagger.Lists(hashes, bits), static)
    zero = np.zeros((1, 1), dtype=np.int64)
    feature_rows = torch.from_numpy(np.concatenate([zero.repeat(found.rows.shape[1], 1) + tagger.ROWS, found.rows]))
    list_rows = torch.from_numpy(np.concatenate([[0], found.lists]))
    vectors = torch.from_numpy(np.concatenate([np.zeros((1, DIMENSIONS), np.float32), found.static])).bfloat16()

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(tagger.ROWS + 1, WIDTH, padding_idx=tagger.ROWS)
            self.lists = torch.nn.Embedding(2**tagger.LISTS, WIDTH)
            self.cases = torch.nn.Embedding(tagger.CASES, WIDTH)
            for layer in (self.table, self.lists, self.cases):
                torch.nn.init.normal_(layer.weight, std=0.1)
            self.project = torch.nn.Linear(DIMENSIONS, WIDTH, bias=False)
            self.layers = torch.nn.ModuleList(torch.nn.Linear(3 * WIDTH, WIDTH) for _ in DILATIONS)
            self.out = torch.nn.Linear(WIDTH, 1 + len(KINDS))

        def forward(self, ids: Any, styles: Any) -> Any:
            real = (ids > 0).float()[:, None]
            hashed = feature_rows[ids]
            listed = list_rows[ids]
            if self.training:  # so that the context is learnt too, not only the words
                hashed = torch.where(torch.rand(len(ids), 1) < 0.25, torch.full_like(hashed, tagger.ROWS), hashed) * 1
                whole = torch.rand(hashed.shape) < 0.15
                hashed = torch.where(whole, torch.full_like(hashed, tagger.ROWS), hashed)
                listed = listed * (torch.rand(len(ids)) > 0.25)
            hidden = self.table(hashed).sum(1) + self.lists(listed) + self.cases(styles)
            known = vectors[ids].float()
            if self.training:
                known = known * (torch.rand(len(ids), 1) > 0.1)
            hidden = (hidden + self.project(known)) * real
            hidden = torch.nn.functional.dropout(hidden, 0.15, self.training)
            for dilation, layer in zip(DILATIONS, self.layers, strict=True):
                blank = hidden.new_zeros(dilation, hidden.shape[1])
                around = torch.cat(
                    [torch.cat([blank, hidden[:-dilation]]), hidden, torch.cat([hidden[dilation:], blank])], 1
                )
                hidden = hidden + torch.relu(layer(around)) * real
                hidden = torch.nn.functional.dropout(hidden, 0.1, self.training)
            return self.out(hidden)

    net = Net()
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    lengths = np.diff(text.starts)
    steps = int(EPOCHS * lengths.sum() / BATCH) + EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    net.train()
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(lengths))
        parts = np.split(order, np.flatnonzero(np.diff(np.cumsum(lengths[order]) // BATCH)) + 1)
        for part in parts:
            at = np.concatenate([np.arange(PAD), *(np.arange(text.starts[i], text.starts[i + 1]) for i in part)])
            ids, mask = torch.from_numpy(text.ids[at]), torch.from_numpy(text.allowed[at])
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(ids, torch.from_numpy(text.styles[at]))
            logits = logits.float()
            right = logits.masked_fill(~mask, -1e9).logsumexp(1)
            loss = (logits.logsumexp(1) - right)[ids > 0].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(net)
            step += 1
            if step < steps:
                schedule.step()
    arrays = {name: value.detach().numpy() for name, value in average.module.state_dict().items()}
    table = arrays["table.weight"][: tagger.ROWS]
    scales = np.maximum(np.abs(table).max(1) / 127, 1e-8).astype(np.float16)
    out = {
        "list_hashes": hashes,
        "list_bits": bits,
        "table": np.clip(np.rint(table / np.maximum(scales.astype(np.float32), 1e-8)[:, None]), -127, 127).astype(np.int8),
        "scales": scales,
        "lists": arrays["lists.weight"],
        "project": arrays["project.weight"].T,
        "cases": arrays["cases.weight"],
        "out": arrays["out.weight"].T,
        "out_bias": arrays["out.bias"],
    }
    for i in range(len(DILATIONS)):
        out[f"layer{i}"], out[f"bias{i}"] = arrays[f"layers.{i}.weight"].T, arrays[f"layers.{i}.bias"]
    half = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in out.items()}
    return {**half, "threshold": np.float32(threshold)}


def mixture(real: Sequence[Sample], twitter: Sequence[Sample], theirs: Sequence[str], seed: int = SEED) -> list[Sample]:
    """Return the training texts: made ones, the annotated sets with their names redrawn and recased, weak ones."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    values = data.Values(chance)
    out = data.made(values, chance, MADE, theirs)
    for n in range(COPIES):
        out += [data.redrawn(sample, values, chance, 0.9 if n else 0.0) for sample in real]
    for n in range(2):
        out += [data.redrawn(sample, values, chance, 0.5 if n else 0.0) for sample in twitter]
    out += data.weak(chance, WEAK)
    return [data.recased(sample, chance) for sample in out]


def covered(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    """Whether half of a span's characters lie in the others."""
    inside = {at for start, end in others for at in range(max(start, span[0]), min(end, span[1]))}
    return 2 * len(inside) >= span[1] - span[0]


def score(gold: Sequence[Sequence[tuple[int, int, str]]], found: Sequence[Sequence[tuple[int, int]]]) -> dict[str, Any]:
    """Return precision, recall and F2 of spans of any type, and recall per gold type."""
    hits: dict[str, list[int]] = {}
    right = predicted = 0
    for wanted, got in zip(gold, found, strict=True):
        for start, end, kind in wanted:
            hits.setdefault(kind, []).append(covered((start, end), got))
        predicted += len(got)
        right += sum(covered(span, [(s, e) for s, e, _ in wanted]) for span in got)
    total = [hit for kind in hits.values() for hit in kind]
    recall, precision = sum(total) / max(1, len(total)), right / max(1, predicted)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f2": round(5 * precision * recall / max(1e-9, 4 * precision + recall), 4),
        "found": {kind: f"{sum(h)}/{len(h)}" for kind, h in sorted(hits.items(), key=lambda kv: -len(kv[1]))},
    }


def build(samples: Sequence[Sample], static: Embedding, seed: int = SEED) -> Tagger:
    """Train on the samples and return the tagger, unpinned."""
    arrays = train(samples, static, seed=seed)
    return Tagger(arrays, static, "unpinned", threshold=float(arrays["threshold"]))


def main() -> None:
    """Train on everything and write the weights."""
    static = Embedding.load()
    real = [sample for name, where in PRESIDIO for sample, _ in data.presidio(name, where)]
    samples = mixture(real, twitter(), [text for text, _ in data.their_templates()])
    arrays = train(samples, static)
    np.savez(models.WEIGHTS / tagger.WEIGHTS, **arrays)
    pin("python -m monitor.models.train.tagger", tagger.WEIGHTS)


def twitter() -> list[Sample]:
    """Return the samples that annotate only people, places and organisations."""
    sets = [*TWITTER, ("traindata", "sec_filings")]
    return [sample for where, name in sets for sample in data.annotated(where, "pii", f"{name}.jsonl")]


if __name__ == "__main__":
    main()
