"""What a namespace's kernel says, beside what iproute2 says of it."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.host.tap import IFF_NO_PI, TUNSETIFF
from hypercontainer.lib.netlink import attribute
from hypercontainer.network import rtnetlink
from hypercontainer.network.rtnetlink import Address, Found, Hop, Neighbour, Route, Rule
from tests.interop.netns import inside, ip, namespace, output

IFF_TUN = 0x0001

root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


@pytest.fixture
def given() -> Iterator[str]:
    with namespace("hyrtn") as name, inside(name):
        ip("link add name eth0 address 02:00:00:00:00:07 mtu 1400 type veth peer name eth1")
        ip("link set eth0 addrgenmode none", "link set eth0 up", "link set eth1 addrgenmode none", "link set eth1 up")
        yield name


def look(given: str) -> Found:
    """Without what is of lo."""
    with inside(given):
        found = rtnetlink.look()
    lo = next(link for link in found.links if link.loopback)
    assert lo.name == "lo"
    addresses = [each for each in found.addresses if each.link != lo.number]
    routes = [route for route in found.routes if route.device != "lo"]
    links = [link for link in found.links if link is not lo]
    return found._replace(links=links, addresses=addresses, routes=routes)


@root
def test_interfaces(given: str) -> None:
    with inside(given):
        fd = open_tun("tun0")
    found = {link.name: link for link in look(given).links}
    os.close(fd)
    eth0 = found["eth0"]
    assert (eth0.kind, eth0.mac, eth0.mtu) == ("ether", "02:00:00:00:00:07", 1400)
    assert (found["eth1"].kind, found["tun0"].kind) == ("ether", "none")


def open_tun(name: str) -> int:
    """An interface that is no Ethernet; it goes with the descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


@root
def test_addresses(given: str) -> None:
    with inside(given):
        ip("addr add 10.0.0.2/24 dev eth0", "addr add 10.1.0.2 peer 10.1.0.1/32 dev eth0")
        ip("addr add fd00::2/64 dev eth0 nodad", "addr add fe80::2/64 dev eth0 nodad")
    found = look(given)
    eth0 = next(link.number for link in found.links if link.name == "eth0")
    assert sorted(found.addresses) == [
        Address(eth0, "10.0.0.2/24"),
        Address(eth0, "10.1.0.2/32"),
        Address(eth0, "fd00::2/64"),
        Address(eth0, "fe80::2/64", link_local=True),
    ]


@root
def test_an_address_that_somebody_else_has(given: str) -> None:
    with namespace("hyrtm") as other:
        with inside(given):
            ip(f"link set eth1 netns {other}")
        with inside(other):
            ip("link set eth1 up", "addr add fd00::2/64 dev eth1 nodad")
        with inside(given), open("/proc/sys/net/ipv6/conf/eth0/accept_dad", "w") as f:
            f.write("1")
        with inside(given), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as told:
            told.bind((0, 0x100))
            told.settimeout(20)
            ip("addr add fd00::2/64 dev eth0")
            while not [each for each in look(given).addresses if each.taken]:
                told.recv(65536)
        [address] = look(given).addresses
        assert (address.text, address.taken) == ("fd00::2/64", True)


@root
def test_routes(given: str) -> None:
    with inside(given):
        ip("addr add 10.0.0.2/24 dev eth0", "addr add fd00::2/64 dev eth0 nodad")
        ip("route add default via 10.0.0.1", "route add default via fd00::1", "route add 10.9.0.9 dev eth0")
        ip("route add 10.8.0.0/16 via 10.5.0.1 dev eth0 onlink", "route add fd08::/32 dev eth0")
        ip("route add 10.7.0.0/16 dev eth0 table 7", "route add blackhole 10.6.0.0/16")
        ip("route add 10.4.0.0/16 via inet6 fd00::1 dev eth0")
        ip("route add 10.3.0.0/16 nexthop via 10.0.0.1 dev eth0 nexthop via 10.0.0.3 dev eth0")
        ip("route add 10.2.0.0/16 via 10.0.0.1 src 10.0.0.2 metric 9 mtu 1280")
        ip("route add unreachable fd03::/32")
        output(
            "ip",
            *[
                "-6",
                "route",
                "add",
                "fd04::/32",
                "nexthop",
                "via",
                "fd00::1",
                "nexthop",
                "via",
                "fd00::3",
                "weight",
                "2",
            ],
        )
    assert {route.dst + "/" * (":" in route.gateway): route for route in look(given).routes} == {
        "10.0.0.0/24": Route("10.0.0.0/24", "eth0", kernels=True, source="10.0.0.2"),
        "fd00::/64": Route("fd00::/64", "eth0", kernels=True, metric=256),
        "default": Route("default", "eth0", "10.0.0.1"),
        "default/": Route("default", "eth0", "fd00::1"),
        "10.9.0.9": Route("10.9.0.9", "eth0"),
        "10.8.0.0/16": Route("10.8.0.0/16", "eth0", "10.5.0.1", onlink=True),
        "fd08::/32": Route("fd08::/32", "eth0"),
        "10.7.0.0/16": Route("10.7.0.0/16", "eth0", table=7),
        "10.6.0.0/16": Route("10.6.0.0/16", "", kind="blackhole"),
        "10.4.0.0/16": Route("10.4.0.0/16", "eth0", plain=False),
        "10.3.0.0/16": Route("10.3.0.0/16", "", hops=(Hop("10.0.0.1", "eth0"), Hop("10.0.0.3", "eth0"))),
        "10.2.0.0/16": Route("10.2.0.0/16", "eth0", "10.0.0.1", metric=9, source="10.0.0.2", metrics=(2, 1280)),
        "fd04::/32": Route("fd04::/32", "", hops=(Hop("fd00::1", "eth0"), Hop("fd00::3", "eth0", 2))),
    }
    with inside(given):
        said = [route for route in rtnetlink.look().routes if route.dst == "fd03::/32"]
    assert said == [Route("fd03::/32", "lo", kind="unreachable")]


@root
def test_rules_and_neighbours(given: str) -> None:
    with inside(given):
        ip("rule add from 10.0.0.2 table 7 prio 70")
        output("ip", *["-6", "rule", "add", "to", "fd00::/64", "table", "1000", "prio", "71"])
        ip("rule add fwmark 5 table 7 prio 72", "rule add from 10.0.0.0/8 blackhole prio 73")
        ip(
            "neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0",
            "neigh add fd00::9 lladdr 02:00:00:00:00:08 dev eth0",
        )
    found = look(given)
    eth0 = next(link.number for link in found.links if link.name == "eth0")
    assert [rule for rule in found.rules if rule.plain] == [
        Rule(4, 70, 7, source="10.0.0.2/32"), Rule(6, 71, 1000, dst="fd00::/64"),
    ]  # fmt: skip
    assert [rule.priority for rule in found.rules if not rule.plain] == [72, 73]
    assert sorted(found.neighbours) == [
        Neighbour(eth0, "10.0.0.9", "02:00:00:00:00:09"), Neighbour(eth0, "fd00::9", "02:00:00:00:00:08"),
    ]  # fmt: skip


@root
def test_more_than_the_kernel_says_at_once(given: str) -> None:
    with inside(given):
        ip("addr add 10.0.0.2/24 dev eth0")
        ip(*(f"route add 10.{100 + n // 200}.{n % 200}.0/24 via 10.0.0.1" for n in range(5000)))
    assert len([route for route in look(given).routes if route.gateway]) == 5000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        rtnetlink.IFADDR.pack(socket.AF_INET, 24, 0, 0, 1),
        rtnetlink.IFADDR.pack(socket.AF_INET, 24, 0, 0, 1) + attribute(rtnetlink.IFA_LOCAL, b"abc"),
        rtnetlink.IFADDR.pack(socket.AF_INET, 24, 0, 0, 1) + struct.pack("=HH", 100, rtnetlink.IFA_LOCAL),
        rtnetlink.IFADDR.pack(socket.AF_INET, 24, 0, 0, 1) + struct.pack("=HH", 0, rtnetlink.IFA_LOCAL),
    ],
)
def test_what_is_cut_short_is_said(body: bytes) -> None:
    with pytest.raises(HyperError, match="cannot read what the kernel says"):
        rtnetlink.address_of(body)
