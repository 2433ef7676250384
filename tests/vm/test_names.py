"""Names on networks, with real guests; and over the death of hyperd."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.vm.conftest import GUEST_S, ok
from tests.vm.test_networks import address, ask, make, serve

pytestmark = pytest.mark.vm

OUTSIDE = "192.0.2.77"
NXDOMAIN, SERVFAIL = "3", "2"


class Resolver:
    """The host's, or so a pod is told: it knows one name, by UDP and TCP."""

    def __init__(self, address: str) -> None:
        self.stream, self.datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.stream.bind((address, 53))
        self.datagrams.bind((address, 53))
        self.stream.listen()
        self._threads = [threading.Thread(target=serve) for serve in (self._by_udp, self._by_tcp)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def answer(data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        said, name = dns.message.make_response(query, recursion_available=True), query.question[0].name
        if str(name) != "outside.example.":
            said.set_rcode(dns.rcode.NXDOMAIN)
        elif query.question[0].rdtype == dns.rdatatype.A:
            said.answer.append(dns.rrset.from_text(name, 60, "IN", "A", OUTSIDE))
        return said.to_wire()

    def _by_udp(self) -> None:
        while True:
            data, sender = self.datagrams.recvfrom(4096)
            if not data:
                return
            self.datagrams.sendto(self.answer(data), sender)

    def _by_tcp(self) -> None:
        while True:
            connection, _ = self.stream.accept()
            with connection:
                data = connection.recv(4096)
                if not data:
                    return
                said = self.answer(data[2:])
                connection.sendall(len(said).to_bytes(2) + said)

    def close(self) -> None:
        place = self.stream.getsockname()
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            s.sendto(b"", place)
        socket.create_connection(place).close()
        for thread in self._threads:
            thread.join()
        self.stream.close()
        self.datagrams.close()


@contextmanager
def resolver(address: str) -> Iterator[None]:
    one = Resolver(address)
    try:
        yield
    finally:
        one.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zig.program(tmp_path_factory.mktemp("ask") / "ask", Path(__file__).parents[1] / "ask.c")


def heard(hyper: PrivateDaemon, name: str, wanted: str, how: str = "sendto") -> list[str]:
    """What `name` hears when it asks for an address: an error's number, addresses."""
    answerer, *said = ok(hyper, "exec", name, "/ask", how, wanted).split()
    assert answerer == "127.0.0.11:53"
    return said


def test_containers_find_each_other_by_name(hyper: PrivateDaemon, program: Path) -> None:
    front, _ = make(hyper, "front")
    make(hyper, "back", "--internal", "--ipv6")
    dns = f"--dns={front}.1"
    serve(hyper, "web", "--network", "name=front,alias=www", "--network", "back", dns)
    serve(hyper, "db", "--network", "name=back,alias=store", dns)
    serve(hyper, "one", "--network", "name=front,alias=app", dns)
    serve(hyper, "two", "--network", "name=front,alias=app", dns)
    serve(hyper, "plain")
    for name in ("web", "db", "one"):
        ok(hyper, "cp", str(program), f"{name}:/ask")
    conf = ok(hyper, "exec", "web", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in conf and "ndots:0" in conf and f"{front}.1" not in conf
    assert "127.0.0.11" not in ok(hyper, "exec", "plain", "cat", "/etc/resolv.conf")
    at = {name: address(hyper, name, "front") for name in ("web", "one", "two")}
    store = address(hyper, "db", "back")
    short = ok(hyper, "inspect", "-f", "{{.Id}}", "two")[:12]

    def all_is_well() -> None:
        assert ask(hyper, "one", "web") == ask(hyper, "one", "www") == ask(hyper, "db", "web") == "web"
        assert ask(hyper, "web", "store") == ask(hyper, "web", "db.back") == "db" and ask(hyper, "web", short) == "two"
        ok(hyper, "exec", "one", "ping", "-c", "1", "-w", str(int(GUEST_S)), "two")
        for how in ("sendto", "connect", "tcp"):
            assert heard(hyper, "one", "two", how) == ["0", at["two"]]
            assert heard(hyper, "web", "outside.example", how) == ["0", OUTSIDE]
            assert heard(hyper, "one", "db", how) == heard(hyper, "one", "plain", how) == [NXDOMAIN]
            assert heard(hyper, "db", "outside.example", how) == heard(hyper, "db", "one", how) == [SERVFAIL]
            assert heard(hyper, "db", "store", how) == ["0", store]
        turns = [heard(hyper, "one", "app") for _ in range(24)]
        assert {tuple(turn) for turn in turns} == {("0", at["one"], at["two"]), ("0", at["two"], at["one"])}

    with resolver(f"{front}.1"):
        all_is_well()
        hyper.signal(signal.SIGKILL)
        hyper.start()
        all_is_well()
        ok(hyper, "stop", "-t", "0", "two")
        assert heard(hyper, "one", "app") == ["0", at["one"]] and heard(hyper, "one", "two") == [NXDOMAIN]
    assert heard(hyper, "one", "outside.example") == [SERVFAIL]  # nobody is there any more
    assert "names do not resolve" not in ok(hyper, "info")
    ok(hyper, "rm", "-f", "web", "db", "one", "two", "plain")
    ok(hyper, "network", "rm", "front", "back")


def test_names_come_and_go_with_networks(hyper: PrivateDaemon, program: Path) -> None:
    for name in ("front", "back"):
        make(hyper, name)
    serve(hyper, "db", "--network", "back")
    serve(hyper, "web", "-p", "127.0.0.1::80")
    ok(hyper, "cp", str(program), "web:/ask")
    before = ok(hyper, "exec", "web", "cat", "/etc/resolv.conf")
    assert hyper.ctl("exec", "web", "/ask", "connect", "db").status == 1  # nobody is at 127.0.0.11
    ok(hyper, "network", "connect", "--alias", "shop", "front", "web")
    assert heard(hyper, "web", "shop") == ["0", address(hyper, "web", "front")]
    ok(hyper, "network", "connect", "--alias", "shop", "back", "web")
    assert ask(hyper, "web", "db") == "db" and ask(hyper, "db", "shop") == "web"
    ok(hyper, "network", "disconnect", "front", "web")  # through which it asked
    assert ask(hyper, "web", "db") == "db"
    ok(hyper, "rename", "db", "store")
    assert ask(hyper, "web", "store") == "db"
    ok(hyper, "network", "disconnect", "back", "web")
    assert ok(hyper, "exec", "web", "cat", "/etc/resolv.conf") == before
    ok(hyper, "rm", "-f", "web", "store")
    ok(hyper, "network", "rm", "front", "back")
