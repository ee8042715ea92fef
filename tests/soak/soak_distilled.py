"""Soak case: the bundled embedding is what its training makes of MiniLM."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from monitor.models.embedding import Embedding, normalised

TEXTS: Final = ["How do I get my money back?", "The X200 lasts 14 hours. " * 40]


def distilled(_: float, folder: Path) -> Mapping[str, object]:
    """Distilled anew, the float model gives the bundled model's vectors, whole texts included."""
    from monitor.training.embedding import distilled as distil

    model = distil(folder)
    exact = normalised(np.asarray(model.encode(TEXTS, max_length=None), dtype=np.float32))
    least = float((exact * Embedding.load().encode(TEXTS)).sum(axis=1).min())
    assert least > 0.999
    return {"least_cosine": round(least, 5)}
