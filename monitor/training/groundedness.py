"""Train the groundedness model: `python -m monitor.training.groundedness` (a few minutes on two cores).

Data: labelled sets of `shared/traindata/hallucination` whose licences allow training, pairs made from
`shared/traindata/text`, and sets of `shared/evaldata` with such licences (SummEdits and FaithBench not).
It prints, as JSON, AUROC on every set with its whole family left out of training, and on those trained on by
cross-validation, rows of one page, document or question together.
"""

import hashlib
import itertools
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models import WEIGHTS
from monitor.models.embedding import Embedding
from monitor.models.groundedness import TREES, Groundedness, Trees, prior, response_margin, scaled
from monitor.models.grounding_features import FEATURES, Case, Floats, ResponseFeatures
from monitor.text import segments
from monitor.text.numbers import quantities
from monitor.text.segments import Token
from monitor.text.words import name_tokens
from monitor.training import pin, rows

Example = tuple[Case, int]
NEVER_TRAINED_ON = ("summedits", "faithbench")
DEVELOPMENT = ("wice_claims", "begin_wow", "halueval_qa")
FAMILIES = (
    ("wice_claims",),
    ("begin_wow", "begin_rest", "q2_wow"),
    ("halueval_qa", "halueval_qa_rest"),
    ("fool_me_twice", "elsewhere", "edited"),
    ("fever_symmetric",),
    ("breaking_nli",),
    ("made_pairs",),
)
"""Sets of one origin: they are left out of training together."""
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
# Sets of two classes, how many rows of each class are used, and what the set weighs against the others.
LABELLED = {
    "wice_claims": (400, 1.5),
    "begin_wow": (400, 4.0),
    "halueval_qa": (200, 0.3),
    "fool_me_twice": (2600, 1.5),
    "fever_symmetric": (700, 0.7),
    "begin_rest": (400, 0.6),
    "q2_wow": (700, 0.6),
    "breaking_nli": (900, 0.2),
    "halueval_qa_rest": (150, 0.2),
}
MADE, ELSEWHERE, EDITED = "made_pairs", "elsewhere", "edited"
WEIGHT_OF_MADE = {MADE: 4.0, ELSEWHERE: 0.5, EDITED: 4.0}
PAIRS = 3000


def _order(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _cases(name: str) -> tuple[list[Example], list[str]]:
    """Return the cases of a set in the order of their hashes, and the page or document each comes from."""
    folder = "evaldata" if name in DEVELOPMENT + NEVER_TRAINED_ON else "traindata"
    found = sorted(rows(folder, "hallucination", f"{name}.jsonl"), key=lambda row: _order(row["id"]))
    cases = [(Case(r["response"], [r["context"]], r.get("question") or ""), int(r["label"])) for r in found]
    return cases, [row["id"].rpartition("/")[0] for row in found]


def labelled(name: str) -> tuple[list[Example], list[str]]:
    """Return at most the stated number of rows per class of a training set, chosen by hash of id."""
    cases, groups = _cases(name)
    kept = [
        i for label in (0, 1) for i in [i for i, c in enumerate(cases) if c[1] == label][: LABELLED[name][0]]
    ]
    return [cases[i] for i in kept], [groups[i] for i in kept]


def elsewhere() -> list[Example]:
    """Return true claims of Fool Me Twice beside their own evidence and beside that of another claim."""
    chance = random.Random(5)  # noqa: S311 - sampling, not cryptography
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in rows("traindata", "hallucination", "fool_me_twice.jsonl"):
        if not row["id"].endswith("-long"):
            pages.setdefault(row["id"].rpartition("/")[0], []).append(row)
    found: list[Example] = []
    for page in pages.values():
        for row in page:
            here = set(row["context"].split(". "))
            others = [other["context"] for other in page if here.isdisjoint(other["context"].split(". "))]
            if others and row["label"] == 0:
                for label, context in enumerate((row["context"], chance.choice(others))):
                    found.append((Case(row["response"], [context], row["question"]), label))
    return found


def _passages() -> list[str]:
    passages = sorted(rows("traindata", "text", "passages.jsonl"), key=lambda row: _order(row["id"]))
    return [" ".join(passage["text"].split()) for passage in passages]


def edited() -> list[Example]:
    """Return true claims of Fool Me Twice, and each with a change that makes it unsupported."""
    chance = random.Random(11)  # noqa: S311 - sampling, not cryptography
    texts = _passages()
    found: list[Example] = []
    for row in rows("traindata", "hallucination", "fool_me_twice.jsonl"):
        if row["label"] == 0:
            case = Case(row["response"], [row["context"]], row["question"])
            broken = list(_broken(case.response, case.sources, texts, chance))
            found += [(case, 0)] * bool(broken)
            found += [(case._replace(response=other.response), 1) for other in broken]
    return found


def made_pairs() -> list[Example]:
    """Return supported and unsupported sentences made from passages: copies, rewrites, swaps, intrusions."""
    chance = random.Random(7)  # noqa: S311 - sampling, not cryptography
    texts = _passages()
    rewrites, _ = _cases("wikisplit_faithful")
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


MAKERS = {MADE: made_pairs, ELSEWHERE: elsewhere, EDITED: edited}
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
    span = chance.choice(segments.sentences(body))
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
        lambda: _swapped(sentence, quantities, sources, texts, chance),
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


def _capitalised(body: str) -> list[Token]:
    return name_tokens(body, segments.tokens(body))


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


class Measured(NamedTuple):
    """A data set, measured, with the label and group of each response."""

    responses: list[ResponseFeatures]
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @property
    def sentences(self) -> int:
        """How many sentences are measured."""
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
        found = np.asarray([
            response_margin(float(odds), response.claims, margins[a:b])
            for odds, response, (a, b) in zip(whole, self.responses, itertools.pairwise(starts), strict=True)
        ])  # fmt: skip
        odds: Floats = np.maximum(found, found[np.isfinite(found)].min())
        return odds

    def auroc(self, odds: Floats, scaling: Floats) -> float:
        """Return the area under the curve of the responses, scaled, to three digits."""
        from sklearn.metrics import roc_auc_score

        return round(float(roc_auc_score(self.truth, scaled(odds, self.wholes()) @ scaling)), 3)


Judgements = tuple[Measured, Floats]
"""A set and the log odds of its responses, by a model that was not trained on them."""


def measured(model: Groundedness, examples: Sequence[Example], groups: Sequence[str]) -> Measured:
    """Measure every response."""
    return Measured(
        [model.measure(case) for case, _ in examples],
        np.asarray([label for _, label in examples]),
        np.unique(list(groups) or np.arange(len(examples)), return_inverse=True)[1],
    )


def fitted(parts: Sequence[tuple[Measured, float, npt.NDArray[np.bool_] | None]]) -> Trees:
    """Fit trees on sets with their weights, both classes alike; a mask chooses responses.

    Each set has a constant of its own, fitted along and then forgotten, so the trees learn what tells
    responses of one set apart and not the sets from one another.
    """
    import lightgbm

    features, truth, weights, sets = [], [], [], []
    for i, (part, share, chosen) in enumerate(parts):
        found = part.truth if chosen is None else part.truth[chosen]
        features.append(part.wholes(chosen))
        truth.append(found)
        weights.append(share / np.bincount(found, minlength=2)[found])
        sets.append(np.full(len(found), i))
    rows, labels, weight, owner = (np.concatenate(arrays) for arrays in (features, truth, weights, sets))
    weight /= weight.mean()
    start = prior(rows)
    constants = np.zeros(len(parts))

    def gradients(odds: Floats, _: Any) -> tuple[Floats, Floats]:
        def expected() -> Floats:
            found: Floats = 1 / (1 + np.exp(-(start + odds + constants[owner])))
            return found

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
        here = len(into)
        if "split_feature" not in node:
            into.append((0, 0, here, here, node["leaf_value"]))
            return here
        into.append((0, 0, 0, 0, 0))
        left, right = add(into, node["left_child"], depth + 1), add(into, node["right_child"], depth + 1)
        into[here] = (node["split_feature"], node["threshold"], left, right, 0)
        return here

    for tree in trees:
        nodes.append([])
        add(nodes[-1], tree, 0)
    arrays = np.zeros((5, len(nodes), max(len(found) for found in nodes)))
    for i, found in enumerate(nodes):
        arrays[:, i, : len(found)] = np.asarray(found).T
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
    found = np.append(model.coef_[0], 0.0)
    rows, truth, weights = _pooled(short)
    for _ in range(20):  # Newton steps
        p = 1 / (1 + np.exp(-(rows @ found)))
        shortness = rows[:, -1]
        found[-1] -= ((weights * (p - truth)) @ shortness) / ((weights * p * (1 - p)) @ shortness**2)
    return found


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


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")


def main() -> None:
    """Measure, cross-validate by data set and by page, calibrate, fit on all, write and pin."""
    model = Groundedness(Embedding.load(), None, "")
    shares = {name: share for name, (_, share) in LABELLED.items()} | WEIGHT_OF_MADE
    data: dict[str, Measured] = {}
    for name in (*shares, *NEVER_TRAINED_ON):
        examples, groups = (
            (MAKERS[name](), []) if name in MAKERS else labelled(name) if name in LABELLED else _cases(name)
        )
        data[name] = measured(model, examples, groups)
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
            here = data[name].groups % FOLDS == fold
            odds[here] = data[name].response_odds(trees)[here]

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
        part, found = data[name], expected[name]
        error = calibration_error(found, part.truth, part.balance())
        report["calibration_error"][name] = round(error, 3)
        flagged = {str(c): round(float((found[part.truth == c] >= FLAGGED).mean()), 3) for c in (0, 1)}
        report.setdefault("flagged_at_0.8", {})[name] = flagged

    np.savez_compressed(WEIGHTS / TREES, allow_pickle=False, **calibrated.arrays)
    pin("python -m monitor.training.groundedness", TREES)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
