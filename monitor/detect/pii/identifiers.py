"""Numbers that states and institutions give to people, beyond those of Presidio's default recognizers.

Each has its written form, its check digit where one exists, and words that name it. A form that chance produces
easily counts only next to such a word; kinds are named as Presidio names them where it knows them.
"""

# ruff: noqa: E501 - a regular expression or a row of a table reads best on one line

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from monitor.detect.pii import checks
from monitor.detect.pii.context import context_words, is_supported
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

_NAMED = 0.85  # next to a word that names it
_DATE6 = r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # year, month, day
_YAD6 = r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d\d"  # day, month, year

Check = Callable[[str], bool]


class _Identifier(NamedTuple):
    """A kind of identifier. `alone` is its score without a supporting word; below the threshold it needs one."""

    kind: str
    pattern: str
    check: Check | None
    alone: float
    words: str


_TABLE = (
    _Identifier("CREDIT_CARD", r"\d(?:[ .-]{0,3}\d){11,18}", checks.card, 0.6, "card visa mastercard amex maestro"),
    _Identifier("BR_CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d", checks.cpf, 0.7, "cpf"),
    _Identifier("BR_CPF", r"\d{11}", checks.cpf, 0.0, "cpf"),
    _Identifier("BR_CNPJ", r"\d\d\.?\d{3}\.?\d{3}/\d{4}-\d\d", checks.cnpj, 0.7, "cnpj"),
    _Identifier("AR_CUIT", r"(?:2[0347]|3[034])-\d{8}-\d", checks.cuit, 0.6, "cuit cuil"),
    _Identifier("CL_RUT", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", checks.rut, 0.6, "rut run"),
    _Identifier("MX_CURP", rf"[A-Z]{{4}}{_DATE6}[HMX][A-Z]{{5}}[A-Z0-9]\d", None, 0.7, "curp"),
    _Identifier("MX_RFC", rf"[A-Z&]{{3,4}}{_DATE6}[A-Z0-9]{{3}}", None, 0.2, "rfc"),
    _Identifier("CN_RESIDENT_ID", rf"\d{{6}}(?:19|20){_DATE6}\d{{3}}[\dXx]", checks.resident_id, 0.7, "id resident"),
    _Identifier("TW_ID", r"[A-Z][1289]\d{8}", checks.taiwan, 0.3, "taiwan identity id"),
    _Identifier("HK_ID", r"[A-Z]{1,2}\d{6}\([\dA]\)", checks.hong_kong, 0.6, "hkid"),
    _Identifier("SG_NRIC_FIN", r"[STFGMstfgm]\d{7}[A-Za-z]", checks.nric, 0.5, "nric fin"),
    _Identifier("TH_TNIN", r"\d-\d{4}-\d{5}-\d\d-\d", checks.thai, 0.6, "thai"),
    _Identifier("KR_RRN", rf"{_DATE6}-[1-8]\d{{6}}", checks.kr_rrn, 0.5, "resident registration rrn"),
    _Identifier("JP_MY_NUMBER", r"\d{4}[ -]?\d{4}[ -]?\d{4}", checks.my_number, 0.0, "mynumber my-number individual"),
    _Identifier("IN_AADHAAR", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", checks.verhoeff, 0.1, "aadhaar aadhar uidai"),
    _Identifier("IN_PAN", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", None, 0.3, "pan permanent"),
    _Identifier("IN_GSTIN", r"\d\d[A-Z]{5}\d{4}[A-Z][1-9A-Z]Z[\dA-Z]", None, 0.6, "gst gstin"),
    _Identifier("IN_VOTER", r"[A-Z]{3}\d{7}", None, 0.1, "voter epic elector"),
    _Identifier("IL_ID", r"\d{9}", checks.luhn, 0.0, "teudat zehut israeli"),
    _Identifier("TR_NATIONAL_ID", r"[1-9]\d{10}", checks.tckn, 0.1, "tckn tc kimlik turkish"),
    _Identifier("ZA_ID_NUMBER", rf"{_DATE6}\d{{4}}[01]\d\d", checks.luhn, 0.2, "id identity"),
    _Identifier("NG_NIN", r"\d{11}", None, 0.0, "nin nimc"),
    _Identifier("AU_TFN", r"\d{3}[ -]?\d{3}[ -]?\d{2,3}", checks.tfn, 0.0, "tfn tax"),
    _Identifier("AU_MEDICARE", r"[2-6]\d{3}[ -]?\d{5}[ -]?\d", None, 0.0, "medicare"),
    _Identifier("AU_ABN", r"\d\d ?\d{3} ?\d{3} ?\d{3}", None, 0.0, "abn"),
    _Identifier("NZ_IRD", r"\d{2,3}-?\d{3}-?\d{3}", None, 0.0, "ird"),
    _Identifier("CA_SIN", r"[1-79]\d\d([ -]?)\d{3}\1\d{3}", checks.luhn, 0.0, "sin social insurance nas"),
    _Identifier("UK_NINO", r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D]", None, 0.5, "nino insurance"),
    _Identifier("UK_DRIVING_LICENCE", r"[A-Z9]{5}\d(?:[05][1-9]|[16][0-2])(?:0[1-9]|[12]\d|3[01])\d[A-Z9]{2}\d[A-Z]{2}", None, 0.6, "driving licence dvla"),
    _Identifier("UK_UTR", r"\d{5} ?\d{5}", None, 0.0, "utr taxpayer"),
    _Identifier("IE_PPS", r"\d{7}[A-Wa-w][A-IWa-iw]?", checks.pps, 0.3, "pps ppsn"),
    _Identifier("DE_TAX_ID", r"[1-9]\d ?\d{3} ?\d{3} ?\d{3}", checks.iso7064, 0.0, "steuer tax idnr identifikation"),
    _Identifier("DE_SOCIAL_SECURITY", rf"\d\d ?{_YAD6} ?[A-Z] ?\d{{3}}", None, 0.4, "sozialversicherung rentenversicherung social"),
    _Identifier("DE_ID_CARD", r"[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}\d?", None, 0.0, "personalausweis ausweis reisepass"),
    _Identifier("AT_SVNR", rf"[1-9]\d{{3}} ?{_YAD6}", None, 0.1, "svnr sozialversicherung versicherungsnummer"),
    _Identifier("CH_AHV", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", checks.ean13, 0.7, "ahv avs"),
    _Identifier("FR_NIR", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", checks.mod97, 0.6, "insee nir"),
    _Identifier("FR_CNI", r"\d{12}", None, 0.0, "cni identité carte"),
    _Identifier("BE_NATIONAL_NUMBER", rf"\d\d\.(?:0\d|1[0-2])\.\d\d-\d{{3}}\.\d\d|{_DATE6}\d{{5}}", checks.mod97, 0.5, "rijksregister national"),
    _Identifier("NL_BSN", r"\d{3}[. ]?\d{3}[. ]?\d{3}", checks.bsn, 0.0, "bsn burgerservice sofi"),
    _Identifier("ES_NIF", r"\d{8}-?[A-HJ-NP-TV-Z]", checks.dni, 0.5, "nif dni"),
    _Identifier("ES_NIE", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", checks.nie, 0.6, "nie"),
    _Identifier("PT_NIF", r"[1235689]\d{8}", checks.eleven(9, 8, 7, 6, 5, 4, 3, 2, 1), 0.0, "nif contribuinte"),
    _Identifier("IT_FISCAL_CODE", r"[A-Z]{6}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{3}[A-Z]", checks.codice_fiscale, 0.8, "fiscale"),
    _Identifier("IT_VAT_CODE", r"\d{11}", checks.luhn, 0.0, "iva piva"),
    _Identifier("GR_AFM", r"\d{9}", None, 0.0, "afm"),
    _Identifier("SE_PERSONNUMMER", rf"(?:19|20)?{_DATE6}[-+]\d{{4}}", None, 0.4, "personnummer"),
    _Identifier("DK_CPR", rf"{_YAD6}-?\d{{4}}", None, 0.1, "cpr"),
    _Identifier("NO_FODSELSNUMMER", rf"{_YAD6} ?\d{{5}}", checks.fodselsnummer, 0.5, "fødselsnummer personnummer"),
    _Identifier("FI_PERSONAL_IDENTITY_CODE", rf"{_YAD6}[-+A-FU-Y]\d{{3}}[0-9A-FHJ-NPR-Y]", checks.hetu, 0.6, "henkilötunnus hetu"),
    _Identifier("IS_KENNITALA", rf"{_YAD6}-?\d{{3}}[089]", checks.eleven(3, 2, 7, 6, 5, 4, 3, 2, 1), 0.3, "kennitala"),
    _Identifier("PL_PESEL", r"\d{11}", checks.pesel, 0.2, "pesel"),
    _Identifier("CZ_RODNE_CISLO", r"\d{6}/\d{4}", checks.rodne, 0.6, "rodné číslo"),
    _Identifier("RO_CNP", rf"[1-8]{_DATE6}\d{{6}}", checks.cnp, 0.4, "cnp"),
    _Identifier("HR_OIB", r"\d{11}", checks.iso7064, 0.0, "oib"),
    _Identifier("US_EIN", r"\d\d-\d{7}", None, 0.1, "ein employer federal tax"),
    _Identifier("US_MBI", r"[1-9][AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?[AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?[AC-HJKMNP-RT-Y]{2}\d\d", None, 0.3, "medicare mbi"),
    _Identifier("US_NPI", r"[12]\d{9}", checks.npi, 0.0, "npi provider"),
    _Identifier("ABA_ROUTING_NUMBER", r"[0123678]\d{8}", checks.aba, 0.0, "aba routing"),
    _Identifier("US_DRIVER_LICENSE", r"[A-Z]{1,2}\d{4,13}[A-Z]?|\d{6,13}[A-Z]?|[A-Z]?\d{3,4}(?:-\d{2,4}){2,4}", None, 0.0, "driver license licence permit driving"),
    _Identifier("PASSPORT", r"[A-Z]{1,2}\d{6,8}|\d{8,9}", None, 0.0, "passport pasaporte passeport reisepass"),
    _Identifier("MEDICAL_RECORD_NUMBER", r"[A-Z]{0,3}-?\d{5,12}", None, 0.0, "mrn medical-record patient"),
    _Identifier("HEALTH_INSURANCE_ID", r"[A-Z]{1,4}-?\d{6,12}|\d{8,12}", None, 0.0, "member subscriber policy"),
    _Identifier("BANK_ACCOUNT", r"\d{2,4}(?:[ -]\d{2,8}){1,3}|\d{6,17}", None, 0.0, "acct iban kontonummer sortcode sort-code"),
    _Identifier("VIN", r"(?=[A-Z]*\d)[A-HJ-NPR-Z0-9]{17}", checks.vin, 0.3, "vin vehicle chassis"),
    _Identifier("IMEI", r"\d{2}[ -]?\d{6}[ -]?\d{6}[ -]?\d", checks.luhn, 0.0, "imei"),
    _Identifier("LICENSE_PLATE", r"(?=[A-Z0-9 -]{0,4}\d)(?=[0-9 -]{0,4}[A-Z])[A-Z0-9]{1,4}[ -]?[A-Z0-9]{1,4}(?:[ -]?[A-Z0-9]{1,4})?", None, 0.0, "plate"),
)  # fmt: skip


_LEAST_DIGITS = 3  # of the shortest form, a registration plate
_LEAST_ALONE = 7  # of the shortest form that needs no such word
_SPACED = frozenset({"UK_NINO", "LICENSE_PLATE"})  # may hold a group without a digit, which no digest has


class _Compiled(NamedTuple):
    kind: str
    finditer: Callable[[str], Iterator[re.Match[str]]]
    check: Check | None
    alone: float
    words: tuple[str, ...]


class Identifiers:
    """The table of identifiers at one threshold."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._entries = [
            _Compiled(
                i.kind,
                re.compile(rf"(?<![\w.,-])(?:{i.pattern})(?![\w-]|[.,]\d)").finditer,
                i.check,
                i.alone,
                context_words(i.words.split()),
            )
            for i in _TABLE
        ]

        self._alone = [entry for entry in self._entries if entry.alone >= threshold]
        self._words = frozenset(word for entry in self._entries for word in entry.words)

    def find(self, view: NumericView) -> Iterator[EntitySpan]:
        """Yield identifiers, in no order."""
        if view.most_digits < _LEAST_DIGITS:
            return
        lower = view.lower
        present = {word for word in self._words if word in lower}
        for kind, finditer, check, alone, words in self._entries if present else self._alone:
            named = not present.isdisjoint(words)
            if not named and (alone < self._threshold or view.most_digits < _LEAST_ALONE):
                continue
            whole = named and kind in _SPACED
            for match in finditer(view.text if whole else view.digest):
                if check is not None and not check(match.group()):
                    continue
                start = match.start() if whole else view.place(match.start())
                score = _NAMED if named and is_supported(view.text, start, words) else alone
                if score >= self._threshold:
                    yield EntitySpan(start, start + match.end() - match.start(), kind, score)
