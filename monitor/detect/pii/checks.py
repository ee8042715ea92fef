"""Check digits and formats of identifiers: each function returns whether a written value can be genuine.

Values come as matched, with their separators. Each check names the published rule that it follows; those that
repeat Presidio's own are in `presidio_checks`.
"""

import re
from collections.abc import Callable, Sequence

SEPARATORS = str.maketrans("", "", " -")


def luhn(value: str) -> bool:
    """Return whether the digits pass ISO/IEC 7812-1; separators are blanks and hyphens."""
    digits = [int(c) for c in value.translate(SEPARATORS)]
    doubled = sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return (sum(digits[-1::-2]) + doubled) % 10 == 0


def _digits(value: str) -> list[int]:
    return [int(c) for c in value if c.isdecimal()]


def _weighted(value: Sequence[int], weights: Sequence[int]) -> int:
    return sum(d * w for d, w in zip(value, weights, strict=False))


def card(value: str) -> bool:
    """Return whether a card number has an issuer's prefix, its length and the Luhn digit (ISO/IEC 7812)."""
    digits = "".join(map(str, _digits(value)))
    return any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in _ISSUERS) and luhn(
        digits
    )


_ISSUERS = (
    (re.compile("4"), (13, 16, 19)),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("3[47]"), (15,)),
    (re.compile("30[0-5]|309|36|3[89]"), (14, 16)),
    (re.compile("352[89]|35[3-8]"), (16, 17, 18, 19)),
    (re.compile("2131|1800"), (15,)),
    (re.compile("6011|64[4-9]|65|622"), (16, 17, 18, 19)),
    (re.compile("50|5[6-8]|6[0378]|62"), (12, 13, 14, 15, 16, 17, 18, 19)),
)


def mod97(value: str) -> bool:
    """Return whether the last two of 13 or 9 digits are 97 less the rest modulo 97 (France, Belgium)."""
    digits = "".join(map(str, _digits(value)))
    body, check = int(digits[:-2]), int(digits[-2:])
    return check in {97 - body % 97, 97 - (2 * 10**9 + body) % 97}


def iso7064(value: str) -> bool:
    """Return whether the digits pass ISO 7064 MOD 11,10 (Germany's tax number, Croatia's OIB)."""
    *digits, check = _digits(value)
    product = 10
    for digit in digits:
        product = 2 * ((digit + product) % 10 or 10) % 11
    return (11 - product) % 10 == check


_PERMUTED = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _dihedral(a: int, b: int) -> int:
    """Multiply in the dihedral group of ten elements."""
    five = 5
    if a < five:
        return (a + b) % five if b < five else five + (a + b - five) % five
    return five + (a - five - b) % five if b < five else (a - b) % five


def verhoeff(value: str) -> bool:
    """Return whether the digits pass Verhoeff's check (India's Aadhaar)."""
    state = 0
    for place, digit in enumerate(reversed(_digits(value))):
        for _ in range(place % 8):
            digit = _PERMUTED[digit]  # noqa: PLW2901 - the permutation is applied repeatedly
        state = _dihedral(state, digit)
    return state == 0


def eleven(*weights: int, least: int = 0) -> Callable[[str], bool]:
    """Return a check: the digits times the weights add to a multiple of eleven; `least` digits at least."""

    def check(value: str) -> bool:
        digits = _digits(value)
        return len(digits) >= least and len(set(digits)) > 1 and _weighted(digits, weights) % 11 == 0

    return check


def remainder(modulus: int, letters: str, start: int = 0, stop: int = -1) -> Callable[[str], bool]:
    """Return a check: the last letter is the one at the number modulo `modulus` (Spain, Finland)."""

    def check(value: str) -> bool:
        digits = "".join(map(str, _digits(value[start:stop])))
        return bool(digits) and letters[int(digits) % modulus] == value[-1].upper()

    return check


def nie(value: str) -> bool:
    """Return whether a Spanish foreigner's number has its letter."""
    return dni(str("XYZ".index(value[0].upper())) + value[1:])


dni = remainder(23, "TRWAGMYFPDXBNJZSQVHLCKE")
hetu = remainder(31, "0123456789ABCDEFHJKLMNPRSTUVWXY")


def cpf(value: str) -> bool:
    """Return whether eleven digits have both check digits of a Brazilian CPF."""
    digits = _digits(value)
    return len(set(digits)) > 1 and all(
        _weighted(digits, range(n + 1, 1, -1)) * 10 % 11 % 10 == digits[n] for n in (9, 10)
    )


def cnpj(value: str) -> bool:
    """Return whether fourteen digits have both check digits of a Brazilian CNPJ."""
    digits = _digits(value)
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return len(set(digits)) > 1 and all(
        _weighted(digits[:n], weights[13 - n :]) * 10 % 11 % 10 == digits[n] for n in (12, 13)
    )


def rut(value: str) -> bool:
    """Return whether a Chilean RUT has its check character."""
    body, check = _digits(value[:-1]), value[-1].upper()
    total = sum(d * w for d, w in zip(reversed(body), (2, 3, 4, 5, 6, 7) * 2, strict=False))
    return "0123456789K0"[11 - total % 11] == check


def cuit(value: str) -> bool:
    """Return whether eleven digits have the check digit of an Argentine CUIT."""
    digits = _digits(value)
    return (11 - _weighted(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11 == digits[10]


def pesel(value: str) -> bool:
    """Return whether eleven digits are a Polish PESEL: a date, and its check digit."""
    digits = _digits(value)
    month, day = digits[2] * 10 + digits[3], digits[4] * 10 + digits[5]
    return (
        1 <= month % 20 <= 12  # noqa: PLR2004 - the century is in the month
        and 1 <= day <= 31  # noqa: PLR2004 - days of a month
        and _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    )


def fodselsnummer(value: str) -> bool:
    """Return whether eleven digits have both check digits of a Norwegian number."""
    digits = _digits(value)
    first = _weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return first == 0 and _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def tckn(value: str) -> bool:
    """Return whether eleven digits have both check digits of a Turkish number."""
    d = _digits(value)
    tenth = (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10
    return d[0] > 0 and tenth == d[9] and sum(d[:10]) % 10 == d[10]


def rodne(value: str) -> bool:
    """Return whether ten digits are a Czech or Slovak birth number: a date, and divisible by eleven."""
    digits = "".join(map(str, _digits(value)))
    month = int(digits[2:4]) % 50
    plausible = 1 <= (month - 20 if month > 20 else month) <= 12 and 1 <= int(digits[4:6]) <= 31  # noqa: PLR2004 - a date
    return plausible and (int(digits) % 11 == 0 or int(digits[:9]) % 11 == int(digits[9]) == 0)


def resident_id(value: str) -> bool:
    """Return whether a Chinese identity number has its check character (GB 11643, ISO 7064 MOD 11-2)."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[_weighted([int(c) for c in value[:17]], weights) % 11] == value[-1].upper()


def nric(value: str) -> bool:
    """Return whether a Singaporean NRIC or FIN has its check letter."""
    value = value.upper()
    total = _weighted(_digits(value), (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(value[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "XWUTRQPNJLK"}.get(value[0], "XWUTRQPMLKN")
    if value[0] == "M":
        return letters[10 - total % 11] == value[-1]
    return letters[total % 11] == value[-1]


def thai(value: str) -> bool:
    """Return whether thirteen digits have the check digit of a Thai number."""
    digits = _digits(value)
    return (11 - _weighted(digits[:12], range(13, 1, -1)) % 11) % 10 == digits[12]


def ean13(value: str) -> bool:
    """Return whether thirteen digits have the check digit of an EAN (Switzerland's AHV number)."""
    digits = _digits(value)
    return _weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def aba(value: str) -> bool:
    """Return whether nine digits pass the check of a US bank routing number."""
    return _weighted(_digits(value), (3, 7, 1) * 3) % 10 == 0 and any(_digits(value))


def npi(value: str) -> bool:
    """Return whether ten digits pass the check of a US national provider identifier."""
    return luhn("80840" + value)


def vin(value: str) -> bool:
    """Return whether a vehicle identification number has its check character (ISO 3779, 49 CFR 565)."""
    codes = dict(
        zip(
            "ABCDEFGHJKLMNPRSTUVWXYZ",
            (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
            strict=True,
        )
    )
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    total = sum(
        (int(c) if c.isdigit() else codes[c]) * w for c, w in zip(value.upper(), weights, strict=True)
    )
    return "0123456789X"[total % 11] == value[8].upper()


def codice_fiscale(value: str) -> bool:
    """Return whether sixteen characters have the check letter of an Italian tax code."""
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    numbers = [int(c) if c.isdigit() else ord(c) - 65 for c in value.upper()]
    total = sum(odd[n] if place % 2 == 0 else n for place, n in enumerate(numbers[:15]))
    return total % 26 == numbers[15]


def taiwan(value: str) -> bool:
    """Return whether a Taiwanese identity number has its check digit."""
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0].upper()) + 10
    digits = [first // 10, first % 10, *_digits(value[1:])]
    return _weighted(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def hong_kong(value: str) -> bool:
    """Return whether a Hong Kong identity number has its check character."""
    characters = re.sub("[^0-9A-Z]", "", value.upper()).rjust(9, "$")
    numbers = [36 if c == "$" else int(c, 36) for c in characters]
    return _weighted(numbers, range(9, 0, -1)) % 11 == 0


def tfn(value: str) -> bool:
    """Return whether eight or nine digits pass the check of an Australian tax file number."""
    return _weighted(_digits(value), (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def cnp(value: str) -> bool:
    """Return whether thirteen digits have the check digit of a Romanian CNP."""
    digits = _digits(value)
    return _weighted(digits, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11 % 10 == digits[12]


def bsn(value: str) -> bool:
    """Return whether nine digits pass the Dutch eleven test."""
    digits = _digits(value)
    return any(digits) and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pps(value: str) -> bool:
    """Return whether an Irish PPS number has its check letter."""
    value = value.upper()
    extra = ord(value[8]) - 64 if len(value) > 8 and value[8].isalpha() else 0  # noqa: PLR2004 - the second letter
    return (
        "WABCDEFGHIJKLMNOPQRSTUV"[(_weighted(_digits(value), range(8, 1, -1)) + 9 * extra) % 23] == value[7]
    )


def kr_rrn(value: str) -> bool:
    """Return whether thirteen digits have the check digit of a Korean resident number."""
    digits = _digits(value)
    return (11 - _weighted(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10 == digits[12]


def my_number(value: str) -> bool:
    """Return whether twelve digits have the check digit of a Japanese individual number."""
    digits = _digits(value)
    rest = _weighted(digits, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == digits[11]
