"""The networks of one hyperd: that of its settings, and those that were made, which outlive it."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import msgspec

from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound, reason
from hypercontainer.lib import clock, document, files
from hypercontainer.lib.tasks import all_of, uninterrupted
from hypercontainer.model import upgrade
from hypercontainer.model.record import NetworkRecord, NicRecord, SubnetRecord
from hypercontainer.model.settings import Settings
from hypercontainer.model.spec import DEFAULT, NONE
from hypercontainer.network.base import Network
from hypercontainer.network.none import NoNetwork

VERSION = document.version(upgrade.NETWORK)

Kind = Callable[[NetworkRecord], Network]


class NetworkStore:
    """Records in the folder `root`, a file each, and the networks of a `kind` that they are of; beside them that of the
    `settings`, and the one that is none. One hyperd at a time has it."""

    def __init__(self, root: Path, settings: Settings, kind: Kind) -> None:
        self._root, self._kind = root, kind
        self.unread: list[str] = []  # why there are records that cannot be read: they stay as they are
        self._networks: dict[str, tuple[NetworkRecord, Network]] = {}  # by name
        of_settings = default(settings)
        self._networks[DEFAULT] = of_settings, kind(of_settings)
        self._networks[NONE] = _always(NONE, settings), NoNetwork()

    def load(self) -> None:
        """Read what was made by a hyperd before."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.unread, found = [], list[NetworkRecord]()
        for path in sorted(self._root.glob("*.json")):
            try:
                found.append(document.read_versioned(path, NetworkRecord, upgrade.NETWORK))
            except HyperError as e:
                self.unread.append(str(e))
        for record in sorted(found, key=lambda record: record.created_ns, reverse=True):
            try:
                self._add(record)
            except HyperError as e:
                self.unread.append(f"cannot use {self._path(record)}: {reason(e)}")

    def _add(self, record: NetworkRecord) -> None:
        if record.name in self._networks:  # of one that was made while the older record could not be read
            raise AlreadyExists(f"there is a newer network {record.name}", "network", record.name)
        self._networks[record.name] = record, self._kind(record)

    def all(self) -> list[NetworkRecord]:
        """Those that are always there first, then the oldest."""
        records = [record for record, _ in self._networks.values()]
        return records[:2] + sorted(records[2:], key=lambda record: record.created_ns)

    def __getitem__(self, name: str) -> Network:
        """The network of this name. NotFound."""
        if name not in self._networks:
            raise NotFound("network", name)
        return self._networks[name][1]

    def find(self, key: str) -> NetworkRecord:
        """By id, name, then unique beginning of an id, as docker does. NotFound, InvalidInput."""
        records = self.all()
        found = [record for record in records if key == record.id] or [r for r in records if key == r.name]
        found = found or [record for record in records if key and record.id.startswith(key)]
        if not found:
            raise NotFound("network", key)
        if len(found) > 1:
            raise InvalidInput(f"network id {key} is the beginning of {len(found)} ids: give more of it")
        return found[0]

    async def create(self, record: NetworkRecord) -> None:
        """Make a network. From the return on it outlives us; on failure nothing of it is left.

        The record is written first: a hyperd after us makes whole what we did not come to."""
        if record.name in self._networks:
            raise AlreadyExists(f"network with name {record.name} already exists", "network", record.name)
        network = self._kind(record)
        self._networks[record.name] = record, network
        try:
            self._write(record)
            await network.ensure()
        except BaseException:
            await uninterrupted(self._unmake(record, network))
            raise

    def _write(self, record: NetworkRecord) -> None:
        data = msgspec.json.format(msgspec.json.encode(record), indent=1)
        with files.telling(f"write the record of network {record.name}"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(self._path(record), data)

    async def remove(self, record: NetworkRecord) -> None:
        """Remove a network that no pod is in: nobody finds it any more, then it goes. As before if that fails."""
        _, network = self._networks.pop(record.name)
        try:
            await uninterrupted(self._unmake(record, network))
        except BaseException:
            if self._path(record).exists():
                self._networks[record.name] = record, network
            raise

    async def _unmake(self, record: NetworkRecord, network: Network) -> None:
        """The record last: a hyperd after us that finds it makes the network whole again."""
        await network.destroy()
        network.close()
        with files.telling(f"remove the record of network {record.name}"):
            self._path(record).unlink(missing_ok=True)
            files.fsync(self._root)
        self._networks.pop(record.name, None)

    def _path(self, record: NetworkRecord) -> Path:
        return self._root / f"{record.id}.json"

    async def ensure(self) -> list[str]:
        """Make all that they stand on. Raises what keeps that of the settings from being made; returns, in words, what
        keeps others, which are tried again with each pod that starts."""
        await self[DEFAULT].ensure()
        complaints: list[str] = []

        async def ensure(record: NetworkRecord, network: Network) -> None:
            try:
                await network.ensure()
            except HyperError as e:
                complaints.append(f"network {record.name}: {e}")

        await all_of(*(ensure(*made) for made in self._networks.values()))
        return complaints

    def take_up(self, nics: Sequence[NicRecord]) -> list[str]:
        """See network.base.Network: each of them, its own of `nics`."""
        return [
            f"network {record.name}: {complaint}"
            for record, network in self._networks.values()
            for complaint in network.take_up(_own(record.name, lambda: nics))
        ]

    async def sweep(self, keep: Callable[[], Sequence[NicRecord]]) -> list[str]:
        """See network.base.Network: each of them, with its own of `keep`. Returns, in words, what was not swept."""
        complaints: list[str] = []
        for record, network in list(self._networks.values()):
            try:
                await network.sweep(partial(_own, record.name, keep))
            except HyperError as e:
                if record.name == DEFAULT:
                    raise
                complaints.append(f"network {record.name}: {e}")
        return complaints

    def close(self) -> None:
        for _, network in self._networks.values():
            network.close()


def _own(name: str, keep: Callable[[], Sequence[NicRecord]]) -> Sequence[NicRecord]:
    return [nic for nic in keep() if nic.network == name]


def default(settings: Settings) -> NetworkRecord:
    """What the settings say of their network. InvalidInput."""
    try:
        subnets: list[IPv4Network | IPv6Network] = [IPv4Network(settings.subnet)]
        if settings.subnet6:
            subnets.append(IPv6Network(settings.subnet6))
    except ValueError as e:
        raise InvalidInput(f"invalid subnet or subnet6: {e}") from e
    record = _always(DEFAULT, settings)
    record.bridge = settings.bridge
    record.subnets = [SubnetRecord(subnet=str(subnet), gateway=str(gateway(subnet))) for subnet in subnets]
    return record


def gateway(subnet: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    """The usual one: the first address that a host can have."""
    return subnet[1] if subnet.num_addresses > 1 else subnet[0]


def _always(name: str, settings: Settings) -> NetworkRecord:
    """One that is always there, without subnets."""
    return NetworkRecord(
        version=VERSION,
        id=hashlib.sha256(f"{name} of {settings.run}".encode()).hexdigest(),
        name=name,
        bridge="",
        subnets=[],
        created_ns=clock.now_ns(),
    )
