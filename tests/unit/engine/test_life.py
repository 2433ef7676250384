"""A container's life: made, started, ended, started again, removed; what everybody sees of it on the way."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.engine import resolve
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import AlreadyExists, GuestDied, GuestError, InvalidInput, NotFound, WrongState
from hypercontainer.lib.trace import Timings
from hypercontainer.model.api import Session
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.spec import ContainerSpec, ExecSpec, Mount, PodSpec, RestartPolicy
from hypercontainer.model.state import State
from hypercontainer.sandbox import shortage
from hypercontainer.sandbox.container import ExecFailed
from hypercontainer.sandbox.exec import KEPT
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.engine.world import ADMIN, ROOTFS, Run, World, execute

CREATED: tuple[State, ...] = ("created",)


async def read(session: Session) -> dict[int, bytes]:
    out = {1: b"", 2: b""}
    async for stream, data in session:
        out[stream] += data
    return out


async def attached(engine: LocalEngine, id: str) -> Session:
    return await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, start=True)


async def state(engine: LocalEngine, id: str) -> tuple[str, int]:
    document = await engine.containers.inspect(id)
    return document.state.status, document.state.exit_code


async def until(engine: LocalEngine, id: str, wanted: str) -> None:
    """Events tell of each change: no polling."""
    async with asyncio.timeout(60):
        events = await engine.system.events(0, None, {"container": [id[:12]]})
        async for _ in events:
            try:
                if (await state(engine, id))[0] == wanted:
                    return
            except NotFound:
                if wanted == "gone":
                    return


async def test_output_and_status_reach_the_attached_and_the_log(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("spew", "300000", "200000", "7")
    session = await attached(engine, id)
    out = await read(session)
    assert (len(out[1]), len(out[2]), await session.wait()) == (300000, 200000, 7)
    assert await state(engine, id) == ("exited", 7)
    logs = await engine.containers.logs(
        id, follow=False, since_ns=None, until_ns=None, tail=None, stdout=True, stderr=False
    )
    assert b"".join([entry.data async for entry in logs]) == out[1]
    await session.detach()
    await engine.containers.remove(id, force=False, volumes=False)
    await world.check_nothing_left()


async def test_who_attaches_to_the_log_too_reads_the_past_and_then_what_comes(
    engine: LocalEngine, create: Run, world: World
) -> None:
    id = await create("spew", "300000", "200000", "7")
    first = await read(await attached(engine, id))
    _, container = engine.supervisor.find(id)
    await container.left.wait()
    gone = await engine.containers.attach(id, stdin=False, stdout=True, stderr=False, logs=True, start=True)
    await gone.wait()
    await gone.detach()  # without a look
    again = await engine.containers.attach(id, stdin=False, stdout=True, stderr=False, logs=True, start=True)
    assert await read(again) == {1: 3 * first[1], 2: b""}
    await again.detach()
    await engine.containers.remove(id, force=False, volumes=False)
    await world.check_nothing_left()


async def test_what_a_start_waits_for_is_told_while_it_does(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    _, container = engine.supervisor.find(id)
    assert (await engine.containers.inspect(id)).state.starting == ""
    container.starting = trace = Timings()
    with trace.step("template"):
        assert "a template" in (await engine.containers.inspect(id)).state.starting
    assert (await engine.containers.inspect(id)).state.starting == ""
    await engine.containers.start(id)
    assert isinstance(container.starting, Timings) and container.starting is not trace
    await engine.containers.remove(id, force=True, volumes=False)


async def test_what_keeps_the_pool_empty_is_told_and_tried_again(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, again, made = 2, asyncio.Event(), asyncio.Event()

    async def init() -> None:
        nonlocal failing
        failing -= 1
        if failing >= 0:
            raise NotFound("kernel", "any", "fetch one")
        again.set()
        await made.wait()

    monkeypatch.setattr(engine.factory, "init", init)
    engine.factory.prepare()
    async with asyncio.timeout(30):
        await again.wait()
    for told in (await engine.factory.status()).warnings, (await engine.system.info()).warnings:
        assert any("failed 2 times in a row" in line and "fetch one" in line for line in told)
    made.set()
    assert engine.factory._preparing
    await engine.factory._preparing
    assert engine.host.troubles() == []


async def test_a_pod_that_runs_empty_takes_its_first_container(engine: LocalEngine, world: World) -> None:
    await engine.pods.create(PodSpec(name="web"), by=ADMIN)
    await engine.pods.start("web")
    [guest] = world.hypervisor.alive
    assert not guest.disks[0].path  # a clone's disks are there before the container is
    added = await engine.pods.add("web", ContainerSpec(image="busybox", name="c", command=["sleep", "1000"]), by=ADMIN)
    await engine.containers.start(added.id)
    assert guest.disks[0].path and guest.disks[1].path
    await engine.containers.kill(added.id, 9)


async def test_the_machine_goes_when_its_container_has_ended(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("true")
    await engine.containers.start(id)
    await engine.containers.wait(id)
    await engine.containers.stop(id, 0)
    async with engine.supervisor.find(id)[0].locked():  # what follows from the end has been done
        await world.check_nothing_left()


async def test_stdin_goes_in_and_its_end_too(engine: LocalEngine, create: Run) -> None:
    session = await attached(engine, await create("cat", open_stdin=True))
    reading = asyncio.create_task(read(session))
    for _ in range(40):
        await session.write(b"x" * 25000)
    await session.close_stdin()
    assert len((await reading)[1]) == 1_000_000
    assert await session.wait() == 0


async def test_a_signalled_process_reports_128_and_the_signal(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    await engine.containers.kill(id, 9)
    assert (await engine.containers.wait(id)).status_code == 137
    with pytest.raises(WrongState):
        await engine.containers.kill(id, 9)


async def test_stop_signals_then_kills(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    await engine.containers.stop(id, 5)
    assert await state(engine, id) == ("exited", 143)
    await engine.containers.stop(id, 5)  # again: nothing happens


async def test_a_command_that_is_not_there_exits_127_and_leaves_nothing(
    engine: LocalEngine, create: Run, world: World
) -> None:
    id = await create("no-such-command")
    with pytest.raises(GuestError) as caught:
        await engine.containers.start(id)
    assert caught.value.exec and caught.value.exit_code == 127  # type: ignore[attr-defined]
    assert await state(engine, id) == ("created", 127)
    await world.check_nothing_left()


@pytest.mark.parametrize(
    ("number", "of_command", "code"),
    [(errno.ENOENT, True, 127), (errno.ENOTDIR, True, 127), (errno.EACCES, True, 126), (errno.ENOENT, False, 128)],
)
def test_what_is_recorded_of_a_start_that_failed(number: int, of_command: bool, code: int) -> None:
    """docker's: 128 if it did not come to the command."""
    assert ExecFailed(GuestError("cannot", number, exec=of_command)).exit_code == code


async def test_a_boot_that_fails_names_the_cause_and_leaves_nothing(
    engine: LocalEngine, create: Run, world: World
) -> None:
    id = await create("true")
    world.hypervisor.fail = "guest kernel panic: no init"
    with pytest.raises(GuestDied, match="no init"):
        await engine.containers.start(id)
    await world.check_nothing_left()
    world.hypervisor.fail = ""
    await engine.containers.start(id)
    assert (await engine.containers.wait(id)).status_code == 0


async def test_a_guest_that_dies_takes_its_container_with_it(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("sleep", "1000")
    session = await attached(engine, id)
    await world.hypervisor.alive[0].die("killed by signal 9", console="[ 1.0 ] last words")
    with pytest.raises(GuestDied, match="killed by signal 9"):
        await session.wait()
    await read(session)
    await until(engine, id, "exited")
    assert await state(engine, id) == ("exited", 255)
    assert "killed by signal 9" in (await engine.containers.inspect(id)).state.error
    async with engine.supervisor.find(id)[0].locked():
        await world.check_nothing_left()


async def test_a_guest_whose_kernel_ends_for_want_of_memory_says_what_raises_its_limit(
    engine: LocalEngine, create: Run, world: World
) -> None:
    id = await create("sleep", "1000")
    session = await attached(engine, id)
    await world.hypervisor.alive[0].die("out of memory: guest kernel panic: System is deadlocked on memory")
    with pytest.raises(GuestDied, match="out of memory"):
        await session.wait()
    await until(engine, id, "exited")
    said = (await engine.containers.inspect(id)).state
    assert (said.exit_code, said.oom_killed) == (255, True)
    limit = engine.host.settings.memory_mib
    why = f"out of memory (limit {limit} MiB: give it more with -m): guest kernel panic: System is deadlocked on memory"
    assert said.error.endswith(f" ended: {why}")
    seen = [e.action async for e in await engine.system.events(0, time.time_ns(), {"container": [id[:12]]})]
    assert seen.index("oom") < seen.index("die")


async def test_a_life_is_told_in_docker_s_order(engine: LocalEngine, create: Run) -> None:
    id = await create("true", mounts=[Mount(type="volume", source="v", target="/v", read_only=True)])
    session = await attached(engine, id)
    await session.wait()
    await until(engine, id, "exited")
    told = [event async for event in await engine.system.events(0, time.time_ns(), {})]
    assert [(each.type, each.action) for each in told if each.type != "pod" and each.action != "load"] == [
        ("container", "create"), ("container", "attach"), ("network", "connect"), ("volume", "mount"),
        ("container", "start"), ("container", "die"), ("network", "disconnect"), ("volume", "unmount"),
    ]  # fmt: skip
    parts = [each.actor.attributes for each in told if each.action in ("connect", "mount")]
    assert parts == [
        {"container": id, "name": "bridge", "type": "bridge"},
        {"container": id, "driver": "local", "destination": "/v", "propagation": "", "read/write": "false"},
    ]
    await engine.containers.remove(id, force=False, volumes=False)  # which waits for the end of its machine


async def test_rm_removes_itself(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("true", auto_remove=True)
    session = await attached(engine, id)
    await read(session)
    assert await session.wait() == 0
    await until(engine, id, "gone")
    assert await engine.containers.list(all=True, filters={}) == []
    await world.check_nothing_left()


async def test_on_failure_restarts_so_often(engine: LocalEngine, create: Run) -> None:
    id = await create("false", restart=RestartPolicy(name="on-failure", max_retries=2))
    await engine.containers.start(id)
    await until(engine, id, "exited")
    document = await engine.containers.inspect(id)
    assert (document.restart_count, document.state.exit_code) == (2, 1)


@pytest.mark.parametrize(
    ("status", "memory_mib", "said"),
    [
        (137, 0, "killed: out of memory (limit 256 MiB: give it more with -m)"),
        (137, 512, "killed: out of memory (limit 512 MiB: give it more with -m)"),
        (137, 64, "killed: out of memory (limit 64 MiB: give it more with -m)"),
        (1, 0, "a process in it was killed: out of memory (limit 256 MiB: give it more with -m)"),
        (0, 0, ""),
    ],
)
async def test_who_ran_out_of_memory_is_told_the_limit_and_the_flag(
    engine: LocalEngine, status: int, memory_mib: int, said: str
) -> None:
    engine.host.site.limits = replace(engine.host.site.limits, memory_mib=256)
    container = ContainerSpec(image="busybox", command=["eat", str(status)])
    id = (await engine.containers.create(PodSpec(containers=[container], memory_mib=memory_mib), by=ADMIN)).id
    session = await attached(engine, id)
    await read(session)
    assert (await session.wait(), session.reason) == (status, said)
    shown = (await engine.containers.inspect(id)).state
    assert (shown.oom_killed, shown.exit_code, shown.error) == (True, status, said)
    await session.detach()
    seen = [e.action async for e in await engine.system.events(0, time.time_ns(), {"container": [id[:12]]})]
    assert seen.index("oom") < seen.index("die")


async def test_an_exec_that_ran_out_of_memory_is_told_so(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep")
    await engine.containers.start(id)
    session = await execute(engine, id, ExecSpec(command=["eat", "137"]))
    await read(session)
    assert (await session.wait(), session.reason.partition("(")[0]) == (137, "killed: out of memory ")
    await session.detach()


def test_the_limit_that_was_met_is_named_in_a_pod_too() -> None:
    def said(limit_mib: int) -> str:
        spec = ContainerSpec(image="busybox", command=["x"], memory_mib=limit_mib)
        container = resolve.container(spec, "", ProcessConfig(), ROOTFS, name="c")
        return shortage.words(resolve.pod(PodSpec(memory_mib=512), name="p", implicit=False), container, 137, 256)

    assert said(100) == "killed: out of memory (limit 100 MiB: give it more with -m)"
    assert said(0) == "killed: out of memory (limit 512 MiB, all that its pod has: give that more in the pod's file)"


@pytest.mark.parametrize(("asked", "clean"), [("/etc/../tmp//", "/tmp"), ("//data/./", "/data"), ("/..", "/")])
async def test_an_exec_has_the_working_directory_that_docker_would_clean(
    engine: LocalEngine, create: Run, world: World, asked: str, clean: str
) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    session = await execute(engine, id, ExecSpec(command=["true"], working_dir=asked))
    assert await session.wait() == 0
    starts = [args for op, args in world.hypervisor.alive[0].agent.requests if op == "process.start"]
    assert starts[-1].get("cwd", "/") == clean
    with pytest.raises(InvalidInput, match="absolute path"):
        await execute(engine, id, ExecSpec(command=["true"], working_dir="tmp"))


async def test_exec_has_streams_and_a_status_of_its_own(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    session = await execute(engine, id, ExecSpec(command=["spew", "100000", "1000", "3"]))
    out = await read(session)
    assert (len(out[1]), len(out[2]), await session.wait()) == (100000, 1000, 3)
    await session.detach()
    assert (await engine.execs.inspect(session.id)).exit_code == 3
    alone = await execute(engine, id, ExecSpec(command=["spew", "10", "20", "3"], stdout=False))
    assert (await read(alone), await alone.wait()) == ({1: b"", 2: out[2][:20]}, 3)
    document = await engine.execs.inspect(alone.id)
    assert (document.open_stdout, document.open_stderr) == (False, True)
    with pytest.raises(GuestError):
        await execute(engine, id, ExecSpec(command=["no-such-command"]))
    await engine.containers.remove(id, force=True, volumes=False)


async def test_an_exec_is_created_first_and_started_later_and_once(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    late = await engine.execs.create(id, ExecSpec(command=["spew", "10", "0", "3"]))
    assert not (await engine.execs.inspect(late)).running
    session = await engine.execs.start(late)
    assert session and len((await read(session))[1]) == 10 and await session.wait() == 3
    with pytest.raises(WrongState, match="create another one"):
        await engine.execs.start(late)
    alone = await engine.execs.create(id, ExecSpec(command=["true"], detach=True))
    assert await engine.execs.start(alone) is None
    never = [await engine.execs.create(id, ExecSpec(command=["true"])) for _ in range(KEPT + 1)]
    with pytest.raises(NotFound):  # whoever creates and never starts makes hyperd keep no more than that
        await engine.execs.inspect(never[0])
    await engine.containers.kill(id, 9)
    await engine.containers.wait(id)
    with pytest.raises((NotFound, WrongState)):
        await engine.execs.start(never[-1])


async def test_who_is_attached_before_the_first_start_misses_nothing(engine: LocalEngine, create: Run) -> None:
    id = await create("cat", open_stdin=True)
    with pytest.raises(WrongState, match="start it first"):
        await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False)
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, before=CREATED)
    writing = asyncio.create_task(session.write(b"early"))
    ending = asyncio.create_task(session.wait())
    await asyncio.sleep(0)
    assert not writing.done() and not ending.done()
    await engine.containers.start(id)
    await writing
    await session.close_stdin()
    assert ((await read(session))[1], await ending) == (b"early", 0)
    await session.detach()


async def test_who_waits_for_a_start_that_never_comes_is_told(engine: LocalEngine, create: Run) -> None:
    id = await create("cat")
    session = await engine.containers.attach(id, stdin=True, stdout=True, stderr=True, logs=False, before=CREATED)
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(session.wait())]
    waiting += [asyncio.create_task(session.write(b"never"))]
    waiting.append(asyncio.create_task(engine.containers.wait(id, "next-exit")))
    gone = asyncio.create_task(engine.containers.wait(id, "removed"))
    await asyncio.sleep(0)
    await engine.containers.remove(id, force=False, volumes=True)
    for task in waiting:
        with pytest.raises(NotFound):
            await task
    assert await read(session) == {1: b"", 2: b""}
    assert (await gone).status_code == 0
    await session.detach()


async def test_who_is_attached_before_a_start_that_fails_is_told_why(engine: LocalEngine, create: Run) -> None:
    id = await create("no-such-command")
    session = await engine.containers.attach(id, stdin=False, stdout=True, stderr=True, logs=False, before=CREATED)
    with pytest.raises(GuestError):
        await engine.containers.start(id)
    with pytest.raises(GuestError):
        await session.wait()
    await session.detach()


async def test_wait_knows_what_to_wait_for(engine: LocalEngine, create: Run) -> None:
    id = await create("exit", "7", auto_remove=True)
    assert (await engine.containers.wait(id)).status_code == 0  # it does not run
    waits = [asyncio.create_task(engine.containers.wait(id, until)) for until in ("next-exit", "removed")]
    await asyncio.sleep(0)
    await engine.containers.start(id)
    assert [(await task).status_code for task in waits] == [7, 7]
    with pytest.raises(NotFound):
        await engine.containers.wait(id)


async def test_who_is_started_while_its_pod_is_stopped_ends_with_it(engine: LocalEngine, world: World) -> None:
    members = [
        ContainerSpec(image="busybox", name="deaf", command=["sleep", "1000"]),
        ContainerSpec(image="busybox", name="late", command=["sleep", "1000"], restart=RestartPolicy(name="always")),
    ]
    pod = await engine.pods.create(PodSpec(name="two", containers=members), by=ADMIN)
    deaf, late = [(await engine.containers.inspect(name)).id for name in ("deaf", "late")]
    await engine.containers.start(deaf)
    world.hypervisor.alive[0].agent.processes[deaf].traps.add(15)
    stopping = asyncio.create_task(engine.pods.stop(pod.id, 60))
    events = await engine.system.events(0, None, {"event": ["kill"]})
    async for _ in events:
        break
    await events.aclose()
    await engine.containers.start(late)
    waiting = asyncio.create_task(engine.containers.wait(late))
    await engine.containers.kill(deaf, 9)
    await stopping
    assert (await waiting).status_code == 137
    assert (await engine.containers.inspect(late)).state.status == "exited"
    assert not world.hypervisor.alive
    await engine.containers.start(late)
    await engine.pods.remove(pod.id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_pausing_stops_the_machine(engine: LocalEngine, create: Run, world: World) -> None:
    id = await create("sleep", "1000")
    await engine.containers.start(id)
    await engine.containers.pause(id)
    assert world.hypervisor.alive[0].paused
    assert (await state(engine, id))[0] == "paused"
    with pytest.raises(WrongState):
        await execute(engine, id, ExecSpec(command=["true"]))
    before = time.time_ns()
    await engine.containers.unpause(id)
    assert (await state(engine, id))[0] == "running"
    op, args = world.hypervisor.alive[0].agent.requests[-1]
    assert op == "time.set" and before <= int(str(args["time_ns"])) <= time.time_ns()  # its clock stood still
    await engine.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


async def test_several_containers_share_a_pod(engine: LocalEngine, world: World) -> None:
    spec = PodSpec(
        name="web",
        containers=[
            ContainerSpec(image="busybox", name="a", command=["sleep", "1"]),
            ContainerSpec(image="busybox", name="b", command=["sleep", "1"]),
        ],
    )
    await engine.pods.create(spec, by=ADMIN)
    await engine.pods.start("web")
    assert len(world.hypervisor.alive) == 1
    added = await engine.pods.add("web", ContainerSpec(image="busybox", name="c", command=["true"]), by=ADMIN)
    await engine.containers.start(added.id)
    assert (await engine.containers.wait("c")).status_code == 0
    await engine.containers.remove("c", force=False, volumes=False)
    assert sorted(world.hypervisor.alive[0].disks) == [0, 1, 2, 3]
    assert [p.state for p in await engine.pods.list(all=False, filters={})] == ["running"]
    await engine.pods.stop("web", 5)
    await engine.pods.remove("web", force=False, volumes=False)
    await world.check_nothing_left()


async def test_files_go_in_and_out(engine: LocalEngine, create: Run, world: World) -> None:
    """Any bytes will do for a tar: the fake agent keeps them as they are."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"y" * 50000

    id = await create("sleep", "1")
    await engine.containers.start(id)
    await engine.containers.archive_put(id, "/data", chunks())
    assert b"".join([chunk async for chunk in await engine.containers.archive_get(id, "/data")]) == b"y" * 1_000_000
    await engine.containers.kill(id, 9)
    await engine.containers.wait(id)
    await engine.containers.archive_put(id, "/data", chunks())  # its machine is up for the copy only
    await world.check_nothing_left()


@pytest.mark.parametrize("learnt", [True, False], ids=["a guest of today", "one of the first"])
async def test_what_is_not_there_to_copy_has_its_errno(
    engine: LocalEngine, create: Run, world: World, learnt: bool
) -> None:
    """cp asks so whether there is a folder of that name: docs/wire.md, `archive.errno`."""

    def agent() -> FakeAgent:
        made = FakeAgent()
        made.features = made.features if learnt else []
        return made

    world.hypervisor.make_agent = agent
    id = await create("sleep", "1")
    await engine.containers.start(id)
    with pytest.raises(GuestError, match="No such file") as absent:
        async for _ in await engine.containers.archive_get(id, "/none"):
            pass
    assert absent.value.errno == errno.ENOENT
    await engine.containers.remove(id, force=True, volumes=False)


async def test_names_are_unique_and_found(engine: LocalEngine, create: Run) -> None:
    id = await create("true", name="one")
    with pytest.raises(AlreadyExists, match=r"^the name 'one' is in use by container one: remove or rename") as taken:
        await create("true", name="one")
    assert (taken.value.what, taken.value.name, taken.value.id) == ("container", "one", id)
    assert (await engine.containers.inspect("one")).id == (await engine.containers.inspect(id[:10])).id == id
    await engine.containers.rename("one", "two")
    with pytest.raises(NotFound):
        await engine.containers.inspect("one")
    with pytest.raises(InvalidInput, match="name"):
        await engine.containers.rename("two", "../etc")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"},
        {"env": ["=x"]},
        {"working_dir": "relative"},
        {"mounts": [Mount(type="bind", source="/no/such/place", target="/x")]},
        {"mounts": [Mount(type="tmpfs", target="/x/..")]},
        {"mounts": [Mount(type="tmpfs", target="/x"), Mount(type="tmpfs", target="/x")]},
        {"cap_add": ["NO_SUCH"]},
        {"cpus": -1.0},
        {"stop_signal": "SIGWHAT"},
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_made(
    engine: LocalEngine, create: Run, wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        await create("true", **wrong)
    assert await engine.containers.list(all=True, filters={}) == []
    assert list((Path(engine.host.settings.root) / "pods").iterdir()) == []


async def test_a_client_that_vanishes_during_a_copy_leaves_no_machine_half_off(
    engine: LocalEngine, create: Run, world: World
) -> None:
    """The machine was up for the copy only; whoever asked is cancelled while it is being powered off."""
    name = await create("sleep", "1")
    pod, container = engine.supervisor.find(name)

    async def use() -> None:
        async with pod.entered(container):
            asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(use())
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.containers.start(name)
    assert (await state(engine, name))[0] == "running"
    await engine.containers.remove(name, force=True, volumes=False)
    await world.check_nothing_left()


async def test_a_forced_removal_during_a_start_wins(engine: LocalEngine, create: Run, world: World) -> None:
    name = await create("sleep", "1000")
    start = asyncio.create_task(engine.containers.start(name))
    await asyncio.sleep(0)
    await engine.containers.remove(name, force=True, volumes=False)
    await asyncio.gather(start, return_exceptions=True)
    assert await engine.containers.list(all=True, filters={}) == []
    await world.check_nothing_left()


async def test_a_forced_removal_of_what_removes_itself_is_no_error(
    engine: LocalEngine, create: Run, world: World
) -> None:
    name = await create("sleep", "1000", auto_remove=True)
    await engine.containers.start(name)
    await engine.containers.remove(name, force=True, volumes=False)
    await until(engine, name, "gone")
    await world.check_nothing_left()


async def test_what_was_to_remove_itself_does_so_when_it_cannot_start(
    engine: LocalEngine, create: Run, world: World
) -> None:
    name = await create("no-such-command", auto_remove=True)
    with pytest.raises(GuestError):
        await engine.containers.start(name)
    assert await engine.containers.list(all=True, filters={}) == []
    await world.check_nothing_left()
    world.hypervisor.fail = "killed by signal 9"
    name = await create("true", auto_remove=True)
    with pytest.raises(GuestDied):
        await engine.containers.start(name)
    assert await engine.containers.list(all=True, filters={}) == []
    await world.check_nothing_left()


async def test_a_pod_chooses_where_its_machine_comes_from(engine: LocalEngine, world: World) -> None:
    for factory, origin in (("", True), ("template", True), ("direct", False)):
        container = ContainerSpec(image="busybox", command=["sleep"])
        made = await engine.containers.create(PodSpec(factory=factory, containers=[container]), by=ADMIN)  # type: ignore[arg-type]
        await engine.containers.start(made.id)
        assert (world.hypervisor.booted[-1].origin is not None) == origin
        await engine.containers.remove(made.id, force=True, volumes=False)
    with pytest.raises(InvalidInput, match="'cache': the settings of hyperd leave direct, template"):
        await engine.containers.create(PodSpec(factory="cache", containers=[ContainerSpec(image="busybox")]), by=ADMIN)


async def test_a_pod_that_is_being_started_is_removed_by_force(engine: LocalEngine, world: World) -> None:
    pod = await engine.pods.create(
        PodSpec(name="p", containers=[ContainerSpec(image="busybox", name="c", command=["sleep"])]), by=ADMIN
    )
    starting = asyncio.create_task(engine.containers.start("c"))
    while not engine.supervisor.pods[pod.id]._lock.locked():  # noqa: ASYNC110
        await asyncio.sleep(0)
    await engine.pods.remove(pod.id, force=True, volumes=False)
    await asyncio.gather(starting, return_exceptions=True)
    assert await engine.pods.list(all=True, filters={}) == []
    await world.check_nothing_left()
