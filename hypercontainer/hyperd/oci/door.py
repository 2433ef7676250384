"""Two sockets for engines with bundles: calls of `runv`, and connections of stand-ins. Root's alone."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.listen import listen
from hypercontainer.hyperd.oci import wire
from hypercontainer.hyperd.oci.calls import CALLS
from hypercontainer.model.api import Engine

log = logging.getLogger("hyperd")

RECEIVE_S = 10.0  # for a caller to say what it wants


class OciDoor:
    def __init__(self, path: Path, stand_ins: Path, engine: Engine) -> None:
        self._path, self._stand_ins, self._engine = path, stand_ins, engine
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._sock: socket.socket | None = None

    async def open(self) -> None:
        server = await asyncio.start_unix_server(self._stand, sock=listen(self._stand_ins, "", 0o600))
        self._servers.append(server)
        self._sock = listen(self._path, "", 0o600)
        self._sock.setblocking(False)
        self._spawn(self._accept(self._sock))
        log.info("listening on %s", self._path)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            self._spawn(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        fds: list[int] = []
        with sock:
            try:
                async with asyncio.timeout(RECEIVE_S):
                    data, fds = await wire.receive(sock)
                answer: dict[str, Any] = {"answer": await self._answer(data, fds)}
            except (TimeoutError, HyperError) as e:
                kind = e.kind if isinstance(e, HyperError) else "timeout"
                answer = {"error": {"kind": kind, "message": str(e)}}
            except Exception as e:
                log.exception("a call failed")
                answer = {"error": {"kind": "internal", "message": f"{type(e).__name__}: {e}"}}
            finally:
                wire.close(fds)
            await wire.send(sock, msgspec.json.encode(answer))

    async def _answer(self, data: bytes, fds: list[int]) -> Any:
        try:
            found = msgspec.json.decode(data)
            call = CALLS[found.pop("call")]
            arguments = msgspec.convert(found, call.arguments)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, AttributeError, TypeError) as e:
            raise InvalidInput(f"cannot read the call: {e}") from e
        return await call.answer(self._engine.bundles, arguments, fds)

    async def _stand(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._engine.bundles.stand(reader, writer)
        except HyperError as e:
            log.warning("a stand-in is not heard: %s", e)
        finally:
            writer.close()

    async def close(self) -> None:
        """Calls that are under way end as they do when hyperd is killed."""
        self._path.unlink(missing_ok=True)
        self._stand_ins.unlink(missing_ok=True)
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sock:
            self._sock.close()
