"""Values as Go prints them: `{{.Field}}`, and `printf`."""

from __future__ import annotations

from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WIDEST = 4096


class Nothing:
    """No value, and what is printed in its place."""

    def __init__(self, text: str) -> None:
        self.text = text


MISSING = Nothing("<no value>")
NO_LIST = Nothing("[]")  # null, where a list is meant


def shown(value: Any) -> str:
    """As {{ }} prints it."""
    if value is None:
        return MISSING.text
    if isinstance(value, Nothing):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return general(value)
    if isinstance(value, list):
        return f"[{' '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = sorted(pair for pair in value.items() if not callable(pair[1]))
        return f"map[{' '.join(f'{key}:{shown(item)}' for key, item in pairs)}]"
    return str(value)


def general(value: float) -> str:
    """Go's %v of a float: the shortest that reads back as the same."""
    text = repr(value)
    return text.removesuffix(".0") if "e" not in text else text


def kind(value: Any) -> str:
    """The name that Go has for its type."""
    if value is None or isinstance(value, Nothing):
        return "<nil>"
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]string"}
    return names.get(type(value), "map[string]string")


def printf(pattern: Any, *values: Any) -> str:
    """Go's verbs with their flags, width and precision; what does not fit is said inside the text, as Go does."""
    if not isinstance(pattern, str):
        return f"%!(BADFORMAT){shown(pattern)}" if not values else printf(shown(pattern), *values)
    out: list[str] = []
    rest, used = pattern, 0
    while rest:
        before, percent, rest = rest.partition("%")
        out.append(before)
        if not percent:
            break
        directive, verb, rest = _directive(rest)
        if verb == "%":
            out.append("%")
        elif not verb:
            out.append("%!(NOVERB)")
        elif used >= len(values):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_formatted(directive, verb, values[used]))
            used += 1
    if used < len(values):
        out.append(f"%!(EXTRA {', '.join(f'{kind(value)}={shown(value)}' for value in values[used:])})")
    return "".join(out)


def _directive(text: str) -> tuple[str, str, str]:
    """("-5.2", "d", the rest) of -5.2d"""
    i = 0
    while i < len(text) and (text[i] in "+-# 0." or text[i].isdecimal()):
        i += 1
    return text[:i], text[i : i + 1], text[i + 1 :]


def _formatted(directive: str, verb: str, value: Any) -> str:
    sizes = directive.lstrip("+-# 0")
    signs = directive[: len(directive) - len(sizes)]
    width, dot, precision = sizes.partition(".")
    digits = (int(precision or 0) if len(precision) < 5 else WIDEST) if dot else None
    text = _verb(signs, verb, value, digits)
    if text is None:
        return f"%!{verb}({kind(value)}={shown(value)})"
    columns = min(int(width), WIDEST) if len(width) < 6 and width else 0
    if "-" in signs:
        return text.ljust(columns)
    if "0" in signs and not isinstance(value, str):
        sign = text[:1] if text[:1] in "+-" else ""
        return sign + text[len(sign) :].rjust(columns - len(sign), "0")
    return text.rjust(columns, "0" if "0" in signs else " ")


def _verb(signs: str, verb: str, value: Any, digits: int | None) -> str | None:
    """None when `verb` is none for such a value."""
    if verb == "T":
        return kind(value)
    if verb in "vs" and (verb == "v" or isinstance(value, (str, list, dict, Nothing))):
        text = fastjson.dumps(value) if "#" in signs and isinstance(value, str) else shown(value)
        return text if digits is None or not isinstance(value, str) else text[:digits]
    if isinstance(value, bool):
        return shown(value) if verb == "t" else None
    if isinstance(value, int):
        return _whole(signs, verb, value)
    if isinstance(value, float):
        return _float(signs, verb, value, digits)
    if isinstance(value, str):
        return _text(verb, value if digits is None else value[:digits])
    return None


def _whole(signs: str, verb: str, value: int) -> str | None:
    if verb in "cqU":
        letter = chr(value) if 0 <= value < 0x110000 else "\ufffd"
        return {"c": letter, "q": f"'{letter}'", "U": f"U+{value:04X}"}[verb]
    if verb not in "dbotxX" or verb == "t":
        return None
    digits = format(abs(value), verb)
    prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in signs else ""
    return ("-" if value < 0 else "+" if "+" in signs else " " if " " in signs else "") + prefix + digits


def _float(signs: str, verb: str, value: float, digits: int | None) -> str | None:
    if verb not in "eEfFgG":
        return None
    sign = "+" if "+" in signs else " " if " " in signs else ""
    if verb in "gG" and digits is None:
        return f"{sign if value >= 0 else ''}{general(value)}"
    return format(value, f"{sign}.{6 if digits is None else min(digits, 100)}{verb}")


def _text(verb: str, value: str) -> str | None:
    table: dict[str, Callable[[], str]] = {
        "q": lambda: fastjson.dumps(value),
        "x": lambda: value.encode().hex(),
        "X": lambda: value.encode().hex().upper(),
    }
    return table[verb]() if verb in table else None
