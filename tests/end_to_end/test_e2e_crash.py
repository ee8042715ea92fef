"""Crashes of real daemons on a real broker: nothing lost, nothing done twice."""

import random
import time
from pathlib import Path

import pytest
from apache_kafka import ApacheKafka
from daemons import FULL, TRACES, Rig, cheap
from patience import eventually

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

KILLS = 10 if FULL else 3
SEED = 11


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """Two daemons share four partitions and one ledger; whoever is killed, each trace counts once."""
    chance = random.Random(SEED)
    with Rig(tmp_path, apache_kafka, detectors=cheap(0.0005)) as rig:
        daemons = [rig.daemon("one"), rig.daemon("two")]
        for daemon in daemons:
            eventually(daemon.ready, f"{daemon.name} ready")
        share = TRACES // (KILLS + 1)
        for _ in range(KILLS):
            rig.produce_traces(share)
            time.sleep(chance.uniform(0.0, 2.5))
            victim = chance.choice(daemons)
            while rig.done() == rig.produced:  # killed idle, it would show nothing
                rig.produce_traces(1)
            victim.kill()
            victim.start()
        rig.produce_traces(max(0, TRACES - rig.produced))
        rig.finish(120)
        rig.deliver("feedback", "log")
        assert [daemon.stop()[0] for daemon in daemons] == [0, 0]
        report = rig.verify()
        assert (report["ok"], report["problems"], report["gaps"], report["open"]) == (True, [], [], [])
        assert (report["records"], report["traces"], report["dead_letters"]) == (
            rig.produced,
            rig.produced,
            0,
        )
        rig.check_effects(rig.oracle())
