"""Hot reload: changes are taken as a whole, mistakes leave the last good rules in force."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from monitor.clock import ManualClock
from monitor.errors import ConfigError
from monitor.rules import RuleBook, RuleSet
from monitor.rules import book as book_module
from monitor.rules.files import read

CLOCK = ManualClock(start=1000.0)


def text(name: str, expr: str = "pii.score > 0.5") -> str:
    """A file of one rule."""
    return (
        f"groups: [{{name: g, rules: [{{alert: {name}, expr: '{expr}', "
        "labels: {severity: info}, annotations: {summary: s}}]}]\n"
    )


def names(book: RuleBook) -> list[str]:
    """Names of the rules in force."""
    return [rule.name for rule in book.current.rules]


def test_a_change_takes_effect_and_is_reported_once(tmp_path: Path) -> None:
    """A new content is loaded, with its version and time; nothing is said while nothing changes."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First"))
    book = RuleBook([tmp_path], CLOCK)
    assert (names(book), book.refresh()) == (["First"], None)
    file.write_text(text("Second"))
    reload = book.refresh()
    assert reload is not None
    assert (reload.ok, reload.version, reload.time) == (True, book.current.version, 1000.0)
    assert (names(book), book.refresh()) == (["Second"], None)


def test_a_mistake_keeps_the_last_good_rules_and_is_reported_once(tmp_path: Path) -> None:
    """The error names the place; the old rules stay, and so does their version."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First"))
    book = RuleBook([tmp_path], CLOCK)
    good = book.current
    file.write_text(text("First", "pi.score > 0.5"))
    reload = book.refresh()
    assert reload is not None
    assert not reload.ok
    assert reload.version == good.version
    assert f"{file}:1:" in reload.error
    assert "did you mean pii?" in reload.error
    assert book.current is good
    assert book.refresh() is None


def test_undoing_a_mistake_is_reported_too(tmp_path: Path) -> None:
    """The return to what is in force ends the error."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First"))
    book = RuleBook([tmp_path], CLOCK)
    file.write_text("groups: [")
    assert not getattr(book.refresh(), "ok", True)
    file.write_text(text("First"))
    assert getattr(book.refresh(), "ok", False)


def test_a_folder_that_vanishes_keeps_the_rules(tmp_path: Path) -> None:
    """Losing the files is a mistake like any other, and their return is noticed."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First"))
    book = RuleBook([tmp_path], CLOCK)
    file.rename(tmp_path / "gone")
    assert "holds no *.yaml file" in getattr(book.refresh(), "error", "")
    (tmp_path / "gone").rename(file)
    assert getattr(book.refresh(), "ok", False)
    assert names(book) == ["First"]


def test_a_file_added_or_removed_counts(tmp_path: Path) -> None:
    """The set of files matters as much as their contents."""
    (tmp_path / "a.yaml").write_text(text("First"))
    book = RuleBook([tmp_path], CLOCK)
    (tmp_path / "b.yaml").write_text(text("Second"))
    book.refresh()
    assert names(book) == ["First", "Second"]
    (tmp_path / "a.yaml").unlink()
    book.refresh()
    assert names(book) == ["Second"]


def test_equal_size_and_time_do_not_hide_a_change(tmp_path: Path) -> None:
    """A change within one tick of a coarse clock, of the same length, is still seen."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First", "pii.score > 0.5"))
    os.utime(file, (1, 1))
    book = RuleBook([file], CLOCK)
    before = book.current.version
    file.write_text(text("First", "pii.score > 0.6"))
    os.utime(file, (1, 1))
    assert book.refresh() is not None
    assert book.current.version != before


def test_a_touched_file_is_no_change(tmp_path: Path) -> None:
    """A new time stamp alone reloads nothing."""
    file = tmp_path / "a.yaml"
    file.write_text(text("First"))
    book = RuleBook([file], CLOCK)
    os.utime(file, (1, 1))
    assert book.refresh() is None


def test_the_symlink_swap_of_a_configmap_is_followed(tmp_path: Path) -> None:
    """Kubernetes replaces `..data` under links whose own time stamps never change."""
    for revision, name in (("..1", "First"), ("..2", "Second")):
        (tmp_path / revision).mkdir()
        (tmp_path / revision / "rules.yaml").write_text(text(name))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "rules.yaml").symlink_to("..data/rules.yaml")
    book = RuleBook([tmp_path], CLOCK)
    assert names(book) == ["First"]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    book.refresh()
    assert names(book) == ["Second"]


def test_a_set_half_way_swapped_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When files change between two readings, neither is taken; the next look takes the finished set."""
    (tmp_path / "a.yaml").write_text(text("First"))
    (tmp_path / "b.yaml").write_text(text("Second"))
    book = RuleBook([tmp_path], CLOCK)
    (tmp_path / "a.yaml").write_text(text("Third"))

    def torn(paths: tuple[Path, ...]) -> tuple[tuple[str, bytes], ...]:
        """Read, and let the writer finish right afterwards."""
        found = read(paths)
        (tmp_path / "b.yaml").write_text(text("Fourth"))
        return found

    monkeypatch.setattr(book_module, "read", torn)
    assert book.refresh() is None
    assert names(book) == ["First", "Second"]
    monkeypatch.setattr(book_module, "read", read)
    book.refresh()
    assert names(book) == ["Third", "Fourth"]


def test_the_first_set_must_be_good(tmp_path: Path) -> None:
    """Without a last good set there is nothing to keep: a mistake at the start is a ConfigError."""
    (tmp_path / "a.yaml").write_text("groups: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        RuleBook([tmp_path], CLOCK)


def test_no_paths_follow_the_shipped_packs() -> None:
    """A book without paths holds the packs that come with riskmon."""
    assert RuleBook([], CLOCK).current.version == RuleSet.load().version


def test_the_book_holds_the_last_good_set(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After any edits and looks, the rules in force are those of the last good content looked at."""

    class Edits(RuleBasedStateMachine):
        @initialize()
        def start(self) -> None:
            self.file = tmp_path_factory.mktemp("rules") / "a.yaml"
            self.file.write_text(text("First"))
            self.book = RuleBook([self.file], CLOCK)
            self.expected = ["First"]
            self.on_disk: list[str] | None = ["First"]

        @rule(name=st.sampled_from(["First", "Second", "Third"]))
        def write(self, name: str) -> None:
            self.file.write_text(text(name))
            self.on_disk = [name]

        @rule(
            bad=st.sampled_from(["", "groups: [", "groups: []", text("First", "pi.score > 1"), text("low")])
        )
        def damage(self, bad: str) -> None:
            self.file.write_text(bad)
            self.on_disk = None

        @rule()
        def remove(self) -> None:
            self.file.unlink(missing_ok=True)
            self.on_disk = None

        @rule()
        def look(self) -> None:
            reload = self.book.refresh()
            self.expected = self.on_disk or self.expected
            assert reload is None or reload.ok == (self.on_disk is not None)

        @invariant()
        def holds(self) -> None:
            if hasattr(self, "book"):
                assert names(self.book) == self.expected

    run_state_machine_as_test(
        Edits, settings=settings(max_examples=50, stateful_step_count=15, deadline=None)
    )
