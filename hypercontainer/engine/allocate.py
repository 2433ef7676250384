"""What no two pods may have: the user of a VMM, addresses, published ports."""

from hypercontainer.engine import store
from hypercontainer.engine.host import UIDS, Host
from hypercontainer.model.record import NicRecord, PodRecord


def allocate(host: Host, pod: PodRecord) -> None:
    """Write down in `pod` the user of its VMM and the network interface that it is to have; the caller saves.

    Exhausted when there is none left, InUse for a port that is another one's."""
    others = [p for p in host.index.there() if p.id != pod.id]
    taken = {p.uid for p in others}
    base = host.settings.uid_base
    pod.uid = next(uid for uid in range(base, base + UIDS) if uid not in taken)
    if pod.spec.network == "bridge" and pod.nic is None:  # a suspended pod keeps its addresses
        used = [p.nic for p in others if p.nic]
        owners = {p.nic.tap: store.named(p) for p in others if p.nic}
        [pod.nic] = host.site.network.plan(pod.id, pod.spec.ports, used, owners)


def free(host: Host, pod: PodRecord, nic: NicRecord | None) -> NicRecord | None:
    """`nic`, unless a pod other than `pod` has its address, or one of its host ports, by now."""
    others = [p.nic for p in host.index.there() if p.nic and p is not pod]
    published = {(port.host_port, port.protocol) for other in others for port in other.ports}
    if nic is None or nic.address in {other.address for other in others}:
        return None
    return None if any((port.host_port, port.protocol) in published for port in nic.ports) else nic
