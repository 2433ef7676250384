"""Port-forward over SPDY: each connection is a pair of streams, one of its bytes and one of what went wrong."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import mux
from hypercontainer.hyperd.cri.streaming.streams import Stream, Streams
from hypercontainer.hyperd.cri.streaming.wires import Wire
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.errors import ours

PROTOCOL = "portforward.k8s.io"
CHUNK = 1 << 16
log = logging.getLogger("hyperd.cri")


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Ports of a pod that a client may come for. `connect` makes a stream socket, which does not block, that leads to
    one; `ports` are those that were named before, which may be none."""

    connect: Callable[[int], Awaitable[socket.socket]]
    ports: Sequence[int] = ()


def port(text: str) -> int:
    """InvalidInput for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise InvalidInput(f"cannot forward port {text[:20]!r}: it is no number from 1 to 65535")
    return check(int(text))


def check(number: int) -> int:
    """InvalidInput for what is no port's."""
    if not 0 < number < 65536:
        raise InvalidInput(f"cannot forward port {number}: it is no number from 1 to 65535")
    return number


async def serve(wire: Wire, wanted: Forward) -> None:
    """Until the client goes, and all its connections with it."""
    forwarding = Forwarding(wire, wanted)
    async with forwarding.streams:
        try:
            await forwarding.streams.over.wait()
        finally:
            await forwarding.close()


class Forwarding:
    """The pairs of one client, which names each by a number of its own."""

    def __init__(self, wire: Wire, wanted: Forward) -> None:
        self._wanted = wanted
        self._halves: dict[str, dict[str, Stream]] = {}  # of pairs that are not complete, by those numbers
        self._tasks: set[asyncio.Task[None]] = set()
        self.streams = Streams(wire, self._opened)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _opened(self, stream: Stream) -> None:
        kind, number = stream.headers.get("streamtype"), stream.headers.get("requestid", "")
        half = self._halves.get(number, {})
        if kind not in ("data", "error") or not number or kind in half:
            self.streams.drop(stream, mux.PROTOCOL_ERROR)
            return
        self._halves = {key: self._known(pair) for key, pair in self._halves.items() if self._known(pair)}
        pair = {**half, kind: stream}
        self._halves[number] = pair
        if len(pair) == 2:
            del self._halves[number]
            task = asyncio.create_task(self._forward(pair["data"], pair["error"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _known(self, pair: dict[str, Stream]) -> dict[str, Stream]:
        """Without streams that the client has let go of."""
        return {kind: stream for kind, stream in pair.items() if self.streams.has(stream)}

    async def _forward(self, data: Stream, error: Stream) -> None:
        with suppress(Vanished, ConnectionError):
            try:
                made = await self._wanted.connect(port(data.headers.get("port", "")))
            except Exception as e:
                await self.streams.write(error, str(ours(e)).encode())
            else:
                with made:
                    await self._carry(data, made)
            for stream in (data, error):
                await self.streams.end(stream)
            if self.streams.has(data):  # it may go on to speak, and nobody listens
                self.streams.drop(data, mux.CANCEL)

    async def _carry(self, data: Stream, made: socket.socket) -> None:
        """Until both directions have ended, or the client wants no more."""
        hearing = asyncio.create_task(to_socket(data, made))
        telling = asyncio.create_task(self._tell(data, made))
        try:
            await asyncio.wait({hearing, telling}, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done() and not hearing.exception():  # it says no more, and may still listen
                await telling
        finally:
            for task in (hearing, telling):
                task.cancel()
            await asyncio.wait({hearing, telling})

    async def _tell(self, data: Stream, made: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(made, CHUNK):
            await self.streams.write(data, piece)


async def to_socket(stream: Stream, made: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while (piece := await stream.inbox.next_stdin()) is not None:
        await loop.sock_sendall(made, piece)
    with suppress(OSError):  # it has gone
        made.shutdown(socket.SHUT_WR)
