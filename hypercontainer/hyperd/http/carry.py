"""A session and the client at its streams, whatever lies between the two."""

import asyncio
from typing import Literal, Protocol

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.framing import Control, Resize, Signal
from hypercontainer.model.api import Session


class Vanished(Exception):
    """The client has gone."""


class Detached(Exception):
    """The client has said that it goes."""


class Client(Protocol):
    """Who speaks with a session. All of it raises Vanished, or ConnectionError, when the client is gone."""

    async def begin(self, session: Session) -> None: ...

    async def output(self, stream: Literal[1, 2], data: bytes) -> None:
        """A piece of stdout (1) or stderr (2); waits while the client is slow."""

    async def next_stdin(self) -> bytes | None:
        """What came for stdin; None at its end. InvalidInput for what no client may say."""

    async def next_control(self) -> Control: ...

    async def end(self, status: int, reason: str) -> None:
        """The last words: the process has ended; `reason` as Session's."""

    async def fail(self, error: HyperError) -> None:
        """The last words: the session has failed, or ends because hyperd does."""


async def attend(client: Client, session: Session, *, stdin: bool) -> None:
    """Carry words between both until the process has ended or the client leaves. The session is let go whatever
    happens."""
    try:
        try:
            status = await _carry(client, session, stdin=stdin)
            await client.end(status, session.reason)
        except asyncio.CancelledError as e:
            await client.fail(ours(e))
            raise
        except (Vanished, Detached, ConnectionError):
            pass
        except BaseExceptionGroup as e:
            if not e.subgroup((Vanished, Detached, ConnectionError)):
                await client.fail(ours(first(e)))
    finally:
        await session.detach()


async def _carry(client: Client, session: Session, *, stdin: bool) -> int:
    """Run the three pumps to the end of the process; its status."""
    async with asyncio.TaskGroup() as group:
        steering = group.create_task(_steer(client, session))
        feeding = group.create_task(_feed(client, session, stdin=stdin))
        await client.begin(session)
        async for stream, data in session:
            await client.output(stream, data)
        status = await session.wait()
        steering.cancel()
        feeding.cancel()
    return status


async def _feed(client: Client, session: Session, *, stdin: bool) -> None:
    """Client to stdin. A process that reads no more loses the rest, as it would behind a pipe."""
    listening = True
    while True:
        data = await client.next_stdin()
        if not stdin:
            if data is not None:
                raise InvalidInput("bytes for stdin came, but stdin is not attached")
            continue
        try:
            if listening:
                await (session.close_stdin() if data is None else session.write(data))
        except BrokenPipeError:
            listening = False


async def _steer(client: Client, session: Session) -> None:
    """Resizes, signals, the wish to leave: they overtake stdin that waits."""
    while True:
        word = await client.next_control()
        if isinstance(word, Resize):
            await session.resize(word.rows, word.columns)
        elif isinstance(word, Signal):
            await session.signal(word.number)
        else:
            raise Detached


def first(error: BaseException) -> BaseException:
    """The first reason why a group of tasks failed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
