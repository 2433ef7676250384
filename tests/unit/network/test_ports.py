"""Ports: overlaps between what pods ask for, and a guard that holds what it says it holds."""

import os
import socket
from collections.abc import Iterator

import pytest

from hypercontainer.errors import Exhausted, InUse, InvalidInput
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import PortMapping
from hypercontainer.network import ports
from hypercontainer.network.rules import elements


def record(host_ip: str = "127.0.0.1", host_port: int = 0, protocol: str = "tcp") -> PortRecord:
    return PortRecord(host_ip=host_ip, host_port=host_port, container_port=80, protocol=protocol)


def nic(*published: PortRecord) -> NicRecord:
    return NicRecord(
        tap="hya1",
        mac="02:68:0a:00:00:02",
        addresses=["10.0.0.2/24", "fd00::2/64"],
        ports=list(published),
    )


@pytest.fixture
def free() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def guard() -> Iterator[ports.PortGuard]:
    guard = ports.PortGuard()
    yield guard
    guard.close()


@pytest.mark.parametrize(
    ("mine", "theirs", "clash"),
    [
        ("", "", True),
        ("", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "::", False),
        ("", "::1", True),
        ("::", "::1", True),
    ],
)
def test_addresses_that_overlap_clash(mine: str, theirs: str, clash: bool, free: int) -> None:
    wanted = [PortMapping(host_ip=mine, host_port=free, container_port=80)]
    if clash:
        with pytest.raises(InUse, match="container web publishes it") as used:
            ports.assign(wanted, [nic(record(theirs, free))], {"hya1": "container web"})
        assert (used.value.what, used.value.by) == ("port", ["container web"])
    else:
        assert ports.assign(wanted, [nic(record(theirs, free))])


def test_protocols_do_not_clash(free: int) -> None:
    wanted = [PortMapping(host_port=free, container_port=80, protocol=p) for p in ("tcp", "udp")]
    assert [p.protocol for p in ports.assign(wanted, [])] == ["tcp", "udp"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"container_port": 0},
        {"container_port": 65536},
        {"container_port": 80, "host_port": -1},
        {"container_port": 80, "host_port": 70000},
        {"container_port": 80, "host_ip": "localhost"},
        {"container_port": 80, "host_ip": "224.0.0.1"},
        {"container_port": 80, "host_ip": "1.2.3.4 } drop"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        ports.assign([PortMapping(**wrong)], [])  # type: ignore[arg-type]


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the most"):
        ports.assign([PortMapping(container_port=80)] * (ports.MAX_PORTS + 1), [])


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_guarded_port_cannot_be_taken(guard: ports.PortGuard, free: int, protocol: str, kind: int) -> None:
    port = record("127.0.0.1", free, protocol)
    guard.hold("hya1", [port])
    guard.hold("hya1", [port])
    with socket.socket(socket.AF_INET, kind) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError):
            s.bind(("127.0.0.1", free))
    guard.release("hya1", [port])
    guard.release("hya1")
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", free))


def test_all_ports_or_none(guard: ports.PortGuard, free: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(InUse, match=rf"127\.0\.0\.1:{taken}/tcp: .* \(process {os.getpid()}\) has it"):
            guard.hold("hya1", [record("127.0.0.1", free), record("127.0.0.1", taken)])
    with socket.socket() as s:
        s.bind(("127.0.0.1", free))


def test_a_guarded_port_refuses_connections(guard: ports.PortGuard, free: int) -> None:
    guard.hold("hya1", [record("127.0.0.1", free)])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free))


def test_where_a_port_leads() -> None:
    everywhere, one, six = record("", 8080), record("1.2.3.4", 53, "udp"), record("::", 81)
    assert [tuple(e) for e in elements(nic(), [everywhere, one, six])] == [
        ("any4", ("tcp", "8080"), ("10.0.0.2", "80")),
        ("any6", ("tcp", "8080"), ("fd00::2", "80")),
        ("host4", ("1.2.3.4", "udp", "53"), ("10.0.0.2", "80")),
        ("any6", ("tcp", "81"), ("fd00::2", "80")),
    ]


def test_a_free_one_of_a_range() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        first = held.getsockname()[1]
        last = min(first + 50, 65535)
        wanted = PortMapping(host_ip="127.0.0.1", host_port=first, host_port_last=last, container_port=80)
        chosen = [port.host_port for port in ports.assign([wanted, wanted], [])]
        assert len(set(chosen)) == 2
        assert all(first < port <= last for port in chosen)
        narrow = PortMapping(host_ip="127.0.0.1", host_port=first, host_port_last=first, container_port=80)
        with pytest.raises(Exhausted, match=f"none of {first} to {first} is free"):
            ports.assign([narrow], [])
    for first, last in ((0, 5), (6, 5), (6, 65536)):
        with pytest.raises(InvalidInput, match="no range of ports"):
            ports.assign([PortMapping(host_port=first, host_port_last=last, container_port=80)], [])
