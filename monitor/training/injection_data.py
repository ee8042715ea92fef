"""The texts the injection model learns from: labelled sources, and rows made from templates.

`injection_texts.yaml` has windows of both sides, `injection_direct.yaml` short prompts as people type them.
"""

import collections
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from monitor.strict_yaml import load_yaml
from monitor.training import injection_sources as sources
from monitor.training import injection_templates as templates
from monitor.training.injection_sources import InjectionExample
from monitor.training.toxicity_sentences import sentences

SEED: Final = 7
TEXTS: Final = Path(__file__).with_name("injection_texts.yaml")
DIRECT: Final = Path(__file__).with_name("injection_direct.yaml")
CARRIER: Final = 1000  # characters of the longest text in which another is planted
ABUSE: Final = 8  # sentences of each pattern of the toxicity model's, about and against people


def load() -> list[InjectionExample]:
    """Return all rows in a fixed order."""
    pick = random.Random(SEED)  # noqa: S311 - sampling, not cryptography
    texts, direct = (load_yaml(path.read_text(encoding="utf-8"), path.name) for path in (TEXTS, DIRECT))
    grammar = templates.Grammar({**_lists(texts), **_lists(direct)}, pick)
    clean = [*sources.passages(pick), *sources.chats(pick), *sources.requests(), *sources.personas(pick)]
    turns = list(sources.turns())
    data = [*clean, *turns, *sources.bipia(), *sources.jailbreaks(pick)]
    for name in sources.TALK:
        data += sources.talk(name, random.Random(SEED))  # noqa: S311 - sampling, not cryptography
    data += [
        InjectionExample(
            "own_abuse",
            f"own/abuse/{made.pattern}",
            "prompt" if n % 4 else "indirect",
            made.text,
            attack=False,
        )
        for n, made in enumerate(sentences(SEED, ABUSE))
    ]
    spoken = list(templates.transcripts(texts, grammar, pick))
    data += spoken
    carriers = [
        row.text
        for row in [*clean, *spoken]
        if row.source in {"passages", "sgd", "bfcl", "transcripts"} and len(row.text) < CARRIER
    ]
    data += list(templates.generated(texts, grammar, carriers, pick))
    data += list(templates.typed(direct, grammar, carriers, pick))
    data += list(templates.terse(texts, grammar, pick))
    first = {(row.side, row.text): row for row in reversed(data)}
    return [row for row in data if row.text.strip() and first[row.side, row.text] is row]


def _lists(texts: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    return {**texts["words"], **{k: v for k, v in texts.items() if isinstance(v, list)}}


def main() -> None:
    """Print how many rows each source has."""
    data = load()
    counts = collections.Counter((row.source, row.side, row.attack) for row in data)
    for key, count in sorted(counts.items()):
        print(*key, count)  # noqa: T201 - a script


if __name__ == "__main__":
    main()
