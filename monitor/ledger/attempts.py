"""Attempts at a partition: how many daemons in a row died with the same records in hand.

A daemon that leaves a partition alive gives it back. One that does not, and has recorded nothing of it since
its claim, has died with the next records of the partition in hand, as far as anyone can tell.
"""

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from monitor.events import TopicPartition
from monitor.ledger import schema as t
from monitor.progress import SUSPECT, Attempt

_OF_OTHERS: Final = 2
"""Deaths of other daemons with one record alone in hand that condemn it: one of them may only be late."""


def begin(
    connection: sa.Connection, name: TopicPartition, run: str, position: Any, *, owner: str, anew: bool
) -> Attempt:
    """Note that the process `run` of a daemon begins at a partition; return what is known of those before.

    `position` is the partition's row before the claim, None for a new one. `anew`: the log is another one,
    so nothing is known of its records.
    """
    before = connection.execute(sa.select(t.attempts).where(_is(name))).one_or_none()
    version = 0 if position is None else position.version
    columns: dict[str, Any] = {"run": run, "version": version, "deaths": 0, "alone": None, "alone_deaths": 0}
    if before is None:
        place = {"topic": name[0], "partition": name[1]}
        connection.execute(t.attempts.insert().values(**place, **columns))
        return Attempt()
    died = before.run not in {"", run}
    if anew:
        pass
    elif before.version != version:  # something was recorded since: other records were in hand
        # With care taken they were few: they are to be judged alone, although some others were recorded.
        columns["deaths"] = died * (1 if before.deaths < SUSPECT else before.deaths + 1)
    else:
        columns["deaths"] = before.deaths + died
        columns["alone"] = before.alone
        columns["alone_deaths"] = before.alone_deaths + (died and before.alone is not None)
    connection.execute(t.attempts.update().where(_is(name)).values(**columns))
    enough = 1 if position is not None and position.owner == owner else _OF_OTHERS
    return Attempt(columns["deaths"], columns["alone"] if columns["alone_deaths"] >= enough else None)


def alone(connection: sa.Connection, name: TopicPartition, run: str, version: int, offset: int) -> None:
    """Note that a record is in hand alone, before anything is done with it."""
    c = t.attempts.c
    again = sa.case((c.alone == offset, c.alone_deaths), else_=0)
    values = {"version": version, "alone": offset, "alone_deaths": again}
    connection.execute(t.attempts.update().where(_is(name), c.run == run).values(**values))


def calm(connection: sa.Connection, name: TopicPartition, run: str) -> None:
    """Note that as many records were taken with care as may have been in hand at a death, and none killed."""
    ours = t.attempts.update().where(_is(name), t.attempts.c.run == run)
    connection.execute(ours.values(deaths=0, alone=None, alone_deaths=0))


def give_back(connection: sa.Connection, names: Iterable[TopicPartition], run: str) -> None:
    """Note that the process `run` leaves partitions alive."""
    for name in names:
        ours = t.attempts.update().where(_is(name), t.attempts.c.run == run)
        connection.execute(ours.values(run=""))


def forget(connection: sa.Connection, name: TopicPartition) -> None:
    """Forget a partition whose position an operator moves."""
    connection.execute(t.attempts.delete().where(_is(name)))


def _is(name: TopicPartition) -> sa.ColumnElement[bool]:
    return sa.and_(t.attempts.c.topic == name[0], t.attempts.c.partition == name[1])
