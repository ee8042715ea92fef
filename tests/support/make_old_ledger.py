"""Make `tests/data/ledger-1817de7`: ledgers as the code of a released commit leaves them when it is killed.

Run once, with the code of that commit. What a released version wrote does not change, so neither does this:

    git worktree add /tmp/released 1817de7
    PYTHONPATH=/tmp/released python tests/support/make_old_ledger.py tests/data/ledger-1817de7

The ledgers, one in SQLite and one in PostgreSQL, are of one installation, whose content is all made up.
Its topic `traces` has two partitions of native traces, every tenth of which is to be flagged, and in each a
record that nobody can decode. A batch in the middle was not finished, and the last records were not read.
Topic `spans` has OTLP: a whole trace, and two whose roots are in records that were not read. The receiver's
spool has judged a body and keeps three. Alertmanager was away: six alerts were tried once, others never.

`expected.json` is what the ledgers say; `topics.json.gz` has the records of the topics, `{topic: {partition:
[value, as base64]}}`, each at the place of its offset.
"""

import base64
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from external import need, postgresql
from otlp_protobuf import agent_spans, record_of

from monitor.config import Config
from monitor.daemon.build import build_engine
from monitor.events import TopicPartition
from monitor.findings import Assessment, Status
from monitor.ledger import schema as t
from monitor.ledger.outbox import LedgerOutbox
from monitor.ledger.queries import verify
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.rules import RuleBook
from monitor.sources.combined import CombinedSource
from monitor.sources.spool import SpoolSource
from monitor.spool import Received
from monitor.testing import ManualClock, MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors
from monitor.trace import Trace

NOW: Final = 1_795_000_000.0
RECORDS: Final = 100  # of each partition of `traces`
UNREAD: Final = 20  # of these
UNREADABLE: Final = {("traces", 0): 13, ("traces", 1): 31}
HELD: Final = "good-85"  # its batch is not finished
KEY: Final = b"Thirty-two bytes, and no secret."
RULES: Final = """
groups:
  - name: released
    rules:
      - alert: BadTrace
        expr: toxicity.score >= 0.5
        labels: {severity: warning, team: "shop"}
        annotations: {summary: "The test planted it."}
        actions: [audit, alert, review, feedback]
"""
SETTINGS: Final[dict[str, Any]] = {
    "instance": "one",
    "kafka": {"bootstrap_servers": ["127.0.0.1:9"], "topics": ["traces", "spans"], "max_poll_records": 10},
    "ingest": {"formats": {"spans": "otlp_proto"}},
    "deliver": {"alertmanager": {"url": "http://127.0.0.1:9"}, "feedback_topic": "feedback"},
    "receiver": {"enabled": True},
}


def native(number: int) -> bytes:
    """The n-th trace; every tenth is one that the rule flags."""
    name = f"{'bad' if number % 10 == 0 else 'good'}-{number}"
    trace = {"id": name, "time": NOW - 1000.0 + number, "app": "shop", "user": "u-1", "response": "Hello."}
    return json.dumps(trace).encode()


def topics() -> dict[TopicPartition, list[bytes]]:
    """What is in the topics, of which the daemon has read all but `unread`."""
    found = {
        ("traces", partition): [native(2 * offset + partition) for offset in range(RECORDS)]
        for partition in (0, 1)
    }
    for where, offset in UNREADABLE.items():
        found[where][offset] = b"{"
    (root, *parts), (other_root, *others) = agent_spans(1), agent_spans(2)
    found["spans", 0] = [
        record_of(spans) for spans in (agent_spans(0), parts, others[:2], [root], [other_root, *others[2:]])
    ]
    return found


def unread(where: TopicPartition) -> int:
    """How many records the daemon has not seen."""
    return UNREAD if where[0] == "traces" else 2


def assess(trace: Trace) -> tuple[Assessment, ...]:
    """As cheap_detectors.py: by the trace's id. All calls of models in spans are bad ones."""
    score = 1.0 if trace.id.startswith(("bad-", "resp-")) else 0.0
    return (Assessment(detector="toxicity", version="1", status=Status.SCORED, score=score),)


def judge(ledger: Ledger, vault: Vault, config: Config, rules: Path, clock: ManualClock) -> None:
    """Run the engine until everything it may read is on record but for the batch that is held."""
    log = MemoryLog({where: values[: -unread(where)] for where, values in topics().items()})
    spool = LedgerSpool(
        ledger, vault, tuple(config.spool_topics().values()), max_records=1000, max_bytes=2**20
    )

    def receive(*numbers: int) -> None:
        topic = config.spool_topics()["traces"]
        bodies = [record_of(agent_spans(number)) for number in numbers]
        assert spool.append(
            [Received(topic, clock.now(), "application/x-protobuf", body) for body in bodies]
        ) == len(numbers)

    receive(10)
    detectors = ScriptedDetectors(assess, batch_size=5, capacity=4)
    engine = build_engine(
        config,
        clock=clock,
        source=CombinedSource([MemorySource(log, clock, finite=False), SpoolSource(spool, clock)], clock),
        pool=detectors,
        rules=RuleBook([rules], clock),
        ledger=ledger,
        vault=vault,
        observer=RecordingObserver(),
    )
    for _ in range(60):
        engine.turn()
        clock.advance(0.3)
        held = [HELD in {trace.id for trace in batch} for batch in detectors.in_flight.values()]
        for nth in reversed([place for place, is_held in enumerate(held) if not is_held]):
            detectors.finish(nth)
    assert held == [True]
    receive(11, 12, 13)


def deliver(ledger: Ledger, clock: ManualClock) -> None:
    """Deliver to the log, and do not reach Alertmanager."""
    outbox, now = LedgerOutbox(ledger), clock.now()
    outbox.delivered([row.id for row in outbox.lease("log", 1000, now + 60.0, now)], now)
    outbox.failed([row.id for row in outbox.lease("alertmanager", 6, now + 60.0, now)], now, "connect", now)


def said(ledger: Ledger) -> dict[str, Any]:
    """What the ledger says, as far as a later version must say the same."""
    report = verify(ledger)
    assert (report.ok, report.problems) == (True, []), report
    with ledger.begin() as connection:

        def rows(*columns: Any) -> list[list[Any]]:
            found = connection.execute(sa.select(*columns).order_by(*columns))
            return [list(row) for row in found]

        p, d, o, s = t.positions.c, t.dead_letters.c, t.outbox.c, t.spool.c
        return {
            "entries": report.entries,
            "positions": rows(p.topic, p.partition, p.next_offset),
            "flags": [flag for (flag,) in rows(t.flags.c.id)],
            "dead_letters": rows(d.topic, d.partition, d.offset, d.reason),
            "outbox": rows(o.destination, o.key, o.state, o.attempts),
            "spool": rows(s.topic, s.offset),
        }


def make(url: str, folder: Path) -> dict[str, Any]:
    """Fill one new ledger; returns what it says."""
    clock = ManualClock(NOW)
    config = Config.model_validate(SETTINGS | {"data_dir": folder})
    vault = Vault(KEY)
    with closing(Ledger.open(url, vault, clock, config.name())) as ledger:
        rules = folder / "rules.yaml"
        rules.write_text(RULES, encoding="utf-8")
        judge(ledger, vault, config, rules, clock)
        deliver(ledger, clock)
        return said(ledger)


def dumped(server: str) -> bytes:
    """What pg_dump writes, without the commands that only some versions of psql know."""
    command = [need("pg_dump"), "--host", server, "--username", "riskmon", "--no-owner", "postgres"]
    dump = subprocess.run(command, check=True, capture_output=True).stdout
    return re.sub(rb"^\\(un)?restrict .*\n", b"", dump, flags=re.MULTILINE)


def compressed(path: Path, content: bytes) -> None:
    """Write a file as gzip, the same bytes each time."""
    path.write_bytes(gzip.compress(content, mtime=0))


def main(words: Sequence[str]) -> None:
    """Make the folder's files."""
    [target] = map(Path, words)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "ledger.db"
        expected = make(f"sqlite:///{database}", Path(scratch))
        compressed(target / "sqlite.db.gz", database.read_bytes())
        with postgresql() as server:
            assert make(f"postgresql://riskmon@/postgres?host={quote(server)}", Path(scratch)) == expected
            compressed(target / "postgresql.sql.gz", dumped(server))
    records: dict[str, dict[str, list[str]]] = {}
    for (topic, partition), values in topics().items():
        coded = [base64.b64encode(value).decode() for value in values]
        records.setdefault(topic, {})[str(partition)] = coded
    compressed(target / "topics.json.gz", json.dumps(records).encode())
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    (target / "rules.yaml").write_text(RULES, encoding="utf-8")
    (target / "riskmon.key").write_bytes(KEY)


if __name__ == "__main__":
    main(sys.argv[1:])
