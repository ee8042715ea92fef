"""The net for identifiers: whether a name or id looks like personal data or a credential.

Ids of applications, responses and conversations are published with every metric, alert and page, and some
senders use a telephone number, an account or a key as one. The net knows forms only, no names of people, and
works on at most some hundred characters: each pattern is bounded. Deliberately wider than the detectors'
patterns, as the redactor's net is: a pseudonym where none was needed costs readability, a miss publishes a
person.

What ordinary systems send stays: UUIDs, ULIDs, hexadecimal ids, versions, dates and times, seconds,
milliseconds and microseconds since 1970, IP addresses, numbers of accounts and projects inside the resource
names of clouds, and numbers of 16 to 19 digits ("snowflakes"), unless they pass for a payment card (one in
fifty does). Numbers of 9 to 15 digits do not: no form tells them from telephone and social security numbers.
"""

import re
import unicodedata
from typing import Final

_HEXADECIMAL: Final = r"[0-9a-f]{32}"
# Beginnings of keys as their issuers publish them, and what follows at least.
_KEYS: Final = {
    "sk- rk_ sk_": r"[\w-]{16}",  # OpenAI, Anthropic, OpenRouter, Langfuse, LiteLLM; Stripe, ElevenLabs
    "AKIA ASIA ABIA ACCA": r"[A-Z0-9]{16}",  # AWS
    "gho_ ghp_ ghr_ ghs_ ghu_ github_pat_": r"\w{20}",
    "glpat- glptt- gldt- glrt- glsoat- glagent- glcbt- glft-": r"[\w-]{16}",  # GitLab
    "xoxa- xoxb- xoxc- xoxd- xoxe- xoxe. xoxo- xoxp- xoxr- xoxs- xapp- hooks.slack.com": r"[\w./-]{16}",
    "AIza ya29. GOCSPX- 1//0": r"[\w-]{16}",  # Google
    "whsec_ EAA sq0atp- sq0csp-": r"[\w+/=-]{20}",  # Stripe, Meta and Square
    "shpat_ shpca_ shppa_ shpss_ dop_v1_ doo_v1_ dor_v1_ dapi key-": _HEXADECIMAL,  # Shopify, Databricks
    "SG. dckr_pat_": r"[\w.-]{20}",  # SendGrid, Docker
    "hf_ api_org_ r8_ gsk_ xai- pplx- pcsk_ nvapi- lsv2_ tgp_v1_ fw_ csk- jina_ tvly-": r"[\w-]{20}",
    "npm_ pypi- rubygems_ glsa_ glc_ sntrys_ sntryu_ figd_ PMAK- NRAK- phx_ hvs. hvb.": r"[\w.+/=-]{20}",
    "lin_api_ secret_ ntn_ ATATT3 ATCTT3 dp.pt. dp.st. dp.sa. sbp_ pscale_ ops_eyJ": r"[\w.=-]{16}",
    "SK AC": _HEXADECIMAL,  # Twilio
    "AGE-SECRET-KEY-1": r"[A-Z0-9]{20}",
    "eyJ": r"[\w.-]{17}",  # JSON Web Tokens, and any other JSON in Base64
}
KEY_BEGINNINGS: Final = tuple(
    beginning for keys, rest in _KEYS.items() if rest != _HEXADECIMAL for beginning in keys.split()
)
"""Of keys that need their beginning to be told from words: 32 hexadecimal digits do not."""
_SHORTEST_KEY: Final = 18  # characters
_SECRET = re.compile(
    "(?<![A-Za-z0-9])(?:"
    + "|".join(f"(?:{'|'.join(map(re.escape, keys.split()))}){rest}" for keys, rest in _KEYS.items())
    + ")",
    re.ASCII,
)
_TELEGRAM = re.compile(r"(?<![A-Za-z0-9])[0-9]{9,10}:AA[\w-]{30}", re.ASCII)
# Three characters tell whether a key may begin: no regular expression looks at every id as fast.
_FIRST: Final = frozenset(
    prefix[:3] if prefix[2:] else prefix + digit
    for keys in _KEYS
    for prefix in keys.split()
    for digit in "0123456789abcdef"
)
_nexts = re.compile(r"[^A-Za-z0-9](?=(...))", re.DOTALL).findall
_ASSIGNED = re.compile(r"(?i)(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|api[_-]?key)s?=[^=]{4}")
_CREDENTIALS = re.compile(r"://[^\s/@]{0,100}:[^\s/@]{1,100}@")
_EMAIL = re.compile(r"[^@]@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")

MAX_CHARS: Final = 128
_ALLOWED = re.compile(r"[A-Za-z0-9._:/+=@-]+")
_ADDRESS = re.compile(r"[^\s@]@[^\s@]+\.[^\s@]{2}")  # in any script
_is_plain = re.compile(
    r"(?:[A-Za-z._:/+-]*+[0-9]){0,8}+[A-Za-z._:/+-]*+"
).fullmatch  # too few digits for a number
# Digits alone may be a card's, and behind two letters an IBAN's.
_is_random = re.compile(
    r"(?!..[0-9]*\Z)[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|[a-z]{1,16}+[_-](?!..[0-9]*\Z)[0-9a-f]{16,}"
).fullmatch
_DIGITS = re.compile(r"[0-9](?:[^A-Za-z0-9]*[0-9]){8}")  # in every number that the net knows

_TIME = r"(?:[01]\d|2[0-3])(?::?[0-5]\d){1,2}(?:[.,]?\d{3,9})?"
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# Years of dates without signs are from 2016: +20 10, 11, 12 and 15 are Egypt's mobile telephones.
_ORDINARY = re.compile(
    "|".join((
        r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
        r"(?<![A-Za-z0-9])(?=[0-9]{0,127}[a-f])[0-9a-f]{16,}(?![A-Za-z0-9])",
        r"(?<![A-Za-z0-9])[0-9a-f]{32}(?![A-Za-z0-9])",
        r"(?:projects|organizations|folders|accounts|subscriptions)/\d{6,20}(?!\d)",
        r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:\d{12}(?!\d)",
        rf"(?<!\d)20(?:1[6-9]|[23]\d){_MONTH}{_DAY}(?:[T_./-]?{_TIME})?(?!\d)",
        rf"(?<!\d)(?:19|20)\d\d([-./_]){_MONTH}\1{_DAY}(?:[T_./-]?{_TIME})?(?!\d)",
        r"(?<!\d)\d\d:[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?!\d)",
        rf"(?<![\d.+]){_OCTET}(?:\.{_OCTET}){{3}}(?![\d.])",
    )),
    re.ASCII,
)  # fmt: skip
_SIGN = r"[-._:/ ]{1,2}"
# ITU-T E.164: a number has at most 15 digits. Seconds since 1970 have 10 that begin with 1, milliseconds
# 13; no telephone number of 10 or 12 to 15 digits begins with 1. Three zeros at the beginning are padding.
_BARE = re.compile(
    r"(?<![A-Za-z0-9])([A-Za-z]*)(?!000)(?:\d{9}|\d{11}|(?!1)\d{10}|(?!1)\d{12,15})(?![A-Za-z0-9])", re.ASCII
)
_HEX_LETTERS: Final = frozenset("abcdefABCDEF")  # before digits: then both are random
_GROUPED = re.compile(
    r"\+[0-9](?:[-._:/ ]{0,2}[0-9]){7,14}(?![0-9])|(?<![A-Za-z0-9])(?:"
    rf"(?:00)?[1-9]\d{{0,2}}(?:{_SIGN}\d)?(?:{_SIGN}\d{{2,5}}){{2,5}}"  # the code of a country or area first
    rf"|[1-9]\d{{0,2}}{_SIGN}\d{{1,5}}{_SIGN}\d{{5,8}}"
    rf"|0[1-9]\d{{0,4}}(?:{_SIGN}\d{{2,8}}){{1,5}}"  # a trunk prefix first
    rf"|[6-9]\d{{4}}{_SIGN}\d{{5}}"  # India
    r")(?![A-Za-z0-9])",
    re.ASCII,
)
_GROUPED_DIGITS = range(9, 16)
_SSN = re.compile(r"(?<![A-Za-z0-9])\d{3}[-._:/ ]\d{2}[-._:/ ]\d{4}(?![A-Za-z0-9])", re.ASCII)
_GROUPS = re.compile(r"[A-Za-z0-9]+")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", re.ASCII)
# Accounts of the countries whose codes are hexadecimal have digits only.
_HEX_IBAN = re.compile(r"(?<![a-z0-9])[a-f]{2}\d{13,30}(?![a-z0-9])", re.ASCII)
_IBAN_CHARS = range(15, 35)  # ISO 13616-1
_MOST_GROUPS: Final = 9  # of an IBAN in fours, the longest
_CARD_DIGITS = range(12, 20)
# ISO/IEC 7812: American Express, Diners Club, Visa, Mastercard, JCB, Discover and UnionPay, Maestro.
_CARD = re.compile(
    r"3[47]\d{13}|3(?:0[0-59]|[689]\d)\d{11}(?:\d\d)?|4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}"
    r"|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|35\d{14,17}|(?:2131|1800)\d{11}"
    r"|6\d{12,18}|5[0678]\d{11,17}",
    re.ASCII,
)


def is_identifier(text: str) -> bool:
    """Return whether an id may be logged: 1 to 128 of `A-Z a-z 0-9 . _ : / + = @ -`, not personal."""
    if not 0 < len(text) <= MAX_CHARS:
        return False
    if _is_plain(text):
        # At every id that is new, a microsecond counts.
        if len(text) < _SHORTEST_KEY or not _may_hold_key(text):
            return True
    elif _is_random(text) and text[:3] not in _FIRST:
        return True
    return _ALLOWED.fullmatch(text) is not None and not is_personal(text)


def is_title(text: str) -> bool:
    """Return whether a name that people gave may be logged: 1 to 128 printable characters, not personal.

    Digits of all scripts count, and nine of them that no letter separates are personal already.
    """
    if is_identifier(text):
        return True
    if not (0 < len(text) <= MAX_CHARS and text.isprintable()):
        return False
    folded = "".join(map(_folded, unicodedata.normalize("NFKC", text)))
    return not (is_personal(folded) or _DIGITS.search(folded) or _ADDRESS.search(folded))


def is_personal(text: str) -> bool:
    """Return whether a text of up to some hundred characters looks like personal data or a credential."""
    if "@" in text and (_EMAIL.search(text) or _CREDENTIALS.search(text)):
        return True
    if (_may_hold_key(text) and _SECRET.search(text)) or ("=" in text and _ASSIGNED.search(text)):
        return True
    if not _DIGITS.search(text):
        return False
    if _TELEGRAM.search(text) or any(map(_is_iban, _HEX_IBAN.findall(text))):
        return True
    rest = _ORDINARY.sub("\0", text)
    return (
        any(not letters or not _HEX_LETTERS.issuperset(letters) for letters in _BARE.findall(rest))
        or _SSN.search(rest) is not None
        or any(_is_telephone(found.group()) for found in _GROUPED.finditer(rest))
        or any(map(_holds_account, rest.split("\0")))
    )


def _may_hold_key(text: str) -> bool:
    end = len(text) - _SHORTEST_KEY + len("sk-")  # of the last beginning that has room for a key
    return text[:3] in _FIRST or not _FIRST.isdisjoint(_nexts(text, 0, end))


def _folded(char: str) -> str:
    """Return the ASCII digit of any script's digit; other characters as they are."""
    digit = unicodedata.decimal(char, None)
    return char if digit is None else str(digit)


def _is_telephone(written: str) -> bool:
    return written[0] == "+" or sum(map(str.isdecimal, written)) in _GROUPED_DIGITS


def _holds_account(text: str) -> bool:
    """Return whether neighbouring groups of letters and digits, joined, are a card's number or an IBAN."""
    groups = _GROUPS.findall(text)
    for first, run in enumerate(groups):
        is_account = _is_card if run.isdecimal() else _is_iban
        if is_account(run):
            return True
        for group in groups[first + 1 : first + _MOST_GROUPS]:
            run += group  # noqa: PLW2901 - the run grows
            if is_account(run):
                return True
    return False


def _is_card(run: str) -> bool:
    """Return whether an issuer's prefix, the length and the check digit hold (ISO/IEC 7812-1 annex B)."""
    if len(run) not in _CARD_DIGITS or not _CARD.fullmatch(run):
        return False
    doubled = (int(digit) * 2 for digit in run[-2::-2])
    return (sum(map(int, run[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0  # noqa: PLR2004 - the sum of the digits of a two-digit product


def _is_iban(run: str) -> bool:
    """Return whether the check digits hold (ISO 7064, MOD 97-10)."""
    if len(run) not in _IBAN_CHARS or not _IBAN.fullmatch(run := run.upper()):
        return False
    return int("".join(str(int(char, 36)) for char in run[4:] + run[:4])) % 97 == 1
