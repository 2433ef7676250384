"""Callers who mean no good, at both doors of an engine without machines: a short visit, always the same one."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hypercontainer.hyperd.docker.dialect import Docker
from hypercontainer.hyperd.http.dialect import Dialect
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.rest.dialect import Rest
from hypercontainer.model.principal import Principal, Role
from tests.fuzz.callers import Callers
from tests.fuzz.door import Door
from tests.unit.engine.world import World

NOBODY = Principal(Role.USER, uid=65534, gid=65534, pid=1)
DIALECTS: dict[str, Dialect] = {"rest": Rest(), "docker": Docker()}


@pytest.fixture
async def callers(tmp_path: Path, busybox_archive: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Callers]:
    """At its end nothing may be left that they began, and no fault be in the log."""
    before = asyncio.all_tasks()
    world = World(tmp_path)
    engine = await world.engine()
    dispatchers = {name: Dispatcher(engine, dialect, lambda _: NOBODY) for name, dialect in DIALECTS.items()}
    runners = {name: dispatcher.runner() for name, dispatcher in dispatchers.items()}
    for name, runner in runners.items():
        await runner.setup()
        await web.UnixSite(runner, tmp_path / name).start()
    callers = Callers(
        {name: Door(tmp_path / name, os.geteuid()) for name in DIALECTS}, busybox_archive, tmp_path / "failed"
    )
    yield callers
    await asyncio.to_thread(callers.leave)
    for dispatcher in dispatchers.values():
        await dispatcher.stop(timeout_s=10)
    for runner in runners.values():
        await runner.cleanup()
    await engine.close()
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    await world.check_nothing_left()
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def test_what_is_wrong_is_refused(callers: Callers) -> None:
    await asyncio.to_thread(callers.furnish)
    await asyncio.to_thread(callers.refused)


async def test_what_schemathesis_says(callers: Callers) -> None:
    assert await asyncio.to_thread(callers.tables, 1, each=1, rounds=1) > 200


async def test_what_is_http_no_more(callers: Callers) -> None:
    await asyncio.to_thread(callers.furnish)
    assert await asyncio.to_thread(callers.strangers, 1, most=200) == 200
