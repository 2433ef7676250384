"""Network namespaces as hosts, and guests whose tap is pumped by a thread: what the network tests are made of."""

import ctypes
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hypercontainer.hypervisor.host.tap import open_tap
from hypercontainer.model.record import NicRecord

CLONE_NEWNET = 0x40000000
PATIENCE_S = 10.0


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, and what it starts or opens, is in the network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), CLONE_NEWNET) == 0


@contextmanager
def namespace(name: str) -> Iterator[str]:
    name = f"{name}-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with inside(name):
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
            ip("link set lo up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True)


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def links() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output("ip", "-j", "link"))
    return found


def await_carriers() -> None:
    """Of all interfaces: the kernel finds out a little later than they are there, and until then routes are dead."""
    while not all(one["operstate"] == "UP" for one in links() if one["ifname"] != "lo"):
        continue


def state() -> dict[str, str]:
    """Everything of a namespace that must be as it was."""
    names = sorted(line.split(": ", 2)[1] for line in output("ip", "-o", "link").splitlines())
    return {"rules": output("nft", "list", "ruleset"), "links": "\n".join(names)}


@contextmanager
def guest(nic: NicRecord, host: str) -> Iterator[str]:
    """A namespace that stands for a VM: it makes the pod's tap, and its eth0 is joined to that as QEMU would join a
    NIC. The tap is not plugged."""
    with ExitStack() as stack:
        name = stack.enter_context(namespace(nic.tap))
        with inside(host):
            outer = open_tap(nic.tap, 0)
        stack.callback(os.close, outer)
        with inside(name):
            inner = open_tap("eth0", 0)
            stack.callback(os.close, inner)
            ip(
                f"link set eth0 address {nic.mac} mtu {nic.mtu} up",
                f"addr add {nic.address} dev eth0",
                *([f"route add default via {nic.gateway}"] if nic.gateway else []),
                f"addr add {nic.address6} dev eth0 nodad",
                *([f"route add default via {nic.gateway6} dev eth0"] if nic.gateway6 else []),
            )
        stack.enter_context(pumping(outer, inner))
        yield name


@contextmanager
def pumping(a: int, b: int) -> Iterator[None]:
    stop, stopper = os.pipe()

    def pump() -> None:
        other = {a: b, b: a}
        while True:
            for fd in select.select([a, b, stop], [], [])[0]:
                if fd == stop:
                    return
                try:
                    os.write(other[fd], os.read(fd, 1 << 17))
                except OSError:
                    pass  # the interface is down, or gone

    thread = threading.Thread(target=pump)
    thread.start()
    try:
        yield
    finally:
        os.close(stopper)
        thread.join()
        os.close(stop)


class Server:
    """Answers each client, TCP or UDP, with its own name and the client's address as it sees it."""

    def __init__(self, namespace: str, name: str, port: int) -> None:
        self.name = name
        self.seen: list[str] = []
        with inside(namespace):
            self._tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._udp.bind(("::", port))
        self._threads = [threading.Thread(target=self._serve_tcp), threading.Thread(target=self._serve_udp)]
        for thread in self._threads:
            thread.start()

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, peer = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self._answer(peer))

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(2048)
            if data == b"end":
                return
            self.seen.append(data.decode())
            self._udp.sendto(self._answer(peer), peer)

    def _answer(self, peer: tuple[str, int]) -> bytes:
        return f"{self.name} sees {peer[0].removeprefix('::ffff:')}".encode()

    def close(self) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        self._udp.sendto(b"end", ("::1", self._udp.getsockname()[1]))
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()


@contextmanager
def serving(namespace: str, name: str, port: int) -> Iterator[Server]:
    server = Server(namespace, name, port)
    try:
        yield server
    finally:
        server.close()


def ask(namespace: str, address: str, port: int, protocol: str = "tcp", source: str = "") -> str:
    """What a server answers to a client in the namespace."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with inside(namespace):
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    with s:
        s.settimeout(PATIENCE_S)
        if source:
            s.bind((source, 0))
        s.connect((address, port))
        if protocol == "udp":
            s.send(b"hello")
        return s.recv(2048).decode()
