"""The stored form of a segment: its state, written with every trace, and its reference in chunks.

Keys are `<digest>/state` and `<digest>/reference/<number>`. A reference row never changes, so only the chunk
that is being filled is written again.
"""

import zlib
from collections.abc import Mapping

import msgspec
import numpy as np

from monitor.drift.segment import Segment, SegmentKey
from monitor.drift.statistics import BETS, BINS, PARTS, SIGNALS
from monitor.errors import ConfigError

_CHUNK = 32  # reference rows per snapshot key
_FORMAT = 1


class _State(msgspec.Struct, frozen=True):
    format: int
    app: str
    model: str
    version: str
    generation: int
    rows: int
    count: int
    histogram: bytes
    learnt: bytes
    statistics: bytes


class _Rows(msgspec.Struct, frozen=True):
    format: int
    generation: int
    width: int
    rows: bytes


def state_key(digest: str) -> str:
    """Return the key of a segment's state."""
    return f"{digest}/state"


def chunk_key(digest: str, row: int) -> str:
    """Return the key of the chunk that holds a row of a segment's reference."""
    return f"{digest}/reference/{row // _CHUNK}"


def state_digest(key: str) -> str | None:
    """Return the segment's digest of a key that holds a state; None for other keys."""
    digest, _, part = key.partition("/")
    return digest if part == "state" else None


def encode(key: str, segments: Mapping[str, Segment]) -> bytes | None:
    """Return the value of a key, given the segments by digest; None for a chunk without rows.

    A new reference starts with no rows, so the chunks of the old one have nothing to write.
    """
    digest, _, part = key.partition("/")
    segment = segments[digest]
    if part == "state":
        return _encode_state(segment)
    begin = int(part.rpartition("/")[2]) * _CHUNK
    return _encode_rows(segment, begin) if begin < len(segment.rows) else None


def _encode_state(segment: Segment) -> bytes:
    return msgspec.msgpack.encode(
        _State(
            format=_FORMAT,
            app=segment.key.app,
            model=segment.key.model,
            version=segment.detector_version,
            generation=segment.generation,
            rows=len(segment.rows),
            count=segment.tested,
            histogram=zlib.compress(segment.ranks.histogram.astype("<u4").tobytes(), 1),
            learnt=segment.bets.learnt.astype("<f8").tobytes(),
            statistics=segment.bets.statistics.astype("<f8").tobytes(),
        )
    )


def _encode_rows(segment: Segment, begin: int) -> bytes:
    rows = np.stack(segment.rows[begin : begin + _CHUNK])
    return msgspec.msgpack.encode(
        _Rows(_FORMAT, segment.generation, rows.shape[1], rows.astype("<f2").tobytes())
    )


def restored(digest: str, snapshot: Mapping[str, bytes], reference: int) -> Segment:
    """Return the segment that a snapshot holds under a digest.

    A segment collected under another reference size starts again. Raises ConfigError for a snapshot that this
    version cannot read.
    """
    try:
        state = msgspec.msgpack.decode(snapshot[state_key(digest)], type=_State)
        if state.format != _FORMAT:
            raise ValueError("format")  # noqa: TRY301 - one message for all that cannot be read
        segment = Segment(SegmentKey(state.app, state.model), reference, state.generation, state.version)
        segment.tested = state.count
        histogram = np.frombuffer(zlib.decompress(state.histogram), dtype="<u4")
        segment.ranks.histogram = histogram.reshape(SIGNALS, BINS).astype(np.int64)
        segment.bets.learnt = np.frombuffer(state.learnt, dtype="<f8").reshape(SIGNALS, PARTS).copy()
        segment.bets.statistics = np.frombuffer(state.statistics, dtype="<f8").reshape(BETS).copy()
        # Chunks of an earlier reference stay until they are overwritten; `rows` says how many count.
        for begin in range(0, state.rows, _CHUNK):
            chunk = msgspec.msgpack.decode(snapshot[chunk_key(digest, begin)], type=_Rows)
            if chunk.generation != state.generation:
                raise ValueError("generation")  # noqa: TRY301 - see above
            segment.rows.extend(np.frombuffer(chunk.rows, dtype="<f2").reshape(-1, chunk.width))
    except (msgspec.DecodeError, ValueError, KeyError, zlib.error) as error:
        raise ConfigError(
            f"drift snapshot {digest}: cannot be read ({type(error).__name__}); delete the drift"
            " snapshots to begin with new references"
        ) from error
    if len(segment.rows) != state.rows:
        raise ConfigError(f"drift snapshot {digest}: incomplete; delete the drift snapshots to begin anew")
    # A full reference has entered the ranks; a shorter one that did was collected under a smaller size.
    if state.rows > reference or (segment.ranks.histogram.any() and state.rows < reference):
        return Segment(segment.key, reference, state.generation + 1, state.version)
    if state.rows == reference:
        segment.fit_reference()
    return segment
