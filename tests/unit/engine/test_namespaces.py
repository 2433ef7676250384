"""Containers that share processes, memory and queues with another one, in its machine."""

import asyncio

import pytest
from msgspec.structs import replace

from hypercontainer.agent import messages as m
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import HyperError, InvalidInput, NotFound, WrongState
from hypercontainer.lib import clock
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, PodSpec, RestartPolicy
from tests.unit.engine.test_joined import SLEEP, inspected, join, make
from tests.unit.engine.world import ADMIN, World

ALWAYS = RestartPolicy(name="always")
OTHERS = {"pid": "container:web", "ipc": "container:web"}


@pytest.fixture
async def web(engine: LocalEngine) -> str:
    """The id of one that runs, and has memory and queues that others may have."""
    id = await make(engine, "web", container={"ipc": "shareable"})
    await engine.containers.start(id)
    return id


def asked(world: World) -> dict[str, m.ContainerCreate]:
    [guest] = world.hypervisor.alive
    return guest.agent.containers


def shm(request: m.ContainerCreate) -> list[tuple[str, str]]:
    return [(mount.type, mount.source) for mount in request.all_mounts or [] if mount.target == "/dev/shm"]


async def test_the_guest_is_told_whose_namespaces_it_has(world: World, engine: LocalEngine, web: str) -> None:
    both = await join(engine, "both", pid=f"container:{web[:12]}", ipc="container:web")
    chained = await join(engine, "chained", pid="container:both", ipc="container:both")
    alone = await join(engine, "alone")
    none = await join(engine, "none", ipc="none")
    told = {id: (each.pid_of, each.ipc_of, each.own_ipc, shm(each)) for id, each in asked(world).items()}
    assert told == {
        web: ("", "", False, [("tmpfs", "")]),
        both: (web, web, False, [("container", web)]),
        chained: (both, both, False, [("container", both)]),
        alone: ("", "", True, [("tmpfs", "")]),
        none: ("", "", True, []),
    }
    modes = {}
    for c in ("web", "both", "chained", "alone", "none"):
        host = (await inspected(engine, c)).host_config
        modes[c] = (host.pid_mode, host.ipc_mode)
    assert modes == {
        "web": ("", "shareable"),
        "both": (f"container:{web}", f"container:{web}"),
        "chained": (f"container:{both}", f"container:{both}"),
        "alone": ("", "private"),
        "none": ("", "none"),
    }


@pytest.mark.parametrize("key", ["pid", "ipc"])
async def test_it_is_in_the_machine_of_the_other(engine: LocalEngine, web: str, key: str) -> None:
    with pytest.raises(InvalidInput, match=r"it is in another virtual machine.* say --network container:web as well"):
        await make(engine, "side", container={key: "container:web"})
    with pytest.raises(InvalidInput, match="another virtual machine"):
        await make(engine, "side", "none", {key: "container:web"})
    other = await make(engine, "other")
    with pytest.raises(InvalidInput, match="of web: it is in another virtual machine"):
        await make(engine, "side", f"container:{other}", {key: "container:web"})
    pod = await engine.pods.create(
        PodSpec(name="pod", containers=[ContainerSpec(image="busybox", name="one")]), by=ADMIN
    )
    with pytest.raises(InvalidInput, match="say --pod pod as well"):
        await make(engine, "side", container={key: "container:one"})
    with pytest.raises(InvalidInput, match="another virtual machine"):
        await engine.pods.add(pod.id, replace(ContainerSpec(image="busybox"), **{key: "container:web"}), by=ADMIN)
    assert len(list(await engine.containers.list(all=True, filters={}))) == 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"pid": "host"}, "invalid PID mode: host"),
        ({"pid": "container:"}, "invalid PID mode: container:"),
        ({"ipc": "container:"}, "invalid IPC mode"),
        ({"ipc": "x" * 100}, "invalid IPC mode: x{80}$"),
        ({"sysctls": {"kernel.shmmax": "1"}}, "cannot set sysctl kernel.shmmax: of a virtual machine only the first"),
        ({"sysctls": {"fs/mqueue/msg_max": "1"}, "ipc": "container:web"}, "cannot set sysctl fs/mqueue/msg_max"),
    ],
)
async def test_what_there_is_not_is_refused(engine: LocalEngine, web: str, spec: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await make(engine, "side", "container:web", spec)
    assert len(engine.supervisor.find("web")[0].containers) == 1


@pytest.mark.parametrize("key", ["pid", "ipc"])
async def test_nobody_joins_itself_or_who_is_not_there(engine: LocalEngine, web: str, key: str) -> None:
    """So there is no circle: a name is that of an older one, for good."""
    for name in ("side", "nobody"):
        with pytest.raises(NotFound, match=f"no such container: {name}"):
            await make(engine, "side", "container:web", {key: f"container:{name}"})
    side = await make(engine, "side", "container:web", {key: "container:web"})
    await engine.containers.rename("web", "old")
    await make(engine, "web")
    await engine.containers.start(side)
    host = (await inspected(engine, side)).host_config
    assert f"container:{web}" in (host.pid_mode, host.ipc_mode)


async def test_the_other_one_must_run(engine: LocalEngine, web: str) -> None:
    middle = await join(engine, "middle", ipc="shareable")
    await make(engine, "pid", "container:web", {"pid": "container:middle"})
    await make(engine, "ipc", "container:web", {"ipc": "container:middle"})
    await engine.containers.stop("middle", 0)
    with pytest.raises(
        WrongState, match=f"cannot start pid: it is created: container {middle} is not running; start middle"
    ):
        await engine.containers.start("pid")
    with pytest.raises(WrongState, match=f"can't join IPC of container {middle}: container {middle} is not running"):
        await engine.containers.start("ipc")
    await engine.containers.remove("middle", force=False, volumes=False)
    for c in ("pid", "ipc"):
        with pytest.raises(NotFound, match=middle):
            await engine.containers.start(c)


@pytest.mark.parametrize("mode", ["", "private", "none"])
async def test_only_what_is_shareable_is_shared(engine: LocalEngine, web: str, mode: str) -> None:
    other = await join(engine, "other", ipc=mode)
    with pytest.raises(
        WrongState, match=f"can't join IPC of container {other}: non-shareable IPC .hint: use IpcMode:share"
    ):
        await join(engine, "side", ipc="container:other")
    await engine.containers.remove("side", force=False, volumes=False)
    await join(engine, "side", pid="container:other")


async def test_containers_of_a_pod_share_memory_but_for_who_says_otherwise(world: World, engine: LocalEngine) -> None:
    specs = [
        ContainerSpec(image="busybox", name=f"c{n}", command=SLEEP, ipc=ipc) for n, ipc in enumerate(("", "private"))
    ]
    pod = await engine.pods.create(PodSpec(name="pod", containers=specs), by=ADMIN)
    await engine.pods.add(
        pod.id, ContainerSpec(image="busybox", name="c2", command=SLEEP, pid="container:c0"), by=ADMIN
    )
    await engine.pods.start("pod")
    ids = [(await inspected(engine, f"c{n}")).id for n in range(3)]
    assert [(asked(world)[id].own_ipc, asked(world)[id].pid_of) for id in ids] == [
        (False, ""), (True, ""), (False, ids[0]),
    ]  # fmt: skip


async def test_a_size_that_is_anothers_is_a_warning(engine: LocalEngine, web: str) -> None:
    spec = ContainerSpec(image="busybox", name="side", command=SLEEP, ipc="container:web", shm_mib=128)
    made = await engine.containers.create(
        PodSpec(containers=[spec], networks=[EndpointSpec(network=f"container:{web}")]), by=ADMIN
    )
    assert made.warnings == ["a size of /dev/shm (shm_mib) changes nothing: it is that of another container"]


async def started(engine: LocalEngine, c: str, times: int) -> None:
    """Wait until it has been started so often."""
    async with asyncio.timeout(60):
        async for _ in await engine.system.events(0, None, {"event": ["start"], "container": [c]}):
            times -= 1
            if not times:
                return


async def test_policies_start_it_when_the_other_one_runs(world: World, engine: LocalEngine) -> None:
    web = await make(engine, "web", container={"ipc": "shareable", "restart": ALWAYS})
    await engine.containers.start(web)
    side = await join(engine, "side", restart=ALWAYS, **OTHERS)
    engine.supervisor.restarts.next_delay_s(web)  # so that the other one's turn comes first
    [guest] = world.hypervisor.alive
    await guest.die("it broke")
    await started(engine, side, 2)
    told = [event.actor.id async for event in await engine.system.events(0, clock.now_ns(), {"event": ["start"]})]
    assert [id for id in told if id in (web, side)] == [web, side, web, side]
    assert (await inspected(engine, side)).restart_count == 1
    await engine.containers.stop(web, 0)
    await engine.containers.kill(side, 15)
    await engine.containers.wait(side)


async def test_a_policy_gives_up_where_the_other_one_stays_away(world: World, engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side", restart=ALWAYS, **OTHERS)
    [guest] = world.hypervisor.alive
    await guest.die("it broke")
    async with asyncio.timeout(60):
        while engine.supervisor.find(side)[1].record.state != "exited":  # noqa: ASYNC110
            await asyncio.sleep(0)
    state = (await inspected(engine, side)).state
    assert (state.status, state.running) == ("exited", False) and f"container {web} is not running" in state.error
    await world.check_nothing_left()


async def test_a_hyperd_that_comes_later_knows_whose_they_are(world: World, engine: LocalEngine, web: str) -> None:
    side = await join(engine, "side", **OTHERS)
    await engine.close()
    again = await world.engine()
    host = (await inspected(again, side)).host_config
    assert (host.pid_mode, host.ipc_mode) == (f"container:{web}", f"container:{web}")
    await again.containers.stop(side, 0)
    await again.containers.start(side)
    assert asked(world)[side].pid_of == asked(world)[side].ipc_of == web
    await again.containers.stop(web, 0)
    await again.containers.stop(side, 0)
    with pytest.raises(WrongState, match="non running container"):
        await again.containers.start(side)


async def test_a_guest_of_before_is_asked_for_nothing_of_it(world: World, engine: LocalEngine, web: str) -> None:
    [guest] = world.hypervisor.alive
    guest.agent.features.remove(m.NAMESPACES.word)
    await engine.close()  # and greets anew
    again = await world.engine()
    for more in ({"pid": "container:web"}, {}):
        with pytest.raises(HyperError, match=r"older hyperd.*stop it, and start it anew"):
            await join(again, "side", **more)
        await again.containers.remove("side", force=False, volumes=False)
    assert asked(world).keys() == {web}


async def test_nobody_copies_what_has_the_memory_of_another_one(engine: LocalEngine, web: str) -> None:
    await join(engine, "side", ipc="container:web")
    await engine.containers.remove("web", force=True, volumes=False)
    with pytest.raises(WrongState, match="it is in the IPC namespace of another one"):
        await engine.snapshots.suspend("side")
