"""What is in a network namespace -> the interfaces that a pod has of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.model.record import MOST_NICS, HopRecord, NeighbourRecord, RouteRecord, RuleRecord
from hypercontainer.network.rtnetlink import Address, Found, Link, Route


@dataclass(frozen=True, kw_only=True)
class Interface:
    """One that leads out of the namespace, and what a guest that is to be in its place must have."""

    name: str
    mac: str
    mtu: int
    addresses: list[str] = field(default_factory=list)
    routes: list[RouteRecord] = field(default_factory=list)
    rules: list[RuleRecord] = field(default_factory=list)
    neighbours: list[NeighbourRecord] = field(default_factory=list)


def find(found: Found) -> list[Interface]:
    """Those that have an address, in the order of their names. What is of none, rules and routes that lead nowhere, is
    the first one's.

    Unavailable when one of them cannot be had by a VM, Exhausted when there are too many."""
    own = [link for link in found.links if not link.loopback and _addresses(link, found.addresses)]
    for link in own:
        if link.kind != "ether":
            raise Unavailable(f"cannot give a VM interface {link.name}: it is no Ethernet, but {link.kind}")
    if len(own) > MOST_NICS:
        raise Exhausted(f"cannot give a VM {len(own)} interfaces: it has {MOST_NICS} at most")
    # so that where the guest's kernel has called them eth0, eth1 …, none has the name of one that comes after it
    ordered = sorted(own, key=lambda link: (len(link.name), link.name))
    return [_interface(link, found, first=link is ordered[0]) for link in ordered]


def left_out(found: Found) -> list[str]:
    """What no machine gets of it, in words."""
    return [
        f"rule {rule.priority} of IPv{rule.family}, which looks at more than addresses"
        for rule in found.rules
        if not rule.plain
    ]


def _interface(link: Link, found: Found, *, first: bool) -> Interface:
    leaving = [
        route for route in found.routes
        if link.name == (route.hops[0].device if route.hops else route.device) or (first and route.kind)
    ]  # fmt: skip
    kernels = {route.dst for route in leaving if route.kernels}
    return Interface(
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        addresses=[_as_routed(address, kernels) for address in _addresses(link, found.addresses)],
        routes=_routes([route for route in leaving if not route.kernels]),
        rules=[
            RuleRecord(priority=rule.priority, family=rule.family, table=rule.table, source=rule.source, dst=rule.dst)
            for rule in found.rules
            if first and rule.plain
        ],
        neighbours=[
            NeighbourRecord(address=each.address, mac=each.mac)
            for each in sorted(found.neighbours)
            if each.link == link.number
        ],
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
            raise Unavailable(f"cannot give a VM the route to {route.dst}: it is not to gateways of its family")
    return [_route(route) for route in sorted(routes, key=lambda route: bool(route.gateway or route.hops))]


def _route(route: Route) -> RouteRecord:
    return RouteRecord(
        dst=route.dst,
        gateway=route.gateway,
        device="" if route.kind or route.hops else route.device,
        kind=route.kind,
        table=route.table,
        metric=route.metric,
        source=route.source,
        metrics=list(route.metrics),
        onlink=route.onlink,
        hops=[HopRecord(gateway=hop.gateway, device=hop.device, weight=hop.weight) for hop in route.hops],
    )
