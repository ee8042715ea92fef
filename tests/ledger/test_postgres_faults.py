"""A ledger in PostgreSQL under faults: what passes is waited for, for a limited time, and by its name."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from ledgers import VAULT, batch, claimed, next_claim
from patience import eventually
from postgres_servers import Network, Server, pgbouncer

from monitor.clock import SystemClock
from monitor.errors import ConfigError, Damaged, NotFound, Retryable
from monitor.events import Assigned
from monitor.ledger import messages, queries
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim
from monitor.ledger.outbox import LedgerOutbox
from monitor.ledger.postgresql import Patience
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger
from monitor.ledger.trial import LedgerTrial
from monitor.outcome.alerts import ALERTMANAGER
from monitor.progress import StartReason

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that these tests may set up as they like."""
    with Server.running() as running:
        yield running


@pytest.fixture
def database(server: Server) -> str:
    """A new database's name."""
    name = f"t{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    return name


@contextlib.contextmanager
def opened(
    url: str, owner: str = "d0", clock: SystemClock | None = None, seconds: float = 10.0
) -> Iterator[Ledger]:
    """Open a ledger as a daemon does."""
    clock = clock or CLOCK
    ledger = Ledger.open(url, VAULT, clock, owner, patience=Patience(seconds), machine=clock)
    try:
        yield ledger
    finally:
        ledger.close()


def role(server: Server, database: str, *rights: str) -> str:
    """Make a user with these rights; returns its name."""
    name = f"u{uuid.uuid4().hex}"
    server.sql(
        f"CREATE ROLE {name} LOGIN", *(f"GRANT {right} TO {name}" for right in rights), database=database
    )
    return name


TABLES = "ALL TABLES IN SCHEMA public"


def test_a_read_only_window_is_waited_for(server: Server, database: str) -> None:
    """Whatever writes may try again: the engine, delivery, the receiver. What only reads goes on."""
    with opened(server.url(database=database)) as ledger:
        claim = claimed(ledger)
        outbox = LedgerOutbox(ledger)
        with server.everywhere("default_transaction_read_only", "on"):
            for write in (
                lambda: ledger.record(batch(claim, range(4))),
                lambda: ledger.note("started", {}),
                lambda: outbox.delivered([1], 1.0),
                lambda: claimed(ledger, 1),
            ):
                with pytest.raises(
                    Retryable, match=r"takes no writes: ReadOnlySqlTransaction: .*25006"
                ) as refused:
                    write()
                assert refused.value.cause == "the database takes no writes"
            assert ledger.holdings()
            with pytest.raises(Retryable, match="takes no writes"):
                trial(server.url(database=database))
        ledger.record(batch(claim, range(4)))
        assert queries.verify(ledger).ok


STATES = {
    "08006": "cannot be reached",
    "57P01": "cannot be reached",
    "57P03": "cannot be reached",
    "57014": "does not answer in time",
    "25006": "takes no writes",
    "25P03": "another transaction",
    "40001": "another transaction",
    "40P01": "another transaction",
    "55P03": "another transaction",
    "53100": "no room left",
    "53200": "connection or memory",
    "53300": "connection or memory",
    "28000": "refuses the login",
    "28P01": "refuses the login",
    "3D000": "does not exist",
    "3F000": "tables are missing",
    "42P01": "tables are missing",
    "42501": "lacks a right",
    "58030": "disk fails",
    "XX000": "the database failed",
    "XX001": "is damaged",
    "XX002": "is damaged",
}


@pytest.mark.parametrize("state", [*STATES, "22001", "23505", "42601", "0A000"])
def test_every_error_of_the_server_has_its_class(server: Server, state: str) -> None:
    """It passes, is damage, or is a bug; its text has state and message, and never a row's values."""
    raising = (
        f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}', DETAIL = 'canary-value'; END $$"
    )
    expected = Retryable if state in STATES else RuntimeError
    with (
        contextlib.closing(LedgerTrial.at(server.url(), CLOCK)) as reader,
        pytest.raises(expected) as raised,
        reader.view() as connection,
    ):
        connection.exec_driver_sql(raising)
    text = str(raised.value)
    assert STATES.get(state, "refused a statement") in text
    assert state in text
    assert "canary" not in text
    assert isinstance(raised.value, Damaged) == (state in {"XX001", "XX002"})


def test_values_are_in_no_error(server: Server, database: str) -> None:
    """Not what a row holds, nor what a statement was given."""
    with opened(server.url(database=database)) as ledger:
        row = {"key": "canary-value", "value": "x"}
        for _ in range(2):
            with contextlib.suppress(RuntimeError), ledger.begin() as connection:
                connection.execute(t.meta.insert().values(**row))
        with pytest.raises(RuntimeError, match="23505") as known, ledger.begin() as connection:
            connection.execute(t.meta.insert().values(**row))
        with pytest.raises(RuntimeError, match="22P02") as strange, ledger.begin() as connection:
            connection.execute(sa.text("SELECT CAST(:text AS integer)"), {"text": "canary-value"})
        assert "canary" not in f"{known.value!r} {strange.value!r} {known.value.__cause__}"


def test_what_refuses_a_start_is_waited_for_by_its_name(server: Server, database: str) -> None:
    """Nothing that an administrator can change ends a daemon; each cause is told apart."""
    full = role(server, database)
    server.sql(f"ALTER ROLE {full} CONNECTION LIMIT 0")
    locked = role(server, database)
    server.sql(f"ALTER ROLE {locked} NOLOGIN")
    with Network(server.port) as network:
        network.cut = True
        for url, cause in {
            server.url(full, database): "no connection or memory",
            server.url(locked, database): "refuses the login",
            server.url(database="nowhere"): "does not exist",
            server.url("nobody", database): "refuses the login",
            server.url(port=network.port): "cannot be reached",
            server.url(port=1): "cannot be reached",
        }.items():
            with pytest.raises(Retryable, match=cause), opened(url):
                pass
    with pytest.raises(ConfigError, match=r"driver refuses it.*options"):
        Ledger.open(server.url() + "?nonsense=1", VAULT, CLOCK, "d0")
    for timeout in ("0", "-1", "600", "soon"):
        with pytest.raises(ConfigError, match="connect_timeout must be a whole number from 1 to 10"):
            Ledger.open(f"{server.url()}?connect_timeout={timeout}", VAULT, CLOCK, "d0")


@pytest.mark.alone
def test_no_call_waits_for_a_silent_server_for_long(server: Server, database: str) -> None:
    """Amid a transaction, and to connect; the calls of one turn do not add up; and it goes on afterwards."""
    with (
        Network(server.port) as network,
        opened(server.url(port=network.port, database=database), seconds=1.0) as ledger,
    ):
        claim = claimed(ledger)
        network.fall_silent()
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(Retryable, match="does not answer in time"):
                ledger.record(batch(claim, range(4)))
        assert 1.0 <= time.monotonic() - began < 3.0
        time.sleep(1.1)
        began = time.monotonic()
        with pytest.raises(Retryable, match="does not answer in time"):
            ledger.holdings()
        assert time.monotonic() - began < 5.0
        ledger.patience.end_in(0.1)
        time.sleep(1.1)
        began = time.monotonic()
        with pytest.raises(Retryable, match="does not answer in time"):
            ledger.note("stopped", {})
        assert time.monotonic() - began < 1.0
        network.speak()
    with opened(server.url(database=database)) as ledger:
        ledger.record(batch(claimed(ledger), range(4)))


@pytest.mark.alone
def test_a_slow_server_keeps_no_transaction_for_long(server: Server, database: str) -> None:
    """Each answer comes in time, and there are many: a writer has a deadline for all, a reader none."""
    url = server.url(database=database)
    with Network(server.port) as network, opened(url) as usual:
        claim = claimed(usual)
        with opened(server.url(port=network.port, database=database), seconds=1.0) as ledger:
            network.delay = 0.1
            began = time.monotonic()
            with pytest.raises(Retryable, match="does not answer in time"):
                ledger.record(batch(claim, range(4), dead=(3,)))
            assert time.monotonic() - began < 4.0
            time.sleep(1.1)  # other calls are spared for a second
            began = time.monotonic()
            assert queries.verify(ledger).ok
            assert time.monotonic() - began > 2.0
            network.delay = 0.0
            ledger.record(batch(claim, range(4), dead=(3,)))
        assert queries.verify(usual).ok


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_level_of_isolation_is_ours(server: Server, database: str, level: str) -> None:
    """Whatever the default, daemons that wait for each other see what the others wrote."""
    server.sql(f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    work_together(server.url(database=database), 3, 20)


def work_together(url: str, daemons: int, batches: int) -> None:
    """Let daemons record at once, each its partition, and look whether all of it is there."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with opened(url, f"d{number}") as ledger:
                claim = claimed(ledger, number)
                for done in range(batches):
                    ledger.record(batch(claim, range(done, done + 1), partition=number))
                    claim = next_claim(claim, done + 1)
                    assert ledger.holdings().keys() >= {("t", number)}
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    with opened(url):
        pass
    threads = [threading.Thread(target=work, args=(number,)) for number in range(daemons)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    with opened(url) as ledger:
        report = queries.verify(ledger)
        assert report.ok
        assert report.positions == {f"t/{number}": batches for number in range(daemons)}


def test_a_pooler_of_transactions_is_supported(server: Server, database: str) -> None:
    """Behind PgBouncer, where every transaction may run in another session, and what is set stays ours."""
    with pgbouncer(server) as port:
        url = server.url(database=database, port=port)
        work_together(url, 4, 20)
        with contextlib.closing(LedgerReader.inspect(url, CLOCK)) as reader:
            assert queries.verify(reader).ok
            with pytest.raises(Retryable, match="25006"), reader.view() as connection:
                connection.execute(t.flags.delete())
        with opened(url) as ledger:
            ledger.note("still", {})
            with ledger.engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
                    assert driver.execute(f"SHOW {name}").fetchone() == ("0",)


def test_a_missing_right_is_named_before_the_start(server: Server, database: str) -> None:
    """Each right that a daemon needs is tried, and nothing is made or changed by that."""
    url = server.url(database=database)
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=database)
    nobody = role(server, database)
    with pytest.raises(Retryable, match=r"lacks a right: .*42501.*CREATE"):
        trial(server.url(nobody, database))
    with pytest.raises(Retryable, match=r"lacks a right: .*42501"), opened(server.url(nobody, database)):
        pass
    assert trial(url) == 0
    assert server.sql(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'", database=database
    ) == [(0,)]
    with opened(url) as ledger:
        ledger.record(batch(claimed(ledger), range(4)))
        before = queries.row_counts(ledger)
    reads = role(server, database, f"SELECT ON {TABLES}")
    with pytest.raises(Retryable, match=r"42501.*needs INSERT on"):
        trial(server.url(reads, database))
    most = role(server, database, f"SELECT, INSERT, UPDATE, DELETE ON {TABLES}")
    with pytest.raises(Retryable, match=r"USAGE on .*_id_seq.*42501"):
        trial(server.url(most, database))
    server.sql(
        f"REVOKE DELETE ON spool FROM {most}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {most}",
        database=database,
    )
    with pytest.raises(Retryable, match=r"table spool .*42501.*needs DELETE on spool"):
        trial(server.url(most, database))
    server.sql(f"GRANT DELETE ON spool TO {most}", database=database)
    assert trial(server.url(most, database)) == t.NEWEST
    with opened(server.url(most, database)) as ledger:
        assert queries.row_counts(ledger) == before
        ledger.record(batch(claimed(ledger, 1), range(4), partition=1))


def trial(url: str) -> int:
    """Try a ledger out; returns the version of its schema."""
    with contextlib.closing(LedgerTrial.at(url, CLOCK)) as tried:
        return tried.run()


def test_a_daemon_that_stands_still_holds_the_others_for_seconds(server: Server, database: str) -> None:
    """One that is stopped amid a transaction loses it before those who wait for it give up."""
    url = server.url(database=database)
    code = (
        "import sys, time\nfrom monitor.clock import SystemClock\nfrom monitor.ledger.store import Ledger\n"
        "from monitor.privacy.vault import Vault\n"
        "ledger = Ledger.open(sys.argv[1], Vault(bytes(32)), SystemClock(), 'd')\n"
        "with ledger.begin():\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    with opened(url) as ledger:
        claim = claimed(ledger)
        with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGSTOP)
            ledger.record(batch(claim, range(4)))
            holder.kill()


def test_a_leased_row_is_leased_for_all_clocks(server: Server, database: str) -> None:
    """A daemon whose clock is ahead sends no row of another's again, nor later; the chain never runs back."""

    class Skewed(SystemClock):
        def now(self) -> float:
            return super().now() + 600.0

    url = server.url(database=database)
    with opened(url) as right, opened(url, "d1", Skewed()) as ahead:
        right.record(batch(claimed(right), range(2)))
        ahead.record(batch(claimed(ahead, 1), range(2), partition=1))
        right.note("started", {})
        with right.view() as connection:
            times = [
                float(time)
                for (time,) in connection.execute(sa.select(t.chain.c.time).order_by(t.chain.c.seq))
            ]
            created = list(connection.execute(sa.select(t.outbox.c.created)).scalars())
        assert times == sorted(times)
        assert all(abs(CLOCK.now() - time) < 60 for time in (*times, *created))
        one, other = LedgerOutbox(right), LedgerOutbox(ahead)
        leased = lease(one, CLOCK, seconds=30.0)
        assert len(leased) == 4
        assert lease(other, Skewed()) == []
        one.failed(leased, CLOCK.now(), "connect", CLOCK.now())
        assert lease(other, Skewed()) == leased
        other.failed(leased, Skewed().now() + 100.0, "connect", Skewed().now())
        assert lease(one, CLOCK) == []
        assert {age < 60.0 for _, age in other.backlog()[0].values()} == {True}
        listed = messages.messages(ahead)
        assert listed
        assert all(abs(Skewed().now() - message.created) < 60 for message in listed)
        assert messages.drop(ahead, "nobody is to get them", destination=ALERTMANAGER) == 4
        with right.view() as connection:
            newest = connection.execute(sa.select(t.chain.c.time).order_by(t.chain.c.seq.desc()).limit(1))
            assert abs(CLOCK.now() - float(newest.scalar_one())) < 60


def lease(outbox: LedgerOutbox, clock: SystemClock, seconds: float = 30.0) -> list[int]:
    """Lease what is due to Alertmanager; returns the ids."""
    now = clock.now()
    return sorted(row.id for row in outbox.lease(ALERTMANAGER, 100, now + seconds, now))


@pytest.mark.slow
def test_a_replica_that_was_behind_is_read_from_its_own_position() -> None:
    """The ledger went back in time, the group's commit did not: what the broker still has is judged again."""
    with Server.running() as primary, primary.replica() as standby:
        with opened(primary.url()) as ledger:
            claim = claimed(ledger)
            ledger.record(batch(claim, range(4)))
            ((written,),) = primary.sql("SELECT pg_current_wal_lsn()::text")
            replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
            eventually(lambda: standby.sql(replayed) == [(True,)], "the standby follows")
            standby.sql("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
            followed = "SELECT count(*) FROM pg_stat_wal_receiver"
            eventually(lambda: standby.sql(followed) == [(0,)], "the standby is cut off")
            ledger.record(batch(next_claim(claim, 4), range(4, 10)))
        primary.stop()
        with pytest.raises(Retryable, match="takes no writes"), opened(standby.url()) as ledger:
            ledger.note("started", {})
        standby.sql("SELECT pg_promote()")
        with opened(standby.url()) as ledger:
            begin = queries.positions(ledger)[0]["next_offset"]
            again = ledger.claim(Assigned("t", 0, 10, 0, 20), latest=False)
            assert isinstance(again, Claim)
            assert (begin, again.start.offset, again.start.gap) == (4, 4, None)
            assert again.start.reason is StartReason.LEDGER_BEHIND
            report = queries.verify(ledger)
            assert report.ok
            assert report.gaps == []


def test_reading_makes_and_changes_nothing(server: Server, database: str) -> None:
    """A user that may only read reads; an empty database stays so; an old or new schema is named."""
    url = server.url(database=database)
    with pytest.raises(NotFound, match="there is no ledger yet"):
        LedgerReader.inspect(url, CLOCK)
    with pytest.raises(NotFound, match="there is no ledger yet"):
        Ledger.open(url, VAULT, CLOCK, "d0", make=False)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert server.sql(tables, database=database) == [(0,)]
    with opened(url) as ledger:
        ledger.record(batch(claimed(ledger), range(4)))
    reads = role(server, database, f"SELECT ON {TABLES}")
    with contextlib.closing(LedgerReader.inspect(server.url(reads, database), CLOCK)) as reader:
        assert queries.verify(reader).ok
        with opened(url) as ledger, ledger.begin():
            assert queries.positions(reader)[0]["next_offset"] == 4  # no writer keeps it waiting
    for version, words in (("2", "an older schema"), ("99", "upgrade riskmon")):
        with opened(url) as ledger, ledger.begin() as connection:
            connection.execute(t.meta.update().values(value=version))
        with pytest.raises(ConfigError, match=words):
            LedgerReader.inspect(url, CLOCK)
        with pytest.raises(ConfigError, match=words):
            Ledger.open(url, VAULT, CLOCK, "d", make=False)
        assert server.sql("SELECT value FROM meta", database=database) == [(version,)]
        server.sql(f"UPDATE meta SET value = '{t.NEWEST}'", database=database)  # noqa: S608 - a constant
