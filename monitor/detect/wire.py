"""The protocol between the pool and its workers: length-prefixed msgpack over a socket pair, no pickle.

    pool   -> worker   Setup, then WorkOrder | RedactionOrder …
    worker -> pool     Ready | BuildFailed, then per WorkOrder one InvocationResult for each of its detectors,
                       as soon as it is known; per RedactionOrder one RedactionResult

A detector is named by its place in `Setup.specs`.
"""

import struct
from typing import TypeAlias

import msgspec

from monitor.detect import Spec
from monitor.detect.cascade import Tally
from monitor.findings import Assessment, Redaction
from monitor.ports import RedactionRequest

HEADER = struct.Struct(">I")
"""Length of the frame that follows, in bytes."""

MAX_FRAME = 2**31
"""A longer frame cannot be meant; the peer is broken."""


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """The detectors to build, in the order of their assessments."""

    specs: tuple[Spec, ...]


class WorkOrder(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Traces (msgpack of `list[Trace]`), the detectors to run on them in order, and the escalation rate."""

    job: int
    detectors: tuple[int, ...]
    traces: msgspec.Raw
    escalation_rate: float = 1.0


class RedactionOrder(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Flagged traces to redact."""

    job: int
    requests: tuple[RedactionRequest, ...]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The detectors are built. One version per spec."""

    versions: tuple[str, ...]


class BuildFailed(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A detector cannot be built; the worker ends. The message holds no trace: none was read yet."""

    message: str


class InvocationResult(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The outcome of one invocation: trace i has the assessment `distinct[index[i]]`.

    Where it failed, `reason` says why and both are empty. `seconds` is its wall time, `memory` the worker's
    resident bytes after it, `tallies` the decisions of each higher tier in it.
    """

    job: int
    detector: int
    seconds: float
    memory: int
    reason: str = ""
    distinct: tuple[Assessment, ...] = ()
    index: tuple[int, ...] = ()
    tallies: tuple[Tally, ...] = ()


class RedactionResult(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The outcome of a redaction order: one for each request; none where it failed, for `reason`."""

    job: int
    memory: int
    reason: str = ""
    redactions: tuple[Redaction, ...] = ()


Report: TypeAlias = Ready | BuildFailed | InvocationResult | RedactionResult
"""Anything that a worker sends."""

encode = msgspec.msgpack.Encoder().encode
decode_setup = msgspec.msgpack.Decoder(Setup).decode
decode_order = msgspec.msgpack.Decoder(WorkOrder | RedactionOrder).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
