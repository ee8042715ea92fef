"""Fetches by a topic's id, so that the broker itself refuses a topic that was made anew.

kafka-python 3.0 fetches by name. A topic that is deleted and made anew between an answer and the next request
is then read on at the old offset. From version 13 of the request on (KIP-516, Kafka 3.1) a topic has an id in
its place, and one that no longer exists is answered with an error. Here requests get the ids, and answers the
names that the library wants. Like `kafka_repairs`, this reaches into one instance.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

BY_ID: Final = 13  # the first version of the request that names topics by id


def fetch_by_id(fetcher: Any, id_of: Callable[[str], str | None]) -> None:
    """Let a fetcher name each topic by `id_of` it, where that knows all ids of a request and the broker can.

    `id_of` answers None or an empty text where it knows none; it is called on the client's IO thread. Raises
    AttributeError for a release without these methods.
    """
    _Fetches(fetcher, id_of)


class _Fetches:
    """Requests on their way out, answers on their way in. Lives on the client's IO thread."""

    def __init__(self, fetcher: Any, id_of: Callable[[str], str | None]) -> None:
        self._fetcher = fetcher
        self._id_of = id_of
        self._create = fetcher._create_fetch_requests  # noqa: SLF001 - nothing public has topic ids
        self._answer = fetcher._handle_fetch_response  # noqa: SLF001 - as above
        self._names: dict[UUID, str] = {}
        self._sessions: dict[Any, dict[str, str | None]] = {}  # ids that a broker's fetch session holds
        fetcher._create_fetch_requests = self._created  # noqa: SLF001 - as above
        fetcher._handle_fetch_response = self._answered  # noqa: SLF001 - as above

    def _created(self) -> Any:
        self._renew_sessions()
        requests = self._create()
        for node, (request, _) in requests.items():
            session = self._sessions.setdefault(node, {})
            named = [*request.topics, *request.forgotten_topics_data]
            session.update({each.topic: self._id_of(each.topic) for each in named})
            if not all(session.values()):
                continue
            for each in named:
                each.topic_id = identity = UUID(session[each.topic])
                self._names[identity] = each.topic
            request._max_version = BY_ID  # noqa: SLF001 - the library's own bound
        return requests

    def _renew_sessions(self) -> None:
        """Begin the sessions anew that hold an id of before: a broker remembers what it was asked for."""
        for node, handler in self._fetcher._session_handlers.items():  # noqa: SLF001 - as above
            if node in self._fetcher._nodes_with_pending_fetch_requests:  # noqa: SLF001 - as above
                continue  # its answer belongs to the session as it is
            session = self._sessions.get(node, {})
            if any(self._id_of(topic) != identity for topic, identity in session.items()):
                handler.next_metadata = handler.next_metadata.next_close_existing()
            if handler.next_metadata.is_full:
                session.clear()

    def _answered(self, node: Any, offsets: Any, sent: float, response: Any) -> None:
        if response.API_VERSION >= BY_ID:
            for each in response.responses:
                each.topic = self._names.get(each.topic_id, "")
        self._answer(node, offsets, sent, response)
