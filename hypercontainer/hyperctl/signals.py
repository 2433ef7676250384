"""Signals as bytes of a pipe: none is missed between a look at what has come and the wait for more."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` would cost 5 ms: enum


class Signals:
    """Turns signals into bytes of a pipe for the block, so that a loop sees them in its turn: `numbers`, which do
    nothing else, and those that have a handler, before that runs. ValueError in a thread, which sees no signals."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers

    def __enter__(self) -> Signals:
        self.fd, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._wakeup = _signal.set_wakeup_fd(self._in)
        except ValueError:
            self._close()
            raise
        self._handlers = [_signal.signal(n, lambda *_: None) for n in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for n, handler in zip(self._numbers, self._handlers, strict=True):
            _signal.signal(n, handler)
        _signal.set_wakeup_fd(self._wakeup)
        self._close()

    def _close(self) -> None:
        os.close(self.fd)
        os.close(self._in)

    def take(self) -> bytes:
        try:
            return os.read(self.fd, 64)
        except BlockingIOError:
            return b""
