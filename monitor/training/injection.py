"""Train the bundled injection model: `python -m monitor.training.injection` (25 minutes of one core).

Tier 0 is logistic regression on the hashed n-grams and signals of `monitor.models.injection`, with weights
that both sides share and weights of each side, added up (Daumé 2007, "Frustratingly easy domain adaptation").
Tier 1 is an adapter of the shared encoder with one output per side.

Both are first trained without some sources; on these they are calibrated and measured. The weights written
are trained on all but the jailbreaks: not every window of one is an attack by itself, and learnt as such they
make long harmless role-play suspicious. For calibration and figures, those windows of jailbreaks are taken
that a model without any finds suspicious. Prints, as JSON, what the model card quotes. The evaluation mix is
only measured.
"""

import collections
import json
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS
from monitor.models.encoder import graph
from monitor.models.injection import (
    KINDS,
    SETTINGS,
    SIDES,
    SIZE,
    TABLE,
    Floats,
    hashed,
    norms,
    signals,
    views,
)
from monitor.training import adapters, encoder_graph, pin, rows
from monitor.training.injection_data import load
from monitor.training.injection_sources import InjectionExample

COMMAND: Final = "python -m monitor.training.injection"
NAME: Final = "injection"
SEED: Final = 7
REGULARISATION: Final = 2.0
SIGNAL: Final = 0.5  # value of a signal's feature; n-grams have norm one
JAILBREAK_FROM: Final = (
    0.3  # logit by a model without jailbreaks from which one of their windows is an attack
)
FALSE_POSITIVES: Final = 0.03
# Share of look-alike windows that may reach the alert: a prompt has one or two, the documents have many.
ALERTED: Final[Mapping[str, float]] = {"prompt": 0.03, "indirect": 0.005}
EPOCHS, RANK, MAX_TOKENS = 3, 16, 96
# Rows that the encoder learns from: of each source and class; CAP of those not named.
CAPS: Final = {
    "jailbreak": 350,
    "bipia": 450,
    "passages": 350,
    "sgd": 250,
    "bfcl": 350,
    "clinc": 700,
    "banking": 350,
    "awesome": 600,
    "own_indirect": 600,
    "own_other_language": 300,
    "own_question": 300,
    "own_scenario": 300,
    "direct_long_scene": 800,
    "direct_german": 800,
    "direct_sensitive": 450,
    "direct_follow_up": 450,
    "davidson": 500,
    "stormfront": 500,
    "wiki_talk": 500,
    "transcripts": 600,
    "direct_customer": 500,
    "own_abuse": 400,
    "tool_results": 300,
    "user_turns": 200,
}
CAP: Final = 130
TERSE: Final = 0.1  # how much a text of a word or two counts against others: weighed alike they hid attacks
DIRECT_CAP: Final = 360  # of a family of short prompts
# Kinds of attack and of look-alike that the model behind calibration and left-out figures has never seen.
LEFT_OUT: Final = (
    *("bipia", "jailbreak", "awesome", "own_exfiltration", "own_system", "own_scary"),
    *(
        "direct_leak_sideways",
        "direct_forced_answer",
        "direct_pressure",
        "direct_german_persona",
        "direct_french",
    ),
    *("direct_odd", "direct_sensitive", "direct_emotional", "direct_french_plain"),
    *("banking", "direct_next_test", "direct_next_step", "stormfront"),
)
ALERT: Final = (
    0.8  # the calibration's line; the rules alert from 0.85 on for documents, from 0.5 on for prompts
)


class Design(NamedTuple):
    """Rows, each as undisguised text and as a row of the sparse design matrix."""

    rows: Sequence[InjectionExample]
    texts: Sequence[str]
    matrix: Any

    def take(self, chosen: Sequence[int]) -> "Design":
        """Return some of the rows."""
        return Design(
            [self.rows[n] for n in chosen], [self.texts[n] for n in chosen], self.matrix[list(chosen)]
        )


class Tiers(NamedTuple):
    """Both tiers trained: weights and intercept over (shared, prompt, indirect) features, an adapter."""

    weights: Floats
    intercept: float
    adapter: Any

    def logits(self, design: Design) -> tuple[Floats, Floats]:
        """Return the logits of the linear model and of the encoder, each for the row's own side."""
        sides = [SIDES.index(row.side) for row in design.rows]
        read = adapters.predict(self.adapter, list(design.texts))
        return design.matrix @ self.weights + self.intercept, read[np.arange(len(sides)), sides].astype(
            np.float64
        )


def designed(data: Sequence[InjectionExample]) -> Design:
    """Undisguise the rows and compute their features."""
    from scipy import sparse  # type: ignore[import-untyped]  # its stubs are not among our tools

    texts = [" ".join(view.text for view in views(row.text)) for row in data]
    buckets, owner = hashed(texts)
    counts = np.bincount(owner, minlength=len(texts))
    grams = sparse.csr_matrix(((1 / norms(counts))[owner], (owner, buckets)), shape=(len(texts), SIZE))
    named = [[SIGNAL * (kind in present) for kind in KINDS] for present in map(signals, texts)]
    plain = sparse.hstack([grams, sparse.csr_matrix(np.array(named, dtype=float))])
    prompt = np.array([row.side == "prompt" for row in data], dtype=float)
    return Design(
        data,
        texts,
        sparse.hstack([plain, sparse.diags(prompt) @ plain, sparse.diags(1 - prompt) @ plain]).tocsr(),
    )


def balanced(data: Sequence[InjectionExample]) -> Floats:
    """Weigh rows: on each side both classes count alike, and in a class a source by the root of its size."""
    sizes = collections.Counter((row.side, row.attack, row.source) for row in data)
    terse = np.array([row.source in {"tool_results", "user_turns"} for row in data])
    weight = np.array([1 / np.sqrt(sizes[row.side, row.attack, row.source]) for row in data])
    weight[terse] *= TERSE
    place = np.array([2 * SIDES.index(row.side) + row.attack for row in data])
    weight /= np.bincount(place, weight)[place]
    normalised: Floats = weight / weight.mean()
    return normalised


def fit_linear(design: Design) -> tuple[Floats, float]:
    """Return weights and intercept of a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=REGULARISATION, max_iter=200, tol=1e-3)
    model.fit(design.matrix, [row.attack for row in design.rows], sample_weight=balanced(design.rows))
    return model.coef_[0], float(model.intercept_[0])


def without_weak_jailbreaks(design: Design) -> Design:
    """Leave out the windows of jailbreaks that do not look like an attack to a model without jailbreaks."""
    jailbreak = np.array([row.source == "jailbreak" for row in design.rows])
    weights, intercept = fit_linear(design.take(np.flatnonzero(~jailbreak).tolist()))
    suspicious = design.matrix @ weights + intercept >= JAILBREAK_FROM
    return design.take(np.flatnonzero(~jailbreak | suspicious).tolist())


def sampled(design: Design) -> Design:
    """Return the rows the encoder learns from: at most `CAPS` of a source and class."""
    chance = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    by = collections.defaultdict(list)
    for n, row in enumerate(design.rows):
        by[row.source, row.attack].append(n)
    chosen: list[int] = []
    for (source, _), places in sorted(by.items()):
        chance.shuffle(places)
        chosen += places[: CAPS.get(source, DIRECT_CAP if source.startswith("direct_") else CAP)]
    return design.take(sorted(chosen))


def train(design: Design) -> Tiers:
    """Train both tiers."""
    small = sampled(design)
    labels = np.full((len(small.rows), len(SIDES)), np.nan, np.float32)
    for n, row in enumerate(small.rows):
        labels[n, SIDES.index(row.side)] = row.attack
    adapter = adapters.finetune(
        list(small.texts), labels, epochs=EPOCHS, rank=RANK, seed=SEED, max_tokens=MAX_TOKENS
    )
    return Tiers(*fit_linear(design), adapter)


def calibrated(features: Floats, design: Design) -> dict[str, list[float]]:
    """Fit Platt's sigmoid per side on left-out rows, features of shape (rows, logits).

    Where more than `ALERTED` of the look-alikes would reach the alerts' threshold, the offset is lowered
    until they do not.
    """
    from sklearn.linear_model import LogisticRegression

    coefficients: dict[str, list[float]] = {}
    for side in SIDES:
        on_side = np.array([row.side == side for row in design.rows])
        attack = np.array([row.attack for row in design.rows])[on_side]
        model = LogisticRegression(C=1.0).fit(
            features[on_side], attack, balanced([r for r in design.rows if r.side == side])
        )
        scores = features[on_side] @ model.coef_[0] + model.intercept_[0]
        highest = float(np.quantile(scores[~attack], 1 - ALERTED[side]))
        excess = max(0.0, highest - np.log(ALERT / (1 - ALERT)))
        coefficients[side] = [*model.coef_[0].tolist(), float(model.intercept_[0] - excess)]
    return coefficients


def probability(
    blend: Mapping[str, Sequence[float]], features: Floats, data: Sequence[InjectionExample]
) -> Floats:
    """Return probabilities of rows by their side's calibration."""
    weights = np.array([blend[row.side] for row in data])
    probabilities: Floats = 1 / (1 + np.exp(-((features * weights[:, :-1]).sum(axis=1) + weights[:, -1])))
    return probabilities


def measured(tiers: Tiers, tier0: Any, tier1: Any, data: Sequence[InjectionExample]) -> dict[str, Any]:
    """Return recall and false positives per category of whole texts, at the alerts' threshold, and AUROC."""
    from sklearn.metrics import roc_auc_score

    cut = [row._replace(text=view.text) for row in data for view in views(row.text)]
    starts = np.cumsum([0, *(len(views(row.text)) for row in data)])[:-1]
    design = designed(cut)
    linear, read = tiers.logits(design)
    features = np.stack([linear, read], axis=1)
    attack = np.array([row.attack for row in data])
    report: dict[str, Any] = {}
    for name, window in (
        ("tier0", probability(tier0, features[:, :1], cut)),
        ("tier1", probability(tier1, features, cut)),
    ):
        score = np.maximum.reduceat(window, starts)
        report[name] = {
            source: round(float((score[[row.source == source for row in data]] >= ALERT).mean()), 3)
            for source in sorted({row.source for row in data})
        }
        if 0 < attack.mean() < 1:
            report[name]["auroc"] = round(float(roc_auc_score(attack, score)), 3)
            report[name]["ece"] = round(error(score, attack), 3)
            at = np.sort(score[~attack])[::-1][int(FALSE_POSITIVES * (~attack).sum())]
            report[name]["recall_at_3_percent_false_positives"] = round(float((score[attack] > at).mean()), 3)
    return report


def error(score: Floats, attack: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal size."""
    parts = np.array_split(np.argsort(score), bins)
    return float(sum(len(p) * abs(score[p].mean() - attack[p].mean()) for p in parts if len(p)) / len(score))


def mix() -> list[InjectionExample]:
    """Return the evaluation mix, which is measured and never learnt from; `source` is its category."""
    return [
        InjectionExample(r["category"].split("/")[0], r["id"], "prompt", r["text"], bool(r["label"]))
        for r in rows("evaldata", "injection", "prompt_injection_mix.jsonl")
    ]


def write(tiers: Tiers, tier0: Any, tier1: Any) -> None:
    """Write the weights and pin them."""
    width = SIZE + len(KINDS)
    shared, *own = (tiers.weights[n * width : (n + 1) * width] for n in range(3))
    summed = np.stack([shared + side for side in own])
    scale = float(np.abs(summed[:, :SIZE]).max() / 127)
    np.save(WEIGHTS / TABLE, np.round(summed[:, :SIZE] / scale).astype(np.int8))
    settings = {
        "scale": scale,
        "intercepts": [tiers.intercept] * len(SIDES),
        "signals": {kind: (SIGNAL * summed[:, SIZE + n]).round(6).tolist() for n, kind in enumerate(KINDS)},
        "tier0": {side: [a, 0.0, c] for side, (a, c) in tier0.items()},
        "tier1": tier1,
    }
    (WEIGHTS / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    encoder_graph.export(tiers.adapter, NAME)
    pin(COMMAND, TABLE, SETTINGS, graph(NAME))


def main() -> None:
    """Train without the left-out sources, calibrate and measure on those; train on all, measure, write."""
    design = without_weak_jailbreaks(designed(load()))
    source = np.array([row.source for row in design.rows])
    unseen = np.isin(source, LEFT_OUT)
    halves = (
        design.take(np.flatnonzero(~unseen).tolist()),
        sampled(design.take(np.flatnonzero(unseen).tolist())),
    )
    first = train(halves[0])
    features = np.stack(first.logits(halves[1]), axis=1)
    tier0, tier1 = calibrated(features[:, :1], halves[1]), calibrated(features, halves[1])
    report: dict[str, Any] = {
        "rows": dict(collections.Counter(source.tolist())),
        "tier0": tier0,
        "tier1": tier1,
    }
    for name, score in (
        ("left_out_tier0", probability(tier0, features[:, :1], halves[1].rows)),
        ("left_out_tier1", probability(tier1, features, halves[1].rows)),
    ):
        report[name] = flagged(score, halves[1].rows)
    report["mix_without_left_out"] = measured(first, tier0, tier1, mix())
    print(json.dumps(report, indent=1), file=sys.stderr)  # noqa: T201 - progress of a script
    final = train(design.take(np.flatnonzero(source != "jailbreak").tolist()))
    report["mix"] = measured(final, tier0, tier1, mix())
    write(final, tier0, tier1)
    report["parity"] = encoder_graph.parity(final.adapter, list(design.texts[:300]), NAME)
    print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output


def flagged(score: Floats, data: Sequence[InjectionExample]) -> dict[str, Any]:
    """Return the share of each source's rows that reach the alerts' threshold, attacks and others apart."""
    by = collections.defaultdict(list)
    for value, row in zip(score, data, strict=True):
        by[f"{row.source} {row.side} {'attack' if row.attack else 'benign'}"].append(value >= ALERT)
    return {name: round(float(np.mean(hits)), 3) for name, hits in sorted(by.items())}


if __name__ == "__main__":
    main()
