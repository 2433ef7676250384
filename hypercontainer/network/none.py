"""No network: a pod has its loopback, and nothing else."""

from collections.abc import Callable, Mapping, Sequence

from hypercontainer.errors import InvalidInput
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping


class NoNetwork:
    """See network.base.Network. It has no interface, so there is nothing to make."""

    nameserver = None

    async def ensure(self) -> None:
        pass

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
        self.assign(mappings, used, owners)
        return []

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        if mappings:
            raise InvalidInput("cannot publish ports of a pod without a network")
        return []

    async def create(self, nic: NicRecord) -> None:
        raise _stranger(nic)

    async def plug(self, nic: NicRecord) -> None:
        raise _stranger(nic)

    async def withdraw(self, nic: NicRecord, ports: Sequence[PortRecord]) -> None:
        raise _stranger(nic)

    async def remove(self, nic: NicRecord) -> None:
        raise _stranger(nic)

    async def destroy(self) -> None:
        pass

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        return []

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> None:
        pass

    def close(self) -> None:
        pass


def _stranger(nic: NicRecord) -> InvalidInput:
    return InvalidInput(f"cannot use network interface {nic.tap}: it is of a network, and its pod has none")
