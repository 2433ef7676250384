"""A client of a kubelet's streams, by websockets, as an API server is one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

STDIN, STDOUT, STDERR, ERROR, CLOSE = b"\0", 1, 2, 3, b"\xff"
LIMIT_S = 300.0


async def remote(url: str, stdin: bytes | None) -> tuple[str, str, int]:
    """An exec or an attach: what it says on both, and its status; -1 where it had no process."""
    said = {STDOUT: b"", STDERR: b"", ERROR: b""}
    async with _connected(url, "v5.channel.k8s.io") as stream:
        if stdin is not None:
            await stream.send_bytes(STDIN + stdin)
            await stream.send_bytes(CLOSE + STDIN)
        async for message in stream:
            assert message.type == aiohttp.WSMsgType.BINARY, message
            said[message.data[0]] += message.data[1:]
    return said[STDOUT].decode(), said[STDERR].decode(), _status(json.loads(said[ERROR]))


def _status(ended: dict[str, object]) -> int:
    if ended["status"] == "Success":
        return 0
    if ended.get("reason") != "NonZeroExitCode":
        return -1
    details = ended["details"]
    assert isinstance(details, dict)
    return int(details["causes"][0]["message"])


async def forward(url: str, said: bytes) -> bytes:
    """One connection to the port in the address: what is answered to `said`, until its end."""
    answer = b""
    async with _connected(url, "v4.channel.k8s.io") as stream:
        for _ in ("data", "errors"):
            await stream.receive_bytes()  # which port the channel is of
        await stream.send_bytes(STDIN + said)
        async for message in stream:
            assert message.data[:1] == STDIN, message
            answer += message.data[1:]
    return answer


@asynccontextmanager
async def _connected(url: str, protocol: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        asyncio.timeout(LIMIT_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=[protocol], ssl=False, max_msg_size=0) as stream,
    ):
        assert stream.protocol == protocol
        yield stream
