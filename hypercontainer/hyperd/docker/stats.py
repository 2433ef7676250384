"""/containers/{c}/stats: samples as docker's clients count with them."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from hypercontainer.errors import NotFound, WrongState
from hypercontainer.hyperd.docker.call import Query, container
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Call
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Engine

EVERY_S = 1.0
NEVER = clock.rfc3339(0)


class StatsQuery(Query, frozen=True, kw_only=True):
    stream: str = "1"
    one_shot: bool = False


async def stats(call: Call[StatsQuery, None]) -> AsyncGenerator[Document, None]:
    found = await call.engine.containers.inspect(container(call))
    endless = call.query.stream.lower() not in ("0", "false", "no")
    return _samples(call.engine, found, endless=endless, one_shot=call.query.one_shot)


async def _samples(
    engine: Engine, found: doc.Container, *, endless: bool, one_shot: bool
) -> AsyncGenerator[Document, None]:
    """One a second; a single one comes of two, unless one shot is enough."""
    before = None
    if not (endless or one_shot):
        before = await _sample(engine, found.id)
        await asyncio.sleep(EVERY_S if before else 0)
    while True:
        now = await _sample(engine, found.id)
        yield sample(now, before) if now else nothing(found)
        if not endless:
            return
        before = now
        await asyncio.sleep(EVERY_S)


async def _sample(engine: Engine, id: str) -> doc.Stats | None:
    """None of one that does not run, or has gone."""
    try:
        return await engine.containers.stats(id)
    except (NotFound, WrongState):
        return None


def sample(now: doc.Stats, before: doc.Stats | None) -> Document:
    """With the one before it, for percentages are of differences."""
    document: Document = msgspec.to_builtins(now)
    document["memory_stats"] |= {"stats": {"inactive_file": 0}}  # it is not in the usage
    io = now.blkio_stats
    return document | {
        "preread": before.read if before else NEVER,
        "num_procs": 0,
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before) if before else cpu_nothing(),
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 0, "minor": 0, "op": "read", "value": io.read_bytes},
                {"major": 0, "minor": 0, "op": "write", "value": io.write_bytes},
            ],
        },
        "storage_stats": {},
    }


def cpu(of: doc.Stats) -> Document:
    """system_cpu_usage is what all processors together could have been used: the clock, as often as there are some."""
    clock_ns = clock.nanoseconds(of.read) or 0
    document: Document = msgspec.to_builtins(of.cpu_stats)
    return document | {"system_cpu_usage": clock_ns * of.cpu_stats.online_cpus}


def cpu_nothing() -> Document:
    usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    return {"cpu_usage": usage, "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}}


def nothing(found: doc.Container) -> Document:
    """Of a container that does not run."""
    return {
        "id": found.id,
        "name": found.name,
        "read": NEVER,
        "preread": NEVER,
        "num_procs": 0,
        "pids_stats": {},
        "cpu_stats": cpu_nothing(),
        "precpu_stats": cpu_nothing(),
        "memory_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "networks": {},
        "storage_stats": {},
    }
