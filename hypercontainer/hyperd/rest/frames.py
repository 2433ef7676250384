"""Upgraded connections in this dialect: a session in the frames of docs/api.md."""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.http.framing import Detach, Resize, Signal, Word
from hypercontainer.hyperd.rest import errors
from hypercontainer.hyperd.rest.call import Body, Cells
from hypercontainer.lib.document import decode
from hypercontainer.model import stream
from hypercontainer.model.api import Session
from hypercontainer.model.signals import HIGHEST

PROTOCOL = "hyper-stream"


class ResizeFrame(Body, frozen=True, kw_only=True):
    rows: Cells
    columns: Cells


class SignalFrame(Body, frozen=True, kw_only=True):
    signal: Annotated[int, msgspec.Meta(ge=1, le=HIGHEST)]


class HyperStream:
    """The framing of one connection."""

    head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()
    head_alone = False
    half_closes = False  # the end of stdin has a frame of its own

    def __init__(self) -> None:
        self._decoder = stream.Decoder(stream.FROM_CLIENT)

    def read(self, data: bytes) -> Iterator[Word]:
        rest = memoryview(data)
        while rest:
            rest = rest[self._decoder.feed(rest) :]
            try:
                for kind, payload in self._decoder:
                    yield word(kind, bytes(payload))
            except ValueError as e:
                raise InvalidInput(f"a stream's client sent {e}") from e

    def begin(self, session: Session) -> bytes:
        return _document(stream.INFO, {"Id": session.id, "timings": [step._asdict() for step in session.timings]})

    def output(self, stream_: int, data: bytes) -> bytes:
        return stream.frames(stream_, data)

    def end(self, status: int, reason: str) -> bytes:
        return _document(stream.EXIT, {"status": status, **({"error": reason} if reason else {})})

    def error(self, error: HyperError) -> bytes:
        return _document(stream.ERROR, errors.document(error))


def word(kind: int, payload: bytes) -> Word:
    """What a client's frame means. InvalidInput when its document is none such."""
    what = f"a frame of kind {kind}"
    if kind == stream.STDIN:
        return payload
    if kind == stream.STDIN_END:
        return None
    if kind == stream.RESIZE:
        size = decode(payload, ResizeFrame, what, error=InvalidInput)
        return Resize(size.rows, size.columns)
    if kind == stream.SIGNAL:
        return Signal(decode(payload, SignalFrame, what, error=InvalidInput).signal)
    return Detach()


def _document(kind: int, content: object) -> bytes:
    return stream.frame(kind, msgspec.json.encode(content)[: stream.MAX_PAYLOAD])
