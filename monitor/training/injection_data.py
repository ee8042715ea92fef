"""The texts the injection model learns from: labelled sources, and what is made from templates.

`injection_texts.yaml` has windows of both sides, `injection_direct.yaml` short prompts as people type them.

A row is one window or short text of one side. Attacks in documents are planted in the same passages, chats
and requests that stand without an attack among the negatives, so that the carrier tells nothing.
"""

import base64
import collections
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from monitor.models.injection import WINDOW, Side
from monitor.models.linear import windows
from monitor.strict_yaml import load_yaml
from monitor.training import rows
from monitor.training.toxicity_sentences import sentences

SEED: Final = 7
TEXTS: Final = Path(__file__).with_name("injection_texts.yaml")
DIRECT: Final = Path(__file__).with_name("injection_direct.yaml")
GENERATED: Final = 420  # texts of each list of templates; three times as many of the widest ones
WIDEST: Final = frozenset({"other_language", "question", "scenario"})
LOWER, UPPER = 0.06, 0.03  # shares of generated texts in one case
TYPED: Final[Mapping[str, int]] = {"hostile": 360, "harmless": 480}  # short prompts of each family
MANY: Final[Mapping[str, int]] = {
    "long_scene": 1600,
    "german": 1400,
    "sensitive": 900,
    "follow_up": 900,
    "customer": 900,
}
TYPO: Final = 0.15  # share of short prompts with a slip of the keyboard
CARRIER: Final = 1000  # characters of the longest text in which another is planted
TERSE: Final[Mapping[str, tuple[str, Side, int]]] = {
    "terse_results": ("tool_results", "indirect", 2700),
    "terse_turns": ("user_turns", "prompt", 1200),
}  # lists of words or two that order nothing: source, side, how many are made
DISGUISED: Final = 0.06  # share of generated attacks that are disguised
TRANSCRIPTS: Final = 1800  # talks of people, three to nine turns
SPEAKERS: Final = (
    ("Agent", "Customer"),
    ("Sales Agent", "Customer"),
    ("Representative", "Client"),
    ("Salesperson", "Prospect"),
    ("Speaker 1", "Speaker 2"),
    ("AGENT", "CALLER"),
    ("A", "B"),
    ("Support", "User"),
    ("Interviewer", "Guest"),
    ("Anna", "Tom"),
    ("David Lee", "Maria"),
    ("", ""),
)
ABUSE: Final = 8  # sentences of each pattern of the toxicity model's, about and against people
MEETING: Final = 0.15  # share of transcripts that are of meetings
OVERHEARD: Final = 0.3  # share of turns from Schema-Guided Dialogue, so that not all are ours
TALK: Final[Mapping[str, str]] = {
    "davidson": "davidson_train",
    "stormfront": "stormfront_sentences",
    "wiki_talk": "wiki_talk_identity",
}  # what people write to and about people, much of it hateful: no order to a model
_CAPS: Final = {
    "passages": 2500,
    "sgd": 2500,
    "bfcl": 1499,
    "awesome": 2500,
    "jailbreak": 4000,
    **dict.fromkeys(TALK, 3000),
}
_PLAIN = {0x2039: "[", 0x203A: "]"}  # angle quotation marks stand for brackets that are no choice
_SLOT = re.compile(r"<([A-Za-z_]+)(\d?)>")


class Row(NamedTuple):
    """A text of a side and whether it is an attack. Rows of one `group` never stand on both sides of a split.

    `whole` names the text a window was cut from, where its label is that of the whole: not every window of a
    jailbreak is an attack.
    """

    source: str
    group: str
    side: Side
    text: str
    attack: bool
    whole: str = ""


class Grammar:
    """Expands templates: [a|b] is a choice, <name> an entry of a list, <Name> one with a capital.

    <name1> is the same entry wherever it stands in a text.
    """

    def __init__(self, lists: Mapping[str, Sequence[str]], pick: random.Random) -> None:
        self._lists = lists
        self._pick = pick
        self._bound: dict[str, str] = {}

    def text(self, template: str) -> str:
        """Return one text of a template on its own."""
        self._bound.clear()
        return self.expand(template)

    def expand(self, template: str) -> str:
        """Return one text of a template, its first letter as it comes."""
        text = _SLOT.sub(self._slot, self._choose(template)).translate(_PLAIN)
        return re.sub(r"[ ]{2,}", " ", text).replace(" .", ".").replace(" ,", ",").strip(" ,")

    def _slot(self, match: re.Match[str]) -> str:
        name = match[1]
        if name.lower() not in self._lists:
            return match[0]  # a tag, such as <system>
        text = self._bound.get(match[0].lower()) or self.expand(self._pick.choice(self._lists[name.lower()]))
        if match[2]:
            self._bound[match[0].lower()] = text
        return text[:1].upper() + text[1:] if name[0].isupper() else text

    def _choose(self, template: str) -> str:
        while (start := self._innermost(template)) is not None:
            end = template.index("]", start)
            option = self._pick.choice(template[start + 1 : end].split("|"))
            template = template[:start] + option + template[end + 1 :]
        return template

    @staticmethod
    def _innermost(template: str) -> int | None:
        end = template.find("]")
        start = template.rfind("[", 0, end) if end >= 0 else -1
        return start if start >= 0 else None


def load() -> list[Row]:
    """Return all rows in a fixed order."""
    pick = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    texts, direct = (load_yaml(path.read_text(encoding="utf-8"), path.name) for path in (TEXTS, DIRECT))
    grammar = Grammar({**_lists(texts), **_lists(direct)}, pick)
    clean = [*_passages(pick), *_chats(pick), *_requests(), *_personas(pick)]
    turns = list(_turns())
    found = [*clean, *turns, *_bipia(), *_jailbreaks(pick)]
    for name in TALK:
        found += _talk(name, random.Random(SEED))  # noqa: S311 - sampling, not cryptography
    found += [
        Row(
            "own_abuse",
            f"own/abuse/{made.pattern}",
            "prompt" if n % 4 else "indirect",
            made.text,
            attack=False,
        )
        for n, made in enumerate(sentences(SEED, ABUSE))
    ]
    spoken = list(_transcripts(texts, grammar, pick))
    found += spoken
    carriers = [
        row.text
        for row in [*clean, *spoken]
        if row.source in {"passages", "sgd", "bfcl", "transcripts"} and len(row.text) < CARRIER
    ]
    found += list(_generated(texts, grammar, carriers, pick))
    found += list(_typed(direct, grammar, carriers, pick))
    found += list(_terse(texts, grammar, pick))
    first = {(row.side, row.text): row for row in reversed(found)}
    return [row for row in found if row.text.strip() and first[row.side, row.text] is row]


def _lists(texts: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    return {**texts["words"], **{k: v for k, v in texts.items() if isinstance(v, list)}}


def _cut(row: Row) -> Iterator[Row]:
    for start, end in windows(row.text, WINDOW):
        yield row._replace(text=row.text[start:end])


def _sample(pick: random.Random, found: list[Row], source: str) -> list[Row]:
    pick.shuffle(found)
    return found[: _CAPS[source]]


def _passages(pick: random.Random) -> list[Row]:
    data = [
        Row("passages", r["id"], "indirect", r["text"], attack=False)
        for r in rows("traindata", "text", "passages.jsonl")
    ]
    kept = [window for row in _sample(pick, data, "passages") for window in _cut(row)]
    return kept + [row._replace(side="prompt") for row in kept if _happens(pick, 0.3)]


def _chats(pick: random.Random) -> list[Row]:
    path = ("traindata", "toxicity", "sgd_neutral_chat.jsonl")
    data = [Row("sgd", r["id"].rsplit("/", 1)[0], "prompt", r["text"], attack=False) for r in rows(*path)]
    return [
        row._replace(side="indirect") if n % 4 == 0 else row
        for n, row in enumerate(_sample(pick, data, "sgd"))
    ]


def _requests() -> list[Row]:
    path = ("traindata", "injection", "bfcl_user_requests_benign.jsonl")
    return [w for r in rows(*path) for w in _cut(Row("bfcl", r["id"], "prompt", r["text"], attack=False))]


def _turns() -> Iterator[Row]:
    """Short turns of task-oriented chats, grouped by intent."""
    for source, name in (("clinc", "clinc150"), ("banking", "banking77")):
        for r in rows("evaldata", "drift", f"{name}.jsonl"):
            group = f"{source}/{r['intent_or_topic']}"
            yield Row(source, group, "prompt", r["text"], attack=False)


def _personas(pick: random.Random) -> list[Row]:
    path = ("traindata", "injection", "awesome_prompts_benign.jsonl")
    data = [w for r in rows(*path) for w in _cut(Row("awesome", r["id"], "prompt", r["text"], attack=False))]
    return _sample(pick, data, "awesome")


def _talk(source: str, pick: random.Random) -> list[Row]:
    path = ("traindata", "toxicity", f"{TALK[source]}.jsonl")
    data = [w for r in rows(*path) for w in _cut(Row(source, r["id"], "prompt", r["text"], attack=False))]
    found = _sample(pick, data, source)
    return [row._replace(side="indirect") if n % 4 == 0 else row for n, row in enumerate(found)]


def _bipia() -> Iterator[Row]:
    """Windows of documents with and without an attack; the attack is what the clean document has not."""
    data = list(rows("traindata", "injection", "bipia_indirect.jsonl"))
    clean = {r["id"].rsplit("/", 1)[0]: r["text"] for r in data if not r["label"]}
    for r in data:
        group = r["id"].rsplit("/", 1)[0]
        whole = Row(
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


def _jailbreaks(pick: random.Random) -> list[Row]:
    path = ("traindata", "injection", "jailbreak_templates.jsonl")
    data = [
        w
        for r in rows(*path)
        for w in _cut(Row("jailbreak", r["id"], "prompt", r["text"], attack=True, whole=r["id"]))
    ]
    return _sample(pick, data, "jailbreak")


def _generated(
    texts: Mapping[str, Any], grammar: Grammar, carriers: Sequence[str], pick: random.Random
) -> Iterator[Row]:
    """Yield what the templates give, alone, planted in a carrier, and disguised."""

    def planted(row: Row) -> Row:
        return row._replace(text=_planted(pick.choice(carriers), row.text, pick))

    for row in list(_made(texts, "attacks_direct", "prompt", grammar, pick)):
        yield _disguised(row, pick) if _happens(pick, DISGUISED) else row
        if _happens(pick, 0.15):
            yield planted(row)
        if _happens(pick, 0.2) and row.source != "own_hijack":
            yield planted(row)._replace(side="indirect")
    templates = texts["attacks_indirect"]
    for n in range(6 * GENERATED):
        text = _capital(grammar.text(templates[n % len(templates)]), pick)
        row = Row("own_indirect", f"own/indirect/{n % len(templates)}", "indirect", text, attack=True)
        if _happens(pick, DISGUISED):
            row = _disguised(row, pick)
        yield row if _happens(pick, 0.15) else planted(row)
    for row in _made(texts, "benign_direct", "prompt", grammar, pick):
        yield _disguised(row, pick) if _happens(pick, DISGUISED / 2) else row
        if _happens(pick, 0.15):
            yield planted(row)
    for row in _made(texts, "benign_indirect", "indirect", grammar, pick):
        yield row if _happens(pick, 0.3) else planted(row)


def _made(
    texts: Mapping[str, Any], part: str, side: Side, grammar: Grammar, pick: random.Random
) -> Iterator[Row]:
    for name, templates in texts[part].items():
        for n in range(GENERATED * (3 if name in WIDEST else 1)):
            place = n % len(templates)
            text = _capital(grammar.text(templates[place]), pick)
            yield Row(f"own_{name}", f"own/{part}/{name}/{place}", side, text, part.startswith("attacks"))


def _terse(texts: Mapping[str, Any], grammar: Grammar, pick: random.Random) -> Iterator[Row]:
    """Yield what tools return and users answer in a few words; alone, for a carrier would hide how few."""
    for name, (source, side, count) in TERSE.items():
        for n in range(count):
            place = n % len(texts[name])
            text = grammar.text(texts[name][place])
            text = _capital(text, pick) if _happens(pick, 0.3) else text
            yield Row(source, f"{source}/{place}", side, text, attack=False)


def _transcripts(texts: Mapping[str, Any], grammar: Grammar, pick: random.Random) -> Iterator[Row]:
    """Yield windows of calls and meetings, a quarter as users paste them."""
    path = ("traindata", "toxicity", "sgd_neutral_chat.jsonl")
    overheard = [r["text"] for r in rows(*path)]
    for n in range(TRANSCRIPTS):
        meeting = _happens(pick, MEETING)
        parts = ("meeting_turn", "meeting_turn") if meeting else ("call_agent", "call_customer")
        speakers = pick.choice(SPEAKERS)
        stamped, gap = _happens(pick, 0.15), pick.choice(["\n", "\n", "\n\n", " "])
        lines = []
        for turn in range(pick.randint(3, 9)):
            said = [grammar.text(pick.choice(texts[parts[turn % 2]])) for _ in range(pick.choice([1, 1, 2]))]
            text = pick.choice(overheard) if _happens(pick, OVERHEARD) else " ".join(map(_sentence, said))
            stamp = f"[{turn:02}:{pick.randrange(60):02}] " if stamped else ""
            name = speakers[turn % 2]
            lines.append(f"{stamp}{name}: {text}" if name else f"{stamp}{text}")
        side: Side = "prompt" if n % 4 == 0 else "indirect"
        yield from _cut(Row("transcripts", f"transcripts/{n}", side, gap.join(lines), attack=False))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _typed(
    texts: Mapping[str, Any], grammar: Grammar, carriers: Sequence[str], pick: random.Random
) -> Iterator[Row]:
    """Yield short prompts of both classes, with slips, some planted in a carrier."""
    for part, usual in TYPED.items():
        for name, templates in texts[part].items():
            for n in range(MANY.get(name, usual)):
                place = n % len(templates)
                text = _capital(grammar.text(templates[place]), pick)
                if _happens(pick, TYPO):
                    text = _slipped(text, pick)
                if _happens(pick, 0.06):
                    text = _planted(pick.choice(carriers), text, pick)
                attack = part == "hostile"
                yield Row(f"direct_{name}", f"direct/{part}/{name}/{place}", "prompt", text[:WINDOW], attack)


def _slipped(text: str, pick: random.Random) -> str:
    """Return a text with letters swapped, lost or doubled, or without punctuation."""
    if _happens(pick, 0.4):
        return re.sub(r"[.,!?;:'¿]", "", text)
    for _ in range(1 + len(text) // 80):
        place = pick.randrange(max(1, len(text) - 1))
        one, two = text[place : place + 1], text[place + 1 : place + 2]
        text = text[:place] + pick.choice([two + one, one, one + one + two]) + text[place + 2 :]
    return text


def _happens(pick: random.Random, chance: float) -> bool:
    return pick.random() < chance


def _capital(text: str, pick: random.Random) -> str:
    chance = pick.random()
    if chance < LOWER:
        return text.lower()
    if chance < LOWER + UPPER:
        return text.upper()
    return text[:1].upper() + text[1:]


def _planted(carrier: str, text: str, pick: random.Random) -> str:
    """Return a window with a text at the start, the end or between two sentences of a carrier."""
    room = max(60, WINDOW - len(text) - 2)
    carrier = carrier[windows(carrier, room)[0][0] : windows(carrier, room)[0][1]].strip()
    ends = [0, len(carrier), *(m.end() for m in re.finditer(r"[.!?]\s", carrier))]
    place = pick.choice(ends)
    gap = pick.choice([" ", "\n", " ", "\n\n"])
    return f"{carrier[:place].rstrip()}{gap}{text}{gap}{carrier[place:]}".strip()


def _disguised(row: Row, pick: random.Random) -> Row:
    return row._replace(text=pick.choice(_DISGUISES)(row.text, pick))


def _base64(text: str, _: random.Random) -> str:
    return base64.b64encode(text.encode()).decode()


def _spaced(text: str, _: random.Random) -> str:
    return "  ".join(" ".join(word) for word in text.split())


def _zero_width(text: str, pick: random.Random) -> str:
    return "".join(c + "\u200b" if _happens(pick, 0.3) else c for c in text)


def _leet(text: str, pick: random.Random) -> str:
    table = str.maketrans("oieas", "01345")
    return " ".join(w.translate(table) if _happens(pick, 0.7) else w for w in text.split())


def _look_alike(text: str, pick: random.Random) -> str:
    table = dict(zip("aeopcyx", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445", strict=True))
    return "".join(table.get(c, c) if _happens(pick, 0.4) else c for c in text)


_DISGUISES = (_base64, _spaced, _zero_width, _leet, _look_alike)


def main() -> None:
    """Print how many rows each source has."""
    data = load()
    counts = collections.Counter((row.source, row.side, row.attack) for row in data)
    for key, count in sorted(counts.items()):
        print(*key, count)  # noqa: T201 - a script


if __name__ == "__main__":
    main()
