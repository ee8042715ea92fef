"""The worker process: `python -m monitor.detect.worker <fd> <parent pid>`.

It builds the detectors, then runs those of each work order and answers after each, so that one which hangs
or kills the process takes no finished answer with it. It redacts the texts of flagged traces. It decides
nothing: time-outs, retries and its own end are the pool's business.
"""

import contextlib
import ctypes
import gc
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Sequence

import msgspec

from monitor.clock import Clock, SystemClock
from monitor.detect import Detector, invocation, wire
from monitor.errors import ConfigError
from monitor.privacy.redact import redact
from monitor.trace import Trace

_PR_SET_PDEATHSIG = 1  # this and the next: linux/prctl.h
_PR_SET_DUMPABLE = 4
_decode_traces = msgspec.msgpack.Decoder(list[Trace]).decode


def main(fd: int, parent: int) -> None:
    """Serve the pool at the other end of `fd` until it hangs up."""
    _live_with(parent)
    with socket.socket(fileno=fd) as peer, contextlib.suppress(ConnectionError):
        setup = _receive(peer)
        if setup is not None:
            _serve(peer, wire.decode_setup(setup))


def _serve(peer: socket.socket, setup: wire.Setup) -> None:
    try:
        detectors = [spec.build() for spec in setup.specs]
        versions = tuple(detector.version for detector in detectors)
    except ConfigError as error:
        _send(peer, wire.BuildFailed(str(error)))
        return
    except BaseException as error:  # noqa: BLE001 - third-party code: whatever it raises, it cannot be built
        _send(peer, wire.BuildFailed(f"a detector cannot be built ({type(error).__name__}: {error})"))
        return
    gc.freeze()  # models live as long as the process; no collection need walk them again
    _send(peer, wire.Ready(versions))
    clock = SystemClock()
    while (frame := _receive(peer)) is not None:
        order = wire.decode_order(frame)
        if isinstance(order, wire.RedactionOrder):
            _send(peer, _redacted(order))
            continue
        traces = _decode_traces(order.traces)
        for number in order.detectors:
            _send(
                peer,
                _answer(
                    order.job,
                    number,
                    detectors[number],
                    versions[number],
                    traces,
                    clock,
                    order.escalation_rate,
                ),
            )


def _answer(
    job: int,
    number: int,
    detector: Detector,
    version: str,
    traces: Sequence[Trace],
    clock: Clock,
    escalation_rate: float,
) -> wire.InvocationResult:
    try:
        seconds, distinct, index = invocation.invoke(detector, version, traces, clock, escalation_rate)
    except invocation.InvocationError as failure:
        return wire.InvocationResult(job, number, failure.seconds, _resident_bytes(), failure.reason)
    return wire.InvocationResult(
        job,
        number,
        seconds,
        _resident_bytes(),
        "",
        tuple(distinct),
        tuple(index),
        invocation.tallies(detector),
    )


def _redacted(order: wire.RedactionOrder) -> wire.RedactionResult:
    try:
        redactions = tuple(map(redact, order.requests))
    except Exception as error:  # noqa: BLE001 - whatever is wrong, these texts are not kept
        reason = invocation.exception_reason(error)
        return wire.RedactionResult(order.job, _resident_bytes(), reason)
    return wire.RedactionResult(order.job, _resident_bytes(), "", redactions)


def _send(peer: socket.socket, message: msgspec.Struct) -> None:
    payload = wire.encode(message)
    peer.sendall(wire.HEADER.pack(len(payload)) + payload)


def _receive(peer: socket.socket) -> bytes | None:
    header = _read(peer, wire.HEADER.size)
    return None if header is None else _read(peer, *wire.HEADER.unpack(header))


def _read(peer: socket.socket, size: int) -> bytes | None:
    """Read exactly `size` bytes; return None when the pool has hung up."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = peer.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(data)


def _resident_bytes() -> int:
    if platform.system() == "Linux":
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - 3 µs less, once per invocation
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _live_with(parent: int) -> None:
    """Die with the parent, leave signals to it, and write no core file, which would hold people's text.

    Make the OOM killer prefer workers over the daemon.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if platform.system() != "Linux":
        return  # the end of the socket ends it, after the current invocation
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - see above
        file.write("500")
    # Core files that go to a program heed no limit. This comes last: it hides /proc/self.
    libc.prctl(_PR_SET_DUMPABLE, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
