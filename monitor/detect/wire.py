"""What the pool and its workers say to each other: length-prefixed msgpack over a socket pair, no pickle.

    pool   -> worker   Setup, then Work …
    worker -> pool     Ready | Refused, then per Work one Answer for each of its steps, as soon as it is known

A step is one detector over the traces of one Work; it is named by the detector's place in `Setup.specs`.
"""

import struct

import msgspec

from monitor.detect import Spec
from monitor.detect.cascade import Tally
from monitor.findings import Assessment

HEADER = struct.Struct(">I")
"""Length of the frame that follows, in bytes."""

MAX_FRAME = 2**31
"""A longer frame cannot be meant; the peer is broken."""


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """The detectors to build, in the order of their assessments."""

    specs: tuple[Spec, ...]


class Work(msgspec.Struct, frozen=True, array_like=True):
    """Traces (msgpack of `list[Trace]`) and the steps to take with them, in order, with which effort."""

    job: int
    steps: tuple[int, ...]
    traces: msgspec.Raw
    effort: float = 1.0


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The detectors are built. One version per spec."""

    versions: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A detector cannot be built; the worker ends. No trace was seen yet, so the message can hold none."""

    message: str


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The outcome of one step: trace i has the assessment `distinct[index[i]]`.

    Where the step failed, `reason` says why and both are empty. `seconds` is the wall time of the step,
    `memory` the worker's resident bytes after it, `tallies` what each dearer tier did in it.
    """

    job: int
    step: int
    seconds: float
    memory: int
    reason: str = ""
    distinct: tuple[Assessment, ...] = ()
    index: tuple[int, ...] = ()
    tallies: tuple[Tally, ...] = ()


encode = msgspec.msgpack.Encoder().encode
decode_setup = msgspec.msgpack.Decoder(Setup).decode
decode_work = msgspec.msgpack.Decoder(Work).decode
decode_report = msgspec.msgpack.Decoder(Ready | Refused | Answer).decode
