"""The network for real: namespaces as hosts, real taps, real clients, the kernel's own rules."""

import asyncio
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

import dns.message
import msgspec
import pytest

from hypercontainer.errors import Exhausted, HyperError, InUse, InvalidInput
from hypercontainer.hypervisor.host.tap import open_tap
from hypercontainer.model.record import NicRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import PortMapping
from hypercontainer.network import answers, bridge, ipam, tap
from hypercontainer.network.base import Place
from hypercontainer.network.bridge_network import BridgeNetwork
from hypercontainer.network.ipam import link_local
from hypercontainer.network.nameserver import PORT, Nameserver
from hypercontainer.network.nft import Nft
from hypercontainer.network.rules import base, gone, mark
from hypercontainer.network.store import default
from hypercontainer.testing.network_contract import NetworkContract, Seen, Vmm
from tests.interop import netns
from tests.interop.frames import ROUTER, advert, arp, ethernet, icmp6, packed, solicit, udp4, udp6
from tests.interop.netns import ask, inside, ip, output, serving

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
]


def plan(bridge: str, subnet: str, subnet6: str = "") -> ipam.Plan:
    """The network of settings that say this."""
    return ipam.plan(default(Settings(bridge=bridge, subnet=subnet, subnet6=subnet6)))


SETTINGS = Settings(bridge="hytest0", subnet="10.99.0.0/24", subnet6="fd99::/64")
PLAN = ipam.plan(default(SETTINGS))
OTHER = plan("hytest1", "10.98.0.0/24", "fd98::/64")
INTERNAL = replace(plan("hytest2", "10.97.0.0/24", "fd97::/64"), internal=True)
UID = 1_900_000_001
VNET_HEADER = 10  # bytes before each frame of a tap


@dataclass
class World:
    """A host with a network, and another machine on the wire outside."""

    host: str
    outside: str
    network: BridgeNetwork
    address: str = "198.51.100.1"
    address6: str = "2001:db8::1"
    beyond: str = "198.51.100.2"
    beyond6: str = "2001:db8::2"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with netns.namespace("hyout") as outside, netns.namespace("hyhost") as host, inside(host):
        ip(
            f"link add name wire type veth peer name wire netns {outside}",
            "addr add 198.51.100.1/24 dev wire",
            "addr add 198.51.100.9/24 dev wire",
            "addr add 2001:db8::1/64 dev wire nodad",
            "link set wire up",
        )
        with inside(outside):
            ip("addr add 198.51.100.2/24 dev wire", "addr add 2001:db8::2/64 dev wire nodad", "link set wire up")
            # A neighbour that knows of our pods and tries the direct way.
            ip("route add 10.99.0.0/24 via 198.51.100.1", "route add fd99::/64 via 2001:db8::1")
        network = BridgeNetwork(PLAN, tmp_path)
        yield World(host, outside, network)
        network.close()


def port(host_port: int, container_port: int = 80, protocol: str = "tcp", host_ip: str = "") -> PortMapping:
    return PortMapping(host_port=host_port, container_port=container_port, protocol=protocol, host_ip=host_ip)  # type: ignore[arg-type]


@contextmanager
def tap_of(nic: NicRecord) -> Iterator[None]:
    """The tap of a VMM that does nothing."""
    fd = open_tap(nic.tap, UID)
    try:
        yield
    finally:
        os.close(fd)


class BridgeContract(NetworkContract):
    @pytest.fixture
    def vmm(self) -> Vmm:
        return tap_of

    @pytest.fixture
    def seen(self) -> Seen:
        return netns.state


class TestBridgeNetwork(BridgeContract):
    @pytest.fixture
    def network(self, world: World) -> BridgeNetwork:
        return world.network


class TestAnotherBridge(BridgeContract):
    """Beside the first one."""

    @pytest.fixture(params=[OTHER, INTERNAL], ids=["other", "internal"])
    async def network(
        self, world: World, request: pytest.FixtureRequest, tmp_path: Path
    ) -> AsyncIterator[BridgeNetwork]:
        await world.network.ensure()
        network = BridgeNetwork(request.param, tmp_path)
        yield network
        network.close()


class Pods:
    """Pods of a network, each a guest with a server on port 80."""

    def __init__(self, host: str, network: BridgeNetwork, stack: ExitStack) -> None:
        self.host, self.network, self.stack, self.nics = host, network, stack, list[NicRecord]()

    async def add(self, name: str, *ports: PortMapping) -> tuple[str, NicRecord, netns.Server]:
        [nic] = await self.network.plan(name, ports, self.nics)
        await self.network.create(nic)
        self.nics.append(nic)
        guest = self.stack.enter_context(netns.guest(nic, self.host))
        with inside(self.host):
            await self.network.plug(nic)
        return guest, nic, self.stack.enter_context(serving(guest, name, 80))


@pytest.fixture
async def pods(world: World) -> AsyncIterator[Pods]:
    await world.network.ensure()
    with ExitStack() as stack:
        yield Pods(world.host, world.network, stack)


@asynccontextmanager
async def pods_of(plan: ipam.Plan, world: World, folder: Path) -> AsyncIterator[Pods]:
    """Those of another network of the world."""
    network = BridgeNetwork(plan, folder)
    await network.ensure()
    with ExitStack() as stack:
        yield Pods(world.host, network, stack)
    network.close()


@pytest.fixture
async def others(pods: Pods, world: World, tmp_path: Path) -> AsyncIterator[Pods]:
    async with pods_of(OTHER, world, tmp_path) as made:
        yield made


@pytest.fixture
async def shut_in(pods: Pods, world: World, tmp_path: Path) -> AsyncIterator[Pods]:
    """In an internal network; they look for ways out by the host."""
    async with pods_of(INTERNAL, world, tmp_path) as made:
        yield made


def open_ways(guest: str) -> None:
    """Routes to everywhere that its network does not give."""
    with inside(guest):
        ip("route add default via 10.97.0.1", "route add default via fd97::1 dev eth0")


async def test_a_pod_reaches_the_world_by_the_hosts_address(world: World, pods: Pods) -> None:
    guest, nic, _ = await pods.add("a1")
    with serving(world.outside, "world", 80):
        for protocol in ("tcp", "udp"):
            assert ask(guest, world.beyond, 80, protocol) == "world sees 198.51.100.1"
            assert ask(guest, world.beyond6, 80, protocol) == "world sees 2001:db8::1"
    assert nic.address == "10.99.0.2/24"
    assert nic.address6 == "fd99::2/64"


async def test_pods_reach_each_other_and_the_host(world: World, pods: Pods) -> None:
    one, nic1, _ = await pods.add("a1")
    two, nic2, _ = await pods.add("a2")
    assert ask(one, "10.99.0.3", 80) == "a2 sees 10.99.0.2"
    assert ask(two, "fd99::2", 80, "udp") == "a1 sees fd99::3"
    with serving(world.host, "host", 81):
        assert ask(one, nic1.gateway, 81) == "host sees 10.99.0.2"
        assert ask(two, nic2.gateway6, 81) == "host sees fd99::3"


@pytest.mark.parametrize("bridge_netfilter", ["0", "1"])  # docker and kubernetes switch it on
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_published_port_is_reached_from_everywhere(
    world: World, pods: Pods, protocol: str, bridge_netfilter: str
) -> None:
    for switch in Path("/proc/sys/net/bridge").glob("bridge-nf-call-ip*tables"):
        switch.write_text(bridge_netfilter)
    one, _, _ = await pods.add("a1", port(8080, protocol=protocol))
    two, nic, _ = await pods.add("a2")
    assert ask(world.outside, world.address, 8080, protocol) == "a1 sees 198.51.100.2"
    assert ask(world.outside, world.address6, 8080, protocol) == "a1 sees 2001:db8::2"
    assert ask(world.host, "127.0.0.1", 8080, protocol) == "a1 sees 10.99.0.1"
    assert ask(world.host, world.address, 8080, protocol).startswith("a1 sees")
    assert ask(world.host, world.address6, 8080, protocol).startswith("a1 sees")
    assert ask(two, nic.gateway, 8080, protocol) == "a1 sees 10.99.0.1"  # hairpins, by the bridge's address
    assert ask(two, nic.gateway6, 8080, protocol) == "a1 sees fd99::1"
    assert ask(two, world.address, 8080, protocol) == "a1 sees 10.99.0.1"  # and by the host's
    assert ask(one, world.address, 8080, protocol) == "a1 sees 10.99.0.1"  # a pod by its own published port
    assert ask(one, world.address6, 8080, protocol) == "a1 sees fd99::1"


async def test_a_port_is_published_at_one_address(world: World, pods: Pods) -> None:
    await pods.add("a1", port(8080, host_ip="198.51.100.9"), port(8081, host_ip="127.0.0.1"))
    await pods.add("a2", port(8080, host_ip="198.51.100.1"), port(8082, host_ip="2001:db8::1"))
    assert ask(world.outside, "198.51.100.9", 8080).startswith("a1")
    assert ask(world.outside, "198.51.100.1", 8080).startswith("a2")
    assert ask(world.host, "127.0.0.1", 8081).startswith("a1")
    assert ask(world.outside, "2001:db8::1", 8082).startswith("a2")
    for address, number in (("198.51.100.1", 8081), ("198.51.100.1", 8082), ("2001:db8::1", 8080)):
        with pytest.raises(ConnectionRefusedError):
            ask(world.outside, address, number)


async def test_loopback_by_ipv6_is_refused_at_once(world: World, pods: Pods) -> None:
    """Clients that ask "localhost" go on to 127.0.0.1 then; silence would hold them up."""
    await pods.add("a1", port(8080))
    with pytest.raises(ConnectionRefusedError):
        ask(world.host, "::1", 8080)


async def test_neighbours_reach_nothing_that_is_not_published(world: World, pods: Pods) -> None:
    _, _, server = await pods.add("a1", port(8080, protocol="udp"))
    with inside(world.outside), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"direct", ("10.99.0.2", 80))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s6:
            s6.sendto(b"direct", ("fd99::2", 80))
    assert ask(world.outside, world.address, 8080, "udp").startswith("a1")
    assert server.seen == ["hello"]


def send(guest: str, *frames: bytes) -> None:
    with inside(guest), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("eth0", 0))
        for frame in frames:
            s.send(frame)


async def test_a_pod_cannot_pretend_to_be_another(world: World, pods: Pods) -> None:
    one, nic1, _ = await pods.add("a1")
    _, nic2, server = await pods.add("a2")
    await pods.add("a3")

    def frame(data: bytes, mac: str = nic1.mac, address: str = "10.99.0.2") -> bytes:
        return ethernet(udp4(address, "10.99.0.3", 80, data), source=mac, target=nic2.mac)

    tagged = frame(b"by a VLAN", address="10.99.0.4")
    send(
        one,
        frame(b"address", address="10.99.0.4"),
        frame(b"gateway", address="10.99.0.1"),
        frame(b"mac", mac="02:68:0a:63:00:04"),
        tagged[:12] + struct.pack("!HH", 0x8100, 1) + tagged[12:],
        frame(b"true"),
    )
    assert ask(one, "10.99.0.3", 80, "udp") == "a2 sees 10.99.0.2"
    assert server.seen == ["true", "hello"]


async def test_a_pod_cannot_take_anothers_place_in_its_neighbours_tables(world: World, pods: Pods) -> None:
    one, nic1, _ = await pods.add("a1")
    two, nic2, _ = await pods.add("a2")
    _, nic3, _ = await pods.add("a3")
    with inside(two):
        Path("/proc/sys/net/ipv4/neigh/eth0/locktime").write_text("0")  # believes news at once
    assert ask(two, "10.99.0.4", 80) and ask(two, "fd99::4", 80)  # two knows three
    await pods.add("a4")  # a while passes: news within one tick of the kernel's clock are not news
    mac1, mac2 = (bytes.fromhex(nic.mac.replace(":", "")) for nic in (nic1, nic2))
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac1 + socket.inet_aton("10.99.0.4")
    arp += mac2 + socket.inet_aton("10.99.0.3")
    send(one, ethernet(arp, source=nic1.mac, target=nic2.mac, kind=0x0806))
    with inside(one), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        override = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, "fd99::4")
        s.sendto(override + b"\x02\x01" + mac1, ("fd99::3", 0))
        router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
        s.sendto(router, ("ff02::1%eth0", 0))
    assert ask(one, "10.99.0.3", 80) and ask(one, "fd99::3", 80)  # whatever came before has been seen
    with inside(two):
        known = json.loads(output("ip", "-j", "neigh"))
        routes = json.loads(output("ip", "-j", "-6", "route", "show", "default"))
    assert {n["lladdr"] for n in known if n["dst"] in ("10.99.0.4", "fd99::4")} == {nic3.mac}
    assert [route["gateway"] for route in routes] == ["fd99::1"]


def mac_of(link: str) -> str:
    return str(json.loads(output("ip", "-j", "link", "show", link))[0]["address"])


async def test_networks_are_apart_but_for_published_ports(world: World, pods: Pods, others: Pods) -> None:
    """Whatever route a guest takes, and whoever it says that it is."""
    _, nic, server = await pods.add("a1", port(8080, protocol="udp"), port(8080))
    guest, own, _ = await others.add("b1")
    assert nic.address == "10.99.0.2/24" and own.address == "10.98.0.2/24"
    with inside(guest), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"direct", ("10.99.0.2", 80))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s6:
            s6.sendto(b"direct", ("fd99::2", 80))
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.setblocking(False)
            assert tcp.connect_ex(("10.99.0.2", 80)) == errno.EINPROGRESS
    for source, mac in (("10.99.0.3", own.mac), ("10.99.0.1", own.mac), ("10.98.0.2", nic.mac)):
        send(guest, ethernet(udp4(source, "10.99.0.2", 80, b"spoofed"), source=mac, target=mac_of("hytest1")))
        send(guest, ethernet(udp4(source, "10.99.0.2", 80, b"spoofed"), source=mac, target=nic.mac))
    for protocol in ("udp", "tcp"):
        for address in (world.address, "10.98.0.1", "10.99.0.1"):  # by the host, which answers for the port
            assert ask(guest, address, 8080, protocol) == "a1 sees 10.99.0.1"
        assert ask(guest, world.address6, 8080, protocol) == "a1 sees fd99::1"
    assert set(server.seen) == {"hello"}


async def test_nothing_leads_out_of_an_internal_network(world: World, pods: Pods, shut_in: Pods) -> None:
    one, _, _ = await shut_in.add("c1")
    await shut_in.add("c2")
    _, nic, server = await pods.add("a1", port(8080, protocol="udp"))
    open_ways(one)
    assert ask(one, "10.97.0.3", 80) == "c2 sees 10.97.0.2"
    assert ask(one, "fd97::3", 80, "udp") == "c2 sees fd97::2"
    with serving(world.outside, "world", 80) as beyond, serving(world.host, "host", 81) as host:
        with inside(one), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for address, number in ((world.beyond, 80), (world.address, 81), ("10.99.0.2", 80), ("10.99.0.1", 81)):
                s.sendto(b"out", (address, number))
            for gateway in (world.address, "10.97.0.1", "10.99.0.1"):
                s.sendto(b"out", (gateway, 8080))
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s6:
                for address, number in ((world.beyond6, 80), (world.address6, 81), ("fd99::2", 80), ("fd97::1", 8080)):
                    s6.sendto(b"out", (address, number))
        for source in ("10.99.0.3", "10.97.0.3", world.beyond):
            send(one, ethernet(udp4(source, world.beyond, 80, b"out"), source="02:68:0a:61:00:02",
                               target=mac_of("hytest2")))  # fmt: skip
        assert ask(one, "10.97.0.1", 81, "udp") == "host sees 10.97.0.2"  # the host's own address is in it
        assert ask(world.host, world.beyond, 80, "udp") and ask(world.outside, world.address, 8080, "udp")
        assert (set(beyond.seen), set(server.seen), host.seen) == ({"hello"}, {"hello"}, ["hello"])
    with pytest.raises(InvalidInput, match="it is internal"):
        await shut_in.network.plan("c3", [port(8081)], [])
    assert nic.gateway and not shut_in.nics[0].routes


class Everybody:
    """Whoever asks knows one name."""

    id = "p"

    def addresses(self, name: str) -> Sequence[answers.Address] | None:
        return [IPv4Address("10.98.0.9")] if name == "db" else None

    def name(self, address: answers.Address) -> str:
        return ""

    def servers(self) -> Sequence[str]:
        return []


def resolve(namespace: str, place: Place, kind: socket.SocketKind) -> str:
    """The address of `db`, as one hears it who asks from there."""
    question = dns.message.make_query("db", "A").to_wire()
    with inside(namespace), socket.socket(socket.AF_INET, kind) as s:
        s.settimeout(netns.PATIENCE_S)
        s.connect(place)
        s.sendall(question if kind == socket.SOCK_DGRAM else len(question).to_bytes(2) + question)
        said = s.recv(512)[0 if kind == socket.SOCK_DGRAM else 2 :]
    return str(dns.message.from_wire(said).answer[0][0])


async def test_names_are_told_to_who_asks_by_the_bridge(world: World, pods: Pods, tmp_path: Path) -> None:
    """Not to a pod of another network, nor to a neighbour on the wire. This host's own programs are no pods."""
    heard: list[str] = []
    names = Nameserver(lambda address: heard.append(address) or Everybody())  # type: ignore[func-returns-value]
    network = BridgeNetwork(OTHER, tmp_path, names)
    await network.ensure()
    assert network.nameserver == ("10.98.0.1", PORT) and names.troubles() == [] and world.network.nameserver is None
    with inside(world.outside):
        ip("route add 10.98.0.0/24 via 198.51.100.1")
    with ExitStack() as stack:
        guest, nic, _ = await Pods(world.host, network, stack).add("b1")
        stranger, _, _ = await pods.add("a1")
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            assert await asyncio.to_thread(resolve, guest, network.nameserver, kind) == "10.98.0.9"
            for other in (stranger, world.outside):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.to_thread(resolve, other, network.nameserver, kind)
        assert set(heard) == {"10.98.0.2"}
        ip("link del hytest1")  # as somebody's tool may
        await network.ensure()
        await network.plug(nic)
        assert await asyncio.to_thread(resolve, guest, network.nameserver, socket.SOCK_DGRAM) == "10.98.0.9"
    await network.destroy()
    await names.close()


async def test_one_of_two_networks_goes(world: World, pods: Pods, others: Pods) -> None:
    one, _, _ = await pods.add("a1", port(8080))
    await others.network.destroy()
    assert "hytest1" not in str(netns.state())
    assert ask(world.outside, world.address, 8080) == "a1 sees 198.51.100.2"
    await others.network.ensure()
    _, nic, _ = await others.add("b1", port(8081))
    assert ask(one, world.address, 8081) == "b1 sees 10.98.0.1"
    await others.network.remove(nic)


async def test_rules_of_others_keep_their_name(world: World, tmp_path: Path) -> None:
    output("nft", "add table inet filter { chain c { ip saddr 1.2.3.4 drop; }; }")
    before = netns.state()
    network = BridgeNetwork(plan("filter", "10.96.0.0/24"), tmp_path)
    with pytest.raises(InUse, match="a table inet filter of others"):
        await network.ensure()
    await network.destroy()
    assert netns.state() == before


async def test_what_a_tap_says_of_others_reaches_nobody(world: World) -> None:
    """By whatever bytes: a guest's root, or who has taken the VMM over, writes any frame."""
    await world.network.ensure()
    nics = await world.network.plan("a1", [], [])
    nics += await world.network.plan("a2", [], nics)
    for nic in nics:
        await world.network.create(nic)
    with ExitStack() as stack:
        fds = []
        for nic in nics:
            fds.append(open_tap(nic.tap, UID))
            stack.callback(os.close, fds[-1])
            await world.network.plug(nic)
        mac, other = nics[0].mac, nics[1].mac
        everybody, local = "ff:ff:ff:ff:ff:ff", str(link_local(mac))

        def ether(payload: bytes, kind: int, target: str = everybody, source: str = mac) -> bytes:
            return ethernet(payload, source=source, target=target, kind=kind)

        def six(payload: bytes) -> bytes:
            return ether(payload, 0x86DD, "33:33:00:00:00:01")

        offer = udp4("10.99.0.2", "255.255.255.255", 68, b"offer", source_port=67)
        forged = {
            "an answer for the gateway": ether(arp(2, mac, "10.99.0.1"), 0x0806),
            "a question by another": ether(arp(1, mac, "10.99.0.3"), 0x0806),
            "a question by nobody": ether(arp(1, mac, "0.0.0.0"), 0x0806),
            "another's MAC": ether(arp(2, other, "10.99.0.2"), 0x0806),
            "of IEEE 802 hardware": ether(arp(2, mac, "10.99.0.1", hardware=6), 0x0806),
            "of other hardware": ether(arp(2, mac, "10.99.0.1", length=8), 0x0806),
            "cut short": ether(arp(2, mac, "10.99.0.1")[:12], 0x0806),
            "reverse": ether(arp(4, mac, "10.99.0.1"), 0x8035),
            "a DHCP server's answer": ether(offer, 0x0800),
            "a DHCPv6 server's answer": six(udp6(local, "ff02::1", (547, 546))),
            "a packet of another": ether(udp4("10.99.0.3", "10.99.0.1", 80, b"x"), 0x0800),
            "half a packet": ether(udp4("10.99.0.1", "10.99.0.3", 80, b"x")[:14], 0x0800),
            "tagged": ether(struct.pack("!HH", 1, 0x0800) + udp4("10.99.0.2", "10.99.0.3", 80, b"x"), 0x8100),
            "tagged twice": ether(struct.pack("!HHHH", 1, 0x8100, 1, 0x0800) + bytes(40), 0x88A8),
            "an LLC frame": ether(b"\x42\x42\x03" + bytes(40), 43, "01:80:c2:00:00:00"),
            "a port's talk": ether(bytes(46), 0x88CC, "01:80:c2:00:00:0e"),
            "a redirect": six(icmp6(local, "ff02::1", struct.pack("!BBHI", 137, 0, 0, 0) + bytes(32))),
            "another's advert": six(icmp6(local, "ff02::1", advert("fd99::3", mac))),
            "the gateway's advert": six(icmp6(local, "ff02::1", advert("fd99::1", mac))),
            "a claim to another's address": six(icmp6("::", "ff02::1", solicit("fd99::3"))),
            "nobody's datagram": six(udp6("::", "ff02::1", (9, 9))),
            "another's datagram": six(udp6("fd99::3", "ff02::1", (9, 9))),
            "a router": six(icmp6(local, "ff02::1", ROUTER)),
        }  # fmt: skip
        for extensions in ((0,), (60,), (44,), (0, 60), (60, 44), (44, 60), (60,) * 6):
            forged[f"a router behind {extensions}"] = six(icmp6(local, "ff02::1", ROUTER, extensions))
            forged[f"an advert behind {extensions}"] = six(icmp6(local, "ff02::1", advert("fd99::3", mac), extensions))
        true = {
            "its question": ether(arp(1, mac, "10.99.0.2"), 0x0806),
            "its packet": ether(udp4("10.99.0.2", "255.255.255.255", 80, b"x"), 0x0800),
            "its advert": six(icmp6(local, "ff02::1", advert("fd99::2", mac))),
            "its claim": six(icmp6("::", "ff02::1", solicit("fd99::2"))),
            "its datagram": six(udp6("fd99::2", "ff02::1", (9, 9))),
            "a client of DHCP": ether(udp4("10.99.0.2", "255.255.255.255", 67, b"x", source_port=68), 0x0800),
            "the last": ether(udp4("10.99.0.2", "255.255.255.255", 80, b"the last"), 0x0800),
        }  # fmt: skip
        for frame in (*forged.values(), *true.values()):
            os.write(fds[0], bytes(VNET_HEADER) + frame.ljust(60, b"\0"))
        heard: list[bytes] = []
        while not heard or b"the last" not in heard[-1]:
            assert select.select([fds[1]], [], [], netns.PATIENCE_S)[0], heard
            heard.append(os.read(fds[1], 65536)[VNET_HEADER:])
        names = {frame.rstrip(b"\0"): name for name, frame in (forged | true).items()}
        assert [names.get(frame.rstrip(b"\0")) for frame in heard if frame[6:12] == packed(mac)] == list(true)
    for nic in nics:
        await world.network.remove(nic)


async def test_route_localnet_does_not_open_the_hosts_loopback(world: World, pods: Pods) -> None:
    guest, nic, _ = await pods.add("a1", port(8080, host_ip="127.0.0.1", protocol="udp"))
    with inside(world.host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as private:
        private.bind(("127.0.0.1", 5000))
        private.settimeout(netns.PATIENCE_S)
        gateway = json.loads(output("ip", "-j", "link", "show", PLAN.bridge))[0]["address"]
        trick = udp4("10.99.0.2", "127.0.0.1", 5000, b"from a pod")
        send(guest, ethernet(trick, source=nic.mac, target=gateway))
        with serving(world.host, "host", 81):
            assert ask(guest, nic.gateway, 81)  # came after it
        private.sendto(b"from here", ("127.0.0.1", 5000))
        assert private.recv(100) == b"from here"


async def test_a_port_of_the_loopback_is_no_neighbours_business(world: World, pods: Pods) -> None:
    _, _, server = await pods.add("a1", port(8080, host_ip="127.0.0.1", protocol="udp"), port(8081, protocol="udp"))
    wire = json.loads(output("ip", "-j", "link", "show", "wire"))[0]["address"]
    with inside(world.outside):
        own = json.loads(output("ip", "-j", "link", "show", "wire"))[0]["address"]
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind(("wire", 0))
            s.send(ethernet(udp4("198.51.100.2", "127.0.0.1", 8080, b"trick"), source=own, target=wire))
    assert ask(world.outside, world.address, 8081, "udp")
    assert ask(world.host, "127.0.0.1", 8080, "udp")
    assert server.seen == ["hello", "hello"]


async def test_datagrams_follow_the_port_to_its_next_pod(world: World, pods: Pods) -> None:
    """The kernel remembers a client that never stops sending: it must not remember the pod before."""
    with inside(world.outside):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(netns.PATIENCE_S)
        client.connect((world.address, 8080))
        client.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)  # nobody yet; this is remembered too
        for name in ("a1", "a2"):
            _, nic, _ = await pods.add(name, port(8080, protocol="udp"))
            client.send(b"hello")
            assert client.recv(100).decode().startswith(name)
            await world.network.remove(nic)
            nic.ports = []


async def test_all_of_it_goes(world: World) -> None:
    await world.network.ensure()
    before = netns.state()
    [nic] = await world.network.plan("a1", [port(8080), port(53, 53, "udp"), port(81, host_ip="127.0.0.1")], [])
    await world.network.create(nic)
    with tap_of(nic):
        await world.network.plug(nic)
        assert netns.state() != before
        await world.network.remove(nic)
    for _ in range(2):
        await world.network.remove(nic)
        assert netns.state() == before
    with inside(world.host), socket.socket() as s:
        s.bind(("", 8080))


async def test_ensure_again_changes_nothing(world: World) -> None:
    await world.network.ensure()
    handles = output("nft", "-a", "list", "ruleset")
    links = output("ip", "addr")
    await world.network.ensure()
    assert output("nft", "-a", "list", "ruleset") == handles
    assert output("ip", "addr") == links


async def test_a_plugged_tap_is_up_has_no_address_and_goes_with_its_vmm(world: World) -> None:
    await world.network.ensure()
    before = netns.state()["links"]
    [nic] = await world.network.plan("a1", [], [])
    await world.network.create(nic)
    with tap_of(nic):
        await world.network.plug(nic)
        [link] = json.loads(output("ip", "-j", "-d", "link", "show", nic.tap))
        data = link["linkinfo"]["info_data"]
        assert (link["master"], data["type"], str(data["user"]), data["vnet_hdr"], data["persist"]) == (
            PLAN.bridge, "tap", str(UID), True, False,
        )  # fmt: skip
        assert "UP" in link["flags"]
        assert json.loads(output("ip", "-j", "addr", "show", nic.tap))[0]["addr_info"] == []
    assert netns.state()["links"] == before
    await world.network.remove(nic)


async def test_a_tap_that_is_not_there_is_said(world: World) -> None:
    await world.network.ensure()
    [nic] = await world.network.plan("a1", [], [])
    await world.network.create(nic)
    with pytest.raises(HyperError, match="cannot plug network interface hya1: No such device"):
        await world.network.plug(nic)
    await world.network.remove(nic)


async def test_flushed_rules_come_back(world: World, pods: Pods) -> None:
    """`systemctl restart nftables` removes everyone's rules."""
    await pods.add("a1", port(8080))
    before = netns.state()["rules"]
    output("nft", "flush", "ruleset")
    await pods.add("a2", port(8081))
    assert ask(world.outside, world.address, 8080).startswith("a1")
    assert ask(world.outside, world.address, 8081).startswith("a2")
    await world.network.remove(pods.nics[1])
    assert netns.state()["rules"] == before
    output("nft", "flush", "ruleset")
    await world.network.remove(pods.nics[0])


async def test_other_rules_are_left_alone(world: World) -> None:
    output("nft", "add table inet filter { chain c { ip saddr 1.2.3.4 drop; }; }")
    before = output("nft", "list", "table", "inet", "filter")
    await world.network.ensure()
    await world.network.sweep(list)
    assert output("nft", "list", "table", "inet", "filter") == before


async def test_nothing_is_kept_of_what_was_read_of_tables(world: World) -> None:
    """There are two tables a network, and each network of a hyperd reads them."""
    nets = [plan(f"hymany{n}", f"10.96.{n}.0/24") for n in range(30)]
    Nft().apply([base(net) for net in nets])
    before_kib = rss_kib()
    readers = [Nft() for _ in nets]
    assert all(reader.has_base(net) for reader, net in zip(readers, nets, strict=True))
    assert rss_kib() - before_kib < 120 << 10  # for one of them, at most


async def test_threads_have_their_turns_at_tables(world: World) -> None:
    """What was removed is waited for aside, and whoever comes meanwhile finds all as it is told."""

    def use(net: ipam.Plan) -> list[bool]:
        seen = []
        for _ in range(5):
            Nft().apply([base(net)])
            seen.append(Nft().has_base(net))
            Nft().apply([gone(net)])
            seen.append(Nft().has_base(net))
        return seen

    nets = [plan(f"hymany{n}", f"10.96.{n}.0/24") for n in range(6)]
    assert await asyncio.gather(*(asyncio.to_thread(use, net) for net in nets)) == [[True, False] * 5] * len(nets)


async def test_tables_are_changed_where_no_thread_can_be_had(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    Nft().apply([base(PLAN)])
    assert Nft().has_base(PLAN)
    Nft().apply([gone(PLAN)])
    assert not Nft().has_base(PLAN)


def rss_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def test_a_new_hyperd_takes_over(world: World, pods: Pods, tmp_path: Path) -> None:
    """Pods run on without a hyperd; the next one knows them by their records alone."""
    _, kept, _ = await pods.add("a1", port(8080))
    _, lost, _ = await pods.add("a2", port(8081), port(9000, protocol="udp"))
    world.network.close()
    assert ask(world.outside, world.address, 8080).startswith("a1")
    successor = BridgeNetwork(PLAN, tmp_path)
    assert successor.take_up([kept]) == []
    await successor.ensure()
    await successor.sweep(lambda: [kept])
    assert ask(world.outside, world.address, 8080).startswith("a1")
    assert not tap.exists(lost.tap) and lost.tap not in netns.state()["rules"]
    with pytest.raises(InUse, match="8080/tcp"), inside(world.host):
        await successor.plan("a3", [port(8080)], [])
    await successor.remove(kept)
    successor.close()


async def test_tables_that_are_made_anew_lead_where_the_old_ones_did(world: World, pods: Pods, tmp_path: Path) -> None:
    """At once: those of a hyperd with another layout, or those that somebody flushed."""
    _, kept, _ = await pods.add("a1", port(8080))
    world.network.close()
    whole = netns.state()["rules"]
    output("nft", "add", "chain", "inet", PLAN.bridge, "layout_of_before")
    output("nft", "delete", "chain", "inet", PLAN.bridge, mark(PLAN))
    successor = BridgeNetwork(PLAN, tmp_path)
    successor.take_up([kept])
    await successor.ensure()
    assert ask(world.outside, world.address, 8080).startswith("a1")
    assert netns.state()["rules"] == whole
    await successor.remove(kept)
    successor.close()


async def test_a_port_stays_its_pods_while_its_hyperd_is_not_there(world: World, pods: Pods, tmp_path: Path) -> None:
    """Nobody holds it then; another hyperd sees that the kernel leads it to a pod."""
    _, kept, _ = await pods.add("a1", port(40000), port(40001, protocol="udp"))
    world.network.close()
    other = BridgeNetwork(OTHER, tmp_path / "other")
    await other.ensure()
    any_of_two = PortMapping(host_port=40000, host_port_last=40001, container_port=80)
    assert [p.host_port for p in other.assign([any_of_two], [])] == [40001]
    for host_ip in ("", "127.0.0.1", "::"):
        with pytest.raises(InUse, match=r"40000/tcp: the network of bridge hytest0 publishes it"):
            await other.plan("b1", [port(40000, host_ip=host_ip)], [])
    [nic] = await other.plan("b1", [port(40001), port(40000, protocol="udp")], [])
    await other.create(nic)
    with pytest.raises(InUse, match="hytest1 publishes it"):
        world.network.assign([port(40001, host_ip="198.51.100.1")], [kept])
    await other.remove(nic)
    other.close()


async def test_a_taken_port_is_named_with_its_holder(world: World, pods: Pods) -> None:
    with serving(world.host, "nginx", 8080):
        with pytest.raises(InUse, match=rf"8080/tcp.*\(process {os.getpid()}\)"):
            await world.network.plan("a1", [port(8080)], [])
        with pytest.raises(InUse, match=r"8080/udp"):
            await world.network.plan("a1", [port(8080, protocol="udp")], [])
    await pods.add("a1", port(8080))
    owners = {nic.tap: "container web" for nic in pods.nics}
    with pytest.raises(InUse, match="container web publishes it"):
        await world.network.plan("a2", [port(8080, host_ip="127.0.0.1")], pods.nics, owners)
    with pytest.raises(InUse, match="twice"):
        await world.network.plan("a2", [port(1000), port(1000)], [])
    with pytest.raises(InvalidInput, match=r"no address 203\.0\.113\.1"):
        await world.network.plan("a2", [port(1000, host_ip="203.0.113.1")], [])


async def test_a_published_port_stays_ours(world: World, pods: Pods) -> None:
    await pods.add("a1", port(8080))
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError) as e:
            s.bind(("127.0.0.1", 8080))
            s.listen()
        assert e.value.errno == errno.EADDRINUSE


async def test_connections_that_ended_do_not_hold_a_port(world: World) -> None:
    await world.network.ensure()
    with socket.create_server(("127.0.0.1", 8080)) as server:
        client = socket.create_connection(("127.0.0.1", 8080))
        connection, _ = server.accept()
        connection.close()  # first: the server's end lingers
        client.close()
    with pytest.raises(OSError), socket.socket() as s:
        s.bind(("127.0.0.1", 8080))
    [nic] = await world.network.plan("a1", [port(8080)], [])
    await world.network.create(nic)
    with pytest.raises(OSError), socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 8080))
        s.listen()


async def test_a_port_that_is_withdrawn_is_anybodys(world: World, pods: Pods) -> None:
    """And whose it was is there all the same, and can have it again."""
    _, nic, _ = await pods.add("a1", port(8080))
    two, _, _ = await pods.add("a2")
    published, nic.ports = nic.ports, []
    for _ in range(2):  # again is harmless
        await world.network.withdraw(nic, published)
    with pytest.raises(OSError):
        ask(world.outside, world.address, 8080)
    assert ask(two, "10.99.0.2", 80) == "a1 sees 10.99.0.3"
    _, other, _ = await pods.add("a3", port(8080))
    assert ask(world.outside, world.address, 8080) == "a3 sees 198.51.100.2"
    await world.network.remove(other)
    nic.ports = published
    await world.network.create(nic)
    assert ask(world.outside, world.address, 8080) == "a1 sees 198.51.100.2"


async def test_free_ports_are_found(world: World, pods: Pods) -> None:
    _, one, _ = await pods.add("a1", port(0), port(0, 81))
    [two] = await world.network.plan("a2", [port(0), port(0, protocol="udp")], pods.nics)
    assert [p.host_port for p in one.ports] == [32768, 32769]
    assert [(p.host_port, p.protocol) for p in two.ports] == [(32770, "tcp"), (32768, "udp")]


async def test_a_full_subnet_says_so(tmp_path: Path, world: World) -> None:
    network = BridgeNetwork(plan("hysmall", "10.98.0.0/29"), tmp_path)
    nics: list[NicRecord] = []
    for n in range(5):
        nics += await network.plan(f"p{n}", [], nics)
    with pytest.raises(Exhausted, match="no address is free"):
        await network.plan("p5", [], nics)
    del nics[2]
    [again] = await network.plan("p5", [], nics)
    assert again.address == "10.98.0.4/29"


async def test_without_ipv6(tmp_path: Path, world: World) -> None:
    network = BridgeNetwork(plan("hyfour", "10.98.0.0/24"), tmp_path)
    await network.ensure()
    [nic] = await network.plan("a1", [port(8080)], [])
    assert (nic.address6, nic.gateway6) == ("", "")
    await network.create(nic)
    await network.remove(nic)
    network.close()


async def test_a_subnet_that_leads_elsewhere_is_refused(tmp_path: Path, world: World) -> None:
    with pytest.raises(InUse, match="wire leads to"):
        await BridgeNetwork(plan("hyother", "198.51.100.0/24"), tmp_path).ensure()
    assert not tap.exists("hyother")


async def test_a_bridge_of_someone_else_is_refused(tmp_path: Path, world: World, pods: Pods) -> None:
    ip("link add name theirs type bridge")
    with pytest.raises(InUse, match="not ours"):
        await BridgeNetwork(plan("theirs", "10.98.0.0/24"), tmp_path).ensure()
    other = BridgeNetwork(PLAN, tmp_path / "other")
    _, nic, _ = await pods.add("a1")
    with pytest.raises(InUse, match="not ours"):
        await other.ensure()
    await world.network.remove(nic)
    pods.stack.close()
    await other.ensure()  # nothing hangs on it: the bridge passes to the new one


async def test_the_host_keeps_listening_to_its_router(world: World) -> None:
    conf = Path("/proc/sys/net/ipv6/conf")
    (conf / "wire/accept_ra").write_text("1")
    await world.network.ensure()
    assert (conf / "all/forwarding").read_text().strip() == "1"
    assert (conf / "wire/accept_ra").read_text().strip() == "2"
    assert (conf / PLAN.bridge / "accept_ra").read_text().strip() == "0"


CREATE = """
import asyncio, os, signal, sys
import msgspec
from pathlib import Path
from hypercontainer.lib import proc
from hypercontainer.model.record import NicRecord
from hypercontainer.model.settings import Settings
from hypercontainer.hypervisor.host.tap import open_tap
from hypercontainer.network import ipam, tap
from hypercontainer.network.store import default
from hypercontainer.network.nft import Nft
from hypercontainer.network.ipam import link_local
from hypercontainer.network.bridge_network import BridgeNetwork
at, settings, nic, folder = sys.argv[1:]
plan, nic = ipam.plan(default(msgspec.json.decode(settings, type=Settings))), msgspec.json.decode(nic, type=NicRecord)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def after(f):
    def g(*args):
        f(*args)
        die()
    return g
match at:
    case "rules": Nft.apply = after(Nft.apply)
    case "tap made": tap._quiet = die
    case "tap joined":
        join = tap.join
        tap.join = lambda *args: (join(*args), die())
network = BridgeNetwork(plan, Path(folder))
asyncio.run(network.create(nic))
vmm = open_tap(nic.tap, 1900000001)
asyncio.run(network.plug(nic))
die()
"""


@pytest.mark.parametrize("at", ["rules", "tap made", "tap joined", "end"])
@pytest.mark.parametrize("cleaner", ["sweep", "remove"])
async def test_killed_in_the_middle_nothing_stays(world: World, tmp_path: Path, at: str, cleaner: str) -> None:
    await world.network.ensure()
    before = netns.state()
    [nic] = await world.network.plan("a1", [port(8080)], [])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CREATE, at, msgspec.json.encode(SETTINGS), msgspec.json.encode(nic), str(tmp_path)
    )
    assert await process.wait() == -signal.SIGKILL
    assert netns.state() != before
    if cleaner == "sweep":
        await world.network.sweep(list)
    else:
        await world.network.remove(nic)
    assert netns.state() == before


async def test_many_pods_at_once(world: World) -> None:
    await world.network.ensure()
    before = netns.state()
    nics: list[NicRecord] = []
    for n in range(20):
        nics += await world.network.plan(f"p{n}", [port(8000 + n)], nics)
    await asyncio.gather(*(world.network.create(nic) for nic in nics))
    with ExitStack() as taps:
        for nic in nics:
            taps.enter_context(tap_of(nic))
            await world.network.plug(nic)
        assert len(await bridge.ports(world.network._net)) == 20
        await asyncio.gather(*(world.network.remove(nic) for nic in nics))
    assert netns.state() == before
