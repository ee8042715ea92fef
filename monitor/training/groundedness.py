"""Train the groundedness model: `python -m monitor.training.groundedness` (a few minutes on two cores).

Data: labelled sets of `shared/traindata/hallucination` whose licences allow training, pairs made from
`shared/traindata/text`, and sets of `shared/evaldata` with such licences (SummEdits and FaithBench not).
It prints, as JSON, AUROC on every set with its whole family left out of training, and on those trained on by
cross-validation, rows of one page, document or question together.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS
from monitor.models.embedding import Embedding
from monitor.models.groundedness import TREES, Groundedness, Trees, prior, response_margin, scaled
from monitor.models.grounding_features import FEATURES, Floats, ResponseFeatures
from monitor.training import pin
from monitor.training.groundedness_data import (
    DEVELOPMENT,
    FAMILIES,
    LABELLED,
    MAKERS,
    NEVER_TRAINED_ON,
    WEIGHT_OF_MADE,
    Example,
    cases,
    labelled,
)

CALIBRATED_ON = ("wice_claims", "begin_wow", "made_pairs")
"""Sets the probability is fitted to: answers as models write them, not claims written to fool a reader."""
SHORT_ANSWERS = ("halueval_qa", "begin_wow", "begin_rest", "q2_wow", "fool_me_twice", "made_pairs")
"""Sets with answers of a few words, to which their weight in the scaling is fitted."""
FOLDS = 4
FLAGGED = 0.8  # the threshold of the shipped rules
TREE_COUNT = 120
SETTINGS = {
    "num_leaves": 8,
    "learning_rate": 0.05,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.4,
    "lambda_l2": 10,
    "max_bin": 63,
    "monotone_constraints": [direction for _, direction in FEATURES],
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


class MeasuredSet(NamedTuple):
    """The features of a data set, with the label and group of each response."""

    responses: list[ResponseFeatures]
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @property
    def sentences(self) -> int:
        """Number of measured sentences."""
        return sum(len(response.claims) for response in self.responses)

    def balance(self) -> Floats:
        """Return a weight per response that gives both classes the same sum, one."""
        return 1 / np.bincount(self.truth, minlength=2)[self.truth]

    def wholes(self, chosen: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the measures of the chosen responses, shape (responses, measures)."""
        rows = np.stack([response.whole for response in self.responses])
        return rows if chosen is None else rows[chosen]

    def response_odds(self, model: Trees) -> Floats:
        """Return the log odds of each response; one without sentences has the lowest of all."""
        whole = model.margins(self.wholes())
        each = [claim.features for response in self.responses for claim in response.claims]
        margins = model.margins(np.stack(each))
        starts = np.cumsum([0, *(len(response.claims) for response in self.responses)]).tolist()
        log_odds = np.asarray([
            response_margin(float(odds), response.claims, margins[a:b])
            for odds, response, (a, b) in zip(whole, self.responses, itertools.pairwise(starts), strict=True)
        ])  # fmt: skip
        odds: Floats = np.maximum(log_odds, log_odds[np.isfinite(log_odds)].min())
        return odds

    def auroc(self, odds: Floats, scaling: Floats) -> float:
        """Return the area under the curve of the responses, scaled, to three digits."""
        from sklearn.metrics import roc_auc_score

        return round(float(roc_auc_score(self.truth, scaled(odds, self.wholes()) @ scaling)), 3)


Judgements = tuple[MeasuredSet, Floats]
"""A set and the log odds of its responses, by a model that was not trained on them."""


def measure(model: Groundedness, examples: Sequence[Example], groups: Sequence[str]) -> MeasuredSet:
    """Measure every response."""
    return MeasuredSet(
        [model.measure(case) for case, _ in examples],
        np.asarray([label for _, label in examples]),
        np.unique(list(groups) or np.arange(len(examples)), return_inverse=True)[1],
    )


def fitted(parts: Sequence[tuple[MeasuredSet, float, npt.NDArray[np.bool_] | None]]) -> Trees:
    """Fit trees on sets with their weights, both classes alike; a mask chooses responses.

    Each set has a constant of its own, fitted along and then forgotten, so the trees learn to separate
    the responses of a set and not the sets from one another.
    """
    import lightgbm

    features, truth, weights, sets = [], [], [], []
    for i, (part, share, chosen) in enumerate(parts):
        labels = part.truth if chosen is None else part.truth[chosen]
        features.append(part.wholes(chosen))
        truth.append(labels)
        weights.append(share / np.bincount(labels, minlength=2)[labels])
        sets.append(np.full(len(labels), i))
    rows, labels, weight, owner = (np.concatenate(arrays) for arrays in (features, truth, weights, sets))
    weight /= weight.mean()
    start = prior(rows)
    constants = np.zeros(len(parts))

    def gradients(odds: Floats, _: Any) -> tuple[Floats, Floats]:
        def expected() -> Floats:
            p: Floats = 1 / (1 + np.exp(-(start + odds + constants[owner])))
            return p

        for _ in range(4):  # Newton steps; they start from the constants of the tree before
            p = expected()
            step = np.bincount(owner, weight * (p - labels)) / np.bincount(owner, weight * p * (1 - p))
            constants[:] -= np.clip(step, -1, 1)
        p = expected()
        return weight * (p - labels), weight * p * (1 - p)

    data = lightgbm.Dataset(rows, labels)
    model = lightgbm.train(SETTINGS | {"objective": gradients}, data, TREE_COUNT)
    return Trees(_flat([tree["tree_structure"] for tree in model.dump_model()["tree_info"]], (1.0, 0.0, 0.0)))


def _flat(trees: Sequence[dict[str, Any]], scaling: tuple[float, float, float]) -> dict[str, Any]:
    """Return the trees as arrays of shape (trees, nodes); leaves point at themselves."""
    nodes: list[list[tuple[float, float, float, float, float]]] = []
    deepest = 0

    def add(into: list[tuple[float, float, float, float, float]], node: dict[str, Any], depth: int) -> int:
        nonlocal deepest
        deepest = max(deepest, depth)
        index = len(into)
        if "split_feature" not in node:
            into.append((0, 0, index, index, node["leaf_value"]))
            return index
        into.append((0, 0, 0, 0, 0))
        left, right = add(into, node["left_child"], depth + 1), add(into, node["right_child"], depth + 1)
        into[index] = (node["split_feature"], node["threshold"], left, right, 0)
        return index

    for tree in trees:
        nodes.append([])
        add(nodes[-1], tree, 0)
    arrays = np.zeros((5, len(nodes), max(map(len, nodes))))
    for i, tree_nodes in enumerate(nodes):
        arrays[:, i, : len(tree_nodes)] = np.asarray(tree_nodes).T
    named = dict(zip(("feature", "threshold", "left", "right", "value"), arrays, strict=True))
    return named | {"depth": np.asarray(deepest), "scaling": np.asarray(scaling)}


def scaling_for(long: Sequence[Judgements], short: Sequence[Judgements]) -> Floats:
    """Return the scaling (of `Trees.scaling`) that fits the log odds of sets best, both classes alike.

    The weight of shortness is fitted last, to the short answers of `short`, so that it moves no others.
    """
    from sklearn.linear_model import LogisticRegression

    rows, truth, weights = _pooled(long)
    model = LogisticRegression(C=1e6, fit_intercept=False, max_iter=1000)
    model.fit(rows[:, :-1], truth, sample_weight=1000 * weights)
    scaling = np.append(model.coef_[0], 0.0)
    rows, truth, weights = _pooled(short)
    for _ in range(20):  # Newton steps
        p = 1 / (1 + np.exp(-(rows @ scaling)))
        shortness = rows[:, -1]
        scaling[-1] -= ((weights * (p - truth)) @ shortness) / ((weights * p * (1 - p)) @ shortness**2)
    return scaling


def _pooled(judged: Sequence[Judgements]) -> tuple[Floats, Floats, Floats]:
    """Return what the scaling weighs, the labels and the weights of all responses of sets."""
    return (
        np.concatenate([scaled(odds, part.wholes()) for part, odds in judged]),
        np.concatenate([part.truth for part, _ in judged]).astype(float),
        np.concatenate([part.balance() for part, _ in judged]),
    )


def calibration_error(expected: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> float:
    """Return the expected calibration error over ten equal bins of probability, weighted."""
    bins = np.minimum((expected * 10).astype(int), 9)
    gaps = np.bincount(bins, weights * (expected - labels), minlength=10)
    return float(np.abs(gaps).sum() / weights.sum())


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


def main() -> None:
    """Measure, cross-validate by data set and by page, calibrate, fit on all, write and pin."""
    model = Groundedness(Embedding.load(), None, "")
    shares = {name: share for name, (_, share) in LABELLED.items()} | WEIGHT_OF_MADE
    data: dict[str, MeasuredSet] = {}
    for name in (*shares, *NEVER_TRAINED_ON):
        examples, groups = (
            (MAKERS[name](), []) if name in MAKERS else labelled(name) if name in LABELLED else cases(name)
        )
        data[name] = measure(model, examples, groups)
        _say(f"{name}: {len(examples)} responses, {data[name].sentences} sentences")
    report: dict[str, Any] = {"sentences": {name: part.sentences for name, part in data.items()}}

    final = fitted([(data[name], shares[name], None) for name in shares])
    left_out: dict[str, Floats] = {name: data[name].response_odds(final) for name in NEVER_TRAINED_ON}
    for family in FAMILIES:
        trees = fitted([(data[name], shares[name], None) for name in shares if name not in family])
        left_out |= {name: data[name].response_odds(trees) for name in family}
    within = {name: np.zeros(len(data[name].truth)) for name in DEVELOPMENT}
    for fold in range(FOLDS):
        trees = fitted([
            (data[name], shares[name], data[name].groups % FOLDS != fold if name in within else None)
            for name in shares
        ])  # fmt: skip
        for name, odds in within.items():
            in_fold = data[name].groups % FOLDS == fold
            odds[in_fold] = data[name].response_odds(trees)[in_fold]

    judged = {name: (data[name], within.get(name, odds)) for name, odds in left_out.items()}

    def scaling_without(family: Sequence[str]) -> Floats:
        long, short = (
            [judged[name] for name in names if name not in family] for names in (CALIBRATED_ON, SHORT_ANSWERS)
        )
        return scaling_for(long, short)

    scaling = scaling_without(())
    report["scaling"] = scaling.round(3).tolist()
    report["left_out"] = {}
    for family in (*FAMILIES, NEVER_TRAINED_ON):
        others = scaling_without(family)
        report["left_out"] |= {name: data[name].auroc(left_out[name], others) for name in family}
    report["within"] = {name: data[name].auroc(odds, scaling) for name, odds in within.items()}

    calibrated = Trees(final.arrays | {"scaling": scaling})
    expected = {
        name: calibrated.calibrated(within.get(name, odds), data[name].wholes())
        for name, odds in left_out.items()
    }
    pooled = (
        np.concatenate([expected[name] for name in CALIBRATED_ON]),
        np.concatenate([data[name].truth for name in CALIBRATED_ON]),
        np.concatenate([data[name].balance() for name in CALIBRATED_ON]),
    )
    report["calibration_error"] = {"calibrated on": round(calibration_error(*pooled), 3)}
    for name in (*DEVELOPMENT, *NEVER_TRAINED_ON):
        part, probabilities = data[name], expected[name]
        error = calibration_error(probabilities, part.truth, part.balance())
        report["calibration_error"][name] = round(error, 3)
        flagged = {
            str(c): round(float((probabilities[part.truth == c] >= FLAGGED).mean()), 3) for c in (0, 1)
        }
        report.setdefault("flagged_at_0.8", {})[name] = flagged

    np.savez_compressed(WEIGHTS / TREES, allow_pickle=False, **calibrated.arrays)
    pin("python -m monitor.training.groundedness", TREES)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
