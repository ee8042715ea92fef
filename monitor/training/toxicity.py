"""Train the bundled toxicity models: `python -m monitor.training.toxicity` (15 minutes of one core).

Tier 1 is an adapter of the shared encoder. Tier 0 is a linear model on hashed n-grams that learns the
encoder's answers, and a threshold below which it may rule them out. Where the encoder looks, both count: the
linear model knows the words, the encoder what is said with them. Both are measured and calibrated on a third
of the data, grouped by document or template, that neither has learnt from; the encoder measured is the one
shipped. Prints, as JSON, what the model card quotes. Data sets whose licence does not allow training are only
scored: nothing is fitted to them, not even the gate.
"""

import collections
import json
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS, linear
from monitor.models.linear import Calibration, Floats
from monitor.training import adapters, encoder_graph, pin, rows
from monitor.training.toxicity_sentences import disguised, sentences

COMMAND = "python -m monitor.training.toxicity"
NAME = "toxicity"
WINDOW = 400
FOLDS = 3
SEED = 7
EPOCHS, MAX_TOKENS = 3, 80
FILLS, DISGUISED = 14, 1200
CUTS = (0.5, 0.8)
RECALL = 0.99  # of what the encoder flags, tier 0 lets pass
SHRUNK = 0.8
"""The share of the adapter's changes that is kept. Half-way to the base model, texts unlike the training data
are ranked better (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903)."""
BLEND = 0.5  # weight of tier 0's raw score against the encoder's logit

TRAINED: Mapping[str, tuple[tuple[str, str], int]] = {
    "davidson_train": (("traindata", "toxicity"), 3600),
    "stormfront_sentences": (("traindata", "toxicity"), 2200),
    "wiki_talk_identity": (("traindata", "toxicity"), 1450),
    "identity_madlibs": (("traindata", "toxicity"), 400),
    "sgd_neutral_chat": (("traindata", "toxicity"), 2000),
    "passages": (("traindata", "text"), 500),
    "clinc150": (("evaldata", "drift"), 500),
    "banking77": (("evaldata", "drift"), 400),
    "hatecheck": (("evaldata", "toxicity"), 2000),
    "surge": (("evaldata", "toxicity"), 1000),
    "openai_moderation": (("evaldata", "toxicity"), 2000),
}
"""Path of each set, and the most rows used of it."""
SCORED_ONLY = {"tweeteval_offensive": (("evaldata", "toxicity"), 2000)}
TWO_CLASSES = (
    "davidson_train",
    "stormfront_sentences",
    "wiki_talk_identity",
    "hatecheck",
    "surge",
    "openai_moderation",
    "made",
)
WEIGHT = {"hatecheck": 3.0, "surge": 2.0, "openai_moderation": 2.0}
# HateCheck calls insults of persons and of other groups harmless, because it is about hate alone.
NOT_LEARNT = ("target_indiv_nh", "target_group_nh")


CHAT = ("sgd_neutral_chat", "clinc150", "banking77")
JUDGED = ("hatecheck", "surge", "openai_moderation", "tweeteval_offensive")
RIDGE = 0.5
SURE = (-6.0, 3.0)  # logits beyond these teach the gate no more
ORDINARY: Mapping[str, tuple[tuple[str, str], int]] = {
    "passages": (("traindata", "text"), 3000),
    "clinc150": (("evaldata", "drift"), 2500),
    "banking77": (("evaldata", "drift"), 1000),
    "sgd_neutral_chat": (("traindata", "toxicity"), 2500),
    "wnut17_train": (("traindata", "pii"), 1500),
    "btc_abef": (("traindata", "pii"), 1500),
    "awesome_prompts_benign": (("traindata", "injection"), 300),
    "bfcl_user_requests_benign": (("traindata", "injection"), 700),
}
"""Further prose, chat and prompts on which the gate learns what the encoder answers; they need no label."""


class ToxicityExample(NamedTuple):
    """One labelled text; rows of one `group` (document, template) are never on both sides of a split."""

    source: str
    group: str
    text: str
    toxic: bool
    category: str = ""
    weight: float = 1.0


def load() -> list[ToxicityExample]:
    """Return the rows of all data sets, capped, in a fixed order."""
    chance = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    examples: list[ToxicityExample] = []
    for source, (folder, cap) in {**TRAINED, **SCORED_ONLY}.items():
        candidates = list(rows(*folder, f"{source}.jsonl"))
        chance.shuffle(candidates)
        if source == "stormfront_sentences":  # one in nine is hateful: keep those
            candidates.sort(key=lambda row: -row["label"])
        examples += [
            ToxicityExample(
                source,
                f"{source}/{row['id'].split('/')[1]}",
                row["text"],
                bool(row.get("label", 0)),
                row.get("category") or "",
                WEIGHT.get(source, 1.0),
            )
            for row in candidates[:cap]
        ]
    examples += [
        ToxicityExample("made", f"made/{made.pattern}", made.text, made.toxic, made.pattern.partition("/")[0])
        for made in sentences(SEED, FILLS)
    ]
    short = [row for row in examples if len(row.text) < WINDOW // 3 and row.source not in SCORED_ONLY]
    return examples + [
        row._replace(source="disguised", text=disguised(row.text, chance))
        for row in chance.sample(short, DISGUISED)
    ]


def learn(data: Sequence[ToxicityExample], *, quiet: bool = False) -> adapters.Adapter:
    """Train the encoder's adapter on the beginnings of the texts."""
    data = [row for row in data if row.source not in SCORED_ONLY and row.category not in NOT_LEARNT]
    return adapters.finetune(
        [linear.normalised(row.text[: 2 * WINDOW]) for row in data],
        np.array([float(row.toxic) for row in data]),
        weights=np.array([row.weight for row in data]),
        epochs=EPOCHS,
        seed=SEED,
        max_tokens=MAX_TOKENS,
        batch_tokens=1536,
        quiet=quiet,
    )


def folds(data: Sequence[ToxicityExample]) -> npt.NDArray[np.intp]:
    """Return the fold of each row: rows of a group share one."""
    chance = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    fold_of = {group: chance.randrange(FOLDS) for group in sorted({row.group for row in data})}
    return np.array([fold_of[row.group] for row in data])


class Windowed:
    """The windows of many texts, and the worst score of each text."""

    def __init__(self, texts: Sequence[str]) -> None:
        cuts = [linear.windows(text, WINDOW) for text in texts]
        self.parts = [text[a:b] for text, cut in zip(texts, cuts, strict=True) for a, b in cut]
        self._starts = np.cumsum([0, *map(len, cuts)])[:-1]

    def encoded(self, adapter: adapters.Adapter) -> Floats:
        """Return the encoder's logit of every window."""
        predicted = adapters.predict(adapter, [linear.normalised(part) for part in self.parts])
        return predicted[:, 0].astype(np.float64)

    def worst(self, scores: Floats) -> Floats:
        """Return the highest score of each text's windows."""
        return np.maximum.reduceat(scores, self._starts)

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Repeat a value per text for each of its windows."""
        return np.repeat(values, np.diff([*self._starts, len(self.parts)]))


def matrix(texts: Sequence[str]) -> Any:
    """Return the sparse design matrix: counts of n-grams over the square root of their number."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped] # its stubs are not among our tools

    buckets, owner = linear.hashed(texts)
    counts = np.bincount(owner, minlength=len(texts))
    values = (1.0 / np.sqrt(np.maximum(counts, 1)))[owner]
    return csr_matrix((values, (owner, buckets)), shape=(len(texts), 1 << linear.BITS))


def fit(design: Any, logits: Floats) -> tuple[npt.NDArray[np.int8], float, float]:
    """Return int8 weights, their scale and the intercept of a ridge regression on the encoder's logits.

    Its logits teach more than its flags: at the same recall the gate then passes on a tenth of the chat.
    """
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=RIDGE, solver="sparse_cg", max_iter=100, random_state=SEED)
    model.fit(design, np.clip(logits, *SURE))
    scale = float(np.abs(model.coef_).max() / 127)
    return np.round(model.coef_ / scale).astype(np.int8), scale, float(model.intercept_)


def scored(design: Any, fitted: tuple[npt.NDArray[np.int8], float, float]) -> Floats:
    """Return a linear model's raw scores."""
    weights, scale, intercept = fitted
    scores: Floats = design @ (weights.astype(np.float64) * scale) + intercept
    return scores


def platt(scores: Floats, toxic: npt.NDArray[np.bool_]) -> Calibration:
    """Fit Platt's sigmoid to held-out scores."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(scores[:, None], toxic)
    return Calibration(float(model.coef_[0, 0]), float(model.intercept_[0]))


def calibration_error(probability: Floats, toxic: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal size."""
    parts = np.array_split(np.argsort(probability), bins)
    return float(
        sum(len(p) * abs(probability[p].mean() - toxic[p].mean()) for p in parts if len(p)) / len(probability)
    )


class ScoreSummary(NamedTuple):
    """Figures of one scoring of labelled rows, as the model card quotes them."""

    auroc: dict[str, float]
    ece: dict[str, float]
    hatecheck_accuracy: dict[str, float]
    false_positives: dict[str, float]


def measured(data: Sequence[ToxicityExample], probability: Floats) -> ScoreSummary:
    """Measure probabilities of rows, per data set and for HateCheck's functions at 0.5."""
    from sklearn.metrics import roc_auc_score

    toxic = np.array([row.toxic for row in data])
    source = np.array([row.source for row in data])
    category = np.array([row.category for row in data])
    right = (probability >= CUTS[0]) == toxic
    check = source == "hatecheck"
    spared = check & ~toxic & np.char.startswith(category, ("ident_"))
    spared |= check & np.char.startswith(category, "counter_")
    chat = np.isin(source, CHAT)
    sets = [name for name in (*TWO_CLASSES, *SCORED_ONLY) if (source == name).any()]
    judged = np.isin(source, JUDGED)
    return ScoreSummary(
        auroc={
            name: _round(roc_auc_score(toxic[source == name], probability[source == name])) for name in sets
        },
        ece={
            **{
                name: _round(calibration_error(probability[source == name], toxic[source == name]))
                for name in sets
            },
            "judged sets together": _round(calibration_error(probability[judged], toxic[judged])),
        },
        hatecheck_accuracy={
            name: _round(right[check & (category == name)].mean()) for name in sorted(set(category[check]))
        },
        false_positives={
            "hatecheck identity and counter-speech": _round(1 - right[spared].mean()),
            **{f"chat at {cut}": _round((probability[chat] >= cut).mean()) for cut in CUTS},
        },
    )


def _round(value: Any) -> float:
    return round(float(value), 4)


def shrunk(adapter: adapters.Adapter) -> adapters.Adapter:
    """Return an adapter that keeps the share `SHRUNK` of its changes to the base."""
    low_rank = {name: (down, (SHRUNK * up).astype(up.dtype)) for name, (down, up) in adapter.low_rank.items()}
    return adapter._replace(low_rank=low_rank)


def main() -> None:
    """Train, measure, write the weights and pin them."""
    data = load()
    unseen = (folds(data) == 0) | np.isin([row.source for row in data], list(SCORED_ONLY))
    ship(data, unseen, shrunk(learn([row for row, hidden in zip(data, unseen, strict=True) if not hidden])))


def ship(data: Sequence[ToxicityExample], unseen: npt.NDArray[np.bool_], adapter: adapters.Adapter) -> None:
    """Make tier 0 and its gate, calibrate and measure on the unseen rows, write, pin and report.

    `adapter` has learnt from the rows that are not unseen. The figures are of a tier 0 that has not read the
    unseen rows; the one shipped reads them too, but for those only scored, with the encoder's answers.
    """
    more = ordinary({row.text for row in data})
    gated = Windowed([row.text for row in data] + [row.text for row in more])
    apart = gated.spread(np.array([*unseen, *(n % FOLDS == 0 for n in range(len(more)))]))
    names = gated.spread(np.array([row.source for row in (*data, *more)]))
    scored_only = np.isin(names, list(SCORED_ONLY))
    encoded = gated.encoded(adapter)
    design = matrix(gated.parts)
    trial = scored(design, fit(design[~apart], encoded[~apart]))
    both = encoded + BLEND * trial

    text = gated.worst(both)[: len(data)]
    toxic = np.array([row.toxic for row in data])
    judged = np.isin([row.source for row in data], [name for name in JUDGED if name not in SCORED_ONLY])
    calibration = platt(text[unseen & judged], toxic[unseen & judged])
    tier0 = platt(gated.worst(trial)[: len(data)][unseen & judged], toxic[unseen & judged])
    held = [n for n, row in enumerate(data) if unseen[n] and row.source != "disguised"]
    alone = platt(gated.worst(encoded)[: len(data)][unseen & judged], toxic[unseen & judged])
    report: dict[str, Any] = {
        "rows": dict(collections.Counter(row.source for row in data)),
        "unseen": measured([data[n] for n in held], calibration.probability(text[held]))._asdict(),
        "unseen, by the encoder alone": measured(
            [data[n] for n in held], alone.probability(gated.worst(encoded)[held])
        )._asdict(),
    }

    probability = calibration.probability(both)
    known = apart & ~scored_only
    gate = float(np.quantile(trial[known & (probability >= CUTS[0])], 1 - RECALL))
    passed = np.where(trial >= gate, probability, tier0.probability(trial))
    report["unseen, through the gate"] = measured(
        [data[n] for n in held], gated.worst(passed)[held]
    )._asdict()
    report["gate"] = {
        "threshold": _round(tier0.probability(np.array([gate]))[0]),
        "recall of windows both flag": {
            name: _round((trial[apart & (probability >= CUTS[0]) & (names == name)] >= gate).mean())
            for name in (*TWO_CLASSES, *SCORED_ONLY)
        },
        "windows passed on": {
            name: _round((trial[apart & (names == name)] >= gate).mean()) for name in ORDINARY
        },
    }
    weights, scale, intercept = fit(design[~scored_only], encoded[~scored_only])
    np.save(WEIGHTS / f"{NAME}.npy", weights)
    _write(f"{NAME}.json", {"scale": scale, "intercept": intercept, **tier0._asdict()})
    threshold = float(tier0.probability(np.array([gate]))[0])
    _write(f"{NAME}-encoder.json", {**calibration._asdict(), "blend": BLEND, "gate": threshold})
    graph = encoder_graph.export(adapter, NAME)
    pin(COMMAND, f"{NAME}.npy", f"{NAME}.json", f"{NAME}-encoder.json", graph)
    report["parity"] = encoder_graph.parity(
        adapter, [linear.normalised(part) for part in gated.parts[::60]], NAME
    )
    print(json.dumps(report, indent=1))  # noqa: T201 - the report is the script's output


def ordinary(known: set[str]) -> list[ToxicityExample]:
    """Return the further texts for the gate that are not `known`."""
    chance = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    examples: list[ToxicityExample] = []
    for source, (folder, cap) in ORDINARY.items():
        texts = [row["text"] for row in rows(*folder, f"{source}.jsonl")]
        chance.shuffle(texts)
        unknown = [text for text in texts if text not in known][:cap]
        examples += [ToxicityExample(source, "", text, toxic=False) for text in unknown]
    return examples


def _write(name: str, settings: Mapping[str, float]) -> None:
    (WEIGHTS / name).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def leave_out(name: str) -> None:
    """Train without one data set and print how well it is ranked by the encoder."""
    data = load()
    rest = [row for row in data if row.source != name and row.group.partition("/")[0] != name]
    adapter = shrunk(learn(rest))
    held = [row for row in data if row.source == name]
    windowed = Windowed([row.text for row in held])
    probability = Calibration(1.0, 0.0).probability(windowed.worst(windowed.encoded(adapter)))
    print(json.dumps({name: measured(held, probability).auroc}))  # noqa: T201 - the report is the script's output


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        leave_out(argument)
    if not sys.argv[1:]:
        main()
