"""The key that a ledger belongs to, by its fingerprint: with another one its bodies and letters are lost."""

from collections.abc import Callable
from functools import partial
from typing import Final

import sqlalchemy as sa

from monitor.errors import ConfigError, Tampered
from monitor.ledger import queries
from monitor.ledger.reader import LedgerReader
from monitor.ledger.schema import dead_letters, meta
from monitor.ledger.spool import sealed_bodies
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault

_TRIED: Final = 5  # one alone may have been altered
_OF_KEY = meta.c.key == "key"


def fingerprint_of(ledger: LedgerReader) -> str:
    """Return the fingerprint of the key that a ledger belongs to, empty while no daemon has bound it."""
    with ledger.view() as connection:
        if not sa.inspect(connection).has_table(meta.name):
            return ""
        return connection.execute(sa.select(meta.c.value).where(_OF_KEY)).scalar() or ""


def bind(ledger: Ledger, vault: Vault) -> None:
    """Bind a ledger to its daemon's key, for ever. Raises ConfigError where it belongs to another one.

    Ledgers of earlier versions know no key. They adopt that of the first daemon, if it opens what they keep.
    """
    known = fingerprint_of(ledger)
    if not known:
        _try(ledger, vault)
        with ledger.begin() as connection:
            known = connection.execute(sa.select(meta.c.value).where(_OF_KEY)).scalar() or ""
            if not known:
                connection.execute(meta.insert().values(key="key", value=vault.fingerprint))
    require(known, vault)


def require(known: str, vault: Vault) -> None:
    """Raise ConfigError where a ledger is known to belong to another key."""
    if known and known != vault.fingerprint:
        raise _of_another(f"of this ledger, {known[:8]}")


def _try(ledger: LedgerReader, vault: Vault) -> None:
    """Raise ConfigError when the key opens none of the newest letters and oldest bodies."""
    with ledger.view() as connection:
        newest = sa.select(dead_letters.c.id).order_by(dead_letters.c.id.desc()).limit(_TRIED)
        letters = connection.execute(newest).scalars().all()
    opened = [_opens(partial(queries.open_letter, ledger, vault, letter)) for letter in letters]
    opened += [_opens(body) for body in sealed_bodies(ledger, vault, _TRIED)]
    if opened and not any(opened):
        raise _of_another("that encrypted what the ledger keeps")


def _opens(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Tampered:
        return False
    return True


def _of_another(which: str) -> ConfigError:
    return ConfigError(
        f"the key file is not the one {which}: restore the ledger's own riskmon.key from the backup, or copy "
        "it from another daemon of this ledger"
    )
