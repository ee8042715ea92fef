"""The oldest Apache Kafka that is supported."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from apache_kafka import OLDER_VERSION
from soak import tell

TESTS = (
    "tests/sources/test_sources_kafka.py",
    "tests/end_to_end/test_e2e_crash.py",
    "tests/repository/test_apache_kafka.py",
)


def older(_: float, folder: Path) -> Mapping[str, object]:
    """The source's tests and the kills at random moments pass on it, none skipped, whatever the share."""
    environment = os.environ | {"TEST_KAFKA_VERSION": OLDER_VERSION, "CI": "true"}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", f"--basetemp={folder / 'tests'}"]
    done = subprocess.run([*command, *TESTS], env=environment, capture_output=True, text=True, check=False)
    tell(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-3000:]
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    return {"kafka": OLDER_VERSION, "tests": int(passed)}
