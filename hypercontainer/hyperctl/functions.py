"""What a template may call."""

from __future__ import annotations

from hypercontainer.client import fastjson
from hypercontainer.hyperctl.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Missing:
    """A field that is not there."""


MISSING = Missing()


def shown(value: Any) -> str:
    """As Go prints it."""
    if value is MISSING or value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{shown(item)}' for key, item in sorted(value.items()))}]"
    return str(value)


def truth(value: Any) -> bool:
    return value is not MISSING and bool(value)


def json(value: Any) -> str:
    return "null" if value is MISSING else fastjson.dumps(value)


def index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise UsageError(f"template: index {shown(key)} is not in {shown(value)[:60]}", status=1)
    return value


def join(items: Any, separator: str) -> str:
    if not isinstance(items, list):
        raise UsageError(f"template: join wants a list, not {shown(items)[:60]}", status=1)
    return separator.join(shown(item) for item in items)


def length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, dict)) else 0


def every(*values: Any) -> Any:
    return next((value for value in values if not truth(value)), values[-1])


def some(*values: Any) -> Any:
    return next((value for value in values if truth(value)), values[-1])


TABLE: dict[str, Callable[..., Any]] = {
    "json": json,
    "index": index,
    "join": join,
    "len": length,
    "and": every,
    "or": some,
    "upper": lambda value: shown(value).upper(),
    "lower": lambda value: shown(value).lower(),
    "title": lambda value: shown(value).title(),
    "split": lambda value, separator: shown(value).split(separator),
    "truncate": lambda value, n: shown(value)[:n],
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
    "print": lambda *values: "".join(shown(value) for value in values),
    "not": lambda value: not truth(value),
    "eq": lambda first, *others: first in others,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def call(name: str, arguments: list[Any]) -> Any:
    try:
        return TABLE[name](*arguments)
    except (TypeError, ValueError, IndexError) as e:
        raise UsageError(f"template: {name} cannot be used so: {e}", status=1) from e
