"""The sets the groundedness model learns from: labelled ones, and sentences made supported or unsupported."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from monitor.models.grounding_features import Case
from monitor.text import segments
from monitor.text.numbers import quantities
from monitor.text.words import name_tokens
from monitor.training import rows

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


def _order(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def cases(name: str) -> tuple[list[Example], list[str]]:
    """Return the cases of a set in the order of their hashes, and the page or document each comes from."""
    folder = "evaldata" if name in DEVELOPMENT + NEVER_TRAINED_ON else "traindata"
    ordered = sorted(rows(folder, "hallucination", f"{name}.jsonl"), key=lambda row: _order(row["id"]))
    examples = [
        (Case(r["response"], [r["context"]], r.get("question") or ""), int(r["label"])) for r in ordered
    ]
    return examples, [row["id"].rpartition("/")[0] for row in ordered]


def labelled(name: str) -> tuple[list[Example], list[str]]:
    """Return at most the stated number of rows per class of a training set, chosen by hash of id."""
    examples, groups = cases(name)
    chosen = [
        i
        for label in (0, 1)
        for i in [i for i, example in enumerate(examples) if example[1] == label][: LABELLED[name][0]]
    ]
    return [examples[i] for i in chosen], [groups[i] for i in chosen]


def elsewhere() -> list[Example]:
    """Return true claims of Fool Me Twice with their own evidence and with that of another claim."""
    chance = random.Random(5)  # noqa: S311 - sampling, not cryptography
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in rows("traindata", "hallucination", "fool_me_twice.jsonl"):
        if not row["id"].endswith("-long"):
            pages.setdefault(row["id"].rpartition("/")[0], []).append(row)
    examples: list[Example] = []
    for page in pages.values():
        for row in page:
            own = set(row["context"].split(". "))
            others = [other["context"] for other in page if own.isdisjoint(other["context"].split(". "))]
            if others and row["label"] == 0:
                for label, context in enumerate((row["context"], chance.choice(others))):
                    examples.append((Case(row["response"], [context], row["question"]), label))
    return examples


def _passages() -> list[str]:
    passages = sorted(rows("traindata", "text", "passages.jsonl"), key=lambda row: _order(row["id"]))
    return [" ".join(passage["text"].split()) for passage in passages]


def edited() -> list[Example]:
    """Return true claims of Fool Me Twice, and each with a change that makes it unsupported."""
    chance = random.Random(11)  # noqa: S311 - sampling, not cryptography
    texts = _passages()
    examples: list[Example] = []
    for row in rows("traindata", "hallucination", "fool_me_twice.jsonl"):
        if row["label"] == 0:
            case = Case(row["response"], [row["context"]], row["question"])
            broken = list(_broken(case.response, case.sources, texts, chance))
            examples += [(case, 0)] * bool(broken)
            examples += [(case._replace(response=other.response), 1) for other in broken]
    return examples


def made_pairs() -> list[Example]:
    """Return supported and unsupported sentences made from passages: copies, rewrites, swaps, intrusions."""
    chance = random.Random(7)  # noqa: S311 - sampling, not cryptography
    texts = _passages()
    rewrites, _ = cases("wikisplit_faithful")
    examples: list[Example] = []
    for (case, _), _ in zip(rewrites, range(PAIRS // 3), strict=False):
        sources = _with_others(case.sources[0], texts, chance)
        examples.append((case._replace(sources=sources), 0))
        examples.extend((broken, 1) for broken in _broken(case.response, sources, texts, chance))
    for body in texts[: PAIRS // 3]:
        sources = _with_others(body, texts, chance)
        sentence = _sentence_of(body, chance)
        supported = (sentence, _shortened(sentence, chance))
        examples.extend((Case(chance.choice(OPENINGS) + version, sources), 0) for version in supported)
        examples.extend((broken, 1) for broken in _broken(sentence, sources, texts, chance))
    return examples


def _with_others(body: str, texts: Sequence[str], chance: random.Random) -> list[str]:
    sources = [body, *chance.sample(texts, chance.randrange(4))]
    chance.shuffle(sources)
    return sources


def _sentence_of(body: str, chance: random.Random) -> str:
    span = chance.choice(segments.sentences(body))
    return body[span.start : span.end]


def _shortened(sentence: str, chance: random.Random) -> str:
    clauses = re.split(r"(?<=[,;])\s", sentence)
    count = chance.randrange(1, len(clauses) + 1)
    return " ".join(clauses[:count]).rstrip(",;") + ("" if count == len(clauses) else ".")


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


def _capitalised(body: str) -> list[segments.Token]:
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


MAKERS = {MADE: made_pairs, ELSEWHERE: elsewhere, EDITED: edited}
"""The sets that are made rather than read, each with its maker."""
