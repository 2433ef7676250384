"""`filters=` of a query: JSON of Go's form {"label": {"a=b": true}} or of Python's {"label": ["a=b"]}."""

import re
import time
from typing import Any

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker.call import Query
from hypercontainer.lib import foreign

MAX = 1 << 16
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?)({'|'.join(SECONDS)})", re.ASCII)
AGO = re.compile(rf"(?:{PART.pattern}){{1,7}}", re.ASCII)  # a duration, as Go writes it


class Filtered(Query, frozen=True, kw_only=True):
    """Of a list: what it is to show."""

    filters: str = ""


def read(text: str) -> dict[str, list[str]]:
    """Values by their key; a key without a value is as good as none. InvalidInput for what is neither form."""
    if not text:
        return {}
    value = foreign.loose(text.encode(errors="replace"), "filters", MAX)
    if not isinstance(value, dict):
        raise InvalidInput("invalid filters: use a JSON object")
    found = {str(key): _values(str(key), each) for key, each in value.items()}
    if "until" in found:
        found["until"] = [moment(word, time.time()) for word in found["until"]]
    return {key: values for key, values in found.items() if values}


def moment(word: str, now_s: float) -> str:
    """Of "1h30m", seconds since 1970 when that is ago; anything else as it came."""
    if not AGO.fullmatch(word):
        return word
    ago_s = sum(float(part[1]) * SECONDS[part[2]] for part in PART.finditer(word))
    return f"{max(0.0, now_s - ago_s):.9f}"


def _values(key: str, value: Any) -> list[str]:
    if isinstance(value, dict) and all(isinstance(on, bool) for on in value.values()):
        return [word for word, on in value.items() if on]
    if isinstance(value, list) and all(isinstance(word, str | bool | int) for word in value):
        return [str(word).lower() if isinstance(word, bool) else str(word) for word in value]
    raise InvalidInput(f"invalid filter {key[:100]!r}: use a list of words, or an object of word: true")
