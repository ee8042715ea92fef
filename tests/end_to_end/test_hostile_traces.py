"""Traces that an adversary would send, judged by the default profile beside another application's."""

import random

import pytest
from adversary import beside, hostile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from monitor.config import Config

SHARE = 0.1  # of the full size, which `make soak CASE=hostile` sends


@pytest.mark.alone
@pytest.mark.slow
@settings(
    max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
@given(st.randoms())
def test_no_attack_stops_the_loop_or_takes_memory_without_bound(order: random.Random) -> None:
    """In whatever order they come: each turn takes less than a second, and all is judged within 1.5 GiB."""
    config = Config.model_validate({
        "ingest": {"formats": {"attack": "auto", "traffic": "auto"}},
        "instance": "hostile",
    })  # fmt: skip
    attacks = [records for _, records in hostile(SHARE)]
    order.shuffle(attacks)
    records = [record for attack in attacks for record in attack]
    watch, peak = beside(records, 10.0, 5.0, config)
    assert watch.longest_turn < 1.0
    assert peak < 1536
    assert len(watch.waits) >= 40
    assert watch.judged_traces - len(watch.waits) > len(records)
