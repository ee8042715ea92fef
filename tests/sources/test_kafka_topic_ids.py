"""When a partition's topic id counts: never one that was in the metadata before the question."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import ManualClock
from monitor.sources.kafka_logs import AGAIN_SECONDS, Logs

KEY = ("t", 0)


class Answer:
    """A request for metadata, as the library's future."""

    is_done = False
    failed = False

    def succeeded(self) -> bool:
        """As the library's."""
        return self.is_done and not self.failed


class Cluster:
    """The metadata of a client: an id of the topic, and the requests for a newer one."""

    def __init__(self, topic_id: str) -> None:
        self.id = topic_id
        self.requests: list[Answer] = []
        self._listener: Any = None

    def add_listener(self, listener: Any) -> None:
        """As the library's."""
        self._listener = listener

    def request_update(self) -> Answer:
        """As the library's."""
        self.requests.append(Answer())
        return self.requests[-1]

    def topic_id(self, _: str) -> str:
        """As the library's."""
        return self.id

    def answer(self, topic_id: str, *, failed: bool = False) -> None:
        """Answer all requests."""
        if not failed:
            self.id = topic_id
            self._listener(self)
        for request in self.requests:
            request.is_done, request.failed = True, request.failed or failed
        self.requests.clear()


def fixture(topic_id: str) -> tuple[Logs, Cluster, ManualClock]:
    """Return the logs of a client whose metadata name this id."""
    clock, cluster = ManualClock(), Cluster(topic_id)
    logs = Logs(clock)
    fetcher = SimpleNamespace(_parse_fetched_data=lambda _: None, _handle_fetch_error=lambda *_: None)
    logs.attach(SimpleNamespace(_fetcher=fetcher), cluster)
    return logs, cluster, clock


@given(old=st.sampled_from(["", "A"]), new=st.sampled_from(["", "A", "B"]), failures=st.integers(0, 3))
def test_an_assigned_partition_waits_for_metadata_of_its_own(old: str, new: str, failures: int) -> None:
    """Nothing of it may be announced until metadata that were asked for after the assignment are there."""
    logs, cluster, clock = fixture(old)
    logs.question(KEY)
    for _ in range(failures):
        cluster.answer(old, failed=True)
        logs.look([])
        assert logs.doubted(KEY)
        clock.advance(AGAIN_SECONDS)
        logs.look([])
    assert logs.doubted(KEY)
    cluster.answer(new)
    assert KEY in logs.look([]).settled
    assert (logs.doubted(KEY), logs.topic_id(KEY[0])) == (False, new)


def test_a_known_partition_of_another_id_has_changed() -> None:
    """A question about a partition that is read finds out that its topic was recreated."""
    logs, cluster, _ = fixture("A")
    logs.know(KEY, "A")
    logs.question(KEY)
    assert logs.doubted(KEY)
    cluster.answer("B")
    changes = logs.look([])
    assert (changes.changed, changes.settled) == ([KEY], [])


def test_a_partition_that_was_given_up_is_doubted_no_more() -> None:
    """What another daemon owns is not looked at."""
    logs, _, _ = fixture("A")
    logs.question(KEY)
    logs.forget(KEY)
    assert not logs.doubted(KEY)
    assert KEY not in logs.look([]).settled
