"""The checks of Presidio's recognizers (MIT), to the letter: the same values have to pass.

Values come as matched, with their separators.
"""

import functools
import hashlib
import ipaddress
import re
import string
from typing import Any

from monitor.detect.pii.checks import SEPARATORS

_LETTERS = {letter: str(number) for number, letter in enumerate(string.ascii_uppercase, 10)}
_BASE58 = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_CONSTANTS = (1, 0x2BC830A3)
_NEVER_ISSUED_SSN = frozenset({"123456789", "987654320", "078051120"})
_NIL_UUID = "00000000-0000-0000-0000-000000000000"


def nhs(value: str) -> bool:
    """Return whether ten digits pass the NHS number's modulus 11."""
    digits = value.translate(SEPARATORS)
    return sum(int(c) * weight for c, weight in zip(digits, range(10, -1, -1), strict=False)) % 11 == 0


def dea(value: str) -> bool:
    """Return whether a DEA registration number passes its check digit."""
    *digits, check = (int(c) for c in value.translate(SEPARATORS)[2:])
    return (2 * sum(digits[-1::-2]) + sum(digits[-2::-2]) - check) % 10 == 0


def ssn(value: str) -> bool:
    """Return whether a US social security number can have been issued."""
    if len({c for c in value if c in ".- "}) > 1:
        return False
    digits = "".join(c for c in value if c.isdigit())
    never = digits[3:5] == "00" or digits[5:] == "0000" or digits[:3] in {"000", "666"}
    return not (never or len(set(digits)) == 1 or digits in _NEVER_ISSUED_SSN)


def bitcoin(value: str) -> bool:
    """Return whether a Bitcoin address passes Base58Check, Bech32 (BIP 173) or Bech32m (BIP 350)."""
    if value[0] in "13":
        return _base58(value)
    return value.startswith("bc1") and _bech32(value)


def _base58(value: str) -> bool:
    raw = value.encode()
    stripped = raw.lstrip(b"1")
    number = 0
    for c in stripped:
        position = _BASE58.find(c)
        if position < 0:
            return False
        number = number * 58 + position
    decoded = number.to_bytes(len(raw) - len(stripped) + (number.bit_length() + 7) // 8, "big")
    return hashlib.sha256(hashlib.sha256(decoded[:-4]).digest()).digest()[:4] == decoded[-4:]


def _bech32(value: str) -> bool:
    if value not in {value.lower(), value.upper()} or not value.isascii():
        return False
    prefix, _, data = value.lower().rpartition("1")
    if not prefix or len(data) < 6 or len(value) > 90 or not set(data) <= set(_BECH32):  # noqa: PLR2004 - BIP 173
        return False
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    state = 1
    for item in (*expanded, *map(_BECH32.find, data)):
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ item
        for bit, generator in enumerate(_BECH32_GENERATOR):
            if top >> bit & 1:
                state ^= generator
    return state in _BECH32_CONSTANTS


def ip(value: str) -> bool:
    """Return whether a value is an IP address, with or without a prefix length."""
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return True


def mac(value: str) -> bool:
    """Return whether a value is a MAC address other than broadcast and nil."""
    digits = re.sub(r"[:\-.]", "", value).upper()
    return re.fullmatch("[0-9A-F]{12}", digits) is not None and digits not in {"F" * 12, "0" * 12}


def uuid(value: str) -> bool:
    """Return whether a UUID has a version and variant of RFC 9562 and is not nil."""
    groups = value.lower().split("-")
    well_formed = len(groups) == 5 and all(groups)  # noqa: PLR2004 - a UUID has five groups
    return (
        well_formed
        and value != _NIL_UUID
        and groups[2][0] in "12345678"
        and groups[3][0] in ("8", "9", "a", "b")
    )


def iban(value: str) -> bool:
    """Return whether the check digits of an IBAN without separators are right (ISO 13616, modulus 97)."""
    try:
        number = int("".join(_LETTERS.get(c, c) for c in (value[4:] + value[:2]).upper()) + "00")
    except ValueError:
        return False
    return f"{98 - number % 97:0>2}" == value[2:4]


@functools.cache
def _suffixes() -> Any:
    import tldextract

    return tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())


def email(value: str) -> bool:
    """Return whether an e-mail address ends in a public suffix, by the list that comes with tldextract."""
    return bool(_suffixes()(value).fqdn)
