"""The shared text encoder: MiniLM with int8 weights and pruned vocabulary, one small adapter per task.

`encoder-base.safetensors` holds the frozen transformer once, as an ONNX external-data file that every task's
graph refers to. A task's graph, `<task>-encoder.onnx`, adds low-rank adapters (Hu et al. 2021, "LoRA") and a
head. `cards/encoder.md` says how they are made and how near the graphs are to the model trained.
"""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor import models

BASE, TOKENIZER = "encoder-base.safetensors", "encoder-tokenizer.json"
MAX_TOKENS = 256

Logits: TypeAlias = npt.NDArray[np.float32]


def graph(task: str) -> str:
    """Return the file name of a task's graph."""
    return f"{task}-encoder.onnx"


class Encoder:
    """Runs the graph of one task on one thread. `version` identifies base, tokenizer and adapter."""

    def __init__(self, session: Any, tokenizer: Any, version: str) -> None:
        self.version = version
        self._session = session
        self._tokenizer = tokenizer
        self._outputs = int(session.get_outputs()[0].shape[1])

    @classmethod
    def load(cls, task: str) -> Self:
        """Load a task's graph. Raises ConfigError when a file is missing or altered."""
        import onnxruntime

        models.verified(BASE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(models.verified(graph(task))), options, providers=["CPUExecutionProvider"]
        )
        return cls(session, tokenizer(), models.version(1, BASE, TOKENIZER, graph(task)))

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Logits:
        """Return the raw outputs of the head, shape (len(texts), outputs).

        Of a text, or of a text and its pair together, at most 256 tokens are read (of a pair, the longer
        side gives way first): callers cut long texts into windows. Rows run one by one, because the graph
        rounds activations by their range in a run: so a row's answer does not depend on the others, and at
        30 tokens a batch would not be quicker.
        """
        encodings = self._tokenizer.encode_batch(
            list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        )
        logits = np.zeros((len(encodings), self._outputs), dtype=np.float32)
        for row, encoding in enumerate(encodings):
            feed = {"ids": np.array([encoding.ids]), "types": np.array([encoding.type_ids])}
            logits[row] = self._session.run(None, feed)[0][0]
        return logits


def tokenizer() -> Any:
    """Return the encoder's tokenizer, which cuts at 256 tokens. Raises ConfigError as `Encoder.load`."""
    from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no stubs

    loaded = Tokenizer.from_file(str(models.verified(TOKENIZER)))
    loaded.no_padding()
    loaded.enable_truncation(MAX_TOKENS)
    return loaded
