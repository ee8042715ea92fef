"""Tables and columns as the released migrations made them, each under the number of its migration.

Never changed once released. A migration that read the present tables of `monitor.ledger.schema` would do
something else to an old ledger, or to a new one, as soon as a later migration changes them.
"""

from typing import Any, Final

import sqlalchemy as sa

FIRST: Final = sa.MetaData()


def _text(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **options)


def _integer(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, **options)


def _big(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, **options)


def _double(name: str, **options: Any) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False, **options)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


HEAD_1: Final = sa.Table("head", FIRST, _integer("id", primary_key=True), _big("seq"), _bytes("hash"))
CHAIN_1: Final = sa.Table(
    "chain",
    FIRST,
    _big("seq", primary_key=True, autoincrement=False),
    _text("time"),
    _text("kind"),
    _text("body"),
    _bytes("hash"),
)
POSITIONS_1: Final = sa.Table(
    "positions",
    FIRST,
    _text("topic", primary_key=True),
    _integer("partition", primary_key=True),
    _big("next_offset"),
    _bytes("beyond"),
    _big("epoch"),
    _big("version"),
    _text("owner"),
    _double("updated"),
)
FLAGS_1: Final = sa.Table(
    "flags",
    FIRST,
    _text("id", primary_key=True),
    _big("seq"),
    _text("topic"),
    _integer("partition"),
    _big("offset"),
    _integer("part"),
    _text("trace_id", index=True),
    _double("time", index=True),
    _text("app"),
    _text("environment"),
    _text("model"),
    _text("rule", index=True),
    _text("severity"),
    _text("body"),
)
FEEDBACK_1: Final = sa.Table(
    "feedback", FIRST, _text("id", primary_key=True), _double("created", index=True), _text("body")
)
OUTBOX_1: Final = sa.Table(
    "outbox",
    FIRST,
    _integer("id", primary_key=True, autoincrement=True),
    _text("destination"),
    _text("key"),
    _text("body"),
    _double("created"),
    _integer("attempts"),
    _double("due"),
    _text("state"),
    _text("reason"),
    sa.UniqueConstraint("destination", "key"),
    sa.Index("outbox_due", "destination", "state", "due"),
)
DEAD_LETTERS_1: Final = sa.Table(
    "dead_letters",
    FIRST,
    _integer("id", primary_key=True, autoincrement=True),
    _text("topic"),
    _integer("partition"),
    _big("offset"),
    _double("time"),
    _double("created"),
    _text("reason"),
    _text("detail"),
    _bytes("sealed"),
    sa.Column("requeued", sa.Double),
    sa.UniqueConstraint("topic", "partition", "offset"),
)
ASSESSMENTS_1: Final = sa.Table(
    "assessments",
    FIRST,
    _text("topic", primary_key=True),
    _integer("partition", primary_key=True),
    _big("offset", primary_key=True),
    _integer("part", primary_key=True),
    _text("trace_id", index=True),
    _double("time"),
    _text("why"),
    _text("body"),
)
SNAPSHOTS_1: Final = sa.Table(
    "snapshots",
    FIRST,
    _text("owner", primary_key=True),
    _text("name", primary_key=True),
    _bytes("body"),
    _double("updated"),
)

SPOOL_3: Final = sa.Table(
    "spool",
    sa.MetaData(),
    _text("topic", primary_key=True),
    _big("offset", primary_key=True, autoincrement=False),
    _double("time"),
    _text("content_type"),
    _big("size"),
    _big("through"),
    _bytes("sealed"),
)

ADDED_4: Final = (
    sa.Table(
        "positions",
        sa.MetaData(),
        _text("topic_id", server_default=""),
        _integer("incarnation", server_default="0"),
        _big("leader_epoch", server_default="-1"),
        sa.Column("witness_offset", sa.BigInteger),
        sa.Column("witness_time", sa.Double),
        _big("moved", server_default="0"),
    ),
    sa.Table("flags", sa.MetaData(), _integer("incarnation", server_default="0")),
)
"""Columns that are added to tables."""
DEAD_LETTERS_4: Final = sa.Table(
    "dead_letters",
    sa.MetaData(),
    _integer("id", primary_key=True, autoincrement=True),
    _text("topic"),
    _integer("partition"),
    _big("offset"),
    _double("time"),
    _double("created"),
    _text("reason"),
    _text("detail"),
    _bytes("sealed"),
    sa.Column("requeued", sa.Double),
    _integer("incarnation", server_default="0"),
    sa.UniqueConstraint("topic", "partition", "offset", "incarnation"),
)
ASSESSMENTS_4: Final = sa.Table(
    "assessments",
    sa.MetaData(),
    _text("topic", primary_key=True),
    _integer("partition", primary_key=True),
    _big("offset", primary_key=True),
    _integer("part", primary_key=True),
    _text("trace_id", index=True),
    _double("time"),
    _text("why"),
    _text("body"),
    _integer("incarnation", primary_key=True, autoincrement=False, server_default="0"),
)

ADDED_5: Final = sa.Table(
    "flags",
    sa.MetaData(),
    _text("provider", server_default=""),
    _text("model_version", server_default=""),
    _text("prompt_name", server_default=""),
    _text("prompt_version", server_default=""),
    _text("detectors", server_default=""),
)
"""Columns that are added to flags."""

ATTEMPTS_6: Final = sa.Table(
    "attempts",
    sa.MetaData(),
    _text("topic", primary_key=True),
    _integer("partition", primary_key=True, autoincrement=False),
    _text("run"),
    _big("version"),
    _integer("deaths"),
    sa.Column("alone", sa.BigInteger),
    _integer("alone_deaths"),
)
