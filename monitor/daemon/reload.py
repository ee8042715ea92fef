"""Reload on SIGHUP and `POST /-/reload`: rules and log level apply at once, other settings are only checked.

Everything else (source, pool, detectors, ledger, receivers, addresses) is built once, from settings that fit
together; a running daemon that mixed old and new ones could not keep its promises. A restart drains and
judges nothing twice, so it is the way to change them; the log line names the settings that wait for one.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog
from pydantic import BaseModel
from typing_extensions import override

from monitor.config import Config
from monitor.errors import ConfigError
from monitor.ports import Observer
from monitor.rules import RuleBook
from monitor.telemetry.logging import set_level
from monitor.telemetry.observer import TelemetryObserver

APPLIED: Final = frozenset({"telemetry.log_level"})
"""Settings that a reload changes. Rule files are read again whether it succeeds or not."""

log = structlog.get_logger(__name__)


class Reloader(Observer):
    """Reloads the configuration when the engine reports a requested reload."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None,
        rules: RuleBook,
        observer: TelemetryObserver,
    ) -> None:
        self._config = config
        self._reread = reread
        self._rules = rules
        self._observer = observer

    @override
    def reload_requested(self) -> None:
        """Read the configuration, apply the settings that may change, and report the result. Never raises."""
        problems = [self._rules.error] if self._rules.error else []
        waiting: list[str] = []
        try:
            fresh = self._reread() if self._reread else self._config
        except ConfigError as error:
            problems.append(str(error))
            self._observer.config_loaded(ok=False)
        else:
            self._observer.config_loaded(ok=True)
            set_level(fresh.telemetry.log_level)
            waiting = [name for name in changed(self._config, fresh) if name not in APPLIED]
        self._observer.reloaded(ok=not problems)
        remedy = f"restart to apply {', '.join(waiting)}" if waiting else ""
        if problems:
            log.error("reload_failed", reason="; ".join(problems), remedy=remedy)
        else:
            log.info("reloaded", version=self._rules.current.version, remedy=remedy)


def changed(old: Config, new: Config) -> list[str]:
    """Return the dotted names of the settings in which two configurations differ, never their values."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _leaves(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value
