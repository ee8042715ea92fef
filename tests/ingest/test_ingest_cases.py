"""Payloads of real emitters and of a real Collector, each against its expectation."""

import pytest
from ingest_cases import FOLDER, Case, cases, decoded, exchanges, faults, need_folder

from monitor.config import Format


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_payload_comes_out_as_expected(case: Case) -> None:
    """Every field that the expectation names is read from the payload as it says."""
    assert faults(case.traces(), case.expect) == []


RAW: tuple[tuple[str, Format, tuple[str, ...]], ...] = (
    ("raw_genai_openai_tools.bin", "otlp_proto", ("Ansgenaiopenaitools",)),
    ("raw_openinference_tools.bin", "otlp_proto", ("lookup_customer",)),
    ("raw_openllmetry_plain_otlp_json.json", "otlp_json", ("Ansopenllmetryplain", "SYSMKopenllmetryplain")),
    ("raw_details_event_logs_otlp_json.json", "otlp_json", ("Ans", "ASKMK")),
    ("raw_legacy_events_logs.bin", "otlp_proto_logs", ("ASKMK", "lookup_customer")),
)


@pytest.mark.parametrize(("file", "form", "texts"), RAW, ids=[file for file, _, _ in RAW])
def test_bytes_as_a_collector_wrote_them_are_read(file: str, form: Format, texts: tuple[str, ...]) -> None:
    """Raw records of a Collector's exporter hold the prompt, the answer and the call that were sent."""
    need_folder()
    held = repr(exchanges(decoded((FOLDER / "collector" / file).read_bytes(), form)))
    assert [text for text in texts if text not in held] == []


def test_logs_on_a_shared_topic_are_read_by_their_header() -> None:
    """A record whose header names logs is read as such on a topic of traces."""
    need_folder()
    value = (FOLDER / "collector" / "shared_topic_logs.bin").read_bytes()
    [trace] = exchanges(decoded(value, "otlp_proto", (("otelcol.signal", b"logs"),)))
    assert trace.response == "Write to lisa.log@example.com"


def test_the_payloads_are_there() -> None:
    """The folder of payloads is next to the checkout."""
    need_folder()
    assert len(list(cases())) >= 90
