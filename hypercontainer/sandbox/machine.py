"""A pod's virtual machine and what belongs to it on the host: network, disks, shared folders, the VMM.

Everything is in the record before it is made; `release` lets go of it all, at any point of a boot. The pod's lock
is held by whoever calls.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from hypercontainer import vm as vms
from hypercontainer.agent.messages import APPARMOR, DISK_MOUNTS, MOUNTS, POD_SHM, RESOLVER, Listing, Rootfs
from hypercontainer.errors import Exhausted, GuestError, HyperError, InvalidInput, WrongState
from hypercontainer.hypervisor.base import (
    SLOTS,
    SNAPSHOT_MAC,
    Adoptable,
    Feature,
    Guest,
    Hotplug,
    Limits,
    Snapshot,
    VmConfig,
)
from hypercontainer.lib import apparmor, engine_cgroup, files, kubernetes, netns
from hypercontainer.lib.tasks import all_of
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import (
    ContainerRecord,
    DiskRecord,
    PodRecord,
    SnapshotInfo,
)
from hypercontainer.sandbox import agent_requests, clock, first_guests, relay, resolver, rootfs, size
from hypercontainer.sandbox.folders import Folders, of_this_host
from hypercontainer.sandbox.interfaces import Interfaces
from hypercontainer.sandbox.site import Boot, Records, Site

log = logging.getLogger(__name__)

POWER_OFF_S = 1.0  # between TERM and KILL for what still runs when a guest is powered off
CREATE_S = 30.0
NEAR_MIB = 4  # memory comes in blocks of some MiB
FILL_S = 3600.0  # for the largest image on the slowest disk, no expectation: whoever waits may give up


@dataclass(frozen=True, kw_only=True)
class RestoreFrom:
    """A guest that was saved with its container in it."""

    snapshot: Snapshot
    info: SnapshotInfo


def _written_mib(disks: Iterable[DiskRecord]) -> Iterator[int]:
    """Sizes of those that are written and there; a block device has none."""
    for disk in disks:
        if not disk.read_only and os.path.exists(disk.path):
            yield -(-os.stat(disk.path).st_size >> 20)


class Machine:
    def __init__(self, site: Site, record: PodRecord, records: Records) -> None:
        self.site, self.record, self._records = site, record, records
        self.vm: vms.Vm | None = None
        self.lost = "its virtual machine was gone when hyperd started"  # or why else it was not taken up again
        self.folders = Folders(site, record, records)
        self.interfaces = Interfaces(site, record, records)
        self._in_guest: set[str] = set()  # containers that the guest has been told of
        self._targets: set[int] = set()  # disks that are plugged
        self._held_to: Limits | None = Limits()  # by this host; None: by a hyperd before us
        self._standing: Guest | None = None  # it was found, and does not answer yet
        self.unreached = ""  # why nobody can talk to the guest, which is there

    def check_reached(self, verb: str, name: str) -> None:
        """WrongState while the guest is there, but stands still since before our own restart."""
        if self.unreached:
            raise WrongState(verb, name, "not reached yet", self.unreached)

    @property
    def guest(self) -> Guest | None:
        return self.vm.guest if self.vm else None

    def running(self) -> vms.Vm:
        self.check_reached("use", self.record.name)
        if self.vm is None:
            raise WrongState("use", self.record.name, "not running")
        return self.vm

    def connecting(self, verb: str) -> vms.Vm:
        """The VM, if network interfaces can come and go now. WrongState, Unsupported, GuestTooOld."""
        name = self.record.name
        self.check_reached(verb, name)
        if self.vm is None:
            raise WrongState(verb, name, "suspended" if self.record.suspended else "not running")
        if self.record.paused:
            raise WrongState(verb, name, "paused", "unpause it first")
        self.interfaces.check(self.vm, f"{verb} {name}")
        return self.vm

    def save(self) -> None:
        """Exhausted when the disk takes no more: what was about to be done is not done."""
        self._records.save(self.record)

    def note(self) -> bool:
        """Write down what has happened already; False while the disk takes no more."""
        return self._records.note(self.record)

    async def boot(
        self, trace: Trace, origin: RestoreFrom | None = None, first: ContainerRecord | None = None
    ) -> vms.Vm:
        """Boot it, its network up, its containers' disks plugged, and `first` made in it; or have it go on from
        `origin`, a machine of its own from the first moment on that anybody can see of it. On failure nothing is
        left."""
        record, site = self.record, self.site
        self.check_reached("start", record.name)
        await site.endings.over(record.id)
        boot = await site.boot(self.record)
        async with AsyncExitStack() as undo:  # callbacks only: on success they are dropped
            undo.push_async_callback(self.release)
            await self._plan()
            new_scratch = first is not None and self._is_new(first)
            with trace.step("prepare"):
                await all_of(self.interfaces.create(), *(self._make_rootfs(c) for c in record.containers))
            disks = self.folders.disks(record.containers)
            shared = await self.folders.shared()
            config = replace(self._config(boot, disks), share=shared, new_scratch=new_scratch)
            self.vm = vm = await self._guest(config, trace, origin)
            self._targets = {disk.target for disk in disks}
            record.uid = vm.guest.record.uid
            await self.interfaces.complete(vm)
            if origin:
                await self._tell(vm, trace, share=config.share is not None, origin=origin)
                await self.interfaces.plug()  # only now: until then it spoke with the address of another one
            else:  # a tap that moves takes longer than what it needs to know
                await all_of(self._prepare(vm, trace, first, share=config.share is not None), self._plug(vm))
            record.guest = vm.guest.record
            if not record.provisional:  # else with the word that it is whole: until then nobody takes it up
                self.save()  # only now: a guest that was not told who it is must not be taken up after our own restart
            undo.pop_all()
        return vm

    async def _prepare(self, vm: vms.Vm, trace: Trace, first: ContainerRecord | None, *, share: bool) -> None:
        """Have the guest know who it is, and `first` made in it."""
        if first is None:
            return await self._tell(vm, trace, share=share)
        await all_of(self._tell(vm, trace, share=share), self.folders.show(first))
        with trace.step("rootfs"):
            return await self._create(first, vm)

    async def _plug(self, vm: vms.Vm) -> None:
        if isinstance(vm.guest, Adoptable):
            await vm.guest.settled()
        await self.interfaces.plug()

    async def _tell(self, vm: vms.Vm, trace: Trace, *, share: bool, origin: RestoreFrom | None = None) -> None:
        """Have the guest know who it is."""
        record = self.record
        asked_s = time.monotonic()
        hardware = origin.info.mac if origin else SNAPSHOT_MAC
        hosts = self.interfaces.hosts(record.nics)
        nameserver = self.interfaces.nameserver(vm, record.nics)
        setup = agent_requests.pod_setup(record, hosts, share=share, hardware=hardware)
        if vm.agent.has(RESOLVER) and resolver.of(record, self.site.netns(record.id)):
            setup = msgspec.structs.replace(setup, resolver=True)
        setup = agent_requests.asking(setup, self.interfaces.dns(nameserver), nameserver)
        with trace.step("pod"):
            await vm.agent.setup_pod(setup)
            if not clock.near(asked_s):
                await clock.set_clock(vm.agent)

    async def _guest(self, config: VmConfig, trace: Trace, origin: RestoreFrom | None) -> vms.Vm:
        """A guest whose agent answers; one that went on from `origin` knows its container by its own id."""
        site, record = self.site, self.record
        if origin is None:
            factory = site.factory(record.spec.factory)
            return await factory.boot(config, site.run_dir(record.id), trace)
        info = origin.info
        config = replace(config, origin=origin.snapshot, vcpus=info.vcpus, memory_mib=info.memory_mib)
        vm = await vms.boot(site.hypervisor, config, site.run_dir(record.id), trace)
        self._in_guest = {container.id for container in record.containers}
        return vm

    async def _plan(self) -> None:
        """Write down what is about to be made on the host."""
        if self.record.netns:  # before whoever is in it may end: what is made in there is to be removed again
            place = self.site.netns(self.record.id)
            with files.telling(f"hold network namespace {self.record.netns}"):
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                netns.hold(self.record.netns, place)
        await self._records.allocate(self.record)
        run_dir = self.site.run_dir(self.record.id)
        with files.telling(f"make {run_dir}"):
            run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)

    async def _make_rootfs(self, container: ContainerRecord) -> None:
        size_mib = container.spec.scratch_mib or self.site.limits.scratch_mib
        await rootfs.of(container.rootfs).prepare(size_mib, self.site.scratches)

    def _is_new(self, container: ContainerRecord) -> bool:
        """Whether its scratch disk is yet to be made, of the usual size, and the guest's second one."""
        root = rootfs.of(container.rootfs)
        if root.scratch is None or container.spec.scratch_mib not in (0, self.site.limits.scratch_mib):
            return False
        return SLOTS[1] in {disk.target for disk in root.disks if not disk.read_only} and not root.scratch.exists()

    def _config(self, boot: Boot, disks: list[DiskRecord]) -> VmConfig:
        record, limits = self.record, self.site.limits
        return VmConfig(
            name=record.name,
            kernel=boot.kernel,
            initrd=boot.initrd,
            arch=record.arch,
            vcpus=self.site.vcpus(record, boot.accelerator),
            memory_mib=self.site.machine_mib(record),
            tenant=record.spec.tenant if limits.by_tenant else "",
            uid=record.uid,
            disks=disks,
            disk_mib=max([limits.scratch_mib, *(c.spec.scratch_mib for c in record.containers), *_written_mib(disks)]),
            nics=self.interfaces.first(),
            boot_timeout_s=limits.boot_timeout_s,
            accelerator=boot.accelerator,
            kernel_parameters=agent_requests.kernel_parameters(record, apparmor=self.site.apparmor),
        )

    async def enter(self, container: ContainerRecord, trace: Trace) -> None:
        """Have `container` made in the guest, its disks plugged into a machine that ran before."""
        if container.id in self._in_guest:
            return
        vm = self.running()
        if of_this_host([container]):
            self.folders.check("start", container)
        with trace.step("rootfs"):
            await self._make_rootfs(container)
            await self.folders.show(container)
            await self._create(container, vm)

    async def _create(self, container: ContainerRecord, vm: vms.Vm) -> None:
        """Have `container` made in the guest, which sees its folders."""
        if container.images:
            vm.agent.require(DISK_MOUNTS)
        await self.confine(container.config.process.apparmor)
        for disk in self.folders.disks([container]):
            if disk.target not in self._targets:
                assert isinstance(vm.guest, Hotplug)  # noqa: S101  asked when the container was made
                await vm.guest.add_disk(disk)
                self._targets.add(disk.target)
        if sockets := relay.of([container]):
            await asyncio.to_thread(relay.look, sockets)
            await vm.agent.watch_sockets()
        further = await self.folders.further(container, vm.guest)
        create = agent_requests.container_create(container, self.site.limit_mib(self.record, container), further)
        if not vm.agent.has(POD_SHM):
            create = first_guests.own_shm(create)
        if not vm.agent.has(MOUNTS):
            create = first_guests.container_create(create)
        async with self.folders.filling(container, vm.guest) as fills:
            await vm.agent.create_container(create, timeout_s=FILL_S if fills else CREATE_S)
        self._in_guest.add(container.id)
        await self.hold([each for each in self.record.containers if each.id in self._in_guest])

    async def hold(self, containers: Sequence[ContainerRecord]) -> None:
        """Have this host hold the machine to what these, who are in it, may take together. Of who only waits nothing
        is said."""
        work = [each for each in containers if not (each.bundle and kubernetes.is_sandbox(each.bundle.annotations))]
        wanted = size.of_host([container.config.resources for container in work])
        if self.vm and wanted != self._held_to:
            await self.vm.guest.limit(wanted)
            self._held_to = wanted

    async def be_counted(self, container: ContainerRecord) -> None:
        """Have the machine be in the control group that an engine names for its only container, and reads. containerd
        asks its shim instead, and a pod of Kubernetes has limits of its own around that, which no machine was counted
        in."""
        if not (self.vm and container.bundle and self._may_be_counted(container)):
            return
        if groups := await asyncio.to_thread(engine_cgroup.counting, container.bundle.cgroup):
            self._held_to = None  # before: what was begun goes on when the start is given up
            await self.vm.guest.enter([Path(group) for group in groups])
            await self.hold([container])

    def _may_be_counted(self, container: ContainerRecord) -> bool:
        if not (self.record.lone and container.bundle and container.bundle.cgroup):
            return False
        return self.record.owner.startswith("/") and not kubernetes.is_pods(container.bundle.annotations)

    async def be_apart(self, container: ContainerRecord) -> None:
        """Have the machine, if there is one, not be in the control group that an engine names for that container; one
        that ends there is waited for."""
        if self._may_be_counted(container):
            await self.site.endings.over(self.record.id)
        guest = self.guest or self._standing
        if guest and container.bundle and container.bundle.cgroup:
            groups = await asyncio.to_thread(engine_cgroup.counting, container.bundle.cgroup)
            self._held_to = None
            await guest.leave([Path(group) for group in groups])
            await self.hold([each for each in self.record.containers if each.id in self._in_guest])

    async def go_on(self, container: ContainerRecord, old: ContainerRecord) -> None:
        """Have `container` made in the guest in the place of `old`, in which nothing runs any more: with its disks, and
        what is on them below what `container` changes. Neither is shown anything of this host. On failure neither is
        there."""
        self._in_guest.discard(old.id)
        create = agent_requests.container_create(container, self.site.limit_mib(self.record, container))
        over = msgspec.structs.replace(create, rootfs=Rootfs(over=old.id))
        await self.running().agent.create_container(over, timeout_s=CREATE_S)
        self._in_guest.add(container.id)

    async def confine(self, profile: str) -> None:
        """Have the guest know that profile of AppArmor, as it is on this host now; "": nothing. InvalidInput where it
        cannot."""
        if not profile:
            return
        agent = self.running().agent
        if not agent.has(APPARMOR):
            raise InvalidInput(
                f"cannot confine a process by AppArmor profile {profile[:60]!r}: the kernel of its virtual machine has "
                "no AppArmor (Debian's has), or was started before anybody asked for it: see the setting apparmor"
            )
        await agent.load_apparmor(await apparmor.policy(self.site.profiles, profile))

    def holds(self, container: ContainerRecord) -> bool:
        """The guest has been told of it."""
        return container.id in self._in_guest

    def keeps_more(self, container: ContainerRecord, has_mib: int) -> bool:
        """Whether a machine that was made for `container`, and has so much memory, has more than it should."""
        return self.record.sized_for(container) and has_mib > self.site.machine_mib(self.record) + NEAR_MIB

    async def limit(self, container: ContainerRecord, has_mib: int) -> None:
        """Have the guest, which has so much memory and `container` in it, hold that to what its record says. GuestError
        EBUSY: it uses more memory by now."""
        inside_mib = self.site.limit_mib(self.record, container)
        if not inside_mib and self.keeps_more(container, has_mib):
            inside_mib = self.site.machine_mib(self.record)
        await self.running().agent.update_container(agent_requests.container_update(container, inside_mib))

    async def leave(self, container: ContainerRecord) -> None:
        """Take `container` out of a guest that runs on; nothing happens when it is not in one."""
        self.check_reached("remove", container.name)
        if self.vm and container.id in self._in_guest:
            await self.vm.agent.remove_container(container.id)
            self._in_guest.discard(container.id)
        for disk in rootfs.disks([container]):
            if self.vm and disk.target in self._targets and isinstance(self.vm.guest, Hotplug):
                await self.vm.guest.remove_disk(disk.target)
                self._targets.discard(disk.target)
        others = [c for c in self.record.containers if c is not container and c.id in self._in_guest]
        await self.hold(others)
        await self.folders.hide(container, others, self.guest)

    async def power_off(self) -> None:
        """End it in good order, its disks written, and let go of what it held."""
        vm = self.running()
        if not self._keeps():
            await self.release()
            return
        try:
            if self.record.paused:
                await vm.guest.resume()
            await vm.agent.power_off(grace_s=POWER_OFF_S)
        except HyperError as e:
            log.warning("pod %s: cannot power off in good order: %s", self.record.id, e)
        finally:
            await self.release()

    def _keeps(self) -> bool:
        """Whether the guest may have something that is to be on this host. To a share whatever ends has written all;
        where containers see each other's processes, some may end after the first one."""
        together = self.record.spec.share_pid or any(c.config.pid_of for c in self.record.containers)
        return bool(self._targets) or together

    async def release(self) -> bool:
        """Let go of all that a running pod holds on the host and others may have: it runs no more, and what is its own
        goes by itself (`Site.endings`). Safe at any point of a boot, any number of times.

        False while the disk does not take that in."""
        ends = await asyncio.gather(self._end(), self.interfaces.remove(), return_exceptions=True)
        for failure in ends:  # each has done what it could before we give up
            if failure:
                raise failure
        netns.let_go(self.site.netns(self.record.id))
        record = self.record
        record.guest = None
        record.paused, record.frozen, record.uid = False, False, 0
        self._in_guest.clear()
        self._targets.clear()
        self._held_to = Limits()
        return self.note()

    async def _end(self) -> None:
        record, endings = self.record, self.site.endings
        vm, self.vm = self.vm, None
        guest = vm.guest if vm else self._standing
        self._reached()
        run_dir = self.site.run_dir(record.id)
        if guest:
            endings.begin(record.id, record.uid, partial(self._finish_end, guest, run_dir))
            await all_of(guest.tell_end(), *([vm.close()] if vm else []))
        elif record.id not in endings:
            await vms.remove(self.site.hypervisor, run_dir)
        elif self.folders.share.served:  # it has not let go of that when it was told to end
            await endings.over(record.id)
        if self._holds_others():
            await endings.over(record.id)
        await self.folders.clear()

    async def _finish_end(self, guest: Guest, run_dir: Path) -> None:
        await guest.kill()
        await vms.remove(self.site.hypervisor, run_dir)

    def _holds_others(self) -> bool:
        """Whether a VMM has disks open that are not its pod's alone to write, until it is gone: whoever made them may
        use them when it has ended."""
        disks = rootfs.disks(self.record.containers)
        own = {str(rootfs.of(container.rootfs).scratch) for container in self.record.containers}
        return any(disk.device or not (disk.read_only or disk.path in own) for disk in disks)

    async def attach(self) -> Listing | None:
        """Take hold of the guest in the record again, after our own restart. Returns what the guest says is in it;
        None if it is gone or does not answer.

        Exhausted while it stands still for want of room on this host's disk: `unreached` says so. Try again."""
        record, hypervisor = self.record, self.site.hypervisor
        if record.guest is None:
            return None
        self.folders.adopt()
        try:
            self._standing = self._standing or await hypervisor.attach(record.guest)
            if self._standing is None:
                return None
            paused, timeout_s = record.paused or record.frozen, self.site.limits.boot_timeout_s
            self.vm = vm = await vms.reach(self._standing, paused=paused, timeout_s=timeout_s)
            self._reached()
            self._targets = await self._plugged(vm)
            if not paused:
                await self._remove_unmade(vm)
                await self.interfaces.recover(vm)
            await self.folders.recover(vm.guest)
        except Exhausted as e:
            self.unreached = str(e)
            raise
        except HyperError as e:
            self._reached()
            log.error("pod %s: cannot attach to its guest: %s", record.id, e)
            self.lost = f"its virtual machine was given up when hyperd started: {e}"
            return None
        self.folders.follow()
        state = vm.agent.known
        self._in_guest = {c.id for c in state.containers if c.created}
        self._held_to = None
        await self.hold(self.record.containers)
        if not (self.record.paused or self.record.frozen):
            await self._grow(vm)
        return state

    async def _plugged(self, vm: vms.Vm) -> set[int]:
        if isinstance(vm.guest, Hotplug):
            return await vm.guest.plugged()
        return {disk.target for disk in rootfs.disks(self.record.containers)}

    async def _remove_unmade(self, vm: vms.Vm) -> None:
        """Containers whose volumes are being filled, for a hyperd before us that has ended: nobody waits for them."""
        for container in vm.agent.known.containers:
            if not container.created:
                with suppress(GuestError):  # it could not be filled, and is gone by itself
                    await vm.agent.remove_container(container.id)

    async def still(self, for_s: float) -> bool:
        """Wait for so long, or until a guest that is not reached has ended. False: it has, or there is none."""
        if self._standing is None:
            return False
        try:
            async with asyncio.timeout(for_s):
                await self._standing.wait()
        except TimeoutError:
            return True
        return False

    def _reached(self) -> None:
        """Or gone."""
        self._standing, self.unreached = None, ""

    async def _grow(self, vm: vms.Vm) -> None:
        """To the size in the record, where a hyperd before us did not come to it. What is more stays."""
        if Feature.RESIZE not in self.site.hypervisor.features:
            return
        try:
            size = await vm.guest.size()
            vcpus = self.site.vcpus(self.record, vm.guest.record.accelerator)
            await vm.resize(vcpus, max(self.site.machine_mib(self.record), size.memory_mib))
        except HyperError as e:
            log.warning("pod %s: it is not of the size that it should be: %s", self.record.id, e)

    async def limit_again(self) -> None:
        """After our own restart: a hyperd before us may have written limits down that the guest has not heard of."""
        if self.record.paused or self.record.frozen:
            return
        size = await self.running().guest.size()
        for container in [each for each in self.record.containers if self.holds(each)]:
            try:
                await self.limit(container, size.memory_mib)
            except HyperError as e:
                log.warning("%s: its limits may not be those that it should have: %s", container.name, e)
