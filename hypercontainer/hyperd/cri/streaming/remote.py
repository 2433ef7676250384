"""Exec and attach: what one of them is, and how its client hears of its end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import status
from hypercontainer.hyperd.http.carry import Client, attend
from hypercontainer.hyperd.http.errors import ours
from hypercontainer.hyperd.http.framing import Resize
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.api import Session

MAX_RESIZE = 1024  # bytes of a terminal's size


@dataclass(frozen=True, kw_only=True)
class Remote:
    """An exec, or an attach, that a client may come for. `start` makes its session once the client is there."""

    verb: str  # "exec" or "attach"
    start: Callable[[], Awaitable[Session]]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    def ended(self, number: int, reason: str) -> bytes:
        """A metav1.Status. An attach has gone well however the process ended: its status is the container's."""
        return status.exited(number, reason) if self.verb == "exec" else status.success()

    def ended_in_words(self, number: int, reason: str) -> str:
        return status.words(number, reason) if self.verb == "exec" else ""


class Size(msgspec.Struct, frozen=True, rename="pascal"):
    width: int
    height: int


def resize(data: bytes) -> Resize | None:
    """The size of a client's terminal; None of one that has none. InvalidInput for what is no size."""
    try:
        size = msgspec.json.decode(data[:MAX_RESIZE], type=Size)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidInput(f"cannot read the size of a terminal: {e}") from e
    if not (0 <= size.width <= 65535 and 0 <= size.height <= 65535):
        raise InvalidInput(f"cannot have a terminal of {size.height} lines and {size.width} columns")
    return Resize(size.height, size.width) if size.width and size.height else None


async def serve(client: Client, wanted: Remote) -> None:
    """Start it and carry what is said, until it ends or its client goes."""
    try:
        session = await _started(wanted)
    except asyncio.CancelledError as e:
        await client.fail(ours(e))
        raise
    except Exception as e:
        await client.fail(ours(e))
        return
    await attend(client, session, stdin=wanted.stdin)


async def _started(wanted: Remote) -> Session:
    """Its session; let go when the caller is cancelled meanwhile."""
    starting = asyncio.ensure_future(wanted.start())
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await uninterrupted(_let_go(starting))
        raise


async def _let_go(starting: "asyncio.Future[Session]") -> None:
    with suppress(Exception):  # it has not begun
        await (await starting).detach()
