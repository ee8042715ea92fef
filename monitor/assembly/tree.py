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
        below: dict[str, list[str]] = {}
        tops = []
        for span_id, span in spans.items():
            if span.parent_id in spans and span.parent_id != span_id:
                self.above[span_id] = span.parent_id
                below.setdefault(span.parent_id, []).append(span_id)
            else:
                tops.append(span_id)
        roots = [span_id for span_id in tops if not spans[span_id].parent_id and not spans[span_id].partial]
        self.root = roots[0] if len(roots) == 1 else ""
        tops.sort(key=lambda span_id: span_id != self.root)
        self.order: list[str] = []
        self._place: dict[str, int] = {}
        self._end: dict[str, int] = {}
        self._walk(tops, below)
        if len(self.order) < len(spans):
            # Only cycles are left: each is cut where it is entered.
            for span_id in spans:
                if span_id not in self._place:
                    self.above.pop(span_id, None)
                    self._walk([span_id], below)

    def holder(self, span_id: str) -> str:
        """Return the id of the parent, of the root where the parent did not arrive, or an empty string."""
        return self.above.get(span_id) or (self.root if span_id != self.root else "")

    def within(self, span_id: str, outer: str) -> bool:
        """Return whether a span ran under another one."""
        return self._place[outer] < self._place[span_id] < self._end[outer]

    def nearest(self, wanted: Iterable[str]) -> dict[str, str]:
        """Return for each id the nearest of the wanted ones from the span itself upwards; empty for none."""
        chosen = set(wanted)
        found: dict[str, str] = {}
        for span_id in self.order:
            found[span_id] = span_id if span_id in chosen else found.get(self.above.get(span_id, ""), "")
        return found

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return for each id conversation and user: its own, else those of the nearest span above it.

        Without any there, those of the root, else those on which all spans agree that name one.
        """
        spans = self.spans
        said = [{span.conversation for span in spans.values()}, {span.user for span in spans.values()}]
        common = [next(iter(values - {""}), "") if len(values - {""}) == 1 else "" for values in said]
        found: dict[str, tuple[str, str]] = {}
        for span_id in self.order:
            span = spans[span_id]
            conversation, user = found.get(self.holder(span_id), _NOBODY)
            found[span_id] = (span.conversation or conversation, span.user or user)
        return {span_id: (c or common[0], u or common[1]) for span_id, (c, u) in found.items()}

    def _walk(self, tops: Iterable[str], below: Mapping[str, list[str]]) -> None:
        """Number spans in depth, each before those under it and next to them."""
        for top in tops:
            stack = [(top, False)]
            while stack:
                span_id, left = stack.pop()
                if left:
                    self._end[span_id] = len(self.order)
                    continue
                if span_id in self._place:
                    continue
                self._place[span_id] = len(self.order)
                self.order.append(span_id)
                stack.append((span_id, True))
                stack += [(each, False) for each in reversed(below.get(span_id, ()))]
