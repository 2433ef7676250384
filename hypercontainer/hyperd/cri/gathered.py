"""Answers leave in one piece. grpclib writes the head, the message and the end of each by itself, and each write wakes
the client: that is most of what a short call costs."""

import asyncio
from typing import Any, cast

from grpclib.protocol import H2Protocol


class Gathered(asyncio.Transport):
    """What is written to `transport` in one turn of the loop leaves after it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._pieces: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._send)
        self._pieces.append(data)

    def _send(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class GatheringProtocol(H2Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Gathered(cast(asyncio.Transport, transport)))
