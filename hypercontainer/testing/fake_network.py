"""A network without packets: network.base.Network for whoever builds on one."""

from collections.abc import Callable, Mapping, Sequence

from hypercontainer.errors import HyperError
from hypercontainer.model.record import NicRecord, RouteRecord
from hypercontainer.model.spec import PortMapping


class FakeNetwork:
    """What was made and not removed is in `nics`, those of them that lead somewhere in `plugged`, by their taps."""

    def __init__(self) -> None:
        self.nics: dict[str, NicRecord] = {}
        self.plugged: set[str] = set()
        self.kept: Callable[[], Sequence[NicRecord]] = list  # as the last sweep was told

    async def ensure(self) -> None:
        pass

    async def plan(
        self,
        pod_id: str,
        mappings: Sequence[PortMapping],
        used: Sequence[NicRecord],
        owners: Mapping[str, str] | None = None,
    ) -> list[NicRecord]:
        taken = {nic.address for nic in used}
        n = next(n for n in range(2, 255) if f"10.0.0.{n}/24" not in taken)
        nic = NicRecord(
            tap=f"hy{pod_id}",
            mac=f"02:00:00:00:00:{n:02x}",
            addresses=[f"10.0.0.{n}/24"],
            routes=[RouteRecord(dst="default", gateway="10.0.0.1")],
        )
        return [nic]

    async def create(self, nic: NicRecord) -> None:
        self.nics[nic.tap] = nic

    async def plug(self, nic: NicRecord) -> None:
        if nic.tap not in self.nics:
            raise HyperError(f"cannot plug network interface {nic.tap}: it was not made")
        self.plugged.add(nic.tap)

    async def remove(self, nic: NicRecord) -> None:
        self.nics.pop(nic.tap, None)
        self.plugged.discard(nic.tap)

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> list[str]:
        self.kept = keep
        self.nics = {nic.tap: nic for nic in keep()}
        self.plugged &= set(self.nics)
        return []

    def close(self) -> None:
        pass
