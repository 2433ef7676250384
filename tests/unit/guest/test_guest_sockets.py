"""Sockets of the host in containers: who connects in there is heard of, taken or refused, and told of every end."""

import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.lib import netns
from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import ACK, CREDIT, WAIT_S, Refused, frame

TARGET = "/run/echo.sock"
MEGABYTE = bytes(range(256)) * 4096


def mount(target: str = TARGET, **owner: int) -> dict[str, Any]:
    return {"type": "socket", "target": target, "owner": {"uid": 0, "gid": 0, "mode": 0o666, **owner}}


def proc() -> list[dict[str, Any]]:
    """What a first process cannot be without."""
    return [{"type": "proc", "target": "/proc"}, {"type": "dev", "target": "/dev"}]


@pytest.fixture
def listening(guest: Guest) -> Guest:
    """With a container that has a socket, whose host wants to hear of it."""
    guest.container(all_mounts=[*proc(), mount()])
    guest.first()
    guest.host.call("socket.watch")
    return guest


def place(guest: Guest, path: str = TARGET) -> Path:
    """A path in the container, as its first process sees it."""
    pids = [pid for procs in guest.cgroup.rglob("cgroup.procs") for pid in procs.read_text().split()]
    words = [pid for pid in pids if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return Path(f"/proc/{words[0]}/root{path}")


def connect(guest: Guest, path: str = TARGET) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(place(guest, path)))
    return client


def told(guest: Guest, target: str = TARGET) -> None:
    """Wait for one event, and forget it."""
    event = {"event": "connection", "container": "c1", "target": target}
    guest.host.until(lambda: event in guest.host.events)
    guest.host.events.remove(event)


def accept(guest: Guest, target: str = TARGET) -> tuple[int, int]:
    """Its input and output stream."""
    host = guest.host
    streams = host.stream(output=False), host.stream(output=True)
    host.call("socket.accept", container="c1", target=target, input=streams[0], output=streams[1])
    return streams


@pytest.fixture
def connected(listening: Guest) -> Iterator[tuple[Guest, socket.socket, int, int]]:
    with connect(listening) as client:
        told(listening)
        yield listening, client, *accept(listening)


def turn(guest: Guest, done: Callable[[], bool]) -> None:
    """Have the host do its part until that is so, also when nothing comes of it that the host could wait for."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline
        guest.host.pump(0)


def took(guest: Guest, client: socket.socket, size: int) -> bytes:
    """So many bytes of the client's, the host busy with what comes meanwhile."""
    taken = bytearray()
    client.setblocking(False)

    def more() -> bool:
        try:
            while data := client.recv(65536):
                taken.extend(data)
        except BlockingIOError:
            return len(taken) >= size
        return True

    turn(guest, more)
    client.setblocking(True)
    client.settimeout(30)
    return bytes(taken)


def test_both_directions_and_their_ends(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, from_client = connected
    client.sendall(b"ask")
    guest.host.until(lambda: guest.host.outputs[from_client].data == b"ask")
    client.shutdown(socket.SHUT_WR)
    assert guest.host.read_all(from_client) == b"ask"
    guest.host.write(to_client, b"answer")  # which it still gets
    assert client.recv(100) == b"answer"
    guest.host.write(to_client, b"", end=True)
    assert client.recv(100) == b""
    guest.host.until(lambda: guest.host.inputs[to_client].acked == len(b"answer") + 1)
    guest.host.call("socket.close", input=to_client)


def test_the_host_ends_its_half_first(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, from_client = connected
    guest.host.write(to_client, b"last", end=True)
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""
    client.sendall(b"all the same")
    client.close()
    assert guest.host.read_all(from_client) == b"all the same"


def test_who_has_gone_reads_no_more(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, from_client = connected
    client.close()
    guest.host.until(lambda: guest.host.inputs[to_client].stopped)
    assert guest.host.read_all(from_client) == b""


def test_a_connection_that_the_host_closes(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, _ = connected
    guest.host.write(to_client, b"last")
    guest.host.until(lambda: guest.host.inputs[to_client].acked)
    guest.host.call("socket.close", input=to_client)
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        client.sendall(b"anybody?")
    with pytest.raises(Refused) as refused:
        guest.host.call("socket.close", input=to_client)
    assert refused.value.errno == errno.ENOENT


def test_10_mb_both_ways(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, from_client = connected
    data = MEGABYTE * 10
    guest.host.write(to_client, data, end=True)
    assert took(guest, client, len(data)) == data
    child = os.fork()
    if not child:
        client.sendall(data)
        os._exit(0)
    client.close()
    try:
        assert guest.host.read_all(from_client) == data
    finally:
        os.waitpid(child, 0)


def test_who_is_not_read_waits(connected: tuple[Guest, socket.socket, int, int]) -> None:
    """Nothing that a container says takes more memory of the guest's than a window."""
    guest, client, _, from_client = connected
    output = guest.host.outputs[from_client]
    output.held = True
    client.setblocking(False)
    sent = 0

    def full() -> bool:
        nonlocal sent
        try:
            sent += client.send(MEGABYTE)
        except BlockingIOError:
            return len(output.data) == CREDIT
        return False

    turn(guest, full)
    assert sent < 8 * CREDIT
    output.held = False
    guest.host.raw(frame(ACK, from_client, len(output.data)))
    client.setblocking(True)
    client.shutdown(socket.SHUT_WR)
    assert len(guest.host.read_all(from_client)) == sent


def test_who_does_not_read_holds_up_nobody_else(listening: Guest) -> None:
    with connect(listening) as idle, connect(listening) as busy:
        told(listening)
        full, _ = accept(listening)
        told(listening)
        other, _ = accept(listening)
        listening.host.write(full, MEGABYTE)
        listening.host.write(other, b"quick")
        assert took(listening, busy, 5) == b"quick"
        assert listening.host.inputs[full].acked < len(MEGABYTE)
        idle.close()
        listening.host.until(lambda: listening.host.inputs[full].stopped)


def test_one_event_until_the_host_has_looked(listening: Guest) -> None:
    with connect(listening) as first, connect(listening) as second:
        told(listening)
        listening.host.call("ping")
        assert listening.host.events == []
        to_first, _ = accept(listening)
        told(listening)
        to_second, _ = accept(listening)
        for client, stream, word in ((first, to_first, b"1"), (second, to_second, b"2")):
            listening.host.write(stream, word)
            assert client.recv(10) == word
        listening.host.call("ping")
        assert listening.host.events == []


def test_a_refusal(listening: Guest) -> None:
    with connect(listening) as client:
        told(listening)
        listening.host.call("socket.accept", container="c1", target=TARGET)
        assert client.recv(10) == b""
    with pytest.raises(Refused) as refused:
        listening.host.call("socket.accept", container="c1", target=TARGET)
    assert refused.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    ("args", "number"),
    [
        ({"container": "c1", "target": "/other"}, errno.ENOENT),
        ({"container": "none", "target": TARGET}, errno.ENOENT),
        ({"container": "c1", "target": TARGET, "input": 9}, errno.EINVAL),
        ({"container": "c1", "target": TARGET, "input": 9, "output": 9}, errno.EINVAL),
        ({"container": "c1", "target": TARGET, "input": 9, "output": 1 << 31}, errno.ERANGE),
        ({"container": "c1", "target": TARGET, "input": 0, "output": -1}, errno.ERANGE),
    ],
)
def test_what_no_host_should_ask(listening: Guest, args: dict[str, Any], number: int) -> None:
    with pytest.raises(Refused) as refused:
        listening.host.call("socket.accept", **args)
    assert refused.value.errno in (number, errno.EINVAL)


def test_streams_that_are_taken_end_the_connection(listening: Guest) -> None:
    with connect(listening) as client:
        told(listening)
        taken = listening.start("more", "sleep", "1000")["stdout"]
        new = listening.host.stream(output=False)
        with pytest.raises(Refused) as refused:
            listening.host.call("socket.accept", container="c1", target=TARGET, input=new, output=taken)
        assert refused.value.errno == errno.EEXIST
        assert client.recv(10) == b""
    with connect(listening):
        told(listening)
        accept(listening)


def test_another_host_hears_of_who_waits_and_the_rest_has_ended(listening: Guest) -> None:
    with connect(listening) as known, connect(listening) as waiting:
        told(listening)
        _, from_client = accept(listening)
        known.sendall(b"lost")
        listening.another_host().hello()
        assert known.recv(10) == b""
        assert listening.host.call("list")["next_stream"] > from_client
        listening.host.call("ping")
        assert listening.host.events == []  # nobody has asked
        listening.host.call("socket.watch")
        told(listening)
        to_client, from_client = accept(listening)
        waiting.sendall(b"still here")
        listening.host.until(lambda: listening.host.outputs[from_client].data == b"still here")
        listening.host.write(to_client, b"so am I")
        assert waiting.recv(10) == b"so am I"


def test_the_same_host_goes_on(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, to_client, from_client = connected
    client.sendall(b"one")
    guest.host.until(lambda: guest.host.outputs[from_client].data == b"one")
    guest.host.reconnect()
    client.sendall(b"two")
    guest.host.until(lambda: guest.host.outputs[from_client].data == b"onetwo")
    guest.host.write(to_client, b"three")
    assert client.recv(10) == b"three"


def test_its_owner_and_mode(guest: Guest) -> None:
    guest.container(all_mounts=[*proc(), mount(uid=1000, gid=2000, mode=0o660), mount("/var/run/deep/ro.sock")])
    guest.first()
    status = place(guest).stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 2000, 0o660)
    assert stat.S_ISSOCK(place(guest, "/var/run/deep/ro.sock").stat().st_mode)
    assert guest.sh(f"rm {TARGET}")[0] != 0


def test_read_only_is_no_lock(guest: Guest) -> None:
    guest.container(all_mounts=[*proc(), {**mount(), "options": ["ro"]}])
    guest.first()
    guest.host.call("socket.watch")
    with connect(guest):
        told(guest)


def test_it_outlives_the_first_process(listening: Guest) -> None:
    listening.host.call("process.signal", process="first", signal=9)
    listening.host.exit_of("first")
    listening.host.call("process.forget", process="first")
    listening.first()
    with connect(listening) as client:
        told(listening)
        _, from_client = accept(listening)
        client.sendall(b"again")
        listening.host.until(lambda: listening.host.outputs[from_client].data == b"again")


def test_a_container_that_goes_takes_its_sockets_along(connected: tuple[Guest, socket.socket, int, int]) -> None:
    guest, client, _, _ = connected
    with connect(guest) as waiting:
        told(guest)
        guest.host.call("container.remove", id="c1")
        assert client.recv(10) == b""
        with pytest.raises(ConnectionResetError):
            waiting.recv(10)
    guest.container(all_mounts=[*proc(), mount()])
    guest.start("again", "sleep", "1000", first=True)
    with connect(guest):
        told(guest)


def test_a_renamed_container_is_told_of_by_its_name(listening: Guest) -> None:
    listening.host.call("container.rename", id="c1", to="c2")
    with connect(listening):
        event = {"event": "connection", "container": "c2", "target": TARGET}
        listening.host.until(lambda: event in listening.host.events)


def test_last_words_are_heard_before_the_machine_goes(listening: Guest) -> None:
    """Of a client that has not even been taken yet."""
    with connect(listening) as client:
        client.sendall(b"goodbye")
    told(listening)
    off = listening.host.ask("poweroff", timeout_ms=1)
    listening.host.answer(off)
    _, from_client = accept(listening)
    assert listening.host.read_all(from_client) == b"goodbye"


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "socket", "target": TARGET},
        {**mount(), "source": "x"},
        mount(mode=0o10000),
        mount(uid=-1),
        {"type": "tmpfs", "target": "/t", "owner": mount()["owner"]},
    ],
)
def test_mounts_that_are_refused(guest: Guest, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        guest.container(all_mounts=[*proc(), wrong])
    guest.container(all_mounts=[*proc(), mount()])


# The other way round: the host connects


def serving(guest: Guest, address: str) -> socket.socket:
    """Who listens in the guest's network namespace."""
    outer = guest.process.pid
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
    with netns.opened(f"/proc/{inner}/ns/net") as fd:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = netns.inside(fd, lambda: socket.create_server((address, 0), family=family))
    made.settimeout(WAIT_S)
    return made


def to_port(guest: Guest, port: int) -> tuple[int, int]:
    streams = guest.host.stream(output=False), guest.host.stream(output=True)
    guest.host.call("socket.connect", port=port, input=streams[0], output=streams[1])
    return streams


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_host_connects_to_a_port(guest: Guest, address: str) -> None:
    with serving(guest, address) as server:
        to_server, from_server = to_port(guest, server.getsockname()[1])
        guest.host.write(to_server, b"ask", end=True)
        with server.accept()[0] as client:
            assert (client.recv(100), client.recv(100)) == (b"ask", b"")
            client.sendall(b"answer")
        assert guest.host.read_all(from_server) == b"answer"
        guest.host.call("socket.close", input=to_server)


def test_a_port_where_nobody_listens(guest: Guest) -> None:
    with serving(guest, "127.0.0.1") as server:
        port = server.getsockname()[1]
    with pytest.raises(Refused) as refused:
        to_port(guest, port)
    assert refused.value.errno == errno.ECONNREFUSED
    with pytest.raises(Refused) as refused:
        guest.host.call("socket.connect", port=port, input=3, output=3)
    assert refused.value.errno == errno.EINVAL
