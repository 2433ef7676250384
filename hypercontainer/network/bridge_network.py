"""Pods on the host's network: a bridge, a tap each, NAT and published ports."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from hypercontainer.errors import Exhausted, HyperError, InUse, InvalidInput
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping
from hypercontainer.network import bridge, conntrack, ipam, ports, rules, tap
from hypercontainer.network.base import Place
from hypercontainer.network.ipam import Plan
from hypercontainer.network.nameserver import Nameserver
from hypercontainer.network.nft import Nft, Refused


class BridgeNetwork:
    """One of the networks of a hyperd, known on the host by its bridge; see network.base.Network. `state_dir` tells
    which hyperd's it is, `names` answers its pods; None: their names are nobody's.

    The object remembers which NicRecords it has made or been told of, to make their rules again when someone flushed
    them.
    """

    def __init__(self, plan: Plan, state_dir: Path, names: Nameserver | None = None) -> None:
        self._net = plan if bridge.ipv6_available() else replace(plan, subnet6=None, gateway6=None, chosen6=None)
        self._owner = f"hyper:{quote(str(state_dir))[-200:]}"  # one word
        self._names = names
        self._nics: dict[str, NicRecord] = {}
        self._guard = ports.PortGuard()
        self._nft = Nft()
        self._changing = asyncio.Lock()  # the bridge and the ground of the rules

    @property
    def nameserver(self) -> Place | None:
        return self._names.place(str(self._net.gateway)) if self._names else None

    async def ensure(self) -> None:
        """Make bridge, forwarding and rules, as far as they are not there; after a reboot that is all of them.

        Again = no change. Raises InUse when bridge or subnet are someone else's.
        """
        async with self._changing:
            await bridge.ensure(self._net, self._owner)
            if not self._nft.has_base(self._net):
                known = [line for nic in self._nics.values() for line in rules.join(self._net, nic)]
                self._nft.apply([rules.base(self._net), *known])
            await self._answer()

    async def _answer(self) -> None:
        if self._names:
            await self._names.listen(self._net.bridge, str(self._net.gateway))

    async def plan(
        self,
        pod_id: str,
        mappings: Sequence[PortMapping],
        used: Sequence[NicRecord],
        owners: Mapping[str, str] | None = None,
        *,
        endpoint: EndpointSpec = ANY,
        number: int = 0,
    ) -> list[NicRecord]:
        """One interface. Each of its host ports was just now free. Raises Exhausted when the subnet is full."""
        if mappings and self._net.internal:
            raise InvalidInput(f"cannot publish ports of a pod in network {self._net.network}: it is internal")
        mtu = self._net.mtu or bridge.uplink_mtu()
        nic = ipam.nic(self._net, pod_id, used, mtu, endpoint=endpoint, number=number, owners=owners)
        nic.ports = self.assign(mappings, used, owners)
        return [nic]

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        """Those that the kernel leads to other networks are taken too: of a hyperd that is not there, nobody holds
        them."""
        led = self._nft.led(self._net) if mappings else []
        return ports.assign(mappings, used, owners, led)

    async def create(self, nic: NicRecord) -> None:
        """Make the rules of `nic`. Raises InUse for a port that someone has taken since `plan`."""
        self._guard.hold(nic.tap, nic.ports)
        try:
            await self._rule(nic)
        except BaseException:
            await uninterrupted(self.remove(nic))
            raise
        self._nics[nic.tap] = nic
        await self._answer()  # what kept it from that may be gone

    async def plug(self, nic: NicRecord) -> None:
        """Make its tap a port of the bridge; after `create`, so that it never carries a frame that the rules did not
        see. Raises Exhausted for a bridge that is full."""
        try:
            tap.join(nic.tap, self._net.bridge, nic.mtu)
        except OSError as e:
            kind = Exhausted if e.errno in tap.FULL else HyperError
            raise kind(f"cannot plug network interface {nic.tap}: {e.strerror}") from e

    async def _rule(self, nic: NicRecord) -> None:
        lines = rules.join(self._net, nic)
        try:
            self._nft.apply(lines)
        except Refused:
            # Someone flushed all rules (`systemctl restart nftables` does), or took the bridge away; or the
            # address was another pod's, of whose end we were never told.
            await self.ensure()
            await self._leave(nic)
            self._nft.apply(lines)
        conntrack.forget(nic.ports)

    async def withdraw(self, nic: NicRecord, ports: Sequence[PortRecord]) -> None:
        gone = set(rules.elements(nic, ports))
        try:
            self._nft.apply(rules.unpublish(self._net, gone))
        except Refused:  # not all of it is there
            self._nft.apply(rules.unpublish(self._net, self._nft.tables(self._net).elements & gone))
        self._guard.release(nic.tap, ports)
        conntrack.forget(ports)

    async def remove(self, nic: NicRecord) -> None:
        """Take away rules and ports of `nic`, and its tap down."""
        self._nics.pop(nic.tap, None)
        tap.cut(nic.tap)
        try:
            gone = rules.unpublish(self._net, rules.elements(nic, nic.ports)) + rules.forget(self._net, nic.tap)
            self._nft.apply(gone)
        except Refused:  # not all of it is there: look what is
            await self._leave(nic)
        self._guard.release(nic.tap)
        conntrack.forget(nic.ports)

    async def _leave(self, nic: NicRecord) -> None:
        """Remove the rules of the tap, and whatever leads to its addresses."""
        there, own = self._nft.tables(self._net), ipam.addresses(nic)
        lines = rules.unpublish(self._net, [element for element in there.elements if element.value[0] in own])
        self._nft.apply(
            lines + rules.forget(self._net, nic.tap, led=nic.tap in there.taps, chain=nic.tap in there.chains)
        )

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        """Returns, in words, the host ports that another process took meanwhile; they lead to their pods all the
        same."""
        self._nics = {nic.tap: nic for nic in nics}
        complaints = []
        for nic in nics:
            for port in nic.ports:
                try:
                    self._guard.hold(nic.tap, [port])
                except HyperError as e:
                    complaints.append(str(e))
        return complaints

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> None:
        """Taps, rules and ports."""
        for name in await bridge.ports(self._net):
            if tap.TAP.fullmatch(name) and name not in {nic.tap for nic in keep()}:
                await bridge.remove_link(name)
        kept = {nic.tap: nic for nic in keep()}
        self._sweep_rules(list(kept.values()))
        for name in set(self._nics) - set(kept):
            self._guard.release(name)
        self._nics = kept

    def _sweep_rules(self, keep: Sequence[NicRecord]) -> None:
        there, kept = self._nft.tables(self._net), {nic.tap for nic in keep}
        wanted = {element for nic in keep for element in rules.elements(nic, nic.ports)}
        lines = rules.unpublish(self._net, there.elements - wanted)
        for name in sorted((there.chains | there.taps) - kept):
            lines += rules.forget(self._net, name, led=name in there.taps, chain=name in there.chains)
        for nic in keep:
            if nic.tap not in there.chains & there.taps or not there.elements.issuperset(
                rules.elements(nic, nic.ports)
            ):
                lines += rules.join(self._net, nic)
        self._nft.apply(lines)

    async def destroy(self) -> None:
        """Take away bridge and rules, whatever is in them, unless they are somebody else's."""
        async with self._changing:
            if self._names:
                self._names.leave(self._net.bridge)
            if await bridge.remove(self._net, self._owner):
                with suppress(InUse):
                    self._nft.has_base(self._net)
                    self._nft.apply([rules.gone(self._net)])
            self._nics.clear()
        self._guard.close()

    def close(self) -> None:
        """Give the held ports back to the host; taps and rules stay."""
        self._guard.close()
