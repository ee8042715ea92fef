"""Settings and totals of the loop."""

import dataclasses
from collections import Counter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Bounds and choices of the loop. `max_waiting_*` bound the traces decoded and not yet recorded.

    With `load_shedding`, higher tiers see less while traces queue up; an input that can wait, such as a
    file, does not need it. `apps` are applications that queue apart from all others, however many these are.
    """

    owner: str
    latest: bool = False
    max_poll_records: int = 1000
    max_waiting_traces: int = 4000
    max_waiting_bytes: int = 64 * 2**20
    drain_seconds: float = 20.0
    excerpt_chars: int = 2000
    rules_seconds: float = 5.0
    load_shedding: bool = True
    apps: frozenset[str] = frozenset()


@dataclasses.dataclass
class Totals:
    """Totals of this engine. Always: consumed = recorded + dead_lettered + released + those on the way.

    `released` records were handed back unjudged (their partition was revoked, or the time to drain ran out).
    """

    consumed: int = 0
    recorded: int = 0
    dead_lettered: int = 0
    released: int = 0
    traces: int = 0
    flags: Counter[str] = dataclasses.field(default_factory=Counter)
