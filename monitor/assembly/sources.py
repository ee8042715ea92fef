"""Sources of a call: the documents and results of tools that its answer may rest on."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from monitor.assembly.calls import ModelCall, quoted
from monitor.assembly.nearest import Nearest, Window, start
from monitor.assembly.tree import Tree
from monitor.assembly.waiting import Bounds
from monitor.trace import PARTLY, Side, Span, StepKind, ToolCall, Trace, Unread, Unreadable

# Members of an enumeration are looked up slowly (Python 3.11).
_CHAT, _TOOL, _AGENT, _DOCUMENTS, _RESULTS = (
    StepKind.CHAT,
    StepKind.TOOL,
    StepKind.AGENT,
    Side.DOCUMENTS,
    Side.TOOL_RESULTS,
)
_CUT = Unread(_DOCUMENTS, Unreadable.TRUNCATED)  # as good as nothing said: what follows says more
_ACCOUNTS: Final = 8  # spans that may tell of the call of a tool around them; more are calls of their own


def fold_tools(tree: Tree) -> set[str]:
    """Make one tool span of those that a client, a transport and a server record of one call.

    The outer one stays, with what the others know, in `tree.spans`; returns the ids of the others.
    """
    spans = dict(tree.spans)
    folded: set[str] = set()
    under: dict[str, str] = {}  # per span the tool span that it belongs to or runs under
    compared: Counter[str] = Counter()
    for span_id in tree.order:
        span = spans[span_id]
        outer = under.get(tree.above.get(span_id, ""), "")
        if span.step.kind is _TOOL:
            alike = bool(outer) and compared[outer] < _ACCOUNTS and _alike(spans[outer].call, span.call)
            compared[outer] += alike
            if alike and _one_call(spans[outer].call, span.call):
                spans[outer] = _with_inner(spans[outer], span)
                folded.add(span_id)
            else:
                outer = span_id
        elif span.step.kind is _CHAT or span.step.kind is _AGENT:
            outer = ""  # what a model calls below a tool is a call of its own
        if outer:
            under[span_id] = outer
    if folded:
        tree.spans = spans
    return folded


def _alike(outer: ToolCall | None, inner: ToolCall | None) -> bool:
    """Return whether two calls have one name, and not two ids."""
    if outer is None or inner is None or not outer.name or outer.name != inner.name:
        return False
    return not (outer.id and inner.id) or outer.id == inner.id


def _one_call(outer: ToolCall | None, inner: ToolCall | None) -> bool:
    """Return whether two calls that are alike are one: by their id, else by their arguments."""
    if outer is None or inner is None:
        return False
    if outer.id and inner.id:
        return True
    # A tool that calls itself has other arguments; a server's span may have the whole request.
    one, other = _compact(outer.arguments), _compact(inner.arguments)
    return one in other or other in one


def _with_inner(outer: Span, inner: Span) -> Span:
    call = _filled(outer.call, inner.call)
    result = _joined(outer.call.result, inner.call.result) if outer.call and inner.call else ""
    if call is not None and call.result != result:
        call = msgspec.structs.replace(call, result=result)
    step = msgspec.structs.replace(
        outer.step,
        input=outer.step.input or inner.step.input,
        output=_joined(outer.step.output, inner.step.output),
    )
    unread = outer.unread if outer.unread or not inner.unread else inner.unread
    if call is not None and call.result:
        unread = tuple(each for each in unread if each.side is not Side.TOOL_RESULTS)
    return msgspec.structs.replace(outer, call=call, step=step, unread=unread)


def _joined(outer: str, inner: str) -> str:
    """Return a result as both sides tell it: once where one holds the other, else both, to be judged."""
    if inner in outer or quoted(inner) in outer:
        return outer
    return inner if outer in inner or quoted(outer) in inner else f"{outer}\n{inner}"


def _compact(arguments: str) -> str:
    """Return arguments as all senders of the same ones would write them."""
    try:
        value = msgspec.json.decode(arguments)
        return msgspec.json.encode(value, order="deterministic").decode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        return arguments.strip()


def _filled(own: ToolCall | None, other: ToolCall | None) -> ToolCall | None:
    """Complete a tool call from another account of it; whether it failed is said by who has the result."""
    if own is None or other is None:
        return own or other
    return ToolCall(
        own.name or other.name,
        own.arguments or other.arguments,
        own.result or other.result,
        own.id or other.id,
        own.error or (other.error and not own.result),
    )


def _with_arguments(span: Span, listed: Mapping[str, ToolCall]) -> Span:
    """Give a tool's span the arguments that the model wrote, where it has none or prints Python's."""
    ran = span.call
    wrote = listed.get(ran.id) if ran else None
    if ran is None or wrote is None or not wrote.arguments:
        return span
    printed = ran.arguments[:2] == "{'" and wrote.arguments[:2] == '{"'
    if ran.arguments and not printed:
        return span
    return msgspec.structs.replace(span, call=msgspec.structs.replace(ran, arguments=wrote.arguments))


class Sources:
    """The spans of a trace that retrieved something or ran a tool, in order of start."""

    def __init__(self, tree: Tree, folded: Iterable[str], bounds: Bounds) -> None:
        gone = set(folded)
        self._tree = tree
        self._bounds = bounds
        spans = [
            span
            for span_id, span in tree.spans.items()
            if span_id not in gone and (span.documents or span.call is not None or span.unread)
        ]
        self._spans = spans
        if not spans:
            return
        if any(span.call for span in spans):
            said = (each.exchange.tool_calls for each in tree.spans.values() if each.exchange)
            listed = {call.id: call for calls in said for call in calls if call.id}
            spans = [_with_arguments(span, listed) for span in spans]
        # A span stands where its earliest log record does.
        spans.sort(key=start)
        self._nearest = Nearest(tree, spans, bounds)
        self._spans = self._nearest.spans
        self._unread = any(span.unread for span in spans)
        self._written: dict[str, str] = {}  # arguments by the span of their call, as all would write them
        self._ran = {call.id: call for span in self._spans if (call := span.call) and call.id}

    def given_to(self, calls: Sequence[ModelCall]) -> list[Trace]:
        """Return the calls' exchanges, each with the documents and results of tools that it may rest on.

        Where the bounds do not allow all of them, those nearest to the call count; `unread` then names the
        sides of the others, and whether another exchange has them.
        """
        if not self._spans:
            return [call.trace for call in calls]
        given = [call.trace for call in calls]
        for number, window in self._nearest.windows(calls):
            given[number] = self._with_sources(calls[number], window)
        return given

    def _with_sources(self, call: ModelCall, window: Window) -> Trace:
        exchange = call.trace
        used = self._spans[window.first : window.begin] + [self._spans[place] for place in window.later]
        # Calls that the exchange itself lists keep their order; the spans that ran them add the results.
        own, ran, short = self._completed(call, used, window.room)
        calls = [span.call for span in used if span.call is not None and span.span_id not in ran]
        calls += own
        documents = [document for span in used for document in span.documents]
        unread = {each.side: each for span in used for each in span.unread} if self._unread else {}
        unread |= {each.side: each for each in exchange.unread}
        if window.documents is not None and unread.get(_DOCUMENTS, _CUT).reason in PARTLY:
            unread[_DOCUMENTS] = Unread(_DOCUMENTS, window.documents)
        # A run's last exchange has the results of all its tools, among the steps.
        if window.results or short:
            unread.setdefault(_RESULTS, Unread(_RESULTS, Unreadable.LEFT_OUT))
        if not (documents or unread) and tuple(calls) == exchange.tool_calls:
            return exchange
        return msgspec.structs.replace(
            exchange,
            context=tuple(dict.fromkeys((*exchange.context, *documents))),
            tool_calls=tuple(calls),
            unread=tuple(unread.values()),
        )

    def _completed(
        self, call: ModelCall, used: Sequence[Span], room: int
    ) -> tuple[list[ToolCall], set[str], bool]:
        """Return the calls that an exchange lists, with their results, and which spans ran them.

        Where one of both has no id, a span ran a call if it began after the model did, with the same name and
        arguments. Then whether one was left out, as results may have `room` characters at most.
        """
        own = list(call.trace.tool_calls)
        if not own:
            return own, set(), False
        chars, short = 0, False
        ids = {each.id for each in own if each.id}
        ran = {span.span_id for span in used if span.call is not None and span.call.id in ids}
        alike: dict[tuple[str, str, bool], list[Span]] = {}
        if not all(each.id in self._ran for each in own):
            begun = used[bisect_left(used, call.span.step.start, key=start) :]
            for span in reversed(begun):  # the first one is taken first
                if span.call is not None and span.span_id not in ran:
                    of = (span.call.name, self._arguments(span.span_id, span.call), bool(span.call.id))
                    alike.setdefault(of, []).append(span)
        for number, each in enumerate(own):
            other = self._ran.get(each.id)
            if other is None and alike:
                name, arguments = each.name, _compact(each.arguments)
                spans = alike.get((name, arguments, False)) or (
                    [] if each.id else alike.get((name, arguments, True))
                )
                if spans:
                    span = spans.pop()
                    ran.add(span.span_id)
                    other = span.call
            if other is None:
                continue
            size = len(other.arguments) + len(other.result)
            if size > room - chars:
                short = True
                continue
            chars += size
            own[number] = _filled(other, each) or each
        return own, ran, short

    def _arguments(self, span_id: str, call: ToolCall) -> str:
        """Return a call's arguments as all senders would write them, made once."""
        if span_id not in self._written:
            self._written[span_id] = _compact(call.arguments)
        return self._written[span_id]
