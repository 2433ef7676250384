"""What a list tells of each thing. A kubelet asks for all of them every second, and nearly none has changed."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from google.protobuf.message import Message

T = TypeVar("T")

SPARE = 100  # of things that are gone, before those are forgotten


class Told(Generic[T]):
    """Answers, of pieces as they were made last: what messages of protobuf are in bytes, one after the other, is a
    message that has all of both. `now` tells the keys of all that there are: a key has all of a thing that can change,
    and what it is told from others by. `make` makes the answer of a list with nothing else."""

    def __init__(
        self,
        now: Callable[[], Iterable[Hashable]],
        found: Callable[[], Awaitable[Sequence[T]]],
        key: Callable[[T], Hashable],
        make: Callable[[T], Message],
    ) -> None:
        self._now, self._found, self._key, self._make = now, found, key, make
        self._last: dict[Hashable, tuple[T, bytes]] = {}
        self._keys: list[Hashable] = []
        self._whole = b""  # of these keys

    async def all(self) -> bytes:
        if (keys := list(self._now())) != self._keys:
            self._keys = await self._known(keys)
            self._whole = b"".join([self._last[key][1] for key in self._keys])
        return self._whole

    async def matching(self, wanted: Callable[[T], bool]) -> bytes:
        kept = [self._last[key] for key in await self._known(list(self._now()))]
        return b"".join([piece for thing, piece in kept if wanted(thing)])

    async def _known(self, keys: list[Hashable]) -> list[Hashable]:
        """`keys`, or those of right now where a piece of them is missing; of these none is."""
        last = self._last
        if any(key not in last for key in keys):
            there = {self._key(each): each for each in await self._found()}
            if len(last) > 2 * len(there) + SPARE:
                last = self._last = {key: kept for key, kept in last.items() if key in there}
            for key in there.keys() - last.keys():
                last[key] = there[key], self._make(there[key]).SerializeToString()
            keys = list(there)
        return keys
