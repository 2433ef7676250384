"""JSON by the C accelerators alone: `import json` costs 7 ms (re, enum): `hyperctl ps` and `runv state` have less."""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPACE = " \t\r\n"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class _Context:
    """What `_json.make_scanner` asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _no_number
    memo: dict[str, str] = {}  # noqa: RUF012  the scanner wants one, and clears it itself


_scan: Any = _json.make_scanner(_Context)  # type: ignore[arg-type]


def loads(data: bytes | bytearray | str) -> Any:
    """The document in `data`; ValueError if it is not JSON, nested too deep, or followed by anything."""
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        start = len(text) - len(text.lstrip(SPACE))
        document, end = _scan(text, start)
    except (StopIteration, RecursionError, ValueError, SystemError) as e:  # SystemError: json.decoder is missing
        raise ValueError("not a JSON document") from e
    if text[end:].strip(SPACE):
        raise ValueError("not a JSON document: something follows it")
    return document


def _refuse(value: object) -> None:
    raise TypeError(f"{type(value).__name__} has no place in JSON")


_encode: Any = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False)


def dumps(document: object) -> str:
    """`document` on one line, without spaces."""
    return "".join(_encode(document, 0))
