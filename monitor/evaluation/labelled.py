"""Labelled rows for `riskmon eval`: JSONL files of one kind of risk, read as the traces the daemon would see.

    hallucination  {"question"?, "context": text or list, "response", "label": 1 = not supported}
    toxicity       {"text", "label": 1 = toxic}           judged as the model's response
    injection      {"text", "label": 1 = attack}          judged as the user's message
    pii            {"text", "spans": [{"start", "end", "type", "value"?}]}    judged as the model's response

`id` and `category` (a text, several with commas or as a list) are optional; other fields are not looked at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import click
import msgspec
from msgspec import UNSET, UnsetType

from monitor.evaluation.measures import Entity, Labels, Scores
from monitor.trace import Document, Message, Trace

EX_DATAERR = 65  # sysexits.h


class BadRow(click.ClickException):
    """A row that cannot be used. The message names file, line, field and remedy, and holds no text of it."""

    exit_code = EX_DATAERR


class Row(NamedTuple):
    """A labelled text as a trace. Only rows of personal data have `spans`; any span makes them positive."""

    id: str
    trace: Trace
    label: bool
    categories: tuple[str, ...]
    spans: tuple[Entity, ...] = ()


class Judged(NamedTuple):
    """A system's results on rows, in order: risk, whether it would report it, and spans if it has any.

    `seconds` and `cpu_seconds` are the time it took; None for published scores.
    """

    scores: Scores
    flagged: Labels
    entities: Sequence[tuple[Entity, ...]]
    seconds: float | None = None
    cpu_seconds: float | None = None


class _Common(msgspec.Struct, kw_only=True):
    id: str | int | None = None
    category: str | list[str] | None = None


class _Answer(_Common, kw_only=True):
    context: str | list[str]
    response: str
    question: str | None = None
    label: Literal[0, 1] | UnsetType = UNSET


class _Text(_Common, kw_only=True):
    text: str
    label: Literal[0, 1] | UnsetType = UNSET


class _Span(msgspec.Struct):
    start: int
    end: int
    type: str
    value: str | None = None


class _Spans(_Common, kw_only=True):
    text: str
    spans: list[_Span] | UnsetType = UNSET


_AnyRow: TypeAlias = _Answer | _Text | _Spans

_SHAPES: Final[Mapping[str, tuple[type[_AnyRow], str]]] = {
    "hallucination": (_Answer, '{"context": text or list, "response": text, "label": 0 or 1}'),
    "toxicity": (_Text, '{"text": text, "label": 0 or 1}'),
    "injection": (_Text, '{"text": text, "label": 0 or 1}'),
    "pii": (_Spans, '{"text": text, "spans": [{"start": n, "end": n, "type": text}]}'),
}
KINDS: Final = tuple(_SHAPES)


def read(kind: str, path: Path, *, limit: int | None = None, negatives: bool = False) -> list[Row]:
    """Read the rows of a file, at most `limit` from its beginning; blank lines are passed over.

    With `negatives`, rows without label or spans count as negative. Raises BadRow.
    """
    shape, remedy = _SHAPES[kind]
    decode = msgspec.json.Decoder(shape).decode
    rows: list[Row] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if limit is not None and len(rows) >= limit:
                    break
                if not line.strip():
                    continue
                try:
                    rows.append(_row(kind, decode(line), number, negatives=negatives))
                except (msgspec.DecodeError, ValueError) as error:
                    raise BadRow(f"{path}:{number}: {error}; a row of {kind} is {remedy}") from None
    except OSError as error:
        raise BadRow(f"{path}: cannot be read ({error.strerror}); give a JSONL file") from None
    if not rows:
        raise BadRow(f"{path}: holds no rows; a row of {kind} is {remedy}")
    return rows


def _row(kind: str, row: _AnyRow, number: int, *, negatives: bool) -> Row:
    """Return a row. Raises ValueError naming the field."""
    name = str(number) if row.id is None else str(row.id)
    listed = row.category.split(",") if isinstance(row.category, str) else row.category or []
    categories = tuple(dict.fromkeys(category.strip() for category in listed if category.strip()))
    if isinstance(row, _Spans):
        if row.spans is UNSET and not negatives:
            raise ValueError("field `spans` is missing ([] where there is none; or --negatives for all rows)")
        spans = [] if isinstance(row.spans, UnsetType) else row.spans
        entities = tuple(_entity(row.text, span, place) for place, span in enumerate(spans))
        return Row(name, Trace(id=name, time=0.0, response=row.text), bool(entities), categories, entities)
    if row.label is UNSET and not negatives:
        raise ValueError("field `label` is missing (or --negatives for all rows)")
    label = row.label == 1
    if isinstance(row, _Text):
        asked = kind == "injection"
        messages = (Message("user", row.text),) if asked else ()
        trace = Trace(id=name, time=0.0, response="" if asked else row.text, messages=messages)
        return Row(name, trace, label, categories)
    passages = [row.context] if isinstance(row.context, str) else row.context
    trace = Trace(
        id=name,
        time=0.0,
        response=row.response,
        messages=(Message("user", row.question),) if row.question else (),
        context=tuple(Document(str(place), passage) for place, passage in enumerate(passages)),
    )
    return Row(name, trace, label, categories)


def _entity(text: str, span: _Span, place: int) -> Entity:
    if not 0 <= span.start < span.end <= len(text):
        raise ValueError(
            f"spans[{place}]: start {span.start}, end {span.end} are not 0 <= start < end <= {len(text)},"
            " the length of `text` in characters"
        )
    if span.value is not None and text[span.start : span.end] != span.value:
        raise ValueError(f"spans[{place}].value is not the part of `text` from start to end")
    return Entity(span.start, span.end, span.type)


_ONE_TYPE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("PER", "NAME"), "PERSON"),
    **dict.fromkeys(("ORG", "COMPANY"), "ORGANIZATION"),
    **dict.fromkeys(("LOC", "GPE", "FAC", "ADDRESS", "STREET_ADDRESS", "ZIP_CODE", "CITY"), "LOCATION"),
    **dict.fromkeys(("DATE", "TIME", "DATE_OF_BIRTH"), "DATE_TIME"),
    **dict.fromkeys(("NORP", "NATIONALITY", "RELIGION"), "NRP"),
    "PREFIX": "TITLE",
    "DOMAIN_NAME": "URL",
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "SSN": "US_SSN",
    "IBAN": "IBAN_CODE",
}
"""Types that data sets and recognizers tell apart and others do not. Places are one type: presidio-research
labels one street ADDRESS in one set and STREET_ADDRESS, GPE and ZIP_CODE in another, Presidio LOCATION."""


def one_type(kind: str) -> str:
    """Return the type under which a labelled and a predicted type are compared."""
    return _ONE_TYPE.get(kind.upper(), kind.upper())
