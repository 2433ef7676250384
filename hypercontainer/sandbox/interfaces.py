"""A pod's network interfaces: on this host, at its machine, in its guest. Each is in the record before it is made.

One that comes or goes while the machine runs is provisional in the record meanwhile: after a SIGKILL of ours at any
moment, `recover` takes away what there is of it.
"""

import itertools
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import msgspec

from hypercontainer.agent.messages import INTERFACES, NAMESERVER, ROUTING, PodSetup
from hypercontainer.errors import Exhausted, HyperError, InUse, NotFound
from hypercontainer.hypervisor.base import HOT_NICS, Connectable, Feature, Nic, need
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.record import MOST_NICS, NicRecord, PodRecord
from hypercontainer.model.spec import Dns
from hypercontainer.network import dns, tap
from hypercontainer.network.base import Place
from hypercontainer.network.netns import NetnsNetwork
from hypercontainer.sandbox import agent_requests
from hypercontainer.sandbox.site import Records, Site
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)

TELL_S = 10.0  # for a guest to let go of one
TOLD = ("mtu", "addresses", "routes", "rules", "neighbours")  # what a guest is told of one that changes


def place(nic: NicRecord, pod_id: str, others: Sequence[NicRecord]) -> None:
    """Give a planned interface, which is to be plugged into a machine that runs, what it has beside the `others` of its
    pod: a number, a tap, a name.

    Exhausted when the pod has all that it can have. InUse when one of theirs has the same MAC address, by which a guest
    knows them, or the same name where that is given: by an interface of somebody else's."""
    if len(others) >= MOST_NICS:
        raise Exhausted(f"cannot add a network interface: the pod has {MOST_NICS}, and no machine has more")
    if twin := next((other.name for other in others if other.mac == nic.mac), ""):
        words = f"cannot add a network interface with MAC address {nic.mac}: {twin} of the pod has it"
        raise InUse(words, "MAC address", nic.mac)
    names = {other.name for other in others}
    if not nic.netns:
        nic.name = next(name for n in itertools.count() if (name := f"eth{n}") not in names)
    elif nic.name in names:
        why = "the pod has one of that name"
        raise InUse(f"cannot add network interface {nic.name} of {nic.netns}: {why}", "network interface", nic.name)
    nic.number = next(n for n in HOT_NICS if n not in {other.number for other in others})
    nic.tap = tap.name(pod_id, nic.number)


class Interfaces:
    def __init__(self, site: Site, record: PodRecord, records: Records) -> None:
        self._site, self._record, self._records = site, record, records

    def _save(self) -> None:
        self._records.save(self._record)

    async def create(self) -> None:
        """Make what there is of those in the record before the VMM is there."""
        for nic in self._record.nics:
            await self._site.network_of(nic).create(nic)

    def first(self) -> list[Nic]:
        """Those that the machine starts with."""
        return [vmm_nic(nic) for nic in self._record.nics if nic.number not in HOT_NICS]

    async def complete(self, vm: Vm) -> None:
        """Plug the others, of which the guest is to be told."""
        for nic in self._record.nics:
            if nic.number in HOT_NICS:
                await _connectable(vm).add_nic(vmm_nic(nic))

    async def plug(self) -> None:
        """Have their taps, which the VMM has made, lead somewhere."""
        for nic in self._record.nics:
            await self._site.network_of(nic).plug(nic)

    async def remove(self) -> None:
        """Take all of them away; their taps go with the VMM."""
        # out of the record at once: whoever looks what is to be kept, while its VMM ends, does not make it again
        while self._record.nics:
            await self._leave(self._record.nics[-1])
            self._record.nics.pop()

    async def _leave(self, nic: NicRecord) -> None:
        with suppress(NotFound):  # its network has gone, and with that what there was of it
            await self._site.network_of(nic).remove(nic)

    def hosts(self, nics: Sequence[NicRecord]) -> list[list[str]]:
        """Rows of the /etc/hosts of a guest that has these."""
        addresses = [address for nic in nics for address in nic.addresses]
        name, extra = agent_requests.full_name(self._record), self._record.spec.extra_hosts
        gateway = next((nic.gateway for nic in nics if nic.gateway), "")
        return dns.hosts(name, addresses, extra, gateway, self._records.hosts(self._record))

    async def tell_hosts(self, vm: Vm) -> None:
        """Have the guest's /etc/hosts written anew. One of an older hyperd cannot, and keeps what it has."""
        if vm.agent.has(INTERFACES):
            nics = self._record.nics
            await vm.agent.setup_pod(agent_requests.interfaces_changed(nics, nics, self.hosts(nics)))

    def nameserver(self, vm: Vm, nics: Sequence[NicRecord]) -> Place | None:
        """Whom a guest that has these asks for names: that of the first network which has one. None: the servers that
        the host asks; so does a guest of an older hyperd, which cannot do otherwise."""
        if not vm.agent.has(NAMESERVER):
            return None
        for nic in nics:
            with suppress(NotFound):  # its network has gone
                if place := self._site.network_of(nic).nameserver:
                    return place
        return None

    def dns(self, nameserver: Place | None) -> Dns:
        """Its resolv.conf."""
        asked, host = self._record.spec.dns, dns.host_dns()
        if self._record.kube and asked != Dns():
            host = Dns(nameservers=host.nameservers)  # a kubelet says all that is to be searched, or nothing at all
        usual = Dns(
            nameservers=asked.nameservers or host.nameservers,
            search=asked.search or host.search,
            options=asked.options or host.options,
        )
        return dns.local(usual) if nameserver else usual

    def _changed(self, vm: Vm, old: Sequence[NicRecord], new: Sequence[NicRecord]) -> PodSetup:
        """What a guest is told that had `old`. Names are asked elsewhere when the first network that has some goes or
        comes."""
        before, after = self.nameserver(vm, old), self.nameserver(vm, new)
        setup = agent_requests.interfaces_changed(old, new, self.hosts(new))
        return setup if before == after else agent_requests.asking(setup, self.dns(after), after)

    def check(self, vm: Vm, doing: str) -> None:
        """Unsupported or GuestTooOld when none can come or go while the machine runs."""
        need(self._site.hypervisor, Feature.NICS, doing, self._record.arch)
        vm.agent.require(INTERFACES)

    async def add(self, vm: Vm, nic: NicRecord) -> None:
        """Give one to a machine that runs, and tell the guest of it; after `check`. On failure nothing is left.

        It is in the record when this first waits for anything."""
        record, network = self._record, self._site.network_of(nic)
        others = list(record.nics)
        place(nic, record.id, others)
        nic.provisional = True
        record.nics.append(nic)
        try:
            self._save()
        except BaseException:
            record.nics.remove(nic)
            raise
        async with AsyncExitStack() as undo:  # callbacks only: on success they are dropped
            undo.push_async_callback(self._undo, vm, nic)
            await network.create(nic)
            await _connectable(vm).add_nic(vmm_nic(nic))
            await network.plug(nic)
            await vm.agent.setup_pod(self._changed(vm, others, record.nics))
            self._settle(nic)
            undo.pop_all()

    def _settle(self, nic: NicRecord) -> None:
        nic.provisional = False
        try:
            self._save()
        except BaseException:
            nic.provisional = True
            raise

    async def take(self, vm: Vm, nic: NicRecord) -> None:
        """Take one from a machine that runs; after `check`. A guest that does not let go of it loses it all the same.

        After a failure the record has it still: try again."""
        nic.provisional = True
        try:
            self._save()
        except BaseException:
            nic.provisional = False
            raise
        await uninterrupted(self._take_away(vm, nic))

    async def change(self, vm: Vm, nic: NicRecord, wanted: NicRecord) -> None:
        """Give one of an engine's namespace what it has there by now; after `check`.

        The guest is told first: a hyperd that finds the old ones on record tells it once more."""
        if wanted.mtu != nic.mtu:
            await NetnsNetwork(nic.netns).resize(nic, wanted.mtu)
        told = {field: getattr(wanted, field) for field in TOLD}
        new = msgspec.structs.replace(nic, **told)
        others = [new if other is nic else other for other in self._record.nics]
        exact = vm.agent.has(ROUTING)
        setup = agent_requests.interface_changed(nic, new, self._record.nics, others, self.hosts(others), exact=exact)
        await vm.agent.setup_pod(setup)
        for field, value in told.items():
            setattr(nic, field, value)
        self._records.note(self._record)

    async def _undo(self, vm: Vm, nic: NicRecord) -> None:
        await uninterrupted(self._take_away(vm, nic))

    async def _take_away(self, vm: Vm, nic: NicRecord) -> None:
        """All that there is of it."""
        record = self._record
        others = [other for other in record.nics if other is not nic]
        setup = self._changed(vm, record.nics, others)
        try:
            await vm.agent.setup_pod(setup, timeout_s=TELL_S)
        except HyperError as e:
            log.warning("pod %s: its guest has not let go of %s, and loses it: %s", record.id, nic.name, e)
        await self._leave(nic)
        await _connectable(vm).remove_nic(nic.number)
        record.nics.remove(nic)
        self._records.note(self._record)

    async def recover(self, vm: Vm) -> None:
        """Of a machine that ran before our own restart: take away what was about to come or go, and what is not in the
        record. What cannot be taken away stays as it is."""
        if not isinstance(vm.guest, Connectable):
            return
        try:
            for nic in [nic for nic in self._record.nics if nic.provisional]:
                await self._take_away(vm, nic)
            for number in await vm.guest.nics() - {nic.number for nic in self._record.nics}:
                await vm.guest.remove_nic(number)
        except HyperError as e:
            log.error("pod %s: cannot take a network interface away: %s", self._record.id, e)


def vmm_nic(nic: NicRecord) -> Nic:
    """What the VMM is to have of it."""
    return Nic(number=nic.number, tap=nic.tap, mac=nic.mac, netns=nic.netns, macvtap=nic.model == "macvtap")


def _connectable(vm: Vm) -> Connectable:
    assert isinstance(vm.guest, Connectable)  # noqa: S101  `check` has asked
    return vm.guest
