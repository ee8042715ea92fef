"""Postal addresses: streets with a house number in several languages, boxes, units, postcodes.

Every pattern begins at a digit, a capital letter or a rare word and all repetitions are bounded, so matching
time is linear. A street without a number is left to the name tagger: it is a place, not an address.
"""

# ruff: noqa: E501 - a regular expression or a row of a table reads best on one line

import re
from collections.abc import Iterator

from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

_STATES = (
    "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AIT]"
    "|W[AIVY]|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho"
    "|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi"
    "|Missouri|Montana|Nebraska|Nevada|New (?:Hampshire|Jersey|Mexico|York)|(?:North|South) (?:Carolina|Dakota)|Ohio"
    "|Oklahoma|Oregon|Pennsylvania|Rhode Island|Tennessee|Texas|Utah|Vermont|(?:West )?Virginia|Washington|Wisconsin"
    "|Wyoming"
)
_TYPES = (
    "Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Drive|Dr|Lane|Ln|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way"
    "|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Crescent|Cres|Close|Trail|Trl|Turnpike|Tpke|Alley|Row|Grove|Gardens|Mews"
    "|Walk|Plaza|Loop|Pike|Run|Path|Expressway|Expy|Route|Quay|Hill|Park|Parade|Esplanade|Broadway|Freeway|Bypass"
    "|Point|Pt|Isle|Heights|Hollow|Ridge|Landing|Cove|Causeway|Bend|Crossing|Xing"
)
_PLAIN = "street|avenue|ave|road|rd|boulevard|blvd|crescent|terrace|lane|drive|parkway|highway|st"
_CAP = "[^\\W\\d_a-z][\\w.'\u2019-]{0,24}"
_NUMBER = r"\d{1,6}[A-Za-z]?(?:[-/]\d{1,5}[A-Za-z]?)?(?: 1/2)?"
_SIDE = "(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West|Northeast|Northwest|Southeast|Southwest)"
_UNIT = (
    r"(?:[,\n]? ?(?:Apartment|Apt|Suite|Ste|Unit|Floor|Flat|Room|Rm|No|#)\.? ?#?[A-Za-z]?-?\d{1,5}[A-Za-z]?)?"
)
_STATED = rf"(?:,?\s{{1,3}}{_CAP}(?: {_CAP}){{0,3}},?\s{{1,3}}(?:{_STATES})\b\.?(?:,?\s{{1,3}}\d{{5}}(?:-\d{{4}})?\b)?)?"

# 221B Baker Street; 1600 Pennsylvania Ave NW, Apt. 4, Washington, DC 20500; 350 5th Avenue
_NUMBER_FIRST = re.compile(
    rf"{_NUMBER}(?: {_SIDE}\b\.?)?(?: (?:{_CAP}|\d{{1,4}}(?:st|nd|rd|th)?)){{1,4}}? (?:{_TYPES})\b\.?"
    rf"(?: {_SIDE}\b\.?)?{_UNIT}{_STATED}"
)
# 12 oak street, springfield: in lower case only where nothing else can be meant
_LOWER = re.compile(
    rf"{_NUMBER} (?!(?:minutes?|mins?|miles?|km|hours?|blocks?|more|other|of|the|on|in|to|at|for|and)\b)"
    rf"[^\W\d_]{{3,20}}(?: (?!the\b|of\b|on\b|in\b|a\b|my\b|this\b)[^\W\d_]{{2,20}})?"
    rf" (?:{_PLAIN})\b(?=\.?(?:[ ]{{0,3}}(?:[,\n.;!?]|$|apt|unit|suite)))"
)
# 05405 Wesselényi u. 94.\n Suite 741: whatever its street is called, a unit follows
_WITH_UNIT = re.compile(
    rf"{_NUMBER}(?: (?:{_CAP}|\d{{1,5}}\.?)){{1,6}}(?P<unit>[,\n]? {{0,2}}(?i:apt|apartment|suite)\b\.? ?#?\d{{1,5}}[A-Za-z]?)"
)
# my address is 4241 Steinfelden 73
_SAID = re.compile(
    r"(?i)(?:address(?: is|:| of| to)?|located at|liv(?:e|es|ing) at|resid(?:e|es|ing) at|deliver(?:ed)? to|ship(?:ped)? to)"
    r"[: ]{1,6}$"
)
_ANY = re.compile(rf"{_NUMBER}(?: (?:{_CAP}|\d{{1,5}}\.?)){{1,5}}{_UNIT}")
_ARTICLE = r"(?:(?:de|del|della|dello|delle|dei|di|da|do|dos|das|du|des|la|las|los|le|les|el|al|y|e|et|d'|l'|dell'|van|von|den|der) ?){0,3}"
_KIND = (
    "Rue|Avenue|Av\\.|Boulevard|Bd\\.?|Place|All\u00e9e|Chemin|Impasse|Quai|Cours|Route|Square|Passage|Faubourg"
    "|Via|Viale|Piazza|Piazzale|Corso|Vicolo|Largo|Strada|Calle|Carrer|C/|Avenida|Avda\\.?|Paseo|Plaza|Camino"
    "|Ronda|Carretera|Rua|Pra\u00e7a|Travessa|Estrada|Rodovia|Alameda|ul\\.|Ulica|al\\.|os\\.|pl\\.|Aleja"
    "|Bulevardul|Jalan|Jl\\.|[Rr]ue|[Vv]ia|[Cc]alle|[Rr]ua"
)
_KINDS = tuple(f"{kind} " for kind in re.sub(r"\\(.)\??|\[(\w)\w\]", r"\1\2", _KIND).split("|"))
# 12 Rue de la Paix; Via Roma 5; ul. Marszalkowska 10/5
_KIND_FIRST = re.compile(
    rf"(?:(?<![\w.,]){_NUMBER}(?: (?:bis|ter))?,? ){{0,2}}(?<!\w)(?:{_KIND}) {_ARTICLE}{_CAP}(?:(?: {_ARTICLE}{_CAP}){{1,3}})?"
    rf"(?:,? (?:n[\u00b0\u00bao]\.? ?)?\d{{1,5}}[A-Za-z]?(?:/\d{{1,4}})?\b)?{_UNIT}"
)
_ENDING = (
    "stra\u00dfe|strasse|str\\.|straat|str\u00e6de|str\u00e6ti|stiege|steig|weg|platz|plein|allee|all\u00e9|gasse|ring"
    "|damm|ufer|gatan|gata|gate|v\u00e4gen|v\u00e4g|veien|vegen|vei|vej|v\u00e6nget|gade|laan|kade|gracht|dijk|singel"
    "|hof|katu|tie|t\u00e4nav|utca|\u00fat|rakpart|tee|vegur|braut|stien|toften|parken|bakken|ulice"
)
_ENDS = re.compile(rf"(?:(?<=[^\W\d_])| )(?:{_ENDING}|u\.|t\u00e9r|\u00fatja) ?$")
# Hauptstr. 5; Drottninggatan 12 B; Kossuth Lajos utca 7.
_NUMBER_LAST = re.compile(
    rf"(?:{_NUMBER} )?(?<!\w){_CAP}(?: {_CAP}){{0,2}}?(?:(?<=[^\W\d_])| )(?:{_ENDING}|u\.|t\u00e9r|[^\W\d_]{{2,20}} \u00fatja)"
    rf" ?\d{{1,4}} ?[A-Za-z]?\b\.?(?:[-/]\d{{1,4}})?{_UNIT}(?:,? \d{{4,5}} {_CAP})?"
)
_BOX = re.compile(
    r"(?i)\b(?:p\. ?o\. ?|p ?o ?|post office )box #?\d{1,6}\b"
    r"|\b(?:psc|unit|cmr) \d{1,5},? box \d{1,5}(?:\s{1,3}[afd]po a[aep] \d{5})?\b"
    r"|\b(?:uss|usns|usnv|uscgc) [^\W\d_]{2,20}\s{1,3}[afd]po a[aep] \d{5}\b|\b[afd]po,? a[aep] \d{5}\b"
    r"|\b(?:postfach|postbus|apartado|case postale|bo\u00eete postale|casella postale) \d{1,6}\b"
)
_BOX_WORDS = frozenset(
    [
        "box",
        "apo",
        "fpo",
        "dpo",
        "pobox",
        "postfach",
        "postbus",
        "apartado",
        "case",
        "boîte",
        "casella",
        "0",
        "postal",
    ]
)
_UNIT_WORDS = frozenset(["apt", "apartment", "suite", "ste"])
_ZIP_WORDS = frozenset(["zip", "zipcode", "postcode", "postal", "code"])
_ALONE = re.compile(r"(?i)\b(?:apt|apartment|suite|ste)\.? ?#?\d{1,5}[a-z]?\b")
_STATE = re.compile(rf"\b(?:{_STATES}),? $")
_ASKED_ZIP = re.compile(
    r"(?i)\b(?:zip|postal|post) ?-?code(?: is| of|:|,)? {0,2}((?=[A-Z -]{0,6}\d)[A-Z0-9]{2,6}(?:[ -][A-Z0-9]{2,4})?)\b"
    r"|\bzip:? (\d{5}(?:-\d{4})?)\b"
)
_UK = re.compile(r"\b(?:GIR 0AA|[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2})\b")
_CANADA = re.compile(r"\b[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] \d[ABCEGHJ-NPRSTV-Z]\d\b")
_ANNOUNCED = (
    (_BOX_WORDS, _BOX, "ADDRESS", 0.8),
    (_UNIT_WORDS, _ALONE, "ADDRESS", 0.5),
    (_ZIP_WORDS, _ASKED_ZIP, "ZIP_CODE", 0.8),
)
_HAS_DIGIT = re.compile(r"\d")
_STREET_FOLLOWS = re.compile(rf"[A-Za-z]?(?:[-/]\d{{1,5}}[A-Za-z]?)?(?: 1/2)? (?:{_CAP}|\d{{1,5}})")
_LOOK_BACK, _LOOK_AHEAD = 90, 160  # characters: longer than a street's name
_ZIP_DIGITS = 5


def find(view: NumericView) -> Iterator[EntitySpan]:
    """Yield addresses, and postcodes apart, in no order."""
    if not view.digest:
        return
    for start, end in view.numbers:
        yield from _at_number(view.text, start, end)
    yield from _named(view)


def _at_number(text: str, start: int, end: int) -> Iterator[EntitySpan]:
    """Yield what begins or ends with the number at a place."""
    if _STREET_FOLLOWS.match(text, end):
        match = _NUMBER_FIRST.match(text, start) or _WITH_UNIT.match(text, start)
        if match:
            yield EntitySpan(*match.span(), "ADDRESS", 0.8)
        elif _SAID.search(text[max(0, start - 24) : start]) and (match := _ANY.match(text, start)):
            yield EntitySpan(*match.span(), "ADDRESS", 0.6)
    elif match := _LOWER.match(text, start):
        yield EntitySpan(*match.span(), "ADDRESS", 0.6)
    before = text[max(0, start - 24) : start]
    if _ENDS.search(before):
        low = max(0, start - _LOOK_BACK)
        for match in _NUMBER_LAST.finditer(text, low, start + _LOOK_AHEAD):
            if match.end() > start:
                yield EntitySpan(*match.span(), "ADDRESS", 0.7)
    if end - start == _ZIP_DIGITS and _STATE.search(before):
        extended = end + 5 if re.match(r"-\d{4}\b", text[end : end + 6]) else end
        yield EntitySpan(start, extended, "ZIP_CODE", 0.7)


def _named(view: NumericView) -> Iterator[EntitySpan]:
    """Yield what a rare word or an unmistakable form announces."""
    text, words = view.text, view.words
    if any(kind in text for kind in _KINDS):
        for match in _KIND_FIRST.finditer(text):
            if _HAS_DIGIT.search(match.group()):
                yield EntitySpan(*match.span(), "ADDRESS", 0.7)
    for announcing, pattern, kind, score in _ANNOUNCED:
        if not words.isdisjoint(announcing):
            for match in pattern.finditer(text):
                yield EntitySpan(*match.span(match.lastindex or 0), kind, score)
    for pattern, kind in ((_UK, "UK_POSTCODE"), (_CANADA, "CA_POSTAL_CODE")):
        for match in pattern.finditer(view.digest):
            start = view.place(match.start())
            yield EntitySpan(start, start + len(match.group()), kind, 0.6)
