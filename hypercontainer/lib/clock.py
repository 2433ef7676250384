"""Time as the records and the API write it."""

import time
from datetime import UTC, datetime


def now_ns() -> int:
    """Wall clock, nanoseconds since 1970."""
    return time.time_ns()


def rfc3339(ns: int) -> str:
    """`ns` as docker writes it: UTC, nine decimals. 0 is docker's "never"."""
    if not ns:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
