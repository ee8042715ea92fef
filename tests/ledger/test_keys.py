"""A ledger and its key belong together: a lost or another key is refused, and never replaced by a new one."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ledgers import Database, on_postgresql

from monitor.config import Config
from monitor.daemon.build import inspect_ledger, open_ledger, open_ledger_to_write, open_vault
from monitor.errors import ConfigError, NotFound
from monitor.ledger import keys
from monitor.ledger import schema as t
from monitor.ledger.database import file_of
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.spool import Received
from monitor.testing import ManualClock

CLOCK = ManualClock()


@pytest.fixture(params=["", "sqlite:///file:{folder}/ledger.db?uri=true"])
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    """A configuration whose folder does not exist yet."""
    folder = tmp_path / "data"
    return Config.model_validate(
        {"data_dir": str(folder), "ledger": {"url": request.param.format(folder=folder)}}
    )


def started(config: Config) -> str:
    """What a daemon's start and end leave; the key's fingerprint."""
    ledger, vault = open_ledger(config, CLOCK)
    with closing(ledger):
        assert keys.fingerprint_of(ledger) == vault.fingerprint
    return vault.fingerprint


def key_opened(config: Config, clock: ManualClock) -> None:
    """Open ledger and key as a command that decrypts does."""
    with closing(inspect_ledger(config, clock)) as ledger:
        open_vault(config, ledger)


def files(config: Config) -> dict[str, bytes]:
    """All that is in the folder."""
    return {entry.name: entry.read_bytes() for entry in config.data_dir.iterdir()}


def forget(ledger: Ledger) -> None:
    """Make a ledger one of a version that knew no keys."""
    with ledger.begin() as connection:
        connection.execute(t.meta.delete().where(t.meta.c.key == "key"))


def test_a_ledger_knows_its_key(config: Config) -> None:
    """A second start finds the same key, and writes nothing about it."""
    assert started(config) == started(config)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_ledger_is_private_whatever_the_umask(config: Config, umask: int) -> None:
    """Database, write-ahead log and shared memory are for the daemon alone, and so is their folder."""
    before = os.umask(umask)
    try:
        ledger, _ = open_ledger(config, CLOCK)
    finally:
        os.umask(before)
    with closing(ledger), ledger.begin():
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in config.data_dir.iterdir()}
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm", "riskmon.key"}
    assert set(modes.values()) == {0o600}
    assert config.data_dir.stat().st_mode & 0o777 == 0o700


def test_a_lost_key_is_not_replaced(config: Config) -> None:
    """With a new one bodies would be lost and users get other pseudonyms: the message names the remedy."""
    started(config)
    (config.data_dir / "riskmon.key").unlink()
    before = files(config)
    for opened in (open_ledger, key_opened):
        with pytest.raises(ConfigError, match=r"riskmon\.key: .*restore it from the backup"):
            opened(config, CLOCK)
    assert files(config) == before


@pytest.mark.parametrize("opened", [open_ledger, key_opened])
def test_another_key_is_refused(config: Config, opened: Callable[..., object]) -> None:
    """The message names the key that is wanted, by its public id."""
    wanted = started(config)
    key = config.data_dir / "riskmon.key"
    key.write_bytes(bytes(32))
    with pytest.raises(ConfigError, match=rf"not the one of this ledger, {wanted[:8]}: restore"):
        opened(config, CLOCK)


def test_reading_takes_no_key(config: Config) -> None:
    """An auditor's copy has none, and gets none."""
    started(config)
    (config.data_dir / "riskmon.key").unlink()
    with closing(inspect_ledger(config, CLOCK)) as ledger:
        assert keys.fingerprint_of(ledger)
    assert "riskmon.key" not in files(config)


def test_what_does_not_exist_is_made_by_no_command(config: Config) -> None:
    """Neither folder, nor ledger, nor key."""
    for opened in (inspect_ledger, key_opened, open_ledger_to_write):
        with pytest.raises(NotFound, match="there is no ledger yet"):
            opened(config, CLOCK)
    assert not config.data_dir.exists()


def test_an_older_ledger_adopts_its_key(config: Config) -> None:
    """The first start of a daemon binds it; from then on another key is refused."""
    fingerprint = started(config)
    with closing(open_ledger_to_write(config, CLOCK)) as ledger:
        forget(ledger)
        assert keys.fingerprint_of(ledger) == ""
    assert started(config) == fingerprint
    (config.data_dir / "riskmon.key").write_bytes(bytes(32))
    with pytest.raises(ConfigError, match="not the one of this ledger"):
        open_ledger(config, CLOCK)


def test_an_older_ledger_adopts_no_key_that_does_not_open_it(config: Config) -> None:
    """A body that waits tells which key is the right one, although the ledger does not."""
    ledger, vault = open_ledger(config, CLOCK)
    with closing(ledger):
        spool = LedgerSpool(ledger, vault, ("s",), max_records=9, max_bytes=99)
        spool.append([Received("s", 0.0, "text/plain", b"body")])
        forget(ledger)
    key = config.data_dir / "riskmon.key"
    right = key.read_bytes()
    key.write_bytes(bytes(32))
    with pytest.raises(ConfigError, match="not the one that encrypted what the ledger keeps"):
        open_ledger(config, CLOCK)
    key.write_bytes(right)
    assert started(config) == vault.fingerprint


@on_postgresql
def test_a_second_host_makes_no_key_of_its_own(tmp_path: Path, database: Database) -> None:
    """Daemons that share a ledger share its key: one without, or with another, is refused."""
    first, second = (
        Config.model_validate({"data_dir": str(tmp_path / name), "ledger": {"url": database.url}})
        for name in ("one", "two")
    )
    fingerprint = started(first)
    with pytest.raises(ConfigError, match=rf"belongs to the key {fingerprint[:8]}; copy that"):
        open_ledger(second, CLOCK)
    assert not second.data_dir.exists()
    Vault.open_or_make(second.data_dir / "riskmon.key")
    with pytest.raises(ConfigError, match="not the one of this ledger"):
        open_ledger(second, CLOCK)
    (second.data_dir / "riskmon.key").write_bytes((first.data_dir / "riskmon.key").read_bytes())
    assert started(second) == fingerprint


def test_the_file_of_a_ledger_is_found(config: Config) -> None:
    """The path of a SQLite ledger is read from its URL, with or without a driver and options."""
    for url in ("sqlite:////a/b.db", "sqlite+pysqlite:////a/b.db", "sqlite:////a/b.db?timeout=3"):
        given = Config.model_validate({"ledger": {"url": url}})
        assert file_of(given.ledger_url()) == Path("/a/b.db")
    for url in ("file:/a/b%20c.db?uri=true", "file:///a/b%20c.db?mode=rwc&uri=true"):
        given = Config.model_validate({"ledger": {"url": f"sqlite:///{url}"}})
        assert file_of(given.ledger_url()) == Path("/a/b c.db")
    for url in ("postgresql://h/d", "sqlite://", "sqlite:///file:a?mode=memory&uri=true"):
        assert file_of(Config.model_validate({"ledger": {"url": url}}).ledger_url()) is None
    assert file_of(config.ledger_url()) == config.data_dir / "ledger.db"
