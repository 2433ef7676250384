"""An engine that dies, or whose VMM does, at a step of a start.

    python -m tests.vm.mortal CONFIG NAME self|vmm STEP [FOLDER [NETNS]]

After STEP of the start of a new container NAME, it kills itself or the VMM with SIGKILL. Prints why a start failed.
With a FOLDER, that is the container's /data, and a VM waits for whoever has one; with a NETNS the VM has the interfaces
of the namespace at that path.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import GuestDied
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib.trace import Timings
from hypercontainer.model import settings
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec
from tests.unit.engine.world import ADMIN

STEPS = ["prepare", "record", "cgroup", "files", "vmm", "monitor", "agent", "claim", "pod", "rootfs", "process"]


def tracing(victim: str, deadly: str, run: Path) -> type[Timings]:
    """A trace that kills after the step `deadly`."""

    class Deadly(Timings):
        @contextmanager
        def step(self, name: str) -> Iterator[None]:
            yield
            if name != deadly:
                return
            if victim == "self":
                os.kill(os.getpid(), signal.SIGKILL)
            for path in run.glob("pods/[0-9a-f]*/qemu.pid"):
                os.kill(qemu_run(path.parent).processes("qemu")[-1].pid, signal.SIGKILL)

    return Deadly


async def main(config: str, name: str, victim: str, step: str, folder: str = "", netns: str = "") -> None:
    options = settings.load(Path(config))
    waits = step == "claim" or bool(folder)
    if options.factory != "direct" or waits:  # a start that finds a VM waiting has other steps
        options = replace(options, factory="cache" if waits else "template")
    engine = LocalEngine(options, trace=tracing(victim, step, Path(options.run)))
    await engine.open()
    if waits:
        await engine.factory.init()
    mounts = [Mount(type="bind", source=folder, target="/data")] if folder else []
    container = ContainerSpec(image="busybox", name=name, command=["sleep", "1000"], mounts=mounts)
    await engine.containers.create(PodSpec(containers=[container]), by=ADMIN)
    engine.supervisor.find(name)[0].record.netns = netns
    try:
        await engine.containers.start(name)
        await engine.containers.wait(name)
        print((await engine.containers.inspect(name)).state.error)
    except GuestDied as e:
        print(e)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
