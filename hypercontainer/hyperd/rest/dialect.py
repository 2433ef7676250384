"""Our own API, as docs/api.md has it: what all its calls have in common. The calls are in routes.py."""

from collections.abc import Mapping
from typing import TypeVar

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.http import params
from hypercontainer.hyperd.http.errors import STATUS
from hypercontainer.hyperd.rest import errors
from hypercontainer.hyperd.rest.routes import ROUTES

T = TypeVar("T")


class Rest:
    """The dialect: unknown parameters are refused, errors are documents of `message`, `kind` and facts."""

    routes = ROUTES
    nothing = 204
    headers: Mapping[str, str] = {}
    lines = "application/x-ndjson"
    query = staticmethod(params.strict)

    def body(self, data: bytes, kind: type[T], media_type: str) -> T:
        return params.body(data, kind)

    def status(self, error: HyperError) -> int:
        return STATUS[error.kind]

    def document(self, error: HyperError) -> object:
        return errors.document(error)

    def last_line(self, error: HyperError) -> object:
        return {"error": errors.document(error)}
