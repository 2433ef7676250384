"""A network without packets: network.base.Network for whoever builds on one."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address

from hypercontainer.errors import HyperError
from hypercontainer.model.record import NicRecord, PortRecord, RouteRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping
from hypercontainer.network import ports, tap
from hypercontainer.network.base import Place
from hypercontainer.network.ipam import mac


class FakeNetwork:
    """What was made and not removed is in `nics`, those of them that lead somewhere in `plugged`, by their taps. The
    network is `there` from the first `ensure` until `destroy`."""

    def __init__(self, name: str = "bridge", prefix: str = "10.0.0") -> None:
        self.name, self.prefix = name, prefix
        self.there = False
        self.nameserver: Place | None = None
        self.broken = ""  # why `ensure` fails
        self.nics: dict[str, NicRecord] = {}
        self.plugged: set[str] = set()
        self.published: dict[str, list[int]] = {}  # ports of the host, by tap
        self.taken_up: list[NicRecord] = []
        self.ensured_with: list[NicRecord] = []  # what had been taken up at the last `ensure`
        self.kept: Callable[[], Sequence[NicRecord]] = list  # as the last sweep was told

    async def ensure(self) -> None:
        if self.broken:
            raise HyperError(self.broken)
        self.there, self.ensured_with = True, self.taken_up

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
        taken = {nic.address for nic in used}
        n = next(n for n in range(2, 255) if f"{self.prefix}.{n}/24" not in taken)
        nic = NicRecord(
            number=number,
            tap=tap.name(pod_id, number),
            mac=mac(IPv4Address(f"{self.prefix}.{n}")),
            name=f"eth{number}",
            network=self.name,
            addresses=[f"{endpoint.address or f'{self.prefix}.{n}'}/24"],
            routes=[RouteRecord(dst="default", gateway=f"{self.prefix}.1")],
            ports=[
                PortRecord(
                    host_ip=port.host_ip,
                    host_port=port.host_port or 32768 + n,
                    container_port=port.container_port,
                    protocol=port.protocol,
                )
                for n, port in enumerate(mappings)
            ],
        )
        return [nic]

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        return ports.assign(mappings, used, owners)

    async def create(self, nic: NicRecord) -> None:
        self.nics[nic.tap] = nic
        self.published[nic.tap] = [port.host_port for port in nic.ports]

    async def plug(self, nic: NicRecord) -> None:
        if nic.tap not in self.nics:
            raise HyperError(f"cannot plug network interface {nic.tap}: it was not made")
        self.plugged.add(nic.tap)

    async def withdraw(self, nic: NicRecord, ports: Sequence[PortRecord]) -> None:
        left = {port.host_port for port in ports}
        self.published[nic.tap] = [number for number in self.published[nic.tap] if number not in left]

    async def remove(self, nic: NicRecord) -> None:
        self.nics.pop(nic.tap, None)
        self.published.pop(nic.tap, None)
        self.plugged.discard(nic.tap)

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        self.taken_up = list(nics)
        return []

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> None:
        self.kept = keep
        self.nics = {nic.tap: nic for nic in keep()}
        self.plugged &= set(self.nics)

    async def destroy(self) -> None:
        self.there = False

    def close(self) -> None:
        pass
