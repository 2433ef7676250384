"""Subnets of new networks."""

from ipaddress import ip_network

import pytest

from hypercontainer.errors import Exhausted, HyperError, InUse, InvalidInput
from hypercontainer.model.record import SubnetRecord
from hypercontainer.model.settings import ADDRESS_POOLS, AddressPool
from hypercontainer.model.spec import SubnetSpec
from hypercontainer.network import pools

POOLS = [
    AddressPool(base="10.9.0.0/22", size=24),
    AddressPool(base="172.30.0.0/23", size=24),
    AddressPool(base="fd09::/63", size=64),
]


def test_the_first_that_nobody_has_is_chosen() -> None:
    taken = {ip_network("10.9.0.128/25"): "db", ip_network("fd09::/64"): "db"}
    routes = [ip_network("10.9.1.7/32"), ip_network("10.9.2.0/23")]
    assert pools.subnets([], True, POOLS, taken, routes) == [
        SubnetRecord(subnet="172.30.0.0/24", gateway="172.30.0.1"),
        SubnetRecord(subnet="fd09:0:0:1::/64", gateway="fd09:0:0:1::1"),
    ]
    assert pools.subnets([], False, POOLS, {}, [])[0].subnet == "10.9.0.0/24"


def test_a_wider_route_of_the_host_is_passed_over() -> None:
    [chosen] = pools.subnets([], False, ADDRESS_POOLS, {}, [ip_network("10.0.0.0/8")])
    assert chosen.subnet == "172.24.0.0/24"


def test_what_was_asked_for_is_given() -> None:
    asked = [
        SubnetSpec(subnet="fd00::/64"),
        SubnetSpec(subnet="10.1.0.0/16", gateway="10.1.9.9", ip_range="10.1.2.0/24"),
    ]
    assert pools.subnets(asked, False, POOLS, {}, [ip_network("10.0.0.0/8")]) == [
        SubnetRecord(subnet="fd00::/64", gateway="fd00::1"),
        SubnetRecord(subnet="10.1.0.0/16", gateway="10.1.9.9", ip_range="10.1.2.0/24"),
    ]


@pytest.mark.parametrize(
    ("subnet", "error", "words"),
    [
        ("10.5.0.0/24", InUse, "cannot use subnet 10.5.0.0/24: network db has 10.5.0.0/16"),
        ("10.0.0.0/8", InUse, "network db has"),
        ("10.5.1.0/8", InvalidInput, "invalid subnet: 10.5.1.0/8 has host bits set"),
        ("web", InvalidInput, "invalid subnet"),
        ("10.6.0.0/32", InvalidInput, "too few addresses"),
    ],
)
def test_what_cannot_be_given_is_refused(subnet: str, error: type[HyperError], words: str) -> None:
    with pytest.raises(error, match=words):
        pools.subnets([SubnetSpec(subnet=subnet)], False, POOLS, {ip_network("10.5.0.0/16"): "db"}, [])


def test_pools_that_are_used_up_say_so() -> None:
    with pytest.raises(Exhausted, match="cannot find a free subnet of IPv4"):
        pools.subnets([], False, POOLS, {}, [ip_network("10.0.0.0/8"), ip_network("172.16.0.0/12")])
    with pytest.raises(Exhausted, match="IPv6"):
        pools.subnets([], True, POOLS[:1], {}, [])


@pytest.mark.parametrize("base, size", [("10.0.0.0/24", 16), ("10.0.0.1/8", 24), ("10.0.0.0/8", 30), ("x", 24)])
def test_pools_that_make_no_sense_are_refused(base: str, size: int) -> None:
    pools.check(ADDRESS_POOLS)
    with pytest.raises(InvalidInput, match="address_pools"):
        pools.check([AddressPool(base=base, size=size)])
