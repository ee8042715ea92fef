"""Recognizers for credentials, as Presidio pattern recognizers.

Formats are those the issuers publish (key prefixes, PEM, RFC 7519, URI user information of RFC 3986). All
repetitions are bounded and no two adjacent ones overlap, so matching time is linear in the text.
"""

import re
from typing import Any

KINDS = ("API_KEY", "PRIVATE_KEY", "JWT", "CONNECTION_STRING", "PASSWORD")

_KEY_END = r"(?![A-Za-z0-9_-])"
_HAS_DIGIT = r"(?=[A-Za-z_-]{0,200}\d)"  # tells a key from a long hyphenated word
_ASSIGN = r"""["']?[ \t]{0,3}[:=][ \t]{0,3}["']?"""
_GUESSABLE = r"(?![<\[{*$]|https?:)(?=[^\s\"']{0,62}[\d!@#$%^&*?])"  # no placeholder, no plain word

_KEY_LABEL = r"(?i:(?:api|secret|secret[_-]?access)[_-]?key|(?:access|auth)[_-]?token|client[_-]?secret)"
_PEM = r"(?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_PEM_BODY = r"(?:[^-]{0,8000}-----END " + _PEM + r"|(?:\s{1,4}[A-Za-z0-9+/=]{16,128}){0,200})"
_DSN_HOST = r"(?i)\b(?:server|data source|host|endpoint|accountname)=[^;\s\"']{1,200}"
_DSN_FIELDS = r"(?:;[^;=\"'\n]{1,40}=[^;\"'\n]{0,200}){0,8}"
_DSN_LAST = r";(?:password|pwd|accountkey|sharedaccesskey)=[^;\s\"']{3,200}"
_USER_INFO = r"[^\s:/@]{1,128}:[^\s/@]{1,128}@"
_LABEL = r"(?i:\b(?:password|passwd|passphrase|passcode|pwd))"
_SAID = r"(?i:\b(?:password|passphrase|passcode) (?:is|was|to)):? {1,2}[\"']?"

_PATTERNS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "API_KEY": (
        (
            "openai",
            rf"\bsk-(?:proj-|svcacct-|admin-|ant-)?{_HAS_DIGIT}[A-Za-z0-9_-]{{20,200}}{_KEY_END}",
            0.9,
        ),
        ("aws", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", 0.95),
        ("github", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b", 0.95),
        ("slack", rf"\bxox[abeoprs]-{_HAS_DIGIT}[A-Za-z0-9-]{{10,250}}{_KEY_END}", 0.95),
        ("google", rf"\bAIza[A-Za-z0-9_-]{{35}}{_KEY_END}", 0.95),
        ("stripe", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,247}\b", 0.95),
        ("assigned", rf"(?<={_KEY_LABEL}{_ASSIGN}){_HAS_DIGIT}[A-Za-z0-9_./+=-]{{16,200}}", 0.7),
    ),
    "PRIVATE_KEY": (("pem", rf"-----BEGIN {_PEM}{_PEM_BODY}", 0.99),),
    "JWT": (("jwt", r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{0,2000}", 0.95),),
    "CONNECTION_STRING": (
        ("uri", rf"\b[A-Za-z][A-Za-z0-9+.-]{{1,20}}://{_USER_INFO}[^\s/\"'<>]{{1,255}}", 0.9),
        ("key_value", _DSN_HOST + _DSN_FIELDS + _DSN_LAST, 0.9),
    ),
    "PASSWORD": (
        ("assigned", rf"(?<={_LABEL}{_ASSIGN}){_GUESSABLE}[^\s\"']{{4,64}}", 0.6),
        ("said", rf"(?<={_SAID}){_GUESSABLE}[^\s\"']{{4,64}}", 0.5),
    ),
}
_CONTEXT = {"PASSWORD": ["login", "log in", "credential", "account", "username", "temporary"]}


def recognizers() -> list[Any]:
    """Return one Presidio `PatternRecognizer` per kind of secret. Matching is case-sensitive."""
    from presidio_analyzer import Pattern, PatternRecognizer

    return [
        PatternRecognizer(
            supported_entity=kind,
            name=f"{kind.title().replace('_', '')}Recognizer",
            patterns=[Pattern(name, regex, score) for name, regex, score in patterns],
            context=_CONTEXT.get(kind),
            global_regex_flags=re.MULTILINE,
        )
        for kind, patterns in _PATTERNS.items()
    ]
