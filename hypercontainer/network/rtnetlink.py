"""What is in a network namespace, as its kernel tells (rtnetlink(7)): interfaces, addresses, routes, rules of which
table is looked at, neighbours that somebody has written down."""

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypercontainer.errors import HyperError
from hypercontainer.lib.netlink import Netlink, attributes, fields, number, text

GETLINK, GETADDR, GETROUTE, GETNEIGH, GETRULE = 18, 22, 26, 30, 34
IFINFO, IFADDR, RTMSG = struct.Struct("=BxHiII"), struct.Struct("=BBBBi"), struct.Struct("=BBBBBBBBI")
NEXTHOP, NEIGHBOUR = struct.Struct("=HBBi"), struct.Struct("=BxxxiHBB")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO, IFLA_LINK_NETNSID = 1, 3, 4, 5, 18, 37
IFLA_INFO_KIND = 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, DADFAILED, SCOPE_LINK = 1, 2, 8, 0x08, 253
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_ENCAP = 9, 15, 18, 22
TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL, PROTOCOL_KERNEL, CLONED, ONLINK = 253, 254, 255, 2, 0x200, 0x4
ROUTES = {1: "", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # RTN_…: the types that machines get
METRIC6 = 1024  # of a route of IPv6 that is given none
CC_ALGO, METRICS = 16, 17  # a metric that is a word; the last one
FRA_DST, FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS, FRA_TABLE, FRA_PAD, FRA_PROTOCOL = 1, 2, 6, 14, 15, 18, 21
TO_TABLE, KERNELS_RULES = 1, {(0, TABLE_LOCAL), (32766, TABLE_MAIN), (32767, TABLE_DEFAULT)}
NDA_DST, NDA_LLADDR, PERMANENT = 1, 2, 0x80
FAMILIES: Mapping[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}  # bytes of an address

LOOPBACK = 0x8
KINDS = {  # linux/if_arp.h
    1: "ether", 32: "infiniband", 512: "ppp", 768: "ipip", 769: "tunnel6", 776: "sit", 778: "gre", 823: "gre6",
    65534: "none",
}  # fmt: skip


class Link(NamedTuple):
    number: int  # its index
    name: str
    kind: str  # "ether", or why it is none
    loopback: bool
    mac: str
    mtu: int
    driver: str = ""  # "veth", "macvlan"
    below: int = 0  # the number of that which it is on, if that is in this namespace


class Address(NamedTuple):
    link: int  # its number
    text: str  # with the length of its prefix
    link_local: bool = False  # of IPv6: a guest's kernel makes one of the MAC address
    taken: bool = False  # somebody else has it, too


class Hop(NamedTuple):
    """One of several that a route leads to."""

    gateway: str
    device: str
    weight: int = 1
    plain: bool = True


class Route(NamedTuple):
    dst: str  # "default", an address, or one with the length of its prefix; "::/0" of IPv6 without a gateway
    device: str
    gateway: str = ""
    kernels: bool = False  # made by the kernel, of an address, and left in the main table
    onlink: bool = False
    plain: bool = True  # of a type, and to gateways, that a machine can have
    hops: tuple[Hop, ...] = ()  # of one that leads to several
    kind: str = ""  # "blackhole", "unreachable", "prohibit", "throw"
    table: int = 0  # 0: the main one
    metric: int = 0
    source: str = ""
    metrics: tuple[int, ...] = ()  # RTAX_… and its value, one after the other: the MTU


class Rule(NamedTuple):
    """Which table is looked at for what."""

    family: int  # 4 or 6
    priority: int
    table: int
    source: str = ""
    dst: str = ""
    plain: bool = True  # it looks at nothing else


class Neighbour(NamedTuple):
    link: int  # its number
    address: str
    mac: str


class Found(NamedTuple):
    links: list[Link]
    addresses: list[Address]
    routes: list[Route]  # of both families, and all tables but the kernel's own
    rules: Sequence[Rule] = ()  # but for the kernel's own
    neighbours: Sequence[Neighbour] = ()  # those that stay


def look() -> Found:
    """In the network namespace of the calling thread. OSError."""
    with Netlink() as kernel:
        found = links(kernel)
        addresses = [address_of(body) for body in kernel.dump(GETADDR, IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]
        names = {each.number: each.name for each in found}
        routes = [
            route_of(body, names)
            for family in FAMILIES
            for body in kernel.dump(GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        ]
        rules = [
            rule_of(body)
            for family in FAMILIES
            for body in kernel.dump(GETRULE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        ]
        near = [neighbour_of(body) for body in kernel.dump(GETNEIGH, NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]
    return Found(
        found,
        [a for a in addresses if a],
        [r for r in routes if r],
        [r for r in rules if r and (r.priority, r.table) not in KERNELS_RULES],
        [n for n in near if n],
    )


def links(kernel: Netlink) -> list[Link]:
    return [link_of(body) for body in kernel.dump(GETLINK, IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]


def link_of(body: bytes) -> Link:
    _, kind, index, flags, _ = fields(IFINFO, body)
    said = attributes(body, IFINFO.size)
    return Link(
        number=index,
        name=text(said.get(IFLA_IFNAME, b"")),
        kind=KINDS.get(kind, f"of kind {kind}"),
        loopback=bool(flags & LOOPBACK),
        mac=said.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(said.get(IFLA_MTU, b"")),
        driver=text(attributes(said.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")),
        below=0 if IFLA_LINK_NETNSID in said else number(said.get(IFLA_LINK, b"")),
    )


def address_of(body: bytes) -> Address | None:
    """None for those of other families."""
    family, length, flags, scope, index = fields(IFADDR, body)
    if family not in FAMILIES:
        return None
    said = attributes(body, IFADDR.size)
    flags = number(said.get(IFA_FLAGS, b""), flags)
    local = said.get(IFA_LOCAL) or said.get(IFA_ADDRESS, b"")
    return Address(
        link=index,
        text=f"{_address(family, local)}/{length}",
        link_local=family == socket.AF_INET6 and scope == SCOPE_LINK,
        taken=bool(flags & DADFAILED),
    )


def route_of(body: bytes, names: Mapping[int, str]) -> Route | None:
    """None for those of the kernel's own table, and those that it has only remembered."""
    family, length, _, _, table, protocol, _, kind, flags = fields(RTMSG, body)
    said = attributes(body, RTMSG.size)
    table = number(said.get(RTA_TABLE, b""), table)
    if family not in FAMILIES or flags & CLONED or table == TABLE_LOCAL:
        return None
    metric, hops = number(said.get(RTA_PRIORITY, b"")), _hops(family, said.get(RTA_MULTIPATH, b""), names)
    metrics = attributes(said.get(RTA_METRICS, b""))
    leads = RTA_GATEWAY in said or bool(hops)
    dst = _destination(family, said.get(RTA_DST, bytes(FAMILIES[family])), length)
    return Route(
        dst="::/0" if dst == "default" and family == socket.AF_INET6 and not leads else dst,
        device=names.get(number(said.get(RTA_OIF, b"")), ""),
        gateway=_address(family, said[RTA_GATEWAY]) if RTA_GATEWAY in said else "",
        kernels=protocol == PROTOCOL_KERNEL and table == TABLE_MAIN,
        onlink=bool(flags & ONLINK),
        plain=kind in ROUTES
        and not said.keys() & {RTA_VIA, RTA_ENCAP}
        and all(hop.plain for hop in hops)
        and all(0 < key <= METRICS and key != CC_ALGO for key in metrics),
        hops=tuple(hops),
        kind=ROUTES.get(kind, ""),
        table=0 if table == TABLE_MAIN else table,
        metric=0 if family == socket.AF_INET6 and metric == METRIC6 else metric,
        source=_address(family, said[RTA_PREFSRC]) if RTA_PREFSRC in said else "",
        metrics=tuple(each for key in sorted(metrics) for each in (key, number(metrics[key]))),
    )


def _hops(family: int, data: bytes, names: Mapping[int, str]) -> list[Hop]:
    found, at = list[Hop](), 0
    while len(data) - at >= NEXTHOP.size:
        length, flags, weight, index = NEXTHOP.unpack_from(data, at)
        said = attributes(data[at + NEXTHOP.size : at + max(length, NEXTHOP.size)])
        gateway = _address(family, said[RTA_GATEWAY]) if RTA_GATEWAY in said else ""
        plain = not said.keys() - {RTA_GATEWAY} and not flags & ONLINK and bool(gateway)
        found.append(Hop(gateway, names.get(index, ""), weight + 1, plain))
        at += max(length + 3 & ~3, NEXTHOP.size)
    return found


def rule_of(body: bytes) -> Rule | None:
    """None for those of other families."""
    family, dst_length, source_length, tos, table, _, _, action, flags = fields(RTMSG, body)
    if family not in FAMILIES:
        return None
    said = attributes(body, RTMSG.size)
    known = {FRA_DST, FRA_SRC, FRA_PRIORITY, FRA_SUPPRESS, FRA_TABLE, FRA_PAD, FRA_PROTOCOL}
    nothing = number(said.get(FRA_SUPPRESS, b""), 0xFFFFFFFF) == 0xFFFFFFFF
    return Rule(
        family=4 if family == socket.AF_INET else 6,
        priority=number(said.get(FRA_PRIORITY, b"")),
        table=number(said.get(FRA_TABLE, b""), table),
        source=f"{_address(family, said[FRA_SRC])}/{source_length}" if FRA_SRC in said else "",
        dst=f"{_address(family, said[FRA_DST])}/{dst_length}" if FRA_DST in said else "",
        plain=action == TO_TABLE and not tos and not flags and not said.keys() - known and nothing,
    )


def neighbour_of(body: bytes) -> Neighbour | None:
    """None for those that come and go, and those of other families."""
    family, index, state, _, _ = fields(NEIGHBOUR, body)
    said = attributes(body, NEIGHBOUR.size)
    if family not in FAMILIES or not state & PERMANENT or NDA_DST not in said or len(said.get(NDA_LLADDR, b"")) != 6:
        return None
    return Neighbour(index, _address(family, said[NDA_DST]), said[NDA_LLADDR].hex(":"))


def _destination(family: int, dst: bytes, length: int) -> str:
    if not length:
        return "default"
    host = length == 8 * FAMILIES[family]
    return _address(family, dst) if host else f"{_address(family, dst)}/{length}"


def _address(family: int, packed: bytes) -> str:
    try:
        return socket.inet_ntop(family, packed)
    except ValueError as e:
        raise HyperError(f"cannot read what the kernel says: an address of {len(packed)} bytes") from e
