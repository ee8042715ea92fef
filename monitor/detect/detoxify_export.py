"""Turns a Detoxify checkpoint into one ONNX file, and proves that it scores alike.

The float graph must agree with Detoxify's own class on a fixed corpus (`models/parity.txt`, written for this
project) to `MAX_DELTA`, else nothing is written. An int8 graph (dynamic quantisation of the weights, per
channel) moves scores; where all weights in int8 move them by more than that, the second layers of the
feed-forward blocks stay float, which suffer most. Then, per label, the int8 score is sought at which the
decisions on the corpus are most nearly those of the float model at 0.5; the file carries the difference, and
`monitor.detect.detoxify` takes it off, so that thresholds in rules keep their meaning.
"""

import contextlib
import hashlib
import importlib.util
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.detect.detoxify import SUFFIX, Exported, OnnxRuntime, TorchRuntime, require_torch
from monitor.errors import ConfigError

Floats = npt.NDArray[np.float64]

MAX_DELTA: Final = 0.02
DECISION: Final = 0.5
TYPES: Final = {
    "original": "BertForSequenceClassification",
    "unbiased": "RobertaForSequenceClassification",
    "multilingual": "XLMRobertaForSequenceClassification",
}
_OPTION = "riskmon models export"
_OPSET = 18
_BATCH = 16


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of an export, written next to the ONNX file under its name with the suffix `.json`.

    `float_delta` and `int8_delta` are the largest differences of a score from Detoxify's on the corpus, the
    latter after the shift; `thresholds` are, per label, the int8 score that means the float model's 0.5, and
    `agreement` the share of decisions at 0.5 that are the float model's. Without int8 they are None.
    """

    type: str
    precision: str
    source_sha256: str
    sha256: str
    bytes: int
    labels: tuple[str, ...]
    max_tokens: int
    texts: int
    float_delta: float
    int8_delta: float | None = None
    float_layers: int | None = None
    thresholds: dict[str, float] | None = None
    agreement: float | None = None


class ParityError(ConfigError):
    """The exported graph scores differently; nothing was written."""


def corpus() -> list[str]:
    """Return the texts that parity is measured on."""
    return files("monitor.models").joinpath("parity.txt").read_text(encoding="utf-8").splitlines()


def export(
    checkpoint: str, *, config: str, model_type: str, out: Path, int8: bool, max_delta: float = MAX_DELTA
) -> ExportReport:
    """Write `out` and its report, and return the report.

    Raises ConfigError when a file or library is missing or the checkpoint is not one of `model_type`, and
    ParityError when the float graph differs by more than `max_delta`. In both cases no file is written.
    """
    _require(checkpoint, config, model_type, out)
    content = Path(checkpoint).read_bytes()
    with _quiet():
        reference = TorchRuntime(content, config, model_type, option=_OPTION)
        actual = type(reference.detoxify.model).__name__
        if actual != TYPES[model_type]:
            raise ConfigError(f"{_OPTION}: a {actual} is not of type {model_type!r}; give --type accordingly")
        texts = corpus()
        wanted = _scores(reference, texts)
        about = Exported(
            type=model_type,
            precision="float32",
            labels=reference.labels,
            shifts=(0.0,) * len(reference.labels),
            max_tokens=reference.limit,
            source=hashlib.sha256(content).hexdigest(),
        )
        tokenizer = reference.detoxify.tokenizer.backend_tokenizer.to_str()
        graph = _graph(reference)
        made = _finished(graph, about, tokenizer)
        float_delta = _delta(_scores(OnnxRuntime(made, option=_OPTION), texts), wanted)
        if not float_delta <= max_delta:
            raise ParityError(
                f"{_OPTION}: the graph's scores differ by up to {float_delta:.4f}, more than {max_delta};"
                " nothing was written; try other versions of torch and onnx"
            )
        tuned: dict[str, Any] = {}
        if int8:
            about, made, tuned = _int8(graph, about, tokenizer, wanted, texts, max_delta)
    report = ExportReport(
        type=model_type,
        precision=about.precision,
        source_sha256=about.source,
        sha256=hashlib.sha256(made).hexdigest(),
        bytes=len(made),
        labels=about.labels,
        max_tokens=about.max_tokens,
        texts=len(texts),
        float_delta=float_delta,
        **tuned,
    )
    _write(out, made)
    _write(out.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return report


def retuned(scores: Floats, wanted: Floats, *, at: float = DECISION) -> float:
    """Return the threshold on `scores` whose decisions are most nearly `wanted >= at`.

    Both have shape (n,). Among equally good thresholds it is the one nearest to where the median difference
    of the logits puts it; it lies there, or halfway between two scores.
    """
    decisions = wanted >= at
    moved = _sigmoid(
        _logit(at) + float(np.median([_logit(a) - _logit(b) for a, b in zip(scores, wanted, strict=True)]))
    )
    cuts = np.unique(scores)
    candidates = np.concatenate([[moved, at], (cuts[:-1] + cuts[1:]) / 2])
    wrong = ((scores[None, :] >= candidates[:, None]) != decisions[None, :]).sum(axis=1)
    best = candidates[wrong == wrong.min()]
    return float(best[np.argmin(np.abs(best - moved))])


class _Tried(NamedTuple):
    about: Exported
    made: bytes
    thresholds: Sequence[float]
    delta: float
    agreement: float
    float_layers: int


def _int8(
    graph: bytes, about: Exported, tokenizer: str, wanted: Floats, texts: Sequence[str], max_delta: float
) -> tuple[Exported, bytes, dict[str, Any]]:
    """Quantise as much as keeps the scores; if nothing does, what moves them least."""
    tried: list[_Tried] = []
    for float_layers in ((), _second_layers(graph)):
        plain = msgspec.structs.replace(about, precision="int8")
        small = _quantised(graph, float_layers)
        scores = _scores(OnnxRuntime(_finished(small, plain, tokenizer), option=_OPTION), texts)
        thresholds = [retuned(scores[:, n], wanted[:, n]) for n in range(len(about.labels))]
        shifted = msgspec.structs.replace(plain, shifts=tuple(_logit(threshold) for threshold in thresholds))
        made = _finished(small, shifted, tokenizer)
        scores = _scores(OnnxRuntime(made, option=_OPTION), texts)
        agreement = float(np.mean((scores >= DECISION) == (wanted >= DECISION)))
        tried.append(_Tried(shifted, made, thresholds, _delta(scores, wanted), agreement, len(float_layers)))
        if tried[-1].delta <= max_delta:
            break
    best = min(tried, key=lambda trial: trial.delta)
    return (
        best.about,
        best.made,
        {
            "int8_delta": best.delta,
            "float_layers": best.float_layers,
            "thresholds": dict(zip(about.labels, best.thresholds, strict=True)),
            "agreement": best.agreement,
        },
    )


def _require(checkpoint: str, config: str, model_type: str, out: Path) -> None:
    require_torch(config, option=_OPTION)
    for library in ("onnx", "onnxscript"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"{_OPTION}: {library} is missing; install the extra `export`")
    if not Path(checkpoint).is_file():
        raise ConfigError(f"{_OPTION}: --checkpoint {checkpoint!r} is not a file; give a Detoxify checkpoint")
    if model_type not in TYPES:
        raise ConfigError(f"{_OPTION}: --type {model_type!r}; give one of {', '.join(TYPES)}")
    if out.suffix != SUFFIX or not out.parent.is_dir():
        raise ConfigError(f"{_OPTION}: --out {str(out)!r}; give a name that ends in {SUFFIX}, in a folder")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress messages of exporter and quantiser; errors still raise."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _graph(reference: TorchRuntime) -> bytes:
    """Return the float graph from ids and mask, of any batch and length, to logits."""
    import torch

    model = reference.detoxify.model.eval()
    # Two rows, one padded, of a length in between: the exporter fixes what it sees as zero or one.
    length = min(8, reference.limit)
    ids = torch.full((2, length), 5)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=reference.limit)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            model,
            (ids, mask),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(sizes, sizes),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


def _second_layers(graph: bytes) -> tuple[str, ...]:
    """Return the names of the products that lead back from a wide layer: more rows than columns."""
    import onnx

    model = onnx.load_from_string(graph)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
        if node.op_type == "MatMul" and len(shape) == 2 and shape[0] > shape[1]:  # noqa: PLR2004 - a matrix
            names.append(node.name)
    return tuple(names)


def _quantised(graph: bytes, float_layers: Sequence[str]) -> bytes:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            onnx.load_from_string(graph),
            path,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(float_layers),
        )
        return path.read_bytes()


def _finished(graph: bytes, about: Exported, tokenizer: str) -> bytes:
    """Return the graph with its description and tokenizer, and without the exporter's notes on its source."""
    import onnx

    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    del model.metadata_props[:]
    for key, value in (("riskmon", msgspec.json.encode(about).decode()), ("tokenizer", tokenizer)):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _scores(runtime: TorchRuntime | OnnxRuntime, texts: Sequence[str]) -> Floats:
    """Return scores of shape (texts, labels)."""
    rows = [row for at in range(0, len(texts), _BATCH) for row in runtime.predict(texts[at : at + _BATCH])]
    return np.asarray(rows, dtype=np.float64)


def _delta(scores: Floats, wanted: Floats) -> float:
    return float(np.abs(scores - wanted).max())


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1.0 - 1e-6)
    return math.log(bounded / (1.0 - bounded))


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
