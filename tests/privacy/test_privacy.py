"""Nothing people wrote gets out unredacted: canaries planted in real traffic are looked for everywhere.

The daemon is the real one, in a process of its own, with the real detectors over a real broker.
"""

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_kafka import ApacheKafka
from checkout import PYTHONPATH
from faulty_detectors import MUST_FAIL
from outside import Sink, sink
from patience import PATIENCE

# 10,000 canaries in CI, in few traces: what takes the time is the alerts of each trace to each receiver.
TRACES = 910 if os.environ.get("CI") else 91
SECONDS = 240.0
CONTROL = "straightforward"
"""A word of every answer that nobody takes for personal data."""

Shape = Callable[[random.Random], str]


def word(pick: random.Random) -> str:
    """A word that occurs nowhere else."""
    return "".join(pick.choices(string.ascii_lowercase, k=14))


def email(pick: random.Random) -> str:
    """An address whose local part occurs nowhere else."""
    return f"{word(pick)}@{pick.choice(['example.org', 'mail.example.com', 'example.co.uk'])}"


def card(pick: random.Random) -> str:
    """Sixteen digits with a valid check digit (ISO/IEC 7812-1 annex B)."""
    digits = [pick.choice([4, 5]), *(pick.randrange(10) for _ in range(14))]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[::2])
    total = sum(doubled) + sum(digits[1::2])
    return "".join(map(str, digits)) + str(-total % 10)


def iban(pick: random.Random) -> str:
    """A German account number with valid check digits (ISO 7064 MOD 97-10)."""
    account = f"{pick.randrange(10**18):018d}"
    return f"DE{98 - int(f'{account}131400') % 97:02d}{account}"


def ssn(pick: random.Random) -> str:
    """A US social security number of an area, group and serial that are issued."""
    return f"{pick.randint(100, 665)}-{pick.randint(10, 99)}-{pick.randint(1000, 9999)}"


def spaced(shape: Shape, separator: str) -> Shape:
    """The same in groups of four."""

    def make(pick: random.Random) -> str:
        text = shape(pick)
        return separator.join(text[at : at + 4] for at in range(0, len(text), 4))

    return make


SHAPED: tuple[Shape, ...] = (
    email, card, spaced(card, " "), spaced(card, "-"), iban, spaced(iban, " "), ssn,
)  # fmt: skip
CARRIERS = (
    "Please keep {} on file.", "{}", "It is {}, as far as I know.", "See ({}) below.", 'He said "{}" twice.',
    "Reference: {}\nThank you!", "ref={};", "Neither <{}> nor anything else.", "Grüße, {}, bis bald 👋.",
)  # fmt: skip
FIELDS = (
    "response", "user", "system", "assistant", "context", "result", "arguments", "label", "alternative",
    "asked", "returned",
)  # fmt: skip


@dataclass
class Canaries:
    """What was planted: of each canary a piece that cannot stand anywhere by chance, shaped ones apart."""

    seed: int
    pick: random.Random = field(init=False)
    plain: set[bytes] = field(default_factory=set)
    shaped: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pick = random.Random(self.seed)

    def plant(self, shape: Shape) -> str:
        """Make one more."""
        kept = self.plain if shape is word else self.shaped
        while True:
            text = shape(self.pick)
            core = core_of(text)
            if core not in kept:
                kept.add(core)
                return text

    def __len__(self) -> int:
        return len(self.plain) + len(self.shaped)


def core_of(text: str) -> bytes:
    """Twelve letters or digits of a canary in a row; of a social security number all nine digits."""
    compact = text.lower().replace(" ", "").replace("-", "").encode()
    return next(re.finditer(rb"[a-z]{12,}|[0-9]{9,}", compact)).group()[:12]


def found_in(data: bytes, wanted: set[bytes]) -> set[bytes]:
    """Which cores stand in the data, whatever case, spaces or hyphens."""
    compact = data.lower().translate(None, b" -")
    pieces = {
        run.group()[at : at + 12]
        for run in re.finditer(rb"[a-z]{12,}|[0-9]{12,}", compact)
        for at in range(len(run.group()) - 11)
    }
    numbers = re.findall(rb"(?<![0-9])[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}(?![0-9])", data)
    return wanted & (pieces | {number.translate(None, b" -") for number in numbers})


def leaks(places: Mapping[str, bytes], wanted: set[bytes]) -> dict[str, set[bytes]]:
    """What was found, by place."""
    return {name: found for name, data in places.items() if (found := found_in(data, wanted))}


def trace(number: int, canaries: Canaries, **labels: str) -> dict[str, Any]:
    """A native trace with a canary in each of its fields."""
    pick = canaries.pick
    texts = {}
    for name in FIELDS:
        shape = pick.choice([word, pick.choice(SHAPED)])
        texts[name] = pick.choice(CARRIERS).format(canaries.plant(shape))
    return {
        "id": f"chat-{number}",
        "app": pick.choice(["shop", "bank"]),
        "environment": "production",
        "model": "m-1",
        "trace_id": f"{number + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "messages": [{"role": role, "content": texts[role]} for role in ("system", "assistant", "user")],
        "response": f"{texts['response']} Hope that was {CONTROL}!",
        "context": [{"id": f"d-{number}", "content": texts["context"]}, "Lisbon is sunny."],
        "tool_calls": [{"name": "search", "arguments": texts["arguments"], "result": texts["result"]}],
        "alternatives": [texts["alternative"], "It rains."],
        "agent": "desk",
        "steps": [  # a loop, so that what it was about is evidence
            {"kind": "tool", "name": "ask", "input": texts["asked"], "output": texts["returned"]},
        ]
        * 3,
        "labels": {"note": texts["label"], **labels},
    }


def malformed(number: int, canaries: Canaries) -> bytes:
    """A record that cannot be decoded, with two canaries where an error message might pick them up."""
    text = [canaries.plant(canaries.pick.choice([word, *SHAPED])) for _ in range(2)]
    good = json.dumps({"response": text[0], "app": "shop"})
    wrong: tuple[Any, ...] = (
        f'{good[:-1]}, "response": "{text[1]}"}}',
        f'{good[:-1]}, "{text[1]}": 1, "{text[1]}": 2}}',
        good[:-3],
        {"response": {text[0]: text[1]}},
        {"response": None, text[0]: text[1]},
        f'{good[:-1]}, "labels": {{"{text[1]}": "1", "{text[1]}": "2"}}}}',
        {"response": [text[0]], text[1]: None},
        {"answer": text[0], "app": text[1]},
        f"{good[:-1]}, {text[1]}: 1}}",
        f'"{text[0]} {text[1]}"',
    )
    chosen = wrong[number % len(wrong)]
    return (chosen if isinstance(chosen, str) else json.dumps(chosen)).encode()


RULES = """
groups:
  - name: everything
    rules:
      - alert: EveryTrace
        expr: pii.status != "skipped" || toxicity.status != "skipped" || hallucination.status != "timeout"
        labels: {severity: warning}
        actions: [audit, alert, review, feedback]
        annotations: {summary: "A trace of {{ $labels.app }} was judged."}
"""


class Daemon:
    """`riskmon run` in a process of its own, everything it can write to in one folder."""

    def __init__(self, folder: Path, broker: ApacheKafka, outside: Sink, factory: str = "") -> None:
        self.data = folder / "data"
        self.temporary = folder / "tmp"
        self.output = folder / "output.log"
        self.temporary.mkdir()
        rules = folder / "rules.yaml"
        rules.write_text(RULES, encoding="utf-8")
        config = {
            "instance": "privacy",
            "data_dir": str(self.data),
            "kafka": broker.kafka("llm.traces"),
            "http": {"port": 0},
            "rules": {"paths": [str(rules), "rules"]},
            "ledger": {"sample_ratio": 1.0},
            "detectors": {"pii": {"factory": factory}},
            "telemetry": {"log_level": "debug", "otlp_endpoint": outside.url},
            "deliver": {
                "alertmanager": {"url": outside.url},
                "webhooks": [{"url": f"{outside.url}/hook", "secret": "s3cret", "allow_private": True}],
            },
        }
        path = folder / "riskmon.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": PYTHONPATH}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "--config", str(path)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def metrics(self) -> str:
        """What a scrape shows."""
        (port,) = set(re.findall(r'"port": ?(\d+)', self.logs().decode()))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            body: bytes = answer.read()
        return body.decode()

    def logs(self) -> bytes:
        """Standard output and error."""
        return self.output.read_bytes()

    def files(self) -> dict[str, bytes]:
        """Every file it has written, by name; one that goes away meanwhile is no file."""
        found = {}
        for top in (self.data, self.temporary):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        if path.is_file():
                            found[name] = path.read_bytes()
        return found

    def waiting(self) -> int:
        """How many messages are still to be delivered."""
        with closing(sqlite3.connect(f"file:{self.data / 'ledger.db'}?mode=ro", uri=True)) as ledger:
            (count,) = ledger.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()
        return int(count)

    def given_back(self) -> set[str]:
        """Ids of the feedback items on record."""
        with closing(sqlite3.connect(f"file:{self.data / 'ledger.db'}?mode=ro", uri=True)) as ledger:
            return {one for (one,) in ledger.execute("SELECT id FROM feedback")}

    def wait(self, records: int) -> str:
        """Wait until so many records are done and all messages delivered; returns the metrics then."""
        end = time.monotonic() + SECONDS
        shown = ""
        while time.monotonic() < end:
            assert self.process.poll() is None, self.logs().decode()[-3000:]
            if b'"started"' in self.logs():
                shown = self.metrics()
                judged = total(shown, "riskmon_records_recorded_total")
                done = judged + total(shown, "riskmon_records_dead_lettered_total")
                # Assessments are counted after the records that they are of.
                detectors = set(re.findall(r'riskmon_assessments_total{detector="(\w+)"', shown))
                assessed = total(shown, "riskmon_assessments_total") == judged * len(detectors)
                if done >= records and assessed and not self.waiting():
                    return shown
            time.sleep(0.5)
        counted = re.findall(r"^riskmon_(?:records|outbox|deliver).*$", shown, re.MULTILINE)
        pytest.fail(f"{records} records not done in {SECONDS} s:\n" + "\n".join(counted))

    def stop(self) -> None:
        """End it cleanly."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.logs().decode()[-3000:]


@contextmanager
def daemon(folder: Path, broker: ApacheKafka, outside: Sink, factory: str = "") -> Iterator[Daemon]:
    """Run a daemon; however the test ends, it ends too."""
    running = Daemon(folder, broker, outside, factory)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def total(metrics: str, name: str) -> float:
    """Sum of a metric's series."""
    values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, values))


def produce(bootstrap: str, values: Sequence[bytes], canaries: Canaries) -> None:
    """Write records to the topic; every tenth has canaries in its key and headers."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    for number, value in enumerate(values):
        key = headers = None
        if number % 10 == 0:
            key = canaries.plant(word).encode()
            headers = [("x-note", canaries.plant(email).encode())]
        producer.send("llm.traces", value, key=key, headers=headers)
    producer.flush()
    producer.close()


def consume(bootstrap: str, topic: str) -> bytes:
    """Everything in a topic: keys, values and headers."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        pieces: list[bytes] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(1000).values():
                pieces += [repr((r.key, r.headers)).encode() + r.value for r in records]
        return b"\n".join(pieces)
    finally:
        consumer.close()


@pytest.mark.slow
def test_no_canary_gets_out(tmp_path: Path) -> None:
    """No text of a trace is in logs, metrics, spans, alerts; no personal data in ledger or feedback topic."""
    canaries, buried = Canaries(1), Canaries(2)
    values = [json.dumps(trace(number, canaries)).encode() for number in range(TRACES)]
    assert len(canaries) == TRACES * len(FIELDS)
    values += [malformed(number, buried) for number in range(TRACES // 10)]
    canaries.pick.shuffle(values)
    with ApacheKafka() as kafka, sink() as outside:
        kafka.create_topic("llm.traces", 2)
        kafka.create_topic("riskmon.feedback", 1)
        produce(kafka.bootstrap, values, buried)
        with daemon(tmp_path, kafka, outside) as running:
            metrics = running.wait(len(values))
            alive = running.files()
            feedback = consume(kafka.bootstrap, "riskmon.feedback")
            items = running.given_back()
            running.stop()
            files = alive | {f"{name} after": data for name, data in running.files().items()}
            logs = running.logs()
    assert total(metrics, "riskmon_records_dead_lettered_total") == TRACES // 10
    assert metrics.count('rule="EveryTrace"') > 0
    assert {"ledger.db", "ledger.db-wal"} <= files.keys()

    everything = canaries.plain | canaries.shaped | buried.plain | buried.shaped
    outlets = {
        "logs": logs,
        "metrics": metrics.encode(),
        "spans": outside.bytes("/v1/traces"),
        "webhook": outside.bytes("/hook"),
        "Alertmanager": outside.bytes("/api/v2/alerts"),
    }
    assert all(outlets.values()), {name: len(data) for name, data in outlets.items()}
    assert leaks(outlets, everything) == {}
    unwanted = canaries.shaped | buried.shaped | buried.plain
    kept = {**files, "feedback topic": feedback}
    assert leaks(kept, unwanted) == {}
    # All is there, and the search finds what is: redacted excerpts keep ordinary words. How many of the
    # canaries they keep is up to what the language model takes for a name.
    assert items
    assert all(feedback.count(f"'{item}'".encode()) for item in items)
    assert feedback.count(CONTROL.encode()) == feedback.count(b'"completion"') >= len(items)
    for kept_text in (feedback, b"".join(files.values())):
        assert found_in(kept_text, {core_of(CONTROL)})
        assert found_in(kept_text, canaries.plain)
    assert all(feedback.count(mask) for mask in (b"<EMAIL_ADDRESS>", b"<CREDIT_CARD>", b"<IBAN_CODE>"))


@pytest.mark.slow
def test_nothing_is_kept_of_a_trace_that_was_not_judged(tmp_path: Path) -> None:
    """Where the PII detector fails, not one word of the trace is kept anywhere, though it is flagged."""
    canaries, lost = Canaries(3), Canaries(4)
    count = TRACES // 10
    values = [json.dumps(trace(number, canaries)).encode() for number in range(count)]
    # Spread evenly, on one partition: several in a row would look as if the detector always failed.
    for number in range(count // 5):
        values.insert(6 * number, json.dumps(trace(count + number, lost, fault=MUST_FAIL)).encode())
    with ApacheKafka() as kafka, sink() as outside:
        kafka.create_topic("llm.traces", 1)
        kafka.create_topic("riskmon.feedback", 1)
        produce(kafka.bootstrap, values, lost)
        with daemon(tmp_path, kafka, outside, "faulty_detectors:build_failing_pii") as running:
            metrics = running.wait(len(values))
            files = running.files()
            files["feedback topic"] = consume(kafka.bootstrap, "riskmon.feedback")
            running.stop()
            files |= {f"{name} after": data for name, data in running.files().items()}
            files |= {"logs": running.logs(), "metrics": metrics.encode()}
            files |= {path: outside.bytes(path) for path in outside.got}
    failed = re.findall(r'riskmon_assessments_total{detector="pii",status="error"} (\S+)', metrics)
    assert [float(number) for number in failed] == [count // 5]
    assert files["feedback topic"].count(b"<withheld") >= count // 5
    assert leaks(files, lost.plain | lost.shaped) == {}
    assert found_in(files["feedback topic"], canaries.plain)
