"""The interfaces of a network namespace, as iproute2 tells of them -> those that a pod has of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.model.record import MOST_NICS, RouteRecord

Document = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Interface:
    """One that leads out of the namespace, and what a guest that is to be in its place must have."""

    name: str
    mac: str
    mtu: int
    addresses: list[str] = field(default_factory=list)
    routes: list[RouteRecord] = field(default_factory=list)


def find(links: Document, routes: Document) -> list[Interface]:
    """Of `ip -j addr`, and `ip -j route` of both families: those that have an address, in the order of their names.

    Unavailable when one of them cannot be had by a VM, Exhausted when there are too many."""
    own = [link for link in links if "LOOPBACK" not in link["flags"] and _addresses(link)]
    for link in own:
        if link["link_type"] != "ether":
            raise Unavailable(
                f"cannot give a VM interface {link['ifname']}: it is no Ethernet, but {link['link_type']}"
            )
    if len(own) > MOST_NICS:
        raise Exhausted(f"cannot give a VM {len(own)} interfaces: it has {MOST_NICS} at most")
    # so that where the guest's kernel has called them eth0, eth1 …, none has the name of one that comes after it
    return [_interface(link, routes) for link in sorted(own, key=lambda link: (len(link["ifname"]), link["ifname"]))]


def _interface(link: Mapping[str, Any], routes: Document) -> Interface:
    name = link["ifname"]
    leaving = [route for route in routes if name in (route.get("dev"), *_hops(route))]
    kernels = {route["dst"] for route in leaving if route.get("protocol") == "kernel"}
    return Interface(
        name=name,
        mac=link["address"],
        mtu=link["mtu"],
        addresses=[_as_routed(address, kernels) for address in _addresses(link)],
        routes=_routes([route for route in leaving if route.get("protocol") != "kernel"]),
    )


def _addresses(link: Mapping[str, Any]) -> list[str]:
    """Without those that a guest's kernel makes of the MAC address, and those that somebody else has too."""
    return [
        f"{address['local']}/{address['prefixlen']}"
        for address in link["addr_info"]
        if "local" in address
        and not address.get("dadfailed")
        and not (address["family"] == "inet6" and address["scope"] == "link")
    ]


def _as_routed(address: str, kernels: set[str]) -> str:
    """A guest's kernel makes a route of an address's prefix. Where there was none, the address is all of it."""
    interface = ip_interface(address)
    return address if str(interface.network) in kernels else f"{interface.ip}/{interface.max_prefixlen}"


def _hops(route: Mapping[str, Any]) -> list[str]:
    return [hop.get("dev", "") for hop in route.get("nexthops", ())]


def _routes(routes: Document) -> list[RouteRecord]:
    """Those without a gateway first: they lead to the gateways of others."""
    for route in routes:
        if "nexthops" in route or "via" in route or route.get("type", "unicast") != "unicast":
            raise Unavailable(f"cannot give a VM the route to {route['dst']}: it is not to one gateway of its family")
    links = {route["dst"]: RouteRecord(dst=route["dst"], gateway="", device=route["dev"])
             for route in routes if "gateway" not in route}  # fmt: skip
    for route in routes:
        if "onlink" in route.get("flags", ()):
            gateway = ip_interface(route["gateway"])
            links.setdefault(str(gateway.ip), RouteRecord(dst=str(gateway), gateway="", device=route["dev"]))
    others = [
        RouteRecord(dst=route["dst"], gateway=route["gateway"], device=route["dev"])
        for route in routes if "gateway" in route
    ]  # fmt: skip
    return [*links.values(), *others]
