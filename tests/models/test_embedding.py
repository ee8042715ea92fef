"""The bundled static embedding and the pinning of weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import models
from monitor.errors import ConfigError
from monitor.models.embedding import DIMENSIONS, Embedding, normalised, quantise

MODEL = Embedding.load()
WORDS = st.lists(
    st.sampled_from(["refund", "policy", "the", "zyzzyva", "7", "naïve", "!", "\U0001f600"]), max_size=30
)


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS.map(" ".join), max_size=6))
def test_a_vector_does_not_depend_on_its_batch(texts: list[str]) -> None:
    """A text embeds to the same bits alone and in company, to length one, or to zero when it has no token."""
    together = MODEL.encode(texts)
    assert together.shape == (len(texts), DIMENSIONS)
    assert together.dtype == np.float32
    for body, vector in zip(texts, together, strict=True):
        assert np.array_equal(MODEL.encode([body])[0], vector)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) or not vector.any()


def test_the_whole_text_is_embedded() -> None:
    """The end of a text far beyond any model's window still moves its vector."""
    long = "the bank raised interest rates again " * 3000
    plain, changed = MODEL.encode([long, long + "purple elephants dance on the moon " * 300])
    assert float(plain @ changed) < 0.9999
    assert float(plain @ changed) > 0.5


def test_meaning_is_nearer_than_form() -> None:
    """A paraphrase is nearer than an unrelated sentence."""
    a, b, c = MODEL.encode(
        ["How do I get my money back?", "I want a refund of my payment", "The volcano erupted at night"]
    )
    assert float(a @ b) > float(a @ c) + 0.2


def test_words_sum_to_the_text() -> None:
    """The normalised sum of a text's words is its embedding."""
    words = ["refunds", "take", "seven", "zyzzyvas"]
    summed = normalised(MODEL.words(words).sum(axis=0, keepdims=True))
    assert np.allclose(summed, MODEL.encode([" ".join(words)]), atol=1e-5)


def test_rare_words_are_rarer() -> None:
    """Rarity grows from function words to words outside the vocabulary."""
    assert MODEL.rarity("the") < MODEL.rarity("policy") < MODEL.rarity("zyzzyva") == 1.0


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_quantising_loses_at_most_half_a_step(rows: int, seed: int) -> None:
    """An int8 row times its scale is the row it came from, to half a scale."""
    vectors = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    table, scales = quantise(vectors)
    assert np.all(np.abs(table * scales[:, None] - vectors) <= scales[:, None] * 0.501)


def test_every_weights_file_is_pinned() -> None:
    """The manifest lists each file beside it, with the command that made it."""
    files = {path.name for path in models.WEIGHTS.iterdir() if path.name != models.MANIFEST.name}
    assert files == set(models.manifest())
    assert all(pin["trained_by"].startswith("python -m monitor.") for pin in models.manifest().values())


def test_altered_or_missing_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not pinned, not there, or not the pinned one is a configuration error with a remedy."""
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    monkeypatch.setattr(models, "MANIFEST", tmp_path / "manifest.json")
    with pytest.raises(ConfigError, match="manifest"):
        models.verified("a.npy")
    pin = {"sha256": "0" * 64, "trained_by": "python -m monitor.training.a"}
    (tmp_path / "manifest.json").write_text(json.dumps({"a.npy": pin}))
    with pytest.raises(ConfigError, match="not in"):
        models.verified("b.npy")
    with pytest.raises(ConfigError, match="cannot be read"):
        models.verified("a.npy")
    (tmp_path / "a.npy").write_bytes(b"altered")
    with pytest.raises(ConfigError, match="reinstall"):
        models.verified("a.npy")
