"""A unix socket in front of another one, that breaks the connection at any byte you like."""

import asyncio
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, cast

from hypercontainer.agent.wire import MAX_FRAME

Direction = Literal["to guest", "to host"]


class Cut(NamedTuple):
    """`after` more bytes in that direction; a connection's leading zeros to the guest do not count."""

    direction: Direction
    after: int


class Cutter:
    """Makes one cut after the other, then none. `passed` counts what went through.

    What the guest had written when the line was cut reaches the next host first, as it may from a real port.
    """

    def __init__(self, upstream: Path, cuts: Iterable[Cut] = ()) -> None:
        self._upstream = upstream
        self._cuts = deque(cuts)
        self._left = self._cuts[0].after if self._cuts else 0
        self._stale = b""
        self._lines: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None
        self.passed: dict[Direction, int] = {"to guest": 0, "to host": 0}
        self.cut = asyncio.Event()  # a cut was made

    async def serve(self, socket: Path) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _HostSide(self), str(socket))

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for line in list(self._lines):
            line.abort()

    async def connect(self, host: "_HostSide") -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: host.guest, str(self._upstream))
        stale, self._stale = self._stale, b""
        host.write(stale)

    def passes(self, direction: Direction, data: bytes) -> int:
        """How many of these bytes go through; fewer than all, or the last of them: the line is to be cut."""
        if not self._cuts or self._cuts[0].direction != direction or self._left > len(data):
            if self._cuts and self._cuts[0].direction == direction:
                self._left -= len(data)
            self.passed[direction] += len(data)
            return len(data) + 1
        allowed = self._left
        self._cuts.popleft()
        self._left = self._cuts[0].after if self._cuts else 0
        if direction == "to host":
            self._stale = data[allowed:]
        self.passed[direction] += allowed
        self.cut.set()
        return allowed

    def opened(self, line: asyncio.Transport) -> None:
        self._lines.add(line)

    def closed(self, line: asyncio.Transport | None) -> None:
        if line:
            self._lines.discard(line)


class _Side(asyncio.Protocol):
    direction: Direction

    def __init__(self, cutter: Cutter, peer: "_Side | None") -> None:
        self.cutter, self.peer = cutter, peer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.cutter.opened(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.cutter.closed(self.transport)
        self.transport = None
        if self.peer and self.peer.transport:
            self.peer.transport.close()

    def write(self, data: bytes) -> None:
        if self.transport and data:
            self.transport.write(data)

    def pass_on(self, data: bytes) -> None:
        assert self.peer
        if not self.transport:
            return
        count = self.cutter.passes(self.direction, data)
        self.peer.write(data[:count])
        if count <= len(data):
            if self.peer.transport:
                self.peer.transport.close()
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.pass_on(data)


class _GuestSide(_Side):
    direction: Direction = "to host"


class _HostSide(_Side):
    direction: Direction = "to guest"

    def __init__(self, cutter: Cutter) -> None:
        self.guest = _GuestSide(cutter, self)
        super().__init__(cutter, self.guest)
        self._zeros = MAX_FRAME
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Later: asyncio starts to read right after this, whatever was said here.
        asyncio.get_running_loop().call_soon(cast(asyncio.Transport, transport).pause_reading)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self.cutter.connect(self)
        except OSError:
            pass
        if self.transport:
            if self.guest.transport:
                self.transport.resume_reading()
            else:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        zeros = data[: self._zeros]
        self._zeros -= len(zeros)
        self.guest.write(zeros)
        if rest := data[len(zeros) :]:
            self.pass_on(rest)
