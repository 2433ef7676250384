"""What a client has said, until its session takes it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypercontainer.hyperd.http.framing import Control, Word

WINDOW = 1 << 18  # bytes that wait for a slow session
CONTROL_COST = 1024  # what a word that is no stdin counts for in the window
SMALL = 512  # bytes up to which pieces are joined as they come: a piece takes more memory than its bytes


def nothing(size: int) -> None:
    """Nobody is told that so much was taken."""


@dataclass(eq=False)
class Inbox:
    """A client's words in the order they came. Whoever puts them in keeps `waiting` within bounds, and is told by
    `taken` of each part that the session has taken."""

    taken: Callable[[int], None] = nothing
    stdin: deque[bytes | None] = field(default_factory=deque)  # None: its end
    controls: deque[Control] = field(default_factory=deque)
    waiting: int = 0  # bytes in the two
    broken: Exception | None = None  # why no more will come
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _steered: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, word: Word) -> None:
        if isinstance(word, bytes):
            if word:
                last = self.stdin[-1] if self.stdin else None
                if last and len(last) + len(word) <= SMALL:
                    self.stdin[-1] = last + word
                else:
                    self.stdin.append(word)
                self.waiting += len(word)
                self._came.set()
        elif word is None:
            if not (self.stdin and self.stdin[-1] is None):
                self.stdin.append(None)
                self._came.set()
        else:
            self.controls.append(word)
            self.waiting += CONTROL_COST
            self._steered.set()

    def end(self, why: Exception) -> None:
        """No more comes: who has taken all hears why. The first reason holds."""
        self.broken = self.broken or why
        self._came.set()
        self._steered.set()

    async def next_stdin(self) -> bytes | None:
        """What came for stdin, small pieces joined; None at its end, which comes once."""
        while not self.stdin:
            if self.broken:
                raise self.broken
            self._came.clear()
            await self._came.wait()
        if self.stdin[0] is None:
            self.stdin.popleft()
            return None
        parts = []
        while self.stdin and (part := self.stdin[0]) is not None:
            parts.append(part)
            self.stdin.popleft()
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        self._took(len(data))
        return data

    async def next_control(self) -> Control:
        while not self.controls:
            if self.broken:
                raise self.broken
            self._steered.clear()
            await self._steered.wait()
        self._took(CONTROL_COST)
        return self.controls.popleft()

    def _took(self, size: int) -> None:
        self.waiting -= size
        self.taken(size)

    def clear(self) -> None:
        """Nobody takes what waits."""
        self.stdin.clear()
        self.controls.clear()
        self.waiting = 0
