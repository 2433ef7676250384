"""Exec and attach over SPDY: a stream for each of stdin, stdout, stderr, errors and a terminal's sizes."""

import asyncio
from contextlib import suppress
from typing import Literal, NoReturn

from hypercontainer.errors import HyperError, TimedOut
from hypercontainer.hyperd.cri.streaming import mux, remote, status
from hypercontainer.hyperd.cri.streaming.remote import MAX_RESIZE, Remote
from hypercontainer.hyperd.cri.streaming.streams import Hung, Stream, Streams
from hypercontainer.hyperd.cri.streaming.wires import Wire
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.framing import Control
from hypercontainer.model.api import Session

# Version 4 says how a process ended in JSON; 3 and older in words; terminals have sizes from version 3 on. The one
# without a number is what clients speak that name none.
PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
SIZED = PROTOCOLS[:2]
STREAMS_S = 30.0  # for a client to open all that it has asked for


async def serve(wire: Wire, wanted: Remote, protocol: str) -> None:
    """Until it ends or its client goes."""
    client = Command(wire, wanted, protocol)
    async with client.streams:
        with suppress(Vanished):
            await client.complete()
            await remote.serve(client, wanted)
            await client.streams.linger()


class Command:
    """The client, by its streams: see carry.Client."""

    def __init__(self, wire: Wire, wanted: Remote, protocol: str) -> None:
        self._wanted, self._json = wanted, protocol == PROTOCOLS[0]
        self._missing = {"error"} | {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
        if wanted.tty:
            self._missing.discard("stderr")
            self._missing |= {"resize"} if protocol in SIZED else set()
        self._found: dict[str, Stream] = {}
        self._changed = asyncio.Event()
        self._sizes = bytearray()
        self._no_stdin = not wanted.stdin
        self.streams = Streams(wire, self._opened)

    def _opened(self, stream: Stream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._missing:
            self.streams.drop(stream, mux.REFUSED)
            return
        self._missing.discard(kind)
        self._found[kind] = stream
        if not self._missing:
            self._changed.set()

    async def complete(self) -> None:
        """Wait until the client has opened all streams. Vanished: it has not."""
        over = asyncio.ensure_future(self.streams.over.wait())
        all_there = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({over, all_there}, timeout=STREAMS_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            all_there.cancel()
        if self._missing:
            with suppress(Vanished, ConnectionError):
                missing = ", ".join(sorted(self._missing))
                await self.fail(TimedOut(f"cannot {self._wanted.verb}: the client has opened no stream for {missing}"))
            raise Vanished

    async def begin(self, session: Session) -> None:
        pass

    async def output(self, stream: Literal[1, 2], data: bytes) -> None:
        if found := self._found.get("stdout" if stream == 1 else "stderr"):
            await self.streams.write(found, data)

    async def next_stdin(self) -> bytes | None:
        if self._no_stdin:
            return await self._until_gone()
        try:
            data = await self._found["stdin"].inbox.next_stdin()
        except Hung:
            data = None
        self._no_stdin = data is None
        return data

    async def next_control(self) -> Control:
        while "resize" in self._found:
            while b"}" in self._sizes:
                one, _, rest = self._sizes.partition(b"}")
                self._sizes = rest
                if size := remote.resize(bytes(one) + b"}"):
                    return size
            data = await self._found["resize"].inbox.next_stdin()
            if data is None:
                break
            self._sizes = (self._sizes + data)[-MAX_RESIZE:]
        return await self._until_gone()

    async def _until_gone(self) -> NoReturn:
        """The client says nothing more that is of use here."""
        while True:
            await self._found["error"].inbox.next_stdin()

    async def end(self, number: int, reason: str) -> None:
        wanted = self._wanted
        await self._last(wanted.ended(number, reason) if self._json else wanted.ended_in_words(number, reason).encode())

    async def fail(self, error: HyperError) -> None:
        await self._last(status.failed(error) if self._json else str(error).encode())

    async def _last(self, words: bytes) -> None:
        """On the error stream; and then nothing on any."""
        with suppress(Vanished, ConnectionError):
            if error := self._found.get("error"):
                await self.streams.write(error, words)
            for stream in self._found.values():
                await self.streams.end(stream)
