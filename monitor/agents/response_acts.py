"""Acts of the final answer of a run: give up, put off, ask back, admit trouble, claim an action.

Wording, so English first, with the commonest German, French, Spanish and Italian phrases. All patterns run
in linear time.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from monitor.text import segments, wording
from monitor.text.segments import TextSpan
from monitor.text.words import STOPWORDS, stem

_LONGEST = 1000  # characters; a longer answer says something
_LOOKED_AT = 20_000  # characters of results that are searched for what an answer cites

_PROMISE = re.compile(
    r"\b(?:let\s+me|i['\u2019]ll|i\s+will(?!\s+not)|i['\u2019]?\s?a?m\s+(?:going\s+to|about\s+to|now\s+\w+ing|\w+ing\s+(?:into|up))|"
    r"i\s+am\s+(?:going\s+to|about\s+to|looking|checking)|we['\u2019]ll|we\s+will(?!\s+not)|(?:one|a|just\s+a)\s+(?:moment|second|minute)|"
    r"hold\s+on|hang\s+on|bear\s+with\s+me|please\s+wait|stand\s+by|working\s+on\s+(?:it|that|this))\b"
    r"|\b(?:einen\s+(?:moment|augenblick)|ich\s+(?:schaue|sehe|pr\u00fcfe|melde|k\u00fcmmere|werde)|un\s+(?:momento|instant|attimo)|"
    r"je\s+(?:v\u00e9rifie|vais|regarde)|voy\s+a|d\u00e9jame|controllo\s+subito)\b",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"n['\u2019]t\b|\b(?:not\s+(?:be\s+)?(?:able|possible|find|found|available|complete|completed|reach|load|access)|"
    r"(?:could|can|did|was|were|does|has|have|is|are|do)\s+not|cannot|unable|unfortunately|regret|"
    r"(?<!no\s)(?:problem|trouble|issue)s?|errors?|fail(?:s|ed|ing|ure|ures)?|unavailable|missing|denied|"
    r"declined|rejected|refused|unsuccessful|timed\s+out|time-?outs?|insufficient|too\s+(?:low|few|many|large)|"
    r"unreachable|broken|down\s+(?:right\s+now|at\s+the\s+moment|for)|no\s+longer|already\s+taken|invalid|"
    r"except(?:ion|\s+for)|but\s+no|went\s+wrong|without\s+success|"
    r"leider|nicht|fehler|fehlgeschlagen|d\u00e9sol\u00e9|impossible|erreur|\u00e9chec|lamento|siento|no\s+(?:pude|fue|se\s+pudo)|"
    r"purtroppo|errore|impossibile)\b",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"\b(?:sorry|apolog\w*|(?:i|we)(?:['\u2019]m|\s+am|['\u2019]re|\s+are|\s+was|\s+were)\s+(?:unable|not\s+able)|"
    r"(?:i|we)\s+(?:ca(?:n['\u2019]t|n\s?not)|could(?:n['\u2019]t|\s+not)|wo(?:n['\u2019]t)|do(?:n['\u2019]t|\s+not)\s+(?:know|have))|"
    r"leider|d\u00e9sol\u00e9e?|lo\s+siento|mi\s+dispiace)\b",
    re.IGNORECASE,
)
_CLAIMS_DONE = re.compile(
    r"\b(?:done|all\s+set|success(?:ful|fully)?|completed?|(?:has|have|had)\s+(?:now\s+)?been|"
    r"(?:is|are)\s+(?:now\s+)?\w+ed|i(?:['\u2019]ve|\s+have)?\s+(?:now\s+|just\s+|also\s+)?(?:\w+ed|sent|made|set|put|paid)|"
    r"pass(?:es|ed)?|erledigt|wurde|effectu\u00e9|hecho|fatto)\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\W*(?:no|none|nothing|null|not|ok|okay|true|false|done)?\W*\Z|\W*(?:no|none|nothing|not|0)\b"
    r"|.{0,200}:\s*(?:\[\]|\{\}|null|0)\s*\}\s*\Z",
    re.IGNORECASE | re.DOTALL,
)


def informs(output: str) -> bool:
    """Return whether a result holds something to report: neither empty nor "nothing found"."""
    return bool(output.strip()) and _NOTHING.match(output, 0, 400) is None


def admits_trouble(answer: str) -> bool:
    """Return whether an answer says that something did not work."""
    return _TROUBLE.search(answer) is not None


def claims_done(answer: str) -> bool:
    """Return whether an answer says that something was done."""
    return _CLAIMS_DONE.search(answer) is not None


def gives_up(answer: str) -> bool:
    """Return whether an answer is nothing but an apology or a refusal."""
    return _only(answer, lambda sentence: _GIVES_UP.search(sentence) is not None)


def puts_off(answer: str) -> bool:
    """Return whether an answer is nothing but a promise to go on."""
    return _only(answer, lambda sentence: _PROMISE.search(sentence) is not None)


def asks_back(answer: str) -> bool:
    """Return whether an answer is nothing but a question to the user."""
    return _only(answer, lambda sentence: sentence.rstrip("\"')*_ ").endswith("?"))


def _only(answer: str, is_such: Callable[[str], bool]) -> bool:
    """Return whether each sentence is such, or a courtesy, and at least one is such."""
    if len(answer) > _LONGEST:
        return False
    any_such = False
    for span in segments.sentences(answer):
        sentence = answer[span.start : span.end]
        such = is_such(sentence)
        if not such and not wording.is_courtesy(sentence):
            return False
        any_such = any_such or such
    return any_such


def cites(answer: str, results: Iterable[str], question: str) -> bool:
    """Return whether an answer reports results: a number or two words of them that the question lacks."""
    asked = {stem(token.word) for token in segments.tokens(question)}
    answered = {stem(token.word) for token in segments.tokens(answer)} - asked
    held: set[str] = set()
    left = _LOOKED_AT
    for result in results:
        held.update(stem(token.word) for token in segments.tokens(result[:left]))
        left -= len(result)
        if left <= 0:
            break
    common = {word for word in answered & held if word not in STOPWORDS}
    return len(common) > 1 or any(word[0].isdigit() for word in common)


class ClaimedAction(NamedTuple):
    """An action that an answer claims: where it does, and what calls or results hold if it happened."""

    span: TextSpan
    evidence: re.Pattern[str]


_ACTIONS = (
    ("cancell?ed", "cancel|terminat|revok|void|delet|refund|unsubscri"),
    ("booked|reserved|scheduled", "book|reserv|schedul|appoint|calendar|creat|order|slot|event"),
    ("refunded|reimbursed", "refund|reimburs|credit|payment|compens|certificate|return"),
    (
        "sent|e-?mailed|mailed|notified|messaged|forwarded",
        "send|sent|mail|notif|messag|sms|post|publi|forward",
    ),
    ("deleted|removed|erased|purged", "delet|remov|eras|purg|drop|clean|rm|clear|cancel|updat"),
    ("updated|changed|modified", "updat|chang|modif|edit|set|patch|writ|put|save|upgrad|adjust|fix|apply"),
    ("renamed", "renam|mv|move|updat|edit|patch"),
    ("created|opened|registered", "creat|open|add|regist|new|insert|submit|writ|post|make|start|fil"),
    ("ordered|purchased|bought", "order|purchas|buy|bought|checkout|request|book"),
    ("blocked|locked|disabled|suspended", "block|lock|freez|froz|disabl|suspend|deactiv|set|state"),
    ("transferred|paid|wired", "transfer|pay|paid|wire|send|move|charg|book"),
    ("restarted|rebooted|redeployed", "restart|reboot|deploy|start|run"),
)
"""Verbs by which an answer claims an action, and what a call or result holds where it happened."""
_VERBS = "|".join(verbs for verbs, _ in _ACTIONS)
_CLAIM = re.compile(
    r"\b(?:i|we)(?:['\u2019]ve|\s+have)?\s+(?:now\s+|just\s+|also\s+|successfully\s+|already\s+)?"
    rf"(?P<verb>{_VERBS})\b(?P<rest>[^.!?\n]{{0,200}})",
    re.IGNORECASE,
)
_FURTHER_VERB = re.compile(rf"\band\s+(?:also\s+)?({_VERBS})\b", re.IGNORECASE)
_EVIDENCE_BY_VERB = tuple(
    (re.compile(verbs, re.IGNORECASE), re.compile(evidence, re.IGNORECASE)) for verbs, evidence in _ACTIONS
)


def claimed_actions(answer: str) -> Iterator[ClaimedAction]:
    """Yield the actions that an answer claims in the first person and the past tense."""
    for match in _CLAIM.finditer(answer):
        claimed: Sequence[str] = [match["verb"], *_FURTHER_VERB.findall(match["rest"])]
        for verb in claimed:
            for verbs, evidence in _EVIDENCE_BY_VERB:
                if verbs.fullmatch(verb):
                    yield ClaimedAction(TextSpan(match.start(), match.end()), evidence)
