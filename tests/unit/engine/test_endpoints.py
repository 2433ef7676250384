"""What pods have of networks."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hypercontainer.engine import endpoints
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import HyperError, InvalidInput, NotFound, WrongState
from hypercontainer.model.record import NetworkRecord, SubnetRecord
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, PodSpec, PortMapping
from hypercontainer.network.store import VERSION, NetworkStore
from tests.unit.engine.world import ADMIN, Run, World

PORTS = [PortMapping(container_port=80, host_port=8080)]


def a_record(number: int, name: str, *, internal: bool = False) -> NetworkRecord:
    subnets = [
        SubnetRecord(subnet=f"10.0.{number}.0/24", gateway=f"10.0.{number}.1"),
        SubnetRecord(subnet=f"fd0{number}::/64", gateway=f"fd0{number}::1"),
    ]
    return NetworkRecord(
        version=VERSION,
        id=f"{number}" * 64,
        name=name,
        bridge=f"hy-{number}",
        subnets=subnets,
        internal=internal,
        created_ns=number,
    )


@pytest.fixture
async def networks(engine: LocalEngine) -> NetworkStore:
    """That of the settings, an internal one, another one."""
    await engine.host.networks.create(a_record(1, "inside", internal=True))
    await engine.host.networks.create(a_record(2, "db"))
    return engine.host.networks


def spec(*names: str, ports: Sequence[PortMapping] = (), **own: object) -> PodSpec:
    """`own` is what is wanted of the last one."""
    wanted = [EndpointSpec(network=name) for name in names[:-1]]
    wanted += [EndpointSpec(network=name, **own) for name in names[-1:]]  # type: ignore[arg-type]
    return PodSpec(networks=wanted, ports=list(ports))


def test_networks_are_called_by_their_names(networks: NetworkStore) -> None:
    found = endpoints.resolved(networks, spec("2" * 64, "111", "bridge", aliases=["web", "Unit tests"]))
    assert [endpoint.network for endpoint in found.networks] == ["db", "inside", "bridge"]
    assert found.networks[2].aliases == ["web", "Unit tests"]


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        (spec("host"), InvalidInput, "cannot use network host: a virtual machine has no part in the host's network"),
        (spec("container:web"), InvalidInput, "a pod has networks of its own; add the container to that pod"),
        (spec("nothing"), NotFound, "no such network: nothing"),
        (spec("db", "222"), InvalidInput, "cannot join network db twice"),
        (spec(), InvalidInput, "say none alone"),
        (spec("none", "db"), InvalidInput, "say none alone"),
        (spec("none", ports=PORTS), InvalidInput, "cannot publish ports of a pod without a network"),
        (spec("none", aliases=["a"]), InvalidInput, "cannot have an address or an alias without a network"),
        (spec("inside", ports=PORTS), InvalidInput, "nothing leads into internal networks"),
        (spec("db", address="10.0.1.9"), InvalidInput, r"10.0.1.9 of network db: it is no address for a pod in 10.0.2"),
        (spec("db", address="10.0.2.1"), InvalidInput, "it is the host's own"),
        (spec("db", address="10.0.2.255"), InvalidInput, "it is no address for a pod"),
        (spec("db", address="web"), InvalidInput, "invalid address in network db"),
        (spec("db", address6="fd01::5"), InvalidInput, "it is no address for a pod in fd02::/64"),
        (spec("db", aliases=["a\nb"]), InvalidInput, "invalid alias"),
        (spec("db", aliases=["x"] * 65), InvalidInput, "64 at most"),
    ],
)
def test_what_can_never_be_had_is_refused(
    networks: NetworkStore, wanted: PodSpec, error: type[HyperError], words: str
) -> None:
    with pytest.raises(error, match=words):
        endpoints.check_ports(networks, endpoints.resolved(networks, wanted))


async def test_a_machine_has_eight_interfaces_at_most(engine: LocalEngine) -> None:
    names = [f"n{number}" for number in range(1, 10)]
    for number, name in enumerate(names, 1):
        await engine.host.networks.create(a_record(number, name))
    endpoints.resolved(engine.host.networks, spec(*names[:8]))
    with pytest.raises(InvalidInput, match="cannot join 9 networks: 8 at most"):
        endpoints.resolved(engine.host.networks, spec(*names))


async def test_a_pod_has_an_interface_in_each(
    world: World, engine: LocalEngine, create: Run, networks: NetworkStore
) -> None:
    container = ContainerSpec(image="busybox", command=["sleep", "1000"], name="web")
    wanted = [EndpointSpec(network="inside"), EndpointSpec(network="db", address="10.0.2.77", aliases=["store"])]
    await engine.containers.create(PodSpec(containers=[container], networks=wanted, ports=PORTS), by=ADMIN)
    before = await engine.containers.inspect("web")
    assert before.host_config.network_mode == "inside" and before.network_settings.networks.keys() == {"inside", "db"}
    await engine.containers.start("web")
    pod, _ = engine.supervisor.find("web")
    inside, db = pod.record.nics
    assert (inside.name, db.name, inside.tap, db.tap) == ("eth0", "eth1", f"hy{pod.record.id}", f"hy{pod.record.id}8")
    [guest] = world.hypervisor.alive
    assert [nic.tap for nic in guest.config.nics] == [inside.tap]  # as a clone has, and one that waited
    assert {nic.tap for nic in guest.plugged_nics.values()} == {inside.tap, db.tap}
    assert [(nic.network, len(nic.ports)) for nic in pod.record.nics] == [("inside", 0), ("db", 1)]
    assert [list(network.plugged) for network in world.networks.values()] == [[], [inside.tap], [db.tap]]
    said = (await engine.containers.inspect("web")).network_settings
    assert said.networks["db"].ip_address == "10.0.2.77" and said.networks["db"].aliases == ["store"]
    assert said.ip_address == said.networks["inside"].ip_address and said.ports["80/tcp"]
    with pytest.raises(WrongState, match="in several networks"):
        await engine.snapshots.fork("web", count=1, name="", ports=[])

    await engine.close()
    again = await world.engine()
    assert [list(network.nics) for network in world.networks.values()] == [[], [inside.tap], [db.tap]]
    await again.containers.remove("web", force=True, volumes=True)
    await world.check_nothing_left()


async def test_a_pod_whose_network_is_not_known_can_be_removed(
    world: World, engine: LocalEngine, create: Run, networks: NetworkStore
) -> None:
    id = await create("sleep", "1000", network="db")
    await engine.containers.start(id)
    await engine.close()
    [path] = Path(engine.host.root, "networks").glob("2*.json")
    path.unlink()
    again = await world.engine()
    assert (await again.containers.inspect(id)).state.status == "running"
    await again.containers.stop(id, 0)
    with pytest.raises(NotFound, match="no such network: db"):
        await again.containers.start(id)
    await again.containers.remove(id, force=True, volumes=True)
    assert world.hypervisor.alive == []
