"""The rules in force: read again when their files change, swapped as a whole, kept when the new ones fail."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from monitor.clock import Clock
from monitor.errors import ConfigError
from monitor.rules.files import read
from monitor.rules.ruleset import DETECTORS, RuleSet

Contents = tuple[tuple[str, bytes], ...]


class Reload(NamedTuple):
    """One try to load changed rules. `version` is the set then in force; `error` is empty on success."""

    version: str
    error: str
    time: float

    @property
    def ok(self) -> bool:
        """Return whether the files on disk are in force."""
        return not self.error


class RuleBook:
    """The current rules and their files.

    Raises ConfigError on construction when the first set cannot be loaded: there is no earlier set to keep.
    No paths means the packs that come with riskmon.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, detectors: Sequence[str] = DETECTORS) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._detectors = tuple(detectors)
        self._seen: Contents | str = read(self._paths)
        self._current = RuleSet.compile(self._seen, self._detectors)
        self._followers: list[Callable[[RuleSet], None]] = []
        self.error = ""
        """Why the files on disk are not in force; empty when they are."""

    @property
    def current(self) -> RuleSet:
        """Return the rules in force."""
        return self._current

    def follow(self, follower: Callable[[RuleSet], None]) -> None:
        """Tell the rules in force, now and each time that others are loaded, in the thread that does so."""
        self._followers.append(follower)
        follower(self._current)

    def refresh(self) -> Reload | None:
        """Check the files; return None when nothing changed, else the result of loading them. Never raises.

        Contents are compared, not time stamps, which neither a Kubernetes ConfigMap nor a coarse clock keep
        apart. A change counts only when two readings agree, so a set that is half swapped is never loaded.
        """
        contents = self._look()
        if contents == self._seen or contents != self._look():
            return None
        self._seen = contents
        self.error = contents if isinstance(contents, str) else self._load(contents)
        return Reload(self._current.version, self.error, self._clock.now())

    def _look(self) -> Contents | str:
        try:
            return read(self._paths)
        except ConfigError as error:
            return str(error)

    def _load(self, contents: Contents) -> str:
        try:
            self._current = RuleSet.compile(contents, self._detectors)
        except ConfigError as error:
            return str(error)
        for follower in self._followers:
            follower(self._current)
        return ""
