"""Containers that share the network of another one, in its pod."""

import asyncio
import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hypercontainer.engine import dns
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import AlreadyExists, InUse, InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import (
    ContainerSpec,
    ContainerUpdate,
    Dns,
    EndpointSpec,
    Mount,
    NetworkSpec,
    PodSpec,
    PortMapping,
)
from hypercontainer.network.base import Place
from hypercontainer.sandbox.container import ExecFailed
from tests.unit.engine.world import ADMIN, World

SLEEP = ["sleep", "1000"]
PORTS = [PortMapping(container_port=80, host_port=8080)]


async def make(engine: LocalEngine, name: str, network: str = "bridge", container: object = None, **pod: object) -> str:
    """The id of a container in `network`, not started. `container`: more of its spec."""
    more = container if isinstance(container, dict) else {}
    made = ContainerSpec(image="busybox", name=name, command=SLEEP, **more)
    spec = PodSpec(containers=[made], networks=[EndpointSpec(network=network)], **pod)  # type: ignore[arg-type]
    return (await engine.containers.create(spec, by=ADMIN)).id


@pytest.fixture
async def web(engine: LocalEngine) -> str:
    """The id of one that runs."""
    id = await make(engine, "web", hostname="shop", ports=PORTS, memory_mib=64)
    await engine.containers.start(id)
    return id


async def join(engine: LocalEngine, name: str, other: str = "web", **more: object) -> str:
    """The id of one that shares the network of `other`, and runs."""
    id = await make(engine, name, f"container:{other}", more)
    await engine.containers.start(id)
    return id


async def inspected(engine: LocalEngine, c: str) -> doc.Container:
    return await engine.containers.inspect(c)


async def test_it_is_in_the_machine_of_the_other(world: World, engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side", web[:12])
    [guest] = world.hypervisor.alive
    assert guest.agent.containers.keys() == {web, side}
    assert len(world.network.nics) == 1
    shown, other = await inspected(engine, side), await inspected(engine, web)
    assert shown.host_config.network_mode == f"container:{web}" and other.host_config.network_mode == "bridge"
    assert (shown.config.hostname, shown.host_config.port_bindings) == ("shop", {})
    assert (shown.network_settings.networks, shown.network_settings.ip_address) == ({}, "")
    assert shown.network_settings.interfaces == other.network_settings.interfaces
    assert shown.pod == other.pod
    by_name = {entry.names[0]: entry for entry in await engine.containers.list(all=False, filters={})}
    assert list(by_name["/side"].networks) == [f"container:{web}"] and by_name["/side"].ports == []
    assert [port.public_port for port in by_name["/web"].ports] == [8080]
    for filters in ({"network": ["bridge"]}, {"publish": ["8080"]}):
        assert [e.names for e in await engine.containers.list(all=True, filters=filters)] == [["/web"]]
    assert (await engine.networks.inspect("bridge")).containers.keys() == {web}
    told = [event async for event in await engine.system.events(0, clock.now_ns(), {"type": ["network"]})]
    assert [(event.action, event.actor.attributes["container"]) for event in told] == [("connect", web)]


async def test_limits_are_each_ones_own(world: World, engine: LocalEngine, web: str) -> None:
    """The machine is of the size that the first one asked for."""
    own = await make(engine, "own", "container:web", memory_mib=32, vcpus=1)
    free = await join(engine, "free")
    await engine.containers.start(own)
    [guest] = world.hypervisor.alive
    limits = {id: container.cgroup for id, container in guest.agent.containers.items()}
    assert [limits[id].memory_bytes >> 20 for id in (web, own, free)] == [64, 32, 0]
    assert [limits[id].cpu_quota_us for id in (web, own, free)] == [0, 100_000, 0]
    assert (await inspected(engine, own)).host_config.memory == 32 << 20
    assert (await inspected(engine, free)).host_config.memory == 0
    await engine.containers.update("free", ContainerUpdate(memory_mib=48))
    assert guest.agent.containers[free].cgroup.memory_bytes == 48 << 20
    assert (await inspected(engine, "web")).host_config.memory == 64 << 20


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"hostname": "a"}, "conflicting options: hostname and the network mode"),
        ({"dns": Dns(search=["example"])}, "conflicting options: dns and the network mode"),
        ({"extra_hosts": {"a": "10.0.0.1"}}, "custom host-to-IP mapping and the network mode"),
        ({"ports": PORTS}, "port publishing and the container type network mode"),
        ({"publish_exposed": True}, "port publishing and the container type network mode"),
        ({"container": {"expose": ["80"]}}, "port exposing and the container type network mode"),
        ({"factory": "direct"}, "cannot choose factory: its virtual machine is that of web"),
        ({"tenant": "a"}, "cannot choose tenant"),
        ({"network": "container:"}, "invalid container format container:<name|id>"),
    ],
)
async def test_what_the_other_one_says_is_refused_in_dockers_words(
    engine: LocalEngine, web: str, pod: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        await make(engine, "side", **{"network": "container:web", **pod})  # type: ignore[arg-type]
    assert len(engine.supervisor.find("web")[0].containers) == 1


async def test_no_other_network_can_be_had(engine: LocalEngine, web: str) -> None:
    await engine.networks.create(NetworkSpec(name="db"), by=ADMIN)
    spec = PodSpec(
        containers=[ContainerSpec(image="busybox", name="side")],
        networks=[EndpointSpec(network="container:web"), EndpointSpec(network="db")],
    )
    with pytest.raises(InvalidInput, match="conflicting options: mac-address and the network mode"):
        addressed = [EndpointSpec(network="container:web", mac="02:00:00:00:00:01")]
        await engine.containers.create(PodSpec(containers=spec.containers, networks=addressed), by=ADMIN)
    for networks in (spec.networks, [EndpointSpec(network="container:web", aliases=["a"])]):
        with pytest.raises(InvalidInput, match="container sharing network namespace with another container"):
            await engine.containers.create(PodSpec(containers=spec.containers, networks=networks), by=ADMIN)
    await join(engine, "side")
    with pytest.raises(InvalidInput, match="cannot be connected to any other network"):
        await engine.networks.connect("db", "side", EndpointSpec(), by=ADMIN)
    with pytest.raises(InvalidInput, match="cannot be connected to any other network"):
        await engine.networks.disconnect("bridge", "side", force=False)
    await engine.networks.connect("db", "web", EndpointSpec(), by=ADMIN)
    assert len((await inspected(engine, "side")).network_settings.interfaces) == 2


async def test_the_other_one_must_be_there_and_run(engine: LocalEngine) -> None:
    with pytest.raises(NotFound, match="no such container: web"):
        await make(engine, "side", "container:web")
    web = await make(engine, "web")
    side = await make(engine, "side", "container:web")
    with pytest.raises(WrongState, match=f"cannot join network of a non running container: {web}"):
        await engine.containers.start(side)
    with pytest.raises(AlreadyExists):
        await make(engine, "side", "container:web")
    await engine.containers.start(web)
    await engine.containers.start(side)
    await engine.containers.pause(web)
    other = await make(engine, "other", "container:side")
    with pytest.raises(WrongState, match="cannot start other: it is in a paused virtual machine: unpause"):
        await engine.containers.start(other)
    await engine.containers.unpause(web)
    await engine.containers.start(other)
    await engine.containers.stop(web, 0)
    with pytest.raises(WrongState, match="non running container"):
        await join(engine, "brief", auto_remove=True)
    with pytest.raises(NotFound):
        await inspected(engine, "brief")
    both = (engine.containers.start(web), join(engine, "late"))
    await asyncio.gather(*both)  # in that order
    assert (await inspected(engine, other)).host_config.network_mode == f"container:{side}"


async def test_the_network_is_there_while_anybody_runs(world: World, engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side")
    address = (await inspected(engine, "web")).network_settings.ip_address
    await engine.containers.stop("web", 0)
    [guest] = world.hypervisor.alive
    assert (await inspected(engine, side)).state.running
    await engine.containers.start("web")
    assert world.hypervisor.alive == [guest]
    assert (await inspected(engine, "web")).network_settings.ip_address == address
    await engine.containers.stop(side, 0)
    await engine.containers.stop("web", 0)
    await world.check_nothing_left()


async def test_ports_are_published_while_it_runs(world: World, engine: LocalEngine, web: str) -> None:
    await join(engine, "side")
    [tap] = world.network.nics
    assert world.network.published[tap] == [8080]
    await engine.containers.stop(web, 0)
    assert world.network.published[tap] == [] and tap in world.network.plugged
    other = await make(engine, "other", ports=PORTS)
    await engine.containers.start(other)
    with pytest.raises(InUse, match="8080"):
        await engine.containers.start(web)
    assert world.network.published[tap] == [] and tap in world.network.plugged
    await engine.containers.stop(other, 0)
    await engine.containers.start(web)
    assert world.network.published[tap] == [8080]
    await engine.containers.stop("side", 0)
    assert world.network.published[tap] == [8080]
    await engine.containers.start("side")
    await engine.containers.stop(web, 0)
    [guest] = world.hypervisor.alive
    guest.agent.programs = {}
    with pytest.raises(ExecFailed):
        await engine.containers.start(web)
    assert world.network.published[tap] == []


async def test_each_is_removed_by_itself(world: World, engine: LocalEngine, web: str) -> None:
    """The pod goes with the last one, and its name with whom it had it from."""
    side = await join(engine, "side")
    await engine.containers.remove("web", force=True, volumes=False)
    shown = await inspected(engine, side)
    assert shown.state.running and shown.host_config.network_mode == f"container:{web}" and shown.pod.name == "side"
    await make(engine, "web")
    await engine.containers.rename(side, "lonely")
    assert (await inspected(engine, side)).pod.name == "lonely"
    await engine.containers.stop(side, 0)
    with pytest.raises(NotFound, match=web):
        await engine.containers.start(side)
    pods = Path(world.settings.root, "pods")
    assert len(list(pods.iterdir())) == 2
    await engine.containers.remove(side, force=False, volumes=False)
    assert len(list(pods.iterdir())) == 1
    await world.check_nothing_left()


async def test_one_that_removes_itself_takes_nobody_along(engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side", auto_remove=True)
    _, container = engine.supervisor.find(side)
    await engine.containers.kill(side, 9)
    await container.gone.wait()
    assert (await inspected(engine, web)).state.running
    assert engine.supervisor.find(web)[0].record.lone


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_a_machine_without_folders_takes_none(engine: LocalEngine, web: str, tmp_path: Path) -> None:
    bind = [Mount(type="bind", source=str(tmp_path), target="/x")]
    with pytest.raises(WrongState, match="without folders of this host; stop web and start it again, it has them then"):
        await join(engine, "side", mounts=bind)
    await engine.containers.stop("web", 0)
    await engine.containers.start("web")
    await engine.containers.start("side")
    assert (await inspected(engine, "side")).state.running
    for c in ("side", "web"):
        await engine.containers.stop(c, 0)


async def test_nobody_copies_a_machine_that_is_shared(engine: LocalEngine, web: str) -> None:
    await make(engine, "side", "container:web")
    for copy in (engine.snapshots.suspend("web"), engine.snapshots.fork("web", count=1, name="", ports=[])):
        with pytest.raises(WrongState, match="it is not alone: the virtual machine is that of side too"):
            await copy


async def test_one_that_sleeps_is_joined_by_nobody(engine: LocalEngine, web: str) -> None:
    await engine.snapshots.suspend(web)
    with pytest.raises(WrongState, match="cannot join the network of web: it is suspended: resume it"):
        await make(engine, "side", "container:web")


async def test_a_hyperd_that_comes_later_knows_who_shares(world: World, engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side")
    await engine.close()
    again = await world.engine()
    assert (await inspected(again, side)).state.running
    assert (await inspected(again, side)).host_config.network_mode == f"container:{web}"
    [guest] = world.hypervisor.alive
    await guest.die("it broke")
    assert (await again.containers.wait(side)).status_code == (await again.containers.wait(web)).status_code == 255


async def test_it_has_no_name_of_its_own(world: World, engine: LocalEngine) -> None:
    """And the names of one that is removed are another one's to have, though its network is there."""
    await engine.networks.create(NetworkSpec(name="front"), by=ADMIN)
    world.networks["front"].nameserver = Place("10.0.1.1", 5311)
    place = EndpointSpec(network="front", aliases=["www"])
    web = ContainerSpec(image="busybox", name="web", command=SLEEP)
    await engine.containers.create(PodSpec(containers=[web], networks=[place]), by=ADMIN)
    await engine.containers.start("web")
    await join(engine, "side")
    asker = dns.asker(engine.host.index, "10.0.1.2")
    assert asker and asker.addresses("side") is None
    assert [str(each) for each in asker.addresses("www") or ()] == ["10.0.1.2"]
    await engine.containers.remove("web", force=True, volumes=False)
    assert asker.addresses("www") is None and asker.addresses("web") is None
    assert asker.name(IPv4Address("10.0.1.2")) == ""
