"""A ledger that an earlier version has left behind, with work half done, in the hands of this one."""

import base64
import gzip
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from checkout import DATA
from external import need, postgresql

from monitor.config import Config
from monitor.daemon.build import build_engine
from monitor.findings import Assessment, Status
from monitor.ledger import schema as t
from monitor.ledger.flags import FlagReader
from monitor.ledger.queries import letters, open_letter, verify
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.records import FlagFilter
from monitor.rules import RuleBook
from monitor.sources.combined import CombinedSource
from monitor.sources.spool import SpoolSource
from monitor.testing import ManualClock, MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors
from monitor.trace import Trace

OLD = DATA / "ledger-1817de7"  # made by make_old_ledger.py, which says what is in it
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
TOPICS: dict[str, dict[str, list[str]]] = json.loads(gzip.decompress((OLD / "topics.json.gz").read_bytes()))
UPGRADED = 1_795_003_600.0  # an hour after it was left
SPOOL = "otlp.traces@one"
ENDS = [
    ["otlp.generations@one", 0, 0],
    ["otlp.logs@one", 0, 0],
    [SPOOL, 0, 4],
    *([topic, int(n), len(values)] for topic in sorted(TOPICS) for n, values in TOPICS[topic].items()),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the old ledger is now; a copy for each test."""
    if request.param == "sqlite":
        (tmp_path / "ledger.db").write_bytes(gzip.decompress((OLD / "sqlite.db.gz").read_bytes()))
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with postgresql() as server:
        command = [
            need("psql"),
            "--host",
            server,
            "--username",
            "riskmon",
            "--set",
            "ON_ERROR_STOP=1",
            "postgres",
        ]
        dump = gzip.decompress((OLD / "postgresql.sql.gz").read_bytes())
        done = subprocess.run(command, input=dump, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        yield f"postgresql://riskmon@/postgres?host={quote(server)}"


@pytest.fixture
def upgraded(url: str, tmp_path: Path) -> "Iterator[Upgraded]":
    """A daemon of this version on the old ledger."""
    daemon = Upgraded(url, tmp_path)
    yield daemon
    daemon.ledger.close()


def assess(trace: Trace) -> tuple[Assessment, ...]:
    """As the old daemon's detector: by the trace's id."""
    score = 1.0 if trace.id.startswith(("bad-", "resp-")) else 0.0
    return (Assessment(detector="toxicity", version="1", status=Status.SCORED, score=score),)


class Upgraded:
    """A daemon in place of the old one, with its configuration and key; its topics have grown meanwhile."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = ManualClock(UPGRADED)
        self.config = Config.model_validate(
            {
                "instance": "one",
                "data_dir": folder,
                "kafka": {"bootstrap_servers": ["127.0.0.1:9"], "topics": list(TOPICS)},
                "ingest": {"formats": {"spans": "otlp_proto"}},
                "deliver": {"alertmanager": {"url": "http://127.0.0.1:9"}, "feedback_topic": "feedback"},
                "receiver": {"enabled": True},
            }
        )
        self.vault = Vault((OLD / "riskmon.key").read_bytes())
        self.ledger = Ledger.open(url, self.vault, self.clock, self.config.name())
        topics = tuple(self.config.spool_topics().values())
        self.spool = LedgerSpool(self.ledger, self.vault, topics, max_records=1000, max_bytes=2**20)
        self.observer = RecordingObserver()

    def finish(self) -> None:
        """Start, and turn until everything is judged, unfinished traces included."""
        records = {
            (topic, int(partition)): [base64.b64decode(value) for value in values]
            for topic, partitions in TOPICS.items()
            for partition, values in partitions.items()
        }
        kafka = MemorySource(MemoryLog(records), self.clock, finite=False)
        detectors = ScriptedDetectors(assess, batch_size=8)
        engine = build_engine(
            self.config,
            clock=self.clock,
            source=CombinedSource([kafka, SpoolSource(self.spool, self.clock)], self.clock),
            pool=detectors,
            rules=RuleBook([OLD / "rules.yaml"], self.clock),
            ledger=self.ledger,
            vault=self.vault,
            observer=self.observer,
        )
        for _ in range(200):
            if self.positions() == ENDS:
                return
            engine.turn()
            detectors.finish_all()
            self.clock.advance(0.5)
        pytest.fail(f"not all was judged: {self.positions()}")

    def judged(self) -> list[str]:
        """Ids of what was judged since."""
        return [judgement.trace.id for judgement in self.observer.judgements]

    def rows(self, *columns: Any) -> list[list[Any]]:
        """What the ledger has in these columns, in their order."""
        with self.ledger.begin() as connection:
            return [list(row) for row in connection.execute(sa.select(*columns).order_by(*columns))]

    def positions(self) -> list[list[Any]]:
        """Topic, partition and next offset."""
        return self.rows(t.positions.c.topic, t.positions.c.partition, t.positions.c.next_offset)

    def outbox(self) -> list[list[Any]]:
        """Destination, key, state and attempts."""
        return self.rows(t.outbox.c.destination, t.outbox.c.key, t.outbox.c.state, t.outbox.c.attempts)

    def flags(self) -> list[str]:
        """Ids of the flags on record."""
        return [flag for (flag,) in self.rows(t.flags.c.id)]


def test_an_old_ledger_opens_and_says_what_it_said(upgraded: Upgraded) -> None:
    """The schema is brought up to date; record, positions, messages and sealed contents are as they were."""
    report = verify(upgraded.ledger)
    assert (report.ok, report.problems, report.gaps) == (True, [], [])
    assert report.entries == EXPECTED["entries"]
    assert upgraded.positions() == EXPECTED["positions"]
    assert upgraded.flags() == EXPECTED["flags"]
    assert upgraded.outbox() == EXPECTED["outbox"]
    reader = FlagReader(upgraded.ledger.engine.url, upgraded.clock, 5.0)
    detectors = {name for row in reader.find(FlagFilter(), 100).flags for name in row.flag.detectors}
    by_detector = [reader.find(FlagFilter(detector=name), 100).flags for name in detectors]
    reader.close()
    assert {row.flag.id for rows in by_detector for row in rows} == set(EXPECTED["flags"])
    found = letters(upgraded.ledger)
    listed = sorted([letter.topic, letter.partition, letter.offset, letter.reason] for letter in found)
    assert listed == EXPECTED["dead_letters"]
    assert {open_letter(upgraded.ledger, upgraded.vault, letter.id)[1].value for letter in found} == {b"{"}
    waiting = upgraded.spool.read(SPOOL, 0, 100, 2**20)
    assert [[record.topic, record.offset] for record in waiting] == EXPECTED["spool"]


def test_nothing_is_judged_flagged_or_sent_twice_across_an_upgrade(upgraded: Upgraded) -> None:
    """What was on its way is judged once, whole traces above all; what was judged is left alone."""
    before = dict(upgraded.rows(t.flags.c.id, t.flags.c.trace_id))
    upgraded.finish()
    assert max(Counter(upgraded.judged()).values()) == 1
    assert not set(upgraded.judged()) & set(before.values())
    after = dict(upgraded.rows(t.flags.c.id, t.flags.c.trace_id))
    assert before.items() <= after.items()
    native = [
        json.loads(value)["id"]
        for values in TOPICS["traces"].values()
        for value in map(base64.b64decode, values)
        if value != b"{"
    ]
    bad = [name for name in native if name.startswith("bad-")]
    assert sorted(after.values()) == sorted(
        [*bad, *(f"resp-{number}" for number in (0, 1, 2, 10, 11, 12, 13))]
    )
    report = verify(upgraded.ledger)
    assert (report.ok, report.problems, report.gaps, report.open) == (True, [], [], [])
    assert report.records == sum(len(values) for topic in TOPICS.values() for values in topic.values()) + 4
    assert upgraded.observer.incidents == []
    sent = upgraded.outbox()
    assert [key for destination, key, *_ in sent if destination == "alertmanager"] == upgraded.flags()
    assert [row for row in sent if row in EXPECTED["outbox"]] == EXPECTED["outbox"]


def test_what_an_old_version_has_flagged_is_not_flagged_again(upgraded: Upgraded) -> None:
    """Read once more from their beginning, the topics add no flag and no message to those on record."""
    upgraded.finish()
    flags, outbox = upgraded.flags(), upgraded.outbox()
    for topic, partitions in TOPICS.items():
        for partition in partitions:
            upgraded.ledger.move(topic, int(partition), 0, "the test reads it again")
    upgraded.observer.judgements.clear()
    upgraded.finish()
    assert len(upgraded.judged()) >= 198
    assert (upgraded.flags(), upgraded.outbox()) == (flags, outbox)
    assert len(letters(upgraded.ledger)) == 2
    assert verify(upgraded.ledger).ok
