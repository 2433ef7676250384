"""The monitor's face, against a peer that speaks QMP, or does not."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import GuestError, GuestSilent
from hypercontainer.hypervisor.qemu import qmp
from hypercontainer.hypervisor.qemu.qmp import Monitor, Refused

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}

Answer = Callable[[dict[str, Any], "Peer"], Awaitable[None]]


class Peer:
    """The QEMU end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\r\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """JSON objects, one after the other: nothing but their own end separates them."""
        buffer = ""
        while data := await self.reader.read(4096):
            buffer = (buffer + data.decode()).lstrip()  # a blank carries a descriptor
            while buffer:
                try:
                    message, end = json.JSONDecoder().raw_decode(buffer)
                except json.JSONDecodeError:
                    break
                buffer = buffer[end:].lstrip()
                yield message

    async def serve(self, answer: Answer) -> None:
        self.send(**GREETING)
        async for message in self.messages():
            if message["execute"] == "qmp_capabilities":
                self.send(**{"return": {}})
            else:
                await answer(message, self)


async def fine(message: dict[str, Any], peer: Peer) -> None:
    peer.send(id=message["id"], **{"return": {"done": message["execute"]}})


@asynccontextmanager
async def qemu(path: Path, answer: Answer = fine) -> AsyncIterator[None]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Peer(reader, writer).serve(answer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, str(path))
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def monitor(path: Path) -> AsyncIterator[Monitor]:
    connected = await Monitor.connect(path, timeout_s=10)
    try:
        yield connected
    finally:
        await connected.close()
        await connected.close()  # again is harmless


async def test_commands_are_answered(tmp_path: Path) -> None:
    async with qemu(tmp_path / "q"), monitor(tmp_path / "q") as m:
        assert await m.execute("stop") == {"done": "stop"}
        answers = await asyncio.gather(*(m.execute(name) for name in "abc"))
        assert answers == [{"done": name} for name in "abc"]


async def test_a_refusal_holds_qemus_words(tmp_path: Path) -> None:
    async def refuse(message: dict[str, Any], peer: Peer) -> None:
        peer.send(id=message["id"], error={"class": "GenericError", "desc": "no such node"})

    async with qemu(tmp_path / "q", refuse), monitor(tmp_path / "q") as m:
        with pytest.raises(Refused, match="QEMU refused blockdev-del: no such node") as refused:
            await m.execute("blockdev-del", {"node-name": "x"})
        assert refused.value.reason == "GenericError"


async def test_silence_is_bounded(tmp_path: Path) -> None:
    async def say_nothing(message: dict[str, Any], peer: Peer) -> None: ...

    async with qemu(tmp_path / "q", say_nothing), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestSilent, match="did not answer stop"):
            await m.execute("stop", timeout_s=0.01)


@pytest.mark.parametrize("nonsense", [b"no JSON", b'{"event": "\xb1"}', b"[" * 60_000, b"[]", b"x" * (11 << 20)])
async def test_nonsense_ends_the_connection_and_no_more(tmp_path: Path, nonsense: bytes) -> None:
    """Whoever ends the VMM closes its monitor first: that must not fail by what a hostile one said."""

    async def say(message: dict[str, Any], peer: Peer) -> None:
        peer.writer.write(nonsense + b"\r\n")

    async with qemu(tmp_path / "q", say), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestError, match="its monitor is gone"):
            await m.execute("stop")


def migrating(status: str) -> Answer:
    """A QEMU whose migrations end so; "" = it ends itself."""

    async def answer(message: dict[str, Any], peer: Peer) -> None:
        await fine(message, peer)
        for word in ("setup", "active", status):
            timestamp = {"seconds": 1, "microseconds": 0}
            peer.send(event="MIGRATION", data={"status": word}, timestamp=timestamp) if word else peer.writer.close()

    return answer


async def test_a_migration_is_waited_for(tmp_path: Path) -> None:
    async with qemu(tmp_path / "q", migrating("completed")), monitor(tmp_path / "q") as m:
        for _ in range(2):
            await m.migrate("migrate", "fd:state", timeout_s=10)


@pytest.mark.parametrize(("status", "words"), [("failed", "it has failed"), ("", "QEMU has ended")])
async def test_a_migration_that_fails_is_said(tmp_path: Path, status: str, words: str) -> None:
    async with qemu(tmp_path / "q", migrating(status)), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestError, match=words):
            await m.migrate("migrate-incoming", "fd:state", timeout_s=10)


async def test_a_migration_is_bounded(tmp_path: Path) -> None:
    async with qemu(tmp_path / "q", migrating("active")), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestSilent, match=r"within 0\.05 s"):
            await m.migrate("migrate", "fd:state", timeout_s=0.05)


async def test_a_monitor_that_never_greets_is_bounded(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "q"))
        server.listen(1)
        with pytest.raises(GuestSilent, match="did not answer within"):
            await Monitor.connect(tmp_path / "q", timeout_s=0.01)
    gc.collect()


async def test_nobody_there_and_a_hang_up_are_told_apart_from_silence(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="cannot reach QEMU's monitor"):
        await Monitor.connect(tmp_path / "none", timeout_s=10)

    async def hang_up(message: dict[str, Any], peer: Peer) -> None:
        peer.writer.close()

    async with qemu(tmp_path / "q", hang_up), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestError, match="monitor is gone"):
            await m.execute("stop")
        with pytest.raises(GuestError, match="monitor is gone"):
            await m.execute("cont")
        await m.ended(timeout_s=10)


async def test_the_reason_of_a_shutdown_is_noted(tmp_path: Path) -> None:
    async def shut_down(message: dict[str, Any], peer: Peer) -> None:
        peer.send(event="SHUTDOWN", data={"guest": True, "reason": "guest-shutdown"}, timestamp={})
        await peer.writer.drain()
        peer.writer.close()

    async with qemu(tmp_path / "q", shut_down), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestError):
            await m.execute("x")
        await m.ended(timeout_s=10)
        assert m.shutdown_reason == "guest-shutdown"


async def test_the_end_of_a_qemu_is_no_news_to_the_log(tmp_path: Path) -> None:
    """As of a virtual machine that died: its monitor is waited for, and not closed."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    async def hang_up(message: dict[str, Any], peer: Peer) -> None:
        peer.writer.close()

    async with qemu(tmp_path / "q", hang_up):
        m = await Monitor.connect(tmp_path / "q", timeout_s=10)
        with pytest.raises(GuestError, match="its monitor is gone"):
            await m.execute("quit")
        await m.ended(timeout_s=10)
        del m
        gc.collect()
        await asyncio.sleep(0)
    assert told == []


async def test_a_device_is_gone_when_its_event_has_come(tmp_path: Path) -> None:
    async def delete(message: dict[str, Any], peer: Peer) -> None:
        peer.send(event="DEVICE_DELETED", data={"path": "/machine/peripheral/disk9"}, timestamp={})
        peer.send(event="DEVICE_DELETED", data={"device": "disk9", "path": "/"}, timestamp={})
        if message["arguments"]["id"] == "disk1":
            peer.send(event="DEVICE_DELETED", data={"device": "disk1", "path": "/"}, timestamp={})
        elif message["arguments"]["id"].startswith("/"):  # it has no name
            peer.send(event="DEVICE_DELETED", data={"path": message["arguments"]["id"]}, timestamp={})
        peer.send(id=message["id"], **{"return": {}})

    async with qemu(tmp_path / "q", delete), monitor(tmp_path / "q") as m:
        await m.delete_device("disk1")
        await m.delete_device("/machine/peripheral-anon/device[4]")
        with pytest.raises(GuestSilent, match="did not let go of disk2"):
            await m.delete_device("disk2", timeout_s=0.01)


async def test_events_that_a_guest_causes_do_not_pile_up(tmp_path: Path) -> None:
    async def flood(message: dict[str, Any], peer: Peer) -> None:
        for _ in range(1000):
            peer.send(event="RTC_CHANGE", data={"offset": 1}, timestamp={})
        peer.send(event="NONSENSE", timestamp={})
        await fine(message, peer)

    async with qemu(tmp_path / "q", flood), monitor(tmp_path / "q") as m:
        await m.execute("x")
        assert m._client.events.empty()
        assert m._client.events.history == ()


async def test_a_file_is_handed_over(tmp_path: Path) -> None:
    """With a plain socket on the other end, which sees the descriptor."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()

    def serve() -> bytes:
        theirs.sendall(json.dumps(GREETING).encode() + b"\r\n")
        json.loads(theirs.recv(4096))
        theirs.sendall(b'{"return": {}}\r\n')
        received, fds, buffer = b"", [], b""
        while b"add-fd" not in buffer:
            data, more, _, _ = socket.recv_fds(theirs, 4096, 1)
            fds += more
            buffer += data
        message = json.loads(buffer)
        assert message["arguments"] == {"fdset-id": 7}
        with open(fds[0], "rb") as f:
            received = f.read()
        theirs.sendall(json.dumps({"return": {"fd": 1, "fdset-id": 7}, "id": message["id"]}).encode() + b"\r\n")
        return received

    serving = loop.run_in_executor(None, serve)
    m = Monitor()
    await m._client.connect(ours)
    with open(tmp_path / "file", "w+b") as f:
        f.write(b"contents")
        f.flush()
        f.seek(0)
        await m.add_fd(f.fileno(), 7)
    assert await serving == b"contents"
    await m.close()
    theirs.close()


async def test_a_machine_that_a_full_disk_stopped_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried until there is room; one that we stopped is left alone."""
    monkeypatch.setattr(qmp, "RETRY_S", 0.0)
    tries, goes_on = 0, asyncio.Event()

    async def answer(message: dict[str, Any], peer: Peer) -> None:
        nonlocal tries
        if message["execute"] == "fill":
            event = {"action": "stop", "nospace": True, "device": "", "operation": "write", "reason": "No space left"}
            peer.send(event="BLOCK_IO_ERROR", data=event, timestamp={"seconds": 0, "microseconds": 0})
        if message["execute"] == "cont":
            tries += 1
        state = "io-error" if tries < 3 else "running"
        if state == "running":
            goes_on.set()
        peer.send(id=message["id"], **{"return": {"status": state}})

    async with qemu(tmp_path / "qmp", answer), monitor(tmp_path / "qmp") as connection:
        connection.stopped = True
        await connection.execute("fill")
        for _ in range(20):
            await connection.execute("query-status")
        assert tries == 0
        connection.stopped = False
        async with asyncio.timeout(60):
            await goes_on.wait()
