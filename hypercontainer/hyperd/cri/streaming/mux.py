"""The streams of one SPDY connection as its server sees them: which are open, and how much each end may send. No socket
here.

A client that is spdystream (kubelets, kubectl, crictl) knows no flow control: it tells of no window and asks for none.
What is sent to such a one waits for TCP alone; the windows of one that has told of them are kept from then on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import spdy

WINDOW = 1 << 16  # bytes of a stream, and of all, that either end takes unasked
SESSION_WINDOW = 1 << 20  # of all, that we take: one stream that is stuck leaves the others room
MAX_WINDOW = (1 << 31) - 1
MAX_STREAMS = 256  # at a time

PROTOCOL_ERROR, REFUSED, CANCEL = 1, 3, 5  # statuses of RST_STREAM


class Opened(NamedTuple):
    """The client has opened a stream."""

    stream: int
    headers: dict[str, str]


class Came(NamedTuple):
    """Data of a stream."""

    stream: int
    data: bytes


class Ended(NamedTuple):
    """The client says no more in a stream."""

    stream: int


class Aborted(NamedTuple):
    """The client wants to hear no more of a stream."""

    stream: int


class Roomier(NamedTuple):
    """More may be sent than before."""


Event = Opened | Came | Ended | Aborted | Roomier


@dataclass
class _Stream:
    window: int  # bytes that we may send
    untold: int = 0  # bytes that were taken, and the client has not been told yet
    ended_by_client: bool = False
    ended: bool = False  # by us


class Mux:
    """`out`: what is to be sent, in order."""

    def __init__(self) -> None:
        self._decoder, self._encoder = spdy.Decoder(), spdy.Encoder()
        self._streams: dict[int, _Stream] = {}
        self._last = 0  # the newest stream
        self._initial = WINDOW  # of a stream, to the client
        self._session = WINDOW  # of all, likewise
        self._untold = 0
        self._controlled = False  # the client has told of windows
        self.out = bytearray()
        self._send(spdy.Window(0, SESSION_WINDOW - WINDOW))

    # what the client says

    def receive(self, data: bytes) -> Iterator[Event]:
        """InvalidInput for what no client may say: the connection has ended then, and `out` says so to it."""
        try:
            for frame in self._decoder.feed(data):
                yield from self._take(frame)
        except InvalidInput:
            self.go_away(PROTOCOL_ERROR)
            raise

    def _take(self, frame: spdy.Frame) -> Iterator[Event]:
        match frame:
            case spdy.Open():
                yield from self._open(frame)
            case spdy.Data():
                yield from self._data(frame)
            case spdy.Reset(stream, _):
                if self._streams.pop(stream, None):
                    yield Aborted(stream)
            case spdy.Ping(number):
                if number % 2:  # else it is the answer to one of ours, and there are none
                    self._send(frame)
            case spdy.Window(stream, more):
                self._grow(stream, more)
                yield Roomier()
            case spdy.Settings(values) if spdy.WINDOW_SETTING in values:
                self._resize(values[spdy.WINDOW_SETTING])
                yield Roomier()
            case spdy.Headers(stream, _, True):
                yield from self._end_by_client(stream)

    def _open(self, frame: spdy.Open) -> Iterator[Event]:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            raise InvalidInput(f"cannot open stream {frame.stream}: the one before is {self._last}")
        self._last = frame.stream
        if len(self._streams) >= MAX_STREAMS:
            self._send(spdy.Reset(frame.stream, REFUSED))
            return
        self._streams[frame.stream] = _Stream(self._initial)
        yield Opened(frame.stream, frame.headers)
        if frame.fin:
            yield from self._end_by_client(frame.stream)

    def _data(self, frame: spdy.Data) -> Iterator[Event]:
        found = self._streams.get(frame.stream)
        if found is None or found.ended_by_client:  # it was on its way when we reset the stream
            self._taken_of_all(len(frame.data))
            return
        if frame.data:
            yield Came(frame.stream, frame.data)
        if frame.fin:
            yield from self._end_by_client(frame.stream)

    def _end_by_client(self, stream: int) -> Iterator[Event]:
        found = self._streams.get(stream)
        if found and not found.ended_by_client:
            found.ended_by_client = True
            self._forget(stream, found)
            yield Ended(stream)

    def _grow(self, stream: int, more: int) -> None:
        self._controlled = True
        found = self._streams.get(stream)
        if stream == 0:
            self._session += more
        elif found:
            found.window += more
        if max(self._session, found.window if found else 0) > MAX_WINDOW:
            raise InvalidInput(f"cannot make a window larger than {MAX_WINDOW} bytes")

    def _resize(self, size: int) -> None:
        """The window that streams have from the beginning, also of those that are open."""
        if size > MAX_WINDOW:
            raise InvalidInput(f"cannot make a window of {size} bytes: at most {MAX_WINDOW}")
        self._controlled = True
        for stream in self._streams.values():
            stream.window += size - self._initial
        self._initial = size

    # what we say

    def reply(self, stream: int) -> None:
        self._send(spdy.Reply(stream, {}))

    def refuse(self, stream: int, status: int) -> None:
        """Hear no more of it, and say no more."""
        if self._streams.pop(stream, None):
            self._send(spdy.Reset(stream, status))

    def has(self, stream: int) -> bool:
        """Whether anything may still be said in it, by either end."""
        return stream in self._streams

    def room(self, stream: int) -> int:
        """How many bytes may be sent in a stream now. BrokenPipeError: the client wants none, or we have ended it."""
        found = self._streams.get(stream)
        if found is None or found.ended:
            raise BrokenPipeError(f"stream {stream} is closed")
        if not self._controlled:
            return spdy.MAX_DATA
        return max(0, min(found.window, self._session))

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """No more than there is room for. `end`: with nothing behind it."""
        found = self._streams[stream]
        found.window -= len(data)
        self._session -= len(data)
        self._send(spdy.Data(stream, data, end))
        if end:
            found.ended = True
            self._forget(stream, found)

    def taken(self, stream: int, size: int) -> None:
        """So many bytes of what came do not wait any more: the client may send as many."""
        self._taken_of_all(size)
        if (found := self._streams.get(stream)) and not found.ended_by_client:
            found.untold += size
            if found.untold >= WINDOW // 2:
                self._send(spdy.Window(stream, found.untold))
                found.untold = 0

    def _taken_of_all(self, size: int) -> None:
        self._untold += size
        if self._untold >= SESSION_WINDOW // 2:
            self._send(spdy.Window(0, self._untold))
            self._untold = 0

    def go_away(self, status: int = 0) -> None:
        self._send(spdy.GoAway(self._last, status))

    def _forget(self, stream: int, found: _Stream) -> None:
        if found.ended and found.ended_by_client:
            del self._streams[stream]

    def _send(self, frame: spdy.Frame) -> None:
        self.out += self._encoder.encode(frame)
