"""The ledger's outbox: neither clocks nor failing rows keep a row back, and operators have their say."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import Database, on_every_database, on_postgresql
from outboxes import FakeObserver
from patience import PATIENCE, eventually

from monitor.clock import Deadline, SystemClock
from monitor.deliver.outbox import Dispatcher
from monitor.deliver.results import Delivered, Outcome
from monitor.errors import NotFound
from monitor.ledger import chain, messages, queries
from monitor.ledger import schema as t
from monitor.ledger.outbox import LONGEST_WAIT, LedgerOutbox
from monitor.ledger.store import Ledger
from monitor.records import Leased
from monitor.testing import ManualClock

LEASE = 15.0


def write(ledger: Ledger, clock: ManualClock, count: int, destination: str = "ops", **values: Any) -> None:
    """Write messages as the engine does, with changed columns."""
    with ledger.begin() as connection:
        taken = connection.execute(sa.select(sa.func.count()).select_from(t.outbox)).scalar_one()
        row = {"destination": destination, "body": "{}", "created": clock.now(), "due": clock.now()}
        row |= {"attempts": 0, "state": "waiting", "reason": ""} | values
        keys = [{**row, "key": f"key-{taken + number:05}"} for number in range(count)]
        connection.execute(t.outbox.insert(), keys)


def lease(outbox: LedgerOutbox, clock: ManualClock, limit: int = 9, **options: bool) -> list[str]:
    """Keys of the rows leased."""
    rows = outbox.lease("ops", limit, clock.now() + LEASE, clock.now(), **options)
    return [row.key for row in rows]


@on_every_database
@pytest.mark.parametrize("jump", [-1e9, -86_400.0, -3600.0, -121.0, -60.0, 60.0, 3600.0, 1e9])
@pytest.mark.parametrize("held", ["put off", "leased"])
def test_a_clock_that_jumps_keeps_no_row_back(database: Database, jump: float, held: str) -> None:
    """Wherever the clock is set to, a row is due again after twice the longest wait at most."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        outbox = LedgerOutbox(ledger, LONGEST_WAIT)
        write(ledger, clock, 1)
        (row,) = outbox.lease("ops", 1, clock.now() + LEASE, clock.now())
        if held == "put off":
            outbox.failed([row.id], clock.now() + LONGEST_WAIT, "connect", clock.now())
        clock.advance(jump)
        waited = 0.0
        while not lease(outbox, clock):
            clock.advance(10.0)
            waited += 10.0
            assert waited <= 2 * LONGEST_WAIT + LONGEST_WAIT
        # One that was leased, or was put off, within the bounds keeps its time: it is not sent early.
        if 0 <= -jump < LONGEST_WAIT:
            assert waited >= LEASE


@on_every_database
def test_rows_that_wait_their_time_are_not_due(database: Database) -> None:
    """What was put off, or is leased, for no longer than the longest wait is left alone."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        outbox = LedgerOutbox(ledger, LONGEST_WAIT)
        write(ledger, clock, 3)
        rows = outbox.lease("ops", 2, clock.now() + LONGEST_WAIT, clock.now())
        outbox.failed([rows[0].id], clock.now() + LONGEST_WAIT, "connect", clock.now())
        assert lease(outbox, clock) == ["key-00002"]
        clock.advance(LONGEST_WAIT - 1.0)
        assert lease(outbox, clock, untried=True) == ["key-00002"]
        clock.advance(1.0)
        assert lease(outbox, clock) == ["key-00000", "key-00001"]


@on_every_database
def test_what_was_never_tried_goes_first_if_asked_for(database: Database) -> None:
    """However many rows fail again and again, one that nobody has tried is found; then the longest due."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        outbox = LedgerOutbox(ledger)
        write(ledger, clock, 300, attempts=3, reason="unauthorized", due=clock.now() - 100.0)
        write(ledger, clock, 2)
        write(ledger, clock, 2, destination="other")
        assert lease(outbox, clock, 1) == ["key-00000"]
        assert sorted(lease(outbox, clock, untried=True)) == ["key-00300", "key-00301"]
        assert lease(outbox, clock, 2, untried=True) == ["key-00001", "key-00002"]


@on_every_database
def test_failures_are_counted_by_destination_state_and_reason(database: Database) -> None:
    """What waits after a failure and what is set aside, not what was never tried or was delivered."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        write(ledger, clock, 2)
        write(ledger, clock, 3, reason="unauthorized", attempts=1)
        write(ledger, clock, 4, reason="invalid", state="rejected", destination="other")
        write(ledger, clock, 5, state="delivered")
        clock.advance(10.0)
        write(ledger, clock, 1)
        assert LedgerOutbox(ledger).backlog() == (
            {"ops": (6, 10.0)},
            {("ops", "waiting", "unauthorized"): 3, ("other", "rejected", "invalid"): 4},
        )


@on_every_database
def test_a_row_that_cannot_be_read_is_set_aside(database: Database) -> None:
    """Its neighbours are leased; it is neither tried again and again nor lost."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        write(ledger, clock, 1)
        write(ledger, clock, 1, body='{"labels": ')
        write(ledger, clock, 1)
        assert lease(LedgerOutbox(ledger), clock) == ["key-00000", "key-00002"]
        (message,) = messages.messages(ledger, set_aside=True)
        assert (message.key, message.reason) == ("key-00001", "damaged")


@on_every_database
def test_an_operator_sends_again_what_was_set_aside_or_waits(database: Database) -> None:
    """Chosen by id, by destination, or all; what is on its way for the first time is left alone."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        outbox = LedgerOutbox(ledger)
        write(ledger, clock, 2, state="rejected", reason="invalid", attempts=1)
        write(ledger, clock, 2, reason="unauthorized", attempts=9, due=clock.now() + 50.0)
        write(ledger, clock, 1, due=clock.now() + LEASE)  # leased
        write(ledger, clock, 1, state="delivered")
        write(ledger, clock, 1, state="rejected", reason="invalid", destination="other")
        ids = [message.id for message in messages.messages(ledger)]
        assert messages.retry(ledger, [ids[0], ids[2]]) == 2
        assert lease(outbox, clock) == ["key-00000", "key-00002"]
        assert messages.retry(ledger, destination="ops") == 5
        assert lease(outbox, clock) == ["key-00001", "key-00003"]  # the others are on their way
        assert [message.set_aside for message in messages.messages(ledger)] == [False] * 5 + [True]
        assert messages.retry(ledger) == 6
        assert not any(message.set_aside for message in messages.messages(ledger))


@on_every_database
def test_an_operator_drops_what_nobody_is_to_get_on_record(database: Database) -> None:
    """Dropped messages are gone, and the chain has their destinations and keys, with the reason."""
    clock = ManualClock()
    with database.opened(clock=clock) as ledger:
        write(ledger, clock, 1200, state="rejected", reason="invalid")
        write(ledger, clock, 2, destination="other")
        write(ledger, clock, 1, state="delivered")
        ids = [message.id for message in messages.messages(ledger, destination="other")]
        assert messages.drop(ledger, "closed", ids[:1]) == 1
        assert messages.drop(ledger, "a test", destination="ops") == 1200
        assert [message.id for message in messages.messages(ledger)] == ids[1:]
        assert queries.row_counts(ledger, "outbox") == {"outbox": 2}
        with ledger.view() as connection:
            rows = connection.execute(sa.select(t.chain).where(t.chain.c.kind == "dropped")).all()
        bodies = [json.loads(row.body) for row in rows]
    assert [(body["destination"], body["reason"]) for body in bodies] == [
        ("other", "closed"),
        ("ops", "a test"),
        ("ops", "a test"),
    ]
    assert bodies[0]["keys"] == ["key-01200"]
    assert bodies[1]["keys"] + bodies[2]["keys"] == [f"key-{number:05}" for number in range(1200)]


@pytest.mark.parametrize(
    "act",
    [
        messages.retry,
        lambda ledger, ids: messages.drop(ledger, "x", ids),
    ],
)
def test_an_id_of_nothing_undelivered_changes_nothing(
    ledger: Ledger, act: Callable[[Ledger, list[int]], int]
) -> None:
    """One wrong id among right ones is named, and none of them is touched."""
    clock = ManualClock()
    write(ledger, clock, 2, state="rejected", reason="invalid")
    write(ledger, clock, 1, state="delivered")
    before = messages.messages(ledger)
    ids = [message.id for message in before]
    for wrong in (max(ids) + 1, 4711):
        with pytest.raises(NotFound, match=f"no message {wrong} waits"):
            act(ledger, [*ids, wrong])
    assert messages.messages(ledger) == before


def test_a_drop_whose_entry_cannot_be_written_drops_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and entry are one transaction."""
    write(ledger, ManualClock(), 2)

    def full(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(chain, "append", full)
    with pytest.raises(OSError, match=r"^$"):
        messages.drop(ledger, "x")
    assert len(messages.messages(ledger)) == 2


def test_a_list_is_of_what_was_asked_for(ledger: Ledger) -> None:
    """By destination, only what was set aside, no more than so many."""
    clock = ManualClock()
    write(ledger, clock, 2)
    write(ledger, clock, 2, state="rejected", reason="too_large", attempts=1)
    write(ledger, clock, 1, destination="other", state="rejected", reason="invalid")
    assert len(messages.messages(ledger)) == 5
    assert len(messages.messages(ledger, limit=3)) == 3
    assert [message.reason for message in messages.messages(ledger, set_aside=True)] == [
        "too_large",
        "too_large",
        "invalid",
    ]
    assert len(messages.messages(ledger, destination="ops", set_aside=True)) == 2


class Taking:
    """A destination that takes everything."""

    batch, timeout = 4, 2.0

    def __init__(self) -> None:
        self.taken: list[str] = []

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """See Sender."""
        self.taken += [row.key for row in batch]
        return [Delivered()] * len(batch)

    def close(self) -> None:
        """See Sender."""


@on_postgresql
def test_a_read_only_window_ends_no_lane(database: Database) -> None:
    """While the server refuses writes (as in a fail-over) alerts wait; afterwards they arrive."""
    clock, sender, observer = SystemClock(), Taking(), FakeObserver()
    window = threading.Event()
    refused = threading.Event()

    def close_for_writing(connection: sa.Connection) -> None:
        if window.is_set():
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            refused.set()

    with database.opened() as ledger:
        sa.event.listen(ledger.engine, "begin", close_for_writing)
        window.set()
        outbox = LedgerOutbox(ledger)
        dispatcher = Dispatcher(outbox, {"ops": sender}, clock, observer, max_backoff=0.1)
        dispatcher.start()
        window.clear()
        write(ledger, ManualClock(clock.now()), 12)
        window.set()
        refused.clear()
        dispatcher.wake()
        eventually(refused.is_set, "a refused write")
        window.clear()
        eventually(
            lambda: set(sender.taken) == {f"key-{number:05}" for number in range(12)}, "the deliveries"
        )
        eventually(lambda: dispatcher.running, "lanes that run")
        assert dispatcher.stop(Deadline(clock, PATIENCE)) == ()
        assert outbox.backlog() == ({}, {})
