"""What every engine must do, whatever runs its guests: a suite to inherit from, with two fixtures of your own.

    class TestMyEngine(EngineContract): ...

`engine`, which has the image busybox; `create`, as `Create` says. Programs are those that busybox and fake guests both
have: cat, echo, false, sleep, true.
"""

import asyncio
from typing import Protocol

import pytest

from hypercontainer.errors import AlreadyExists, InUse, NotFound, WrongState
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, ExecSpec, Mount, PodSpec

ADMIN = Principal(Role.ADMIN, uid=0, gid=0, pid=1)
KILLED = 128 + 9


class Create(Protocol):
    async def __call__(self, *command: str, network: str = ..., **spec: object) -> str:
        """Create a container of busybox in a pod of its own; its id. `spec` are fields of its ContainerSpec."""


async def said(session: Session) -> bytes:
    return b"".join([data async for _, data in session])


class EngineContract:
    async def test_a_life(self, engine: Engine, create: Create) -> None:
        c = await create("sleep", "1000", name="c")
        assert (await engine.containers.inspect("c")).state.status == "created"
        await engine.containers.start(c)
        await engine.containers.start(c)  # again
        assert [entry.id for entry in await engine.containers.list(all=False, filters={})] == [c]
        with pytest.raises(WrongState) as e:
            await engine.containers.remove(c, force=False, volumes=True)
        assert (e.value.verb, e.value.name, e.value.state) == ("remove", "c", "running")
        await engine.containers.kill(c, 9)
        assert (await engine.containers.wait(c)).status_code == KILLED
        assert (await engine.containers.inspect(c)).state.exit_code == KILLED
        await engine.containers.start(c)
        await engine.containers.remove(c, force=True, volumes=True)
        with pytest.raises(NotFound) as gone:
            await engine.containers.inspect(c)
        assert (gone.value.what, gone.value.name) == ("container", c)

    async def test_whoever_is_there_before_the_start_misses_no_byte(self, engine: Engine, create: Create) -> None:
        c = await create("echo", "first")
        first = await engine.containers.attach(c, stdin=False, stdout=True, stderr=True, logs=False, before=["created"])
        second = await engine.containers.attach(c, stdin=False, stdout=True, stderr=True, logs=False, start=True)
        assert {*await asyncio.gather(said(first), said(second))} == {b"first\n"}
        assert await second.wait() == 0
        kept = await engine.containers.logs(
            c, follow=True, since_ns=None, until_ns=None, tail=None, stdout=True, stderr=True
        )
        assert b"".join([entry.data async for entry in kept]) == b"first\n"

    async def test_what_is_said_to_it_it_hears_to_the_end(self, engine: Engine, create: Create) -> None:
        c = await create("cat", open_stdin=True)
        session = await engine.containers.attach(c, stdin=True, stdout=True, stderr=True, logs=False, start=True)
        await session.write(b"one\n")
        await session.write(b"two")
        await session.close_stdin()
        assert await said(session) == b"one\ntwo"
        assert await session.wait() == 0

    async def test_an_exec_is_made_first_and_started_later(self, engine: Engine, create: Create) -> None:
        c = await create("sleep", "1000")
        with pytest.raises(WrongState):
            await engine.execs.create(c, ExecSpec(command=["false"]))
        await engine.containers.start(c)
        exec_ = await engine.execs.create(c, ExecSpec(command=["false"]))
        assert not (await engine.execs.inspect(exec_)).running
        session = await engine.execs.start(exec_)
        assert session
        assert (await said(session), await session.wait()) == (b"", 1)
        known = await engine.execs.inspect(exec_)
        assert (known.running, known.exit_code, known.container_id) == (False, 1, c)
        with pytest.raises(WrongState):
            await engine.execs.start(exec_)

    async def test_waits_have_conditions(self, engine: Engine, create: Create) -> None:
        c = await create("false")
        assert (await engine.containers.wait(c)).status_code == 0  # it does not run
        next_exit = asyncio.create_task(engine.containers.wait(c, "next-exit"))
        removed = asyncio.create_task(engine.containers.wait(c, "removed"))
        await asyncio.sleep(0)
        await engine.containers.start(c)
        assert (await next_exit).status_code == 1
        assert not removed.done()
        await engine.containers.remove(c, force=True, volumes=True)
        assert (await removed).status_code == 1

    async def test_containers_of_a_pod_have_one_machine(self, engine: Engine) -> None:
        wanted = [ContainerSpec(image="busybox", name=name, command=["sleep", "1000"]) for name in ("one", "two")]
        pod = PodSpec(name="p", containers=wanted, networks=[EndpointSpec(network="none")])
        await engine.pods.create(pod, by=ADMIN)
        await engine.pods.start("p")
        vms = [(await engine.containers.inspect(name)).vm for name in ("one", "two")]
        assert vms[0] is not None and vms[0] == vms[1]
        await engine.containers.kill("one", 9)
        await engine.containers.wait("one")
        assert (await engine.containers.inspect("two")).state.running
        await engine.pods.remove("p", force=True, volumes=True)
        assert await engine.pods.list(all=True, filters={}) == []

    async def test_what_is_taken_or_in_use_is_told_as_data(self, engine: Engine, create: Create) -> None:
        volume = Mount(type="volume", source="v", target="/data")
        c = await create("true", name="c", mounts=[volume])
        with pytest.raises(AlreadyExists) as taken:
            await create("true", name="c")
        assert (taken.value.what, taken.value.name, taken.value.id) == ("container", "c", c)
        with pytest.raises(InUse) as used:
            await engine.volumes.remove("v", force=False)
        assert (used.value.what, used.value.name) == ("volume", "v")
        await engine.containers.remove(c, force=False, volumes=True)
        await engine.volumes.remove("v", force=False)
        assert await engine.volumes.list({}) == []

    async def test_it_stands_still_and_goes_on(self, engine: Engine, create: Create) -> None:
        c = await create("cat", open_stdin=True)
        session = await engine.containers.attach(c, stdin=True, stdout=True, stderr=True, logs=False, start=True)
        await engine.containers.pause(c)
        assert (await engine.containers.inspect(c)).state.paused
        with pytest.raises(WrongState):
            await engine.execs.create(c, ExecSpec(command=["true"]))
        await session.write(b"later")
        await engine.containers.unpause(c)
        await session.close_stdin()
        assert await said(session) == b"later"
