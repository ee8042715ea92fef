"""The labelled sources the injection model learns from, cut into windows, and the row they all become.

The negatives hold the same passages, chats and requests in which attacks are planted, so that the carrier
gives nothing away.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from monitor.models.injection import WINDOW, Side
from monitor.models.linear import windows
from monitor.training import rows

TALK: Final[Mapping[str, str]] = {
    "davidson": "davidson_train",
    "stormfront": "stormfront_sentences",
    "wiki_talk": "wiki_talk_identity",
}  # what people write to and about people, much of it hateful: no order to a model
ALSO_PROMPTS: Final = 0.3  # share of the passages that are prompts too
CAPS: Final = {
    "passages": 2500,
    "sgd": 2500,
    "bfcl": 1499,
    "awesome": 2500,
    "jailbreak": 4000,
    **dict.fromkeys(TALK, 3000),
}


class InjectionExample(NamedTuple):
    """A text of a side and whether it is an attack. A split never divides the rows of one `group`.

    `whole` names the text that a window was cut from and took its label from: not every window of a jailbreak
    is an attack.
    """

    source: str
    group: str
    side: Side
    text: str
    attack: bool
    whole: str = ""


def cut(row: InjectionExample) -> Iterator[InjectionExample]:
    """Yield the windows of a row's text."""
    for start, end in windows(row.text, WINDOW):
        yield row._replace(text=row.text[start:end])


def sample(pick: random.Random, candidates: list[InjectionExample], source: str) -> list[InjectionExample]:
    """Return as many rows as the cap of their source, chosen at random."""
    pick.shuffle(candidates)
    return candidates[: CAPS[source]]


def passages(pick: random.Random) -> list[InjectionExample]:
    """Return windows of encyclopaedic passages, some of them as prompts too."""
    data = [
        InjectionExample("passages", r["id"], "indirect", r["text"], attack=False)
        for r in rows("traindata", "text", "passages.jsonl")
    ]
    chosen = [window for row in sample(pick, data, "passages") for window in cut(row)]
    return chosen + [row._replace(side="prompt") for row in chosen if pick.random() < ALSO_PROMPTS]


def chats(pick: random.Random) -> list[InjectionExample]:
    """Return turns of Schema-Guided Dialogue, a quarter of them as documents."""
    path = ("traindata", "toxicity", "sgd_neutral_chat.jsonl")
    data = [
        InjectionExample("sgd", r["id"].rsplit("/", 1)[0], "prompt", r["text"], attack=False)
        for r in rows(*path)
    ]
    return [
        row._replace(side="indirect") if n % 4 == 0 else row
        for n, row in enumerate(sample(pick, data, "sgd"))
    ]


def requests() -> list[InjectionExample]:
    """Return windows of requests for function calls."""
    path = ("traindata", "injection", "bfcl_user_requests_benign.jsonl")
    return [
        w
        for r in rows(*path)
        for w in cut(InjectionExample("bfcl", r["id"], "prompt", r["text"], attack=False))
    ]


def turns() -> Iterator[InjectionExample]:
    """Yield short turns of task-oriented chats, grouped by intent."""
    for source, name in (("clinc", "clinc150"), ("banking", "banking77")):
        for r in rows("evaldata", "drift", f"{name}.jsonl"):
            group = f"{source}/{r['intent_or_topic']}"
            yield InjectionExample(source, group, "prompt", r["text"], attack=False)


def personas(pick: random.Random) -> list[InjectionExample]:
    """Return windows of harmless prompts that give a model a role."""
    path = ("traindata", "injection", "awesome_prompts_benign.jsonl")
    data = [
        w
        for r in rows(*path)
        for w in cut(InjectionExample("awesome", r["id"], "prompt", r["text"], attack=False))
    ]
    return sample(pick, data, "awesome")


def talk(source: str, pick: random.Random) -> list[InjectionExample]:
    """Return windows of posts, a quarter of them as documents."""
    path = ("traindata", "toxicity", f"{TALK[source]}.jsonl")
    data = [
        w
        for r in rows(*path)
        for w in cut(InjectionExample(source, r["id"], "prompt", r["text"], attack=False))
    ]
    chosen = sample(pick, data, source)
    return [row._replace(side="indirect") if n % 4 == 0 else row for n, row in enumerate(chosen)]


def bipia() -> Iterator[InjectionExample]:
    """Yield windows of documents with and without an attack, found by comparison with the clean document."""
    data = list(rows("traindata", "injection", "bipia_indirect.jsonl"))
    clean = {r["id"].rsplit("/", 1)[0]: r["text"] for r in data if not r["label"]}
    for r in data:
        group = r["id"].rsplit("/", 1)[0]
        whole = InjectionExample(
            "bipia",
            f"bipia/{r['category'].split(':')[1] if r['label'] else group}",
            "indirect",
            r["text"],
            attack=False,
        )
        start, end = _difference(clean[group], r["text"]) if r["label"] else (0, 0)
        for a, b in windows(r["text"], WINDOW):
            overlap = min(b, end) - max(a, start)
            if overlap <= 0:
                if not r["label"]:
                    yield whole._replace(text=r["text"][a:b])
            elif overlap >= min(40, (end - start) // 2):
                yield whole._replace(text=r["text"][a:b], attack=True)


def _difference(clean: str, changed: str) -> tuple[int, int]:
    """Return where `changed` departs from `clean`, as [start, end)."""
    start = next((n for n, (a, b) in enumerate(zip(clean, changed, strict=False)) if a != b), len(clean))
    back = zip(reversed(clean[start:]), reversed(changed[start:]), strict=False)
    same = next((n for n, (a, b) in enumerate(back) if a != b), len(clean) - start)
    return start, len(changed) - same


def jailbreaks(pick: random.Random) -> list[InjectionExample]:
    """Return windows of jailbreaks, each named after its whole text."""
    path = ("traindata", "injection", "jailbreak_templates.jsonl")
    data = [
        w
        for r in rows(*path)
        for w in cut(InjectionExample("jailbreak", r["id"], "prompt", r["text"], attack=True, whole=r["id"]))
    ]
    return sample(pick, data, "jailbreak")
