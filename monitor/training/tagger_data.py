"""Labelled text for the name tagger: public sets on one set of kinds, and sentences from `tagger_text.yaml`.

A sample says, besides its spans, which kinds its annotators looked for: where they did not look, the loss
accepts "nothing" and any kind that they would have passed over.
"""

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from monitor.models.tagger import KINDS
from monitor.training import rows

TEXT = Path(__file__).with_name("tagger_text.yaml")
POOL = 250  # values drawn once from each Faker provider and locale: it takes milliseconds a value
ALL = frozenset(KINDS)
NEWS = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})  # what the Twitter sets and the filings annotate
MAPPED = {
    "GPE": "LOCATION",
    "STREET_ADDRESS": "ADDRESS",
    "CREDIT_CARD": "ID_NUMBER",
    "US_SSN": "ID_NUMBER",
    "US_DRIVER_LICENSE": "ID_NUMBER",
}
BY_PATTERN = frozenset({"EMAIL_ADDRESS", "DOMAIN_NAME"})  # patterns find these; the tagger leaves them alone
UNANNOTATED = (  # rows to draw, and where
    (8000, "toxicity", "sgd_neutral_chat.jsonl"),
    (3500, "text", "passages.jsonl"),
    (1500, "injection", "bfcl_user_requests_benign.jsonl"),
    (600, "injection", "awesome_prompts_benign.jsonl"),
)
LONGEST = 600  # characters of an unannotated text: else the long ones would be most of the words
# Shares of made sentences that hold nothing, and that (up to there) use templates of other data.
QUIET, THEIRS = 0.2, 0.4
LOWER, UPPER, TITLE = 0.25, 0.29, 0.33  # up to which draw a text is rewritten in which case
SMALL = 11  # characters; what is longer is a whole address, or a card rather than a number of another sort

# Placeholders of the published presidio templates, as ours.
THEIR_PLACEHOLDERS = {
    **dict.fromkeys(("first_name", "first_name_male", "first_name_female"), "first"),
    **dict.fromkeys(("name", "name_male", "name_female"), "full"),
    **dict.fromkeys(("last_name", "last_name_male", "last_name_female"), "last"),
    **dict.fromkeys(("prefix", "prefix_male", "prefix_female"), "prefix"),
    **dict.fromkeys(("nationality", "nation_man", "nation_woman"), "nrp"),
    **dict.fromkeys(("state", "state_abbr"), "state"),
    **dict.fromkeys(("postcode", "zipcode"), "zip"),
    **dict.fromkeys(("organization", "company"), "org"),
    **dict.fromkeys(("date_time", "date_of_birth"), "date"),
    **dict.fromkeys(("us_driver_license", "iban"), "id"),
    **{
        name: name
        for name in ("person", "address", "city", "country", "job", "age", "year", "ssn", "email", "url")
    },
    "building_number": "building",
    "street_name": "street",
    "secondary_address": "unit",
    "phone_number": "phone",
    "day_of_week": "day",
    "nation_plural": "nrps",
    "credit_card_number": "card",
}
# What redraws an annotated span, by its kind; kinds that need a look at the span are in `_likewise`.
REDRAWN = {
    "LOCATION": "place",
    "ORGANIZATION": "org",
    "ZIP_CODE": "zip",
    "PHONE_NUMBER": "phone",
    "AGE": "age",
    "NRP": "nrp",
}


class TaggedText(NamedTuple):
    """A text, its spans as (start, end, kind), and the kinds that were looked for.

    `cased`: set where the text was never annotated, to the text as it was written: words without capitals
    there are taken for nothing, words with capitals say nothing. It stays when the text's case is changed.
    """

    text: str
    spans: tuple[tuple[int, int, str], ...]
    looked_for: frozenset[str] = ALL
    cased: str = ""


class Maker:
    """Makes values and sentences by the grammar of `tagger_text.yaml`, whose head says how it is written."""

    _PLACEHOLDER = re.compile(r"\{(0?)(\w+?)(?::(\d+):(\d+))?(?:!([ulcs]))?\}")

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        grammar = yaml.safe_load(TEXT.read_text(encoding="utf-8"))
        self.sentences: list[str] = grammar["sentences"]
        self.quiet: list[str] = grammar["quiet"]
        self._kinds = {name: kind for kind, names in grammar["kinds"].items() for name in names.split()}
        self._faker: dict[str, list[str]] = grammar["faker"]
        self._locales: list[tuple[int, list[str]]] = [(n, names.split()) for n, names in grammar["locales"]]
        self._pools: dict[tuple[str, str], list[str]] = {}
        self._masks: dict[str, list[str]] = grammar["masks"]
        self._rules = {
            name: [(1, item) if isinstance(item, str) else (item[0], item[1]) for item in rule]
            for name, rule in grammar["rules"].items()
        }
        self.words: dict[str, list[str]] = {
            name: words if isinstance(words, list) else words.split()
            for name, words in grammar["words"].items()
        }
        for row in rows("traindata", "pii", "gazetteer.jsonl"):
            self.words.setdefault(row["type"], []).append(row["value"])
        self.words["us_address"] = [
            row["value"] for row in rows("traindata", "pii", "street_addresses.jsonl")
        ]
        running = [
            word
            for path in (("text", "passages.jsonl"), ("toxicity", "sgd_neutral_chat.jsonl"))
            for row in rows("traindata", *path)
            for word in re.findall(r"(?<=\s)[a-z]{3,12}\b", row["text"])
        ]
        self.words |= {"running": running, "vocabulary": sorted(set(running))}

    def value(self, name: str) -> str:
        """Draw a value. Raises KeyError for a name that the grammar does not have."""
        if rule := self._rules.get(name):
            (text,) = self._chance.choices([text for _, text in rule], [weight for weight, _ in rule])
            return self._PLACEHOLDER.sub(self._expanded, text.replace("|", "\n"))
        if name in self._faker:
            return self._made_up(name)
        if masks := self._masks.get(name):
            letters = "ABCDEFGHIJKLMNOPRSTUVWXYZ"
            mask = re.sub("#", lambda _: str(self._chance.randint(0, 9)), self._chance.choice(masks))
            return re.sub(r"\^", lambda _: self._chance.choice(letters), mask)
        return self._chance.choice(self.words[name])

    def fill(self, template: str) -> TaggedText:
        """Fill the placeholders of a sentence and mark those that are of a kind."""
        text, spans, at = "", list[tuple[int, int, str]](), 0
        template = template.replace("|", "\n")
        for match in self._PLACEHOLDER.finditer(template):
            text += template[at : match.start()]
            value = self._expanded(match).strip()
            if match[2] in self._kinds:
                spans.append((len(text), len(text) + len(value), self._kinds[match[2]]))
            text += value
            at = match.end()
        return TaggedText(text + template[at:], tuple(spans))

    def _expanded(self, match: re.Match[str]) -> str:
        pad, name, low, high, change = match.groups()
        if low:
            return str(self._chance.randint(int(low), int(high))).zfill(len(high) if pad else 0)
        value = self.value(name)
        if change == "s":
            return value[: self._chance.randint(3, 6)].capitalize()
        return {"u": value.upper(), "l": value.lower(), "c": value[:1].upper() + value[1:], None: value}[
            change
        ]

    def _made_up(self, name: str) -> str:
        from faker import Faker

        _, locales = self._chance.choices(self._locales, [weight for weight, _ in self._locales])[0]
        locale = "en_US" if name.startswith("us_") else self._chance.choice(locales)
        pool = self._pools.get((name, locale))
        if pool is None:
            maker = Faker(locale)
            if not all(hasattr(maker, provider) for provider in self._faker[name]):
                maker = Faker("en_US")  # not every locale has every provider
            maker.seed_instance(f"{name} {locale}")
            providers = [getattr(maker, provider) for provider in self._faker[name]]
            pool = [" ".join(str(draw()) for draw in providers) for _ in range(POOL)]
            self._pools[name, locale] = pool
        return self._chance.choice(pool)


def presidio(where: str, name: str) -> list[tuple[TaggedText, str]]:
    """Return the samples of a presidio-research file, each with its outline."""
    out = []
    for row in rows(where, "pii", f"{name}.jsonl"):
        text, spans = row["text"], []
        for span in sorted(row["spans"], key=lambda span: (span["start"], span["end"])):
            kind = MAPPED.get(span["type"], span["type"])
            if kind == "ADDRESS" and re.search(
                r"zip code\W*(?:is)?\s*$", text[: span["start"]], re.IGNORECASE
            ):
                kind = "ZIP_CODE"
            if kind not in BY_PATTERN:
                spans.append((span["start"], span["end"], kind))
        marks = [(span["start"], span["end"]) for span in row["spans"]]
        out.append((TaggedText(text, tuple(spans)), outline(text, marks)))
    return out


def outline(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text's template: spans as marks, neighbouring marks as one, letters lower, no punctuation."""
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]} \0 {text[end:]}"
    words = re.sub(r"[^\w\0]+", " ", text.lower())
    return re.sub(r"\0(?: \0)+", "\0", words).strip()


def groups(outlines: Sequence[str]) -> list[int]:
    """Number outlines such that any two which are equal, or share a run of six words, have one number."""
    parent = list(range(len(outlines)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    seen: dict[str, int] = {}
    for i, text in enumerate(outlines):
        keys = [text]
        for part in text.split("\0"):
            words = part.split()
            keys += [" ".join(words[j : j + 6]) for j in range(len(words) - 5)]
        for run in keys:
            parent[root(i)] = root(seen.setdefault(run, i))
    return [root(i) for i in range(len(outlines))]


def their_templates() -> list[tuple[str, str]]:
    """Return (template, outline) of the published presidio templates, with our placeholders."""
    out = []
    for row in rows("traindata", "pii", "presidio_templates.jsonl"):
        text = row["text"].replace("|", "/")
        names = re.findall(r"\{\{(\w+)\}\}", text)
        if all(name in THEIR_PLACEHOLDERS for name in names):
            marks = [(m.start(), m.end()) for m in re.finditer(r"\{\{\w+\}\}", text)]
            ours = re.sub(r"\{\{(\w+)\}\}", lambda match: "{" + THEIR_PLACEHOLDERS[match[1]] + "}", text)
            out.append((ours, outline(text, marks)))
    return out


def annotated(where: str, name: str) -> list[TaggedText]:
    """Return the samples of a set that annotates people, places and organisations only."""
    return [
        TaggedText(row["text"], tuple(sorted((s["start"], s["end"], s["type"]) for s in row["spans"])), NEWS)
        for row in rows(where, "pii", f"{name}.jsonl")
    ]


def unannotated(chance: random.Random) -> list[TaggedText]:
    """Return chat turns, passages, requests and prompts, never annotated."""
    out: list[TaggedText] = []
    for count, *path in UNANNOTATED:
        texts = [row["text"][:LONGEST] for row in rows("traindata", *path)]
        drawn = chance.sample(texts, min(count, len(texts)))
        out += [TaggedText(text, (), ALL, text) for text in drawn if text]
    return out


def redrawn(sample: TaggedText, maker: Maker, chance: random.Random, share: float) -> TaggedText:
    """Replace a share of the spans' values by made-up ones of the same kind, likeness and case."""
    text, spans, at = "", list[tuple[int, int, str]](), 0
    for start, end, kind in sample.spans:
        old = sample.text[start:end]
        text += sample.text[at:start]
        new = maker.value(_likewise(old, kind)) if chance.random() < share else old
        new = new.lower() if old.islower() else new.upper() if old.isupper() else new
        spans.append((len(text), len(text) + len(new), kind))
        text += new
        at = end
    return sample._replace(text=text + sample.text[at:], spans=tuple(spans))


def _likewise(old: str, kind: str) -> str:  # noqa: PLR0911 - one answer per kind
    """Return the name of the rule whose values look like this one."""
    digits = re.sub(r"[ -]", "", old).isdigit()
    if kind == "PERSON":
        return "full" if " " in old else "first"
    if kind == "ADDRESS" and digits:
        return "zip" if re.search(r"\d.?\d.?\d.?\d", old) else "building"
    if kind == "ADDRESS":
        unit = re.match(r"(?i)(apt|suite|unit)\b", old)
        return "unit" if unit else "address" if len(old) > 2 * SMALL else "street"
    if kind == "DATE_TIME":
        return "year" if old.isdigit() else "day" if old.isalpha() else "date"
    if kind == "TITLE":
        return "prefix" if old.rstrip(".") in ("Mr", "Mrs", "Ms", "Miss", "Dr") else "job"
    if kind == "ID_NUMBER":
        return (
            "ssn"
            if re.fullmatch(r"\d{3}-\d\d-\d{4}", old)
            else "card"
            if digits and len(old) > SMALL
            else "id"
        )
    return REDRAWN[kind]


def recased(sample: TaggedText, chance: random.Random) -> TaggedText:
    """Write a sample in another case now and then; one whose length would change stays as it is."""
    draw = chance.random()
    if draw >= TITLE:
        return sample
    text = (
        sample.text.lower() if draw < LOWER else sample.text.upper() if draw < UPPER else sample.text.title()
    )
    return sample._replace(text=text) if len(text) == len(sample.text) else sample


def made(maker: Maker, chance: random.Random, count: int, templates: Sequence[str]) -> list[TaggedText]:
    """Return texts of one to four sentences; `templates` are used along with our own."""
    out = []
    for _ in range(count):
        parts = []
        for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
            draw = chance.random()
            pool = (
                maker.quiet if draw < QUIET else templates if draw < THEIRS and templates else maker.sentences
            )
            parts.append(maker.fill(chance.choice(pool)))
        out.append(_joined(parts, chance.choice((" ", " ", "\n", "\n\n"))))
    return out


def _joined(samples: Sequence[TaggedText], between: str) -> TaggedText:
    text, spans = "", list[tuple[int, int, str]]()
    for sample in samples:
        text += between if text else ""
        spans += [(start + len(text), end + len(text), kind) for start, end, kind in sample.spans]
        text += sample.text
    return TaggedText(text, tuple(spans))
