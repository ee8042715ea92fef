"""The senders a configuration asks for, and the log among them."""

import json

import pytest
from flags import CANARY, flag_row
from structlog.testing import capture_logs

from monitor.clock import ManualClock
from monitor.config import Config
from monitor.deliver.log import LogSender
from monitor.deliver.results import Delivered
from monitor.deliver.senders import senders
from monitor.errors import ConfigError
from monitor.feedback.items import feedback_item
from monitor.findings import Severity
from monitor.outcome.alerts import alert_of, outgoing_for
from monitor.records import Leased

NOW = 1_700_000_000.0


def config(**deliver: object) -> Config:
    """A configuration of delivery."""
    return Config.model_validate({"deliver": deliver})


def test_every_destination_written_to_has_a_sender() -> None:
    """Whatever is configured, the messages made and the senders built agree on destinations."""
    everything = config(
        alertmanager={"url": "http://alertmanager.invalid:9093"},
        webhooks=[
            {"name": "a", "url": "https://example.org/a"},
            {"name": "b", "url": "https://example.org/b"},
        ],
    )
    for each in (everything, config(), config(log=False), config(log=False, feedback_topic="")):
        built = senders(each, ManualClock())
        row = flag_row()
        messages = outgoing_for(row, feedback_item(row), each.deliver, NOW)
        assert sorted(built) == sorted(m.destination for m in messages)
        for sender in built.values():
            sender.close()


def test_bad_urls_and_equal_names_are_configuration_errors() -> None:
    """What could never be delivered is refused before anything starts."""
    with pytest.raises(ConfigError, match=r"deliver\.webhooks\[ops\]\.url: must be https"):
        senders(config(webhooks=[{"name": "ops", "url": "http://example.org/"}]), ManualClock())
    twice = [{"name": "ops", "url": "https://example.org/"}] * 2
    with pytest.raises(ConfigError, match="two are named 'ops'"):
        senders(config(webhooks=twice), ManualClock())


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.INFO, "info"), (Severity.WARNING, "warning"), (Severity.CRITICAL, "error")],
)
def test_the_log_has_a_line_per_alert_and_no_text(severity: Severity, level: str) -> None:
    """An alert is one line at the level of its severity, with ids and labels and no word of the trace."""
    row = Leased(1, "log", "f1", alert_of(flag_row(severity=severity), NOW, 300.0), 0, NOW)
    with capture_logs() as logs:
        assert LogSender(ManualClock()).send([row, row]) == [Delivered()] * 2
    assert logs[0] == logs[1]
    assert logs[0] == {
        "event": "alert",
        "log_level": level,
        "rule": "PersonalDataLeak",
        "severity": severity.value,
        "app": "support-bot",
        "environment": "production",
        "model": "m-1",
        "detector": "pii",
        "flag_id": "f1",
        "trace_id": "trace-f1",
        "topic": "llm.traces",
        "partition": "3",
        "offset": "1881",
        "kinds": "US_SSN x2, EMAIL_ADDRESS x1",
        "score": "0.910",
        "summary": "Personal data in an answer",
    }
    assert CANARY not in json.dumps(logs)
