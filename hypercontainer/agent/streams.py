"""One stream of bytes in one direction, as docs/wire.md section 3 says: offsets, credit, acknowledgements.

`Sender` and `Receiver` know no socket and no clock; `InputStream` and `OutputStream` are what callers hold.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from hypercontainer.agent.wire import MAX_OFFSET, MAX_PAYLOAD, WINDOW, Kind, WireError, encode
from hypercontainer.errors import HyperError

Failure = Callable[[], HyperError]


class Source(Protocol):
    """What has frames to send, now and then."""

    def next_frame(self) -> bytes | None: ...


class Owner(Protocol):
    """Who writes a stream's frames to the socket."""

    def ready(self, stream: Source) -> None:
        """`stream.next_frame()` may have something new."""


def _nobody() -> None:
    pass


class Sender:
    """Keeps every byte until it is acknowledged, and sends no more than the peer has room for.

    `changed` is called when those who wait for room, for the end or for a failure should look again.
    """

    def __init__(self, number: int, owner: Owner, *, offset: int = 0, held: bool = False) -> None:
        self.number = number
        self.held = held  # until the peer has said where to continue
        self.acknowledged = offset  # bytes; EOF's place is not counted
        self.finished = False  # EOF has been acknowledged too
        self.ended = self.stopped = False
        self.failure: Failure | None = None
        self.changed: Callable[[], None] = _nobody
        self._owner = owner
        self._kept = bytearray()  # from `acknowledged` on
        self._sent = offset  # on this connection; `length` + 1 with EOF
        self._furthest = offset  # the same, on any connection

    @property
    def length(self) -> int:
        """Bytes given since the stream began."""
        return self.acknowledged + len(self._kept)

    @property
    def room(self) -> int:
        """Bytes that may be given before more than a window is kept."""
        return max(0, WINDOW - len(self._kept))

    def give(self, data: bytes | bytearray | memoryview) -> None:
        """Take `data`, whatever the room: who gives more than that bounds it himself."""
        if not self.stopped:
            self._kept += data
            self._owner.ready(self)

    def end(self) -> None:
        """EOF after what was given."""
        self.ended = True
        self._owner.ready(self)

    def next_frame(self) -> bytes | None:
        """The next frame to write; None when there is none, or no credit."""
        at = self._sent - self.acknowledged
        if self.held or self.stopped or at >= WINDOW:
            return None
        size = min(WINDOW - at, MAX_PAYLOAD, len(self._kept) - at)
        if size <= 0 and not (self.ended and size == 0):
            return None
        offset = self._sent
        self._sent += max(size, 1)
        self._furthest = max(self._furthest, self._sent)
        if size == 0:
            return encode(Kind.EOF, self.number, offset)
        with memoryview(self._kept) as kept:
            return encode(Kind.DATA, self.number, offset, kept[at : at + size])

    def take_ack(self, offset: int) -> None:
        """All before `offset` has been consumed. The first one on a connection also says: continue here."""
        if self.stopped or offset > self._furthest:  # what an earlier connection carried counts as sent
            return
        self.finished |= offset > self.length
        if (size := min(offset, self.length) - self.acknowledged) > 0:
            del self._kept[:size]
            self.acknowledged += size
        if self.held:
            self.held = False
            self._sent = 0
        self._sent = max(self._sent, self.acknowledged + self.finished)
        self._owner.ready(self)
        self.changed()

    def take_stop(self) -> None:
        """Nobody reads: drop what is kept and whatever will be given."""
        self.stopped = True
        self._kept.clear()
        self.changed()

    def hold(self) -> None:
        """The connection broke: nothing is sent until the peer's ACK says where to continue."""
        self.held = True

    def release(self) -> None:
        """The peer is known to stand where the stream begins."""
        self.held = False
        self._owner.ready(self)

    def fail(self, failure: Failure) -> None:
        self.failure = failure
        self.changed()


class Receiver:
    """Takes a stream in order, without a gap, and never holds more than a window.

    `resumed`: the stream is older than this session, so its first frame may lie beyond `offset` (it was
    acknowledged before); `missed` then counts what is not sent again.
    """

    def __init__(self, number: int, owner: Owner, *, offset: int = 0, resumed: bool = False) -> None:
        self.number = number
        self.received = self.consumed = offset
        self.missed = 0
        self.end: int | None = None  # where EOF is
        self.stopped = False
        self.failure: Failure | None = None
        self.changed: Callable[[], None] = _nobody
        self._owner = owner
        self._may_skip = resumed
        self._acknowledged = offset
        self._kept = bytearray()  # received and not taken yet
        self._due = False  # an ACK, or a STOP

    def take_data(self, offset: int, payload: bytes) -> None:
        """DATA has come. WireError if it is out of order, after EOF, or more than the credit."""
        if self.stopped:
            return
        self._place(offset)
        end = offset + len(payload)
        if end <= self.received:
            return
        if self.end is not None or end > self._acknowledged + WINDOW or end >= MAX_OFFSET:
            raise WireError(f"the guest's agent sent bytes up to {end} on stream {self.number}: more than it may")
        self._kept += payload[self.received - offset :] if offset < self.received else payload
        self.received = end
        self.changed()

    def take_eof(self, offset: int) -> None:
        """EOF has come. WireError if it is not where the bytes end."""
        if self.stopped:
            return
        self._place(offset)
        if offset != self.received:
            raise WireError(f"the guest's agent ended stream {self.number} at {offset}, after {self.received} bytes")
        self.end = offset
        self.changed()

    def _place(self, offset: int) -> None:
        if offset > self.received and self._may_skip:
            self.missed = offset - self.received
            self.received = self.consumed = self._acknowledged = offset
        if offset > self.received:
            raise WireError(f"the guest's agent left out bytes {self.received} to {offset} of stream {self.number}")
        self._may_skip = False

    def take(self) -> bytes:
        """What has come and was not taken before; b"" if nothing."""
        data = bytes(self._kept)
        self._kept.clear()
        return data

    def consume(self, count: int) -> None:
        """`count` more bytes of those taken need not be sent again, whoever dies now."""
        if not 0 <= count <= self.received - len(self._kept) - self.consumed:
            raise ValueError(f"stream {self.number}: {count} bytes consumed that were not read")
        self.consumed += count
        unsaid = self.consumed - self._acknowledged
        if unsaid >= WINDOW // 4 or (unsaid and self.consumed == self.received):
            self.announce()

    def announce(self) -> None:
        """Say how far we are: after HELLO, and when enough has been consumed."""
        self._due = True
        self._owner.ready(self)

    def stop(self) -> None:
        """Nobody reads any more: whatever comes is dropped."""
        self.stopped = True
        self._kept.clear()
        self.announce()
        self.changed()

    def next_frame(self) -> bytes | None:
        if not self._due:
            return None
        self._due = False
        if self.stopped:
            return encode(Kind.STOP, self.number, 0)
        self._acknowledged = max(self._acknowledged, self.consumed)
        return encode(Kind.ACK, self.number, self.consumed)

    def fail(self, failure: Failure) -> None:
        self.failure = failure
        self.changed()


class OutputStream:
    """What a process in the guest writes. One reader at a time.

    Bytes are sent again to whoever resumes the stream until `consumed` has been told of them; at most 256 KiB wait
    here, then the process in the guest does.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._news = asyncio.Event()
        receiver.changed = self._news.set

    @property
    def offset(self) -> int:
        """Of the first byte that `consumed` has not been told of."""
        return self._receiver.consumed

    @property
    def missed(self) -> int:
        """Bytes between the offset that was asked for and the first one that the guest still had."""
        return self._receiver.missed

    async def read(self) -> bytes:
        """The next bytes, at most 256 KiB; b"" is EOF, or a stream that was stopped.

        Raises what the client's calls raise when the guest is gone, after what had come."""
        while (data := self.ready()) is None:
            self._news.clear()
            await self._news.wait()
        return data

    def ready(self) -> bytes | None:
        """`read`, for who does not wait: None if nothing has come."""
        receiver = self._receiver
        if data := receiver.take():
            return data
        if receiver.stopped or receiver.end is not None:
            return b""
        if receiver.failure:
            raise receiver.failure()
        return None

    def tell(self, news: asyncio.Event) -> None:
        """Set `news`, which may be that of other streams too, whenever there is something to be had."""
        self._news = news
        self._receiver.changed = news.set
        news.set()

    def consumed(self, count: int) -> None:
        """`count` more of the bytes read are safe: the guest may forget them."""
        self._receiver.consume(count)

    def stop(self) -> None:
        """Nobody reads on: the guest discards what it has and what will come."""
        self._receiver.stop()


class InputStream:
    """What a process in the guest reads."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._news = asyncio.Event()
        sender.changed = self._news.set

    async def write(self, data: bytes) -> None:
        """Take all of `data`, waiting while 256 KiB are not consumed yet. BrokenPipeError: nobody reads."""
        rest = memoryview(data)
        while rest:
            self._check()
            if room := self._sender.room:
                self._sender.give(rest[:room])
                rest = rest[room:]
            else:
                await self._wait()

    def close(self) -> None:
        """EOF: the process reads the end after what was written. Again does nothing."""
        self._sender.end()

    async def drained(self) -> None:
        """Wait until the guest has consumed all that was written, and EOF if the stream was closed.

        BrokenPipeError: nobody reads, and nobody knows how far somebody did."""
        sender = self._sender
        while sender.stopped or sender.room < WINDOW or (sender.ended and not sender.finished):
            self._check(closed_is_fine=True)
            await self._wait()

    @property
    def length(self) -> int:
        """Bytes written since the stream began, by hyperds before this one too."""
        return self._sender.length

    @property
    def consumed(self) -> int:
        """Of those, how many the guest has, whoever dies now."""
        return self._sender.acknowledged

    async def moved(self, since: int) -> bool:
        """Wait until more than `since` bytes are consumed. False: no more will be."""
        sender = self._sender
        while sender.acknowledged <= since:
            if sender.finished or sender.stopped or sender.failure:
                return False
            await self._wait()
        return True

    async def over(self) -> bool:
        """Wait until nothing that is written would be read: all was, EOF too, or nobody reads. False: the guest is
        gone."""
        sender = self._sender
        while not (sender.finished or sender.stopped or sender.failure):
            await self._wait()
        return sender.failure is None

    def _check(self, *, closed_is_fine: bool = False) -> None:
        if self._sender.stopped or (self._sender.ended and not closed_is_fine):
            raise BrokenPipeError(f"stream {self._sender.number}: nobody reads it")
        if self._sender.failure:
            raise self._sender.failure()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()
