"""Detectors that do wrong what a trace tells them to: factories for worker processes under test.

A trace's label of the detector's name is the fault it causes there, e.g. `labels={"pii": "hang"}`. A trace
without one gets `score_of` its id, so that a test can tell whether each trace has its own verdict.
"""

import contextlib
import ctypes
import os
import re
import signal
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monitor.detect import Detector, Spec
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Redaction, Status
from monitor.ports import RedactionRequest
from monitor.trace import Message, Trace

SECRET = "canary-7f3a"
MUST_FAIL = "pii-must-fail"  # value of the label `fault` that makes `build_failing_pii` raise


class PeculiarError(Exception):
    """What the fault `raise` raises."""


def score_of(name: str, trace_id: str) -> float:
    """Score that an innocent trace gets."""
    return zlib.crc32(f"{name}/{trace_id}".encode()) / 2**32


def trace(number: int, **faults: str) -> Trace:
    """Make a trace that causes these faults, by detector name."""
    return Trace(
        id=f"t-{number}",
        time=1_700_000_000.0 + number,
        response=f"{SECRET} " * 20,
        messages=(Message("user", SECRET),),
        labels=faults,
    )


def _raise() -> None:
    raise PeculiarError(SECRET)


def _recurse() -> None:
    _recurse()


def _backtrack() -> None:
    re.match(r"(a|a)+$", "a" * 60 + "b")


def _forge() -> None:
    """Write to the pool past the worker's back."""
    for fd in range(3, 1024):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\x00\x00\x00\x02\xc1\xc1")


ACTS: dict[str, Callable[[], object]] = {
    "hang": threading.Event().wait,
    "hang_in_c": _backtrack,  # holds the interpreter lock and answers no signal
    "raise": _raise,
    "recurse": _recurse,
    "exit": sys.exit,
    "die": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "forge": _forge,
}
"""Faults that happen while a trace is looked at."""

RESULTS: dict[str, Callable[[Assessment], list[Any]]] = {
    "too_few": lambda _: [],
    "too_many": lambda right: [right, right],
    "none": lambda _: [None],
    "text": lambda _: [SECRET],
    "other_name": lambda right: [_but(right, detector="other")],
    "score_text": lambda right: [_but(right, score="0.5")],
    "score_nan": lambda right: [_but(right, score=float("nan"))],
    "score_high": lambda right: [_but(right, score=1.5)],
    "score_missing": lambda right: [_but(right, score=None)],
    "skipped_with_score": lambda right: [_but(right, status=Status.SKIPPED)],
    "no_such_status": lambda right: [_but(right, status="fine")],
    "long_reason": lambda right: [_but(right, reason=SECRET * 20)],
    "text_as_kind": lambda right: [_but(right, evidence=(Evidence("response", 0, 1, "a b", 0.5),))],
    "backward_span": lambda right: [_but(right, evidence=(Evidence("response", 2, 1, "KIND", 0.5),))],
    "infinite_value": lambda right: [_but(right, values={"x": float("inf")})],
    "probability_zero": lambda right: [_but(right, probability=0.0)],
    "unencodable": lambda right: [_but(right, values={"x": object()})],
}
"""Faults of what is returned for a trace."""


def _but(right: Assessment, **changes: Any) -> Assessment:
    fields = {name: getattr(right, name) for name in Assessment.__struct_fields__}
    return Assessment(**(fields | changes))


class Faulty:
    """Scores by id unless a trace says otherwise."""

    version = "1+000000000000"

    def __init__(self, name: str, broken_while: str, noisy: bool, hoard: int) -> None:  # noqa: FBT001 - only `build` calls it
        self.name = name
        self._broken_while = Path(broken_while) if broken_while else None
        self._noisy = noisy
        self._hoard = hoard
        self._hoarded = b""

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Judge, or do what the traces say."""
        if self._broken_while and self._broken_while.exists():
            raise PeculiarError(SECRET)
        if self._noisy:
            print(SECRET)  # noqa: T201 - what a careless library does
            print(SECRET, file=sys.stderr)  # noqa: T201 - see above
        self._hoarded += b"x" * self._hoard
        answers: list[Assessment] = []
        for one in traces:
            fault = one.labels.get(self.name, "")
            if fault in ACTS:
                ACTS[fault]()
            score = score_of(self.name, one.id)
            right = Assessment(detector=self.name, version="ignored", status=Status.SCORED, score=score)
            answers += RESULTS[fault](right) if fault in RESULTS else [right]
        return answers


def build(
    name: str, broken_while: str = "", refuse_while: str = "", *, noisy: bool = False, hoard: int = 0
) -> Faulty:
    """Build one. It raises on every batch while one file exists, and cannot be built while the other does."""
    if refuse_while and Path(refuse_while).exists():
        raise ConfigError(f"detectors.{name}: refused while {Path(refuse_while).name} exists")
    return Faulty(name, broken_while, noisy, hoard)


def build_never(name: str) -> Faulty:
    """Take for ever to load."""
    threading.Event().wait()
    return Faulty(name, "", noisy=False, hoard=0)


def build_fatal(name: str) -> Faulty:
    """Kill the process that loads it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Faulty(name, "", noisy=False, hoard=0)


def build_broken(name: str) -> Faulty:
    """Raise what no factory should."""
    raise PeculiarError(f"no weights for {name}")


def build_telling(name: str) -> Faulty:
    """Tell which settings of the daemon the worker can read."""
    seen = " ".join(variable for variable in os.environ if variable.startswith("RISKMON_"))
    raise ConfigError(f"{name} sees variables: {seen}")


def build_changing(name: str, version_file: str) -> Faulty:
    """Build one whose version is read from a file."""
    detector = Faulty(name, "", noisy=False, hoard=0)
    detector.version = Path(version_file).read_text(encoding="utf-8")
    return detector


def build_with_faulty_redaction(name: str) -> Faulty:
    """Build one in a worker that fails to redact a trace whose label `redaction` names a fault."""
    worker = sys.modules["__main__"]
    redact: Callable[[RedactionRequest], Redaction] = vars(worker)["redact"]

    def faulty(request: RedactionRequest) -> Redaction:
        fault = request.trace.labels.get("redaction")
        if fault:
            ACTS[fault]()
        return redact(request)

    vars(worker)["redact"] = faulty
    return Faulty(name, "", noisy=False, hoard=0)


class FailingPii:
    """The real PII detector, except that it raises, with the text, on a batch that holds a marked trace."""

    name = "pii"

    def __init__(self, real: Detector) -> None:
        self._real = real
        self.version = real.version

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Judge, or raise what a library might."""
        for trace in traces:
            if trace.labels.get("fault") == MUST_FAIL:
                raise RuntimeError(trace)
        return self._real.assess(traces)


def build_failing_pii(**options: Any) -> FailingPii:
    """Build a PII detector that fails on marked traces."""
    from monitor.detect import pii

    return FailingPii(pii.build(**options))


def spec(name: str, factory: str = "build", **options: Any) -> Spec:
    """Specify a detector of this module."""
    return Spec(name=name, factory=f"faulty_detectors:{factory}", options={"name": name} | options)
