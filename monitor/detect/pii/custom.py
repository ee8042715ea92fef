"""The user's own recognizers, in Presidio's recognizer files, loaded and run by Presidio's own classes.

A file holds `recognizers:`, a list of pattern and deny-list recognizers as Presidio documents them
(https://microsoft.github.io/presidio/analyzer/adding_recognizers/). Presidio is imported only where a file is
given; nothing is downloaded and no spaCy model is loaded. Every recognizer sees every text, whatever its
language says; context words are counted as for the bundled patterns.

Fails closed. Presidio logs a time-out and carries on without the pattern: any warning it logs while a text is
analysed is a failure here. Its records can hold the matched text, so they end here.
"""

import hashlib
import importlib.util
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monitor.detect.pii.context import context_words
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.presidio import supported
from monitor.detect.pii.spans import EntitySpan
from monitor.errors import ConfigError
from monitor.strict_yaml import load_yaml

_OPTION = "detectors.pii.options.recognizers"
_LOGGER = "presidio-analyzer"
_FLAGS = 26  # DOTALL, MULTILINE and IGNORECASE: Presidio's `global_regex_flags`
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_FORMAT = "see Presidio's conf/example_recognizers.yaml for the format"


class RecognizerError(Exception):
    """A recognizer failed on a text. The message holds neither the text nor the recognizer's own message."""


class File(NamedTuple):
    """A recognizer file as read: pattern and deny-list recognizers of well-named entities."""

    path: str
    content: dict[str, Any]
    digest: str


class _Recognizer(NamedTuple):
    recognizer: Any
    kind: str
    context: tuple[str, ...]
    threshold: float


def read(paths: Sequence[str]) -> list[File]:
    """Read recognizer files without importing Presidio.

    Raises ConfigError naming file, recognizer and remedy when a file is missing or no list of recognizers,
    when a recognizer is of another type or names its entity badly, and when Presidio is not installed.
    """
    if isinstance(paths, str):
        raise ConfigError(f"{_OPTION}: {paths!r} is one text; give a list of files")
    if paths and importlib.util.find_spec("presidio_analyzer") is None:
        raise ConfigError(f"{_OPTION}: Presidio is not installed; pip install presidio-analyzer")
    return [_read(str(path)) for path in paths]


def _read(path: str) -> File:
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_OPTION}: {path}: cannot be read ({type(error).__name__})") from error
    content = load_yaml(text, path)
    entries = content.get("recognizers") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: holds no list `recognizers`; {_FORMAT}")
    for number, entry in enumerate(entries):
        _check(_place(path, number, entry), entry)
    return File(path, content, hashlib.sha256(text.encode()).hexdigest()[:12])


def version(files: Sequence[File]) -> str:
    """Return what identifies the files' content, empty without files."""
    return "".join(f".{file.digest}" for file in files)


def patterns(files: Sequence[File]) -> Iterator[tuple[str, str]]:
    """Yield each pattern of files with the place of its recognizer."""
    for file in files:
        for number, entry in enumerate(file.content["recognizers"]):
            of_entry = entry.get("patterns")
            for each in of_entry if isinstance(of_entry, list) else ():
                if isinstance(each, dict):
                    yield _place(file.path, number, entry), str(each.get("regex", ""))


class Custom:
    """The recognizers of all files, at one threshold; `seconds` bounds each pattern on each text.

    A recognizer's `score_thresholds` override `threshold`, as in Presidio. Raises ConfigError naming file,
    recognizer and remedy.
    """

    def __init__(self, files: Sequence[File], threshold: float, seconds: float) -> None:
        self._recognizers: list[_Recognizer] = []
        if not files:
            return
        from presidio_analyzer import pattern_recognizer

        vars(pattern_recognizer)["REGEX_TIMEOUT_SECONDS"] = seconds  # otherwise whole seconds, by environment
        self._watch = _watched()
        for file in files:
            for number, entry in enumerate(file.content["recognizers"]):
                self._recognizers.extend(_load(file, number, entry, threshold))

    def find(self, view: NumericView) -> Iterator[EntitySpan]:
        """Yield what the recognizers find, in no order.

        Raises TimeoutError when a pattern ran out of time, RecognizerError when one failed otherwise.
        """
        for recognizer, kind, context, threshold in self._recognizers:
            self._watch.take()
            try:
                results = recognizer.analyze(view.text, [kind])
            except Exception:  # noqa: BLE001 - a recognizer may raise anything, and its message may hold the text
                raise RecognizerError from None
            failure = self._watch.take()
            if failure is not None:
                raise failure
            for result in results:
                score = supported(view.text, result.start, result.score, context)
                if score >= threshold:
                    yield EntitySpan(result.start, result.end, kind, score)


def _place(path: str, number: int, entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else entry
    return f"{path}: recognizer {name!r}" if name else f"{path}: recognizers[{number}]"


def _check(where: str, entry: Any) -> None:
    """Raise ConfigError for what is wrong with an entry by riskmon's lights; Presidio says the rest."""
    if not isinstance(entry, dict) or entry.get("type", "custom") != "custom":
        raise ConfigError(
            f"{where}: only pattern and deny-list recognizers (type custom) can be added; Presidio's own are"
            " built in, so leave it out"
        )
    kind = entry.get("supported_entity")
    if not (isinstance(kind, str) and _KIND.fullmatch(kind)):
        raise ConfigError(
            f"{where}: supported_entity {kind!r} is not an entity type; write it in capitals, digits and"
            " underscores, as EMPLOYEE_NUMBER"
        )


def _load(file: File, number: int, entry: dict[str, Any], threshold: float) -> Iterator[_Recognizer]:
    """Yield Presidio's recognizers for one entry: one per language, none when it is not enabled."""
    for recognizer in _registered(file, entry, _place(file.path, number, entry)):
        (kind,) = recognizer.supported_entities
        thresholds = recognizer.score_thresholds
        yield _Recognizer(
            recognizer,
            kind,
            context_words(recognizer.context or ()),
            thresholds.get(kind, thresholds.get("default", threshold)),
        )


def _registered(file: File, entry: dict[str, Any], where: str) -> list[Any]:
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

    of_file = file.content.get("supported_languages", ["en"])
    languages = [entry["supported_language"]] if "supported_language" in entry else of_file
    configuration = {
        "supported_languages": _languages(entry.get("supported_languages")) or languages,
        "global_regex_flags": file.content.get("global_regex_flags", _FLAGS),
        "recognizers": [{**entry, "type": "custom"}],
    }
    try:
        provider = RecognizerRegistryProvider(registry_configuration=configuration)
        recognizers: list[Any] = provider.create_recognizer_registry().recognizers
        for recognizer in recognizers:
            recognizer.analyze("", recognizer.supported_entities)  # compiles the patterns
    except Exception as error:
        raise ConfigError(f"{where}: Presidio refuses it ({_cause(error)}); {_FORMAT}") from error
    return recognizers


def _languages(value: Any) -> list[str]:
    """Return the languages of an entry, which lists them as texts or as mappings with their context words."""
    entries = value if isinstance(value, list) else []
    return [str(entry.get("language")) if isinstance(entry, dict) else str(entry) for entry in entries]


def _cause(error: BaseException) -> str:
    """Return the message of the first error, on one line and bounded: it is about the user's file."""
    while error.__cause__ is not None:
        error = error.__cause__
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's ValidationError: one message per field
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors()[:3])[:300]
    return " ".join(str(error).split())[:300] or type(error).__name__


class _Watch(logging.Handler):
    """Drops Presidio's log records, which may hold text of a trace, and keeps the failure they report."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._failure: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the failure; a time-out takes precedence."""
        if not isinstance(self._failure, TimeoutError):
            self._failure = TimeoutError() if "timed out" in str(record.msg) else RecognizerError()

    def take(self) -> Exception | None:
        """Return the failure since the last call and forget it."""
        failure, self._failure = self._failure, None
        return failure


def _watched() -> _Watch:
    logger = logging.getLogger(_LOGGER)
    watch = next((handler for handler in logger.handlers if isinstance(handler, _Watch)), None) or _Watch()
    logger.handlers = [watch]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    return watch
