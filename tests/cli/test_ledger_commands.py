"""Commands on a ledger: those that read write nothing; damage and a missing ledger are named."""

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledgers import batch, claimed

from monitor.cli import main
from monitor.clock import SystemClock
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault

READING = (
    ("check", "--offline"),
    ("check",),
    ("doctor",),
    ("positions", "list"),
    ("audit", "verify"),
    ("dlq", "list"),
    ("feedback", "export"),
    ("spool", "list"),
)
WRITING = (("positions", "move", "t", "0", "9", "--reason", "why"), ("dlq", "requeue", "--all"))


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class Installation:
    """A configuration with nothing but a ledger."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, told: pytest.CaptureFixture[str], url: str = ""
    ) -> None:
        self._patch, self._told = patch, told
        self.data = folder / "data"
        self.file = folder / "riskmon.yaml"
        self.settings: dict[str, Any] = {
            "data_dir": str(self.data),
            "ledger": {"url": url},
            "kafka": {"topics": []},
            "receiver": {"enabled": True},
            "deliver": {"feedback_topic": ""},
            "http": {"port": 1},
        }

    def call(self, *words: str) -> Done:
        """Run a command, as its process would."""
        self.file.write_text(json.dumps(self.settings))  # JSON is YAML
        with self._patch.context() as patch:
            patch.setattr("sys.argv", ["riskmon", *words, "--config", str(self.file)])
            patch.setenv("COLUMNS", "1000")
            with pytest.raises(SystemExit) as ended:
                main()
        told = self._told.readouterr()
        return Done(int(ended.value.code or 0), told.out, told.err)

    def fill(self) -> None:
        """Write a ledger, as a daemon would."""
        vault = Vault.open_or_make(self.data / "riskmon.key")
        url = f"sqlite:///{self.data / 'ledger.db'}"
        with closing(Ledger.open(url, vault, SystemClock(), "d0")) as ledger:
            ledger.record(batch(claimed(ledger), range(4), dead=(2,)))

    def contents(self) -> dict[str, str]:
        """Return the files of its folder, and what is in them."""
        if not self.data.exists():
            return {}
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(self.data.iterdir())}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Installation:
    """An installation that has not run yet."""
    return Installation(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_reading_commands_make_and_change_nothing(here: Installation) -> None:
    """Neither where there is no ledger, which they say, nor beside one."""
    for words in (*READING, *WRITING):
        done = here.call(*words)
        known = words[0] in {"check", "doctor"}
        assert known or (done.code, "there is no ledger yet" in done.err) == (78, True), done
        assert here.contents() == {}
    assert here.call("check").code == 0
    here.fill()
    before = here.contents()
    assert before.keys() == {"ledger.db", "riskmon.key"}
    for words in READING:
        done = here.call(*words)
        assert done.code == 0, done
        assert here.contents() == before


def test_an_auditors_copy_is_verified_without_the_key(here: Installation, tmp_path: Path) -> None:
    """All that is needed is the ledger's file, in a folder that takes no others."""
    here.fill()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(here.data / "ledger.db", copy)
    copy.chmod(0o555)
    here.settings |= {"data_dir": str(copy)}
    try:
        done = here.call("audit", "verify")
        assert (done.code, "verified: nothing altered" in done.out) == (0, True), done.out
        assert here.call("dlq", "list").code == 0
        done = here.call("dlq", "show", "1")
        assert (done.code, "there is no key" in done.err) == (78, True)
        assert [each.name for each in copy.iterdir()] == ["ledger.db"]
    finally:
        copy.chmod(0o755)


def test_a_damaged_ledger_is_named(here: Installation) -> None:
    """The audit has a problem, other commands exit 65; each says what to do, and none with a traceback."""
    here.fill()
    (here.data / "ledger.db").write_bytes(b"no database at all" * 1000)
    done = here.call("audit", "verify")
    assert (done.code, "PROBLEM: the database is damaged" in done.out) == (1, True), done.out
    assert json.loads(here.call("audit", "verify", "--json").out)["ok"] is False
    for words in (("positions", "list"), ("feedback", "export")):
        done = here.call(*words)
        assert (done.code, "restore a backup" in done.err) == (65, True), done
    done = here.call("check")
    assert (done.code, "the database is damaged" in done.out) == (78, True), done.out


@pytest.mark.parametrize("where", ["riskmon:canary@127.0.0.1:1/x", "riskmon@127.0.0.1:1/x?password=canary"])
def test_the_password_of_a_ledger_is_printed_nowhere(here: Installation, where: str) -> None:
    """`check` and `doctor` show the URL without it, whether the server answers or not."""
    here.settings["ledger"]["url"] = f"postgresql://{where}"
    offline, online = here.call("check", "--offline"), here.call("doctor")
    assert (offline.code, "127.0.0.1:1/x" in offline.out) == (0, True), offline.out
    assert "cannot be reached" in online.out
    assert "canary" not in offline.out + online.out
