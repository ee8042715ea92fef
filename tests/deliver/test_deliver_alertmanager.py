"""Delivery to a real Alertmanager, and to a stand-in that fails in ways a real one rarely does."""

import base64
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from external import need
from flags import flag_row
from hypothesis import given, settings
from hypothesis import strategies as st
from outboxes import FakeObserver, FakeOutbox
from patience import PATIENCE, eventually
from processes import free_port
from receivers import receiver

from monitor.clock import Deadline, ManualClock, SystemClock, rfc3339
from monitor.config import AlertmanagerConfig, DeliverConfig
from monitor.deliver.alertmanager import AlertmanagerSender
from monitor.deliver.formats import fingerprint
from monitor.deliver.outbox import Dispatcher
from monitor.deliver.results import Delivered, Reason, Rejected, Result, Retry
from monitor.errors import ConfigError
from monitor.findings import Severity
from monitor.outcome.alerts import alert_of, outgoing_for
from monitor.records import Leased

pytestmark = pytest.mark.monitoring

NOW = 1_700_000_000.0


def answers(url: str) -> bool:
    """Whether something at this URL says 200."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:  # noqa: S310 - a loopback URL of this test
            return bool(response.status == 200)
    except OSError:
        return False


@contextmanager
def alertmanager(folder: Path, port: int, config: Path | None = None) -> Iterator[str]:
    """A running Alertmanager; yields its base URL."""
    if config is None:
        config = folder / "alertmanager.yml"
        config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [
        need("prometheus-alertmanager", "alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: answers(f"{url}/-/ready"), "an Alertmanager that is ready")
            yield url
        finally:
            process.kill()


def shown(url: str) -> list[dict[str, Any]]:
    """The alerts an Alertmanager shows."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=PATIENCE) as response:  # noqa: S310 - loopback
        alerts: list[dict[str, Any]] = json.load(response)
    return alerts


def rows(n: int, body: Callable[[int], dict[str, Any]]) -> list[Leased]:
    """Leased rows with bodies by number."""
    return [Leased(i, "alertmanager", f"f{i}", body(i), 0, 0.0) for i in range(n)]


def sender(url: str, **config: Any) -> AlertmanagerSender:
    """A sender on the machine's clock."""
    return AlertmanagerSender(AlertmanagerConfig(url=url, **config), PATIENCE, SystemClock())


def test_alertmanager_shows_what_was_sent_and_merges_equal_findings(tmp_path: Path) -> None:
    """Five hundred flags of one kind are one alert with the newest trace; another kind is another alert."""
    now = SystemClock().now()
    equal = rows(500, lambda i: alert_of(flag_row(f"f{i}", time=now), now, 300.0))
    other = rows(1, lambda _: alert_of(flag_row("other", time=now, app="shop"), now, 300.0))
    with alertmanager(tmp_path, free_port()) as url, closing(sender(url)) as out:
        for start in range(0, 500, out.batch):
            batch = equal[start : start + out.batch]
            assert out.send(batch) == [Delivered()] * len(batch)
        assert out.send(other) == [Delivered()]
        alerts = sorted(shown(url), key=lambda alert: alert["labels"]["app"])
    assert [alert["labels"]["app"] for alert in alerts] == ["shop", "support-bot"]
    assert alerts[1]["labels"] == equal[0].body["labels"]
    assert alerts[1]["annotations"] == equal[-1].body["annotations"]
    assert alerts[1]["status"]["state"] in ("active", "unprocessed")
    assert [alert["fingerprint"] for alert in alerts] == [fingerprint(alert["labels"]) for alert in alerts]


def test_silences_and_inhibition_of_alertmanager_hold_for_our_alerts(tmp_path: Path) -> None:
    """With the shipped configuration a silenced app is silent, and a leak hides lesser findings there."""
    now = SystemClock().now()
    leak = alert_of(flag_row("leak", time=now), now, 300.0)
    doubt = alert_of(flag_row("doubt", rule="Doubt", severity=Severity.WARNING, time=now), now, 300.0)
    other = alert_of(flag_row("other", app="shop", time=now), now, 300.0)
    silence = {
        "matchers": [{"name": "app", "value": "shop", "isRegex": False, "isEqual": True}],
        "startsAt": rfc3339(now - 1.0),
        "endsAt": rfc3339(now + 300.0),
        "createdBy": "test",
        "comment": "known",
    }

    def suppressed() -> dict[str, bool]:
        return {a["annotations"]["flag_id"]: a["status"]["state"] == "suppressed" for a in shown(url)}

    with alertmanager(tmp_path, free_port(), Path("docker/alertmanager.yml").absolute()) as url:
        request = urllib.request.Request(f"{url}/api/v2/silences", json.dumps(silence).encode())  # noqa: S310 - loopback
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE), closing(sender(url)) as out:  # noqa: S310 - loopback
            assert out.send(rows(3, lambda i: (leak, doubt, other)[i])) == [Delivered()] * 3
        expected = {"leak": False, "doubt": True, "other": True}
        eventually(lambda: suppressed() == expected, "the silenced and inhibited alerts")


def test_no_name_or_value_of_a_label_is_refused(tmp_path: Path) -> None:
    """Whatever they are made of: names arrive in letters and digits, as before 0.27 they had to be."""
    now = SystemClock().now()
    with alertmanager(tmp_path, free_port()) as url, closing(sender(url)) as out:

        @given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1, max_size=5), st.text())
        @settings(max_examples=50, deadline=None)
        def any_labels(labels: dict[str, str], app: str) -> None:
            row = flag_row(time=now, labels=labels, app=app)
            assert out.send(rows(1, lambda _: alert_of(row, now, 300.0))) == [Delivered()]

        any_labels()
        names = {name for alert in shown(url) for name in alert["labels"]}
    assert len(names) > 10
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in names)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"labels": {}},
        {"labels": {"": "x"}},
        {"labels": {"app": 6}},
        {"startsAt": "9999-12-31T23:59:59Z"},
        {"startsAt": "soon"},
    ],
    ids=["no labels", "no name", "no text", "ends before it starts", "no time"],
)
def test_one_invalid_alert_costs_only_itself(spoilt: dict[str, Any], tmp_path: Path) -> None:
    """A row that Alertmanager refuses is rejected; the others of its batch are delivered."""
    now = SystemClock().now()
    batch = rows(10, lambda i: alert_of(flag_row(time=now, app=f"app-{i}"), now, 300.0))
    batch[6].body.update(spoilt)
    with alertmanager(tmp_path, free_port()) as url, closing(sender(url)) as out:
        outcome = out.send(batch)
        apps = {alert["labels"]["app"] for alert in shown(url)}
    assert [i for i, result in enumerate(outcome) if result != Delivered()] == [6]
    assert outcome[6] == Rejected(Reason.INVALID)
    assert apps == {f"app-{i}" for i in range(10)} - {"app-6"}


def test_alerts_written_while_alertmanager_was_down_fire_when_it_is_back(tmp_path: Path) -> None:
    """An alert that ended long before its delivery still fires, from its own start."""
    clock, outbox, port = SystemClock(), FakeOutbox(), free_port()
    written = clock.now() - 3600.0
    config = DeliverConfig(
        alertmanager=AlertmanagerConfig(url=f"http://127.0.0.1:{port}"), log=False, feedback_topic=""
    )
    [message] = outgoing_for(flag_row(time=written), None, config, written)
    outbox.add(message.destination, 1)
    outbox.rows[0].leased = outbox.rows[0].leased._replace(body=message.body)
    out = AlertmanagerSender(config.alertmanager, 10.0, clock)
    observer = FakeObserver()
    dispatcher = Dispatcher(outbox, {message.destination: out}, clock, observer, max_backoff=0.3)
    dispatcher.start()
    try:
        eventually(lambda: observer.counts["alertmanager failed connect"] >= 2, "two attempts")
        with alertmanager(tmp_path, port) as url:
            eventually(lambda: outbox.states()["delivered"] == 1, "the delivery")
            [alert] = shown(url)
    finally:
        assert dispatcher.stop(Deadline(clock, PATIENCE)) == ()
    assert alert["startsAt"] == message.body["startsAt"]
    assert alert["status"]["state"] in ("active", "unprocessed")


def test_the_end_counts_from_the_delivery() -> None:
    """Whenever an alert arrives, it lasts resolve_seconds from then, so that it is not resolved unseen."""
    clock = ManualClock(NOW)
    body = alert_of(flag_row(), NOW, 300.0)
    with receiver() as (host, got):
        config = AlertmanagerConfig(url=f"http://{host}/am/", resolve_seconds=300.0)
        with closing(AlertmanagerSender(config, PATIENCE, clock)) as out:
            clock.advance(290.0)
            out.send(rows(1, lambda _: body))
    [(path, _, content)] = got.got
    assert path == "/am/api/v2/alerts"
    [alert] = json.loads(content)
    assert (alert["startsAt"], alert["endsAt"]) == (body["startsAt"], "2023-11-14T22:23:10.000Z")
    assert body["endsAt"] == "2023-11-14T22:18:20.000Z"


def test_credentials_travel_as_basic_authentication() -> None:
    """Name and password go into the Authorization header, and never into the URL."""
    with receiver() as (host, got), closing(sender(f"http://{host}", username="u", password="p:w")) as out:
        out.send(rows(1, lambda _: {}))
    assert got.got[0][1]["authorization"] == "Basic " + base64.b64encode(b"u:p:w").decode()
    with pytest.raises(ConfigError, match=r"deliver\.alertmanager\.url"):
        sender("http://u:p@alertmanager.invalid:9093")


@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        (503, Retry(Reason.SERVER_ERROR), 1),
        (401, Retry(Reason.UNAUTHORIZED), 1),
        (302, Retry(Reason.REDIRECTED), 1),
        (404, Retry(Reason.NOT_FOUND), 1),
        (400, Rejected(Reason.INVALID), 15),
        (413, Rejected(Reason.TOO_LARGE), 15),
    ],
)
def test_only_an_invalid_array_is_taken_apart(status: int, expected: Result, requests: int) -> None:
    """A failure that is not about single rows is one request for the whole batch."""
    with receiver(status=status) as (host, got), closing(sender(f"http://{host}")) as out:
        outcome: Sequence[Result] = out.send(rows(8, lambda _: {}))
    assert (list(outcome), len(got.got)) == ([expected] * 8, requests)
