"""What a prompt injection looks like: a text undisguised, and named signals in it."""

import re
import unicodedata
from typing import Final, NamedTuple

WINDOW: Final = 320  # characters, of whole sentences

# Cyrillic and Greek letters that look like Latin ones.
_LOOK_ALIKES = dict(
    zip(
        map(
            ord,
            "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0458\u03b1\u03bf\u03b5\u03b9\u03c5\u03ba\u03bd",
        ),
        "aeopcyxisjaoeiukv",
        strict=True,
    )
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)
_SPACED = re.compile(r"(?<!\w)(?:\w[ .*_-]){3,}\w(?!\w)")
_SEPARATORS = re.compile(r"[ .*_-]")
_BLANK = re.compile(r"[ \t\r\f\v]+")


class Signal(NamedTuple):
    """A named pattern of normalised text. It is looked for where one of its `stems` occurs."""

    kind: str
    stems: tuple[str, ...]
    pattern: re.Pattern[str]


def _signal(kind: str, stems: str, pattern: str) -> Signal:
    return Signal(kind, tuple(stems.split()), re.compile(pattern))


_EARLIER = (
    r"(?:(?:all|any|every|everything|each|the|your|my|our|of|previous|previously|prior|above|preceding|earlier|"
    r"former|initial|original|foregoing|existing|current|these|those|this|that|past|other|system|given|default)"
    r"[ ,]+){0,6}"
)
_ORDERS = (
    r"(?:instructions?|directives?|prompts?|commands?|orders?|rules?|guidelines?|guidance|context|assignments?|"
    r"tasks?|programming|training|restrictions?|limitations?|directions|messages?|text|conversation|policies)"
)

SIGNALS: Final = (
    _signal(
        "override",
        "ignor forget disregard overrid overrul bypass neglect stop\u0020follow not\u0020follow",
        r"\b(?:ignor(?:e|ing)|forget|disregard|override|overrule|bypass|neglect|(?:stop|not) follow(?:ing)?)\b"
        r" (?:about )?(?:(?:all|any|every|everything|whatever)\b.{0,40}\b"
        rf"(?:above|before|previous|said|told|instruct)|{_EARLIER}{_ORDERS}\b|(?:the )?above\b)",
    ),
    _signal(
        "override",
        "vergi\u0020 vergiss ignorier olvid ignor oubli",
        r"\b(?:vergiss|ignoriere?n?|olvid[ae]|ignora|oublie[zr]?|ignore[zr])\b.{0,40}"
        r"\b(?:anweisung|instruktion|befehl|aufgabe|davor|vorher|bisher|obig|alles|instruc|consigne|"
        r"ant[eé]rior|pr[eé]c[eé]dent)",
    ),
    _signal(
        "fake_turn",
        "<|im [inst <<sys ###",
        r"<\|im_(?:start|end)\|>|\[/?inst\]|<</?sys>>|#{3,} ?(?:system|instructions?|human|assistant|user)\b",
    ),
    _signal(
        "exfiltration",
        "prompt instruction",
        r"\b(?:reveal|show|print|repeat|display|output|tell|give|leak|expose|write out|what (?:is|was|are|were))"
        r" (?:me )?(?:all )?(?:the |your |of )*(?:system|initial|original|hidden|secret|full|entire|own"
        r"|exact|first|above|previous)? ?(?:prompts?|instructions?)(?: texts?)?\b(?! manual| book)",
    ),
    _signal(
        "role_play",
        "anything\u0020now developer\u0020mode restriction filter jailb amoral unfiltered",
        r"\bdo anything now\b|\bdeveloper mode\b|\bjailbr(?:eak|oken)\b|\bunfiltered\b|\bamoral\b|"
        r"\b(?:no|without|free (?:of|from)|any) (?:any )?(?:ethical |moral )?(?:restrictions|filters)\b",
    ),
)


def undisguised(text: str) -> str:
    """Return the text in the form the signals read: lower case, common disguises undone."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold().translate(_LOOK_ALIKES)
    text = _SPACED.sub(lambda m: _SEPARATORS.sub("", m[0]), text)
    return _BLANK.sub(" ", text).strip()


def signals(text: str) -> list[str]:
    """Return the kinds of the signals in an undisguised text, each once."""
    return list(
        dict.fromkeys(
            s.kind for s in SIGNALS if any(stem in text for stem in s.stems) and s.pattern.search(text)
        )
    )
