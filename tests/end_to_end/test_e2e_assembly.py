"""Traces whose spans come shuffled, late or not at all, through a real broker and real daemons."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from daemons import FULL, Rig, cheap
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_protobuf import agent_spans, record_of
from patience import eventually

from monitor.trace import Missing

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

TRACES = 5_000 if FULL else 500
PER_RECORD = 5  # spans
LOST, DELAYED = 0.05, 0.10
ASSEMBLY = {"settle_seconds": 2.0, "timeout_seconds": 12.0}
SHARES = 6


class Traffic:
    """The spans of `TRACES` traces in shares of random order; some are lost, some come a share late."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.shares: list[list[Span]] = [[] for _ in range(SHARES + 1)]
        self.with_call: set[str] = set()
        self.without: set[str] = set()
        for number in range(TRACES):
            left = [span for span in agent_spans(number) if chance.random() >= LOST]
            if any(span.name == "chat" for span in left):
                self.with_call.add(f"resp-{number}")
            elif left:
                self.without.add((number + 1).to_bytes(16, "big").hex())
            for span in left:
                share = number * SHARES // TRACES + (chance.random() < DELAYED)
                self.shares[share].append(span)
        for share_of_spans in self.shares:
            chance.shuffle(share_of_spans)


def records(spans: list[Span]) -> list[bytes]:
    """Spans in records of `PER_RECORD`."""
    return [record_of(spans[i : i + PER_RECORD]) for i in range(0, len(spans), PER_RECORD)]


@pytest.mark.alone
@pytest.mark.parametrize("kills", [0, 5])
def test_each_trace_is_judged_once_although_its_spans_are_scattered(
    tmp_path: Path, apache_kafka: ApacheKafka, kills: int
) -> None:
    """Shuffled over four partitions, 10 % late, 5 % lost, killed or not: one judgement each, holes named."""
    traffic = Traffic(seed=kills)
    settings: Any = {
        "rules": {"paths": ["tests/data/every_trace.yaml"]},
        "ingest": {"format": "otlp_proto"},
        "assembly": ASSEMBLY,
        "ledger": {"sample_ratio": 1.0},
    }
    with Rig(tmp_path, apache_kafka, detectors=cheap(0.0), **settings) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "ready")
        for nth, spans in enumerate(traffic.shares):
            rig.produce(records(spans))
            time.sleep(random.Random(nth).uniform(0.2, 1.0))
            if nth < kills:
                daemon.kill()
                daemon.start()
        rig.finish(120)
        eventually(lambda: daemon.metric("riskmon_assembly_waiting_traces") == 0, "empty buffer")
        judged = Counter(trace_id for (trace_id,) in rig.rows("SELECT trace_id FROM flags"))
        calls = {name: judged[name] for name in traffic.with_call}
        assert set(calls.values()) == {1}
        stand_ins = Counter(name.partition(":")[0] for name in judged.elements() if ":" in name)
        assert {trace: stand_ins[trace] for trace in traffic.without} == dict.fromkeys(traffic.without, 1)
        repeated = stand_ins.keys() - traffic.without
        assert not repeated, f"{len(repeated)} traces were judged without the call that came later"
        if not kills:
            missing = daemon.metric(f'riskmon_trace_parts_missing_total{{part="{Missing.INFERENCE}"}}')
            assert missing == len(traffic.without)
        report = rig.verify()
        assert (report["ok"], report["problems"], report["gaps"], report["open"]) == (True, [], [], [])
        assert (report["traces"], report["dead_letters"]) == (sum(judged.values()), 0)
        assert daemon.stop()[0] == 0
