"""Real daemons on Apache Kafka keep their place in their group, or say that they have lost it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from daemons import FULL
from soak_membership import add_partitions, held, rebalance, start_and_stop

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
