"""Addresses: the lowest free one, and what follows from it."""

import ipaddress

import pytest

from hypercontainer.errors import Exhausted, InvalidInput
from hypercontainer.model.record import NicRecord, RouteRecord
from hypercontainer.model.settings import Settings
from hypercontainer.network import ipam, tap
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
