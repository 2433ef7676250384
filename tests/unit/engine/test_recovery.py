"""hyperd dies at any step, and the next one finds everything: containers run on, output and statuses arrive."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hypercontainer import vm
from hypercontainer.engine.events import Events
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import Unavailable
from hypercontainer.factory import rehearsal
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import NicRecord
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec, RestartPolicy
from hypercontainer.testing.fakes import FakeAgent
from tests.unit.engine.world import ADMIN, Run, World, echoed, load


class Killed(BaseException):
    """As far as the engine is concerned: SIGKILL. Nothing of its own runs after it."""


async def forsake(engine: LocalEngine) -> None:
    """Drop an engine as SIGKILL does: its tasks end, its sockets close, none of its clean-up runs."""
    for pod in engine.supervisor.pods.values():
        for task in pod._tasks:
            task.cancel()
        await asyncio.gather(*pod._tasks, return_exceptions=True)
        for container in pod.containers.values():
            container.output.cut()
        if pod.machine.vm:
            await pod.machine.vm.close()
    endings = engine.host.site.endings._tasks
    for task in endings:
        task.cancel()
    await asyncio.gather(*endings, return_exceptions=True)


async def container(engine: LocalEngine, *command: str, **spec: object) -> str:
    made = ContainerSpec(image="busybox", command=list(command), **spec)  # type: ignore[arg-type]
    return (await engine.containers.create(PodSpec(containers=[made]), by=ADMIN)).id


async def orphan(engine: LocalEngine, *command: str) -> str:
    """A container that runs on without its hyperd."""
    id = await container(engine, *command)
    await engine.containers.start(id)
    await forsake(engine)
    return id


async def logged(engine: LocalEngine, id: str, *, follow: bool = False) -> bytes:
    entries = await engine.containers.logs(
        id, follow=follow, since_ns=None, until_ns=None, tail=None, stdout=True, stderr=True
    )
    return b"".join([entry.data async for entry in entries])


async def test_a_container_runs_on_and_its_output_is_whole(world: World, engine: LocalEngine) -> None:
    id = await container(engine, "cat", open_stdin=True)
    await echoed(engine, id, b"before\n")
    await forsake(engine)
    again = await world.engine()
    assert (await again.containers.inspect(id)).state.status == "running"
    tied = await again.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=False)
    await tied.write(b"after\n")
    await tied.close_stdin()
    assert await tied.wait() == 0
    assert await logged(again, id, follow=True) == b"before\nafter\n"


async def test_a_guest_that_is_not_whole_is_on_no_record(world: World, engine: LocalEngine, tmp_path: Path) -> None:
    """What two mounts are shown as is written down while its container is made."""
    agent = FakeAgent()
    agent.unanswered.add("container.create")
    agents = iter([FakeAgent(), agent])  # the template's, and its clone's
    world.hypervisor.make_agent = lambda: next(agents)
    mounts = [Mount(type="bind", source=str(tmp_path), target=target) for target in ("/a", "/b")]
    id = await container(engine, "sleep", "1", mounts=mounts)
    start = asyncio.create_task(engine.containers.start(id))
    while not [op for op, _ in agent.requests if op == "container.create"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    [record] = engine.host.pods.load()[0]
    assert len({mount.share_path for mount in record.containers[0].mounts}) == 1 and record.guest is None
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await world.check_nothing_left()


async def test_folders_are_shown_while_the_guest_is_told_who_it_is(
    world: World, engine: LocalEngine, tmp_path: Path
) -> None:
    agent = FakeAgent()
    agent.unanswered.add("pod.setup")
    agents = iter([FakeAgent(), agent])  # the template's, and its clone's
    world.hypervisor.make_agent = lambda: next(agents)
    id = await container(engine, "sleep", "1", mounts=[Mount(type="bind", source=str(tmp_path), target="/a")])
    start = asyncio.create_task(engine.containers.start(id))
    while not [op for op, _ in agent.requests if op == "pod.setup"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    [pod] = engine.supervisor.pods.values()
    while not pod.machine.folders.share.names():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await world.check_nothing_left()


async def test_networks_know_who_is_there_before_they_make_anything(world: World, engine: LocalEngine) -> None:
    await orphan(engine, "sleep", "1")
    [nic] = world.network.nics.values()
    assert world.network.ensured_with == []
    await world.engine()
    assert [kept.tap for kept in world.network.ensured_with] == [nic.tap]


async def test_what_ended_meanwhile_is_known(world: World, engine: LocalEngine) -> None:
    id = await container(engine, "cat", open_stdin=True)
    await engine.containers.start(id)
    guest = world.hypervisor.alive[0]
    await forsake(engine)
    process = guest.agent.processes[id]
    assert process.stdin
    await process.write(b"said while nobody listened\n")
    assert process.task
    process.task.cancel()
    await asyncio.gather(process.task, return_exceptions=True)
    again = await world.engine()
    assert (await again.containers.wait(id)).status_code == process.status
    assert await logged(again, id, follow=True) == b"said while nobody listened\n"


async def test_a_guest_that_died_meanwhile_is_written_down(world: World, engine: LocalEngine) -> None:
    lost = await container(engine, "sleep", "1")
    back = await container(engine, "sleep", "1", restart=RestartPolicy(name="always"))
    await engine.containers.start(lost)
    await engine.containers.start(back)
    await forsake(engine)
    for guest in world.hypervisor.alive:
        await guest.die("the host was rebooted")
    again = await world.engine()
    assert (await again.containers.inspect(lost)).state.exit_code == 255
    died = [each async for each in await again.system.events(0, time.time_ns(), {"event": ["die"]})]
    assert sorted(each.type for each in died) == ["container", "container", "pod", "pod"]
    async with asyncio.timeout(60):
        async for _ in await again.system.events(0, None, {"event": ["start"], "container": [back[:12]]}):
            if (await again.containers.inspect(back)).state.status == "running":
                break
    assert len(world.hypervisor.alive) == 1


async def test_a_pod_that_cannot_be_let_go_keeps_hyperd_from_no_other(
    world: World, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stays, lost = await container(engine, "sleep", "1000"), await container(engine, "sleep", "1000")
    for id in (stays, lost):
        await engine.containers.start(id)
    await forsake(engine)
    await world.hypervisor.alive[-1].die("the host was rebooted")

    async def refuse(nic: NicRecord) -> None:
        raise Unavailable("the table is busy")

    with monkeypatch.context() as patched:
        patched.setattr(world.network, "remove", refuse)
        again = await world.engine()
    states = [(await again.containers.inspect(id)).state.status for id in (stays, lost)]
    assert (states, len(world.network.nics)) == (["running", "exited"], 2)
    assert "cannot recover all of it: the table is busy" in caplog.text
    for id in (stays, lost):
        await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_a_container_that_its_guest_has_lost_meanwhile_has_ended(world: World, engine: LocalEngine) -> None:
    members = [ContainerSpec(image="busybox", name=name, command=["sleep", "1000"]) for name in ("lost", "stays")]
    pod = await engine.pods.create(PodSpec(name="two", containers=members), by=ADMIN)
    await engine.pods.start(pod.id)
    lost = (await engine.containers.inspect("lost")).id
    await forsake(engine)
    del world.hypervisor.alive[0].agent.processes[lost]
    again = await world.engine()
    states = [(await again.containers.inspect(name)).state for name in ("lost", "stays")]
    assert [(state.status, state.exit_code) for state in states] == [("exited", 255), ("running", 0)]
    [died] = [each async for each in await again.system.events(0, time.time_ns(), {"event": ["die"]})]
    assert (died.actor.id, died.actor.attributes["exitCode"]) == (lost, "255")
    assert died.actor.attributes["error"] == states[0].error == "its process was gone when hyperd started again"
    assert (await again.containers.wait("lost")).status_code == 255
    await again.pods.remove(pod.id, force=True, volumes=False)


async def test_a_guest_that_says_nothing_is_given_up_and_that_is_said(world: World, engine: LocalEngine) -> None:
    id = await orphan(engine, "sleep", "1")
    world.hypervisor.alive[0].agent.muted = True
    world.settings = msgspec.structs.replace(world.settings, boot_timeout_s=0.1)
    again = await world.engine()
    state = (await again.containers.inspect(id)).state
    assert (state.status, state.exit_code, world.hypervisor.alive) == ("exited", 255, [])
    assert "given up" in state.error and "did not answer within 0.1 s" in state.error


async def test_a_guest_that_does_not_hear_the_first_greeting_is_greeted_again(
    world: World, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await orphan(engine, "sleep", "1000")
    agent = world.hypervisor.alive[0].agent
    agent.muted, left = True, agent.left

    def hears_again(connection: object) -> None:
        agent.muted = False
        left(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(agent, "left", hears_again)
    monkeypatch.setattr(vm, "SOON_S", 0.1)
    assert (await (await world.engine()).containers.inspect(id)).state.status == "running"


STEPS = ["prepare", "vmm", "pod", "rootfs", "process"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_of_a_start_nothing_is_left_or_it_runs(
    world: World, busybox_archive: Path, step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deadly(Timings):
        @contextmanager
        def step(self, name: str) -> Iterator[None]:
            if (name, moment) == (step, "before"):
                raise Killed
            yield
            if (name, moment) == (step, "after"):
                raise Killed

    engine = await world.engine(trace=Deadly)
    await load(engine, busybox_archive)
    id = await container(engine, "sleep", "1000")
    machine = engine.supervisor.pods[next(iter(engine.supervisor.pods))].machine

    async def dead() -> None:
        raise Killed

    monkeypatch.setattr(machine, "release", dead)
    monkeypatch.setattr(machine, "power_off", dead)
    monkeypatch.setattr(machine, "save", lambda: None)
    with pytest.raises(Killed):
        await engine.containers.start(id)
    await forsake(engine)
    monkeypatch.undo()
    again = await world.engine()
    status = (await again.containers.inspect(id)).state.status
    if status == "running":
        assert (step, moment) == ("process", "after")
        await again.containers.kill(id, 9)
        assert (await again.containers.wait(id)).status_code == 137
    else:
        await world.check_nothing_left()
    await again.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_a_paused_container_stays_paused(world: World, engine: LocalEngine) -> None:
    name = await container(engine, "sleep", "1")
    await engine.containers.start(name)
    await engine.containers.pause(name)
    await forsake(engine)
    again = await world.engine()
    assert (await again.containers.inspect(name)).state.status == "paused"
    assert world.hypervisor.alive[0].paused
    await again.containers.unpause(name)
    await again.containers.kill(name, 15)
    assert (await again.containers.wait(name)).status_code == 143


async def test_a_status_is_written_down_before_the_guest_forgets_it(
    world: World, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hyperd dies at the moment at which the guest has forgotten the process: nothing it writes counts from then on."""
    forgotten = asyncio.Event()

    def agent() -> FakeAgent:
        made = FakeAgent()

        def forget(args: dict[str, object]) -> object:
            if args["process"] not in (rehearsal.NAME, rehearsal.ANOTHER):
                monkeypatch.setattr(engine.host.pods, "save", lambda *_, **__: None)
                forgotten.set()
            return made._process_forget(args)

        made.answers["process.forget"] = forget
        return made

    world.hypervisor.make_agent = agent
    members = [
        ContainerSpec(image="busybox", name="ends", command=["exit", "7"]),
        ContainerSpec(image="busybox", name="stays", command=["sleep", "1000"]),  # else its guest goes with it
    ]
    pod = await engine.pods.create(PodSpec(name="two", containers=members), by=ADMIN)
    await engine.containers.start("stays")
    await engine.containers.start("ends")
    await asyncio.wait_for(forgotten.wait(), 60)
    await forsake(engine)
    again = await world.engine()
    document = await again.containers.inspect("ends")
    assert (document.state.status, document.state.exit_code, document.state.error) == ("exited", 7, "")
    await again.pods.remove(pod.id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_a_container_that_had_not_run_starts_after_a_restart(world: World, engine: LocalEngine) -> None:
    """Its disks were plugged with the machine, by a hyperd before us."""
    members = [ContainerSpec(image="busybox", name=name, command=["sleep"]) for name in ("a", "b")]
    pod = await engine.pods.create(PodSpec(name="two", containers=members), by=ADMIN)
    await engine.containers.start("a")
    await forsake(engine)
    again = await world.engine()
    await again.containers.start("b")
    await again.containers.remove("b", force=True, volumes=False)
    await again.pods.remove(pod.id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_the_rules_of_one_that_is_ending_are_not_kept(
    world: World, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that comes between the end of a pod's rules and that of its VMM makes them no more."""
    id = await orphan(engine, "sleep", "1")
    again = await world.engine()
    assert len(world.network.kept()) == 1
    reap, seen = world.hypervisor.reap, []

    async def slow(run_dir: Path) -> None:
        await asyncio.sleep(0)
        seen.append((len(world.network.nics), len(world.network.kept())))
        await reap(run_dir)

    monkeypatch.setattr(world.hypervisor, "reap", slow)
    await again.containers.kill(id, 9)
    await again.containers.wait(id)
    await again.containers.remove(id, force=True, volumes=False)
    assert seen and set(seen) == {(0, 0)}


async def test_nobody_else_reads_what_hyperd_keeps(world: World, engine: LocalEngine, create: Run) -> None:
    """Its folders may be walked through, to the volumes: so each file says for itself who may read it."""
    id = await create("cat", name="web", open_stdin=True)
    await engine.containers.start(id)
    await engine.containers.remove("web", force=True, volumes=True)
    open_to_all = []
    for folder, names, files in os.walk(world.settings.root):
        names[:] = [name for name in names if os.stat(os.path.join(folder, name)).st_mode & 0o001]
        open_to_all += [path for name in files if os.stat(path := os.path.join(folder, name)).st_mode & 0o077]
    assert open_to_all == []
    assert os.stat(Path(world.settings.root) / "events.db").st_mode & 0o777 == 0o600


async def test_the_events_of_an_older_hyperd_are_hidden_too(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "events.db").close()
    (tmp_path / "events.db").chmod(0o644)
    events = Events(tmp_path / "events.db")
    events.emit("container", "start", "1", {})
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "events.db": 0o600, "events.db-wal": 0o600, "events.db-shm": 0o600,
    }  # fmt: skip
    events.close()
