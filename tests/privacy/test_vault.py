"""The key file, encryption and pseudonyms."""

import os
import threading
from pathlib import Path

import pytest

from monitor.errors import ConfigError, Tampered
from monitor.privacy.vault import Vault


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The first start makes a key only its owner can read; later starts use the same."""
    path = tmp_path / "keys" / "riskmon.key"
    first = Vault.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Vault.open(path).key_id == first.key_id
    assert [entry.name for entry in path.parent.iterdir()] == ["riskmon.key"]


def test_daemons_starting_at_once_share_a_key(tmp_path: Path) -> None:
    """Many first starts at the same moment end up with one key."""
    path = tmp_path / "riskmon.key"
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(Vault.open(path).key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key file with a loose mode is an error that says what to do."""
    path = tmp_path / "riskmon.key"
    Vault.open(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Vault.open(path)


def test_encryption_is_bound_to_key_and_context() -> None:
    """Only the same key and context give the bytes back; ciphertexts differ each time."""
    vault = Vault(bytes(32))
    sealed = vault.encrypt(b"secret", b"t/0/1")
    assert vault.decrypt(sealed, b"t/0/1") == b"secret"
    assert sealed != vault.encrypt(b"secret", b"t/0/1")
    assert b"secret" not in sealed
    for broken in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed):
        with pytest.raises(Tampered, match="decrypted"):
            vault.decrypt(broken, b"t/0/2")
    with pytest.raises(Tampered, match="decrypted"):
        Vault(os.urandom(32)).decrypt(sealed, b"t/0/1")


def test_pseudonyms_depend_on_the_key() -> None:
    """The same user has one pseudonym per installation and another elsewhere; the name does not show."""
    one, other = Vault(bytes(32)), Vault(b"\x01" * 32)
    assert one.pseudonym("jane@example.com") == one.pseudonym("jane@example.com")
    assert one.pseudonym("jane@example.com") != other.pseudonym("jane@example.com")
    assert one.pseudonym("a") != one.pseudonym("b")
    assert "jane" not in one.pseudonym("jane@example.com")


def test_the_key_never_shows() -> None:
    """Neither repr nor str of a vault holds key material."""
    master = bytes(range(32))
    assert master.hex()[:16] not in f"{Vault(master)!r} {Vault(master)}"


def test_a_key_of_the_wrong_size_is_refused() -> None:
    """A truncated key file is named as such."""
    with pytest.raises(ConfigError, match="32 bytes"):
        Vault(b"short")
