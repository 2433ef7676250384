"""Sender and Receiver against each other, the connection broken anywhere: every byte once, in order."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hypercontainer.agent.streams import InputStream, OutputStream, Receiver, Sender, Source
from hypercontainer.agent.wire import HEADER, MAX_OFFSET, MAX_PAYLOAD, WINDOW, Frame, Kind, WireError
from hypercontainer.errors import GuestDied


class Nobody:
    def ready(self, stream: Source) -> None:
        pass


def sender(**options: object) -> Sender:
    return Sender(5, Nobody(), **options)  # type: ignore[arg-type]


def receiver(**options: object) -> Receiver:
    return Receiver(5, Nobody(), **options)  # type: ignore[arg-type]


def parsed(data: bytes) -> Frame:
    kind, _, length, stream, offset = HEADER.unpack_from(data)
    return Frame(kind, stream, offset, data[HEADER.size : HEADER.size + length])


def drained(source: Source) -> list[Frame]:
    frames = []
    while (data := source.next_frame()) is not None:
        frames.append(parsed(data))
    return frames


class Conversation(RuleBasedStateMachine):
    """One stream over connections that break with frames under way, and over new sessions of its receiver."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.receiver = sender(), receiver()
        self.wire: list[Frame] = []  # to the receiver
        self.back: list[Frame] = []  # to the sender
        self.given, self.taken, self.log = bytearray(), bytearray(), bytearray()
        self.unread = 0

    @rule(size=st.one_of(st.integers(1, 100), st.integers(1, 2 * WINDOW)))
    @precondition(lambda self: not self.sender.ended)
    def give(self, size: int) -> None:
        size = min(size, self.sender.room)
        data = bytes((len(self.given) + i) * 7 & 0xFF for i in range(size))
        self.given += data
        self.sender.give(data)

    @rule()
    def end(self) -> None:
        self.sender.end()

    @rule(count=st.integers(1, 20))
    def send(self, count: int) -> None:
        for _ in range(count):
            if data := self.sender.next_frame():
                self.wire.append(parsed(data))

    @rule(count=st.integers(1, 20))
    def deliver(self, count: int) -> None:
        for frame in self.wire[:count]:
            if frame.kind == Kind.EOF:
                self.receiver.take_eof(frame.offset)
            else:
                self.receiver.take_data(frame.offset, frame.payload)
        del self.wire[:count]

    @rule()
    def take(self) -> None:
        self.taken += self.receiver.take()

    @rule(share=st.floats(0, 1))
    def consume(self, share: float) -> None:
        count = int((len(self.taken) - len(self.log)) * share + 0.5)
        self.log += self.taken[len(self.log) : len(self.log) + count]
        self.receiver.consume(count)

    @rule()
    def answer(self) -> None:
        self.back += drained(self.receiver)

    @rule()
    def deliver_answers(self) -> None:
        for frame in self.back:
            self.sender.take_ack(frame.offset)
        self.back.clear()

    @rule(new_session=st.booleans())
    def reconnect(self, new_session: bool) -> None:
        self.wire.clear()
        self.back.clear()
        self.sender.hold()
        if new_session:  # the receiver's process died: it knows its log, nothing else
            self.receiver = receiver(offset=len(self.log), resumed=True)
            self.taken = bytearray(self.log)
        self.receiver.announce()

    @invariant()
    def all_is_in_order(self) -> None:
        assert self.given.startswith(self.taken)
        assert self.receiver.missed == 0
        assert len(self.given) - self.sender.acknowledged <= WINDOW

    def teardown(self) -> None:
        """Left to itself, all arrives."""
        self.sender.end()
        self.reconnect(new_session=False)
        for _ in range(200):
            self.answer()
            self.deliver_answers()
            self.send(20)
            self.deliver(20)
            self.take()
            self.consume(1.0)
        assert self.log == self.given
        assert self.receiver.end == len(self.given)


TestConversation = Conversation.TestCase


def test_a_sender_stops_at_its_credit_and_goes_on_with_the_next_ack() -> None:
    stream = sender()
    stream.give(bytes(WINDOW + 1000))
    frames = drained(stream)
    assert [len(f.payload) for f in frames] == [MAX_PAYLOAD] * 8
    stream.take_ack(10)
    assert drained(stream) == [Frame(Kind.DATA, 5, WINDOW, bytes(10))]


def test_eof_waits_for_credit() -> None:
    stream = sender()
    stream.give(bytes(WINDOW))
    stream.end()
    assert {f.kind for f in drained(stream)} == {Kind.DATA}
    stream.take_ack(1)
    assert drained(stream) == [Frame(Kind.EOF, 5, WINDOW)]
    assert not stream.finished
    stream.take_ack(WINDOW + 1)
    assert stream.finished


def test_an_ack_beyond_what_was_sent_is_ignored_and_so_is_an_old_one() -> None:
    stream = sender()
    stream.give(bytes(100))
    drained(stream)
    for offset in (101, MAX_OFFSET, 50, 20):
        stream.take_ack(offset)
    assert (stream.acknowledged, stream.room) == (50, WINDOW - 50)


def test_what_an_earlier_connection_carried_may_be_acknowledged() -> None:
    stream = sender()
    stream.give(bytes(100_000))
    drained(stream)
    stream.hold()
    stream.take_ack(10)
    stream.next_frame()
    stream.take_ack(90_000)  # the peer had received that before the break
    assert drained(stream) == [Frame(Kind.DATA, 5, 90_000, bytes(10_000))]


def test_a_held_sender_says_nothing() -> None:
    stream = sender(held=True)
    stream.give(b"x")
    stream.end()
    assert drained(stream) == []
    stream.release()
    assert [f.kind for f in drained(stream)] == [Kind.DATA, Kind.EOF]


@pytest.mark.parametrize(
    "do",
    [
        lambda r: [r.take_data(MAX_PAYLOAD * i, bytes(MAX_PAYLOAD)) for i in range(9)],
        lambda r: r.take_data(1, b"x"),
        lambda r: r.take_eof(1),
        lambda r: r.take_data(0, b"xy") or r.take_eof(1),
        lambda r: r.take_eof(0) or r.take_data(0, b"x"),
        lambda r: r.take_eof(0) or r.take_eof(1),
        lambda r: r.take_data(MAX_OFFSET, b"x"),
    ],
    ids=["beyond the window", "a gap", "EOF after a gap", "EOF early", "after EOF", "two ends", "the last offset"],
)  # fmt: skip
def test_a_receiver_refuses(do: Callable[[Receiver], object]) -> None:
    with pytest.raises(WireError, match="stream 5"):
        do(receiver())


def test_a_resumed_receiver_says_what_the_guest_had_forgotten() -> None:
    stream = receiver(offset=100, resumed=True)
    stream.take_data(150, b"abc")
    assert (stream.missed, stream.take()) == (50, b"abc")
    stream.consume(3)
    assert drained(stream) == [Frame(Kind.ACK, 5, 153)]
    with pytest.raises(WireError, match="left out"):
        stream.take_data(200, b"x")


def test_a_resumed_receiver_cannot_be_sent_to_the_end_of_numbers() -> None:
    stream = receiver(resumed=True)
    with pytest.raises(WireError):
        stream.take_data(MAX_OFFSET - 1, b"xyz")


def test_many_small_frames_take_no_more_room_than_their_bytes() -> None:
    stream = receiver()
    for i in range(10_000):
        stream.take_data(i, b"x")
    assert stream.take() == b"x" * 10_000


def test_acks_come_by_the_quarter_window_or_when_all_is_consumed() -> None:
    stream = receiver()
    stream.take_data(0, bytes(MAX_PAYLOAD))
    stream.take_data(MAX_PAYLOAD, bytes(MAX_PAYLOAD))
    stream.take_data(2 * MAX_PAYLOAD, bytes(100))
    stream.take()
    stream.consume(MAX_PAYLOAD)
    assert drained(stream) == []
    stream.consume(MAX_PAYLOAD)
    assert drained(stream) == [Frame(Kind.ACK, 5, 2 * MAX_PAYLOAD)]
    stream.consume(100)
    assert drained(stream) == [Frame(Kind.ACK, 5, 2 * MAX_PAYLOAD + 100)]
    with pytest.raises(ValueError, match="not read"):
        stream.consume(1)


def test_a_stop_is_said_again_on_the_next_connection() -> None:
    stream = receiver()
    stream.take_data(0, b"x")
    stream.stop()
    assert drained(stream) == [Frame(Kind.STOP, 5, 0)]
    stream.take_data(77, bytes(100))
    assert stream.take() == b""
    stream.announce()
    assert drained(stream) == [Frame(Kind.STOP, 5, 0)]


async def test_a_writer_waits_for_room_and_meets_a_broken_pipe_after_stop() -> None:
    end = sender()
    stream = InputStream(end)
    writing = asyncio.create_task(stream.write(bytes(WINDOW + 1)))
    await asyncio.sleep(0)
    assert not writing.done()
    drained(end)
    end.take_ack(1)
    await writing
    end.take_stop()
    with pytest.raises(BrokenPipeError):
        await stream.write(b"x")
    with pytest.raises(BrokenPipeError):
        await stream.drained()


async def test_drained_is_when_all_was_consumed_eof_too() -> None:
    end = sender()
    stream = InputStream(end)
    await stream.drained()
    await stream.write(b"abc")
    stream.close()
    waiting = asyncio.create_task(stream.drained())
    drained(end)
    end.take_ack(3)
    await asyncio.sleep(0)
    assert not waiting.done()
    end.take_ack(4)
    await waiting
    with pytest.raises(BrokenPipeError):
        await stream.write(b"x")


async def test_a_reader_gets_what_had_come_before_the_failure() -> None:
    end = receiver()
    stream = OutputStream(end)
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    end.take_data(0, b"last words")
    end.fail(lambda: GuestDied("it died"))
    assert await reading == b"last words"
    stream.consumed(10)
    assert stream.offset == 10
    with pytest.raises(GuestDied):
        await stream.read()


async def test_a_stopped_stream_ends_for_its_reader() -> None:
    stream = OutputStream(receiver())
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.stop()
    assert await reading == b""
