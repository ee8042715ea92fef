"""When a partition's topic id counts: never one that was in the metadata before the question."""

from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.clock import ManualClock
from monitor.sources.kafka_logs import AGAIN_SECONDS, UNSEEN_SECONDS, Logs

KEY = ("t", 0)


class Answer:
    """The library's future."""

    def __init__(self) -> None:
        self.is_done = self.failed = False

    def succeeded(self) -> bool:
        """As the library's."""
        return self.is_done and not self.failed


class Cluster:
    """A client's metadata, and the broker behind it: one request at a time, sent and answered as a test says.

    As in the library, who asks while a request is under way gets the answer to that one.
    """

    def __init__(self, topic_id: str) -> None:
        self.broker = self.id = topic_id
        self.asked = 0
        self.under_way: str | None = None
        self._future: Answer | None = None
        self._listener: Any = None

    @property
    def metadata_refresh_in_progress(self) -> bool:
        """As the library's."""
        return self.under_way is not None

    def add_listener(self, listener: Any) -> None:
        """As the library's."""
        self._listener = listener

    def request_update(self) -> Answer:
        """As the library's."""
        self.asked += 1
        if self._future is None or self._future.is_done:
            self._future = Answer()
        return self._future

    def topic_id(self, _: str) -> str:
        """As the library's."""
        return self.id

    def send(self) -> None:
        """Send a request; the broker answers at once, and the answer is on its way."""
        if self.under_way is None:
            self.under_way = self.broker

    def receive(self, *, failed: bool = False) -> None:
        """Take the answer in."""
        answer, self.under_way = self.under_way, None
        if answer is None:
            return
        if not failed:
            self.id = answer
            self._listener(self)
        if self._future is not None:
            self._future.is_done, self._future.failed = True, failed

    def answer(self, *, failed: bool = False) -> None:
        """Send a request and take its answer in."""
        self.send()
        self.receive(failed=failed)


def fixture(topic_id: str) -> tuple[Logs, Cluster, ManualClock]:
    """Return the logs of a client whose metadata name this id."""
    clock, cluster = ManualClock(), Cluster(topic_id)
    logs = Logs(clock)
    fetcher = SimpleNamespace(
        _parse_fetched_data=lambda _: None,
        _handle_fetch_error=lambda *_: None,
        _create_fetch_requests=dict,
        _handle_fetch_response=lambda *_: None,
    )
    logs.attach(SimpleNamespace(_fetcher=fetcher), cluster)
    return logs, cluster, clock


@given(old=st.sampled_from(["", "A"]), new=st.sampled_from(["", "A", "B"]), failures=st.integers(0, 3))
def test_an_assigned_partition_waits_for_metadata_of_its_own(old: str, new: str, failures: int) -> None:
    """Nothing of it may be announced until metadata that were asked for after the assignment are there."""
    logs, cluster, clock = fixture(old)
    logs.question(KEY)
    cluster.broker = new
    for _ in range(failures):
        cluster.answer(failed=True)
        logs.look([])
        assert logs.doubted(KEY)
        clock.advance(AGAIN_SECONDS)
        logs.look([])
    assert logs.doubted(KEY)
    cluster.answer()
    assert KEY in logs.look([]).settled
    assert (logs.doubted(KEY), logs.topic_id(KEY[0])) == (False, new)


def test_a_known_partition_of_another_id_has_changed() -> None:
    """A question about a partition that is read finds out that its topic was recreated."""
    logs, cluster, _ = fixture("A")
    logs.know(KEY, "A")
    logs.question(KEY)
    assert logs.doubted(KEY)
    cluster.broker = "B"
    cluster.answer()
    changes = logs.look([])
    assert (changes.changed, changes.settled) == ([KEY], [])


def test_a_partition_that_was_given_up_is_doubted_no_more() -> None:
    """What another daemon owns is not looked at."""
    logs, _, _ = fixture("A")
    logs.question(KEY)
    logs.forget(KEY)
    assert not logs.doubted(KEY)
    assert KEY not in logs.look([]).settled


class History:
    """A partition that is doubted now and then while its topic is made anew and requests are slow."""

    def __init__(self, *, known: bool) -> None:
        self.logs, self.cluster, self.clock = fixture("0")
        self._since = -1  # the broker's id when the partition was doubted last
        if known:
            self.logs.know(KEY, "0")
        self._known = known

    def recreate(self) -> None:
        """The broker has another topic of that name."""
        self.cluster.broker = str(int(self.cluster.broker) + 1)

    def fail(self) -> None:
        """The request that is under way fails."""
        self.cluster.receive(failed=True)

    def ask(self) -> None:
        """The partition is assigned, or its position does not fit."""
        self.logs.question(KEY)
        self._since = int(self.cluster.broker)

    def pause(self) -> None:
        """Nothing was fetched for some time."""
        self.clock.advance(UNSEEN_SECONDS * 2)
        self.logs.reads()
        if self._known:
            self._since = int(self.cluster.broker)

    def look(self) -> None:
        """The source compares ids, and looks up what has changed."""
        if self.logs.look([]).changed:
            self.logs.know(KEY, self.cluster.id)
            self._known = True
            self.ask()

    def check(self) -> None:
        """What may be delivered has the id that the broker had at the last doubt, or a newer one."""
        assert self.logs.doubted(KEY) or int(self.cluster.id) >= self._since


@settings(max_examples=2000)
@example(known=False, steps=["send", "recreate", "ask", "receive", "look"])
@example(known=True, steps=["pause", "send", "recreate", "pause", "receive", "look"])
@given(
    known=st.booleans(),
    steps=st.lists(
        st.sampled_from(["send", "receive", "fail", "recreate", "ask", "pause", "look"]),
        min_size=5,
        max_size=20,
    ),
)
def test_an_answer_of_before_settles_nothing(known: bool, steps: list[str]) -> None:  # noqa: FBT001 - a parameter of the test
    """A request that was sent before the doubt proves nothing, although the library answers with it."""
    history = History(known=known)
    for step in steps:
        getattr(history.cluster if step in {"send", "receive"} else history, step)()
        history.check()
    for _ in range(6):
        history.look()
        history.cluster.answer()
        history.clock.advance(AGAIN_SECONDS)
    history.look()
    assert not history.logs.doubted(KEY)
