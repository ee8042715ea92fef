"""Detoxify through its own class, with a tiny random checkpoint of the real format; nothing is fetched."""

import hashlib
import importlib.util
import itertools
import os
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detect import detoxify, toxicity
from monitor.errors import ConfigError
from monitor.findings import Status
from monitor.trace import Message, Trace

CLASSES = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
CANARY = "zebra-canary-77"

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None and os.environ.get("CI") != "true",
    reason="the detoxify extra is not installed",
)


class Checkpoint(NamedTuple):
    """A tiny model on disk."""

    checkpoint: str
    config: str
    sha256: str


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint as Detoxify's trainer writes it: config, state_dict; with config and tokenizer folder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("detoxify")
    config = folder / "hf"
    config.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "you",
        "are",
        "an",
        "idiot",
        "a",
        "nice",
        "day",
        ".",
    ]
    vocabulary = {word: n for n, word in enumerate(words)}
    BertTokenizer(vocab=vocabulary, model_max_length=24).save_pretrained(config)
    bert = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=26,
        num_labels=len(CLASSES),
    )
    bert.save_pretrained(config)
    torch.manual_seed(5)
    model = BertForSequenceClassification(bert)
    with torch.no_grad():  # one word that matters, so that position can be tested
        model.bert.embeddings.word_embeddings.weight[words.index("idiot")] *= 60
    arch = {
        "model_type": "bert-base-uncased",
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": len(CLASSES),
    }
    file = folder / "toxic.ckpt"
    torch.save(
        {
            "config": {"arch": {"type": "BERT", "args": arch}, "dataset": {"args": {"classes": CLASSES}}},
            "state_dict": model.state_dict(),
            "epoch": 3,
        },
        file,
    )
    return Checkpoint(str(file), str(config), hashlib.sha256(file.read_bytes()).hexdigest())


def own(tiny: Checkpoint) -> Any:
    """Detoxify's own class."""
    content = Path(tiny.checkpoint).read_bytes()
    return detoxify.TorchRuntime(content, tiny.config, "original").detoxify


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@needs_torch
def test_scores_equal_detoxify_itself(tiny: Checkpoint, offline: list[Any]) -> None:
    """Short texts get, label by label, what Detoxify's own predict gives, without a look at the network."""
    model = detoxify.DetoxifyModel(**tiny._asdict())
    texts = ["you are an idiot.", "a nice day", "you"]
    got = model.score(texts)
    assert model.labels == ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")
    for text, scores in zip(texts, got, strict=True):
        assert scores == pytest.approx(own(tiny).predict(text), abs=1e-5)
    assert not offline


@needs_torch
def test_long_text_is_scored_to_its_end(tiny: Checkpoint, offline: list[Any]) -> None:
    """A word far behind the model's window changes the score; Detoxify alone would cut it off."""
    model = detoxify.DetoxifyModel(**tiny._asdict())
    calm = "a nice day . " * 40
    plain, early, late = model.score([calm, "idiot " + calm, calm + "idiot"])
    assert late != plain
    assert late["toxicity"] == pytest.approx(early["toxicity"], abs=0.2)
    assert own(tiny).predict(calm) == pytest.approx(own(tiny).predict(calm + "idiot"), abs=1e-6)
    assert not offline


@needs_torch
def test_digest_is_checked_before_the_file_is_loaded(tiny: Checkpoint, tmp_path: Path) -> None:
    """A file with another digest is refused unread: the code in it does not run."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (os.mkdir, (str(marker),))

    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ConfigError, match="sha256"):
        detoxify.DetoxifyModel(checkpoint=str(bad), config=tiny.config, sha256=tiny.sha256)
    assert not marker.exists()


@needs_torch
def test_code_in_a_pinned_checkpoint_does_not_run(tiny: Checkpoint, tmp_path: Path) -> None:
    """Even with the right digest, a checkpoint that holds more than tensors and plain values is refused."""
    import torch

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (os.mkdir, (str(marker),))

    bad = tmp_path / "bad.ckpt"
    torch.save({"config": Evil(), "state_dict": {}}, bad)
    digest = hashlib.sha256(bad.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match="plain values"):
        detoxify.DetoxifyModel(checkpoint=str(bad), config=tiny.config, sha256=digest)
    assert not marker.exists()


@needs_torch
def test_files_that_do_not_fit_are_named(tiny: Checkpoint, tmp_path: Path) -> None:
    """A missing checkpoint or config is a configuration error that names the option."""
    with pytest.raises(ConfigError, match=re.escape("options.checkpoint")):
        detoxify.check(checkpoint=str(tmp_path / "none.ckpt"), config=tiny.config, sha256=tiny.sha256)
    with pytest.raises(ConfigError, match=re.escape("options.config")):
        detoxify.check(checkpoint=tiny.checkpoint, config=str(tmp_path), sha256=tiny.sha256)


@needs_torch
def test_cascade_sends_the_unsure_and_a_known_share(tiny: Checkpoint, offline: list[Any]) -> None:
    """Detoxify looks where the encoder is unsure, at all of it; else at a share, with that probability."""
    traces = [Trace(id=f"t{n}", time=0.0, response="a nice day") for n in range(400)]
    every = toxicity.build(**tiny._asdict(), profile="full").assess(traces[:5])
    unsure = toxicity.build(**tiny._asdict(), low=0.0, high=1.0, audit=0.25).assess(traces)
    some = toxicity.build(**tiny._asdict(), low=1.0, high=1.0, audit=0.25).assess(traces)
    assert {(a.tier, a.probability) for a in every} == {(2, 1.0)}
    assert {(a.tier, a.probability) for a in unsure} == {(0, 1.0), (2, 0.25)}
    assert {(a.tier, a.probability) for a in some} == {(0, 1.0), (2, 0.25)}
    assert 60 < sum(a.tier == 2 for a in some) < 140
    assert not offline


@needs_torch
def test_offline_profile_leaves_detoxify_alone(tiny: Checkpoint, offline: list[Any]) -> None:
    """Offline, only bundled models judge, whatever is configured."""
    detector = toxicity.build(**tiny._asdict(), profile="offline")
    (got,) = detector.assess([Trace(id="x", time=0.0, response="you are an idiot")])
    assert got.tier == 1
    assert len(detector.cascades) == 1
    assert not offline


@needs_torch
def test_detoxify_decides_where_it_looked(tiny: Checkpoint, offline: list[Any]) -> None:
    """The score is tier 2's, prompt and response apart, and the version names the checkpoint."""
    detector = toxicity.build(**tiny._asdict(), profile="full")
    trace = Trace(
        id="x", time=0.0, messages=(Message(content=f"you are an idiot {CANARY}"),), response="a nice day"
    )
    (got,) = detector.assess([trace])
    assert got.status is Status.SCORED
    assert got.score == max(got.values["prompt"], got.values["response"])
    assert set(got.values) >= {"toxicity", "insult", "prompt", "response", "tier0"}
    assert detector.version.endswith(tiny.sha256[:12])
    assert CANARY not in f"{got!r}{detector.version}"
    status = toxicity.tiers(**tiny._asdict())
    assert [(t.tier, t.present) for t in status] == [(0, True), (1, True), (2, True)]
    assert not offline


@given(st.text(alphabet="ab .", max_size=3000), st.integers(4, 300))
def test_windows_cover_the_text_and_fit(text: str, limit: int) -> None:
    """Every character is in a window, every window fits, neighbours overlap."""
    found = detoxify.windows(text, lambda part: len(part) <= limit)
    assert found[0][0] == 0
    assert found[-1][1] == len(text)
    assert all(end - start <= limit for start, end in found)
    assert all(later[0] <= earlier[1] for earlier, later in itertools.pairwise(found))
