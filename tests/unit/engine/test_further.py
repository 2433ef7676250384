"""Execs of other engines, with the real stand-ins: hyperd dies at any step, and the next one takes them up."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import GuestTooOld
from hypercontainer.lib import proc, stand_in
from hypercontainer.lib.trace import Timings
from hypercontainer.model.bundle import BundleExec
from hypercontainer.model.container import Process
from hypercontainer.model.record import BundleRecord, ProcessRef, StandInRecord
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess
from tests.unit.engine.test_joined import make
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import Run, World

LIMIT_S = 60
BIG = bytes(range(256)) * 4000


class Engines:
    """One after the other, at a door for stand-ins; `id` is the container of another engine in which execs run."""

    def __init__(self, world: World, engine: LocalEngine, id: str, door: Path) -> None:
        self.world, self.engine, self.id, self.door = world, engine, id, door
        self.name = self.container.record.name
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def container(self):  # type: ignore[no-untyped-def]
        return self.engine.supervisor.find(self.id)[1]

    @property
    def agent(self) -> FakeAgent:
        return self.world.hypervisor.alive[0].agent

    @property
    def records(self) -> list[Path]:
        return list(Path(self.world.settings.root).glob("pods/*/*/execs/*"))

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._stand, self.door)

    async def _stand(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._talks.add(task)
        try:
            if self._server:  # else it came as the one before died
                await self.engine.bundles.stand(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._talks.discard(task)

    async def die(self) -> None:
        assert self._server
        self._server.close()
        self._server = None
        self.door.unlink()
        await asyncio.sleep(0)  # who was let in just now has begun then
        talks = list(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await forsake(self.engine)

    async def come_back(self) -> None:
        self.engine = await self.world.engine()
        await self.open()

    async def exec(self, made: stand_in.StandIn, *command: str, name: str = "") -> None:
        record = StandInRecord(key=made.key, process=ProcessRef(pid=made.pid, start_time=made.start_time))
        wanted = BundleExec(process=Process(args=list(command)), stand_in=record, name=name)
        await self.engine.bundles.exec("", self.name, wanted)
        made.go()


@pytest.fixture
async def engines(world: World, engine: LocalEngine, create: Run, tmp_path: Path) -> AsyncIterator[Engines]:
    id = await create("sleep", "1000")
    container = engine.supervisor.find(id)[1]
    container.record.bundle = BundleRecord(path="/bundle", oci_version="1.0.2")
    await engine.containers.start(id)
    engines = Engines(world, engine, id, tmp_path / "door")
    await engines.open()
    yield engines
    await engines.die()


@contextmanager
def standing(door: Path) -> Iterator[tuple[stand_in.StandIn, io.FileIO, int]]:
    """A stand-in with the other ends of its stdin, which may be closed before, and of its stdout."""
    given, written = os.pipe()
    stdin = io.FileIO(written, "w")
    stdout, taken = os.pipe()
    made = stand_in.start(str(door), (given, taken, taken))
    os.close(given)
    os.close(taken)
    try:
        yield made, stdin, stdout
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(made.pid, signal.SIGKILL)
            os.waitpid(made.pid, 0)
        made.ours.close()
        os.close(stdout)
        stdin.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110  of other processes: there is nothing to wait for
            await asyncio.sleep(0.005)


async def status(pid: int) -> int:
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])


def everything(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 65536), b""))


async def test_its_bytes_are_there_once_over_the_death_of_hyperd(engines: Engines) -> None:
    with standing(engines.door) as (made, stdin, stdout):
        await engines.exec(made, "cat")
        reading = asyncio.create_task(asyncio.to_thread(everything, stdout))
        for part in range(4):
            writing = asyncio.create_task(asyncio.to_thread(stdin.write, BIG[part * 65536 : (part + 1) * 65536]))
            if part % 2:
                await engines.die()
                await engines.come_back()
            assert await writing == 65536
        stdin.close()
        assert await status(made.pid) == 0
        assert await reading == BIG[: 4 * 65536]
    await until(lambda: not engines.records)


async def test_its_end_is_told_though_nobody_was_there(engines: Engines) -> None:
    end = asyncio.Event()

    async def speak(process: FakeProcess) -> int:
        await end.wait()
        await process.write(b"last words")
        return 7

    engines.agent.programs["speak"] = speak
    with standing(engines.door) as (made, _, stdout):
        await engines.exec(made, "speak")
        await engines.die()
        end.set()
        await until(lambda: any(process.status == 7 for process in engines.agent.processes.values()))
        await engines.come_back()
        assert await status(made.pid) == 7
        assert everything(stdout) == b"last words"
    await until(lambda: not engines.records and len(engines.agent.processes) == 1)


async def test_its_end_is_told_before_the_guest_forgets_it(engines: Engines) -> None:
    engines.agent.unanswered.add("process.forget")
    asked = [op for op, _ in engines.agent.requests].count("process.forget")
    with standing(engines.door) as (made, _, _):
        await engines.exec(made, "exit", "9")
        assert await status(made.pid) == 9
    await until(lambda: [op for op, _ in engines.agent.requests].count("process.forget") > asked)
    await engines.die()
    engines.agent.unanswered.clear()
    await engines.come_back()
    await until(lambda: not engines.records and len(engines.agent.processes) == 1)


async def test_one_with_a_name_is_known_until_its_owner_forgets_it(engines: Engines) -> None:
    with standing(engines.door) as (made, _, _):
        await engines.exec(made, "exit", "9", name="e1")
        assert await status(made.pid) == 9
    for _ in range(2):
        await engines.die()
        await engines.come_back()
        found = await engines.engine.bundles.execs("", engines.name)
        assert [(name, one.pid, one.status) for name, one in found.items()] == [("e1", made.pid, 9)]
        assert found["e1"].finished_ns
    await engines.engine.bundles.forget("", engines.name, "e1")
    assert await engines.engine.bundles.execs("", engines.name) == {}
    assert engines.records == []


async def test_one_that_never_began_is_not_known(engines: Engines) -> None:
    engines.agent.unanswered.add("process.start")
    with standing(engines.door) as (made, _, _):
        asking = asyncio.create_task(engines.exec(made, "true", name="e1"))
        await until(lambda: [op for op, _ in engines.agent.requests].count("process.start") == 2)
        assert engines.records
        await engines.die()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await engines.come_back()
        assert await engines.engine.bundles.execs("", engines.name) == {}
        made.go()
        assert await status(made.pid) == 137
    assert engines.records == []


async def test_one_that_cannot_be_started_leaves_nothing(engines: Engines) -> None:
    with standing(engines.door) as (made, _, _), pytest.raises(Exception, match="nosuch"):
        await engines.exec(made, "nosuch")
    assert engines.records == [] and not engines.container.further


async def test_its_reader_goes_and_it_meets_a_broken_pipe(engines: Engines) -> None:
    async def speak(process: FakeProcess) -> int:
        try:
            while True:
                await process.write(b"y\n" * 1000)
        except BrokenPipeError:
            return 141

    engines.agent.programs["speak"] = speak
    given, stdin = os.pipe()
    stdout, taken = os.pipe()
    made = stand_in.start(str(engines.door), (given, taken, taken))
    for fd in (given, taken):
        os.close(fd)
    await engines.exec(made, "speak")
    await asyncio.to_thread(os.read, stdout, 1000)
    os.close(stdout)
    assert await status(made.pid) == 141
    os.close(stdin)


async def test_who_kills_what_stands_for_it_kills_it(engines: Engines) -> None:
    with standing(engines.door) as (made, _, _):
        await engines.exec(made, "sleep", "1000")
        os.kill(made.pid, signal.SIGKILL)
        await status(made.pid)
        await until(lambda: not engines.records)
        assert len(engines.agent.processes) == 1


async def test_the_end_of_its_machine_is_its_end(engines: Engines) -> None:
    with standing(engines.door) as (made, _, _):
        await engines.exec(made, "sleep", "1000")
        await engines.die()
        await engines.world.hypervisor.alive[0].kill()
        await engines.come_back()
        assert await status(made.pid) == 255
    await until(lambda: not engines.records)


async def test_a_record_that_cannot_be_read_is_one_process_less(
    engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    with standing(engines.door) as (made, _, _):
        await engines.exec(made, "sleep", "1000")
        await engines.die()
        [record] = [path for path in engines.records if path.suffix == ".json"]
        record.write_text('{"version": 99}')
        await engines.come_back()
        assert "which a newer program wrote" in caplog.text
        assert engines.container.running
        assert await status(made.pid) == 137


@pytest.fixture
async def created(world: World, engine: LocalEngine, create: Run, tmp_path: Path) -> AsyncIterator[Engines]:
    """Its container is made and not started."""
    id = await create("exit", "0")
    pod, container = engine.supervisor.find(id)
    container.record.bundle = BundleRecord(path="/bundle", oci_version="1.0.2")
    stands = await asyncio.create_subprocess_exec("sleep", "1000")
    found = ProcessRef(pid=stands.pid, start_time=proc.start_time(stands.pid) or 0)
    container.record.sinks = [StandInRecord(key="0" * 32, process=found)]
    async with pod.locked() as locked:
        await locked.enter(container, Timings())
    engines = Engines(world, engine, id, tmp_path / "door")
    await engines.open()
    yield engines
    await engines.die()
    stands.kill()
    await stands.wait()


@pytest.mark.parametrize("dies", [False, True])
async def test_before_the_start_the_first_process_is_held(created: Engines, dies: bool) -> None:
    with standing(created.door) as (made, _, _):
        await created.exec(made, "sleep", "1000")
        if dies:
            await created.die()
            await created.come_back()
        held = created.agent.processes[created.id].listed()
        assert (held.held, created.container.record.state) == (True, "created")
        await created.engine.containers.start(created.id)
        [first] = [args for op, args in created.agent.requests if op == "process.start" and args["id"] == created.id]
        assert first["hold"] and ("process.release", {"process": created.id}) in created.agent.requests
        os.kill(made.pid, signal.SIGKILL)
        await status(made.pid)
    await until(lambda: created.container.record.state == "exited")
    assert created.container.record.runs == 1


async def test_many_at_once_hold_it_once(created: Engines) -> None:
    with standing(created.door) as (one, _, _), standing(created.door) as (two, _, _):
        await asyncio.gather(created.exec(one, "true"), created.exec(two, "exit", "3"))
        assert [await status(one.pid), await status(two.pid)] == [0, 3]
    assert [args["id"] for op, args in created.agent.requests if op == "process.start"].count(created.id) == 1


async def test_a_first_process_that_dies_before_its_start_is_the_containers_end(created: Engines) -> None:
    with standing(created.door) as (made, _, _):
        await created.exec(made, "sleep", "1000")
        next_ = asyncio.ensure_future(asyncio.shield(created.container.next))
        created.agent.processes[created.id].status = 137
        task = created.agent.processes[created.id].task
        assert task
        task.cancel()
        await until(lambda: created.container.record.state == "exited")
        assert await (await next_) == 137 and created.container.record.exit_code == 137
        os.kill(made.pid, signal.SIGKILL)
        await status(made.pid)


async def test_a_guest_that_cannot_hold_one_says_what_helps(created: Engines) -> None:
    await created.die()
    created.agent.features = [word for word in created.agent.features if word != "hold"]
    await created.come_back()
    with (
        standing(created.door) as (made, _, _),
        pytest.raises(GuestTooOld, match=r"have another process in a container that is not started: .* older hyperd"),
    ):
        await created.exec(made, "true")
    assert created.container.record.state == "created" and created.records == []
    await created.engine.containers.start(created.id)


async def test_the_end_of_the_machine_is_that_of_one_that_is_held(created: Engines) -> None:
    with standing(created.door) as (made, _, _):
        await created.exec(made, "sleep", "1000")
        await created.world.hypervisor.alive[0].kill()
        await until(lambda: created.container.record.state == "exited")
        assert await status(made.pid) == 255


async def test_who_joins_one_that_is_not_started_finds_it_held(created: Engines) -> None:
    engine, first = created.engine, created.id
    other = await make(engine, "other", f"container:{first}", {"pid": f"container:{first}"})
    pod, container = engine.supervisor.find(other)
    container.record.bundle = BundleRecord(path="/bundle", oci_version="1.0.2")
    await engine.containers.start(other)
    asked = [(args["id"], args.get("hold", False)) for op, args in created.agent.requests if op == "process.start"]
    assert asked == [(first, True), (other, False)]
    assert pod.containers[first].record.state == "created"
