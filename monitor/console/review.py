"""`GET /review`: the flags on record behind a point of a dashboard, for a person to read.

It shows only what the ledger keeps of a flag: identifiers, numbers, redacted text. Reading runs on a thread
of its own, so probes and scrapes never wait for the ledger; too many requests at once are answered with 503,
not queued.
"""

import asyncio
import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from monitor.console import review_page
from monitor.errors import Retryable
from monitor.findings import Severity
from monitor.records import FLAG_FIELDS, FlagFilter, FlagPage
from monitor.web.credentials import Gate
from monitor.web.server import JSON, Head, Response

PAGE: Final = 200  # flags
QUERY_SECONDS: Final = 2.0  # the longest the ledger may take; WAITING of them end before a request's deadline
WAITING: Final = 4  # answers under way or waiting
_ANSWER_SECONDS: Final = 9.0  # a ledger that still hangs is not waited for any longer
_PARAMETERS: Final = (*FLAG_FIELDS, "detector", "from", "to", "before", "format")
_MOST_PARAMETERS: Final = 32
_UNFILLED: Final = (
    "${__field.labels.",
    "${__data.fields.",
)  # Grafana's remains of a missing label
_SHOWN: Final = 100  # characters of a refused value
_MILLISECONDS: Final = re.compile(r"\d{1,14}")
_SAFE: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
)

Find = Callable[[FlagFilter, int], FlagPage]


class QueryRefused(Exception):  # noqa: N818 - an answer, not an error
    """A request that cannot be answered; the text names field, value and remedy."""


class ReviewQuery(NamedTuple):
    """A parsed request for flags, and its parameters as given."""

    wanted: FlagFilter
    parameters: Mapping[str, str]
    as_json: bool


class Review:
    """Answers `/review` for clients that `gate` lets pass.

    `find` returns the newest flags that match a filter, at most a given number. It is called from one thread
    and may raise Retryable.
    """

    def __init__(self, gate: Gate, find: Find) -> None:
        self._gate = gate
        self._find = find
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="riskmon-review")
        self._places = threading.BoundedSemaphore(WAITING)

    def refusal(self, head: Head) -> Response | None:
        """Return 401 unless the request holds the token, 429 to who has guessed too often."""
        seconds = self._gate.refusal(head.headers.get("authorization", ""), head.peer)
        if seconds is None:
            return None
        if seconds:
            text = "too many wrong tokens came from this address; try again later"
            return _problem(HTTPStatus.TOO_MANY_REQUESTS, text, ("Retry-After", str(math.ceil(seconds))))
        text = "the token is missing or wrong: give http.review_token as password, with any user name"
        return _problem(HTTPStatus.UNAUTHORIZED, text, ("WWW-Authenticate", 'Basic realm="riskmon"'))

    async def answer(self, head: Head) -> Response:
        """Return the requested page, 400 for bad parameters, or 503 when the ledger cannot answer now."""
        try:
            asked = parse(head.query, head.headers.get("accept", ""))
        except QueryRefused as refused:
            return _problem(HTTPStatus.BAD_REQUEST, str(refused))
        if not self._places.acquire(blocking=False):
            return _later("others are being answered; try again")
        try:
            making = self._reader.submit(self._make, asked)
        except RuntimeError:  # closed
            self._places.release()
            return _later("riskmon is stopping")
        making.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(making), _ANSWER_SECONDS)
        except (Retryable, TimeoutError):
            return _later("the ledger did not answer in time; narrow `from` and `to`, or try again")
        except asyncio.CancelledError:
            if not making.cancelled():
                raise
            return _later("riskmon is stopping")

    def close(self) -> None:
        """Stop answering; a query under way ends within QUERY_SECONDS. Idempotent."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _make(self, asked: ReviewQuery) -> Response:
        page = self._find(asked.wanted, PAGE)
        following = ""
        if page.more:
            last = page.flags[-1]
            following = "?" + urlencode({**asked.parameters, "before": f"{last.time!r}_{last.flag.id}"})
        if asked.as_json:
            return Response(HTTPStatus.OK, review_page.as_json(page.flags, following), JSON, _SAFE)
        html = review_page.as_html(page.flags, following, asked.parameters)
        return Response(HTTPStatus.OK, html, "text/html; charset=utf-8", _SAFE)


def parse(query: str, accept: str) -> ReviewQuery:
    """Read a query string. Raises QueryRefused.

    A parameter without a value is ignored, and so is one in which Grafana left its own variable because the
    series has no such label. `unknown` also finds flags without a name, which metrics call so.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise QueryRefused(f"the query has more than {_MOST_PARAMETERS} parameters; leave some out") from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name not in _PARAMETERS:
            raise _refused(name, value, f"is no parameter of this page; use {', '.join(_PARAMETERS)}")
        if name in parameters:
            raise _refused(name, value, "is given with another value; give one")
        if "\x00" in value:
            raise _refused(name, value, "has a NUL character; leave it out")
        if value and not value.startswith(_UNFILLED):
            parameters[name] = value
    equal: dict[str, tuple[str, ...]] = {
        name: (parameters[name], "") if parameters[name] == "unknown" else (parameters[name],)
        for name in FLAG_FIELDS
        if name in parameters
    }
    severities = list(Severity)
    if parameters.get("severity", severities[0]) not in severities:
        raise _refused("severity", parameters["severity"], f"is no severity; use {', '.join(severities)}")
    if parameters.get("format", "json") not in {"json", "html"}:
        raise _refused("format", parameters["format"], "is no format; use json or html")
    since, until = _time("from", parameters), _time("to", parameters)
    if since is not None and until is not None and since > until:
        raise _refused("from", parameters["from"], "is later than `to`; swap them")
    wanted = FlagFilter(
        equal=equal,
        detector=parameters.get("detector", ""),
        since=since,
        until=until,
        before=_key(parameters),
    )
    by_header = "json" if "application/json" in accept and "text/html" not in accept else "html"
    return ReviewQuery(wanted, parameters, parameters.get("format", by_header) == "json")


def _time(name: str, parameters: Mapping[str, str]) -> float | None:
    """Return a time, given as Unix milliseconds or in RFC 3339, as Unix seconds."""
    value = parameters.get(name)
    if value is None:
        return None
    if _MILLISECONDS.fullmatch(value):
        return int(value) / 1000
    try:
        # A query string decodes a plus as a blank, so the plus of an offset arrives as a blank.
        time = datetime.fromisoformat(value.replace(" ", "+"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        remedy = "is no time; give Unix milliseconds, or RFC 3339 with an offset: 2026-01-31T08:00:00Z"
        raise _refused(name, value, remedy)
    return time.timestamp()


def _key(parameters: Mapping[str, str]) -> tuple[float, str] | None:
    value = parameters.get("before")
    if value is None:
        return None
    number, _, flag = value.partition("_")
    try:
        time = float(number)
    except ValueError:
        time = math.nan
    if not math.isfinite(time) or not flag:
        raise _refused("before", value, "is no place in the list; take it from `next`, or leave it out")
    return time, flag


def _refused(name: str, value: str, remedy: str) -> QueryRefused:
    shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    return QueryRefused(f"{name[:_SHOWN]}: {json.dumps(shown, ensure_ascii=False)} {remedy}")


def _problem(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    body = json.dumps({"error": text}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    return Response(status, body, JSON, (*_SAFE, *headers))


def _later(text: str) -> Response:
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, text, ("Retry-After", "2"))


OFF: Final = _problem(
    HTTPStatus.FORBIDDEN,
    "http.review_token is not set, so flags are not shown here; set it to a long random text "
    "(or RISKMON_HTTP_REVIEW_TOKEN) and restart riskmon",
)
