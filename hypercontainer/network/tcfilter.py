"""The model "tcfilter": a tap beside an interface; what comes by one of both leaves by the other (tc-mirred(8)).

The interface keeps its addresses, as whoever made it expects to find them: but a frame is taken where it comes in,
before the namespace's kernel has looked at it, which therefore answers to nothing. So the guest can have the same
addresses, and the same MAC. What nameservers of IPv4 answer by UDP, and ARP, comes to both.

Functions are for the network namespace that their thread is in, and raise OSError.
"""

import socket

from hypercontainer.errors import InUse, NotFound
from hypercontainer.lib.netlink import Netlink
from hypercontainer.model.record import NicRecord
from hypercontainer.network import redirect, rtnetlink, tap

STACKED = ("macvlan", "macvtap")  # what takes what an interface receives, without a filter


def create(nic: NicRecord) -> None:
    """NotFound, InUse when somebody takes what comes in already."""
    check_free(nic)


def plug(nic: NicRecord) -> None:
    there = check_free(nic)
    outside, inside = socket.if_nametoindex(nic.name), socket.if_nametoindex(nic.tap)
    with Netlink() as kernel:
        redirect.add_ingress(kernel, inside)
        redirect.lead(kernel, inside, outside, _cookie(nic))
        if not there:
            redirect.add_ingress(kernel, outside)
        redirect.mirror(kernel, outside, inside, _cookie(nic))
        redirect.lead(kernel, outside, inside, _cookie(nic))
    tap.up(nic.tap, nic.mtu)


def _cookie(nic: NicRecord) -> bytes:
    """What a filter of ours is known by; its tap may be gone."""
    return nic.tap.encode()


def _ingress(nic: NicRecord) -> redirect.Ingress | None:
    """What is done with what its interface receives. None: there is no such interface."""
    if not tap.exists(nic.name):
        return None
    with Netlink() as kernel:
        return redirect.ingress(kernel, socket.if_nametoindex(nic.name))


def is_plugged(nic: NicRecord) -> bool:
    found = _ingress(nic)
    return found is not None and redirect.Filter(redirect.PREFERENCE, _cookie(nic)) in found.filters


def check_free(nic: NicRecord) -> bool:
    """Whether its interface has a discipline that can be used, without a filter; NotFound, InUse."""
    found = _ingress(nic)
    if found is None:
        raise NotFound("network interface", f"{nic.name} in {nic.netns}")
    stacked = _stacked(nic)
    if found.kind == "clsact" or found.filters or stacked:
        machines = any(each.cookie for each in found.filters) or "macvtap" in stacked
        whose = "another virtual machine" if machines else "somebody else"
        words = f"cannot use network interface {nic.name} of {nic.netns}: {whose} takes what it receives"
        raise InUse(words, "network interface", nic.name, [whose])
    return bool(found.kind)


def _stacked(nic: NicRecord) -> list[str]:
    """The drivers of interfaces on it that take what it receives."""
    with Netlink() as kernel:
        index, links = socket.if_nametoindex(nic.name), rtnetlink.links(kernel)
    return [each.driver for each in links if each.below == index and each.driver in STACKED]


def resize(nic: NicRecord, mtu: int) -> None:
    tap.up(nic.tap, mtu)


def give_back(nic: NicRecord) -> None:
    """Leave its interface as it was found. One without any filter was left so by us: it does nothing."""
    tap.cut(nic.tap)
    found = _ingress(nic)
    if found is None or not found.kind:
        return
    index = socket.if_nametoindex(nic.name)
    ours = [each.preference for each in found.filters if each.cookie == _cookie(nic)]
    with Netlink() as kernel:
        if found.kind == "ingress" and len(ours) == len(found.filters):
            redirect.remove_ingress(kernel, index)
            return
        for preference in ours:  # somebody has added his own since, or has all that is there
            redirect.remove_filter(kernel, index, preference)
