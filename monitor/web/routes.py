"""A service as a table of routes: 404, 405, `Allow` and `HEAD` follow from it."""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

from monitor.web.server import Head, Response

Guard: TypeAlias = Callable[[Head], Response | None]
Problem: TypeAlias = Callable[[HTTPStatus, str, Head | None], Response]


_IMPLIED: Final = {"GET": ("GET", "HEAD")}


class Route(NamedTuple):
    """A method of a path. Either `answer` answers from the head alone, or `serve` answers a whole request.

    `guard` may refuse a request before its body is read.
    """

    method: str
    path: str
    answer: Callable[[Head], Response] | None = None
    serve: Callable[[Head, bytes], Awaitable[Response]] | None = None
    guard: Guard = lambda _head: None


class Routes:
    """Implements `monitor.web.server.Service`. `problem` puts a refusal into the service's form.

    `not_found` is the text of a 404.
    """

    def __init__(self, routes: Iterable[Route], problem: Problem, not_found: str) -> None:
        self._routes = {(route.path, route.method): route for route in routes}
        self._problem = problem
        self._not_found = not_found

    def head(self, head: Head) -> Response | None:
        """Find the route; answer or refuse without the body where possible."""
        allowed = [method for path, method in self._routes if path == head.path]
        if not allowed:
            return self.problem(HTTPStatus.NOT_FOUND, self._not_found, head)
        route = self._route(head)
        if route is None:
            names = [name for method in allowed for name in _IMPLIED.get(method, (method,))]
            refused = self.problem(HTTPStatus.METHOD_NOT_ALLOWED, f"only {' and '.join(names)}", head)
            return refused._replace(headers=(*refused.headers, ("Allow", ", ".join(names))))
        refusal = route.guard(head)
        return refusal or (route.answer(head) if route.answer else None)

    async def body(self, head: Head, body: bytes) -> Response:
        """Serve a whole request that `head` has let pass."""
        route = self._route(head)
        if route is None or route.serve is None:
            raise LookupError(head.path)
        return await route.serve(head, body)

    def problem(self, status: HTTPStatus, text: str, head: Head | None) -> Response:
        """Put a refusal into the service's form."""
        return self._problem(status, text, head)

    def _route(self, head: Head) -> Route | None:
        return self._routes.get((head.path, "GET" if head.method == "HEAD" else head.method))
