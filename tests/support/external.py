"""What tests of the outer files share: real programs, and the names a catalogue of metrics allows."""

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from monitor.telemetry.catalogue import FAMILIES, Kind

MONITORING: Final = frozenset({"prometheus", "promtool", "prometheus-alertmanager", "alertmanager", "amtool"})
"""Programs that only tests marked `monitoring` may use: those run with the newest of them too."""
refused: set[str] = set()
"""Programs that the test that runs may not use."""


def need(*names: str) -> str:
    """Path of the first of the programs that is installed; skips the test, or in CI fails it, without."""
    assert refused.isdisjoint(names), f"mark the test: pytest.mark.monitoring, for {', '.join(names)}"
    # Debian keeps PostgreSQL's programs, one folder per version, off the PATH.
    folders = [Path(sys.executable).parent, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    for name in names:
        for path in (None, *map(str, folders)):
            if found := shutil.which(name, path=path):
                return found
    return missing(" or ".join(names))


def need_module(name: str) -> Any:
    """An optional library; skips the test, or in CI fails it, without."""
    if importlib.util.find_spec(name) is None:
        missing(name)
    return importlib.import_module(name)


@contextlib.contextmanager
def postgresql(*options: str, port: int = 5432) -> Iterator[str]:
    """Run a PostgreSQL of its own, trusting everyone, with these settings; yields the folder of its socket.

    It listens on that socket alone, unless the settings say otherwise; its superuser is `riskmon`.
    """
    initdb, postgres = need("initdb"), need("postgres")
    need_module("psycopg")
    folder = tempfile.mkdtemp(prefix="riskmon-pg-")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "nobody"
        shutil.chown(folder, user)
    data = f"{folder}/data"
    make = [initdb, "--pgdata", data, "--username", "riskmon", "--auth", "trust", "--no-sync", "--no-locale"]
    subprocess.run([*make, "--encoding", "UTF8"], user=user, check=True, capture_output=True, cwd=folder)
    settings = [
        f"unix_socket_directories={folder}",
        "listen_addresses=",
        f"port={port}",
        "fsync=off",
        *options,
    ]
    with subprocess.Popen(
        [postgres, "-D", data, *(word for setting in settings for word in ("-c", setting))],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            ready = [need("pg_isready"), "--host", folder, "--port", str(port), "--quiet", "--timeout", "1"]
            for _ in range(600):
                if subprocess.run(ready, check=False).returncode == 0:
                    break
                time.sleep(0.05)
            else:
                pytest.fail("PostgreSQL was started and is not ready after 30 s")
            yield folder
        finally:
            process.kill()
    shutil.rmtree(folder)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at a new folder; skips the test, or in CI fails it, if none may be mounted."""
    folder.mkdir()
    mount = [need("mount"), "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run([need("umount"), "--lazy", str(folder)], check=True)


def missing(what: str) -> NoReturn:
    """Skip the test, or in CI fail it, for want of something that is not installed."""
    message = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def exported_series() -> set[str]:
    """Names of every series the catalogue can export, histograms' suffixes included."""
    names: set[str] = set()
    for name, family in FAMILIES.items():
        exported = family.exported(name)
        if family.kind is Kind.HISTOGRAM:
            names |= {f"{exported}_bucket", f"{exported}_sum", f"{exported}_count"}
        else:
            names.add(exported)
    return names


def metrics_in(expr: str) -> set[str]:
    """Names of riskmon's own metrics in a PromQL expression, without recorded series (`level:metric:op`)."""
    return set(re.findall(r"(?<![\w:])riskmon_\w+(?![\w:])", expr))
