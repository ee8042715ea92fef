"""Judging: traces on their way through detectors, monitors, rules and redaction, until they are staged."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from monitor.clock import Clock
from monitor.engine.intake import Intake
from monitor.engine.staging import Staged
from monitor.engine.work import SubmittedBatch, Work
from monitor.errors import Busy
from monitor.findings import Assessment, Judgement
from monitor.outcome.revisions import RaisedFlags
from monitor.ports import Detectors, Monitor, Observer, RedactedBatch
from monitor.privacy.redact import NOT_REDACTED, can_redact, detectors_shown, request_for, withheld
from monitor.rules import RuleBook, RuleSet


class _Decided(NamedTuple):
    """Judgements of a batch by one set of rules; the detectors had it since `started` (Unix seconds)."""

    judgements: Sequence[tuple[Work, Judgement]]
    started: float
    rules_version: str


class Judging:
    """Gives traces to the detectors, decides on their answers, and has flagged texts redacted by the workers.

    Used from the engine's thread, whose work here is bounded: it never reads a text. `traces` counts those
    that were submitted and are not staged yet.
    """

    def __init__(
        self,
        detectors: Detectors,
        rules: RuleBook,
        monitors: Mapping[str, Monitor],
        observer: Observer,
        clock: Clock,
        *,
        excerpt_chars: int,
    ) -> None:
        self._detectors = detectors
        self._rules = rules
        self._monitors = monitors
        self._observer = observer
        self._clock = clock
        self._excerpt_chars = excerpt_chars
        self._in_flight: dict[int, SubmittedBatch] = {}
        self._flagged: dict[int, _Decided] = {}
        self._decided: deque[_Decided] = deque()
        self._raised = RaisedFlags()
        self._ticket = 0
        self.traces = 0

    def __bool__(self) -> bool:
        return self.traces > 0

    def submit(self, intake: Intake, escalation_rate: float) -> None:
        """Give the detectors as many queued traces as they take; large ones have places of their own."""
        while (work := intake.first(self._detectors.batch_size)) and self._submit(work, escalation_rate):
            intake.remove(work)
        while (work := intake.large()) and self._submit(work, escalation_rate, large=True):
            intake.remove(work)

    def _submit(self, work: Sequence[Work], escalation_rate: float, *, large: bool = False) -> bool:
        """Begin a batch; return whether the detectors took it."""
        traces = [item.trace for item in work]
        try:
            self._detectors.submit(self._ticket, traces, escalation_rate, large=large)
        except Busy:
            return False
        self._in_flight[self._ticket] = SubmittedBatch(work, self._clock.now())
        self.traces += len(work)
        self._ticket += 1
        return True

    def collect(self, wait: float) -> bool:
        """Decide on what the detectors have finished, waiting at most `wait` seconds for the first of it.

        Return whether they may have room again.
        """
        if not self._in_flight and not self._flagged:
            return False
        finished = self._detectors.collect(wait)
        for redacted in self._detectors.redacted():
            self._take_texts(redacted)
        for judged in finished:
            batch = self._in_flight.pop(judged.ticket)
            self._decide(batch, judged.assessments)
        return bool(finished)

    def stage(self, intake: Intake, staged: Staged) -> None:
        """Stage what is judged. What other rules judged waits: a transaction names the rules of all."""
        while self._decided:
            rules_version = self._decided[0].rules_version
            if staged.started is None:
                staged.started, staged.rules_version = self._decided[0].started, rules_version
            elif staged.rules_version != rules_version:
                return
            for work, judgement in self._decided.popleft().judgements:
                self.traces -= 1
                if work.partition.alive:
                    staged.judge(work.partition, judgement, work.exchange)
                if work.siblings is not None:
                    intake.finish(work.siblings, staged)

    def recorded(self, judgements: Sequence[Judgement]) -> None:
        """Remember the flags of judgements that are durable now."""
        self._raised.recorded(judgements)

    def _decide(self, batch: SubmittedBatch, answers: Sequence[tuple[Assessment, ...]]) -> None:
        rules = self._rules.current
        clean: list[tuple[Work, Judgement]] = []
        flagged: list[tuple[Work, Judgement]] = []
        for work, assessments in zip(batch.work, answers, strict=True):
            judgement = self._judge(work, assessments, rules)
            readable = judgement.flags and can_redact(judgement.assessments)
            (flagged if readable else clean).append((work, judgement))
        if clean:
            self._decided.append(_Decided(clean, batch.started, rules.version))
        if flagged:
            self._flagged[self._ticket] = _Decided(flagged, batch.started, rules.version)
            requests = [request_for(judgement, self._excerpt_chars) for _, judgement in flagged]
            self._detectors.redact(self._ticket, requests)
            self._ticket += 1

    def _judge(self, work: Work, assessments: tuple[Assessment, ...], rules: RuleSet) -> Judgement:
        if not work.partition.alive:  # dropped when it is staged
            return Judgement(origin=work.origin, trace=work.trace, assessments=assessments, flags=())
        if self._monitors:
            assessments = tuple(
                monitor.update(work.trace, a) if (monitor := self._monitors.get(a.detector)) else a
                for a in assessments
            )
        decision = rules.decide(work.origin, work.trace, assessments)
        for error in decision.errors:
            self._observer.rule_failed(error.rule)
        flags = self._raised.quieted(work.trace, assessments, decision.flags)
        return Judgement(origin=work.origin, trace=work.trace, assessments=assessments, flags=flags)

    def _take_texts(self, redacted: RedactedBatch) -> None:
        batch = self._flagged.pop(redacted.ticket)
        judgements = []
        for (work, judgement), texts in zip(batch.judgements, redacted.redactions, strict=True):
            if isinstance(texts, str):
                self._observer.redaction_failed(texts)
                kept = withheld(judgement.assessments, detectors_shown(judgement), NOT_REDACTED)
            else:
                kept = texts
            judgements.append((work, msgspec.structs.replace(judgement, redaction=kept)))
        self._decided.append(batch._replace(judgements=judgements))
