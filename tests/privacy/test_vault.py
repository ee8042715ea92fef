"""The key file, encryption and pseudonyms."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.errors import ConfigError, Tampered
from monitor.privacy.vault import Vault


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    """The first start makes a key only its owner can read; later starts use the same."""
    path = tmp_path / "keys" / "riskmon.key"
    first = Vault.open_or_make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Vault.open(path).key_id == first.key_id
    assert [entry.name for entry in path.parent.iterdir()] == ["riskmon.key"]


def test_daemons_starting_at_once_share_a_key(tmp_path: Path) -> None:
    """Many first starts at the same moment end up with one key."""
    path = tmp_path / "riskmon.key"
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(Vault.open_or_make(path).key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key file with a loose mode is an error that says what to do."""
    path = tmp_path / "riskmon.key"
    Vault.open_or_make(path)
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


def test_opening_makes_nothing(tmp_path: Path) -> None:
    """Only a daemon's start makes a key: a command that finds none says so."""
    with pytest.raises(ConfigError, match="there is no key file; restore it"):
        Vault.open(tmp_path / "keys" / "riskmon.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folder_and_key_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """No moment passes in which others may read them."""
    before = os.umask(umask)
    try:
        Vault.open_or_make(tmp_path / "data" / "riskmon.key")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "riskmon.key").stat().st_mode & 0o777 == 0o600


def _link(path: Path) -> None:
    Vault.open_or_make(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _device(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero


def _folder(path: Path) -> None:
    path.mkdir(0o700)


def _large(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(bytes(1_000_000))


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_link, "is a symbolic link"),
        (_dangling, "is a symbolic link"),
        (_pipe, "is not a regular file"),
        (_device, "is not a regular file"),
        (_folder, "is not a regular file"),
        (_large, "must be 32 bytes"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    """A link, a pipe without a writer, a device or a folder is named, at once, and nothing is made of it."""
    path = tmp_path / "riskmon.key"
    try:
        make(path)
    except PermissionError:
        pytest.skip("only root makes devices")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    for opened in (Vault.open, Vault.open_or_make):
        with pytest.raises(ConfigError, match=message):
            opened(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names


def test_another_users_key_is_refused(tmp_path: Path) -> None:
    """Who owns the file can read it, whatever its mode says."""
    path = tmp_path / "riskmon.key"
    Vault.open_or_make(path)
    try:
        os.chown(path, 4242, -1)
    except PermissionError:
        pytest.skip("only root gives files away")
    with pytest.raises(ConfigError, match="belongs to another user"):
        Vault.open(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The cause is in the message."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigError, match=r"riskmon\.key: cannot be used \((Not a directory|File exists)\)"):
        Vault.open_or_make(tmp_path / "data" / "riskmon.key")
