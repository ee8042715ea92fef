"""Identifiers that may be logged: what does not look like one, or looks like personal data, is replaced.

Identifiers (ids, names of apps and models) go into logs, labels and spans, so a sender who puts an e-mail
address, a telephone number or a key there would publish it. `monitor.privacy.personal` decides. Names that
the configuration mentions stay as they are: the operator has chosen them; rules and budgets must find them.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache

from monitor.privacy.personal import MAX_CHARS, is_identifier, is_title


def clean_identifier(text: str, pseudonym: Callable[[str], str], kept: Collection[str] = ()) -> str:
    """Return `text` if it may be logged (see `is_identifier`) or is among `kept`, else its keyed hash."""
    return text if is_identifier(text) or text in kept else _hashed(text, pseudonym)


def clean_title(text: str, pseudonym: Callable[[str], str], kept: Collection[str] = ()) -> str:
    """Return the name of an agent, tool, workflow or data source if it may be logged, else its keyed hash.

    Besides what `clean_identifier` allows, spaces and any other printable characters are, 128 at most without
    those at its ends, as in the GenAI conventions' own example, "Math Tutor". What only such characters
    separate counts as personal data all the same, and so do nine digits.
    """
    text = text.strip()
    return text if is_title(text) or text in kept else _hashed(text, pseudonym)


def _hashed(text: str, pseudonym: Callable[[str], str]) -> str:
    """Return `h:` and 64 bits. They are keyed: a bare hash of a short number is undone by trying them all."""
    return "h:" + hashlib.sha256(pseudonym(text).encode()).hexdigest()[:16]


CACHED = 4096  # values of one daemon's `app`, `model`, `user`, …; bounds what a sender can make it keep
ENVIRONMENTS = {
    **dict.fromkeys(("prod", "prd", "live"), "production"),
    **dict.fromkeys(("stage", "stg", "preprod", "pre-production", "uat"), "staging"),
    **dict.fromkeys(("dev", "development", "test", "testing", "local", "sbx"), "sandbox"),
}


class _Remembered(dict[str, str]):
    """A cache of a function's results: short arguments only, at most `CACHED`."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> str:
        made = self._function(text)
        if len(text) <= MAX_CHARS:
            if len(self) >= CACHED:
                self.clear()
            self[text] = made
        return made


class KeptNames:
    """Names that stay as they are, whatever they look like: those that the configuration mentions."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._caches: list[_Remembered] = []

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def replace(self, names: Iterable[str]) -> None:
        """Keep these and no others; those that no log may hold are left out. Not thread-safe."""
        self._names = frozenset(n for n in map(str.strip, names) if n.isprintable() and len(n) <= MAX_CHARS)
        for cache in self._caches:
            cache.clear()

    def cached(self, function: Callable[[str], str]) -> Callable[[str], str]:
        """Return the function with a cache that is emptied when these names change."""
        cache = _Remembered(function)
        self._caches.append(cache)
        return cache.__getitem__


class Names:
    """Cleans a sender's names with the keyed `pseudonym`; see `clean_identifier`.

    `name` and `id` clean; `name` also caches, for names that repeat. `title` cleans names that people gave to
    agents and tools (see `clean_title`). `user` gives a pseudonym. `environment`
    gives production, staging, internal or sandbox for their usual names in any case, else the cleaned name.
    """

    def __init__(self, pseudonym: Callable[[str], str], kept: KeptNames | None = None) -> None:
        kept = KeptNames() if kept is None else kept
        self.id: Callable[[str], str] = lambda text: (
            text if is_identifier(text) or text in kept else _hashed(text, pseudonym)
        )
        self.name = kept.cached(self.id)
        self.title = kept.cached(lambda text: clean_title(text, pseudonym, kept))
        self.user: Callable[[str], str] = _Remembered(pseudonym).__getitem__
        self.environment = kept.cached(self._environment)

    def optional(self, text: str | None, absent: str = "") -> str:
        """Return the cleaned name, or `absent` for none."""
        return self.name(text) if text else absent

    def trace_id(self, own: str | None, trace_id: str, span_id: str, value: bytes, part: int = 0) -> str:
        """Return a trace's id: its own, else trace:span (both cleaned already), else a hash of the record."""
        if own:
            return self.id(own)
        if trace_id and span_id:
            return f"{trace_id}:{span_id}"
        return _content_id(value) + (f":{part}" if part else "")

    def _environment(self, text: str) -> str:
        plain = text.strip().lower()
        known = plain in {"production", "staging", "internal", "sandbox"}
        return plain if known else ENVIRONMENTS.get(plain) or self.id(text)


@lru_cache(1)  # the parts of one record ask one after the other
def _content_id(value: bytes) -> str:
    return "sha256:" + hashlib.sha256(value).hexdigest()[:32]
