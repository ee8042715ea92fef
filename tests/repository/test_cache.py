"""What is kept for tests between runs, and the programs that are."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cache import cached
from current_monitoring import MODULES, Module


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CACHE", str(tmp_path / "cache"))


def test_what_many_ask_for_is_made_once() -> None:
    """Whoever asks while it is made waits for it, and finds it whole."""
    made = threading.Semaphore(1)

    def make(folder: Path) -> None:
        assert made.acquire(blocking=False), "made twice"
        time.sleep(0.05)
        (folder / "file").write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: (cached("thing-1", make) / "file").read_text(), range(8))]
    assert found == ["whole"] * 8


def test_what_was_not_finished_is_made_anew() -> None:
    """A build that fails leaves nothing that looks like its result, and the next one starts from nothing."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ConnectionError("the test says so")

    with pytest.raises(ConnectionError):
        cached("thing-2", fail)
    folder = cached("thing-2", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("tag", "version"), [("v3.16.0", "v0.316.0"), ("v3.7.3", "v0.307.3"), ("v0.35.0", "v0.35.0")]
)
def test_go_is_asked_for_the_version_of_the_image(
    tag: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus has versions of its own for Go; Alertmanager has the same as everywhere."""
    image = {"services": {"it": {"image": f"example/it:{tag}"}}}
    monkeypatch.setattr("current_monitoring.compose_file", lambda: image)
    assert Module("it", "example.org/it", ()).query == f"example.org/it@{version}"


def test_the_programs_are_those_of_the_compose_file() -> None:
    """Both services name a version that can be built."""
    assert [len(module.version.split(".")) for module in MODULES] == [3, 3]
