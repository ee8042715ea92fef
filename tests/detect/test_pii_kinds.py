"""What Presidio leaves out: addresses, ages, titles, identifiers of many countries, keys, disguised spellings."""

# ruff: noqa: E501 - a case reads best on one line

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detect.pii import checks, disguise, identifiers, names, phones, presidio_checks
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.scanner import Scanner
from monitor.detect.pii.secrets import Secrets
from monitor.detect.pii.spans import EntitySpan

SCANNER = Scanner(0.4, 5.0)

FOUND = (
    ("ADDRESS", "I live at 221B Baker Street, thanks", "221B Baker Street"),
    ("ADDRESS", "at 1600 Pennsylvania Avenue NW, Washington, DC 20500 now", "1600 Pennsylvania Avenue NW, Washington, DC 20500"),
    ("ADDRESS", "send it to 350 5th Avenue Apt. 12 please", "350 5th Avenue Apt. 12"),
    ("ADDRESS", "to 12 oak street, springfield", "12 oak street"),
    ("ADDRESS", "write to P.O. Box 123 there", "P.O. Box 123"),
    ("ADDRESS", "at PSC 3294, Box 9168\nAPO AA 61487", "PSC 3294, Box 9168\nAPO AA 61487"),
    ("ADDRESS", "in 12 Rue de la Paix, Paris", "12 Rue de la Paix"),
    ("ADDRESS", "in Via Roma 5, Milano", "Via Roma 5"),
    ("ADDRESS", "in Hauptstr. 5, 10115 Berlin", "Hauptstr. 5, 10115 Berlin"),
    ("ADDRESS", "in Kungsgatan 12 B, Stockholm", "Kungsgatan 12 B"),
    ("ADDRESS", "my address is 4241 Steinfelden 73 now", "4241 Steinfelden 73"),
    ("ZIP_CODE", "my zip code is 90010-170", "90010-170"),
    ("ZIP_CODE", "Springfield, IL 62701", "62701"),
    ("UK_POSTCODE", "London NW1 6XE", "NW1 6XE"),
    ("CA_POSTAL_CODE", "Ottawa K1A 0B1", "K1A 0B1"),
    ("AGE", "I'm 34 and well", "34"),
    ("AGE", "a woman aged 45", "45"),
    ("AGE", "a 22 year old man", "22"),
    ("AGE", "i am 26 y/o.", "26"),
    ("TITLE", "Hello, this is Mr. Bodnar", "Mr."),
    ("TITLE", "ask dr. who", "dr."),
    ("PHONE_NUMBER", "call me on 450 0840 please", "450 0840"),
    ("PHONE_NUMBER", "61 51 81 office", "61 51 81"),
    ("PHONE_NUMBER", "ring +33 1 42 68 53 00", "+33 1 42 68 53 00"),
    ("PHONE_NUMBER", "dial five five five one two three four", "five five five one two three four"),
    ("CREDIT_CARD", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 is it", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ("CREDIT_CARD", "it is 4111.1111.1111.1111 ok", "4111.1111.1111.1111"),
    ("CREDIT_CARD", "my card 676222165679", "676222165679"),
    ("CREDIT_CARD", "\uff14111 1111 1111 111\uff11 ok", "\uff14111 1111 1111 111\uff11"),
    ("CREDIT_CARD", "4111\u200b1111\u200b1111\u200b1111 ok", "4111\u200b1111\u200b1111\u200b1111"),
    ("US_SSN", "ssn 536\u201190\u20114399", "536\u201190\u20114399"),
    ("EMAIL_ADDRESS", "write john at example dot com please", "john at example dot com"),
    ("EMAIL_ADDRESS", "write john [at] example [dot] com", "john [at] example [dot] com"),
    ("EMAIL_ADDRESS", "write john(at)example.com", "john(at)example.com"),
    ("UK_NINO", "national insurance AB 12 34 56 C", "AB 12 34 56 C"),
    ("DE_TAX_ID", "Steuer-ID 86095742719", "86095742719"),
    ("FR_NIR", "secu 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
    ("ES_NIF", "DNI 12345678Z", "12345678Z"),
    ("IT_FISCAL_CODE", "cf RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("NL_BSN", "BSN 111222333", "111222333"),
    ("PL_PESEL", "PESEL 44051401359", "44051401359"),
    ("FI_PERSONAL_IDENTITY_CODE", "131052-308T", "131052-308T"),
    ("CH_AHV", "756.9217.0769.85", "756.9217.0769.85"),
    ("BR_CPF", "529.982.247-25", "529.982.247-25"),
    ("IN_AADHAAR", "aadhaar 2341 2341 2346", "2341 2341 2346"),
    ("CN_RESIDENT_ID", "11010519491231002X", "11010519491231002X"),
    ("SG_NRIC_FIN", "S1234567D", "S1234567D"),
    ("AU_TFN", "TFN 123 456 782", "123 456 782"),
    ("US_DRIVER_LICENSE", "driver license 2270-66-1551", "2270-66-1551"),
    ("PASSPORT", "passport AB1234567", "AB1234567"),
    ("API_KEY", "token glpat-abcdefghij0123456789", "glpat-abcdefghij0123456789"),
    ("API_KEY", "secret q7Rt9Zx2Lm4Vb8Nc1Kd5", "q7Rt9Zx2Lm4Vb8Nc1Kd5"),
    ("CONNECTION_STRING", "mongodb://:s3cret@h:27017/db", "mongodb://:s3cret@h:27017"),
)  # fmt: skip
QUIET = (
    "I'm 5 minutes away, turn left after 300 meters.",
    "It is 5 minutes down the road, and 3 Main dishes cost $12.50.",
    "look at this dot com thing",
    "Gate 12 closes at 10:30; flight 4471 has 180 seats.",
    "Order 4111111111111112 and invoice 20240113 were shipped in 2 boxes.",
    "What is 47 times 83, and 80980 + 1243?",
    "Meet me at the square at noon, the doctor said.",
    "Use the internationalization-of-configuration-2024-settings key.",
)


@pytest.mark.parametrize(("kind", "text", "value"), FOUND)
def test_each_kind_is_found_where_it_stands(kind: str, text: str, value: str) -> None:
    """The finding has the offsets of the original text, however the value is spelled."""
    assert (kind, value) in {(s.kind, text[s.start : s.end]) for s in SCANNER.find(text).spans}


@pytest.mark.parametrize("text", QUIET)
def test_plain_talk_is_quiet(text: str) -> None:
    """Times, prices, sums, orders and directions are no personal data."""
    assert SCANNER.find(text).spans == ()


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (checks.card, "4111111111111111"),
        (checks.verhoeff, "234123412346"),
        (checks.iso7064, "86095742719"),
        (checks.pesel, "44051401359"),
        (checks.cpf, "52998224725"),
        (checks.thai, "1101700230708"),
        (presidio_checks.iban, "DE89370400440532013000"),
        (checks.npi, "1234567893"),
        (checks.aba, "021000021"),
        (checks.bsn, "111222333"),
        (checks.ean13, "7569217076985"),
        (checks.tckn, "10000000146"),
    ],
)
def test_a_changed_digit_fails_the_check(check: identifiers.Check, value: str) -> None:
    """A number that passes its published check fails with any other last digit."""
    assert check(value)
    assert not any(check(value[:-1] + d) for d in "0123456789" if d != value[-1])


@given(st.text(alphabet="4 1-\uff14\u0664\u200b\u00adx.\u2011a", max_size=40))
def test_plain_writing_leads_back_to_the_original(text: str) -> None:
    """Every character written plainly knows where it stood, in order, and digits keep their value."""
    plain = disguise.plain(text)
    if plain is not None:
        assert len(plain.text) == len(plain.places)
        assert plain.places == sorted(set(plain.places))
        for character, place in zip(plain.text, plain.places, strict=True):
            assert character == text[place] or not text[place].isascii()


@given(
    st.lists(
        st.sampled_from(["a", "7", "x@y", "e.g.", "a.bc", "::1", " ", "\n", "  ", "-", "12"]), max_size=30
    )
)
def test_a_digest_is_made_of_the_text(pieces: list[str]) -> None:
    """Every character of the digest that is no line break stands at its place in the text, digits all of them."""
    text = "".join(pieces)
    view = NumericView(text)
    for at, character in enumerate(view.digest):
        assert character == "\n" or text[view.place(at)] == character
    assert sum(c.isdigit() for c in view.digest) == sum(c.isdigit() for c in text)


def test_names_that_overlap_a_pattern_give_way() -> None:
    """A tagged name inside or across an e-mail address is dropped; an address around a postcode is kept."""
    patterns = [EntitySpan(10, 30, "EMAIL_ADDRESS", 1.0), EntitySpan(50, 55, "ZIP_CODE", 0.7)]
    named = [
        EntitySpan(12, 16, "PERSON", 0.9),
        EntitySpan(28, 34, "PERSON", 0.9),
        EntitySpan(40, 55, "ADDRESS", 0.9),
    ]
    assert names.merged(patterns, named) == [patterns[0], named[2], patterns[1]]


def test_a_number_is_one_identifier() -> None:
    """A number that a pattern knows is not reported by its form too, nor is the same place twice."""
    card, postcode = EntitySpan(10, 29, "CREDIT_CARD", 1.0), EntitySpan(50, 55, "ZIP_CODE", 0.7)
    named = [
        EntitySpan(10, 29, "ID_NUMBER", 0.9),
        EntitySpan(8, 29, "PHONE_NUMBER", 0.9),
        EntitySpan(50, 55, "LOCATION", 0.9),
    ]
    assert names.merged([card, postcode], named) == [card, postcode]
    assert names.merged([], named[:1]) == named[:1]


def test_a_short_number_beside_a_driver_is_no_licence() -> None:
    """Years, prices and watts near "driver" or "driving" are no licence numbers; longer numbers are."""
    assert SCANNER.find("The drill driver of 1998 draws 1618 watts.").spans == ()
    assert [s.kind for s in SCANNER.find("His driver license is 90341287 there.").spans] == [
        "US_DRIVER_LICENSE"
    ]


def test_short_numbers_are_sifted_without_loss() -> None:
    """What the sieve for short digits drops, the phone matcher would not have accepted either."""
    import phonenumbers

    for digits, region in itertools.product(range(1000, 99999, 997), ("DE", "US", "FR")):
        matches = list(phonenumbers.PhoneNumberMatcher(f"a {digits} b", region, leniency=1))
        assert not matches or phones._holds_number(str(digits), region, 4)


def test_patterns_for_secrets_are_linear() -> None:
    """No pattern for secrets takes more than a second on 40,000 characters made to hurt it."""
    hostile = [
        *(
            "password" * 5000,
            "eyJ" + "a" * 40_000,
            "-----BEGIN " * 4000,
            "a://" + "a:" * 20_000,
            "sk-" * 13_000,
        ),
        *("server=a;" + "a=b;" * 10_000, "api_key=" * 5000, "-----BEGIN PRIVATE KEY-----" + "\nA" * 20_000),
        *("token " + "a1" * 20_000, "key " + "1/" * 20_000),
    ]
    scan = Secrets(1.0)
    for text in hostile:
        list(scan.find(NumericView(text)))


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 12_000,
        "A1 " * 8000,
        "Via " * 6000,
        "12 Aa " * 4000,
        "1-" * 12_000,
        "a at b dot " * 2000,
        "mr. " * 6000,
    ],
)
def test_our_patterns_are_linear(text: str) -> None:
    """Text made to hurt takes no more than ten times the processor time of a tenth of it, and some."""
    import time

    def seconds(part: str) -> float:
        started = time.thread_time()
        SCANNER.find(part)
        return time.thread_time() - started

    SCANNER.find(text[:100])
    small = min(seconds(text[: len(text) // 10]) for _ in range(3))
    assert seconds(text) < 40 * small + 0.5


def test_the_patterns_load_neither_spacy_nor_torch_nor_presidio() -> None:
    """Building the detector and judging a text imports none of the heavy libraries."""
    code = (
        "import sys; from monitor.detect import pii; from monitor.trace import Trace;"
        "pii.build().assess([Trace(id='x', time=0.0, response='Ann Lee, a@b.com, 408-224-6236')]);"
        "print([m for m in ('spacy', 'torch', 'presidio_analyzer', 'thinc') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "[]"
