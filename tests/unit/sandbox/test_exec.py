"""What an exec says on its way to its caller: in order, held up by him alone, and without anything made for it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hypercontainer.agent.streams import OutputStream, Receiver, Source
from hypercontainer.agent.wire import WINDOW, WireError
from hypercontainer.errors import GuestDied
from hypercontainer.sandbox import exec as execs
from hypercontainer.sandbox.exec import Exec, ExecSession

LIMIT_S = 60


class Said:
    """Both streams of an exec, and how far the guest was told that they are taken."""

    def __init__(self) -> None:
        self.receivers = [Receiver(number, self) for number in (1, 2)]
        self.frames: list[bytes] = []
        outputs = [(kind, OutputStream(receiver)) for kind, receiver in zip((1, 2), self.receivers, strict=True)]
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.session = ExecSession(cast("Exec", SimpleNamespace(outputs=outputs, exit=self.exit)))

    def ready(self, stream: Source) -> None:
        if frame := stream.next_frame():
            self.frames.append(frame)

    def say(self, kind: int, data: bytes) -> None:
        receiver = self.receivers[kind - 1]
        receiver.take_data(receiver.received, data)

    def end(self, *kinds: int) -> None:
        for kind in kinds:
            self.receivers[kind - 1].take_eof(self.receivers[kind - 1].received)


async def test_both_streams_come_to_their_ends_and_nobody_runs_for_them() -> None:
    said = Said()
    said.say(1, b"a")
    running = asyncio.all_tasks()
    async with asyncio.timeout(LIMIT_S):
        pieces = said.session.__aiter__()
        assert await anext(pieces) == (1, b"a")
        assert asyncio.all_tasks() == running
        for kind, data in ((2, b"b"), (1, b"c"), (1, b"d")):
            said.say(kind, data)
        assert await anext(pieces) == (2, b"b")
        assert await anext(pieces) == (1, b"cd")
        said.end(1)
        said.say(2, b"e")
        said.end(2)
        assert [piece async for piece in pieces] == [(2, b"e")]


async def test_a_caller_who_takes_nothing_holds_the_process_up() -> None:
    said = Said()
    async with asyncio.timeout(LIMIT_S):
        pieces = said.session.__aiter__()
        for _ in range(2):
            said.say(1, bytes(WINDOW // 2))
        assert await anext(pieces) == (1, bytes(WINDOW))
        assert said.frames == []
        with pytest.raises(WireError, match="more than it may"):
            said.say(1, b"x")
        said.say(2, b"y")
        assert await anext(pieces) == (2, b"y")
        assert len(said.frames) == 1
        said.say(1, b"x")
        said.end(1, 2)
        assert [piece async for piece in pieces] == [(1, b"x")]


async def test_silence_after_its_end_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    pieces = said.session.__aiter__()
    heard: Any = asyncio.ensure_future(anext(pieces))
    async with asyncio.timeout(LIMIT_S):
        said.exit.set_result(0)
        said.say(1, b"last words")
        assert await heard == (1, b"last words")
        monkeypatch.setattr(execs, "LINGER_S", 0.01)
        assert [piece async for piece in pieces] == []


async def test_what_had_come_before_the_guest_died_is_had() -> None:
    said = Said()
    said.say(1, b"a")
    for receiver in said.receivers:
        receiver.fail(lambda: GuestDied("it is gone"))
    async with asyncio.timeout(LIMIT_S):
        assert [piece async for piece in said.session] == [(1, b"a")]
