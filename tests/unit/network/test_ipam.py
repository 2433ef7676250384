"""Addresses: the lowest free one, and what follows from it."""

import ipaddress

import pytest
from msgspec.structs import replace

from hypercontainer.errors import Exhausted, InUse, InvalidInput
from hypercontainer.model.record import NicRecord, RouteRecord, SubnetRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import EndpointSpec
from hypercontainer.network import ipam, tap
from hypercontainer.network.ipam import Plan
from hypercontainer.network.store import default

NET = ipam.plan(default(Settings()))


def test_the_first_pod() -> None:
    assert ipam.nic(NET, "0123456789ab", [], 1400) == NicRecord(
        tap="hy0123456789ab",
        network="bridge",
        mac="02:68:c0:a8:7b:02",
        addresses=["192.168.123.2/24", "fd68:7970:6572::2/64"],
        routes=[
            RouteRecord(dst="default", gateway="192.168.123.1"),
            RouteRecord(dst="default", gateway="fd68:7970:6572::1"),
        ],
        mtu=1400,
    )


def test_gaps_are_filled_and_addresses_never_shared() -> None:
    nics: list[NicRecord] = []
    for n in range(253):
        nics.append(ipam.nic(NET, f"p{n}", nics, 1500))
    assert len({nic.address for nic in nics}) == len({nic.mac for nic in nics}) == 253
    with pytest.raises(Exhausted):
        ipam.nic(NET, "more", nics, 1500)
    gone = nics.pop(100)
    again = ipam.nic(NET, "more", nics, 1500)
    assert (again.address, again.mac, again.address6) == (gone.address, gone.mac, gone.address6)


@pytest.mark.parametrize("pod_id", ["", "x" * 14, "a/b", "A", 'a"', "a b", "../x"])
def test_only_ids_name_a_tap(pod_id: str) -> None:
    with pytest.raises(InvalidInput):
        tap.name(pod_id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bridge": ""},
        {"bridge": "a" * 16},
        {"bridge": 'x" drop'},
        {"bridge": "a;b"},
        {"subnet": "10.0.0.0/31"},
        {"subnet": "10.0.0.1/24"},
        {"subnet": "nonsense"},
        {"subnet": "0.0.0.0/0"},
        {"subnet6": "fd00::/120", "subnet": "10.0.0.0/16"},
        {"subnet6": "10.0.0.0/8"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        ipam.plan(default(Settings(**wrong)))  # type: ignore[arg-type]


def test_link_local_is_what_a_kernel_derives() -> None:
    assert ipam.link_local("02:68:c0:a8:7b:02") == ipaddress.IPv6Address("fe80::68:c0ff:fea8:7b02")


def net(**of4: object) -> Plan:
    six = SubnetRecord(subnet="fd00::/64", gateway="fd00::ff", ip_range="fd00::a:0/112")
    four = SubnetRecord(subnet="10.0.0.0/24", gateway="10.0.0.1", **of4)  # type: ignore[arg-type]
    return ipam.plan(replace(default(Settings()), subnets=[four, six]))


def test_reserved_addresses_are_nobody_s() -> None:
    reserved = net(reserved={"router": "10.0.0.2", "other": "fd00::a:3"})
    assert ipam.nic(reserved, "p", [], 1500).addresses == ["10.0.0.4/24", "fd00::a:4/64"]
    with pytest.raises(InvalidInput, match="it is reserved"):
        ipam.check(reserved, EndpointSpec(address="10.0.0.2"))
    for wrong in "10.1.0.2", "x":
        with pytest.raises(InvalidInput):
            net(reserved={"router": wrong})


def test_a_mac_address_of_one_s_own() -> None:
    plan, mac = net(), "02:42:ac:11:00:0a"
    nics = [ipam.nic(plan, "p1", [], 1500, endpoint=EndpointSpec(mac=mac))]
    assert (nics[0].mac, nics[0].address) == (mac, "10.0.0.2/24")
    with pytest.raises(InUse, match="p2 has it"):
        ipam.nic(plan, "p3", nics, 1500, endpoint=EndpointSpec(mac=mac), owners={nics[0].tap: "p2"})


def test_no_two_have_the_same_mac_address() -> None:
    """One that somebody chose may be that which follows from an address that is free."""
    plan = net()
    nics = [
        ipam.nic(plan, "p1", [], 1500, endpoint=EndpointSpec(mac=ipam.nic(plan, "p", [], 1500).mac, address="10.0.0.9"))
    ]
    assert ipam.nic(plan, "p2", nics, 1500).address == "10.0.0.3/24"


@pytest.mark.parametrize("mac", ["x", "03:00:00:00:00:01", "02:00:00:00:00", "02:00:00:00:00:0A", '02:00:00:00:00:01"'])
def test_mac_addresses_that_are_none(mac: str) -> None:
    with pytest.raises(InvalidInput, match="invalid MAC address"):
        ipam.check(net(), EndpointSpec(mac=mac))
