"""Credentials: keys with an issuer's prefix, private keys, tokens, connection strings, passwords.

Formats are those the issuers publish (key prefixes, PEM, RFC 7519, URI user information of RFC 3986). All
repetitions are bounded and no two adjacent ones overlap, so matching time is linear in the text. A pattern runs
only on a text that holds one of its marks; marks are in lower case.
"""

# ruff: noqa: E501 - a regular expression or a row of a table reads best on one line

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from monitor.detect.pii.context import context_words, is_supported
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

KINDS = ("API_KEY", "PRIVATE_KEY", "JWT", "CONNECTION_STRING", "PASSWORD")

_KEY_END = r"(?![A-Za-z0-9_-])"
_HAS_DIGIT = r"(?=[A-Za-z_-]{0,200}\d)"  # tells a key from a long hyphenated word
_ASSIGN = r"""["']?[ \t]{0,3}[:=][ \t]{0,3}["']?"""
_GUESSABLE = r"(?![<\[{*$]|https?:)(?=[^\s\"']{0,62}[\d!@#$%^&*?])"  # no placeholder, no plain word

_KEY_LABEL = (
    r"(?i:(?:api|secret|secret[_-]?access|access|private|encryption|signing)[_-]?key|"
    r"(?:access|auth|bearer|refresh|api|session|secret)[_-]?token|client[_-]?secret|authorization)"
)
_PEM = r"(?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_PEM_BODY = r"(?:[^-]{0,8000}-----END " + _PEM + r"|(?:\s{1,4}[A-Za-z0-9+/=]{16,128}){0,200})"
_DSN_HOST = r"(?i)\b(?:server|data source|host|endpoint|accountname)=[^;\s\"']{1,200}"
_DSN_FIELDS = r"(?:;[^;=\"'\n]{1,40}=[^;\"'\n]{0,200}){0,8}"
_DSN_LAST = r";(?:password|pwd|accountkey|sharedaccesskey)=[^;\s\"']{3,200}"
_USER_INFO = r"[^\s:/@]{0,128}:[^\s/@]{1,128}@"
_LABEL = r"(?i:\b(?:password|passwd|passphrase|passcode|pwd))"
_SAID = r"(?i:\b(?:password|passphrase|passcode) (?:is|was|to)):? {1,2}[\"']?"
_RANDOM = r"(?<![A-Za-z0-9+/_=.-])[A-Za-z0-9+/_-]{20,128}={0,2}(?![A-Za-z0-9+/_=-])"
_RANDOM_CONTEXT = context_words(
    [
        "key",
        "token",
        "secret",
        "credential",
        "bearer",
        "authorization",
        "signature",
        "webhook",
        "auth",
        "apikey",
        "hmac",
    ]
)
_RANDOM_BITS = 3.2  # per character; hex digits reach 4.0, words written together 2.5 to 3.1 with a digit rule

_MARKS_AND_PATTERNS: tuple[tuple[str, str, str, float], ...] = (
    (
        "API_KEY",
        "sk-",
        rf"\bsk-(?:proj-|svcacct-|admin-|ant-)?{_HAS_DIGIT}[A-Za-z0-9_-]{{20,200}}{_KEY_END}",
        0.9,
    ),
    ("API_KEY", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", 0.95),
    (
        "API_KEY",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
        0.95,
    ),
    ("API_KEY", "glpat-", rf"\bglpat-[A-Za-z0-9_-]{{20,64}}{_KEY_END}", 0.95),
    ("API_KEY", "xox xapp-", rf"\b(?:xox[abeoprs]|xapp)-{_HAS_DIGIT}[A-Za-z0-9-]{{10,250}}{_KEY_END}", 0.95),
    (
        "API_KEY",
        "hooks.slack.com",
        r"\bhooks\.slack\.com/services/T[A-Z0-9]{6,14}/B[A-Z0-9]{6,14}/\w{16,32}\b",
        0.95,
    ),
    ("API_KEY", "aiza", rf"\bAIza[A-Za-z0-9_-]{{35}}{_KEY_END}", 0.95),
    ("API_KEY", "ya29.", rf"\bya29\.[A-Za-z0-9_-]{{20,250}}{_KEY_END}", 0.95),
    ("API_KEY", "k_live_ k_test_", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,247}\b", 0.95),
    ("API_KEY", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{16,128}", 0.95),
    ("API_KEY", "sg.", rf"\bSG\.[A-Za-z0-9_-]{{16,32}}\.[A-Za-z0-9_-]{{32,64}}{_KEY_END}", 0.95),
    ("API_KEY", "hf_", r"\bhf_[A-Za-z0-9]{30,64}\b", 0.95),
    ("API_KEY", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b", 0.95),
    ("API_KEY", "pypi-", rf"\bpypi-AgE[A-Za-z0-9_-]{{50,250}}{_KEY_END}", 0.95),
    ("API_KEY", "dop_v1_", r"\bdop_v1_[a-f0-9]{64}\b", 0.95),
    ("API_KEY", "shpat_ shpss_ shpca_", r"\bshp(?:at|ss|ca)_[a-fA-F0-9]{32}\b", 0.95),
    ("API_KEY", "key-", r"\bkey-[a-f0-9]{32}\b", 0.9),
    ("API_KEY", "sk", r"\bSK[a-f0-9]{32}\b", 0.9),
    ("API_KEY", ":aa", r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b", 0.9),
    (
        "API_KEY",
        "key token secret authorization",
        rf"(?<={_KEY_LABEL}{_ASSIGN}(?:[Bb]earer |[Bb]asic )?){_HAS_DIGIT}[A-Za-z0-9_./+=-]{{16,200}}",
        0.7,
    ),
    ("PRIVATE_KEY", "-----begin ", rf"-----BEGIN {_PEM}{_PEM_BODY}", 0.99),
    ("JWT", "eyj", r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{0,2000}", 0.95),
    (
        "CONNECTION_STRING",
        "://",
        rf"\b[A-Za-z][A-Za-z0-9+.-]{{1,20}}://{_USER_INFO}[^\s/\"'<>]{{1,255}}",
        0.9,
    ),
    (
        "CONNECTION_STRING",
        "password= pwd= accountkey= sharedaccesskey=",
        _DSN_HOST + _DSN_FIELDS + _DSN_LAST,
        0.9,
    ),
    ("PASSWORD", "passw passp passc pwd", rf"(?<={_LABEL}{_ASSIGN}){_GUESSABLE}[^\s\"']{{4,64}}", 0.6),
    ("PASSWORD", "passw passp passc", rf"(?<={_SAID}){_GUESSABLE}[^\s\"']{{4,64}}", 0.5),
)
_PASSWORD_CONTEXT = context_words(["login", "credential", "account", "username", "temporary"])


class _Secret(NamedTuple):
    kind: str
    marks: frozenset[str]
    finditer: Callable[..., Iterator[Any]]
    score: float


class Secrets:
    """The patterns, each bounded to `seconds` per text; `find` raises TimeoutError when one takes longer."""

    def __init__(self, seconds: float) -> None:
        import regex  # type: ignore[import-untyped] # its stubs are not among our tools

        self._seconds = seconds
        self.patterns = [
            _Secret(
                kind,
                frozenset(marks.split() if marks.strip() == marks else [marks]),
                regex.compile(p).finditer,
                s,
            )
            for kind, marks, p, s in _MARKS_AND_PATTERNS
        ]
        self._marks = sorted({mark for secret in self.patterns for mark in secret.marks})
        self._token = regex.compile(_RANDOM).finditer

    def find(self, view: NumericView) -> Iterator[EntitySpan]:
        """Yield credentials, in no order."""
        text, lower = view.text, view.lower
        present = {mark for mark in self._marks if mark in lower}
        for kind, marks, finditer, score in self.patterns if present else ():
            if not present.isdisjoint(marks):
                for match in finditer(text, timeout=self._seconds):
                    start, end = match.span()
                    weak = kind == "PASSWORD" and is_supported(text, start, _PASSWORD_CONTEXT)
                    yield EntitySpan(start, end, kind, score + 0.3 if weak else score)
        if any(word in lower for word in _RANDOM_CONTEXT):
            for match in self._token(view.digest, timeout=self._seconds):
                start = view.place(match.start())
                if _is_random(match.group()) and is_supported(text, start, _RANDOM_CONTEXT):
                    yield EntitySpan(start, start + len(match.group()), "API_KEY", 0.5)


def _is_random(value: str) -> bool:
    """Return whether letters and digits mix as they do by chance, and not as in words or dates."""
    turns = sum(a.isdigit() != b.isdigit() for a, b in pairwise(value))
    if turns < 4 or not any(c.isalpha() for c in value) or "/" in value.strip("/")[:1]:  # noqa: PLR2004 - four runs
        return False
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts) >= _RANDOM_BITS
