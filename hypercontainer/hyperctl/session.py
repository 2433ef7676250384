"""A terminal or pipes at one end, a container's process at the other: what run, exec, attach and start -a share."""

from __future__ import annotations

import _socket
import os
import select

from hypercontainer.hyperctl import terminal
from hypercontainer.hyperctl.signals import Signals
from hypercontainer.hyperctl.sink import Sink
from hypercontainer.lib import fastjson
from hypercontainer.model import stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from hypercontainer.client.http import Upgraded
else:
    import _signal  # `signal` would cost 5 ms: enum

READ = stream.MAX_PAYLOAD
UNSENT_LIMIT = 1 << 18
PROXIED = tuple(
    getattr(_signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGIO", "SIGPWR")
)
PAINT_S = 1.0  # at most, for a program that says nothing to a new size
FORCED_AFTER = 2  # SIGINTs or SIGTERMs: the process, or who should end it, does not answer


class Forced(Exception):
    """The user asked to end, again and again."""


class TerminalSession:
    """One conversation. `run` returns when the process ended, the user detached, or an output was closed.

    stdin: the descriptor to read, None for none. tty: the container has a terminal; if stdin is one too, it is raw
    meanwhile. redraw: the terminal gets another size first, until a program paints anew. proxy: signals go to the
    process. After `run`: `status` (None: detached or no reader), `reason` (in words), `info` frames.
    Raises the engine's error if the server sent one, Unavailable if hyperd went away.
    """

    def __init__(
        self,
        connection: Upgraded,
        *,
        stdin: int | None,
        tty: bool = False,
        redraw: bool = False,
        keys: bytes = b"",
        proxy: bool = True,
        outputs: tuple[int, int] = (1, 2),
    ) -> None:
        self.status: int | None = None
        self.reason = ""
        self.detached = False
        self.info: list[dict[str, Any]] = []
        self._socket = connection.socket
        self._socket.setblocking(False)
        self._frames = stream.Decoder(stream.FROM_SERVER)
        self._frames.feed(connection.rest)
        self._stdin, self._tty, self._redraw, self._proxy = stdin, tty, redraw, proxy
        self._terminal = stdin if tty and stdin is not None and os.isatty(stdin) else None
        self._detacher = terminal.Detacher(keys if tty else b"")
        self._sinks = {stream.STDOUT: Sink(outputs[0]), stream.STDERR: Sink(outputs[1])}
        self._unsent = bytearray()
        self._ended = False
        self._asked_to_end = 0

    def run(self) -> int | None:
        raw = terminal.Raw(self._terminal) if self._terminal is not None else None
        numbers = (*(PROXIED if self._proxy else ()), *((_signal.SIGWINCH,) if self._tty else ()), _signal.SIGCONT)
        try:
            with Signals(numbers) as signals:
                if raw is None:
                    return self._loop(signals, None)
                with raw:
                    return self._loop(signals, raw)
        finally:
            self._socket.close()
            for sink in self._sinks.values():
                sink.close()

    @property
    def broken_pipe(self) -> bool:
        return self._sinks[stream.STDOUT].closed

    def _loop(self, signals: Signals, raw: terminal.Raw | None) -> int | None:
        if self._redraw:
            self._resize(more=1)
            # a program that looks when both have come sees no change; whoever types or ends does not wait for it
            waking = [self._socket.fileno(), signals.fd, *([] if self._stdin is None else [self._stdin])]
            select.select(waking, [], [], PAINT_S)
        if self._tty:
            self._resize()
        self._take_frames()
        while not self._over():
            events = dict(self._poll(signals.fd))
            if signals.fd in events:
                self._take_signals(signals.take(), raw)
            for sink in self._sinks.values():
                if sink.fd in events and sink.pending:
                    sink.flush()
            ready = events.get(self._socket.fileno(), 0)
            if ready & select.POLLOUT:
                self._send_unsent()
            if ready & ~select.POLLOUT:
                self._receive()
            if self._stdin is not None and self._stdin in events:
                self._read_stdin()
        return self.status

    def _over(self) -> bool:
        if self.detached:
            return not self._unsent
        if self.broken_pipe:
            return True
        return self._ended and not any(sink.pending and not sink.closed for sink in self._sinks.values())

    def _congested(self) -> bool:
        return any(sink.full for sink in self._sinks.values())

    def _poll(self, signal_fd: int) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(signal_fd, select.POLLIN)
        wanted = select.POLLOUT if self._unsent else 0
        if not (self._congested() or self._ended):
            wanted |= select.POLLIN
        if wanted:
            poll.register(self._socket.fileno(), wanted)
        for sink in self._sinks.values():
            if sink.pending:
                poll.register(sink.fd, select.POLLOUT)
        if self._stdin is not None and not self._ended and len(self._unsent) < UNSENT_LIMIT:
            poll.register(self._stdin, select.POLLIN)
        return poll.poll()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._send_unsent()

    def _send_unsent(self) -> None:
        try:
            n = self._socket.send(self._unsent, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            n = len(self._unsent)  # what hyperd said before it closed is still to be read
            self._stdin = None
        del self._unsent[:n]

    def _receive(self) -> None:
        try:
            n = self._socket.recv_into(self._frames.space())
        except BlockingIOError:
            return
        except ConnectionResetError:
            n = 0
        if not n:
            raise self._gone("hyperd closed the connection: the process may run on, see 'hyperctl ps'")
        self._frames.received(n)
        self._take_frames()

    def _gone(self, why: str) -> Exception:
        from hypercontainer.errors import Unavailable

        return Unavailable(why)

    def _take_frames(self) -> None:
        try:
            for kind, payload in self._frames:
                self._take(kind, payload)
        except ValueError as e:
            raise self._gone(f"hyperd sent {e}: is it of another version?") from e

    def _take(self, kind: int, payload: memoryview) -> None:
        if kind in self._sinks:
            self._sinks[kind].write(payload)
            return
        document = fastjson.loads(bytes(payload))
        if kind == stream.INFO:
            self.info.append(document)
        elif kind == stream.EXIT:
            self.status, self._ended = int(document["status"]), True
            self.reason = str(document.get("error", ""))
        else:
            from hypercontainer.client import errors

            raise errors.error(document)

    def _read_stdin(self) -> None:
        assert self._stdin is not None  # noqa: S101  it was polled
        try:
            data = os.read(self._stdin, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the terminal hung up, or there never was a stdin
        if not data:
            self._stdin = None
            self._send(stream.frame(stream.STDIN_END))
            return
        data, self.detached = self._detacher.feed(data)
        if data:
            self._send(stream.header(stream.STDIN, len(data)) + data)
        if self.detached:
            self._send(stream.frame(stream.DETACH))

    def _take_signals(self, numbers: bytes, raw: terminal.Raw | None) -> None:
        for n in numbers:
            if n == _signal.SIGCONT:
                if raw is not None:
                    raw.again()
            elif n == _signal.SIGWINCH:
                self._resize()
            elif self._proxy and n in PROXIED:
                self._asked_to_end += n in (_signal.SIGINT, _signal.SIGTERM)
                self._send(stream.frame(stream.SIGNAL, fastjson.dumps({"signal": int(n)}).encode()))
                if self._asked_to_end >= FORCED_AFTER:
                    raise Forced(f"got {FORCED_AFTER} SIGINTs or SIGTERMs, leaving; the process may run on")

    def _resize(self, more: int = 0) -> None:
        size = next((found for fd in (0, 1, 2) if (found := terminal.size(fd))), None)
        if size:
            document = {"rows": size[0] + more, "columns": size[1] + more}
            self._send(stream.frame(stream.RESIZE, fastjson.dumps(document).encode()))
