"""Tier 1 of toxicity: Detoxify, from a checkpoint or an exported ONNX file that lies on this machine.

Detoxify would fetch its checkpoint and unpickle it, and would score only as much of a text as its model can
see. Here the file's SHA-256 is checked before anything reads it. A checkpoint is read by torch's
`weights_only` loader, which runs no code, and Detoxify's own class is given a copy made of what came out. An
ONNX file (`riskmon models export`, see `monitor.detect.detoxify_export`) holds its tokenizer and labels and
needs neither torch nor Detoxify. A longer text is cut into overlapping windows, of which the worst counts.
"""

import importlib.util
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from monitor.errors import ConfigError
from monitor.models.onnx import OnnxSession, OnnxTokenizer, require_inputs, require_runtime, verified

OVERLAP = 100  # characters shared by neighbouring windows
BATCH = 16
SUFFIX: Final = ".onnx"
_OPTION = "detectors.toxicity.options"
_FILE, _PIN = f"{_OPTION}.checkpoint", f"{_OPTION}.sha256"
_BLANK = re.compile(r"\s")


class Exported(msgspec.Struct, frozen=True):
    """The description inside an exported ONNX file, as JSON under the metadata key `riskmon`.

    `shifts` are, per label, the amounts that int8 added to the logit at the float model's 0.5: they are
    subtracted again, so that thresholds in rules keep their meaning. `source` is the checkpoint's SHA-256.
    """

    type: str
    precision: str
    labels: tuple[str, ...]
    shifts: tuple[float, ...]
    max_tokens: int
    source: str


def check(*, checkpoint: str, sha256: str, config: str = "") -> None:
    """Check that the model can be used, without importing torch or onnxruntime.

    Raises ConfigError naming the option and the remedy: a file is missing or is not the one `sha256` names,
    or what runs it is not installed.
    """
    if checkpoint.endswith(SUFFIX):
        require_runtime(f"{_OPTION}.checkpoint")
    else:
        require_torch(config)
    verified(checkpoint, sha256, option=_FILE, pin=_PIN)


def require_torch(config: str, *, option: str = _OPTION) -> None:
    """Raise ConfigError unless torch and Detoxify are installed and `config` is a model's folder."""
    for library in ("detoxify", "torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"{option}.checkpoint: {library} is missing; install the extra `detoxify`")
    if not (Path(config) / "config.json").is_file():
        raise ConfigError(
            f"{option}.config: {config!r} holds no config.json; give the folder of the model's config and"
            " tokenizer"
        )


class _Runtime(Protocol):
    """Scores texts that fit. `limit` counts tokens, special ones included."""

    labels: tuple[str, ...]
    limit: int

    def length(self, text: str) -> int:
        """Return how many tokens the text has."""
        ...

    def predict(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return the score of each label, in order, per text."""
        ...


class DetoxifyModel:
    """Scores texts of any length with every label of the checkpoint.

    `checkpoint` is a file as Detoxify writes it (keys `config` and `state_dict`) together with `config`, the
    folder of its Hugging Face `config.json` and tokenizer files; or a `.onnx` file made by `riskmon models
    export`, which needs no `config`. `sha256` is the file's digest. Runs on one CPU thread: the detector pool
    has a process per core. Raises ConfigError as `check` does, or when the file holds something else.
    """

    def __init__(
        self, *, checkpoint: str, sha256: str, config: str = "", model_type: str = "original"
    ) -> None:
        check(checkpoint=checkpoint, config=config, sha256=sha256)
        content = verified(checkpoint, sha256, option=_FILE, pin=_PIN)
        exported = checkpoint.endswith(SUFFIX)
        self._runtime: _Runtime = (
            OnnxRuntime(content) if exported else TorchRuntime(content, config, model_type)
        )
        self.labels = self._runtime.labels

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """Return per text, in order, the score of every label in its worst window."""
        parts = [(n, text[a:b]) for n, text in enumerate(texts) for a, b in windows(text, self._fits)]
        order = sorted(range(len(parts)), key=lambda i: len(parts[i][1]))  # equal lengths share a batch
        worst: list[dict[str, float]] = [dict.fromkeys(self.labels, 0.0) for _ in texts]
        for at in range(0, len(order), BATCH):
            batch = [parts[i] for i in order[at : at + BATCH]]
            predicted = self._runtime.predict([part for _, part in batch])
            for (owner, _), scores in zip(batch, predicted, strict=True):
                for label, score in zip(self.labels, scores, strict=True):
                    worst[owner][label] = max(worst[owner][label], score)
        return worst

    def _fits(self, text: str) -> bool:
        return self._runtime.length(text) <= self._runtime.limit


class TorchRuntime:
    """Runs Detoxify's own class. `detoxify` gives access to its model and tokenizer."""

    def __init__(self, content: bytes, config: str, model_type: str, *, option: str = _OPTION) -> None:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        import torch
        import transformers
        from detoxify import Detoxify

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)
        copy = _plain_copy(content, config, option)
        try:
            self.detoxify = Detoxify(model_type=model_type, checkpoint=copy, huggingface_config_path=config)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"{option}.checkpoint: Detoxify cannot load it with {config!r} ({type(error).__name__});"
                " give the config and tokenizer of the model it was trained from"
            ) from error
        positions = self.detoxify.model.config.max_position_embeddings - 2  # RoBERTa counts from 2
        self.limit = int(min(self.detoxify.tokenizer.model_max_length, positions))
        self.labels: tuple[str, ...] = tuple(self.detoxify.class_names)

    def length(self, text: str) -> int:
        """Return how many tokens the text has."""
        return len(self.detoxify.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def predict(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return the score of each label, in order, per text."""
        scores = self.detoxify.predict(list(texts))
        # Detoxify squeezes a batch of one.
        columns = [scores[label] if len(texts) > 1 else [scores[label]] for label in self.labels]
        return list(zip(*columns, strict=True))


class OnnxRuntime:
    """An exported file. Raises ConfigError when `riskmon models export` did not make it."""

    def __init__(self, content: bytes, *, option: str = _OPTION) -> None:
        self._session = OnnxSession(content, option=f"{option}.checkpoint")
        try:
            self.exported = msgspec.json.decode(self._session.metadata["riskmon"], type=Exported)
            tokenizer = self._session.metadata["tokenizer"]
        except (KeyError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"{option}.checkpoint: not made by `riskmon models export` ({type(error).__name__}); export"
                " the checkpoint with this version of riskmon"
            ) from error
        require_inputs(self._session, option=f"{option}.checkpoint")
        self._tokens = OnnxTokenizer(tokenizer, option=f"{option}.checkpoint")
        self.labels = self.exported.labels
        self.limit = self.exported.max_tokens
        self._shifts = np.asarray(self.exported.shifts)

    def length(self, text: str) -> int:
        """Return how many tokens the text has."""
        return len(self._tokens.tokenizer.encode(text).ids)

    def predict(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return the score of each label, in order, per text. A text beyond the limit is cut off there."""
        encodings = self._tokens.tokenizer.encode_batch(list(texts))
        for encoding in encodings:
            encoding.truncate(self.limit)
        logits = self._session.run(self._tokens.feeds(encodings, self._session.inputs)) - self._shifts
        scores: list[list[float]] = (1.0 / (1.0 + np.exp(-np.clip(logits, -80, 80)))).tolist()
        return scores


def windows(text: str, fits: Any) -> list[tuple[int, int]]:
    """Cut a text into overlapping (start, end) offsets, each of which `fits`; together they cover it."""
    ranges: list[tuple[int, int]] = []
    open_parts = [(0, len(text))]
    while open_parts:
        start, end = open_parts.pop()
        if end - start <= 1 or fits(text[start:end]):
            ranges.append((start, end))
            continue
        middle = (start + end) // 2
        blank = _BLANK.search(text, middle, min(end, middle + OVERLAP))
        cut = blank.end() if blank and blank.end() < end else middle
        overlap = min(OVERLAP, (end - start) // 4)
        open_parts += [(max(start, cut - overlap), end), (start, cut)]
    return ranges


def _plain_copy(content: bytes, config: str, option: str) -> io.BytesIO:
    """Return the checkpoint with only tensors and plain values, its base model named by a local folder.

    Detoxify looks the base model up by name on the hub before it uses `config`; naming the folder keeps the
    search on this machine.
    """
    import pickle

    import torch

    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        arch = dict(loaded["config"]["arch"]["args"], model_type=config)
        plain = {
            "config": {
                "arch": {"args": arch},
                "dataset": {"args": {"classes": loaded["config"]["dataset"]["args"]["classes"]}},
            },
            "state_dict": loaded["state_dict"],
        }
    except (pickle.UnpicklingError, EOFError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{option}.checkpoint: not a Detoxify checkpoint of tensors and plain values"
            f" ({type(error).__name__}); save its `config` and `state_dict` again with torch.save"
        ) from error
    if not str(arch.get("model_name", "")).endswith("ForSequenceClassification"):
        raise ConfigError(f"{option}.checkpoint: not a sequence classifier; give a Detoxify checkpoint")
    copy = io.BytesIO()
    torch.save(plain, copy)
    copy.seek(0)
    return copy
