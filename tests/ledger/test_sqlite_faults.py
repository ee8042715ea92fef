"""A ledger in SQLite under faults: a damaged file, a folder that may only be read, a disk without room."""

import hashlib
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from external import small_disk
from ledgers import VAULT, Database, batch, claimed, next_claim, on_every_database

from monitor.clock import SystemClock
from monitor.errors import ConfigError, Damaged, NotFound, Retryable
from monitor.ledger import messages, queries
from monitor.ledger import schema as t
from monitor.ledger.auditor import Auditor
from monitor.ledger.outbox import backlog
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger
from monitor.testing import ManualClock

CLOCK = SystemClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger's file, at rest, with all kinds of rows."""
    database = Database.sqlite(tmp_path / "data")
    with database.opened() as ledger:
        claim = claimed(ledger)
        for start in range(0, 60, 20):
            ledger.record(batch(claim, range(start, start + 20), dead=(start,)))
            claim = next_claim(claim, start + 20)
    return tmp_path / "data" / "ledger.db"


def url(path: Path) -> str:
    """Return a file's URL."""
    return f"sqlite:///{path}"


def contents(folder: Path) -> dict[str, str]:
    """Return the files of a folder, and what is in them."""
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}


def read_all(path: Path) -> None:
    """Read what commands read."""
    with closing(LedgerReader.inspect(url(path), CLOCK)) as reader:
        queries.verify(reader)
        queries.letters(reader)
        list(queries.feedback_items(reader))
        queries.positions(reader)
        backlog(reader)
        messages.messages(reader)
        queries.new_gaps(reader, 0)


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_a_problem_with_a_name(path: Path, seed: int) -> None:
    """Whatever bytes are overwritten, reading finds problems, or damage with its remedy; never a bug."""
    chance = random.Random(seed)
    sound = path.read_bytes()
    for _ in range(20):
        broken = bytearray(sound)
        for _ in range(chance.choice((1, 100, 4096))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(broken)
        # Where a table's name or the version was hit, there is no ledger, or one of another schema.
        with suppress(Damaged, Retryable, ConfigError, NotFound):
            read_all(path)


@pytest.mark.parametrize("garbage", [b"no database at all" * 1000, b"SQLite format 3\0" + bytes(8000)])
def test_a_file_that_is_no_database_is_damaged(path: Path, garbage: bytes) -> None:
    """For those who read and for a daemon, which waits until a backup is put back, and then goes on."""
    sound = path.read_bytes()
    path.write_bytes(garbage)
    for attempt in (read_all, note):
        with pytest.raises(Damaged, match=r"is damaged: .*restore a backup"):
            attempt(path)
    path.write_bytes(sound)
    with closing(Ledger.open(url(path), VAULT, CLOCK, "d")) as ledger:
        ledger.note("started", {})


def test_damage_under_a_running_daemon_is_a_problem_of_the_audit(path: Path) -> None:
    """It is told as a failed verification, which has an alert."""

    class Told:
        problems = 0

        def gaps(self, gaps: int) -> None:
            """Not asked for."""

        def kept(self, rows: dict[str, int], /) -> None:
            """Not asked for."""

        def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
            """Count."""
            assert (entries, gaps) == (0, 0)
            assert seconds >= 0
            self.problems = problems

    told = Told()
    with closing(Ledger.open(url(path), VAULT, ManualClock(), "d")) as ledger:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        ledger.engine.dispose()
        Auditor(ledger, ManualClock(), told, 60.0).turn()
    assert told.problems == 1


def test_reading_writes_nothing(path: Path) -> None:
    """Not a byte, and no file beside the ledger; where there is none, none is made."""
    before = contents(path.parent)
    read_all(path)
    assert contents(path.parent) == before
    with pytest.raises(NotFound, match="no ledger yet"):
        LedgerReader.inspect(url(path.with_name("other.db")), CLOCK)
    assert contents(path.parent) == before


def test_a_copy_that_may_only_be_read_is_read(path: Path, tmp_path: Path) -> None:
    """An auditor's copy, in a folder that takes no files; also when nothing is beside it."""
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(path, copy)
    (copy / path.name).chmod(0o444)
    copy.chmod(0o555)
    try:
        read_all(copy / path.name)
        assert list(contents(copy)) == [path.name]
    finally:
        copy.chmod(0o755)


def test_a_daemon_that_begins_to_write_makes_readers_start_over(path: Path) -> None:
    """What was read of a file at rest is not used when it changes; the next reading sees all."""
    reader = LedgerReader.inspect(url(path), CLOCK)
    writer: list[Ledger] = []

    def begin() -> None:
        with reader.view():
            writer.append(Ledger.open(url(path), VAULT, CLOCK, "d"))
            writer[0].note("started", {})

    with pytest.raises(Retryable, match="began to write"):
        begin()
    assert queries.verify(reader).ok
    writer[0].note("stopped", {})
    entries = queries.verify(reader).entries
    writer[0].close()
    assert queries.verify(reader).entries == entries
    reader.close()


def test_an_older_schema_is_left_as_it_is(path: Path) -> None:
    """Only a daemon changes a schema; commands name it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
        connection.commit()
    before = contents(path.parent)
    with pytest.raises(ConfigError, match="an older schema, 2 instead of"):
        LedgerReader.inspect(url(path), CLOCK)
    assert contents(path.parent) == before


@on_every_database
def test_a_view_waits_for_no_writer(database: Database) -> None:
    """Not even for one that holds the lock."""
    with database.opened("a") as writing, database.opened("b") as reading:
        claimed(writing)
        with writing.begin():
            assert len(queries.positions(reading)) == 1


@on_every_database
def test_the_times_of_the_chain_never_run_backwards(database: Database) -> None:
    """Where a clock was set back, entries bear the last time until it has caught up."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        for step in (10.0, -600.0, 5.0, 700.0):
            clock.advance(step)
            ledger.note("started", {})
        with ledger.view() as connection:
            times = list(connection.execute(sa.select(t.chain.c.time).order_by(t.chain.c.seq)).scalars())
        assert times == sorted(times)
        assert float(times[-1]) == clock.now()
        assert queries.verify(ledger).ok


def test_a_disk_without_room_is_waited_for(tmp_path: Path) -> None:
    """At the start too: nothing is made half, and once there is room the ledger is made."""
    with small_disk(tmp_path / "disk", 1) as disk:
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(Retryable, match=r"no room|cannot be opened|disk fails"):
            Ledger.open(url(disk / "ledger.db"), VAULT, CLOCK, "d")
        filler.unlink()
        with closing(Ledger.open(url(disk / "ledger.db"), VAULT, CLOCK, "d")) as ledger:
            ledger.note("started", {})


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """The ledger where nobody, not even root, may write."""
    target = str(path.parent)
    if os.system(f"mount --bind {target} {target} && mount -o remount,ro,bind {target}"):  # noqa: S605 - our own folder
        pytest.skip("no right to mount a file system")
    yield path
    os.system(f"umount --lazy {target}")  # noqa: S605 - our own folder


def test_a_file_system_that_may_only_be_read_is_waited_for(read_only: Path) -> None:
    """A daemon may try again; commands read on."""
    read_all(read_only)
    with pytest.raises(Retryable, match=r"takes no writes|cannot be opened"):
        note(read_only)
    with pytest.raises(Retryable, match="cannot be opened or made"):
        Ledger.open(url(read_only.parent / "deeper" / "ledger.db"), VAULT, CLOCK, "d")


def note(path: Path) -> None:
    """Open a ledger as a daemon does, and write to it."""
    with closing(Ledger.open(url(path), VAULT, CLOCK, "d")) as ledger:
        ledger.note("started", {})


def test_a_file_that_cannot_be_looked_for_is_no_missing_ledger(tmp_path: Path) -> None:
    """Where the system does not say whether it exists, nothing is claimed, and a daemon waits."""
    path = tmp_path / "loop" / "ledger.db"
    path.parent.symlink_to(path.parent)
    with pytest.raises(Retryable, match="cannot be opened or made"):
        LedgerReader.inspect(url(path), CLOCK)
    with pytest.raises(Retryable, match="cannot be opened or made"):
        Ledger.open(url(path), VAULT, CLOCK, "d", make=False)
