"""Train the groundedness model: `python -m monitor.models.train.groundedness` (a few minutes on two cores).

Data: labelled sets of `shared/traindata/hallucination` whose licences allow training, and pairs made from
`shared/traindata/text`. Nothing of `shared/evaldata` is trained on. It prints, as JSON, the AUROC on each set
left out of training, and on each evaluation set.
"""

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import text
from monitor.models import WEIGHTS
from monitor.models.embedding import Embedding
from monitor.models.groundedness import FEATURES, TREES, Case, Floats, Groundedness, Trees
from monitor.models.train import pin, rows

Example = tuple[Case, int]
EVALUATION = ("wice_claims", "begin_wow", "halueval_qa", "summedits", "faithbench")
# Sets of two classes, how many rows of each class are used, and what the set weighs against the others.
LABELLED = {
    "fool_me_twice": (2400, 0.5),
    "fever_symmetric": (700, 0.7),
    "begin_rest": (400, 1.0),
    "q2_wow": (500, 0.5),
    "breaking_nli": (900, 0.2),
    "halueval_qa_rest": (150, 0.1),
}
MADE, WEIGHT_OF_MADE = "made_pairs", 2.0
PAIRS = 6000


def _order(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _cases(*parts: str) -> list[Example]:
    found = sorted(rows(*parts), key=lambda row: _order(row["id"]))
    return [(Case(r["response"], [r["context"]], r.get("question") or ""), int(r["label"])) for r in found]


def labelled(name: str) -> list[Example]:
    """Return at most the stated number of rows per class of a training set, chosen by hash of id."""
    cases = _cases("traindata", "hallucination", f"{name}.jsonl")
    most = LABELLED[name][0]
    return [case for label in (0, 1) for case in [c for c in cases if c[1] == label][:most]]


def made_pairs() -> list[Example]:
    """Return supported and unsupported sentences made from passages: copies, rewrites, swaps, intrusions."""
    chance = random.Random(7)  # noqa: S311 - sampling, not cryptography
    passages = sorted(rows("traindata", "text", "passages.jsonl"), key=lambda row: _order(row["id"]))
    texts = [" ".join(p["text"].split()) for p in passages]
    rewrites = _cases("traindata", "hallucination", "wikisplit_faithful.jsonl")
    found: list[Example] = []
    for (case, _), _ in zip(rewrites, range(PAIRS // 3), strict=False):
        sources = _with_others(case.sources[0], texts, chance)
        found.append((case._replace(sources=sources), 0))
        found.extend((broken, 1) for broken in _broken(case.response, sources, texts, chance))
    for body in texts[: PAIRS // 3]:
        sources = _with_others(body, texts, chance)
        sentence = _sentence_of(body, chance)
        supported = (sentence, _shortened(sentence, chance))
        found.extend((Case(chance.choice(OPENINGS) + version, sources), 0) for version in supported)
        found.extend((broken, 1) for broken in _broken(sentence, sources, texts, chance))
    return found


OPENINGS = (
    "",
    "",
    "",
    "",
    "Yes, ",
    "According to the document, ",
    "Based on the context, ",
    "In short, ",
    "Sure! ",
)


def _with_others(body: str, texts: Sequence[str], chance: random.Random) -> list[str]:
    sources = [body, *chance.sample(texts, chance.randrange(4))]
    chance.shuffle(sources)
    return sources


def _sentence_of(body: str, chance: random.Random) -> str:
    span = chance.choice(text.sentences(body))
    return body[span.start : span.end]


def _shortened(sentence: str, chance: random.Random) -> str:
    clauses = re.split(r"(?<=[,;])\s", sentence)
    kept = chance.randrange(1, len(clauses) + 1)
    return " ".join(clauses[:kept]).rstrip(",;") + ("" if kept == len(clauses) else ".")


def _broken(
    sentence: str, sources: Sequence[str], texts: Sequence[str], chance: random.Random
) -> Iterator[Case]:
    """Yield two versions of a supported sentence that its sources do not support."""
    ways: list[Callable[[], str]] = [
        lambda: _swapped(sentence, text.quantities, sources, texts, chance),
        lambda: _swapped(sentence, _capitalised, sources, texts, chance),
        lambda: _negated(sentence),
        lambda: _sentence_of(chance.choice(texts), chance),
        lambda: (
            f"{_shortened(sentence, chance).rstrip('.')}, and {_sentence_of(chance.choice(texts), chance)}"
        ),
    ]
    made = 0
    for way in chance.sample(ways, len(ways)):
        broken = way()
        if broken and not any(broken in source for source in sources) and broken != sentence:
            yield Case(chance.choice(OPENINGS) + broken, sources)
            made += 1
        if made == 2:  # noqa: PLR2004 - as many as there are supported ones
            return


def _capitalised(body: str) -> list[text.Token]:
    return text.names(body, text.tokens(body))


def _swapped(
    sentence: str,
    parts: Callable[[str], Sequence[Any]],
    sources: Sequence[str],
    texts: Sequence[str],
    chance: random.Random,
) -> str:
    """Replace one number or name by another from elsewhere; empty when there is none to replace."""
    places = parts(sentence)
    elsewhere = chance.choice([*texts[:2000], *sources])
    others = [elsewhere[o.start : o.end] for o in parts(elsewhere)]
    known = " ".join(sources).lower()
    others = [other for other in others if other.lower() not in known]
    if not places or not others:
        return ""
    place = chance.choice(places)
    return sentence[: place.start] + chance.choice(others) + sentence[place.end :]


def _negated(sentence: str) -> str:
    changed, count = re.subn(
        r"\b(is|are|was|were|can|will|has been|should|must)\b", r"\1 not", sentence, count=1
    )
    return changed if count else ""


def measured(
    model: Groundedness, examples: Sequence[Example]
) -> tuple[Floats, npt.NDArray[np.int64], list[int]]:
    """Return the measures of every claim, the label of its response, and the index of its response."""
    claims = [
        (claim.features, label, i) for i, (case, label) in enumerate(examples) for claim in model.claims(case)
    ]
    features, labels, owners = zip(*claims, strict=True)
    return np.stack(features), np.asarray(labels), list(owners)


def fitted(
    features: Floats,
    labels: npt.NDArray[np.int64],
    weights: Floats,
    scaling: tuple[float, float] = (1.0, 0.0),
) -> dict[str, Any]:
    """Fit the trees and return them as flat arrays, with Platt scaling (slope, offset)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.08,
        max_leaf_nodes=8,
        max_depth=5,
        min_samples_leaf=60,
        l2_regularization=5.0,
        monotonic_cst=[direction for _, direction in FEATURES],
        early_stopping=False,
        random_state=0,
    )
    model.fit(features, labels, sample_weight=weights)
    trees = [stage[0].nodes for stage in model._predictors]  # noqa: SLF001 - the only way to export them
    arrays = {
        name: np.zeros((len(trees), max(len(nodes) for nodes in trees)))
        for name in ("feature", "threshold", "left", "right", "value")
    }
    for i, nodes in enumerate(trees):
        here = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        arrays["feature"][i, : len(nodes)] = np.where(leaf, 0, nodes["feature_idx"])
        arrays["threshold"][i, : len(nodes)] = np.where(leaf, 0.0, nodes["num_threshold"])
        arrays["left"][i, : len(nodes)] = np.where(leaf, here, nodes["left"])
        arrays["right"][i, : len(nodes)] = np.where(leaf, here, nodes["right"])
        arrays["value"][i, : len(nodes)] = nodes["value"]
    base = float(np.ravel(model._baseline_prediction)[0])  # noqa: SLF001 - see above
    depth = max(int(nodes["depth"].max()) for nodes in trees)
    return arrays | {"depth": np.asarray(depth), "scaling": np.asarray([base, *scaling])}


def worst(margins: Floats, owners: Sequence[int], count: int) -> Floats:
    """Return the highest margin of each response; a response without claims has the lowest of all."""
    out = np.full(count, margins.min() if len(margins) else 0.0)
    for owner, margin in zip(owners, margins, strict=True):
        out[owner] = max(out[owner], margin)
    return out


def calibration_error(expected: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> float:
    """Return the expected calibration error over ten equal bins of probability, weighted."""
    bins = np.minimum((expected * 10).astype(int), 9)
    gaps = np.bincount(bins, weights * (expected - labels), minlength=10)
    return float(np.abs(gaps).sum() / weights.sum())


def main() -> None:
    """Measure, cross-validate by data set, calibrate on the sets left out, fit on all, write and pin."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    model = Groundedness(Embedding.load(), None, "")
    sets = {name: labelled(name) for name in LABELLED} | {MADE: made_pairs()}
    shares = {name: share for name, (_, share) in LABELLED.items()} | {MADE: WEIGHT_OF_MADE}
    data = {name: measured(model, examples) for name, examples in sets.items()}
    weights = {
        name: shares[name] * 1000 / np.bincount(labels)[labels] for name, (_, labels, _) in data.items()
    }
    report: dict[str, Any] = {"claims": {name: len(labels) for name, (_, labels, _) in data.items()}}

    def fit_on(chosen: Sequence[str], scaling: tuple[float, float] = (1.0, 0.0)) -> dict[str, Any]:
        return fitted(
            np.concatenate([data[name][0] for name in chosen]),
            np.concatenate([data[name][1] for name in chosen]),
            np.concatenate([weights[name] for name in chosen]),
            scaling,
        )

    out_of_domain: list[tuple[Floats, npt.NDArray[np.int64], Floats]] = []
    report["left_out"] = {}
    for name in data:
        trees = Trees(fit_on([other for other in data if other != name]))
        margins = trees.margins(data[name][0])
        report["left_out"][name] = round(float(roc_auc_score(data[name][1], margins)), 3)
        out_of_domain.append((margins, data[name][1], weights[name]))
    margins, labels, weight = (np.concatenate(part) for part in zip(*out_of_domain, strict=True))
    platt = LogisticRegression(C=1e6).fit(margins[:, None], labels, sample_weight=weight)
    expected = platt.predict_proba(margins[:, None])[:, 1]
    report["left_out_calibration_error"] = round(calibration_error(expected, labels, weight), 3)
    arrays = fit_on(list(data), (float(platt.coef_[0, 0]), float(platt.intercept_[0])))
    report["platt"] = [round(float(platt.coef_[0, 0]), 3), round(float(platt.intercept_[0]), 3)]

    np.savez(WEIGHTS / TREES, **arrays)
    pin("python -m monitor.models.train.groundedness", TREES)
    final = Trees.load()
    report["evaluation"] = {}
    for name in EVALUATION:
        examples = _cases("evaldata", "hallucination", f"{name}.jsonl")
        features, _, owners = measured(model, examples)
        truth = np.asarray([label for _, label in examples])
        scores = worst(final.probabilities(features), owners, len(examples))
        report["evaluation"][name] = {
            "auroc": round(float(roc_auc_score(truth, scores)), 3),
            "flagged_at_0.8": {str(c): round(float((scores[truth == c] >= 0.8).mean()), 3) for c in (0, 1)},  # noqa: PLR2004 - the rules' threshold
        }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
