"""127.0.0.11 in a guest leads to the nameserver that its host names, and answers come from 127.0.0.11."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from hypercontainer.lib import netns
from tests import zig
from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import Refused

ASK = Path(__file__).parents[2] / "ask.c"
FIRST, SECOND = "127.0.0.201", "127.9.9.9"  # the last byte of one is a sign, if it is taken for one
WAIT_S = 60


@pytest.fixture(scope="session")
def ask_program(lower: Path) -> None:
    zig.program(lower / "bin/ask", ASK)


class Server:
    """Answers with its own address, in the guest's network namespace."""

    def __init__(self, guest: Guest, address: str) -> None:
        self.address = address
        outer = guest.process.pid
        inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
        with netns.opened(f"/proc/{inner}/ns/net") as fd:
            self.stream, self.datagrams = netns.inside(fd, self._open)
        self.place = {"address": address, "port": self.stream.getsockname()[1]}

    def _open(self) -> tuple[socket.socket, socket.socket]:
        stream, datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        stream.bind((self.address, 0))
        stream.listen()
        datagrams.bind(stream.getsockname())
        for s in (stream, datagrams):
            s.settimeout(WAIT_S)
        return stream, datagrams

    def serve(self, how: str) -> None:
        """One question."""
        if how != "tcp":
            data, sender = self.datagrams.recvfrom(512)
            self.datagrams.sendto(self._answer(data), sender)
            return
        connection, _ = self.stream.accept()
        with connection:
            said = self._answer(connection.recv(512)[2:])
            connection.sendall(len(said).to_bytes(2) + said)

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        said = dns.message.make_response(query)
        said.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", self.address))
        return said.to_wire()

    def close(self) -> None:
        self.stream.close()
        self.datagrams.close()


@pytest.fixture
def servers(guest: Guest) -> Iterator[list[Server]]:
    servers = [Server(guest, address) for address in (FIRST, SECOND)]
    yield servers
    for server in servers:
        server.close()


def asked(guest: Guest, how: str, server: Server) -> str:
    """What a program in the container hears."""
    name = f"{how}-{server.address}-{len(guest.host.events)}"
    streams = guest.start(name, "ask", how, "web.example")
    server.serve(how)
    said = guest.host.read_all(streams["stdout"]).decode()
    assert guest.host.exit_of(name)["status"] == 0
    return said


@pytest.mark.usefixtures("ask_program")
def test_questions_go_where_the_host_says(running: Guest, servers: list[Server]) -> None:
    first, second = servers
    running.host.call("pod.setup", nameserver=first.place)
    for how in ("sendto", "connect", "tcp"):
        assert asked(running, how, first) == f"127.0.0.11:53 0 {FIRST}\n"
    running.host.call("pod.setup", nameserver=first.place)  # again = no change
    running.host.call("pod.setup", hosts=[["1.2.3.4", "x"]])  # nor is it named by all
    assert asked(running, "sendto", first) == f"127.0.0.11:53 0 {FIRST}\n"
    running.host.call("pod.setup", nameserver=second.place)
    for how in ("sendto", "connect", "tcp"):
        assert asked(running, how, second) == f"127.0.0.11:53 0 {SECOND}\n"


@pytest.mark.usefixtures("ask_program")
def test_nothing_else_is_led_anywhere(running: Guest, servers: list[Server]) -> None:
    """Another port of that address, and that port of another one."""
    running.host.call("pod.setup", nameserver=servers[0].place)
    for place in ("127.0.0.11 54", "127.0.0.12 53"):
        assert running.sh(f"nc -w 5 {place} </dev/null")[0] == 1  # refused
    servers[0].stream.settimeout(0)
    with pytest.raises(BlockingIOError):
        servers[0].stream.accept()


def taken(guest: Guest, kind: str) -> tuple[int, int]:
    """The streams of a question, once the guest has told of it."""
    event = {"event": "connection", "target": kind}
    guest.host.until(lambda: event in guest.host.events)
    guest.host.events.remove(event)
    streams = guest.host.stream(output=False), guest.host.stream(output=True)
    guest.host.call("socket.accept", target=kind, input=streams[0], output=streams[1])
    return streams


def framed(guest: Guest, stream: int) -> bytes:
    """A question that came on `stream`, without its length."""
    data = guest.host.outputs[stream]
    guest.host.until(lambda: len(data.data) > 2 and len(data.data) >= 2 + int.from_bytes(data.data[:2]))
    return bytes(data.data[2:])


@pytest.mark.usefixtures("ask_program")
def test_questions_come_to_the_host_as_connections(running: Guest) -> None:
    running.host.call("pod.setup", resolver=True)
    running.host.call("pod.setup", resolver=True)  # again = no change
    running.host.call("socket.watch")
    for how, kind in (("sendto", "udp"), ("connect", "udp"), ("tcp", "tcp")):
        streams = running.start(how, "ask", how, "web.example")
        to_guest, from_guest = taken(running, kind)
        query = dns.message.from_wire(framed(running, from_guest))
        said = dns.message.make_response(query)
        said.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", FIRST))
        wire = said.to_wire()
        running.host.write(to_guest, len(wire).to_bytes(2) + wire, end=True)
        assert running.host.read_all(streams["stdout"]).decode() == f"127.0.0.11:53 0 {FIRST}\n"
        running.host.call("socket.close", input=to_guest)


@pytest.mark.usefixtures("ask_program")
def test_a_question_that_is_refused_is_forgotten(running: Guest) -> None:
    running.host.call("pod.setup", resolver=True)
    running.host.call("socket.watch")
    running.start("asker", "ask", "sendto", "web.example")
    event = {"event": "connection", "target": "udp"}
    running.host.until(lambda: event in running.host.events)
    running.host.events.remove(event)
    running.host.call("socket.accept", target="udp")
    with pytest.raises(Refused) as refused:
        running.host.call("socket.accept", target="udp")
    assert refused.value.errno == errno.EAGAIN


@pytest.mark.parametrize("bad", [
    {"address": "10.0.0.1"}, {"port": 53}, {"address": "fd00::1", "port": 53}, {"address": "", "port": 53},
    {"address": "10.0.0.1", "port": 0}, {"address": "10.0.0.1", "port": 65536},
    {"address": "10.0.0.1", "port": 53, "x": 1},
])  # fmt: skip
def test_what_is_no_place_is_refused(guest: Guest, bad: dict[str, object]) -> None:
    with pytest.raises(Refused):
        guest.host.call("pod.setup", nameserver=bad)
