"""Made-up traffic of three LLM applications, in native JSON: ordinary, grounded, and planted bad samples.

All texts come from `traffic.yaml`, written for this project. The same seed gives the same traces, their times
apart. Personal data and secrets are random with valid check digits and belong to no one.
"""

import json
import random
import string
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from monitor.clock import Clock, SystemClock
from monitor.errors import Retryable
from monitor.strict_yaml import load_yaml

Kind: TypeAlias = Literal["ordinary", "rag", "unsupported", "leak", "toxic", "injection"]
RATES: Mapping[Kind, float] = {
    "rag": 0.45,
    "unsupported": 0.02,
    "leak": 0.02,
    "toxic": 0.02,
    "injection": 0.02,
}
MODELS = (("openai", "gpt-4o-2024-08-06"), ("mistral_ai", "mistral-small-2503"))
TICK_SECONDS = 0.05
STUCK_SECONDS = 15.0  # a broker on this machine that takes longer has died


class GeneratedTrace(NamedTuple):
    """A native trace as a JSON-able mapping, what was planted in it, and on which side of the shift it is."""

    trace: dict[str, Any]
    kind: Kind
    shifted: bool


class _Chat(msgspec.Struct, frozen=True):
    question: str
    answer: str


class _Fact(msgspec.Struct, frozen=True):
    passage: str
    question: str
    answer: str
    wrong: str


class _Topic(msgspec.Struct, frozen=True):
    name: str
    app: str
    system: str
    chats: tuple[_Chat, ...]
    facts: tuple[_Fact, ...]
    shifted: bool = False


class _Abuse(msgspec.Struct, frozen=True):
    sentences: tuple[str, ...]
    replies: tuple[str, ...]
    questions: tuple[str, ...]


class _Injections(msgspec.Struct, frozen=True):
    prompts: tuple[str, ...]
    documents: tuple[str, ...]
    replies: tuple[str, ...]


class _Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[int, int]]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    inventions: tuple[str, ...]
    topics: tuple[_Topic, ...]
    leaks: tuple[_Chat, ...]
    abuse: _Abuse
    injections: _Injections


def texts() -> _Texts:
    """Return the templates, whose slots are explained in the file."""
    name = "traffic.yaml"
    return msgspec.convert(load_yaml(files("monitor.demo").joinpath(name).read_text("utf-8"), name), _Texts)


class TrafficGenerator(Iterator[GeneratedTrace]):
    """Generates endless samples. From number `shift_after` on, or after `shift()`, all apps change topics.

    `rates` are the shares of all kinds except ordinary, which takes the rest. Without `content` the texts are
    left out and their tokens counted, as senders do that capture no content.
    """

    def __init__(
        self,
        seed: int,
        clock: Clock | None = None,
        *,
        shift_after: int | None = None,
        rates: Mapping[Kind, float] = RATES,
        content: bool = True,
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not cryptography
        self._clock: Clock = clock or SystemClock()
        self._texts = texts()
        self._left = shift_after
        self._content = content
        self._shifted = False
        self._kinds: tuple[Kind, ...] = ("ordinary", *rates)
        self._weights = [1.0 - sum(rates.values()), *rates.values()]

    def shift(self) -> None:
        """Change the topics from the next sample on."""
        self._shifted = True

    def __next__(self) -> GeneratedTrace:
        if self._left is not None:
            self._shifted = self._shifted or self._left <= 0
            self._left -= 1
        kind = self._random.choices(self._kinds, self._weights)[0]
        topic = self._random.choice([t for t in self._texts.topics if t.shifted == self._shifted])
        trace = self._trace(topic, kind)
        if not self._content:
            trace |= {"messages": [], "response": "", "context": []}
        return GeneratedTrace(trace, kind, self._shifted)

    def _trace(self, topic: _Topic, kind: Kind) -> dict[str, Any]:
        pick, fill = self._random, _Slots(self._random, self._texts).fill
        passages: list[str] = []
        if kind in {"rag", "unsupported"}:
            fact = pick.choice(topic.facts)
            others = [fill(other.passage) for other in topic.facts if other is not fact]
            question, passages = fill(fact.question), [fill(fact.passage), *others[: pick.randrange(2)]]
            answer = fill(fact.answer)
            if kind == "unsupported":
                answer = f"{fill(fact.wrong)} {fill(pick.choice(self._texts.inventions))}"
            pick.shuffle(passages)
        elif kind == "toxic":
            question, answer = self._abuse(fill)
        elif kind == "injection":
            question, answer, passages = self._injection(topic, fill)
        else:
            chat = pick.choice(self._texts.leaks if kind == "leak" else topic.chats)
            question, answer = fill(chat.question), fill(chat.answer)
        if kind in {"ordinary", "rag"}:
            answer = pick.choice(self._texts.openers) + answer + pick.choice(self._texts.closers)
        return self._envelope(topic, question, answer) | {
            "context": [{"id": f"{topic.name}-{pick.randrange(100)}", "content": text} for text in passages]
        }

    def _abuse(self, fill: Callable[[str], str]) -> tuple[str, str]:
        """Make abuse: by the user, who gets a calm reply, or by the model."""
        abuse, pick = self._texts.abuse, self._random
        tirade = " ".join(fill(sentence) for sentence in pick.sample(abuse.sentences, 2))
        if pick.random() < 0.5:  # noqa: PLR2004 - one half each
            return tirade, pick.choice(abuse.replies)
        return fill(pick.choice(abuse.questions)), tirade

    def _injection(self, topic: _Topic, fill: Callable[[str], str]) -> tuple[str, str, list[str]]:
        """Make an attack: by the user, who is refused, or in a passage while the question is answered."""
        injections, pick = self._texts.injections, self._random
        if pick.random() < 0.5:  # noqa: PLR2004 - one half each
            return fill(pick.choice(injections.prompts)), pick.choice(injections.replies), []
        fact = pick.choice(topic.facts)
        passage = f"{fill(fact.passage)}\n{fill(pick.choice(injections.documents))}"
        return fill(fact.question), fill(fact.answer), [passage]

    def _envelope(self, topic: _Topic, question: str, answer: str) -> dict[str, Any]:
        pick = self._random
        provider, model = pick.choice(MODELS)
        user = pick.randrange(2_000)
        return {
            "id": f"chatcmpl-{pick.getrandbits(96):024x}",
            "time": self._clock.now(),
            "app": topic.app,
            "environment": "production" if pick.random() < 0.85 else "staging",  # noqa: PLR2004 - a share
            "provider": provider,
            "model": model,
            "prompt_name": topic.app,
            "prompt_version": "4",
            "conversation": f"conversation-{user}-{pick.randrange(5)}",
            "user": f"user-{user}",
            "trace_id": f"{pick.getrandbits(128):032x}",
            "span_id": f"{pick.getrandbits(64):016x}",
            "finish_reason": "stop",
            "messages": [
                {"role": "system", "content": topic.system},
                {"role": "user", "content": question},
            ],
            "response": answer,
            "usage": {"input_tokens": len(topic.system + question) // 4, "output_tokens": len(answer) // 4},
            "latency": round(pick.lognormvariate(-0.2, 0.5), 3),
            "labels": {"region": pick.choice(["eu", "us"])},
        }


class _Slots(dict[str, str]):
    """The values of one sample's slots, drawn when first asked for."""

    def __init__(self, pick: random.Random, known: _Texts) -> None:
        super().__init__()
        self._random = pick
        self._known = known

    def fill(self, template: str) -> str:
        """Put values in the template's slots, and a capital at its start."""
        text = template.format_map(self)
        return text[:1].upper() + text[1:]

    def __missing__(self, slot: str) -> str:
        name = slot.removeprefix("other_")
        taken = self[name] if name != slot else None
        value = self._draw(name)
        while value == taken:
            value = self._draw(name)
        self[slot] = value
        return value

    def _draw(self, name: str) -> str:
        if name in self._known.words:
            return self._random.choice(self._known.words[name])
        if name in self._known.numbers:
            return str(self._random.randint(*self._known.numbers[name]))
        return {
            "ssn": _ssn,
            "payment_card": _payment_card,
            "email": _email,
            "iban": _iban,
            "secret": _secret,
        }[name](self._random)


def _ssn(pick: random.Random) -> str:
    """Return a US social security number whose area, group and serial can be issued."""
    area = pick.choice([n for n in range(100, 900) if n != 666])  # noqa: PLR2004 - never issued
    return f"{area}-{pick.randint(10, 99)}-{pick.randint(1000, 9999)}"


def _payment_card(pick: random.Random) -> str:
    """Return sixteen digits with a Visa prefix and a valid check digit (ISO/IEC 7812-1 annex B)."""
    digits = [4, *(pick.randrange(10) for _ in range(14))]
    total = sum(d if i % 2 else d * 2 - 9 * (d > 4) for i, d in enumerate(digits))  # noqa: PLR2004 - digit sum
    number = "".join(map(str, [*digits, -total % 10]))
    return pick.choice(["", " ", "-"]).join(number[i : i + 4] for i in range(0, 16, 4))


def _email(pick: random.Random) -> str:
    name = "".join(pick.choices(string.ascii_lowercase, k=7))
    return f"{pick.choice(['anna', 'tom', 'mila'])}.{name}@{pick.choice(['example.org', 'example.net'])}"


def _iban(pick: random.Random) -> str:
    """Return a German account number with valid check digits (ISO 7064 MOD 97-10)."""
    account = f"{pick.randrange(10**18):018d}"
    check = 98 - int(f"{account}131400") % 97  # DE is 13 14
    return f"DE{check:02d}{account}"


def _secret(pick: random.Random) -> str:
    """Return a string with the form of an AWS access key or a GitHub token."""
    if pick.random() < 0.5:  # noqa: PLR2004 - one half each
        return "AKIA" + "".join(pick.choices(string.ascii_uppercase + "234567", k=16))
    return "ghp_" + "".join(pick.choices(string.ascii_letters + string.digits, k=36))


def publish(
    bootstrap: str,
    topic: str,
    rate: float,
    seconds: float | None,
    traffic: TrafficGenerator,
    stop: threading.Event,
    *,
    clock: Clock | None = None,
    shift_seconds: float | None = None,
) -> Counter[Kind]:
    """Write `rate` traces a second to `topic` for `seconds` (None: until `stop`) and count them by kind.

    The topics shift after `shift_seconds`. Returns when the broker has accepted every trace that is counted;
    raises Retryable if it did not.
    """
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    clock = clock or SystemClock()
    sent: Counter[Kind] = Counter()
    refused: list[Exception] = []
    started = clock.monotonic()
    try:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, linger_ms=20, max_block_ms=int(STUCK_SECONDS * 1000)
        )
        try:
            while not stop.is_set() and (seconds is None or clock.monotonic() - started < seconds):
                passed = clock.monotonic() - started
                if shift_seconds is not None and passed >= shift_seconds:
                    traffic.shift()
                while sent.total() < passed * rate:
                    sample = next(traffic)
                    key = str(sample.trace["conversation"]).encode()
                    future = producer.send(topic, json.dumps(sample.trace).encode(), key=key)
                    future.add_errback(refused.append)
                    sent[sample.kind] += 1
                stop.wait(TICK_SECONDS)
            producer.flush(timeout=STUCK_SECONDS)
        finally:
            producer.close(timeout=1.0)
    except KafkaError as error:
        refused.append(error)
    if refused:
        raise Retryable(f"the broker stopped taking traces ({type(refused[0]).__name__}); start again")
    return sent
