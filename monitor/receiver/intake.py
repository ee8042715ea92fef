"""Intake of bodies, for every protocol of the receiver: bytes in, durable or refused. Knows no protocol.

A body that is not OTLP at all is refused, not dead-lettered: only its sender can correct it, and the check is
cheap: one parse for protobuf, one scan for JSON. OTLP that cannot be judged becomes a dead letter.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

from monitor.clock import Clock
from monitor.config import ReceiverConfig
from monitor.errors import Retryable
from monitor.receiver import generations
from monitor.receiver.bodies import JSON, Divider, plain
from monitor.receiver.refusals import BodyRefused, Refusal
from monitor.spool import Received

WAITING_BODIES: Final = 8  # of the largest size, being received and written together, or 2 of them
WAITING_BYTES: Final = 64 * 2**20  # if these are more than so many bytes
PART_BYTES: Final = 2 * 2**20  # larger bodies become several records, so that none takes the engine long
GROUP: Final = 256  # bodies of one transaction at most


class SpoolWriter(Protocol):
    """Writes bodies durably. Called from one thread."""

    def append(self, bodies: Sequence[Received]) -> int:
        """Write bodies; return how many, from the first on, had room. Raises Retryable."""
        ...


class _Waiting(NamedTuple):
    body: Received
    written: Future[bool]


def most_waiting(largest: int) -> int:
    """Return the bytes that may be received, and again that may be checked and written, at once."""
    return min(WAITING_BODIES * largest, max(WAITING_BYTES, 2 * largest))


class Room:
    """Bounds the bytes that all bodies hold together. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()  # guards the next one
        self.used = 0

    def use(self, place: "Place", size: int) -> None:
        """Let a place have so many bytes from now on. Raises BodyRefused when there is no room for more."""
        with self._lock:
            more = size - place.size
            if more > 0 and self.used + more > self._most:
                raise BodyRefused(Refusal.BUSY, "too much is being checked and written")
            if not place.left:
                self.used += more
                place.size = size

    def leave(self, place: "Place") -> None:
        """Let a place have no bytes any more, for good."""
        with self._lock:
            self.used -= place.size
            place.size, place.left = 0, True


class Place:
    """The bytes that one body holds: first those that came, then those they become."""

    def __init__(self) -> None:
        self.size = 0
        self.left = False


class BodyIntake:
    """Checks bodies and writes them in groups: one fsync for all that came during the one before.

    `topics` names the spool's topic of each signal; no record gets more than `max_spans` spans, or more than
    `max_record_bytes`. Thread-safe: each protocol has an event loop of its own, and all share the bounds, the
    writer, and the one thread on which bodies are decompressed and checked.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        spool: SpoolWriter,
        topics: Mapping[str, str],
        clock: Clock,
        max_spans: int,
        max_record_bytes: int,
    ) -> None:
        self._config = config
        self._spool = spool
        self._topics = topics
        self._divider = Divider(max_spans, config.max_body_bytes, PART_BYTES, max_record_bytes)
        self.room = Room(most_waiting(config.max_body_bytes))
        self._clock = clock
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="riskmon-check")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="riskmon-spool")
        self._lock = threading.Lock()  # guards the two below
        self._waiting: list[_Waiting] = []
        self._writing = False
        self._stopping = False
        self._refuse_until = 0.0

    @property
    def accepting(self) -> bool:
        """Return whether the latest bodies were accepted."""
        return self._clock.monotonic() >= self._refuse_until

    def refuse(self) -> None:
        """Admit nothing from now on: the daemon stops, and new bodies would wait for its return."""
        self._stopping = True

    def admit(self) -> None:
        """Raise BodyRefused if no body would be taken now, before one is read."""
        if self._stopping:
            raise BodyRefused(Refusal.STOPPING, "stopping")
        if not self.accepting:
            raise BodyRefused(Refusal.BUSY, "the spool is full or the ledger busy")

    async def take(self, signal: str, content_type: str, body: bytes, encoding: str = "identity") -> bytes:
        """Return the answer once a body is on disk, or holds nothing. Raises BodyRefused.

        The answer is a message of the body's content type, empty but for generations.
        When it is cancelled, the body may be written all the same.
        """
        loop = asyncio.get_running_loop()
        place = Place()
        self.room.use(place, len(body))
        try:
            answer, parts = await loop.run_in_executor(
                self._checker, self._checked, place, signal, content_type, body, encoding
            )
            if parts:
                topic, now = self._topics[signal], self._clock.now()
                await self._write(Received(topic, now, content_type, parts[0], tuple(parts[1:])))
        finally:
            self.room.leave(place)
        return answer

    def _checked(
        self, place: Place, signal: str, content_type: str, body: bytes, encoding: str
    ) -> tuple[bytes, Sequence[bytes]]:
        """Return the answer to a body, and its parts."""
        body = plain(body, encoding, self._config.max_body_bytes)
        self.room.use(place, len(body))
        parts = self._divider.parts(signal, content_type, body)
        answer = b"{}" if content_type == JSON else b""
        if signal == generations.SIGNAL:
            answer = generations.answer(body, as_json=content_type == JSON)
        copies = parts if len(parts) > 1 else ()
        self.room.use(place, len(body) + sum(map(len, copies)) + len(answer))
        return answer, parts

    def close(self) -> None:
        """Write what waits, then end. Idempotent."""
        self.refuse()
        self._checker.shutdown()
        self._writer.shutdown()

    async def _write(self, body: Received) -> None:
        """Wait until a body is on disk."""
        waiting = _Waiting(body, Future())
        with self._lock:
            if not self._writing:
                self._writer.submit(self._write_groups)
                self._writing = True
            self._waiting.append(waiting)
        try:
            written = await asyncio.wrap_future(waiting.written)
        except Retryable:
            written = False
        if not written:
            self._refuse_until = self._clock.monotonic() + self._config.retry_after_seconds
            raise BodyRefused(Refusal.BUSY, "the spool is full or the ledger busy")

    def _write_groups(self) -> None:
        """Write all that waits, on the writer's thread."""
        while group := self._next_group():
            # Nobody waits for those whose client has gone; once running, they can no longer be cancelled.
            wanted = [waiting for waiting in group if waiting.written.set_running_or_notify_cancel()]
            failure: Exception | None = None
            taken = 0
            try:
                taken = self._spool.append([waiting.body for waiting in wanted]) if wanted else 0
            except Exception as error:  # noqa: BLE001 - the waiting requests raise it
                failure = error
            for number, waiting in enumerate(wanted):
                if failure is not None:
                    waiting.written.set_exception(failure)
                else:
                    waiting.written.set_result(number < taken)

    def _next_group(self) -> Sequence[_Waiting]:
        with self._lock:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            self._writing = bool(group)
        return group
