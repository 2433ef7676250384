"""What a container wrote, from its log: the past, and on demand what comes."""

from collections.abc import AsyncGenerator

from hypercontainer.lib import clock
from hypercontainer.model.documents import LogEntry
from hypercontainer.sandbox.container import Container


async def read_log(
    container: Container,
    *,
    follow: bool,
    since_ns: int | None,
    until_ns: int | None,
    tail: int | None,
    streams: set[int],
) -> AsyncGenerator[LogEntry, None]:
    """Oldest first. `follow` ends when the container has ended, or at `until_ns`.

    Followers read the file as it grows; one that is slower than the log's rotation skips what was rotated away."""
    output = container.output
    place = output.log.end()
    past = output.log.read(since_ns=since_ns or 0, until_ns=until_ns or 0, tail=tail, streams=streams, end=place)
    for entry in past:
        yield entry
    while follow and (until_ns is None or clock.now_ns() < until_ns):
        entries, place = output.log.after(place)
        for entry in entries:
            if entry.stream in streams and (until_ns is None or entry.time_ns <= until_ns):
                yield entry
        if entries:
            continue
        if not (container.running or container.record.state == "restarting"):
            return
        async with output.progress:
            if output.log.end() == place and (container.running or container.record.state == "restarting"):
                await output.progress.wait()
