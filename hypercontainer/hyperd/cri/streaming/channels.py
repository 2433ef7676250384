"""Exec and attach over a websocket: the first byte of each message is the number of a channel."""

from collections.abc import Iterator

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.cri.streaming import remote, status
from hypercontainer.hyperd.cri.streaming.remote import Remote
from hypercontainer.hyperd.http.framing import Word
from hypercontainer.model.api import Session

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
PROTOCOLS = (V5, V4)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255  # of version 5: the channel that follows says no more


class Channels:
    """The framing of one websocket, of either version: version 4 has no way to end stdin alone."""

    head = b""
    head_alone = False
    half_closes = False

    def __init__(self, wanted: Remote, protocol: str) -> None:
        self._wanted, self._closes = wanted, protocol == V5

    def read(self, data: bytes) -> Iterator[Word]:
        """Of one message. Channels that are ours to speak in, or that nobody asked for, are passed over."""
        channel, words = data[:1], data[1:]
        if channel == bytes([STDIN]):
            if self._wanted.stdin and words:
                yield words
        elif channel == bytes([RESIZE]):
            if self._wanted.tty and (size := remote.resize(words)):
                yield size
        elif channel == bytes([CLOSE]) and self._closes:
            if len(words) != 1:
                raise InvalidInput(f"cannot close a channel that takes {len(words)} bytes to name")
            if words[0] == STDIN and self._wanted.stdin:
                yield None

    def begin(self, session: Session) -> bytes:
        """Clients take an empty message for the word that all is there."""
        return bytes([STDOUT if self._wanted.stdout else STDERR if self._wanted.stderr else ERROR])

    def output(self, stream: int, data: bytes) -> bytes:
        return bytes([STDOUT if stream == 1 else STDERR]) + data

    def end(self, number: int, reason: str) -> bytes:
        return bytes([ERROR]) + self._wanted.ended(number, reason)

    def error(self, error: HyperError) -> bytes:
        return bytes([ERROR]) + status.failed(error)
