"""Rights that the broker's access control denies: waited for and named, topic by topic.

A right may be withdrawn while a daemon runs, or be missing at its start, and return at any time. A topic that
may not be read is left alone and tried again every few seconds; the others are read meanwhile. Without the
right to its group nothing can be read, so the group is tried again. Both are handled as one: a denial holds
until a trial passes without being refused.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock
from monitor.config import KafkaConfig
from monitor.errors import ConfigError
from monitor.events import Denial, Right
from monitor.sources.kafka_diagnosis import SAY_SECONDS

TRY_SECONDS: Final = 5.0  # how long a denied right is left alone before it is tried again
TRIAL_SECONDS: Final = 3.0  # a trial not refused for this long has passed; the broker answers sooner


GROUP: Final = Denial(Right.READ_GROUP)


@dataclass(slots=True)
class _State:
    since: float
    due: float  # when the next trial begins
    logged_at: float
    trial: float | None = None  # when the one that is under way began


class Rights:
    """Rights that are denied now. `on_change` gets each denial when it begins (true) and ends.

    Used from one thread, except for the listener that `watch` leaves with the client.
    """

    def __init__(
        self,
        config: KafkaConfig,
        clock: Clock,
        log: FilteringBoundLogger,
        on_change: Callable[[Denial, bool], None],
    ) -> None:
        self._group = config.group_id
        self._user = config.sasl_username or "…"
        self._clock = clock
        self._log = log
        self._on_change = on_change
        self._denied: dict[Denial, _State] = {}
        self._unseen: deque[frozenset[str]] = deque(maxlen=1)  # left by the IO thread
        self._group_refused = False  # set by the IO thread
        self._trial_seconds = {
            Right.READ_TOPIC: TRIAL_SECONDS,
            # The broker may only refuse the next heartbeat.
            Right.READ_GROUP: TRIAL_SECONDS + config.heartbeat_interval_ms / 1000,
        }
        self._cluster: Any = None

    @property
    def complete(self) -> bool:
        """Return whether no right is known to be missing."""
        return not self._denied

    @property
    def group_denied(self) -> bool:
        """Return whether the group is denied, also during a trial."""
        return GROUP in self._denied

    def watch(self, consumer: Any, client: Any) -> None:
        """Note denials that kafka-python does not raise, and keep one topic from hiding the others.

        kafka-python 3.0.x raises when metadata denies a topic and then takes none of the new metadata, so no
        partition of any topic is ever assigned (`ConsumerCoordinator._handle_metadata_update`). Here the
        topic is noted, and treated as one that does not exist. The library also hides refused heartbeats.
        Raises ConfigError for a release of the library that does this in another way.
        """
        from kafka.errors import GroupAuthorizationFailedError
        from kafka.util import WeakMethod

        self._cluster = client.cluster
        try:
            coordinator = consumer._coordinator  # noqa: SLF001 - see above
            update = coordinator._handle_metadata_update  # noqa: SLF001 - see above
            heed = coordinator._handle_heartbeat_response  # noqa: SLF001 - see above
        except AttributeError as error:
            raise ConfigError(
                f"this kafka-python has no {error.name}; install a release that riskmon was tested with"
            ) from None

        def note_and_update(cluster: Any) -> None:
            self._unseen.append(frozenset(cluster.unauthorized_topics))
            cluster.unauthorized_topics = set()
            update(cluster)

        def note_and_heed(response: Any, *sent: Any) -> Any:
            self._group_refused |= response.error_code == GroupAuthorizationFailedError.errno
            return heed(response, *sent)

        coordinator._handle_heartbeat_response = note_and_heed  # noqa: SLF001 - see above
        self._cluster.remove_listener(WeakMethod(update))
        self._cluster.add_listener(note_and_update)

    def refused(self, error: BaseException, topic: str = "") -> bool:
        """Note the missing right an error names; return whether it names one. `topic` was asked about."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "GroupAuthorizationFailedError" in kinds:
            self._deny(GROUP)
            return True
        if "TopicAuthorizationFailedError" not in kinds:
            return False
        named = error.args[0] if error.args and isinstance(error.args[0], set | frozenset) else ()
        for denied in [topic] if topic else named:
            self._deny(Denial(Right.READ_TOPIC, denied))
        return bool(topic or named)

    def holds(self, topic: str) -> bool:
        """Return whether to leave a topic alone for now; with the group denied, all of them."""
        state = self._denied.get(Denial(Right.READ_TOPIC, topic))
        return self.holds_all or (state is not None and state.trial is None)

    @property
    def holds_all(self) -> bool:
        """Return whether to leave the group alone for now, so that nothing can be read."""
        state = self._denied.get(GROUP)
        return state is not None and state.trial is None

    def turn(self, *, asking: bool) -> bool:
        """Process the time and new metadata; return whether answers of `holds` may have changed.

        `asking`: a broker is connected and records are asked for, so that a trial can be refused at all.
        """
        changed = False
        for topic in sorted(self._unseen.popleft()) if self._unseen else ():
            changed |= self._deny(Denial(Right.READ_TOPIC, topic))
        if self._group_refused:
            self._group_refused = False
            changed |= self._deny(GROUP)
        now = self._clock.monotonic()
        for denial, state in list(self._denied.items()):
            if state.trial is None and now >= state.due:
                state.trial = now
                changed = True
                self._cluster.request_update()
            elif state.trial is not None and not asking:
                state.trial = now
            elif state.trial is not None and now - state.trial >= self._trial_seconds[denial.right]:
                del self._denied[denial]
                self._on_change(denial, False)
                self._log.info("kafka_allowed", **self._described(denial, now - state.since))
        return changed

    def _deny(self, denial: Denial) -> bool:
        now = self._clock.monotonic()
        state = self._denied.get(denial)
        new = state is None
        if state is None:
            state = self._denied[denial] = _State(now, now, now)
            self._on_change(denial, True)
        elif state.trial is None:
            return False  # was under way when the wait began
        state.trial, state.due = None, now + TRY_SECONDS
        if new or now - state.logged_at >= SAY_SECONDS:
            state.logged_at = now
            on = f"--topic {denial.topic}" if denial.topic else f"--group {self._group}"
            self._log.error(
                "kafka_denied",
                **self._described(denial, now - state.since),
                remedy=f"kafka-acls --add --allow-principal User:{self._user} --operation Read {on}",
            )
        return True

    def _described(self, denial: Denial, seconds: float) -> dict[str, object]:
        """Return a denial as fields of a log line."""
        return {
            "right": denial.right,
            "topic": denial.topic or None,
            "group": None if denial.topic else self._group,
            "seconds": round(seconds),
        }
