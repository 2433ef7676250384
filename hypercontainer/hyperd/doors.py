"""The doors of hyperd: each a socket on which one dialect is spoken. A dialect is loaded when a door wants it."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.dialect import Dialect
from hypercontainer.hyperd.http.dispatch import Dispatcher
from hypercontainer.hyperd.listen import listen
from hypercontainer.model.api import Engine
from hypercontainer.model.principal import Role
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


class OpenDoor:
    """A door that has callers. `inherited`: a socket that somebody else listens on and keeps, in place of its own."""

    def __init__(self, door: Door, engine: Engine) -> None:
        self._door = door
        self._dispatcher = Dispatcher(engine, dialect(door.dialect), ROLES[door.role])
        self._runner = self._dispatcher.runner()
        self._site: web.SockSite | None = None
        self._path: Path | None = None

    async def open(self, inherited: socket.socket | None = None) -> None:
        await self._runner.setup()
        sock = inherited
        if sock is None:
            sock = listen(Path(self._door.path), self._door.group, self._door.mode)
            self._path = Path(self._door.path)
        self._site = web.SockSite(self._runner, sock)
        await self._site.start()
        log.info("listening on %s", self._path or "a socket of systemd's")

    async def close(self, *, timeout_s: float) -> None:
        """Take no more calls, end those that last, wait `timeout_s` for those that change something."""
        if self._path:
            self._path.unlink(missing_ok=True)
        if self._site:
            await self._site.stop()
        await self._dispatcher.stop(timeout_s=timeout_s)
        await self._runner.cleanup()


async def close(doors: Sequence[OpenDoor], *, timeout_s: float) -> None:
    """All of them at the same time: each may take as long."""
    await asyncio.gather(*(door.close(timeout_s=timeout_s) for door in doors))
