"""What iproute2 tells of a namespace -> the interfaces of a pod."""

from typing import Any

import pytest

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.model.record import MOST_NICS, RouteRecord
from hypercontainer.network.interfaces import find


def link(name: str, *addresses: dict[str, Any], kind: str = "ether", flags: str = "UP") -> dict[str, Any]:
    mac = "02:00:00:00:00:01"
    return {
        "ifname": name, "link_type": kind, "address": mac, "mtu": 1500, "flags": [flags], "addr_info": list(addresses),
    }  # fmt: skip


def address(text: str, scope: str = "global", **more: object) -> dict[str, Any]:
    local, _, prefix = text.partition("/")
    family = "inet6" if ":" in text else "inet"
    return {"family": family, "local": local, "prefixlen": int(prefix), "scope": scope, **more}


FOUR, SIX = address("10.0.0.2/24"), address("fd00::2/64")
LINK_LOCAL = address("fe80::2/64", "link")
KERNELS = [
    {"dst": "10.0.0.0/24", "dev": "eth0", "protocol": "kernel", "flags": []},
    {"dst": "fd00::/64", "dev": "eth0", "protocol": "kernel", "flags": []},
]


def test_an_interface_without_an_address_is_none() -> None:
    lo = link("lo", address("127.0.0.1/8", "host"), kind="loopback", flags="LOOPBACK")
    assert find([lo, link("sit0", kind="sit"), link("eth1", LINK_LOCAL), link("eth2", {"family": "inet"})], []) == []


def test_link_local_addresses_and_those_of_others_are_left_out() -> None:
    taken = address("fd00::3/64", dadfailed=True, tentative=True)
    [eth0] = find([link("eth0", FOUR, LINK_LOCAL, taken, SIX)], KERNELS)
    assert (eth0.name, eth0.addresses, eth0.routes) == ("eth0", ["10.0.0.2/24", "fd00::2/64"], [])


def test_they_are_in_the_order_of_their_names() -> None:
    names = ["eth10", "net1", "eth2", "eth0"]
    assert [one.name for one in find([link(name, FOUR) for name in names], [])] == ["eth0", "eth2", "net1", "eth10"]


def test_a_prefix_that_nothing_leads_to_is_none_of_the_address() -> None:
    routes = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0", "flags": []},
        {"dst": "10.0.0.0/24", "gateway": "10.0.0.1", "dev": "eth0", "flags": []},
        {"dst": "10.0.0.1", "dev": "eth0", "scope": "link", "flags": []},
        {"dst": "10.8.0.0/16", "gateway": "10.1.1.1", "dev": "eth0", "flags": ["onlink"]},
        {"dst": "10.9.0.0/16", "gateway": "10.9.0.1", "dev": "eth9", "flags": []},
    ]
    [eth0] = find([link("eth0", FOUR, SIX)], [*routes, KERNELS[1]])
    assert eth0.addresses == ["10.0.0.2/32", "fd00::2/64"]
    assert eth0.routes == [
        RouteRecord(dst="10.0.0.1", gateway="", device="eth0"),
        RouteRecord(dst="10.1.1.1/32", gateway="", device="eth0"),
        RouteRecord(dst="default", gateway="10.0.0.1", device="eth0"),
        RouteRecord(dst="10.0.0.0/24", gateway="10.0.0.1", device="eth0"),
        RouteRecord(dst="10.8.0.0/16", gateway="10.1.1.1", device="eth0"),
    ]


@pytest.mark.parametrize(
    "route",
    [
        {"dst": "default", "nexthops": [{"dev": "eth0", "gateway": "10.0.0.1"}], "flags": []},
        {"dst": "default", "dev": "eth0", "via": {"family": "inet6", "host": "fe80::1"}, "flags": []},
        {"dst": "10.5.0.0/16", "dev": "eth0", "type": "multicast", "flags": []},
    ],
)
def test_a_route_that_a_guest_is_not_told_of_is_said(route: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="cannot give a VM the route to"):
        find([link("eth0", FOUR)], [route])


def test_what_no_machine_can_have_is_said() -> None:
    with pytest.raises(Unavailable, match="interface tun0: it is no Ethernet, but none"):
        find([link("tun0", FOUR, kind="none")], [])
    with pytest.raises(Exhausted, match=f"cannot give a VM {MOST_NICS + 1} interfaces"):
        find([link(f"eth{n}", FOUR) for n in range(MOST_NICS + 1)], [])
