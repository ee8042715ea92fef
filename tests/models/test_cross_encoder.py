"""Cross-encoders on ONNX graphs of known weights: what is scored, how it is windowed, what is refused."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cross_encoders import logits_table, tokenizer_json, write_graph
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.models.cross_encoder import CrossEncoder, cut, windows

YES, NO, MAYBE = 4, 5, 6


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Build a graph from a table and load it."""

    def made(table: Sequence[Sequence[float]], *, per_token: bool = False, **options: Any) -> CrossEncoder:
        (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
        sha256 = write_graph(tmp_path / "model.onnx", table, per_token=per_token)
        return CrossEncoder.load(str(tmp_path / "model.onnx"), sha256=sha256, **options)

    return made


def sigmoid(x: float) -> float:
    """One over one plus e to the minus x."""
    return 1 / (1 + math.exp(-x))


def test_two_way_pairs_get_the_softmax_of_the_second_label(load: Any) -> None:
    """A two-way model's support is the probability of label 1 for context and claim together, in order."""
    model = load(logits_table(yes=[0.0, 2.0], no=[1.0, 0.0]))
    got = model.support([("claim", "yes"), ("claim", "no"), ("yes yes", "no filler")])
    assert model.kind == "binary"
    assert got == pytest.approx([sigmoid(2.0), sigmoid(-1.0), sigmoid(3.0)], abs=1e-6)


def test_one_logit_is_a_sigmoid(load: Any) -> None:
    """A model with one logit is binary as well."""
    assert load(logits_table(yes=[1.5])).support([("claim", "yes"), ("no", "")]) == pytest.approx(
        [sigmoid(1.5), 0.5]
    )


def test_three_way_needs_to_know_which_label_is_entailment(load: Any, tmp_path: Path) -> None:
    """NLI label orders differ, so it is an error not to say; the option or the model's id2label do."""
    table = logits_table(yes=[3.0, 0.0, 0.0], maybe=[0.0, 1.0, 0.0], no=[0.0, 0.0, 2.0])
    with pytest.raises(ConfigError, match="cross_encoder_supported"):
        load(table)
    expected = math.exp(3) / (math.exp(3) + 2)
    assert load(table, supported=0).support([("claim", "yes")]) == pytest.approx([expected])
    labels = {"0": "ENTAILMENT", "1": "neutral", "2": "not_entailment"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}), encoding="utf-8")
    assert load(table, kind="nli3").support([("claim", "yes")]) == pytest.approx([expected])
    (tmp_path / "config.json").write_text("no JSON", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json"):
        load(table)


def test_token_level_takes_the_worst_token_of_the_claim(load: Any) -> None:
    """Hallucinated tokens count in the claim only, and the worst one decides."""
    model = load(logits_table(yes=[2.0, 0.0], no=[0.0, 3.0]), per_token=True)
    assert model.kind == "token"
    got = model.support([("yes yes", "no no"), ("yes no yes", "filler"), ("filler", "")])
    assert got == pytest.approx([sigmoid(2.0), sigmoid(-3.0), 0.5], abs=1e-6)


def test_a_long_context_is_seen_to_its_end(load: Any) -> None:
    """Support that stands anywhere in a context longer than the model reads is found."""
    model = load(logits_table(yes=[0.0, 4.0]), max_tokens=48)
    for at in (0, 37, 150, 299):
        words = ["filler"] * 300
        words[at] = "yes"
        assert model.support([("claim", " ".join(words))]) == pytest.approx([sigmoid(4.0)], abs=1e-6)
    assert model.support([("claim", "filler " * 300)]) == pytest.approx([0.5])


def test_a_long_claim_is_as_supported_as_its_worst_piece(load: Any) -> None:
    """A claim longer than the model reads is cut, and its unsupported end shows."""
    model = load(logits_table(no=[4.0, 0.0]), max_tokens=48)
    calm = "claim " * 200
    assert model.support([(calm, "yes")]) == pytest.approx([0.5])
    assert model.support([(calm + "no", "yes")]) == pytest.approx([sigmoid(-4.0)], abs=1e-6)


def test_a_template_joins_both_texts(load: Any) -> None:
    """Models that read one text get the template, with braces in the texts left alone."""
    model = load(logits_table(yes=[0.0, 2.0], maybe=[1.0, 0.0]), template="maybe {context} maybe {claim}")
    assert model.support([("yes {context}", "{claim} yes")]) == pytest.approx([sigmoid(4.0 - 2.0)], abs=1e-6)


def test_scores_do_not_depend_on_the_batch(load: Any) -> None:
    """Pairs of different lengths score alike alone and together; an empty claim states nothing."""
    model = load(logits_table(yes=[0.0, 0.7], no=[0.3, 0.0]), max_tokens=64)
    pairs = [("claim " * n + "no", "yes filler " * (n * 7 % 50)) for n in range(12)] + [("", "yes")]
    alone = [model.support([pair])[0] for pair in pairs]
    assert model.support(pairs) == pytest.approx(alone, abs=1e-6)
    assert alone[-1] == 1.0
    assert model.support([]) == []


def test_the_file_must_be_the_pinned_one(load: Any, tmp_path: Path) -> None:
    """Another digest, no file, or no tokenizer is a configuration error naming its option."""
    load(logits_table(yes=[1.0]))
    path = str(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="cross_encoder_sha256"):
        CrossEncoder.load(path, sha256="00" * 32)
    with pytest.raises(ConfigError, match=r"none\.onnx.*local file"):
        CrossEncoder.load(str(tmp_path / "none.onnx"), sha256="00" * 32)
    with pytest.raises(ConfigError, match="cross_encoder_tokenizer"):
        CrossEncoder.load(path, sha256="00" * 32, tokenizer=str(tmp_path / "none.json"))


def test_what_is_no_classifier_of_tokens_is_refused(load: Any, tmp_path: Path) -> None:
    """A file that is no graph, a kind that is not the graph's, and too little room are said with a remedy."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    (tmp_path / "noise.onnx").write_bytes(b"not a graph")
    digest = hashlib.sha256(b"not a graph").hexdigest()
    with pytest.raises(ConfigError, match="ONNX graph"):
        CrossEncoder.load(str(tmp_path / "noise.onnx"), sha256=digest)
    for options, named in (
        ({"kind": "token"}, "cross_encoder_kind"),
        ({"kind": "magic"}, "cross_encoder_kind"),
        ({"supported": 2}, "cross_encoder_supported"),
        ({"max_tokens": 20}, "cross_encoder_max_tokens"),
        ({"template": "{claim}"}, "cross_encoder_template"),
    ):
        with pytest.raises(ConfigError, match=named):
            load(logits_table(yes=[0.0, 1.0]), **options)
    with pytest.raises(ConfigError, match="cross_encoder_tokenizer"):
        load(logits_table(yes=[0.0, 1.0])[:3])  # ids beyond the table


def test_weights_in_a_second_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """External weights are not pinned, so they are not read, though they lie in the working directory."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    sha256 = write_graph(tmp_path / "model.onnx", logits_table(yes=[0.0, 1.0]), external="weights.bin")
    assert (tmp_path / "weights.bin").is_file()
    with pytest.raises(ConfigError, match="weights inside"):
        CrossEncoder.load("model.onnx", sha256=sha256)


@given(st.integers(0, 400), st.integers(4, 80), st.data())
def test_windows_cover_all_tokens(count: int, room: int, data: st.DataObject) -> None:
    """Windows are in order, within the room, without a gap, and overlap as asked where they can."""
    overlap = data.draw(st.integers(0, room // 3))
    starts = data.draw(st.lists(st.integers(0, max(0, count - 1)), max_size=40))
    found = windows(count, room, overlap, starts)
    assert found[0][0] == 0
    assert found[-1][1] == count
    assert all(last - first <= room for first, last in found)
    assert all(later[0] <= earlier[1] - overlap for earlier, later in itertools.pairwise(found))
    assert all(earlier[0] < later[0] for earlier, later in itertools.pairwise(found))


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=80), st.integers(4, 30), st.integers(0, 3))
def test_slices_hold_every_word_whole(words: list[str], room: int, overlap: int) -> None:
    """Where tokens are words, no slice cuts one, and together they hold all of them."""
    text = " ".join(words)
    ends = list(itertools.accumulate(len(word) + 1 for word in words))
    offsets = [(end - len(word) - 1, end - 1) for word, end in zip(words, ends, strict=True)]
    slices = cut(text, offsets, room, overlap=overlap)
    assert all(part in text and len(part.split()) <= room for part in slices)
    assert {word for part in slices for word in part.split()} == set(words)
    assert sum(len(part.split()) for part in slices) >= len(words)
