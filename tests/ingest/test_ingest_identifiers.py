"""Identifiers pass unless they could not be logged."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ingest.identifiers import CACHED, Names, clean_identifier, clean_title

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


@given(
    st.from_regex(r"[3-6][0-9]{11,17}", fullmatch=True),
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
