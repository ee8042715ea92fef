"""Components of a daemon: they start in order and stop in the opposite order."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import structlog

from monitor.clock import Deadline

log = structlog.get_logger(__name__)

NO_CONDITIONS: Final[Mapping[str, bool]] = {}


class Component(NamedTuple):
    """One part, as three callables.

    `start` raises if the daemon cannot start. `stop` ends the part by the deadline; it must be safe without a
    start, after a failed one, and twice. `ready` returns the part's own conditions of readiness; the HTTP
    server's thread calls it, so it neither blocks nor raises.
    """

    name: str
    start: Callable[[], object] = lambda: None
    stop: Callable[[Deadline], object] = lambda _deadline: None
    ready: Callable[[], Mapping[str, bool]] = lambda: NO_CONDITIONS


class Components(tuple[Component, ...]):
    """Components in the order in which they start: each may use those before it."""

    __slots__ = ()

    def start(self) -> None:
        """Start one after the other. The first exception ends the start; `stop` is safe then."""
        for component in self:
            component.start()

    def stop(self, deadline: Deadline) -> None:
        """Stop all, the last one first, also when one fails; then raise what the first failure raised."""
        failures: list[Exception] = []
        for component in reversed(self):
            try:
                component.stop(deadline)
            except Exception as error:  # noqa: BLE001 - raised below, once the others have stopped
                log.error("component_not_stopped", name=component.name, error=type(error).__name__)  # noqa: TRY400 - a message may quote a trace
                failures.append(error)
        if failures:
            raise failures[0]

    def ready(self) -> dict[str, bool]:
        """Return the conditions of all components, by name."""
        return {name: holds for component in self for name, holds in component.ready().items()}
