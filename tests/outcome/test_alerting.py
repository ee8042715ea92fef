"""What an alert and a feedback item say about a flag, and what they never say."""

import json
from datetime import datetime
from pathlib import Path

import yaml
from flags import CANARY, NOW, flag_row
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import rfc3339
from monitor.config import AlertmanagerConfig, DeliverConfig, WebhookConfig
from monitor.feedback.items import feedback_item
from monitor.findings import ALERT_LABELS, Action, Assessment, Evidence, Status
from monitor.outcome.alerts import GROUP_BY, MAX_KINDS, alert_of, outgoing_for
from monitor.rules.files import OWNED_LABELS
from monitor.trace import Origin, SafeText


def texts() -> st.SearchStrategy[SafeText]:
    """Texts that hold the canary somewhere."""
    return st.builds(lambda a, b: SafeText(a + CANARY + b), st.text(max_size=50), st.text(max_size=50))


def everywhere() -> DeliverConfig:
    """A configuration with every destination."""
    return DeliverConfig(
        alertmanager=AlertmanagerConfig(url="http://alertmanager.invalid:9093"),
        webhooks=[WebhookConfig(name="ops", url="https://example.org/hook")],
        log=True,
        feedback_topic="riskmon.feedback",
    )


def test_labels_name_the_finding_and_annotations_the_trace() -> None:
    """An alert's labels are the same for equal findings; identifiers, kinds and score are annotations."""
    alert = alert_of(flag_row(), NOW, 300.0)
    assert alert["labels"] == {
        "alertname": "PersonalDataLeak",
        "app": "support-bot",
        "detector": "pii",
        "environment": "production",
        "model": "m-1",
        "severity": "critical",
        "team": "privacy",
    }
    assert alert["annotations"] == {
        "flag_id": "f1",
        "kinds": "US_SSN x2, EMAIL_ADDRESS x1",
        "offset": "1881",
        "partition": "3",
        "rule_version": "abc123",
        "score": "0.910",
        "summary": "Personal data in an answer",
        "topic": "llm.traces",
        "trace_id": "trace-f1",
    }
    assert alert["startsAt"] == "2023-11-14T22:13:10.000Z"
    assert alert["endsAt"] == "2023-11-14T22:18:20.000Z"
    assert (
        alert["labels"]
        == alert_of(flag_row("f2", origin=Origin("llm.traces", 0, 7, 1)), NOW + 60, 300.0)["labels"]
    )


def test_a_link_is_given_only_when_there_is_one() -> None:
    """`generatorURL` stands in the alert when it is known, and is left out otherwise."""
    assert "generatorURL" not in alert_of(flag_row(), NOW, 300.0)
    assert alert_of(flag_row(), NOW, 300.0, "https://c/flags/f1")["generatorURL"] == "https://c/flags/f1"


def test_rule_labels_cannot_pose_as_ours_and_get_valid_names() -> None:
    """A rule's label neither replaces what was judged nor has a name Alertmanager would refuse."""
    row = flag_row(labels={"app": "other", "run-book": "x", "1st": "y", "empty": ""})
    labels = alert_of(row, NOW, 300.0)["labels"]
    assert labels["app"] == "support-bot"
    assert (labels["run_book"], labels["_1st"]) == ("x", "y")
    assert "empty" not in labels


def test_detectors_are_joined_in_a_fixed_order() -> None:
    """The label `detector` does not depend on the order in which a rule names detectors."""
    one, two = (flag_row(detectors=d) for d in (("toxicity", "pii"), ("pii", "toxicity")))
    assert alert_of(one, NOW, 1.0)["labels"]["detector"] == "pii+toxicity"
    assert alert_of(one, NOW, 1.0)["labels"] == alert_of(two, NOW, 1.0)["labels"]
    assert alert_of(one, NOW, 1.0)["annotations"]["score"] == "0.990"


def test_kinds_are_bounded() -> None:
    """An alert names the most frequent kinds and counts the others."""
    evidence = tuple(
        Evidence(field="response", start=0, end=1, kind=f"K{i:02}", score=1.0) for i in range(14)
    )
    many = Assessment(detector="pii", version="1", status=Status.SCORED, score=1.0, evidence=evidence)
    kinds = alert_of(flag_row(assessments=(many,)), NOW, 1.0)["annotations"]["kinds"]
    assert kinds.count(" x1") == MAX_KINDS
    assert kinds.endswith("K09 x1, 4 more")


def test_a_trace_from_the_future_starts_now() -> None:
    """A wrong clock of an application cannot make an alert that ends before it starts."""
    alert = alert_of(flag_row(time=NOW + 9e9), NOW, 300.0)
    assert alert["startsAt"] == rfc3339(NOW)


@given(st.floats(allow_nan=False))
def test_any_time_can_be_written(time: float) -> None:
    """Whatever time a trace claims, its RFC 3339 form is valid and within the years 1970 to 9999."""
    text = rfc3339(time)
    assert text.endswith("Z")
    assert 1970 <= datetime.fromisoformat(text).year <= 9999


@given(prompt=texts(), response=texts(), evidence=st.lists(texts(), max_size=3))
def test_no_text_reaches_an_alert(prompt: SafeText, response: SafeText, evidence: list[SafeText]) -> None:
    """No alert holds a word of the trace, redacted or not; all its values are strings."""
    row = flag_row(prompt=prompt, response=response, evidence=tuple(evidence))
    messages = outgoing_for(row, feedback_item(row), everywhere(), NOW)
    alerts = [m.body for m in messages if m.destination != "feedback"]
    assert len(alerts) == 3
    for alert in alerts:
        assert CANARY not in json.dumps(alert)
        assert all(isinstance(v, str) for part in ("labels", "annotations") for v in alert[part].values())


def test_one_message_per_flag_and_destination() -> None:
    """A flag goes to every configured destination its actions ask for, under its own id."""
    row = flag_row("a")
    messages = outgoing_for(row, feedback_item(row), everywhere(), NOW)
    assert [(m.destination, m.key) for m in messages] == [
        ("alertmanager", "a"),
        ("webhook:ops", "a"),
        ("log", "a"),
        ("feedback", "a"),
    ]
    assert outgoing_for(flag_row("b", actions=(Action.AUDIT,)), None, everywhere(), NOW) == []


def test_alerts_are_grouped_as_alertmanager_groups_them() -> None:
    """The grouping key of webhooks is that of the Alertmanager configuration that ships with riskmon."""
    shipped = yaml.safe_load(Path("docker/alertmanager.yml").read_text(encoding="utf-8"))
    assert shipped["route"]["group_by"] == list(GROUP_BY)
    assert set(GROUP_BY) <= set(ALERT_LABELS)


def test_an_alert_has_riskmon_s_labels_whatever_a_rule_sets() -> None:
    """Every label of riskmon's own is set from the flag, and a rule that sets one of them is refused."""
    labels = dict.fromkeys(ALERT_LABELS, "stolen")
    alert = alert_of(flag_row(labels=labels), NOW, 60.0)
    assert set(ALERT_LABELS) <= alert["labels"].keys()
    assert "stolen" not in alert["labels"].values()
    assert set(ALERT_LABELS) - {"severity"} <= OWNED_LABELS


def test_what_is_not_configured_gets_nothing() -> None:
    """Without destinations no message is made."""
    row = flag_row()
    assert outgoing_for(row, feedback_item(row), DeliverConfig(log=False, feedback_topic=""), NOW) == []


def test_feedback_item_is_deterministic_and_says_where_it_comes_from() -> None:
    """A feedback item carries redacted text, the signals behind the flag, and its provenance."""
    item = feedback_item(flag_row())
    assert item == feedback_item(flag_row())
    assert item.id == item.body["id"] == "f1"
    assert item.body["schema"] == "riskmon.feedback/1"
    assert item.body["prompt"] == [{"role": "user", "content": f"{CANARY} asked"}]
    assert item.body["completion"] == [{"role": "assistant", "content": f"{CANARY} answered <US_SSN>"}]
    assert item.body["label"] is False
    assert item.body["signals"] == [
        {"detector": "pii", "version": "1+aa", "score": 0.91, "rule": "PersonalDataLeak@abc123"}
    ]
    assert item.body["review"] == {"state": "unreviewed"}
    assert item.body["privacy"] == {"pii": "redacted"}
    assert item.body["provenance"]["kafka"] == {"topic": "llm.traces", "partition": 3, "offset": 1881}
