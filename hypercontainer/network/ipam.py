"""Addresses: which a pod gets, and what follows from it. Pure."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hypercontainer.errors import Exhausted, InvalidInput
from hypercontainer.model.record import NicRecord, RouteRecord
from hypercontainer.model.settings import Settings
from hypercontainer.network import tap

BRIDGE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,14}")


@dataclass(frozen=True)
class Plan:
    """The bridge and its subnets, checked. `subnet6` is None when there is no IPv6."""

    bridge: str
    subnet: ipaddress.IPv4Network
    subnet6: ipaddress.IPv6Network | None

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        return self.subnet[1]

    @property
    def gateway6(self) -> ipaddress.IPv6Address | None:
        return self.subnet6[1] if self.subnet6 else None


def plan(settings: Settings) -> Plan:
    """Check what the settings say of the network. Raises InvalidInput that names the setting."""
    if not BRIDGE.fullmatch(settings.bridge):
        raise InvalidInput(f"invalid bridge {settings.bridge!r}: use 1 to 15 of [a-zA-Z0-9_-], a letter first")
    try:
        subnet = ipaddress.IPv4Network(settings.subnet)
        subnet6 = ipaddress.IPv6Network(settings.subnet6) if settings.subnet6 else None
    except ValueError as e:
        raise InvalidInput(f"invalid subnet or subnet6: {e}") from e
    if not 8 <= subnet.prefixlen <= 29:
        raise InvalidInput(f"invalid subnet {subnet}: its prefix must have 8 to 29 bits")
    if subnet6 and subnet6.num_addresses < subnet.num_addresses:
        raise InvalidInput(f"invalid subnet6 {subnet6}: it has fewer addresses than {subnet}")
    return Plan(settings.bridge, subnet, subnet6)


def nic(net: Plan, pod_id: str, used: Sequence[NicRecord], mtu: int) -> NicRecord:
    """The record of a new interface, without ports: the lowest address that nobody uses. Raises Exhausted.

    MAC and IPv6 address follow from the IPv4 address, so that what neighbours remember of it stays true
    when it passes to another pod.
    """
    taken = {ipaddress.IPv4Interface(record.address).ip for record in used}
    for number in range(2, net.subnet.num_addresses - 1):
        address = net.subnet[number]
        if address not in taken:
            break
    else:
        raise Exhausted(f"cannot add a pod to {net.bridge}: no address is free in {net.subnet}")
    return NicRecord(
        tap=tap.name(pod_id),
        mac=mac(address),
        addresses=[f"{subnet[number]}/{subnet.prefixlen}" for subnet in (net.subnet, net.subnet6) if subnet],
        routes=[RouteRecord(dst="default", gateway=str(gw)) for gw in (net.gateway, net.gateway6) if gw],
        mtu=mtu,
    )


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
