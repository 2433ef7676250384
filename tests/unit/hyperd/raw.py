"""A client that speaks bytes: what a library would hide or refuse can be sent."""

import asyncio
import json
import struct
from typing import Any

HEADER = struct.Struct(">B3xI")
STDIN, STDOUT, STDERR, EXIT, INFO, STDIN_END, RESIZE, SIGNAL, DETACH, ERROR = range(10)


def frame(kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self, method: str, target: str, body: bytes = b"", *, upgrade: bool = False) -> None:
        words = [f"{method} {target} HTTP/1.1", "Host: hyper", f"Content-Length: {len(body)}"]
        if upgrade:
            words += ["Connection: Upgrade", "Upgrade: hyper-stream"]
        self.writer.write("\r\n".join([*words, "", ""]).encode() + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, str]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return int(text.split()[1]), text

    async def send(self, kind: int, payload: bytes = b"") -> None:
        self.writer.write(frame(kind, payload))
        await self.writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        kind, length = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        return kind, await self.reader.readexactly(length)

    async def document(self, kind: int) -> Any:
        got, payload = await self.frame()
        assert got == kind, payload
        return json.loads(payload)

    async def established(self) -> Any:
        """Read the 101 and the info frame that follows."""
        status, head = await self.head()
        assert status == 101, head
        return await self.document(INFO)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass
