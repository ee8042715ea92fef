"""The ledger's own tests once more, on a real PostgreSQL: what holds on SQLite holds there."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
import test_ledger
from external import postgresql
from patience import PATIENCE
from test_ledger import (  # noqa: F401 - the same specification, another database
    ledger,
    opened,
    test_a_batch_is_on_record_as_a_whole,
    test_a_claim_goes_on_where_the_ledger_is,
    test_a_gap_goes_on_record,
    test_a_lease_that_runs_out_is_taken_over,
    test_a_newer_ledger_is_refused,
    test_a_position_beyond_the_end_is_not_claimed,
    test_a_successor_fences_its_predecessor,
    test_an_operator_moves_a_position_ahead,
    test_an_operator_moves_a_position_back,
    test_dead_letters_are_listed_and_requeued,
    test_delivered_rows_are_forgotten_after_a_week,
    test_only_a_known_partition_is_moved,
    test_processes_may_open_a_new_ledger_at_once,
    test_repeating_a_batch_adds_nothing,
    test_snapshots_belong_to_their_daemon,
    test_tampering_is_found,
    test_the_outbox_leases_and_settles,
    test_two_daemons_race_for_the_outbox,
    test_vectors_stay_in_the_engine,
)
from test_ledger_flags import (  # noqa: F401 - as above
    reader,
    test_a_flag_is_read_as_it_was_recorded,
    test_a_reader_cannot_write,
    test_a_reader_waits_for_nobody,
    test_each_condition_holds_of_what_is_listed,
    test_pages_have_no_gap_and_no_repeat,
)

from monitor.clock import SystemClock
from monitor.errors import ConfigError, Retryable
from monitor.ledger.flags import FlagReader
from monitor.ledger.store import Ledger
from monitor.testing import ManualClock


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of its own, reached through a socket in a folder; the folder's name."""
    with postgresql() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _on_postgresql(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test's ledger be a schema of the server's."""
    made: set[Path] = set()

    def url_of(path: Path) -> str:
        schema = f"t{abs(hash(path))}"
        base = f"postgresql://riskmon@/postgres?host={quote(server)}"
        if path not in made:
            made.add(path)
            engine = sa.create_engine(base)
            with engine.begin() as connection:
                connection.execute(sa.schema.CreateSchema(schema))
            engine.dispose()
        return f"{base}&options={quote(f'-csearch_path={schema}')}"

    monkeypatch.setattr(test_ledger, "url_of", url_of)


def test_a_daemon_that_is_late_waits_and_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that another daemon holds up is busy, not broken."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.1)
    with opened(tmp_path, "a") as first, opened(tmp_path, "b") as second:
        with first.begin(), pytest.raises(Retryable, match="LockNotAvailable"):
            second.position("t", 0)
        assert second.position("t", 0) is None


def test_a_daemon_that_stands_still_does_not_hold_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of a stopped process is ended by the server, and the process may try again."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", PATIENCE)
    waited: list[int | None] = []
    with opened(tmp_path, "a") as stopped, opened(tmp_path, "b") as other:
        stopped.engine.dispose()  # only its next connection may not stand still for long
        with monkeypatch.context() as hurried:
            hurried.setattr("monitor.ledger.database.IDLE_SECONDS", 0.2)
            with pytest.raises(Retryable), stopped.begin():
                waited.append(other.position("t", 0))
        assert waited == [None]
        assert stopped.position("t", 0) is None


def test_a_query_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """The server ends a reader's query after the reader's time, and the reader may ask again."""
    with opened(tmp_path) as written:
        hurried = FlagReader(written, SystemClock(), 0.05)
        try:
            for _ in range(2):
                with (
                    pytest.raises(Retryable, match="QueryCanceled"),
                    hurried._ledger.view() as connection,
                    hurried._limited(connection),
                ):
                    connection.execute(sa.text("SELECT pg_sleep(30)"))
        finally:
            hurried.close()


def test_a_server_that_is_away_is_explained(tmp_path: Path) -> None:
    """A ledger that cannot be reached at the start is a configuration error that names the setting."""
    with pytest.raises(ConfigError, match=r"ledger\.url.*server"):
        Ledger.open(
            f"postgresql://riskmon@/postgres?host={quote(str(tmp_path))}",
            test_ledger.VAULT,
            ManualClock(),
            "d0",
        )
