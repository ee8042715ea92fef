"""Agent monitor: how a run compares with the agent's others, and with the rest of its conversation.

Keeps the latest runs of each app and agent, and the running conversations. A run is unusual in what it used
if that is over three times the median of the agent's latest runs and over five of their deviations (1.4826
times the median absolute deviation, on logarithms), so one long run among many changes nothing. Pure and
deterministic; bounded, the least recently used is forgotten first. Snapshots hold numbers and identifiers;
the words of the last request, which the next one is compared with, are in memory only.
"""

import bisect
import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from monitor.agents.calls import ALIKE
from monitor.agents.evidence import noisy_or
from monitor.agents.policy import AgentOptions, Budgets, read_options
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status
from monitor.text import segments
from monitor.text.words import stem
from monitor.trace import Trace

USED = Budgets.__struct_fields__
"""The measures compared: steps, tokens, cost, seconds."""
LEAST_FACTOR = 3.0  # over the median: a smaller factor is not unusual, however regular the agent
DEVIATIONS = 5.0
FAILED_TURNS = 3  # in a row
SAME_REQUESTS = 3  # in a row
_LEAST_WORDS = 4  # different ones; a shorter request ("yes, please") may well come again
_FAILING = frozenset(
    {"repeated_call", "call_cycle", "failing_tool", "ignored_error", "unsupported_action", "abandoned"}
)
_FAILED = 0.5
_FORMAT = 1


class _Key(NamedTuple):
    """An app, and one of its agents or conversations."""

    app: str
    name: str


class _Past:
    """The latest values of one measure, in order of arrival and of size."""

    def __init__(self, size: int, values: Sequence[float] = ()) -> None:
        self.size = size
        self.latest = array("f", values)
        self.ranked = sorted(self.latest)

    def add(self, value: float) -> None:
        if len(self.latest) >= self.size:
            oldest = self.latest.pop(0)
            del self.ranked[bisect.bisect_left(self.ranked, oldest)]
        self.latest.append(value)
        bisect.insort(self.ranked, self.latest[-1])

    def median(self) -> float:
        return self.ranked[len(self.ranked) // 2]

    def line(self) -> float:
        """Return the value over which another would be unusual."""
        middle = math.log1p(self.median())
        deviations = sorted(abs(math.log1p(value) - middle) for value in self.ranked)
        spread = DEVIATIONS * 1.4826 * deviations[len(deviations) // 2]
        return math.expm1(middle + max(math.log(LEAST_FACTOR), spread))


class _InARow(NamedTuple):
    """Turns in a row that failed and that repeat a request, and the words of the last one."""

    failed: int = 0
    repeats: int = 0
    words: frozenset[str] = frozenset()


class _Conversation(msgspec.Struct):
    """Running totals of a conversation. `before` is what preceded its last turn, which may be revised."""

    last: float = 0.0
    turns: int = 0
    row: _InARow = _InARow()
    used: dict[str, float] = {}
    turn: tuple[str, str] = ("", "")
    before: _InARow = _InARow()


class _Saved(msgspec.Struct, frozen=True):
    """An entry as snapshots hold it; `tick` orders them by last use."""

    format: int
    tick: int
    app: str
    name: str


class _SavedAgent(_Saved, frozen=True):
    used: dict[str, bytes]


class _SavedConversation(_Saved, frozen=True):
    last: float
    turns: int
    failed: int
    repeats: int
    used: dict[str, float]


_Kept = TypeVar("_Kept")


class _Slots(Generic[_Kept]):
    """A bounded map that forgets the least recently used; each entry has a slot, which is reused."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: OrderedDict[_Key, tuple[int, int, _Kept]] = OrderedDict()

    def find(self, key: _Key) -> _Kept | None:
        entry = self.entries.get(key)
        return entry and entry[2]

    def put(self, key: _Key, tick: int, value: _Kept) -> int:
        """Keep a value as the latest used; return its slot."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            slot = entry[0]
        elif len(self.entries) < self.size:
            slot = len(self.entries)
        else:
            slot = self.entries.popitem(last=False)[1][0]
        self.entries[key] = (slot, tick, value)
        return slot

    def by_slot(self) -> dict[int, tuple[_Key, int, _Kept]]:
        return {slot: (key, tick, value) for key, (slot, tick, value) in self.entries.items()}


class AgentMonitor:
    """Keeps the usage of agents and conversations. Used from one thread. Options: `policy.Options`."""

    def __init__(self, **options: Any) -> None:
        self._options: AgentOptions = read_options(options)
        self._clear()

    def _clear(self) -> None:
        self._agents: _Slots[dict[str, _Past]] = _Slots(self._options.max_agents)
        self._conversations: _Slots[_Conversation] = _Slots(self._options.max_conversations)
        self._dirty: set[tuple[str, int]] = set()
        self._tick = 0

    def update(self, trace: Trace, assessment: Assessment) -> Assessment:
        """Take a judged run in and return its assessment with what only its past shows.

        Adds evidence `unusual_<measure>` once the agent has `warm_up` runs, `repeated_request`,
        `failing_conversation` and `conversation_over_budget`; and `values`: `history` (runs of the agent
        before this one), `turns` (of the conversation so far, this one included). One that is not scored is
        returned as it is, and counts for nothing. A revision counts for nothing either: its run has. It only
        takes the place of the turn that it revises, if that was the last one.
        """
        if assessment.status is not Status.SCORED:
            return assessment
        self._tick += 1
        values: dict[str, float] = {}
        evidence = [*self._unusual(trace, assessment, values)]
        if trace.conversation:
            evidence += self._turn(trace, assessment, values)
        if evidence:
            evidence = [*assessment.evidence, *evidence]
            assessment = msgspec.structs.replace(
                assessment,
                evidence=tuple(sorted(evidence, key=lambda e: -e.score)),
                score=noisy_or(evidence),
            )
        return msgspec.structs.replace(assessment, values={**assessment.values, **values})

    def _unusual(self, trace: Trace, assessment: Assessment, values: dict[str, float]) -> Iterator[Evidence]:
        key = _Key(trace.app, trace.agent)
        past = self._agents.find(key) or {}
        values["history"] = float(len(past["steps"].latest)) if "steps" in past else 0.0
        for name in USED:
            used = assessment.values.get(name)
            if used is None:
                continue
            measure = past.setdefault(name, _Past(self._options.history))
            enough = len(measure.latest) >= self._options.warm_up
            if enough and used > LEAST_FACTOR * measure.median() and used > (line := measure.line()):
                last = max(0, len(trace.steps) - 1)
                yield Evidence(f"steps.{last}", 0, 0, f"unusual_{name}", 1.0 - line / (2.0 * used))
            if not trace.revision:
                measure.add(used)
        if not trace.revision:
            self._dirty.add(("agent", self._agents.put(key, self._tick, past)))

    def _turn(self, trace: Trace, assessment: Assessment, values: dict[str, float]) -> Iterator[Evidence]:
        key, turn = _Key(trace.app, trace.conversation), (trace.trace_id, trace.span_id)
        talk = self._conversations.find(key)
        if trace.revision and (talk is None or talk.turn != turn):
            return
        if talk is None or (trace.time - talk.last > self._options.window_seconds and not trace.revision):
            talk = _Conversation()
        talk.last = max(talk.last, trace.time)
        if not trace.revision:
            talk.turns += 1
            talk.turn, talk.before = turn, talk.row
            talk.used = {
                name: talk.used.get(name, 0.0) + assessment.values.get(name, 0.0)
                for name in USED
                if name in assessment.values or name in talk.used
            }
        bad = any(e.kind in _FAILING and e.score >= _FAILED for e in assessment.evidence)
        _, repeats, words = talk.before
        asks = _words(trace.question())
        if len(asks) >= _LEAST_WORDS:
            repeats, words = (repeats + 1 if _same_request(asks, words) else 0), asks
        talk.row = _InARow(talk.before.failed + 1 if bad else 0, repeats, words)
        self._dirty.add(("conversation", self._conversations.put(key, self._tick, talk)))
        values["turns"] = float(talk.turns)
        whole = len(trace.response)
        if repeats >= SAME_REQUESTS - 1 and (asked := _last_request(trace)):
            yield Evidence(*asked, "repeated_request", 1.0 - 0.5**repeats)
        if talk.row.failed >= FAILED_TURNS:
            yield Evidence("response", 0, whole, "failing_conversation", 1.0 - 0.5 ** (talk.row.failed - 1))
        for name in USED:
            most, used = getattr(self._options.conversation, name), talk.used.get(name)
            if most is not None and used is not None and used > most:
                score = 1.0 - most / (2.0 * used)
                yield Evidence("response", 0, whole, "conversation_over_budget", score)

    def snapshot(self) -> dict[str, bytes]:
        """Return what changed since the last call, by kind and slot; a later value replaces an earlier."""
        agents, conversations = self._agents.by_slot(), self._conversations.by_slot()
        changed: dict[str, bytes] = {}
        for kind, slot in sorted(self._dirty):
            if kind == "agent":
                key, tick, past = agents[slot]
                used = {name: measure.latest.tobytes() for name, measure in past.items()}
                saved: _Saved = _SavedAgent(_FORMAT, tick, *key, used)
            else:
                key, tick, conversation = conversations[slot]
                saved = _SavedConversation(
                    _FORMAT,
                    tick,
                    *key,
                    conversation.last,
                    conversation.turns,
                    conversation.row.failed,
                    conversation.row.repeats,
                    conversation.used,
                )
            changed[f"{kind}/{slot}"] = msgspec.msgpack.encode(saved)
        self._dirty.clear()
        return changed

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Replace all state by the merged content of successive snapshots; the words of requests start empty.

        Entries beyond a bound that was lowered are dropped, the least recently used first. Raises ConfigError
        for what this version cannot read.
        """
        self._clear()
        agents = [_decoded(name, raw, _SavedAgent) for name, raw in snapshot.items() if _is_agent(name)]
        talks = [
            _decoded(name, raw, _SavedConversation) for name, raw in snapshot.items() if not _is_agent(name)
        ]
        for agent in sorted(agents, key=lambda saved: saved.tick):
            past = {name: self._past(raw) for name, raw in agent.used.items()}
            self._agents.put(_Key(agent.app, agent.name), agent.tick, past)
            self._tick = max(self._tick, agent.tick)
        for talk in sorted(talks, key=lambda saved: saved.tick):
            conversation = _Conversation(talk.last, talk.turns, _InARow(talk.failed, talk.repeats), talk.used)
            self._conversations.put(_Key(talk.app, talk.name), talk.tick, conversation)
            self._tick = max(self._tick, talk.tick)
        # Slots may now differ from those they were saved in, so all are written again.
        self._dirty = {("agent", slot) for slot in self._agents.by_slot()}
        self._dirty |= {("conversation", slot) for slot in self._conversations.by_slot()}

    def _past(self, raw: bytes) -> _Past:
        values = array("f")
        values.frombytes(raw[: len(raw) // values.itemsize * values.itemsize])
        return _Past(self._options.history, values[-self._options.history :])


_State = TypeVar("_State", bound=_Saved)


def _is_agent(name: str) -> bool:
    return name.startswith("agent/")


def _decoded(name: str, raw: bytes, kind: type[_State]) -> _State:
    try:
        saved = msgspec.msgpack.decode(raw, type=kind)
        if saved.format != _FORMAT:
            raise ValueError("format")  # noqa: TRY301 - one message for all that cannot be read
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(
            f"agent snapshot {name}: cannot be read ({type(error).__name__}); delete the agent"
            " snapshots to begin with a new history"
        ) from error
    return saved


def _words(request: str) -> frozenset[str]:
    """Return the words of a request, by their stems, and its numbers."""
    return frozenset(stem(token.word) for token in segments.tokens(request))


def _same_request(left: frozenset[str], right: frozenset[str]) -> bool:
    numbers = {word for word in left ^ right if word[:1].isdigit()}
    return not numbers and len(left & right) >= ALIKE * len(left | right)


def _last_request(trace: Trace) -> tuple[str, int, int] | None:
    users = [n for n, message in enumerate(trace.messages) if message.role == "user"]
    return (f"messages.{users[-1]}", 0, len(trace.messages[users[-1]].content)) if users else None
