"""Gives decoded JSON its type although some values have another: each is mended, or left out and named.

A scalar in the place of a text becomes text, digits in the place of a number a number, one item a list of it.
What cannot be used counts as absent. msgspec names the first wrong value; all values of its kind in the same
place of a list's other items are treated alike, so that a long list costs no more than a short one.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

_T = TypeVar("_T")

MOST: Final = 32
"""Kinds of wrong values that are mended one by one; beyond, the whole field that holds one is left out."""
TEXTS: Final = frozenset({
    "content", "text", "arguments", "result", "output", "input", "refusal", "instructions", "prompt",
})  # fmt: skip
"""Fields whose objects and lists are a text, that is judged as JSON, rather than no value at all."""
_MESSAGES: Final = frozenset({"messages", "context"})
"""Lists whose items may be bare texts."""
_BARE: Final = frozenset({"message", "delta"})
"""Messages that may be a bare text."""
_PATH = re.compile(r"\.(\w+)|\[(\d+)\]|\[(\.\.\.)\]")
_TYPES = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?")
_BOUND = re.compile(r"(>=|<=) (-?\d+(?:\.\d+)?)")
_NAMES: Final[dict[type, str]] = {
    str: "str", int: "int", float: "float", bool: "bool", dict: "object", list: "array", type(None): "null",
}  # fmt: skip
_GONE: Final = object()
_FALSE: Final = frozenset({"", "false", "0", "no", "none", "null"})


class Lost(NamedTuple):
    """A value that was left out: the names on its path, and whether it held any text."""

    path: str
    text: bool


def convert(
    value: Any, type_: type[_T], lost: list[Lost], *, where: str = "", strict: Collection[str] = ()
) -> _T:
    """Return decoded JSON as `type_`, mended in place; `lost` is told what had to be left out of it.

    `where` comes before each path. Fields named in `strict` are not mended. Raises msgspec's ValidationError
    for those, for what is no object at all, and for one that lacks a required field.
    """
    for attempt in range(MOST + len(getattr(type_, "__struct_fields__", ()))):
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError as error:
            message = str(error)
            what, _, at = message.partition(" - at ")
            steps = _steps(at)
            if attempt >= MOST:
                what, steps = "", steps[:1]
            name = next((step for step in reversed(steps) if isinstance(step, str)), None)
            if name is None or name in strict or what.startswith("Object missing"):
                raise
            _mend(value, steps, what, lost, where)
    return msgspec.convert(value, type_)


def _steps(path: str) -> list[str | int | None]:
    """Return the keys and indexes of msgspec's path; None is any key of a dictionary."""
    return [name or (int(index) if index else None) for name, index, _ in _PATH.findall(path.strip("`"))]


def _mend(value: Any, steps: list[str | int | None], what: str, lost: list[Lost], where: str) -> None:
    """Mend the value at a path, and those of its kind at the same place of other items."""
    *above, last = steps
    found = _TYPES.match(what)
    expected, got = (frozenset(found[1].split(" | ")), found[2]) if found else (frozenset[str](), None)
    wrong = _is_wrong(what, got)
    key = next((str(step) for step in reversed(steps) if isinstance(step, str)), "")
    path = ".".join([where, *[step for step in steps if isinstance(step, str)]]).lstrip(".")
    holders = [value]
    for step in above:
        # Without a type to compare, only the one place is meant.
        holders = list(_below(holders, step, alone=wrong is None))
    for holder in holders:
        kept = list(_items(holder, last, alone=wrong is None))
        for at, item in kept:
            if wrong is not None and not wrong(item):
                continue
            made = _mended(item, expected, got, key, is_item=not isinstance(last, str))
            holder[at] = made
            if made is _GONE and item is not None:
                lost.append(Lost(path, _has_text(item)))
        if isinstance(holder, list):
            holder[:] = [item for item in holder if item is not _GONE]
        else:
            for at, _ in kept:
                if holder[at] is _GONE:
                    del holder[at]


def _is_wrong(what: str, got: str | None) -> Callable[[Any], bool] | None:
    """Return what tells wrong values of one kind from right ones, if the message says enough."""
    if got:
        return lambda item: _NAMES.get(type(item)) == got
    if bound := _BOUND.search(what):
        limit = float(bound[2])
        if bound[1] == ">=":
            return lambda item: type(item) in {int, float} and item < limit
        return lambda item: type(item) in {int, float} and item > limit
    return None


def _below(holders: list[Any], step: str | int | None, *, alone: bool) -> Iterator[Any]:
    for holder in holders:
        for _, item in _items(holder, step, alone=alone):
            if isinstance(item, dict | list):
                yield item


def _items(holder: Any, step: str | int | None, *, alone: bool) -> Iterator[tuple[Any, Any]]:
    """Yield the places of one step, with what is there: of an index all items, of None all keys."""
    if isinstance(step, str):
        if isinstance(holder, dict) and step in holder:
            yield step, holder[step]
    elif isinstance(holder, list):
        if alone and isinstance(step, int):
            yield step, holder[step]
        else:
            yield from enumerate(holder)
    elif isinstance(holder, dict) and step is None:
        yield from list(holder.items())


def _mended(item: Any, expected: frozenset[str], got: str | None, key: str, *, is_item: bool) -> Any:
    """Return what a value means in the place of one of the expected types, or _GONE."""
    if got in {"str", "float"} and not expected.isdisjoint({"int", "float"}):
        number = _number(item, whole="float" not in expected)
        if number is not None:
            return number
    if "str" in expected and (got in {"int", "float", "bool"} or (got and key in TEXTS and item is not None)):
        return msgspec.json.encode(item).decode()
    if "bool" in expected and item is not None:
        return item.lower() not in _FALSE if isinstance(item, str) else bool(item)
    if "array" in expected and got in {"object", "str"} and item:
        return [item]
    if "object" in expected and got == "str" and key in (_MESSAGES if is_item else _BARE):
        return {"content": item}
    return _GONE


def _number(value: str | float, *, whole: bool) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if not whole:
        return number
    return int(number) if number.is_integer() else None


def _has_text(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if item:
                return True
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False
