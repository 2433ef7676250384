"""What a template may call: the functions of Go's text/template, and docker's own."""

from __future__ import annotations

from hypercontainer.hyperctl import printf
from hypercontainer.hyperctl.flags import UsageError
from hypercontainer.hyperctl.printf import MISSING, NO_LIST, Nothing, shown
from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"}
JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def truth(value: Any) -> bool:
    return not isinstance(value, Nothing) and bool(value)


def json(value: Any) -> str:
    if isinstance(value, Nothing):
        return "null"
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not callable(item)}
    return fastjson.dumps(value)


def index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict) and isinstance(key, str):
            value = value[key] if key in value else _zero(value)
        elif isinstance(value, (list, str)) and _whole(key) and 0 <= key < len(value):
            value = value[key] if isinstance(value, list) else ord(value[key])
        else:
            raise UsageError(f"template: index {shown(key)} is not in {shown(value)[:60]}", status=1)
    return value


def _zero(mapping: dict[str, Any]) -> Any:
    """What Go has for a key that is not there: of a mapping of texts, the empty one."""
    return "" if all(isinstance(item, str) for item in mapping.values()) else MISSING


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def slice(value: Any, *bounds: Any) -> Any:
    if value is NO_LIST:
        value = []
    if not isinstance(value, (str, list)) or len(bounds) > 2 or not all(map(_whole, bounds)):
        raise UsageError("template: slice wants a text or a list, and two whole numbers at most", status=1)
    first = bounds[0] if bounds else 0
    last = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= first <= last <= len(value):
        raise UsageError(f"template: slice {first} to {last} is not in 0 to {len(value)}", status=1)
    return value[first:last]


def join(items: Any, separator: str) -> str:
    if items is NO_LIST:
        return ""
    if not isinstance(items, list):
        raise UsageError(f"template: join wants a list, not {shown(items)[:60]}", status=1)
    return shown(separator).join(shown(item) for item in items)


def length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Nothing) or not isinstance(value, (list, dict)):
        if value is NO_LIST:
            return 0
        raise UsageError(f"template: len of {shown(value)[:60]}, which has none", status=1)
    return len(value)


def every(*values: Any) -> Any:
    return next((value for value in values if not truth(value)), values[-1])


def some(*values: Any) -> Any:
    return next((value for value in values if truth(value)), values[-1])


def equal(first: Any, *others: Any) -> bool:
    """As Go's: true of any of `others`; kinds that cannot be compared are an error."""
    if not others:
        raise UsageError("template: eq wants two values or more", status=1)
    return any(_comparable(first, other) and first == other for other in others)


def less(a: Any, b: Any) -> bool:
    _comparable(a, b)
    return bool(a < b)


def _comparable(a: Any, b: Any) -> bool:
    if not isinstance(a, Nothing) and not isinstance(b, Nothing) and _kind(a) != _kind(b):
        raise UsageError(f"template: cannot compare {shown(a)[:40]!r} with {shown(b)[:40]!r}", status=1)
    return True


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def printed(*values: Any) -> str:
    """Go's Sprint: a space between two that are both no text."""
    out = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out.append(" ")
        out.append(shown(value))
    return "".join(out)


def urlquery(*values: Any) -> str:
    text = printed(*values).encode()
    return "".join("+" if c == 32 else chr(c) if c in UNRESERVED else f"%{c:02X}" for c in text)


def pad(value: Any, before: int, after: int) -> Any:
    text = shown(value)
    return " " * min(before, 4096) + text + " " * min(after, 4096) if text else text


def escaped(table: dict[str, str]) -> Callable[..., str]:
    return lambda *values: "".join(table.get(c, c) for c in printed(*values))


TABLE: dict[str, Callable[..., Any]] = {
    "json": json,
    "index": index,
    "slice": slice,
    "join": join,
    "len": length,
    "and": every,
    "or": some,
    "upper": lambda value: shown(value).upper(),
    "lower": lambda value: shown(value).lower(),
    "title": lambda value: shown(value).title(),
    "split": lambda value, separator: shown(value).split(separator) if separator else [*shown(value)],
    "truncate": lambda value, n: shown(value)[: max(n, 0)],
    "pad": pad,
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
    "print": printed,
    "printf": printf.printf,
    "html": escaped(HTML),
    "js": escaped(JS),
    "urlquery": urlquery,
    "not": lambda value: not truth(value),
    "eq": equal,
    "ne": lambda a, b: not equal(a, b),
    "lt": less,
    "le": lambda a, b: not less(b, a),
    "gt": lambda a, b: less(b, a),
    "ge": lambda a, b: not less(a, b),
}


def call(name: str, arguments: list[Any]) -> Any:
    return apply(name, TABLE[name], arguments)


def apply(name: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, IndexError) as e:
        raise UsageError(f"template: {name} cannot be used so: {e}", status=1) from e
