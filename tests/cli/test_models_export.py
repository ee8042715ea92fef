"""`riskmon models`: exported Detoxify files score like Detoxify; bundled weights are listed and verified."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor import models
from monitor.cli import riskmon
from monitor.detect import detoxify, detoxify_export
from monitor.errors import EX_CONFIG, ConfigError
from monitor.models.bundled import bundled

LABELS = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]

needs_exporter = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("detoxify", "torch", "onnx", "onnxscript"))
    and os.environ.get("CI") != "true",
    reason="the export extra is not installed",
)


class Checkpoint(NamedTuple):
    """A tiny random model of a real architecture, saved as Detoxify's trainer does."""

    type: str
    checkpoint: str
    config: str


def tokenizer_of(kind: str, corpus: Sequence[str], folder: Path) -> int:
    """Save a trained tokenizer of the architecture into the folder and return its size."""
    import transformers
    from tokenizers import (  # type: ignore[import-untyped]  # ships no stubs
        ByteLevelBPETokenizer,
        SentencePieceUnigramTokenizer,
    )

    if kind == "original":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*" ".join(corpus).lower().split()})]
        made = transformers.BertTokenizer(
            vocab={word: n for n, word in enumerate(words)}, model_max_length=48
        )
    elif kind == "unbiased":
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(
            corpus,
            vocab_size=600,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            show_progress=False,
        )
        trained.save_model(str(folder))
        vocabulary = json.loads((folder / "vocab.json").read_text())
        merges = (folder / "merges.txt").read_text().splitlines()[1:]
        made = transformers.RobertaTokenizer(
            vocab=vocabulary, merges=[tuple(line.split()) for line in merges], model_max_length=48
        )
    else:
        pieces = SentencePieceUnigramTokenizer()
        pieces.train_from_iterator(
            corpus,
            vocab_size=600,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            unk_token="<unk>",
            show_progress=False,
        )
        vocabulary = json.loads(pieces.to_str())["model"]["vocab"]
        made = transformers.XLMRobertaTokenizer(
            vocab=[(piece, score) for piece, score in vocabulary], model_max_length=48
        )
    made.save_pretrained(folder)
    return len(made)


@pytest.fixture(scope="module", params=["original", "unbiased", "multilingual"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    """Checkpoints of BERT, RoBERTa and XLM-R whose scores spread over (0, 1)."""
    import torch
    import transformers

    # It would take every core, and wait for its threads busily: tests beside these would be late.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "hf").mkdir()
    name = detoxify_export.TYPES[request.param]
    model_class = getattr(transformers, name)
    size = tokenizer_of(request.param, detoxify_export.corpus(), folder / "hf")
    roberta = {} if request.param == "original" else {"type_vocab_size": 1, "pad_token_id": 1}
    config = model_class.config_class(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=len(LABELS),
        **roberta,
    )
    config.save_pretrained(folder / "hf")
    torch.manual_seed(3)
    model = model_class(config)
    with torch.no_grad():
        for name_of, parameter in model.named_parameters():
            parameter.mul_(40.0 if name_of.startswith("classifier") else 2.0)
    arch = {
        "model_type": request.param,
        "model_name": name,
        "tokenizer_name": name.replace("ForSequenceClassification", "Tokenizer"),
        "num_classes": len(LABELS),
    }
    about = {"arch": {"type": "x", "args": arch}, "dataset": {"args": {"classes": LABELS}}}
    torch.save({"config": about, "state_dict": model.state_dict()}, folder / "tiny.ckpt")
    yield Checkpoint(request.param, str(folder / "tiny.ckpt"), str(folder / "hf"))
    torch.set_num_threads(threads)


def exported(tiny: Checkpoint, out: Path, *options: str) -> dict[str, Any]:
    """Run the command and return what it printed."""
    done = CliRunner().invoke(
        riskmon,
        [
            *("models", "export", "detoxify", "--checkpoint", tiny.checkpoint, "--config", tiny.config),
            *("--type", tiny.type, "--out", str(out), "--json", *options),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="module")
def whole(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The checkpoint exported as float, and what the command printed."""
    out = tmp_path_factory.mktemp("whole") / "tiny.onnx"
    return out, exported(tiny, out)


@needs_exporter
@pytest.mark.slow
def test_the_exported_file_scores_like_detoxify(tiny: Checkpoint, whole: tuple[Path, dict[str, Any]]) -> None:
    """Texts that are not in the corpus, of any batch size, get what Detoxify's own predict gives."""
    out, report = whole
    assert report["float_delta"] <= 0.001
    assert report["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert json.loads(out.with_suffix(".json").read_text()) == report
    model = detoxify.DetoxifyModel(checkpoint=str(out), sha256=report["sha256"])
    own = detoxify.TorchRuntime(Path(tiny.checkpoint).read_bytes(), tiny.config, tiny.type).detoxify
    texts = ["The parcel will arrive on Friday.", "you lazy fool", "Ты очень добрый", "a", "the idiot " * 9]
    for batch in (texts[:1], texts):
        for text, scores in zip(batch, model.score(batch), strict=True):
            assert scores == pytest.approx(own.predict(text), abs=1e-4)
    spread = [score for scores in model.score(detoxify_export.corpus()) for score in scores.values()]
    assert max(spread) - min(spread) > 0.2


@needs_exporter
@pytest.mark.slow
def test_int8_is_smaller_and_decides_alike(
    tiny: Checkpoint, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """An int8 file is smaller, its difference and re-tuned thresholds are reported, its scores close."""
    out, float_report = whole
    report = exported(tiny, tmp_path / "small.onnx", "--int8")
    assert report["precision"] == "int8"
    assert report["bytes"] < float_report["bytes"]
    assert report["agreement"] >= 0.95
    assert set(report["thresholds"]) == set(report["labels"])
    small = detoxify.DetoxifyModel(checkpoint=str(tmp_path / "small.onnx"), sha256=report["sha256"])
    large = detoxify.DetoxifyModel(checkpoint=str(out), sha256=float_report["sha256"])
    texts = detoxify_export.corpus()
    differences = [
        abs(mine[label] - theirs[label])
        for mine, theirs in zip(small.score(texts), large.score(texts), strict=True)
        for label in report["labels"]
    ]
    assert max(differences) == pytest.approx(report["int8_delta"], abs=0.01)


@needs_exporter
@pytest.mark.slow
def test_a_failed_parity_check_leaves_no_file(tiny: Checkpoint, tmp_path: Path) -> None:
    """When the graph's scores differ by more than allowed, nothing is written, beside or under the name."""
    with pytest.raises(detoxify_export.ParityError, match="differ by up to"):
        detoxify_export.export(
            tiny.checkpoint,
            config=tiny.config,
            model_type=tiny.type,
            out=tmp_path / "tiny.onnx",
            int8=True,
            max_delta=-1.0,
        )
    assert list(tmp_path.iterdir()) == []


@needs_exporter
def test_what_cannot_be_exported_is_named(tiny: Checkpoint, tmp_path: Path) -> None:
    """Another type, a missing file and a bad name are configuration errors, and write nothing."""
    other = "multilingual" if tiny.type == "original" else "original"
    good: dict[str, Any] = {
        "checkpoint": tiny.checkpoint,
        "config": tiny.config,
        "model_type": tiny.type,
        "int8": False,
    }
    for change, named in (
        ({"model_type": other}, "--type"),
        ({"checkpoint": str(tmp_path / "none.ckpt")}, "--checkpoint"),
        ({"config": str(tmp_path)}, "config"),
        ({"out": tmp_path / "tiny.bin"}, "--out"),
        ({"out": tmp_path / "no" / "tiny.onnx"}, "--out"),
    ):
        with pytest.raises(ConfigError, match=named):
            detoxify_export.export(**{"out": tmp_path / "tiny.onnx", **good, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_was_not_exported_here_is_refused(tmp_path: Path) -> None:
    """An ONNX file without our description is a configuration error, not a guess at its labels."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n"])
    same = helper.make_tensor_value_info("logits", TensorProto.INT64, ["n"])
    body = helper.make_graph([helper.make_node("Identity", ["input_ids"], ["logits"])], "x", [value], [same])
    content = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    ).SerializeToString()
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match="riskmon models export"):
        detoxify.DetoxifyModel(
            checkpoint=str(tmp_path / "x.onnx"), sha256=hashlib.sha256(content).hexdigest()
        )


unit = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1))


@given(unit)
def test_equal_scores_need_no_other_threshold(scores: Any) -> None:
    """Where int8 changes nothing, the threshold stays."""
    assert detoxify_export.retuned(scores, scores) == 0.5


@given(unit, st.data())
def test_the_re_tuned_threshold_errs_least(scores: Any, data: st.DataObject) -> None:
    """No other threshold gives decisions nearer to the float model's."""
    wanted = data.draw(arrays(np.float64, scores.shape, elements=st.floats(0, 1)))
    found = detoxify_export.retuned(scores, wanted)

    def wrong(threshold: float) -> int:
        return int(np.sum((scores >= threshold) != (wanted >= 0.5)))

    assert all(wrong(found) <= wrong(other) for other in (0.5, *scores[scores > scores.min()]))


def test_a_shifted_model_gets_its_threshold_shifted() -> None:
    """A quantised model that scores everything lower gets a lower threshold, between its two groups."""
    wanted = np.array([0.1, 0.2, 0.8, 0.9])
    assert 0.05 < detoxify_export.retuned(wanted / 4, wanted) <= 0.2


def test_bundled_weights_are_listed_and_verified() -> None:
    """The list names each file with size, pin and what made it; verify says that all are as pinned."""
    done = CliRunner().invoke(riskmon, ["models", "list", "--json"], catch_exceptions=False)
    listed = {one["file"]: one for one in json.loads(done.stdout)["weights"]}
    assert set(models.manifest()) <= set(listed)
    one = listed["embedding.npy"]
    assert one["bytes"] == (models.WEIGHTS / "embedding.npy").stat().st_size
    assert (one["state"], one["card"]) == ("ok", "embedding")
    assert one["trained_by"].startswith("python -m monitor.training.")


def test_altered_missing_and_stray_weights_fail_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with another digest, one that is gone and one that is not pinned are told apart; exit 1."""
    digest = hashlib.sha256(b"good").hexdigest()
    pins = {name: {"sha256": digest, "trained_by": "x"} for name in ("good", "bad", "gone")}
    (tmp_path / "manifest.json").write_text(json.dumps(pins))
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    monkeypatch.setattr(models, "MANIFEST", tmp_path / "manifest.json")
    (tmp_path / "good").write_bytes(b"good")
    assert {one.file: one.state for one in bundled()}["good"] == "ok"
    (tmp_path / "bad").write_bytes(b"other")
    (tmp_path / "stray").write_bytes(b"?")
    states = {one.file: one.state for one in bundled()}
    assert states == {"good": "ok", "bad": "altered", "gone": "missing", "stray": "unpinned"}
    done = CliRunner().invoke(riskmon, ["models", "verify"])
    assert done.exit_code == 1
    assert "reinstall" in done.output


def test_a_missing_checkpoint_exits_as_a_configuration_error(tmp_path: Path) -> None:
    """The command says what is missing, and writes nothing."""
    words = ["models", "export", "detoxify", "--checkpoint", "none.ckpt", "--config", str(tmp_path)]
    done = CliRunner().invoke(riskmon, [*words, "--out", str(tmp_path / "x.onnx")])
    assert isinstance(done.exception, ConfigError)
    assert EX_CONFIG == 78
    assert list(tmp_path.iterdir()) == []
