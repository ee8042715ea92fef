"""Loops of a run: calls repeated without progress, cycles, tools that keep failing; unrecovered failures.

A call counts as a repetition only if it returned nothing new. If repeating finally returned something else,
it was progress.
"""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from monitor.agents.calls import Call
from monitor.trace import Step

MAX_PERIOD = 8  # calls; longer cycles look like work
BACK_OFF = 1.25  # growth of a pause; less is the noise of a slow tool
_UNSEEN = 2  # further repetitions needed where results were not captured
_WAITS = re.compile(r"(?:^|_)(?:sleep|wait|pause|delay)", re.IGNORECASE)


class Loop(NamedTuple):
    """Calls that repeat without progress: the index of the last step, and the number of repetitions."""

    step: int
    times: int


def repetitions(calls: Sequence[Call], steps: Sequence[Step]) -> list[Loop]:
    """Return repeated calls whose last results are all the same.

    Polling is left out: growing pauses, or a waiting tool in between.
    """
    forms: dict[int, list[Call]] = {}
    for call in calls:
        forms.setdefault(call.form, []).append(call)
    loops: list[Loop] = []
    for same in forms.values():
        last = same[-1]
        first = next((i for i in range(len(same), 0, -1) if same[i - 1].outcome != last.outcome), 0)
        tail = same[first:]
        # Results that were not captured look equal, so such repetitions are weaker evidence.
        times = len(tail) - 1 - (0 if last.seen else _UNSEEN)
        if times > 0 and not _is_poll([steps[call.step] for call in tail], steps[tail[0].step : last.step]):
            loops.append(Loop(last.step, times))
    return loops


def _is_poll(same: Sequence[Step], between: Sequence[Step]) -> bool:
    if any(_WAITS.search(step.name) for step in between):
        return True
    pauses = [after.start - before.start for before, after in itertools.pairwise(same)]
    grows = (after >= BACK_OFF * before for before, after in itertools.pairwise(pauses))
    return len(pauses) > 1 and min(pauses) > 0 and all(grows)


def cycles(calls: Sequence[Call]) -> list[Loop]:
    """Return the longest cycle of two to `MAX_PERIOD` different calls, each round with the same results."""
    ids = [(call.form, call.outcome) for call in calls]
    best: Loop | None = None
    for period in range(2, min(MAX_PERIOD, len(ids) // 2) + 1):
        length = 0
        for i in range(period, len(ids) + 1):
            if i < len(ids) and ids[i] == ids[i - period]:
                length += 1
                continue
            round_ = calls[i - period : i]
            times = length // period - (0 if all(call.seen for call in round_) else _UNSEEN)
            length = 0
            different = len({call.form for call in round_}) > 1
            if times < 1 or not different or any(_WAITS.search(call.tool) for call in round_):
                continue
            forms = {call.form: call.outcome for call in round_}
            # A cycle whose calls later return other results made progress in the end.
            progress = any(call.outcome != forms.get(call.form, call.outcome) for call in calls[i:])
            if not progress and (best is None or times > best.times):
                best = Loop(calls[i - 1].step, times)
    return [] if best is None else [best]


def failing_tools(calls: Sequence[Call]) -> list[Loop]:
    """Return a loop per tool whose last calls all failed: its last step, and the number of these calls."""
    streaks: dict[str, Loop] = {}
    for call in calls:
        if call.failed:
            before = streaks.get(call.tool)
            streaks[call.tool] = Loop(call.step, before.times + 1 if before else 1)
        else:
            streaks.pop(call.tool, None)
    return list(streaks.values())


def unrecovered_failures(calls: Sequence[Call]) -> list[tuple[Call, bool]]:
    """Return failed calls that no later call made good, and whether the tool succeeded later at all.

    A later success makes a call good if it shares a third of the call's words with the same tool, or half of
    them with another tool.
    """
    lost: list[tuple[Call, bool]] = []
    for i, call in enumerate(calls):
        if not call.failed:
            continue
        later = [other for other in calls[i + 1 :] if not other.failed]
        if not any(_makes_good(call, other) for other in later):
            lost.append((call, any(other.tool == call.tool for other in later)))
    return lost


def _makes_good(call: Call, later: Call) -> bool:
    share = len(call.words & later.words) / len(call.words) if call.words else 1.0
    same = later.tool == call.tool
    return share >= (1 / 3 if same else 1 / 2) and (same or bool(call.words))
