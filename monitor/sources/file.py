"""A JSONL file or standard input as a source: one partition; a line is a record, its number the offset."""

import queue
import re
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from monitor.clock import Clock
from monitor.errors import ConfigError
from monitor.events import Assigned, Event, Exhausted, Fetched, Lag, OutOfRange, TopicPartition
from monitor.trace import Record

MAX_LINE_BYTES: Final = 16 * 2**20  # far beyond what is decoded: a longer line is cut and dead-lettered
BATCH_BYTES: Final = 16 * 2**20  # a poll stops here, however many records it may return
READ_AHEAD: Final = 64  # lines of standard input kept ready
UNKNOWN_END: Final = 2**63 - 1  # standard input has no known end until it ends
BOM: Final = b"\xef\xbb\xbf"


class _Line(NamedTuple):
    number: int
    content: bytes
    size: int  # bytes it takes in the file, line break and what was cut off included


class FileSource:
    """Lines of a file, or of standard input for `-`. Blank lines are skipped but keep their number.

    A line longer than 16 MiB is delivered cut to one byte more, so it is dead-lettered as too large, not
    dropped. Standard input cannot be sought backwards: OutOfRange says so.
    Raises ConfigError when the file cannot be read.
    """

    def __init__(self, path: str | Path, clock: Clock, *, stdin: BinaryIO | None = None) -> None:
        self._clock = clock
        self._topic = topic_of(path)
        self._done_bytes = 0
        self._position = 0
        self._assigned = False
        self._delivering = False
        self._exhausted = False
        self._paused = False
        self._held = False
        self._last_time: float | None = None
        self._lines: _FileLines | _StreamLines
        if str(path) == "-":
            self._lines, self._total, self._end = _StreamLines(stdin or sys.stdin.buffer), None, UNKNOWN_END
            return
        try:
            self._lines = _FileLines(Path(path))
            self._total, self._end = _measure(Path(path))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({type(error).__name__}); give a readable JSONL file, "
                "or - for standard input"
            ) from None

    def progress(self) -> tuple[int, int | None]:
        """Return the bytes read, and the bytes in total where known, for a progress bar."""
        return self._done_bytes, self._total

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return the next lines, waiting at most `timeout` seconds for standard input."""
        if not self._assigned:
            self._assigned = True
            return [Assigned(self._topic, 0, None, 0, self._end)]
        if self._paused or self._held or not self._delivering or self._exhausted:
            self._clock.sleep(timeout)
            return ()
        if self._position < self._lines.next_number:
            self._delivering = False
            return [OutOfRange(self._topic, 0, self._position, self._lines.next_number, self._end)]
        records = self._take(timeout, max_records)
        if records:
            return [Fetched(self._topic, 0, records)]
        if self._lines.ended:
            self._exhausted = True
            self._end = self._lines.next_number
            return [Exhausted()]
        return ()

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:  # noqa: ARG002 - it has none
        """Deliver from line `offset` on."""
        if not self._assigned or (topic, partition) != (self._topic, 0):
            return
        self._delivering = True
        self._exhausted = False
        self._position = offset
        if offset < self._lines.next_number and self._lines.rewind():
            self._done_bytes = 0

    def refresh(self, topic: str, partition: int) -> None:  # noqa: ARG002 - there is one
        """Deliver no more and report the file as assigned again."""
        self._assigned = self._delivering = False

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        self._paused = True

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        self._paused = False

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing while the file is among these partitions. Idempotent."""
        self._held = (self._topic, 0) in partitions

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Do nothing: a file keeps no positions."""

    def lag(self) -> Sequence[Lag]:
        """Return the lines not delivered yet; for standard input 1 until it has ended."""
        if not self._assigned:
            return ()
        records = max(0, self._end - self._position)
        if self._total is None:
            records = int(not self._exhausted)
        known = records > 0 and self._last_time is not None
        seconds = max(0.0, self._clock.now() - (self._last_time or 0.0)) if known else 0.0
        return [Lag(self._topic, 0, records, seconds)]

    def health(self) -> Mapping[str, bool]:
        """Return no conditions: a file either exists, or the source could not be built."""
        return {}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:  # noqa: ARG002 - nothing to commit, no one to wait for
        """Close the file. Idempotent."""
        self._delivering = False
        self._lines.close()

    def _take(self, timeout: float, max_records: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        while len(records) < max_records and size < BATCH_BYTES:
            line = self._lines.take(timeout if not records else 0.0)
            if line is None:
                break
            self._done_bytes += line.size
            if line.number < self._position:
                continue
            self._position = line.number + 1
            if line.content.strip():
                size += len(line.content)
                self._last_time = self._clock.now()
                records.append(Record(self._topic, 0, line.number, self._last_time, None, line.content))
        return records


def topic_of(path: str | Path) -> str:
    """Return the topic name of a file: its name, in the characters a Kafka topic may have."""
    if str(path) == "-":
        return "stdin"
    return re.sub(r"[^A-Za-z0-9._-]", "_", Path(path).name)[:249] or "file"


class _FileLines:
    """Lines of a regular file, from the start again whenever asked."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._lines = _split(self._stream)
        self.next_number = 0
        self.ended = False

    def take(self, timeout: float) -> _Line | None:  # noqa: ARG002 - a file does not make anyone wait
        line = next(self._lines, None)
        if line is None:
            self.ended = True
        else:
            self.next_number = line.number + 1
        return line

    def rewind(self) -> bool:
        self._stream.seek(0)
        self._lines = _split(self._stream)
        self.next_number = 0
        self.ended = False
        return True

    def close(self) -> None:
        self._stream.close()
        self._lines = iter(())


class _StreamLines:
    """Lines of a pipe, read ahead by a thread because reading a pipe may block for ever."""

    def __init__(self, stream: BinaryIO) -> None:
        self._queue: queue.Queue[_Line | None] = queue.Queue(READ_AHEAD)
        self._closed = threading.Event()
        self.next_number = 0
        self.ended = False
        threading.Thread(target=self._read, args=(stream,), name="stdin", daemon=True).start()

    def take(self, timeout: float) -> _Line | None:
        if self.ended:
            return None
        try:
            line = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if line is None:
            self.ended = True
        else:
            self.next_number = line.number + 1
        return line

    def rewind(self) -> bool:
        return False

    def close(self) -> None:
        self._closed.set()
        self.ended = True

    def _read(self, stream: BinaryIO) -> None:
        for line in _split(stream):
            if not self._put(line):
                return
        self._put(None)

    def _put(self, line: _Line | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(line, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False


def _split(stream: BinaryIO) -> Iterator[_Line]:
    number = 0
    while content := stream.readline(MAX_LINE_BYTES + 1):
        size = len(content)
        while not content.endswith(b"\n") and (rest := stream.readline(MAX_LINE_BYTES)):
            size += len(rest)
            if rest.endswith(b"\n"):
                break
        if number == 0:
            content = content.removeprefix(BOM)
        yield _Line(number, content.removesuffix(b"\n").removesuffix(b"\r"), size)
        number += 1


def _measure(path: Path) -> tuple[int, int]:
    """Return bytes and lines of a file; the last line needs no line break."""
    size = lines = 0
    last = b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            size += len(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return size, lines + (last != b"\n")
