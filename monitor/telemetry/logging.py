"""Logs: one JSON object per line on standard error, without a word of trace text.

Only numbers, enums, None and short strings under known keys pass. An exception is logged as its type and
frames; its message only if it is one of ours, because a foreign one may quote the text it failed on. For
the same reason a third-party record keeps its message only if that is a literal of the calling code (an
f-string is not), filled in as `privacy.redact.remark` allows for its arguments; a library that never holds
trace text as a `str` is shown in full, bytes excepted. A few lines of each message pass per minute.
"""

import json
import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog

from monitor.errors import RiskmonError
from monitor.output import printable
from monitor.privacy.redact import remark
from monitor.telemetry.lines import LineWriter

MAX_CHARS: Final = 300
MAX_FRAMES: Final = 12
PER_MINUTE: Final = 3  # lines of one third-party message
TEXTLESS: Final = frozenset({"kafka"})
"""Libraries, by the first part of their loggers' names, that are handed text of traces only as bytes."""
_MINUTE: Final = 60.0
_MOST_MESSAGES: Final = 1000  # messages counted at a time; a library may log from this many lines of its code

KEYS: Final = frozenset(
    """
    action app batch cause code conditions consumed cost count dead_lettered deadline destination
    detector environment error event exception field file flag_id flags frames function gaps group host
    incident instance key kinds left_out level line logger message messages model module name offset outcome
    partition partitions path pid port position problems protocol reason recorded records released remedy
    right rows rule rules score seconds section setting severity signal stage status step summary tier
    timestamp topic topics trace_id traces version where workers
    """.split()  # noqa: SIM905 - sixty lines of quotes would read worse
)
"""The keys a log line may have. Others are left out and named under `dropped`."""

EventDict: TypeAlias = MutableMapping[str, Any]
Format: TypeAlias = Literal["json", "console"]
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_level(level: str) -> None:
    """Set the minimum level of riskmon's own events, for the whole process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))


def configure(level: str = "info", stream: TextIO | LineWriter | None = None, form: Format = "json") -> None:
    """Route structlog, the standard library's logging, warnings and uncaught exceptions to `stream`.

    `level` applies to riskmon's own events; other libraries log from `warning` up. Process-wide, so
    only a composition root calls it (each worker process does too). `stream` defaults to standard error.
    """
    out: Any = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exceptions,
            _only_safe,
            _render_console if form == "console" else _render_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _ThirdParty):
            root.removeHandler(handler)
    root.addHandler(_ThirdParty())
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception without foreign text: type, frames (innermost last), message if it is ours."""
    fields: dict[str, Any] = {
        "exception": f"{type(error).__module__}.{type(error).__qualname__}",
        "frames": " < ".join(
            f"{Path(frame.filename).stem}:{frame.lineno}"
            for frame in reversed(traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:])
        ),
    }
    if isinstance(error, RiskmonError):
        fields["message"] = str(error)
    return fields


def _exceptions(_logger: object, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()[1]
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        event.update(describe(info))
    return event


def _only_safe(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Keep known keys and plain values; name the keys left out."""
    cleaned: dict[str, object] = {}
    dropped: list[str] = []
    for key, value in event.items():
        safe = _safe(value)
        if key in KEYS and safe is not _REFUSED:
            cleaned[key] = safe
        else:
            dropped.append(printable(str(key))[:40])
    if dropped:
        cleaned["dropped"] = " ".join(sorted(dropped))
    return cleaned


_REFUSED: Final = object()


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _safe(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return printable(value[:MAX_CHARS])
    return _REFUSED


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    return json.dumps(event, ensure_ascii=True, separators=(",", ":"))


def _render_console(_logger: object, _method: str, event: EventDict) -> str:
    fields = " ".join(
        f"{key}={value}" for key, value in event.items() if key not in ("timestamp", "level", "event")
    )
    return f"{event['timestamp']} {event['level']:<7} {event['event']:<30} {fields}"


@dataclass(slots=True)
class _Message:
    """Counts of one message of a library in the minute since `since`."""

    since: float
    record: logging.LogRecord  # the first
    passed: int = 0
    left_out: int = 0


class _ThirdParty(logging.Handler):
    """Turns records of other libraries into safe events, a few a minute of each message."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: dict[tuple[str, int, str], _Message] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log the place of a record, and its message as far as that may be shown."""
        self._tell_left_out(record.created)
        literal = isinstance(record.msg, str) and _is_literal(record)
        key = (record.pathname, record.lineno, record.msg if literal else "")
        message = self._messages.setdefault(key, _Message(record.created, record))
        if message.passed >= PER_MINUTE or len(self._messages) > _MOST_MESSAGES:
            message.left_out += 1
            return
        message.passed += 1
        fields: dict[str, object] = {}
        if record.name.partition(".")[0] in TEXTLESS:
            template, arguments = (record.msg, record.args) if literal else ("%s", (record.getMessage(),))
            fields["message"] = remark(template, arguments, textless=True)
        elif literal:
            fields["message"] = remark(record.msg, record.args, textless=False)
        if record.exc_info and record.exc_info[1] is not None:
            fields.update(describe(record.exc_info[1]))
        self._log(record, **fields)

    def _tell_left_out(self, now: float) -> None:
        """Begin new minutes, and log how many lines the last ones left out."""
        for key, message in list(self._messages.items()):
            if now - message.since >= _MINUTE or now < message.since:
                del self._messages[key]
                if message.left_out:
                    self._log(message.record, message=key[2] or None, left_out=message.left_out)

    def _log(self, record: logging.LogRecord, **fields: object) -> None:
        log = structlog.get_logger()
        methods: Mapping[int, Callable[..., object]] = {10: log.debug, 20: log.info, 30: log.warning}
        method = methods.get(record.levelno // 10 * 10, log.error)
        place = f"{Path(record.pathname).stem}:{record.lineno}"
        method("third_party", logger=record.name, line=place, function=record.funcName, **fields)


def _is_literal(record: logging.LogRecord) -> bool:
    """Return whether the message is a constant of the code that logged it, hence not made from data.

    A handler runs inside the logging call, so the caller's frame is still on the stack.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to read the stack cheaply
    while frame is not None:
        if frame.f_code.co_filename == record.pathname and frame.f_code.co_name == record.funcName:
            return record.msg in frame.f_code.co_consts
        frame = frame.f_back
    return False


def _uncaught(kind: type[BaseException], error: BaseException | None, _trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    structlog.get_logger().error("uncaught_exception", exc_info=error)
