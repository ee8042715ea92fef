"""One conversation, sent by every real emitter and as native JSON, is judged alike."""

from collections.abc import Sequence

import emitters
import pytest
from emitted import decoded_spans, native_exchanges

from monitor.assembly import DEFAULT_BOUNDS, Assembler
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.detect import specs
from monitor.detect.inline import InlineDetectors
from monitor.findings import Assessment
from monitor.trace import Span, Trace


@pytest.fixture(scope="module")
def detectors() -> InlineDetectors:
    """Every built-in detector but drift's, whose vector holds the measured latency.

    Next to no random audits: they go by the trace's id, and each emitter draws its own.
    """
    audited = ("hallucination", "pii", "toxicity", "injection")
    config = Config.model_validate({"detectors": {name: {"options": {"audit": 1e-9}} for name in audited}})
    built = [spec.build() for spec in specs(config) if spec.name != "drift"]
    found = InlineDetectors(built, batch_size=16, clock=ManualClock())
    found.start()
    return found


def assembled(found: Sequence[Span]) -> list[Trace]:
    """The exchanges of these spans, in order of time, as the engine has them judged."""
    assembler: Assembler[int] = Assembler(DEFAULT_BOUNDS)
    for key, span in enumerate(found):
        assembler.add(key, span, 0.0)
    traces = [exchange.trace for each in assembler.flush() for exchange in each.exchanges]
    return sorted(traces, key=lambda trace: trace.time)


def judged(detectors: InlineDetectors, traces: Sequence[Trace]) -> list[list[tuple[object, ...]]]:
    """What each detector says of each trace."""
    detectors.submit(1, traces)
    (verdicts,) = detectors.collect(60.0)
    return [[_said(assessment) for assessment in of_trace] for of_trace in verdicts.assessments]


def _said(answer: Assessment) -> tuple[object, ...]:
    return answer.detector, answer.status, answer.score, answer.reason, answer.tier, answer.evidence


@pytest.mark.parametrize("emitter", emitters.EMITTERS)
def test_every_dialect_is_judged_like_native(emitter: str, detectors: InlineDetectors) -> None:
    """Spans, and spans with their content in log records, give the assessments that native JSON gives."""
    traces, logs = emitters.captured(emitter)
    found = [*decoded_spans("otlp_proto", *traces), *decoded_spans("otlp_proto_logs", *logs)]
    ours = assembled(found)
    assert len(ours) == 4
    assert judged(detectors, ours) == judged(detectors, native_exchanges())
