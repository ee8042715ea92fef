"""The only maker of `SafeText`: everything of a trace that leaves the process or touches disk passes here.

Personal data is masked where the PII detector found it and, independently, where a fixed net of patterns
matches, so that one miss is not enough. Masking comes first and cutting after, on whole masks, so no cut can
leave a fragment. Where PII was not judged, nothing of the text is kept: failing means closed.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec
import re2

from monitor.findings import EVIDENCE_DROPPED, PII, Assessment, Evidence, Judgement, Redaction, Status
from monitor.ports import RedactionRequest
from monitor.privacy.personal import KEY_BEGINNINGS
from monitor.trace import SafeText, Trace

WITHHELD = SafeText("<withheld: personal data was not judged>")
NOT_REDACTED = SafeText("<withheld: the text could not be redacted>")
EXCERPTS: Final = 8
"""Evidence excerpts kept per detector and per flag; people do not read more."""

# Deliberately wider than the detectors' own patterns: over-masking a stored excerpt costs little.
# RE2 matches in time linear in the text. Its \b, \s and \d know ASCII alone: an ASCII border is one more
# often than a border of Unicode is, so it hides nothing; spaces and digits are written out.
_SPACE = r"\s\x0b\x1c-\x1f\x85\pZ"
_NO_ADDRESS = rf"{_SPACE}@\x{{ff20}}<>\"'(),;"
_NET = tuple(
    (kind, re2.compile(pattern))
    for kind, pattern in (
        (
            "PRIVATE_KEY",
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}-----)?",
        ),
        ("URL_CREDENTIALS", rf"://[^{_SPACE}/@:]*:[^{_SPACE}/@]+@"),
        ("EMAIL_ADDRESS", rf"[^{_NO_ADDRESS}]+[@\x{{ff20}}][^{_NO_ADDRESS}]{{2,}}"),
        (
            "IBAN_CODE",
            (
                r"\b[A-Z]{2}[ -]?\p{Nd}{2}(?:[ -]?[A-Z0-9]{1,4}){3,9}\b"
                r"|\b[A-Za-z]{2}\p{Nd}{2}[A-Za-z0-9]{11,30}\b"
            ),
        ),
        ("SECRET", rf"\b(?:[prs]k|{'|'.join(map(re.escape, KEY_BEGINNINGS))})[-_A-Za-z0-9.+/=]{{10,}}"),
        ("TOKEN", r"[A-Za-z0-9+/_=-]{32,}"),
        # Nine digits and more: SSN, cards, phones, accounts. A date has eight.
        ("NUMBER", rf"\+?\p{{Nd}}(?:[{_SPACE}().\-/\x{{2010}}-\x{{2015}}]{{0,3}}\p{{Nd}}){{8,}}"),
    )
)
INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff"
)
"""Characters that no reader sees, for a class of a pattern: they hide from patterns what they stand in."""
_HIDDEN = re.compile(  # with the rest of Unicode's format characters and its selectors of variants
    f"[{INVISIBLE}\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u180b-\u180f\u2065-\u2069\ufe00-\ufe0f"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e01ef]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ADDRESS = re.compile(r"(\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b)")
_QUOTED_BYTES = re.compile(r"""\bb['"]""")
_MOST_ITEMS = 8  # of a list in a log message

_PARTS = {
    "messages": ("content",),
    "context": ("content",),
    "tool_calls": ("result", "arguments"),
    "alternatives": ("",),
    "steps": ("", "input", "output"),
}
"""Texts of the items of a trace's fields; the first is meant where a path names none."""


class Mask(NamedTuple):
    """A masked range of a text: offsets [start, end) and the name shown in its place."""

    start: int
    end: int
    kind: str


class Redacted:
    """A text with its masks; rendering never shows a masked character, whatever window is asked for."""

    def __init__(self, text: str, spans: Iterable[Mask]) -> None:
        visible = _HIDDEN.sub("\x00", text)  # keeps offsets while invisible characters stop hiding matches
        masks = [mask for mask in spans if 0 <= mask.start < mask.end <= len(text)]
        compact, offsets = _without_nul(_SURROGATE.sub("\ufffd", visible))
        for kind, pattern in _NET:
            masks += [
                Mask(offsets[m.start()], offsets[m.end() - 1] + 1, kind) for m in pattern.finditer(compact)
            ]
        self._text = text
        self._masks = _merged(masks)

    def render(self, start: int = 0, end: int | None = None, limit: int | None = None) -> SafeText:
        """Return the window [start, end) with masks shown as `<KIND>`, cut after at most `limit` characters.

        A mask that reaches into the window is shown whole, and never counted half.
        """
        stop = len(self._text) if end is None else end
        pieces: list[str] = []
        at = start
        for mask in self._masks:
            if mask.end <= start or mask.start >= stop:
                continue
            pieces.append(self._text[at : max(at, mask.start)])
            pieces.append(f"<{mask.kind}>")
            at = mask.end
        pieces.append(self._text[at : max(at, stop)])
        rendered = "".join(pieces)
        if limit is not None and len(rendered) > limit:
            rendered = rendered[:limit] + "…"
        return SafeText(rendered)


class TraceRedactor:
    """Redacts the texts of one trace by its PII assessment, each text once."""

    def __init__(self, trace: Trace, assessments: Sequence[Assessment]) -> None:
        pii = next((a for a in assessments if a.detector == PII), None)
        self._judged = can_redact(assessments)
        self._trace = trace
        self._texts: dict[str, Redacted] = {}
        # A text in several fields (a tool's result is in a run's steps, too) has evidence in only one.
        self._masks: dict[str, list[Mask]] = {}
        for e in pii.evidence if pii is not None else ():
            self._masks.setdefault(text_of(trace, e.field), []).append(Mask(e.start, e.end, e.kind))

    def field(self, path: str, start: int = 0, end: int | None = None, limit: int | None = None) -> SafeText:
        """Redact a window of one field (a path as in `Evidence.field`); `WITHHELD` if PII was not judged."""
        if not self._judged:
            return WITHHELD
        text = text_of(self._trace, path)
        if text not in self._texts:
            self._texts[text] = Redacted(text, self._masks.get(text, ()))
        return self._texts[text].render(start, end, limit)

    def prompt(self, limit: int) -> SafeText:
        """Redact the last user message."""
        users = [i for i, message in enumerate(self._trace.messages) if message.role == "user"]
        return self.field(f"messages.{users[-1]}", limit=limit) if users else SafeText("")

    def response(self, limit: int) -> SafeText:
        """Redact the response."""
        return self.field("response", limit=limit)


def can_redact(assessments: Iterable[Assessment]) -> bool:
    """Return whether PII was judged completely; without that, no text is kept."""
    return any(
        a.detector == PII and a.status is Status.SCORED and not a.values.get(EVIDENCE_DROPPED)
        for a in assessments
    )


def detectors_shown(judgement: Judgement) -> tuple[str, ...]:
    """Return the detectors whose evidence the flags of a trace show."""
    return tuple(dict.fromkeys(name for flag in judgement.flags for name in flag.detectors))


def request_for(judgement: Judgement, limit: int) -> RedactionRequest:
    """Ask for the texts of a flagged trace; of its evidence only what masks or is shown goes along."""
    detectors = detectors_shown(judgement)
    assessments = tuple(
        msgspec.structs.replace(
            a, evidence=a.evidence if a.detector == PII else a.evidence[:EXCERPTS], vector=b""
        )
        for a in judgement.assessments
        if a.detector == PII or a.detector in detectors
    )
    return RedactionRequest(judgement.trace, assessments, detectors, limit)


def redact(request: RedactionRequest) -> Redaction:
    """Redact what is kept of a flagged trace. Work is linear in its text; it belongs into a worker."""
    redactor, limit = TraceRedactor(request.trace, request.assessments), request.limit
    excerpts = {
        detector: tuple(redactor.field(e.field, e.start, e.end, limit) for e in evidence)
        for detector, evidence in _shown(request.assessments, request.detectors)
    }
    return Redaction(redactor.prompt(limit), redactor.response(limit), excerpts)


def withheld(
    assessments: Sequence[Assessment], detectors: Collection[str], mark: SafeText = WITHHELD
) -> Redaction:
    """Return what is kept of a flagged trace whose text may not be: as many excerpts, without their text."""
    excerpts = {name: (mark,) * len(evidence) for name, evidence in _shown(assessments, detectors)}
    return Redaction(mark, mark, excerpts)


def _shown(
    assessments: Iterable[Assessment], detectors: Collection[str]
) -> Iterable[tuple[str, tuple[Evidence, ...]]]:
    return ((a.detector, a.evidence[:EXCERPTS]) for a in assessments if a.detector in detectors)


def text_of(trace: Trace, path: str) -> str:
    """Return the text an evidence path names; empty when the trace has no such field."""
    head, *rest = path.split(".")
    if head == "response":
        return trace.response
    parts = _PARTS.get(head, ("",))
    part = rest[1] if rest[1:] else parts[0]
    try:
        item = getattr(trace, head)[int(rest[0]) if rest else 0] if head in _PARTS else ""
    except (IndexError, ValueError):
        return ""
    text: str = item if isinstance(item, str) else getattr(item, part) if part and part in parts else ""
    return text


def constant(text: str) -> SafeText:
    """Mark a text as safe that holds nothing of a trace: a configured name, a message of our own."""
    return SafeText(text)


def remark(template: str, arguments: object, *, textless: bool) -> SafeText:
    """Fill a library's log message with what may be shown of its arguments; without them if they do not fit.

    `template` is a literal of the library's code, `arguments` are those of a `logging.LogRecord`. Numbers,
    enums, classes, and the classes of errors are shown of any library. Strings, and what an error or object
    says of itself, are shown only of one that is `textless`: that never has the text of a trace at hand as a
    `str`. Bytes may be such text even there, and are never shown. All passes the same net as an excerpt.
    """
    if isinstance(arguments, Mapping):
        filled: object = {name: _shown_value(value, textless) for name, value in arguments.items()}
    elif isinstance(arguments, tuple):
        filled = tuple(_shown_value(value, textless) for value in arguments)
    else:
        filled = ()
    try:
        text = template % filled if arguments else template
    except (TypeError, ValueError, KeyError):
        return SafeText(template)
    # Addresses of hosts do not identify people.
    pieces = _ADDRESS.split(text) if textless else [text]
    return SafeText("".join(
        piece if at % 2 else Redacted(piece, ()).render() for at, piece in enumerate(pieces)
    ))  # fmt: skip


def _shown_value(value: object, textless: bool) -> object:  # noqa: FBT001 - of the one caller's argument
    match value:
        case Enum():
            shown: object = value.name
        case None | bool() | int() | float():
            shown = value
        case type():
            shown = value.__name__
        case str() if textless:
            shown = value
        case list() | tuple() | set() | frozenset() if textless:
            shown = [_shown_value(each, textless) for each in list(value)[:_MOST_ITEMS]]
        case _:
            shown = _described(value, textless)
    return shown


def _described(value: object, textless: bool) -> str:  # noqa: FBT001 - see above
    kind, text = type(value).__name__, str(value) if textless else ""
    known = isinstance(value, OSError) or type(value).__module__.startswith("kafka")
    if not text or not known or _QUOTED_BYTES.search(text):
        return kind if isinstance(value, BaseException) else f"<{kind}>"
    return f"{kind}: {text}" if isinstance(value, BaseException) and kind not in text else text


def _without_nul(text: str) -> tuple[str, Sequence[int]]:
    if "\x00" not in text:
        return text, range(len(text))
    offsets = [i for i, char in enumerate(text) if char != "\x00"]
    return text.replace("\x00", ""), offsets


def _merged(masks: list[Mask]) -> list[Mask]:
    merged: list[Mask] = []
    for mask in sorted(masks, key=lambda m: (m.start, -m.end)):
        if merged and mask.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Mask(last.start, max(last.end, mask.end), last.kind)
        else:
            merged.append(mask)
    return merged
