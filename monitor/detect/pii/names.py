"""Tier 1: people, places, organisations, addresses and dates in words, and which texts are worth the look."""

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from monitor.detect.pii.spans import Found
from monitor.errors import ConfigError

BUNDLED = "none"  # the value of `spacy_model` that leaves names to the bundled tagger
_SPACY_KINDS = {
    "PER": "PERSON",
    "PERSON": "PERSON",
    "NORP": "NRP",
    "FAC": "LOCATION",
    "LOC": "LOCATION",
    "LOCATION": "LOCATION",
    "GPE": "LOCATION",
    "ORG": "ORGANIZATION",
    "DATE": "DATE_TIME",
    "TIME": "DATE_TIME",
}
_SPACY_SCORE = 0.85  # what Presidio gives every entity of spaCy's
_UNUSED = ["parser", "tagger", "attribute_ruler", "lemmatizer", "senter"]


class Namer(Protocol):
    """Finds names in texts. `version` identifies its weights."""

    version: str

    def spans(self, texts: Sequence[str]) -> list[list[Found]]:
        """Return the names of each text, in order."""
        ...


def load(spacy_model: str) -> Namer:
    """Return the bundled tagger, or the named spaCy model. Raises ConfigError when that cannot be loaded."""
    return _Bundled() if spacy_model == BUNDLED else _Spacy(spacy_model)


def version(spacy_model: str) -> str:
    """Return which weights `load` would use, without loading them. Raises ConfigError where there are none."""
    if spacy_model == BUNDLED:
        from monitor import models
        from monitor.models.tagger import WEIGHTS

        return models.version(1, WEIGHTS)
    if "/" not in spacy_model and importlib.util.find_spec(spacy_model.partition(".")[0]):
        return f"{spacy_model}-{importlib.metadata.version(spacy_model)}"
    if (Path(spacy_model) / "config.cfg").is_file():
        return f"{Path(spacy_model).name}-path"
    raise ConfigError(
        f"detectors.pii.options.spacy_model: {spacy_model!r} is neither an installed package nor a folder with a"
        " config.cfg, and models are never downloaded; install it, or set none for the bundled tagger"
    )


class _Bundled:
    def __init__(self) -> None:
        from monitor.models.tagger import Tagger

        self._tagger = Tagger.load()
        self.version = version(BUNDLED)

    def spans(self, texts: Sequence[str]) -> list[list[Found]]:
        return [
            [Found(n.start, n.end, n.kind, n.score) for n in named] for named in self._tagger.spans(texts)
        ]


class _Spacy:
    def __init__(self, model: str) -> None:
        self.version = version(model)
        self._nlp = _load_spacy(model)

    def spans(self, texts: Sequence[str]) -> list[list[Found]]:
        return [
            [
                Found(entity.start_char, entity.end_char, _SPACY_KINDS[entity.label_], _SPACY_SCORE)
                for entity in doc.ents
                if entity.label_ in _SPACY_KINDS
            ]
            for doc in self._nlp.pipe(texts)
        ]


def _load_spacy(model: str) -> Any:
    if importlib.util.find_spec("spacy") is None:
        raise ConfigError(
            "detectors.pii.options.spacy_model: spaCy is not installed; pip install spacy, or set none"
        )
    import spacy

    try:
        if "/" not in model and importlib.util.find_spec(model.partition(".")[0]):
            return importlib.import_module(model).load(exclude=_UNUSED)
        return spacy.load(Path(model), exclude=_UNUSED)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"detectors.pii.options.spacy_model: {model!r} cannot be loaded ({type(error).__name__});"
            " install a model made for this version of spaCy"
        ) from error


_CAPITAL = re.compile(r"[A-Z\u00c0-\u024f\u0370-\uffff]")


def is_likely(text: str) -> bool:
    """Whether a name, place or address may stand in a text."""
    return _CAPITAL.search(text) is not None


def merged(patterns: Sequence[Found], names: Sequence[Found]) -> list[Found]:
    """Return both, without the names that overlap what a pattern found, unless they hold all of it."""
    kept = [
        name
        for name in names
        if all(
            name.end <= p.start or p.end <= name.start or (name.start <= p.start and p.end <= name.end)
            for p in patterns
        )
    ]
    return sorted([*patterns, *kept])
