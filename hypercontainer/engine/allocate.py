"""What no two pods may have: the user of a VMM, addresses, published ports."""

from hypercontainer.engine import endpoints, store
from hypercontainer.engine.host import UIDS, Host
from hypercontainer.hypervisor.base import Feature, can
from hypercontainer.model.record import NicRecord, PodRecord
from hypercontainer.model.spec import EndpointSpec
from hypercontainer.sandbox.interfaces import place


async def allocate(host: Host, pod: PodRecord) -> None:
    """Write down in `pod` the user of its VMM and the network interfaces that it is to have; the caller saves.

    Exhausted when there is none left, InUse for a port that is another one's."""
    others = [p for p in host.index.there() if p.id != pod.id]
    taken = {p.uid for p in others} | host.site.endings.uids()
    base = host.settings.uid_base
    pod.uid = next(uid for uid in range(base, base + UIDS) if uid not in taken)
    if not pod.nics:  # a suspended pod keeps its addresses
        pod.nics = await _interfaces(host, pod)


async def _interfaces(host: Host, pod: PodRecord) -> list[NicRecord]:
    """One in each of its networks, in that order: nobody else gets any meanwhile, for no plan of these waits.

    A machine starts with one where it can have others plugged: so it can be a clone, or one that waited."""
    if pod.netns:
        given = await host.site.given(pod.id).plan(pod.id, pod.spec.ports, *_used(host))
        if host.site.internetworking_model == "macvtap" and can(host.site.hypervisor, Feature.NICS, pod.arch):
            for n, nic in enumerate(given):  # the tap of one that waits cannot become a macvtap
                place(nic, pod.id, given[:n])
        return given
    endpoints.check_ports(host.networks, pod.spec)
    nics: list[NicRecord] = []
    for endpoint in pod.spec.networks:
        published = pod.spec.ports if endpoint is endpoints.publishing(host.networks, pod.spec) else []
        network = host.networks[endpoint.network]
        for nic in await network.plan(pod.id, published, *_used(host), endpoint=endpoint, number=len(nics)):
            if nics and can(host.site.hypervisor, Feature.NICS, pod.arch):
                place(nic, pod.id, nics)
            nics.append(nic)
    return nics


async def interface(host: Host, pod: PodRecord, endpoint: EndpointSpec) -> NicRecord:
    """One more for a pod that runs, planned without waiting. It has the pod's ports when nothing led to them yet."""
    led = any(nic.ports for nic in pod.nics)
    published = pod.spec.ports if not led and endpoint is endpoints.publishing(host.networks, pod.spec) else []
    [nic] = await host.networks[endpoint.network].plan(pod.id, published, *_used(host), endpoint=endpoint)
    return nic


def publish(host: Host, pod: PodRecord) -> NicRecord | None:
    """The interface of a machine that runs to which the pod's ports are to lead, with those, chosen without waiting;
    None: there are none, or they do. InUse for one that is another one's by now."""
    place = endpoints.publishing(host.networks, pod.spec)
    there = next((nic for nic in pod.nics if place and nic.network == place.network), None)
    if there is None or not pod.spec.ports or any(nic.ports for nic in pod.nics):
        return None
    there.ports = host.networks[there.network].assign(pod.spec.ports, *_used(host))
    return there


def _used(host: Host) -> tuple[list[NicRecord], dict[str, str]]:
    """Interfaces that there are, and whose each is in words, by their taps."""
    found = {nic.tap: (nic, store.named(pod)) for pod in host.index.there() for nic in _ours(pod)}
    return [nic for nic, _ in found.values()], {tap: name for tap, (_, name) in found.items()}


def _ours(pod: PodRecord | store.Unread) -> list[NicRecord]:
    """Without those at networks of somebody else's, who may give any address twice."""
    return [nic for nic in pod.nics if not nic.netns]


def free(host: Host, pod: PodRecord, nics: list[NicRecord]) -> list[NicRecord]:
    """`nics`, unless a pod other than `pod` has an address of theirs, or one of their host ports, by now."""
    others = [nic for p in host.index.there() if p is not pod for nic in _ours(p)]
    published = {(port.host_port, port.protocol) for other in others for port in other.ports}
    taken = {address for other in others for address in other.addresses}
    wanted = {(port.host_port, port.protocol) for nic in nics for port in nic.ports}
    return [] if published & wanted or any(taken.intersection(nic.addresses) for nic in nics) else nics
