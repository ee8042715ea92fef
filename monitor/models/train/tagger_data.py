"""Labelled text for the name tagger: public sets on one set of kinds, and sentences made from templates.

A sample says, besides its spans, which kinds its annotators looked for: where they did not look, the loss accepts
"nothing" and any kind they would have ignored.
"""

import random
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from monitor.models.tagger import KINDS
from monitor.models.train import rows
from monitor.models.train.tagger_templates import NATIONALITIES, QUIET, TEMPLATES

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
LATIN = (
    "en_US en_GB en_IE en_AU en_CA en_IN en_NZ de_DE de_AT de_CH fr_FR fr_CA es_ES es_MX es_AR es_CO pt_BR pt_PT it_IT"
    " nl_NL nl_BE pl_PL cs_CZ sk_SK sl_SI hr_HR hu_HU ro_RO da_DK no_NO sv_SE fi_FI et_EE lv_LV lt_LT tr_TR id_ID"
    " vi_VN az_AZ en_PH en_NG en_KE zu_ZA yo_NG ga_IE tw_GH sq_AL uz_UZ en_PK en_BD"
).split()
OTHER_SCRIPTS = ("el_GR", "ru_RU", "uk_UA", "bg_BG", "ja_JP", "zh_CN", "ko_KR", "ar_EG", "he_IL", "hi_IN", "th_TH")
PREFIXES = ("Mr.", "Mrs.", "Ms.", "Miss", "Dr.", "Prof.", "Mr", "Mrs", "Dr", "Sir", "Madam", "Rev.", "Professor")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Mon", "Wed", "Thu", "Fri")
MONTHS = (
    "January February March April May June July August September October November December"
    " Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
).split()


class Sample(NamedTuple):
    """A text, its spans as (start, end, kind), and the kinds that were looked for.

    `weak`: the text was never annotated; its words without capitals are taken for nothing, its words with
    capitals say nothing, and neither do numbers, but none of it is an identifying number.
    """

    text: str
    spans: tuple[tuple[int, int, str], ...]
    looked_for: frozenset[str] = ALL
    weak: bool = False


class Values:
    """Draws made-up values of every placeholder that templates use."""

    def __init__(self, chance: random.Random) -> None:
        from faker import Faker

        self._chance = chance
        self._pools: dict[tuple[str, str], list[str]] = {}
        self._fakers: dict[str, Faker] = {}
        names: dict[str, list[str]] = {}
        for row in rows("traindata", "pii", "gazetteer.jsonl"):
            names.setdefault(row["type"], []).append(row["value"])
        self._lists = names
        self._firsts = names["FIRST_NAME_F"] + names["FIRST_NAME_M"]
        self._us_addresses = [row["value"] for row in rows("traindata", "pii", "street_addresses.jsonl")]
        self._weak_words = [
            w for row in rows("traindata", "text", "passages.jsonl") for w in re.findall(r"\b[a-z]{4,9}\b", row["text"])
        ][:20000]

    def _locale(self) -> str:
        chance = self._chance.random()
        if chance < 0.2:
            return "en_US"
        return self._chance.choice(LATIN if chance < 0.97 else OTHER_SCRIPTS)

    def _made(self, what: str, locale: str | None = None) -> str:
        """One value of a Faker provider; each locale's pool is drawn once, since providers are slow."""
        from faker import Faker

        locale = locale or self._locale()
        pool = self._pools.get((locale, what))
        if pool is None:
            maker = self._fakers.get(locale)
            if maker is None:
                maker = self._fakers[locale] = Faker(locale)
                maker.seed_instance(sum(map(ord, locale)))
            if not hasattr(maker, what):  # not every locale has every provider
                return self._made(what, "en_US")
            pool = self._pools[locale, what] = [str(getattr(maker, what)()) for _ in range(250)]
        return self._chance.choice(pool)

    def first(self) -> str:
        if self._chance.random() < 0.3:
            return self._chance.choice(self._firsts)
        return self._made("first_name")

    def last(self) -> str:
        r = self._chance.random()
        if r < 0.3:
            return self._chance.choice(self._lists["LAST_NAME"])
        name = self._made("last_name")
        if r > 0.97:
            name = self._chance.choice(("van ", "van der ", "de ", "di ", "von ", "Al-", "O'", "Mc", "Mac", "la ")) + name
        return name

    def person(self) -> str:
        c = self._chance
        r = c.random()
        if r < 0.18:
            return self.first()
        if r < 0.26:
            return self.last()
        locale = self._locale()
        first, last = (self._made("first_name", locale), self._made("last_name", locale))
        if c.random() < 0.35:
            first, last = self.first(), self.last()
        if r < 0.36:
            return f"{first} {c.choice('ABCDEFGHJKLMNPRSTVW')}. {last}"
        if r < 0.40:
            return f"{first} {self.first()} {last}"
        if r < 0.43:
            return f"{last}, {first}"
        if r < 0.46:
            return f"{first[0]}. {last}"
        if r < 0.48:
            return f"{first} {last}-{self.last()}"
        return f"{first} {last}"

    def full(self) -> str:
        name = self.person()
        return name if " " in name else f"{name} {self.last()}"

    def city(self) -> str:
        c = self._chance
        r = c.random()
        name = c.choice(self._lists["CITY"]) if r < 0.5 else self._made("city")
        return name.upper() if c.random() < 0.12 else name

    def country(self) -> str:
        r = self._chance.random()
        if r < 0.7:
            return self._chance.choice(self._lists["COUNTRY"])
        if r < 0.8:
            return self._chance.choice(("the United States", "USA", "U.S.", "UK", "the UK", "UAE", "the Netherlands"))
        return self._made("country", "en_US")

    def state(self) -> str:
        r = self._chance.random()
        if r < 0.5:
            return self._chance.choice(self._lists["US_STATE"])
        if r < 0.7:
            return self._chance.choice(self._lists["US_COUNTY"])
        return self._made("state", self._chance.choice(("en_AU", "en_IN", "es_MX", "pt_BR", "de_AT")))

    def place(self) -> str:
        r = self._chance.random()
        return self.city() if r < 0.6 else self.country() if r < 0.85 else self.state()

    def org(self) -> str:
        c = self._chance
        r = c.random()
        if r < 0.25:
            return self._made("company")
        word = self._word
        if r < 0.50:  # coined names of start-ups
            parts = ("ify ly io tech soft data labs net point gov wise logic verse mint spark hub stack med pay base bit"
                     " scan watt link wave cast flow mark path vest tracker metrics works geo bio").split()  # fmt: skip
            coined = (word() + c.choice(parts)).capitalize() if c.random() < 0.7 else word().capitalize() + word()
            return coined + c.choice(("", "", "", "", " Inc", " Inc.", ".com", " Corp", " Labs", " LLC", " Ltd", " Technologies"))  # fmt: skip
        if r < 0.75:
            nouns = ("Group Partners Holdings Systems Solutions Analytics Technologies Media Software Consulting Bank"
                     " Insurance Health University College Hospital Clinic Institute Foundation Association Airlines"
                     " Motors Energy Capital Ventures Networks Logistics Pharmaceuticals Foods Press Records Studios"
                     " Research Financial Services Entertainment Corporation Company International Appraisals").split()  # fmt: skip
            lead = c.choice((self.last, self.city, lambda: word().capitalize()))()
            middle = c.choice(("", "", f" {word().capitalize()}", " & " + self.last()))
            return f"{lead}{middle} {c.choice(nouns)}" + c.choice(("", "", "", " Inc.", " Ltd", " LLC", " GmbH", " AG"))
        if r < 0.83:
            return c.choice((f"{self.last()} and {self.last()}", f"{self.last()}-{self.last()}", f"{self.last()} & Sons",
                             f"University of {self.city()}", f"{self.last()} Bros", f"The {word().capitalize()} Company"))  # fmt: skip
        if r < 0.90:
            return "".join(c.choice("ABCDEFGHIJKLMNOPRSTUVW") for _ in range(c.choice((2, 3, 3, 4))))
        return c.choice(KNOWN_ORGS)

    def _word(self) -> str:
        return self._chance.choice(self._weak_words)

    def street(self) -> str:
        c = self._chance
        r = c.random()
        if r < 0.45:
            name = self._made("street_name")
        elif r < 0.8:
            kinds = "Street St. St Road Rd Avenue Ave Ave. Lane Drive Dr Boulevard Blvd Court Way Place Terrace Close".split()
            lead = c.choice((self.last, self.first, self.city, lambda: self._word().capitalize()))()
            name = f"{lead} {c.choice(kinds)}"
        elif r < 0.92:
            lead = c.choice(("Rue de", "rue", "Via", "Calle", "Avenida", "Avda.", "C/", "ul.", "Rua", "Piazza", "Plaza", "Carrer",
                             "quai", "boulevard", "av.", "Travessa", "Strada", "Camino", "Largo", "Vila", "P.O. Box"))  # fmt: skip
            name = f"{lead} {self.last() if lead != 'P.O. Box' else c.randint(10, 9999)}"
        else:
            tails = ("straße strasse gasse weg allee platz gade vej gatan vägen veien gata straat laan dreef plein katu tie utca"
                     " út körút ulice tér ova stræti gerði hólar vegur bakken haugen mäe").split()  # fmt: skip
            name = self.last() + c.choice(tails)
        if c.random() < 0.3:
            name += f" {c.randint(1, 300)}" + c.choice(("", "", "", "a", "B", "."))
        return name

    def building(self) -> str:
        c = self._chance
        return c.choice((f"{c.randint(1, 99):02d}", str(c.randint(1, 999)), str(c.randint(100, 99999)), f"{c.randint(1, 99)}{c.choice('ABCabc')}"))  # fmt: skip

    def unit(self) -> str:
        c = self._chance
        lead = c.choice(("Apt.", "Suite", "Unit", "Flat", "Apt", "apartment", "Floor", "Ste", "Room", "#", "Lägenhet", "byt"))
        return f"{lead} {c.randint(1, 999)}" if c.random() < 0.9 else f"{lead} {c.randint(1, 40)}{c.choice('ABCD')}"

    def zip(self) -> str:
        c = self._chance
        r = c.random()
        if r < 0.35:
            return f"{c.randint(501, 99950):05d}"
        if r < 0.7:
            return self._made("postcode")
        return c.choice((f"{c.randint(1000, 9999)}", f"{c.randint(100, 999)} {c.randint(10, 99)}", f"{c.randint(10000, 99999)}-{c.randint(100, 9999)}",
                         f"{c.randint(100, 999)}", f"{c.randint(100000, 999999)}", f"{c.randint(10, 99)}-{c.randint(100, 999)}"))  # fmt: skip

    def address(self) -> str:
        c = self._chance
        r = c.random()
        if r < 0.15:
            return c.choice(self._us_addresses)
        if r < 0.35:
            return self._made("address")
        if r < 0.42:
            return self._made("street_address")
        if r < 0.45:
            return c.choice((f"PSC {c.randint(1000, 9999)}, Box {c.randint(1000, 9999)}", f"Unit {c.randint(1000, 9999)} Box {c.randint(1000, 9999)}",
                             f"USNS {self.last()}", f"USCGC {self.last()}", f"USNV {self.last()}")) + c.choice(("\n", ", ", " ")) + \
                f"{c.choice(('APO', 'FPO', 'DPO'))} {c.choice(('AA', 'AE', 'AP'))} {c.randint(10000, 99999)}"  # fmt: skip
        if r < 0.5:
            return f"the corner of {self.street()} and {self.street()}" if c.random() < 0.5 else f"{self.street()} and {self.street()}"
        sep = c.choice((", ", ", ", " ", "\n", "\n ", "\n   ", ",\n"))
        parts = [self.street() if c.random() < 0.2 else f"{self.building()} {self.street()}"]
        if c.random() < 0.5:
            parts[0] += c.choice((" ", ", ", sep)) + self.unit()
        if c.random() < 0.8:
            parts.append(self.city())
        if c.random() < 0.6:
            parts.append(c.choice((self.country, self.state, lambda: c.choice(("NY", "CA", "PE", "ZH", "NSW", "ON", "BC", "IL", "TX", "nan")), self.country))())  # fmt: skip
        if c.random() < 0.6:
            place = c.choice((-1, -1, -1, 1)) if len(parts) > 1 else 0
            parts[place] = f"{parts[place]} {self.zip()}" if place <= 0 else f"{self.zip()} {parts[place]}"
        return sep.join(parts)

    def phone(self) -> str:
        c = self._chance
        if c.random() < 0.5:
            return self._made("phone_number")
        mask = c.choice(("+## ## ### ####", "+## ### ### ###", "0## #### ####", "0### ## ## ##", "(##) ####-####", "(##) ###-###", "## ## ## ##",
                         "### ### ###", "### ## ##", "#### ## ## ##", "+#-###-###-####", "###-###-####x###", "### #### ####", "########", "0#########",
                         "(###) ###-####", "0#.##.##.##.##", "## ### ## ##", "###.###.####", "+##########", "## ######", "(##) #### ####", "### ####", "#### ####"))  # fmt: skip
        return re.sub("#", lambda _: str(c.randint(0, 9)), mask)

    def year(self) -> str:
        return str(self._chance.randint(1930, 2030))

    def date(self) -> str:
        c = self._chance
        y, m, d = c.randint(1935, 2030), c.randint(1, 12), c.randint(1, 28)
        month = c.choice(MONTHS)
        return c.choice((f"{m}/{d}/{y}", f"{d:02d}.{m:02d}.{y}", f"{y}-{m:02d}-{d:02d}", f"{d} {month} {y}", f"{month} {d}, {y}", f"{month} {d}",
                         f"{d:02d}-{m:02d}-{y}", f"{month} {d}th", f"{d}/{m}/{y % 100:02d}", f"{y}-{m:02d}-{d:02d} {c.randint(0, 23):02d}:{c.randint(0, 59):02d}:{c.randint(0, 59):02d}",
                         f"{d:02d}/{m:02d}/{y}", f"{month} {y}", f"{c.choice(DAYS)}, {month} {d}", f"{y}-{m:02d}-{d:02d}T{c.randint(0, 23):02d}:{c.randint(0, 59):02d}:00Z",
                         f"{d}th of {month} {y}", f"{d:02d}-{month}-{y}"))  # fmt: skip

    def day(self) -> str:
        return self._chance.choice(DAYS[:7])

    def age(self) -> str:
        return str(self._chance.randint(1, 99))

    def prefix(self) -> str:
        return self._chance.choice(PREFIXES[:5] if self._chance.random() < 0.8 else PREFIXES)

    def job(self) -> str:
        c = self._chance
        if c.random() < 0.5:
            name = self._made("job", "en_US")
            if ", " in name and c.random() < 0.7:
                back, front = name.split(", ", 1)
                name = f"{front} {back}"
            return name.capitalize() if c.random() < 0.5 else name.lower()
        lead = c.choice(JOB_LEADS) + " " if c.random() < 0.7 else ""
        name = lead + c.choice(JOBS)
        return name.capitalize() if c.random() < 0.6 else name.title() if c.random() < 0.3 else name

    def nrp(self) -> str:
        return self._chance.choice(NATIONALITIES)

    def nrps(self) -> str:
        name = self.nrp()
        if name.endswith(("s", "sh", "ch", "ese")):
            return name
        return (name.lower() if self._chance.random() < 0.3 else name) + "s"

    def id(self) -> str:
        c = self._chance
        mask = c.choice(("################", "################", "####-####-####-####", "#### #### #### ####", "###############", "############", "##############",
                         "###-##-####", "###-##-####", "### ## ####", "A########", "A############", "#########", "AA######A", "A#######", "AAA######", "#######", "########",
                         "AA## #### #### #### #### ##", "AA######", "###.###.###-##", "A##-##-####", "#################", "####-##-####"))  # fmt: skip
        mask = mask if c.random() < 0.9 else mask.lower()
        out = re.sub("#", lambda _: str(c.randint(0, 9)), mask)
        return re.sub("[Aa]", lambda m: c.choice("ABCDEFGHIJKLMNOPRSTUVWXYZ") if m[0] == "A" else c.choice("abcdefghjklmn"), out)

    def card(self) -> str:
        c = self._chance
        length = c.choice((16, 16, 16, 15, 14, 12, 13, 19))
        digits = c.choice("456339") + "".join(str(c.randint(0, 9)) for _ in range(length - 1))
        return digits if c.random() < 0.85 else " ".join(digits[i : i + 4] for i in range(0, length, 4))

    def ssn(self) -> str:
        c = self._chance
        return f"{c.randint(1, 899):03d}-{c.randint(1, 99):02d}-{c.randint(1, 9999):04d}"

    def email(self) -> str:
        c = self._chance
        user = c.choice((self.first() + self.last(), f"{self.first()}.{self.last()}", self.first() + str(c.randint(1, 99)))).replace(" ", "")
        return f"{user if c.random() < 0.5 else user.lower()}@{self._word()}.{c.choice(('com', 'org', 'de', 'co.uk', 'net', 'hu'))}"

    def url(self) -> str:
        c = self._chance
        return c.choice(("http://", "https://", "https://www.", "www.")) + self._word().capitalize() + self._word() + c.choice((".com/", ".org", ".io/", ".de/", ".cz/"))

    def n(self) -> str:
        c = self._chance
        return str(c.choice((c.randint(2, 20), c.randint(20, 400), c.randint(400, 9999))))

    def word(self) -> str:
        return self._word()


KINDS_OF = {
    "person": "PERSON", "full": "PERSON", "first": "PERSON", "last": "PERSON", "city": "LOCATION", "country": "LOCATION",
    "state": "LOCATION", "place": "LOCATION", "org": "ORGANIZATION", "address": "ADDRESS", "street": "ADDRESS",
    "building": "ADDRESS", "unit": "ADDRESS", "zip": "ZIP_CODE", "phone": "PHONE_NUMBER", "date": "DATE_TIME",
    "day": "DATE_TIME", "year": "DATE_TIME", "age": "AGE", "prefix": "TITLE", "job": "TITLE", "nrp": "NRP", "nrps": "NRP",
    "id": "ID_NUMBER", "card": "ID_NUMBER", "ssn": "ID_NUMBER",
}  # fmt: skip
# Which drawer replaces an annotated span of a kind.
REDRAWN = {
    "LOCATION": "place", "ORGANIZATION": "org", "ZIP_CODE": "zip", "PHONE_NUMBER": "phone", "AGE": "age", "NRP": "nrp",
}  # fmt: skip
THEIR_PLACEHOLDERS = {
    "person": "person", "name": "full", "name_male": "full", "name_female": "full", "first_name": "first", "first_name_male": "first",
    "first_name_female": "first", "last_name": "last", "last_name_male": "last", "address": "address", "building_number": "building",
    "street_name": "street", "secondary_address": "unit", "city": "city", "country": "country", "state": "state", "state_abbr": "state",
    "postcode": "zip", "zipcode": "zip", "phone_number": "phone", "organization": "org", "company": "org", "job": "job",
    "prefix": "prefix", "prefix_male": "prefix", "prefix_female": "prefix", "age": "age", "date_time": "date",
    "date_of_birth": "date", "day_of_week": "day", "year": "year", "nationality": "nrp", "nation_man": "nrp", "nation_woman": "nrp",
    "nation_plural": "nrps", "credit_card_number": "card", "ssn": "ssn", "us_driver_license": "id", "email": "email", "url": "url",
    "iban": "id", "ip_address": "url",
}  # fmt: skip
KNOWN_ORGS = (
    "Google", "Microsoft", "Apple", "Amazon", "Facebook", "IBM", "Intel", "SAP", "Oracle", "Sony", "Samsung", "Toyota", "BMW", "Siemens",
    "Deloitte", "PwC", "KPMG", "Accenture", "Citigroup", "HSBC", "Barclays", "Visa", "PayPal", "eBay", "Netflix", "Uber", "Airbnb", "Spotify",
    "NASA", "FBI", "CIA", "NATO", "UN", "UNICEF", "WHO", "EU", "BBC", "CNN", "Reuters", "Nokia", "Ericsson", "Volvo", "IKEA", "Nestle",
    "Harvard", "MIT", "Stanford", "Yale", "Oxford University", "Red Cross", "Greenpeace", "Walmart", "Tesco", "Starbucks", "Boeing", "Airbus",
    "Equifax", "Experian", "Transunion", "LinkedIn", "Zillow", "Yahoo", "Twitter", "Wells Fargo", "JPMorgan", "Goldman Sachs", "Chase",
)  # fmt: skip
JOB_LEADS = (
    "senior junior chief assistant lead head principal deputy regional associate clinical technical medical legal industrial dental"
    " mechanical civil electrical school police fire real-estate sales marketing product data software network financial account"
    " construction radio sewer cable dairy lab pastry truck forklift wood metal paper textile print order booth postal farm marine"
).split()
JOBS = (
    "manager engineer nurse teacher doctor lawyer accountant analyst consultant developer designer driver officer technician cleaner clerk"
    " operator mechanic chef cook waiter singer actor scientist researcher professor plumber electrician carpenter painter surgeon dentist"
    " pharmacist therapist librarian editor writer journalist photographer cashier secretary receptionist director president inspector"
    " installer worker supervisor specialist coordinator administrator architect surveyor biologist chemist geologist economist farmer"
    " butcher baker tailor welder machinist assembler trainer coach pilot dispatcher broker agent auditor lineman"
).split()


def fill(template: str, values: Values) -> Sample:
    """Fill `{placeholder}` of a template. An unknown placeholder raises AttributeError."""
    text, spans, at = "", list[tuple[int, int, str]](), 0
    for match in re.finditer(r"\{(\w+)\}", template):
        text += template[at : match.start()]
        value = " ".join(getattr(values, match[1])().split(" ")).strip()
        if match[1] in KINDS_OF:
            spans.append((len(text), len(text) + len(value), KINDS_OF[match[1]]))
        text += value
        at = match.end()
    return Sample(text + template[at:], tuple(spans))


def presidio(name: str, *where: str) -> list[tuple[Sample, str]]:
    """Return the samples of a presidio-research file, each with its template: the text without its values."""
    out = []
    for row in rows(*where, "pii", f"{name}.jsonl"):
        text = row["text"]
        spans = sorted((s["start"], s["end"], s["type"]) for s in row["spans"])
        kept = []
        for start, end, kind in spans:
            if kind in BY_PATTERN:
                continue
            mapped = MAPPED.get(kind, kind)
            if mapped == "ADDRESS" and re.search(r"zip code\W*(?:is)?\s*$", text[:start], re.IGNORECASE):
                mapped = "ZIP_CODE"
            kept.append((start, end, mapped))
        out.append((Sample(text, tuple(kept)), outline(text, [(s, e) for s, e, _ in spans])))
    return out


def outline(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text's template: spans as marks, neighbouring marks as one, letters lower, no punctuation."""
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]} \0 {text[end:]}"
    words = re.sub(r"[^\w\0]+", " ", text.lower())
    return re.sub(r"\0(?: \0)+", "\0", words).strip()


def groups(outlines: Sequence[str]) -> list[int]:
    """Number templates so that any two which share a run of six words, or are equal, have one number."""
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
    """Return (template with our placeholders, outline) of the published presidio templates."""
    out = []
    for row in rows("traindata", "pii", "presidio_templates.jsonl"):
        known = True

        def ours(match: re.Match[str]) -> str:
            nonlocal known
            known = known and match[1] in THEIR_PLACEHOLDERS
            return "{" + THEIR_PLACEHOLDERS.get(match[1], "word") + "}"

        text = re.sub(r"\{\{(\w+)\}\}", ours, row["text"])
        if known:
            marks = [(m.start(), m.end()) for m in re.finditer(r"\{\{\w+\}\}", row["text"])]
            out.append((text, outline(row["text"], marks)))
    return out


def annotated(*parts: str) -> list[Sample]:
    """Return the samples of a set that annotates people, places and organisations only."""
    return [
        Sample(row["text"], tuple(sorted((s["start"], s["end"], s["type"]) for s in row["spans"])), NEWS)
        for row in rows(*parts)
    ]


def weak(chance: random.Random, count: int) -> list[Sample]:
    """Return chat turns and passages, never annotated."""
    chat = [row["text"] for row in rows("traindata", "toxicity", "sgd_neutral_chat.jsonl")]
    prose = [row["text"] for row in rows("traindata", "text", "passages.jsonl")]
    return [Sample(t, (), ALL, weak=True) for t in chance.sample(chat, count) + chance.sample(prose, count // 2)]


def redrawn(sample: Sample, values: Values, chance: random.Random, share: float) -> Sample:
    """Replace a share of the spans' values by made-up ones of the same kind and likeness."""
    text, spans, at = "", list[tuple[int, int, str]](), 0
    for start, end, kind in sample.spans:
        old = sample.text[start:end]
        text += sample.text[at:start]
        new = _likewise(old, kind, values) if chance.random() < share else old
        if old.islower():
            new = new.lower()
        elif old.isupper() and len(old) > 3:
            new = new.upper()
        spans.append((len(text), len(text) + len(new), kind))
        text += new
        at = end
    return sample._replace(text=text + sample.text[at:], spans=tuple(spans))


def _likewise(old: str, kind: str, values: Values) -> str:  # noqa: PLR0911 - one answer per kind
    if kind == "PERSON":
        return values.full() if " " in old else values.first()
    if kind == "ADDRESS":
        if old.replace(" ", "").replace("-", "").isdigit():
            return values.building() if len(old) < 4 else values.zip()
        if re.match(r"(?i)(apt|suite|unit)\b", old):
            return values.unit()
        return values.address() if len(old) > 25 else values.street()
    if kind == "DATE_TIME":
        return values.year() if re.fullmatch(r"\d{4}", old) else values.day() if old.isalpha() else values.date()
    if kind == "TITLE":
        return values.prefix() if len(old) < 5 else values.job()
    if kind == "ID_NUMBER":
        return values.ssn() if re.fullmatch(r"[\d-]{11}", old) else values.card() if len(old) > 11 and old.isdigit() else values.id()
    return getattr(values, REDRAWN[kind])()  # type: ignore[no-any-return]


def recased(sample: Sample, chance: random.Random) -> Sample:
    """Write a sample in another case now and then; offsets stay, so texts that would change length do not."""
    r = chance.random()
    if sample.weak or r > 0.33:
        return sample
    text = sample.text.lower() if r < 0.25 else sample.text.upper() if r < 0.29 else sample.text.title()
    return sample._replace(text=text) if len(text) == len(sample.text) else sample


def joined(samples: Sequence[Sample], between: str) -> Sample:
    """Put samples of one annotation after each other."""
    text, spans = "", list[tuple[int, int, str]]()
    for sample in samples:
        text += between if text else ""
        spans += [(s + len(text), e + len(text), kind) for s, e, kind in sample.spans]
        text += sample.text
    return samples[0]._replace(text=text, spans=tuple(spans))


def made(values: Values, chance: random.Random, count: int, theirs: Sequence[str]) -> list[Sample]:
    """Return texts of one to four filled templates; `theirs` are used beside our own."""
    out = []
    for _ in range(count):
        parts = []
        for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
            r = chance.random()
            pool = QUIET if r < 0.2 else theirs if r < 0.4 and theirs else TEMPLATES
            parts.append(fill(chance.choice(pool), values))
        out.append(joined(parts, chance.choice((" ", " ", "\n", "\n\n"))))
    return out
