"""What is in a network namespace, as its kernel tells (rtnetlink(7)): interfaces, addresses, routes."""

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from hypercontainer.errors import HyperError
from hypercontainer.lib.netlink import Netlink, attributes, fields, number, text

GETLINK, GETADDR, GETROUTE = 18, 22, 26
IFINFO, IFADDR, RTMSG = struct.Struct("=BxHiII"), struct.Struct("=BBBBi"), struct.Struct("=BBBBBBBBI")
NEXTHOP = struct.Struct("=HBBi")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU = 1, 3, 4
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, DADFAILED, SCOPE_LINK = 1, 2, 8, 0x08, 253
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_ENCAP = 1, 4, 5, 9, 15, 18, 22
TABLE_MAIN, PROTOCOL_KERNEL, UNICAST, CLONED, ONLINK = 254, 2, 1, 0x200, 0x4
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


class Address(NamedTuple):
    link: int  # its number
    text: str  # with the length of its prefix
    link_local: bool = False  # of IPv6: a guest's kernel makes one of the MAC address
    taken: bool = False  # somebody else has it, too


class Route(NamedTuple):
    dst: str  # "default", an address, or one with the length of its prefix
    device: str
    gateway: str = ""
    kernels: bool = False  # made by the kernel, of an address
    onlink: bool = False
    plain: bool = True  # to one gateway of its family at most
    others: tuple[str, ...] = ()  # devices of those that are to several


class Found(NamedTuple):
    links: list[Link]
    addresses: list[Address]
    routes: list[Route]  # of the main table, of both families


def look() -> Found:
    """In the network namespace of the calling thread. OSError."""
    with Netlink() as kernel:
        links = [link_of(body) for body in kernel.dump(GETLINK, IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]
        addresses = [address_of(body) for body in kernel.dump(GETADDR, IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]
        names = {each.number: each.name for each in links}
        routes = [
            route_of(body, names)
            for family in FAMILIES
            for body in kernel.dump(GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        ]
    return Found(links, [a for a in addresses if a], [r for r in routes if r])


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
    """None for those of other tables, and those that the kernel has only remembered."""
    family, length, _, _, table, protocol, _, kind, flags = fields(RTMSG, body)
    said = attributes(body, RTMSG.size)
    if family not in FAMILIES or flags & CLONED or number(said.get(RTA_TABLE, b""), table) != TABLE_MAIN:
        return None
    return Route(
        dst=_destination(family, said.get(RTA_DST, bytes(FAMILIES[family])), length),
        device=names.get(number(said.get(RTA_OIF, b"")), ""),
        gateway=_address(family, said[RTA_GATEWAY]) if RTA_GATEWAY in said else "",
        kernels=protocol == PROTOCOL_KERNEL,
        onlink=bool(flags & ONLINK),
        plain=kind == UNICAST and not said.keys() & {RTA_MULTIPATH, RTA_VIA, RTA_ENCAP},
        others=tuple(names.get(index, "") for index in _hops(said.get(RTA_MULTIPATH, b""))),
    )


def _hops(data: bytes) -> list[int]:
    """Indices of the devices of a route to several gateways."""
    found, at = list[int](), 0
    while len(data) - at >= NEXTHOP.size:
        length, _, _, index = NEXTHOP.unpack_from(data, at)
        found.append(index)
        at += max(length + 3 & ~3, NEXTHOP.size)
    return found


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
