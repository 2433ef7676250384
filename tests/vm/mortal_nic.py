"""An engine that dies while a network interface comes or goes.

    python -m tests.vm.mortal_nic CONFIG VERB STEP

VERB: the container "c" is to `add` one, or to `remove` the one that it is given first. After STEP of that, a call of a
network, a guest, an agent or a command of QEMU's monitor, it kills itself with SIGKILL; a step that never comes is an
error.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from hypercontainer.engine.local import LocalEngine
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.model import settings
from hypercontainer.model.record import NicRecord
from hypercontainer.sandbox.pod import Pod

STEPS = {
    "add": ["create", "getfd", "netdev_add", "device_add", "add_nic", "plug", "setup_pod"],
    "remove": ["setup_pod", "remove", "device_del", "netdev_del", "remove_nic"],
}


async def add(engine: LocalEngine, pod: Pod, network: str = "bridge") -> NicRecord:
    """One more interface, of that network."""
    used = [nic for other in engine.supervisor.pods.values() for nic in other.record.nics]
    async with pod.locked() as locked:
        [nic] = await engine.host.networks[network].plan(pod.record.id, [], used)
        await locked.add_interface(nic)
    return nic


async def remove(pod: Pod, nic: NicRecord) -> None:
    async with pod.locked() as locked:
        await locked.remove_interface(nic)


def deadly(engine: LocalEngine, pod: Pod, step: str) -> None:
    """Die after that step."""
    vm = pod.machine.running()
    assert isinstance(vm.guest, QemuGuest)
    owner: object = next(
        (each for each in (engine.host.networks["bridge"], vm.guest, vm.agent) if hasattr(each, step)),
        vm.guest._monitor,
    )
    name = step if hasattr(owner, step) else "execute"
    does = getattr(owner, name)

    async def die(*words: object, **options: object) -> object:
        answer = await does(*words, **options)
        if name != "execute" or words[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, die)


async def main(config: str, verb: str, step: str) -> None:
    engine = LocalEngine(settings.load(Path(config)))
    await engine.open()
    pod, _ = engine.supervisor.find("c")
    if verb == "add":
        deadly(engine, pod, step)
        await add(engine, pod)
    else:
        nic = await add(engine, pod)
        deadly(engine, pod, step)
        await remove(pod, nic)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
