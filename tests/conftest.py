"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# A failure found in CI must be repeatable from its log alone, and a shared machine keeps no deadline.
settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Run from the top of the repository, wherever pytest was started: tests name its files relatively."""
    os.chdir(config.rootpath)
