"""Listing flags on record: the right ones, the newest first, through connections that can only read."""

import json
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa
from flags import PII, numbered_flag_row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import on_every_database, record_flags

from monitor.clock import ManualClock, SystemClock
from monitor.errors import Retryable
from monitor.findings import Assessment, Severity, Status
from monitor.ledger import schema as t
from monitor.ledger.database import Purpose, connect
from monitor.ledger.flags import FlagReader
from monitor.ledger.reader import LedgerReader
from monitor.ledger.rows import flag_columns
from monitor.ledger.store import Ledger
from monitor.records import FlagFilter
from monitor.trace import TRAFFIC, SafeText, Traffic


@pytest.fixture
def reader(ledger: Ledger) -> Iterator[FlagReader]:
    """A reader of the test's ledger."""
    made = FlagReader(ledger.engine.url, SystemClock(), 30.0)
    yield made
    made.close()


@on_every_database
def test_a_flag_is_read_as_it_was_recorded(ledger: Ledger, reader: FlagReader) -> None:
    """Nothing is lost or changed between a flag recorded and a flag listed."""
    rows = [
        numbered_flag_row(0),
        numbered_flag_row(
            1,
            labels={"team": "a"},
            annotations={"summary": "s"},
            controls=("c",),
            app='" \\ % _ é',
            assessments=(PII, Assessment(detector="drift", version="1", status=Status.SKIPPED, reason="r")),
            response=SafeText('"detector":"toxicity"\n'),
            error="RateLimitError",
        ),
    ]
    record_flags(ledger, rows)
    page = reader.find(FlagFilter(), 10)
    assert page.flags == (rows[1], rows[0])
    assert not page.more


def test_a_flag_of_a_call_that_did_not_fail_is_written_as_before() -> None:
    """Its body has no word of an error, so that the digests of older flags stay what they were."""
    assert "error" not in json.loads(flag_columns(numbered_flag_row(0))["body"])
    assert json.loads(flag_columns(numbered_flag_row(0, error="timeout"))["body"])["error"] == "timeout"


@on_every_database
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (FlagFilter(), [5, 4, 3, 2, 1, 0]),
        (FlagFilter(equal={"rule": ("Toxic",)}), [2]),
        (FlagFilter(equal={"rule": ("toxic",)}), []),
        (FlagFilter(equal={"rule": ("Leak",)}, since=1_700_000_003.0), [5, 4, 3]),
        (FlagFilter(equal={"app": ("other", "")}), [4, 3]),
        (FlagFilter(equal={"environment": ("staging",)}), [5]),
        (FlagFilter(equal={"model": ("m-2",), "app": ("shop",)}), [5]),
        (FlagFilter(equal={"severity": ("critical",)}), [1]),
        (FlagFilter(equal={"trace_id": ("trace-4",)}), [4]),
        (FlagFilter(detector="toxicity"), [2]),
        (FlagFilter(detector="tox"), []),
        (FlagFilter(detector='x"%'), []),
        (FlagFilter(since=1_700_000_001.0, until=1_700_000_002.0), [2, 1]),
        (FlagFilter(before=(1_700_000_001.0, "flag-00001")), [0]),
        (FlagFilter(before=(1_700_000_001.0, "flag-00002")), [1, 0]),
    ],
)
def test_each_condition_holds_of_what_is_listed(
    ledger: Ledger,
    reader: FlagReader,
    wanted: FlagFilter,
    numbers: Sequence[int],
) -> None:
    """Conditions are met exactly and together; what a text quotes is no detector."""
    toxic = Assessment(detector="toxicity", version="1", status=Status.SCORED, score=1.0)
    record_flags(
        ledger,
        [
            numbered_flag_row(0, response=SafeText('{"detector":"toxicity"}')),
            numbered_flag_row(1, severity=Severity.CRITICAL),
            numbered_flag_row(2, rule="Toxic", detectors=("toxicity",), assessments=(toxic,)),
            numbered_flag_row(3, app=""),
            numbered_flag_row(4, app="other"),
            numbered_flag_row(5, environment="staging", model="m-2"),
        ],
    )
    page = reader.find(wanted, 10)
    assert [row.origin.offset for row in page.flags] == numbers


def test_a_label_of_a_rule_is_no_detector(ledger: Ledger, reader: FlagReader) -> None:
    """A flag is found by the detectors that it rests on, whatever label its rule sets."""
    record_flags(
        ledger,
        [
            numbered_flag_row(0, labels={"detector": "toxicity"}),
            numbered_flag_row(1, detectors=("toxicity", "drift")),
        ],
    )
    found = {
        name: [row.origin.offset for row in reader.find(FlagFilter(detector=name), 10).flags]
        for name in ("pii", "toxicity", "drift", "tox", "")
    }
    assert found == {"pii": [0], "toxicity": [1], "drift": [1], "tox": [], "": [1, 0]}


def test_all_that_identifies_traffic_comes_back_and_can_be_asked_for(
    ledger: Ledger,
    reader: FlagReader,
) -> None:
    """A flag keeps each field that identifies traffic, and is found by it."""
    traffic = Traffic(**{name: f"a {name}" for name in TRAFFIC})
    record_flags(
        ledger,
        [numbered_flag_row(0, **{name: getattr(traffic, name) for name in TRAFFIC}), numbered_flag_row(1)],
    )
    for name in TRAFFIC:
        (row,) = reader.find(FlagFilter(equal={name: (f"a {name}",)}), 10).flags
        assert row.traffic == traffic


@on_every_database
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(0, 4), max_size=14),
    later=st.lists(st.integers(5, 6), max_size=3),
    limit=st.integers(1, 5),
)
def test_pages_have_no_gap_and_no_repeat(
    ledger: Ledger,
    reader: FlagReader,
    times: list[int],
    later: list[int],
    limit: int,
) -> None:
    """The pages are all there was at the first one, however many share a time and whatever comes since."""
    with ledger.begin() as connection:
        connection.execute(t.flags.delete())
    # Spread over numbers, so that ids neither rise nor fall with time.
    record_flags(ledger, [numbered_flag_row(n * 7 % 100, time=time / 3) for n, time in enumerate(times)])
    expected = sorted(((time / 3, n * 7 % 100) for n, time in enumerate(times)), reverse=True)
    seen: list[tuple[float, int]] = []
    coming = [numbered_flag_row(1000 + n, time=float(time)) for n, time in enumerate(later)]
    before = None
    while True:
        page = reader.find(FlagFilter(before=before), limit)
        seen += [(row.time, row.origin.offset) for row in page.flags]
        if not page.more:
            break
        assert len(page.flags) == limit
        before = (page.flags[-1].time, page.flags[-1].flag.id)
        record_flags(ledger, coming[:1])
        del coming[:1]
    assert seen == expected


@on_every_database
def test_a_reader_cannot_write(ledger: Ledger) -> None:
    """The database itself refuses a change through a reader's connections, and no other's."""
    other = LedgerReader(connect(ledger.engine.url, Purpose.READ), ManualClock())
    try:
        refused = pytest.raises((sa.exc.DBAPIError, Retryable), match=r"read-?only")
        with refused, other.view() as connection:
            connection.execute(t.flags.delete())
    finally:
        other.close()
    ledger.note("still", {})


@on_every_database
def test_a_reader_waits_for_nobody(ledger: Ledger, reader: FlagReader) -> None:
    """A transaction that is being written neither holds a reader up nor shows in what it lists."""
    record_flags(ledger, [numbered_flag_row(0)])
    with ledger.begin() as connection:
        connection.execute(t.flags.delete())
        assert len(reader.find(FlagFilter(), 10).flags) == 1


def test_a_query_that_takes_too_long_is_ended_on_sqlite(ledger: Ledger) -> None:
    """A reader without time gives up with Retryable, and its connection serves the next query."""
    record_flags(ledger, (numbered_flag_row(n) for n in range(500)))
    clock = ManualClock()
    hurried = FlagReader(ledger.engine.url, clock, 0.0)
    try:
        with pytest.raises(Retryable, match="interrupted"):
            hurried.find(FlagFilter(detector="none"), 200)
        hurried._seconds = 30.0
        assert hurried.find(FlagFilter(detector="none"), 200).flags == ()
    finally:
        hurried.close()
