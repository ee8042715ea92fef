"""The text measures that detectors share."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.text import segments, wording
from monitor.text.numbers import quantities, stated_months, stated_numbers
from monitor.text.words import OPPOSITES, stem

TEXTS = st.text(alphabet=st.sampled_from("aA.!?… \n\"')1,2-*éß。[]\u2019") | st.characters(), max_size=200)


def _split(body: str) -> list[str]:
    return [body[span.start : span.end] for span in segments.sentences(body)]


@given(TEXTS)
def test_sentences_cover_the_text_in_order(body: str) -> None:
    """Sentences are disjoint, in order, trimmed, and hold every character that is not white space."""
    position, kept = 0, ""
    for span in segments.sentences(body):
        assert position <= span.start < span.end
        assert not body[position : span.start].strip()
        assert body[span.start : span.end] == body[span.start : span.end].strip()
        kept += body[span.start : span.end]
        position = span.end
    assert not body[position:].strip()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Dr. Smith left. He went home.", ["Dr. Smith left.", "He went home."]),
        ("It costs 1,000.50 EUR. Cheap!", ["It costs 1,000.50 EUR.", "Cheap!"]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ("The answer is no. Ask again.", ["The answer is no.", "Ask again."]),
        ("See No. 5 there. J. Doe said so.", ["See No. 5 there.", "J. Doe said so."]),
        ('He said "Stop." Then he ran', ['He said "Stop."', "Then he ran"]),
        ("", []),
    ],
)
def test_sentence_ends(body: str, expected: list[str]) -> None:
    """Abbreviations, initials, decimals and list markers end no sentence; quotes stay with theirs."""
    assert _split(body) == expected


@given(TEXTS)
def test_offsets_point_at_what_was_found(body: str) -> None:
    """Tokens, quantities and references lie in the text, in order, and tokens slice to their own word."""
    for token in segments.tokens(body):
        assert body[token.start : token.end].lower().replace("\u2019", "'") == token.word
    quantity_spans = [(quantity.start, quantity.end) for quantity in quantities(body)]
    references = [(reference.start, reference.end) for reference in wording.references(body)]
    for found in (quantity_spans, references):
        assert all(0 <= start < end <= len(body) for start, end in found)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("1,000 and 1000.0", ["1000", "1000"]),
        ("$1.2 million, 5k, 3 bn", ["1200000", "5000", "3000000000"]),
        ("twenty-four hours, Sixteen men, three", ["24", "16", "3"]),
        ("1. First\n2) second [3] and [4, 5]", []),
        ("on 2024-01-15", ["2024", "1", "15"]),
        ("version 1.2.3", ["1.2.3"]),
        ("007 and 0.50%", ["7", "0.5"]),
    ],
)
def test_quantities_have_one_canonical_value(body: str, values: list[str]) -> None:
    """However a number is written, its value is the same text; markers are no numbers."""
    assert [quantity.value for quantity in quantities(body)] == values


def test_stated_numbers_know_other_ways_to_write_them() -> None:
    """A month supports its number, an afternoon hour the twelve-hour clock, an ISO date its month's name."""
    words = {token.word for token in segments.tokens("At 17:00 on March 3")}
    assert {"3", "5", "17"} <= stated_numbers("At 17:00 on March 3", words)
    assert stated_months("due 2024-01-15") == {"january"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("policies", "policy"),
        ("shipped", "shipping"),
        ("requires", "require"),
        ("agreed", "agree"),
        ("days", "day"),
    ],
)
def test_stems_join_inflections(one: str, other: str) -> None:
    """Inflections of a word share a stem."""
    assert stem(one) == stem(other)


@given(TEXTS)
def test_words_are_the_words_of_the_tokens(body: str) -> None:
    """The quick way to the words of a text finds the same as its tokens."""
    assert segments.words(body) == [token.word for token in segments.tokens(body)]


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=20))
def test_a_stem_is_never_empty(word: str) -> None:
    """Stemming keeps something of every word that has a letter."""
    if word.strip("'s"):
        assert stem(word)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("I could not find that in the documents.", True),
        ("The documents don't mention a warranty.", True),
        ("Sorry, I can\u2019t help with that.", True),
        ("As an AI I have no opinion.", True),
        ("Refunds take 5 days.", False),
        ("Sale items cannot be returned.", False),
    ],
)
def test_declines(body: str, expected: bool) -> None:  # noqa: FBT001 - a parametrised expectation
    """A refusal or an answer that is not there is recognised; a plain negative statement is not."""
    assert wording.declines(body) is expected


def test_references_are_found_and_normalised() -> None:
    """URLs, DOIs and citations are found without their trailing punctuation."""
    body = "See https://www.Example.com/a/. Smith et al. (2019), doi 10.1000/abc.def; Roe v. Wade,"
    body += " arXiv:2301.12345."
    found = [(reference.kind, reference.target) for reference in wording.references(body)]
    assert found == [
        ("url", "example.com/a"),
        ("citation", "smith et al. (2019)"),
        ("doi", "10.1000/abc.def"),
        ("citation", "roe v. wade"),
        ("citation", "arxiv:2301.12345"),
    ]


@pytest.mark.parametrize(
    "seed",
    [" ", "\n", ".", ". a", "1.", "1,", "a", "no ", "don't  ", '"', "(1) ", "Aa. v. ", "http://a", "twenty-"],
)
def test_measures_take_linear_time(seed: str) -> None:
    """Hostile text takes seconds of processor time at most; quadratic time would exceed the bound by far."""
    body = seed * (200_000 // len(seed))
    begun = time.thread_time()
    assert sum(span.end - span.start for span in segments.sentences(body)) <= len(body)
    assert len(segments.tokens(body)) <= len(body)
    assert len(quantities(body)) <= len(body)
    assert len(list(wording.references(body))) <= len(body)
    assert wording.declines(body) is False
    assert wording.states_cutoff(body) is False
    assert wording.is_courtesy(body) is False
    assert time.thread_time() - begun < 20.0


@pytest.mark.parametrize(
    ("sentence", "polite"),
    [
        ("Happy to help.", True),
        ("Good question.", True),
        ("Just ask if something is unclear.", True),
        ("Anything else?", True),
        ("Your parcel can help in four days.", False),
        ("It is in here today.", False),
        ("Sure, it is free.", False),
        ("No.", False),
    ],
)
def test_a_courtesy_claims_nothing(sentence: str, polite: bool) -> None:  # noqa: FBT001 - a table's column
    """Sentences of nothing but polite words are courtesies; one further word makes them claims."""
    assert wording.is_courtesy(sentence) is polite


def test_packages_and_quotes_are_references() -> None:
    """What an install command names and a long quotation are references; short quotes are not."""
    body = 'Run `pip install fast-json` or "now". He said "this is a sentence that somebody really spoke".'
    found = [(reference.kind, reference.target) for reference in wording.references(body)]
    assert found == [("package", "fast-json"), ("quote", "this is a sentence that somebody really spoke")]


@pytest.mark.parametrize(
    ("body", "stated"),
    [
        ("As of my last update in 2023, it is open.", True),
        ("My knowledge cutoff is April 2024.", True),
        ("I was trained until March 2023.", True),
        ("The cut-off for orders is noon.", False),
        ("My knowledge of French is good.", False),
    ],
)
def test_a_stated_cutoff_is_recognised(body: str, stated: bool) -> None:  # noqa: FBT001 - a table's column
    """A response that says when its knowledge ends is told from one that merely uses the words."""
    assert wording.states_cutoff(body) is stated


def test_opposites_are_mutual() -> None:
    """If one word excludes another, the other excludes it, and none excludes itself."""
    for word, others in OPPOSITES.items():
        assert word not in others
        assert all(word in OPPOSITES[other] for other in others)
