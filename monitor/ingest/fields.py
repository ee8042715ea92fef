"""Helpers that decoders share: roles, times, bounded labels, and errors that name the field."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest import mending
from monitor.ingest.mending import Lost
from monitor.trace import Record, Trace

_encode = msgspec.json.encode
_MAX_TOKENS = 2**53
_MAX_FLOAT = sys.float_info.max
_MAX_DIGITS = 16  # of a number up to that
YEAR_2200 = 7_258_118_400  # Unix seconds; what lies beyond is milliseconds taken for seconds
MAX_LABELS = 32
MAX_LABEL_CHARS = 256
LABELS_LEFT_OUT = "labels_left_out"
LEFT_OUT_VALUES = "left_out.value"
"""Label that counts values that could not be used."""
NO_OBJECT = "the record: must hold one JSON object"
ROLES = {
    "system": "system",
    "developer": "system",  # OpenAI's name since the o1 models
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",  # Gemini
    "tool": "tool",
    "function": "tool",  # OpenAI's name before tools
    "human": "user",  # LangChain
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",  # Cohere
}

# Prefixes of what dialects read: with two values of one key, readers would disagree on which one was judged.
READ = (
    "gen_ai.", "llm.", "ai.", "input.", "output.", "retrieval.", "reranker.", "tool.", "session.", "user.",
    "enduser.", "traceloop.", "langfuse.", "langsmith.", "mlflow.", "metadata", "gcp.vertex.agent.", "genkit",
    "spring.", "mcp.", "litellm.", "openinference.", "crewai.", "db.vector.", "logfire.", "pydantic_ai.",
    "span.type", "request_data", "response", "prompt", "completion", "message", "model_request_parameters",
    "tool_", "final_result", "all_messages_events", "telemetry.sdk.",
)  # fmt: skip
Path: TypeAlias = tuple[str | int, ...]
"""Where in its record a value is: names and positions, not written out until an error needs them."""
USER = (
    "user.id", "user_id", "userId", "user", "enduser.id", "end_user", "langfuse_user_id", "ls_user_id",
)  # fmt: skip
CONVERSATION = (
    "session.id", "session_id", "sessionId", "conversation.id", "conversation_id", "conversationId",
    "thread_id", "threadId", "chat_id", "chatId", "langfuse_session_id",
)  # fmt: skip
"""Names that applications use for user and conversation in metadata, the likeliest first."""
OWNERS = frozenset({*USER, *CONVERSATION})
"""Names in metadata that become no labels: users are told by pseudonyms only."""

Parse: TypeAlias = Callable[[bytes], object]
"""Strict JSON (`strict_json.parse`) with the configured depth and the keys of the format."""
_T = TypeVar("_T")


def event_id(record: Record) -> str:
    """Return the id of a record's CloudEvent, which `framing.unframe` leaves in a header; empty for none."""
    for name, value in record.headers:
        if name == "ce_id":
            return value.decode()
    return ""


def role_of(role: object) -> str:
    """Return the role that a name of it means; user where nobody knows it."""
    if type(role) is not str:
        return "user"
    return ROLES.get(role) or ROLES.get(role.lower(), "user")


def unix_seconds(
    value: float | str | None, fallback: float, field: str = "time", lost: list[Lost] | None = None
) -> float:
    """Return Unix seconds of a number or an RFC 3339 string; `fallback` where none is given.

    With `lost`, one that cannot be used counts as none and is told to it. Raises BadTrace: out_of_range.
    """
    if value is None or value == "":
        value, lost = fallback, None
    if isinstance(value, str):
        try:
            moment: datetime = msgspec.convert(value, Annotated[datetime, Meta(tz=True)])
            value = moment.timestamp()
        except (msgspec.ValidationError, OverflowError):
            if lost is None:
                remedy = "must be Unix seconds or RFC 3339 with a zone"
                raise BadTrace("out_of_range", f"{field}: {remedy}") from None
            value = -1.0
    if 0 <= value < YEAR_2200:
        return float(value)
    if lost is None:
        raise BadTrace("out_of_range", f"{field}: must be Unix seconds (not milliseconds) from 1970 to 2199")
    lost.append(Lost(field, text=False))
    return unix_seconds(None, fallback, field)


def plain(value: object) -> str:
    """Return a string or a whole number as text, anything else as an empty string."""
    if type(value) is str:
        return value
    if type(value) is float and value.is_integer():  # as whole numbers come through protobuf's JSON
        value = int(value)
    return str(value) if type(value) is int else ""


def text_of(value: Any) -> str:
    """Return a value as text: a string as it is, anything else as JSON, nothing as an empty string."""
    if type(value) is str:
        return value
    return "" if value is None else _encode(value).decode()


def number(value: object) -> float | None:
    """Return a number that fits a float as a float, None for anything else."""
    if value is None:
        return None
    return float(value) if isinstance(value, int | float) and abs(value) <= _MAX_FLOAT else None


def token_count(value: object) -> int | None:
    """Return a count of tokens, which some senders write as digits or as a float; None for anything else."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_TOKENS else None
    count = -1
    if (type(value) is str and value.isdecimal() and value.isascii() and len(value) <= _MAX_DIGITS) or (
        type(value) is float and value.is_integer()
    ):
        count = int(value)
    return count if 0 <= count <= _MAX_TOKENS else None


def labels_of(pairs: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Return scalars as text: at most 32, each cut after 256 characters; of equal names the first.

    Null, empty values and containers are left out. `labels_left_out` counts the labels beyond 32.
    """
    labels: dict[str, str] = {}
    left_out = 0
    for key, value in pairs:
        name = key[:MAX_LABEL_CHARS]
        if value is None or value == "" or not isinstance(value, str | int | float) or name in labels:
            continue
        if len(labels) == MAX_LABELS:
            left_out += 1
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        labels[name] = text[:MAX_LABEL_CHARS]
    if left_out:
        labels[LABELS_LEFT_OUT] = str(left_out)
    return labels


def readable(sent: Sequence[object], read: Callable[[object, int], tuple[Trace, ...]]) -> tuple[Trace, ...]:
    """Return the traces of a record's items; `read` takes one and its place.

    Items that cannot be read are counted among the values that the first trace lacks. Raises the BadTrace of
    the first one where there is no trace.
    """
    traces: list[Trace] = []
    refused: list[BadTrace] = []
    for n, item in enumerate(sent):
        try:
            traces += read(item, n)
        except BadTrace as error:
            refused.append(error)
    if refused and not traces:
        raise refused[0]
    if refused:
        labels = traces[0].labels
        count = (token_count(labels.get(LEFT_OUT_VALUES)) or 0) + len(refused)
        traces[0] = msgspec.structs.replace(traces[0], labels={**labels, LEFT_OUT_VALUES: str(count)})
    return tuple(traces)


def convert(
    value: object, type_: type[_T], lost: list[Lost], where: str = "", strict: Collection[str] = ()
) -> _T:
    """Give decoded JSON its type, mended where it has another; see `mending.convert`.

    Raises BadTrace whose detail begins with the path, `where` before it.
    """
    try:
        return mending.convert(value, type_, lost, where=where, strict=strict)
    except msgspec.ValidationError as error:
        raise within(where, explain(str(error))) from None


def parse_within(where: str, text: str, parse: Parse) -> object:
    """Parse JSON that a string holds. Raises BadTrace as `parse` does, naming the string."""
    try:
        return parse(text.encode())
    except BadTrace as error:
        raise within(f"{where}, a string", error) from None


def within(where: str, error: BadTrace) -> BadTrace:
    """Return a part's error with the path from the whole."""
    if not where:
        return error
    joint = ": " if error.detail.startswith(("the record", "a ", "an ")) or where.endswith("string") else "."
    return BadTrace(error.reason, f"{where}{joint}{error.detail.removeprefix('the record: ')}")


def explain(message: str) -> BadTrace:
    """Classify msgspec's message, which holds types, bounds and the path but nothing the sender wrote."""
    what, _, path = message.partition(" - at ")
    field = path.strip("`").removeprefix("$").removeprefix(".") or "the record"
    if what.startswith("Object missing"):
        missing = what.split("`")[1]
        whole = missing if field == "the record" else f"{field}.{missing}"
        remedy = "send it, empty if the model said nothing" if missing == "response" else "send it"
        return BadTrace("missing_field", f"{whole}: required; {remedy}")
    reason = "out_of_range" if "out of range" in what or ">=" in what or "<=" in what else "wrong_type"
    return BadTrace(reason, f"{field}: {what[:1].lower()}{what[1:].replace('`', '')}")


def one_object(payload: object) -> dict[str, Any]:
    """Return the payload if it is a JSON object. Raises BadTrace: wrong_type."""
    if not isinstance(payload, dict):
        raise BadTrace("wrong_type", NO_OBJECT)
    return payload


def check_keys(keys: list[str], where: Path) -> None:
    """Refuse a repeated attribute that a dialect reads; other attributes may repeat.

    Raises BadTrace: duplicate_key.
    """
    seen: set[str] = set()
    for key in keys:
        if key in seen and key.startswith(READ):
            raise BadTrace("duplicate_key", f"{written(where)}: an attribute occurs twice; send it once")
        seen.add(key)


def written(where: Path) -> str:
    """Return a path as errors name it: `("spans", 3, ".events")` is `spans[3].events`."""
    return "".join([f"[{part}]" if type(part) is int else str(part) for part in where])
