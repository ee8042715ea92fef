"""A trace that waits for its spans: when it counts as complete."""

from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from monitor.ports import Completion
from monitor.trace import Span, StepKind

# Members of an enumeration are looked up slowly (Python 3.11).
_CHAT, _OTHER, _BY_LATE, _BY_ROOT, _BY_TIMEOUT = (
    StepKind.CHAT,
    StepKind.OTHER,
    Completion.LATE,
    Completion.ROOT,
    Completion.TIMEOUT,
)

Key = TypeVar("Key")


class Bounds(NamedTuple):
    """Limits that complete a trace, and bounds on waiting spans: see the module's docstring.

    A trace is complete `max_seconds` after its first span, even if more spans follow, and after `max_spans`
    spans, whose followers are a piece of their own. `skew_seconds` is by how much a source may begin after
    the call that used it. A call is given `max_sources` documents and results of tools at most, of
    `max_source_chars` characters together.
    """

    complete_seconds: float = 1.0
    settle_seconds: float = 6.0
    timeout_seconds: float = 30.0
    max_seconds: float = 600.0
    max_traces: int = 10_000
    max_bytes: int = 64 * 2**20
    max_spans: int = 5_000
    skew_seconds: float = 0.1
    max_sources: int = 128
    max_source_chars: int = 256 * 2**10


DEFAULT_BOUNDS: Final = Bounds()


@dataclass(slots=True)
class WaitingTrace(Generic[Key]):
    """The spans of a trace that have arrived, and when it counts as complete.

    `until` bounds the wait for what is known to be missing once nothing else is waited for. `follows`: it is
    a further piece of a trace of too many spans.
    """

    first: float
    due: float
    until: float
    completion: Completion
    rooted: bool = False
    called: bool = False  # a call of a model has arrived
    relevant: bool = False  # a span about a language model has arrived
    follows: bool = False
    pieces: list[tuple[Key, Span]] = field(default_factory=list)
    size: int = 0

    def add(self, key: Key, span: Span, now: float, bounds: Bounds) -> None:
        """Take a span; recompute when the trace is complete."""
        self.rooted |= not (span.parent_id or span.partial)
        self.called |= span.step.kind is _CHAT
        self.relevant |= span.step.kind is not _OTHER
        self.pieces.append((key, span))
        self.size += span.size
        # Late spans keep their first due time: the trace was judged without them, so no root ends the wait.
        if self.completion is _BY_LATE:
            pass
        # A root alone does not end the wait while a model call is still to come: exporters send in batches,
        # and a trace judged without its call has no answer.
        elif not self.rooted or (self.relevant and not self.called):
            # Every span shows that the trace is alive; `max_seconds` bounds one that never ends.
            self.completion = _BY_TIMEOUT
            self.due = self.until = min(now + bounds.timeout_seconds, self.first + bounds.max_seconds)
            return
        # A root ends last, so all spans have ended; only those on other partitions may still come. Spans
        # that arrive meanwhile do not extend the wait, or steady stragglers would postpone the judgement.
        elif self.completion is not _BY_ROOT:
            self.completion = _BY_ROOT
            self.due, self.until = soon(now, bounds), now + bounds.settle_seconds
            return
        if self.due == self.until:
            # This may be what the trace waits for.
            self.due = min(self.until, soon(now, bounds))


def follower(of: WaitingTrace[Key], now: float, bounds: Bounds) -> WaitingTrace[Key]:
    """Return where the further spans of a trace wait, of which the first ones are as many as may be."""
    due = now + bounds.timeout_seconds
    return WaitingTrace(now, due, due, _BY_TIMEOUT, of.rooted, of.called, of.relevant, follows=True)


def soon(now: float, bounds: Bounds) -> float:
    """Return when a trace of which nothing is known to be missing is complete."""
    return now + min(bounds.complete_seconds, bounds.settle_seconds)
