"""What lists tell, made once; answers that leave in one piece."""

import asyncio

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.gathered import Gathered
from hypercontainer.hyperd.cri.told import SPARE, Told


class Things:
    """Names, each a pod's id."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.made: list[str] = []
        self.told = Told(lambda: self.there, self.found, lambda thing: thing, self.make)

    async def found(self) -> list[str]:
        return self.there

    def make(self, thing: str) -> pb.ListPodSandboxResponse:
        self.made.append(thing)
        return pb.ListPodSandboxResponse(items=[pb.PodSandbox(id=thing)])

    async def all(self, *there: str) -> list[str]:
        self.there = list(there)
        return ids(await self.told.all())


def ids(answer: bytes) -> list[str]:
    return [each.id for each in pb.ListPodSandboxResponse.FromString(answer).items]


async def test_what_has_not_changed_is_not_made_again() -> None:
    things = Things()
    assert await things.all() == []
    assert await things.all("b", "a") == ["b", "a"] and sorted(things.made) == ["a", "b"]
    assert await things.all("a", "c") == ["a", "c"] and len(things.made) == 3
    assert ids(await things.told.matching(lambda thing: thing > "b")) == ["c"] and len(things.made) == 3
    for n in range(2 * SPARE):
        await things.all(str(n))
    assert await things.all("a") == ["a"] and things.made[-1] == "a"  # it had been forgotten


async def test_what_changes_while_it_is_looked_at_is_told_as_it_is_then() -> None:
    things = Things()
    things.there = ["a"]
    things.told = Told(lambda: ["gone", "a"], things.found, lambda thing: thing, things.make)
    assert ids(await things.told.all()) == ids(await things.told.matching(bool)) == ["a"]


class Pieces(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"socket": 5})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_what_is_written_in_a_turn_leaves_in_one_piece() -> None:
    below = Pieces()
    gathered = Gathered(below)
    for piece in (b"head", b"message", b"end"):
        gathered.write(piece)
    assert below.written == []
    await asyncio.sleep(0)
    assert below.written == [b"headmessageend"]
    gathered.write(b"last words")
    gathered.close()
    await asyncio.sleep(0)
    assert below.written[1:] == [b"last words"] and gathered.is_closing() and below.closed
    assert gathered.get_extra_info("socket") == 5
