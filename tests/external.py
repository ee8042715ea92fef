"""Programs some tests run for real: skipped on a laptop that lacks them, failed on where CI is set."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def need(*names: str) -> str:
    """Path of the first of the programs that is installed; skips the test, or in CI fails it, without."""
    beside = Path(sys.executable).parent
    for name in names:
        found = shutil.which(name) or shutil.which(name, path=str(beside))
        if found:
            return found
    message = f"{' or '.join(names)} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
