"""Tier 1 of toxicity: Detoxify's own class, with a checkpoint and a tokenizer that lie on this machine.

Detoxify would fetch its checkpoint and unpickle it, and would score only as much of a text as its model can
see. Here the file's SHA-256 is checked before anything reads it; it is read by torch's `weights_only` loader,
which runs no code; Detoxify is given a copy made of what came out; and a longer text is cut into overlapping
windows, of which the worst counts.
"""

import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.errors import ConfigError

OVERLAP = 100  # characters shared by neighbouring windows
BATCH = 16
_OPTION = "detectors.toxicity.options"
_BLANK = re.compile(r"\s")


def check(*, checkpoint: str, config: str, sha256: str) -> None:
    """Check that the model can be used, without importing torch.

    Raises ConfigError naming the option and the remedy: a file is missing or is not the one `sha256` names,
    or the `detoxify` extra is not installed.
    """
    for library in ("detoxify", "torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"{_OPTION}.checkpoint: {library} is missing; install the extra `detoxify`")
    if not (Path(config) / "config.json").is_file():
        raise ConfigError(
            f"{_OPTION}.config: {config!r} holds no config.json; give the folder of the model's config and"
            " tokenizer"
        )
    _verified(checkpoint, sha256)


class DetoxifyModel:
    """Scores texts of any length with every label of the checkpoint.

    `checkpoint` is a file as Detoxify writes it (keys `config` and `state_dict`), `config` the folder with
    its Hugging Face `config.json` and tokenizer files, `sha256` the checkpoint's digest. Runs on one CPU
    thread: the detector pool has a process per core. Raises ConfigError as `check` does, or when the file
    holds more than tensors and plain values.
    """

    def __init__(self, *, checkpoint: str, config: str, sha256: str, model_type: str = "original") -> None:
        check(checkpoint=checkpoint, config=config, sha256=sha256)
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        import torch
        import transformers
        from detoxify import Detoxify

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)
        copy = _plain_copy(_verified(checkpoint, sha256), config)
        try:
            self._model = Detoxify(model_type=model_type, checkpoint=copy, huggingface_config_path=config)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"{_OPTION}.checkpoint: Detoxify cannot load it with {config!r} ({type(error).__name__});"
                " give the config and tokenizer of the model it was trained from"
            ) from error
        longest = min(
            self._model.tokenizer.model_max_length, self._model.model.config.max_position_embeddings - 2
        )
        self._limit = int(longest)
        self.labels: tuple[str, ...] = tuple(self._model.class_names)

    def score(self, texts: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """Return per text, in order, the score of every label in its worst window."""
        parts = [(n, text[a:b]) for n, text in enumerate(texts) for a, b in windows(text, self._fits)]
        order = sorted(range(len(parts)), key=lambda i: len(parts[i][1]))  # equal lengths share a batch
        worst: list[dict[str, float]] = [dict.fromkeys(self.labels, 0.0) for _ in texts]
        for at in range(0, len(order), BATCH):
            batch = [parts[i] for i in order[at : at + BATCH]]
            predicted = self._model.predict([part for _, part in batch])
            for label, found in predicted.items():
                scores = found if isinstance(found, list) else [found]  # Detoxify squeezes a batch of one
                for (owner, _), score in zip(batch, scores, strict=True):
                    worst[owner][label] = max(worst[owner][label], float(score))
        return worst

    def _fits(self, text: str) -> bool:
        return len(self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]) <= self._limit


def windows(text: str, fits: Any) -> list[tuple[int, int]]:
    """Cut a text into overlapping (start, end) offsets, each of which `fits`; together they cover it."""
    found: list[tuple[int, int]] = []
    open_parts = [(0, len(text))]
    while open_parts:
        start, end = open_parts.pop()
        if end - start <= 1 or fits(text[start:end]):
            found.append((start, end))
            continue
        middle = (start + end) // 2
        blank = _BLANK.search(text, middle, min(end, middle + OVERLAP))
        cut = blank.end() if blank and blank.end() < end else middle
        overlap = min(OVERLAP, (end - start) // 4)
        open_parts += [(max(start, cut - overlap), end), (start, cut)]
    return found


def _verified(checkpoint: str, sha256: str) -> bytes:
    path = Path(checkpoint)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{_OPTION}.checkpoint: {checkpoint!r} cannot be read ({type(error).__name__}); give a local file"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256.lower():
        raise ConfigError(
            f"{_OPTION}.sha256: {checkpoint!r} has {digest[:12]}…, not {sha256[:12]}…; pin the digest of the"
            " file you trust"
        )
    return content


def _plain_copy(content: bytes, config: str) -> io.BytesIO:
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
            f"{_OPTION}.checkpoint: not a Detoxify checkpoint of tensors and plain values"
            f" ({type(error).__name__}); save its `config` and `state_dict` again with torch.save"
        ) from error
    if not str(arch.get("model_name", "")).endswith("ForSequenceClassification"):
        raise ConfigError(f"{_OPTION}.checkpoint: not a sequence classifier; give a Detoxify checkpoint")
    copy = io.BytesIO()
    torch.save(plain, copy)
    copy.seek(0)
    return copy
