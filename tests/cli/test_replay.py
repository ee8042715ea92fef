"""`riskmon replay`: what a range would be judged as now, against what is on record, and no trace of it."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from click.testing import CliRunner
from contracts.source import CHECKS, Rig
from daemons import Rig as Installation
from daemons import bad_numbers

from monitor.cli import riskmon
from monitor.cli.replay import point
from monitor.clock import SystemClock
from monitor.config import KafkaConfig
from monitor.errors import ConfigError
from monitor.sources.kafka_range import Range, RangeSource

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

TOPIC = "replayed"
STRICTER = """
groups:
  - name: e2e
    rules:
      - alert: Everything
        expr: toxicity.score >= 0.0
        labels: {severity: info}
        annotations: {summary: "All of it."}
        actions: [audit]
"""


@pytest.fixture(scope="module")
def broker(apache_kafka: ApacheKafka) -> ApacheKafka:
    """The broker, with ten records in each of two partitions of a topic."""
    from kafka import KafkaProducer

    apache_kafka.create_topic(TOPIC, 2)
    producer = KafkaProducer(bootstrap_servers=apache_kafka.bootstrap)
    sent = [producer.send(TOPIC, str(n).encode(), partition=n % 2) for n in range(20)]
    for future in sent:
        future.get(30)
    producer.close()
    return apache_kafka


def opened(
    broker: ApacheKafka, start: int | datetime, stop: int | None = None, **changes: Any
) -> RangeSource:
    """A source over a range of topic t."""
    config = KafkaConfig(bootstrap_servers=[broker.bootstrap])
    where: Mapping[str, Any] = {"topics": [TOPIC], "partition": None, **changes}
    return RangeSource.open(config, **where, start=start, stop=stop, clock=SystemClock())


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: Callable[[Rig], None], broker: ApacheKafka) -> None:
    """A range keeps the promise of every source."""
    values = {(TOPIC, half): [str(n).encode() for n in range(half, 20, 2)] for half in (0, 1)}
    check(Rig(lambda: opened(broker, 0), values, remembers=False, finite=True))


def test_a_range_is_cut_to_what_exists(broker: ApacheKafka) -> None:
    """Offsets are clamped to the partition's; times become the first offset of that time or later."""
    for start, stop, expected in [(2, 5, Range(2, 5)), (8, 99, Range(8, 10)), (99, None, Range(10, 10))]:
        with closing(_Closing(opened(broker, start, stop))) as source:
            assert source.ranges == {(TOPIC, 0): expected, (TOPIC, 1): expected}
    begin = datetime(2001, 1, 1, tzinfo=UTC)
    with closing(_Closing(opened(broker, begin, partition=1))) as source:
        assert source.ranges == {(TOPIC, 1): Range(0, 10)}
    with closing(_Closing(opened(broker, datetime(2999, 1, 1, tzinfo=UTC)))) as source:
        assert set(source.ranges.values()) == {Range(10, 10)}


class _Closing:
    """A source that `closing` can close."""

    def __init__(self, source: RangeSource) -> None:
        self.ranges = source.ranges
        self._source = source

    def close(self) -> None:
        """Close it."""
        self._source.close({}, 1.0)


def test_what_does_not_exist_is_named(broker: ApacheKafka) -> None:
    """A topic or partition that is not there is a configuration error."""
    with pytest.raises(ConfigError, match="topic nowhere does not exist"):
        opened(broker, 0, topics=["nowhere"])
    with pytest.raises(ConfigError, match="no partition 7; it has 0 to 1"):
        opened(broker, 0, partition=7)


def test_points_are_offsets_or_times() -> None:
    """Digits are an offset; a time without a zone is UTC."""
    assert point("12") == 12
    assert point("2026-11-28T09:00Z") == point("2026-11-28T09:00") == datetime(2026, 11, 28, 9, tzinfo=UTC)
    done = CliRunner().invoke(riskmon, ["replay", "--from", "yesterday"])
    assert (done.exit_code, "neither an offset nor a time" in done.output) == (2, True)


@pytest.mark.slow
def test_new_rules_show_what_they_would_change_and_leave_nothing_behind(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """The same rules change nothing, others exactly what they should, and the ledger stays as it was."""
    stricter = tmp_path / "stricter.yaml"
    stricter.write_text(STRICTER)
    with Installation(tmp_path, apache_kafka) as rig:
        rig.daemon()
        rig.produce_traces(200)
        rig.finish()
        rig.daemons[0].stop()
        rig.produce_traces(8)  # nobody has judged these
        before = rig.rows("SELECT seq, hash FROM head"), rig.rows("SELECT * FROM positions")

        def replay(*words: str) -> dict[str, Any]:
            report: dict[str, Any] = json.loads(rig.command("replay", "--diff", "--json", *words).stdout)
            return report

        same = replay("--from", "0")
        assert (same["added"], same["removed"], same["kept"]) == ([], [], bad_numbers(200))
        assert (same["traces"], same["unjudged"]) == (208, 8)
        other = replay("--from", "10", "--to", "20", "--partition", "0", "--rules", str(stricter))
        assert other["flags"] == {"Everything": 10}
        assert [one["offset"] for one in other["added"]] == list(range(10, 20))
        expected = [offset for offset in range(10, 20) if offset * 4 % 50 == 0]
        assert [one["offset"] for one in other["removed"]] == expected
        text = rig.command("replay", "--from", "0", "--to", "5", "--rules", str(stricter), "--diff").stdout
        assert f"+ {rig.topic}/0@1.0 Everything info good-4" in text
        assert (rig.rows("SELECT seq, hash FROM head"), rig.rows("SELECT * FROM positions")) == before
