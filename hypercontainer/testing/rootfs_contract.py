"""What every kind of root file system must do, for containers of a fake guest or of a real one: a suite to inherit
from, with two fixtures of your own.

    class TestMyKind(RootfsContract): ...

`root`, which gives the record of a new one each time, in none of which anybody has written before the test: of the
same source where several containers can have that at once. In all of them /file says CONTENT, and there are the
programs cat, cp and sleep. `house`, in which pods are.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import Hotplug
from hypercontainer.lib.trace import Timings
from hypercontainer.model import capabilities
from hypercontainer.model.container import Capabilities, Process
from hypercontainer.model.record import RootfsRecord
from hypercontainer.model.spec import ExecSpec
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import ExecSession
from hypercontainer.sandbox.pod import Pod

CONTENT = "of the root\n"
ENV = ["PATH=/bin"]


class House(Protocol):
    """Where pods are, and who answers for them."""

    def pod(self, *roots: RootfsRecord) -> Pod:
        """A pod of a container for each of these, which sleeps."""

    def add(self, pod: Pod, root: RootfsRecord) -> Container:
        """One more."""

    def left(self) -> list[str]:
        """What there is of pods on this host but their own folders: machines, mounts, files."""


Root = Callable[[], RootfsRecord]


async def start(pod: Pod, *containers: Container) -> None:
    async with pod.locked() as locked:
        for container in containers or pod.containers.values():
            await locked.start(container, Timings())


async def power_off(pod: Pod) -> None:
    """End its machine, if it has one: that of a start that failed too, which is its owner's to end."""
    for container in pod.containers.values():
        await pod.kill(container)
    async with pod.locked() as locked:
        await locked.power_off()
    await pod.site.endings.over(pod.record.id)


async def run(pod: Pod, container: Container, *args: str, user: str = "") -> tuple[int, str]:
    """What a command in the container, with the usual capabilities, ended with, and wrote to its stdout."""
    command, granted = list(args), Capabilities.granted(capabilities.resolve([], [], privileged=False))
    process = Process(args=command, env=ENV, user=user, capabilities=granted)
    exec_ = pod.add_exec(container, ExecSpec(command=command), process)
    await pod.start_exec(exec_)
    session = ExecSession(exec_)
    out = b"".join([data async for kind, data in session if kind == 1])
    return await session.wait(), out.decode()


async def remove(pod: Pod, container: Container) -> None:
    """Take a container that does not run out of a pod that does."""
    async with pod.locked() as locked:
        await locked.machine.leave(container.record)
    pod.drop(container)
    await container.remove()
    shutil.rmtree(pod.folder / container.record.id)


@asynccontextmanager
async def running(pod: Pod) -> AsyncIterator[tuple[Container, ...]]:
    """Its containers, which run for the block. Then it goes, with all that it has on disk."""
    try:
        await start(pod)
        yield tuple(pod.containers.values())
    finally:
        await discard(pod)


async def discard(pod: Pod) -> None:
    async with pod.locked() as locked:
        await locked.machine.release()
    await pod.site.endings.over(pod.record.id)
    await pod.let_go()
    shutil.rmtree(pod.folder)


class RootfsContract:
    read_only = False  # nobody can write to it
    own = True  # what a container writes, no other one sees that has one of the same source

    async def test_a_program_of_it_runs(self, house: House, root: Root) -> None:
        pod = house.pod(root())
        async with running(pod) as [container]:
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)

    async def test_what_is_written_outlives_the_machine(self, house: House, root: Root) -> None:
        pod = house.pod(root())
        async with running(pod) as [container]:
            status, _ = await run(pod, container, "cp", "/file", "/copy")
            assert (status != 0) == self.read_only
            await power_off(pod)
            assert house.left() == []
            await start(pod)
            assert await run(pod, container, "cat", "/copy") == ((1, "") if self.read_only else (0, CONTENT))
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)

    async def test_containers_of_a_pod_see_of_each_other_what_they_share(self, house: House, root: Root) -> None:
        pod = house.pod(root(), root())
        async with running(pod) as [one, other]:
            for container in (one, other):
                assert await run(pod, container, "cat", "/file") == (0, CONTENT)
            await run(pod, one, "cp", "/file", "/copy")
            there = not (self.own or self.read_only)
            assert await run(pod, other, "cat", "/copy") == ((0, CONTENT) if there else (1, ""))

    async def test_one_comes_and_goes_while_the_machine_runs(self, house: House, root: Root) -> None:
        pod = house.pod(root())
        async with running(pod) as [stays]:
            before = await self._plugged(pod)
            for _ in range(2):
                goes = house.add(pod, root())
                await start(pod, goes)
                assert await run(pod, goes, "cat", "/file") == (0, CONTENT)
                await pod.kill(goes)
                await remove(pod, goes)
                assert await self._plugged(pod) == before
            assert await run(pod, stays, "cat", "/file") == (0, CONTENT)

    async def test_a_source_that_is_gone_is_named_and_nothing_is_left(self, house: House, root: Root) -> None:
        record = root()
        kind = rootfs.of(record)
        source = Path([*(disk.path for disk in kind.disks), *(folder.path for folder in kind.folders)][0])
        aside = source.with_name(f"{source.name}.aside")
        pod = house.pod(record)
        os.rename(source, aside)
        try:
            with pytest.raises(HyperError, match=source.name):
                await start(pod)
            await power_off(pod)
            assert house.left() == []
        finally:
            os.rename(aside, source)
        async with running(pod) as [container]:
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)

    async def test_a_start_that_is_given_up_leaves_nothing(self, house: House, root: Root) -> None:
        """At whatever step of it."""
        pod = house.pod(root())
        for steps in range(1, 200, 20):
            starting = asyncio.create_task(start(pod))
            for _ in range(steps):
                await asyncio.sleep(0)
            starting.cancel()
            [end] = await asyncio.gather(starting, return_exceptions=True)
            assert end is None or isinstance(end, asyncio.CancelledError), end
            await power_off(pod)
            assert (steps, house.left()) == (steps, [])
        async with running(pod) as [container]:
            assert await run(pod, container, "cat", "/file") == (0, CONTENT)

    async def test_nothing_is_left_of_it(self, house: House, root: Root) -> None:
        before = house.left()
        async with running(house.pod(root(), root())):
            assert house.left() != before
        assert house.left() == before

    async def test_what_is_said_of_it_is_so(self, house: House, root: Root) -> None:
        pod = house.pod(root())
        async with running(pod) as [container]:
            said = rootfs.of(container.record.rootfs)
            assert said.read_only == self.read_only
            assert all(Path(disk.path).exists() for disk in said.disks)
            assert {disk.target for disk in said.disks} == await self._disks(pod)
            assert {folder.share_path for folder in said.folders} == set(pod.machine.folders.share.names())
            assert said.scratch is None or said.scratch.parent == pod.folder / container.record.id

    async def _plugged(self, pod: Pod) -> object:
        """Disks and folders that the machine has."""
        return await self._disks(pod), pod.machine.folders.share.names()

    @staticmethod
    async def _disks(pod: Pod) -> set[int]:
        guest = pod.machine.running().guest
        assert isinstance(guest, Hotplug)
        return await guest.plugged()
