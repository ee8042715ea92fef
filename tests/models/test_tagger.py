"""The bundled name tagger."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.models import tagger
from monitor.models.tagger import KINDS, Tagger


@pytest.fixture(scope="module")
def names() -> Tagger:
    """Return the bundled tagger, loaded once: it keeps nothing but a memory of words."""
    return Tagger.load()


def found(names: Tagger, text: str) -> dict[str, str]:
    """Return the tagged values of a text by value."""
    return {text[span.start : span.end]: span.kind for span in names.spans([text])[0]}


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Please call Maria Schneider about the refund.", "Maria Schneider", "PERSON"),
        ("please call maria schneider about the refund.", "maria schneider", "PERSON"),
        ("I grew up in Budapest and like it here.", "Budapest", "LOCATION"),
        ("Send it to 12 Rowan Street, Leeds, please.", "12 Rowan Street, Leeds", "ADDRESS"),
        ("Hello, this is Dr. Okafor.", "Dr.", "TITLE"),
        ("He was born on 12/31/1975.", "12/31/1975", "DATE_TIME"),
        ("You can reach me on 0431 19 97 94.", "0431 19 97 94", "PHONE_NUMBER"),
    ],
)
def test_kind_of_value(names: Tagger, text: str, value: str, kind: str) -> None:
    """A value in an everyday sentence is tagged whole, with its kind."""
    assert found(names, text).get(value) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\n ",
        "how do i reset my password?",
        "The server returned status 404.",
        "Is there a fee for an ATM?",
    ],
)
def test_nothing_personal(names: Tagger, text: str) -> None:
    """A text without personal data has no spans."""
    assert names.spans([text]) == [[]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_spans_of_any_text(names: Tagger, texts: list[str]) -> None:
    """Whatever the text, spans lie inside it, in order, apart, not empty, of a known kind and probable."""
    answers = names.spans(texts)
    assert len(answers) == len(texts)
    for text, spans in zip(texts, answers, strict=True):
        at = 0
        for span in spans:
            assert at <= span.start < span.end <= len(text)
            assert span.kind in KINDS
            assert names.threshold <= span.score <= 1
            at = span.end


def test_batch_does_not_matter(names: Tagger) -> None:
    """A text has the same spans alone and between other texts."""
    texts = ["I am Anna Kowalska", "from", "Warsaw. My boss is Piotr Nowak", "", "Call 030 123456"]
    assert [[s[:3] for s in spans] for spans in names.spans(texts)] == [
        [s[:3] for s in names.spans([text])[0]] for text in texts
    ]


def test_long_text_is_not_cut(names: Tagger) -> None:
    """Names are tagged from the beginning to the end of a text of many blocks, across their borders."""
    sentence = "Please call Maria Schneider about the refund. "
    text = sentence * 400
    spans = names.spans([text])[0]
    assert [text[s.start : s.end] for s in spans if s.kind == "PERSON"] == ["Maria Schneider"] * 400


def test_memory_is_bounded(names: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many word forms are remembered they are forgotten, and the answers stay the same."""
    text = "Please call Maria Schneider about the refund."
    before = names.spans([text])
    monkeypatch.setattr(tagger, "_REMEMBERED", 3)
    names.spans(["one two three four five"])
    assert names.spans([text]) == before


def test_line_cases() -> None:
    """A line is without capitals, all capitals, title case or mixed; each line is judged alone."""
    lines = ["so it is", "SO IT IS", "How It Is Done", "So it is"]
    tokens = tagger.TOKEN.findall("\n".join(lines))
    cases = np.asarray([tagger.letter_case(token) for token in tokens])
    breaks = np.asarray([token == "\n" for token in tokens])
    styles = tagger.line_cases(cases, breaks)[~breaks]
    assert styles.tolist() == [0] * 3 + [1] * 3 + [2] * 4 + [3] * 3


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not pinned are a ConfigError that names the file."""
    monkeypatch.setattr(tagger, "WEIGHTS", "tagger-altered.npz")
    with pytest.raises(ConfigError, match=r"tagger-altered\.npz"):
        Tagger.load()
