"""Values of attributes that hold JSON or text: read whole, or as far as they go, and written as text."""

import re
from typing import Any, Final

from monitor.errors import BadTrace
from monitor.ingest import strict_json
from monitor.ingest.cut_json import read_cut
from monitor.ingest.fields import text_of

MAX_DEPTH: Final = 64  # of JSON in an attribute; deeper is taken as text
OPENERS: Final = frozenset("[{")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def structured(value: Any) -> Any:
    """Return the list or dict that `value` is or holds as JSON, else `value`.

    JSON that is cut off, or holds a key twice, stays text: judged as it is rather than half read.
    """
    if type(value) is str and value[:1] in OPENERS:
        try:
            return strict_json.parse(value.encode(), MAX_DEPTH, ())
        except (BadTrace, UnicodeEncodeError):
            return value
    return value


def opened(value: Any) -> tuple[Any, bool]:
    """Return what `structured` does, and whether the JSON was cut off and is read only as far as it goes."""
    value = structured(value)
    if type(value) is str and value[:1] in OPENERS and (read := read_cut(value, MAX_DEPTH)):
        return read, True
    return value, False


def compact(value: Any) -> str:
    """Return `value` as text, JSON without spaces: two emitters of one answer write it alike."""
    return text_of(structured(value))


def is_digest(value: Any) -> bool:
    """Return whether a prompt or an output is a digest alone, SHA-1 or SHA-256 in hexadecimal.

    A Collector's attributes processor leaves one of a value that it hashes.
    """
    return type(value) is str and _DIGEST.fullmatch(value) is not None
