"""A socket for shims of containerd: each says which one it is, and passes on what containerd asks. Root's alone.

The first call of a connection is ours, with a JSON document: Serve, whose connection is a shim's from then on; or
Delete, of the runtime's command, whose answer is a DeleteResponse.
"""

import asyncio
import logging
from pathlib import Path

import msgspec

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.hyperd.listen import listen
from hypercontainer.hyperd.shim import messages as m
from hypercontainer.hyperd.shim import process
from hypercontainer.hyperd.shim.bundle import Within
from hypercontainer.hyperd.shim.holder import HOLD, Holder
from hypercontainer.hyperd.shim.publisher import Publisher
from hypercontainer.hyperd.shim.task import KILLED, TaskService, told_to_hooks
from hypercontainer.hyperd.shim.wire import read_frame
from hypercontainer.lib import clock, proc, protobuf, ttrpc
from hypercontainer.model.api import Engine
from hypercontainer.model.record import ProcessRef

log = logging.getLogger("hyperd")

SERVICE = "hyper.shim.v1.Shim"
END, AGAIN = 0, 0x80  # a kind of frame, and a flag: see docs/shim.md
FLUSH_S = 5.0


class Who(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shim: the container that it was started for, with which it serves those of the same pod."""

    address: str  # of containerd
    events: str  # where its ttrpc services listen
    namespace: str
    id: str
    bundle: str

    @property
    def owner(self) -> str:
        return f"containerd:{self.address}:{self.namespace}"


class ShimDoor:
    def __init__(self, path: Path, stand_ins: Path, engine: Engine) -> None:
        self._path, self._stand_ins, self._engine = path, stand_ins, engine
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, sock=listen(self._path, "", 0o600))
        log.info("listening on %s", self._path)

    async def close(self) -> None:
        """Shims wait for the next hyperd."""
        self._path.unlink(missing_ok=True)
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101  asyncio runs this as one
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except HyperError as e:
            log.warning("a shim is not heard: %s", e)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frame = await read_frame(reader)
        if frame is None:
            return
        call = protobuf.decode(frame.message, ttrpc.Request)
        try:
            who = msgspec.json.decode(call.payload, type=Who)
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            raise InvalidInput(f"cannot read who calls: {e}") from e
        if (call.service, call.method) == (SERVICE, "Delete"):
            writer.write((await self._delete(frame.stream, who, _peer(writer))).encode())
            await writer.drain()
        elif (call.service, call.method) == (SERVICE, "Serve"):
            publisher = Publisher(who.events, who.namespace)
            stand_ins = str(self._stand_ins)
            holder = Holder(writer)
            service = TaskService(
                self._engine.bundles, who.owner, who.bundle, _peer(writer), stand_ins, publisher, holder, self._adopt
            )
            await Connection(service, publisher, holder, reader, writer).serve(who.id)
        else:
            raise InvalidInput(f"there is no call {call.service[:60]}.{call.method[:60]}")

    def _adopt(self, pid: int) -> None:
        """A child of ours: it outlives the shim that it was started for."""
        task = asyncio.create_task(process.reap(pid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _delete(self, stream: int, who: Who, caller: ProcessRef) -> ttrpc.Frame:
        """What containerd has done after a shim's end, whatever that left. The `caller` is where the shim was."""
        answer = m.DeleteResponse(exit_status=KILLED, exited_at=m.timestamp(clock.now_ns()))
        try:
            state = await self._engine.bundles.state(who.owner, who.id)
            answer = m.DeleteResponse(
                pid=state.stand_in.pid,
                exit_status=state.exit_code if state.status == "stopped" else KILLED,
                exited_at=m.timestamp(state.finished_ns or clock.now_ns()),
            )
            await self._engine.bundles.delete(who.owner, who.id, force=True)
        except NotFound:
            return ttrpc.response(stream, protobuf.encode(answer))  # it was deleted in time
        except HyperError as e:
            return ttrpc.failure(stream, ttrpc.CODES[e.kind], str(e))
        try:
            await Within(caller, who.namespace, self._adopt).hooks(
                state.poststop, "poststop", told_to_hooks(state, stopped=True)
            )
        except InvalidInput as e:
            log.warning("of %s: %s", who.id, e)
        return ttrpc.response(stream, protobuf.encode(answer))


class Connection:
    """That of one shim."""

    def __init__(
        self,
        service: TaskService,
        publisher: Publisher,
        holder: Holder,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._service, self._publisher, self._holder = service, publisher, holder
        self._reader, self._writer = reader, writer
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self, id: str) -> None:
        publishing = asyncio.create_task(self._publisher.run())
        try:
            await self._service.recover(id)
            while not self._service.ended and (frame := await read_frame(self._reader)):
                if frame.kind == HOLD:
                    self._holder.answered()
                    continue
                call = asyncio.create_task(self._answer(frame))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
        finally:
            for call in list(self._calls):
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            await self._service.close()
            if self._service.ended:
                await asyncio.wait([asyncio.create_task(self._publisher.flush())], timeout=FLUSH_S)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _answer(self, frame: ttrpc.Frame) -> None:
        answer = await self._called(frame)
        self._writer.write(answer.encode())
        if self._service.ended:
            self._writer.write(ttrpc.Frame(0, END, 0, b"").encode())

    async def _called(self, frame: ttrpc.Frame) -> ttrpc.Frame:
        name = ""
        try:
            call = protobuf.decode(frame.message, ttrpc.Request)
            name = f"{call.service}.{call.method}"
            if call.service in m.TASKS:
                again = bool(frame.flags & AGAIN)
                payload = await self._service.call(call.method, call.payload, again=again)
                if payload is not None:
                    return ttrpc.response(frame.stream, payload)
            return ttrpc.failure(frame.stream, ttrpc.UNIMPLEMENTED, f"there is no {name[:200]}")
        except HyperError as e:
            return ttrpc.failure(frame.stream, ttrpc.CODES[e.kind], str(e))
        except Exception as e:
            log.exception("%s of a shim failed", name[:200])
            return ttrpc.failure(frame.stream, ttrpc.INTERNAL, f"{type(e).__name__}: {e}")


def _peer(writer: asyncio.StreamWriter) -> ProcessRef:
    pid = proc.peer(writer.get_extra_info("socket")).pid
    started = proc.start_time(pid)
    if started is None:
        raise InvalidInput("a shim that has ended")
    return ProcessRef(pid=pid, start_time=started)
