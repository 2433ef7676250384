"""Which names a pod sees, and whose they are."""

import pytest

from hypercontainer.engine import dns
from hypercontainer.engine.local import LocalEngine
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, PodSpec
from hypercontainer.model.spec import Dns as DnsSpec
from hypercontainer.network.base import Place
from hypercontainer.testing.fakes import FakeAgent
from tests.unit.engine.world import ADMIN, World

FRONT, BACK = Place("10.0.1.1", 5311), Place("10.0.2.1", 5311)


@pytest.fixture
async def networks(world: World, engine: LocalEngine) -> None:
    """Two with names. Addresses are 10.0.0.N in that of the settings, 10.0.1.N and 10.0.2.N in theirs."""
    for name, place in (("front", FRONT), ("back", BACK)):
        await engine.networks.create(NetworkSpec(name=name), by=ADMIN)
        world.networks[name].nameserver = place


async def run(engine: LocalEngine, name: str, *networks: str | EndpointSpec, **pod: object) -> str:
    """The id of a container that runs, in these networks."""
    endpoints = [each if isinstance(each, EndpointSpec) else EndpointSpec(network=each) for each in networks]
    container = ContainerSpec(image="busybox", name=name, command=["sleep", "1000"])
    spec = PodSpec(containers=[container], networks=endpoints or [EndpointSpec()], **pod)  # type: ignore[arg-type]
    made = await engine.containers.create(spec, by=ADMIN)
    await engine.containers.start(made.id)
    return made.id


def resolved(engine: LocalEngine, source: str, name: str) -> list[str] | None:
    asker = dns.asker(engine.host.index, source)
    assert asker
    found = asker.addresses(name)
    return None if found is None else sorted(map(str, found))


@pytest.mark.usefixtures("networks")
async def test_a_container_has_names(engine: LocalEngine) -> None:
    place = EndpointSpec(network="front", aliases=["Store", "db.example"])
    id = await run(engine, "web", place, hostname="shop.example")
    for name in ("web", id[:12], "store", "db.example", "shop.example", "web.front", "store.front"):
        assert resolved(engine, "10.0.1.2", name) == ["10.0.1.2"]
    for name in ("we", id, id[:11], "web.back", "store.web", "front", ""):
        assert resolved(engine, "10.0.1.2", name) is None
    asker = dns.asker(engine.host.index, "10.0.1.2")
    assert asker and asker.name(asker.addresses("web")[0]) == "web.front"  # type: ignore[index]


@pytest.mark.usefixtures("networks")
async def test_several_have_one_alias(engine: LocalEngine) -> None:
    for name in ("one", "two"):
        await run(engine, name, EndpointSpec(network="front", aliases=["app"]))
    assert resolved(engine, "10.0.1.2", "app") == ["10.0.1.2", "10.0.1.3"]
    await engine.containers.stop("one", 0)
    assert resolved(engine, "10.0.1.3", "app") == ["10.0.1.3"]
    assert dns.asker(engine.host.index, "10.0.1.2") is None


@pytest.mark.usefixtures("networks")
async def test_names_end_with_the_network(engine: LocalEngine) -> None:
    await run(engine, "web", "front")
    await run(engine, "db", "back")
    await run(engine, "both", "front", EndpointSpec(network="back", aliases=["inner"]))
    assert resolved(engine, "10.0.1.2", "db") is None and resolved(engine, "10.0.2.2", "web") is None
    assert resolved(engine, "10.0.1.2", "inner") is None  # though its pod is in the network
    assert resolved(engine, "10.0.1.3", "web") == ["10.0.1.2"] and resolved(engine, "10.0.2.3", "db") == ["10.0.2.2"]
    assert resolved(engine, "10.0.2.2", "both") == ["10.0.2.3"] == resolved(engine, "10.0.1.3", "inner")
    assert resolved(engine, "10.0.1.3", "both") == ["10.0.1.3"]  # of the first that has it
    assert resolved(engine, "10.0.1.3", "both.back") == ["10.0.2.3"]


@pytest.mark.usefixtures("networks")
async def test_the_network_of_the_settings_has_no_names(engine: LocalEngine) -> None:
    await run(engine, "plain")
    await run(engine, "other")
    assert dns.asker(engine.host.index, "10.0.0.2") is None
    await engine.networks.connect("front", "plain", EndpointSpec(), by=ADMIN)
    assert resolved(engine, "10.0.1.2", "plain") == ["10.0.1.2"] and resolved(engine, "10.0.1.2", "other") is None
    assert dns.asker(engine.host.index, "10.0.0.2") is None  # from there it does not ask


@pytest.mark.usefixtures("networks")
async def test_what_changes_while_they_run_counts_at_once(world: World, engine: LocalEngine) -> None:
    await run(engine, "web", "front")
    await run(engine, "db", "back")
    await engine.networks.connect("back", "web", EndpointSpec(aliases=["shop"]), by=ADMIN)
    assert resolved(engine, "10.0.2.2", "shop") == ["10.0.2.3"] and resolved(engine, "10.0.1.2", "db") == ["10.0.2.2"]
    await engine.containers.rename("db", "store")
    assert resolved(engine, "10.0.1.2", "store") == ["10.0.2.2"] and resolved(engine, "10.0.1.2", "db") is None
    await engine.containers.pause("store")
    assert resolved(engine, "10.0.1.2", "store") == ["10.0.2.2"]  # as with docker
    await engine.containers.unpause("store")
    await engine.close()
    engine = await world.engine()  # as after a SIGKILL
    assert resolved(engine, "10.0.1.2", "store") == ["10.0.2.2"]
    await engine.networks.disconnect("back", "web", force=False)
    assert resolved(engine, "10.0.2.2", "shop") is None and resolved(engine, "10.0.1.2", "store") is None


@pytest.mark.usefixtures("networks")
async def test_a_guest_is_told_whom_to_ask(world: World, engine: LocalEngine) -> None:
    own = DnsSpec(nameservers=["192.0.2.7"], search=["lan"], options=["timeout:1"])
    await run(engine, "web", dns=own)
    agent = world.hypervisor.alive[0].agent

    def told() -> tuple[list[str], list[str], Place | None]:
        setup = agent.pod
        assert setup and setup.dns and setup.dns.search == ["lan"]
        at = setup.nameserver
        return setup.dns.nameservers, setup.dns.options, Place(at.address, at.port) if at else None

    assert told() == (["192.0.2.7"], ["timeout:1"], None)
    await engine.networks.connect("front", "web", EndpointSpec(), by=ADMIN)
    assert told() == (["127.0.0.11"], ["timeout:1", "ndots:0"], FRONT)
    await engine.networks.connect("back", "web", EndpointSpec(), by=ADMIN)
    assert told()[2] == FRONT
    await engine.networks.disconnect("front", "web", force=False)
    assert told() == (["127.0.0.11"], ["timeout:1", "ndots:0"], BACK)
    await engine.networks.disconnect("back", "web", force=False)
    assert told()[:2] == (["192.0.2.7"], ["timeout:1"])


@pytest.mark.usefixtures("networks")
async def test_a_guest_of_old_asks_as_it_did(world: World, engine: LocalEngine) -> None:
    """It is found by its names all the same."""

    def agent() -> FakeAgent:
        made = FakeAgent()
        made.features.remove("nameserver")
        return made

    world.hypervisor.make_agent = agent
    await run(engine, "web", "front", dns=DnsSpec(nameservers=["192.0.2.7"]))
    await engine.networks.connect("back", "web", EndpointSpec(), by=ADMIN)
    setup = world.hypervisor.alive[0].agent.pod
    assert setup and setup.dns and (setup.dns.nameservers, setup.nameserver) == (["192.0.2.7"], None)
    assert resolved(engine, "10.0.1.2", "web") == ["10.0.1.2"]


@pytest.mark.usefixtures("networks")
async def test_who_is_asked_what_nobody_there_knows(world: World, engine: LocalEngine) -> None:
    await run(engine, "web", "front", dns=DnsSpec(nameservers=["127.0.0.1", "192.0.2.7"]))
    asker = dns.asker(engine.host.index, "10.0.1.2")
    assert asker and asker.servers() == ["192.0.2.7"]  # not what only the host may ask
    for nic in asker.pod.nics:
        nic.routes = []  # as in an internal network
    assert asker.servers() == []


@pytest.mark.usefixtures("networks")
async def test_one_that_is_suspended_has_no_names(engine: LocalEngine) -> None:
    await run(engine, "web", "front")
    await run(engine, "db", "front")
    await engine.snapshots.suspend("db")
    assert resolved(engine, "10.0.1.2", "db") is None
    await engine.snapshots.resume("db")
    assert resolved(engine, "10.0.1.2", "db") == ["10.0.1.3"]
