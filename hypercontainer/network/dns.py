"""Names: which servers a pod asks, and what its /etc/hosts says."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.model.spec import Dns

RESOLV_CONF = Path("/etc/resolv.conf")
UPLINK = Path("/run/systemd/resolve/resolv.conf")  # what systemd-resolved asks, when resolv.conf only names itself
FALLBACK = ["8.8.8.8", "8.8.4.4"]  # docker's, for a host whose only server is one on its own loopback
MAX_BYTES = 1 << 16
MAX_SERVERS, MAX_SEARCH, MAX_OPTIONS = 3, 32, 16  # the C libraries read no more servers

HOST = re.compile(r"[^\s#]{1,253}")

LOCALHOST = [
    ["127.0.0.1", "localhost"],
    ["::1", "localhost", "ip6-localhost", "ip6-loopback"],
    ["fe00::0", "ip6-localnet"],
    ["ff00::0", "ip6-mcastprefix"],
    ["ff02::1", "ip6-allnodes"],
    ["ff02::2", "ip6-allrouters"],
]


def host_dns(resolv_conf: Path = RESOLV_CONF, uplink: Path = UPLINK) -> Dns:
    """The host's own DNS settings, as far as a pod can use them.

    A server on the host's loopback is out of a pod's reach: then systemd-resolved's own list counts, or docker's
    fall-back where that is none either.
    """
    dns = _parse(resolv_conf)
    if not dns.nameservers:
        dns = Dns(nameservers=_parse(uplink).nameservers or FALLBACK, search=dns.search, options=dns.options)
    return dns


def _parse(path: Path) -> Dns:
    """resolv.conf(5), without the servers that only this host can reach; nothing if it is not there."""
    try:
        with open(path, "rb") as f:
            lines = f.read(MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return Dns()
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in lines:
        match line.split("#")[0].split(";")[0].split():
            case ["nameserver", server, *_]:
                servers += _reachable(server)
            case ["search" | "domain", *names]:
                search = names  # the last one counts
            case ["options", *words]:
                options += words
    return Dns(nameservers=servers[:MAX_SERVERS], search=search[:MAX_SEARCH], options=options[:MAX_OPTIONS])


def _reachable(server: str) -> list[str]:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return []
    # A link-local one is on a link of the host's.
    return [] if address.is_loopback or address.is_link_local or address.is_unspecified else [server]


def hosts(hostname: str, addresses: list[str], extra: Mapping[str, str], gateway: str = "") -> list[list[str]]:
    """Rows of /etc/hosts, [address, name…]: the loopback's, `extra` (name -> address) and the pod's own.

    `addresses` may carry prefixes ("10.0.0.2/24"), empty ones are left out. The address "host-gateway" means
    `gateway`, as with docker. A `hostname` with a domain has its first label as an alias.
    """
    rows = [list(row) for row in LOCALHOST]
    for name, address in extra.items():
        if not HOST.fullmatch(name):
            raise InvalidInput(f"cannot add host {name[:64]!r}: it is not a name")
        value = gateway if address == "host-gateway" and gateway else address
        try:
            rows.append([str(ipaddress.ip_address(value)), name])
        except ValueError as e:
            raise InvalidInput(f"cannot add host {name}: {address!r} is not an address") from e
    names = list(dict.fromkeys([hostname, hostname.partition(".")[0]]))
    return rows + [[str(ipaddress.ip_interface(address).ip), *names] for address in addresses if address]
