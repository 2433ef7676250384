"""The model "macvtap": a tap of the kernel's that is on an interface, and has what that receives.

In the mode "passthru" all that is for one machine comes there, whatever its MAC address, so the guest has that of the
interface, as with "tcfilter"; and the interface keeps its addresses. What is for many machines, as questions of ARP
are, comes to the namespace's kernel too: nftables drops it there, so that the guest alone answers.

Functions are for the network namespace that their thread is in, and raise OSError.
"""

import socket
import struct

from hypercontainer.errors import Unavailable
from hypercontainer.lib.netlink import CREATE, EXCL, Netlink, attribute, nested
from hypercontainer.model.record import NicRecord
from hypercontainer.network import rtnetlink, tap, tcfilter
from hypercontainer.network.nft import Nft

DRIVER = "macvtap"
NEWLINK, DELLINK = 16, 17
IFLA_INFO_DATA, IFLA_MACVLAN_MODE, PASSTHRU = 2, 1, 8
FAMILIES = {"arp": "input priority 0", "inet": "prerouting priority -450"}  # before any other rule looks
TABLE = "hyper-{}"  # by the tap


def create(nic: NicRecord) -> None:
    """NotFound, InUse when somebody takes what comes in already, Unavailable for one that can have none on it."""
    tcfilter.check_free(nic)
    with Netlink() as kernel:
        links = {each.name: each for each in rtnetlink.links(kernel)}
        if links[nic.name].driver in tcfilter.STACKED:
            words = f"cannot use network interface {nic.name} of {nic.netns} by a macvtap: it is a "
            why = "and can have none on it; have internetworking_model be tcfilter, in hyperd's settings"
            raise Unavailable(f"{words}{links[nic.name].driver}, {why}")
        kind = attribute(rtnetlink.IFLA_INFO_KIND, DRIVER.encode() + b"\0")
        mode = nested(IFLA_INFO_DATA, attribute(IFLA_MACVLAN_MODE, struct.pack("=I", PASSTHRU)))
        body = rtnetlink.IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        body += attribute(rtnetlink.IFLA_IFNAME, nic.tap.encode() + b"\0")
        body += attribute(rtnetlink.IFLA_LINK, struct.pack("=I", links[nic.name].number))
        kernel.ask(NEWLINK, body + nested(rtnetlink.IFLA_LINKINFO, kind, mode), CREATE | EXCL)


def plug(nic: NicRecord) -> None:
    Nft().apply(_silence(nic))
    resize(nic, nic.mtu)


def _silence(nic: NicRecord) -> list[str]:
    """By the number of its interface: a name may have any character."""
    name, index = TABLE.format(nic.tap), socket.if_nametoindex(nic.name)
    return [
        line
        for family, hook in FAMILIES.items()
        for line in (
            f"add table {family} {name}",
            f"add chain {family} {name} in {{ type filter hook {hook}; }}",
            f"add rule {family} {name} in iif {index} drop",
        )
    ]


def is_plugged(nic: NicRecord) -> bool:
    with Netlink() as kernel:
        links = {each.name: each for each in rtnetlink.links(kernel)}
    ours, below = links.get(nic.tap), links.get(nic.name)
    return bool(ours and below and ours.driver == DRIVER and ours.below == below.number)


def resize(nic: NicRecord, mtu: int) -> None:
    tap.up(nic.tap, mtu, tap.IFF_PROMISC)  # for all multicasts: which the guest wants is not told here


def give_back(nic: NicRecord) -> None:
    nft, name = Nft(), TABLE.format(nic.tap)
    with Netlink() as kernel:
        for each in rtnetlink.links(kernel):
            if (each.name, each.driver) == (nic.tap, DRIVER):
                kernel.ask(DELLINK, rtnetlink.IFINFO.pack(socket.AF_UNSPEC, 0, each.number, 0, 0))
    nft.apply([f"delete table {family} {name}" for family in nft.families(name)])
