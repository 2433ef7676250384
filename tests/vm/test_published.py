"""Published ports over deaths of hyperd: the kernel leads to the pods, and all that it does so by is left alone."""

import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm import network
from tests.vm.conftest import GUEST_S, bridges, ok
from tests.vm.network import page
from tests.vm.test_networks import make

pytestmark = pytest.mark.vm

DEATHS = 10
SAY = "nc -l -p 7 -e cat & mkdir -p /tmp/w; echo {name} >/tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"

NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
RTMGRP = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links; addresses and routes of IPv4 and IPv6
RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE = 17, 21, 25
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, SO_RCVBUFFORCE = 270, 1, 33
BUFFER = 16 << 20


class Witness:
    """Hears what of some bridges is changed: rules, and links, addresses and routes that go."""

    def __init__(self, names: list[str]) -> None:
        self._names = [name.encode() + b"\0" for name in names]
        self._numbers = [struct.pack("=I", socket.if_nametoindex(name)) for name in names]
        self._rules = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        for s, groups in ((self._rules, 0), (self._links, RTMGRP)):
            s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            s.setblocking(False)
            s.bind((0, groups))
        self._rules.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def heard(self) -> list[bytes]:
        """Since it was asked last."""
        rules = [m for m in _messages(self._rules) if any(name in m for name in self._names)]
        gone = (RTM_DELLINK, RTM_DELADDR, RTM_DELROUTE)
        links = [m for m in _messages(self._links) if struct.unpack_from("=4xH", m)[0] in gone]
        return rules + [m for m in links if any(number in m for number in self._numbers)]

    def close(self) -> None:
        self._rules.close()
        self._links.close()


def _messages(s: socket.socket) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while data := s.recv(1 << 16):
            while data:
                length = struct.unpack_from("=I", data)[0]
                yield data[:length]
                data = data[(length + 3) & ~3 :]


class Echo:
    """A connection that lasts."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=GUEST_S)

    def answers(self, line: bytes) -> bool:
        self._socket.sendall(line)
        return self._socket.makefile("rb", buffering=0).readline() == line

    def close(self) -> None:
        self._socket.close()


@contextmanager
def asking(ports: dict[int, str]) -> Iterator[tuple[list[str], list[str]]]:
    """Connect anew all the time, from another thread: what was heard as it should be, and what was not."""
    well, ill, done = list[str](), list[str](), threading.Event()

    def ask() -> None:
        while not done.is_set():
            for port, name in ports.items():
                got = page(port)
                (well if got == f"{name}\n" else ill).append(got)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield well, ill
    finally:
        done.set()
        thread.join()


def served(hyper: PrivateDaemon, name: str, *flags: str) -> tuple[int, int]:
    """Where a container says its name, and where another port of it echoes; both listen."""
    say = ("busybox", "sh", "-c", SAY.format(name=name))
    publish = ("-p", network.ports(hyper), "-p", network.ports(hyper).replace(":80", ":7"))
    ok(hyper, "run", "-d", "--name", name, *publish, *flags, *say)
    listens = "until netstat -tln | grep -q ':80 ' && netstat -tln | grep -q ':7 '; do sleep 0.1; done"
    ok(hyper, "exec", name, "timeout", str(int(GUEST_S)), "sh", "-c", listens)
    said, echoed = (int(ok(hyper, "port", name, inside).rpartition(":")[2]) for inside in ("80", "7"))
    return said, echoed


def test_no_connection_fails_while_hyperd_dies(hyper: PrivateDaemon) -> None:
    make(hyper, "front")
    ends = {"web": served(hyper, "web", "--network", "front"), "api": served(hyper, "api")}
    lasting = [Echo(echoed) for _, echoed in ends.values()]
    witness = Witness([bridge.split()[-1] for bridge in bridges(hyper)])
    with asking({said: name for name, (said, _) in ends.items()}) as (well, ill):
        for _ in range(DEATHS):
            hyper.signal(signal.SIGKILL)
            assert all(echo.answers(b"while nobody is there\n") for echo in lasting)
            hyper.start()
            assert all(echo.answers(b"again\n") for echo in lasting)
    assert (ill, witness.heard()) == ([], []) and len(well) > DEATHS
    for echo in lasting:
        echo.close()
    ok(hyper, "rm", "-f", "web", "api")
    assert witness.heard()
    witness.close()
    ok(hyper, "network", "rm", "front")
