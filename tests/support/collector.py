"""A real OpenTelemetry Collector, of the release that the compose file runs, with the parts that tests use.

Go builds it once into the tests' cache (`cache.py`), for two minutes of a core. Without a Go that can, a test
is skipped, or in CI fails.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml
from cache import cached
from compose import compose_file
from external import missing, need
from processes import free_port

from monitor.demo.broker import DIE_WITH_PARENT

_CORE: Final = "go.opentelemetry.io/collector"
_CONTRIB: Final = "github.com/open-telemetry/opentelemetry-collector-contrib"
_PARTS: Final = {
    "receivers": (f"{_CORE}/receiver/otlpreceiver",),
    "processors": (f"{_CORE}/processor/batchprocessor", f"{_CORE}/processor/memorylimiterprocessor"),
    "exporters": (
        f"{_CORE}/exporter/otlpexporter",
        f"{_CORE}/exporter/otlphttpexporter",
        f"{_CONTRIB}/exporter/kafkaexporter",
    ),
}
_ATTEMPTS: Final = 5
_SECONDS: Final = 30.0  # to start, and to hand on what it holds when it is stopped


def version() -> str:
    """The tag of the compose file's image, the only place that names it."""
    return str(compose_file()["services"]["otel-collector"]["image"].rpartition(":")[2])


def program() -> str:
    """Path of the Collector; the first who asks on a machine builds it."""
    modules = {kind: [{"gomod": f"{path} v{version()}"} for path in paths] for kind, paths in _PARTS.items()}
    manifest = yaml.safe_dump(
        {"dist": {"name": "otelcol", "version": version(), "output_path": "."}, **modules}
    )
    name = f"otelcol-{version()}-{hashlib.sha256(manifest.encode()).hexdigest()[:8]}"
    return str(cached(name, lambda folder: _build(folder, manifest)) / "otelcol")


def _build(folder: Path, manifest: str) -> None:
    """Build with the Collector's own builder, which adds the providers of its release."""
    nice, go = need("nice"), need("go")
    with tempfile.TemporaryDirectory(prefix="riskmon-go-") as scratch:
        (Path(scratch) / "manifest.yaml").write_text(manifest, encoding="utf-8")
        environment = os.environ | {"GOBIN": scratch, "GOWORK": "off", "CGO_ENABLED": "0"}
        for command in (
            [go, "install", f"{_CORE}/cmd/builder@v{version()}"],
            ["./builder", "--config", "manifest.yaml"],
        ):
            done = subprocess.run(
                [nice, *command], env=environment, cwd=scratch, capture_output=True, text=True, check=False
            )
            if done.returncode:
                found = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
                missing(
                    f"a Go that builds the Collector {version()} "
                    f"(here is {found.strip()}, which said: {done.stderr.strip()[-1000:]})"
                )
        shutil.move(f"{scratch}/otelcol", folder)


def complaint(config: dict[str, Any]) -> str:
    """What the Collector finds wrong with a configuration, empty for nothing."""
    said = subprocess.run(
        [program(), "validate", "--config", f"yaml:{yaml.safe_dump(config)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stderr if said.returncode else ""


class Collector:
    """Runs a Collector while its `with` block does.

    `config` is its whole configuration, except that each of its receivers, all of type `otlp` and with HTTP,
    gets free ports, and that it serves no metrics of its own, whose port is always the same.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._config = config
        self._path = folder / "collector.yaml"
        self._log = folder / "collector.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.urls: dict[str, str] = {}
        """Where each receiver takes OTLP/HTTP, by its name, once entered."""

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            self._start()
            if self._answers():
                return self
            self._kill()
            if "address already in use" not in self.log:
                raise ConnectionError(f"the Collector did not start: {self.log[-3000:]}")
        raise ConnectionError(f"no ports for the Collector after {_ATTEMPTS} tries")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(encoding="utf-8")

    def stop(self) -> None:
        """End it in good order: it first hands on what it has taken."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_SECONDS) == 0, self.log[-3000:]

    def _start(self) -> None:
        receivers: dict[str, Any] = {}
        for name, receiver in self._config["receivers"].items():
            protocols = {
                protocol: settings | {"endpoint": f"127.0.0.1:{free_port()}"}
                for protocol, settings in receiver["protocols"].items()
            }
            receivers[name] = receiver | {"protocols": protocols}
            self.urls[name] = f"http://{protocols['http']['endpoint']}"
        service = self._config["service"] | {"telemetry": {"metrics": {"level": "none"}}}
        own = self._config | {"receivers": receivers, "service": service}
        self._path.write_text(yaml.safe_dump(own), encoding="utf-8")
        command = [program(), "--config", str(self._path)]
        if sys.platform == "linux":  # it dies with the thread that starts it, however that ends
            command = [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _answers(self) -> bool:
        """Whether all its receivers listen, as soon as they do; False once it has ended."""
        assert self._process is not None
        end = time.monotonic() + _SECONDS
        waiting = {int(url.rpartition(":")[2]) for url in self.urls.values()}
        while waiting and self._process.poll() is None and time.monotonic() < end:
            waiting = {port for port in waiting if not _listens(port)}
            time.sleep(0.02)
        return not waiting and self._process.poll() is None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
