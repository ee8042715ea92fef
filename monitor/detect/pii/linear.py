"""Which patterns may take longer than in proportion to a text: those that RE2 cannot run."""

from collections.abc import Iterable, Iterator

import re2

_QUIET = re2.Options()
_QUIET.log_errors = False


def backtracking(patterns: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the names, each once, of the (name, pattern) that RE2 refuses: look-around, back-references."""
    told = set()
    for name, pattern in patterns:
        if name not in told:
            try:
                re2.compile(pattern, options=_QUIET)
            except re2.error:
                told.add(name)
                yield name
