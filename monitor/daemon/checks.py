"""Checks before a start: faults, missing parts, and the cost of each missing tier."""

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from monitor.config import Config, KafkaConfig, Profile, SecretUrl
from monitor.errors import ConfigError, Retryable
from monitor.findings import PII
from monitor.privacy.vault import Vault
from monitor.private_files import unwritable
from monitor.spool import SpoolUsage

BROKER_SECONDS = 10.0
OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
OUTPUTS: Final = ("feedback topic", "verdicts topic")
"""Subjects of the topics that a daemon writes."""


class CheckResult(NamedTuple):
    """One line: `state` is ok, missing (works, at a cost) or failed (does not work)."""

    subject: str
    state: str
    detail: str


def run(config: Config, *, offline: bool = False) -> list[CheckResult]:
    """Check everything a daemon needs at its start."""
    checks: list[tuple[str, Callable[[Config], list[CheckResult]]]] = [
        ("rules", _rules),
        ("models", _models),
        ("patterns", _patterns),
        ("agent policies", _policies),
        ("deliver", _deliver),
        ("ledger", _ledger_unopened if offline else _ledger),
        ("rights", _exposed),
        ("receiver", _receiver),
    ]
    deliver = config.deliver
    if not offline and (config.kafka.topics or deliver.feedback_topic or deliver.verdicts_topic):
        checks.append(("broker", _broker))
    results: list[CheckResult] = []
    for subject, check in checks:
        try:
            results += check(config)
        except (ConfigError, Retryable) as error:
            results += [CheckResult(subject, "failed", line) for line in str(error).splitlines()]
    return results


def _rules(config: Config) -> list[CheckResult]:
    from monitor.rules import RuleSet, default_paths

    rules = RuleSet.load(config.rules.paths or default_paths())
    return [CheckResult("rules", "ok", f"{len(rules.rules)} rules, version {rules.version}")]


def _policies(config: Config) -> list[CheckResult]:
    """Name the globs of policies that match no trace, because names like theirs are hashed.

    Names without a wildcard are kept as they are, if they may be logged at all.
    """
    from monitor.daemon.mentions import is_exact, of_agents
    from monitor.ingest.identifiers import KeptNames, clean_title

    section = config.enabled_detectors().get("agent")
    if section is None or section.factory:
        return []
    named = [name for _, name in of_agents(config)]
    kept = KeptNames()
    kept.replace(name for name in named if is_exact(name))
    hashed = sorted({name for name in named if clean_title(name, str, kept) != name.strip()})
    if not hashed:
        return [CheckResult("agent policies", "ok", f"{len(named)} names and globs that traces can bear")]
    return [
        CheckResult(
            "agent policies",
            "missing",
            f"{', '.join(map(repr, hashed))}: no trace bears such a name, as what looks like personal data or"
            " is longer than 128 characters is hashed when it is read; write a glob for the rest of the name",
        )
    ]


def _models(config: Config) -> list[CheckResult]:
    from monitor.detect import tiers, without_lost_models

    judging, lost = without_lost_models(config)
    return [
        CheckResult("profile", "ok", f"{config.profile}: {_PROFILES[config.profile]}"),
        *(
            CheckResult(
                f"{tier.detector} tier {tier.tier}",
                "ok" if tier.present else "missing",
                f"{tier.name} {tier.version}".strip() if tier.present else f"{tier.name}: {tier.cost}",
            )
            for tier in tiers(judging)
        ),
        *(
            CheckResult(
                "model", "missing", f"{setting}: its file is missing; judging goes on without that tier"
            )
            for setting in lost
        ),
    ]


def _patterns(config: Config) -> list[CheckResult]:
    """Name the patterns that a hostile text may keep busy until their time-out."""
    section = config.enabled_detectors().get(PII)
    if section is None or section.factory:
        return []
    from monitor.detect.pii import backtracking

    names = backtracking(**section.options)
    detail = f"bounded by a time-out, in a worker alone: {', '.join(names)}" if names else "all linear"
    return [CheckResult("patterns", "ok", detail)]


def _deliver(config: Config) -> list[CheckResult]:
    from monitor.clock import SystemClock
    from monitor.deliver.senders import senders

    built = senders(config, SystemClock())
    return [CheckResult("deliver", "ok", ", ".join(built) or "nowhere: alerts stay in the ledger")]


def _ledger(config: Config) -> list[CheckResult]:
    """Try the ledger out, as a daemon would use it, and its key; nothing is made and nothing changed."""
    from monitor.clock import SystemClock
    from monitor.daemon.build import vault_path
    from monitor.ledger import keys
    from monitor.ledger.database import exists, file_of
    from monitor.ledger.schema import NEWEST
    from monitor.ledger.spool import usage_by_topic
    from monitor.ledger.trial import LedgerTrial

    url, key = config.ledger_url(), vault_path(config)
    path = file_of(url)
    vault = _key(config)
    made = [place for place in (path, None if vault else key) if place is not None]
    if fault := next(filter(None, map(unwritable, made)), ""):
        raise ConfigError(f"ledger.url: {url} cannot be used: {fault}; a daemon waits until it can")
    if path is not None and not exists(path):
        return [CheckResult("ledger", "ok", _to_be_made(url, vault))]
    with closing(LedgerTrial.at(url, SystemClock())) as ledger:
        version = ledger.run()
        known = keys.fingerprint_of(ledger)
        spools = usage_by_topic(ledger) if version == NEWEST else {}
    if vault is not None:
        keys.require(known, vault)
    elif known:
        raise _lost(key)
    later = "" if version == NEWEST else f"; schema {version}, which `riskmon run` brings to {NEWEST}"
    return [
        CheckResult("ledger", "ok", f"{url}, {_named(vault)}{later}"),
        *(_spool(topic, *waiting, config) for topic, waiting in spools.items()),
    ]


def _ledger_unopened(config: Config) -> list[CheckResult]:
    """Check setting and key alone: a daemon waits for the ledger itself."""
    from monitor.clock import SystemClock
    from monitor.ledger.database import exists, file_of
    from monitor.ledger.trial import LedgerTrial

    url = config.ledger_url()
    LedgerTrial.at(url, SystemClock()).close()
    try:
        vault, path = _key(config), file_of(url)
        there = path is None or exists(path)
    except Retryable as error:
        return [CheckResult("ledger", "missing", f"{error}; a daemon waits for it")]
    detail = f"{url}, {_named(vault)}, not opened" if there else _to_be_made(url, vault)
    return [CheckResult("ledger", "ok", detail)]


def _key(config: Config) -> Vault | None:
    """Open the key; None where a daemon has to make it. Raises ConfigError when it is lost."""
    from monitor.daemon.build import vault_path
    from monitor.ledger.database import exists, file_of

    key, path = vault_path(config), file_of(config.ledger_url())
    if os.path.lexists(key):
        return Vault.open(key)
    if path is not None and exists(path):
        raise _lost(key)
    return None


def _lost(key: Path) -> ConfigError:
    return ConfigError(f"{key}: the key file of the ledger is lost; restore it from the backup")


def _named(vault: Vault | None) -> str:
    return f"key {vault.key_id}" if vault else "with a new key"


def _to_be_made(url: SecretUrl, vault: Vault | None) -> str:
    return f"{url} is made by the first start, {_named(vault)}"


def _exposed(config: Config) -> list[CheckResult]:
    """Name what other users of this machine may read or replace."""
    from monitor.ledger.database import file_of

    results = []
    path = file_of(config.ledger_url())
    if path is not None and _mode(path) & OTHERS:
        detail = f"{path}: other users may read it, and it holds excerpts of texts; run `chmod 600` on it"
        results.append(CheckResult("ledger's rights", "missing", detail))
    mode = _mode(config.data_dir)
    if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
        detail = f"{config.data_dir}: other users may replace ledger and key; run `chmod 700` on it"
        results.append(CheckResult("data_dir's rights", "missing", detail))
    return results


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # there is none, or another line says why
        return 0


def _receiver(config: Config) -> list[CheckResult]:
    from monitor.receiver.otlp_grpc import require_grpc

    receiver = config.receiver
    token = "with a token" if receiver.token else "no token"
    results = []
    if receiver.enabled:
        where = f"OTLP/HTTP at {receiver.host}:{receiver.port}, {token}"
        results.append(CheckResult("receiver", "ok", where))
    if receiver.grpc.enabled:
        where = f"OTLP/gRPC at {receiver.host}:{receiver.grpc.port}, {token}"
        try:
            require_grpc()
        except ConfigError as error:
            results.append(CheckResult("gRPC receiver", "failed", str(error)))
        else:
            results.append(CheckResult("gRPC receiver", "ok", where))
    return results


def _spool(topic: str, usage: SpoolUsage, oldest: float, config: Config) -> CheckResult:
    """Report the bodies in one topic of the spool, and which daemon has to judge them."""
    since = datetime.fromtimestamp(oldest, UTC).isoformat(timespec="seconds")
    detail = f"{usage.end - usage.begin} bodies, {usage.bytes} bytes, the oldest of {since}"
    if topic in config.spool_topics().values():
        return CheckResult(f"spool {topic}", "ok", detail)
    instance = topic.partition("@")[2]
    remedy = f"judged only while a daemon with `instance: {instance}` and a receiver runs on this ledger"
    return CheckResult(f"spool {topic}", "missing", f"{detail}; {remedy}")


def _broker(config: Config) -> list[CheckResult]:
    from monitor.sources.kafka_admin import Access, examine
    from monitor.sources.kafka_lookups import NO_ID_REMEDY

    kafka, deliver = config.kafka, config.deliver
    topics = zip(OUTPUTS, (deliver.feedback_topic, deliver.verdicts_topic), strict=True)
    outputs = {name: topic for name, topic in topics if topic}
    try:
        broker = examine(kafka, outputs.values(), BROKER_SECONDS)
    except Retryable as error:
        needed = "" if kafka.topics else "; without Kafka, empty deliver.feedback_topic and .verdicts_topic"
        raise ConfigError(f"{error}{needed}") from None
    results = [
        CheckResult(
            f"broker {server}", "missing", "accepts no connection; others of kafka.bootstrap_servers do"
        )
        for server in broker.silent
    ]
    if broker.group is Access.DENIED:
        results.append(
            CheckResult(
                f"right to group {kafka.group_id}", "failed", _denied(kafka, "--group", kafka.group_id)
            )
        )
    for topic, access in broker.read.items():
        results.append(_topic(f"topic {topic}", access, _NO_TOPIC, _denied(kafka, "--topic", topic)))
    results += [CheckResult(f"id of topic {topic}", "missing", NO_ID_REMEDY) for topic in broker.nameless]
    for name, topic in outputs.items():
        denied = _denied(kafka, "--topic", topic, "Write")
        state, detail = _topic(name, broker.written[topic], _NO_OUTPUT, denied)[1:]
        results.append(CheckResult(name, state, f"{topic} {detail}".rstrip()))
    return results + _group(config)


def _topic(subject: str, access: str, absent: str, denied: str) -> CheckResult:
    state, detail = {"allowed": ("ok", ""), "missing": ("missing", absent), "denied": ("failed", denied)}[
        access
    ]
    return CheckResult(subject, state, detail)


def _denied(kafka: KafkaConfig, kind: str, name: str, right: str = "Read") -> str:
    user = kafka.sasl_username or "NAME"
    command = f"kafka-acls --add --allow-principal User:{user} --operation {right} {kind} {name}"
    return f"is denied: this user lacks the right {right}; {command}"


def _group(config: Config) -> list[CheckResult]:
    """Check that unread partitions will be noticed; no result when the broker does not answer."""
    from monitor.sources.kafka_group import hidden

    if not config.kafka.topics:
        return []
    try:
        why = hidden(config.kafka)
    except Retryable:
        return []
    return [CheckResult("unread partitions", "missing" if why else "ok", why)]


_PROFILES: Final[Mapping[Profile, str]] = {
    "default": "higher tiers judge the traces lower ones are unsure of, and a random share of the rest",
    "full": "every tier judges every trace",
    "offline": "bundled tiers only",
}
_NO_TOPIC = "does not exist yet; it is read from its beginning as soon as it does"
_NO_OUTPUT = "does not exist; its messages wait in the ledger: create it, or set its name to ''"
