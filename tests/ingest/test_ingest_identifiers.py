"""Identifiers pass unless they could not be logged."""

import re
import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ingest.identifiers import CACHED, KeptNames, Names, clean_identifier, clean_title
from monitor.privacy.personal import is_identifier, is_personal, is_title

HASHED = re.compile(r"h:[0-9a-f]{16}")


def keyed(text: str) -> str:
    """A stand-in for the keyed pseudonym."""
    return f"key/{text}"


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "gpt-4o-2024-08-06",
        "claude-sonnet-4-5@20250929",
        "gemini-1.5@001",
        "meta-llama/Llama-3.1-8B-Instruct",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude",
        "chatcmpl-9",
        "chatcmpl-ABk2Zq0sVxPlO9sJ3yZ7m1nQw5dTr",
        "support-bot",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "123e4567-e89b-12d3-a456-426614174000",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "sha256:e3b0c44298fc1c149afbf4c8996fb924",
        "2024-08-06T12:00:00Z",
        "4111-1111-1111-1112",  # the check digit is wrong
        "DE89370400440532013001",  # the check digits are wrong
        "x" * 128,
        "msg_01XFDUDYJgAACzvnptvVoYEL",
        "resp_68a5f2c91b6c8193a4d2e1f0b7c8d9e00123456789abcdef",
        "resp_1234567890123456789012345678901234567890abcdef12",
        "thread_abc123def456ghi789",
        "asst_9fT2kLmN0pQr",
        "run-20241130T083000Z",
        "20241130083000",
        "20241130T083000.123456Z",
        "2024-11-30T08:30:00.123456+00:00",
        "1732955400",
        "1732955400123",
        "1732955400123456",
        "1732955400123456789",
        "1320405060708090123",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "claude-opus-4-1-20250805",
        "gpt-4.1-2025-04-14",
        "ft:gpt-3.5-turbo:org:name:7p4lURel",
        "projects/123456789/locations/us-central1/publishers/google/models/gemini-2.0-flash-001",
        "support-bot-7d9f8b6c5d-x2k4q",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "session-123e4567-e89b-12d3-a456-426614174000-1",
        "4bf92f3577b34da6a3ce929d0e0e4736:00f067aa0ba902b7",
        "00000000000000000000000000000001:0000000000000001",
        "part-000000123456",
        "192.168.100.200:8080",
        "sk-learn",
        "task-1732955400",
        "key-value-store",
        "secret_santa",
    ],
)
def test_ordinary_identifiers_pass(text: str) -> None:
    """Names of models and apps and the usual forms of ids stay readable."""
    assert clean_identifier(text, keyed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 129,
        "two words",
        "naïve",
        "new\nline",
        "{}",
        "jane.doe@example.com",
        "user:jane@mail.example.co.uk",
        "078-05-1120",
        "order/078-05-1120",
        "4111111111111111",
        "4111-1111-1111-1111",
        "card:4111.1111.1111.1111/x",
        "12-4111-1111-1111-1111-34",
        "378282246310005",
        "DE89370400440532013000",
        "de89-3704-0044-0532-0130-00",
        "iban=GB29NWBK60161331926819",
        "NL91ABNA0417164300",
        "MT84MALT011000012345MTLCAST001S",
        "078051120",
        "ssn:078051120",
        "user078051120",
        "+1-212-555-0142",
        "212-555-0142",
        "2125550142",
        "conv-12125550142",
        "4915123456789",
        "whatsapp:+4915123456789",
        "+49-151-2345-6789",
        "020.7946.0018",
        "0151-23456789",
        "06.12.34.56.78",
        "612-34-56-78",
        "98765-43210",
        "491512345678@c.us",
        "201011220459",
        "https://anna:s3cret-word@example",
        "password=hunter2hunter2",
    ],
)
def test_what_may_not_be_logged_is_replaced(text: str) -> None:
    """Free text and personal data become a short keyed hash."""
    cleaned = clean_identifier(text, keyed)
    assert HASHED.fullmatch(cleaned)
    assert cleaned == clean_identifier(text, keyed)
    assert cleaned != clean_identifier(text, lambda value: f"another key/{value}")


def luhn_digit(digits: str) -> str:
    """The digit that makes `digits` plus it pass the Luhn check."""
    total = sum(
        int(d) if position % 2 else sum(divmod(int(d) * 2, 10)) for position, d in enumerate(reversed(digits))
    )
    return str(-total % 10)


KEYS = (
    "sk-proj-{}", "sk-ant-api03-{}", "sk-or-v1-{}", "sk_live_{}", "rk_test_{}", "AKIA{:.16}", "ASIA{:.16}",
    "ghp_{}", "gho_{}", "github_pat_{}", "glpat-{}", "xoxb-{}", "xapp-1-{}", "AIza{}", "ya29.{}", "whsec_{}",
    "SG.{}.{}", "hf_{}", "gsk_{}", "r8_{}", "pplx-{}", "npm_{}", "pypi-AgE{}", "lsv2_pt_{}", "glsa_{}",
    "hvs.{}", "eyJ{}.eyJ{}.{}", "1234567890:AA{}", "lin_api_{}", "figd_{}", "PMAK-{}", "xai-{}", "nvapi-{}",
)  # fmt: skip
"""Keys as 30 issuers make them; in place of the braces is chance."""


@pytest.mark.parametrize("form", KEYS)
@given(
    st.text("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=36, max_size=36),
    st.sampled_from(["", "bot-", "user:", "a/b_"]),
)
def test_no_key_passes(form: str, random: str, before: str) -> None:
    """A key is found by its issuer's prefix, alone and behind another group."""
    key = before + form.format(*[random] * form.count("{"))
    assert HASHED.fullmatch(clean_identifier(key, keyed))
    assert HASHED.fullmatch(clean_title(f"key {key}", keyed))


REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "SE", "PL", "IN", "BR", "CN", "JP", "AU", "ZA", "MX")


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", ["FIXED_LINE", "MOBILE"])
def test_no_telephone_number_passes(region: str, kind: str) -> None:
    """Numbers of many countries are found as dialled from inside and outside, whatever separates groups."""
    number = phonenumbers.example_number_for_type(region, getattr(phonenumbers.PhoneNumberType, kind))
    assert number is not None
    forms = phonenumbers.PhoneNumberFormat
    written = [phonenumbers.format_number(number, form) for form in (forms.E164, forms.INTERNATIONAL)]
    written += [written[0][1:], written[1][1:], "00" + written[0][1:]]
    written += [phonenumbers.format_number(number, forms.NATIONAL)]
    for text in written:
        if sum(map(str.isdecimal, text)) < 9:  # fewer are dates, ports, counters
            continue
        for separator in "-._":
            plain = re.sub("[^0-9+]+", separator, text).strip(separator)
            for form in ("{}", "user-{}", "wa:{}", "{}-1"):
                value = form.format(plain)
                assert HASHED.fullmatch(clean_identifier(value, keyed)), value
                assert HASHED.fullmatch(clean_title(value.replace(separator, " "), keyed)), value


@given(st.text("0123456789-.:/_ +@=aek", max_size=128))
def test_the_work_is_bounded(text: str) -> None:
    """However digits, letters and signs mix, an identifier takes less than ten milliseconds."""
    began = time.process_time()
    clean_identifier(text, keyed)
    assert time.process_time() - began < 0.01


@given(
    st.from_regex(r"[a-z]{0,9}[_-]?[0-9a-f]{16,50}", fullmatch=True)
    | st.from_regex(r"(?:key|dapi|hf|sk|be|de|user)?[_-]?[a-f]{0,2}[0-9]{13,32}[a-f]?", fullmatch=True)
    | st.from_regex(r"(?:[a-z]{1,4}-)?[0-9]{8}(-[0-9]{4}){3}-[0-9]{11}[0-9a-f]", fullmatch=True)
)
def test_ids_by_chance_are_known_at_a_glance(text: str) -> None:
    """The short way for hexadecimal ids, alone or behind a word, says what the whole net says."""
    assert is_identifier(text) is not is_personal(text)


def test_an_account_that_looks_hexadecimal_is_hashed() -> None:
    """A Belgian IBAN in small letters has sixteen characters, as a span's id has."""
    for text in ("be68539007547034", "user-be68539007547034"):
        assert HASHED.fullmatch(clean_identifier(text, keyed))


@pytest.mark.parametrize("piece", ["-", "a/", "1-", "://a:"])
def test_a_longer_text_is_not_looked_at(piece: str) -> None:
    """What is too long for an identifier is no identifier, and megabytes of it cost nothing."""
    text = piece * 2**20
    began = time.process_time()
    assert not is_identifier(text)
    assert not is_title(text)
    assert time.process_time() - began < 0.01


@given(
    st.from_regex(
        r"(?:4[0-9]{12}|4[0-9]{15}|5[1-5][0-9]{14}|3[47][0-9]{13}|35[0-9]{14}|6[0-9]{15})", fullmatch=True
    ).map(lambda digits: digits[:-1]),
    st.sampled_from(["", "-", ".", ":", "/", "_", "+"]),
    st.sampled_from(["", "order-", "a/", "7."]),
    st.sampled_from(["", "-x", "/7"]),
)
def test_no_card_number_passes(digits: str, separator: str, before: str, after: str) -> None:
    """Card numbers of any length are found in groups of four, with any separator, among other groups."""
    card = digits + luhn_digit(digits)
    text = before + separator.join(re.findall(".{1,4}", card)) + after
    assert HASHED.fullmatch(clean_identifier(text, keyed))


@given(st.text(max_size=200))
def test_the_result_can_always_be_logged(text: str) -> None:
    """Whatever comes in, what goes out has the allowed characters and length."""
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", clean_identifier(text, keyed))


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("prod", "production"),
        ("Production", "production"),
        (" LIVE ", "production"),
        ("stage", "staging"),
        ("dev", "sandbox"),
        ("internal", "internal"),
        ("eu-west", "eu-west"),
        ("jane@example.com", clean_identifier("jane@example.com", keyed)),
    ],
)
def test_environments_have_one_name(text: str, environment: str) -> None:
    """The usual names in any case become one of the four; another name stays, if it may be logged."""
    assert Names(keyed).environment(text) == environment


def test_names_of_the_configuration_are_kept() -> None:
    """A name that the configuration mentions stays as it is, and so does one that a reload brings."""
    kept = KeptNames()
    kept.replace(["bot-2125550142", " Hotline 0800 123 4567 ", "two\nlines"])
    names = Names(keyed, kept)
    for clean in (names.name, names.id, names.title, names.environment):
        assert clean("bot-2125550142") == "bot-2125550142"
        assert HASHED.fullmatch(clean("bot-2125550143"))
        assert HASHED.fullmatch(clean("two\nlines"))
    assert names.title("Hotline 0800 123 4567") == "Hotline 0800 123 4567"
    kept.replace(["bot-2125550143"])
    assert names.name("bot-2125550143") == "bot-2125550143"
    assert HASHED.fullmatch(names.name("bot-2125550142"))


@given(st.lists(st.text(max_size=200)))
def test_names_are_the_same_when_remembered(texts: list[str]) -> None:
    """A name is cleaned alike the first time and every other, and a user always gets the same pseudonym."""
    names = Names(keyed)
    for text in texts * 2:
        assert names.name(text) == names.id(text) == clean_identifier(text, keyed)
        assert names.user(text) == keyed(text)


def test_what_is_remembered_is_bounded() -> None:
    """However many users there are, and however long their ids, only so many short ones are kept."""
    calls: list[str] = []

    def pseudonym(text: str) -> str:
        calls.append(text)
        return "p"

    names = Names(pseudonym)
    names.user("x" * 1000)
    names.user("x" * 1000)
    for number in range(CACHED + 1):
        names.user(str(number))
    names.user(str(CACHED))
    names.user("0")
    assert len(calls) == 2 + CACHED + 1 + 1


@pytest.mark.parametrize(
    "text", ["Math Tutor", "Übersetzer (DE → EN)", "旅行の案内", "look up order #7", "a & b"]
)
def test_titles_may_hold_any_printable_text(text: str) -> None:
    """Names that people gave to agents and tools stay readable, whatever script they are in."""
    assert clean_title(text, keyed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "x" * 129,
        "two\nlines",
        "bell\x07",
        "zero\u200bwidth",
        "of jane.doe@example.com",
        "of jane\uff20example.com",
        "für jane@exämple.com",
        "SSN 078 05 1120",
        "card 4111 1111 1111 1111",
        "card \uff14" + "\uff11" * 15,
        "IBAN DE89 3704 0044 0532 0130 00",
        "call +49 30 901820 11",
    ],
)
def test_titles_with_personal_data_are_hashed(text: str) -> None:
    """Personal data in a name is hashed, whatever separates its groups, and so is what cannot be printed."""
    assert HASHED.fullmatch(clean_title(text, keyed))


@given(st.text(max_size=140))
def test_a_title_is_printable_and_short(text: str) -> None:
    """Any text gives a printable name of at most 128 characters."""
    made = clean_title(text, keyed)
    assert made
    assert made.isprintable()
    assert len(made) <= 128
