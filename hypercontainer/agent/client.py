"""The host's end of the conversation with a guest's agent."""

import asyncio
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from hypercontainer.agent import messages as m
from hypercontainer.agent.control import Control, Settle
from hypercontainer.agent.link import Link
from hypercontainer.agent.processes import ExitCallback, Processes
from hypercontainer.agent.session import AgentSession
from hypercontainer.agent.streams import Failure, InputStream, OutputStream
from hypercontainer.agent.wire import VERSION, WireError
from hypercontainer.errors import AlreadyExists, GuestSilent, GuestTooOld, HyperError
from hypercontainer.lib import vsock
from hypercontainer.lib.document import NOT_JSON
from hypercontainer.lib.limit import Waited, limit, never
from hypercontainer.lib.vsock import Vsock

RESTORE_S = 600.0  # of processes that were saved: as long as reading their memory takes
HELLO_S = 10.0  # how long a connection after the first may wait for the guest's HELLO
SOON_S = 2.0  # and the first one to a guest that has answered others
CONNECT_S = 10.0
BACK_OFF_S = (0.0, 0.01, 0.03, 0.1, 0.25)  # before each next connection; the last one again and again

T = TypeVar("T")

ConnectionCallback = Callable[[m.ConnectionEvent], None]


class Connection(NamedTuple):
    """One that a container has to a socket of this host, or this host to a port of the guest. `number` is its name for
    the guest."""

    number: int
    input: InputStream  # what the guest's end reads
    output: OutputStream


class AgentClient:
    """Calls the agent of one guest. Made by `connect`; ends by `close`, `abort`, or when the guest breaks the rules.

    A connection that breaks is made again, for as long as it takes, and nothing is lost or doubled: calls under way
    go on waiting within their own time-outs. Every call may raise GuestError (the guest refused, with its errno),
    GuestSilent (no answer in time: it may have happened or may yet), WireError (the guest's agent is broken),
    GuestTooOld (nothing was asked: the guest would not understand), or what `abort` was given. `features` are the words
    of what the guest has learnt since the first ones: whoever has another way asks `has` first.
    """

    def __init__(self, socket: Path | Vsock, waited: Waited) -> None:
        """Use `connect`."""
        self._waited = waited
        self.known = m.Listing(pod=False, containers=[], processes=[], next_stream=1)
        self.features: frozenset[str] = frozenset()
        self._socket = socket
        self._id = secrets.token_hex(16)
        self._link: Link | None = None
        self._established = self._learned = self._closing = False
        self._processes = Processes()
        self._session = AgentSession(self._wake, self._take_control)
        self._control = Control(self._session.requests.give, self._processes.exited, self._connected)
        self._connections: dict[int, m.SocketAccept] = {}  # by their input streams
        self.on_connection: ConnectionCallback | None = None  # told of each event, once `watch_sockets` has asked
        self._outputs: dict[int, OutputStream] = {}
        self._inputs: dict[int, InputStream] = {}
        self._failure: Failure | None = None
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # Life

    @classmethod
    async def connect(
        cls, socket: Path | Vsock, *, timeout_s: float, waited: Waited = never, first_hello_s: float | None = None
    ) -> "AgentClient":
        """Talk to the agent behind `socket`, which need not be there yet.

        The first connection may wait for its HELLO for `first_hello_s` (None: for all of `timeout_s`), then there is
        another.

        `known` then tells what the guest holds from before. GuestSilent if no answer came within `timeout_s`
        seconds, WireError if the agent speaks another version or nonsense. What the guest has `waited` for a processor
        counts for no time-out, here and later.
        """
        self = cls(socket, waited)
        self._task = asyncio.create_task(self._stay_connected(first_hello_s or timeout_s), name=f"agent {socket}")
        try:
            await self._ask("list", {}, m.Listing, timeout_s)
        except BaseException as e:
            await self.close()
            if isinstance(e, GuestSilent):
                raise GuestSilent(f"the guest's agent did not answer within {timeout_s:g} s") from None
            raise
        return self

    async def close(self) -> None:
        """Let go of the connection; the guest runs on. Again does nothing."""
        self.abort(lambda: GuestSilent("the connection to the guest's agent is closed"))
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def abort(self, failure: Failure) -> None:
        """End every call and stream, now and later, with what `failure` makes. Only the first one counts.

        What has come already can still be read.
        """
        if self._failure:
            return
        self._failure = failure
        self._ended.set()
        self._control.fail(failure)
        self._session.fail(failure)
        if self._link:
            self._link.close()

    async def ended(self) -> HyperError:
        """Wait until no call can succeed any more; why."""
        while not self._failure:
            await self._ended.wait()
        return self._failure()

    async def hang_up(self, timeout_s: float) -> None:
        """The guest is gone: read what it still said, for at most `timeout_s` seconds, and connect no more.

        `abort` must follow: until then calls wait."""
        self._closing = True
        if self._link:
            await asyncio.wait([self._link.closed], timeout=timeout_s)

    async def _stay_connected(self, first_hello_s: float) -> None:
        tries = 0
        try:
            while not self._failure and not self._closing:
                before = self._session.progress
                await self._converse(HELLO_S if self._established else first_hello_s)
                self._session.broken()
                tries = 0 if self._session.progress > before else tries + 1
                await asyncio.sleep(BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)])
        finally:
            if not self._closing:  # else whoever told us to hang up knows the reason, and says it
                self.abort(lambda: GuestSilent("the connection to the guest's agent has ended"))

    async def _converse(self, hello_s: float) -> None:
        """One connection, from its beginning to its end."""
        payload = msgspec.json.encode({"version": VERSION, "session": self._id})
        self._link = link = Link(self._session, secrets.randbits(64), payload, self._opened)
        try:
            await self._dial(link)
            async with limit(hello_s, self._waited):
                await asyncio.wait([link.ready])
            await asyncio.wait([link.closed])
        except OSError:
            pass  # not there yet, not any more, or silent (TimeoutError)
        finally:
            link.close()
            self._link = None
        if error := link.error:
            self.abort(lambda: WireError(str(error)))

    async def _dial(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(self._socket, Path):
            await loop.create_unix_connection(lambda: link, str(self._socket))
        else:
            await loop.create_connection(lambda: link, sock=await vsock.connect(self._socket))

    def _opened(self, payload: bytes) -> None:
        try:
            hello = msgspec.json.decode(payload, type=m.Hello)
        except NOT_JSON as e:
            raise WireError(f"cannot understand the guest's HELLO: {m.printable(str(e), 200)}") from e
        if hello.version != VERSION:
            raise WireError(f"cannot talk to the guest's agent: it speaks version {hello.version}, we speak {VERSION}")
        if hello.session != self._id or (self._established and not hello.resumed):
            raise WireError("cannot go on with the guest's agent: it began another conversation")
        self._established = True
        self.features = frozenset(hello.features)
        self._session.open(fresh=not hello.resumed)

    def _wake(self) -> None:
        if self._link:
            self._link.wake()

    def _take_control(self, data: bytes) -> None:
        self._control.take(data)

    # Calls

    async def call(self, op: str, *, timeout_s: float = 10.0, **args: object) -> dict[str, object]:
        """Any request as docs/wire.md has it, `args` and answer not looked at. Prefer the typed ones below."""
        return m.decode_any(op, await self._raw(op, args, timeout_s))

    def has(self, feature: m.Feature) -> bool:
        """Whether this guest has learnt it."""
        return feature.word in self.features

    def require(self, feature: m.Feature) -> None:
        """GuestTooOld when this guest has not learnt it."""
        if not self.has(feature):
            raise GuestTooOld(
                f"cannot {feature.deed}: the virtual machine was started by an older hyperd, which could not: "
                "stop it, and start it anew",
                feature.word,
            )

    async def _ask(self, op: str, args: object, answer: type[T], timeout_s: float) -> T:
        for feature in m.needed(args):
            self.require(feature)
        return m.decode(op, await self._raw(op, args, timeout_s), answer)

    async def _raw(self, op: str, args: object, timeout_s: float) -> msgspec.Raw:
        settle = self._prepare(op, args)
        try:
            async with limit(timeout_s, self._waited):
                return await self._control.ask(op, args, settle)
        except TimeoutError:
            raise GuestSilent(f"cannot {op}: the guest did not answer within {timeout_s:g} s") from None

    def _prepare(self, op: str, args: object) -> Settle:
        """What to do when `op` is answered (None: refused). Done at that very moment: what the guest says next may
        build on it."""
        if op in ("process.start", "process.archive", "process.checkpoint"):
            return self._begin(m.look(args, m.Beginning))
        if op == "process.forget":
            process = m.look(args, m.OfProcess).process
            return lambda answer: self._drop([] if answer is None else self._processes.remove(process))
        if op == "container.remove":
            container = m.look(args, m.OfContainer).id
            return lambda answer: None if answer is None else self._remove(container)
        if op == "container.rename":
            names = m.look(args, m.Renaming)
            return lambda answer: None if answer is None else self._rename(names)
        if op == "socket.accept":
            return self._accept(m.look(args, m.SocketAccept))
        if op == "socket.connect":
            asked = m.look(args, m.SocketConnect)
            return self._accept(m.SocketAccept(target="", input=asked.input, output=asked.output))
        if op == "socket.close":  # also of one that the guest has closed itself
            number = m.look(args, m.SocketClose).input
            return lambda answer: self._disconnect(number)
        return self._learn if op == "list" and not self._learned else lambda answer: None

    def _begin(self, process: m.Beginning) -> Settle:
        """Output and exit of a process may come before its start is answered: they have their places before."""
        if process.id in self._processes:
            words = f"cannot start process {process.id}: there is one of that name"
            raise AlreadyExists(words, "process", process.id)
        streams = process.streams
        self._processes.add(process.id, process.container, streams)
        for number in streams.outputs():
            self.output(number)

        def settle(answer: msgspec.Raw | None) -> None:
            if answer is None:
                self._drop(self._processes.remove(process.id))
            elif streams.stdin:
                self._session.add_input(streams.stdin).release()

        return settle

    def _remove(self, container: str) -> None:
        self._drop(self._processes.remove_all(container))
        for number in [number for number, asked in self._connections.items() if asked.container == container]:
            self._disconnect(number)

    def _rename(self, names: m.Renaming) -> None:
        self._processes.rename(names.id, names.to)
        for number, asked in self._connections.items():
            if asked.container == names.id:
                self._connections[number] = replace(asked, container=names.to)

    def _accept(self, asked: m.SocketAccept) -> Settle:
        """What somebody says may come before the answer, too."""
        if not asked.input:
            return lambda answer: None
        self._connections[asked.input] = asked
        self.output(asked.output)

        def settle(answer: msgspec.Raw | None) -> None:
            if answer is None:
                self._disconnect(asked.input)
            else:
                self._session.add_input(asked.input).release()

        return settle

    def _disconnect(self, number: int) -> None:
        if asked := self._connections.pop(number, None):
            self._drop([asked.input, asked.output])

    def _connected(self, event: m.ConnectionEvent) -> None:
        if self.on_connection:  # later, as for an exit
            asyncio.get_running_loop().call_soon(self.on_connection, event)

    def _learn(self, answer: msgspec.Raw | None) -> None:
        if answer is not None and not self._learned:
            self.known = m.decode("list", answer, m.Listing)
            self._session.learn(self.known)
            self._processes.learn(self.known)
            self._learned = True

    def _drop(self, streams: Iterable[int]) -> None:
        for number in streams:
            self._session.drop(number)
            self._inputs.pop(number, None)
            self._outputs.pop(number, None)

    async def ping(self, *, timeout_s: float = 10.0) -> None:
        await self._ask("ping", {}, m.Done, timeout_s)

    async def info(self, *, timeout_s: float = 10.0) -> m.Info:
        return await self._ask("info", {}, m.Info, timeout_s)

    async def list(self, *, timeout_s: float = 10.0) -> m.Listing:
        """What the guest holds now; `known` is what it held when this client came."""
        return await self._ask("list", {}, m.Listing, timeout_s)

    async def stage(
        self, targets: Sequence[int], mounts: Sequence[m.Mount] | None = None, *, timeout_s: float = 10.0
    ) -> None:
        """Have the guest do what it can for its next container, which may have these `mounts` (None: the usual ones of
        the first guests), and know the disks at these targets."""
        stage = m.Stage(targets=list(targets), mounts=None if mounts is None else list(mounts))
        await self._ask("stage", stage, m.Done, timeout_s)

    async def stage_disk(self, target: int | None, *, timeout_s: float = 10.0) -> None:
        """Have the guest mount the scratch disk at this target now, for the container that will have it, and none in
        the place of the one before; None: that one is not mounted any more."""
        self.require(m.DISK_STAGE)
        await self._ask("disk.stage", m.DiskStage(target=target), m.Done, timeout_s)

    async def setup_pod(self, pod: m.PodSetup, *, timeout_s: float = 10.0) -> None:
        """Network, names, clock, random pool; again = update."""
        await self._ask("pod.setup", pod, m.Done, timeout_s)

    async def resize(self, cpus: int, added_kib: int, *, timeout_s: float = 30.0) -> m.Sizes:
        """Have the guest run `cpus` processors of those that it has (0: as many as now), and use the `added_kib` KiB
        of memory that were added since its start. What does not come within 10 s is not in the answer."""
        return await self._ask("pod.resize", {"cpus": cpus, "added_kib": added_kib}, m.Sizes, timeout_s)

    async def create_container(self, container: m.ContainerCreate, *, timeout_s: float = 30.0) -> None:
        """Find the disks, make the mounts. All or nothing."""
        await self._ask("container.create", container, m.Done, timeout_s)

    async def remove_container(self, container: str, *, timeout_s: float = 30.0) -> None:
        """Kill what is left in it, unmount, detach its disks, forget its processes and their streams."""
        await self._ask("container.remove", {"id": container}, m.Done, timeout_s)

    async def freeze_container(self, container: str, frozen: bool, *, timeout_s: float = 10.0) -> None:
        await self._ask("container.freeze", {"id": container, "frozen": frozen}, m.Done, timeout_s)

    async def rename_container(self, container: str, to: str, *, timeout_s: float = 10.0) -> None:
        """Call it `to` from now on, and its first process too, which has its name."""
        await self._ask("container.rename", {"id": container, "to": to}, m.Done, timeout_s)

    async def update_container(self, update: m.ContainerUpdate, *, timeout_s: float = 10.0) -> None:
        """Set its limits anew. GuestError with EBUSY when it uses more memory than it is to have."""
        await self._ask("container.update", update, m.Done, timeout_s)

    async def container_stats(self, container: str, *, timeout_s: float = 10.0) -> m.Stats:
        return await self._ask("container.stats", {"id": container}, m.Stats, timeout_s)

    async def pod_stats(self, *, timeout_s: float = 10.0) -> m.PodStats:
        """Of all that it has. GuestTooOld when the guest tells of one at a time."""
        self.require(m.POD_STATS)
        return await self._ask("pod.stats", {}, m.PodStats, timeout_s)

    async def container_files(self, container: str, *, timeout_s: float = 10.0) -> m.FileCounts:
        """GuestTooOld when the guest has not learnt to count them."""
        self.require(m.FILES)
        return await self._ask("container.files", {"id": container}, m.FileCounts, timeout_s)

    async def container_processes(self, container: str, *, timeout_s: float = 10.0) -> m.ProcessTable:
        return await self._ask("container.processes", {"id": container}, m.ProcessTable, timeout_s)

    async def start_process(self, process: m.ProcessStart, *, timeout_s: float = 10.0) -> m.Started:
        """Start a process and return its pid in the guest, once exec has succeeded, or it is held; else GuestError with
        its errno. That those count which its user is a member of is asked of guests that have learnt it alone.

        Its hooks have their own time besides."""
        timeout_s = RESTORE_S if process.restore else timeout_s + _hooks_s(process)
        if process.memberships == "merge" and not self.has(m.MEMBERSHIPS):
            process = msgspec.structs.replace(process, memberships="")
        return await self._ask("process.start", process, m.Started, timeout_s)

    async def release_process(self, process: m.ProcessStart, *, timeout_s: float = 10.0) -> None:
        """Have one go on that was held; as `start_process` from there."""
        await self._ask("process.release", {"process": process.id}, m.Started, timeout_s + _hooks_s(process))

    async def start_archive(self, process: m.ProcessArchive, *, timeout_s: float = 10.0) -> int:
        """Start a process that writes or unpacks a tar in a container; its pid."""
        if process.mode not in ("read", "write"):
            self.require(m.LAYERS)
        return (await self._ask("process.archive", process, m.Started, timeout_s)).pid

    async def checkpoint(self, wanted: m.ProcessCheckpoint, *, timeout_s: float = 10.0) -> int:
        """Start a process that saves all those of a container; its pid."""
        self.require(m.CHECKPOINT)
        return (await self._ask("process.checkpoint", wanted, m.Started, timeout_s)).pid

    async def signal_process(
        self, process: str, signal: int, *, group: bool = False, everyone: bool = False, timeout_s: float = 10.0
    ) -> None:
        """GuestError with ESRCH when it has ended. `everyone`: all that is in its container's cgroup."""
        args = {"process": process, "signal": signal, "group": group, "all": everyone}
        await self._ask("process.signal", args, m.Done, timeout_s)

    async def resize_process(self, process: str, rows: int, columns: int, *, timeout_s: float = 10.0) -> None:
        args = {"process": process, "rows": rows, "columns": columns}
        await self._ask("process.resize", args, m.Done, timeout_s)

    async def hang_up_process(self, process: str, stream: int, *, timeout_s: float = 10.0) -> None:
        """Nobody will read that output of it: whoever writes meets a broken pipe, and a terminal is hung up. In a guest
        that cannot, nothing happens: what is written there is read on."""
        if self.has(m.HANG_UP):
            await self._ask("process.hang_up", {"process": process, "stream": stream}, m.Done, timeout_s)
            self.stop(stream)

    async def forget_process(self, process: str, *, timeout_s: float = 10.0) -> None:
        """Free its streams and its status; GuestError with EBUSY while it runs."""
        await self._ask("process.forget", {"process": process}, m.Done, timeout_s)

    # What concerns sockets waits as long as the guest takes: it may stand still for days, and does it then.

    async def watch_sockets(self) -> None:
        """Have `on_connection` told from now on when somebody waits at a socket."""
        self.require(m.SOCKETS)
        await self._ask("socket.watch", {}, m.Done, math.inf)

    async def accept_connection(self, container: str, target: str) -> Connection:
        """Take the one that has waited longest at that socket; `close_connection` must follow. GuestError: it is gone,
        and has met its end if it had not."""
        first = self.new_streams(2)
        accept = m.SocketAccept(container=container, target=target, input=first, output=first + 1)
        connection = Connection(first, self.input(first), self.output(first + 1))
        await self._ask("socket.accept", accept, m.Done, math.inf)
        return connection

    async def refuse_connection(self, container: str, target: str) -> None:
        """The same, and it meets its end."""
        await self._ask("socket.accept", m.SocketAccept(container=container, target=target), m.Done, math.inf)

    async def connect_to(self, port: int) -> Connection:
        """Connect to who listens there on the guest's loopback; `close_connection` must follow. GuestError with
        ECONNREFUSED: nobody."""
        self.require(m.CONNECT)
        first = self.new_streams(2)
        connection = Connection(first, self.input(first), self.output(first + 1))
        await self._ask("socket.connect", m.SocketConnect(port=port, input=first, output=first + 1), m.Done, CONNECT_S)
        return connection

    async def close_connection(self, connection: Connection) -> None:
        """End what is left of it, both ways. GuestError with ENOENT: the guest knows of none."""
        await self._ask("socket.close", m.SocketClose(input=connection.number), m.Done, math.inf)

    async def set_time(self, time_ns: int, *, timeout_s: float = 10.0) -> None:
        await self._ask("time.set", {"time_ns": time_ns}, m.Done, timeout_s)

    async def load_apparmor(self, policy: bytes, *, timeout_s: float = 10.0) -> None:
        """Have its kernel know these profiles, in the place of those of their names."""
        self.require(m.APPARMOR)
        await self._ask("apparmor.load", m.AppArmorLoad(policy=policy), m.Done, timeout_s)

    async def power_off(self, *, grace_s: float = 10.0) -> None:
        """TERM to all, KILL after `grace_s` seconds, unmount. The guest may be gone before its answer is heard."""
        await self._ask("poweroff", {"timeout_ms": int(grace_s * 1000)}, m.Done, grace_s + 10.0)

    # Events

    @property
    def on_exit(self) -> ExitCallback | None:
        """Called once for each process that ends from now on; `known` tells of those that had ended before.

        What came before it was set is not lost.
        """
        return self._processes.callback

    @on_exit.setter
    def on_exit(self, callback: ExitCallback | None) -> None:
        self._processes.callback = callback

    # Streams

    def new_streams(self, count: int) -> int:
        """The first of `count` numbers in a row, for the streams of a process that will be started.

        They are never given out again. Exhausted if the guest has no more."""
        return self._session.new_streams(count)

    def output(self, stream: int, offset: int = 0) -> OutputStream:
        """What a process writes to `stream`: of one that this client starts, all of it.

        Of an older one, what the guest still has from `offset` on; the guest may forget what is before.
        """
        if stream not in self._outputs:
            self._outputs[stream] = OutputStream(self._session.resume(stream, offset))
        return self._outputs[stream]

    def input(self, stream: int) -> InputStream:
        """What a process reads from `stream`. What is written before the process has started waits for it."""
        if stream not in self._inputs:
            self._inputs[stream] = InputStream(self._session.add_input(stream))
        return self._inputs[stream]

    def stop(self, stream: int) -> None:
        """Nobody wants this output any more: the guest discards it from now on, forever."""
        self.output(stream).stop()


def _hooks_s(process: m.ProcessStart) -> float:
    return sum(hook.timeout_s or math.inf for hook in process.hooks)
