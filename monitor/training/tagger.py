"""Train and measure the name tagger: `python -m monitor.training.tagger [--measure]`.

Without an option it trains on everything and writes the weights. With `--measure` it trains on parts, writes
nothing, and prints what the model card quotes.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.evaluation.measures import Entity, covered
from monitor.models import tagger
from monitor.models.embedding import DIMENSIONS, Embedding
from monitor.models.tagger import DILATIONS, KINDS, PAD, TaggedSpan, Tagger
from monitor.training import pin, rows
from monitor.training import tagger_data as data
from monitor.training.tagger_data import TaggedText

SEED = 20
WIDTH = 64
EPOCHS, BATCH = 3, 6_000  # BATCH: tokens
RATE, WARM_UP, DECAY, AVERAGED = 4e-3, 0.1, 0.01, 0.998
DROPPED = {"words": 0.25, "features": 0.15, "lists": 0.25, "static": 0.1, "input": 0.15, "layers": 0.1}
THRESHOLD = 0.4
MADE, COPIES = 40_000, 8  # made texts; copies of each presidio text, all but the first with other values
PRESIDIO = (
    ("evaldata", "presidio_synth_v2"),
    ("evaldata", "presidio_generated_large"),
    ("traindata", "presidio_rest"),
)
TWITTER = (
    ("evaldata", "wnut17"),
    ("evaldata", "btc"),
    ("traindata", "wnut17_train"),
    ("traindata", "btc_abef"),
)
NEWS = (*TWITTER, ("traindata", "sec_filings"))
PLAIN = ("clinc150", "banking77")
FOLDS = 5
COMMON_FIRST, COMMON_LAST = 400, 3000  # most frequent names: about 80 and 60 % of the bearers
BITS = {"CITY": 16, "US_STATE": 32, "US_COUNTY": 32, "COUNTRY": 64}

Arrays = dict[str, npt.NDArray[Any]]


class Corpus(NamedTuple):
    """Texts as word numbers with padding between, accepted answers per token, line cases, and text starts."""

    words: list[str]
    ids: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.bool_]
    styles: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def name_lists() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Return sorted hashes and bits of listed words: common and rare first and last names, places."""
    bits: Counter[int] = Counter()

    def add(word: str, bit: int) -> None:
        bits[tagger.key(tagger.plain(word))] |= bit

    seen: Counter[str] = Counter()
    for row in rows("traindata", "pii", "gazetteer.jsonl"):
        kind, value = row["type"], row["value"]
        seen[kind] += 1
        if kind.startswith("FIRST"):
            add(value, 1 if seen[kind] <= COMMON_FIRST else 2)
        elif kind == "LAST_NAME":
            add(value, 4 if seen[kind] <= COMMON_LAST else 8)
        else:
            for word in re.findall(r"\w{3,}", value):
                if word[0].isupper():
                    add(word, BITS[kind])
    for word in data.Maker(random.Random(SEED)).words["nrp"]:  # noqa: S311 - reproducible, not secret
        add(word, 128)
    order = sorted(bits)
    return np.asarray(order, dtype=np.uint32), np.asarray([bits[k] for k in order], dtype=np.uint8)


def accepted(sample: TaggedText, matches: Sequence[re.Match[str]]) -> npt.NDArray[np.bool_]:
    """Return (tokens, 1 + kinds): which answers the loss accepts for each token, column 0 for "nothing"."""
    columns = {kind: i + 1 for i, kind in enumerate(KINDS)}
    out = np.zeros((len(matches), 1 + len(KINDS)), dtype=bool)
    out[:, 0] = True
    out[:, [columns[kind] for kind in KINDS if kind not in sample.looked_for]] = True
    if sample.cased:
        _unannotated([sample.cased[m.start() : m.end()] for m in matches], out, columns)
    for start, end, kind in sample.spans:
        for i, match in enumerate(matches):
            if match.start() < end and match.end() > start:
                out[i] = False
                out[i, columns[kind]] = True
    return out


def _unannotated(words: Sequence[str], out: npt.NDArray[np.bool_], columns: Mapping[str, int]) -> None:
    """Accept names for words with capitals, and kinds that occur next to them; elsewhere only dates."""
    numbers = [columns[kind] for kind in ("DATE_TIME", "ADDRESS", "PHONE_NUMBER")]
    names = [*numbers, *(columns[k] for k in ("PERSON", "LOCATION", "ORGANIZATION", "NRP", "TITLE"))]
    capital = [word[0].isupper() and word != "I" for word in words]
    long_number = [word[0].isdigit() and len(word) > 2 for word in words]  # noqa: PLR2004 - a count is shorter
    telling = [False, *(a or b for a, b in zip(capital, long_number, strict=True)), False]
    out[:, columns["DATE_TIME"]] = True
    for i, word in enumerate(words):
        if capital[i]:
            out[i, names] = True
        elif not word[0].isalpha() and (telling[i] or telling[i + 2]):
            out[i, numbers if word[0].isdigit() else names] = True


def corpus(samples: Iterable[TaggedText]) -> Corpus:
    """Number the words of the samples; number 0 is padding."""
    numbers: dict[str, int] = {}
    blank = np.zeros((PAD, 1 + len(KINDS)), dtype=bool)
    ids, marks, starts = [0] * PAD, [blank], []
    for sample in samples:
        matches = list(tagger.TOKEN.finditer(sample.text))
        starts.append(len(ids))
        ids += [numbers.setdefault(m.group(), len(numbers) + 1) for m in matches] + [0] * PAD
        marks += [accepted(sample, matches), blank]
    words = list(numbers)
    numbered = np.asarray(ids)
    cases = np.asarray([0, *map(tagger.letter_case, words)])
    breaks = np.asarray([True, *(word[0] == "\n" for word in words)])
    styles = tagger.line_cases(cases[numbered], breaks[numbered])
    return Corpus(words, numbered, np.concatenate(marks), styles, np.asarray([*starts, len(ids)]))


def train(samples: Sequence[TaggedText], static: Embedding) -> Arrays:
    """Return the weights, as `Tagger` takes them."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    hashes, bits = name_lists()
    text = corpus(samples)
    forms = tagger.describe(text.words, tagger.Lists(hashes, bits), static)
    blank = np.full((1, len(tagger.FEATURES)), tagger.ROWS)
    features = torch.from_numpy(np.concatenate([blank, forms.rows]))
    listed = torch.from_numpy(np.concatenate([[0], forms.lists]))
    known = torch.from_numpy(np.concatenate([np.zeros((1, DIMENSIONS), np.float32), forms.static])).bfloat16()

    def parameter(*shape: int, scale: float) -> Any:
        return torch.nn.Parameter(torch.randn(*shape) * scale)

    net = {
        "table": parameter(tagger.ROWS + 1, WIDTH, scale=0.1),  # the last row is for a dropped feature
        "lists": parameter(2**tagger.LISTS, WIDTH, scale=0.1),
        "cases": parameter(tagger.CASES, WIDTH, scale=0.1),
        "project": parameter(DIMENSIONS, WIDTH, scale=DIMENSIONS**-0.5),
        "out": parameter(WIDTH, 1 + len(KINDS), scale=WIDTH**-0.5),
        "out_bias": parameter(1 + len(KINDS), scale=0.0),
    }
    for i in range(len(DILATIONS)):
        net |= {
            f"layer{i}": parameter(3 * WIDTH, WIDTH, scale=(6 * WIDTH) ** -0.5),
            f"bias{i}": parameter(WIDTH, scale=0.0),
        }

    def keep_mask(part: str, *shape: int) -> Any:
        return torch.rand(*shape) >= DROPPED[part]

    def logits(ids: Any, styles: Any) -> Any:
        n, real = len(ids), (ids > 0).float()[:, None]
        keep = keep_mask("words", n, 1) & keep_mask("features", n, len(tagger.FEATURES))
        chosen = torch.where(keep, features[ids], tagger.ROWS)
        hidden = torch.nn.functional.embedding(chosen, net["table"], padding_idx=tagger.ROWS)
        hidden = (hidden * (chosen < tagger.ROWS)[:, :, None]).sum(1)
        hidden = hidden + torch.nn.functional.embedding(listed[ids] * keep_mask("lists", n), net["lists"])
        hidden = hidden + torch.nn.functional.embedding(styles, net["cases"])
        hidden = (hidden + (known[ids].float() * keep_mask("static", n, 1)) @ net["project"]) * real
        hidden = torch.nn.functional.dropout(hidden, DROPPED["input"])
        for i, dilation in enumerate(DILATIONS):
            empty = hidden.new_zeros(dilation, WIDTH)
            before, after = torch.cat([empty, hidden[:-dilation]]), torch.cat([hidden[dilation:], empty])
            update = torch.relu(torch.cat([before, hidden, after], 1) @ net[f"layer{i}"] + net[f"bias{i}"])
            hidden = torch.nn.functional.dropout(hidden + update * real, DROPPED["layers"])
        return (hidden @ net["out"] + net["out_bias"]).float()

    average = {name: value.detach().clone() for name, value in net.items()}
    optimizer = torch.optim.AdamW(net.values(), weight_decay=DECAY)
    batches = list(_batches(text.starts, rng))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=len(batches), pct_start=WARM_UP
    )
    for at in batches:
        ids = torch.from_numpy(text.ids[at])
        with torch.autocast("cpu", torch.bfloat16):
            answers = logits(ids, torch.from_numpy(text.styles[at]))
        right = answers.masked_fill(~torch.from_numpy(text.accepted[at]), -1e9).logsumexp(1)
        loss = (answers.logsumexp(1) - right)[ids > 0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for name, value in average.items():
                value.lerp_(net[name], 1 - AVERAGED)
    return {"list_hashes": hashes, "list_bits": bits, **_small({k: v.numpy() for k, v in average.items()})}


def _batches(starts: npt.NDArray[np.int64], rng: np.random.Generator) -> Iterable[npt.NDArray[np.int64]]:
    """Yield the token indices of each step's texts and their padding; every epoch in a new order."""
    lengths = np.diff(starts)
    for _ in range(EPOCHS):
        order = rng.permutation(len(lengths))
        borders = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // BATCH)) + 1
        for part in np.split(order, borders):
            yield np.concatenate([np.arange(PAD), *(np.arange(starts[i], starts[i + 1]) for i in part)])


def _small(net: Arrays) -> Arrays:
    """Return the hashed table in bytes with a scale per row, everything else in half precision."""
    table = net.pop("table")[: tagger.ROWS]
    scales = np.maximum(np.abs(table).max(1) / 127, 1e-4).astype(np.float16)
    whole = np.clip(np.rint(table / scales.astype(np.float32)[:, None]), -127, 127).astype(np.int8)
    half = {name: value.astype(np.float16) for name, value in net.items()}
    return {"table": whole, "scales": scales, "threshold": np.asarray(THRESHOLD, np.float32), **half}


def mixture(
    real: Iterable[TaggedText], news: Sequence[TaggedText], templates: Sequence[str]
) -> list[TaggedText]:
    """Return training texts: made, annotated with other values, and not annotated; in all cases."""
    chance = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    maker = data.Maker(chance)
    real = list(real)
    out = data.made(maker, chance, MADE, templates)
    for n in range(COPIES):
        out += [data.redrawn(sample, maker, chance, 0.9 if n else 0.0) for sample in real]
    for n in range(2):
        out += [data.redrawn(sample, maker, chance, 0.5 if n else 0.0) for sample in news]
    out += data.unannotated(chance)
    return [data.recased(sample, chance) for sample in out]


def build(samples: Sequence[TaggedText], static: Embedding) -> Tagger:
    """Train on the samples and return the tagger, unpinned."""
    return Tagger(train(samples, static), static, "unpinned")


def score(rows: Sequence[Mapping[str, Any]], predicted: Sequence[Sequence[TaggedSpan]]) -> dict[str, Any]:
    """Return precision, recall and F2 of spans of any type, and recall per gold type."""
    gold: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    right = 0
    for row, got in zip(rows, predicted, strict=True):
        wanted = [Entity(span["start"], span["end"], span["type"]) for span in row["spans"]]
        found = [Entity(span.start, span.end, span.kind) for span in got]
        gold.update(span.kind for span in wanted)
        hits.update(span.kind for span in wanted if covered(span, found))
        right += sum(covered(span, wanted) for span in found)
    recall = hits.total() / max(1, gold.total())
    precision = right / max(1, sum(map(len, predicted)))
    return {
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "f2": round(5 * precision * recall / max(1e-9, 4 * precision + recall), 3),
        "found": {kind: f"{hits[kind]}/{count}" for kind, count in gold.most_common()},
    }


def folds(static: Embedding) -> dict[str, Any]:
    """Return the scores on the presidio sets, each template's texts tagged by one trained without it."""
    parts = [(where, name, data.presidio(where, name)) for where, name in PRESIDIO]
    published = data.their_templates()
    outlines = [outline for _, _, part in parts for _, outline in part] + [
        outline for _, outline in published
    ]
    numbers = data.groups(outlines)
    order = sorted(set(numbers))
    random.Random(1).shuffle(order)  # noqa: S311 - reproducible, not secret
    fold = {outline: order.index(number) % FOLDS for outline, number in zip(outlines, numbers, strict=True)}
    spans: dict[str, list[TaggedSpan]] = {}
    for held_out in range(FOLDS):
        real = [sample for _, _, part in parts for sample, outline in part if fold[outline] != held_out]
        templates = [text for text, outline in published if fold[outline] != held_out]
        names = build(mixture(real, _news(NEWS), templates), static)
        texts = [s.text for _, _, part in parts for s, outline in part if fold[outline] == held_out]
        spans |= dict(zip(texts, names.spans(texts), strict=True))
    out = {}
    for where, name, _ in parts[:2]:
        labelled = list(rows(where, "pii", f"{name}.jsonl"))
        by_pattern = [
            {**r, "spans": [s for s in r["spans"] if s["type"] not in data.BY_PATTERN]} for r in labelled
        ]
        out[name] = score(by_pattern, [spans[row["text"]] for row in labelled])
    return out


def left_out(static: Embedding) -> dict[str, Any]:
    """Return the scores on the Twitter sets of a tagger that saw no tweet."""
    real = [sample for where, name in PRESIDIO for sample, _ in data.presidio(where, name)]
    names = build(
        mixture(real, _news(NEWS[len(TWITTER) :]), [text for text, _ in data.their_templates()]), static
    )
    out = {}
    for where, name in TWITTER[:2]:
        labelled = list(rows(where, "pii", f"{name}.jsonl"))
        predicted = [
            [s for s in spans if s.kind in data.NEWS] for spans in names.spans([r["text"] for r in labelled])
        ]
        out[name] = score(labelled, predicted)
    return out


def on_plain_text(names: Tagger) -> dict[str, Any]:
    """Return, per set of plain utterances, the share with a span of each kind."""
    out = {}
    for name in PLAIN:
        texts = [row["text"] for row in rows("evaldata", "drift", f"{name}.jsonl")]
        kinds = Counter(kind for spans in names.spans(texts) for kind in {span.kind for span in spans})
        out[name] = {kind: round(count / len(texts), 4) for kind, count in kinds.most_common()}
    return out


def _news(sets: Iterable[tuple[str, str]]) -> list[TaggedText]:
    return [sample for where, name in sets for sample in data.annotated(where, name)]


def main() -> None:
    """Train and write the weights, or measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    static = Embedding.load()
    if parser.parse_args().measure:
        report = {"folds": folds(static), "left out": left_out(static), "plain": on_plain_text(Tagger.load())}
        print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output
        return
    real = [sample for where, name in PRESIDIO for sample, _ in data.presidio(where, name)]
    arrays = train(mixture(real, _news(NEWS), [text for text, _ in data.their_templates()]), static)
    np.savez(models.WEIGHTS / tagger.WEIGHTS, **arrays)  # type: ignore[arg-type]  # numpy's stub: the names clash
    pin("python -m monitor.training.tagger", tagger.WEIGHTS)


if __name__ == "__main__":
    main()
