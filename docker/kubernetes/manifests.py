# ruff: noqa: INP001 - a script, not a package
"""Writes what Kubernetes wants copies of: `python docker/kubernetes/manifests.py`; `--check` compares only.

`dashboards.yaml` has a ConfigMap per dashboard, with the label that Grafana's sidecar looks for; `rules.yaml`
the recording and alerting rules as a PrometheusRule.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
_LABELS: Final = {"app.kubernetes.io/name": "riskmon"}
_HEAD: Final = "# Written by docker/kubernetes/manifests.py.\n"


def files() -> dict[str, str]:
    """File name to content."""
    return {"dashboards.yaml": _HEAD + _dump(*_dashboards()), "rules.yaml": _HEAD + _dump(_rules())}


def _dashboards() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"riskmon-dashboard-{path.stem}",
                "labels": _LABELS | {"grafana_dashboard": "1"},
            },
            # Not indented: a ConfigMap holds a mebibyte at most.
            "data": {
                path.name: json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))
            },
        }
        for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
    ]


def _rules() -> dict[str, Any]:
    groups: list[Any] = []
    for path in sorted((ROOT / "rules" / "prometheus").glob("*.rules.yml")):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "riskmon", "labels": _LABELS},
        "spec": {"groups": groups},
    }


def _dump(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=110, allow_unicode=True)


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` return 1 when one differs."""
    stale = False
    for name, content in files().items():
        path = HERE / name
        if "--check" not in arguments:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            sys.stderr.write(f"{path.name} is stale: run python docker/kubernetes/manifests.py\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
