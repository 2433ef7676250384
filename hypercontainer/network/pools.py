"""Which subnets a new network has: those that were asked for, or free ones out of address pools. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from hypercontainer.errors import Exhausted, InUse, InvalidInput
from hypercontainer.model.record import SubnetRecord
from hypercontainer.model.settings import AddressPool
from hypercontainer.model.spec import SubnetSpec
from hypercontainer.network.ipam import IPNetwork, overlap

MOST_TRIED = 65536  # subnets of one pool
SETTING = "`address_pools` in config.toml"


def check(pools: Sequence[AddressPool]) -> None:
    """InvalidInput names what is wrong with the setting."""
    for pool in pools:
        base = network(pool.base, SETTING)
        if not base.prefixlen <= pool.size <= (29 if base.version == 4 else 124):
            raise InvalidInput(f"invalid {SETTING}: {base} holds no subnets of {pool.size} bits")


def subnets(
    asked: Sequence[SubnetSpec],
    ipv6: bool,
    pools: Sequence[AddressPool],
    taken: Mapping[IPNetwork, str],
    routes: Sequence[IPNetwork],
) -> list[SubnetRecord]:
    """One of IPv4, and with `ipv6`, or where one is asked for, one of that. `taken` are those of other networks, by
    their names, `routes` what this host reaches by other ways: neither is chosen.

    InUse for one that overlaps another network's, Exhausted when no pool has a free one, InvalidInput."""
    found = [_asked(each, taken) for each in asked]
    for version in (4, 6) if ipv6 else (4,):
        if not any(network(each.subnet, "subnet").version == version for each in found):
            chosen = _chosen(version, pools, [*taken, *routes])
            found.append(SubnetRecord(subnet=str(chosen), gateway=str(chosen[1])))
    return found


def _asked(spec: SubnetSpec, taken: Mapping[IPNetwork, str]) -> SubnetRecord:
    subnet = network(spec.subnet, "subnet")
    for other, name in taken.items():
        if overlap(subnet, other):
            words = f"cannot use subnet {subnet}: network {name} has {other}"
            raise InUse(words, "subnet", str(subnet), [f"network {name}"])
    if subnet.num_addresses < 8:
        raise InvalidInput(f"invalid subnet {subnet}: it has too few addresses")
    return SubnetRecord(
        subnet=str(subnet),
        gateway=spec.gateway or str(subnet[1]),
        ip_range=spec.ip_range,
        reserved=dict(spec.reserved),
    )


def network(text: str, what: str = "subnet") -> IPNetwork:
    try:
        return ipaddress.ip_network(text)
    except ValueError as e:
        raise InvalidInput(f"invalid {what}: {e}") from e


def _chosen(version: int, pools: Sequence[AddressPool], taken: Sequence[IPNetwork]) -> IPNetwork:
    for subnet in _offered(version, pools):
        if not any(overlap(subnet, other) for other in taken):
            return subnet
    raise Exhausted(f"cannot find a free subnet of IPv{version}: name one, or add to {SETTING}")


def _offered(version: int, pools: Sequence[AddressPool]) -> Iterator[IPNetwork]:
    for pool in pools:
        base = network(pool.base, SETTING)
        if base.version == version:
            step = 1 << base.max_prefixlen - pool.size
            for number in range(min(base.num_addresses // step, MOST_TRIED)):
                yield ipaddress.ip_network((int(base[0]) + number * step, pool.size))
