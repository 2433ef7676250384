"""What every kind of sink must do: a suite to inherit from, with two fixtures of your own.

    class TestMySink(SinkContract): ...

`make`, which gives a sink as a hyperd has it that has just come: the same place each time; `taken`, which returns what
is there of stdout and of stderr. Of a kind that keeps nothing, `make` gives one of which nothing is asked after a
restart.
"""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from hypercontainer.sandbox.sink import Sink

Make = Callable[[], Sink]
Taken = Callable[[], tuple[bytes, bytes]]

DATA = b"".join(b"line %d\n" % n if n % 3 else b"a part %d, " % n for n in range(1000))
CHUNK = 37  # bytes of DATA a write
ROUNDS = 8


async def give(sink: Sink, stream: int, data: bytes) -> None:
    await sink.write(stream, data, 1_475_712_557_669_794_202)


class SinkContract:
    more = 8  # writes that may go on while the process is killed; 0 for a kind that may repeat the one it is killed in

    async def test_each_stream_is_there_in_order(self, make: Make, taken: Taken) -> None:
        sink = make()
        sink.open(1)
        for stream, data in ((1, b"one\ntw"), (2, b"error\n"), (1, b"o\n\n\xff\r\n"), (1, b"no end"), (2, b"\n")):
            await give(sink, stream, data)
        sink.close()
        assert taken() == (b"one\ntwo\n\n\xff\r\nno end", b"error\n\n")

    async def test_a_run_goes_on_where_it_was_and_another_begins(self, make: Make, taken: Taken) -> None:
        sink = make()
        if sink.open(1) is None:
            pytest.skip("it keeps nothing")
        assert sink.offsets == (0, 0)
        await give(sink, 1, b"12345")
        await give(sink, 2, b"678\n")
        assert sink.offsets == (5, 4)
        sink.close()
        sink.close()
        again = make()
        assert again.open(1) == again.offsets == (5, 4)
        await give(again, 1, b"6\n")
        again.close()
        assert make().open(1) == (7, 4)
        other = make()
        assert other.open(2) == (0, 0)
        await give(other, 1, b"second\n")
        other.close()
        assert taken() == (b"123456\nsecond\n", b"678\n")

    async def test_a_run_may_begin_in_the_middle_of_its_streams(self, make: Make, taken: Taken) -> None:
        sink = make()
        sink.begin(3, (1000, 7))
        if sink.offsets is None:
            pytest.skip("it keeps nothing")
        assert sink.offsets == (1000, 7)
        sink.close()
        again = make()
        assert again.open(3) == (1000, 7)
        await give(again, 2, b"after\n")
        again.close()
        assert make().open(3) == (1000, 13)
        assert taken() == (b"", b"after\n")

    def test_nothing_is_lost_or_there_twice_after_a_sigkill(self, make: Make, taken: Taken) -> None:
        """Of the process that writes, at any moment, again and again."""
        if make().open(1) is None:
            pytest.skip("it keeps nothing")
        for n in range(ROUNDS):
            self._killed(make, 3 + n)
        sink = make()
        offsets = sink.open(1)
        assert offsets
        assert offsets[0] >= sum(3 + n for n in range(ROUNDS)) * CHUNK
        asyncio.run(give(sink, 1, DATA[offsets[0] :]))
        sink.close()
        assert taken() == (DATA, b"")

    def _killed(self, make: Make, writes: int) -> None:
        """A process that goes on with DATA, and is killed after so many writes or a little later."""
        mine, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_write(make(), theirs, writes + self.more))
            finally:
                os._exit(1)
        os.close(theirs)
        for _ in range(writes):
            assert os.read(mine, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(mine)


async def _write(sink: Sink, done: int, most: int) -> None:
    offsets = sink.open(1)
    assert offsets
    for at in range(offsets[0], offsets[0] + most * CHUNK, CHUNK):
        await give(sink, 1, DATA[at : at + CHUNK])
        os.write(done, b".")
    signal.pause()
