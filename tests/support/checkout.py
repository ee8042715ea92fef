"""Folders of the checkout, and the import path of processes that tests start."""

import os
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
ROOT: Final = TESTS.parent
DATA: Final = TESTS / "data"
SHARED: Final = ROOT.parent / "shared"
"""Labelled data sets, which not every machine has."""

PYTHONPATH: Final = os.pathsep.join(map(str, (ROOT, TESTS / "support")))
"""With it, a process finds this checkout's package and the detectors that tests configure."""
