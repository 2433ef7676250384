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
    zone = next((i for i, c in enumerate(clock) if c in "Zz+-"), len(clock))
    clock, offset = clock[:zone], clock[zone:]
    whole, _, fraction = clock.partition(".")
    days, times = date.split("-"), whole.split(":") if whole else ["0", "0"]
    numbers = [*days, *times, *([fraction] if fraction else [])]
    if len(days) != 3 or len(times) not in (2, 3) or not all(n.isdecimal() and len(n) < 10 for n in numbers):
        raise ValueError(BAD)
    year, month, day, hour, minute, second = [int(n) for n in [*days, *times, "0"][:6]]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61 and 1970 <= year < 2200):
        raise ValueError(BAD)
    if offset:
        seconds = int(text.since_epoch(f"{date}T{hour}:{minute}:{second}{offset}"))
    else:
        seconds = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
    return seconds * 1_000_000_000 + int((fraction + "0" * 9)[:9])


def rfc3339(ns: int) -> str:
    """2024-05-01T10:00:00.123456789Z"""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def seconds(ns: int) -> str:
    """For hyperd: seconds since 1970 with their fraction, exactly."""
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
