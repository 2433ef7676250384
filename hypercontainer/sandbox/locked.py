"""What changes a pod: only who holds its lock can, for `Pod.locked` alone makes a LockedPod."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, Protocol

from hypercontainer.agent.messages import ListedProcess
from hypercontainer.errors import Exhausted, GuestDied, GuestError, HyperError, WrongState
from hypercontainer.lib import files
from hypercontainer.lib.tasks import all_of
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import ContainerRecord, NicRecord, PodRecord, Streams
from hypercontainer.sandbox import clock, criu, resolver
from hypercontainer.sandbox.container import LOST, Container
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.following import Difference
from hypercontainer.sandbox.site import Records
from hypercontainer.vm import Vm

if TYPE_CHECKING:
    from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

SIGKILL = 9


class Supervisor(Records, Protocol):
    """Who answers for pods: keeps their records, and decides what follows from an end."""

    def linked(self, pod: PodRecord, container: ContainerRecord) -> list[str]:
        """Entries of the environment of its processes, beside its own, that tell of those it is linked to."""

    def began(self, pod: "Pod", container: Container) -> None:
        """A container runs from now on, for as long as its `exit` is not there: it was started, or it sleeps no more,
        or it is one that a hyperd before us has started."""

    def prepared(self, pod: "Pod", container: Container) -> None:
        """A container waits from now on for its start, and others may join it."""

    def state_after(self, container: ContainerRecord) -> Literal["exited", "restarting"]:
        """What a container becomes whose end its record tells already; asked once for each end."""

    async def ended(self, pod: "LockedPod", container: Container) -> None:
        """A container's end is written down and told: do what follows from it, with it and with the machine."""

    async def unused(self, pod: "LockedPod") -> None:
        """Nobody needs the machine any more who needed it though no container runs: do what follows from that."""


class LockedPod:
    """A pod whose lock is held, for as long as that is so."""

    def __init__(self, pod: "Pod") -> None:
        self.pod = pod
        self.site, self.record, self.supervisor, self.machine = pod.site, pod.record, pod.supervisor, pod.machine
        self.containers, self.execs, self.emit = pod.containers, pod.execs, pod.emit

    async def written(self) -> None:
        """The record on disk says all that is true: forget what was kept until then, here and in the guest."""
        if self.record.suspended is None:
            shutil.rmtree(self.pod.suspended_folder, ignore_errors=True)
        unwritten, self.pod.unwritten[:] = list(self.pod.unwritten), []
        for container in unwritten:
            if self.machine.vm and not container.running:
                await self._forget(self.machine.vm, container)

    async def _forget(self, vm: Vm, container: Container) -> None:
        try:
            await vm.agent.forget_process(container.record.id)
        except HyperError as e:
            log.warning("pod %s: cannot forget a process: %s", self.record.id, e)

    # starting

    async def boot(self, trace: Trace, first: Container | None = None) -> None:
        """Have the machine, though no container is started, with `first` in it. One that runs: nothing happens."""
        if self.machine.vm is None:
            async with self.site.turns.turn(trace):
                await self._boot(trace, first)

    async def _boot(self, trace: Trace, first: Container | None = None) -> None:
        if self.machine.vm is None:
            self.pod.adopt(await self.machine.boot(trace, first=first.record if first else None))
            self.emit("start")

    async def enter(self, container: Container, trace: Trace) -> None:
        """Have `container` made in the guest, which is booted for that if need be."""
        async with self.site.turns.turn(trace):
            await self._enter(container, trace)

    async def _enter(self, container: Container, trace: Trace) -> None:
        await self._boot(trace, container if self.record.lone else None)
        await self.machine.enter(container.record, trace)

    async def go_on(self, old: Container, record: ContainerRecord) -> Container:
        """A container in the place of `old`, which does not run: with its disks as that one left them, and what is
        written from now on apart from that. Both have no folder of this host. On failure neither is in the guest."""
        container = self.pod.replace(old, record)
        self.machine.save()
        await self.machine.go_on(record, old.record)
        await old.remove()
        return container

    async def start(self, container: Container, trace: Trace, saved: Saved | None = None) -> None:
        """Boot the machine if need be, make the container in it, start its process."""
        container.record.stopped_by_user = False
        async with self.site.turns.turn(trace):
            await self._start(container, trace, saved)
        self.machine.note()
        self.emit("start", container)
        self.supervisor.began(self.pod, container)

    async def _start(self, container: Container, trace: Trace, saved: Saved | None) -> None:
        with files.telling(f"start {container.record.name}"):
            await self._enter(container, trace)
            linked = self.supervisor.linked(self.record, container.record)
            self.supervisor.prepared(self.pod, container)  # its stand-in may go while its hooks run
            async with self.machine.folders.lent(container.record, saved) as restore:
                begin = container.run(self.machine.running(), trace, self.machine.save, linked, restore)
                try:
                    await all_of(begin, self.machine.be_counted(container.record))
                except GuestError as e:
                    if saved and (why := await asyncio.to_thread(criu.why, saved.work, criu.RESTORE_LOG)):
                        raise GuestError(f"{e}: {why}", e.errno) from e
                    raise

    async def prepare(self, container: Container) -> None:
        """Have all of it but its start: others may join it. What it takes from its start on is counted where its engine
        looks, if that place is there already."""
        linked = self.supervisor.linked(self.record, container.record)
        await container.prepare(self.machine.running(), self.machine.save, linked)
        self.supervisor.prepared(self.pod, container)
        await self.machine.be_counted(container.record)

    # ending

    async def ended(self, container: Container, status: int, *, oom: bool) -> None:
        """The process of a running container has ended: write it down, tell, and have done what follows from it."""
        vm = self.machine.running()
        self._finish(container, status, oom=oom, error=self.pod.why(container.record, status) if oom else "")
        written = self.machine.note()
        if not written:
            self.pod.unwritten.append(container)  # the guest keeps the status until we have written it down
        if oom:
            self.emit("oom", container)
        self.emit("die", container, exitCode=str(status))
        try:
            await self._settle(container, status)
        finally:  # last: what follows may be the machine's end, or the container's, and then it need not be asked
            if written and self.machine.vm is vm and container.record.id in self.containers:
                await self._forget(vm, container)

    def _finish(self, container: Container, status: int, *, oom: bool = False, error: str = "") -> None:
        container.finish(status, oom=oom, error=error)
        container.record.move(self.supervisor.state_after(container.record))

    async def _settle(self, container: Container, status: int, lost: HyperError | None = None) -> None:
        """Tell whoever waits for the end of a run that is written down, and have done what follows from it."""
        container.settle(status, lost)
        await container.output.end()
        try:
            await self.supervisor.ended(self, container)
        finally:
            container.left.set()

    async def end(self, container: Container, *, why: HyperError | None = None) -> None:
        """Its machine goes now as if by KILL, or has gone, and it is not started again by itself."""
        container.record.stopped_by_user, self.record.suspended = True, None
        self.end_execs(why or GuestDied(f"{container.record.name} has ended"))
        container.output.cut()
        self._finish(container, 128 + SIGKILL)
        if await self.machine.release():
            await self.written()
        self.emit("die", container, exitCode=str(128 + SIGKILL))
        await self._settle(container, 128 + SIGKILL)

    async def lose(self, lost: GuestDied, *, oom: bool = False) -> None:
        """The guest is gone, `oom`: for want of memory. End what ran in it, free what it held on the host, have done
        what follows from that."""
        ended = self._run_to_the_end()
        self.end_execs(lost)
        for container in ended:
            container.output.cut()
            self._finish(container, LOST, oom=oom, error=str(lost))
        await self.machine.release()
        self.emit("die", error=str(lost))
        for container in ended:
            if oom:
                self.emit("oom", container)
            self.emit("die", container, exitCode=str(LOST), error=str(lost))
            await self._settle(container, LOST, lost)

    def _run_to_the_end(self) -> list[Container]:
        """Those that end with the machine: what waits for its start has run, too."""
        for container in self.containers.values():
            container.miss_start()
        return [container for container in self.containers.values() if container.running]

    def end_execs(self, why: HyperError) -> None:
        """Whoever waits for one of the pod's execs is told `why`."""
        for exec_ in self.execs.values():
            exec_.lost(why)

    async def power_off(self) -> None:
        """End the machine in good order, and what still runs in it, which is not started again by itself; one that is
        not reached, as if by KILL."""
        if not (self.machine.unreached or self.machine.vm):
            return
        ended = self._run_to_the_end()
        self.end_execs(GuestDied(f"the virtual machine of {self.record.name} was ended"))
        for container in ended:
            container.record.stopped_by_user = True
            self._finish(container, 128 + SIGKILL)
        await (self.machine.release() if self.machine.unreached else self.machine.power_off())
        self.emit("stop")
        for container in ended:
            container.output.cut()
            self.emit("die", container, exitCode=str(128 + SIGKILL))
            await self._settle(container, 128 + SIGKILL)

    # pausing

    async def pause(self) -> None:
        self.machine.check_reached("pause", self.record.name)
        if self.record.paused or self.machine.vm is None:
            raise WrongState("pause", self.record.name, "paused" if self.record.paused else "not running")
        guest = self.machine.vm.guest
        await guest.pause()
        await self._record_paused(True, undo=guest.resume)

    async def unpause(self, *, ends: bool = False) -> None:
        """One that is not paused: nothing happens. `ends`: it runs only to end, so no disk keeps it from that."""
        if self.record.paused:
            vm = self.machine.running()
            await vm.guest.resume()
            if ends:
                self._set_paused(False)
            else:
                await self._record_paused(False, undo=vm.guest.pause)
            await clock.set_clock(vm.agent)  # it stood still

    async def _record_paused(self, paused: bool, undo: Callable[[], Awaitable[None]]) -> None:
        """Exhausted: it is undone, for a hyperd after us goes by the record."""
        self.record.paused = paused
        try:
            self.machine.save()
        except BaseException:
            self.record.paused = not paused
            await undo()
            raise
        self._set_paused(paused)

    def _set_paused(self, paused: bool) -> None:
        self.record.paused = paused
        self.pod.halts += paused
        for container in self.containers.values():
            if container.running:
                container.record.move("paused" if paused else "running")
                self.emit("pause" if paused else "unpause", container)
        self.machine.note()

    # network interfaces

    async def add_interface(self, nic: NicRecord) -> None:
        """Give one, which a network has just planned beside all others there are, to a machine that runs. It is in the
        record when this first waits for anything, with a number, a tap and a name of its own; on failure nothing is
        left of it.

        WrongState when the machine does not run, Unsupported or GuestTooOld when it cannot have one more while it
        does, Exhausted when it has all that it can have."""
        vm = self.machine.connecting("add a network interface to")
        await self.machine.interfaces.add(vm, nic)

    async def tell_hosts(self) -> None:
        """Have the guest write /etc/hosts anew, if it runs and is not older than that it can."""
        if self.machine.vm and not self.record.paused:
            await self.machine.interfaces.tell_hosts(self.machine.vm)

    async def remove_interface(self, nic: NicRecord) -> None:
        """Take one of the record's, any, from a machine that runs; the same errors. What the guest does is of no
        account. After another failure it is still in the record: again goes on with that."""
        vm = self.machine.connecting("remove a network interface from")
        await self.machine.interfaces.take(vm, nic)

    async def follow(self, difference: Difference) -> None:
        """Make its interfaces those of its engine's network namespace: first what goes, whose addresses others may
        have, then what comes, and what others of them lead to instead. The same errors; what is done stays."""
        resolver.check(self.record.containers, difference.come, self.machine.folders.share.root)
        for nic in difference.gone:
            await self.remove_interface(nic)
        for nic in difference.come:
            await self.add_interface(nic)
        vm = self.machine.connecting("change a network interface of")
        for nic, wanted in difference.changed:
            await self.machine.interfaces.change(vm, nic, wanted)

    # our own restart

    async def attach(self) -> bool:
        """Take hold of the guest in the record again; False if it is gone. What the guest says is true: its
        processes are taken up, those that ended while nobody listened are written down.

        Exhausted: it stands still for want of room, and is not reached yet. Whoever waits for what runs in it waits
        on."""
        try:
            state = await self.machine.attach()
        except Exhausted:
            for container in self.containers.values():
                if container.running and container.exit is None:
                    container.rest()
            raise
        if state is None:
            return False
        vm = self.machine.running()
        self.pod.adopt(vm)
        alive = set()
        further = {id: each for container in self.containers.values() for id, each in container.further.items()}
        for process in state.processes:
            if process.id in self.containers:
                alive.add(process.id)
                await self._take_up(vm, process)
            elif process.id in further:
                further.pop(process.id).take_up(vm, process)
            else:
                self.execs[process.id] = await Exec.orphan(vm, process)
        for container in self.containers.values():
            for id in further.keys() & container.further.keys():
                if not container.further[id].miss():
                    del container.further[id]
            if container.running and container.record.id not in alive:
                container.finish(LOST, oom=False, error="its process was gone when hyperd started again")
                self.emit("die", container, exitCode=str(LOST), error=container.record.error)
                container.settle(LOST)
                await container.output.end()
        self.machine.note()
        try:
            await self.machine.limit_again()
        except HyperError as e:  # it ends just now
            log.warning("pod %s: its guest has not heard its limits: %s", self.record.id, e)
        return True

    async def _take_up(self, vm: Vm, process: ListedProcess) -> None:
        container = self.containers[process.id]
        record = container.record
        streams = process.streams
        if record.streams != Streams(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr):
            await self._forget(vm, container)  # a run whose end we have written down
            return
        if process.held:
            container.prepared = True
            container.connect(vm)
            self.supervisor.prepared(self.pod, container)
            return
        if not container.running:  # we were killed between the guest's start of it and our record of that
            record.move("running")
            record.started_ns = record.started_ns or record.created_ns
        container.connect(vm)
        if process.running:
            self.supervisor.began(self.pod, container)
        else:
            self.pod.spawn(self.pod.ended(container, process.status, oom=process.oom))
