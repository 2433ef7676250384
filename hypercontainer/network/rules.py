"""What nftables is told, as text. Pure: everything in it is a checked name, an address or a number of ours.

Two tables a network, both named after its bridge: `inet` (NAT, published ports, who may talk to whom) and `bridge`
(what a pod may say of who it is). `docs/architecture.md`, "Network", draws a packet's way through them.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.network import ipam
from hypercontainer.network.ipam import Plan, link_local


def base(net: Plan) -> str:
    """Both tables anew, without pods, as one transaction."""
    text = _inet(net) + _bridge(net)
    return gone(net) + text.replace("MARK", mark(net))


def gone(net: Plan) -> str:
    """Both tables away, whether they are there or not."""
    return "".join(f"add table {family} {net.bridge}\ndelete table {family} {net.bridge}\n" for family in FAMILIES)


FAMILIES = ("inet", "bridge")
LAYOUT = "layout_"  # what every `mark` begins with


def mark(net: Plan) -> str:
    """The name of an empty chain which tells that the tables are these very ones, and not an older version's; of what
    is in them of pods, too."""
    pod = "\n".join(_identity(net, ipam.nic(net, "any", [], 1500)))
    return LAYOUT + hashlib.sha256((_inet(net) + _bridge(net) + pod).encode()).hexdigest()[:12]


def _inet(net: Plan) -> str:
    return f"""\
table inet {net.bridge} {{
	map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
	map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
	map host4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
	map host6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
	chain MARK {{
	}}
{_internal(net) if net.internal else _routed(net)}}}
"""


def _routed(net: Plan) -> str:
    br, subnet = f'"{net.bridge}"', net.subnet
    return f"""\
	chain published {{
		meta l4proto {{ tcp, udp }} dnat ip to ip daddr . meta l4proto . th dport map @host4
		meta nfproto ipv4 meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @any4
		meta l4proto {{ tcp, udp }} dnat ip6 to ip6 daddr . meta l4proto . th dport map @host6
		meta nfproto ipv6 meta l4proto {{ tcp, udp }} dnat ip6 to meta l4proto . th dport map @any6
	}}
	chain raw {{
		type filter hook prerouting priority raw; policy accept;
		# route_localnet, which 127.0.0.1 as a published address needs, must not open our loopback to pods.
		iifname {br} ip daddr 127.0.0.0/8 drop
		iifname {br} ip saddr != {subnet} drop
{_only6(net, f"		iifname {br} ip6 saddr != {{ {net.subnet6}, fe80::/10, :: }} drop")}
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		# From this host itself such a packet passes `output`; from a wire it is somebody's trick.
		ip daddr 127.0.0.0/8 return
		fib daddr type local jump published
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		# Nothing leads from ::1 into another network: refused at once is better than silence.
		ip6 daddr ::1 return
		fib daddr type local jump published
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		oifname {br} ct state established,related accept
		oifname {br} iifname {br} accept
		oifname {br} ct status dnat accept
		oifname {br} drop
		iifname {br} ct state invalid drop
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		# A pod that reaches a pod by a published port, and this host by 127.0.0.1: the answer must come back here.
		oifname {br} ct status dnat ip saddr {{ 127.0.0.0/8, {subnet} }} masquerade
		oifname != {br} ip saddr {subnet} masquerade
{_only6(net, f"		oifname {br} ct status dnat ip6 saddr {net.subnet6} masquerade")}
{_only6(net, f"		oifname != {br} ip6 saddr {net.subnet6} masquerade")}
	}}
"""


def _internal(net: Plan) -> str:
    """Pods reach each other and the host's own address there, and nothing else, by whatever route they choose."""
    br = f'"{net.bridge}"'
    return f"""\
	chain raw {{
		type filter hook prerouting priority raw; policy accept;
		iifname {br} ip daddr != {{ {net.subnet}, 224.0.0.0/4, 255.255.255.255 }} drop
		iifname {br} ip saddr != {net.subnet} drop
{_only6(net, f"		iifname {br} ip6 daddr != {{ {net.subnet6}, fe80::/10, ff00::/8 }} drop")}
{_only6(net, f"		iifname {br} ip6 saddr != {{ {net.subnet6}, fe80::/10, :: }} drop")}
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		oifname {br} iifname {br} accept
		oifname {br} drop
		# A port that another network publishes at the host's address here is one, too.
		iifname {br} drop
	}}
"""


def _bridge(net: Plan) -> str:
    return f"""\
table bridge {net.bridge} {{
	map taps {{ type ifname : verdict; }}
	chain MARK {{
	}}
	chain prerouting {{
		type filter hook prerouting priority -300; policy accept;
		iifname vmap @taps
	}}
}}
"""


def _only6(net: Plan, rule: str) -> str:
    return rule if net.subnet6 else ""


def join(net: Plan, nic: NicRecord) -> list[str]:
    """What a new pod adds: who it may say it is, then its ports. Again = no change."""
    return [*_identity(net, nic), *publish(net, nic, nic.ports)]


def _identity(net: Plan, nic: NicRecord) -> Iterator[str]:
    chain = f"bridge {net.bridge} {nic.tap}"
    address = ipaddress.IPv4Interface(nic.address).ip
    yield f"add chain {chain}"
    yield f"flush chain {chain}"
    for rule in (
        f"ether saddr != {nic.mac} drop",
        "ether type != { ip, ip6, arp } drop",  # not by a VLAN either
        # Addresses are this host's business: a pod that gives them to others would be their way into the world.
        "udp sport 67 udp dport 68 drop",
        f"ip saddr {address} accept",
        f"arp saddr ip {address} arp saddr ether {nic.mac} accept",
        *_identity6(nic),
        "drop",  # also what is too short, or too strange, to be understood
    ):
        yield f"add rule {chain} {rule}"
    yield f'add element bridge {net.bridge} taps {{ "{nic.tap}" : jump {nic.tap} }}'


def _identity6(nic: NicRecord) -> list[str]:
    if not nic.address6:
        return []
    own = [ipaddress.IPv6Interface(nic.address6).ip, link_local(nic.mac)]
    advertised = ", ".join(f"{int(address):#034x}" for address in own)
    return [
        "udp sport 547 udp dport 546 drop",
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        f"icmpv6 type nd-neighbor-advert @th,64,128 != {{ {advertised} }} drop",
        # Nobody's packet is for finding out whether an address is free. To claim another's would keep it from that one.
        f"ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 != {{ {advertised} }} drop",
        "ip6 saddr :: meta l4proto ipv6-icmp accept",
        f"ip6 saddr {{ {own[0]}, {own[1]} }} accept",
    ]


class Element(NamedTuple):
    """One published port: `key` leads to `value` in `map` of our inet table, each in nft's own words."""

    map: str
    key: tuple[str, ...]
    value: tuple[str, ...]


def elements(nic: NicRecord, ports: Sequence[PortRecord]) -> list[Element]:
    found = []
    for port in ports:
        for family, inside in (("4", nic.address), ("6", nic.address6)):
            if inside and family in families(port.host_ip):
                key = (port.protocol, str(port.host_port))
                to = (str(ipaddress.ip_interface(inside).ip), str(port.container_port))
                if _wildcard(port.host_ip):
                    found.append(Element(f"any{family}", key, to))
                else:
                    found.append(Element(f"host{family}", (str(ipaddress.ip_address(port.host_ip)), *key), to))
    return found


def port(element: Element) -> PortRecord:
    """What `elements` would make `element` of."""
    *host_ip, protocol, number = element.key
    return PortRecord(
        host_ip=host_ip[0] if host_ip else "0.0.0.0" if element.map == "any4" else "::",
        host_port=int(number),
        container_port=int(element.value[1]),
        protocol=protocol,
    )


def families(host_ip: str) -> str:
    """ "4", "6" or both, "46": where a port published at `host_ip` is reachable."""
    return "46" if not host_ip else str(ipaddress.ip_address(host_ip).version)


def _wildcard(host_ip: str) -> bool:
    return not host_ip or ipaddress.ip_address(host_ip).is_unspecified


def publish(net: Plan, nic: NicRecord, ports: Sequence[PortRecord]) -> list[str]:
    return [
        f"add element inet {net.bridge} {e.map} {{ {' . '.join(e.key)} : {' . '.join(e.value)} }}"
        for e in elements(nic, ports)
    ]


def unpublish(net: Plan, gone: Iterable[Element]) -> list[str]:
    return [f"delete element inet {net.bridge} {e.map} {{ {' . '.join(e.key)} }}" for e in gone]


def forget(net: Plan, tap: str, *, led: bool = True, chain: bool = True) -> list[str]:
    """Take away what `join` said of who a pod may be; of that, what is there."""
    name = f"bridge {net.bridge} {tap}"
    leads = [f'delete element bridge {net.bridge} taps {{ "{tap}" }}'] if led else []
    return leads + ([f"flush chain {name}", f"delete chain {name}"] if chain else [])
