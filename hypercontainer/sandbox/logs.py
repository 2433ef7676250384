"""What a container wrote, from its log: the past, and on demand what comes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing

from hypercontainer.errors import NoLog
from hypercontainer.lib import clock
from hypercontainer.model.documents import LogEntry
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.log import Log, Reader, Wanted


def log_of(container: Container, doing: str) -> Log:
    """NoLog when it was made without one: `doing`, "read the log of", cannot be done."""
    if container.output.log is None:
        raise NoLog(doing, container.record.name)
    return container.output.log


async def read_log(
    container: Container, log: Log, wanted: Wanted, *, follow: bool, tail: int | None
) -> AsyncGenerator[LogEntry, None]:
    """Oldest first. `follow` ends when the container has ended, or at `wanted.until_ns`.

    Followers read the file as it grows; one that is slower than the log's rotation skips what was rotated away."""
    with closing(Reader(log, wanted, tail)) as reader:
        async for entry in past(reader):
            yield entry
        while follow and (not wanted.until_ns or clock.now_ns() < wanted.until_ns):
            entries = reader.news()
            for entry in entries or ():
                yield entry
            if entries is None and not _goes_on(container):
                return
            if entries is None:
                await _more(container, reader)
            else:
                await asyncio.sleep(0)


async def past(reader: Reader) -> AsyncGenerator[LogEntry, None]:
    """Everybody gets on meanwhile, also while there is nothing wanted in a log of gigabytes."""
    for entries in reader.past():
        for entry in entries:
            yield entry
        await asyncio.sleep(0)


def _goes_on(container: Container) -> bool:
    return container.running or container.record.state == "restarting"


async def _more(container: Container, reader: Reader) -> None:
    """Wait until there is something new in the log, or the container's end."""
    async with container.output.progress:
        if not reader.behind and _goes_on(container):
            await container.output.progress.wait()
