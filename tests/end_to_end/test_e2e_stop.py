"""How a real daemon ends, or is set aside: a clean stop under load, a paused process, a wedged loop."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from daemons import FULL, TRACES, Rig, cheap
from patience import eventually

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

STOPS = 3 if FULL else 1
BACKLOG = 4000  # 40 s of work, all of it taken at once: more than a stop has time for


@pytest.mark.alone
def test_a_stop_under_load_is_quick_and_judges_nothing_again(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """SIGTERM amid work ends with status 0 within 25 s; after the restart no trace is looked at twice."""
    notes = tmp_path / "judged.txt"
    options = {"name": "toxicity", "seconds": 0.01, "notes": str(notes)}
    detectors = {"toxicity": {"factory": "cheap_detectors:build", "options": options}}
    with Rig(tmp_path, apache_kafka, detectors=detectors) as rig:
        daemon = rig.daemon()
        rig.produce_traces(BACKLOG)
        for nth in range(STOPS):
            wait_for_progress(rig)
            code, seconds = daemon.stop()
            assert (code, seconds < 25) == (0, True), f"status {code} after {seconds} s"
            assert rig.done() < BACKLOG, "it was stopped idle: the test shows nothing"
            if nth == STOPS - 1:
                quick = daemon.config.read_text().replace("0.01", "0.0")
                daemon.config.write_text(quick)
            daemon.start()
        rig.finish()
        assert daemon.stop()[0] == 0
        looked_at = Counter(notes.read_text(encoding="ascii").split())
        assert len(looked_at) == BACKLOG
        assert {trace for trace, times in looked_at.items() if times > 1} == set()
        bodies = [json.loads(body) for (body,) in rig.rows("SELECT body FROM chain WHERE kind = 'stopped'")]
        assert len(bodies) == STOPS + 1
        assert sum(body["consumed"] for body in bodies) == BACKLOG
        report = rig.verify()
        assert (report["ok"], report["open"], report["records"]) == (True, [], BACKLOG)


def wait_for_progress(rig: Rig[Any]) -> None:
    """Wait until more is on record than now."""
    before = rig.done()
    eventually(lambda: rig.done() > before, "some work done")


@pytest.mark.alone
def test_a_daemon_that_was_paused_cannot_write_what_its_successor_judged(
    tmp_path: Path, apache_kafka: ApacheKafka
) -> None:
    """SIGSTOP until the partitions have moved, then SIGCONT: no effect is doubled, the audit holds."""
    backlog, later = TRACES // 4, TRACES // 20
    size = backlog + later
    # Twenty seconds of work, of which one is to be left when the first daemon has been paused.
    with Rig(tmp_path, apache_kafka, detectors=cheap(10.0 / backlog)) as rig:
        first, second = rig.daemon("first"), rig.daemon("second")
        for daemon in (first, second):
            eventually(daemon.ready, f"{daemon.name} ready")
        rig.produce_traces(backlog)
        eventually(lambda: rig.done() > backlog // 10, "work begun")
        rig.pause(first)
        before = rig.done()
        assert before < backlog, "it was paused idle: the test shows nothing"
        eventually(lambda: owners(rig) == {"second"}, "the other one took over")
        rig.produce_traces(later)
        first.signal(signal.SIGCONT)
        rig.finish()
        eventually(lambda: owners(rig) == {"first", "second"}, "the paused one works again")
        rig.deliver("feedback", "log")
        assert [daemon.stop()[0] for daemon in (first, second)] == [0, 0]
        report = rig.verify()
        assert (report["ok"], report["open"], report["records"]) == (True, [], size)
        assert report["traces"] == size
        rig.check_effects(rig.oracle())


def owners(rig: Rig[Any]) -> set[str]:
    """Daemons that hold a claim."""
    return {owner for (owner,) in rig.rows("SELECT owner FROM positions")}
