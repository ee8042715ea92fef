"""`riskmon decode`: the decoded fields of a payload, and those that are not used.

Nothing is recorded and no key file is needed: pseudonyms are of a key that is thrown away.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import msgspec

from monitor.cli.shared import config_option, json_option
from monitor.clock import SystemClock
from monitor.config import load
from monitor.detect import pii
from monitor.errors import BadTrace, ConfigError
from monitor.ingest import FORMATS, PROTOBUF, decoder, unused
from monitor.ingest.unused import UNNAMED, name_of
from monitor.output import as_json as to_json
from monitor.output import printable
from monitor.privacy.redact import TraceRedactor
from monitor.privacy.vault import Vault
from monitor.trace import Message, Record, Span, Step, Trace

PREVIEW_CHARS: Final = 60
_HASH: Final = re.compile(r"h:[0-9a-f]{16}")
EX_DATAERR: Final = 65  # sysexits.h
_CLEANED: dict[type, frozenset[str]] = {
    Trace: frozenset(Trace.__struct_fields__) - {"response", "alternatives", "labels"},
    Span: frozenset(Span.__struct_fields__),
    Step: frozenset(Step.__struct_fields__) - {"input", "output"},
    Message: frozenset({"role"}),
}
"""Fields whose strings were cleaned on entry or are of a bounded set; any other is what people wrote."""

Redact: TypeAlias = Callable[[Sequence[str]], list[str]]


def _run(form: str, file: str, path: Path | None, *, as_json: bool, raw: bool) -> bool:
    """Show each payload of a file; returns whether all could be decoded."""
    config = load(path)
    name = next((name for name in FORMATS if name == form), None)
    if name is None:
        raise click.BadParameter(f"{form!r} is none of {', '.join(FORMATS)}", param_hint="FORMAT")
    decode = decoder(name, config.ingest, Vault.fresh().pseudonym)
    redact: Redact = list if raw else _redactor()
    show = _print_json if as_json else _print_text
    good = True
    for number, value in _payloads(_read(file), binary=form in PROTOBUF):
        record = Record("decode", 0, number - 1, SystemClock().now(), None, value)
        try:
            pieces: Sequence[Trace | Span] = decode(record)
        except BadTrace as error:
            good = False
            show(number, error, Counter(), redact)
        else:
            show(number, pieces, unused(form, config.ingest, record), redact)
    return good


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({type(error).__name__}); give a readable file, or - for standard input"
        ) from None


def _payloads(content: bytes, *, binary: bool) -> Iterator[tuple[int, bytes]]:
    """Yield a file's payload, or its lines if the first is JSON by itself, numbered from 1."""
    lines = content.split(b"\n")
    first = next((line for line in lines if line.strip()), b"")
    if binary or content[:1] == b"\x00" or not _is_json(first) or _is_json(content):
        yield 1, content
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _redactor() -> Redact:
    """Redact as the daemon does what it keeps, with the built-in detector of personal data."""
    detector = pii.build()

    def redact(texts: Sequence[str]) -> list[str]:
        traces = [Trace(id="", time=0.0, response=text) for text in texts]
        judged = zip(traces, detector.assess(traces), strict=True)
        return [TraceRedactor(trace, [a]).field("response", limit=PREVIEW_CHARS) for trace, a in judged]

    return redact


def fields_of(value: Any, path: str = "", *, cleaned: bool = True) -> Iterator[tuple[str, Any, bool]]:
    """Yield each non-empty field: path, value, and whether it is text that must be redacted.

    The sender chooses names of labels, too: a name that is not an identifier is shown by position.
    """
    if isinstance(value, msgspec.Struct):
        known = _CLEANED.get(type(value), frozenset())
        for field in msgspec.structs.fields(value):
            inner = getattr(value, field.name)
            if inner not in (None, "", (), {}):
                yield from fields_of(inner, f"{path}.{field.name}".lstrip("."), cleaned=field.name in known)
    elif isinstance(value, tuple):
        for n, item in enumerate(value):
            yield from fields_of(item, f"{path}[{n}]", cleaned=cleaned)
    elif isinstance(value, dict):
        for n, (name, item) in enumerate(value.items()):
            shown = f"#{n}" if name_of(name) == UNNAMED else name
            yield from fields_of(item, f"{path}.{shown}", cleaned=False)
    else:
        yield path, value, isinstance(value, str) and not cleaned


def _hashed(item: Trace | Span) -> Iterator[str]:
    """Yield the paths of identifiers that were replaced by their hash."""
    for path, value, is_text in fields_of(item):
        if not is_text and isinstance(value, str) and _HASH.fullmatch(value):
            yield path


def _described(item: Trace | Span, redact: Redact) -> Iterator[tuple[str, Any, int | None]]:
    """Yield each field as path, text to show, and length of a text in characters."""
    fields = list(fields_of(item))
    texts = iter(redact([value for _, value, is_text in fields if is_text]))
    for path, value, is_text in fields:
        yield (path, next(texts), len(value)) if is_text else (path, value, None)


def _print_json(
    number: int, result: Sequence[Trace | Span] | BadTrace, left: Counter[str], redact: Redact
) -> None:
    if isinstance(result, BadTrace):
        click.echo(to_json({"error": {"reason": result.reason, "detail": result.detail}, "record": number}))
        return
    rows = [
        {
            path: shown if length is None else {"chars": length, "text": shown}
            for path, shown, length in _described(item, redact)
        }
        for item in result
    ]
    of = partial(_of_type, result, rows)
    click.echo(to_json({"record": number, "traces": of(Trace), "spans": of(Span), "unused": dict(left)}))


def _of_type(items: Sequence[object], rows: Sequence[dict[str, Any]], kind: type) -> list[dict[str, Any]]:
    return [row for item, row in zip(items, rows, strict=True) if isinstance(item, kind)]


def _print_text(
    number: int, result: Sequence[Trace | Span] | BadTrace, left: Counter[str], redact: Redact
) -> None:
    if isinstance(result, BadTrace):
        click.echo(f"record {number}: cannot be judged: {result.reason}\n  {printable(result.detail)}\n")
        return
    if not result:
        click.echo(f"record {number}: holds no exchange; it is recorded as read, with nothing to judge\n")
    for n, item in enumerate(result, 1):
        click.echo(f"record {number}: {type(item).__name__.lower()} {n} of {len(result)}")
        rows = list(_described(item, redact))
        width = max(len(path) for path, _, _ in rows)
        for path, shown, length in rows:
            size = "" if length is None else f"{length:>6} chars  "
            click.echo(f"  {printable(path):<{width}}  {size}{printable(str(shown))}")
        click.echo()
    scopes = sorted({item.foreign for item in result if isinstance(item, Span) and item.foreign})
    if scopes:
        click.echo(
            f"  spans of {', '.join(scopes)} look like calls of a model and are of no dialect that is read:"
            " their texts, if any, are judged by nobody; docs/formats.md lists what is read\n"
        )
    if hashed := sorted({path for item in result for path in _hashed(item)}):
        click.echo(
            f"  hashed: {', '.join(hashed)}; they look like personal data or are no names that may be logged,"
            " so policies and rules cannot match them\n"
        )
    if left:
        names = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(left.items()))
        click.echo(f"  not used: {printable(names)}\n")


@click.command("decode")
@click.argument("form", metavar="FORMAT")
@click.argument("file", type=click.Path(allow_dash=True))
@config_option
@json_option
@click.option("--raw", is_flag=True, help="Print texts as they are instead of redacted previews.")
def command(form: str, file: str, path: Path | None, *, as_json: bool, raw: bool) -> None:
    """Show how payloads in FORMAT are decoded, field by field, and what is not used; exit 0 or 65.

    FORMAT is one that `ingest.format` takes, `auto` included. FILE (`-`: standard input) holds one payload or
    a JSON object per line.
    """
    if not _run(form, file, path, as_json=as_json, raw=raw):
        raise click.exceptions.Exit(EX_DATAERR)
