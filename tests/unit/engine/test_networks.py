"""The noun `networks`: made, listed, joined, left and removed."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import (
    AlreadyExists,
    Denied,
    Exhausted,
    HyperError,
    InUse,
    InvalidInput,
    NotFound,
    WrongState,
)
from hypercontainer.lib import clock
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.record import NicRecord
from hypercontainer.model.settings import AddressPool
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, PodSpec, PortMapping, SubnetSpec
from tests.unit.engine.world import ADMIN, Run, World

USER = Principal(Role.USER, uid=1000, gid=100, pid=7)
POOLS = [AddressPool(base="203.0.112.0/22", size=24), AddressPool(base="2001:db8::/48", size=64)]
HERE = EndpointSpec()


@pytest.fixture
async def engine(world: World, busybox_archive: Path) -> LocalEngine:
    """Whose pools hold addresses for documents, which no host reaches."""
    from tests.unit.engine.world import load

    world.settings = msgspec.structs.replace(world.settings, address_pools=POOLS)
    engine = await world.engine()
    await load(engine, busybox_archive)
    return engine


async def make(engine: LocalEngine, name: str, *subnets: str, **more: object) -> str:
    """Its id."""
    asked = [SubnetSpec(subnet=subnet) for subnet in subnets]
    return (await engine.networks.create(NetworkSpec(name=name, subnets=asked, **more), by=ADMIN)).id  # type: ignore[arg-type]


async def names(engine: LocalEngine, **filters: Sequence[str]) -> str:
    return " ".join(network.name for network in await engine.networks.list(filters))


async def seen(engine: LocalEngine) -> list[tuple[str, str]]:
    """What was told of networks."""
    events = await engine.system.events(0, clock.now_ns(), {"type": ["network"]})
    return [(event.action, event.actor.attributes["name"]) async for event in events]


async def test_a_network_is_made_out_of_the_pools(world: World, engine: LocalEngine) -> None:
    made = await engine.networks.create(NetworkSpec(name="db", ipv6=True, labels={"a": "b"}), by=USER)
    assert [(c.subnet, c.gateway) for c in made.ipam.config] == [
        ("203.0.112.0/24", "203.0.112.1"), ("2001:db8::/64", "2001:db8::1"),
    ]  # fmt: skip
    assert (made.driver, made.enable_ipv6, made.internal, made.labels) == ("bridge", True, False, {"a": "b"})
    other = await engine.networks.inspect(await make(engine, "web", internal=True))
    assert other.ipam.config[0].subnet == "203.0.113.0/24" and other.internal
    assert world.networks["db"].there and len({record.bridge for record in engine.host.networks.all()}) == 4
    assert {len(record.bridge) for record in engine.host.networks.all()[2:]} == {15}
    assert await seen(engine) == [("create", "db"), ("create", "web")]
    assert made == await engine.networks.inspect("db") == await engine.networks.inspect(made.id[:12])


async def test_two_at_once_get_subnets_of_their_own(engine: LocalEngine) -> None:
    made = await asyncio.gather(*(engine.networks.create(NetworkSpec(name=f"n{n}"), by=ADMIN) for n in range(4)))
    assert len({network.ipam.config[0].subnet for network in made}) == 4
    with pytest.raises(Exhausted, match="cannot find a free subnet"):
        await make(engine, "more")
    done = await asyncio.gather(
        *(engine.networks.create(NetworkSpec(name="same", subnets=[SubnetSpec(subnet=f"10.{n}.0.0/24")]), by=ADMIN)
          for n in range(2)),
        return_exceptions=True,
    )  # fmt: skip
    assert sorted(type(each).__name__ for each in done) == ["AlreadyExists", "Network"]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (NetworkSpec(name="db"), AlreadyExists, "network with name db already exists"),
        (NetworkSpec(name="host"), AlreadyExists, "has a meaning of its own"),
        (NetworkSpec(name="bridge"), AlreadyExists, "has a meaning of its own"),
        (NetworkSpec(name="container:x"), InvalidInput, "invalid network name"),
        (NetworkSpec(name=""), InvalidInput, "invalid network name"),
        (NetworkSpec(name="x", driver="overlay"), InvalidInput, "there is bridge alone"),
        (NetworkSpec(name="x", labels={"a": "b" * 5000}), InvalidInput, "too many labels"),
        (NetworkSpec(name="x", options={"parent": "eth0"}), InvalidInput, "cannot use option parent"),
        (NetworkSpec(name="x", options={"com.docker.network.driver.mtu": "1"}), InvalidInput, "1280 to 65535"),
        (NetworkSpec(name="x", options={"com.docker.network.bridge.enable_icc": "false"}), InvalidInput, "reach each"),
        (NetworkSpec(name="x", options={"com.docker.network.bridge.name": "hyper0"}), InUse, "that of network bridge"),
        (NetworkSpec(name="x", options={"com.docker.network.bridge.name": "a b"}), InvalidInput, "invalid bridge"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet="192.168.123.0/28")]), InUse, "network bridge has"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet="10.1.0.0/30")]), InvalidInput, "too few addresses"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet="127.0.0.0/24")]), InvalidInput, "it is for other things"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet="10.1.0.0/24", gateway="10.2.0.1")]), InvalidInput, "10.2"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet="10.1.0.0/24", ip_range="10.2.0.0/25")]), InvalidInput,
         "it is not within 10.1.0.0/24"),
        (NetworkSpec(name="x", subnets=[SubnetSpec(subnet=f"10.{n}.0.0/24") for n in (1, 2)]), InvalidInput,
         "one subnet of IPv4"),
    ],
)  # fmt: skip
async def test_what_makes_no_network_is_refused(
    world: World, engine: LocalEngine, spec: NetworkSpec, error: type[HyperError], words: str
) -> None:
    await make(engine, "db")
    with pytest.raises(error, match=words):
        await engine.networks.create(spec, by=ADMIN)
    assert await names(engine) == "bridge none db"
    assert len(list((engine.host.root / "networks").iterdir())) == 1


async def test_users_take_what_the_pools_give(engine: LocalEngine) -> None:
    """A subnet of somebody's choice would lead what the host sends there to pods."""
    for spec in (
        NetworkSpec(name="x", subnets=[SubnetSpec(subnet="8.8.8.0/24")]),
        NetworkSpec(name="x", options={"com.docker.network.bridge.name": "eth7"}),
    ):
        with pytest.raises(Denied, match="are for admins to choose"):
            await engine.networks.create(spec, by=USER)
    assert await names(engine) == "bridge none"


async def test_another_policy_is_asked_who_joins(world: World, engine: LocalEngine, create: Run) -> None:
    await engine.close()
    world.engines.remove(engine)

    def apart(principal: Principal, spec: PodSpec) -> PodSpec:
        if principal == USER and any(each.network == "db" for each in spec.networks):
            raise Denied("not that one")
        return spec

    engine = await world.engine(admission=apart)
    await make(engine, "db")
    container = ContainerSpec(image="busybox", command=["true"], name="web")
    made = await engine.containers.create(PodSpec(containers=[container]), by=USER)
    with pytest.raises(Denied):
        await engine.networks.connect("db", made.id, HERE, by=USER)
    await engine.networks.connect("db", made.id, HERE, by=ADMIN)


async def test_lists_are_filtered(engine: LocalEngine, create: Run) -> None:
    id = await make(engine, "db", labels={"team": "a"})
    await make(engine, "web", labels={"team": "b"})
    await create("true", network="web")
    assert await names(engine) == "bridge none db web"
    for wanted, expected in (
        ({"name": ["^d"]}, "db"), ({"id": [id[:12]]}, "db"), ({"label": ["team=b"]}, "web"),
        ({"driver": ["null"]}, "none"),
        ({"type": ["builtin"]}, "bridge none"), ({"type": ["custom"]}, "db web"), ({"dangling": ["true"]}, "db"),
        ({"label!": ["team=a"], "type": ["custom"]}, "web"), ({"scope": ["swarm"]}, ""),
    ):  # fmt: skip
        assert await names(engine, **wanted) == expected
    with pytest.raises(InvalidInput, match="invalid filter 'x' for networks"):
        await engine.networks.list({"x": ["y"]})
    assert [entry.names for entry in await engine.containers.list(all=True, filters={"network": ["web"]})]


async def test_one_that_somebody_is_in_stays(world: World, engine: LocalEngine, create: Run) -> None:
    await make(engine, "net")  # no digits, that another one's id could begin with
    id = await create("sleep", "1000", network="net", name="web")
    with pytest.raises(InUse, match="cannot remove network net: container web is in it") as e:
        await engine.networks.remove("net")
    assert e.value.by == ["container web"]
    await engine.containers.start(id)
    member = (await engine.networks.inspect("net")).containers[id]
    assert (member.name, member.ipv4_address) == ("web", "10.0.1.2/24")
    assert (await engine.networks.inspect("bridge")).containers == {}
    await engine.close()
    engine = await world.engine()
    with pytest.raises(InUse):
        await engine.networks.remove("net")
    assert (await engine.networks.prune(wanted={})).deleted == []
    await engine.containers.remove(id, force=True, volumes=True)
    await engine.networks.remove("net")
    assert not world.networks["net"].there and await names(engine) == "bridge none"
    for always in ("bridge", "none"):
        with pytest.raises(InvalidInput, match="it is always there"):
            await engine.networks.remove(always)
    with pytest.raises(NotFound, match="no such network: net"):
        await engine.networks.remove("net")


async def test_prune(engine: LocalEngine, create: Run) -> None:
    for name in ("a", "b", "c"):
        await make(engine, name, labels={"name": name})
    await create("true", network="b")
    assert (await engine.networks.prune(wanted={"label": ["name=c"]})).deleted == ["c"]
    assert (await engine.networks.prune(wanted={"until": ["1"]})).deleted == []
    assert (await engine.networks.prune(wanted={})).deleted == ["a"]
    assert await names(engine) == "bridge none b"


async def test_a_container_that_does_not_run_joins_and_leaves(world: World, engine: LocalEngine, create: Run) -> None:
    await make(engine, "db")
    await make(engine, "web")
    id = await create("sleep", "1000", name="c")
    with pytest.raises(InvalidInput, match="it is no address for a pod"):
        await engine.networks.connect("db", "c", EndpointSpec(address="10.0.1.9"), by=ADMIN)
    there = EndpointSpec(network="ignored", address="203.0.112.9", aliases=["store"])
    await engine.networks.connect("db", "c", there, by=ADMIN)
    with pytest.raises(AlreadyExists, match=f"cannot connect {id} to network db: it is in it"):
        await engine.networks.connect("db", id, HERE, by=ADMIN)
    await engine.networks.disconnect("bridge", "c", force=False)
    with pytest.raises(NotFound, match="no such endpoint: c in network bridge"):
        await engine.networks.disconnect("bridge", "c", force=False)
    await engine.networks.disconnect("bridge", "c", force=True)
    await engine.containers.start(id)
    settings = (await engine.containers.inspect("c")).network_settings
    assert settings.networks.keys() == {"db"} and settings.networks["db"].aliases == ["store"]
    assert settings.networks["db"].ip_address == "203.0.112.9"
    await engine.containers.stop(id, 0)
    await engine.networks.disconnect("db", "c", force=False)
    assert (await engine.containers.inspect("c")).host_config.network_mode == "none"
    await engine.networks.remove("db")
    await engine.networks.connect("web", "c", HERE, by=ADMIN)
    assert (await engine.containers.inspect("c")).host_config.network_mode == "web"
    assert await seen(engine) == [
        ("create", "db"), ("create", "web"), ("connect", "db"), ("disconnect", "bridge"),
        ("connect", "db"), ("disconnect", "db"),  # with its start and its end
        ("disconnect", "db"), ("destroy", "db"), ("connect", "web"),
    ]  # fmt: skip


async def test_a_container_that_runs_joins_and_leaves(world: World, engine: LocalEngine) -> None:
    await make(engine, "db")
    container = ContainerSpec(image="busybox", command=["sleep", "1000"], name="web")
    spec = PodSpec(containers=[container], ports=[PortMapping(container_port=80, host_port=8080)])
    await engine.containers.create(spec, by=ADMIN)
    await engine.containers.start("web")
    pod, _ = engine.supervisor.find("web")

    def interfaces() -> list[tuple[str, str, int]]:
        return [(nic.name, nic.network, len(nic.ports)) for nic in pod.record.nics]

    assert interfaces() == [("eth0", "bridge", 1)]
    await engine.networks.connect("db", "web", EndpointSpec(address="203.0.112.9", aliases=["store"]), by=ADMIN)
    assert interfaces() == [("eth0", "bridge", 1), ("eth1", "db", 0)]
    assert len(world.networks["db"].plugged) == 1
    settings = (await engine.containers.inspect("web")).network_settings
    assert settings.networks["db"].ip_address == "203.0.112.9" and settings.networks["db"].aliases == ["store"]
    with pytest.raises(AlreadyExists):
        await engine.networks.connect("db", "web", HERE, by=ADMIN)
    with pytest.raises(InUse, match="container web is in it"):
        await engine.networks.remove("db")

    await engine.networks.disconnect("bridge", "web", force=False)  # and its port is led by the other one
    assert interfaces() == [("eth1", "db", 1)] and not world.network.nics
    assert [nic.ports[0].host_port for nic in world.networks["db"].nics.values()] == [8080]
    await engine.networks.disconnect("db", "web", force=False)
    assert interfaces() == [] and (await engine.containers.inspect("web")).host_config.network_mode == "none"
    await engine.networks.connect("bridge", "web", HERE, by=ADMIN)  # and so is the port again
    assert interfaces() == [("eth0", "bridge", 1)]
    await engine.networks.remove("db")
    await engine.containers.pause("web")
    with pytest.raises(WrongState, match="paused"):
        await engine.networks.disconnect("bridge", "web", force=False)
    await engine.containers.remove("web", force=True, volumes=True)
    await world.check_nothing_left()


async def test_a_join_that_fails_leaves_it_where_it_was(
    world: World, engine: LocalEngine, create: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(engine, "db")
    id = await create("sleep", "1000", name="web")
    await engine.containers.start(id)
    before = engine.supervisor.find("web")[0].record.spec

    async def plug(nic: NicRecord) -> None:
        raise HyperError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(world.networks["db"], "plug", plug)
        with pytest.raises(HyperError, match="no room"):
            await engine.networks.connect("db", "web", HERE, by=ADMIN)
    record = engine.supervisor.find("web")[0].record
    assert (record.spec, len(record.nics), world.networks["db"].nics) == (before, 1, {})
    await engine.networks.remove("db")


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
async def test_what_a_hyperd_before_us_was_about_to_change_is_as_it_was_or_done(
    world: World, engine: LocalEngine, create: Run, verb: str
) -> None:
    """The spec says a network in which there is no interface any more, or not yet."""
    await make(engine, "db")
    id = await create("sleep", "1000", name="web", network="bridge db")
    await engine.containers.start(id)
    pod, _ = engine.supervisor.find("web")
    pod.record.nics[1 if verb == "connect" else 0].provisional = True
    pod.machine.save()
    await engine.close()
    again = await world.engine()
    found = (await again.containers.inspect("web")).network_settings.networks
    assert list(found) == (["bridge"] if verb == "connect" else ["db"])
    assert [len(world.networks[name].nics) for name in ("bridge", "db")] == ([1, 0] if verb == "connect" else [0, 1])
    await again.containers.remove("web", force=True, volumes=True)
    await world.check_nothing_left()


async def test_a_copy_has_the_networks_but_no_address_that_was_asked_for(
    world: World, engine: LocalEngine, create: Run
) -> None:
    await make(engine, "db")
    container = ContainerSpec(image="busybox", command=["sleep", "1000"], name="web")
    there = EndpointSpec(network="db", address="203.0.112.9", aliases=["store"])
    await engine.containers.create(PodSpec(containers=[container], networks=[there]), by=ADMIN)
    await engine.containers.start("web")
    await engine.snapshots.fork("web", count=1, name="copy", ports=[])
    copy = engine.supervisor.find("copy")[0].record
    assert copy.spec.networks == [EndpointSpec(network="db", aliases=["store"])]
    assert [nic.network for nic in copy.nics] == ["db"] and copy.nics[0].address != "203.0.112.9/24"
    await engine.snapshots.create("web", "then", leave_running=False)
    for name in ("web", "copy"):
        await engine.containers.remove(name, force=True, volumes=True)
    await engine.networks.remove("db")
    with pytest.raises(NotFound, match="no such network: db"):
        await engine.snapshots.restore("web", "then", name="")
    await world.check_nothing_left()
    await make(engine, "db")
    await engine.snapshots.restore("web", "then", name="")
    assert engine.supervisor.find("web")[0].record.nics[0].network == "db"
    await engine.containers.remove("web", force=True, volumes=True)


async def test_a_pod_joins_with_all_its_containers(engine: LocalEngine) -> None:
    await make(engine, "db")
    members = [ContainerSpec(image="busybox", command=["sleep", "1"], name=name) for name in ("a", "b")]
    await engine.pods.create(PodSpec(name="p", containers=members), by=ADMIN)
    await engine.networks.connect("db", "p", HERE, by=ADMIN)
    with pytest.raises(AlreadyExists):
        await engine.networks.connect("db", "a", HERE, by=ADMIN)
    await engine.pods.start("p")
    assert {member.name for member in (await engine.networks.inspect("db")).containers.values()} == {"a", "b"}
    await engine.pods.remove("p", force=True, volumes=True)


async def test_ports_want_a_network_that_leads_out(engine: LocalEngine) -> None:
    await make(engine, "inside", internal=True)
    container = ContainerSpec(image="busybox", command=["sleep", "1"], name="web")
    ports = [PortMapping(container_port=80)]
    await engine.containers.create(PodSpec(containers=[container], ports=ports), by=ADMIN)
    await engine.networks.connect("inside", "web", HERE, by=ADMIN)
    await engine.networks.disconnect("bridge", "web", force=False)
    with pytest.raises(InvalidInput, match="cannot publish ports of a pod in inside"):
        await engine.containers.start("web")
    await engine.networks.disconnect("inside", "web", force=False)
    with pytest.raises(InvalidInput, match="cannot publish ports of a pod without a network"):
        await engine.containers.start("web")
    await engine.networks.connect("bridge", "web", HERE, by=ADMIN)
    await engine.containers.start("web")
    await engine.containers.remove("web", force=True, volumes=True)
