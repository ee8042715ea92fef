"""Memory of judged exchanges: recognises late and repeated spans."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

REMEMBERED: Final = 65_536  # exchanges: five minutes of 200 a second
BUCKET: Final = 256  # of them in one snapshot entry, which a transaction writes again
PREFIX: Final = "assembly."


class ExchangeId(NamedTuple):
    """The span that an exchange was made of, and how often it had been judged before."""

    trace_id: str
    span_id: str
    revision: int = 0


class JudgedExchange(NamedTuple):
    """A span that tells of a judged exchange. `blind` is `sides.blindness` of what was judged.

    `judged_as` is the span id of the exchange, where it is another span's; empty too where nothing is left to
    be revised.
    """

    trace_id: str
    span_id: str
    revision: int = 0
    blind: int = 0
    judged_as: str = ""

    def stored(self) -> tuple[str | int, ...]:
        """Return what a snapshot holds: of most exchanges only the ids, as in the first release of it."""
        if self.judged_as:
            return self
        return self[:4] if self.revision or self.blind else self[:2]


class Memory:
    """The latest judged exchanges, in buckets that are stored as a whole when one is added.

    Numbers only grow, and a bucket is stored under its place in a ring, so a new one overwrites the oldest:
    the snapshot stays bounded, and nothing has to be deleted from it.
    """

    def __init__(self) -> None:
        self._latest: deque[JudgedExchange] = deque()
        self._spans: dict[str, dict[str, JudgedExchange]] = {}
        self._end = 0  # number of the next one

    def spans(self, trace_id: str) -> Mapping[str, JudgedExchange]:
        """Return the judged exchanges of a trace by span id, each as it was judged last."""
        return self._spans.get(trace_id, {})

    def add(self, judged: Iterable[JudgedExchange]) -> None:
        """Remember exchanges, and forget the oldest ones beyond `REMEMBERED`."""
        for each in judged:
            self._latest.append(each)
            self._end += 1
            spans = self._spans.setdefault(each.trace_id, {})
            known = spans.get(each.span_id)
            # Batches of detectors finish in any order, so a revision may be recorded before its original.
            if known is None or each.revision >= known.revision:
                spans[each.span_id] = each
        while len(self._latest) > REMEMBERED:
            oldest = self._latest.popleft()
            spans = self._spans.get(oldest.trace_id, {})
            if spans.get(oldest.span_id) is oldest:
                del spans[oldest.span_id]
            if not spans:
                self._spans.pop(oldest.trace_id, None)

    def snapshot(self, judged: Sequence[JudgedExchange]) -> dict[str, bytes]:
        """Return the buckets that change when these exchanges are added; changes nothing itself."""
        begin = self._end - self._end % BUCKET  # of the bucket that is being filled
        in_bucket = self._end - begin
        # Its entries so far are the last ones. All are there: only the oldest are forgotten, and far more
        # than a bucket is remembered.
        entries = [self._latest[i - in_bucket] for i in range(in_bucket)] + list(judged) if judged else []
        stored = {}
        for i in range(0, len(entries), BUCKET):
            first = begin + i
            name = f"{PREFIX}{first // BUCKET % (REMEMBERED // BUCKET)}"
            stored[name] = msgspec.msgpack.encode(
                (first, [each.stored() for each in entries[i : i + BUCKET]])
            )
        return stored

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue from stored buckets, in the order of their numbers."""
        stored = [
            msgspec.msgpack.decode(body, type=tuple[int, list[JudgedExchange]])
            for name, body in snapshots.items()
            if name.startswith(PREFIX)
        ]
        # A place of the ring that was not overwritten yet holds an older bucket: it comes before the newer
        # ones and is forgotten first. The newest, mostly unfinished, comes last: `snapshot` continues it.
        for first, entries in sorted(stored):
            self._end = first
            self.add(entries)
