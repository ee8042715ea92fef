"""The Prometheus and the Alertmanager of the compose file, built from source; Debian's are years older.

A test run that finds them before any others, which builds them the first time, for minutes:

    python tests/support/current_monitoring.py python -m pytest tests/repository/test_prometheus_rules.py
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from cache import cached
from compose import compose_file
from external import need


class Module(NamedTuple):
    """A Go module that a service of the compose file is made of, and those of its programs that tests use."""

    service: str
    path: str
    programs: tuple[str, ...]

    @property
    def version(self) -> str:
        """The tag of the service's image: the compose file is the only place that names versions."""
        return str(compose_file()["services"][self.service]["image"].partition(":v")[2])

    @property
    def query(self) -> str:
        """Path and version for Go, which knows Prometheus 3.16.0 as v0.316.0 (its README)."""
        major, minor, patch = map(int, self.version.split("."))
        return f"{self.path}@v0.{major}{minor:02}.{patch}" if major else f"{self.path}@v{self.version}"


MODULES: Final = (
    Module("prometheus", "github.com/prometheus/prometheus", ("prometheus", "promtool")),
    Module("alertmanager", "github.com/prometheus/alertmanager", ("alertmanager", "amtool")),
)


def programs() -> Path:
    """Return the folder with the programs; builds them at the first call on a machine.

    Skips the test, or in CI fails it, where they must be built and Go is not installed. Raises
    CalledProcessError when Go can neither fetch nor build them.
    """
    return cached("-".join(f"{module.service}-{module.version}" for module in MODULES), _build)


def environment() -> dict[str, str]:
    """Return the environment of this process, with the programs before any others of their names."""
    return os.environ | {"PATH": f"{programs()}{os.pathsep}{os.environ['PATH']}"}


def _build(folder: Path) -> None:
    go = need("go")
    for module in MODULES:
        with tempfile.TemporaryDirectory(prefix="riskmon-go-") as scratch:
            download = [go, "mod", "download", "-json", module.query]
            found = subprocess.run(download, cwd=scratch, check=True, stdout=subprocess.PIPE)
            with zipfile.ZipFile(json.loads(found.stdout)["Zip"]) as archive:
                archive.extractall(scratch)
            source = Path(scratch) / module.query
            if module.service == "alertmanager":  # embeds a page that the module lacks
                (source / "ui/app/dist").mkdir()
                (source / "ui/app/dist/index.html").touch()
            # Most of Prometheus looks for targets in clouds; no test does.
            named = f"-X github.com/prometheus/common/version.Version={module.version}"
            build = [go, "build", "-trimpath", "-tags", "remove_all_sd", "-ldflags", named, "-o", str(folder)]
            subprocess.run(
                build + [f"./cmd/{program}" for program in module.programs],
                cwd=source,
                env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"},
                check=True,
            )
    # Debian's name for it: who asks for that shall not find Debian's.
    (folder / "prometheus-alertmanager").symlink_to("alertmanager")


if __name__ == "__main__":
    sys.exit(subprocess.run(sys.argv[1:], env=environment(), check=False).returncode)
