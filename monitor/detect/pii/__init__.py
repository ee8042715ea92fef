"""Personal data and secrets; a leak is what only the response holds.

Tier 0 are patterns: what Presidio's English recognizers find (`presidio`, without loading Presidio), phone
numbers, credentials, what Presidio leaves out (street addresses, ages, titles, other countries' identifiers,
disguised spellings), and the user's own recognizers. Tier 1 are names: the bundled tagger, or a spaCy model
by option. Nothing is ever fetched.

Fails closed: a pattern that runs out of time or fails turns the trace's status into `error`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from monitor.config import Profile
from monitor.detect.cascade import EXPLORATION_RATE, Cascade
from monitor.detect.pii import custom, linear, names, presidio
from monitor.detect.pii.names import Namer
from monitor.detect.pii.prompt_index import PromptIndex
from monitor.detect.pii.scanner import Scanner, ScanResult
from monitor.detect.pii.spans import EntitySpan
from monitor.errors import ConfigError
from monitor.findings import (
    EVIDENCE_DROPPED,
    MAX_EVIDENCE,
    Assessment,
    Evidence,
    Status,
    TierStatus,
    skipped,
)
from monitor.trace import Trace

__all__ = ["NAME", "EntitySpan", "Pii", "PromptIndex", "ScanResult", "backtracking", "build", "tiers"]

NAME = "pii"
REVISION = "4"

# Of a hash function, such as a Collector leaves in the place of a value that it masks: the tagger takes some
# for numbers of a person. Lengths are those of MD5, SHA-1 and the SHA-2 and SHA-3 families.
_DIGEST = re.compile(
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})", re.IGNORECASE
)

# Alone they identify no person: they are evidence, which a rule may combine with more, but give no score.
INDIRECT = frozenset(
    {
        "DATE_TIME",
        "LOCATION",
        "ORGANIZATION",
        "NRP",
        "TITLE",
        "URL",
        "ZIP_CODE",
        "AGE",
        "UK_POSTCODE",
        "CA_POSTAL_CODE",
    }
)


def build(
    *,
    spacy_model: str = names.BUNDLED,
    tag_names: bool = True,
    organization: bool = True,
    threshold: float = 0.4,
    regex_timeout_seconds: float = 2.0,
    recognizers: Sequence[str] = (),
    audit: float = EXPLORATION_RATE,
    profile: Profile = "default",
) -> "Pii":
    """Build the detector.

    `spacy_model` is `none` (the bundled tagger finds names), a package or a path; profile `offline` ignores
    it. `tag_names` false leaves tier 1 out. `organization` reports names of organisations too. `threshold` is
    the least score a pattern reports, in [0, 1]; `regex_timeout_seconds` bounds one pattern per text;
    `recognizers` are files in Presidio's format with pattern and deny-list recognizers of your own; `audit`
    is the share of the texts without any sign of a name that tier 1 sees all the same. Raises ConfigError
    naming the option and the remedy.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            f"detectors.pii.options.threshold: {threshold} is not in [0, 1]; Presidio's usual is 0.4"
        )
    if regex_timeout_seconds <= 0:
        raise ConfigError(
            f"detectors.pii.options.regex_timeout_seconds: {regex_timeout_seconds} is not positive; give 2.0"
        )
    model = names.BUNDLED if profile == "offline" else spacy_model
    return Pii(
        Scanner(threshold, regex_timeout_seconds, custom.read(recognizers)),
        names.load(model) if tag_names else None,
        Cascade(NAME, 1, exploration_rate=audit, profile=profile),
        organization=organization,
        everything=profile == "full",
    )


def backtracking(*, recognizers: Sequence[str] = (), **_: object) -> list[str]:
    """Return the names of Presidio's and the user's patterns that may need long for a hostile text.

    They run in a worker alone, each bounded by `regex_timeout_seconds` and all by the pool's time-out, and
    never in redaction. Raises ConfigError for files that cannot be read.
    """
    own = custom.patterns(custom.read(recognizers))
    return list(linear.backtracking([*presidio.patterns(), *own]))


def tiers(
    *,
    spacy_model: str = names.BUNDLED,
    tag_names: bool = True,
    recognizers: Sequence[str] = (),
    profile: Profile = "default",
    **_: object,
) -> list[TierStatus]:
    """Return which tiers can run here: patterns always can.

    Raises ConfigError as `build` does, but for what is inside a recognizer: that takes Presidio to say.
    """
    model = names.BUNDLED if profile == "offline" else spacy_model
    return [
        TierStatus(
            detector=NAME,
            tier=0,
            name="patterns",
            present=True,
            version=f"{REVISION}{custom.version(custom.read(recognizers))}",
        ),
        TierStatus(
            detector=NAME,
            tier=1,
            name="names",
            present=tag_names,
            version=names.version(model) if tag_names else "",
            cost=""
            if tag_names
            else "names, places and most addresses are not found; set"
            " detectors.pii.options.tag_names to true",
        ),
    ]


class TraceText(NamedTuple):
    """A text of a trace, its path, and whether it was input to the model rather than output."""

    field: str
    text: str
    is_input: bool


class Pii:
    """Finds personal data and secrets in all text of a trace, and marks those that the response leaks.

    `score` is the highest score of a leaked entity that is neither `INDIRECT` nor a name of one word; it is
    the finder's confidence, not a probability of harm. `values` counts entities of all kinds: `leaked`, and
    those in `response`, `prompt` (all messages) and `context` (documents and tool results);
    `evidence_dropped` is their number beyond the first 256; `tier0` is the score of the patterns alone,
    where tier 1 searched for names.
    """

    name = NAME

    def __init__(
        self,
        scanner: Scanner,
        namer: Namer | None,
        cascade: Cascade,
        *,
        organization: bool,
        everything: bool,
    ) -> None:
        self._scanner = scanner
        self._namer = namer
        self._cascade = cascade
        self._organization = organization
        self._everything = everything
        self.cascades: tuple[Cascade, ...] = (cascade,) if namer else ()
        names_version = f"{namer.version}{'.org' if organization else ''}" if namer else "no-names"
        weights = f"{scanner.version}.{names_version}".replace("+", "-")
        self.version = f"{REVISION}+{weights}"

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are analysed once."""
        fields = [[part for part in _parts(trace) if part.text.strip()] for trace in traces]
        patterns: dict[str, ScanResult] = {}
        for parts in fields:
            for part in parts:
                if part.text not in patterns:
                    patterns[part.text] = self._scanner.find(part.text)
        likely = {text: names.is_likely(text) for text in patterns} if self._namer else {}
        escalations = [
            self._cascade.escalate(trace.id, unsure=any(likely[part.text] for part in parts))
            if self._namer and parts
            else 0.0
            for trace, parts in zip(traces, fields, strict=True)
        ]
        named = self._named(
            text
            for escalated, parts in zip(escalations, fields, strict=True)
            if escalated
            for _, text, _ in parts
            if likely[text] or self._everything or not any(likely[other.text] for other in parts)
        )
        return [
            self._assessment(parts, patterns, named, escalated) if parts else skipped(NAME, self.version)
            for parts, escalated in zip(fields, escalations, strict=True)
        ]

    def _named(self, texts: Iterator[str]) -> dict[str, list[EntitySpan]]:
        unique = list(dict.fromkeys(texts))
        if not unique or self._namer is None:
            return {}
        return {
            text: [
                s
                for s in spans
                if (self._organization or s.kind != "ORGANIZATION")
                and not _DIGEST.fullmatch(text, s.start, s.end)
            ]
            for text, spans in zip(unique, self._namer.spans(unique), strict=True)
        }

    def _assessment(
        self,
        fields: Sequence[TraceText],
        patterns: dict[str, ScanResult],
        named: dict[str, list[EntitySpan]],
        escalated: float,
    ) -> Assessment:
        reason = next((patterns[text].reason for _, text, _ in fields if patterns[text].reason), "")
        found = {
            text: names.merged(patterns[text].spans, named[text])
            if escalated and text in named
            else patterns[text].spans
            for _, text, _ in fields
        }
        prompt = PromptIndex(part.text for part in fields if part.is_input)
        known = prompt.held(
            (text[span.start : span.end], span.kind)
            for field, text, _ in fields
            if field == "response"
            for span in found[text]
        )
        evidence: list[Evidence] = []
        score = tier0 = 0.0
        for field, text, _ in fields:
            matches = frozenset(patterns[text].spans) if field == "response" else frozenset()
            for span in found[text]:
                value = text[span.start : span.end]
                leaked = field == "response" and (value, span.kind) not in known
                evidence.append(Evidence(field, span.start, span.end, span.kind, span.score, leaked))
                if leaked and _identifies_person(span.kind, value):
                    score = max(score, span.score)
                    tier0 = max(tier0, span.score) if span in matches else tier0
        evidence.sort(key=lambda e: (not e.leaked, e.field != "response"))  # stable: leaks are kept first
        values = {
            "leaked": sum(e.leaked for e in evidence),
            "response": sum(e.field == "response" for e in evidence),
            "prompt": sum(e.field.startswith("messages.") for e in evidence),
            "context": sum(e.field.startswith(("context.", "tool_calls.", "steps.")) for e in evidence),
            EVIDENCE_DROPPED: max(0, len(evidence) - MAX_EVIDENCE),
        }
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.ERROR if reason else Status.SCORED,
            reason=reason,
            score=None if reason else score,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            tier=1 if escalated else 0,
            probability=escalated or 1.0,
            values={name: float(count) for name, count in values.items()}
            | ({"tier0": tier0} if escalated else {}),
        )


def _identifies_person(kind: str, value: str) -> bool:
    """Return whether a value counts for the score; a person's name needs more than one word."""
    return kind not in INDIRECT and (kind != "PERSON" or len(value.split()) > 1)


def _parts(trace: Trace) -> Iterator[TraceText]:
    yield TraceText("response", trace.response, is_input=False)
    for n, message in enumerate(trace.messages):
        yield TraceText(f"messages.{n}", message.content, is_input=True)
    for field, text in trace.shown():
        yield TraceText(field, text, is_input=True)
    if trace.steps or trace.tool_calls:
        read = {trace.response, *[message.content for message in trace.messages]}
        for field, text in trace.written():
            if text not in read:  # redaction masks a text everywhere
                read.add(text)
                yield TraceText(field, text, is_input=False)
