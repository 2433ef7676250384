"""What is in a network namespace -> the interfaces that a pod has of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.model.record import MOST_NICS, RouteRecord
from hypercontainer.network.rtnetlink import Address, Found, Link, Route


@dataclass(frozen=True, kw_only=True)
class Interface:
    """One that leads out of the namespace, and what a guest that is to be in its place must have."""

    name: str
    mac: str
    mtu: int
    addresses: list[str] = field(default_factory=list)
    routes: list[RouteRecord] = field(default_factory=list)


def find(found: Found) -> list[Interface]:
    """Those that have an address, in the order of their names.

    Unavailable when one of them cannot be had by a VM, Exhausted when there are too many."""
    own = [link for link in found.links if not link.loopback and _addresses(link, found.addresses)]
    for link in own:
        if link.kind != "ether":
            raise Unavailable(f"cannot give a VM interface {link.name}: it is no Ethernet, but {link.kind}")
    if len(own) > MOST_NICS:
        raise Exhausted(f"cannot give a VM {len(own)} interfaces: it has {MOST_NICS} at most")
    # so that where the guest's kernel has called them eth0, eth1 …, none has the name of one that comes after it
    return [_interface(link, found) for link in sorted(own, key=lambda link: (len(link.name), link.name))]


def _interface(link: Link, found: Found) -> Interface:
    leaving = [route for route in found.routes if link.name in (route.device, *route.others)]
    kernels = {route.dst for route in leaving if route.kernels}
    return Interface(
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        addresses=[_as_routed(address, kernels) for address in _addresses(link, found.addresses)],
        routes=_routes([route for route in leaving if not route.kernels]),
    )


def _addresses(link: Link, addresses: Sequence[Address]) -> list[str]:
    """Without those that a guest's kernel makes of the MAC address, and those that somebody else has too."""
    return [each.text for each in addresses if each.link == link.number and not each.taken and not each.link_local]


def _as_routed(address: str, kernels: set[str]) -> str:
    """A guest's kernel makes a route of an address's prefix. Where there was none, the address is all of it."""
    interface = ip_interface(address)
    return address if str(interface.network) in kernels else f"{interface.ip}/{interface.max_prefixlen}"


def _routes(routes: Sequence[Route]) -> list[RouteRecord]:
    """Those without a gateway first: they lead to the gateways of others."""
    for route in routes:
        if not route.plain:
            raise Unavailable(f"cannot give a VM the route to {route.dst}: it is not to one gateway of its family")
    links = {
        route.dst: RouteRecord(dst=route.dst, gateway="", device=route.device) for route in routes if not route.gateway
    }
    for route in routes:
        if route.onlink:
            gateway = ip_interface(route.gateway)
            links.setdefault(str(gateway.ip), RouteRecord(dst=str(gateway), gateway="", device=route.device))
    others = [
        RouteRecord(dst=route.dst, gateway=route.gateway, device=route.device) for route in routes if route.gateway
    ]
    return [*links.values(), *others]
