"""One container's live side: its output, its stdin, its end, its next start."""

import asyncio
import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hypercontainer.agent.messages import Criu
from hypercontainer.agent.streams import InputStream
from hypercontainer.errors import GuestError, HyperError, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.trace import Trace
from hypercontainer.model.record import ContainerRecord, IdentityRecord, Streams
from hypercontainer.sandbox import agent_requests, rootfs
from hypercontainer.sandbox.further import Further
from hypercontainer.sandbox.output import Output
from hypercontainer.sandbox.rootfs import Rootfs
from hypercontainer.vm import Vm

DRAIN_S = 10.0  # after a process's end, in which some of its output must come or be taken: else there is no more
NOT_FOUND, NOT_EXECUTABLE, NOT_SET_UP = 127, 126, 128  # docker records them
ABSENT = (errno.ENOENT, errno.ENOTDIR)
LOST = 255  # exit status of a container whose guest vanished

RUNNING = ("running", "paused")


# Steps of a start that may take seconds, in words for who waits.
MAKING = {
    "turn": "others are started first",
    "template": "a template for virtual machines of its size is made, once, by booting one",
    "vmm": "its virtual machine is started",
    "monitor": "its virtual machine is started",
    "agent": "its virtual machine boots",
    "resize": "memory and processors are added to its virtual machine",
}


class ExecFailed(GuestError):
    """The process could not be started. `exit_code` is what a shell would say of its command: 127 not found, 126 not
    executable; 128 if it did not come to that."""

    def __init__(self, cause: GuestError) -> None:
        super().__init__(str(cause), cause.errno, exec=cause.exec)
        self.exit_code = NOT_SET_UP
        if cause.exec:
            self.exit_code = NOT_FOUND if cause.errno in ABSENT else NOT_EXECUTABLE


class Container:
    def __init__(self, record: ContainerRecord, output: Output) -> None:
        self.record, self.output = record, output
        self.stdin: InputStream | None = None
        self.exit: asyncio.Future[int] | None = None  # of the run that goes on
        self.stops = 0  # that wait for its end
        self.gone = asyncio.Event()  # it was removed
        self._next: asyncio.Future[asyncio.Future[int]] | None = None
        self.left = asyncio.Event()  # its last run has ended, with all that follows from that
        self.starting: Trace | None = None  # of its last start
        self.holds = 0  # how many have it stand still in its guest
        self.moves = asyncio.Event()  # nobody has
        self.moves.set()
        self.prepared = False  # its first process is in the guest, and waits for its start
        self.followed = False  # it ends with what stands for it
        self.further: dict[str, Further] = {}  # execs of another engine that somebody may ask for, by id

    def waits_for(self) -> str:
        """What is made for a start that is under way, in words; "" if that takes no time."""
        return MAKING.get(self.starting.now, "") if self.starting else ""

    @contextmanager
    def held(self, really: bool) -> Iterator[bool]:
        """For the block somebody has it stand still in its guest, if `really`: nobody may take a copy of the guest."""
        self.holds += really
        if self.holds:
            self.moves.clear()
        try:
            yield really
        finally:
            self.holds -= really
            if not self.holds:
                self.moves.set()

    @property
    def rootfs(self) -> Rootfs:
        return rootfs.of(self.record.rootfs)

    @property
    def scratch(self) -> Path:
        """The disk of all that it changes: of one whose machine can be copied."""
        if path := self.rootfs.scratch:
            return path
        raise ValueError(f"container {self.record.name} has no scratch disk: it is on {self.rootfs}")

    @property
    def running(self) -> bool:
        return self.record.state in RUNNING

    @property
    def begins(self) -> bool:
        """Its first process is asked for, which may wait for its hooks."""
        return self.exit is not None and not self.exit.done() and not self.alive and not self.prepared

    @property
    def awaited(self) -> bool:
        """Another engine has made it, in a machine that is there for it, and starts it later."""
        return self.record.bundle is not None and self.record.state == "created"

    @property
    def alive(self) -> bool:
        """It runs, or would if it were resumed."""
        return self.running or self.record.state == "suspended"

    async def run(
        self, vm: Vm, trace: Trace, save: Callable[[], None], linked: Sequence[str], restore: Criu | None = None
    ) -> None:
        """Start its first process, its streams on record (`save`) before, with `linked` in its environment; one that is
        held goes on, or else `restore` has it go on from what was saved. ExecFailed leaves it as it was, with the exit
        code that tells why."""
        held = self.prepared
        if held and restore:
            raise WrongState("restore", self.record.name, "begun", "a process of exec was started in it before")
        if held:
            self.let_begin()
        else:
            self._open(vm, save)
        with trace.step("process"):
            await self._ask(vm, linked, release=held, restore=restore)
        record = self.record
        record.move("running")
        record.begin_health()
        record.started_ns, record.finished_ns = clock.now_ns(), 0
        record.exit_code, record.error, record.oom_killed = 0, "", False

    async def prepare(self, vm: Vm, save: Callable[[], None], linked: Sequence[str]) -> None:
        """Have all of its first process but its start, for others to join, as `run` does it."""
        self.prepared = True
        try:
            self._open(vm, save)
            await self._ask(vm, linked, hold=True)
        except BaseException:
            self.prepared = False
            raise

    def let_begin(self) -> None:
        """It is not held any more."""
        self.prepared = False
        self._tell_begun()

    def miss_start(self) -> None:
        """Its first process has ended: if it was held, it will never begin, and has ended all the same."""
        if self.prepared:
            self.let_begin()
            self.record.move("running")

    def _open(self, vm: Vm, save: Callable[[], None]) -> None:
        record, terminal = self.record, self.record.config.process.terminal
        first = vm.agent.new_streams(3)
        self.left.clear()
        record.streams = Streams(
            stdin=first if record.spec.open_stdin else 0, stdout=first + 1, stderr=0 if terminal else first + 2
        )
        record.runs += 1
        save()  # a hyperd that finds the process in the guest knows by its streams that it is this run's
        self.connect(vm)

    async def _ask(
        self,
        vm: Vm,
        linked: Sequence[str],
        *,
        hold: bool = False,
        release: bool = False,
        restore: Criu | None = None,
    ) -> None:
        record = self.record
        request = agent_requests.first_process(record, record.streams, linked, hold=hold)
        if restore:
            request = msgspec.structs.replace(request, restore=restore, hooks=[], state="")
        try:
            if release:
                await vm.agent.release_process(request)
            else:
                started = await vm.agent.start_process(request)
                if started.uid is not None and started.gid is not None:
                    record.identity = IdentityRecord(uid=started.uid, gid=started.gid, groups=started.groups)
        except GuestError as e:
            self.output.cut()
            failed = ExecFailed(e)
            self.settle(failed.exit_code, failed)
            self.exit, record.streams = None, Streams()
            record.exit_code, record.error = failed.exit_code, str(e)
            raise failed from e

    def connect(self, vm: Vm) -> None:
        """Take up the streams of the run in the record, each from where the sinks have it."""
        record = self.record
        out, err = self.output.open(record.runs)
        streams = record.streams
        self.output.begin(
            vm.agent.output(streams.stdout, out) if streams.stdout else None,
            vm.agent.output(streams.stderr, err) if streams.stderr else None,
        )
        self.stdin = vm.agent.input(streams.stdin) if streams.stdin else None
        if self.exit is None or self.exit.done():
            self.exit = asyncio.get_running_loop().create_future()
        if not self.prepared:
            self._tell_begun()

    def _tell_begun(self) -> None:
        if self._next and self.exit:
            self._next.set_result(self.exit)
            self._next = None

    @property
    def next(self) -> "asyncio.Future[asyncio.Future[int]]":
        """The exit of the run that begins next; NotFound when it was removed before. Shared: shield it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def remove(self) -> None:
        """It is not there any more: tell whoever waits for its next run, and for this."""
        if self._next:
            self._next.set_exception(NotFound("container", self.record.name))
            self._next.exception()  # nobody may be waiting: that is fine
            self._next = None
        self.gone.set()
        for further in self.further.values():
            further.forget()
        await self.output.end()

    def rest(self, why: HyperError | None = None) -> None:
        """Its machine stands still on disk: whoever is tied to it now is told `why`, whoever waits for its end goes
        on waiting."""
        self.stdin = None
        if why:
            self.settle(0, why)
        self.exit = asyncio.get_running_loop().create_future()

    async def drain(self) -> None:
        """Its process has ended: let the last of the output reach the sinks, however long a disk is full, and for as
        long as the others go on taking. A reader that has stopped to read keeps nobody waiting for the end."""
        while True:
            before = self.output.taken
            try:
                async with asyncio.timeout(DRAIN_S):
                    return await self.output.drained()
            except TimeoutError:
                if self.output.stalled or self.output.taken != before:
                    continue
                if not self.output.give_up():
                    return self.output.cut()

    def finish(self, status: int, *, oom: bool, error: str = "") -> None:
        record = self.record
        record.move("exited")
        record.exit_code, record.oom_killed = status, oom
        record.finished_ns, record.error = clock.now_ns(), error
        record.streams, self.stdin = Streams(), None
        if record.health:
            record.health.status = "unhealthy"  # docker's word for one that is not asked any more

    def settle(self, status: int, lost: HyperError | None = None) -> None:
        """Tell whoever waits for this run."""
        if self.exit and not self.exit.done():
            if lost:
                self.exit.set_exception(lost)
                self.exit.exception()  # nobody may be waiting: that is fine
            else:
                self.exit.set_result(status)
