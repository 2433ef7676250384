"""Query strings and JSON bodies to typed values; what a type does not take is named and refused."""

from collections.abc import Hashable, Iterable
from functools import cache
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import document

T = TypeVar("T")


@cache
def list_keys(kind: Hashable) -> frozenset[str]:
    """The parameters of a query Struct that may be given more than once."""
    return frozenset(key for key, hint in get_type_hints(kind).items() if get_origin(hint) is list)


def strict(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """The Struct `kind` from the parameters of a URL. InvalidInput names the one that is wrong, or is given twice."""
    repeated = list_keys(kind)  # type: ignore[arg-type]  # a class has a hash
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in repeated:
            values.setdefault(key, []).append(value)
        elif key in values:
            raise InvalidInput(f"query parameter {key!r} is given twice")
        else:
            values[key] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as e:
        raise InvalidInput(f"cannot read the query: {e}") from e


def body(data: bytes, kind: type[T]) -> T:
    """The Struct `kind` from a JSON document. InvalidInput names the place that is wrong."""
    return document.decode(data, kind, "the body", error=InvalidInput)
