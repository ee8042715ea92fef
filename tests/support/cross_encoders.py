"""Cross-encoders on ONNX graphs of known weights."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "yes", "no", "maybe", "filler", "claim")


def tokenizer_json() -> str:
    """Return a tokenizer of whole words that puts pairs together as BERT does."""
    # It ships no stubs.
    from tokenizers import (  # type: ignore[import-untyped]
        Tokenizer,
        models,
        pre_tokenizers,
        processors,
    )

    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    text: str = made.to_str()
    return text


def write_graph(
    path: Path, table: Sequence[Sequence[float]], *, per_token: bool = False, external: str = ""
) -> str:
    """Write a graph whose logits are the rows of `table` by token id, summed over the row unless per token.

    Returns its SHA-256.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.asarray(table, dtype=np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["masked"]),
    ]
    axes = [numpy_helper.from_array(np.asarray([2], dtype=np.int64), "last")]
    shape: list[str | int] = ["batch", "length", len(table[0])]
    if per_token:
        nodes.append(helper.make_node("Identity", ["masked"], ["logits"]))
    else:
        axes.append(numpy_helper.from_array(np.asarray([1], dtype=np.int64), "across"))
        nodes.append(helper.make_node("ReduceSum", ["masked", "across"], ["logits"], keepdims=0))
        del shape[1]
    whole = helper.make_graph(
        nodes,
        "known",
        [
            helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"])
            for n in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [weights, *axes],
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def logits_table(**logits: Sequence[float]) -> list[list[float]]:
    """Return a table with these logits by word, and zeros for all other words."""
    width = len(next(iter(logits.values())))
    return [list(logits.get(word, [0.0] * width)) for word in WORDS]
