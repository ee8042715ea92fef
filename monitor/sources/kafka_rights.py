"""Rights that the broker's access control denies: waited for and named, topic by topic.

A right may be withdrawn while a daemon runs, or be missing at its start, and come (back) at any time. A
topic that may not be read is left alone and tried again every few seconds; the others are read meanwhile.
Without the right to its group nothing can be read, and the group is what is tried again. Both are one thing
here: a denial that holds until a trial passes without being refused.
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
TRIAL_SECONDS: Final = 3.0  # a trial not refused for so long has passed; the broker's answers take less


GROUP: Final = Denial(Right.READ_GROUP)


@dataclass(slots=True)
class _State:
    since: float
    due: float  # when the next trial begins
    said: float
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
            # The next heartbeat may be what is refused.
            Right.READ_GROUP: TRIAL_SECONDS + config.heartbeat_interval_ms / 1000,
        }
        self._cluster: Any = None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, as far as is known."""
        return not self._denied

    @property
    def group_denied(self) -> bool:
        """Whether the group is denied, a trial included."""
        return GROUP in self._denied

    def watch(self, consumer: Any, client: Any) -> None:
        """Learn what is denied where kafka-python does not raise, and let one topic not hide the others.

        kafka-python 3.0.x raises where it hears of such a topic and then takes none of the new metadata, so
        that no partition of any topic is ever assigned (`ConsumerCoordinator._handle_metadata_update`). Here
        the topic is noted, and looks to the rest like one that does not exist. A heartbeat that is refused it
        keeps to itself. Raises ConfigError for a release of the library in which that is done in another way.
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
        """Note what an error says is missing; whether it says that. `topic` is what was asked about."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "GroupAuthorizationFailedError" in kinds:
            self._deny(GROUP)
            return True
        if "TopicAuthorizationFailedError" not in kinds:
            return False
        named = error.args[0] if error.args and isinstance(error.args[0], set | frozenset) else ()
        for each in [topic] if topic else named:
            self._deny(Denial(Right.READ_TOPIC, each))
        return bool(topic or named)

    def holds(self, topic: str) -> bool:
        """Whether a topic is to be left alone for now; all are where the group is."""
        state = self._denied.get(Denial(Right.READ_TOPIC, topic))
        return self.holds_all or (state is not None and state.trial is None)

    @property
    def holds_all(self) -> bool:
        """Whether the group is to be left alone for now, so that nothing can be read."""
        state = self._denied.get(GROUP)
        return state is not None and state.trial is None

    def turn(self, *, asking: bool) -> bool:
        """Take note of the time and of new metadata; whether what `holds` says may have changed.

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
            return False  # still on its way when it was decided to wait
        state.trial, state.due = None, now + TRY_SECONDS
        if new or now - state.said >= SAY_SECONDS:
            state.said = now
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
