"""Ledgers to test with, in SQLite or PostgreSQL, and what is put into them."""

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flags import redacted

from monitor.config import AlertmanagerConfig, DeliverConfig
from monitor.events import Assigned, OffsetRange
from monitor.findings import Action, Assessment, Flag, Judgement, Severity, Status
from monitor.ledger.claims import Claim
from monitor.ledger.store import Ledger
from monitor.outcome.effects import Policy, add_effects
from monitor.outcome.transaction import Claimed, EngineVersion, Transaction, coverage_of
from monitor.outcome.transaction import Finished as Done
from monitor.privacy.vault import Vault
from monitor.progress import Mark
from monitor.records import DeadLetter, FlagRow
from monitor.testing import ManualClock
from monitor.trace import Message, Origin, Trace

VAULT = Vault(bytes(range(32)))
POLICY = Policy(
    deliver=DeliverConfig(alertmanager=AlertmanagerConfig(url="http://alertmanager.invalid:9093")),
    sample_ratio=0.0,
)

SCORED = Assessment(detector="pii", version="1", status=Status.SCORED, score=0.0)

on_every_database = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""Run a test, whose fixture `database` or `ledger` this concerns, on each database that may hold a ledger."""
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


class Database:
    """Where one test's ledger is."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def sqlite(cls, folder: Path) -> Self:
        """Return a file of SQLite in this folder."""
        return cls(f"sqlite:///{folder / 'ledger.db'}")

    @classmethod
    def postgresql(cls, server: str) -> Self:
        """Return a new schema of the server that has its socket in this folder."""
        schema = f"t{uuid.uuid4().hex}"
        base = f"postgresql://riskmon@/postgres?host={quote(server)}"
        engine = sa.create_engine(base)
        with engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema(schema))
        engine.dispose()
        return cls(f"{base}&options={quote(f'-csearch_path={schema}')}")

    @contextlib.contextmanager
    def opened(self, owner: str = "d0", clock: ManualClock | None = None) -> Iterator[Ledger]:
        """Open the ledger as this daemon, and close it in the end."""
        ledger = Ledger.open(self.url, VAULT, clock or ManualClock(), owner)
        try:
            yield ledger
        finally:
            ledger.close()


def claimed(ledger: Ledger, partition: int = 0, *, committed: int | None = None, begin: int = 0) -> Claim:
    """Claim a partition that may be read."""
    claim = ledger.claim(Assigned("t", partition, committed, begin, 1_000), latest=False)
    assert isinstance(claim, Claim)
    return claim


def record_flags(ledger: Ledger, rows: Iterable[FlagRow]) -> None:
    """Record flags."""
    ledger.record(
        Transaction(
            owner="d0",
            version=EngineVersion.of({"pii": "1"}, "rules-1"),
            marks={},
            coverage=[],
            flags=list(rows),
            feedback=[],
            outgoing=[],
            kept_traces=[],
            dead_letters=[],
            snapshots={},
        )
    )


def batch(
    claim: Claim,
    offsets: range,
    *,
    partition: int = 0,
    flagged: bool = True,
    dead: tuple[int, ...] = (),
    snapshots: dict[str, bytes] | None = None,
) -> Transaction:
    """What the engine records when it has judged these offsets; all but the dead ones are flagged."""
    judgements = []
    for offset in offsets:
        flag = Flag(
            id=f"flag-{partition}-{offset}",
            rule="Some",
            rule_version="1",
            severity=Severity.WARNING,
            actions=(Action.AUDIT, Action.ALERT, Action.FEEDBACK),
            detectors=("pii",),
        )
        trace = Trace(id=f"t-{offset}", time=1.0, response="All well.", messages=(Message("user", "How?"),))
        judgements.append(
            Judgement(
                origin=Origin("t", partition, offset, 0),
                trace=trace,
                assessments=(SCORED,),
                flags=(flag,) if flagged else (),
            )
        )
    judged = [judgement for judgement in judgements if judgement.origin.offset not in dead]
    letters = [
        DeadLetter(
            topic="t",
            partition=partition,
            offset=offset,
            time=2.0,
            reason="invalid_json",
            detail="a comma is missing",
            key=b"key-canary",
            value=b"value-canary",
            headers=(("name-canary", b"header-canary"),),
        )
        for offset in dead
    ]
    mark = Claimed(claim.epoch, claim.version, Mark(offsets.stop))
    finished = [Done("t", partition, OffsetRange(offset, offset + 1)) for offset in offsets]
    transaction = Transaction(
        owner="d0",
        version=EngineVersion.of({"pii": "1"}, "rules-1"),
        marks={("t", partition): mark},
        coverage=coverage_of(finished, judged, letters),
        flags=[],
        feedback=[],
        outgoing=[],
        kept_traces=[],
        dead_letters=letters,
        snapshots=snapshots or {},
    )
    add_effects([redacted(each) for each in judged], POLICY, 10.0, transaction)
    return transaction


def next_claim(claim: Claim, offset: int) -> Claim:
    """The claim after one more transaction."""
    return claim._replace(version=claim.version + 1, mark=Mark(offset))
