"""Networks that somebody else made: namespaces with veth pairs, real taps and clients."""

import asyncio
import json
import os
import re
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound, Unavailable
from hypercontainer.hypervisor.host import tap as taps
from hypercontainer.hypervisor.host.tap import open_nic, open_tap
from hypercontainer.model.record import NicRecord, RouteRecord
from hypercontainer.model.spec import PortMapping
from hypercontainer.network import tap
from hypercontainer.network.netns import MODELS, NetnsNetwork
from hypercontainer.sandbox.interfaces import vmm_nic
from hypercontainer.testing.network_contract import NetworkContract, Seen, Vmm
from tests.interop import netns
from tests.interop.netns import ask, inside, ip, output, serving

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
]

UID = 1_900_000_001
ARP = 0x0806


@dataclass
class World:
    """A namespace for a pod, and the machine at the other end of its wires."""

    given: str
    outside: str
    network: NetnsNetwork


@pytest.fixture(params=["tcfilter", "macvtap"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with netns.namespace("hyout") as outside, netns.namespace("hypod") as given:
        with inside(given):
            for n, mtu in enumerate((1400, 1500)):
                ip(
                    f"link add name eth{n} mtu {mtu} type veth peer name wire{n} mtu {mtu} netns {outside}",
                    f"link set eth{n} addrgenmode none",  # an address that comes later would look like a leftover
                    f"addr add 10.{90 + n}.0.2/24 dev eth{n}",
                    f"addr add fd9{n}::2/64 dev eth{n} nodad",
                    f"link set eth{n} up",
                )
        with inside(outside):
            for n in range(2):
                ip(
                    f"addr add 10.{90 + n}.0.1/24 dev wire{n}",
                    f"addr add fd9{n}::1/64 dev wire{n} nodad",
                    f"link set wire{n} up",
                )
        with inside(given):
            ip("route add default via 10.90.0.1", "route add default via fd90::1")
            ip("route add 10.77.0.0/16 via 10.91.0.1", "route add 10.66.0.9 dev eth1")
            netns.await_carriers()
        yield World(given, outside, NetnsNetwork(f"/run/netns/{given}", request.param))


@contextmanager
def tap_of(nic: NicRecord) -> Iterator[None]:
    """The tap of a VMM that does nothing."""
    fd = open_nic(vmm_nic(nic), UID)
    try:
        yield
    finally:
        os.close(fd)


def seen_in(namespace: str) -> object:
    """All that can be seen there of interfaces, addresses, routes, and what is done to packets; but not whether a link
    has a carrier, which the kernel finds out a little later."""
    with inside(namespace):
        shows = ["ip -o addr", "ip route", "ip -6 route", "tc qdisc", "nft list ruleset"]
        filters = [f"tc filter show dev eth{n} ingress" for n in range(2)]
        links = [(one["ifname"], one["mtu"], one["address"], "UP" in one["flags"]) for one in netns.links()]
        listens = re.findall(r"promiscuity \d+|allmulti \d+", output("ip", "-d", "link"))
        return [links, listens, *(output(*words.split()) for words in shows + filters)]


class TestNetnsNetwork(NetworkContract):
    @pytest.fixture
    def network(self, world: World) -> NetnsNetwork:
        return world.network

    @pytest.fixture
    def vmm(self) -> Vmm:
        return tap_of

    @pytest.fixture
    def seen(self, world: World) -> Seen:
        return lambda: seen_in(world.given)


async def test_interfaces_are_read(world: World) -> None:
    one, two = await world.network.plan("a1", [], [])
    assert [(nic.tap, nic.name, nic.mtu, nic.addresses) for nic in (one, two)] == [
        ("hya1", "eth0", 1400, ["10.90.0.2/24", "fd90::2/64"]),
        ("hya11", "eth1", 1500, ["10.91.0.2/24", "fd91::2/64"]),
    ]
    with inside(world.given):
        macs = [link["address"] for link in json.loads(output("ip", "-j", "link")) if link["link_type"] == "ether"]
    assert {one.mac, two.mac} == set(macs)
    assert one.routes == [
        RouteRecord(dst="default", gateway="10.90.0.1", device="eth0"),
        RouteRecord(dst="default", gateway="fd90::1", device="eth0"),
    ]
    assert two.routes == [
        RouteRecord(dst="10.66.0.9", gateway="", device="eth1"),
        RouteRecord(dst="10.77.0.0/16", gateway="10.91.0.1", device="eth1"),
    ]


@contextmanager
def guests(world: World, nics: list[NicRecord]) -> Iterator[str]:
    """A namespace that stands for a VM whose interfaces are these."""
    with netns.namespace("hyguest") as guest, ExitStack() as stack:
        for nic in nics:
            outer = open_nic(vmm_nic(nic), 0)
            stack.callback(os.close, outer)
            with inside(guest):
                inner = open_tap(nic.name, 0)
                stack.callback(os.close, inner)
                ip(
                    f"link set {nic.name} address {nic.mac} mtu {nic.mtu} up",
                    *(f"addr add {a} dev {nic.name} {'nodad' if ':' in a else ''}" for a in nic.addresses),
                    *(f"route add {r.dst} via {r.gateway} dev {r.device}" for r in nic.routes if r.gateway),
                )
            stack.enter_context(netns.pumping(outer, inner))
        yield guest


async def test_a_guest_is_reached_and_reaches_in_the_namespaces_place(world: World) -> None:
    nics = await world.network.plan("a1", [], [])
    for nic in nics:
        await world.network.create(nic)
    with guests(world, nics) as guest, serving(world.given, "the namespace", 80), serving(guest, "guest", 80):
        for nic in nics:
            await world.network.plug(nic)
        with serving(world.outside, "world", 81):
            for n in range(2):
                for address, protocol in ((f"10.{90 + n}.0", "tcp"), (f"10.{90 + n}.0", "udp")):
                    assert ask(world.outside, f"{address}.2", 80, protocol) == f"guest sees {address}.1"
                    assert ask(guest, f"{address}.1", 81, protocol) == f"world sees {address}.2"
                assert ask(world.outside, f"fd9{n}::2", 80) == f"guest sees fd9{n}::1"
                assert ask(guest, f"fd9{n}::1", 81, "udp") == f"world sees fd9{n}::2"
        for nic in nics:
            await world.network.remove(nic)
        assert ask(world.outside, "10.90.0.2", 80) == "the namespace sees 10.90.0.1"


@pytest.mark.parametrize("world", ["tcfilter"], indirect=True)
async def test_nameservers_answer_the_namespace_and_the_guest(world: World) -> None:
    """Who asks from there, as docker's resolver does, and who asks in the guest, of the same address."""
    [nic, _] = await world.network.plan("a1", [], [])
    with guests(world, [nic]) as guest, serving(world.outside, "nameserver", 53):
        await world.network.create(nic)
        await world.network.plug(nic)
        with inside(world.given):
            ip("neigh flush dev eth0")
        for _ in range(2):
            assert ask(world.given, "10.90.0.1", 53, "udp") == "nameserver sees 10.90.0.2"
            assert ask(guest, "10.90.0.1", 53, "udp") == "nameserver sees 10.90.0.2"
            assert ask(guest, "10.90.0.1", 53) == "nameserver sees 10.90.0.2"
        await world.network.remove(nic)


def foreign_filter() -> None:
    ingress = ("tc", "filter", "add", "dev", "eth0", "parent", "ffff:")
    output(*ingress, "protocol", "ip", "u32", "match", "u32", "0", "0", "flowid", "1:1")


async def test_who_takes_the_packets_already_is_let_be(world: World) -> None:
    [nic, _] = await world.network.plan("a1", [], [])
    with inside(world.given):
        output(*["tc", "qdisc", "add", "dev", "eth0", "ingress"])
        foreign_filter()
    before = seen_in(world.given)
    with pytest.raises(InUse, match=r"cannot use network interface eth0 of .*: somebody else takes what it receives"):
        await world.network.create(nic)
    await world.network.remove(nic)
    assert seen_in(world.given) == before
    with inside(world.given):
        output(*["tc", "qdisc", "del", "dev", "eth0", "ingress"])
    await world.network.create(nic)
    with tap_of(nic):
        await world.network.plug(nic)
        for model in MODELS:
            with pytest.raises(InUse, match="another virtual machine"):
                await world.network.create(msgspec.structs.replace(nic, tap="hyb2", model=model))
        with inside(world.given):
            if nic.model == "macvtap":
                output(*["tc", "qdisc", "add", "dev", "eth0", "ingress"])
            foreign_filter()
        await world.network.remove(nic)
        with inside(world.given):
            assert "mirred" not in (left := output(*["tc", "filter", "show", "dev", "eth0", "ingress"]))
        assert "flowid 1:1" in left


async def test_a_namespace_that_is_gone_or_another_one_by_now(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [nic, _] = await world.network.plan("a1", [], [])
    for name, why in (("file", "what is there is none"), ("nothing", "")):
        nic.netns = str(tmp_path / name)
        with pytest.raises(NotFound, match=f"no such network namespace: .*{name}.*{why}"):
            await NetnsNetwork(nic.netns).ensure()
        await world.network.remove(nic)
    nic.netns = f"/run/netns/{world.outside}"
    with pytest.raises(NotFound, match="another one in its place"):
        await world.network.create(nic)
    await world.network.remove(nic)


async def test_the_network_of_the_host_stays_its_own() -> None:
    with pytest.raises(InvalidInput, match="it is this host's own network"):
        await NetnsNetwork("/proc/self/ns/net").plan("a1", [], [])


async def test_an_interface_that_went_since(world: World) -> None:
    nics = await world.network.plan("a1", [], [])
    with inside(world.given):
        ip("link del eth1")
    with pytest.raises(NotFound, match="no such network interface: eth1 in"):
        await world.network.create(nics[1])
    await world.network.remove(nics[1])
    with pytest.raises(HyperError):
        await world.network.plug(nics[0])  # without a tap
    await world.network.remove(nics[0])


async def test_ports_are_not_published_there(world: World) -> None:
    with pytest.raises(InvalidInput, match="cannot publish ports"):
        await world.network.plan("a1", [PortMapping(host_port=80, container_port=80)], [])


async def test_a_descriptor_is_as_good_as_a_path(world: World) -> None:
    fd = os.open(f"/run/netns/{world.given}", os.O_RDONLY)
    try:
        network = NetnsNetwork(f"/proc/{os.getpid()}/fd/{fd}")
        assert [nic.name for nic in await network.plan("a1", [], [])] == ["eth0", "eth1"]
    finally:
        os.close(fd)


def test_a_tap_that_waited_is_moved_there(world: World) -> None:
    fd = open_tap("hywaited", UID)
    try:
        taps.move("hywaited", f"/run/netns/{world.given}")
        assert not tap.exists("hywaited")
        with inside(world.given):
            assert tap.exists("hywaited")
    finally:
        os.close(fd)


@pytest.mark.parametrize("world", ["macvtap"], indirect=True)
async def test_an_interface_that_can_have_no_macvtap_is_refused(world: World) -> None:
    with inside(world.given):
        ip(
            "link add link eth1 name eth2 type macvlan mode bridge",
            "addr add 10.92.0.2/24 dev eth2",
            "link set eth2 up",
        )
    before = seen_in(world.given)
    [_, _, nic] = await world.network.plan("a1", [], [])
    with pytest.raises(
        Unavailable, match="it is a macvlan, and can have none on it; have internetworking_model be tcf"
    ):
        await world.network.create(nic)
    await world.network.remove(nic)
    assert seen_in(world.given) == before


@pytest.mark.parametrize("world", ["macvtap"], indirect=True)
async def test_only_the_guest_answers_what_is_for_many(world: World) -> None:
    """Questions of ARP come to the namespace's kernel, too: were that to answer, one would have two answers."""
    [nic, *_] = await world.network.plan("a1", [], [])
    await world.network.create(nic)
    with inside(world.outside):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    with wire, guests(world, [nic]):
        wire.bind(("wire0", 0))
        wire.settimeout(netns.PATIENCE_S)
        await world.network.plug(nic)
        answers = (frame for frame in iter(lambda: wire.recv(64), b"") if frame[20:22] == bytes((0, 2)))
        for asking in ("10.90.0.8", "10.90.0.9"):
            wire.send(who_has("10.90.0.2", asking, wire.getsockname()[4]))
            assert socket.inet_ntoa(next(answers)[38:42]) == asking
        await world.network.remove(nic)


def who_has(address: str, asking: str, mac: bytes) -> bytes:
    """A frame that asks all."""
    head = bytes.fromhex("ffffffffffff") + mac + struct.pack("!HHHBBH", ARP, 1, 0x0800, 6, 4, 1)
    return head + mac + socket.inet_aton(asking) + bytes(6) + socket.inet_aton(address)


PLUG = """
import asyncio, os, signal, sys
import msgspec
from hypercontainer.hypervisor.host.tap import open_nic
from hypercontainer.lib.netlink import Netlink
from hypercontainer.model.record import NicRecord
from hypercontainer.network import tap
from hypercontainer.network.netns import NetnsNetwork
from hypercontainer.sandbox.interfaces import vmm_nic
at, nic = sys.argv[1], msgspec.json.decode(sys.argv[2], type=NicRecord)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
asked, ask = [], Netlink.ask
def in_the_midst(kernel, *what):
    if len(asked) == int(at):
        die()
    asked.append(what)
    ask(kernel, *what)
async def plug():
    network = NetnsNetwork(nic.netns)
    await network.create(nic)
    vmm = open_nic(vmm_nic(nic), 1900000001)
    if at.isdigit():
        Netlink.ask = in_the_midst
    if at == "made":
        die()
    if at == "up":
        tap.up = die
    await network.plug(nic)
    die()
asyncio.run(plug())
"""


@pytest.mark.parametrize(
    ("world", "at"),
    [
        *(("tcfilter", at) for at in ("0", "1", "2", "3", "4", "5", "up", "end")),
        *(("macvtap", at) for at in ("made", "up", "end")),
    ],
    indirect=["world"],
)
async def test_killed_in_the_middle_nothing_stays(world: World, at: str) -> None:
    before = seen_in(world.given)
    [nic, _] = await world.network.plan("a1", [], [])
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PLUG, at, msgspec.json.encode(nic).decode())
    assert await process.wait() == -signal.SIGKILL
    await world.network.remove(nic)
    assert seen_in(world.given) == before
