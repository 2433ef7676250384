"""Sizes, times and ids as docker writes and reads them."""

from __future__ import annotations

import time

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MIB = 1 << 20
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size(n: float, digits: int = 3) -> str:
    """12.3MB: powers of 1000, as docker shows images and transfers."""
    return _scaled(n, 1000.0, DECIMAL, digits)


def memory(n: float) -> str:
    """12.3MiB: powers of 1024, as docker shows memory."""
    return _scaled(n, 1024.0, BINARY, 4)


def _scaled(n: float, base: float, units: tuple[str, ...], digits: int) -> str:
    i = 0
    while n >= base and i < len(units) - 1:
        n /= base
        i += 1
    return f"{n:.{digits}g}{units[i]}" if n < 10**digits else f"{n:.0f}{units[i]}"


def parse_bytes(word: str) -> int:
    """512m, 1.5g, 100 (bytes), 64MiB: powers of 1024, as docker reads --memory."""
    text = word.strip().lower()
    digits = text.rstrip("bkmgtpi ")
    unit = text[len(digits) :].strip()
    if unit not in UNITS:
        unit = unit.removesuffix("ib").removesuffix("b") or "?"
    if unit not in UNITS or not digits or not digits.replace(".", "", 1).isdecimal() or len(digits) > 20:
        raise ValueError("use a size such as 512m or 2g")
    return int(float(digits) * UNITS[unit])


def parse_mib(word: str) -> int:
    """The same in MiB, rounded up."""
    return -(-parse_bytes(word) // MIB)


def since_epoch(text: object) -> float:
    """Seconds since 1970 of a time in a document: RFC 3339 in UTC, or a number already. 0 for never."""
    if isinstance(text, (int, float)):
        return float(text)
    if not isinstance(text, str) or not text or text.startswith("0001-"):
        return 0.0
    try:
        date, _, clock = text.partition("T")
        year, month, day = (int(part) for part in date.split("-"))
        clock, offset = _offset(clock)
        hour, minute, second = clock.split(":")
        days = _days(year, month, day)
        return days * 86400.0 + int(hour) * 3600 + int(minute) * 60 + float(second) - offset
    except ValueError:
        return 0.0


def _offset(clock: str) -> tuple[str, int]:
    if clock.endswith(("Z", "z")):
        return clock[:-1], 0
    for sign in "+-":
        head, found, tail = clock.partition(sign)
        if found:
            hours, _, minutes = tail.partition(":")
            return head, (int(hours) * 3600 + int(minutes or 0) * 60) * (1 if sign == "+" else -1)
    return clock, 0


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def duration(seconds: float) -> str:
    """3 minutes, About an hour: docker's words."""
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    table = (
        (seconds < 1, "Less than a second"),
        (seconds < 2, "1 second"),
        (seconds < 60, f"{int(seconds)} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    return next((words for true, words in table if true), f"{hours // 24 // 365} years")


def ago(moment: object) -> str:
    """How long ago a time in a document was; "" for never."""
    then = since_epoch(moment)
    return f"{duration(max(0.0, time.time() - then))} ago" if then else ""


def moment(seconds: float) -> str:
    """2026-01-31 12:00:00 +0000 UTC: a time of a list, as Go writes it in the zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def short_id(text: str) -> str:
    """The first twelve digits, without the name of the digest."""
    return text.removeprefix("sha256:")[:12]


def printable(text: str) -> str:
    """`text` with whatever could steer a terminal replaced: it may come from an image or a guest."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
