"""Connects to everything a daemon needs; says of each what is wrong and what to do next.

Nothing is changed by it: no record is read, no message sent. Alertmanager gets an empty list of alerts, which
shows that address, path and credentials are right; to a webhook a connection is opened and closed.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from monitor.clock import Clock, SystemClock
from monitor.config import Config
from monitor.daemon import checks
from monitor.daemon.checks import CheckResult
from monitor.deliver.alertmanager import AlertmanagerSender
from monitor.deliver.outbox import Delivered, Reason, Rejected, Retry
from monitor.deliver.senders import senders
from monitor.deliver.webhook import WebhookSender
from monitor.errors import ConfigError, Retryable

SECONDS: Final = 5.0  # for each thing to answer
LEAST_FREE: Final = 2**30  # bytes on the ledger's disk
LATE_SECONDS: Final = 300.0  # as the alert RiskmonOutboxStuck


def examine(config: Config) -> list[CheckResult]:
    """Examine everything; what cannot be examined is a finding, too."""
    # A daemon starts without the topics it writes, and its messages wait; a sound installation has them.
    findings = [
        finding._replace(state="failed") if (finding.subject, finding.state) in _LACKING else finding
        for finding in checks.findings(config)
    ]
    clock = SystemClock()
    examinations: tuple[tuple[str, Callable[[Config, Clock], list[CheckResult]]], ...] = (
        ("weights", _weights),
        ("receivers", _receivers),
        ("ledger", _ledger),
        ("disk", _disk),
        ("daemon", _daemon),
    )
    for subject, examination in examinations:
        try:
            findings += examination(config, clock)
        except (ConfigError, Retryable, OSError) as error:
            findings.append(CheckResult(subject, "failed", str(error)))
    return findings


def _weights(_config: Config, _clock: Clock) -> list[CheckResult]:
    from monitor.models.bundled import bundled

    bad = [weights for weights in bundled() if weights.state != "ok"]
    if not bad:
        return [CheckResult("weights", "ok", "every bundled file is the pinned one")]
    return [CheckResult("weights", "failed", f"{one.file} is {one.state}; reinstall riskmon") for one in bad]


def _receivers(config: Config, clock: Clock) -> list[CheckResult]:
    found = []
    for name, sender in senders(config, clock).items():
        if isinstance(sender, AlertmanagerSender | WebhookSender):
            result = sender.reach(SECONDS)
            if isinstance(result, Delivered):
                found.append(CheckResult(name, "ok", "answers"))
            else:
                found.append(CheckResult(name, "failed", _unreached(result)))
        sender.close()
    return found


def _unreached(result: Retry | Rejected) -> str:
    remedy = _REMEDIES.get(result.reason, "look at its own log; messages wait in the ledger meanwhile")
    return f"not reached ({result.reason}); {remedy}"


_LACKING: Final = frozenset((subject, "missing") for subject in checks.OUTPUTS)
_REMEDIES: Final = {
    Reason.DNS: "its name does not resolve from here: check the URL and the resolver",
    Reason.CONNECT: "nothing listens there: is it up, and is the port right?",
    Reason.TLS: "its certificate is not trusted here: check the name in the URL and the authorities",
    Reason.TIMEOUT: "a firewall may drop packets on the way: allow this host to reach it",
    Reason.FORBIDDEN_ADDRESS: "its address is private: set allow_private if that is meant",
    Reason.REFUSED: "it refuses us: check path, user name and password",
    Reason.INVALID: "it does not take alerts: does the URL name an Alertmanager with API v2?",
    Reason.REDIRECTED: "it sends us elsewhere: configure the URL it redirects to",
}


def _ledger(config: Config, clock: Clock) -> list[CheckResult]:
    from monitor.daemon.build import open_ledger
    from monitor.ledger import queries
    from monitor.ledger.outbox import LedgerOutbox

    ledger, _ = open_ledger(config, clock)
    try:
        waiting = LedgerOutbox(ledger, clock).pending()
        rejected = queries.rejected(ledger)
        dead = sum(letter.requeued is None for letter in queries.letters(ledger, limit=100_000))
        positions = queries.positions(ledger)
    finally:
        ledger.close()
    found = [
        CheckResult(
            f"outbox {name}",
            "failed" if age > LATE_SECONDS else "ok",
            f"{count} messages wait, the oldest for {age:.0f} s"
            + (
                "; see what is said of this receiver, then is a daemon running?" if age > LATE_SECONDS else ""
            ),
        )
        for name, (count, age) in sorted(waiting.items())
    ]
    found += [
        CheckResult(
            f"outbox {name}",
            "missing",
            f"{count} messages were refused for good ({reason}); nobody was told of them",
        )
        for (name, reason), count in sorted(rejected.items())
    ]
    if dead:
        detail = (
            f"{dead} records were not judged; `riskmon dlq list` says why, `riskmon dlq requeue` tries again"
        )
        found.append(CheckResult("dead letters", "missing", detail))
    latest = max((row["updated"] for row in positions), default=None)
    if latest is None:
        found.append(CheckResult("positions", "missing", "nothing was judged yet; start `riskmon run`"))
    else:
        age = max(0.0, clock.now() - latest)
        found.append(
            CheckResult("positions", "ok", f"{len(positions)} partitions, last judged {age:.0f} s ago")
        )
    return found


def _disk(config: Config, _clock: Clock) -> list[CheckResult]:
    free = shutil.disk_usage(config.data_dir).free
    detail = f"{free / 2**30:.1f} GiB free for {config.data_dir}"
    if free >= LEAST_FREE:
        return [CheckResult("disk", "ok", detail)]
    return [
        CheckResult("disk", "failed", f"{detail}; a full disk pauses intake: make room, or move data_dir")
    ]


def _daemon(config: Config, _clock: Clock) -> list[CheckResult]:
    host = config.http.host if config.http.host not in {"0.0.0.0", "::"} else "localhost"  # noqa: S104 - a comparison
    url = f"http://{host}:{config.http.port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            body: Any = json.load(answer)
    except urllib.error.HTTPError as unready:
        with unready:
            body = json.load(unready)
    except (OSError, ValueError):
        return [
            CheckResult("daemon", "missing", f"none answers at {url}; start `riskmon run` here to have one")
        ]
    failing = [str(name) for name in body.get("failing", [])]
    if not failing:
        return [CheckResult("daemon", "ok", "ready")]
    return [
        CheckResult("daemon", "failed", f"{name}: {CONDITIONS.get(name, 'see its log')}") for name in failing
    ]


CONDITIONS: Final = {
    "started": "models are still loading, or do not load; its log says which",
    "loop_turning": "the engine hangs; the watchdog ends it, its stacks are on standard error",
    "delivery_running": "a delivery thread has ended; restart the daemon and report the log line before",
    "partitions_assigned": "it owns no partition; are there more daemons than partitions, or is Kafka away?",
    "kafka_authorized": "Kafka denies it a right; see RiskmonKafkaDenied in the runbook",
    "group_member": "its group has no such member; see RiskmonNotMember in the runbook",
    "broker_connected": "no broker is connected; see what is said of Kafka above, then its log",
    "no_partition_stuck": "a partition cannot be read on; see RiskmonPartitionStuck in the runbook",
    "no_partition_fenced": "another daemon claimed a partition of this one; do two groups share a ledger?",
    "ledger_writable": "the ledger refuses writes; see disk and locks",
    "detectors_ready": "no detector worker is up; its log says of what they die",
    "not_stopping": "it drains and will end",
}
