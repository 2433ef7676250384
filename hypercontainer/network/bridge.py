"""The bridge that pods hang on, and what the kernel must be told for packets to pass it."""

import ipaddress
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypercontainer.errors import HyperError, InUse
from hypercontainer.lib import proc
from hypercontainer.network import tap
from hypercontainer.network.ipam import IPNetwork, Plan, mac, within

SYSCTL = Path("/proc/sys/net")  # of the network namespace that we are in, unlike /sys
IP_TIMEOUT_S = 30.0
RTF_UP = 1  # linux/route.h


async def ensure(net: Plan, owner: str) -> None:
    """Make the bridge as it should be; what is right already is not touched.

    `owner` says whose it is. Raises InUse when the bridge is someone else's or the subnet is in use elsewhere.
    """
    links = await links_of(["dev", net.bridge], check=False)
    alias = links[0].get("ifalias", "") if links else ""
    if links and alias != owner and (not alias.startswith("hyper:") or await ports(net)):
        whose = alias or "made by someone else"
        words = f"cannot use bridge {net.bridge}: it is not ours ({whose}); choose another name"
        raise InUse(words, "bridge", net.bridge, [whose])
    _check_routes(net)
    if commands := list(_commands(net, owner, links[0] if links else {})):
        await _ip(commands)
    _sysctls(net)


async def remove(net: Plan, owner: str) -> bool:
    """Remove the bridge; one that is not there is fine. False: it is not the `owner`'s, and stays."""
    links = await links_of(["dev", net.bridge], check=False)
    if links and links[0].get("ifalias") != owner:
        return False
    await remove_link(net.bridge)
    return True


def _commands(net: Plan, owner: str, link: dict[str, Any]) -> Iterator[str]:
    br = net.bridge
    if not link:
        # No spanning tree and so no wait before a port forwards. Its own MAC, or it would take that of some port.
        options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        yield f"link add name {br} address {mac(net.gateway)} {options}"
    if link.get("ifalias") != owner:
        yield f"link set dev {br} alias {owner}"
    has = {f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", [])}
    for address, options in _addresses(net):
        if address not in has:
            yield f"addr add {address} dev {br} {options}"
    if "UP" not in link.get("flags", []):
        yield f"link set dev {br} up"


def _addresses(net: Plan) -> Iterator[tuple[str, str]]:
    yield f"{net.gateway}/{net.subnet.prefixlen}", f"broadcast {net.subnet.broadcast_address}"
    if net.subnet6:
        # Nobody else has it, and without ports the bridge has no carrier to find that out.
        yield f"{net.gateway6}/{net.subnet6.prefixlen}", "nodad"


async def links_of(what: list[str], *, check: bool = True) -> list[dict[str, Any]]:
    """`ip -j -d addr show WHAT`: interfaces with their addresses. Without `check`, none if that fails."""
    result = await proc.run(["ip", "-j", "-d", "addr", "show", *what], timeout_s=IP_TIMEOUT_S, check=check)
    found: list[dict[str, Any]] = json.loads(result.stdout or b"[]")
    return [link for link in found if link]  # iproute2 prints {} for what a filter leaves out


async def ports(net: Plan) -> list[str]:
    """The names of the bridge's ports."""
    return [str(link["ifname"]) for link in await links_of(["master", net.bridge], check=False)]


async def remove_link(name: str) -> None:
    """Remove an interface, in use or not; one that is not there is fine."""
    if tap.exists(name):
        result = await proc.run(["ip", "link", "del", "dev", name], timeout_s=IP_TIMEOUT_S, check=False)
        if result.status and tap.exists(name):
            raise HyperError(f"cannot remove interface {name}: {result.stderr.decode(errors='replace').strip()}")


async def _ip(commands: list[str]) -> None:
    await proc.run(["ip", "-batch", "-"], stdin="\n".join([*commands, ""]).encode(), timeout_s=IP_TIMEOUT_S)


def _check_routes(net: Plan) -> None:
    """Refuse a subnet that this host reaches, in part or whole, by another interface."""
    for device, route in routes():
        subnet = net.subnet if route.version == 4 else net.subnet6
        if device != net.bridge and route.prefixlen and subnet and within(route, subnet):
            words = f"cannot use subnet {subnet}: {device} leads to {route}; choose another one"
            raise InUse(words, "subnet", str(subnet), [device])


def routes() -> Iterator[tuple[str, IPNetwork]]:
    """Where this host leads by which interface; not what it is itself."""
    yield from _routes4()
    yield from _routes6()


def _routes6() -> Iterator[tuple[str, ipaddress.IPv6Network]]:
    try:
        with open("/proc/net/ipv6_route") as f:
            lines = list(f)
    except FileNotFoundError:
        return  # a host without IPv6
    for line in lines:
        fields = line.split()
        net = ipaddress.IPv6Network((int(fields[0], 16), int(fields[1], 16)))
        if int(fields[8], 16) & RTF_UP and fields[9] != "lo" and not net.is_link_local and not net.is_multicast:
            yield fields[9], net


def _routes4() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    with open("/proc/net/route") as f:
        for line in list(f)[1:]:
            fields = line.split()
            address, mask = (int.from_bytes(bytes.fromhex(fields[n]), "little") for n in (1, 7))
            yield fields[0], ipaddress.IPv4Network((address, mask.bit_count()))


def uplink_mtu() -> int:
    """The MTU of the interface that the default route leaves by: more could only be sent in pieces. 1500 if none."""
    try:
        return min(1500, *(tap.mtu(device) for device, route in _routes4() if not route.prefixlen), 1500)
    except OSError:
        return 1500  # it went just now


def _sysctls(net: Plan) -> None:
    for name, value in (
        ("ipv4/ip_forward", "1"),
        (f"ipv4/conf/{net.bridge}/route_localnet", "1"),  # for 127.0.0.1:PORT; `rules` keeps pods from using it
        (f"ipv4/conf/{net.bridge}/send_redirects", "0"),
    ):
        _write(name, value)
    if net.subnet6:
        _write(f"ipv6/conf/{net.bridge}/accept_ra", "0")  # a pod is no router of this host's
        _forward6()


def _forward6() -> None:
    """Forward IPv6, and keep listening to the routers that the host has listened to so far.

    A host that forwards ignores router advertisements unless accept_ra is 2: it would lose its default route.
    """
    if (SYSCTL / "ipv6/conf/all/forwarding").read_text().strip() == "1":
        return
    for interface in os.listdir(SYSCTL / "ipv6/conf"):
        if interface not in ("all", "lo") and (SYSCTL / f"ipv6/conf/{interface}/accept_ra").read_text().strip() == "1":
            _write(f"ipv6/conf/{interface}/accept_ra", "2")
    _write("ipv6/conf/all/forwarding", "1")


def _write(name: str, value: str) -> None:
    """Set a sysctl unless it has that value: a container may be shown them read-only."""
    path = SYSCTL / name
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as e:
        raise HyperError(f"cannot set net/{name} to {value}: {e.strerror}") from e


def ipv6_available() -> bool:
    try:
        return (SYSCTL / "ipv6/conf/all/disable_ipv6").read_text().strip() == "0"
    except FileNotFoundError:
        return False
