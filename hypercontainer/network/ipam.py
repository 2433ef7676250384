"""Addresses: which a pod gets, and what follows from it. Pure."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hypercontainer.errors import Exhausted, InUse, InvalidInput
from hypercontainer.model.record import NetworkRecord, NicRecord, RouteRecord, SubnetRecord
from hypercontainer.model.spec import ANY, EndpointSpec
from hypercontainer.network import options, tap

BRIDGE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,14}")

MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")  # of one interface, not of many

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one[0] <= other[-1] and other[0] <= one[-1]  # type: ignore[operator]


def within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A bridge and its subnets, checked. `subnet6` and `gateway6` are None when there is no IPv6."""

    network: str  # its name
    bridge: str
    subnet: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    chosen: ipaddress.IPv4Network  # where addresses are chosen from
    subnet6: ipaddress.IPv6Network | None = None
    gateway6: ipaddress.IPv6Address | None = None
    chosen6: ipaddress.IPv6Network | None = None
    reserved: frozenset[IPAddress] = frozenset()  # nobody's but theirs who are outside of this
    internal: bool = False
    mtu: int = 0  # 0: that of the interface by which the host reaches the world


def plan(record: NetworkRecord) -> Plan:
    """What `record` says, checked. Raises InvalidInput that names what is wrong."""
    if not BRIDGE.fullmatch(record.bridge):
        raise InvalidInput(f"invalid bridge {record.bridge!r}: use 1 to 15 of [a-zA-Z0-9_-], a letter first")
    four, six = _of(record.subnets, 4), _of(record.subnets, 6)
    if len(four) != 1 or len(six) > 1:
        raise InvalidInput(f"invalid network {record.name}: it has one subnet of IPv4, and one of IPv6 at most")
    try:
        subnet = ipaddress.IPv4Network(four[0].subnet)
        gateway = ipaddress.IPv4Address(four[0].gateway)
        chosen = ipaddress.IPv4Network(four[0].ip_range or four[0].subnet)
        subnet6 = ipaddress.IPv6Network(six[0].subnet) if six else None
        gateway6 = ipaddress.IPv6Address(six[0].gateway) if six else None
        chosen6 = ipaddress.IPv6Network(six[0].ip_range or six[0].subnet) if six else None
        reserved = frozenset(ipaddress.ip_address(text) for each in record.subnets for text in each.reserved.values())
    except ValueError as e:
        raise InvalidInput(
            f"invalid subnet, gateway, ip_range or reserved address of network {record.name}: {e}"
        ) from e
    made = Plan(
        network=record.name,
        bridge=record.bridge,
        subnet=subnet,
        gateway=gateway,
        chosen=chosen,
        subnet6=subnet6,
        gateway6=gateway6,
        chosen6=chosen6,
        reserved=reserved,
        internal=record.internal,
        mtu=options.mtu(record.options),
    )
    _check(made)
    return made


def _of(subnets: Sequence[SubnetRecord], family: int) -> list[SubnetRecord]:
    return [subnet for subnet in subnets if (6 if ":" in subnet.subnet else 4) == family]


def _check(net: Plan) -> None:
    if not 8 <= net.subnet.prefixlen <= 29:
        raise InvalidInput(f"invalid subnet {net.subnet}: its prefix must have 8 to 29 bits")
    if not net.chosen.subnet_of(net.subnet):
        raise InvalidInput(f"invalid ip_range {net.chosen}: it is not within {net.subnet}")
    if net.subnet6 and net.chosen6 and not net.chosen6.subnet_of(net.subnet6):
        raise InvalidInput(f"invalid ip_range {net.chosen6}: it is not within {net.subnet6}")
    for address in net.reserved:
        if address not in net.subnet and (net.subnet6 is None or address not in net.subnet6):
            raise InvalidInput(f"invalid reserved address {address}: it is not within {net.subnet}")
    for subnet, gateway in ((net.subnet, net.gateway), (net.subnet6, net.gateway6)):
        if subnet and gateway and (gateway not in subnet or gateway in (subnet[0], subnet[-1])):
            raise InvalidInput(f"invalid gateway {gateway}: it is no address for a host in {subnet}")
    for subnet in (net.subnet, net.subnet6):
        if subnet and (subnet.is_loopback or subnet.is_multicast or subnet.is_link_local):
            raise InvalidInput(f"invalid subnet {subnet}: it is for other things")
    if net.chosen6 and net.chosen6.num_addresses < net.subnet.num_addresses:
        raise InvalidInput(f"invalid subnet6 {net.chosen6}: it has fewer addresses than {net.subnet}")


def nic(
    net: Plan,
    pod_id: str,
    used: Sequence[NicRecord],
    mtu: int,
    *,
    endpoint: EndpointSpec = ANY,
    number: int = 0,
    owners: Mapping[str, str] | None = None,
) -> NicRecord:
    """The record of a new interface, without ports: the address that `endpoint` wants, or the lowest that nobody uses.
    InUse names who has it, Exhausted: none is free.

    MAC and IPv6 address follow from the IPv4 address, so that what neighbours remember of it stays true when it passes
    to another pod.
    """
    taken = {address.partition("/")[0]: record.tap for record in used for address in record.addresses}
    wanted = _wanted(net, endpoint)
    for asked in map(str, wanted):
        if asked in taken:
            who = (owners or {}).get(taken[asked], f"interface {taken[asked]}")
            words = f"cannot use address {asked} of network {net.network}: {who} has it"
            raise InUse(words, "address", str(asked), [who])
    macs = {record.mac: record.tap for record in used}
    if endpoint.mac in macs:
        who = (owners or {}).get(macs[endpoint.mac], f"interface {macs[endpoint.mac]}")
        words = f"cannot use MAC address {endpoint.mac} in network {net.network}: {who} has it"
        raise InUse(words, "MAC address", endpoint.mac, [who])
    for address, address6 in _pairs(net, *wanted):
        if not {str(address), str(address6)} & taken.keys() and (endpoint.mac or mac(address)) not in macs:
            break
    else:
        raise Exhausted(f"cannot add a pod to network {net.network}: no address is free in {net.chosen}")
    return NicRecord(
        number=number,
        tap=tap.name(pod_id, number),
        mac=endpoint.mac or mac(address),
        name=f"eth{number}",
        network=net.network,
        addresses=[
            f"{ip}/{subnet.prefixlen}" for ip, subnet in ((address, net.subnet), (address6, net.subnet6)) if subnet
        ],
        routes=[RouteRecord(dst="default", gateway=str(gw)) for gw in gateways(net) if not net.internal],
        mtu=mtu,
    )


def gateways(net: Plan) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The host's own addresses there."""
    return [net.gateway, net.gateway6] if net.gateway6 else [net.gateway]


def check(net: Plan, endpoint: EndpointSpec) -> None:
    """InvalidInput when the network can never give a pod the addresses that `endpoint` wants."""
    _wanted(net, endpoint)
    if endpoint.mac and not MAC.fullmatch(endpoint.mac):
        raise InvalidInput(
            f"invalid MAC address {endpoint.mac[:40]!r}: use six of 00 to ff, in lower case, with : between"
        )


Wanted = tuple[ipaddress.IPv4Address | None, ipaddress.IPv6Address | None]


def _wanted(net: Plan, endpoint: EndpointSpec) -> Wanted:
    try:
        address = ipaddress.IPv4Address(endpoint.address) if endpoint.address else None
        address6 = ipaddress.IPv6Address(endpoint.address6) if endpoint.address6 else None
    except ValueError as e:
        raise InvalidInput(f"invalid address in network {net.network}: {e}") from e
    if address6 and not net.subnet6:
        raise InvalidInput(f"cannot use address {address6} of network {net.network}: it has no IPv6")
    for asked, subnet, gateway in ((address, net.subnet, net.gateway), (address6, net.subnet6, net.gateway6)):
        if asked and subnet and (asked not in subnet or asked in (subnet[0], subnet[-1], gateway)):
            why = "it is the host's own" if asked == gateway else f"it is no address for a pod in {subnet}"
            raise InvalidInput(f"cannot use address {asked} of network {net.network}: {why}")
        if asked in net.reserved:
            raise InvalidInput(f"cannot use address {asked} of network {net.network}: it is reserved")
    return address, address6


def _pairs(
    net: Plan, address: ipaddress.IPv4Address | None, address6: ipaddress.IPv6Address | None
) -> Iterator[tuple[ipaddress.IPv4Address, ipaddress.IPv6Address | None]]:
    """What a pod may get where nobody has anything yet, the lowest first."""
    first, last, taken = int(net.subnet[0]), int(net.subnet[-1]), net.reserved | {net.gateway, net.gateway6}
    for number in [int(address)] if address else range(int(net.chosen[0]), int(net.chosen[-1]) + 1):
        own, own6 = ipaddress.IPv4Address(number), address6 or (net.chosen6[number - first] if net.chosen6 else None)
        if number not in (first, last) and own not in taken and (own6 is None or own6 not in taken):
            yield own, own6


def addresses(nic: NicRecord) -> list[str]:
    """The pod's addresses, without their prefixes."""
    return [str(ipaddress.ip_interface(address).ip) for address in nic.addresses]


def mac(address: ipaddress.IPv4Address) -> str:
    """A locally administered, unicast MAC."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x68" + address.packed)


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The fe80:: address that a kernel derives from `mac` (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])
