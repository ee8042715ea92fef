"""Connects to everything a daemon needs; reports for each the fault and the remedy.

It changes nothing: no record is read, no message sent. Alertmanager gets an empty list of alerts, which
proves address, path and credentials; a webhook gets a connection that is closed again.
"""

import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from monitor.clock import Clock, SystemClock
from monitor.config import Config
from monitor.daemon import checks
from monitor.daemon.checks import CheckResult
from monitor.deliver.alertmanager import AlertmanagerSender
from monitor.deliver.results import REFUSALS, Delivered, Reason, Rejected, Retry
from monitor.deliver.senders import senders
from monitor.deliver.webhook import WebhookSender
from monitor.errors import ConfigError, NotFound, Retryable
from monitor.events import TopicPartition
from monitor.private_files import nearest_folder

SECONDS: Final = 5.0  # for each answer
LEAST_FREE: Final = 2**30  # bytes on the ledger's disk
LATE_SECONDS: Final = 300.0  # as in the alert RiskmonOutboxStuck
LONGEST_PAGE: Final = 2**26  # bytes of an answer that are read: more is no daemon's


class _Readiness(msgspec.Struct):
    """What a daemon answers to `/readyz`: the conditions that fail, and why, where that is known."""

    failing: list[str]
    causes: dict[str, str] = {}


def examine(config: Config) -> list[CheckResult]:
    """Examine everything; a failed examination is a result, too."""
    # A daemon starts without its output topics, and its messages wait; a sound installation has them.
    results = [
        result._replace(state="failed") if (result.subject, result.state) in _LACKING else result
        for result in checks.run(config)
    ]
    clock = SystemClock()
    examinations: tuple[tuple[str, Callable[[Config, Clock], list[CheckResult]]], ...] = (
        ("weights", _weights),
        ("receivers", _receivers),
        ("ledger", _ledger),
        ("disk", _disk),
        ("daemon", _daemon),
        ("blind", _blind),
    )
    for subject, examination in examinations:
        try:
            results += examination(config, clock)
        except NotFound:
            results.append(_NOTHING_YET)
        except (ConfigError, Retryable, OSError) as error:
            results.append(CheckResult(subject, "failed", str(error)))
    return results


def _weights(_config: Config, _clock: Clock) -> list[CheckResult]:
    from monitor.models.bundled import bundled

    bad = [weights for weights in bundled() if weights.state != "ok"]
    if not bad:
        return [CheckResult("weights", "ok", "every bundled file is the pinned one")]
    return [
        CheckResult("weights", "failed", f"{weights.file} is {weights.state}; reinstall riskmon")
        for weights in bad
    ]


def _receivers(config: Config, clock: Clock) -> list[CheckResult]:
    results = []
    for name, sender in senders(config, clock).items():
        if isinstance(sender, AlertmanagerSender | WebhookSender):
            result = sender.reach(SECONDS)
            if isinstance(result, Delivered):
                results.append(CheckResult(name, "ok", "answers"))
            else:
                results.append(CheckResult(name, "failed", _unreached(result)))
        sender.close()
    return results


def _unreached(result: Retry | Rejected) -> str:
    remedy = _REMEDIES.get(result.reason, "see its own log; messages wait in the ledger meanwhile")
    return f"not reached ({result.reason}); {remedy}"


_LACKING: Final = frozenset((subject, "missing") for subject in checks.OUTPUTS)
_REMEDIES: Final = {
    Reason.DNS: "its name does not resolve from here: check the URL and the resolver",
    Reason.CONNECT: "nothing listens there: is it up, and is the port right?",
    Reason.TLS: "its certificate is not trusted here: check the name in the URL and the authorities",
    Reason.TIMEOUT: "a firewall may drop packets on the way: allow this host to reach it",
    Reason.FORBIDDEN_ADDRESS: "its address is private: set allow_private if that is intended",
    Reason.UNAUTHORIZED: "it refuses our login: check user name, password and URL",
    Reason.NOT_FOUND: "it knows no such path: check the URL",
    Reason.REFUSED: "it refuses what we send: does the URL name the right service?",
    Reason.INVALID: "it does not take alerts: does the URL name an Alertmanager with API v2?",
    Reason.REDIRECTED: "it redirects: configure the URL it redirects to",
}


def _ledger(config: Config, clock: Clock) -> list[CheckResult]:
    from monitor.daemon.build import inspect_ledger
    from monitor.ledger import queries
    from monitor.ledger.outbox import backlog

    # Before the positions: a daemon commits what is in the ledger already.
    commits = _commits(config)
    with closing(inspect_ledger(config, clock)) as ledger:
        waiting, troubles = backlog(ledger)
        dead = sum(letter.requeued is None for letter in queries.letters(ledger, limit=100_000))
        positions = queries.positions(ledger)
        _, gaps = queries.new_gaps(ledger, 0)
        with ledger.view() as connection:
            now = ledger.now(connection)
    results = [
        CheckResult(
            f"outbox {name}",
            "failed" if age > LATE_SECONDS else "ok",
            f"{count} messages wait, the oldest for {age:.0f} s"
            + ("; see the line of this receiver above; is a daemon running?" if age > LATE_SECONDS else ""),
        )
        for name, (count, age) in sorted(waiting.items())
    ]
    for (name, state, reason), count in sorted(troubles.items()):
        if state == "rejected":
            detail = f"{count} messages are set aside ({reason}); `riskmon outbox retry` sends them again"
            results.append(CheckResult(f"outbox {name}", "missing", detail))
        elif reason in REFUSALS:
            remedy = _REMEDIES[Reason(reason)]
            detail = f"{count} messages wait, refused ({reason}) and tried again; {remedy}"
            results.append(CheckResult(f"outbox {name}", "failed", detail))
    if dead:
        detail = (
            f"{dead} records were not judged; `riskmon dlq list` says why, `riskmon dlq requeue` tries again"
        )
        results.append(CheckResult("dead letters", "missing", detail))
    if gaps:
        detail = f"{gaps} ranges of records are on record as never judged; `riskmon audit verify` names them"
        results.append(CheckResult("gaps", "missing", detail))
    results += _beyond(commits, positions)
    latest = max((row["updated"] for row in positions), default=None)
    if latest is None:
        results.append(_NOTHING_YET)
    else:
        age = max(0.0, now - latest)
        results.append(
            CheckResult("positions", "ok", f"{len(positions)} partitions, last judged {age:.0f} s ago")
        )
    return results


_NOTHING_YET: Final = CheckResult("positions", "missing", "nothing was judged yet; start `riskmon run`")


def _commits(config: Config) -> dict[TopicPartition, int]:
    """Return what the group has committed; nothing when the broker does not say, which other lines report."""
    from monitor.sources.kafka_group import committed

    if not config.kafka.topics:
        return {}
    try:
        return committed(config.kafka)
    except Retryable:
        return {}


def _beyond(
    commits: Mapping[TopicPartition, int], positions: Sequence[Mapping[str, Any]]
) -> list[CheckResult]:
    """Report partitions of which the group has committed more than the ledger knows."""
    known = {(row["topic"], row["partition"]): int(row["next_offset"]) for row in positions}
    if not any(topic == known_topic for topic, _ in commits for known_topic, _ in known):
        return []  # nothing was judged with this ledger yet: it begins where the group is
    return [
        CheckResult(
            f"position {topic}/{number}",
            "failed",
            f"the group has committed {commit}, the ledger "
            + (f"is at {known[topic, number]}" if (topic, number) in known else "does not know the partition")
            + "; do all daemons of the group use this ledger, and did it go back in time? See"
            " RiskmonLedgerBehind in the runbook",
        )
        for (topic, number), commit in sorted(commits.items())
        if commit > known.get((topic, number), 0)
    ]


def _disk(config: Config, _clock: Clock) -> list[CheckResult]:
    free = shutil.disk_usage(nearest_folder(config.data_dir)).free
    detail = f"{free / 2**30:.1f} GiB free for {config.data_dir}"
    if free >= LEAST_FREE:
        return [CheckResult("disk", "ok", detail)]
    return [
        CheckResult("disk", "failed", f"{detail}; a full disk pauses intake: make room, or move data_dir")
    ]


def _host(config: Config) -> str:
    host = config.http.host if config.http.host not in {"0.0.0.0", "::"} else "localhost"  # noqa: S104 - a comparison
    return f"[{host}]" if ":" in host else host


def _ask(config: Config, page: str) -> str | None:
    """Return a page of the daemon that runs here, whatever its status; None when nobody answers in HTTP."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            answer = direct.open(f"http://{_host(config)}:{config.http.port}/{page}", timeout=SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return bytes(answer.read(LONGEST_PAGE)).decode()
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _daemon(config: Config, _clock: Clock) -> list[CheckResult]:
    where = f"{_host(config)}:{config.http.port}"
    page = _ask(config, "readyz")
    if page is None:
        return [
            CheckResult("daemon", "missing", f"none answers at {where}; start `riskmon run` here to have one")
        ]
    try:
        body = msgspec.json.decode(page, type=_Readiness)
    except msgspec.DecodeError:
        return [
            CheckResult("daemon", "failed", f"another program answers at {where}: end it, or set http.port")
        ]
    return [
        CheckResult("daemon", "failed", f"{name}: {body.causes.get(name) or CONDITIONS.get(name, _SEE_LOG)}")
        for name in body.failing
    ] or [CheckResult("daemon", "ok", "ready")]


def _blind(config: Config, _clock: Clock) -> list[CheckResult]:
    """Name the emitters whose traces came without their texts to the daemon that runs here, with remedies."""
    from prometheus_client.parser import text_string_to_metric_families

    from monitor.ingest import content_on

    try:
        exported = text_string_to_metric_families(_ask(config, "metrics") or "")
        families = {family.name: family.samples for family in exported}
    except ValueError:  # these are no metrics, and `_daemon` says that it is no daemon
        return []
    blind = [
        (sample.labels["emitter"], int(sample.value))
        for sample in families.get("riskmon_traces_blind", ())
        if sample.name.endswith("_total") and sample.value
    ]
    foreign = [
        (sample.labels["scope"], int(sample.value))
        for sample in families.get("riskmon_spans_foreign", ())
        if sample.name.endswith("_total") and sample.value
    ]
    results = [
        CheckResult(
            f"blind {emitter}", "failed", f"{traces} traces came without their texts; {content_on(emitter)}"
        )
        for emitter, traces in sorted(blind)
    ]
    return results + [
        CheckResult(
            f"foreign {scope}",
            "missing",
            f"{spans} spans look like calls of a model and are of no dialect that is read; docs/formats.md"
            " lists those that are, and `riskmon decode` what was left of a record",
        )
        for scope, spans in sorted(foreign)
    ]


_SEE_LOG: Final = "see its log"
CONDITIONS: Final = {
    "started": "models are still loading, or cannot be loaded; see its log",
    "loop_turning": "the engine hangs; the watchdog ends it and writes its stacks to standard error",
    "delivery_running": "a fault ends each turn of a delivery thread; report the last lines of its log",
    "partitions_assigned": "it owns no partition; are there more daemons than partitions, or is Kafka away?",
    "kafka_authorized": "Kafka denies it a right; see RiskmonKafkaDenied in the runbook",
    "group_member": "its group has no such member; see RiskmonNotMember in the runbook",
    "broker_connected": "no broker is connected; see the lines on Kafka above, then its log",
    "no_partition_stuck": "a partition is stuck; see RiskmonPartitionStuck in the runbook",
    "no_partition_fenced": "another daemon has claimed one of its partitions; do two groups share a ledger?",
    "ledger_writable": "the ledger refuses writes; see disk and locks",
    "detectors_ready": "no detector worker is up; its log says why they die",
    "not_stopping": "it is draining and will end",
}
