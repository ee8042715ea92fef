"""The key file and what is derived from it: encryption of dead letters and the spool, pseudonyms of users.

One 256-bit master key, made by the first start of a daemon, mode 0600. Purposes get separate keys by
HKDF-SHA256 (RFC 5869), so a pseudonym says nothing about an encryption key. Losing the file makes dead
letters unreadable for ever.
"""

import errno
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from monitor.errors import ConfigError, Retryable, Tampered
from monitor.private_files import make_private_folder

_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D's recommended length for GCM


class Vault:
    """Holds the master key and never shows it."""

    def __init__(self, master: bytes) -> None:
        if len(master) != _KEY_BYTES:
            raise ConfigError(
                f"the key must be {_KEY_BYTES} bytes, not {len(master)}; restore the right file"
            )
        self._master = master
        self._pseudonym_key = self._derive(b"pseudonym")
        self.fingerprint = self._derive(b"key-id").hex()
        """What tells this key from others, and nothing else about it: a ledger remembers it."""
        self.key_id = self.fingerprint[:8]

    def __repr__(self) -> str:
        return f"Vault(key_id={self.key_id!r})"

    @classmethod
    def fresh(cls) -> "Vault":
        """Return a vault with a key that is kept nowhere, for what is deleted with it."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Read the key file. Writes nothing.

        Raises ConfigError when it is not there, is no regular file (a link's target may be anybody's), may be
        read by others or is another user's; Retryable when it cannot be read for now.
        """
        try:
            # Without O_NONBLOCK a pipe without a writer would keep us for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no key file; restore it from the backup") from None
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path}: is not a regular file; put the key file itself here")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path}: mode {mode:04o} lets others read the key; run `chmod 600` on it")
            if status.st_uid not in {os.geteuid(), 0}:
                raise ConfigError(f"{path}: belongs to another user; run `chown` on it")
            return cls(os.read(descriptor, _KEY_BYTES + 1))
        except OSError as error:
            raise _unusable(path, error) from None
        finally:
            os.close(descriptor)

    @classmethod
    def open_or_make(cls, path: Path) -> "Vault":
        """Read the key file, or make one; two daemons that do so at once get the same key.

        Raises ConfigError as `open` does, Retryable also when there is no room for it or no right to make it.
        """
        if not os.path.lexists(path):
            try:
                _create(path)
            except OSError as error:
                raise _unusable(path, error) from None
        return cls.open(path)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt with AES-256-GCM, bound to `context`. Returns nonce + ciphertext + tag."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._derive(b"dead-letter")).encrypt(nonce, plain, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes:
        """Undo `encrypt`. Raises Tampered when the key is another one or the bytes were altered."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            cipher = AESGCM(self._derive(b"dead-letter"))
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except InvalidTag:
            raise Tampered(
                "a dead letter or spooled body cannot be decrypted: wrong key file, or the row was altered"
            ) from None

    def pseudonym(self, text: str) -> str:
        """Return a user id's pseudonym: 96 bits of HMAC-SHA-256 under this installation's key, and its id."""
        digest = hmac.new(self._pseudonym_key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"u:{self.key_id}:{digest.hexdigest()[:24]}"

    def _derive(self, purpose: bytes) -> bytes:
        extracted = hmac.new(b"riskmon", self._master, hashlib.sha256).digest()
        return hmac.new(extracted, purpose + b"\x01", hashlib.sha256).digest()


def _unusable(path: Path, error: OSError) -> ConfigError | Retryable:
    if error.errno == errno.ELOOP:
        return ConfigError(f"{path}: is a symbolic link; put the key file itself here")
    why = error.strerror or type(error).__name__
    text = f"{path}: cannot be used ({why}); check its folder, owner and rights"
    if isinstance(error, FileExistsError | NotADirectoryError):  # its folder is a file
        return ConfigError(text)
    return Retryable(text, "the key file cannot be read or made")


def _create(path: Path) -> None:
    make_private_folder(path.parent)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # atomic, and fails if another daemon was faster: then its key counts
        except FileExistsError:
            return
    finally:
        fresh.unlink()
