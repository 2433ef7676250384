"""Containers that a profile of AppArmor confines: what their machines are told, and what is refused in which words."""

import base64

import pytest
from msgspec.structs import replace

from hypercontainer.agent.messages import APPARMOR
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import GuestTooOld, InvalidInput, WrongState
from hypercontainer.model.bundle import BundleExec
from hypercontainer.model.container import Process, Resources
from hypercontainer.model.record import ProcessRef, StandInRecord
from hypercontainer.model.settings import Pool
from hypercontainer.model.spec import ContainerSpec, ExecSpec
from hypercontainer.sandbox import agent_requests, checkpoint
from hypercontainer.sandbox.criu import Saved
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.engine.test_further import Engines, engines, standing, status  # noqa: F401  a fixture
from tests.unit.engine.test_kube import CONTAINER, run
from tests.unit.engine.world import Run, World, execute

NAME = "hyper-denies"
LSM = "lsm=landlock,yama,apparmor"
CONFINED = ContainerSpec(image="busybox", command=["cat"], open_stdin=True, log="none", apparmor=NAME)


def able() -> FakeAgent:
    """Of a guest whose kernel has it on."""
    agent = FakeAgent()
    agent.features.append(APPARMOR.word)
    return agent


@pytest.fixture
def world(world: World) -> World:
    world.hypervisor.make_agent = able
    return world


def of(world: World) -> FakeAgent:
    [guest] = world.hypervisor.alive
    return guest.agent


def told(agent: FakeAgent, op: str) -> list[dict[str, object]]:
    return [args for asked, args in agent.requests if asked == op]


async def test_its_kernel_knows_the_profile_before_it_starts(engine: LocalEngine, world: World, create: Run) -> None:
    id = await create("sleep", "1000", apparmor=NAME)
    await engine.containers.start(id)
    agent, ops = of(world), [op for op, _ in of(world).requests]
    assert ops.index("apparmor.load") < ops.index("container.create") < ops.index("process.start")
    [load], [start] = told(agent, "apparmor.load"), told(agent, "process.start")
    assert NAME.encode() + b"\0" in base64.b64decode(str(load["policy"])) and start["apparmor"] == NAME
    await execute(engine, id, ExecSpec(command=["true"]))
    assert len(told(agent, "apparmor.load")) == 1 and told(agent, "process.start")[-1]["apparmor"] == NAME
    assert LSM in world.hypervisor.booted[-1].kernel_parameters


async def test_who_asks_for_none_has_a_machine_without(engine: LocalEngine, world: World, create: Run) -> None:
    for profile in ("", "docker-default"):
        await engine.containers.start(await create("sleep", "1000", apparmor=profile))
    assert {words.kernel_parameters for words in world.hypervisor.booted} == {agent_requests.FOR_NET_ADMIN}
    starts = [start for guest in world.hypervisor.alive for start in told(guest.agent, "process.start")]
    assert len(starts) == 2 and not any("apparmor" in start for start in starts)


async def test_a_kernel_without_it_is_refused_in_words(engine: LocalEngine, world: World, create: Run) -> None:
    world.hypervisor.make_agent = FakeAgent
    id = await create("sleep", "1000", apparmor=NAME)
    with pytest.raises(InvalidInput, match="profile 'hyper-denies': the kernel of its virtual machine has no"):
        await engine.containers.start(id)
    assert world.hypervisor.alive == []


async def test_a_profile_that_is_not_there_is_refused_in_words(engine: LocalEngine, world: World, create: Run) -> None:
    id = await create("sleep", "1000", apparmor="hyper-nothing")
    with pytest.raises(InvalidInput, match=r"profile 'hyper-nothing': no file in .* has one of that name"):
        await engine.containers.start(id)
    assert world.hypervisor.alive == []


async def test_an_older_guest_is_not_asked(engine: LocalEngine, world: World, create: Run) -> None:
    await engine.containers.start(id := await create("sleep", "1000", apparmor=NAME))
    agent = engine.supervisor.find(id)[0].machine.running().agent
    agent.features -= {APPARMOR.word}
    with pytest.raises(GuestTooOld, match="confine a process by a profile of AppArmor"):
        await agent.load_apparmor(b"x")


@pytest.mark.parametrize(
    ("annotations", "lsm"),
    [({"container.apparmor.security.beta.kubernetes.io/one": f"localhost/{NAME}"}, True), ({"a": "b"}, False)],
)
async def test_a_kubelets_pod_may_say_it_before_its_containers(
    engine: LocalEngine, world: World, annotations: dict[str, str], lsm: bool
) -> None:
    pod = await run(engine, annotations=annotations)
    assert (LSM in world.hypervisor.booted[-1].kernel_parameters) == lsm
    await engine.kube.remove(pod)


async def test_a_kubelet_is_told_when_it_makes_the_container(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    await engine.kube.create(pod, CONTAINER, CONFINED, Resources())
    with pytest.raises(InvalidInput, match="no file in"):
        nothing = replace(CONFINED, apparmor="hyper-nothing")
        await engine.kube.create(pod, replace(CONTAINER, name="two"), nothing, Resources())
    assert [each.container for each in await engine.kube.containers()] == [CONTAINER]
    await engine.kube.remove(pod)


async def test_the_setting_has_it_in_all_machines_also_in_those_that_wait(world: World) -> None:
    world.settings = replace(world.settings, apparmor=True, factory="cache", pool=[Pool(share=True, network=False)])
    engine = await world.engine()
    await engine.kube.remove(await run(engine))
    assert world.hypervisor.booted
    assert all(LSM in config.kernel_parameters for config in world.hypervisor.booted if not config.origin)


async def test_an_exec_of_an_engine_has_its_own(
    engines: Engines,  # noqa: F811
) -> None:
    with standing(engines.door) as (made, _, _):
        stands = StandInRecord(key=made.key, process=ProcessRef(pid=made.pid, start_time=made.start_time))
        wanted = BundleExec(process=Process(args=["true"], apparmor=NAME), stand_in=stands)
        await engines.engine.bundles.exec("", engines.name, wanted)
        made.go()
        assert await status(made.pid) == 0
    [load], start = told(engines.agent, "apparmor.load"), told(engines.agent, "process.start")[-1]
    assert load["policy"] and start["apparmor"] == NAME


async def test_it_is_not_saved(engine: LocalEngine, create: Run) -> None:
    await engine.containers.start(id := await create("sleep", "1000", apparmor=NAME))
    pod, container = engine.supervisor.find(id)
    with pytest.raises(WrongState, match="a profile of AppArmor confines it"):
        await checkpoint.save(pod, container, Saved(0, 0, []))
