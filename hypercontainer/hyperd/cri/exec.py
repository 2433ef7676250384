"""Commands that are run in a container, and waited for."""

import asyncio
from collections.abc import Mapping
from signal import SIGKILL

from hypercontainer.errors import Exhausted, InvalidInput, TimedOut
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.spec import ExecSpec

MOST = 15 << 20  # bytes of output: kubelets take answers of 16 MiB


class Execs:
    def __init__(self, engine: Engine) -> None:
        self._kube = engine.kube

    def calls(self) -> Mapping[str, Call]:
        return {"ExecSync": self.run}

    async def run(self, request: pb.ExecSyncRequest) -> pb.ExecSyncResponse:
        if not request.cmd:
            raise InvalidInput("cannot exec nothing: give a command")
        session = await self._kube.exec(request.container_id, ExecSpec(command=list(request.cmd)))
        within_s = request.timeout if request.timeout > 0 else None
        try:
            async with asyncio.timeout(within_s):
                return await _output(session)
        except TimeoutError as e:
            await session.signal(SIGKILL)
            raise TimedOut(f"{request.cmd[0][:200]} has not ended within {within_s} s, and was killed") from e
        except (Exhausted, asyncio.CancelledError):  # the second: who asked has gone
            await uninterrupted(session.signal(SIGKILL))
            raise
        finally:
            await session.detach()


async def _output(session: Session) -> pb.ExecSyncResponse:
    said = {1: bytearray(), 2: bytearray()}
    async for stream, data in session:
        said[stream] += data
        if len(said[1]) + len(said[2]) > MOST:
            raise Exhausted(f"cannot tell all that the command says: it is more than {MOST >> 20} MiB")
    status = await session.wait()
    return pb.ExecSyncResponse(stdout=bytes(said[1]), stderr=bytes(said[2]), exit_code=status)
