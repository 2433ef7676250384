"""A client of streams that speaks SPDY by frames."""

import asyncio
from collections import defaultdict
from typing import Any

from hypercontainer.hyperd.cri.streaming import spdy
from hypercontainer.hyperd.cri.streaming.spdy import Data, Decoder, Encoder


class Spdy:
    """Of its own accord it tells of no window, as most do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = Encoder(), Decoder()
        self.streams: dict[str, int] = {}
        self.data: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.other: list[spdy.Frame] = []
        self.next = 1
        self.away = False

    @classmethod
    async def connect(cls, url: str, *protocols: str) -> tuple["Spdy", str]:
        """And the head of the answer."""
        host, _, path = url.removeprefix("http://").partition("/")
        address, _, port = host.rpartition(":")
        client = cls(*await asyncio.open_connection(address.strip("[]"), int(port)))
        lines = [f"POST /{path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0"]
        lines += [f"X-Stream-Protocol-Version: {one}" for one in protocols]
        client.writer.write("\r\n".join([*lines, "", ""]).encode())
        return client, (await client.reader.readuntil(b"\r\n\r\n")).decode()

    async def send(self, frame: spdy.Frame) -> None:
        self.writer.write(self.encoder.encode(frame))
        await self.writer.drain()

    async def open(self, name: str, **headers: str) -> int:
        number, self.next = self.next, self.next + 2
        self.streams[name] = number
        await self.send(spdy.Open(number, {"streamtype": name.partition(" ")[0], **headers}))
        return number

    async def say(self, name: str, data: bytes, *, end: bool = False) -> None:
        await self.send(Data(self.streams[name], data, end))

    async def hear(self) -> bool:
        """Some frames; False at the end."""
        data = await self.reader.read(1 << 16)
        for frame in self.decoder.feed(data):
            if isinstance(frame, Data):
                self.data[frame.stream] += frame.data
                if frame.fin:
                    self.ended.add(frame.stream)
            elif isinstance(frame, spdy.GoAway):
                self.away = True
            else:
                self.other.append(frame)
        return bool(data)

    async def until(self, name: str, words: bytes) -> None:
        while words not in self.data[self.streams[name]]:
            assert await self.hear(), (name, self.data)

    async def end_of(self, name: str) -> bytes:
        """All that was said in it."""
        while self.streams[name] not in self.ended:
            assert await self.hear(), (name, self.data, self.other)
        return self.data[self.streams[name]]

    async def find(self, kind: type[Any]) -> Any:
        while not (found := [frame for frame in self.other if isinstance(frame, kind)]):
            assert await self.hear(), self.other
        return found[0]

    def close(self) -> None:
        self.writer.close()
