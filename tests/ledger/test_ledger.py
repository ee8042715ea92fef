"""The ledger: each batch at most once, only by the daemon that owns it, and provable."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import VAULT, Database, batch, claimed, next_claim, on_every_database
from patience import PATIENCE

from monitor.clock import Deadline
from monitor.errors import ConfigError, Fenced, NotFound, Retryable, Tampered
from monitor.events import Assigned, OffsetRange
from monitor.findings import Assessment, Status
from monitor.ledger import audit, chain, queries
from monitor.ledger import schema as t
from monitor.ledger.auditor import Auditor
from monitor.ledger.outbox import KEEP_DELIVERED_SECONDS, LedgerOutbox
from monitor.ledger.store import Ledger
from monitor.outcome.transaction import Claimed, KeptTrace
from monitor.privacy.vault import Vault
from monitor.progress import Mark, StartPosition, StartReason
from monitor.testing import ManualClock
from monitor.trace import Origin


def edit(ledger: Ledger, statement: str, **values: Any) -> None:
    """Do to the database what its owner never would."""
    with ledger.begin() as connection:
        changed = connection.execute(sa.text(statement), values)
        assert changed.rowcount > 0


@on_every_database
def test_a_batch_is_on_record_as_a_whole(ledger: Ledger) -> None:
    """Position, coverage, flags, feedback, messages, dead letters and assessments come together."""
    ledger.record(batch(claimed(ledger), range(4), dead=(2,)))
    assert ledger.position("t", 0) == 4
    assert queries.row_counts(ledger) == {
        "chain": 1 + 1 + 1 + 3,  # start, judge, coverage, flags
        "flags": 3,
        "feedback": 3,
        "outbox": 9,  # Alertmanager, log, feedback topic
        "dead_letters": 1,
        "assessments": 3,
    }
    report = queries.verify(ledger)
    assert report.ok
    assert (report.records, report.traces, report.dead, report.flags) == (4, 3, 1, 3)
    assert report.positions == {"t/0": 4}
    assert [item["id"] for item in queries.feedback_items(ledger)] == ["flag-0-0", "flag-0-1", "flag-0-3"]


@on_every_database
def test_repeating_a_batch_adds_nothing(ledger: Ledger) -> None:
    """A transaction that was committed although its caller was told otherwise may be repeated."""
    claim = claimed(ledger)
    transaction = batch(claim, range(3), dead=(1,))
    ledger.record(transaction)
    before = queries.row_counts(ledger)
    ledger.record(transaction)
    assert queries.row_counts(ledger) == before
    ledger.record(batch(next_claim(claim, 3), range(3, 5)))
    assert queries.verify(ledger).positions == {"t/0": 5}
    with pytest.raises(Fenced):
        ledger.record(transaction)


@on_every_database
def test_a_successor_fences_its_predecessor(database: Database) -> None:
    """Once another daemon has claimed a partition, nothing of the old one's batch is written."""
    with database.opened("old") as old, database.opened("new") as new:
        first = claimed(old)
        other = claimed(old, 1)
        second = claimed(new)
        before = queries.row_counts(new)
        both = batch(first, range(2))
        both.marks |= batch(other, range(2), partition=1).marks
        with pytest.raises(Fenced) as fenced:
            old.record(both)
        assert fenced.value.partitions == {("t", 0)}
        assert queries.row_counts(new) == before
        assert new.position("t", 1) == 0
        new.record(batch(second, range(2)))
        assert queries.verify(new).ok


@on_every_database
def test_a_claim_goes_on_where_the_ledger_is(ledger: Ledger) -> None:
    """What is done beyond the position survives a restart; an older commit of Kafka does not count."""
    claim = claimed(ledger)
    transaction = batch(claim, range(2))
    mark = Mark(2, (OffsetRange(5, 7),), {9: (0, 2)})
    transaction.marks = {("t", 0): Claimed(claim.epoch, claim.version, mark)}
    ledger.record(transaction)
    again = claimed(ledger, committed=1)
    assert again.mark == mark
    assert (again.epoch, again.version) == (claim.epoch + 1, claim.version + 1)
    assert again.start == StartPosition(2, StartReason.LEDGER)


@on_every_database
def test_a_gap_goes_on_record(ledger: Ledger) -> None:
    """Offsets that retention took unjudged are a gap in the audit, and reading goes on behind it."""
    ledger.record(batch(claimed(ledger), range(3)))
    claim = claimed(ledger, begin=10)
    assert claim.start == StartPosition(10, StartReason.RETENTION, OffsetRange(3, 10))
    ledger.record(batch(claim, range(10, 12)))
    report = queries.verify(ledger)
    assert not report.problems
    assert report.gaps == ["t/0 offsets [3, 10): retention"]
    assert not report.ok


@on_every_database
def test_a_position_beyond_the_end_is_not_claimed(ledger: Ledger) -> None:
    """A topic made anew is not read on until an operator decides; the ledger is as it was."""
    ledger.record(batch(claimed(ledger), range(5)))
    before = queries.positions(ledger)
    answer = ledger.claim(Assigned("t", 0, None, 0, 2), latest=False)
    assert answer == StartPosition(5, StartReason.BEYOND_END)
    assert queries.positions(ledger) == before


@on_every_database
def test_an_operator_moves_a_position_ahead(ledger: Ledger) -> None:
    """What is skipped is a gap with the operator's reason; work under the old claim is refused."""
    claim = claimed(ledger)
    ledger.record(batch(claim, range(3)))
    ledger.move("t", 0, 8, "corrupt batch")
    with pytest.raises(Fenced):
        ledger.record(batch(next_claim(claim, 3), range(3, 4)))
    assert claimed(ledger).start.offset == 8
    report = queries.verify(ledger)
    assert report.gaps == ["t/0 offsets [3, 8): corrupt batch"]
    assert not report.problems


@on_every_database
def test_an_operator_moves_a_position_back(ledger: Ledger) -> None:
    """Judging again adds coverage but no second flag, feedback item or message."""
    ledger.record(batch(claimed(ledger), range(4), dead=(3,)))
    before = queries.row_counts(ledger)
    ledger.move("t", 0, 1, "better rules")
    ledger.record(batch(claimed(ledger), range(1, 4), dead=(3,)))
    after = queries.row_counts(ledger)
    assert after.pop("chain") == before.pop("chain") + 2  # moved, coverage
    assert after == before
    assert queries.verify(ledger).ok


@on_every_database
def test_only_a_known_partition_is_moved(ledger: Ledger) -> None:
    """A mistyped topic is an error that says where to look."""
    with pytest.raises(NotFound, match="positions list"):
        ledger.move("typo", 0, 8, "oops")
    assert queries.row_counts(ledger)["chain"] == 0


def test_dead_letters_are_encrypted(tmp_path: Path) -> None:
    """No file holds a dead letter's original bytes, the key file is private, and all of it comes back."""
    vault = Vault.open_or_make(tmp_path / "riskmon.key")
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", vault, ManualClock(), "d0")
    ledger.record(batch(claimed(ledger), range(2), dead=(0, 1)))
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    first, second = queries.letters(ledger)
    row, letter = queries.open_letter(ledger, vault, first.id)
    assert b"invalid_json" in written
    assert b"canary" not in written
    assert (tmp_path / "riskmon.key").stat().st_mode & 0o777 == 0o600
    assert row == first
    assert (first.topic, first.partition, first.offset, first.reason) == ("t", 0, 0, "invalid_json")
    assert letter == (b"key-canary", b"value-canary", (("name-canary", b"header-canary"),))
    with pytest.raises(Tampered, match="wrong key file"):
        queries.open_letter(ledger, VAULT, first.id)
    edit(
        ledger,
        "UPDATE dead_letters SET sealed = (SELECT sealed FROM dead_letters WHERE id = :a)",
        a=second.id,
    )
    with pytest.raises(Tampered, match="the row was altered"):
        queries.open_letter(ledger, vault, first.id)
    with pytest.raises(NotFound, match="does not exist"):
        queries.open_letter(ledger, vault, 999)
    ledger.close()


@on_every_database
def test_dead_letters_are_listed_and_requeued(ledger: Ledger) -> None:
    """They can be chosen by reason; sending them again is noted on them and on the chain."""
    ledger.record(batch(claimed(ledger), range(3), dead=(0, 2)))
    ids = [row.id for row in queries.letters(ledger, reason="invalid_json")]
    assert [row.offset for row in queries.letters(ledger, limit=1)] == [0]
    assert queries.letters(ledger, reason="too_large") == []
    queries.mark_requeued(ledger, [ids[1]], 50.0)
    assert [row.requeued for row in queries.letters(ledger)] == [None, 50.0]
    with ledger.begin() as connection:
        noted = connection.execute(sa.select(t.chain.c.body).where(t.chain.c.kind == "requeued")).scalars()
        assert list(noted) == [audit.canonical({"letters": [ids[1]]})]


@on_every_database
def test_letters_are_not_requeued_without_an_entry(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the chain cannot be written, no letter counts as sent again either."""
    ledger.record(batch(claimed(ledger), range(1), dead=(0,)))
    (letter,) = queries.letters(ledger)

    def full(*_: object) -> int:
        raise Retryable("the disk is full")

    monkeypatch.setattr(chain, "append", full)
    with pytest.raises(Retryable):
        queries.mark_requeued(ledger, [letter.id], 50.0)
    assert [row.requeued for row in queries.letters(ledger)] == [None]


@on_every_database
def test_the_outbox_leases_and_settles(database: Database) -> None:
    """A leased row is nobody else's; delivered ones lose their body, failed ones wait, rejected ones stay."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        ledger.record(batch(claimed(ledger), range(4)))
        outbox = LedgerOutbox(ledger)
        now = clock.now()
        assert outbox.backlog()[0] == dict.fromkeys(("alertmanager", "feedback", "log"), (4, 0.0))
        rows = outbox.lease("log", 3, now + 30, now)
        assert [row.key for row in rows] == ["flag-0-0", "flag-0-1", "flag-0-2"]
        assert rows[0].body["labels"]["alertname"] == "Some"
        assert [row.key for row in outbox.lease("log", 3, now + 30, now)] == ["flag-0-3"]
        assert outbox.lease("log", 3, now + 30, now) == []

        outbox.delivered([rows[0].id], now)
        outbox.failed([rows[1].id], now + 5, "http_503", now)
        outbox.rejected([rows[2].id], "http_400", now)
        clock.advance(10)
        assert outbox.backlog()[0]["log"] == (2, 10.0)
        (again,) = outbox.lease("log", 3, clock.now() + 30, clock.now())
        assert (again.key, again.attempts) == ("flag-0-1", 1)
        with ledger.begin() as connection:
            chosen = sa.select(t.outbox).where(t.outbox.c.destination == "log").order_by(t.outbox.c.id)
            states = [(row.state, row.reason, row.body == "{}") for row in connection.execute(chosen)]
        assert states == [
            ("delivered", "", True),
            ("waiting", "http_503", False),
            ("rejected", "http_400", False),
            ("waiting", "", False),
        ]


@on_every_database
def test_a_lease_that_runs_out_is_taken_over(database: Database) -> None:
    """What a crashed daemon held is due again, for any daemon on the ledger."""
    clock = ManualClock()
    with database.opened("a", clock) as first, database.opened("b", clock) as second:
        first.record(batch(claimed(first), range(2)))
        held = LedgerOutbox(first).lease("log", 9, clock.now() + 30, clock.now())
        other = LedgerOutbox(second)
        assert other.lease("log", 9, clock.now() + 30, clock.now()) == []
        clock.advance(30)
        assert other.lease("log", 9, clock.now() + 30, clock.now()) == held


@on_every_database
def test_delivered_rows_are_forgotten_after_a_week(database: Database) -> None:
    """The outbox does not grow for ever."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        ledger.record(batch(claimed(ledger), range(2)))
        outbox = LedgerOutbox(ledger)
        for limit in (1, 9):
            rows = outbox.lease("log", limit, clock.now() + 30, clock.now())
            outbox.delivered([row.id for row in rows], clock.now())
            clock.advance(KEEP_DELIVERED_SECONDS + 1)
        with ledger.begin() as connection:
            kept = connection.execute(sa.select(t.outbox.c.key).where(t.outbox.c.destination == "log"))
            assert list(kept.scalars()) == ["flag-0-1"]


def test_settling_a_row_passes_over_no_others(ledger: Ledger) -> None:
    """However many rows wait or were delivered, leasing and settling one neither scans nor sorts them."""
    clock = ManualClock()
    ledger.record(batch(claimed(ledger), range(3)))
    outbox = LedgerOutbox(ledger)
    sent: list[tuple[str, Any]] = []
    rows = outbox.lease("log", 1, clock.now() + 30, clock.now())
    outbox.delivered([row.id for row in rows], clock.now())  # sweeps, which may take its time once an hour

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(ledger.engine, "before_cursor_execute", note)
    rows = outbox.lease("log", 1, clock.now() + 30, clock.now())
    outbox.delivered([row.id for row in rows], clock.now())
    sa.event.remove(ledger.engine, "before_cursor_execute", note)
    assert len(sent) >= 3
    with ledger.engine.connect() as connection:
        for statement, parameters in sent:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [row.detail for row in plan]
            assert not [step for step in steps if step.startswith(("SCAN", "USE TEMP"))], statement


@on_every_database
def test_two_daemons_race_for_the_outbox(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is leased exactly once, however the daemons interleave."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", PATIENCE)
    clock = ManualClock()
    taken: list[str] = []
    with database.opened("a", clock) as first, database.opened("b", clock) as second:
        first.record(batch(claimed(first), range(60)))
        start = threading.Barrier(2)

        def take(outbox: LedgerOutbox) -> None:
            start.wait()
            while rows := outbox.lease("log", 2, clock.now() + 30, clock.now()):
                taken.extend(row.key for row in rows)

        threads = [threading.Thread(target=take, args=(LedgerOutbox(one),)) for one in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == sorted(f"flag-0-{offset}" for offset in range(60))


@on_every_database
def test_snapshots_belong_to_their_daemon(database: Database) -> None:
    """Daemons that share a ledger keep their drift state apart; the newest replaces the one before."""
    with database.opened("a") as first, database.opened("b") as second:
        mine, other = claimed(first), claimed(second, 1)
        first.record(batch(mine, range(1), snapshots={"drift": b"1", "extra": b"x"}))
        second.record(batch(other, range(1), partition=1, snapshots={"drift": b"2"}))
        first.record(batch(next_claim(mine, 1), range(1, 2), snapshots={"drift": b"3"}))
        assert first.restore() == {"drift": b"3", "extra": b"x"}
        assert second.restore() == {"drift": b"2"}


@on_every_database
def test_vectors_stay_in_the_engine(ledger: Ledger) -> None:
    """A drift assessment is kept without its feature vector."""
    transaction = batch(claimed(ledger), range(1), flagged=False)
    vector = Assessment(detector="drift", version="1", status=Status.SCORED, score=0.1, vector=b"\x99" * 8)
    why = batch(claimed(ledger, 1), range(1), partition=1).kept_traces[0].why
    transaction.marks |= batch(claimed(ledger), range(1)).marks
    kept = KeptTrace(origin=Origin("t", 0, 0, 0), trace_id="t-0", time=1.0, why=why, assessments=(vector,))
    transaction.kept_traces = [kept]
    ledger.record(transaction)
    with ledger.begin() as connection:
        body = connection.execute(sa.select(t.assessments.c.body)).scalar_one()
    assert '"drift"' in body
    assert '"vector":""' in body


def test_a_full_disk_is_retryable(database: Database) -> None:
    """A batch that does not fit is refused whole, and goes through once there is room."""
    with database.opened() as ledger:
        claim = claimed(ledger)
        transaction = batch(claim, range(400))

        def limit(connection: Any, *_: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        with ledger.begin() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + 2
        sa.event.listen(ledger.engine, "checkout", limit)
        before = queries.row_counts(ledger)
        with pytest.raises(Retryable, match="full"):
            ledger.record(transaction)
        assert queries.row_counts(ledger) == before
        pages = 1_000_000
        ledger.record(transaction)
        assert queries.verify(ledger).positions == {"t/0": 400}


def test_a_held_lock_is_retryable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that another process has locked is busy, not broken."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.05)
    with database.opened("a") as first, database.opened("b") as second:
        with first.begin(), pytest.raises(Retryable, match="locked"):
            second.position("t", 0)
        assert second.position("t", 0) is None


def test_a_daemon_waits_for_another_that_is_making_the_ledger(database: Database, tmp_path: Path) -> None:
    """A new ledger that another process is just writing is opened once it is free."""
    path = tmp_path / "ledger.db"
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")  # for which SQLite itself does not let one wait who wants the log
    leaving = threading.Timer(0.3, maker.execute, ("COMMIT",))
    leaving.start()
    with database.opened() as ledger, ledger.view() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    leaving.join()
    maker.close()


def test_a_ledger_that_needs_no_change_opens_although_others_keep_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon or command that begins asks for the lock only to change the schema; then it may try again."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.05)
    with database.opened("a") as first:
        with first.begin(), database.opened("b") as second:
            assert queries.positions(second) == []
        edit(first, "UPDATE meta SET value = '4' WHERE key = 'schema'")
        with first.begin(), pytest.raises(Retryable, match="locked"), database.opened("b"):
            pass


def test_a_file_system_without_a_write_ahead_log_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite keeps another journal, opening says so and what to do; no folder is named after a URI."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    url = f"sqlite:///file:{tmp_path}/ledger.db?vfs=unix-dotfile&uri=true"  # locks as on a network's files
    with pytest.raises(ConfigError, match=r"ledger\.url: .*it says delete.*local disk, or use PostgreSQL"):
        Ledger.open(url, VAULT, ManualClock(), "a")
    assert list(elsewhere.iterdir()) == []


def test_migrated_equals_fresh() -> None:
    """However old a ledger is when it is opened, it ends up with the schema that a new one has."""

    def add(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE extra (id INTEGER PRIMARY KEY)"))

    steps = (*t.MIGRATIONS, add)
    shapes = []
    for jumps in ((len(steps),), tuple(range(1, len(steps) + 1))):
        engine = sa.create_engine("sqlite://")
        for known in jumps:
            with engine.begin() as connection:
                assert t.migrate(connection, steps[:known]) == known
        with engine.begin() as connection:
            query = sa.text("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
            shapes.append([tuple(row) for row in connection.execute(query)])
            version = connection.execute(sa.select(t.meta.c.value)).scalar_one()
            assert version == str(len(steps))
        engine.dispose()
    assert shapes[0] == shapes[1]
    assert any(name == "extra" for _, name, _ in shapes[0])


FIRST_SCHEMA = {
    "assessments": "topic partition offset part trace_id time why body",
    "chain": "seq time kind body hash",
    "dead_letters": "id topic partition offset time created reason detail sealed requeued",
    "feedback": "id created body",
    "flags": "id seq topic partition offset part trace_id time app environment model rule severity body",
    "head": "id seq hash",
    "meta": "key value",
    "outbox": "id destination key body created attempts due state reason",
    "positions": "topic partition next_offset beyond epoch version owner updated",
    "snapshots": "owner name body updated",
}


def test_the_first_migration_makes_the_first_schema() -> None:
    """What a released migration makes never changes, whatever later ones add."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        t.migrate(connection, t.MIGRATIONS[:1])
        inspector = sa.inspect(connection)
        made = {
            name: " ".join(column["name"] for column in inspector.get_columns(name))
            for name in inspector.get_table_names()
        }
    engine.dispose()
    assert made == FIRST_SCHEMA


@on_every_database
def test_a_newer_ledger_is_refused(database: Database) -> None:
    """An old riskmon does not touch what a newer one wrote."""
    with database.opened() as ledger:
        edit(ledger, "UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(ConfigError, match="upgrade riskmon"), database.opened():
        pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "ledger.url"),
        ("nosuchdb://here", "ledger.url"),
        ("postgresql://riskmon@/postgres?nonsense=1", r"ledger\.url.*driver refuses it.*options"),
    ],
)
def test_a_url_that_cannot_be_opened_is_explained(url: str, message: str) -> None:
    """Whatever is wrong with the URL, the setting is named."""
    with pytest.raises(ConfigError, match=message):
        Ledger.open(url, VAULT, ManualClock(), "d0")


@on_every_database
def test_processes_may_open_a_new_ledger_at_once(database: Database) -> None:
    """Daemons started together on no ledger make one, with one schema and one chain."""
    code = (
        "import sys\nfrom monitor.clock import SystemClock\nfrom monitor.ledger.store import Ledger\n"
        "from monitor.privacy.vault import Vault\nsys.stdin.read(1)\n"
        "ledger = Ledger.open(sys.argv[1], Vault(bytes(32)), SystemClock(), 'd')\n"
        "ledger.note('started', {})\nledger.close()\n"
    )
    url = database.url
    starting = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, env=dict(os.environ))
        for _ in range(3)
    ]
    for process in starting:
        assert process.stdin
        process.stdin.write(b"x")
        process.stdin.flush()
    for process in starting:
        with process:
            assert process.wait(60) == 0
    with database.opened() as ledger:
        report = queries.verify(ledger)
        assert report.ok
        assert report.entries == 3


def cut_the_tail(ledger: Ledger) -> None:
    """Remove the last entries, and make the head say so."""
    edit(ledger, "DELETE FROM chain WHERE seq > 4")
    edit(ledger, "UPDATE head SET seq = 4, hash = (SELECT hash FROM chain WHERE seq = 4)")


def forge(ledger: Ledger) -> None:
    """Change an entry's content and compute its own hash anew."""
    with ledger.begin() as connection:
        rows = connection.execute(sa.select(t.chain).order_by(t.chain.c.seq)).all()
        before, row = rows[2], rows[3]
        body = row.body.replace("Some", "Same")
        assert body != row.body
        linked = audit.link(bytes(before.hash), row.seq, row.time, row.kind, body)
        connection.execute(t.chain.update().where(t.chain.c.seq == row.seq).values(body=body, hash=linked))


TAMPERINGS: dict[str, tuple[Callable[[Ledger], None], str]] = {
    "chain body": (
        lambda x: edit(x, "UPDATE chain SET body = replace(body, 'traces', 'tracks') WHERE seq = 3"),
        "entry 3 (coverage) was altered",
    ),
    "chain time": (lambda x: edit(x, "UPDATE chain SET time = '1.000000' WHERE seq = 1"), "entry 1 (start)"),
    "chain kind": (lambda x: edit(x, "UPDATE chain SET kind = 'note' WHERE seq = 4"), "entry 4 (note)"),
    "forged entry": (forge, "entry 5 (flag) was altered, or the one before it"),
    "entry removed": (lambda x: edit(x, "DELETE FROM chain WHERE seq = 2"), "entry 2 is missing"),
    "tail cut": (lambda x: edit(x, "DELETE FROM chain WHERE seq > 4"), "its tail was cut"),
    "tail and head cut": (cut_the_tail, "is not on the chain"),
    "flag removed": (
        lambda x: edit(x, 'DELETE FROM flags WHERE "offset" = 1'),
        "flag-0-1 is on the chain but",
    ),
    "flag body": (
        lambda x: edit(
            x, "UPDATE flags SET body = replace(body, 'All well', 'All bad') WHERE \"offset\" = 2"
        ),
        "flag flag-0-2 was altered",
    ),
    "flag severity": (
        lambda x: edit(x, "UPDATE flags SET severity = 'info' WHERE \"offset\" = 0"),
        "flag-0-0 was",
    ),
    "flag detectors": (
        lambda x: edit(x, "UPDATE flags SET detectors = '+none+' WHERE \"offset\" = 0"),
        "flag flag-0-0 was altered",
    ),
    "flag traffic": (
        lambda x: edit(x, "UPDATE flags SET prompt_version = '2' WHERE \"offset\" = 1"),
        "flag flag-0-1 was altered",
    ),
    "flag added": (
        lambda x: edit(
            x,
            "INSERT INTO flags SELECT 'new', seq, topic, partition, \"offset\", part, trace_id, time, app,"
            " environment, model, rule, severity, body, incarnation,"
            ' provider, model_version, prompt_name, prompt_version, detectors FROM flags WHERE "offset" = 0',
        ),
        "flag new is not on the chain",
    ),
    "position ahead": (lambda x: edit(x, "UPDATE positions SET next_offset = 9"), "the position is 9"),
    "position removed": (lambda x: edit(x, "DELETE FROM positions"), "t/0: the position is gone"),
    "dead letter removed": (lambda x: edit(x, "DELETE FROM dead_letters"), "1 dead letters are on the chain"),
}


@on_every_database
@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(ledger: Ledger, name: str) -> None:
    """Each way of altering what is on record is found, and said where."""
    ledger.record(batch(claimed(ledger), range(4), dead=(3,)))
    assert queries.verify(ledger).ok
    tamper, expected = TAMPERINGS[name]
    tamper(ledger)
    report = queries.verify(ledger)
    assert not report.ok
    assert any(expected in problem for problem in report.problems), report.problems


def test_drift_snapshots_of_the_first_schema_are_found_by_their_detector() -> None:
    """Only drift had any then; they go on under its name."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        t.migrate(connection, t.MIGRATIONS[:1])
        connection.execute(t.snapshots.insert().values(owner="d", name="ab/state", body=b"1", updated=0.0))
        t.migrate(connection)
        assert list(connection.execute(sa.select(t.snapshots.c.name)).scalars()) == ["drift/ab/state"]
    engine.dispose()


class Told:
    """What an auditor told."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.found: list[tuple[int, int]] = []
        self.gap_counts: list[int] = []

    def gaps(self, gaps: int) -> None:
        """Gaps on record."""
        self.gap_counts.append(gaps)

    def kept(self, rows: dict[str, int], /) -> None:
        """Rows per table."""
        self.rows = rows

    def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
        """A verification was completed."""
        assert entries > 0 or problems
        assert seconds >= 0
        self.found.append((problems, gaps))


def test_a_running_daemon_verifies_now_and_then(database: Database) -> None:
    """At once, and again after the period; what is wrong is counted; 0 seconds means never."""
    clock, told, never = ManualClock(), Told(), Told()
    with database.opened(clock=clock) as ledger:
        claim = claimed(ledger)
        ledger.record(batch(claim, range(4), dead=(3,)))
        auditor = Auditor(ledger, clock, told, 3600.0)
        auditor.turn()
        auditor.turn()
        assert told.found == [(0, 0)]
        assert told.rows == {"flags": 3, "feedback": 3, "dead_letters": 1}
        forge(ledger)
        clock.advance(3600.0)
        auditor.turn()
        assert told.found[1][0] > 0
        Auditor(ledger, clock, never, 0.0).turn()
        assert never.found == []


@pytest.mark.parametrize("row", [{"body": "[]"}, {"body": "{}"}, {"body": "[" * 100_000}, {"seq": -7}])
def test_no_altered_row_ends_verification(database: Database, row: dict[str, object]) -> None:
    """Whatever stands on the chain is a problem of it, at once and each time, until it is put right."""
    clock, told = ManualClock(), Told()
    with database.opened(clock=clock) as ledger:
        claimed(ledger)
        auditor = Auditor(ledger, clock, told, 3600.0)
        auditor.turn()
        ledger.move("t", 0, 6, "corrupt batch")
        with ledger.begin() as connection:
            connection.execute(t.chain.update().where(t.chain.c.kind == "moved").values(**row))
        auditor.turn()  # counts gaps
        for _ in range(2):
            clock.advance(3600.0)
            auditor.turn()
        assert queries.verify(ledger).problems
    assert {problems > 0 for problems, _ in told.found[1:]} == {True}
    assert len(told.found) >= 3


@pytest.mark.parametrize("every", [0.0, 3600.0])
def test_gaps_show_before_the_next_verification(database: Database, every: float) -> None:
    """What retention took and what an operator skipped is counted within seconds, a move back is not."""
    clock, told = ManualClock(), Told()
    with database.opened(clock=clock) as ledger:
        ledger.record(batch(claimed(ledger), range(4)))
        auditor = Auditor(ledger, clock, told, every)
        auditor.turn()
        ledger.move("t", 0, 6, "corrupt batch")
        claimed(ledger, begin=9)
        ledger.move("t", 0, 1, "better rules")
        clock.advance(10.0)
        auditor.turn()
        auditor.turn()
        assert told.gap_counts[-2:] == [2, 2]
        assert len(queries.verify(ledger).gaps) == 2


def test_verification_keeps_nobody_waiting_and_can_be_ended(ledger: Ledger) -> None:
    """A batch is recorded while a view is open, the view does not see it, and an end is no result."""
    claim = claimed(ledger)
    with ledger.view() as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(t.chain)).scalar_one()
        ledger.record(batch(claim, range(4)))
        assert connection.execute(sa.select(sa.func.count()).select_from(t.chain)).scalar_one() == before
    with pytest.raises(queries.Cancelled):
        queries.verify(ledger, lambda: True)
    told = Told()
    auditor = Auditor(ledger, ManualClock(), told, 1.0)
    auditor.stop(Deadline(ManualClock(), 0.0))
    auditor.turn()
    assert told.found == []
