"""Tier 1: people, places, organisations, addresses and dates in words, and the texts worth tagging."""

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from monitor.detect.pii.spans import EntitySpan, Index
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
_UNLIKE = 0.9  # least score of a person that is not written as one
_LEAST_DIGITS = {"PHONE_NUMBER": 6, "ID_NUMBER": 5}
_UNUSED = ["parser", "tagger", "attribute_ruler", "lemmatizer", "senter"]


class Namer(Protocol):
    """Finds names in texts. `version` identifies its weights."""

    version: str

    def spans(self, texts: Sequence[str]) -> list[list[EntitySpan]]:
        """Return the names of each text, in order."""
        ...


def load(spacy_model: str) -> Namer:
    """Return the bundled tagger, or the named spaCy model. Raises ConfigError when that cannot be loaded."""
    return _Bundled() if spacy_model == BUNDLED else _Spacy(spacy_model)


def version(spacy_model: str) -> str:
    """Return which weights `load` would use, without loading them; ConfigError when there are none."""
    if spacy_model == BUNDLED:
        from monitor import models
        from monitor.models.tagger import WEIGHTS

        return models.version(1, WEIGHTS)
    if "/" not in spacy_model and importlib.util.find_spec(spacy_model.partition(".")[0]):
        return f"{spacy_model}-{importlib.metadata.version(spacy_model)}"
    if (Path(spacy_model) / "config.cfg").is_file():
        return f"{Path(spacy_model).name}-path"
    raise ConfigError(
        f"detectors.pii.options.spacy_model: {spacy_model!r} is neither an installed package nor a folder"
        " with a config.cfg, and models are never downloaded; install it, or set none for the bundled tagger"
    )


class _Bundled:
    def __init__(self) -> None:
        from monitor.models.tagger import Tagger

        self._tagger = Tagger.load()
        self.version = version(BUNDLED)

    def spans(self, texts: Sequence[str]) -> list[list[EntitySpan]]:
        return [
            [believed for name in named if (believed := _believed(text, EntitySpan(*name)))]
            for text, named in zip(texts, self._tagger.spans(texts), strict=True)
        ]


def _believed(text: str, name: EntitySpan) -> EntitySpan | None:
    """Return what to make of a tagged name, None for nothing.

    An address needs a number and a word: without a number it is a place, without a word it may be a postcode.
    Short numbers are not phone numbers, and a person in lower case or capitals throughout takes more
    certainty.
    """
    value = text[name.start : name.end]
    digits = sum(c.isdigit() for c in value)
    if name.kind == "ADDRESS" and (not digits or len(value.split()) == 1):
        return name._replace(kind="ZIP_CODE" if digits else "LOCATION")
    if name.kind in _LEAST_DIGITS and digits < _LEAST_DIGITS[name.kind]:
        return None
    unlike = value.islower() or (value.isupper() and len(value.split()) == 1)
    return None if name.kind == "PERSON" and unlike and name.score < _UNLIKE else name


class _Spacy:
    def __init__(self, model: str) -> None:
        self.version = version(model)
        self._nlp = _load_spacy(model)

    def spans(self, texts: Sequence[str]) -> list[list[EntitySpan]]:
        return [
            [
                EntitySpan(entity.start_char, entity.end_char, _SPACY_KINDS[entity.label_], _SPACY_SCORE)
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


_WORD = re.compile(r"[^\W\d_]{2}")


def is_likely(text: str) -> bool:
    """Return whether a text may hold a name.

    Any word may be one, because chat writes names in lower case. Asking for a capital letter lost 3 % of the
    people that tagging everything finds, and saves only short texts (`python -m monitor.training.pii_eval`).
    """
    return _WORD.search(text) is not None


def merged(patterns: Sequence[EntitySpan], names: Sequence[EntitySpan]) -> list[EntitySpan]:
    """Return both, without the names that overlap what a pattern found, unless they hold it and more.

    A number the tagger calls by its form gives way wherever a pattern says what it is, or a card would be two
    identifiers.
    """
    index = Index(patterns)
    places = {pattern[:2] for pattern in patterns}

    def yields(name: EntitySpan) -> bool:
        reach = index.reach(name.end)
        if reach <= name.start:  # no pattern overlaps
            return False
        held = reach <= name.end and index.reach(name.start) <= name.start
        return name.kind in _LEAST_DIGITS or not held or name[:2] in places

    return sorted([*patterns, *(name for name in names if not yields(name))])
