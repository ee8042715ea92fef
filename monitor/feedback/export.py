"""Write feedback items to a file, in the formats trainers read."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Literal, TypeAlias

from monitor.errors import Tampered
from monitor.output import quiet_json

Format: TypeAlias = Literal["jsonl"]


class UnsafeItemError(Tampered):
    """A feedback item is not marked as redacted, so it must not leave the ledger."""


def export(items: Iterable[Mapping[str, Any]], out: IO[str], fmt: Format) -> int:
    """Write each item once, in the order given, and return how many were written.

    Streams: holds one item and the ids seen so far. A repeated id is left out. `out` is a UTF-8 text file.
    Raises UnsafeItemError, before writing anything of it, at an item whose `privacy.pii` is not `redacted`;
    what was written until then is complete lines.
    """
    encode = _ENCODERS[fmt]
    seen: set[str] = set()
    for item in items:
        key = str(item["id"])
        privacy = item.get("privacy")
        if not isinstance(privacy, Mapping) or privacy.get("pii") != "redacted":
            raise UnsafeItemError(
                f"feedback item {key}: privacy.pii is not 'redacted'; "
                "erase the item or redact it before it is exported"
            )
        if key not in seen:
            seen.add(key)
            out.write(encode(item))
    return len(seen)


def _jsonl(item: Mapping[str, Any]) -> str:
    return quiet_json(json.dumps(item, ensure_ascii=False, sort_keys=True, allow_nan=False)) + "\n"


_ENCODERS: dict[Format, Callable[[Mapping[str, Any]], str]] = {"jsonl": _jsonl}
