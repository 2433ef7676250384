"""What a container wrote, as docker's clients read it: frames or raw bytes, each line with its time when asked for."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import quote_plus

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker import streams, versions
from hypercontainer.hyperd.docker.call import Query, container
from hypercontainer.hyperd.http.call import Bytes, Call
from hypercontainer.lib import clock
from hypercontainer.model.documents import Container, LogEntry

MAX_TAIL = 10_000_000
FIRST_WORDS_S = 1.0  # from a start on


class LogsQuery(Query, frozen=True, kw_only=True):
    follow: bool = False
    stdout: bool = False
    stderr: bool = False
    since: str = ""
    until: str = ""
    timestamps: bool = False
    tail: str = "all"
    details: bool = False


async def logs(call: Call[LogsQuery, None]) -> Bytes:
    q, c = call.query, container(call)
    if not (q.stdout or q.stderr):
        raise InvalidInput("Bad parameters: you must choose at least one stream")
    found = await call.engine.containers.inspect(c)
    if not q.follow:
        await _first_words(call, found)
    entries = await call.engine.containers.logs(
        found.id,
        follow=q.follow,
        since_ns=time_ns(q.since),
        until_ns=time_ns(q.until),
        tail=tail(q.tail),
        stdout=q.stdout,
        stderr=q.stderr,
    )
    tty, version = found.config.tty, versions.of(call)
    lines = Lines(times=q.timestamps, details=details(found.log_attributes) if q.details else None)
    kind = streams.media_type(version, tty=tty) if version >= streams.SINCE else "application/octet-stream"
    return Bytes(source=_written(entries, lines, tty=tty), media_type=kind, early=True)


async def _first_words(call: Call[Any, Any], found: Container) -> None:
    """Clients start a short program and read its log at once: dockerd answers a start so late that all is in it. Here
    whoever reads waits, within a second of the start, until there is something, or the end."""
    age_s = (clock.now_ns() - (clock.nanoseconds(found.state.started_at) or 0)) / 1e9
    if not found.state.running or not 0 <= age_s < FIRST_WORDS_S:
        return
    words = await call.engine.containers.logs(
        found.id, follow=True, since_ns=None, until_ns=None, tail=None, stdout=True, stderr=True
    )
    with suppress(TimeoutError):
        async with aclosing(words), asyncio.timeout(FIRST_WORDS_S - age_s):
            await anext(words, None)


def time_ns(text: str) -> int | None:
    """0 is docker's "no time"."""
    return None if text in ("", "0") else clock.nanoseconds(text)


def tail(text: str) -> int | None:
    """A number of lines, or None for all of them, which is also docker's reading of what is no number."""
    number = text if text.isascii() and text.isdigit() and len(text) < 10 else ""
    return min(int(number), MAX_TAIL) if number else None


def details(attributes: Mapping[str, str]) -> str:
    """As docker has them before a line."""
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(attributes.items()))


class Lines:
    """Takes entries apart, which hold any part of a line, or several, and puts the time and the details before each
    line. Pure."""

    def __init__(self, *, times: bool, details: str | None = None) -> None:
        """`details`: what they are, or None if nobody wants to know."""
        self._times, self._details = times, details
        self._within = {1: False, 2: False}  # a line, by the stream

    def write(self, entry: LogEntry) -> list[bytes]:
        parts = _lines(entry.data)
        if not (self._times or self._details is not None) or not parts:
            return parts
        head = f"{clock.rfc3339(entry.time_ns)} " if self._times else ""
        head += "" if self._details is None else f"{self._details} "
        first = parts[0] if self._within[entry.stream] else head.encode() + parts[0]
        self._within[entry.stream] = not entry.data.endswith(b"\n")
        return [first, *(head.encode() + part for part in parts[1:])]


def _lines(data: bytes) -> list[bytes]:
    """At newlines alone: a terminal's lines end in both, and have more in them."""
    parts = data.split(b"\n")
    return [*(part + b"\n" for part in parts[:-1]), *([parts[-1]] if parts[-1] else [])]


async def _written(entries: AsyncGenerator[LogEntry, None], lines: Lines, *, tty: bool) -> AsyncGenerator[bytes, None]:
    """No frame has more than a line: clients take frames for lines."""
    try:
        async for entry in entries:
            parts = lines.write(entry)
            yield b"".join(parts if tty else (streams.frame(entry.stream, part) for part in parts))
    finally:
        await entries.aclose()
