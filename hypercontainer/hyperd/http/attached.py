"""A client at the streams of a container that others may come to after it."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal

from hypercontainer.lib.trace import Step
from hypercontainer.model.api import Session


class Attached:
    """A session with a container, with the rules for stdin that docker has, and Kubernetes from there: the end of a
    client's input is the end of stdin only of a container that takes one client's (`once`); and there a client that
    goes ends it, too."""

    def __init__(self, session: Session, *, once: bool) -> None:
        self._session, self._once = session, once

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def timings(self) -> Sequence[Step]:
        return self._session.timings

    @property
    def reason(self) -> str:
        return self._session.reason

    def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        return self._session.__aiter__()

    async def write(self, data: bytes) -> None:
        await self._session.write(data)

    async def close_stdin(self) -> None:
        if self._once:
            await self._session.close_stdin()

    async def signal(self, number: int) -> None:
        await self._session.signal(number)

    async def resize(self, rows: int, columns: int) -> None:
        await self._session.resize(rows, columns)

    async def wait(self) -> int:
        return await self._session.wait()

    async def detach(self) -> None:
        try:
            await self.close_stdin()
        finally:
            await self._session.detach()
