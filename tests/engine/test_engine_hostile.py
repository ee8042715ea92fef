"""Traces that were made to be dear cost the loop no more than others of their size, and are judged."""

import pytest
from hostile_traces import Bench, agents, tools_and_chats

from monitor.ledger.queries import verify
from monitor.trace import Missing


@pytest.mark.alone
def test_a_trace_of_agents_is_judged_a_piece_at_a_time() -> None:
    """No turn of the loop takes a second, each answer is judged, and the position gets to the end."""
    bench = Bench(agents(3_000), max_spans=1_000)
    turns = list(bench.turns())
    assert max(turns) < 1.0
    traces = [judgement.trace for judgement in bench.observer.judgements]
    assert {trace.response for trace in traces} == {
        *(f"agent {number}" for number in range(2, 3_002)),
        "the model's answer",
    }
    assert len(traces) == 3_001
    assert sum(Missing.EARLIER_SPANS in trace.missing for trace in traces) > 1_500
    assert verify(bench.ledger).ok


@pytest.mark.alone
def test_a_trace_of_tools_and_chats_is_judged_in_proportion_to_its_size() -> None:
    """Twice as many of both are twice as many sources to read, and no turn of the loop takes a second."""
    sources = []
    for count in (500, 1_000):
        bench = Bench(tools_and_chats(count))
        assert max(bench.turns()) < 1.0
        assert len(bench.observer.judgements) == count
        sources.append(bench.detectors.sources)
        assert verify(bench.ledger).ok
    assert sources[1] < 2.5 * sources[0]


def test_exchanges_that_wait_count_by_the_bytes_of_their_spans() -> None:
    """While they wait for detectors, intake holds at `max_waiting_bytes`; then it goes on."""
    records = [record for trace in range(1, 9) for record in tools_and_chats(100, trace)]
    bench = Bench(records, max_waiting_bytes=300_000)
    bench.detectors.held = True
    for _ in range(30):
        bench.engine.turn()
        bench.clock.advance(2.0)
    consumed = bench.engine.totals.consumed
    # A trace of 200 spans has over 200 KB of them, so two fill the bound; the others are not read.
    assert 1 <= consumed < 8
    bench.detectors.held = False
    for _ in bench.turns():
        pass
    assert bench.engine.totals.recorded == 8
    assert bench.engine.totals.traces == 800
