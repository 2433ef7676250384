"""What is said on a connection that has been taken over from HTTP: a client's words, and how a dialect writes ours."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hypercontainer.errors import HyperError
from hypercontainer.model.api import Session


class Resize(NamedTuple):
    """The size of the client's terminal."""

    rows: int
    columns: int


class Signal(NamedTuple):
    """A signal for the process."""

    number: int


class Detach:
    """The client goes; the process runs on."""


Control = Resize | Signal | Detach
Word = bytes | None | Control  # bytes are stdin, None is its end


class Framing(Protocol):
    """How a dialect writes a session down. One object serves one connection: it may keep what has come in part."""

    head: bytes  # the answer that takes the connection over
    head_alone: bool  # nothing follows the head before the client has read it: some lose what they read with it
    half_closes: bool  # a client that sends no more has ended stdin; else it has gone

    def read(self, data: bytes) -> Iterator[Word]:
        """What a client says in `data`, and in what was left of the piece before. InvalidInput for what none may."""

    def begin(self, session: Session) -> bytes: ...

    def output(self, stream: int, data: bytes) -> bytes:
        """A piece of stdout (1) or stderr (2)."""

    def end(self, status: int, reason: str) -> bytes:
        """The process has ended; `reason` as Session's."""

    def error(self, error: HyperError) -> bytes:
        """The session has failed, or ends because hyperd does."""
