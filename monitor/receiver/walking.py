"""Walks protobuf without decoding it: a message of two bytes takes up to ninety once it is decoded."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from monitor.receiver.refusals import BodyRefused, Refusal

FEW: Final = 1000  # messages in one, whatever they hold
LEAST: Final = 16  # bytes of each further one on average
HOLLOW: Final = "most of the body are messages that hold nothing"
_BYTES: Final = 2  # the wire type of what has a length
_FIXED: Final = {1: 8, 5: 4}  # bytes of others by wire type


class Holder(NamedTuple):
    """A message of protobuf: the bytes of its fields, without those of one repeated field, and these."""

    others: bytes
    items: Sequence[tuple[int, int, int]]  # where each begins, where its content does, and where both end


def holder(body: bytes, begin: int, end: int, number: int) -> Holder:
    """Walk a message and set its fields of this number apart."""
    wanted = number << 3 | _BYTES
    others, items = [], []
    for tag, start, content, stop in walk(body, begin, end):
        if tag == wanted:
            items.append((start, content, stop))
        else:
            others.append(body[start:stop])
    return Holder(b"".join(others), items)


def walk(body: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, begin, begin of the content, and end of each field of a message in protobuf.

    Raises BodyRefused where there is none, and when most fields so far hold nothing.
    """
    at, count = begin, 0
    while at < end:
        start = at
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(body, at)
            stop = at + length
        elif kind:
            stop = at + _FIXED.get(kind, end)  # groups, which nobody sends, are not read
        else:
            _, stop = _varint(body, at)
        if stop > end or tag < 1 << 3:
            raise BodyRefused(Refusal.MALFORMED, "the body is not protobuf, or cut off")
        count += 1
        if count > FEW + (stop - begin) // LEAST:
            raise BodyRefused(Refusal.MALFORMED, HOLLOW)
        yield tag, start, at, stop
        at = stop


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends: beyond the body if it does not."""
    if at < len(body) and body[at] < 0x80:  # noqa: PLR2004 - the continuation bit, as below
        return body[at], at + 1
    number = 0
    for shift, byte in enumerate(body[at : at + 10]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004
            return number, at + shift + 1
    return 0, len(body) + 1


def field(number: int, content: Sequence[bytes]) -> bytes:
    """Return a field with its tag and length."""
    head, length = bytearray([number << 3 | _BYTES]), sum(map(len, content))
    while length >= 0x80:  # noqa: PLR2004 - as above
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return b"".join([head, *content])
