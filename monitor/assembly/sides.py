"""Texts of one exchange from several witnesses: of each side the fullest, once, and why it was not read."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from monitor.trace import Message, Side, ToolCall, Trace, Unread, Unreadable, Usage

# Members of an enumeration are looked up slowly (Python 3.11).
_PROMPT, _RESPONSE, _TRUNCATED = Side.PROMPT, Side.RESPONSE, Unreadable.TRUNCATED

BLANK, CUT, WHOLE = 0, 1, 2
"""How well a side was read: no text, a text of which a part was not read, all of it."""
_SHIFTS: Final = {Side.PROMPT: 0, Side.RESPONSE: 2}
_NO_TEXT: Final = 0b1010  # of `blindness`, the bits of sides without text
_MOST_LABELS: Final = 32  # as many as one sender may set


def asked(trace: Trace) -> bool:
    """Return whether any text of the prompt was read."""
    # A loop: a generator costs twice as much, and this is asked five times of each exchange.
    for message in trace.messages:  # noqa: SIM110
        if message.content:
            return True
    return False


def answered(trace: Trace) -> bool:
    """Return whether anything of the answer was read: a text, or a call of a tool."""
    return bool(trace.response or trace.alternatives or trace.tool_calls)


def unread_on(trace: Trace, side: Side) -> Unreadable | None:
    """Return why a text of this side was not read, None where all was."""
    return next((each.reason for each in trace.unread if each.side is side), None)


def same_answer(one: Trace, other: Trace) -> bool:
    """Return whether two answers are one, of which one witness may have only the beginning."""
    mine, theirs = one.response.strip(), other.response.strip()
    if mine and theirs:
        return mine == theirs or _begins(one, mine, theirs) or _begins(other, theirs, mine)
    if mine or theirs:
        return False
    calls, others = one.tool_calls, other.tool_calls
    if not calls or len(calls) != len(others):
        return False
    return all(
        a.id == b.id if a.id and b.id else (a.name, a.arguments) == (b.name, b.arguments)
        for a, b in zip(calls, others, strict=True)
    )


def begins_answer(cut: Trace, whole: Trace) -> bool:
    """Return whether an answer that was cut off begins another one, of which all was read."""
    beginning, answer = cut.response.strip(), whole.response.strip()
    return bool(beginning) and not unread_on(whole, _RESPONSE) and _begins(cut, beginning, answer)


def begins_prompt(cut: Trace, whole: Trace) -> bool:
    """Return whether a prompt that was cut off begins another one, of which all was read."""
    *before, last = cut.messages or (Message(),)
    if not last.content or unread_on(cut, _PROMPT) is not _TRUNCATED or unread_on(whole, _PROMPT):
        return False
    place = len(before)
    known = whole.messages[: place + 1]
    return (
        len(known) > place
        and tuple(before) == known[:place]
        and known[place].content.startswith(last.content)
    )


def texts(trace: Trace) -> tuple[object, ...]:
    """Return prompt and answer as they are compared with another exchange's: equal ones are judged alike."""
    answer = trace.response.strip() or tuple((call.name, call.arguments) for call in trace.tool_calls)
    return tuple(_contents(trace)), answer, trace.alternatives


def same_prompt(one: Trace, other: Trace) -> bool:
    """Return whether two prompts hold the same texts."""
    return _contents(one) == _contents(other)


def merged(base: Trace, witnesses: Sequence[Trace], *, elsewhere: Iterable[str] = ()) -> Trace:
    """Return `base` with the texts and values of the witnesses, `base` among them, the best first.

    Of each side the texts of the best witness count, and of the answer the samples of all that are as good,
    without those that are judged `elsewhere`.
    """
    usage = _usage(witnesses)
    of_prompt = max(witnesses, key=_prompt_quality)
    spent = usage.input_tokens if usage else None
    if _prompt_quality(of_prompt):
        messages, no_prompt = of_prompt.messages, unread_on(of_prompt, _PROMPT)
    else:
        messages = next((each.messages for each in witnesses if each.messages), ())
        no_prompt = _why(_PROMPT, witnesses, spent)
    quality = max(map(_answer_quality, witnesses))
    best = [each for each in witnesses if _answer_quality(each) == quality]
    texts = [each.response for each in best] + [text for each in best for text in each.alternatives]
    response, *others = dict.fromkeys(filter(None, texts)) or [""]
    if quality:
        no_answer = unread_on(best[0], _RESPONSE)
    else:
        made = usage.output_tokens if usage else None
        no_answer = _why(_RESPONSE, witnesses, made)
    unread = [Unread(_PROMPT, no_prompt)] if no_prompt else []
    unread += [Unread(_RESPONSE, no_answer)] if no_answer else []
    rest = (u for each in witnesses for u in each.unread if u.side not in {_PROMPT, _RESPONSE})
    unread += {each.side: each for each in rest}.values()
    model = next((each for each in witnesses if each.model != "unknown"), base)
    judged = set(elsewhere) if others else set()
    return msgspec.structs.replace(
        base,
        id=next((each.id for each in witnesses if has_response_id(each)), base.id),
        messages=messages,
        response=response,
        alternatives=tuple([text for text in others if text not in judged]),
        tool_calls=_calls(best, witnesses),
        context=tuple(dict.fromkeys(d for each in witnesses for d in each.context)),
        logprobs=next((each.logprobs for each in witnesses if each.logprobs), ()),
        usage=usage,
        latency=base.latency or next((each.latency for each in witnesses if each.latency), None),
        provider=next((each.provider for each in witnesses if each.provider != "unknown"), base.provider),
        model=model.model,
        model_version=model.model_version
        or next((e.model_version for e in witnesses if e.model_version and e.model == model.model), ""),
        unread=tuple(unread),
        labels=_labels(base, witnesses, unread, answered=quality > BLANK),
        finish_reason=_finish(base, witnesses, answered=quality > BLANK),
        error=base.error or ("" if quality else _first(witnesses, _FAILED)),
        emitter=_emitter(base, witnesses, unread),
        **{name: _first(witnesses, name) for name in _NAMES},
    )


def has_response_id(trace: Trace) -> bool:
    """Return whether an exchange has the id that its provider gave it."""
    return trace.id != f"{trace.trace_id}:{trace.span_id}"


_NAMES: Final = ("conversation", "user", "agent", "prompt_name", "prompt_version")
_FAILED: Final = "error"  # name of a field and a label, and a finish reason


def _usage(witnesses: Sequence[Trace]) -> Usage | None:
    known = [each.usage for each in witnesses if each.usage]
    if not known:
        return None
    return Usage(
        next((u.input_tokens for u in known if u.input_tokens is not None), None),
        next((u.output_tokens for u in known if u.output_tokens is not None), None),
    )


def _first(witnesses: Sequence[Trace], name: str) -> str:
    return next((value for each in witnesses if (value := getattr(each, name))), "")


def _emitter(base: Trace, witnesses: Sequence[Trace], unread: Sequence[Unread]) -> str:
    """Return who reported an exchange: of one that is not read, who says so, as the remedy is theirs."""
    if unread and not base.unread:
        return next((each.emitter for each in witnesses if each.unread and each.emitter), base.emitter)
    return base.emitter or _first(witnesses, "emitter")


def _finish(base: Trace, witnesses: Sequence[Trace], *, answered: bool) -> str:
    """Return why the answer ended; an attempt that failed says nothing of one that did not."""
    for each in witnesses:
        if each.finish_reason and (each is base or not answered or each.finish_reason != _FAILED):
            return each.finish_reason
    return ""


def _labels(
    base: Trace, witnesses: Sequence[Trace], unread: Sequence[Unread], *, answered: bool
) -> dict[str, str]:
    """Return the labels of all, `base` first, without what no longer holds."""
    labels = base.labels
    for each in witnesses:
        if each is base or not each.labels:
            continue
        added = {name: value for name, value in each.labels.items() if name not in labels}
        if answered:
            added.pop(_FAILED, None)
        labels = labels | dict(list(added.items())[: max(0, _MOST_LABELS - len(labels))])
    if "truncated" in labels and not any(each.reason is _TRUNCATED for each in unread):
        labels = {name: value for name, value in labels.items() if name != "truncated"}
    return labels


def _calls(best: Sequence[Trace], witnesses: Sequence[Trace]) -> tuple[ToolCall, ...]:
    return next((each.tool_calls for each in (*best, *witnesses) if each.tool_calls), ())


def _why(side: Side, witnesses: Sequence[Trace], tokens: int | None) -> Unreadable | None:
    """Return why no witness has a text: none where one knows that there was none."""
    reasons = [unread_on(each, side) for each in witnesses]
    said = [reason for reason in reasons if reason]
    if not said or Unreadable.REDACTED in said:
        return Unreadable.REDACTED if said else None
    if len(said) == len(reasons):
        return said[0]
    # Tokens of one show that another's emptiness is that of another attempt, but for what has tokens and no
    # text: images, sound, what a filter took.
    without = any(_has_no_text(w) for w, reason in zip(witnesses, reasons, strict=True) if reason is None)
    return said[0] if tokens and not without else None


def _has_no_text(trace: Trace) -> bool:
    kinds = (name for name in trace.labels if name.startswith("left_out.") and name != "left_out.value")
    return not trace.error and (trace.finish_reason == "content_filter" or any(kinds))


def _prompt_quality(trace: Trace) -> int:
    if not asked(trace):
        return BLANK
    return CUT if unread_on(trace, _PROMPT) else WHOLE


def _answer_quality(trace: Trace) -> int:
    if not answered(trace):
        return BLANK
    return CUT if unread_on(trace, _RESPONSE) else WHOLE


def _begins(cut: Trace, beginning: str, whole: str) -> bool:
    return unread_on(cut, _RESPONSE) is _TRUNCATED and whole.startswith(beginning)


def _contents(trace: Trace) -> list[str]:
    return [text for message in trace.messages if (text := message.content.strip())]


def joined(parts: Sequence[Trace]) -> Trace:
    """Join log records of one exchange, in order of time: of the whole of it, or of single messages."""
    first = parts[0]
    if len(parts) == 1:
        return first
    # An event of the whole exchange repeats the events of single messages.
    whole = max(parts, key=lambda each: (_prompt_quality(each), len(each.messages)))
    messages: tuple[Message, ...] = whole.messages
    if len(messages) <= 1:
        messages = tuple(message for each in parts for message in each.messages)
    said = merged(first, parts)
    unread = {each.side: each for each in said.unread}
    cut = next((u for each in parts if asked(each) and (u := unread_on(each, _PROMPT))), None)
    if cut and messages is not whole.messages:
        unread[_PROMPT] = Unread(_PROMPT, cut)
    return msgspec.structs.replace(said, messages=messages, unread=tuple(unread.values()))


def blindness(trace: Trace) -> int:
    """Return two bits per side of the exchange: 2 for one without text, 1 for a text not read to its end.

    A side that is not known to have had a text counts too: if one comes, it was not judged.
    """
    found = (0 if asked(trace) else 2) << _SHIFTS[_PROMPT]
    found |= (0 if answered(trace) else 2) << _SHIFTS[_RESPONSE]
    for side, reason in trace.unread:
        if side in _SHIFTS:
            found |= (1 if reason is _TRUNCATED else 2) << _SHIFTS[side]
    return found


def least(blind: Iterable[int]) -> int:
    """Return the blindness of what several judgements have read together; of none it is that of no text."""
    known = [*blind]
    return sum(min([each >> shift & 3 for each in known], default=2) << shift for shift in _SHIFTS.values())


def has_both(blind: int) -> bool:
    """Return whether an exchange of this blindness has a prompt and an answer, maybe cut off."""
    return blind & _NO_TEXT == 0


def knows_answer(blind: int) -> bool:
    """Return whether an exchange of this blindness has an answer, maybe cut off."""
    return blind >> _SHIFTS[_RESPONSE] & 2 == 0


def gained(before: int, trace: Trace) -> bool:
    """Return whether a text was read that had not been, or more of one."""
    now = blindness(trace)
    return any(
        before >> shift & 3 > now >> shift & 3 and (asked(trace) if side is _PROMPT else answered(trace))
        for side, shift in _SHIFTS.items()
    )
