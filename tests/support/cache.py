"""What tests need and Debian does not have: made once per machine, and kept outside the checkout.

In `~/.cache/riskmon`, or in the folder that TEST_CACHE names.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of that name in the cache; what is not there is made, once, while others wait.

    `make` fills an empty folder, which gets its name when it is full: nothing half made is ever found.
    What decides about the contents, versions above all, belongs into `name`.
    """
    root = Path(os.environ.get("TEST_CACHE") or Path.home() / ".cache" / "riskmon")
    root.mkdir(parents=True, exist_ok=True)
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            making = root / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making)
            making.rename(folder)
    return folder
