"""Real daemons on Apache Kafka keep their place in their group, or say that they have lost it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from daemons import FULL
from patience import eventually
from soak_membership import Daemons, add_partitions, held, rebalance, start_and_stop

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

Case = Callable[[ApacheKafka, Path, int], dict[str, Any]]
CASES: dict[str, tuple[Case, int]] = {
    "starts": (start_and_stop, 500),
    "partitions": (add_partitions, 100),
    "rebalances": (rebalance, 100),
}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", CASES)
def test_no_daemon_loses_its_place(apache_kafka: ApacheKafka, tmp_path: Path, name: str) -> None:
    """After a start, new partitions or a rebalance under load every daemon is ready within seconds.

    A tenth of the soak case in CI, a few times elsewhere.
    """
    case, cycles = CASES[name]
    held(case(apache_kafka, tmp_path, cycles // 10 if FULL else 3))


@pytest.mark.slow
def test_an_outage_of_the_broker_ends_readiness_after_a_while(tmp_path: Path) -> None:
    """With the broker away a daemon says so and that it is no member; with it back it is ready by itself."""
    with ApacheKafka() as kafka:
        kafka.create_topic("traces", 1)
        with Daemons(tmp_path, kafka, "traces", unreachable_seconds=2.0) as group:
            daemon = group.daemon("one").start()
            eventually(daemon.ready, "a daemon that is ready")
            assert daemon.metric("riskmon_kafka_member") == 1.0
            kafka.kill()
            eventually(lambda: not daemon.health()["broker_connected"], "a broker that is away")
            eventually(lambda: not daemon.health()["group_member"], "a membership that has ended")
            eventually(lambda: not daemon.metric("riskmon_kafka_member"), "the metric of it")
            kafka.start()
            eventually(daemon.ready, "a daemon that is ready again")
            assert daemon.metric("riskmon_kafka_renewals_total") == 0.0
