"""Containers of other engines: what comes at once with something else."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine import bundle_binds
from hypercontainer.engine.bundles import Bundles
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import AlreadyExists, WrongState
from hypercontainer.lib import proc
from hypercontainer.model.record import BundleRecord, ProcessRef, StandInRecord
from tests.unit.engine.test_bundle_namespaces import wanted
from tests.unit.engine.test_further import until
from tests.unit.engine.world import Run, World


@pytest.mark.parametrize(
    ("op", "ask"),
    [
        ("container.stats", lambda bundles, name: bundles.usage("", name)),
        ("container.processes", lambda bundles, name: bundles.top("", name, "-ef")),
    ],
)
async def test_who_asks_as_it_ends_is_told_that_it_has(
    engine: LocalEngine, create: Run, world: World, op: str, ask: Callable[[Bundles, str], Awaitable[object]]
) -> None:
    id = await create("sleep", "1000")
    record = engine.supervisor.find(id)[1].record
    record.bundle = BundleRecord(path="/bundle", oci_version="1.0.2")
    stands = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        start_time = proc.start_time(stands.pid)
        assert start_time
        record.sinks.append(StandInRecord(key="k", process=ProcessRef(pid=stands.pid, start_time=start_time)))
        await engine.containers.start(id)
        agent = world.hypervisor.alive[0].agent
        agent.unanswered.add(op)
        asking = asyncio.ensure_future(ask(engine.bundles, record.name))
        await until(lambda: op in [asked for asked, _ in agent.requests])
        await engine.containers.kill(id, 9)
        with pytest.raises(WrongState, match="it is stopped"):
            await asking
    finally:
        stands.kill()
        await stands.wait()


async def test_one_of_two_gets_an_id(engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked at their binds before either is there."""
    both = threading.Barrier(2, timeout=60)
    monkeypatch.setattr(bundle_binds, "mounts", lambda *_: [both.wait()][1:])
    bundle = msgspec.structs.replace(wanted("/proc/self/ns/net"), rootfs=str(tmp_path))
    done = await asyncio.gather(*(engine.bundles.create(bundle, {}) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in done].count(AlreadyExists) == 1, done
