"""Importing riskmon is cheap: a heavy library is loaded by the one module that adapts it, when it is used."""

import json
import pkgutil
import subprocess
import sys

import monitor

HEAVY = (
    "torch",
    "spacy",
    "kafka",
    "presidio_analyzer",
    "transformers",
    "detoxify",
    "sklearn",
    "thinc",
    "grpc",
)
CODE = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(names: list[str]) -> set[str]:
    """Top-level modules in a fresh interpreter after importing these."""
    command = [sys.executable, "-W", "error", "-c", CODE, json.dumps(names)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return {name.partition(".")[0] for name in json.loads(output)}


def test_no_module_loads_a_heavy_library() -> None:
    """Every module of the package can be imported, without a warning, and none loads what is heavy."""
    names = [info.name for info in pkgutil.walk_packages(monitor.__path__, "monitor.")]
    names.remove("monitor.__main__")
    assert len(names) > 60
    loaded = loaded_by(names)
    assert "monitor" in loaded
    assert loaded & set(HEAVY) == set()


def test_the_package_itself_loads_next_to_nothing() -> None:
    """`import monitor` and the command's module load no library but click."""
    loaded = loaded_by(["monitor", "monitor.cli"])
    ours = {
        "pydantic",
        "sqlalchemy",
        "numpy",
        "structlog",
        "prometheus_client",
        "opentelemetry",
        "rich",
        "yaml",
    }
    assert "click" in loaded
    assert loaded & (ours | set(HEAVY)) == set()
