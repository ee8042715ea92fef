"""The bodies that webhooks get, in the formats of others."""

import json
from typing import Any

import pytest
from flags import CANARY, flag_row
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import WebhookConfig, load
from monitor.deliver.formats import body_of
from monitor.errors import ConfigError
from monitor.outcome.alerts import alert_of
from monitor.records import Leased

NOW = 1_700_000_000.0
ALERT = alert_of(flag_row(), NOW, 300.0)
FORMATS = ("riskmon", "alertmanager", "slack", "pagerduty")


def body(name: str, alert: dict[str, Any] = ALERT) -> dict[str, Any]:
    """An alert in a format."""
    key = {"routing_key": "s3cret"} if name == "pagerduty" else {}
    config = WebhookConfig.model_validate({"name": "ops", "url": "https://e.org/", "format": name, **key})
    return body_of(config, Leased(1, "webhook:ops", "f1", alert, 0, NOW))


def texts(value: Any) -> list[str]:
    """Every text in a body."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def test_alertmanager_receivers_find_every_field_of_version_4() -> None:
    """The body has the fields of Alertmanager's own webhooks: one firing alert, and what it is grouped by."""
    got = body("alertmanager")
    assert got.keys() == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    assert (got["version"], got["status"], got["receiver"]) == ("4", "firing", "ops")
    assert got["groupLabels"] == {
        "alertname": "PersonalDataLeak",
        "app": "support-bot",
        "environment": "production",
    }
    assert got["groupKey"] == '{}:{alertname="PersonalDataLeak", app="support-bot", environment="production"}'
    [alert] = got["alerts"]
    assert alert["labels"] == got["commonLabels"] == ALERT["labels"]
    assert alert["annotations"] == ALERT["annotations"]
    assert (alert["startsAt"], alert["endsAt"]) == (ALERT["startsAt"], "0001-01-01T00:00:00Z")


def test_slack_shows_what_happened_where_and_how_to_find_it() -> None:
    """The text says severity, rule, app and environment; the blocks hold summary, kinds and ids."""
    got = body("slack")
    assert got["text"] == "[critical] PersonalDataLeak in support-bot production"
    assert [block["type"] for block in got["blocks"]] == ["header", "section", "section"]
    assert got["blocks"][1]["text"]["text"] == "Personal data in an answer"
    fields = [field["text"] for field in got["blocks"][2]["fields"]]
    assert {"*kinds*\nUS_SSN x2, EMAIL_ADDRESS x1", "*trace_id*\ntrace-f1", "*flag_id*\nf1"} <= set(fields)


def test_pagerduty_opens_one_incident_per_flag() -> None:
    """A repeat has the flag's key as `dedup_key`, so that it opens no second incident."""
    got = body("pagerduty")
    assert (got["event_action"], got["dedup_key"], got["routing_key"]) == ("trigger", "f1", "s3cret")
    payload = got["payload"]
    assert payload["summary"] == (
        "[critical] PersonalDataLeak in support-bot production: Personal data in an answer"
    )
    assert (payload["severity"], payload["source"]) == ("critical", "support-bot")
    assert payload["timestamp"] == ALERT["startsAt"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_says_more_than_the_alert(name: str) -> None:
    """Not one word of prompt, response or evidence stands in a body."""
    assert CANARY not in json.dumps(body(name))


@given(
    st.fixed_dictionaries({"alertname": st.text(min_size=1), "app": st.text(), "severity": st.text()}),
    st.dictionaries(st.sampled_from(["summary", "kinds", "trace_id", "runbook_url"]), st.text(max_size=4000)),
)
def test_slack_takes_every_alert(labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Whatever an alert holds, nothing is too long for Slack, and nothing is a mention or a link."""
    got = body("slack", {**ALERT, "labels": labels, "annotations": annotations})
    limits = {"plain_text": 150, "mrkdwn": 3000}
    for block in got["blocks"]:
        parts = [block["text"]] if "text" in block else []
        assert all(len(part["text"]) <= limits[part["type"]] for part in parts)
        assert len(block.get("fields", [])) <= 10
        assert all(len(field["text"]) <= 2000 for field in block.get("fields", []))
        marked = [part["text"] for part in parts + block.get("fields", []) if part["type"] == "mrkdwn"]
        assert not any("<" in text or ">" in text for text in marked)


@given(st.text(max_size=3000), st.dictionaries(st.text(), st.text(), max_size=3))
def test_pagerduty_and_alertmanager_take_every_alert(summary: str, more: dict[str, str]) -> None:
    """The summary is at most 1,024 characters long, and every body is JSON."""
    alert = {**ALERT, "labels": more | ALERT["labels"], "annotations": {"summary": summary}}
    assert len(body("pagerduty", alert)["payload"]["summary"]) <= 1024
    assert json.loads(json.dumps(body("alertmanager", alert)))["commonAnnotations"] == {"summary": summary}


def test_pagerduty_needs_its_key() -> None:
    """PagerDuty without a routing key, and a key without PagerDuty, are errors; the key is never shown."""
    for given_format, key in (("pagerduty", None), ("slack", "s3cret")):
        written = [{"url": "https://e.org/", "format": given_format, "routing_key": key}]
        with pytest.raises(ConfigError, match="belong together") as caught:
            load(None, {"RISKMON_DELIVER_WEBHOOKS": json.dumps(written)})
        assert "s3cret" not in str(caught.value)
