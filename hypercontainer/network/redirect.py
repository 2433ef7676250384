"""Frames that come in by one interface leave by another, by the kernel's traffic control: tc-mirred(8), tc-u32(8).

Functions are for the network namespace that their socket is in, and raise OSError.
"""

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hypercontainer.lib.netlink import CREATE, EXCL, Netlink, attribute, attributes, fields, nested, text

NEWQDISC, DELQDISC, GETQDISC, NEWTFILTER, DELTFILTER, GETTFILTER = 36, 37, 38, 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")
HANDLE, INGRESS, INWARDS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2  # of its discipline; its parent; its filters' parent
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_U32_DIVISOR, TCA_U32_SEL, TCA_U32_ACT, TERMINAL = 4, 5, 7, 1
TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_ACT_COOKIE, TCA_MIRRED_PARMS = 1, 2, 6, 2
SELECTOR, MIRRED = struct.Struct("=BBBxHHhhI"), struct.Struct("=IIiiiiI")
REDIRECT, MIRROR, STOLEN, PASS = 1, 2, 4, 0
ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806

PREFERENCE = 26745  # of our filters, 0x6879: for all that no other of ours takes
ANY = (0, 0, 0)  # mask, value, offset
# What the interface's own kernel gets, too: so its own programs, as docker's resolver, can ask a nameserver.
MIRRORED: Sequence[tuple[int, int, Sequence[tuple[int, int, int]]]] = (
    (PREFERENCE - 2, ETH_P_ARP, [ANY]),
    (PREFERENCE - 1, ETH_P_IP, [(0x00FF0000, socket.IPPROTO_UDP << 16, 8), (0xFFFF0000, 53 << 16, 20)]),
)


class Filter(NamedTuple):
    preference: int
    cookie: bytes  # of what it does first, as far as that is one like ours


class Ingress(NamedTuple):
    """What is done with what comes in by an interface."""

    kind: str  # of the queueing discipline: "ingress", "clsact", or "" without one
    filters: list[Filter]


def ingress(kernel: Netlink, index: int) -> Ingress:
    found = [qdisc_of(body) for body in kernel.dump(GETQDISC, _tcmsg(0))]
    kind = next((kind for at, kind in found if at == index and kind in ("ingress", "clsact")), "")
    bodies = kernel.dump(GETTFILTER, _tcmsg(index, parent=INWARDS)) if kind else []
    return Ingress(kind, [each for body in bodies if (each := filter_of(body))])


def qdisc_of(body: bytes) -> tuple[int, str]:
    """The index of its interface, and its kind."""
    _, index, *_ = fields(TCMSG, body)
    return index, text(attributes(body, TCMSG.size).get(TCA_KIND, b""))


def filter_of(body: bytes) -> Filter | None:
    """None for what else is told of: headings, and the tables that u32 keeps its filters in."""
    *_, info = fields(TCMSG, body)
    said = attributes(body, TCMSG.size)
    options = attributes(said.get(TCA_OPTIONS, b""))
    if not options or (text(said.get(TCA_KIND, b"")) == "u32" and TCA_U32_DIVISOR in options):
        return None
    cookie = b""
    if text(said.get(TCA_KIND, b"")) == "u32":
        first = attributes(options.get(TCA_U32_ACT, b"")).get(1, b"")
        cookie = attributes(first).get(TCA_ACT_COOKIE, b"")
    return Filter(info >> 16, cookie)


def lead(kernel: Netlink, source: int, target: int, cookie: bytes) -> None:
    """Have all that comes in by the interface of index `source`, which has an ingress, leave by `target`."""
    _add(kernel, source, PREFERENCE, ETH_P_ALL, [ANY], _mirred(target, REDIRECT, STOLEN, cookie))


def mirror(kernel: Netlink, source: int, target: int, cookie: bytes) -> None:
    """Have what is MIRRORED leave by `target` as well as be taken."""
    for preference, protocol, keys in MIRRORED:
        _add(kernel, source, preference, protocol, keys, _mirred(target, MIRROR, PASS, cookie))


def add_ingress(kernel: Netlink, index: int) -> None:
    body = _tcmsg(index, HANDLE, INGRESS) + attribute(TCA_KIND, b"ingress\0")
    kernel.ask(NEWQDISC, body, CREATE | EXCL)


def remove_ingress(kernel: Netlink, index: int) -> None:
    """With all filters there are."""
    kernel.ask(DELQDISC, _tcmsg(index, HANDLE, INGRESS) + attribute(TCA_KIND, b"ingress\0"))


def remove_filter(kernel: Netlink, index: int, preference: int) -> None:
    kernel.ask(DELTFILTER, _tcmsg(index, parent=INWARDS, info=preference << 16))


def _add(
    kernel: Netlink, index: int, preference: int, protocol: int, keys: Sequence[tuple[int, int, int]], action: bytes
) -> None:
    selector = SELECTOR.pack(TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    selector += b"".join(struct.pack(">II", mask, value) + struct.pack("=ii", at, 0) for mask, value, at in keys)
    options = nested(TCA_OPTIONS, attribute(TCA_U32_SEL, selector), nested(TCA_U32_ACT, nested(1, action)))
    info = preference << 16 | socket.htons(protocol)
    body = _tcmsg(index, parent=HANDLE, info=info) + attribute(TCA_KIND, b"u32\0") + options
    kernel.ask(NEWTFILTER, body, CREATE | EXCL)


def _mirred(target: int, how: int, then: int, cookie: bytes) -> bytes:
    parameters = MIRRED.pack(0, 0, then, 0, 0, how, target)
    options = nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, parameters))
    return attribute(TCA_ACT_KIND, b"mirred\0") + attribute(TCA_ACT_COOKIE, cookie) + options


def _tcmsg(index: int, handle: int = 0, parent: int = 0, info: int = 0) -> bytes:
    return TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, info)
