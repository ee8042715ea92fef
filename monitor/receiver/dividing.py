"""What goes into which part when a body is divided."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Slice(NamedTuple):
    """Items `begin` to before `end` of one scope."""

    group: int
    scope: int
    begin: int
    end: int


def divide(sizes: Sequence[Sequence[Sequence[int]]], most: int, most_bytes: int) -> Iterator[Sequence[Slice]]:
    """Divide items of scopes in groups, in their order, into parts of `most` items and `most_bytes` at most.

    `sizes` are the items' bytes; one that has more is alone in its part.
    """
    part: list[Slice] = []
    count = held = 0
    for group, scopes in enumerate(sizes):
        for scope, items in enumerate(scopes):
            begin = 0
            for number, size in enumerate(items):
                if count == most or (count and held + size > most_bytes):
                    if number > begin:
                        part.append(Slice(group, scope, begin, number))
                    yield part
                    part, begin, count, held = [], number, 0, 0
                count += 1
                held += size
            if begin < len(items):
                part.append(Slice(group, scope, begin, len(items)))
    if part:
        yield part
