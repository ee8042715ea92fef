"""The shared encoder: its runtime, and the way from a trained adapter to a graph."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import models
from monitor.errors import ConfigError
from monitor.models import encoder
from monitor.models.encoder import Encoder

TEXTS = (
    "You are a worthless idiot.",
    "Your table for four is booked at 7 pm.",
    "",
    "\u0421\u043f\u0430\u0441\u0438\u0431\u043e! \U0001f600",
    "word " * 400,
)


@pytest.fixture(scope="module")
def toxic() -> Encoder:
    """The toxicity task."""
    return Encoder.load("toxicity")


def test_one_row_per_text_in_order(toxic: Encoder) -> None:
    """Logits are finite, in order, and independent of the company."""
    got = toxic.logits(TEXTS)
    assert got.shape == (len(TEXTS), 1)
    assert np.isfinite(got).all()
    assert got[0, 0] > got[1, 0]
    assert np.array_equal(toxic.logits(TEXTS[::-1])[::-1], got)
    assert toxic.logits([]).shape == (0, 1)


def test_pairs_are_read_together(toxic: Encoder) -> None:
    """The second text of a pair is part of the input; both lists have one length."""
    alone, paired = toxic.logits(["Hello."]), toxic.logits(["Hello."], ["You are an idiot."])
    assert alone[0, 0] != paired[0, 0]
    with pytest.raises(ValueError, match="shorter"):
        toxic.logits(["Hello.", "You"], ["there."])


def test_text_beyond_the_limit_is_not_read(toxic: Encoder) -> None:
    """256 tokens are read, and no more: callers cut long texts."""
    calm = "calm " * 300
    assert np.array_equal(toxic.logits([calm]), toxic.logits([f"{calm} you idiot"]))


@given(st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=32), max_size=80))
def test_english_has_no_unknown_piece(text: str) -> None:
    """The pruned vocabulary still spells every printable ASCII text."""
    tokenizer = encoder.tokenizer()
    assert "[UNK]" not in tokenizer.encode(text).tokens


def test_altered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base that is not the pinned one is a configuration error."""
    for name in (encoder.BASE, encoder.TOKENIZER, encoder.graph("toxicity")):
        shutil.copy(models.WEIGHTS / name, tmp_path / name)
    with (tmp_path / encoder.BASE).open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(ConfigError, match="SHA-256"):
        Encoder.load("toxicity")


def test_adapter_learns_and_its_graph_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps separate two kinds of text, and the exported graph ranks them as torch does."""
    pytest.importorskip("torch", reason="training needs the `train` extra")
    from monitor.training import adapters, encoder_graph

    texts = [f"I want to book {n} tickets for the train." for n in range(2, 26)]
    texts += [f"The cat number {n} sleeps on a warm roof." for n in range(2, 26)]
    labels = np.array([0] * 24 + [1] * 24)
    adapter = adapters.finetune(texts, labels, epochs=4, rank=4, batch_tokens=256, rate=3e-3, quiet=True)
    assert adapter.bias.shape == (2,)
    assert np.array_equal(adapters.predict(adapter, texts).argmax(1), labels)
    exact = adapters.predict(adapter, texts, exact=True)
    shutil.copy(models.WEIGHTS / encoder.BASE, tmp_path)
    monkeypatch.setattr(encoder_graph, "WEIGHTS", tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / encoder_graph.export(adapter, "trial")))
    graph = Encoder(session, encoder.tokenizer(), "1").logits(texts)
    assert np.array_equal(graph.argmax(1), labels)
    assert np.abs(graph - exact).mean() < 0.1 * exact.std()
