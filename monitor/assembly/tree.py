"""The spans of a trace as a tree: linear in their number, whatever parents and cycles they name."""

from collections.abc import Iterable, Mapping
from typing import Final

from monitor.trace import Span

_NOBODY: Final = ("", "")


class Tree:
    """Spans by id, parents before children. A span whose parent did not arrive hangs from the root, if any.

    `order` lists all ids; `above` maps an id to that of its parent among the spans, without cycles, and
    `holder` does so with the root in place of a parent that is unknown.
    """

    def __init__(self, spans: Mapping[str, Span]) -> None:
        self.spans = spans
        self.above: dict[str, str] = {}
        tops: list[str] = []
        roots, ordered = [], True
        for span_id, span in spans.items():
            parent = span.parent_id
            if parent in spans and parent != span_id:
                # A parent starts first, as a rule, so the order of start is that of the tree.
                ordered = ordered and (parent in self.above or [parent] == tops)
                self.above[span_id] = parent
            else:
                tops.append(span_id)
                if not parent and not span.partial:
                    roots.append(span_id)
        self.root = roots[0] if len(roots) == 1 else ""
        self._place: dict[str, int] = {}
        self._end: dict[str, int] = {}
        if ordered and len(tops) == 1:
            self.order = list(spans)
        else:
            self.order = self._walked()

    def holder(self, span_id: str) -> str:
        """Return the id of the parent, of the root where the parent did not arrive, or an empty string."""
        return self.above.get(span_id) or (self.root if span_id != self.root else "")

    def extent(self, span_id: str) -> tuple[int, int]:
        """Return a span's place in an order in which those under it come next, and the end of these."""
        if not self._place:
            order = self._walked()
            self._place = {each: place for place, each in enumerate(order)}
            self._end = {each: place + 1 for place, each in enumerate(order)}
            for each in reversed(order):
                if above := self.above.get(each):
                    self._end[above] = max(self._end[above], self._end[each])
        return self._place[span_id], self._end[span_id]

    def nearest(self, wanted: Iterable[str]) -> dict[str, str]:
        """Return for each id the nearest of the wanted ones from the span itself upwards; empty for none."""
        chosen = set(wanted)
        found: dict[str, str] = {}
        for span_id in self.order:
            found[span_id] = span_id if span_id in chosen else found.get(self.above.get(span_id, ""), "")
        return found

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return for each id conversation and user: its own, else those of the nearest span above it.

        Without any there, those of the root, else those on which all spans agree that name one. Empty where
        no span names any.
        """
        spans = self.spans
        conversations = {span.conversation for span in spans.values()} - {""}
        users = {span.user for span in spans.values()} - {""}
        if not conversations and not users:
            return {}
        # What only one names is everybody's.
        (conversation,) = conversations if len(conversations) == 1 else [""]
        (user,) = users if len(users) == 1 else [""]
        if len(conversations) <= 1 and len(users) <= 1:
            return dict.fromkeys(spans, (conversation, user))
        found: dict[str, tuple[str, str]] = {}
        for span_id in self.order:
            span = spans[span_id]
            above = found.get(self.holder(span_id), _NOBODY)
            found[span_id] = (span.conversation or above[0], span.user or above[1])
        return {span_id: (c or conversation, u or user) for span_id, (c, u) in found.items()}

    def _walked(self) -> list[str]:
        """Return all ids, the root first, each before those under it and these before the ones next to it.

        A cycle of parents is cut where it is entered.
        """
        below: dict[str, list[str]] = {}
        for span_id, above in self.above.items():
            below.setdefault(above, []).append(span_id)
        tops = [self.root] if self.root else []
        tops += [span_id for span_id in self.spans if span_id not in self.above and span_id != self.root]
        order: list[str] = []
        seen: set[str] = set()
        for top in (*tops, *self.spans):
            if top in seen:
                continue
            self.above.pop(top, None)
            stack = [top]
            while stack:
                span_id = stack.pop()
                if span_id not in seen:
                    seen.add(span_id)
                    order.append(span_id)
                    stack += reversed(below.get(span_id, ()))
        return order
