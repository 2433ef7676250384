"""Somebody in a container of a FakeAgent, who connects to a socket of the host there."""

import asyncio

from hypercontainer.agent.streams import InputStream, Sender
from hypercontainer.testing.fake_process import Stdin


class FakeCaller:
    """From the connect on. `taken` tells what became of that: False, it was refused."""

    def __init__(self) -> None:
        self.taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()  # by the host, or by the guest when that host had gone
        self._stdin: Stdin | None = None
        self._sender: Sender | None = None
        self._output: InputStream | None = None

    def take(self, stdin: Stdin, sender: Sender) -> None:
        self._stdin, self._sender, self._output = stdin, sender, InputStream(sender)
        self.taken.set_result(True)

    @property
    def streams(self) -> tuple[int, int]:
        return (self._stdin.number, self._sender.number) if self._stdin and self._sender else (0, 0)

    async def read(self) -> bytes:
        """b"" when the other end said no more; at once if it was refused."""
        return await self._stdin.read() if await self.taken and self._stdin else b""

    async def write(self, data: bytes) -> None:
        """Waits while the host does not take it."""
        if await self.taken and self._output:
            await self._output.write(data)

    def end(self) -> None:
        """It says no more, and reads on."""
        if self._output:
            self._output.close()

    def close(self) -> None:
        """It is gone."""
        self.end()
        if self._stdin:
            self._stdin.stop()
