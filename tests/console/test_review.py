"""The review page: the flags that a dashboard's link means, redacted, for those who have the token."""

import base64
import http.client
import json
import math
import re
import threading
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import pytest
from flags import PII, numbered_flag_row, redacted
from hypothesis import given
from hypothesis import strategies as st
from ledgers import record_flags
from msgspec.structs import replace
from patience import PATIENCE, eventually
from pydantic import SecretStr

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.console.http import HttpServer
from monitor.console.review import PAGE, WAITING, Find, QueryRefused, Review, parse
from monitor.console.review_page import as_html
from monitor.daemon.daemon import Daemon, wait_in_thread
from monitor.errors import Retryable
from monitor.findings import Assessment, Evidence, Judgement, Severity, Status
from monitor.ledger.flags import FlagReader
from monitor.ledger.store import Ledger
from monitor.outcome.effects import flag_rows
from monitor.records import FlagFilter, FlagPage
from monitor.telemetry.metrics import Metrics
from monitor.testing import MemoryLog, MemorySource
from monitor.trace import Message, Origin, SafeText, Trace
from monitor.web.credentials import Gate

TOKEN = "canary-tokén-of-sixteen"
CANARY = "<script>alert('canary')</script>"
BEARER = {"Authorization": f"Bearer {TOKEN}".encode()}
VOID = {"meta", "br"}


class Health:
    def live(self) -> bool:
        """Always."""
        return True

    def ready(self) -> Mapping[str, bool]:
        """Nothing to wait for."""
        return {}


class Answer(NamedTuple):
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def numbers(self) -> list[int]:
        """Offsets of the flags listed, as JSON or as a page."""
        if self.headers["Content-Type"] == "application/json":
            return [flag["position"]["offset"] for flag in json.loads(self.text)["flags"]]
        return [int(found) for found in re.findall(r'<tr id="flag-(\d+)"', self.text)]

    @property
    def error(self) -> str:
        """What a refusal says."""
        return str(json.loads(self.text)["error"])


class Page(HTMLParser):
    """A page read strictly: every element is closed in order; its texts, elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It must be the latest that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def links(self) -> list[str]:
        """Where its links lead."""
        return [attributes["href"] or "" for tag, attributes in self.tags if tag == "a"]


class Rig:
    """A running server with a review page."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server

    @classmethod
    def of(cls, find: Find, token: str = TOKEN) -> "Rig":
        """Start a server whose page shows what `find` finds."""
        review = Review(Gate("review", SecretStr(token), basic=True), find) if token else None
        rig = cls(HttpServer("127.0.0.1", 0, Metrics().registry, Health(), review=review))
        rig.server.start()
        return rig

    def get(self, path: str, headers: Mapping[str, str | bytes] = BEARER, method: str = "GET") -> Answer:
        """Ask for a path, exactly as it is written."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), dict(answer.headers))
        finally:
            connection.close()

    def json(self, **parameters: str) -> Answer:
        """Ask for flags as JSON."""
        return self.get("/review?" + urlencode({**parameters, "format": "json"}))


@pytest.fixture
def rig(ledger: Ledger) -> Iterator[Rig]:
    """A server over the test's ledger."""
    reader = FlagReader(ledger.engine.url, SystemClock(), 30.0)
    running = Rig.of(reader.find)
    yield running
    running.server.stop()
    reader.close()


@pytest.mark.parametrize(
    ("parameters", "numbers"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"app": "shop"}, [3, 1, 0]),
        ({"app": ""}, [4, 3, 2, 1, 0]),
        ({"app": "unknown"}, [4]),
        ({"app": "a & b+c/ü"}, [2]),
        ({"rule": "Toxic"}, [3]),
        ({"rule": "Toxic", "app": "desk"}, []),
        ({"environment": "staging"}, [1]),
        ({"model": "m-2"}, [1]),
        ({"severity": "critical"}, [0]),
        ({"trace_id": "trace-2"}, [2]),
        ({"detector": "toxicity"}, [3]),
        ({"from": "1700000001000", "to": "1700000002000"}, [2, 1]),
        ({"from": "2023-11-14T22:13:22Z"}, [4, 3, 2]),
        ({"to": "2023-11-15T00:13:21+02:00"}, [1, 0]),
    ],
)
def test_filters_choose_what_is_listed(
    ledger: Ledger,
    rig: Rig,
    parameters: dict[str, str],
    numbers: list[int],
) -> None:
    """Each parameter leaves out what does not fit, on the page as in JSON; an empty one nothing."""
    toxic = Assessment(detector="toxicity", version="1", status=Status.SCORED, score=1.0)
    record_flags(
        ledger,
        [
            numbered_flag_row(0, severity=Severity.CRITICAL),
            numbered_flag_row(1, environment="staging", model="m-2"),
            numbered_flag_row(2, app="a & b+c/ü"),
            numbered_flag_row(3, rule="Toxic", detectors=("toxicity",), assessments=(toxic,)),
            numbered_flag_row(4, app=""),
        ],
    )
    assert rig.json(**parameters).numbers == numbers
    page = rig.get("/review?" + urlencode(parameters))
    assert page.numbers == numbers
    assert f"{len(numbers)} flag" in page.text


def links_of_dashboards() -> set[str]:
    """The links to the review page as the generated dashboards have them."""
    texts = [path.read_text(encoding="utf-8") for path in Path("grafana/dashboards").glob("*.json")]
    return {url for text in texts for url in re.findall(r'"url": "(\$\{console\}/review[^"]*)"', text)}


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ({"app": "shop", "rule": "Leak"}, [3, 2]),
        ({"app": "a & b", "rule": "Toxic"}, [4]),
        ({"rule": "Toxic"}, [5, 4]),
    ],
)
@pytest.mark.parametrize("lacking", ["", None])
def test_a_dashboards_link_leads_to_its_flags(
    ledger: Ledger,
    rig: Rig,
    labels: dict[str, str],
    numbers: list[int],
    lacking: str | None,
) -> None:
    """A link that Grafana filled in shows the flags of its series and time; a label it lacks may be any."""
    record_flags(ledger, [numbered_flag_row(n) for n in (0, 1, 2, 3)])
    record_flags(
        ledger,
        [
            numbered_flag_row(4, app="a & b", rule="Toxic"),
            numbered_flag_row(5, rule="Toxic"),
            numbered_flag_row(9),
        ],
    )
    for url in links_of_dashboards():
        for name in ("app", "rule"):
            value = quote(labels[name], safe="") if name in labels else lacking
            if value is not None:
                for of in ("__field.labels", "__data.fields"):
                    url = url.replace(f"${{{of}.{name}}}", value)  # noqa: PLW2901 - filled in bit by bit
        filled = url.replace("${__from}", "1700000002000").replace("${__to}", "1700000008000")
        assert rig.get(filled.removeprefix("${console}")).numbers == numbers


def test_what_metrics_call_other_is_explained(rig: Rig) -> None:
    """Where a link asks for `other` and nothing has that name, the page says what it stands for."""
    assert "max_label_values" in rig.get("/review?app=other").text
    assert "max_label_values" not in rig.get("/review?app=shop").text


@pytest.mark.parametrize("form", ["json", "html"])
def test_next_leads_through_all_of_it(ledger: Ledger, rig: Rig, form: str) -> None:
    """Following `next` shows each flag that fits once, at most 200 at a time, until there is none."""
    record_flags(
        ledger,
        (numbered_flag_row(n, app="shop" if n % 3 else "desk", time=float(n // 50)) for n in range(750)),
    )
    following, seen, sizes = f"?app=shop&format={form}", list[int](), list[int]()
    while following:
        answer = rig.get("/review" + following)
        seen += answer.numbers
        sizes.append(len(answer.numbers))
        if form == "json":
            following = json.loads(answer.text)["next"]
        else:
            following = next((link for link in Page(answer.text).links() if "before=" in link), "")
    assert sizes == [PAGE, PAGE, 100]
    assert seen == [n for n in reversed(range(750)) if n % 3]


def test_json_has_the_documented_shape(ledger: Ledger, rig: Rig) -> None:
    """Accept or `format` ask for JSON: what the row shows, by name."""
    drift = Assessment(detector="drift", version="1", status=Status.SKIPPED, reason="warming_up")
    record_flags(ledger, [numbered_flag_row(7, assessments=(PII, drift), error="RateLimitError")])
    answer = rig.get("/review", {**BEARER, "Accept": "application/json"})
    assert answer.headers["Content-Type"] == "application/json"
    assert rig.json().text == answer.text
    assert json.loads(answer.text) == {
        "flags": [
            {
                "id": "flag-00007",
                "time": "2023-11-14T22:13:27.000Z",
                "rule": "Leak",
                "severity": "warning",
                "app": "shop",
                "environment": "production",
                "provider": "unknown",
                "model_version": "",
                "prompt_name": "",
                "prompt_version": "",
                "model": "m-1",
                "trace_id": "trace-7",
                "error": "RateLimitError",
                "position": {"topic": "traces", "partition": 3, "offset": 7},
                "why": [
                    {
                        "detector": "pii",
                        "status": "scored",
                        "score": 0.91,
                        "reason": "",
                        "kinds": {"EMAIL_ADDRESS": 2},
                    },
                    {
                        "detector": "drift",
                        "status": "skipped",
                        "score": None,
                        "reason": "warming_up",
                        "kinds": {},
                    },
                ],
                "text": {
                    "prompt": "Who is it?",
                    "response": "It is <EMAIL_ADDRESS>.",
                    "evidence": ["<EMAIL_ADDRESS>"],
                },
            }
        ],
        "next": None,
    }
    browser: dict[str, str | bytes] = {**BEARER, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert rig.get("/review", browser).headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_page_shows_a_row_in_words(ledger: Ledger, rig: Rig) -> None:
    """Severity as a word, time, names, position, reasons and the redacted text stand on the page."""
    drift = Assessment(detector="drift", version="1", status=Status.SKIPPED, reason="warming_up")
    record_flags(
        ledger, [numbered_flag_row(7, severity=Severity.CRITICAL, assessments=(PII, drift), model="")]
    )
    page = Page(rig.get("/review?app=shop").text)
    text = "|".join(page.texts)
    for expected in (
        "2023-11-14|22:13:27.000", "■ critical", "Leak", "shop|production|unknown", "trace-7", "traces/3/7",
        "pii| 0.91 |EMAIL_ADDRESS x2", "drift| skipped |warming_up", "Who is it?", "It is <EMAIL_ADDRESS>.",
        "1 flag, the newest first; chosen by: app |shop",
    ):  # fmt: skip
        assert expected in text
    assert page.links() == ["?trace_id=trace-7"]


def test_a_failed_call_shows_the_type_of_its_error(ledger: Ledger, rig: Rig) -> None:
    """The type stands with the trace, on the page as in JSON; a call that did not fail has none."""
    flag = numbered_flag_row(0).flag
    for number, error in enumerate(("", "openai.RateLimitError")):
        trace = Trace(id=f"t-{number}", time=1.0, response="", error=error)
        judged = Judgement(
            origin=Origin("t", 0, number, 0),
            trace=trace,
            assessments=(PII,),
            flags=(replace(flag, id=f"flag-{number}"),),
        )
        record_flags(ledger, flag_rows(redacted(judged), 10.0 + number))
    assert [each["error"] for each in json.loads(rig.json().text)["flags"]] == ["openai.RateLimitError", ""]
    text = "|".join(Page(rig.get("/review").text).texts)
    assert text.count("failed: ") == 1
    assert "t/0/1|failed: |openai.RateLimitError" in text


def test_nothing_in_a_flag_becomes_markup(ledger: Ledger, rig: Rig) -> None:
    """Whatever names and texts hold is shown as text, and there is no script in a page, nor a handler."""
    hostile = f"\"'>\x00{CANARY}<img src=x onerror=alert(1)>&amp;"
    kind = Evidence(field="response", start=0, end=1, kind=hostile, score=1.0)
    found = Assessment(detector=hostile, version="1", status=Status.ERROR, reason=hostile, evidence=(kind,))
    names = dict.fromkeys(("id", "rule", "trace_id", "app", "environment", "model", "error"), hostile)
    texts = {name: SafeText(hostile) for name in ("prompt", "response")}
    rows = [numbered_flag_row(0, **names, **texts, assessments=(found,), evidence=(SafeText(hostile),))]
    given = {"app": hostile, "rule": hostile}
    page = Page(as_html(rows, "?" + urlencode(given), given).decode())
    assert {tag for tag, _ in page.tags} == {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "b", "table", "thead", "tr", "th",
        "tbody", "td", "br", "span", "a", "div",
    }  # fmt: skip
    assert {name for _, attributes in page.tags for name in attributes} == {
        "lang", "charset", "class", "id", "href", "dir",
    }  # fmt: skip
    assert "".join(page.texts).count(CANARY) == 14
    assert all(link.startswith("?") for link in page.links())
    record_flags(ledger, [numbered_flag_row(1, app=CANARY, rule=CANARY, response=SafeText(CANARY))])
    answer = rig.get("/review?" + urlencode({"app": CANARY}))
    assert answer.numbers == [1]
    assert "<script" not in answer.text


def test_raw_text_of_a_trace_never_appears(ledger: Ledger, rig: Rig) -> None:
    """Of a trace with personal data the page has what redaction left; what was not kept is nowhere."""
    response = "Write to jane.canary@example.org."
    trace = Trace(
        id="t-1",
        time=1.0,
        app="shop",
        response=response,
        messages=(Message("system", "canary-system"), Message("user", "Who is jane.canary@example.org?")),
    )
    spans = [("response", response), ("messages.1", trace.messages[1].content)]
    evidence = tuple(
        Evidence(
            field=field, start=text.index("jane"), end=text.index(".org") + 4, kind="EMAIL_ADDRESS", score=1.0
        )
        for field, text in spans
    )
    pii = Assessment(detector="pii", version="1", status=Status.SCORED, score=1.0, evidence=evidence)
    judged = Judgement(
        origin=Origin("t", 0, 0, 0), trace=trace, assessments=(pii,), flags=(numbered_flag_row(0).flag,)
    )
    record_flags(ledger, flag_rows(redacted(judged), 10.0))
    for form in ("html", "json"):
        text = rig.get(f"/review?format={form}").text
        assert "canary" not in text
        assert ("Write to <EMAIL_ADDRESS>" if form == "json" else "Write to &lt;EMAIL_ADDRESS&gt;") in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("aap=shop", 'aap: "shop" is no parameter of this page; use app, environment,'),
        ("severity=bad", 'severity: "bad" is no severity; use info, warning, critical'),
        ("from=now-1h", 'from: "now-1h" is no time; give Unix milliseconds, or RFC 3339'),
        ("to=2026-01-31T08:00:00", "to: "),
        ("to=-1", "to: "),
        ("from=1e9", "from: "),
        ("from=2000&to=1000", 'from: "2000" is later than `to`; swap them'),
        ("before=x", 'before: "x" is no place in the list; take it from `next`'),
        ("before=nan_flag", "before: "),
        ("before=1.0_", "before: "),
        ("format=xml", 'format: "xml" is no format; use json or html'),
        ("app=a&app=b", 'app: "b" is given with another value; give one'),
        ("trace_id=%00", "trace_id: "),
        ("&".join(["app="] * 40), "more than 32 parameters; leave some out"),
        (f"severity={'x' * 500}", f'severity: "{"x" * 100}…" is no severity'),
        ("app", None),
        ("rule=%ff%3Cscript%3E", None),
    ],
)
def test_a_query_that_is_not_understood_says_why(rig: Rig, query: str, said: str | None) -> None:
    """400 names the parameter, what was given and what to give; whatever a name may be is understood."""
    answer = rig.get(f"/review?{query}")
    assert answer.status == (200 if said is None else 400)
    if said is not None:
        assert said in answer.error
        assert answer.headers["Content-Type"] == "application/json"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["app", "from", "to", "before", "severity", "format", "x"]),
            st.text() | st.integers().map(str) | st.datetimes().map(str) | st.floats().map("{}_f".format),
        ),
        max_size=5,
    )
)
def test_every_query_is_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    """Whatever is asked, the answer is a filter of finite times or a refusal that names a parameter."""
    refusal = ""
    try:
        wanted = parse(urlencode(pairs), "").wanted
    except QueryRefused as refused:
        refusal = str(refused)
    if refusal:
        assert refusal.partition(":")[0] in {name for name, _ in pairs}
    else:
        bounds = [wanted.since, wanted.until, wanted.before and wanted.before[0]]
        assert all(bound is None or math.isfinite(bound) for bound in bounds)


def test_access_is_off_without_a_token() -> None:
    """Nobody sees flags of a daemon without the setting, whatever they send; the answer names it."""
    rig = Rig.of(lambda _wanted, _limit: pytest.fail("asked"), token="")
    try:
        for headers in ({}, {"Authorization": "Bearer "}, BEARER, {"Authorization": "Basic Og=="}):
            answer = rig.get("/review", headers)
            assert answer.status == 403
            assert "RISKMON_HTTP_REVIEW_TOKEN" in answer.error
    finally:
        rig.server.stop()


def basic(text: str) -> dict[str, str]:
    """A header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_the_token_opens_as_password_or_bearer(rig: Rig) -> None:
    """Any user name does; without the token, or with a part of it, the answer asks for it and has no flag."""
    for headers in (
        BEARER, basic(f"anyone:{TOKEN}"), basic(f":{TOKEN}"),
        {"Authorization": basic(f"x:{TOKEN}")["Authorization"].replace("Basic", "bAsIc")},
    ):  # fmt: skip
        assert rig.get("/review", headers).status == 200
    for wrong in (
        {}, basic(TOKEN), basic(f"{TOKEN}:"), basic(f"x:{TOKEN} "), basic(f"x:{TOKEN[:-1]}"), basic("x:"),
        {"Authorization": f"Bearer {TOKEN[:5]}"}, {"Authorization": "Bearer"}, {"Authorization": "Basic é="},
        {"Authorization": f"Digest {TOKEN}".encode()}, {"Authorization": TOKEN.encode()},
    ):  # fmt: skip
        answer = rig.get("/review?severity=bad", wrong)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="riskmon"'
        assert TOKEN not in answer.text


def test_answers_are_neither_kept_nor_run(rig: Rig) -> None:
    """Every answer of the page, a refusal too, forbids scripts, guessing, framing, referrers and caches."""
    for path, headers, status in (
        ("/review", BEARER, 200),
        ("/review?format=json", BEARER, 200),
        ("/review?x=1", BEARER, 400),
        ("/review", {}, 401),
    ):
        answer = rig.get(path, headers)
        assert answer.status == status
        for name, value in {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            assert answer.headers[name] == value


def test_it_only_reads(rig: Rig) -> None:
    """HEAD has the headers alone, any method that writes is refused."""
    head = rig.get("/review", method="HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["Content-Length"]) > 0
    assert rig.get("/review", method="POST").status == 405


def test_a_slow_ledger_keeps_nobody_else_waiting() -> None:
    """While flags are looked for, probes and scrapes are answered; one reader too many gets 503."""
    gate, asked = threading.Event(), threading.Semaphore(0)

    def find(wanted: FlagFilter, limit: int) -> FlagPage:
        del wanted, limit
        asked.release()
        assert gate.wait(2 * PATIENCE)
        return FlagPage((), more=False)

    rig = Rig.of(find)
    statuses: list[int] = []
    readers = [
        threading.Thread(target=lambda: statuses.append(rig.get("/review").status)) for _ in range(WAITING)
    ]
    try:
        for reader in readers:
            reader.start()
        assert asked.acquire(timeout=PATIENCE)
        eventually(lambda: _waiting(rig) == WAITING, "every place taken")
        refused = rig.get("/review")
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "2"
        for _ in range(20):
            assert rig.get("/livez").status == rig.get("/metrics").status == 200
        assert not statuses
        gate.set()
        for reader in readers:
            reader.join(PATIENCE)
        assert statuses == [200] * WAITING
        assert rig.get("/review").status == 200
    finally:
        gate.set()
        rig.server.stop()


def test_a_ledger_that_is_away_is_503() -> None:
    """What may pass is answered so that one tries again, without the database's own words."""

    def find(wanted: FlagFilter, limit: int) -> FlagPage:
        del wanted, limit
        raise Retryable("canary-database")

    rig = Rig.of(find)
    try:
        for _ in range(2 * WAITING):
            answer = rig.get("/review")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert "narrow `from` and `to`" in answer.error
            assert "canary" not in answer.text
    finally:
        rig.server.stop()


def test_a_server_that_stops_answers_what_it_reads_and_refuses_what_waits() -> None:
    """A stop waits for one query, not for all those behind it, and leaves no thread."""
    gate, asked = threading.Event(), threading.Event()

    def find(wanted: FlagFilter, limit: int) -> FlagPage:
        del wanted, limit
        asked.set()
        assert gate.wait(2 * PATIENCE)
        return FlagPage((), more=False)

    rig = Rig.of(find)
    statuses: list[int] = []
    readers = [threading.Thread(target=lambda: statuses.append(rig.get("/review").status)) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert asked.wait(PATIENCE)
    eventually(lambda: _waiting(rig) == 3, "three requests")
    stopping = threading.Thread(target=rig.server.stop)
    stopping.start()
    eventually(lambda: len(statuses) == 2, "two refusals")
    gate.set()
    stopping.join(PATIENCE)
    for reader in readers:
        reader.join(PATIENCE)
    assert sorted(statuses) == [200, 503, 503]
    eventually(
        lambda: not any(one.name.startswith("riskmon-review") for one in threading.enumerate()), "no thread"
    )


def _waiting(rig: Rig) -> int:
    review = rig.server._review
    assert review is not None
    return WAITING - review._places._value


def test_times_are_milliseconds_or_rfc_3339() -> None:
    """The same instant in each form is the same bound; an offset may be written with a bare plus."""
    forms = ["1769846400000", "2026-01-31T08:00:00Z", "2026-01-31T09:00:00+01:00", "2026-01-31T08:00:00.000Z"]
    found = {parse(f"from={form}", "").wanted.since for form in forms}
    assert found == {1_769_846_400.0}
    with pytest.raises(QueryRefused):
        parse("from=2026-01-31", "")


def test_the_daemon_serves_its_own_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose variable sets the token lists what it has flagged, and no one without it sees that."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "groups: [{name: g, rules: [{alert: Always, expr: 'trace.app == \"shop\"', "
        "labels: {severity: critical}, annotations: {summary: s}}]}]\n"
    )
    off = ", ".join(f"{name}: {{enabled: false}}" for name in Config().enabled_detectors() if name != "pii")
    file = tmp_path / "riskmon.yaml"
    file.write_text(
        f"rules: {{paths: [{rules}]}}\ndetectors: {{{off}, pii: {{options: {{tag_names: false}}}}}}\n"
        "http: {port: 0}\npool: {workers: 1}\ndeliver: {feedback_topic: ''}\n"
    )
    monkeypatch.setenv("RISKMON_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RISKMON_HTTP_REVIEW_TOKEN", TOKEN)
    body = {"id": "t-1", "app": "shop", "response": "Write to jane.canary@example.org."}
    log = MemoryLog({("llm.traces", 0): [json.dumps(body).encode()]})
    source = MemorySource(log, SystemClock(), finite=False)
    daemon = Daemon(load(file), clock=SystemClock(), source=source)
    thread, failures = wait_in_thread(daemon)
    try:
        eventually(lambda: daemon.totals.recorded == 1, "a judged trace")
        rig = Rig(daemon.http)
        [flag] = json.loads(rig.json(rule="Always").text)["flags"]
        assert (flag["trace_id"], flag["severity"]) == ("t-1", "critical")
        assert flag["text"]["response"] == "Write to <EMAIL_ADDRESS>"
        assert rig.get("/review", {}).status == 401
    finally:
        daemon.stop()
        thread.join(60)
    assert not failures
