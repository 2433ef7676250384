"""Names of other containers that one alone knows."""

import pytest

from hypercontainer.engine import dns
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput, NotFound, WrongState
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, ExecSpec, NetworkSpec, PodSpec
from hypercontainer.network.base import Place
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.engine.world import ADMIN, World


async def make(engine: LocalEngine, name: str, *linked: str, network: str = "bridge", **more: object) -> str:
    """The id of a container with these links, not started."""
    container = ContainerSpec(image="busybox", name=name, command=["sleep", "1000"], **more)  # type: ignore[arg-type]
    endpoint = EndpointSpec(network=network, links=list(linked))
    return (await engine.containers.create(PodSpec(containers=[container], networks=[endpoint]), by=ADMIN)).id


async def run(engine: LocalEngine, name: str, *linked: str, network: str = "bridge", **more: object) -> FakeAgent:
    """The agent of one that runs."""
    id = await make(engine, name, *linked, network=network, **more)
    await engine.containers.start(id)
    return agent_of(engine, name)


def agent_of(engine: LocalEngine, name: str) -> FakeAgent:
    guest = engine.supervisor.find(name)[0].machine.running().guest
    agent = guest.agent  # type: ignore[attr-defined]  # of a fake hypervisor
    assert isinstance(agent, FakeAgent)
    return agent


def environment(agent: FakeAgent) -> dict[str, str]:
    """Of the first process."""
    [process] = [process for process in agent.processes.values() if process.id == process.container]
    return dict(entry.split("=", 1) for entry in process.env)


def hosts(agent: FakeAgent, alias: str) -> list[list[str]]:
    assert agent.pod
    return [row for row in agent.pod.hosts or [] if alias in row]


async def test_a_link_is_in_hosts_and_in_the_environment(engine: LocalEngine) -> None:
    ports = ["80/udp", "80/tcp", "443/tcp"]
    await run(engine, "db", hostname="store", env=["A=1", "HOME=/x", "LINKED_ENV_C=9"], expose=ports)
    agent = await run(engine, "web", "db:linked-db", env=["LINKED_DB_ENV_A=mine"])
    assert hosts(agent, "linked-db") == [["10.0.0.2", "linked-db", "store", "db"]]
    told = {name: value for name, value in environment(agent).items() if name.startswith("LINKED_DB")}
    expected = {"PORT": "tcp://10.0.0.2:80", "NAME": "/web/linked-db", "ENV_A": "mine", "ENV_LINKED_ENV_C": "9"}
    for port in ports:
        number, _, protocol = port.partition("/")
        name = f"PORT_{number}_{protocol.upper()}"
        expected |= {name: f"{protocol}://10.0.0.2:{number}", f"{name}_ADDR": "10.0.0.2"}
        expected |= {f"{name}_PORT": number, f"{name}_PROTO": protocol}
    assert told == {f"LINKED_DB_{name}": value for name, value in expected.items()}
    found = await engine.containers.inspect("web")
    assert found.host_config.links == ["/db:/web/linked-db"]
    assert not any(entry.startswith("LINKED_DB_PORT") for entry in found.config.env)
    exec_ = await engine.execs.create("web", ExecSpec(command=["true"]))
    process = engine.supervisor.find("web")[0].execs[exec_].process
    assert process and "LINKED_DB_PORT=tcp://10.0.0.2:80" in process.env


async def test_ports_without_a_gap_are_a_range(engine: LocalEngine) -> None:
    await run(engine, "db", expose=["7000/tcp", "7001/tcp", "7002/tcp", "9000/tcp", "9001/tcp"])
    env = environment(await run(engine, "web", "db"))
    assert {name: value for name, value in env.items() if name.endswith(("START", "END"))} == {
        "DB_PORT_7000_TCP_START": "tcp://10.0.0.2:7000",
        "DB_PORT_7000_TCP_PORT_START": "7000",
        "DB_PORT_7000_TCP_END": "tcp://10.0.0.2:7002",
        "DB_PORT_7000_TCP_PORT_END": "7002",
    }


async def test_it_follows_its_container(world: World, engine: LocalEngine) -> None:
    """Whatever that is called, and wherever it is, until it is removed."""
    await run(engine, "db")
    agent = await run(engine, "web", "db:store")
    await engine.containers.rename("db", "other")
    assert (await engine.containers.inspect("web")).host_config.links == ["/other:/web/store"]
    await engine.containers.stop("other", 0)
    await run(engine, "taker")  # the address
    await engine.containers.start("other")
    address = (await engine.containers.inspect("other")).network_settings.ip_address
    assert address != "10.0.0.2"
    async with engine.supervisor.find("web")[0].locked():
        assert hosts(agent, "store")[0][0] == address
    await engine.containers.remove("other", force=True, volumes=False)
    assert (await engine.containers.inspect("web")).host_config.links == []
    await engine.containers.restart("web", 0)


async def test_a_start_needs_those_that_it_is_linked_to(engine: LocalEngine) -> None:
    with pytest.raises(NotFound, match="could not get container for db"):
        await make(engine, "web", "db:store")
    await make(engine, "db")
    id = await make(engine, "web", "db:store")
    with pytest.raises(WrongState, match="Cannot link to a non running container: /db AS /web/store"):
        await engine.containers.start(id)
    await engine.networks.create(NetworkSpec(name="front"), by=ADMIN)
    await run(engine, "there", network="front")
    id = await make(engine, "far", "there")
    with pytest.raises(WrongState, match="does not belong to the default network"):
        await engine.containers.start(id)


@pytest.mark.parametrize("link", ["", ":a", "a:b:c", "a/b", "a:b/c", "a:", "/a:/b/", "a b:c"])
async def test_what_is_no_link(engine: LocalEngine, link: str) -> None:
    with pytest.raises(InvalidInput):
        await make(engine, "web", link)


async def test_a_name_may_be_as_long_as_a_container_s(engine: LocalEngine) -> None:
    name = "a" * 200
    await run(engine, name)
    await run(engine, "web", name)
    assert (await engine.containers.inspect("web")).host_config.links == [f"/{name}:/web/{name}"]


async def test_links_are_bounded(engine: LocalEngine) -> None:
    with pytest.raises(InvalidInput, match="64 at most"):
        await make(engine, "web", *["a"] * 65)


async def test_a_link_is_removed(engine: LocalEngine) -> None:
    await run(engine, "db")
    await run(engine, "web", "db:one", "/db:/web/two")
    [entry] = [entry for entry in await engine.containers.list(all=True, filters={}) if entry.names[0] == "/db"]
    assert entry.names == ["/db", "/web/one", "/web/two"]
    await engine.containers.unlink("web", "one")
    assert (await engine.containers.inspect("web")).host_config.links == ["/db:/web/two"]
    with pytest.raises(NotFound, match="no such link: web/one"):
        await engine.containers.unlink("web", "one")


async def test_a_hyperd_that_comes_back_knows_them(world: World, engine: LocalEngine) -> None:
    await run(engine, "db")
    await run(engine, "web", "db:store")
    await engine.close()
    again = await world.engine()
    assert (await again.containers.inspect("web")).host_config.links == ["/db:/web/store"]
    async with again.supervisor.find("web")[0].locked() as locked:
        await locked.tell_hosts()
    assert hosts(agent_of(again, "web"), "store")


async def test_on_a_network_that_was_made_one_alone_knows_the_name(world: World, engine: LocalEngine) -> None:
    """Whoever is called so there at that moment: nobody needs to be there before."""
    for name in ("front", "back"):
        await engine.networks.create(NetworkSpec(name=name), by=ADMIN)
        world.networks[name].nameserver = Place("10.0.9.1", 5311)
    await run(engine, "web", "db:Store", network="front")
    place = (await engine.containers.inspect("web")).network_settings.networks["front"]
    assert place.links == ["db:Store"]
    assert resolved(engine, "10.0.1.2", "store") is None
    await run(engine, "db", network="front")
    await run(engine, "other", network="front")
    assert resolved(engine, "10.0.1.2", "store") == resolved(engine, "10.0.1.2", "db") == ["10.0.1.3"]
    assert resolved(engine, "10.0.1.2", "store.front") == ["10.0.1.3"]
    assert resolved(engine, "10.0.1.4", "store") is None
    await engine.networks.connect("back", "other", EndpointSpec(links=["db:web"]), by=ADMIN)
    assert resolved(engine, "10.0.1.4", "web") == ["10.0.1.2"]  # db is not in back
    await engine.networks.disconnect("front", "other", force=False)
    await engine.networks.connect("front", "other", EndpointSpec(links=["db:web"]), by=ADMIN)
    address = (await engine.containers.inspect("other")).network_settings.networks["front"].ip_address
    assert resolved(engine, address, "web") == ["10.0.1.3"]  # before the one that is called so


def resolved(engine: LocalEngine, source: str, name: str) -> list[str] | None:
    asker = dns.asker(engine.host.index, source)
    assert asker
    found = asker.addresses(name)
    return None if found is None else sorted(map(str, found))
