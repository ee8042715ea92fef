"""Scripts that make the bundled weights, one per model: `python -m monitor.training.<model>`.

They read labelled data from the folder `shared` next to the checkout and need the `train` extra.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.errors import ConfigError
from monitor.models import MANIFEST, WEIGHTS

SHARED = Path(__file__).resolve().parents[3] / "shared"


def rows(*parts: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file below the shared folder. Raises ConfigError when it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.is_file():
        raise ConfigError(f"{'/'.join(parts)}: not found; place the labelled data next to the checkout")
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def pin(trained_by: str, *names: str) -> None:
    """Write the SHA-256 of finished weights files into the manifest, leaving other models' pins alone."""
    pins = json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.is_file() else {}
    for name in names:
        digest = hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest()
        pins[name] = {"sha256": digest, "trained_by": trained_by}
    MANIFEST.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")
