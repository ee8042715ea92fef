"""The container files: valid, pinned, closed to the outside, and true when run natively."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT
from compose import DOCKER, compose_file, prometheus_config
from external import need, need_module
from processes import fetch_json, free_port, running
from structlog.testing import CapturingLogger

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.console.http import HttpServer
from monitor.daemon.daemon import LIVE_SECONDS
from monitor.events import Lag
from monitor.findings import Assessment, Evidence, Flag, Judgement, Severity, Status, TierStatus
from monitor.ports import DECISIONS, Incident, PoolStats, Stage
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.trace import Origin, Trace

DETECTORS = ("hallucination", "pii", "toxicity", "injection", "drift", "agent")
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def run(*command: str, cwd: Path = ROOT) -> None:
    """Run a checker; its complaints are the failure."""
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_has_no_complaint() -> None:
    """The Dockerfile follows hadolint's rules."""
    run(need("hadolint"), str(DOCKER / "Dockerfile"))


def test_compose_obeys_the_compose_specification() -> None:
    """A parser that validates against the specification takes the file, with all its services."""
    spec = need_module("compose_spec")
    merged = yaml.safe_dump(compose_file())  # the parser knows no merge keys, which Docker's does
    parsed = spec.PyCompose.from_yaml(merged)
    assert set(parsed.service_names()) == set(compose_file()["services"])


def test_images_are_pinned_and_ports_are_loopback() -> None:
    """No moving tag, and nothing that other machines can reach."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    bases = [base for base, _ in stages if base not in {name for _, name in stages}]
    services = compose_file()["services"]
    images = {service["image"] for service in services.values()} - {"riskmon:local"}
    for image in [*bases, *images]:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image), image
    for name, service in services.items():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", [])), name


def test_everything_mounted_or_copied_exists() -> None:
    """Bind mounts and COPY sources are files of the repository that the ignore file lets through."""
    for service in compose_file()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), volume
                assert volume.endswith(":ro"), volume
            else:
                assert source in compose_file()["volumes"]
    allowed = re.findall(r"^!(\S+)", (DOCKER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied: list[str] = []
    for line in re.findall(r"^COPY (?!--from)(.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE):
        copied += line.split()[:-1]
    assert sorted(copied) == sorted(allowed)
    assert {"monitor", "rules", "pyproject.toml"} <= set(copied)


def test_the_container_is_confined() -> None:
    """No root, no capabilities, a read-only root file system, and more time to stop than draining takes."""
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^USER (?!0)\d+:\d+$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["riskmon"\]$', dockerfile, re.MULTILINE)
    assert "/livez" in dockerfile.partition("HEALTHCHECK")[2]
    config = load(DOCKER / "riskmon.yaml", {})
    for name in ("riskmon-1", "riskmon-2"):
        service = compose_file()["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        # The drain, then three seconds for what comes after it.
        assert int(service["stop_grace_period"].removesuffix("s")) > config.shutdown.deadline_seconds + 3


def test_the_image_verifies_the_weights_that_it_carries() -> None:
    """Both targets come from a stage that ends with `riskmon models verify`; the slim one is the default."""
    dockerfile = (DOCKER / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)", dockerfile, re.MULTILINE)
    assert stages[-1] == ("base", "slim")
    assert ("build", "build-full") in stages
    build = dockerfile.partition("FROM build AS build-full")[0]
    assert "riskmon models verify" in build
    for target, made_in in (("full", "build-full"), ("slim", "build")):
        stage = dockerfile.partition(f"FROM base AS {target}\n")[2]
        assert stage.startswith(f"COPY --from={made_in} /opt/riskmon /opt/riskmon\nUSER 10469:10469")


def test_the_configuration_fits_the_services() -> None:
    """riskmon.yaml loads with the image's environment and names services and ports that compose has."""
    environment = dict(re.findall(r"(RISKMON_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text()))
    config = load(DOCKER / "riskmon.yaml", environment)
    services = compose_file()["services"]
    for server in config.kafka.bootstrap_servers:
        host, port = server.split(":")
        assert f"INTERNAL://:{port}" in services[host]["environment"]["KAFKA_LISTENERS"]
    [created] = services["topics"]["command"]
    assert {*config.kafka.topics, config.deliver.feedback_topic} <= set(re.split(r"[\s;]+", created))
    assert urllib.parse.urlsplit(config.deliver.alertmanager.url.get_secret_value()).hostname in services
    assert config.http.host == "0.0.0.0"  # noqa: S104 - inside its container
    replicas = ["riskmon-1", "riskmon-2"]
    [scrape] = prometheus_config()["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == [f"{name}:{config.http.port}" for name in replicas]
    for name in replicas:
        assert [port.split(":")[2] for port in services[name]["ports"]] == [str(config.http.port)]
        assert services[name]["environment"]["RISKMON_INSTANCE"] == name
        assert str(config.data_dir) in [volume.split(":")[1] for volume in services[name]["volumes"]]


def test_the_collector_writes_what_riskmon_reads() -> None:
    """Broker, topic and encoding of the collector's exporter are those of riskmon's configuration."""
    collector = yaml.safe_load((DOCKER / "collector.yaml").read_text())
    exporter = collector["exporters"]["kafka"]
    config = load(DOCKER / "riskmon.yaml", {})
    assert exporter["brokers"] == config.kafka.bootstrap_servers
    assert exporter["traces"]["topic"] in config.kafka.topics
    assert config.ingest.formats[exporter["traces"]["topic"]] == exporter["traces"]["encoding"]
    pipeline = collector["service"]["pipelines"]["traces"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(collector[kind])
    published = [port.split(":")[2] for port in compose_file()["services"]["otel-collector"]["ports"]]
    protocols = collector["receivers"]["otlp"]["protocols"].values()
    assert published == [protocol["endpoint"].split(":")[1] for protocol in protocols]


def test_riskmon_takes_its_own_configuration(tmp_path: Path) -> None:
    """`riskmon check` finds nothing wrong with the mounted file, the broker apart."""
    command = [
        sys.executable,
        "-m",
        "monitor",
        "check",
        "--offline",
        "--config",
        str(DOCKER / "riskmon.yaml"),
    ]
    environment = {**os.environ, "RISKMON_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def prometheus_home(folder: Path, config: Mapping[str, Any]) -> Path:
    """A folder as compose mounts it: the configuration, and the rules beside it."""
    (folder / "rules").symlink_to(ROOT / "rules" / "prometheus")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(dict(config)))
    return path


@pytest.mark.monitoring
def test_promtool_and_amtool_accept_the_configurations(tmp_path: Path) -> None:
    """Prometheus' configuration with its rules, and Alertmanager's, are valid."""
    run(need("promtool"), "check", "config", str(prometheus_home(tmp_path, prometheus_config())))
    run(need("amtool"), "check-config", str(DOCKER / "alertmanager.yml"))


@pytest.mark.monitoring
def test_the_watchdog_never_reaches_the_pager() -> None:
    """Routing: the always-firing alert goes to its own receiver, a critical one to the page."""
    amtool, config = need("amtool"), str(DOCKER / "alertmanager.yml")
    routes = [amtool, "config", "routes", "test", f"--config.file={config}"]
    run(*routes, "--verify.receivers=watchdog", "alertname=RiskmonWatchdog", "severity=none")
    run(*routes, "--verify.receivers=page", "alertname=RiskmonDown", "severity=critical")
    run(*routes, "--verify.receivers=page", "alertname=PersonalDataLeak", "severity=critical", "app=bot")


def test_a_daemon_that_is_down_silences_what_follows_from_it() -> None:
    """The inhibition rules name alerts that exist, on both sides."""
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "rules/prometheus/riskmon.rules.yml").read_text()))
    for rule in yaml.safe_load((DOCKER / "alertmanager.yml").read_text())["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            assert set(re.findall(r"Riskmon\w+", " ".join(rule[side]))) <= alerts


def test_the_systemd_unit_is_valid_and_confined() -> None:
    """systemd-analyze has no complaint but that nothing is installed here, and the times fit the daemon's."""
    unit = (DOCKER / "riskmon.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    defaults = load(None, {})
    assert (settings["Type"], settings["RestartPreventExitStatus"]) == ("notify", "78")
    assert (settings["Restart"], settings["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert "check --offline" in settings["ExecStartPre"]  # which asks for no server
    # https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#RestartPreventExitStatus=
    assert settings["ExecStartPre"].startswith("-"), "78 prevents a restart only from the main process"
    assert int(settings["TimeoutStopSec"]) > defaults.shutdown.deadline_seconds + 3
    assert int(settings["TimeoutStartSec"]) > defaults.pool.startup_seconds
    assert int(settings["WatchdogSec"]) >= 2 * LIVE_SECONDS
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyze, "verify", str(DOCKER / "riskmon.service")], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "riskmon.service" in line]
        assert [line for line in complaints if "is not executable" not in line] == []


def kubernetes() -> list[dict[str, Any]]:
    """Every document of the manifests."""
    paths = sorted((DOCKER / "kubernetes").glob("*.yaml"))
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def test_kubernetes_takes_the_manifests() -> None:
    """Every document of Kubernetes' own kinds obeys its schema strictly; the others are those we know."""
    validator = need_module("kubernetes_validate")
    strange = set()
    for document in kubernetes():
        try:
            validator.validate(document, "1.34", strict=True)
        except validator.SchemaNotFoundError:
            strange.add(document["kind"])
    assert strange == {"PodMonitor", "PrometheusRule", "ScaledObject"}


def test_what_kubernetes_copies_is_fresh() -> None:
    """Dashboards and rules as manifests are those of the repository."""
    run(sys.executable, str(DOCKER / "kubernetes" / "manifests.py"), "--check")


def test_the_deployment_is_confined_and_fits_its_surroundings() -> None:
    """No root, a read-only file system, time to drain; monitor, scaler, budget and policy choose its pods."""
    found = {document["kind"]: document for document in kubernetes() if document["kind"] != "ConfigMap"}
    pod = found["Deployment"]["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10469
    for container in spec["containers"] + spec["initContainers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert re.fullmatch(r"riskmon:\d+\.\d+\.\d+", container["image"])
    config = yaml.safe_load(
        next(
            document
            for document in kubernetes()
            if document["metadata"]["name"] == "riskmon" and "data" in document
        )["data"]["riskmon.yaml"]
    )
    loaded = Config.model_validate(config)
    assert spec["terminationGracePeriodSeconds"] > loaded.shutdown.deadline_seconds + 3
    selectors = [
        found["Deployment"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"],
        found["NetworkPolicy"]["spec"]["podSelector"],
        found["PodMonitor"]["spec"]["selector"],
    ]
    assert all(selector["matchLabels"].items() <= labels.items() for selector in selectors)
    assert labels[found["PodMonitor"]["spec"]["jobLabel"]] == "riskmon"  # the job of rules and dashboards
    ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    assert ports == {found["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"]: loaded.http.port}
    scaled = found["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    triggers = [trigger["metadata"] for trigger in scaled["triggers"]]
    assert [trigger["topic"] for trigger in triggers] == loaded.kafka.topics
    assert {trigger["consumerGroup"] for trigger in triggers} == {loaded.kafka.group_id}
    assert {trigger["bootstrapServers"] for trigger in triggers} == set(loaded.kafka.bootstrap_servers)


class Health:
    """Always well."""

    def live(self) -> bool:
        """Yes."""
        return True

    def ready(self) -> Mapping[str, bool]:
        """Yes."""
        return {"all": True}


def feed(observer: TelemetryObserver, turn: int) -> None:
    """Tell the observer everything an engine and its deliverers ever tell."""
    evidence = (Evidence("response", 0, 3, "EMAIL_ADDRESS", 0.9, leaked=True),)
    answers = tuple(
        Assessment(
            detector=name, version="1", status=Status.SCORED, score=0.4, evidence=evidence, seconds=0.001
        )
        for name in DETECTORS
    )
    failed = tuple(Assessment(detector=name, version="1", status=Status.TIMEOUT) for name in DETECTORS)
    flag = Flag(
        id="f", rule="Leak", rule_version="1", severity=Severity.CRITICAL, actions=(), detectors=("pii",)
    )
    now = SystemClock().now()
    trace = Trace(
        id="r",
        time=now,
        response="",
        app="bot",
        environment="production",
        model="m",
        trace_id=TRACE_ID,
    )
    batch = [
        Judgement(origin=Origin("t", 0, turn, 0), trace=trace, assessments=answers, flags=(flag,)),
        Judgement(origin=Origin("t", 0, turn, 1), trace=trace, assessments=failed, flags=()),
    ]
    observer.turned()
    observer.consumed("t", 3)
    observer.judged(batch, 0.0, 1.0)
    observer.recorded("t", 1)
    observer.dead_lettered("t", "invalid_json", 1)
    observer.released("t", 1)
    observer.transaction(0.01)
    observer.broker(connected=True)
    observer.ledger(writable=True)
    observer.lag([Lag("t", 0, 7, 1.0)])
    for stage in Stage:
        observer.waiting(stage, 3)
    decisions = {("toxicity", 1, decision): turn for decision in DECISIONS}
    observer.pool(PoolStats(2, 2, 1, 64, {"timeout": turn}, decisions))
    observer.escalation_rate(0.5)
    observer.incident(Incident.STUCK, "t", 0)
    observer.rules_loaded("v1", ok=True)
    observer.rule_failed("Leak")
    observer.tiers([TierStatus(detector="pii", tier=0, name="patterns", present=True)])
    observer.delivered("webhook", 1)
    observer.failed("webhook", "timeout", 1)
    observer.pending({"webhook": (2, 30.0)}, {})


def until(check: Any, what: str) -> Any:
    """Wait until `check` returns something true."""
    last: object = None
    for _ in range(120):
        try:
            last = check()
        except OSError as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.5)
    pytest.fail(f"{what} within 60 s; last: {last}")


@contextmanager
def shipped_alertmanager(folder: Path, port: int) -> Iterator[str]:
    """A real Alertmanager with docker's configuration at a port of this machine; URL of its alerts."""
    options = [
        f"--config.file={DOCKER / 'alertmanager.yml'}",
        f"--storage.path={folder / 'am'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    program = need("prometheus-alertmanager", "alertmanager")
    with running(folder / "alertmanager.log", program, *options):
        yield f"http://127.0.0.1:{port}/api/v2/alerts"


def tell(url: str, *alerts: Mapping[str, str]) -> bool:
    """Send firing alerts, given by their labels, as Prometheus does."""
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own, http
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own, http
        return bool(answer.status == 200)


@pytest.mark.monitoring
def test_what_follows_from_a_worse_alert_is_inhibited(tmp_path: Path) -> None:
    """The shipped Alertmanager holds back what another firing alert explains, and nothing else."""

    def alert(name: str, instance: str = "", **labels: str) -> dict[str, str]:
        return {"alertname": f"Riskmon{name}", "job": "riskmon", "instance": instance, **labels}

    held_back = [
        alert("Down", "a", severity="critical"),
        alert("Down", "b", severity="critical"),
        alert("NotJudging", "unreached", severity="critical"),
        alert("LagHigh", "unreached", severity="warning"),
        alert("OutboxStuck", "unreached", severity="warning", destination="feedback"),
        alert("NotJudging", "full", severity="critical"),
        alert("NotJudging", "workless", severity="critical"),
        alert("NotJudging", "b", severity="critical"),
    ]
    told = [
        alert("Absent", severity="critical"),
        alert("BrokerUnreachable", "unreached", severity="critical"),
        alert("LedgerFailing", "full", severity="critical"),
        alert("DetectorsDown", "workless", severity="critical"),
        alert("NotJudging", "other", severity="critical"),
        alert("OutboxStuck", "unreached", severity="warning", destination="alertmanager"),
        alert("OutboxStuck", "full", severity="warning", destination="feedback"),
    ]
    with shipped_alertmanager(tmp_path, free_port()) as url:
        until(lambda: tell(url, *held_back, *told), "Alertmanager took no alerts")

        def states() -> dict[str, list[dict[str, str]]]:
            found: dict[str, list[dict[str, str]]] = {"active": [], "suppressed": []}
            for one in fetch_json(url):
                found.setdefault(one["status"]["state"], []).append(one["labels"])
            return {state: ordered(alerts) for state, alerts in found.items()}

        def ordered(alerts: list[dict[str, str]]) -> list[dict[str, str]]:
            given = [{name: value for name, value in one.items() if value} for one in alerts]
            return sorted(given, key=lambda one: sorted(one.items()))

        expected = {"active": ordered(told), "suppressed": ordered(held_back)}
        until(lambda: states() == expected, "not inhibited as expected")


@pytest.mark.monitoring
@pytest.mark.alone
def test_metrics_rules_and_alerts_work_together(tmp_path: Path) -> None:
    """The shipped configurations, run natively against a real scrape.

    Prometheus takes the exemplars, every rule evaluates, and a stuck partition is an active alert in
    Alertmanager.
    """
    prometheus = need("prometheus")
    metrics = Metrics(known={"topic": ["t"], "detector": DETECTORS, "rule": ["Leak"]})
    observer = TelemetryObserver(metrics, SystemClock(), CapturingLogger())
    feed(observer, 0)
    server = HttpServer("127.0.0.1", 0, metrics.registry, Health())
    server.start()
    prometheus_at, alertmanager_at = free_port(), free_port()
    config = prometheus_config()
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}"]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_at}"]
    home = prometheus_home(tmp_path, config)
    options = [
        option for option in compose_file()["services"]["prometheus"]["command"] if "feature" in option
    ]
    ended = threading.Event()

    def keep_feeding() -> None:
        turn = 1
        while not ended.wait(0.3):
            feed(observer, turn)
            turn += 1

    feeder = threading.Thread(target=keep_feeding)
    feeder.start()
    try:
        with (
            shipped_alertmanager(tmp_path, alertmanager_at),
            running(
                tmp_path / "prometheus.log", prometheus, f"--config.file={home}", *options,
                f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus_at}",
            ),
        ):  # fmt: skip
            api = f"http://127.0.0.1:{prometheus_at}/api/v1"
            check_rules(api)
            check_exemplars(api)
            stuck = f"http://127.0.0.1:{alertmanager_at}/api/v2/alerts?filter=alertname%3D%22RiskmonPartitionStuck%22"
            [alert] = until(lambda: fetch_json(stuck), "no alert reached Alertmanager")
            assert alert["labels"]["topic"] == "t"
            assert alert["annotations"]["runbook_url"].endswith("/RiskmonPartitionStuck.md")
    finally:
        ended.set()
        feeder.join()
        server.stop()


def check_rules(api: str) -> None:
    """Every rule is loaded, and has been evaluated without a fault."""

    def evaluated() -> list[dict[str, Any]]:
        rules = [rule for group in fetch_json(f"{api}/rules")["data"]["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []

    rules = until(evaluated, "rules were not evaluated")
    shipped = [path.read_text() for path in (ROOT / "rules" / "prometheus").glob("*.rules.yml")]
    assert len(rules) == sum(text.count("        expr: ") for text in shipped)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def check_exemplars(api: str) -> None:
    """The trace behind the latest flag can be followed from the metric."""
    query = urllib.parse.urlencode({"query": "riskmon_flags_total", "start": "0", "end": "9999999999"})
    found = until(lambda: fetch_json(f"{api}/query_exemplars?{query}")["data"], "no exemplars")
    assert found[0]["exemplars"][0]["labels"] == {"trace_id": TRACE_ID}
