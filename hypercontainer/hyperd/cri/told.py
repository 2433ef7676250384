"""What a list tells of each thing. A kubelet asks for all of them every second, and nearly none has changed."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
M = TypeVar("M")

SPARE = 100  # messages of things that are gone, before those are forgotten


class Told(Generic[T, M]):
    """Messages as they were made last. `key` has all of a thing that can change, and what it is told from others by."""

    def __init__(self, make: Callable[[T], M], key: Callable[[T], Hashable]) -> None:
        self._make, self._key = make, key
        self._last: dict[Hashable, M] = {}

    def of(self, things: Iterable[T]) -> list[M]:
        """`things` are all that there are."""
        there = {self._key(each): each for each in things}
        if len(self._last) > 2 * len(there) + SPARE:
            self._last = {key: message for key, message in self._last.items() if key in there}
        for key in there.keys() - self._last.keys():
            self._last[key] = self._make(there[key])
        return [self._last[key] for key in there]
