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
from hypercontainer.hyperd.http.inbox import Inbox

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
                    await carry(data.inbox, made, lambda piece: self.streams.write(data, piece))
            for stream in (data, error):
                await self.streams.end(stream)
            if self.streams.has(data):  # it may go on to speak, and nobody listens
                self.streams.drop(data, mux.CANCEL)


async def carry(inbox: Inbox, made: socket.socket, tell: Callable[[bytes], Awaitable[None]]) -> None:
    """Until the port says no more, or the client wants no more. A client that says no more may still listen, and a
    port that does not hear may still speak."""
    try:
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(_to_socket(inbox, made))
            loop = asyncio.get_running_loop()
            while piece := await loop.sock_recv(made, CHUNK):
                await tell(piece)
            hearing.cancel()
    except* (Vanished, OSError):
        pass


async def _to_socket(inbox: Inbox, made: socket.socket) -> None:
    """What the port does not take is passed over, for others wait behind it."""
    loop = asyncio.get_running_loop()
    while (piece := await inbox.next_stdin()) is not None:
        with suppress(OSError):
            await loop.sock_sendall(made, piece)
    with suppress(OSError):  # it has gone
        made.shutdown(socket.SHUT_WR)
