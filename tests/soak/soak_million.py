"""A million records through three daemons on one ledger, amid everything that may end, stop or change."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from apache_kafka import ApacheKafka
from cheap_detectors import is_bad, trace_id
from daemons import Daemon, Rig, cheap, value_of
from patience import PATIENCE, eventually
from soak import tell

RECORDS: Final = 1_000_000
PARTITIONS: Final = 12
WIDER: Final = 2  # partitions that an addition brings
FAULTS: Final[Mapping[str, int]] = {"kill": 30, "pause": 10, "restart": 5, "widen": 3}
STILL_SECONDS: Final = 180.0  # without any progress: something hangs
SEED: Final = 20


class Million:
    """The run: sends shares of the records, does something to the system meanwhile, and counts."""

    def __init__(
        self,
        rig: Rig[ApacheKafka],
        records: int,
        names: Sequence[str] = ("one", "two", "three"),
        value: Callable[[int], bytes] = value_of,
    ) -> None:
        self.rig = rig
        self._value = value
        self.kafka = rig.broker
        self.records = records
        self.sent = 0
        self.done_to: Counter[str] = Counter()
        self._chance = random.Random(SEED)
        self._partitions = rig.partitions
        self._producer = self._new_producer()
        self._daemons = [rig.daemon(name) for name in names]
        self._stopped: Daemon | None = None
        for daemon in self._daemons:
            eventually(daemon.ready, f"{daemon.name} ready")

    def judged(self) -> int:
        """Traces on record; all of them are, because all are sampled."""
        ((count,),) = self.rig.rows("SELECT count(*) FROM assessments")
        return int(count)

    def send(self, count: int) -> list[Any]:
        """Begin to send the next records, in turn to all partitions."""
        futures = []
        for number in range(self.sent, self.sent + count):
            partition = number % self._partitions
            futures.append(self._producer.send(self.rig.topic, self._value(number), partition=partition))
        self.sent += count
        return futures

    def acknowledged(self, futures: list[Any]) -> None:
        """Wait until the broker has them: what it did not take is not lost by us."""
        self._producer.flush(timeout=300)
        for future in futures:
            future.get(60)

    def catch_up(self, behind: int) -> None:
        """Wait until no more than this many are not on record."""
        seen, since = -1, time.monotonic()
        while (judged := self.judged()) < self.sent - behind:
            if judged != seen:
                seen, since = judged, time.monotonic()
            positions = self.rig.rows("SELECT partition, next_offset, owner FROM positions")
            assert time.monotonic() - since < STILL_SECONDS, (
                f"{self.sent - judged} of {self.sent} are not on record, and there was no progress in"
                f" {STILL_SECONDS:.0f} s; {self.done_to}; {positions}"
            )
            for daemon in self._daemons:
                assert daemon.alive, f"{daemon.name} ended by itself: {daemon.log}"
            time.sleep(0.5)

    def do(self, fault: str) -> None:
        """Do one thing to the system."""
        self.done_to[fault] += 1
        getattr(self, f"_{fault}")()

    def wake(self) -> None:
        """Let the process that was stopped go on, once the others have its partitions."""
        if self._stopped is not None:
            name = self._stopped.name
            eventually(lambda: name not in self._owners(), f"the others took over from {name}")
            self._stopped.signal(signal.SIGCONT)
            self._stopped = None

    def _owners(self) -> set[str]:
        """Daemons that hold a claim on a partition that there is; those that were deleted keep their last."""
        query = f"SELECT owner FROM positions WHERE partition < {self._partitions}"  # noqa: S608 - a number
        return {owner for (owner,) in self.rig.rows(query)}

    def close(self) -> None:
        """End everything in good order."""
        self._producer.close(timeout=5)
        codes = [daemon.stop()[0] for daemon in self._daemons]
        assert codes == [0] * len(codes)

    def _kill(self) -> None:
        victim = self._chance.choice(self._daemons)
        victim.kill()
        victim.start()

    def _pause(self) -> None:
        self._stopped = self._chance.choice(self._daemons)
        self.rig.pause(self._stopped)

    def _restart(self) -> None:
        (self.kafka.kill if self.done_to["restart"] % 2 else self.kafka.stop)()
        time.sleep(self._chance.uniform(0.0, 3.0))
        self.kafka.start()

    def _widen(self) -> None:
        self._partitions += WIDER
        self.kafka.add_partitions(self.rig.topic, self._partitions)
        self._know_partitions()

    def anew(self) -> None:
        """Delete the topic once all of it is judged, and create it again with its first partitions."""
        self.catch_up(0)
        self.done_to["anew"] += 1
        self._producer.close(timeout=5)
        self.kafka.delete_topic(self.rig.topic)
        self._partitions = PARTITIONS
        self.kafka.create_topic(self.rig.topic, PARTITIONS)
        self._producer = self._new_producer()
        self._know_partitions()

    def _know_partitions(self) -> None:
        known = set(range(self._partitions))
        eventually(
            lambda: self._producer.partitions_for(self.rig.topic) == known, "the producer's partitions"
        )

    def _new_producer(self) -> Any:
        from kafka import KafkaProducer

        return KafkaProducer(
            bootstrap_servers=self.kafka.bootstrap,
            linger_ms=20,
            acks="all",
            max_request_size=32 * 2**20,
            enable_idempotence=True,  # else a restart of the broker might write records twice
            metadata_max_age_ms=1000,
        )


def million(share: float, folder: Path) -> Mapping[str, object]:
    """Nothing is lost, nothing judged twice in effect, each flag delivered once, no lag left.

    In the middle the topic is made anew, when all of it has been judged.
    """
    records = int(RECORDS * share)
    faults = [name for name, count in FAULTS.items() for _ in range(max(1, round(count * share)))]
    chance = random.Random(SEED)
    chance.shuffle(faults)
    began = time.monotonic()
    with (
        ApacheKafka() as kafka,
        Rig(folder, kafka, partitions=PARTITIONS, detectors=cheap(), ledger={"sample_ratio": 1.0}) as rig,
    ):
        run = Million(rig, records)
        portion = records // (len(faults) + 1)
        for nth, fault in enumerate(faults):
            if nth == len(faults) // 2:
                run.anew()
            futures = run.send(portion)
            time.sleep(chance.uniform(0.0, 1.5))
            run.do(fault)
            run.acknowledged(futures)
            run.catch_up(portion)
            run.wake()
            tell(f"million: {run.sent} sent, {run.judged()} judged, {nth + 1} of {len(faults)}: {fault}")
        run.acknowledged(run.send(records - run.sent))
        run.catch_up(0)
        rig.deliver("feedback", "log", seconds=10 * PATIENCE)
        took = time.monotonic() - began
        lag: dict[tuple[str, int], int | None] = {}

        def none_left() -> bool:
            lag.clear()
            lag.update(kafka.group_lag(rig.group))
            return bool(lag) and all(left in {0, None} for left in lag.values())

        eventually(none_left, f"no lag by kafka-consumer-groups, but {lag}")
        run.close()
        return checked(rig, records) | {
            "faults": dict(run.done_to),
            "group_lag": sum(left or 0 for left in lag.values()),
            "records_per_second": round(records / took),
        }


def checked(rig: Rig[ApacheKafka], records: int) -> dict[str, object]:
    """Assert that each trace was judged once and each flag delivered; returns the counts."""
    names = Counter(name for (name,) in rig.rows("SELECT trace_id FROM assessments"))
    lost = sum(trace_id(number) not in names for number in range(records))
    twice = names.total() - len(names)
    bad = {trace_id(number) for number in range(records) if is_bad(number)}
    flags = dict(rig.rows("SELECT id, trace_id FROM flags"))
    on_chain = [json.loads(body)["id"] for (body,) in rig.rows("SELECT body FROM chain WHERE kind = 'flag'")]
    outbox = Counter(rig.rows("SELECT destination, key, state FROM outbox"))
    topic = Counter((message.key or b"").decode() for message in rig.consumed_topic(rig.feedback))
    report = rig.verify()
    figures: dict[str, object] = {
        "records": records,
        "lost": lost,
        "judged_twice": twice,
        "flags": len(flags),
        "delivered_again": topic.total() - len(topic),
    }
    # What is judged twice was read as another log: the claims on record say which, and why.
    claims = rig.rows("SELECT seq, kind, body FROM chain WHERE kind IN ('start', 'incarnation', 'moved')")
    again = [name for name, times in names.items() if times > 1][:5]
    assert (lost, twice) == (0, 0), (figures, again, report["incarnations"], claims)
    assert sorted(flags.values()) == sorted(bad), figures
    assert sorted(on_chain) == sorted(flags), figures
    assert outbox == Counter((to, key, "delivered") for to in ("feedback", "log") for key in flags), figures
    assert topic.keys() == flags.keys(), figures
    assert (report["ok"], report["open"], report["dead_letters"]) == (True, [], 0), report
    assert (report["records"], report["traces"]) == (records, records), report
    return figures
