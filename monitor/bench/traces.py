"""Traces for `riskmon bench`: about 1,500 characters each, like real traffic, and no two alike.

Six in ten answer from retrieved documents, the others are chats of several turns. Few hold something to
find: personal data, abuse or an answer that its documents do not support. The same seed gives the same
traces. Most sentences hold values drawn from large sets, so that a cache of texts would not help.
"""

import json
import random
from importlib.resources import files
from typing import Any, Final

import msgspec

from monitor.demo.traffic import TrafficGenerator
from monitor.strict_yaml import load_yaml

TARGET: Final = 1420
"""Characters of messages, context and response that a trace is filled to; whole sentences make it 1,500."""
GROUNDED, PLANTED, UNSUPPORTED = 0.6, 0.06, 0.03  # shares
_TIME = 1_795_000_000.0


class _Fact(msgspec.Struct, frozen=True):
    says: str
    asks: str
    answers: str


class _Chat(msgspec.Struct, frozen=True):
    asks: str
    answers: str


class _Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[int, int]]
    system: tuple[str, ...]
    facts: tuple[_Fact, ...]
    chats: tuple[_Chat, ...]
    close: tuple[str, ...]


class _Slots(dict[str, str]):
    """Values of the slots of one fact, drawn when first asked for."""

    def __init__(self, pick: random.Random, known: _Texts) -> None:
        super().__init__()
        self._pick, self._known = pick, known

    def __missing__(self, slot: str) -> str:
        name = slot.removeprefix("other_")
        if name in self._known.words:
            self[slot] = self._pick.choice(self._known.words[name])
        else:
            self[slot] = str(self._pick.randint(*self._known.numbers[name]))
        return self[slot]

    def fill(self, template: str) -> str:
        """Put values in the template's slots, and a capital at its start."""
        text = template.format_map(self)
        return text[:1].upper() + text[1:]


def traces(count: int, seed: int) -> list[bytes]:
    """Return `count` native traces as JSON."""
    name = "traces.yaml"
    text = files("monitor.bench").joinpath(name).read_text(encoding="utf-8")
    known = msgspec.convert(load_yaml(text, name), _Texts)
    pick = random.Random(seed)  # noqa: S311 - not cryptography
    planted = TrafficGenerator(seed, rates={"leak": 0.5, "toxic": 0.5})
    return [json.dumps(_trace(pick, known, planted, number, seed)).encode() for number in range(count)]


def characters(record: bytes) -> int:
    """Return how many characters of text a trace of `traces` holds."""
    trace = json.loads(record)
    parts = [*trace["messages"], *trace["context"]]
    return len(trace["response"]) + sum(len(part["content"]) for part in parts)


def _trace(
    pick: random.Random, known: _Texts, planted: TrafficGenerator, number: int, seed: int
) -> dict[str, Any]:
    target = TARGET * pick.uniform(0.7, 1.3)
    make = _grounded if pick.random() < GROUNDED else _chat
    messages, context, response = make(pick, known, target)
    if pick.random() < PLANTED:
        sample = next(planted).trace
        messages[-1]["content"] += " " + sample["messages"][-1]["content"]
        response = f"{sample['response']} {response}"
    return {
        "id": f"bench-{seed}-{number}",
        "time": _TIME + number,
        "app": pick.choice(["shop", "helpdesk", "handbook"]),
        "environment": "staging",
        "model": pick.choice(["small-1", "large-2"]),
        "messages": messages,
        "context": context,
        "response": response,
    }


def _grounded(
    pick: random.Random, known: _Texts, target: float
) -> tuple[list[dict[str, str]], list[dict[str, str]], str]:
    """Make a trace of which two thirds are documents; the answer repeats some of their facts."""
    slots = _Slots(pick, known)
    filled: list[tuple[_Fact, _Slots]] = []
    says: list[str] = []
    while sum(map(len, says)) < target * 0.6 and len(filled) < len(known.facts):
        fact = pick.choice([fact for fact in known.facts if all(fact is not other for other, _ in filled)])
        filled.append((fact, _Slots(pick, known)))
        says.append(filled[-1][1].fill(fact.says))
    cuts = range(0, len(says), 3)
    context = [{"id": f"doc-{pick.randrange(10**6)}", "content": " ".join(says[n : n + 3])} for n in cuts]
    question = filled[0][1].fill(filled[0][0].asks)
    answered = filled[: 1 + len(filled) // 2]
    if pick.random() < UNSUPPORTED:
        answered = [(fact, _Slots(pick, known)) for fact, _ in answered]
    answers = [of.fill(fact.answers) for fact, of in answered]
    messages = [
        {"role": "system", "content": slots.fill(pick.choice(known.system))},
        {"role": "user", "content": question},
    ]
    return messages, context, " ".join([*answers, slots.fill(pick.choice(known.close))])


def _chat(
    pick: random.Random, known: _Texts, target: float
) -> tuple[list[dict[str, str]], list[dict[str, str]], str]:
    """Make a chat; its last answer is the response."""
    messages = [{"role": "system", "content": _Slots(pick, known).fill(pick.choice(known.system))}]
    size = 0
    while True:
        chat, of = pick.choice(known.chats), _Slots(pick, known)
        question, answer = of.fill(chat.asks), of.fill(f"{chat.answers} {pick.choice(known.close)}")
        messages.append({"role": "user", "content": question})
        size += len(question) + len(answer)
        if size >= target - len(messages[0]["content"]):
            return messages, [], answer
        messages.append({"role": "assistant", "content": answer})
