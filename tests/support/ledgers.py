"""Ledgers to test with, in SQLite or PostgreSQL, and what is put into them."""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

import msgspec
import pytest
import sqlalchemy as sa
from flags import redacted

from monitor.config import AlertmanagerConfig, Config, DeliverConfig
from monitor.events import Assigned, OffsetRange, TopicPartition
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


def transaction(
    marks: dict[TopicPartition, Claimed],
    judged: Sequence[Judgement] = (),
    letters: Sequence[DeadLetter] = (),
    *,
    flags: Iterable[FlagRow] = (),
    snapshots: dict[str, bytes] | None = None,
) -> Transaction:
    """What the engine records of records that were judged or set aside, before their effects are added."""
    places: list[Origin | DeadLetter] = [*(judgement.origin for judgement in judged), *letters]
    finished = [Done(at.topic, at.partition, OffsetRange(at.offset, at.offset + 1)) for at in places]
    return Transaction(
        owner="d0",
        version=EngineVersion.of({"pii": "1"}, "rules-1"),
        marks=marks,
        coverage=coverage_of(finished, list(judged), list(letters)),
        flags=list(flags),
        feedback=[],
        outgoing=[],
        kept_traces=[],
        dead_letters=list(letters),
        snapshots=snapshots or {},
    )


def flagged(origin: Origin, name: str, prompt: str, response: str, *actions: Action) -> Judgement:
    """A trace and its one flag."""
    flag = Flag(
        id=name,
        rule="Some",
        rule_version="1",
        severity=Severity.WARNING,
        actions=(Action.AUDIT, *actions),
        detectors=("pii",),
    )
    trace = Trace(id=f"t-{origin.offset}", time=1.0, response=response, messages=(Message("user", prompt),))
    return Judgement(origin=origin, trace=trace, assessments=(SCORED,), flags=(flag,))


def record_flags(ledger: Ledger, rows: Iterable[FlagRow]) -> None:
    """Record flags."""
    ledger.record(transaction({}, flags=rows))


def stocked(
    config: Config,
    traces: Sequence[tuple[str, str]],
    letters: Sequence[tuple[str, bytes]],
    word: str,
    sample_ratio: float = 0.0,
) -> Ledger:
    """Fill the ledger of a configuration with what a daemon left of `llm.traces`, and return it open.

    First flagged traces (prompt, response) with feedback, then dead letters (reason, value), in whose detail,
    key and header stands `word`.
    """
    vault = Vault.open_or_make(config.data_dir / "riskmon.key")
    ledger = Ledger.open(config.ledger_url(), vault, ManualClock(), "d0")
    claim = ledger.claim(Assigned("llm.traces", 0, None, 0, 100), latest=False)
    assert isinstance(claim, Claim)
    judged = [
        flagged(Origin("llm.traces", 0, offset, 0), f"flag-{offset}", *texts, Action.FEEDBACK)
        for offset, texts in enumerate(traces)
    ]
    dead = [
        DeadLetter(
            topic="llm.traces",
            partition=0,
            offset=offset,
            time=2.0,
            reason=reason,
            detail=word,
            key=word.encode(),
            value=value,
            headers=((word, b"x"),),
        )
        for offset, (reason, value) in enumerate(letters, len(judged))
    ]
    mark = Claimed(claim.epoch, claim.version, Mark(len(judged) + len(dead)))
    recorded = transaction({("llm.traces", 0): mark}, judged, dead)
    policy = Policy(deliver=config.deliver, sample_ratio=sample_ratio)
    add_effects([redacted(each) for each in judged], policy, 10.0, recorded)
    ledger.record(recorded)
    return ledger


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
    judged = [
        _judged(Origin("t", partition, offset, 0), flag=flagged) for offset in offsets if offset not in dead
    ]
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
    recorded = transaction({("t", partition): mark}, judged, letters, snapshots=snapshots)
    add_effects([redacted(each) for each in judged], POLICY, 10.0, recorded)
    return recorded


def _judged(origin: Origin, *, flag: bool) -> Judgement:
    name = f"flag-{origin.partition}-{origin.offset}"
    judgement = flagged(origin, name, "How?", "All well.", Action.ALERT, Action.FEEDBACK)
    return judgement if flag else msgspec.structs.replace(judgement, flags=())


def next_claim(claim: Claim, offset: int) -> Claim:
    """The claim after one more transaction."""
    return claim._replace(version=claim.version + 1, mark=Mark(offset))
