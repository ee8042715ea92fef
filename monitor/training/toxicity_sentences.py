"""Sentences about groups of people, abusive and not, of which the labelled sets have too few.

In those sets a group's name occurs mostly in its abuse, profanity is mostly abuse, and no text quotes,
negates or answers hate; a model trained on them flags all of that (Dixon et al. 2018, "Measuring and
mitigating unintended bias in text classification"). The patterns are our own, none is taken from a test
suite. They are as offensive as the texts they teach a model to find.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_PATTERNS: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_KINDS = (
    ("hateful", True, 1.0),
    ("insulting", True, 1.0),
    ("harmless", False, 1.0),
    ("casual", False, 0.5),
    ("condemning", False, 2.0),
    ("agreeing", True, 1.0),
)
"""Kind of pattern, whether its sentences are abusive, and how many are made, relatively."""
_AS_WRITTEN = 0.7  # share of sentences that keep their case and full stop


class Sentence(NamedTuple):
    """A made sentence; sentences of one `pattern` belong on one side of a split."""

    pattern: str
    text: str
    toxic: bool


def sentences(seed: int, fills: int) -> Iterator[Sentence]:
    """Yield up to `fills` sentences of every pattern with random fillings, in a fixed order.

    Condemned and repeated hate is made of the hateful patterns.
    """
    chance = random.Random(seed)  # noqa: S311 - sampling, not cryptography
    for kind, toxic, share in _KINDS:
        for n, pattern in enumerate(_PATTERNS[kind]):
            times = max(1, round(fills * share))
            quoted = chance.choices(_PATTERNS["hateful"], k=times)
            made = dict.fromkeys(_filled(pattern.replace("{x}", quote), chance) for quote in quoted)
            for text in made:
                yield Sentence(f"{kind}/{n}", text, toxic)


def _filled(pattern: str, chance: random.Random) -> str:
    first, second = chance.sample(range(len(_PATTERNS["groups"])), 2)
    ps, s, a = _PATTERNS["groups"][first]
    qs, _, b = _PATTERNS["groups"][second]
    fill = {name: chance.choice(values) for name, values in _PATTERNS["slots"].items()}
    text = pattern.format(ps=ps, s=s, a=a, qs=qs, b=b, **fill)
    for wrong, right in ((" a a", " an a"), (" a e", " an e"), (" a i", " an i"), (" a o", " an o")):
        text = text.replace(wrong, right)
    text = text[0].upper() + text[1:]
    if chance.random() < _AS_WRITTEN:
        return text
    return chance.choice((text.lower(), text.rstrip("."), text.rstrip(".") + "!"))


def disguised(text: str, chance: random.Random) -> str:
    """Return the text with a word misspelt as people do to slip past filters, or with blanks left out."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > _SHORT]
    if not long:
        return text
    i = chance.choice(long)
    word = words[i]
    at = chance.randrange(1, len(word) - 1)
    words[i] = (
        " ".join(word),
        word.translate(_LEET),
        word[:at] + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        ".".join(word),
        "",
    )[chance.randrange(6)]
    return " ".join(words) if words[i] else "".join([*words[:i], word]) + " " + " ".join(words[i + 1 :])


_SHORT = 3  # letters; words of so few are left whole
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
