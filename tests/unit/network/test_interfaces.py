"""What is in a namespace -> the interfaces of a pod."""

import pytest

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.model.record import MOST_NICS, HopRecord, NeighbourRecord, RouteRecord, RuleRecord
from hypercontainer.network.interfaces import find, left_out
from hypercontainer.network.rtnetlink import Address, Found, Hop, Link, Neighbour, Route, Rule


def link(name: str, number: int = 1, kind: str = "ether", *, loopback: bool = False) -> Link:
    return Link(number, name, kind, loopback, "02:00:00:00:00:01", 1500)


FOUR, SIX = Address(1, "10.0.0.2/24"), Address(1, "fd00::2/64")
LINK_LOCAL = Address(1, "fe80::2/64", link_local=True)
KERNELS = [Route("10.0.0.0/24", "eth0", kernels=True), Route("fd00::/64", "eth0", kernels=True)]


def test_an_interface_without_an_address_is_none() -> None:
    links = [link("lo", loopback=True), link("sit0", 2, "sit"), link("eth1", 3)]
    found = [Address(1, "127.0.0.1/8"), Address(3, "fe80::3/64", link_local=True)]
    assert find(Found(links, found, [])) == []


def test_link_local_addresses_and_those_of_others_are_left_out() -> None:
    taken = Address(1, "fd00::3/64", taken=True)
    [eth0] = find(Found([link("eth0")], [FOUR, LINK_LOCAL, taken, SIX, Address(2, "10.0.0.3/24")], KERNELS))
    assert (eth0.name, eth0.addresses, eth0.routes) == ("eth0", ["10.0.0.2/24", "fd00::2/64"], [])


def test_they_are_in_the_order_of_their_names() -> None:
    names = ["eth10", "net1", "eth2", "eth0"]
    assert [one.name for one in find(Found([link(name) for name in names], [FOUR], []))] == [
        "eth0", "eth2", "net1", "eth10",
    ]  # fmt: skip


def test_a_prefix_that_nothing_leads_to_is_none_of_the_address() -> None:
    routes = [
        Route("default", "eth0", "10.0.0.1"),
        Route("10.0.0.0/24", "eth0", "10.0.0.1"),
        Route("10.0.0.1", "eth0"),
        Route("10.8.0.0/16", "eth0", "10.1.1.1", onlink=True),
        Route("10.9.0.0/16", "eth9", "10.9.0.1"),
    ]
    [eth0] = find(Found([link("eth0")], [FOUR, SIX], [*routes, KERNELS[1]]))
    assert eth0.addresses == ["10.0.0.2/32", "fd00::2/64"]
    assert eth0.routes == [
        RouteRecord(dst="10.0.0.1", gateway="", device="eth0"),
        RouteRecord(dst="default", gateway="10.0.0.1", device="eth0"),
        RouteRecord(dst="10.0.0.0/24", gateway="10.0.0.1", device="eth0"),
        RouteRecord(dst="10.8.0.0/16", gateway="10.1.1.1", device="eth0", onlink=True),
    ]


@pytest.mark.parametrize(
    "route", [Route("default", "eth0", plain=False), Route("default", "", plain=False, hops=(Hop("10.0.0.1", "eth0"),))]
)
def test_a_route_that_a_guest_is_not_told_of_is_said(route: Route) -> None:
    with pytest.raises(Unavailable, match="cannot give a VM the route to default"):
        find(Found([link("eth0")], [FOUR], [route]))


def test_what_no_machine_can_have_is_said() -> None:
    with pytest.raises(Unavailable, match="interface tun0: it is no Ethernet, but none"):
        find(Found([link("tun0", kind="none")], [FOUR], []))
    with pytest.raises(Exhausted, match=f"cannot give a VM {MOST_NICS + 1} interfaces"):
        find(Found([link(f"eth{n}") for n in range(MOST_NICS + 1)], [FOUR], []))


def test_what_is_of_no_interface_is_the_first_ones() -> None:
    rules = [Rule(4, 70, 7, source="10.0.0.2/32"), Rule(4, 72, 7, plain=False)]
    several = Route("10.3.0.0/16", "", hops=(Hop("10.0.0.1", "eth1", 2), Hop("10.0.0.3", "eth0")))
    nowhere = Route("fd03::/32", "lo", kind="unreachable")
    found = Found(
        [link("eth1", 1), link("eth0", 2)],
        [FOUR, Address(2, "10.1.0.2/24")],
        [several, nowhere],
        rules,
        [Neighbour(1, "10.0.0.9", "02:00:00:00:00:09")],
    )
    eth0, eth1 = find(found)
    assert eth0.rules == [RuleRecord(priority=70, family=4, table=7, source="10.0.0.2/32")]
    assert eth0.routes == [RouteRecord(dst="fd03::/32", gateway="", kind="unreachable")]
    hops = [HopRecord(gateway="10.0.0.1", device="eth1", weight=2), HopRecord(gateway="10.0.0.3", device="eth0")]
    assert eth1.routes == [RouteRecord(dst="10.3.0.0/16", gateway="", hops=hops)]
    assert (eth1.rules, eth1.neighbours) == ([], [NeighbourRecord(address="10.0.0.9", mac="02:00:00:00:00:09")])
    assert left_out(found) == ["rule 72 of IPv4, which looks at more than addresses"]
