"""What lists tell, made once; answers that leave in one piece."""

import asyncio

from hypercontainer.hyperd.cri.gathered import Gathered
from hypercontainer.hyperd.cri.told import SPARE, Told


def test_what_has_not_changed_is_not_made_again() -> None:
    made: list[str] = []

    def make(thing: str) -> list[str]:
        made.append(thing)
        return [thing]

    told = Told(make, lambda thing: thing)
    assert told.of(["b", "a"]) == [["b"], ["a"]] and sorted(made) == ["a", "b"]
    assert told.of(["a", "c"]) == [["a"], ["c"]] and len(made) == 3
    for n in range(2 * SPARE):
        told.of([str(n)])
    assert told.of(["a"]) == [["a"]] and made[-1] == "a"  # it had been forgotten


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
