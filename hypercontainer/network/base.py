"""What a kind of network is: it gives pods their interfaces. Kinds know nothing of machines, nor of each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ANY, EndpointSpec, PortMapping


class Place(NamedTuple):
    """Where a server is."""

    address: str  # of IPv4
    port: int


class Network(Protocol):
    """The kernel holds all state; what may be there is said by the NicRecords that the caller keeps."""

    @property
    def nameserver(self) -> Place | None:
        """Who answers its pods, by their addresses, what the names in it are; None: nobody does."""

    async def ensure(self) -> None:
        """Make what the interfaces of pods stand on, as far as it is not there. Again = no change."""

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
        """Decide on a pod's interfaces: names, addresses, host ports. Nothing is made; after `ensure`. A kind whose
        pods share what there is decides at once, without waiting: nobody else decides meanwhile.

        `used` are the records of all other pods, running or not, `owners` whose each tap is, in words. `endpoint` is
        what the pod wants of this network, `number` how many interfaces it has of others. Raises InUse for a port or
        an address that is taken, naming it and who has it, Exhausted when there is no more room, InvalidInput."""

    def assign(
        self, mappings: Sequence[PortMapping], used: Sequence[NicRecord], owners: Mapping[str, str] | None = None
    ) -> list[PortRecord]:
        """Decide on host ports that are to lead to one of its interfaces, as `plan` does for a new one."""

    async def create(self, nic: NicRecord) -> None:
        """Make all of `nic` that is there before its tap is. On failure nothing of that is left.

        The caller has recorded `nic`: after a SIGKILL in here, `remove` or `sweep` take away what was made."""

    async def plug(self, nic: NicRecord) -> None:
        """Join its tap, which its VMM has made, to the network; after `create`. Until then the tap carries nothing."""

    async def withdraw(self, nic: NicRecord, ports: Sequence[PortRecord]) -> None:
        """Have `ports`, which were of `nic` until now and are so no more, lead nowhere: they are anybody's. `create`
        gives one that is there the ports that it has by then. Safe any number of times."""

    async def remove(self, nic: NicRecord) -> None:
        """Take away all that is there of `nic`, but its tap, which carries nothing from now on, and goes with its VMM.
        Safe any number of times."""

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        """Know of `nics`, which a hyperd before us has made: for one that comes back, before `ensure`, so that what has
        to be made anew is made with all that they have there. Returns, in words, what is not as it should be."""

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> None:
        """Remove all that no record of `keep()` owns, and make whole what one does: for a hyperd that comes back, after
        `ensure`. Pods may end meanwhile: what is kept is asked anew after each wait, else what was of one that is just
        gone would be made again, for ever."""

    async def destroy(self) -> None:
        """Take away what `ensure` made, once no pod has an interface here. Safe any number of times."""

    def close(self) -> None:
        """Give back what is held in this process. What was made stays."""
