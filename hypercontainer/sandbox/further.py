"""One more process in a container of another engine: recorded, so that it outlives us as the first one does.

Its record is a file of its own, apart from the pod's, which is replaced whole under the pod's lock: an exec waits for
nobody. Written before the guest is asked, again when it has ended, and removed when nobody will ask for its status.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any, Literal

import msgspec

from hypercontainer.agent.messages import ListedProcess
from hypercontainer.agent.streams import InputStream, OutputStream
from hypercontainer.errors import HyperError
from hypercontainer.lib import clock, document, files, proc
from hypercontainer.model import upgrade
from hypercontainer.model.record import ContainerRecord, ExecRecord, StandInRecord
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.stand_in import LINGER_S, LOST, StandIn
from hypercontainer.vm import Vm

log = logging.getLogger(__name__)

RUN = 1  # it is started once


class Further:
    """An exec with what stands for it. See model.api.Further, and sandbox.stand_in.Process."""

    def __init__(self, exec_: Exec, record: ExecRecord, path: Path) -> None:
        """`path` is the file of its record."""
        self.exec, self.record, self._path = exec_, record, path
        self.stand_in = StandIn(record.stand_in, path.with_suffix(".mark"))
        self.stand_in.open(RUN)
        loop = asyncio.get_running_loop()
        self._reached: asyncio.Future[None] = loop.create_future()  # in its guest
        self._done: asyncio.Future[int] = loop.create_future()
        self._pumps: Sequence[asyncio.Task[None]] = ()
        self._forgotten = False

    # its record

    def save(self) -> None:
        """Exhausted when the disk takes no more."""
        if self._forgotten:
            return
        with files.telling(f"write the record of a process in {self._path.parent.parent.name[:12]}"):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            files.replace(self._path, msgspec.json.encode(self.record), durable=False)

    def forget(self) -> None:
        """Its status was told: the next hyperd need not know of it. Again does nothing."""
        self._forgotten = True
        self.stand_in.forget()
        for path in (self._path, self._path.with_suffix(".mark")):
            path.unlink(missing_ok=True)

    # its life

    def begin(self) -> None:
        """It has been started, or was found running: its output goes on from where its stand-in has it."""
        self._pumps = [asyncio.ensure_future(self._pump(kind, stream)) for kind, stream in self.exec.outputs]
        self._reached.set_result(None)

    def take_up(self, vm: Vm, process: ListedProcess) -> None:
        """A hyperd before us has started it, or was about to when it died."""
        self.exec.take_up(vm, process, self.stand_in.offsets)
        self.begin()
        if not process.running:
            self.exec.ended(process.status)

    def miss(self) -> bool:
        """The guest does not have it: its end is written down, or else, False, it never began."""
        if self.record.status is None:
            self.forget()
        self.exec.ended(LOST)
        return not self._forgotten

    async def live(self) -> None:
        """Until nobody waits for it here any more. Who kills what stands for it kills it."""
        process = self.record.stand_in.process
        gone = asyncio.create_task(proc.gone(process.pid, process.start_time))
        try:
            await self.begun()
            await _first(gone, self.exec.exit)
            if gone.done():
                await self.stand_in.give_up()
                await self.exec.signal(SIGKILL)
            status = await self.ended()
            noted = not self.name or self._note(status)
            if self._pumps:
                await asyncio.wait(self._pumps, timeout=LINGER_S)
            self._done.set_result(status)
            await gone  # it was told, and only then the guest need not know
            if noted:
                await self.exec.forget()
        finally:
            gone.cancel()
            self.let_go()

    def _note(self, status: int) -> bool:
        """Whether it is written down how it has ended: somebody may ask for that by its name when all else is gone."""
        if self.record.status is None:
            self.record.status, self.record.finished_ns = status, clock.now_ns()
            try:
                self.save()
            except HyperError as e:
                log.error("%s: how it has ended is known to the guest and to this hyperd alone", e)
                return False
        return True

    def let_go(self) -> None:
        """Our own end, or its: the record stays."""
        for pump in self._pumps:
            pump.cancel()
        self.stand_in.close()

    async def _pump(self, kind: int, stream: OutputStream) -> None:
        try:
            while data := await stream.read():
                had = max(0, self.stand_in.offsets[kind - 1] - stream.offset)  # it has said so since we asked the guest
                await self.stand_in.write(kind, data[had:], 0)
                stream.consumed(len(data))
            self.stand_in.end(kind)
        except HyperError:
            pass  # the guest is gone: `ended` tells

    # as the other engine has it

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def pid(self) -> int:
        return self.record.stand_in.process.pid

    @property
    def status(self) -> int | None:
        exit_ = self.exec.exit
        if not exit_.done() or self.record.status is not None:
            return self.record.status if exit_.done() else None
        return LOST if exit_.exception() else exit_.result()

    @property
    def finished_ns(self) -> int:
        return self.record.finished_ns

    async def ended(self) -> int:
        await asyncio.wait([self.exec.exit])
        status = self.status
        assert status is not None  # noqa: S101  it has ended
        return status

    def release(self) -> None:
        self.stand_in.release()

    # as its stand-in has it

    @property
    def stdin(self) -> InputStream | None:
        return self.exec.stdin

    async def begun(self) -> None:
        await _first(self._reached, self.exec.exit)

    async def wait(self) -> int:
        return await asyncio.shield(self._done)

    async def signal(self, number: int) -> None:
        await self.exec.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await self.exec.resize(rows, columns)

    async def hang_up(self, stream: Literal[1, 2]) -> None:
        await self.exec.hang_up(stream)


async def _first(*of: "asyncio.Future[Any]") -> None:
    await asyncio.wait(of, return_when=asyncio.FIRST_COMPLETED)


def made(exec_: Exec, stand_in: StandInRecord, name: str, folder: Path) -> Further:
    """One that is about to start, written down. `folder` is that of its container."""
    record = ExecRecord(version=document.version(upgrade.EXEC), stand_in=stand_in, name=name)
    further = Further(exec_, record, folder / "execs" / f"{exec_.id}.json")
    further.save()
    return further


def recalled(container: ContainerRecord, folder: Path) -> Iterator[Further]:
    """Those that a hyperd before us has written down."""
    for path in sorted((folder / "execs").glob("*.json")):
        try:
            record = document.read_versioned(path, ExecRecord, upgrade.EXEC)
        except (OSError, HyperError) as e:
            log.error("%s: a process in %s is given up", e, container.name)
            continue
        yield Further(Exec(path.stem, container), record, path)
