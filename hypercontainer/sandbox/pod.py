"""A pod's life: containers start in its machine, end, start again, and go.

What changes the pod does so under `lock`. What only signals (stop, kill) does not take it, so that a slow start or
stop never keeps anybody from killing.
"""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypercontainer.agent.messages import ExitEvent, ListedProcess
from hypercontainer.errors import Exhausted, GuestDied, HyperError, WrongState
from hypercontainer.lib import files
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model.record import ContainerRecord, DiskRecord, PodRecord, Streams
from hypercontainer.sandbox import clock, shortage
from hypercontainer.sandbox.container import LOST, Container
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.log import Log
from hypercontainer.sandbox.machine import Machine
from hypercontainer.sandbox.site import Owner, Site
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)

MAX_CONTAINERS = 64  # two SCSI targets each
SIGKILL = 9
RETRY_S = 1.0  # while the disk takes no record
OBEY_S, END_S = 10.0, 30.0  # until a guest must have killed a process; until a killed VMM must be gone


class Pod:
    def __init__(self, site: Site, record: PodRecord, owner: Owner, folder: Path) -> None:
        """`folder` holds one for each of its containers, and of a suspended one the machine."""
        self.site, self.record, self.owner, self.folder = site, record, owner, folder
        self.lock = asyncio.Lock()
        self.machine = Machine(site, record, owner, self.note)
        self.containers = {c.id: self._live(c) for c in record.containers}
        self.execs: dict[str, Exec] = {}
        self._unwritten: list[Container] = []  # that have ended, which only the guest and we know
        self._writing: asyncio.Task[None] | None = None
        self._guests = 0  # who needs the machine though no container runs
        self._tasks: set[asyncio.Task[None]] = set()
        self.removed = False

    def _live(self, record: ContainerRecord) -> Container:
        settings, folder = self.site.settings, self.folder / record.id / "log"
        return Container(record, Log(folder, max_bytes=settings.log_max_mib << 20, files=settings.log_files))

    @property
    def suspended_folder(self) -> Path:
        """Where the machine of one that is suspended is (saved.py)."""
        return self.folder / "suspended"

    def save(self) -> None:
        """Exhausted when the disk takes no more: what was about to be done is not done."""
        if not self.removed:
            self.owner.save(self.record)

    def note(self) -> bool:
        """Write down what has happened already. A disk that takes no more keeps nobody from going on: False, and it is
        written as soon as that can be."""
        try:
            self.save()
        except HyperError as e:
            self.owner.owe(self.record)
            if self._writing is None:
                log.error("%s: it is kept in memory until that can be done", e)
                self._writing = self.spawn(self._write_later())
            return False
        return True

    async def _write_later(self) -> None:
        while self.owner.owes(self.record):
            await asyncio.sleep(RETRY_S)
            async with self.lock:
                try:
                    await self.pay()
                except HyperError:
                    continue
        self._writing = None
        log.info("pod %s: its record is written again", self.record.id)
        async with self.lock:
            await self.power_off_if_idle()

    async def pay(self) -> None:
        """Lock held. Write what is owed, and let the guest forget what it kept for us. Exhausted: not yet."""
        if self.owner.owes(self.record):
            self.save()
            self._forget_machine()
        unwritten, self._unwritten = self._unwritten, []
        for container in unwritten:
            if self.machine.vm and not container.running:
                await self._forget(self.machine.vm, container)

    def emit(self, container: Container, action: str, **attributes: str) -> None:
        self.owner.changed(action, self.record, container.record, **attributes)

    def emit_pod(self, action: str) -> None:
        self.owner.changed(action, self.record, None)

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

    def add(self, record: ContainerRecord, image: Path) -> Container:
        """A new container of this pod, on the disk `image`; the caller saves. Exhausted when the pod is full."""
        taken = {c.lower.target // 2 for c in self.record.containers if c.lower}
        ordinal = next((n for n in range(MAX_CONTAINERS) if n not in taken), None)
        if ordinal is None:
            raise Exhausted(f"cannot add a container to pod {self.record.name}: it has {MAX_CONTAINERS} already")
        scratch = self.folder / record.id / "scratch.img"
        record.lower = DiskRecord(target=2 * ordinal, path=str(image), read_only=True)
        record.upper = DiskRecord(target=2 * ordinal + 1, path=str(scratch), read_only=False)
        for n, mount in enumerate(record.mounts):
            if mount.type != "tmpfs":
                mount.share_path = f"{record.id[:12]}-{n}"
        self.record.containers.append(record)
        self.containers[record.id] = container = self._live(record)
        return container

    def drop(self, container: Container) -> None:
        """Take back `add`: it did not come to be."""
        self.record.containers.remove(container.record)
        del self.containers[container.record.id]
        self.owner.remove_container(self.record, container.record)

    # starting

    async def start(self, container: Container, trace: Trace) -> None:
        """Boot the machine if need be, make the container in it, start its process. One that runs: nothing happens.

        WrongState for a paused one."""
        container.starting = trace
        async with self.lock:
            if container.running:
                if self.record.paused:
                    raise WrongState("start", container.record.name, "paused", "unpause it")
                return
            self._check_there(container, "start")
            self.machine.check_reached("start", container.record.name)
            await self.pay()
            container.cancel_restart()
            container.record.stopped_by_user = False
            try:
                with files.telling(f"start {container.record.name}"):
                    await self._enter(container, trace)
                    await container.run(self.machine.running(), trace, self.save)
            except BaseException:
                await self._not_started(container)
                raise
            self.note()
            self.emit(container, "start")

    async def _not_started(self, container: Container) -> None:
        """A start failed: one that was to remove itself does so now, as with docker."""
        if container.record.state == "restarting":
            container.record.state = "exited"
        self.note()
        if container.record.spec.auto_remove:
            await self._remove(container, volumes=True)
        await self.power_off_if_idle()

    def _check_there(self, container: Container, verb: str) -> None:
        if self.removed or container.record.state == "removing":
            raise WrongState(verb, container.record.name, "removing")
        if self.record.making:
            raise WrongState(verb, container.record.name, "being made")
        self._check_awake(container, verb)

    def _check_awake(self, container: Container, verb: str) -> None:
        if container.record.state == "suspended":
            raise WrongState(verb, container.record.name, "suspended", "resume it, or kill it (its disk stays)")

    async def _enter(self, container: Container, trace: Trace) -> None:
        await self._boot(trace)
        await self.machine.enter(container.record, trace)

    async def _boot(self, trace: Trace) -> None:
        if self.machine.vm is None:
            self.adopt(await self.machine.boot(trace))
            self.emit_pod("start")

    async def boot(self) -> None:
        """Have the machine though no container is started."""
        async with self.lock:
            for container in self.containers.values():  # else the machine would have the disk of one that sleeps
                self._check_there(container, "start")
            await self._boot(Timings())

    def adopt(self, vm: Vm) -> None:
        vm.agent.on_exit = self._on_exit
        self.spawn(self._watch(vm))

    # ending

    def _on_exit(self, event: ExitEvent) -> None:
        if event.process in self.containers:
            self.spawn(self.ended(self.containers[event.process], event.status, oom=event.oom))
        elif event.process in self.execs:
            exec_ = self.execs[event.process]
            exec_.ended(event.status, self._why(exec_.container, event.status) if event.oom else "")
            if exec_.abandoned:
                self.spawn(exec_.forget())

    async def ended(self, container: Container, status: int, *, oom: bool) -> None:
        """A container's process has ended: write it down, tell, and do what follows from it."""
        await container.drain()
        async with self.lock:
            vm = self.machine.vm
            if not container.running or vm is None:
                return
            container.finish(status, oom=oom, error=self._why(container.record, status) if oom else "")
            self._plan_restart(container)
            if not self.note():
                self._unwritten.append(container)  # the guest keeps the status until we have written it down
            elif not self._goes_with(container):
                await self._forget(vm, container)
            if oom:
                self.emit(container, "oom")
            self.emit(container, "die", exitCode=str(status))
            container.settle(status)
            await container.output.end()
            await self.after(container)

    def _why(self, container: ContainerRecord | None, status: int) -> str:
        """Of an end after the guest ran out of memory; an exec whose hyperd is gone has no container."""
        return shortage.words(self.record, container, status, self.site.settings.memory_mib) if container else ""

    def _goes_with(self, container: Container) -> bool:
        """Whether the machine is ended at once after it, and whatever the guest remembers."""
        record = container.record
        return self.record.implicit and record.spec.auto_remove and record.state != "restarting"

    async def _forget(self, vm: Vm, container: Container) -> None:
        try:
            await vm.agent.forget_process(container.record.id)
        except HyperError as e:
            log.warning("pod %s: cannot forget a process: %s", self.record.id, e)

    def _plan_restart(self, container: Container) -> None:
        if container.wants_restart():
            container.record.state = "restarting"

    async def after(self, container: Container) -> None:
        """It ended: it starts again, or it goes when it was to, and the machine when nobody is left in it."""
        try:
            if container.record.state == "restarting":
                container.restart = self.spawn(self.restart_later(container, container.next_backoff_s()))
                return
            if container.record.spec.auto_remove:
                await self._remove(container, volumes=True)
            await self.power_off_if_idle()
        finally:
            container.left.set()

    async def restart_later(self, container: Container, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        container.record.restart_count += 1
        try:
            await self.start(container, Timings())
        except Exhausted as e:  # no reason to give up: there may be room later
            log.error("cannot restart %s: %s: trying again", container.record.name, e)
            async with self.lock:
                if not self.removed and not container.alive and container.wants_restart():
                    container.record.state = "restarting"
                    self.note()
                    container.restart = self.spawn(self.restart_later(container, container.next_backoff_s()))
        except HyperError as e:
            log.error("cannot restart %s: %s", container.record.name, e)
            async with self.lock:
                container.record.state, container.record.error = "exited", str(e)
                self.note()
                await self.power_off_if_idle()

    async def _watch(self, vm: Vm) -> None:
        """The VM ended without our asking: whatever ran in it is lost."""
        cause = await vm.guest.wait()
        async with self.lock:
            if self.machine.vm is vm:
                console, oom = vm.guest.console_tail(), shortage.killed(cause)
                why = shortage.of_machine(self.record, cause, self.site.settings.memory_mib)
                lost = GuestDied(f"the virtual machine of {self.record.name} ended: {why}", console)
                await self.lose(lost, oom=oom)

    async def end(self, container: Container, *, why: HyperError | None = None) -> None:
        """Lock held. Its machine goes now as if by KILL, or has gone, and it is not started again by itself."""
        container.record.stopped_by_user, self.record.suspended = True, None
        for exec_ in self.execs.values():
            exec_.lost(why or GuestDied(f"{container.record.name} has ended"))
        self.execs.clear()
        container.output.cut()
        container.finish(128 + SIGKILL, oom=False)
        await self.machine.release()
        if not self.owner.owes(self.record):
            self._forget_machine()
        self.emit(container, "die", exitCode=str(128 + SIGKILL))
        container.settle(128 + SIGKILL)
        await container.output.end()
        await self.after(container)

    def _forget_machine(self) -> None:
        """Of one that was suspended, and is not on record any more."""
        if self.record.suspended is None:
            shutil.rmtree(self.suspended_folder, ignore_errors=True)

    async def lose(self, lost: GuestDied, *, oom: bool = False) -> None:
        """The guest is gone (lock held), `oom`: for want of memory. End what ran in it, free what it held on the host,
        restart what is due."""
        ended = [c for c in self.containers.values() if c.running]
        for exec_ in self.execs.values():
            exec_.lost(lost)
        self.execs.clear()
        for container in ended:
            container.output.cut()
            container.finish(LOST, oom=oom, error=str(lost))
            self._plan_restart(container)
        await self.machine.release()
        for container in ended:
            if oom:
                self.emit(container, "oom")
            self.emit(container, "die", exitCode=str(LOST), error=str(lost))
            container.settle(LOST, lost)
            await container.output.end()
            await self.after(container)

    async def power_off_if_idle(self) -> None:
        """Lock held. A pod that was made without containers stays up until it is stopped."""
        if self.machine.vm is None or self._guests or not (self.containers or self.record.implicit):
            return
        if self._unwritten:
            return  # it knows what no record says
        if not any(c.running or c.record.state == "restarting" for c in self.containers.values()):
            await self.power_off()

    async def power_off(self) -> None:
        """Lock held."""
        if self.machine.unreached:
            await self.machine.release()
            self.emit_pod("stop")
        elif self.machine.vm:
            self.execs.clear()
            await self.machine.power_off()
            self.emit_pod("stop")

    # stopping and removing

    async def stop(self, container: Container, timeout_s: float | None) -> None:
        """Its stop signal, then after `timeout_s` (None: its own) KILL. Returns when it has ended."""
        record = container.record
        container.cancel_restart()
        record.stopped_by_user = True
        if record.state == "restarting":
            async with self.lock:
                record.state = "exited"
                self.note()
                await self.power_off_if_idle()
        self._check_awake(container, "stop")
        if not container.running or container.exit is None:
            return
        ended = container.exit
        if not self.machine.unreached:
            await self.unpause(ends=True)
            await self.signal(container, record.stop_signal)
        if not await _within(ended, record.spec.stop_timeout_s if timeout_s is None else timeout_s):
            await self.kill(container, keep_output=True)
        async with self.lock:  # whatever follows from its end has been done
            self.emit(container, "stop")

    async def kill(self, container: Container, *, keep_output: bool = False, obey_s: float = OBEY_S) -> None:
        """KILL, until it has ended: a guest that does not obey or is not reached is ended itself, one that is suspended
        never wakes.

        Output that the log's disk does not take is lost; to `keep_output` is Exhausted, until there is room."""
        if container.record.state == "suspended":
            self.emit(container, "kill", signal=str(SIGKILL))
            async with self.lock:
                if container.record.state == "suspended":
                    await self.end(container)
        if self.machine.unreached:
            await self._end_unreached(container)
        if not container.running or container.exit is None:
            return
        ended = container.exit
        container.record.stopped_by_user = True
        await self.unpause(ends=True)
        try:
            async with asyncio.timeout(obey_s):
                await self.signal(container, SIGKILL)
        except TimeoutError:
            log.info("pod %s: its guest has other things to do", self.record.id)
        if container.output.stalled:
            if keep_output:
                raise Exhausted(
                    f"cannot end {container.record.name} before its output is in its log, and the disk of "
                    f"{container.output.log.path} takes no more: make room there, or remove it with force"
                )
            container.output.cut()
        if not await _within(ended, obey_s) and self.machine.vm:
            log.warning("pod %s: its guest does not obey within %g s: ending it", self.record.id, obey_s)
            await self._end_machine(container)
            await _within(ended, END_S)

    async def _end_unreached(self, container: Container) -> None:
        async with self.lock:
            if not (self.machine.unreached and container.running):
                return
            self.emit(container, "kill", signal=str(SIGKILL))
            if self.record.implicit:
                await self.end(container)
            else:
                container.record.stopped_by_user = True
                why = self.machine.unreached
                await self.lose(GuestDied(f"the virtual machine of {self.record.name} was ended: {why}"))

    async def _end_machine(self, container: Container) -> None:
        """Of a guest that does not obey, whoever holds the lock: they wait for the guest, perhaps for ever."""
        if self.record.implicit and not self.lock.locked():
            async with self.lock:
                if container.running:
                    await self.end(container)
        elif self.machine.vm:
            await self.machine.vm.guest.kill()

    async def signal(self, container: Container, number: int) -> None:
        """Signal its first process; KILL goes to everything in it."""
        self.emit(container, "kill", signal=str(number))  # before: what it leads to is told after it
        process = container.record.id
        try:
            await self.machine.running().agent.signal_process(process, number, everyone=number == SIGKILL)
        except HyperError as e:
            log.info("cannot signal %s: %s", container.record.name, e)  # it ended first: its exit event says so

    async def resize(self, container: Container, rows: int, columns: int) -> None:
        """Set the size of its terminal; one without, or ended: nothing happens."""
        try:
            await self.machine.running().agent.resize_process(container.record.id, rows, columns)
        except HyperError as e:
            log.info("cannot resize %s: %s", container.record.name, e)

    async def remove(self, container: Container, *, volumes: bool) -> None:
        """Take a container that does not run out of the pod, and the pod with it when it was made for it."""
        async with self.lock:
            self._check_there(container, "remove")
            if container.running:
                raise WrongState("remove", container.record.name, "running", "stop it first, or use force")
            await self._remove(container, volumes=volumes)
            await self.power_off_if_idle()

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        record = container.record
        container.cancel_restart()
        before, record.state = record.state, "removing"
        try:
            if self.record.implicit:
                await self.destroy()
            else:
                await self._take_out(container)
        except BaseException:
            record.state = before  # so that it can be tried again
            raise
        self.emit(container, "destroy")
        if volumes:
            await self.owner.remove_anonymous(record)

    async def _take_out(self, container: Container) -> None:
        record = container.record
        await self.machine.leave(record)
        self.owner.remove_container(self.record, record)
        self.record.containers.remove(record)
        del self.containers[record.id]
        if container in self._unwritten:
            self._unwritten.remove(container)
        self.note()

    async def destroy(self) -> None:
        """The whole pod goes (lock held): machine, host resources, folder."""
        await self.machine.release()
        self.owner.remove(self.record)
        self.removed = True
        self.emit_pod("destroy")

    async def empty(self, *, volumes: bool) -> None:
        """The whole pod goes, and with `volumes` the anonymous ones of its containers (lock held)."""
        for container in self.containers.values():
            container.cancel_restart()
        await self.destroy()
        for container in self.containers.values():
            self.emit(container, "destroy")
        for container in self.containers.values() if volumes else ():
            await self.owner.remove_anonymous(container.record)

    # pausing

    async def pause(self) -> None:
        async with self.lock:
            self.machine.check_reached("pause", self.record.name)
            if self.record.paused or self.machine.vm is None:
                raise WrongState("pause", self.record.name, "paused" if self.record.paused else "not running")
            guest = self.machine.vm.guest
            await guest.pause()
            await self._record_paused(True, undo=guest.resume)

    async def unpause(self, *, ends: bool = False) -> None:
        """One that is not paused: nothing happens. `ends`: it runs only to end, so no disk keeps it from that."""
        async with self.lock:
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
            self.save()
        except BaseException:
            self.record.paused = not paused
            await undo()
            raise
        self._set_paused(paused)

    def _set_paused(self, paused: bool) -> None:
        self.record.paused = paused
        for container in self.containers.values():
            if container.running:
                container.record.state = "paused" if paused else "running"
                self.emit(container, "pause" if paused else "unpause")
        self.note()

    @asynccontextmanager
    async def entered(self, container: Container) -> AsyncIterator[Vm]:
        """The VM with the container made in it, for the block; booted for it when it does not run."""
        async with self.lock:
            self._check_there(container, "use")
            self.machine.check_reached("use", container.record.name)
            await self._enter(container, Timings())
            self._guests += 1
        try:
            yield self.machine.running()
        finally:
            # By itself: a client that vanishes now must not leave a machine half off.
            await asyncio.shield(self.spawn(self._left()))

    async def _left(self) -> None:
        async with self.lock:
            self._guests -= 1
            await self.power_off_if_idle()

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
        self.adopt(vm)
        alive = set()
        for process in state.processes:
            if process.id in self.containers:
                alive.add(process.id)
                await self._take_up(vm, process)
            else:
                self.execs[process.id] = await Exec.orphan(vm, process)
        for container in self.containers.values():
            if container.running and container.record.id not in alive:
                container.finish(LOST, oom=False, error="its process was gone when hyperd started again")
                container.settle(LOST)
                await container.output.end()
        self.note()
        return True

    async def _take_up(self, vm: Vm, process: ListedProcess) -> None:
        container = self.containers[process.id]
        record = container.record
        streams = process.streams
        if record.streams != Streams(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr):
            await self._forget(vm, container)  # a run whose end we have written down
            return
        if not container.running:  # we were killed between the guest's start of it and our record of that
            record.state = "running"
            record.started_ns = record.started_ns or record.created_ns
        container.connect(vm)
        if not process.running:
            self.spawn(self.ended(container, process.status, oom=process.oom))

    async def let_go(self) -> None:
        """Our own end: the machine runs on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for container in self.containers.values():
            container.output.cut()
            container.output.log.close()
        if self.machine.vm:
            await self.machine.vm.close()


async def _within(future: "asyncio.Future[int]", timeout_s: float) -> bool:
    done, _ = await asyncio.wait([future], timeout=timeout_s)
    return bool(done)
