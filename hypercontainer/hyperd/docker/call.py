"""What the calls of this dialect are made of: lenient Structs for queries and bodies, names in paths.

Parameters and keys that nobody asked for are passed over: clients send what other daemons know. What is known is
judged as docker judges it.
"""

from collections.abc import Iterable
from typing import Any, TypeVar, get_type_hints

import msgspec

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.http.params import list_keys
from hypercontainer.lib import foreign
from hypercontainer.model.ids import NAME

T = TypeVar("T")
MAX_BODY = 1 << 20
FALSE = ("", "0", "no", "false", "none")  # anything else is true


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters behind the question mark; the ground of those that a route has."""


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """A JSON document that a route takes."""


class Nothing(Query, frozen=True, kw_only=True):
    """No parameters."""


def query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """The Struct `kind` from the parameters of a URL: the first of a name counts, an empty one is as good as none."""
    hints, repeated = get_type_hints(kind), list_keys(kind)  # type: ignore[arg-type]  # a class has a hash
    values: dict[str, Any] = {}
    for key, value in pairs:
        name = key.replace("-", "_")
        if name not in hints or not value:
            continue
        if name in repeated:
            values.setdefault(name, []).append(value)
        else:
            values.setdefault(name, value.lower() not in FALSE if hints[name] is bool else value)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as e:
        raise InvalidInput(f"invalid query: {e}") from e


def body(data: bytes, kind: type[T], media_type: str) -> T:
    """The Struct `kind` from a JSON document as Go reads it."""
    if data and media_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidInput(f"unsupported Content-Type header ({media_type[:80]}): must be 'application/json'")
    return foreign.read(data, kind, "the body", MAX_BODY)


def container(call: Call[Any, Any]) -> str:
    """The name or id at `{c}` of the path. What can be none is not there: clients ask for images so, too."""
    name = call.names["c"].lstrip("/")
    if not NAME.fullmatch(name):
        raise NotFound("container", name[:140])
    return name
