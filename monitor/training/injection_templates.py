"""Rows made from templates for the injection model: alone, planted in a carrier, and disguised."""

import base64
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from monitor.models.injection import WINDOW, Side
from monitor.models.linear import windows
from monitor.training import rows
from monitor.training.injection_sources import InjectionExample, cut

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
MEETING: Final = 0.15  # share of transcripts that are of meetings
OVERHEARD: Final = 0.3  # share of turns from Schema-Guided Dialogue, so that not all are ours
_PLAIN = {0x2039: "[", 0x203A: "]"}  # angle quotation marks mean literal brackets
_SLOT = re.compile(r"<([A-Za-z_]+)(\d?)>")


class Grammar:
    """Expands templates: [a|b] is a choice, <name> an entry of a list, <Name> one with a capital.

    <name1> is the same entry throughout a text.
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


def generated(
    texts: Mapping[str, Any], grammar: Grammar, carriers: Sequence[str], pick: random.Random
) -> Iterator[InjectionExample]:
    """Yield attacks and harmless texts of both sides, alone, planted in a carrier, and disguised."""

    def planted(row: InjectionExample) -> InjectionExample:
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
        row = InjectionExample(
            "own_indirect", f"own/indirect/{n % len(templates)}", "indirect", text, attack=True
        )
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
) -> Iterator[InjectionExample]:
    for name, templates in texts[part].items():
        for n in range(GENERATED * (3 if name in WIDEST else 1)):
            place = n % len(templates)
            text = _capital(grammar.text(templates[place]), pick)
            yield InjectionExample(
                f"own_{name}", f"own/{part}/{name}/{place}", side, text, part.startswith("attacks")
            )


def terse(texts: Mapping[str, Any], grammar: Grammar, pick: random.Random) -> Iterator[InjectionExample]:
    """Yield tool results and answers of a few words; alone, because a carrier would hide how few."""
    for name, (source, side, count) in TERSE.items():
        for n in range(count):
            place = n % len(texts[name])
            text = grammar.text(texts[name][place])
            text = _capital(text, pick) if _happens(pick, 0.3) else text
            yield InjectionExample(source, f"{source}/{place}", side, text, attack=False)


def transcripts(
    texts: Mapping[str, Any], grammar: Grammar, pick: random.Random
) -> Iterator[InjectionExample]:
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
            own = [grammar.text(pick.choice(texts[parts[turn % 2]])) for _ in range(pick.choice([1, 1, 2]))]
            text = pick.choice(overheard) if _happens(pick, OVERHEARD) else " ".join(map(_sentence, own))
            stamp = f"[{turn:02}:{pick.randrange(60):02}] " if stamped else ""
            name = speakers[turn % 2]
            lines.append(f"{stamp}{name}: {text}" if name else f"{stamp}{text}")
        side: Side = "prompt" if n % 4 == 0 else "indirect"
        yield from cut(
            InjectionExample("transcripts", f"transcripts/{n}", side, gap.join(lines), attack=False)
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def typed(
    texts: Mapping[str, Any], grammar: Grammar, carriers: Sequence[str], pick: random.Random
) -> Iterator[InjectionExample]:
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
                yield InjectionExample(
                    f"direct_{name}", f"direct/{part}/{name}/{place}", "prompt", text[:WINDOW], attack
                )


def _slipped(text: str, pick: random.Random) -> str:
    """Return a text with letters swapped, lost or doubled, or without punctuation."""
    if _happens(pick, 0.4):
        return re.sub(r"[.,!?;:'¿]", "", text)
    for _ in range(1 + len(text) // 80):
        place = pick.randrange(max(1, len(text) - 1))
        first, second = text[place : place + 1], text[place + 1 : place + 2]
        slip = pick.choice([second + first, first, first + first + second])
        text = text[:place] + slip + text[place + 2 :]
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


def _disguised(row: InjectionExample, pick: random.Random) -> InjectionExample:
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
