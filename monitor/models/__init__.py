"""Model runtimes and their bundled weights.

Weights are plain arrays and JSON, never pickles. Each file is pinned by SHA-256 in `weights/manifest.json`,
written by the script that trained it (`monitor.training`); a model card in `cards/` says from what.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from monitor.errors import ConfigError

WEIGHTS = Path(__file__).parent / "weights"
MANIFEST = WEIGHTS / "manifest.json"


class Pin(TypedDict):
    """The manifest's entry of a file: its digest, and the command that made it."""

    sha256: str
    trained_by: str


def manifest() -> Mapping[str, Pin]:
    """Return the pins by file name. Raises ConfigError when the manifest is missing or not readable."""
    try:
        return cast("dict[str, Pin]", json.loads(MANIFEST.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model manifest {MANIFEST.name} cannot be read ({type(error).__name__}); reinstall riskmon"
        ) from error


def verified(name: str) -> Path:
    """Return the path of a bundled weights file after checking it against its pinned SHA-256.

    Raises ConfigError when the file is not pinned, missing, or altered.
    """
    pin = manifest().get(name)
    if pin is None:
        raise ConfigError(f"weights {name}: not in {MANIFEST.name}; reinstall riskmon or run `make models`")
    path = WEIGHTS / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"weights {name}: cannot be read ({type(error).__name__}); reinstall riskmon"
        ) from error
    if digest != pin["sha256"]:
        raise ConfigError(f"weights {name}: SHA-256 {digest[:12]}… is not the pinned one; reinstall riskmon")
    return path


def version(code: int, *names: str) -> str:
    """Return `<code>+<12 hex>`: a revision of the code, and a digest over the pins of these files.

    Raises ConfigError when one of them is not pinned.
    """
    pins = manifest()
    for name in names:
        if name not in pins:
            raise ConfigError(
                f"weights {name}: not in {MANIFEST.name}; reinstall riskmon or run `make models`"
            )
    digest = hashlib.sha256("".join(pins[name]["sha256"] for name in names).encode())
    return f"{code}+{digest.hexdigest()[:12]}"
