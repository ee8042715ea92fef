"""The only check of a secret in a request."""

import base64
import binascii
import hmac

from monitor.web.server import Head


def holds(head: Head, token: bytes, *, basic: bool = False) -> bool:
    """Return whether a request holds the token: as a bearer, with `basic` also as a password of any user.

    Compares in constant time.
    """
    return allows(head.headers.get("authorization", ""), token, basic=basic)


def allows(authorization: str, token: bytes, *, basic: bool = False) -> bool:
    """Return whether the value of an `authorization` header or metadata holds the token, like `holds`."""
    return hmac.compare_digest(_brought(authorization, basic=basic), token)


def _brought(authorization: str, *, basic: bool) -> bytes:
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip().encode("latin-1")
        case "basic" if basic:
            try:
                return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return b""
        case _:
            return b""
