"""Containers that nobody asked for, run once in a guest, so that the guest's first real one finds everything done.

What a kernel does only once has been done then; and an emulator translates code when it is first run, which takes
several times as long as running it: most of the time of a start. So the rehearsal is asked for all that a usual
container is: what is left out here is done for the first time when somebody waits for it.
"""

import asyncio
import os
import time
from typing import Any

from msgspec.structs import replace

from hypercontainer.agent import messages as m
from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.messages import ExitEvent
from hypercontainer.errors import GuestError, GuestSilent
from hypercontainer.factory.base import EMPTY, Roots, Share
from hypercontainer.hypervisor.base import SHARE_TAG, SLOTS, SNAPSHOT_MAC, Adoptable
from hypercontainer.lib.limit import limit
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model import capabilities, defaults, seccomp
from hypercontainer.model.ulimits import Rlimit
from hypercontainer.vm import Vm

NAME, ANOTHER = "rehearsal", "rehearsal-exec"
PROGRAM = ["hyperstart", "--rehearse"]  # what the roots to rehearse with hold
OTHER_MAC = "52:54:00:00:00:01"
LINK_MTU, OTHER_MTU = 1500, 1400
RUN_S = 30.0
FUSE = m.DeviceRule(type="c", major=10, minor=229, access="rwm")  # which docker denies each container
FILE = m.Mount(type="bind", target="/etc/issue", source=f"{NAME}/hyperstart")  # as an engine binds its /etc/hosts


async def rehearse(vm: Vm, roots: Roots, *, network: bool, share: Share | None = None) -> None:
    """Run a container on disks in a guest whose SLOTS are empty, and where that has a `share` one on a folder, each
    with one more process; nothing of them is left, and the slots are empty again.

    The pod's names and addresses are the rehearsal's until it is set up again. A share is found and mounted, and stays
    so. GuestError, GuestDied or GuestSilent if they could not be run to their end."""
    guest = vm.guest
    assert isinstance(guest, Adoptable)  # noqa: S101  else it has no stage
    for disk in roots.disks:
        await guest.swap_disk(disk)
    if vm.agent.has(m.DISK_STAGE):  # as whoever waits has it
        await vm.agent.stage_disk(SLOTS[1])
    # another address, as it will have
    await vm.agent.setup_pod(_pod(OTHER_MAC, SNAPSHOT_MAC, network=network, share=bool(share)))
    await _live(vm, m.Rootfs(lower=m.Disk(target=SLOTS[0]), upper=m.Disk(target=SLOTS[1])), usual_mounts())
    if share:
        await in_thread(share.add, NAME, roots.folder, False)
        await _live(vm, m.Rootfs(folder=NAME), [*usual_mounts(), FILE])
        await in_thread(share.remove, NAME)
    await vm.agent.setup_pod(_pod(SNAPSHOT_MAC, OTHER_MAC, network=network, down=True))
    for empty in EMPTY:
        await guest.swap_disk(empty)
    await vm.agent.stage(SLOTS, usual_mounts())  # with the containers their disks went


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
        nameserver=m.Nameserver(address="192.0.2.1", port=53),
        hosts=[["127.0.0.1", "localhost"], ["::1", "localhost", "ip6-localhost"]],
        time_ns=time.time_ns(),
        entropy=os.urandom(64),
        sysctls=defaults.SYSCTLS,
        share=SHARE_TAG if share else "",
    )


async def _live(vm: Vm, rootfs: m.Rootfs, mounts: list[m.Mount]) -> None:
    create = m.ContainerCreate(
        id=NAME,
        rootfs=rootfs,
        all_mounts=mounts,
        cgroup=m.Cgroup(memory_bytes=64 << 20, cpu_quota_us=100_000, cpu_period_us=100_000, pids=100),
        masked_paths=defaults.MASKED_PATHS,
        readonly_paths=defaults.READONLY_PATHS,
        device_rules=[FUSE] if rootfs.folder else [],
    )
    await vm.agent.create_container(create)
    await _run(vm)
    await vm.agent.remove_container(NAME)


async def _run(vm: Vm) -> None:
    """The first process, and while it runs another one, as an engine asks for it."""
    loop = asyncio.get_running_loop()
    ends: dict[str, asyncio.Future[ExitEvent]] = {name: loop.create_future() for name in (NAME, ANOTHER)}
    vm.agent.on_exit = lambda event: ends[event.process].set_result(event)
    granted = capabilities.resolve([], [], privileged=False)
    sets = m.CapabilitySets(bounding=granted, effective=granted, permitted=granted)
    arch = vm.guest.record.arch
    limits = [Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024)]
    try:
        async with limit(RUN_S, vm.guest.waited_s):
            first = await _start(vm.agent, m.ProcessStart(**_usual(NAME, arch), first=True, capabilities=granted))
            more = m.ProcessStart(
                **_usual(ANOTHER, arch), capability_sets=sets, no_new_privs=True, umask=0o22, rlimits=limits
            )
            await _end(vm.agent, await _start(vm.agent, more), ends[ANOTHER])
            await _end(vm.agent, first, ends[NAME])
    except TimeoutError:
        raise GuestSilent(f"cannot rehearse: the guest's program did not end within {RUN_S:g} s") from None
    vm.agent.on_exit = None


def _usual(id: str, arch: str) -> dict[str, Any]:
    granted = capabilities.resolve([], [], privileged=False)
    return {
        "id": id,
        "container": NAME,
        "args": PROGRAM,
        "env": ["PATH=/bin:/"],
        "seccomp": seccomp.compile(granted, arch),
    }


async def _start(agent: AgentClient, wanted: m.ProcessStart) -> m.StreamSet:
    stdin = agent.new_streams(3)
    streams = m.StreamSet(stdin=stdin, stdout=stdin + 1, stderr=stdin + 2)
    await agent.start_process(replace(wanted, streams=streams))
    return streams


async def _end(agent: AgentClient, streams: m.StreamSet, ended: "asyncio.Future[ExitEvent]") -> None:
    """Say that there is no more for it to read, and hear all that it says."""
    agent.input(streams.stdin).close()
    for number in (streams.stdout, streams.stderr):
        output = agent.output(number)
        while data := await output.read():
            output.consumed(len(data))
    event = await ended
    if event.status:
        raise GuestError(f"cannot rehearse: the guest's program ended with status {event.status}")
    await agent.forget_process(event.process)
