"""Train the bundled toxicity model: `python -m monitor.models.train.toxicity` (minutes on two cores).

Logistic regression on the hashed n-grams of `monitor.models.linear`, calibrated by Platt's method on
out-of-fold scores (5 folds, grouped by source document or template). Prints, as JSON, what the model card
quotes: AUROC per data set in cross-validation and with that data set left out of training, calibration error,
and false positives on task-oriented chat. Data sets whose licence does not allow training are only scored.
"""

import collections
import json
import random
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS, linear
from monitor.models.linear import Calibration, Floats
from monitor.models.train import pin, rows

COMMAND = "python -m monitor.models.train.toxicity"
NAME = "toxicity"
WINDOW = 400
REGULARISATION = 16.0
FOLDS = 5
SEED = 7
CUTS = (0.5, 0.8)
CAPS = {"sgd_neutral_chat": 5000, "passages": 2000, "stormfront_sentences": 6000}

TRAINED = {
    "davidson_train": ("traindata", "toxicity"),
    "stormfront_sentences": ("traindata", "toxicity"),
    "wiki_talk_identity": ("traindata", "toxicity"),
    "identity_madlibs": ("traindata", "toxicity"),
    "sgd_neutral_chat": ("traindata", "toxicity"),
    "passages": ("traindata", "text"),
    "hatecheck": ("evaldata", "toxicity"),
    "surge": ("evaldata", "toxicity"),
    "openai_moderation": ("evaldata", "toxicity"),
}
# Neutral sentences about groups of people: in the data sets above a group's name mostly stands in its abuse
# (Dixon et al. 2018, "Measuring and mitigating unintended bias in text classification").
GROUPS = (
    *("muslim", "jewish", "christian", "hindu", "buddhist", "catholic", "atheist", "black", "white", "asian"),
    *(
        "african",
        "latino",
        "mexican",
        "chinese",
        "indian",
        "arab",
        "american",
        "european",
        "immigrant",
        "refugee",
    ),
    *("gay", "lesbian", "transgender", "straight", "queer", "bisexual", "female", "male", "disabled", "deaf"),
    *("blind", "autistic", "elderly", "young", "homeless"),
)
NEUTRAL = (
    "Our {} neighbours invited us to dinner last week.",
    "The museum opens an exhibition of {} artists in spring.",
    "She writes about {} families for the local newspaper.",
    "I am {} and I work as a nurse.",
    "Is there a {} community centre near the station?",
    "The survey compared {} and {} voters in three states.",
    "My {} friend is looking for a flat in Leeds.",
    "Many {} people have lived in this city for decades.",
    "The law gives {} citizens the same rights as everyone.",
    "{} and {} students meet on Thursdays in room five.",
    "Could you recommend a book by a {} author?",
    "The festival celebrates {} music and food.",
    "He was born into a {} family in 1962.",
    "We offer counselling for {} employees, free of charge.",
    "The article explains how {} and {} traditions differ.",
    "A {} woman was elected mayor yesterday.",
    "A {} man won the marathon.",
    "Which rules apply to {} applicants?",
    "{} people contribute to the economy.",
    "This charity supports {} children and their parents.",
)
SCORED_ONLY = {"tweeteval_offensive": ("evaldata", "toxicity")}
TWO_CLASSES = (
    "davidson_train",
    "stormfront_sentences",
    "wiki_talk_identity",
    "hatecheck",
    "surge",
    "openai_moderation",
)


class Row(NamedTuple):
    """One labelled text; rows of one `group` (document, template) never stand on both sides of a split."""

    source: str
    group: str
    text: str
    toxic: bool
    category: str = ""


def load() -> list[Row]:
    """Return the rows of all data sets, capped, in a fixed order."""
    found = []
    for source, folder in {**TRAINED, **SCORED_ONLY}.items():
        mine = [
            Row(
                source, _group(source, row), row["text"], bool(row.get("label", 0)), row.get("category") or ""
            )
            for row in rows(*folder, f"{source}.jsonl")
            if row.get("category") != "self-harm"  # a cry for help is no abuse
        ]
        random.Random(SEED).shuffle(mine)  # noqa: S311 - sampling, not cryptography
        found.extend(mine[: CAPS.get(source)])
    return found + [
        Row(
            "identity_neutral",
            f"neutral/{n}",
            template.format(group, GROUPS[(k + 7) % len(GROUPS)]),
            toxic=False,
        )
        for n, template in enumerate(NEUTRAL)
        for k, group in enumerate(GROUPS)
    ]


def _group(source: str, row: dict[str, Any]) -> str:
    return f"{source}/{row['id'].split('/')[1] if row['id'].count('/') > 1 else row['id']}"


def matrix(texts: Sequence[str]) -> Any:
    """Return the sparse design matrix: counts of n-grams over the square root of their number."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped] # its stubs are not among our tools

    buckets, owner = linear.hashed(texts)
    counts = np.bincount(owner, minlength=len(texts))
    values = (1.0 / np.sqrt(np.maximum(counts, 1)))[owner]
    return csr_matrix((values, (owner, buckets)), shape=(len(texts), 1 << linear.BITS))


def fit(data: Sequence[Row], design: Any) -> tuple[Floats, float]:
    """Return weights and intercept of a logistic regression; a data set counts by the root of its size."""
    from sklearn.linear_model import LogisticRegression

    sizes = collections.Counter(row.source for row in data)
    weight = np.array([1.0 / np.sqrt(sizes[row.source]) for row in data])
    model = LogisticRegression(C=REGULARISATION, solver="lbfgs", max_iter=300, tol=1e-3)
    model.fit(design, [row.toxic for row in data], sample_weight=weight / weight.mean())
    return model.coef_[0], float(model.intercept_[0])


class Scorer:
    """Scores texts as the detector does: the worst window of each."""

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [text[a:b] for text in texts for a, b in linear.windows(text, WINDOW)]
        counts = [len(linear.windows(text, WINDOW)) for text in texts]
        self._design = matrix(parts)
        self._starts = np.cumsum([0, *counts[:-1]])

    def __call__(self, weights: Floats, intercept: float) -> Floats:
        """Return the raw score of every text."""
        return np.maximum.reduceat(self._design @ weights + intercept, self._starts)


def quantised(weights: Floats) -> tuple[npt.NDArray[np.int8], float]:
    """Return int8 weights and their scale."""
    scale = float(np.abs(weights).max() / 127)
    return np.round(weights / scale).astype(np.int8), scale


def platt(scores: Floats, toxic: npt.NDArray[np.bool_]) -> Calibration:
    """Fit Platt's sigmoid to held-out scores."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(scores[:, None], toxic)
    return Calibration(float(model.coef_[0, 0]), float(model.intercept_[0]))


def calibration_error(probability: Floats, toxic: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal size."""
    parts = np.array_split(np.argsort(probability), bins)
    return float(
        sum(len(p) * abs(probability[p].mean() - toxic[p].mean()) for p in parts if len(p)) / len(probability)
    )


def by_category(category: Sequence[str], right: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the share that is right per category, the empty one left out."""
    names = np.array(category)
    return {name: round(float(right[names == name].mean()), 2) for name in sorted(set(category) - {""})}


def main() -> None:
    """Train, measure, write the weights and pin them."""
    from sklearn.metrics import roc_auc_score

    data = load()
    toxic = np.array([row.toxic for row in data])
    source = np.array([row.source for row in data])
    design, scorer = matrix([row.text for row in data]), Scorer([row.text for row in data])
    usable = ~np.isin(source, list(SCORED_ONLY))
    rng = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    fold_of = {group: rng.randrange(FOLDS) for group in sorted({row.group for row in data})}
    fold = np.array([fold_of[row.group] for row in data])

    def trained_on(chosen: npt.NDArray[np.bool_]) -> Floats:
        index = np.flatnonzero(chosen)
        return scorer(*fit([data[n] for n in index], design[index]))

    held_out = np.zeros(len(data))
    for n in range(FOLDS):
        held_out[fold == n] = trained_on(usable & (fold != n))[fold == n]
        print(f"fold {n + 1} of {FOLDS}", file=sys.stderr)  # noqa: T201 - progress of a script
    calibration = platt(held_out[usable], toxic[usable])
    probability = calibration.probability(held_out)

    left_out = {}
    for name in TWO_CLASSES:
        mine = source == name
        left_out[name] = trained_on(usable & ~mine)[mine]
        print(f"without {name}", file=sys.stderr)  # noqa: T201 - progress of a script

    index = np.flatnonzero(usable)
    weights, intercept = fit([data[n] for n in index], design[index])
    table, scale = quantised(weights)
    final = calibration.probability(scorer(table.astype(np.float64) * scale, intercept))
    np.save(WEIGHTS / f"{NAME}.npy", table)
    settings = {"scale": scale, "intercept": intercept, **calibration._asdict()}
    (WEIGHTS / f"{NAME}.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    pin(COMMAND, f"{NAME}.npy", f"{NAME}.json")

    chat = source == "sgd_neutral_chat"
    report = {
        "rows": dict(collections.Counter(source.tolist())),
        "auroc_cross_validated": {
            name: round(float(roc_auc_score(toxic[source == name], held_out[source == name])), 3)
            for name in (*TWO_CLASSES, "identity_madlibs")
        },
        "auroc_left_out": {
            **{
                name: round(float(roc_auc_score(toxic[source == name], scores)), 3)
                for name, scores in left_out.items()
            },
            **{
                name: round(float(roc_auc_score(toxic[source == name], final[source == name])), 3)
                for name in SCORED_ONLY
            },
        },
        "ece_cross_validated": round(calibration_error(probability[usable], toxic[usable]), 4),
        "ece_left_out": {
            name: round(calibration_error(calibration.probability(scores), toxic[source == name]), 3)
            for name, scores in left_out.items()
        },
        "chat_false_positive_rate": {
            str(cut): round(float((probability[chat] >= cut).mean()), 5) for cut in CUTS
        },
        "recall_cross_validated": {
            name: {str(c): round(float((probability[(source == name) & toxic] >= c).mean()), 3) for c in CUTS}
            for name in TWO_CLASSES
        },
        "hatecheck_accuracy_cross_validated": by_category(
            [row.category if row.source == "hatecheck" else "" for row in data],
            (probability >= CUTS[0]) == toxic,
        ),
        "bytes": (WEIGHTS / f"{NAME}.npy").stat().st_size,
    }
    print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    main()
