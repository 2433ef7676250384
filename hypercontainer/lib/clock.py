"""Time as the records and the API write it."""

import re
import time
from datetime import UTC, datetime

from hypercontainer.errors import InvalidInput

DECIMAL = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def now_ns() -> int:
    """Wall clock, nanoseconds since 1970."""
    return time.time_ns()


def rfc3339(ns: int) -> str:
    """`ns` as docker writes it: UTC, nine decimals. 0 is docker's "never"."""
    if not ns:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


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
