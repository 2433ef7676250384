"""Moments as users write them (--since, --until), and as logs show them."""

from __future__ import annotations

import time

from hypercontainer.hyperctl import text

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BAD = "use a time such as 10m, 1h30m, 2024-05-01T10:00:00Z, 2024-05-01 or seconds since 1970"


def parse_ns(word: str) -> int:
    """Nanoseconds since 1970 of 10m (ago), of an RFC 3339 time (without a zone: local time), or of a number."""
    whole, _, fraction = word.partition(".")
    if whole.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(whole) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
    try:
        return int((time.time() - duration_s(word)) * 1e9)
    except ValueError:
        return _date_ns(word)


def duration_s(word: str) -> float:
    """1h30m, as Go writes durations."""
    total, rest = 0.0, word
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((u for u in ("ns", "us", "µs", "ms", "s", "m", "h", "d") if rest[digits:].startswith(u)), "")
        if not digits or not unit:
            raise ValueError(BAD)
        total += float(rest[:digits]) * SECONDS[unit]
        rest = rest[digits + len(unit) :]
    if not word:
        raise ValueError(BAD)
    return total


def _date_ns(word: str) -> int:
    date, _, clock = word.replace(" ", "T", 1).partition("T")
    parts = date.split("-")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise ValueError(BAD)
    fields = clock.rstrip("Zz").split(":") if clock else ["00"]
    zoned = clock.endswith(("Z", "z")) or "+" in clock or "-" in clock
    if zoned:
        fields = clock.split(":")
        padded = clock if len(fields) > 2 else clock.replace("Z", ":00Z")
        seconds = text.since_epoch(f"{date}T{padded}")
    else:
        hour, minute, second = (*(float(field) for field in fields), 0.0, 0.0)[:3]
        year, month, day = (int(part) for part in parts)
        seconds = time.mktime((year, month, day, int(hour), int(minute), 0, 0, 0, -1)) + second
    if not seconds:
        raise ValueError(BAD)
    return int(seconds * 1e9)


def rfc3339(ns: int) -> str:
    """2024-05-01T10:00:00.123456789Z"""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def seconds(ns: int) -> str:
    """For hyperd: seconds since 1970 with their fraction, exactly."""
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
