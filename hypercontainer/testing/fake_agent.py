"""An agent without a guest: it speaks the real wire on a unix socket, and its processes are coroutines of the test.

What it holds outlives connections and sessions, as in a guest, so that resuming can be tested.
"""

import asyncio
import errno
import os
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import msgspec

from hypercontainer.agent import messages as m
from hypercontainer.agent.streams import Sender, Source
from hypercontainer.agent.wire import HELLO_STREAM, VERSION, Decoder, Frame, Kind, encode
from hypercontainer.errors import GuestError
from hypercontainer.testing.fake_caller import FakeCaller
from hypercontainer.testing.fake_process import PROGRAMS, FakeProcess, Program, Refused, Stdin

BATCH = 262144
BOOT_KIB = 262144  # of memory, before any is added


class FakeAgent:
    """Serve it on a socket; look at `requests`, `containers`, `processes`; bend it with `answers` and `muted`."""

    def __init__(self, programs: Mapping[str, Program] = PROGRAMS) -> None:
        self.programs = dict(programs)
        self.version = VERSION
        self.features = [feature.word for feature in m.FEATURES]
        self.muted = False  # HELLO is not answered
        self.unanswered: set[str] = set()  # ops that get no answer
        self.answers: dict[str, Callable[[dict[str, object]], object]] = {}  # op -> what to say instead
        self.requests: list[tuple[str, dict[str, object]]] = []
        self.pod: m.PodSetup | None = None  # what was said, of all times
        self.interfaces: dict[str, m.Interface] = {}  # by MAC address
        self.containers: dict[str, m.ContainerCreate] = {}
        self.staged: int | None = None  # target of the disk that is mounted for nobody yet
        self.frozen: set[str] = set()
        self.process_state = "S"  # of all, as ps has it
        self.processes: dict[str, FakeProcess] = {}
        self.cpus, self.added_kib = 1, 0  # as the last pod.resize said
        self.used_kib = BOOT_KIB // 2
        self.callers: list[FakeCaller] = []  # who is connected to a socket of the host
        self._waiting: defaultdict[tuple[str, str], deque[FakeCaller]] = defaultdict(deque)  # by container and target
        self._watched = False  # its host has asked to be told of them
        self.archives: dict[tuple[str, str], bytes] = {}  # (container, path) -> the tar that is there
        # what any container has made of its image, and all that is in it
        self.told: dict[str, bytes] = {"layer": bytes(1024), "changes": b"", "tree": bytes(1024)}
        self.powered_off = asyncio.Event()
        self.dialled = asyncio.Event()  # a host has connected
        self.decoder = Decoder()  # one for the port's whole life: it meets what a cut connection left behind
        self._session = ""
        self._inputs: dict[int, Stdin] = {}
        self._outputs: dict[int, Sender] = {}
        self.next_stream = 1
        self.offsets: dict[int, int] = {}  # where output streams begin that began in another guest
        self._next_pid = 2
        self._control = Sender(0, self)
        self._heard = 0  # bytes of stream 0, all of them consumed
        self._line = b""
        self._due: OrderedDict[Source, None] = OrderedDict()
        self._connection: _Connection | None = None
        self._server: asyncio.Server | None = None

    # Life

    async def serve(self, socket: Path) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), str(socket))

    async def close(self) -> None:
        """The machine is gone: its socket, its processes."""
        server, self._server = self._server, None
        if server:
            server.close()
        if self._connection:
            self._connection.close()
        tasks = [p.task for p in self.processes.values() if p.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add_container(self, name: str) -> None:
        """As if the host had had it made."""
        disks = m.Rootfs(lower=m.Disk(target=0), upper=m.Disk(target=1))
        self.containers[name] = m.ContainerCreate(id=name, rootfs=disks, masked_paths=[], readonly_paths=[])

    def drop_connection(self) -> None:
        """Break the line; the host may come again."""
        if self._connection:
            self._connection.close()

    def forget_session(self) -> None:
        """As if another host had been here."""
        self._session = ""

    def pause(self, paused: bool) -> None:
        """Stop taking in anything, as a guest whose CPUs stand still."""
        self.paused = paused
        if self._connection:
            self._connection.pause(paused)

    paused = False

    # The wire

    def ready(self, stream: Source) -> None:
        self._due[stream] = None
        if self._connection:
            self._connection.wake()

    def adopt(self, connection: "_Connection") -> None:
        """The port has one host: a new one replaces the old one."""
        if self._connection:
            self._connection.close()
        self.dialled.set()
        self._connection = connection
        self._due.clear()
        for sender in (self._control, *self._outputs.values()):
            sender.hold()
        if self.paused:  # later: asyncio starts to read right after this, whatever is said here
            asyncio.get_running_loop().call_soon(connection.pause, True)

    def left(self, connection: "_Connection") -> None:
        if self._connection is connection:
            self._connection = None

    def hello(self, frame: Frame) -> bytes | None:
        """Begin or resume a session; what to answer."""
        if self.muted:
            return None
        asked = msgspec.json.decode(frame.payload, type=m.Hello)
        resumed = asked.session == self._session
        answer = {"version": self.version, "session": asked.session, "resumed": resumed, "features": self.features}
        if not resumed:
            self._session, self._watched = asked.session, False
            for caller in list(self.callers):
                self._disconnect(caller)
            self._control, self._heard, self._line = Sender(0, self, held=True), 0, b""
        self._due.clear()
        for sender in (self._control, *self._outputs.values()):
            sender.hold()
        for stdin in self._inputs.values():
            stdin.begin_anew()
        return encode(Kind.HELLO, HELLO_STREAM, frame.offset, msgspec.json.encode(answer)) + self._heard_ack()

    def _heard_ack(self) -> bytes:
        return encode(Kind.ACK, 0, self._heard)

    def frames(self, limit: int) -> bytes:
        taken: list[bytes] = []
        while self._due and limit > 0:
            stream, _ = self._due.popitem(last=False)
            if frame := stream.next_frame():
                limit -= len(frame)
                self._due[stream] = None
                taken.append(frame)
        return b"".join(taken)

    def receive(self, frame: Frame) -> bytes:
        """Returns what to write at once."""
        if frame.stream == 0 and frame.kind == Kind.DATA:
            new = frame.payload[self._heard - frame.offset :] if frame.offset <= self._heard else b""
            self._heard += len(new)
            *lines, self._line = (self._line + new).split(b"\n")
            for line in lines:
                self._asked(line)
            return self._heard_ack()
        sender = self._control if frame.stream == 0 else self._outputs.get(frame.stream)
        if frame.kind == Kind.ACK and sender:
            sender.take_ack(frame.offset)
        elif frame.kind == Kind.STOP and sender:
            sender.take_stop()
        elif stdin := self._inputs.get(frame.stream):
            stdin.take(frame)
        return b""

    def say(self, line: object) -> None:
        self._control.give(msgspec.json.encode(line) + b"\n")

    def open_input(self, number: int) -> Stdin:
        self._check_new(number)
        self._inputs[number] = stdin = Stdin(self, number)
        return stdin

    def open_output(self, number: int) -> Sender:
        self._check_new(number)
        self._outputs[number] = sender = Sender(number, self, offset=self.offsets.get(number, 0))
        return sender

    def _check_new(self, number: int) -> None:
        if number in self._inputs or number in self._outputs:
            raise Refused(errno.EEXIST, f"open stream {number}: it exists")
        self.next_stream = max(self.next_stream, number + 1)

    # Requests

    def _asked(self, line: bytes) -> None:
        request = msgspec.json.decode(line)
        number, op, args = request["id"], request["op"], request["args"]
        self.requests.append((op, args))
        if op in self.unanswered:
            return
        try:
            handler = self.answers.get(op) or getattr(self, "_" + op.replace(".", "_"))
            self.say({"id": number, "result": handler(args)})
        except (Refused, GuestError) as e:
            self.say({"id": number, "error": {"errno": e.errno, "message": str(e), "exec": e.exec}})
        except (msgspec.ValidationError, AttributeError, KeyError) as e:
            self.say({"id": number, "error": {"errno": errno.EINVAL, "message": f"{op}: {e}"}})

    def _ping(self, args: dict[str, object]) -> object:
        return {}

    def _info(self, args: dict[str, object]) -> object:
        return m.Info(
            version="fake",
            kernel="fake",
            uptime_ms=1,
            memory_total_kib=BOOT_KIB + self.added_kib,
            memory_available_kib=max(0, BOOT_KIB + self.added_kib - self.used_kib),
        )  # fmt: skip

    def _list(self, args: dict[str, object]) -> object:
        return m.Listing(
            pod=self.pod is not None,
            containers=[m.ListedContainer(id=name, created=True) for name in self.containers],
            processes=[process.listed() for process in self.processes.values()],
            next_stream=self.next_stream,
        )

    def _stage(self, args: dict[str, object]) -> object:
        return {}

    def _disk_stage(self, args: dict[str, object]) -> object:
        self.staged = msgspec.convert(args, m.DiskStage).target
        return {}

    def _pod_setup(self, args: dict[str, object]) -> object:
        said = msgspec.convert(args, m.PodSetup)
        self.pod = msgspec.structs.replace(self.pod, **{key: getattr(said, key) for key in args}) if self.pod else said
        for mac in said.removed:
            self.interfaces.pop(mac, None)
        self.interfaces |= {interface.mac: interface for interface in said.interfaces}
        return {}

    def _pod_resize(self, args: dict[str, object]) -> object:
        self.cpus, self.added_kib = cast(int, args["cpus"]) or self.cpus, cast(int, args["added_kib"])
        return m.Sizes(cpus=self.cpus, memory_total_kib=BOOT_KIB + self.added_kib, memory_used_kib=self.used_kib)

    def _container_create(self, args: dict[str, object]) -> object:
        container = msgspec.convert(args, m.ContainerCreate)
        if container.id in self.containers:
            raise Refused(errno.EEXIST, f"create container {container.id}: it exists")
        if container.rootfs.over:
            self._container_remove({"id": container.rootfs.over})
        if container.rootfs.upper and container.rootfs.upper.target == self.staged:
            self.staged = None
        self.containers[container.id] = container
        return {}

    def _container(self, args: dict[str, object], key: str = "id") -> str:
        name = str(args[key])
        if name not in self.containers:
            raise Refused(errno.ENOENT, f"find container {name}: no such container")
        return name

    def _container_remove(self, args: dict[str, object]) -> object:
        name = self._container(args)
        for process in [p for p in self.processes.values() if p.container == name]:
            if process.task:
                process.task.cancel()
            self._drop(process)
        del self.containers[name]
        return {}

    def _container_rename(self, args: dict[str, object]) -> object:
        name, to = self._container(args), str(args["to"])
        self.containers[to] = self.containers.pop(name)
        self.frozen = {to if container == name else container for container in self.frozen}
        for process in self.processes.values():
            process.container = to if process.container == name else process.container
        if name in self.processes:
            self.processes[to] = first = self.processes.pop(name)
            first.id = to
        return {}

    def _container_freeze(self, args: dict[str, object]) -> object:
        (self.frozen.add if args["frozen"] else self.frozen.discard)(self._container(args))
        return {}

    def _container_update(self, args: dict[str, object]) -> object:
        update = msgspec.convert(args, m.ContainerUpdate)
        name = self._container(args)
        self.containers[name] = msgspec.structs.replace(self.containers[name], cgroup=update.cgroup)
        return {}

    def _container_stats(self, args: dict[str, object]) -> object:
        self._container(args)
        return {**self._usage(), "net": []}

    def _pod_stats(self, args: dict[str, object]) -> object:
        return {"containers": [{**self._usage(), "id": name} for name in self.containers], "net": []}

    @staticmethod
    def _usage() -> dict[str, int]:
        return dict.fromkeys(m.Usage.__struct_fields__, 1)

    def _container_files(self, args: dict[str, object]) -> object:
        self._container(args)
        return m.FileCounts(fs_bytes=1 << 30, fs_inodes=65536, fs_inodes_free=65000, descriptors=3, sockets=1)

    def _container_processes(self, args: dict[str, object]) -> object:
        name = self._container(args)
        rows = [p for p in self.processes.values() if p.container == name and p.status is None]
        return m.ProcessTable(
            processes=[
                m.ProcessRow(
                    pid=p.pid, ppid=0, user="root", vsize_kib=1, rss_kib=1, state=self.process_state, start_s=0,
                    cpu_ms=0, tty="?", command=" ".join(p.args),
                )
                for p in rows
            ]
        )  # fmt: skip

    def call(self, container: str, target: str) -> FakeCaller:
        """Have somebody connect to a socket there."""
        places = [mount.target for mount in self.containers[container].all_mounts or [] if mount.type == "socket"]
        assert target in places, f"there is no socket at {target}"
        waiting = self._waiting[container, target]
        waiting.append(caller := FakeCaller())
        if len(waiting) == 1:
            self._tell(container, target)
        return caller

    def _tell(self, container: str, target: str) -> None:
        if self._watched and self._waiting[container, target]:
            self.say({"event": "connection", "container": container, "target": target})

    def _socket_watch(self, args: dict[str, object]) -> object:
        self._watched = True
        for place in list(self._waiting):
            self._tell(*place)
        return {}

    def _socket_accept(self, args: dict[str, object]) -> object:
        asked = msgspec.convert(args, m.SocketAccept)
        waiting = self._waiting[self._container(args, "container"), asked.target]
        if not waiting:
            raise Refused(errno.EAGAIN)
        caller = waiting.popleft()
        if asked.input:
            caller.take(self.open_input(asked.input), self.open_output(asked.output))
            self.callers.append(caller)
        else:
            caller.taken.set_result(False)
        self._tell(asked.container, asked.target)
        return {}

    def _socket_close(self, args: dict[str, object]) -> object:
        for caller in self.callers:
            if caller.streams[0] == args["input"]:
                self._disconnect(caller)
                return {}
        raise Refused(errno.ENOENT, f"find a connection with stream {args['input']}: no such file or directory")

    def _disconnect(self, caller: FakeCaller) -> None:
        self.callers.remove(caller)
        for number in caller.streams:
            self._inputs.pop(number, None)
            self._outputs.pop(number, None)
        caller.closed.set()

    def _process_start(self, args: dict[str, object]) -> object:
        start = msgspec.convert(args, m.ProcessStart)
        program = self.programs.get(start.args[0].rpartition("/")[2]) if start.args else None
        if not program:
            raise Refused(errno.ENOENT, f"run {' '.join(start.args[:1])}: no such file or directory", exec=True)
        process = self.begin(start.id, start.container, start.args, start.streams, program, hold=start.hold)
        process.env, process.tty, process.size = start.env, start.tty, (start.rows, start.columns)
        told = {"uid": 1000, "gid": 100, "groups": [100]} if args.get("memberships") else {}
        return {"pid": process.pid, **told}

    def _process_archive(self, args: dict[str, object]) -> object:
        asked = msgspec.convert(args, m.ProcessArchive)
        place = (asked.container, asked.path)

        async def unpack(process: FakeProcess) -> int:
            tar = b""
            while data := await process.read():
                tar += data
            self.archives[place] = tar
            return 0

        async def pack(process: FakeProcess) -> int:
            if place not in self.archives:
                await process.write(f"cannot read {asked.path}: {os.strerror(errno.ENOENT)}\n".encode(), to=2)
                return errno.ENOENT if m.ARCHIVE_ERRNO.word in self.features else 1
            await process.write(self.archives[place])
            return 0

        async def tell(process: FakeProcess) -> int:
            held = {asked.container} if asked.freeze else set()
            self.frozen |= held
            try:
                await process.write(self.told[asked.mode])
            finally:
                self.frozen -= held
            return 0

        program = unpack if asked.mode == "write" else pack if asked.mode == "read" else tell
        return {"pid": self.begin(asked.id, asked.container, ["tar"], asked.streams, program).pid}

    def begin(
        self,
        name: str,
        container: str,
        args: list[str],
        streams: m.StreamSet,
        program: Program,
        *,
        hold: bool = False,
    ) -> FakeProcess:
        self._container({"id": container})
        if name in self.processes:
            raise Refused(errno.EEXIST, f"start process {name}: it exists")
        self.processes[name] = process = FakeProcess(self, name, container, args, streams)
        process.pid, self._next_pid = self._next_pid, self._next_pid + 1
        process.release = asyncio.get_running_loop().create_future() if hold else None
        process.task = asyncio.create_task(self._run(process, program))
        return process

    def _process_release(self, args: dict[str, object]) -> object:
        process = self._process(args)
        if process.release is None or process.release.done():
            raise Refused(errno.ESRCH, f"release process {process.id}, which does not wait: no such process")
        process.release.set_result(None)
        return {"pid": process.pid}

    async def _run(self, process: FakeProcess, program: Program) -> None:
        try:
            if process.release:
                await process.release
            status = await program(process)
        except BrokenPipeError:
            status = 128 + 13
        except asyncio.CancelledError:
            status = process.status or 128 + 9
        for sender in process.senders:
            if sender:
                sender.end()
        if process.stdin:
            process.stdin.stop()
        process.status = status
        if self.processes.get(process.id) is process:
            self.say({"event": "exit", "process": process.id, "status": status, "oom": process.oom})

    def _process(self, args: dict[str, object]) -> FakeProcess:
        process = self.processes.get(str(args["process"]))
        if not process:
            raise Refused(errno.ESRCH, f"find process {args['process']}: no such process")
        return process

    def _process_signal(self, args: dict[str, object]) -> object:
        process, number = self._process(args), cast(int, args["signal"])
        if process.status is not None or not process.task:
            raise Refused(errno.ESRCH, f"signal process {process.id}: it has ended")
        if number in process.traps:
            process.signals.put_nowait(number)
        elif number:
            process.status = 128 + number
            process.task.cancel()
        return {}

    def _process_resize(self, args: dict[str, object]) -> object:
        self._process(args).size = (cast(int, args["rows"]), cast(int, args["columns"]))
        return {}

    def _process_checkpoint(self, args: dict[str, object]) -> object:
        asked = msgspec.convert(args, m.ProcessCheckpoint)
        raise Refused(errno.EPROTO, f"checkpoint container {asked.container}: a fake has no processes")

    def _process_hang_up(self, args: dict[str, object]) -> object:
        process = self._process(args)
        if (stream := cast(int, args["stream"])) not in process.streams.outputs():
            raise Refused(errno.EINVAL, f"hang up stream {stream}")
        self._outputs[stream].take_stop()
        return {}

    def _process_forget(self, args: dict[str, object]) -> object:
        process = self._process(args)
        if process.status is None:
            raise Refused(errno.EBUSY, f"forget process {process.id}: it runs")
        self._drop(process)
        return {}

    def _drop(self, process: FakeProcess) -> None:
        self.processes.pop(process.id, None)
        for number in (process.streams.stdin, *process.streams.outputs()):
            self._inputs.pop(number, None)
            self._outputs.pop(number, None)

    def _time_set(self, args: dict[str, object]) -> object:
        return {}

    def _entropy_add(self, args: dict[str, object]) -> object:
        return {}

    def _apparmor_load(self, args: dict[str, object]) -> object:
        return {}

    def _poweroff(self, args: dict[str, object]) -> object:
        self.powered_off.set()
        return {}


class _Connection(asyncio.Protocol):
    """One host's connection to a FakeAgent."""

    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self._transport: asyncio.Transport | None = None
        self._greeted = self._full = self._scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BATCH)
        self._agent.adopt(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._agent.left(self)

    def close(self) -> None:
        self._agent.left(self)
        if self._transport:
            self._transport.abort()

    def pause(self, paused: bool) -> None:
        if self._transport:
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def data_received(self, data: bytes) -> None:
        for frame in self._agent.decoder.feed(data):
            if not self._transport:
                return
            if frame.kind == Kind.HELLO:
                answer = self._agent.hello(frame)
                if self._greeted or answer:
                    self._greeted = True
                    self._transport.write(answer or b"")
                    self.wake()
            elif self._greeted and (reply := self._agent.receive(frame)):
                self._transport.write(reply)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.wake()

    def wake(self) -> None:
        if not self._scheduled and self._greeted:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._scheduled = False
        while self._transport and not self._full and (batch := self._agent.frames(BATCH)):
            self._transport.write(batch)
