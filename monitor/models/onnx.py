"""ONNX models that a user names by local path: checked against a pinned SHA-256, then run by onnxruntime.

What runs is the bytes whose digest was checked: they are read once, and the session is made of them. A graph
that keeps weights in a second file is refused, since that file is not pinned. Nothing is downloaded, and a
graph can run no code but onnxruntime's own operators.
"""

import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.errors import ConfigError

Floats = npt.NDArray[np.float32]


def verified(path: str, sha256: str, *, option: str, pin: str) -> bytes:
    """Return the content of a file whose SHA-256 is `sha256` (hex, any case).

    Raises ConfigError naming `option` when the file cannot be read, and `pin` when it has another digest.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{option}: {path!r} cannot be read ({type(error).__name__}); give a local file"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256.lower():
        raise ConfigError(
            f"{pin}: {path!r} has SHA-256 {digest[:12]}…, not {sha256[:12] or 'empty'}…; pin the digest of"
            " the file you trust (sha256sum prints it)"
        )
    return content


def require_runtime(option: str) -> None:
    """Raise ConfigError when onnxruntime is not installed, without importing it."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(f"{option}: onnxruntime is missing; reinstall riskmon, which depends on it")


class OnnxSession:
    """A graph on one CPU thread: the detector pool has a process per core.

    `inputs` maps its inputs to their element types, `outputs` names its outputs in order, and `metadata` is
    what its maker wrote into it. Raises ConfigError naming `option` when it is not a self-contained graph.
    """

    def __init__(self, content: bytes, *, option: str) -> None:
        require_runtime(option)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        # onnxruntime would look for external weights in the working directory, unchecked.
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(
                content, settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            raise ConfigError(
                f"{option}: onnxruntime cannot use the file ({type(error).__name__}); give an ONNX graph with"
                " its weights inside, of at most 2 GB"
            ) from error
        self.inputs: Mapping[str, str] = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs: Sequence[str] = [node.name for node in self._session.get_outputs()]
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
        """Return the first output, as float32, for `feeds` by input name."""
        outputs = self._session.run(self.outputs[:1], dict(feeds))[0]
        return np.asarray(outputs, dtype=np.float32)


class OnnxTokenizer:
    """A tokenizer of the Hugging Face `tokenizer.json` format, and how its sequences are padded.

    Raises ConfigError naming `option` when the text is not such a tokenizer.
    """

    def __init__(self, text: str, *, option: str) -> None:
        from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no stubs

        try:
            self.tokenizer = Tokenizer.from_str(text)
        except Exception as error:
            # The bindings raise bare Exception.
            raise ConfigError(
                f"{option}: not a tokenizer ({type(error).__name__}); give the model's tokenizer.json"
            ) from error
        padding: Any = self.tokenizer.padding or {}
        known = (self.tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>", "<|padding|>"))
        self._pad = int(
            padding.get("pad_id", next((token_id for token_id in known if token_id is not None), 0))
        )
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def feeds(
        self, encodings: Sequence[Any], inputs: Mapping[str, str]
    ) -> Mapping[str, npt.NDArray[np.int64]]:
        """Return what a graph with these inputs is fed: one row per encoding, padded to the longest."""
        width = max(len(encoding.ids) for encoding in encodings)
        whole = {
            name: np.full((len(encodings), width), self._pad if name == "input_ids" else 0, dtype=np.int64)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        for row, encoding in enumerate(encodings):
            whole["input_ids"][row, : len(encoding.ids)] = encoding.ids
            whole["attention_mask"][row, : len(encoding.ids)] = 1
            whole["token_type_ids"][row, : len(encoding.ids)] = encoding.type_ids
        return {name: whole[name].astype(_NUMPY[kind]) for name, kind in inputs.items()}


_NUMPY = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def require_inputs(session: OnnxSession, *, option: str) -> None:
    """Raise ConfigError unless the graph takes token ids and nothing this module cannot feed."""
    known = {"input_ids", "attention_mask", "token_type_ids"}
    odd = [name for name, kind in session.inputs.items() if name not in known or kind not in _NUMPY]
    if odd or "input_ids" not in session.inputs:
        named = ", ".join(sorted(odd)) or "no input_ids"
        raise ConfigError(
            f"{option}: the graph takes {named[:200]}; export an encoder with integer inputs input_ids,"
            " attention_mask and token_type_ids (the last two may be missing)"
        )
