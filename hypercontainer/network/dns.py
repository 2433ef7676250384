"""Names: which servers a pod asks, and who is asked for it, and what its /etc/hosts says."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.model.spec import Dns

RESOLV_CONF = Path("/etc/resolv.conf")
UPLINK = Path("/run/systemd/resolve/resolv.conf")  # what systemd-resolved asks, when resolv.conf only names itself
FALLBACK = ["8.8.8.8", "8.8.4.4"]  # docker's, for a host whose only server is one on its own loopback
MAX_BYTES = 1 << 16
MAX_SERVERS, MAX_SEARCH, MAX_OPTIONS = 3, 32, 16  # the C libraries read no more servers

LOCAL = "127.0.0.11"  # docker's: where a pod finds the nameserver of its networks
NDOTS = "ndots:0"  # docker's: a name without a dot is one of those, before any domain is searched

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
    dns = _parse(resolv_conf, reachable)
    if not dns.nameservers:
        dns = Dns(nameservers=_parse(uplink, reachable).nameservers or FALLBACK, search=dns.search, options=dns.options)
    return dns


def asked_for(pod: Dns, resolv_conf: Path = RESOLV_CONF) -> list[str]:
    """Servers that this host asks what a pod with these settings wants to know: the pod's own, but for those that the
    pod could not reach itself; else the host's, those on its loopback too."""
    if pod.nameservers:
        return [server for server in pod.nameservers if reachable(server)][:MAX_SERVERS]
    return _parse(resolv_conf, _address).nameservers or FALLBACK


def local(dns: Dns) -> Dns:
    """What a pod is told that asks the nameserver of its networks."""
    said = any(option.startswith("ndots:") for option in dns.options)
    return Dns(nameservers=[LOCAL], search=dns.search, options=dns.options if said else [*dns.options, NDOTS])


def _parse(path: Path, usable: Callable[[str], bool]) -> Dns:
    """resolv.conf(5), without the servers that are not `usable`; nothing if it is not there."""
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
                servers += [server] if usable(server) else []
            case ["search" | "domain", *names]:
                search = names  # the last one counts
            case ["options", *words]:
                options += words
    return Dns(nameservers=servers[:MAX_SERVERS], search=search[:MAX_SEARCH], options=options[:MAX_OPTIONS])


def _address(server: str) -> bool:
    try:
        return not ipaddress.ip_address(server).is_unspecified
    except ValueError:
        return False


def reachable(server: str) -> bool:
    """Whether a pod may reach that: not on the host's own loopback, nor on a link of the host's."""
    if not _address(server):
        return False
    address = ipaddress.ip_address(server)
    return not (address.is_loopback or address.is_link_local)


def hosts(
    hostname: str,
    addresses: list[str],
    extra: Mapping[str, str],
    gateway: str = "",
    linked: Sequence[list[str]] = (),
) -> list[list[str]]:
    """Rows of /etc/hosts, [address, name…]: the loopback's, `extra` (name -> address), `linked` and the pod's own.

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
    return rows + list(linked) + [[str(ipaddress.ip_interface(address).ip), *names] for address in addresses if address]
