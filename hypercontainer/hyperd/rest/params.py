"""Query strings and JSON bodies to typed values; what is unknown or out of bounds is named and refused."""

import re
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from hypercontainer.errors import InvalidInput

T = TypeVar("T")
DECIMAL = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


@cache
def list_keys(kind: Hashable) -> frozenset[str]:
    """The parameters of a query Struct that may be given more than once."""
    return frozenset(key for key, hint in get_type_hints(kind).items() if get_origin(hint) is list)


def query(pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """The Struct `kind` from the parameters of a URL. InvalidInput names the key that is wrong."""
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
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:  # ValidationError is one of them
        raise InvalidInput(f"cannot read the body: {e}") from e
    except RecursionError as e:
        raise InvalidInput("cannot read the body: it is nested too deep") from e


def nanoseconds(text: str) -> int | None:
    """Of seconds since 1970 ("1700000000.5") or an RFC 3339 time; "" is None."""
    if not text:
        return None
    if m := DECIMAL.fullmatch(text):
        return int(m[1]) * 1_000_000_000 + int((m[2] or "").ljust(9, "0"))
    try:
        if m := RFC3339.fullmatch(text):
            whole = datetime.fromisoformat(m[1] + m[3].replace("Z", "+00:00"))
            return int(whole.timestamp()) * 1_000_000_000 + int((m[2] or "").ljust(9, "0"))
    except ValueError:
        pass
    raise InvalidInput(f"invalid time {text!r}: give seconds since 1970 or a time like 2026-01-31T12:00:00Z")


def filters(items: Sequence[str]) -> dict[str, list[str]]:
    """ "label=a=b", "status=running" to {"label": ["a=b"], "status": ["running"]}."""
    found: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InvalidInput(f"invalid filter {item[:100]!r}: write key=value")
        found.setdefault(key, []).append(value)
    return found
