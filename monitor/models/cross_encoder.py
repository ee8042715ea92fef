"""Cross-encoders: models that read a claim with its context and say whether the one follows from the other.

Any ONNX file of four widespread kinds works, by local path and pinned by SHA-256:

- `binary`: one logit, or two of which one means supported (HHEM, MiniCheck-RoBERTa/DeBERTa, AlignScore's
  binary head);
- `nli3`: entailment, neutral, contradiction in whatever order (SummaC's and other NLI models);
- `token`: per token, supported or hallucinated (LettuceDetect, TinyLettuce).

A context longer than the model can read is cut into overlapping windows. A claim is supported if one window
supports it (Laban et al. 2022, "SummaC", doi:10.1162/tacl_a_00453); for `token`, if each of its tokens is
supported by some window. A claim longer than half of what the model can read is cut too, and is as supported
as its least supported piece. Nothing is left out.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

import numpy as np

from monitor.errors import ConfigError
from monitor.models.onnx import Floats, OnnxSession, OnnxTokenizer, require_inputs, require_runtime, verified

Kind: TypeAlias = Literal["auto", "binary", "nli3", "token"]

BATCH_TOKENS: Final = 4096  # padding included; bounds the memory of attention
OVERLAP: Final = 0.25  # of a window
_SPARE = 8  # tokens a slice may have more than the text it was cut from
_MIN_TOKENS = 32
_NLI, _TOKEN_RANK = 3, 3
_SUPPORTED = ("entail", "support", "consistent", "faithful", "factual")


class CrossEncoder:
    """Scores (claim, context) pairs. `version` is 12 hex digits over the graph and its tokenizer."""

    def __init__(
        self,
        session: OnnxSession,
        tokens: OnnxTokenizer,
        *,
        kind: Kind,
        supported: int | None,
        template: str,
        max_tokens: int,
        version: str,
        option: str,
    ) -> None:
        self.version = version
        self._session = session
        self._tokens = tokens
        self._template = template
        probe = session.run(tokens.feeds([self._encode("It is.", "So it is.")], session.inputs))
        self.kind = _kind(kind, probe, option)
        labels = probe.shape[-1]
        default = {"binary": labels - 1, "token": 0}.get(self.kind)
        chosen = default if supported is None else supported
        if chosen is None or not 0 <= chosen < labels:
            raise ConfigError(
                f"{option}_supported: {chosen} of {labels} labels; give the index of the label that means"
                " supported (entailment), from 0"
            )
        self._supported = chosen
        if self.kind == "token" and template:
            raise ConfigError(f"{option}_template: a token-level model reads pairs; leave the template empty")
        overhead = len(self._encode("", "").ids) + _SPARE
        if max_tokens - overhead < _MIN_TOKENS:
            raise ConfigError(
                f"{option}_max_tokens: {max_tokens} is too few, {overhead} of them surround the texts;"
                " give what the model was made for, such as 512"
            )
        self._room = max_tokens - overhead

    @classmethod
    def load(
        cls,
        path: str,
        *,
        sha256: str,
        tokenizer: str = "",
        kind: Kind = "auto",
        supported: int | None = None,
        template: str = "",
        max_tokens: int = 512,
        option: str = "detectors.hallucination.options.cross_encoder",
    ) -> Self:
        """Load a graph and try it.

        `tokenizer` is a `tokenizer.json`, by default the one next to the graph. `supported` is the index of
        the label that means supported; by default it is read from the labels in a `config.json` next to the
        graph; without those it is the last label of `binary` and the first of `token`. `template` is for
        models that read one text instead of a pair, with `{context}` and `{claim}` in it, in that order. The
        graph's output is logits. `option` is the setting that errors name. Raises ConfigError with the
        remedy.
        """
        require_runtime(option)
        if kind not in get_args(Kind):
            raise ConfigError(f"{option}_kind: {kind!r}; give one of {', '.join(get_args(Kind))}")
        if template and not 0 <= template.find("{context}") < template.find("{claim}"):
            raise ConfigError(f"{option}_template: needs {{context}} and, after it, {{claim}}")
        folder = Path(path).parent
        vocabulary = Path(tokenizer or folder / "tokenizer.json")
        try:
            text = vocabulary.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{option}_tokenizer: {str(vocabulary)!r} cannot be read ({type(error).__name__}); give the"
                " model's tokenizer.json"
            ) from error
        content = verified(path, sha256, option=option, pin=f"{option}_sha256")
        session = OnnxSession(content, option=option)
        require_inputs(session, option=option)
        digest = hashlib.sha256(f"{sha256.lower()}:{text}".encode())
        try:
            return cls(
                session,
                OnnxTokenizer(text, option=f"{option}_tokenizer"),
                kind=kind,
                supported=_labelled(folder / "config.json", option) if supported is None else supported,
                template=template,
                max_tokens=max_tokens,
                version=digest.hexdigest()[:12],
                option=option,
            )
        except ConfigError:
            raise
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            raise ConfigError(
                f"{option}: the graph fails on a short pair ({type(error).__name__}); its tokenizer may be"
                f" another model's: check {option}_tokenizer"
            ) from error

    def support(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return per (claim, context) the probability that the context supports the claim, in order.

        An empty claim states nothing and has support 1.
        """
        owners: list[tuple[int, int]] = []  # of each row: the pair, and the piece of its claim
        encodings: list[Any] = []
        known: dict[str, list[tuple[int, int]]] = {}  # many claims share a context
        for number, (claim, context) in enumerate(pairs):
            if context not in known:
                known[context] = self._offsets(context)
            for piece, part in enumerate(cut(claim, self._offsets(claim), self._room // 2, overlap=0)):
                room = self._room - len(self._offsets(part))
                for window in cut(context, known[context], room, overlap=int(room * OVERLAP)) or [""]:
                    owners.append((number, piece))
                    encodings.append(self._encode(window, part))
        rows = self._run(encodings)
        grouped: dict[tuple[int, int], list[Floats]] = {}
        for key, row in zip(owners, rows, strict=True):
            grouped.setdefault(key, []).append(row)
        supports = [1.0] * len(pairs)
        for (number, _), windows in grouped.items():
            # A row holds one number, or for `token` one per token of the claim, alike in every window.
            supports[number] = min(supports[number], float(np.max(windows, axis=0).min(initial=1.0)))
        return supports

    def _encode(self, context: str, claim: str) -> Any:
        if self._template:
            # Not str.format: the texts may hold braces, and the template may as well.
            before, _, rest = self._template.partition("{context}")
            between, _, after = rest.partition("{claim}")
            return self._tokens.tokenizer.encode(f"{before}{context}{between}{claim}{after}")
        return self._tokens.tokenizer.encode(context, claim)

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return list(self._tokens.tokenizer.encode(text, add_special_tokens=False).offsets)

    def _run(self, encodings: Sequence[Any]) -> list[Floats]:
        """Return per encoding its support: shape (1,), or for `token` one per token of the claim."""
        order = sorted(range(len(encodings)), key=lambda n: len(encodings[n].ids))  # equal lengths together
        rows: list[Floats] = [np.zeros(0, dtype=np.float32)] * len(encodings)
        while order:
            width = len(encodings[order[-1]].ids)
            size = max(1, BATCH_TOKENS // width)
            batch, order = order[-size:], order[:-size]
            logits = self._session.run(
                self._tokens.feeds([encodings[n] for n in batch], self._session.inputs)
            )
            for n, probabilities in zip(batch, self._probabilities(logits), strict=True):
                if self.kind == "token":
                    encoding = encodings[n]
                    of_claim = [at for at, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
                    rows[n] = probabilities[of_claim]
                else:
                    rows[n] = probabilities.reshape(1)
        return rows

    def _probabilities(self, logits: Floats) -> Floats:
        if logits.shape[-1] == 1:
            probabilities = 1.0 / (1.0 + np.exp(-np.clip(logits[..., 0], -80, 80)))
        else:
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            probabilities = powers[..., self._supported] / powers.sum(axis=-1)
        return cast("Floats", probabilities)


def cut(text: str, offsets: Sequence[tuple[int, int]], room: int, *, overlap: int) -> list[str]:
    """Cut a text into slices of at most `room` tokens, at blanks where possible; together they hold them all.

    `offsets` are the (start, end) of the text's tokens. A text without tokens has no slices.
    """
    if len(offsets) <= room:
        return [text] if offsets else []
    starts = [
        n for n, (at, _) in enumerate(offsets) if at == 0 or text[at].isspace() or text[at - 1].isspace()
    ]
    return [
        text[offsets[first][0] : offsets[last - 1][1]]
        for first, last in windows(len(offsets), room, overlap, starts)
    ]


def windows(count: int, room: int, overlap: int, starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, last + 1) of windows over `count` tokens, each of at most `room`, that cover them all.

    Neighbours share at least `overlap` tokens, or as many as fit. A window ends before a token of `starts`
    (where words start) if one lies in its second half, and the next begins at one if that costs no progress.
    """
    begins = np.zeros(count + 1, dtype=bool)
    begins[list(starts)] = True
    ranges: list[tuple[int, int]] = []
    first = 0
    while count - first > room:
        last = first + room
        word = next((n for n in range(last, first + room // 2, -1) if begins[n]), last)
        ranges.append((first, word))
        back = max(first + 1, word - overlap)
        first = next((n for n in range(back, first, -1) if begins[n]), back)
    return [*ranges, (first, count)]


def _kind(kind: Kind, probe: Floats, option: str) -> Kind:
    """Return which kind a graph with this output is. Raises ConfigError when it is not `kind`."""
    labels = probe.shape[-1] if probe.ndim else 0
    actual: Kind | None = None
    if probe.ndim == _TOKEN_RANK and labels > 1:
        actual = "token"
    elif probe.ndim == _TOKEN_RANK - 1 and 1 <= labels <= _NLI:
        actual = "nli3" if labels == _NLI else "binary"
    if actual is None or kind not in {"auto", actual}:
        raise ConfigError(
            f"{option}_kind: {kind!r}, but the graph's first output has shape {probe.shape} for one pair;"
            " export a classifier whose first output is its logits"
        )
    return actual


def _labelled(config: Path, option: str) -> int | None:
    """Return the index of the label that means supported, from the model's own `id2label`, if it says."""
    if not config.is_file():
        return None
    try:
        labels = dict(json.loads(config.read_text(encoding="utf-8")).get("id2label", {}))
        supported = [int(at) for at, name in labels.items() if str(name).casefold().startswith(_SUPPORTED)]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{option}: {config.name} next to it is not a model's configuration ({type(error).__name__});"
            f" repair or remove it, and give {option}_supported"
        ) from error
    return supported[0] if len(supported) == 1 else None
