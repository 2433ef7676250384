"""Answers that take their time: JSON documents, one a line, and tars."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from aiohttp import web

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.http.call import Bytes, Lines
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.model.documents import Progress

log = logging.getLogger("hyperd.http")

LastLine = Callable[[HyperError], object]
ENOUGH = 1 << 16  # bytes of lines that wait for the client before their source is stalled


def encode(document: object) -> bytes:
    """`document` as JSON. What is no UTF-8 in the words of callers and guests is shown escaped."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(_shown(msgspec.to_builtins(document)))


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


class _Lines:
    """Lines between their source and the client: many small ones become few writes."""

    def __init__(self, end: bytes) -> None:
        self.end = end
        self.buffer = bytearray()
        self.ended = False
        self.filled = asyncio.Event()
        self.emptied = asyncio.Event()

    async def fill(self, source: AsyncGenerator[object, None], last: LastLine) -> None:
        """Encode what comes. An error becomes the last line: the status was sent long ago."""
        try:
            async for item in source:
                if len(self.buffer) >= ENOUGH:
                    if isinstance(item, Progress):
                        continue  # the next one says more; and a client that sends a body may not be reading
                    self.emptied.clear()
                    await self.emptied.wait()
                self._add(item)
        except Exception as e:
            self._add(last(ours(e)))
        finally:
            self.ended = True
            self.filled.set()

    def _add(self, item: object) -> None:
        self.buffer += encode(item)
        self.buffer += self.end
        self.filled.set()

    async def take(self) -> bytes:
        """What has come since the last time, waiting for something; b"" at the end."""
        if not self.buffer and not self.ended:
            self.filled.clear()
            await self.filled.wait()
        data = bytes(self.buffer)
        self.buffer.clear()
        self.emptied.set()
        return data


async def send_lines(
    request: web.Request, source: AsyncGenerator[object, None], kind: Lines, media_type: str, last: LastLine
) -> web.StreamResponse:
    """Answer with `source`'s documents. A client that vanishes ends the source, a slow one stalls it."""
    response = web.StreamResponse(headers={"Content-Type": media_type})
    lines = _Lines(kind.end)
    try:
        await response.prepare(request)
        async with asyncio.TaskGroup() as group:
            filling = group.create_task(lines.fill(source, last))
            try:
                while data := await lines.take():
                    await response.write(data)
            except ConnectionError:
                filling.cancel()  # nobody is there to tell
    except asyncio.CancelledError as e:
        await _last_words(response, encode(last(ours(e))) + kind.end)
        raise
    finally:
        await source.aclose()
    return response


async def _last_words(response: web.StreamResponse, words: bytes) -> None:
    try:
        async with asyncio.timeout(1):
            await response.write(words)
            await response.write_eof()
    except (ConnectionError, TimeoutError, RuntimeError):
        pass  # nobody listens


async def send_bytes(request: web.Request, answer: Bytes) -> web.StreamResponse:
    """Answer with bytes. An error in mid-stream cuts the connection: a part must not look like the whole."""
    source = answer.source
    response = web.StreamResponse(headers={"Content-Type": answer.media_type, **answer.headers})
    try:
        first = b"" if answer.early else await anext(source, b"")  # what goes wrong until here has a status
        await response.prepare(request)
        try:
            if first:
                await response.write(first)
            async for data in source:
                await response.write(data)
        except ConnectionError:
            pass
        except Exception as e:
            log.warning("an answer was cut short: %s", ours(e))
            if request.transport:
                request.transport.abort()
    finally:
        await source.aclose()
    return response
