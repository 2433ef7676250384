"""Healthchecks: what is asked, when, and what follows. Where docker has a number or a word it is docker's."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import pytest

from hypercontainer.agent import messages as m
from hypercontainer.engine import health, resolve
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import clock
from hypercontainer.model.documents import ContainerEntry, Event, Health, HealthConfig, ProcessConfig
from hypercontainer.model.record import ContainerRecord, HealthRecord, ProbeRecord
from hypercontainer.model.spec import ContainerSpec, ExecSpec, Healthcheck
from hypercontainer.testing.fake_process import PROGRAMS, FakeProcess
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import ROOTFS, Run, World, execute

SECOND = 10**9


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PAUSE_S", 0.001)


def resolved(asked: Healthcheck | None, image: HealthConfig | None = None, *shell: str) -> ContainerRecord:
    says = ProcessConfig(cmd=["x"], healthcheck=image, shell=list(shell))
    return resolve.container(ContainerSpec(image="i", healthcheck=asked), "sha256:0", says, ROOTFS, name="c")


# What is asked


def test_what_was_asked_for_comes_before_what_the_image_says() -> None:
    image = HealthConfig(test=["CMD", "/probe", "-q"], interval=5 * SECOND, retries=7)
    assert (resolved(None).healthcheck, resolved(None).probe) == (None, [])
    assert resolved(None, image).probe == ["/probe", "-q"]
    mine = resolved(Healthcheck(test=["CMD-SHELL", "a | b"], timeout_s=0.5), image)
    assert mine.probe == ["/bin/sh", "-c", "a | b"]
    assert mine.healthcheck == Healthcheck(test=["CMD-SHELL", "a | b"], interval_s=5, timeout_s=0.5, retries=7)
    assert resolved(Healthcheck(interval_s=1), image).probe == ["/probe", "-q"]
    off = resolved(Healthcheck(test=["NONE"]), image)
    assert off.probe == [] and off.healthcheck and off.healthcheck.test == ["NONE"]
    assert resolved(Healthcheck(interval_s=1)).probe == []  # nobody says what to run
    line = Healthcheck(test=["CMD-SHELL", "Test-It"])
    assert resolved(line, None, "/bin/pwsh", "-c").probe == ["/bin/pwsh", "-c", "Test-It"]
    own = ContainerSpec(image="i", healthcheck=line, shell=["/bin/bash", "-c"])
    image_s = ProcessConfig(cmd=["x"], shell=["/bin/pwsh", "-c"])
    assert resolve.container(own, "sha256:0", image_s, ROOTFS, name="c").probe == ["/bin/bash", "-c", "Test-It"]


@pytest.mark.parametrize(
    "wrong",
    [
        Healthcheck(interval_s=-1),
        Healthcheck(timeout_s=0.0001),
        Healthcheck(start_period_s=1e12),
        Healthcheck(start_interval_s=float("nan")),
        Healthcheck(retries=-1),
        Healthcheck(test=["curl", "x"]),
        Healthcheck(test=["CMD"]),
        Healthcheck(test=["NONE", "x"]),
        Healthcheck(test=["CMD", "a\0b"]),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Healthcheck) -> None:
    with pytest.raises(InvalidInput, match="invalid healthcheck"):
        resolved(wrong)


def test_what_an_image_says_that_is_not_done_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PAUSE_S", 0.1)

    def said(image: HealthConfig) -> list[str]:
        return resolve.warnings(ContainerSpec(image="i"), ProcessConfig(cmd=["x"], healthcheck=image))

    assert said(HealthConfig(test=["CMD", "true"], interval=SECOND)) == said(HealthConfig(test=["NONE"])) == []
    [odd] = said(HealthConfig(test=["WHAT", "true"]))
    assert "is not run" in odd and "'WHAT'" in odd
    [hasty] = said(HealthConfig(test=["CMD", "true"], interval=SECOND // 1000))
    assert "0.001 s" in hasty and "0.1 s" in hasty


# When, and what follows


def judged(record: ContainerRecord, exit_code: int, at_s: float) -> tuple[bool, str, int]:
    at_ns = record.started_ns + round(at_s * SECOND)
    changed = health.judge(record, ProbeRecord(started_ns=at_ns, ended_ns=at_ns, exit_code=exit_code, output=""))
    assert record.health
    return changed, record.health.status, record.health.failing_streak


def test_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() -> None:
    record = resolved(Healthcheck(test=["CMD", "x"], retries=2))
    record.health = HealthRecord()
    assert judged(record, 1, 1) == (False, "starting", 1)
    assert judged(record, 0, 2) == (True, "healthy", 0)
    assert judged(record, 1, 3) == (False, "healthy", 1)
    assert judged(record, -1, 4) == (True, "unhealthy", 2)
    assert judged(record, 1, 5) == (False, "unhealthy", 3)
    assert judged(record, 0, 6) == (True, "healthy", 0)
    assert [probe.exit_code for probe in record.health.log] == [0, 1, -1, 1, 0]  # the last five


def test_a_failure_in_the_start_period_counts_only_after_a_success() -> None:
    record = resolved(Healthcheck(test=["CMD", "x"], start_period_s=10, retries=1))
    record.health = HealthRecord()
    assert judged(record, 1, 9) == (False, "starting", 0)
    assert judged(record, 1, 10) == (True, "unhealthy", 1)
    record.health = HealthRecord()
    assert judged(record, 0, 1) == (True, "healthy", 0)
    assert judged(record, 1, 2) == (True, "unhealthy", 1)


def test_intervals_are_dockers() -> None:
    record = resolved(Healthcheck(test=["CMD", "x"]))
    record.health, record.started_ns = HealthRecord(), SECOND
    assert health.interval_s(record, SECOND) == 30
    record.healthcheck = Healthcheck(test=["CMD", "x"], start_period_s=60, interval_s=20)
    assert health.interval_s(record, 2 * SECOND) == 5
    assert health.interval_s(record, 61 * SECOND) == 20
    record.healthcheck = msgspec.structs.replace(record.healthcheck, start_interval_s=2)
    assert health.interval_s(record, 2 * SECOND) == 2
    record.health.status = "healthy"
    assert health.interval_s(record, 2 * SECOND) == 20


# Asking


async def told(engine: LocalEngine, action: str, count: int = 1) -> list[Event]:
    """The first so many events of that kind since the beginning."""
    found: list[Event] = []
    async with asyncio.timeout(60):
        async for event in await engine.system.events(0, None, {"event": [action]}):
            found.append(event)
            if len(found) == count:
                break
    return found


async def state(engine: LocalEngine, id: str) -> Health:
    found = (await engine.containers.inspect(id)).state.health
    assert found
    return found


async def line(engine: LocalEngine, **filters: list[str]) -> list[ContainerEntry]:
    return list(await engine.containers.list(all=True, filters=filters))


async def test_a_container_becomes_healthy_and_that_is_told(engine: LocalEngine, create: Run) -> None:
    id = await create(
        "sleep", "1", healthcheck=Healthcheck(test=["CMD", "echo", "fine"], interval_s=0.01, timeout_s=60)
    )
    assert (await engine.containers.inspect(id)).state.health is None  # it never ran
    assert [e.id for e in await line(engine, health=["none"])] == [id]
    await engine.containers.start(id)
    [event] = await told(engine, "health_status")
    assert (event.action, event.id, event.actor.attributes["image"]) == ("health_status: healthy", id, "busybox")
    found = await state(engine, id)
    assert (found.status, found.failing_streak) == ("healthy", 0)
    assert (found.log[0].exit_code, found.log[0].output) == (0, "fine\n")
    assert found.log[0].start < found.log[0].end
    [entry] = await line(engine, health=["healthy"])
    assert entry.status.endswith(" (healthy)")
    [begun], [ended] = await told(engine, "exec_create"), await told(engine, "exec_die")
    assert begun.action == "exec_create: echo fine"
    assert ended.actor.attributes["exitCode"] == "0"
    assert ended.actor.attributes["execID"] == begun.actor.attributes["execID"]
    await engine.containers.stop(id, 0)
    assert (await state(engine, id)).status == "unhealthy"  # docker's word for one that nobody asks
    assert not engine.supervisor.find(id)[0].execs


async def test_one_that_fails_is_unhealthy_after_its_retries(engine: LocalEngine, create: Run) -> None:
    id = await create(
        "sleep",
        "1",
        healthcheck=Healthcheck(test=["CMD", "spew", "5000", "0", "3"], retries=2, interval_s=0.01, timeout_s=60),
    )
    await engine.containers.start(id)
    assert (await line(engine))[0].status.endswith(" (health: starting)")
    [event] = await told(engine, "health_status")
    assert event.action == "health_status: unhealthy"
    found = await state(engine, id)
    assert found.failing_streak >= 2 and found.log[0].exit_code == 3
    assert len(found.log[0].output) == 4096 + len("...")


async def test_what_is_not_there_is_a_failure_in_words(engine: LocalEngine, create: Run) -> None:
    id = await create(
        "sleep", "1", healthcheck=Healthcheck(test=["CMD", "nosuch"], retries=1, interval_s=0.01, timeout_s=60)
    )
    await engine.containers.start(id)
    await told(engine, "health_status")
    [probe, *_] = (await state(engine, id)).log
    assert probe.exit_code == -1 and "nosuch" in probe.output


async def test_a_container_without_one_is_not_asked(engine: LocalEngine, create: Run) -> None:
    for check in (None, Healthcheck(test=["NONE"]), Healthcheck(interval_s=0.001)):
        id = await create("sleep", "1", healthcheck=check)
        await engine.containers.start(id)
        pod, container = engine.supervisor.find(id)
        assert container.record.health is None and len(pod._tasks) == 1  # that waits for the machine's end
        assert not (await line(engine))[0].status.endswith(")")


Program = Callable[[FakeProcess], Awaitable[int]]
Install = Callable[[Program], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Have all guests know a program `probe`."""
    return lambda program: monkeypatch.setitem(cast(dict[str, Program], PROGRAMS), "probe", program)


def running(world: World) -> list[FakeProcess]:
    """The probes of the first guest that have not ended."""
    return [p for p in world.hypervisor.alive[0].agent.processes.values() if p.args == ["probe"] and p.status is None]


async def test_one_that_takes_too_long_is_killed(
    engine: LocalEngine, create: Run, install: Install, world: World
) -> None:
    async def hang(process: FakeProcess) -> int:
        await process.write(b"asking")
        return await asyncio.Event().wait()

    install(hang)
    check = Healthcheck(test=["CMD", "probe"], interval_s=0.01, timeout_s=0.2, retries=1)
    id = await create("sleep", "1", healthcheck=check)
    await engine.containers.start(id)
    await told(engine, "health_status")
    [probe, *_] = (await state(engine, id)).log
    assert (probe.exit_code, probe.output) == (-1, "Health check exceeded timeout (0.2s): asking")
    [died, *_] = await told(engine, "exec_die")
    assert died.actor.attributes["exitCode"] == str(128 + 9)
    kills = [args for op, args in world.hypervisor.alive[0].agent.requests if op == "process.signal"]
    assert kills[0]["group"] is True


async def test_a_paused_container_is_not_asked_and_a_pause_is_no_failure(
    engine: LocalEngine, create: Run, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(process: FakeProcess) -> int:
        asked.set()
        await go_on.wait()
        return 0

    install(wait)
    check = Healthcheck(test=["CMD", "probe"], interval_s=0.01, timeout_s=0.2, retries=1)
    id = await create("sleep", "1", healthcheck=check)
    await engine.containers.start(id)
    await asked.wait()
    await engine.containers.pause(id)
    [asking] = engine.supervisor.find(id)[0].execs.values()
    over = asyncio.Event()
    monkeypatch.setattr(asking, "abandon", lambda abandon=asking.abandon: _then(over, abandon()))
    await over.wait()  # its time is over
    await engine.containers.unpause(id)
    go_on.set()
    [event] = await told(engine, "health_status")
    assert event.action == "health_status: healthy"
    assert [probe.exit_code for probe in (await state(engine, id)).log][:1] == [0]


async def _then(event: asyncio.Event, work: Awaitable[None]) -> None:
    await work
    event.set()


async def test_a_stopping_container_is_not_judged(engine: LocalEngine, create: Run, install: Install) -> None:
    asked = asyncio.Event()

    async def fail_late(process: FakeProcess) -> int:
        asked.set()
        await asyncio.Event().wait()
        return 1

    install(fail_late)
    id = await create(
        "sleep", "1", healthcheck=Healthcheck(test=["CMD", "probe"], retries=1, interval_s=0.01, timeout_s=60)
    )
    await engine.containers.start(id)
    await asked.wait()
    await engine.containers.stop(id, 0)
    assert (await state(engine, id)).log == []
    actions = [event.action async for event in await engine.system.events(0, clock.now_ns(), {})]
    assert not [action for action in actions if action.startswith("health_status")]


async def test_a_probe_is_nothing_that_somebody_finds_among_his_execs(
    engine: LocalEngine, create: Run, install: Install
) -> None:
    id = await create("sleep", "1", healthcheck=Healthcheck(test=["CMD", "true"], interval_s=0.01, timeout_s=60))
    await engine.containers.start(id)
    mine = await execute(engine, id, ExecSpec(command=["exit", "7"]))
    assert await mine.wait() == 7
    await told(engine, "exec_die", 2 * health.KEPT)
    pod, _ = engine.supervisor.find(id)
    assert (await engine.execs.inspect(mine.id)).exit_code == 7
    assert len([exec_ for exec_ in pod.execs.values() if not exec_.running]) <= 2


# What lasts


async def test_a_hyperd_after_us_goes_on_asking(world: World, engine: LocalEngine, create: Run) -> None:
    check = Healthcheck(test=["CMD", "false"], interval_s=0.01, retries=10)
    id = await create("sleep", "1", healthcheck=check)
    await engine.containers.start(id)
    await told(engine, "exec_die", 3)
    await forsake(engine)
    before = await state(engine, id)
    assert before.status == "starting" and 1 <= before.failing_streak < 10
    again = await world.engine()
    assert (await state(again, id)).failing_streak >= before.failing_streak
    [event] = await told(again, "health_status")
    assert event.action == "health_status: unhealthy"
    assert (await state(again, id)).failing_streak >= 10


async def test_a_probe_of_a_hyperd_before_us_is_ended_before_the_next(
    world: World, engine: LocalEngine, create: Run, install: Install
) -> None:
    seen: list[int] = []

    async def count(process: FakeProcess) -> int:
        seen.append(len(running(world)))
        return 0

    async def hang(process: FakeProcess) -> int:
        return await asyncio.Event().wait()

    install(count)
    id = await create("sleep", "1", healthcheck=Healthcheck(test=["CMD", "probe"], interval_s=3600))
    await engine.containers.start(id)
    await forsake(engine)
    agent = world.hypervisor.alive[0].agent
    agent.begin(health.MARK + "f" * 48, id, ["probe"], m.StreamSet(), hang)
    theirs = agent.begin("f" * 64, id, ["sleep"], m.StreamSet(), hang)
    record = engine.supervisor.find(id)[0].record
    record.containers[0].started_ns -= 2 * 3600 * SECOND  # so that a probe is due
    engine.host.pods.save(record)
    again = await world.engine()
    [event] = await told(again, "health_status")
    assert event.action == "health_status: healthy" and seen == [1]
    assert theirs.status is None  # that is somebody's exec


async def test_a_fork_is_asked_for_itself(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1", healthcheck=Healthcheck(test=["CMD", "true"], interval_s=0.01, timeout_s=60))
    await engine.containers.start(id)
    await told(engine, "health_status")
    [copy] = (await engine.snapshots.fork(id, count=1, name="", ports=[])).ids
    events = await told(engine, "health_status", 2)
    assert [event.id for event in events] == [id, copy]


async def test_a_container_that_slept_is_asked_again(engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1", healthcheck=Healthcheck(test=["CMD", "true"], interval_s=0.01, timeout_s=60))
    await engine.containers.start(id)
    await told(engine, "health_status")
    await engine.snapshots.suspend(id)
    slept = await state(engine, id)
    assert slept.status == "healthy"
    asked = len([e async for e in await engine.system.events(0, clock.now_ns(), {"event": ["exec_die"]})])
    await engine.snapshots.resume(id)
    await told(engine, "exec_die", asked + 2)
    assert (await state(engine, id)).status == "healthy"
