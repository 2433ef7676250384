"""Sockets of this host in containers: what is said there arrives, both ways, and neither end leaves anything behind."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.messages import SOCKETS, ConnectionEvent
from hypercontainer.agent.wire import WINDOW
from hypercontainer.errors import GuestTooOld
from hypercontainer.lib.trace import Timings
from hypercontainer.model.container import Mount
from hypercontainer.model.record import MountRecord, SocketRecord
from hypercontainer.sandbox import relay
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_caller import FakeCaller
from tests.unit.guest.conftest import Guest, hyperstart, lower
from tests.unit.sandbox.lonely import Lot

__all__ = ["hyperstart", "lower"]  # fixtures

LIMIT_S = 30.0
TARGET = "/run/echo.sock"
BYTES = bytes(range(256)) * 40_960  # 10 MB


class Server:
    """Who listens on this host. It echoes until the other end says no more, then says how much that was; what is
    `silent` reads nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.silent = False
        self.here = 0  # connections
        self.came = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> "Server":
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.here += 1
        self.came.set()
        self._writers.add(writer)
        count = 0
        try:
            while not self.silent and (data := await reader.read(65536)):
                count += len(data)
                writer.write(data)
                await writer.drain()
            if self.silent:
                await asyncio.Event().wait()
            writer.write(b" %d" % count)
            await writer.drain()
        except OSError:
            pass
        finally:
            self.here -= 1
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        self.hang_up()
        self.path.unlink(missing_ok=True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = await Server(tmp_path / "echo").start()
    yield server
    await server.stop()


async def until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def read_all(caller: FakeCaller) -> bytes:
    said = b""
    async with asyncio.timeout(LIMIT_S):
        while data := await caller.read():
            said += data
    return said


# A pod's


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


def with_socket(pod: Pod, path: Path) -> Container:
    """Its one container, which has that socket at TARGET."""
    [container] = pod.containers.values()
    record = container.record
    owner = SocketRecord(uid=0, gid=0, mode=0o600)
    record.mounts = [
        MountRecord(type="bind", target=TARGET, source=str(path), path=str(path), read_only=False, socket=owner)
    ]
    record.config = replace(record.config, mounts=[Mount(destination=TARGET, type="bind", source=str(path))])
    return container


async def started(lot: Lot, path: Path) -> tuple[Pod, Container, FakeAgent]:
    pod = lot.pod("sleep 1000")
    container = with_socket(pod, path)
    async with pod.locked() as locked:
        await locked.start(container, Timings())
    return pod, container, lot.hypervisor.alive[-1].agent


@pytest.fixture
async def running(lot: Lot, server: Server) -> tuple[Pod, Container, FakeAgent]:
    return await started(lot, server.path)


Running = tuple[Pod, Container, FakeAgent]


async def test_a_word_and_its_answer_and_both_ends(running: Running, server: Server) -> None:
    _, container, agent = running
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"hello")
    assert await caller.read() == b"hello"
    caller.end()
    assert await read_all(caller) == b" 5"
    await caller.closed.wait()
    await until(lambda: not server.here)


async def test_10_mb_both_ways_of_several_at_once(running: Running) -> None:
    _, container, agent = running
    callers = [agent.call(container.record.id, TARGET) for _ in range(4)]

    async def say(caller: FakeCaller) -> None:
        await caller.write(BYTES)
        caller.end()

    said = await asyncio.gather(*(say(c) for c in callers), *(read_all(c) for c in callers))
    assert said[4:] == [BYTES + b" %d" % len(BYTES)] * 4


async def test_who_has_gone_is_let_go(running: Running, server: Server) -> None:
    _, container, agent = running
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"hello")
    caller.close()
    async with asyncio.timeout(LIMIT_S):
        await caller.closed.wait()
    await until(lambda: not server.here)


async def test_a_server_that_hangs_up_is_heard(running: Running, server: Server) -> None:
    _, container, agent = running
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"hello")
    assert await caller.read() == b"hello"
    server.hang_up()
    assert await read_all(caller) == b""
    caller.end()
    await caller.closed.wait()


async def test_a_server_that_does_not_read_holds_up_its_caller_alone(running: Running, server: Server) -> None:
    _, container, agent = running
    server.silent = True
    full, other = (agent.call(container.record.id, TARGET) for _ in range(2))
    writing = asyncio.create_task(full.write(BYTES))
    await until(lambda: server.here == 2)
    await until(lambda: agent._outputs[full.streams[1]].room == 0)
    assert not writing.done()
    await other.write(b"quick")
    writing.cancel()
    full.close()
    server.hang_up()
    await full.closed.wait()


async def test_who_does_not_read_has_the_server_wait(lot: Lot, tmp_path: Path) -> None:
    written = 0
    ends: list[asyncio.WriteTransport] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.transport.set_write_buffer_limits(0)
        ends.append(writer.transport)
        while written < 100 * WINDOW:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    talker = await asyncio.start_unix_server(talk, tmp_path / "talker")
    pod, container, agent = await started(lot, tmp_path / "talker")
    caller = agent.call(container.record.id, TARGET)
    await caller.taken
    carried = pod.machine.running().agent._session.inputs[caller.streams[0]]
    await until(lambda: not carried.room and ends[0].get_write_buffer_size())  # nothing moves any more
    assert WINDOW <= written < 8 * WINDOW
    await pod.let_go()
    talker.close()


async def test_more_than_so_many_are_refused_and_later_others_are_taken(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 3)
    _, container, agent = running
    callers = [agent.call(container.record.id, TARGET) for _ in range(50)]
    async with asyncio.timeout(LIMIT_S):
        assert [await caller.taken for caller in callers] == [True] * 3 + [False] * 47
    assert caplog.text.count("cannot connect it to") == 1
    assert "the container has 3 already" in caplog.text
    callers[0].close()
    await callers[0].closed.wait()
    late = agent.call(container.record.id, TARGET)
    await late.write(b"in")
    assert await late.read() == b"in"


async def test_a_socket_that_is_gone_and_comes_back(
    running: Running, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, container, agent = running
    await server.stop()
    assert not await agent.call(container.record.id, TARGET).taken
    assert os.strerror(errno.ENOENT) in caplog.text
    again = await Server(server.path).start()
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"new")
    assert await caller.read() == b"new"
    await again.stop()


async def test_what_is_no_socket_any_more_is_not_opened(running: Running, server: Server) -> None:
    _, container, agent = running
    await server.stop()
    server.path.write_text("a file")
    assert not await agent.call(container.record.id, TARGET).taken


async def test_another_hyperd_takes_whoever_waited_and_the_rest_has_ended(
    running: Running, lot: Lot, server: Server
) -> None:
    pod, container, agent = running
    known = agent.call(container.record.id, TARGET)
    await known.write(b"one")
    assert await known.read() == b"one"
    await pod.let_go()
    await until(lambda: not server.here)
    waiting = agent.call(container.record.id, TARGET)
    again = Pod(lot.site, pod.record, lot.supervisor, pod.folder)
    async with again.locked() as locked:
        assert await locked.attach()
    await known.closed.wait()
    await waiting.write(b"two")
    assert await waiting.read() == b"two"


async def test_a_paused_guest_keeps_its_connections(running: Running) -> None:
    pod, container, agent = running
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"one")
    assert await caller.read() == b"one"
    async with pod.locked() as locked:
        await locked.pause()
        await locked.unpause()
    await caller.write(b"two")
    assert await caller.read() == b"two"


async def test_a_container_that_is_removed_is_let_go(running: Running, server: Server) -> None:
    pod, container, agent = running
    caller = agent.call(container.record.id, TARGET)
    await caller.taken
    await until(lambda: server.here == 1)
    async with pod.locked() as locked:
        await locked.machine.leave(container.record)
    await until(lambda: not server.here)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_guest_that_dies_lets_go_of_the_server(
    running: Running, lot: Lot, server: Server, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Also of one that does not read the last words."""
    monkeypatch.setattr(relay, "LINGER_S", 0.1)
    pod, container, agent = running
    server.silent = silent
    caller = agent.call(container.record.id, TARGET)
    writing = asyncio.create_task(caller.write(BYTES))
    await until(lambda: server.here)
    if silent:
        await until(lambda: agent._outputs[caller.streams[1]].room == 0)
    await lot.hypervisor.alive[0].die("killed by signal 9")
    await until(lambda: not pod._tasks)
    writing.cancel()


async def test_a_guest_that_lies_gets_nowhere(running: Running, server: Server) -> None:
    _, container, agent = running
    for place in ((container.record.id, "/etc/passwd"), ("nobody", TARGET), (container.record.id, "/" * 4096)):
        agent.say({"event": "connection", "container": place[0], "target": place[1]})
    for _ in range(5000):  # there is nobody
        agent.say({"event": "connection", "container": container.record.id, "target": TARGET})
    caller = agent.call(container.record.id, TARGET)
    await caller.write(b"honest")
    assert await caller.read() == b"honest"
    accepts = [args for op, args in agent.requests if op == "socket.accept"]
    assert len(accepts) < 5000
    await until(lambda: server.here == 1)


async def test_an_older_guest_is_not_asked(lot: Lot, server: Server) -> None:
    pod = lot.pod("sleep 1000")
    container = with_socket(pod, server.path)
    async with pod.locked() as locked:
        await locked.boot(Timings())
    vm = pod.machine.running()
    vm.agent.features -= {SOCKETS.word}
    async with pod.locked() as locked:
        with pytest.raises(GuestTooOld, match="cannot reach a socket of this host: the virtual machine was started"):
            await locked.start(container, Timings())


async def test_its_owner_is_looked_up_at_each_start(lot: Lot, server: Server) -> None:
    server.path.chmod(0o640)
    os.chown(server.path, -1, 7)
    _, container, agent = await started(lot, server.path)
    [mount] = agent.containers[container.record.id].all_mounts or []
    assert mount.owner and (mount.owner.gid, mount.owner.mode) == (7, 0o640)


async def test_one_that_is_not_there_yet_has_its_owner_of_before(lot: Lot, tmp_path: Path) -> None:
    _, container, agent = await started(lot, tmp_path / "later")
    [mount] = agent.containers[container.record.id].all_mounts or []
    assert mount.owner and mount.owner.mode == 0o600


async def test_a_queue_that_is_full_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "busy"))
        listener.listen(0)
        with await relay.dial(tmp_path / "busy"):
            dialling = asyncio.create_task(relay.dial(tmp_path / "busy"))
            await asyncio.sleep(relay.FULL_S)
            assert not dialling.done()
            listener.accept()[0].close()
            with await dialling as late:
                taken, _ = listener.accept()
                late.send(b"x")
                assert taken.recv(1) == b"x"
                taken.close()


def test_datagrams_are_told_from_streams(tmp_path: Path) -> None:
    for kind, datagrams in ((socket.SOCK_DGRAM, True), (socket.SOCK_STREAM, False), (socket.SOCK_SEQPACKET, False)):
        with socket.socket(socket.AF_UNIX, kind) as listener:
            listener.bind(str(tmp_path / kind.name))
            if not datagrams:
                listener.listen()
            assert relay.has_datagrams(tmp_path / kind.name) is datagrams


# hyperstart itself


@pytest.fixture
def guest(hyperstart: Path, lower: Path, tmp_path: Path) -> Iterator[Guest]:
    if os.geteuid():
        pytest.skip("hyperstart makes namespaces and mounts: run as root")
    (tmp_path / "guest").mkdir()
    guest = Guest(hyperstart, tmp_path / "guest", lower)
    owner = {"uid": 0, "gid": 0, "mode": 0o666}
    usual = [{"type": "proc", "target": "/proc"}, {"type": "dev", "target": "/dev"}]
    guest.container(all_mounts=[*usual, {"type": "socket", "target": TARGET, "owner": owner}])
    guest.first()
    guest.host.close()
    yield guest
    guest.close()


def inside(guest: Guest) -> Path:
    pids = [pid for procs in guest.cgroup.rglob("cgroup.procs") for pid in procs.read_text().split()]
    words = [pid for pid in pids if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return Path(f"/proc/{words[0]}/root{TARGET}")


@asynccontextmanager
async def relayed(guest: Guest, path: Path) -> AsyncIterator[AgentClient]:
    """A client that carries each connection to the socket at `path`."""
    client = await AgentClient.connect(guest.path, timeout_s=LIMIT_S)
    tasks: set[asyncio.Task[None]] = set()

    async def take(event: ConnectionEvent) -> None:
        with await relay.dial(path) as server:
            connection = await client.accept_connection(event.container, event.target)
            await relay.carry(connection, server)
        await client.close_connection(connection)

    client.on_connection = lambda event: tasks.add(asyncio.create_task(take(event)))
    await client.watch_sockets()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield client
            await asyncio.gather(*tasks)
    finally:
        await client.close()


async def test_hyperstart_carries_10_mb_both_ways_of_many(guest: Guest, server: Server) -> None:
    async def call() -> bytes:
        reader, writer = await asyncio.open_unix_connection(inside(guest))
        reading = asyncio.create_task(reader.read())
        writer.write(BYTES)
        await writer.drain()
        writer.write_eof()
        said = await reading
        writer.close()
        return said

    async with relayed(guest, server.path):
        assert await asyncio.gather(*(call() for _ in range(3))) == [BYTES + b" %d" % len(BYTES)] * 3
    await until(lambda: not server.here)


async def test_hyperstart_and_thousands_one_after_the_other(guest: Guest, server: Server) -> None:
    """More than there are streams at a time, and descriptors."""

    async def call() -> None:
        reader, writer = await asyncio.open_unix_connection(inside(guest))
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"x 1"
        writer.close()

    async with relayed(guest, server.path):
        for _ in range(80):
            await asyncio.gather(*(call() for _ in range(25)))
