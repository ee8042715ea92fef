"""A table of routes: what is not in it, and what follows from it."""

import asyncio
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.web.routes import Route, Routes
from monitor.web.server import Head, Response

PATHS = ["/a", "/b", "/c"]
METHODS = ["GET", "POST", "PUT"]


def problem(status: HTTPStatus, text: str, head: Head | None) -> Response:
    """A refusal with its text as body."""
    del head
    return Response(status, text.encode())


def routes(table: set[tuple[str, str]]) -> Routes:
    """Each route answers with its own method and path."""
    return Routes(
        [
            Route(method, path, lambda _head, own=f"{method} {path}": Response(200, own.encode()))  # type: ignore[misc] # a default binds the loop's value
            for method, path in sorted(table)
        ],
        problem,
        "nothing there",
    )


@given(
    table=st.sets(st.tuples(st.sampled_from(METHODS), st.sampled_from(PATHS))),
    method=st.sampled_from([*METHODS, "HEAD", "DELETE"]),
    path=st.sampled_from([*PATHS, "/d"]),
)
def test_everything_follows_from_the_table(table: set[tuple[str, str]], method: str, path: str) -> None:
    """A path without a route is 404, a method without one 405 with `Allow`; HEAD is answered as GET is."""
    answer = routes(table).head(Head(method, path, {}))
    assert answer is not None
    allowed = {name for name, of in table if of == path}
    asked = "GET" if method == "HEAD" else method
    if not allowed:
        assert (answer.status, answer.body) == (404, b"nothing there")
    elif asked in allowed:
        assert (answer.status, answer.body) == (200, f"{asked} {path}".encode())
    else:
        assert answer.status == 405
        listed = set(dict(answer.headers)["Allow"].split(", "))
        assert listed == allowed | ({"HEAD"} if "GET" in allowed else set())


def test_a_guard_refuses_before_the_body_is_read() -> None:
    """What a guard refuses never reaches its route; what it lets pass is served with its body."""

    async def serve(head: Head, body: bytes) -> Response:
        return Response(200, head.path.encode() + body)

    def guard(head: Head) -> Response | None:
        return None if "key" in head.headers else Response(401)

    table = Routes([Route("POST", "/a", serve=serve, guard=guard)], problem, "")
    assert table.head(Head("POST", "/a", {})) == Response(401)
    passed = Head("POST", "/a", {"key": "k"})
    assert table.head(passed) is None
    assert asyncio.run(table.body(passed, b"!")) == Response(200, b"/a!")
    with pytest.raises(LookupError):
        asyncio.run(table.body(Head("GET", "/a", {}), b""))
