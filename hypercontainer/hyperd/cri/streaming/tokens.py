"""Words by which a client may come for what was promised to it: once, and soon."""

import secrets
import time
from typing import Generic, TypeVar

from hypercontainer.errors import Exhausted

T = TypeVar("T")

LIFE_S = 60.0
MOST = 1000  # that wait for their clients at a time
BYTES = 24


class Tokens(Generic[T]):
    """What was promised, by a word that cannot be guessed."""

    def __init__(self) -> None:
        self._promised: dict[str, tuple[float, T]] = {}  # the oldest first, with the time at which it ends

    def issue(self, what: T) -> str:
        """Exhausted when too many wait."""
        self._expire()
        if len(self._promised) >= MOST:
            raise Exhausted(f"cannot promise a stream: {MOST} wait for their clients; each is forgotten in a minute")
        token = secrets.token_urlsafe(BYTES)
        self._promised[token] = (time.monotonic() + LIFE_S, what)
        return token

    def redeem(self, token: str) -> T | None:
        """None: it never was, was used, or is too old."""
        self._expire()
        _, what = self._promised.pop(token, (0.0, None))
        return what

    def _expire(self) -> None:
        now = time.monotonic()
        while self._promised and (oldest := next(iter(self._promised.items())))[1][0] <= now:
            del self._promised[oldest[0]]
