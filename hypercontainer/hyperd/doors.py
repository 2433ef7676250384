"""The doors of hyperd: each a socket on which one dialect is spoken. A dialect is loaded when a door wants it."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd import tls
from hypercontainer.hyperd.http.dialect import Dialect
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.http.principal import local
from hypercontainer.hyperd.listen import listen, listen_tcp, written
from hypercontainer.hyperd.tcp import TcpListener
from hypercontainer.model.api import Engine
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.settings import Door

log = logging.getLogger("hyperd")

ROLES = {"user": Role.USER, "admin": Role.ADMIN}


def dialect(name: str) -> Dialect:
    """The one that the settings call `name`; they know no other names."""
    if name == "rest":
        from hypercontainer.hyperd.rest.dialect import Rest

        return Rest()
    if name == "docker":
        from hypercontainer.hyperd.docker.dialect import Docker

        return Docker()
    raise InvalidInput(f"cannot open a door: there is no dialect {name!r}")


def of_connection(listener: TcpListener) -> Callable[[web.Request], Principal]:
    """Who makes a request that came over TCP."""
    return lambda request: listener.caller(request.protocol)


class OpenDoor:
    """A door that has callers. `inherited`: a socket that somebody else listens on and keeps, in place of its own."""

    def __init__(self, door: Door, engine: Engine) -> None:
        self._door = door
        self._listener = TcpListener(tls.context(door), ROLES[door.role]) if door.address else None
        caller = of_connection(self._listener) if self._listener else local(ROLES[door.role])
        self._dispatcher = Dispatcher(engine, dialect(door.dialect), caller)
        self._runner = self._dispatcher.runner()
        self._site: web.SockSite | None = None
        self._path: Path | None = None
        self.where = ""  # it listens

    async def open(self, inherited: socket.socket | None = None) -> None:
        await self._runner.setup()
        if self._listener:
            self._open_tcp(self._listener)
        else:
            await self._open_unix(inherited)
        log.info("listening on %s", self.where)

    async def _open_unix(self, inherited: socket.socket | None) -> None:
        sock = inherited
        if sock is None:
            sock = listen(Path(self._door.path), self._door.group, self._door.mode)
            self._path = Path(self._door.path)
        self._site = web.SockSite(self._runner, sock)
        await self._site.start()
        self.where = str(self._path or "a socket of systemd's")

    def _open_tcp(self, listener: TcpListener) -> None:
        assert self._runner.server  # noqa: S101  it was set up
        sock = listen_tcp(self._door.address)
        self.where = f"tcp://{written(sock)}"
        listener.start(sock, self._runner.server)

    async def close(self, *, timeout_s: float) -> None:
        """Take no more calls, end those that last, wait `timeout_s` for those that change something."""
        if self._path:
            self._path.unlink(missing_ok=True)
        if self._site:
            await self._site.stop()
        if self._listener:
            await self._listener.stop()
        await self._dispatcher.stop(timeout_s=timeout_s)
        await self._runner.cleanup()
        if self._listener:
            await self._listener.close(timeout_s=timeout_s)


async def close(doors: Sequence[OpenDoor], *, timeout_s: float) -> None:
    """All of them at the same time: each may take as long."""
    await asyncio.gather(*(door.close(timeout_s=timeout_s) for door in doors))
