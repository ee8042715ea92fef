"""What real emitters sent is read whole: every recording of `make emitters`, and three run anew."""

import sys
from pathlib import Path

import pytest
import recordings
from checkout import ROOT
from emitter_catalogue import BY_NAME, EMITTERS, Emitter
from environments import ENVIRONMENTS
from recordings import FOLDER, Recording
from run import recorded

from monitor.trace import Unread

HERE = ("openai-v2", "openai-openllmetry", "openai-openinference")
"""Emitters whose packages the tests' own environment has."""
each = pytest.mark.parametrize("emitter", EMITTERS, ids=lambda emitter: emitter.name)


def blind(recording: Recording) -> set[Unread]:
    """Return the sides of which some exchange was blind."""
    return {side for trace in recording.traces() for side in trace.blind()}


@each
def test_every_recording_is_read_as_the_catalogue_says(emitter: Emitter) -> None:
    """Question, answer, call, result, documents, user and conversation are where they belong, if shown."""
    recording = recordings.load(emitter.name)
    assert recordings.read(recording.traces()) == set(emitter.shows)
    assert recording.sent() <= set(emitter.shows) | set(emitter.unread)
    assert bool(blind(recording)) == emitter.blind


@each
def test_each_call_of_a_model_is_one_exchange(emitter: Emitter) -> None:
    """Spans around a call, its repeats and its log records make no second exchange."""
    recording = recordings.load(emitter.name)
    assert len(recording.traces()) == recording.calls + emitter.more


@pytest.mark.parametrize("name", HERE)
def test_emitters_that_are_installed_are_read_anew(name: str) -> None:
    """The same holds of what they send now, with the packages that the tests have."""
    emitter = BY_NAME[name]
    fresh = recorded(emitter, Path(sys.executable))
    assert fresh.calls == 2
    assert len(fresh.traces()) == 2
    assert recordings.read(fresh.traces()) == set(emitter.shows)
    assert not blind(fresh)


def test_recordings_and_catalogue_match() -> None:
    """Each emitter has a recording of the pinned version, none is left over, and at least 25 were run."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(BY_NAME)
    for emitter in EMITTERS:
        assert recordings.load(emitter.name).version == emitter.version
    assert len({emitter.package for emitter in EMITTERS if not emitter.golden}) >= 25


def test_the_page_of_formats_names_each_emitter() -> None:
    """Each emitter has a row with its package's version and with what is read of it."""
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    for emitter in EMITTERS:
        read = ", ".join(emitter.shows) or "nothing"
        assert f"| {emitter.name} | {emitter.package} {emitter.version} | {read} | " in page


def test_every_environment_is_used() -> None:
    """No environment is installed for nothing."""
    assert {emitter.environment for emitter in EMITTERS} == set(ENVIRONMENTS)


@each
def test_recordings_are_small_and_tell_nothing_of_the_machine(emitter: Emitter) -> None:
    """No recording holds a path of the machine that it was made on, or is larger than 60 kB."""
    path = FOLDER / f"{emitter.name}.json"
    assert path.stat().st_size < 60_000
    for body in recordings.load(emitter.name).bodies:
        assert [
            mark for mark in (b"/root/", b"/home/", b"/tmp/", b"site-packages") if mark in body.value
        ] == []
