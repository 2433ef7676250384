"""A container that nobody asked for, run once in a guest, so that the guest's first real one finds everything done.

What a kernel does only once has been done then; and an emulator translates code when it is first run, which takes
several times as long as running it: most of the time of a start. So the rehearsal is asked for all that a usual
container is: what is left out here is done for the first time when somebody waits for it.
"""

import asyncio
import os
import time
from collections.abc import Sequence

from hypercontainer.agent import messages as m
from hypercontainer.agent.messages import ExitEvent
from hypercontainer.errors import GuestError, GuestSilent
from hypercontainer.factory.base import EMPTY
from hypercontainer.hypervisor.base import SHARE_TAG, SLOTS, SNAPSHOT_MAC, Adoptable
from hypercontainer.lib.limit import limit
from hypercontainer.model import arch, capabilities, defaults, seccomp
from hypercontainer.model.record import DiskRecord
from hypercontainer.vm import Vm

NAME = "rehearsal"
PROGRAM = ["/hyperstart", "--rehearse"]  # what the image to rehearse with holds
OTHER_MAC = "52:54:00:00:00:01"
LINK_MTU, OTHER_MTU = 1500, 1400
RUN_S = 30.0


async def rehearse(vm: Vm, disks: Sequence[DiskRecord], *, network: bool, share: bool = False) -> None:
    """Run a container on `disks` in a guest whose SLOTS are empty; nothing of it is left, and they are empty again.

    The pod's names and addresses are the rehearsal's until it is set up again. A share is found and mounted, and stays
    so. GuestError, GuestDied or GuestSilent if it could not be run to its end."""
    guest = vm.guest
    assert isinstance(guest, Adoptable)  # noqa: S101  else it has no stage
    for disk in disks:
        await guest.swap_disk(disk)
    # another address, as it will have
    await vm.agent.setup_pod(_pod(OTHER_MAC, SNAPSHOT_MAC, network=network, share=share))
    await vm.agent.create_container(_container())
    await _run(vm)
    await vm.agent.remove_container(NAME)
    await vm.agent.setup_pod(_pod(SNAPSHOT_MAC, OTHER_MAC, network=network, down=True))
    for empty in EMPTY:
        await guest.swap_disk(empty)
    await vm.agent.stage(SLOTS, usual_mounts())  # with the container its disks went


def usual_mounts() -> list[m.Mount]:
    """Of most containers."""
    return [m.Mount.of(mount) for mount in defaults.mounts()]


def _pod(mac: str, now: str, *, network: bool, share: bool = False, down: bool = False) -> m.PodSetup:
    addresses = [] if down else ["192.0.2.2/24", "2001:db8::2/64"]
    mtu = LINK_MTU if down else OTHER_MTU
    eth0 = m.Interface(mac=mac, hardware=now, name="eth0", mtu=mtu, addresses=addresses, down=down)
    gateways = [
        m.Route(dst="default", gateway="192.0.2.1"),
        m.Route(dst="default", gateway="2001:db8::1", family=6),
    ]
    return m.PodSetup(
        hostname=NAME,
        interfaces=[eth0] if network else [],
        routes=gateways if network and not down else [],
        dns=m.Resolver(nameservers=["192.0.2.1"]),
        hosts=[["127.0.0.1", "localhost"], ["::1", "localhost", "ip6-localhost"]],
        time_ns=time.time_ns(),
        entropy=os.urandom(64),
        sysctls=defaults.SYSCTLS,
        share=SHARE_TAG if share else "",
    )


def _container() -> m.ContainerCreate:
    return m.ContainerCreate(
        id=NAME,
        rootfs=m.Rootfs(lower=m.Disk(target=SLOTS[0]), upper=m.Disk(target=SLOTS[1])),
        all_mounts=usual_mounts(),
        cgroup=m.Cgroup(memory_bytes=64 << 20, cpu_quota_us=100_000, cpu_period_us=100_000, pids=100),
        masked_paths=defaults.MASKED_PATHS,
        readonly_paths=defaults.READONLY_PATHS,
    )


def _process(streams: m.StreamSet) -> m.ProcessStart:
    granted = capabilities.resolve([], [], privileged=False)
    return m.ProcessStart(
        id=NAME,
        container=NAME,
        args=PROGRAM,
        env=["PATH=/"],
        first=True,
        capabilities=granted,
        seccomp=seccomp.compile(granted, arch.host().name),
        streams=streams,
    )


async def _run(vm: Vm) -> None:
    agent = vm.agent
    ended: asyncio.Future[ExitEvent] = asyncio.get_running_loop().create_future()
    agent.on_exit = ended.set_result
    stdout = agent.new_streams(2)
    stderr = stdout + 1
    await agent.start_process(_process(m.StreamSet(stdout=stdout, stderr=stderr)))
    try:
        async with limit(RUN_S, vm.guest.waited_s):
            for number in (stdout, stderr):
                output = agent.output(number)
                while data := await output.read():
                    output.consumed(len(data))
            status = (await ended).status
    except TimeoutError:
        raise GuestSilent(f"cannot rehearse: the guest's program did not end within {RUN_S:g} s") from None
    if status:
        raise GuestError(f"cannot rehearse: the guest's program ended with status {status}")
    agent.on_exit = None
    await agent.forget_process(NAME)
