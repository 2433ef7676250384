"""A pod's life: containers start in its machine, end, start again, and go.

What changes the pod does so under its lock, which one holds by `async with pod.locked() as locked`. What only signals
(stop, kill) does not take it, so that a slow start or stop never keeps anybody from killing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from hypercontainer.agent.messages import CONNECT, RESOLVER, ExitEvent
from hypercontainer.errors import Exhausted, GuestDied, GuestError, HyperError, InvalidInput, NotFound, WrongState
from hypercontainer.hypervisor.base import Feature, need
from hypercontainer.lib import files
from hypercontainer.lib.trace import Timings
from hypercontainer.model import ids
from hypercontainer.model.container import Process
from hypercontainer.model.record import ContainerRecord, PodRecord, StandInRecord
from hypercontainer.model.spec import ExecSpec
from hypercontainer.model.state import Verb
from hypercontainer.sandbox import following, loopback, output, resolver, rootfs, shortage, spreading
from hypercontainer.sandbox import further as furthers
from hypercontainer.sandbox import relay as relays
from hypercontainer.sandbox.container import Container, ExecFailed
from hypercontainer.sandbox.exec import KEPT, Exec
from hypercontainer.sandbox.further import Further
from hypercontainer.sandbox.locked import SIGKILL, LockedPod, Supervisor
from hypercontainer.sandbox.machine import Machine
from hypercontainer.sandbox.relay import Relay
from hypercontainer.sandbox.site import Site
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)

MAX_CONTAINERS = 64  # two SCSI targets each
FURTHER_DISKS = range(2 * MAX_CONTAINERS, 255)
OBEY_S, END_S = 10.0, 30.0  # until a guest must have killed a process; until a killed VMM must be gone


class Pod:
    def __init__(self, site: Site, record: PodRecord, supervisor: Supervisor, folder: Path) -> None:
        """`folder` holds one for each of its containers, and of a suspended one the machine."""
        self.site, self.record, self.supervisor, self.folder = site, record, supervisor, folder
        self.machine = Machine(site, record, supervisor)
        self.containers = {c.id: self._live(c) for c in record.containers}
        self.execs: dict[str, Exec] = {}
        self.unwritten: list[Container] = []  # that have ended, which only the guest and we know
        self.users = 0  # who needs the machine though no container runs
        self.step = False  # of a build: provisional to its end, and used all the same
        self.halts = 0  # how often its machine stood still because somebody wanted that
        self.removed = False  # by its supervisor
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def _live(self, record: ContainerRecord) -> Container:
        return Container(record, output.of(record.sinks, self.folder / record.id, self.site.limits))

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[LockedPod]:
        """The pod, for the block, with all that changes it."""
        async with self._lock:
            yield LockedPod(self)

    @property
    def suspended_folder(self) -> Path:
        """Where the machine of one that is suspended is (snapshot/suspend.py)."""
        return self.folder / "suspended"

    @property
    def idle(self) -> bool:
        """Its machine runs, and nothing needs that."""
        needed = self.users or self.unwritten or any(c.running or c.awaited for c in self.containers.values())
        return self.machine.vm is not None and not needed

    def emit(self, action: str, container: Container | None = None, **attributes: str) -> None:
        """Tell of something that happened to `container`, or to the pod."""
        self.supervisor.emit(action, self.record, container.record if container else None, **attributes)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that goes on by itself; `let_go` ends it, an error that nobody foresaw is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s: %s", self.record.id, error, exc_info=error)

    def check_supported(self, record: ContainerRecord) -> None:
        """Unsupported where the container could be added but never start."""
        hypervisor, root, arch = self.site.hypervisor, rootfs.of(record.rootfs), self.record.arch
        if root.folders:
            need(hypervisor, Feature.SHARE, f"use {root} as the root file system of {record.name}", arch)
        for shared in [mount.target for mount in record.mounts if mount.shared][:1]:
            need(hypervisor, Feature.SHARE, f"mount a volume or a folder at {shared} in {record.name}", arch)
        if self.record.guest:
            need(hypervisor, Feature.HOTPLUG, f"add {record.name} to pod {self.record.name} while that runs")

    def add(self, record: ContainerRecord) -> Container:
        """A new container of this pod; the caller saves. Exhausted when the pod is full."""
        if len(self.record.containers) >= MAX_CONTAINERS:
            raise Exhausted(f"cannot add a container to pod {self.record.name}: it has {MAX_CONTAINERS} already")
        taken = {disk.target // 2 for disk in rootfs.disks(self.record.containers)}
        ordinal = next(n for n in range(MAX_CONTAINERS) if n not in taken)
        further = self._further()
        rootfs.of(record.rootfs).place(2 * ordinal, self.folder / record.id, further)
        for disk in record.further_disks:
            disk.target = next(further)
        for n, mount in enumerate(record.mounts):
            if mount.shared:
                mount.share_path = f"{record.id[:12]}-{n}"
        return self._join(record)

    def _further(self) -> Iterator[int]:
        """Numbers of disks of containers that have more than two. Exhausted when there is none."""
        taken = {disk.target for disk in rootfs.disks(self.record.containers)}
        yield from (number for number in FURTHER_DISKS if number not in taken)
        most = f"{len(FURTHER_DISKS)} beside those of each container"
        raise Exhausted(f"cannot add more disks to pod {self.record.name}: it has {most}")

    def _join(self, record: ContainerRecord) -> Container:
        self.record.containers.append(record)
        self.containers[record.id] = container = self._live(record)
        return container

    def replace(self, old: Container, record: ContainerRecord) -> Container:
        """A new container that has the disks of `old`, which is of this pod no more; the caller saves."""
        record.rootfs = old.record.rootfs
        self.drop(old)
        return self._join(record)

    def drop(self, container: Container) -> None:
        """It has no such container, or has it no more; the caller saves."""
        self.record.containers.remove(container.record)
        del self.containers[container.record.id]
        for exec_ in [e for e in self.execs.values() if e.container is container.record]:
            del self.execs[exec_.id]
            exec_.lost(NotFound("container", container.record.name))  # it has ended, or nobody will hear of it
        if container in self.unwritten:
            self.unwritten.remove(container)

    def check(self, container: Container, verb: Verb) -> None:
        """WrongState when the container's state does not allow that, or when it is not there yet, or no more."""
        if self.removed:
            raise WrongState(verb, container.record.name, "removing")
        if self.record.provisional and not self.step:
            raise WrongState(verb, container.record.name, "being made")
        container.record.check(verb)

    # its guest

    def adopt(self, vm: Vm) -> None:
        """Hear from now on of what ends in the machine, and of its own end."""
        vm.agent.on_exit = self._on_exit
        asked = resolver.of(self.record, self.site.netns(self.record.id)) if vm.agent.has(RESOLVER) else None
        relay = Relay(vm, self.containers, self.spawn, asked)
        if asked or any(
            self.machine.holds(container) and relays.of([container]) for container in self.record.containers
        ):
            self.spawn(relay.watch())
        if self.record.netns:
            self.spawn(following.follow(self, vm))
        if self.record.kube:
            self.spawn(spreading.follow(self, vm))
        if loopback.is_for(self.record) and vm.agent.has(CONNECT):
            self.spawn(loopback.serve(self, vm))
        self.spawn(self._watch(vm))

    def _on_exit(self, event: ExitEvent) -> None:
        if event.process in self.containers:
            self.spawn(self.ended(self.containers[event.process], event.status, oom=event.oom))
        elif event.process in self.execs:
            exec_ = self.execs[event.process]
            exec_.ended(event.status, self.why(exec_.container, event.status) if event.oom else "")
            self._tell(exec_, "exec_die", exitCode=str(event.status))
            if exec_.abandoned:
                self.spawn(exec_.forget())

    async def ended(self, container: Container, status: int, *, oom: bool) -> None:
        """A container's process has ended: let its last words come, then write it down, tell, and have done what
        follows from it."""
        await container.drain()
        async with self.locked() as locked:
            if not self.removed and locked.machine.vm:
                container.miss_start()
            if container.running and locked.machine.vm:
                await locked.ended(container, status, oom=oom)

    def why(self, container: ContainerRecord | None, status: int) -> str:
        """Of an end after the guest ran out of memory; an exec whose hyperd is gone has no container."""
        return shortage.words(self.record, container, status, self.site.limits.memory_mib) if container else ""

    async def _watch(self, vm: Vm) -> None:
        """The VM ended without our asking: whatever ran in it is lost."""
        cause = await vm.guest.wait()
        async with self.locked() as locked:
            if locked.machine.vm is vm:
                console, oom = vm.guest.console_tail(), shortage.killed(cause)
                why = shortage.of_machine(self.record, cause, self.site.limits.memory_mib)
                lost = GuestDied(f"the virtual machine of {self.record.name} ended: {why}", console)
                await locked.lose(lost, oom=oom)

    # ending what runs in it

    async def stop(self, container: Container, timeout_s: float | None, signal: int | None = None) -> None:
        """Its stop signal, or `signal`; then after `timeout_s` (None: its own) KILL. Returns when it has ended."""
        record = container.record
        record.stopped_by_user = True
        record.check("stop")
        if not container.running or container.exit is None:
            return
        ended = container.exit
        if not self.machine.unreached:
            await self._wake_to_end()
            await self.signal(container, signal or record.stop_signal)
        if not await _within(ended, record.spec.stop_timeout_s if timeout_s is None else timeout_s):
            await self.kill(container, keep_output=True)
        async with self._lock:  # whatever follows from its end has been done
            self.emit("stop", container)

    async def kill(self, container: Container, *, keep_output: bool = False, obey_s: float = OBEY_S) -> None:
        """KILL, until it has ended: a guest that does not obey or is not reached is ended itself, one that is suspended
        never wakes.

        Output that a disk does not take is lost; to `keep_output` is Exhausted, until there is room."""
        if container.record.state == "suspended":
            self.emit("kill", container, signal=str(SIGKILL))
            async with self.locked() as locked:
                if container.record.state == "suspended":
                    await locked.end(container)
        if self.machine.unreached:
            await self._end_unreached(container)
        if not (container.running or container.prepared or container.begins) or container.exit is None:
            return
        ended = container.exit
        container.record.stopped_by_user = True
        if not container.begins:  # whose start has the lock
            await self._wake_to_end()
        try:
            async with asyncio.timeout(obey_s):
                await self.signal(container, SIGKILL)
        except TimeoutError:
            log.info("pod %s: its guest has other things to do", self.record.id)
        if container.output.stalled:
            if keep_output:
                raise Exhausted(
                    f"cannot end {container.record.name} before its output is written, and "
                    f"{container.output.stalled} takes no more: make room there, or remove it with force"
                )
            container.output.cut()
        if await _within(ended, obey_s):
            return
        if container.output.give_up() and await _within(ended, obey_s):
            return  # it had obeyed: nobody took what it had said
        if self.machine.vm:
            log.warning("pod %s: its guest does not obey within %g s: ending it", self.record.id, obey_s)
            await self._end_machine(container)
            await _within(ended, END_S)

    async def _wake_to_end(self) -> None:
        async with self.locked() as locked:
            await locked.unpause(ends=True)

    async def _end_unreached(self, container: Container) -> None:
        async with self.locked() as locked:
            if not (self.machine.unreached and container.running):
                return
            self.emit("kill", container, signal=str(SIGKILL))
            if self.record.lone:
                await locked.end(container)
            else:
                container.record.stopped_by_user = True
                why = self.machine.unreached
                await locked.lose(GuestDied(f"the virtual machine of {self.record.name} was ended: {why}"))

    async def _end_machine(self, container: Container) -> None:
        """Of a guest that does not obey, whoever holds the lock: they wait for the guest, perhaps for ever."""
        if self.record.lone and not self._lock.locked():
            async with self.locked() as locked:
                if container.running:
                    await locked.end(container)
        elif self.machine.vm:
            await self.machine.vm.guest.kill()

    async def signal(self, container: Container, number: int, *, everyone: bool = False) -> None:
        """Signal its first process; KILL goes to everything in it, as does any with `everyone`."""
        container.record.signalled(number)
        self.emit("kill", container, signal=str(number))  # before: what it leads to is told after it
        process = container.record.id
        try:
            await self.machine.running().agent.signal_process(process, number, everyone=everyone or number == SIGKILL)
        except HyperError as e:
            log.info("cannot signal %s: %s", container.record.name, e)  # it ended first: its exit event says so

    async def resize(self, container: Container, rows: int, columns: int) -> None:
        """Set the size of its terminal; one without, or ended: nothing happens."""
        try:
            await self.machine.running().agent.resize_process(container.record.id, rows, columns)
        except HyperError as e:
            log.info("cannot resize %s: %s", container.record.name, e)

    async def hang_up(self, container: Container, stream: Literal[1, 2]) -> None:
        """Nobody will read that stream of its first process, which is to know."""
        streams = container.record.streams
        try:
            agent = self.machine.running().agent
            await agent.hang_up_process(container.record.id, streams.stdout if stream == 1 else streams.stderr)
        except HyperError as e:
            log.info("cannot hang up %s: %s", container.record.name, e)

    def reopen_log(self, container: Container) -> None:
        """Have its log in Kubernetes' format go on in a new file: the one so far was renamed. On failure it goes on in
        that one. WrongState when the container does not run or is not reached; InvalidInput when it has no such log."""
        container.record.check("reopen the log of")
        self.machine.check_reached("reopen the log of", container.record.name)
        doing = f"reopen the log of {container.record.name}"
        with files.telling(doing):
            if not container.output.reopen():
                raise InvalidInput(f"cannot {doing}: it has none in Kubernetes' format")

    def add_exec(self, container: Container, spec: ExecSpec, process: Process, id: str = "") -> Exec:
        """`process`, which `spec` asked for, to be in a container that runs; `start_exec` starts it. `id`: one that no
        other has, "" is invented."""
        for old in [e for e in self.execs.values() if not e.running][: -KEPT + 1]:
            del self.execs[old.id]
        exec_ = Exec(id or ids.new_id(), container.record, spec, process)
        self.execs[exec_.id] = exec_
        self._tell(exec_, f"exec_create: {_line(spec)}")
        return exec_

    async def start_exec(self, exec_: Exec, *, detach: bool = False) -> None:
        """WrongState when it was started before, or its container does not run by now. ExecFailed: nothing ran, and
        that is how it has ended."""
        record, spec = exec_.container, exec_.spec
        if exec_.started or record is None or spec is None:
            raise WrongState("start exec", exec_.id[:12], "started", "create another one")
        self._check_exec(record)
        await spreading.catch_up(self)  # what was mounted before it is there
        while (container := self.containers.get(record.id)) and not container.moves.is_set():
            await container.moves.wait()  # a process that is started in what stands still has not begun in time
            self._check_exec(record)
        exec_.abandoned |= detach
        try:
            await exec_.start(self.machine.running())
        except GuestError as e:
            failed = ExecFailed(e)
            exec_.ended(failed.exit_code, str(e))
            raise failed from e
        except HyperError:
            self.execs.pop(exec_.id, None)
            raise
        self._tell(exec_, f"exec_start: {_line(spec)}")

    def _check_exec(self, record: ContainerRecord) -> None:
        container = self.containers.get(record.id)
        if not (container and container.prepared):
            record.check("exec in")

    async def start_further(
        self, container: Container, spec: ExecSpec, process: Process, stand_in: StandInRecord, name: str
    ) -> Further:
        """Start one for another engine, with what stands for it, on record: the next hyperd takes it up. See
        `start_exec`."""
        self._check_exec(container.record)
        exec_ = self.add_exec(container, spec, process)
        further = furthers.made(exec_, stand_in, name, self.folder / container.record.id)
        try:
            await self.start_exec(exec_)
        except HyperError:
            further.forget()
            raise
        further.begin()
        self._have(container, further)
        return further

    def recall(self) -> None:
        """Know of those that a hyperd before us has started; `LockedPod.attach` finds them in the guest."""
        for container in [container for container in self.containers.values() if container.record.bundle]:
            for further in furthers.recalled(container.record, self.folder / container.record.id):
                self.execs[further.exec.id] = further.exec
                self._have(container, further)

    def _have(self, container: Container, further: Further) -> None:
        container.further[further.exec.id] = further
        self.spawn(self._see_to(container, further))

    async def _see_to(self, container: Container, further: Further) -> None:
        await further.live()
        if not further.name:
            further.forget()
            container.further.pop(further.exec.id, None)

    def _tell(self, exec_: Exec, action: str, **attributes: str) -> None:
        """Of an exec, but for one whose hyperd has gone: nobody knows what it was."""
        if exec_.container and (container := self.containers.get(exec_.container.id)):
            self.emit(action, container, execID=exec_.id, **attributes)

    @asynccontextmanager
    async def entered(self, container: Container) -> AsyncIterator[Vm]:
        """The VM with the container made in it, for the block; booted for it when it does not run."""
        async with self.locked() as locked:
            self.check(container, "use")
            self.machine.check_reached("use", container.record.name)
            await locked.enter(container, Timings())
            self.users += 1
        try:
            yield self.machine.running()
        finally:
            # By itself: a client that vanishes now must not leave a machine half off.
            await asyncio.shield(self.spawn(self._left()))

    async def _left(self) -> None:
        async with self.locked() as locked:
            self.users -= 1
            await self.supervisor.unused(locked)

    async def let_go(self) -> None:
        """Our own end: the machine runs on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for container in self.containers.values():
            container.output.cut()
            container.output.close()
        if self.machine.vm:
            await self.machine.vm.close()


def _line(spec: ExecSpec) -> str:
    return " ".join(spec.command)[:200]


async def _within(future: "asyncio.Future[int]", timeout_s: float) -> bool:
    done, _ = await asyncio.wait([future], timeout=timeout_s)
    return bool(done)
