"""Docker's Engine API, as docs/docker.md has it: what all its calls have in common. The calls are in routes.py."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.docker import call, errors, versions
from hypercontainer.hyperd.docker.routes import ROUTES
from hypercontainer.hyperd.http.call import Call

Handler = Callable[[Call[Any, Any]], Awaitable[object]]


def spoken(handler: Handler) -> Handler:
    """`handler`, for clients of a version that is spoken here."""

    async def checked(call: Call[Any, Any]) -> object:
        versions.of(call)
        return await handler(call)

    return checked


class Docker:
    """The dialect: what is unknown is passed over, errors are a `message`, every path may begin with a version."""

    routes = tuple(
        replace(route, path=versions.PREFIX + route.path[1:], handler=spoken(route.handler)) for route in ROUTES
    )
    nothing = 204
    headers: Mapping[str, str] = versions.HEADERS
    lines = "application/json"
    query = staticmethod(call.query)
    body = staticmethod(call.body)

    def status(self, error: HyperError) -> int:
        return errors.status(error)

    def document(self, error: HyperError) -> object:
        return errors.document(error)

    def last_line(self, error: HyperError) -> object:
        return errors.last_line(error)
