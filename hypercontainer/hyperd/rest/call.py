"""What the calls of this dialect are made of: strict Structs for queries and bodies, and the types of their fields."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.model.ids import MAX_NAME


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters behind the question mark; the ground of those that a route has."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON document that a route takes, where the model has none."""


class Nothing(Query, frozen=True, kw_only=True):
    """No parameters."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Invented = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]  # if it is ""
Names = Annotated[list[Name], msgspec.Meta(min_length=1, max_length=64)]
FilterList = Annotated[list[Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=64)]
Time = Annotated[str, msgspec.Meta(max_length=40)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Cells = Annotated[int, msgspec.Meta(ge=1, le=10000)]


class FilterQuery(Query, frozen=True, kw_only=True):
    """Of a list: what it is to show."""

    filter: FilterList = msgspec.field(default_factory=list)


class PruneQuery(FilterQuery, frozen=True, kw_only=True):
    all: bool = False


def filters(items: Sequence[str]) -> dict[str, list[str]]:
    """ "label=a=b", "Status = running" to {"label": ["a=b"], "status": ["running"]}, as docker reads them."""
    found: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key.strip() or not equals:
            raise InvalidInput(f"invalid filter {item[:100]!r}: write key=value")
        found.setdefault(key.strip().lower(), []).append(value.strip())
    return found
