"""What names pods see: those of the networks that somebody made, of which they are. Looked up in the records at each
question, so that what starts, ends, joins, leaves or is renamed needs to tell nobody, a hyperd before us least of all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from hypercontainer.engine import links
from hypercontainer.engine.store import PodIndex
from hypercontainer.model.record import NicRecord, PodRecord
from hypercontainer.model.spec import DEFAULT
from hypercontainer.network import dns
from hypercontainer.network.answers import Address

SHORT_ID = 12


@dataclass(frozen=True)
class Asker:
    """A pod that asks; see network.nameserver.Asker."""

    index: PodIndex
    pod: PodRecord

    @property
    def id(self) -> str:
        return self.pod.id

    def addresses(self, name: str) -> Sequence[Address] | None:
        """In the first of its networks where somebody has the name, or where the name is in: "db" or "db.back"."""
        networks = [nic.network for nic in named_nics(self.pod)]
        asked = [(network, name) for network in networks]
        within = [(network, name.removesuffix(f".{network.lower()}")) for network in networks]
        for places in asked, [place for place in within if place[1] != name]:
            for look in self._linked, self._in:
                for network, called in places:
                    if found := look(network, called):
                        return found
        return None

    def _linked(self, network: str, name: str) -> list[Address]:
        """What a link of its own calls so."""
        told = [link for each in self.pod.spec.networks if each.network == network for link in each.links]
        return [
            address
            for target, alias in map(links.parse, told)
            if alias.lower() == name
            for address in self._in(network, target.lower())
        ]

    def _in(self, network: str, name: str) -> list[Address]:
        return [
            ip_interface(address).ip
            for pod, nic in self._members(network)
            if any(name == each.lower() for each in names(pod, network))
            for address in nic.addresses
        ]

    def _members(self, network: str) -> Iterator[tuple[PodRecord, NicRecord]]:
        for pod in self.index.pods.values():
            for nic in named_nics(pod):
                if nic.network == network and not (nic.provisional or pod.suspended):
                    yield pod, nic

    def name(self, address: Address) -> str:
        for network in [nic.network for nic in named_nics(self.pod)]:
            for pod, nic in self._members(network):
                if any(ip_interface(each).ip == address for each in nic.addresses):
                    return f"{called}.{network}" if (called := next(names(pod, network), "")) else ""
        return ""

    def servers(self) -> Sequence[str]:
        leads_out = any(nic.gateway for nic in self.pod.nics)
        return dns.asked_for(self.pod.spec.dns) if leads_out else []


def asker(index: PodIndex, address: str) -> Asker | None:
    """Whose address, of IPv4, that is; None: no pod's that may ask."""
    own = f"{ip_address(address)}/"
    for pod in index.pods.values():
        if any(each.startswith(own) for nic in named_nics(pod) for each in nic.addresses):
            return Asker(index, pod)
    return None


def named_nics(pod: PodRecord) -> list[NicRecord]:
    """Its interfaces in networks with names: not in that of the settings, as with docker, nor in somebody else's."""
    return [nic for nic in pod.nics if nic.network not in ("", DEFAULT)]


def names(pod: PodRecord, network: str) -> Iterator[str]:
    """What a pod is called in a network, the name that it was given first. A pod of several containers has the names of
    all of them: they have one address. As with docker, one that shares another one's network has none."""
    named = [container for container in pod.containers if not container.joined]
    if pod.implicit and not named:
        return  # whose network it was is removed, and may be made anew elsewhere
    if not pod.implicit:
        yield pod.name
    for container in named:
        yield container.name
        yield container.id[:SHORT_ID]
    for endpoint in pod.spec.networks:
        if endpoint.network == network:
            yield from endpoint.aliases
    if pod.spec.hostname:
        yield pod.spec.hostname
