"""The model's calls of a trace, each once, however many of its spans tell of it.

A framework, a client library and the provider's SDK may each record one call, in spans within spans. Such
spans are one call where one of them lacks the texts that another has, or where their answers are the same;
an agent's or workflow's own texts belong to a call below it that lacks them. Linear in the spans of a trace.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from monitor.assembly.sides import (
    answered,
    asked,
    begins_answer,
    begins_prompt,
    merged,
    same_answer,
    same_prompt,
    unread_on,
)
from monitor.assembly.tree import Tree
from monitor.trace import Side, Span, StepKind, Trace

# Members of an enumeration are looked up slowly (Python 3.11).
_CHAT, _TOOL, _HANDOFF, _PROMPT, _RESPONSE = (
    StepKind.CHAT,
    StepKind.TOOL,
    StepKind.HANDOFF,
    Side.PROMPT,
    Side.RESPONSE,
)

_COMPARED: Final = 64  # calls below a span that its answer is compared with, those that ended last
_COMPARISONS: Final = 16  # answers above a call that it is compared with, the nearest ones
_ACCOUNTS: Final = 64  # spans that may tell of one call
_FIELDS: Final = 32  # texts of an object that are looked for in a model's answer
_RUNS: Final = frozenset({StepKind.AGENT, StepKind.WORKFLOW})


@dataclass(slots=True, eq=False)
class ModelCall:
    """One call of a model: the outermost span of it, its texts, and all spans that tell of it.

    `end` is when the span ended that answered, Unix seconds.
    """

    span: Span
    trace: Trace
    end: float
    members: list[str] = field(default_factory=list)
    scope: str = ""  # id of the span below which everything that began before `end` is a source
    _object: tuple[str, bytes | None] = ("", None)  # an answer, and the object it is in JSON

    def object_answered(self) -> bytes | None:
        """Return the answer where it is an object or a list in JSON, as all would write it, else None."""
        answer = self.trace.response
        if self._object[0] != answer:
            held = _decoded(answer)
            self._object = answer, None if held is None else msgspec.json.encode(held)
        return self._object[1]

    def takes(self, outer: Span, exchange: Trace, elsewhere: Iterable[str] = ()) -> None:
        """Become one with the span of the same call around it."""
        if not answered(self.trace) and answered(exchange):
            self.end = outer.end
        self.trace = merged(exchange, [self.trace, exchange], elsewhere=elsewhere)
        self.span, self.scope = outer, outer.span_id
        self.members.append(outer.span_id)

    def absorbs(self, other: "ModelCall") -> None:
        """Become one with another call that lacks an answer."""
        self.trace = merged(self.trace, [self.trace, other.trace])
        self.members += other.members


def _call(span: Span, exchange: Trace) -> ModelCall:
    return ModelCall(span, exchange, span.end, [span.span_id], span.span_id)


class _Open(NamedTuple):
    """A call below a span; `apart` where a tool ran between them, so that they are two calls.

    `compared` counts the answers above that it was compared with.
    """

    call: ModelCall
    apart: bool
    compared: int = 0


def calls_of(tree: Tree, *, piece: bool = False) -> tuple[list[ModelCall], set[str]]:
    """Return the calls of a trace, and the ids of chats that are no calls of their own.

    Without a chat among them there is no call: what stands in for it is the caller's to say. In a `piece` of
    a trace the answers of agents are calls all the same.
    """
    if len(tree.order) == 1:
        (span,) = tree.spans.values()
        alone = span.exchange if span.step.kind is _CHAT else None
        return ([_call(span, alone)] if alone is not None else []), set()
    calls: dict[str, ModelCall] = {}
    folded: set[str] = set()
    below: dict[str, list[_Open]] = {}
    # Children come first, so that each span meets the calls below it.
    for span_id in reversed(tree.order):
        span = tree.spans[span_id]
        kind, exchange = span.step.kind, span.exchange
        opened = below.pop(span_id, None) or []
        # Also where nothing is compared: what passes here may pass through a thousand spans above.
        if len(opened) > _COMPARED:
            opened = sorted(opened, key=lambda each: each.call.end)[-_COMPARED:]
        if exchange is not None and (kind is _CHAT or kind in _RUNS):
            if opened and answered(exchange):
                opened = [
                    _Open(call, apart, compared + 1)
                    for call, apart, compared in opened
                    if compared < _COMPARISONS and len(call.members) < _ACCOUNTS
                ]
            if kind is _CHAT:
                opened = _chat(span, exchange, opened, calls, folded)
            else:
                opened = _run(span, exchange, opened, calls)
        if opened and (above := tree.holder(span_id)):
            if kind is _TOOL or kind is _HANDOFF:
                opened = [each if each.apart else each._replace(apart=True) for each in opened]
            if above in below:
                below[above] += opened
            else:
                below[above] = opened
    return _without_copies(list(calls.values()), piece=piece), folded


def _without_copies(made: list[ModelCall], *, piece: bool) -> list[ModelCall]:
    """Leave out agents' answers that a model gave: without a model's call, all of them but for a piece."""
    own = [call for call in made if call.span.step.kind is not _CHAT]
    if own:
        given = {call.trace.response.strip() for call in made if call.span.step.kind is _CHAT}
        # Where a span between them did not arrive, an agent's answer may be that of a call elsewhere.
        all_copies = not given and not piece
        left_out = {call.span.span_id for call in own if all_copies or call.trace.response.strip() in given}
        made = [call for call in made if call.span.span_id not in left_out]
    return made


def _chat(
    span: Span, exchange: Trace, opened: list[_Open], calls: dict[str, ModelCall], folded: set[str]
) -> list[_Open]:
    """Join a chat with the calls below it that are the same call; return the open calls after it."""
    if not opened:
        alone = calls[span.span_id] = _call(span, exchange)
        return [_Open(alone, apart=False)]
    inner = [each.call for each in opened if not each.apart]
    hosts: list[ModelCall] = []
    if answered(exchange):
        twins = [each.call for each in opened if same_answer(each.call.trace, exchange)]
        vacant = [call for call in inner if not answered(call.trace)]
        # Attempts that failed come before the one that answered.
        best = max(twins or vacant, key=lambda call: (asked(call.trace), call.end), default=None)
        hosts = [best] if best else []
        for call in vacant:
            prompts = (exchange, *(host.trace for host in hosts[:1]))
            if call not in hosts and (
                not asked(call.trace) or any(same_prompt(call.trace, each) for each in prompts)
            ):
                hosts.append(call)
    elif len(inner) == 1:
        (only,) = inner
        one = answered(only.trace) or not asked(only.trace) or not asked(exchange)
        hosts = inner if one or same_prompt(only.trace, exchange) else []
    elif inner:
        # A wrapper without an answer of its own around several calls.
        first = min(inner, key=lambda call: (asked(call.trace), call.span.step.start))
        if asked(exchange) and not asked(first.trace):
            first.trace = merged(first.trace, [first.trace, _texts(first.trace, exchange)])
        first.members.append(span.span_id)
        folded.add(span.span_id)
        return opened
    if not hosts:
        call = calls[span.span_id] = _call(span, exchange)
        return [*opened, _Open(call, apart=False)]
    host, *others = hosts
    del calls[host.span.span_id]
    folded.update(host.members)
    for other in others:
        del calls[other.span.span_id]
        folded.update(other.members)
        host.absorbs(other)
    elsewhere = [each.call.trace.response for each in opened if each.call not in hosts]
    host.takes(span, exchange, elsewhere)
    folded.discard(span.span_id)
    calls[span.span_id] = host
    return [*(each for each in opened if each.call not in hosts), _Open(host, apart=False)]


def _run(span: Span, exchange: Trace, opened: list[_Open], calls: dict[str, ModelCall]) -> list[_Open]:
    """Give an agent's or workflow's texts to a call below that lacks them, or make them their own call."""
    below = [each.call for each in opened]
    _complete([call for call in below if call.trace.unread], exchange)
    if not answered(exchange):
        lacking = [call for call in below if _lacks(call.trace, _PROMPT)]
        if not lacking:
            # Of a call that failed, a framework may keep the prompt with the run alone.
            lacking = [call for call in below if call.trace.error and not asked(call.trace)]
        if lacking and asked(exchange):
            _fill(min(lacking, key=lambda call: call.span.step.start), exchange)
        return opened
    # An agent mostly passes on a model's answer, framed or shortened: that one is judged already.
    passed = [call for call in below if _passes(exchange, call.trace)] or _parsed(exchange, below)
    if passed:
        call = max(passed, key=lambda call: call.end)
        if asked(exchange) and _lacks(call.trace, _PROMPT):
            _fill(call, exchange)
        return opened
    vacant = [call for call in below if _vacant(call.trace)]
    if vacant:
        host = max(vacant, key=lambda call: (_lacks(call.trace, _RESPONSE), call.end))
        empty = [call for call in vacant if call is not host and not asked(call.trace)]
        for call in empty:
            del calls[call.span.span_id]
            host.members += call.members
        _fill(host, exchange)
        host.end, host.scope = span.end, span.span_id
        return [each for each in opened if each.call not in empty]
    if exchange.response.strip():
        own = calls[span.span_id] = _call(span, exchange)
        return [*opened, _Open(own, apart=False)]
    return opened


def _fill(call: ModelCall, exchange: Trace) -> None:
    """Complete a call from the texts of what it ran for, not from its counts."""
    call.trace = merged(call.trace, [call.trace, _texts(call.trace, exchange)])


def _complete(cut: Sequence[ModelCall], exchange: Trace) -> None:
    """Take the whole of each side of which a call's own span has only the beginning."""
    for call in cut:
        of = call.trace
        asks, answers = begins_prompt(of, exchange), begins_answer(of, exchange)
        if asks or answers:
            told = Trace(
                id=of.id,
                time=of.time,
                trace_id=of.trace_id,
                span_id=of.span_id,
                messages=exchange.messages if asks else (),
                response=exchange.response if answers else "",
                unread=tuple(
                    [
                        u
                        for u in of.unread
                        if not (asks if u.side is _PROMPT else answers and u.side is _RESPONSE)
                    ]
                ),
            )
            call.trace = merged(of, [of, told])


def _texts(of: Trace, exchange: Trace) -> Trace:
    """Return the texts of an exchange, and whose they are, as a witness of another one."""
    return Trace(
        id=of.id,
        time=of.time,
        trace_id=of.trace_id,
        span_id=of.span_id,
        messages=exchange.messages,
        response=exchange.response,
        alternatives=exchange.alternatives,
        tool_calls=exchange.tool_calls,
        unread=exchange.unread,
        provider=exchange.provider,
        model=exchange.model,
        conversation=exchange.conversation,
        user=exchange.user,
        agent=exchange.agent,
    )


def _lacks(trace: Trace, side: Side) -> bool:
    """Return whether a side has no text although there must have been one."""
    read = asked(trace) if side is _PROMPT else answered(trace)
    return not read and unread_on(trace, side) is not None


def _vacant(trace: Trace) -> bool:
    """Return whether an answer may be that of a call: it must have had one, or nothing of it was read."""
    return not answered(trace) and (_lacks(trace, _RESPONSE) or not asked(trace))


def _passes(own: Trace, given: Trace) -> bool:
    """Return whether an answer holds another one, or a part of it."""
    mine, theirs = own.response.strip(), given.response.strip()
    if mine and theirs:
        return mine in theirs or theirs in mine or (mine[0] in "{[" and quoted(theirs) in mine)
    return not mine and not theirs and same_answer(own, given)


def _parsed(own: Trace, below: Sequence[ModelCall]) -> list[ModelCall]:
    """Return the calls from whose answer an object was read: the same JSON, or a text with all its fields."""
    held = _decoded(own.response)
    if held is None:
        return []
    whole = msgspec.json.encode(held)
    values = held.values() if isinstance(held, dict) else ()
    fields = list(islice((text for text in values if isinstance(text, str)), _FIELDS))
    found = []
    for call in below:
        theirs = call.object_answered()
        if theirs is not None:
            same = theirs in whole or whole in theirs
        else:
            same = any(fields) and all(text in call.trace.response for text in fields)
        if same:
            found.append(call)
    return found or _handed(own, held, below)


def _handed(own: Trace, held: Any, below: Sequence[ModelCall]) -> list[ModelCall]:
    """Return the call that handed an answer over as the arguments of a tool, which become its answer.

    Frameworks that want an object for an answer name such a tool after its class.
    """
    for call in below:
        made = [] if call.trace.response else call.trace.tool_calls
        for tool in made:
            if (
                not tool.result
                and (given := _decoded(tool.arguments))
                and given in (held, {"response": held})
            ):
                rest = tuple([each for each in made if each is not tool])
                call.trace = msgspec.structs.replace(call.trace, response=own.response, tool_calls=rest)
                return [call]
    return []


def _decoded(text: str) -> Any:
    """Return the object or list that a text is in JSON, None for another text or an empty one."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return msgspec.json.decode(text) or None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def quoted(text: str) -> str:
    """Return a text as it stands within JSON: a workflow's output is often an object."""
    return msgspec.json.encode(text).decode()[1:-1]
