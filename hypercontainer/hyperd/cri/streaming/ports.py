"""Port-forward over a websocket without SPDY: two channels for each of the ports that were named before, one of its
bytes and one of what went wrong. Their connections are made at once; the websocket ends with the last of them."""

import asyncio
import struct

from aiohttp import WSMsgType, web

from hypercontainer.hyperd.cri.streaming.forward import Forward, carry
from hypercontainer.hyperd.http.carry import Vanished
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.inbox import WINDOW, Inbox

V4 = "v4.channel.k8s.io"
PORT = struct.Struct("<H")  # what each channel begins with
MAX_PORTS = 100  # of one client: a channel is a byte, and each port has two


async def serve(socket: web.WebSocketResponse, wanted: Forward) -> None:
    """Until the client goes, or no connection is left."""
    channels = Ports(socket, wanted)
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(channels.listen())
            async with asyncio.TaskGroup() as connections:
                for number in range(len(wanted.ports)):
                    connections.create_task(channels.forward(number))
            listening.cancel()
    except* (Vanished, ConnectionError):
        pass


class Ports:
    """The channels of one client: 2n of the bytes of port n, 2n + 1 of its errors."""

    def __init__(self, socket: web.WebSocketResponse, wanted: Forward) -> None:
        self._socket, self._wanted = socket, wanted
        self._room = asyncio.Event()
        self._inboxes = {number: Inbox(self._taken) for number in range(len(wanted.ports))}  # of ports that listen

    async def listen(self) -> None:
        """Until the client goes: Vanished. Channels that there are not, or no more, and those of errors, are passed
        over."""
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                break
            data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            number, odd = divmod(data[0], 2) if data else (0, 1)
            if not odd and number in self._inboxes:
                self._inboxes[number].put(bytes(data[1:]))
            while sum(each.waiting for each in self._inboxes.values()) > WINDOW:
                self._room.clear()
                await self._room.wait()
        raise Vanished

    def _taken(self, size: int) -> None:
        self._room.set()

    async def forward(self, number: int) -> None:
        port = self._wanted.ports[number]
        for channel in (2 * number, 2 * number + 1):
            await self._say(channel, PORT.pack(port))
        try:
            made = await self._wanted.connect(port)
        except Exception as e:
            await self._say(2 * number + 1, str(ours(e)).encode())
        else:
            with made:
                await carry(self._inboxes[number], made, lambda piece: self._say(2 * number, piece))
        del self._inboxes[number]
        self._room.set()

    async def _say(self, channel: int, data: bytes) -> None:
        await self._socket.send_bytes(bytes([channel]) + data)
