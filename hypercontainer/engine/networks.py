"""The use cases of networks. model.api.Networks says what each promises."""

from collections.abc import Mapping, Sequence

import msgspec

from hypercontainer.engine import allocate, describe, endpoints, filters, links
from hypercontainer.engine.policy import Admission, NetworkAdmission
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import AlreadyExists, InUse, InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model import documents as doc
from hypercontainer.model import ids
from hypercontainer.model.api import Filters
from hypercontainer.model.principal import Principal
from hypercontainer.model.record import ContainerRecord, NetworkRecord
from hypercontainer.model.spec import ALWAYS, NONE, EndpointSpec, NetworkSpec, PodSpec
from hypercontainer.network import bridge, ipam, options, pools
from hypercontainer.network.ipam import IPNetwork
from hypercontainer.network.store import VERSION
from hypercontainer.sandbox.locked import LockedPod
from hypercontainer.sandbox.pod import Pod

RESERVED = ("host", "default", *ALWAYS)
MOST_LABELS, MOST_LABEL_BYTES = 256, 4096


class Networks:
    def __init__(self, supervisor: Supervisor, admission: Admission, network_admission: NetworkAdmission) -> None:
        self.supervisor, self.host, self.store = supervisor, supervisor.host, supervisor.host.networks
        self._admission, self._network_admission = admission, network_admission

    # the networks

    async def list(self, wanted: Filters) -> Sequence[doc.Network]:
        return [describe.bare_network(record) for record in self._matching("networks", wanted)]

    def _matching(self, what: str, wanted: Filters) -> Sequence[NetworkRecord]:
        known = ["name", "id", "driver", "type", "scope", "label", "label!", "dangling"]
        filters.check(what, wanted, known)
        filters.choice(wanted, "type", ("builtin", "custom"))
        filters.choice(wanted, "scope", ("local", "global", "swarm"))
        names = [filters.expression("name", value) for value in wanted.get("name", [])]
        numbers = [filters.expression("id", value) for value in wanted.get("id", [])]
        dangling = filters.boolean(wanted, "dangling")
        return [
            record
            for record in self.store.all()
            if (not names or any(pattern.search(record.name) for pattern in names))
            and (not numbers or any(pattern.search(record.id) for pattern in numbers))
            and ("driver" not in wanted or describe.driver(record) in wanted["driver"])
            and ("scope" not in wanted or "local" in wanted["scope"])
            and ("type" not in wanted or ("builtin" if record.name in ALWAYS else "custom") in wanted["type"])
            and filters.labelled(record.labels, wanted)
            and dangling in (None, record.name not in ALWAYS and not self.host.index.network_users(record.name))
        ]

    async def create(self, spec: NetworkSpec, *, by: Principal) -> doc.Network:
        spec = self._network_admission(by, spec)
        record = self._record(spec)
        await self.store.create(record)
        self._emit("create", record)
        return describe.bare_network(record)

    def _record(self, spec: NetworkSpec) -> NetworkRecord:
        """What is to be made. Until it is in the store nothing is waited for: nobody else chooses the same."""
        ids.check_name("network", spec.name)
        if spec.name in RESERVED:
            words = f"cannot make network {spec.name}: that name has a meaning of its own"
            raise AlreadyExists(words, "network", spec.name)
        if spec.driver not in ("", "bridge"):
            raise InvalidInput(
                f"cannot make network {spec.name} with driver {spec.driver[:100]}: there is bridge alone"
            )
        if len(spec.labels) > MOST_LABELS or any(len(k) + len(v) > MOST_LABEL_BYTES for k, v in spec.labels.items()):
            raise InvalidInput(f"too many labels: at most {MOST_LABELS}, of {MOST_LABEL_BYTES} characters each")
        options.check(spec.options)
        id = ids.new_id()
        name = spec.options.get(options.BRIDGE, "") or f"hy-{id[:12]}"
        if owner := next((record.name for record in self.store.all() if record.bridge == name), ""):
            words = f"cannot use bridge {name}: it is that of network {owner}"
            raise InUse(words, "bridge", name, [f"network {owner}"])
        reached = [route for _, route in bridge.routes() if route.prefixlen]
        record = NetworkRecord(
            version=VERSION,
            id=id,
            name=spec.name,
            bridge=name,
            subnets=pools.subnets(spec.subnets, spec.ipv6, self.host.settings.address_pools, self._taken(), reached),
            internal=spec.internal,
            labels=dict(spec.labels),
            options=dict(spec.options),
            created_ns=clock.now_ns(),
        )
        ipam.plan(record)
        return record

    def _taken(self) -> Mapping[IPNetwork, str]:
        return {pools.network(subnet.subnet): record.name for record in self.store.all() for subnet in record.subnets}

    async def inspect(self, network: str) -> doc.Network:
        record = self.store.find(network)
        return describe.network_of(record, self.host.index.containers())

    async def remove(self, network: str) -> None:
        record = self.store.find(network)
        if record.name in ALWAYS:
            raise InvalidInput(f"cannot remove network {record.name}: it is always there")
        if users := self.host.index.network_users(record.name):
            words = f"cannot remove network {record.name}: {', '.join(users[:8])} is in it"
            raise InUse(words, "network", record.name, users)
        await self.store.remove(record)
        self._emit("destroy", record)

    async def prune(self, *, wanted: Filters) -> doc.Pruned:
        filters.check("a prune of networks", wanted, ["until", "label", "label!"])
        until = filters.until(wanted)
        removed = []
        for record in self.store.all():
            if (
                record.name not in ALWAYS
                and (until is None or record.created_ns < until)
                and filters.labelled(record.labels, wanted)
                and not self.host.index.network_users(record.name)
            ):
                await self.store.remove(record)
                self._emit("destroy", record)
                removed.append(record.name)
        self.host.events.emit("network", "prune", "", {"reclaimed": "0"})
        return doc.Pruned(deleted=removed, space_reclaimed=0)

    # who is in them

    async def connect(self, network: str, c: str, endpoint: EndpointSpec, *, by: Principal) -> None:
        name = self.store.find(network).name
        pod, container = self._find(c)
        async with pod.locked() as locked:
            self._check(locked, container, "connect", name)
            before = [each for each in pod.record.spec.networks if each.network != NONE]
            if any(each.network == name for each in before):
                raise AlreadyExists(f"cannot connect {c} to network {name}: it is in it", "endpoint", name)
            joined = msgspec.structs.replace(endpoint, network=name)
            wanted = self._admission(by, msgspec.structs.replace(pod.record.spec, networks=[*before, joined]))
            spec = links.resolved(self.host.index, endpoints.resolved(self.store, wanted))
            if locked.machine.vm:
                await self._join(locked, spec)
            else:
                self._set(locked, spec)
        self._emit("connect", self.store.find(name), container=(container or pod.record).id)

    async def disconnect(self, network: str, c: str, *, force: bool) -> None:
        name = self.store.find(network).name
        pod, container = self._find(c)
        async with pod.locked() as locked:
            self._check(locked, container, "disconnect", name)
            left = [each for each in pod.record.spec.networks if each.network != name]
            if len(left) == len(pod.record.spec.networks) or name == NONE:
                if force:
                    return
                raise NotFound("endpoint", f"{c} in network {name}")
            spec = endpoints.without(pod.record.spec, left)
            if locked.machine.vm:
                await uninterrupted(self._leave(locked, name, spec))
            else:
                self._set(locked, spec)
        self._emit("disconnect", self.store.find(name), container=(container or pod.record).id)

    def _find(self, c: str) -> tuple[Pod, ContainerRecord | None]:
        """A container and its pod, or a pod by itself."""
        try:
            pod, container = self.supervisor.find(c)
        except NotFound as e:
            try:
                return self.supervisor.find_pod(c), None
            except NotFound:
                raise e from None
        return pod, container.record

    def _check(self, pod: LockedPod, container: ContainerRecord | None, verb: str, network: str) -> None:
        """InvalidInput for another one's to change; WrongState while nobody can tell its guest."""
        name, doing = pod.record.name, f"{verb} network {network} of"
        if container and container.joined:
            raise InvalidInput(endpoints.SHARED)
        if pod.pod.removed:
            raise NotFound("container", name)
        if pod.record.netns:
            raise WrongState(doing, name, "in a network of somebody else's")
        if pod.record.suspended:
            raise WrongState(doing, name, "suspended", "its machine knows the networks that it had")
        pod.machine.check_reached(doing, name)

    async def _join(self, pod: LockedPod, spec: PodSpec) -> None:
        """The last network of `spec`, while it runs. A hyperd after us that finds the spec without an interface there
        takes it back: `endpoints.settled`."""
        before, pod.record.spec = pod.record.spec, spec
        try:
            await pod.add_interface(await allocate.interface(self.host, pod.record, spec.networks[-1]))
        except BaseException:
            pod.record.spec = before
            pod.machine.note()
            raise

    async def _leave(self, pod: LockedPod, network: str, spec: PodSpec) -> None:
        """The published ports go to the next network that leads out, if there is one."""
        published = []
        for nic in [nic for nic in pod.record.nics if nic.network == network]:
            await pod.remove_interface(nic)
            published += nic.ports
        pod.record.spec = spec
        there = endpoints.publishing(self.store, spec)
        for nic in [nic for nic in pod.record.nics if published and there and nic.network == there.network]:
            nic.ports = published
            await self.store[nic.network].create(nic)
        pod.machine.note()

    def _set(self, pod: LockedPod, spec: PodSpec) -> None:
        before = pod.record.spec
        pod.record.spec = spec
        try:
            pod.machine.save()
        except BaseException:
            pod.record.spec = before
            raise

    def _emit(self, action: str, record: NetworkRecord, **attributes: str) -> None:
        self.host.events.emit("network", action, record.id, describe.network_attributes(record) | attributes)
