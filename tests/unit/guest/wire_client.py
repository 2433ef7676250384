"""A host in a hundred lines, blocking and independent of hypercontainer.agent: the two are checked against each other
by what they share, docs/wire.md and tests/vectors/."""

import errno
import json
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HELLO, DATA, ACK, EOF, STOP = 1, 2, 3, 4, 5
HYPR = 0x48595052
HEADER = struct.Struct(">BBHIQ")
CREDIT = 262144
WAIT_S = 30.0


class Refused(Exception):
    """The guest answered with an error."""

    def __init__(self, number: int, message: str, exec: bool = False) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {message}")
        self.errno, self.message, self.exec = number, message, exec


def frame(kind: int, stream: int, offset: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, 0, len(payload), stream, offset) + payload + b"\xa5"


@dataclass
class Output:
    """What came of a stream. `held`: not acknowledged any more from here on."""

    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    held: bool = False


@dataclass
class Input:
    """What a stream is to carry: all of it is kept, which is good enough for a test."""

    data: bytearray = field(default_factory=bytearray)
    sent: int = 0
    acked: int = 0
    ended: bool = False
    eof_sent: bool = False
    stopped: bool = False
    synced: bool = True


class Host:
    """One host process: a session, over any number of connections."""

    def __init__(self, path: Path, session: str | None = None) -> None:
        self.path = path
        self.session = session or secrets.token_hex(16)
        self.outputs: dict[int, Output] = {0: Output()}
        self.inputs: dict[int, Input] = {0: Input()}
        self.events: list[dict[str, Any]] = []
        self.answers: dict[int, dict[str, Any]] = {}
        self.refusals: list[dict[str, Any]] = []
        self.next_id = 1
        self.next_stream = 1
        self.resumed = False
        self.frames_seen: list[tuple[int, int, int, int]] = []
        self._buffer = bytearray()
        self._lines = 0
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + WAIT_S
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(str(self.path))
                return s
            except OSError:
                s.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def hello(self, version: int = 1) -> dict[str, Any]:
        """Greet on a fresh connection; the streams continue where the guest says."""
        nonce = secrets.randbits(64)
        payload = json.dumps({"version": version, "session": self.session}).encode()
        self._buffer.clear()
        self.socket.sendall(bytes(32785) + frame(HELLO, HYPR, nonce, payload))
        needle = struct.pack(">IQ", HYPR, nonce)
        while (at := self._buffer.find(needle)) < 4 or len(self._buffer) < at + 12:
            self._receive(WAIT_S)
        del self._buffer[: at - 4]
        kind, length, answer = self._take_hello()
        assert (kind, length) == (HELLO, len(answer))
        found: dict[str, Any] = json.loads(answer)
        self.resumed = found["resumed"]
        for number, output in self.outputs.items():
            if not output.held:
                self.raw(frame(ACK, number, len(output.data)))
        for stream in self.inputs.values():
            stream.synced = False
        return found

    def _take_hello(self) -> tuple[int, int, bytes]:
        while len(self._buffer) < 16 or len(self._buffer) < 17 + (length := HEADER.unpack_from(self._buffer)[2]):
            self._receive(WAIT_S)
        kind, payload = self._buffer[0], bytes(self._buffer[16 : 16 + length])
        assert self._buffer[16 + length] == 0xA5
        del self._buffer[: 17 + length]
        return kind, length, payload

    def reconnect(self) -> dict[str, Any]:
        self.close()
        self.socket = self._connect()
        return self.hello()

    def close(self) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Write it all; what comes meanwhile is received, or both ends could wait for each other."""
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([self.socket], [self.socket], [], WAIT_S)
            if readable:
                self._receive(0)
            if writable:
                self.socket.setblocking(False)
                try:
                    view = view[self.socket.send(view) :]
                except BlockingIOError:
                    pass
                finally:
                    self.socket.setblocking(True)

    def _receive(self, timeout_s: float) -> bool:
        if not select.select([self.socket], [], [], timeout_s)[0]:
            if timeout_s:
                raise TimeoutError("the guest is silent")
            return False
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError("the guest hung up")
        self._buffer += data
        return True

    def pump(self, timeout_s: float = WAIT_S) -> None:
        """Receive something and deal with it; send what may be sent."""
        self._send_inputs()
        if not self._take_frames():
            self._receive(timeout_s)
            self._take_frames()
        self._send_inputs()

    def _take_frames(self) -> int:
        count, at, b = 0, 0, self._buffer
        while len(b) - at >= 17:
            kind, flags, length, stream, offset = HEADER.unpack_from(b, at)
            assert HELLO <= kind <= STOP, kind
            assert flags == 0
            assert length <= 32768
            if len(b) - at < 17 + length:
                break
            assert b[at + 16 + length] == 0xA5
            self._take(kind, stream, offset, bytes(b[at + 16 : at + 16 + length]))
            at += 17 + length
            count += 1
        del b[:at]
        return count

    def _take(self, kind: int, stream: int, offset: int, payload: bytes) -> None:
        self.frames_seen.append((kind, stream, offset, len(payload)))
        if kind in (ACK, STOP):
            self._take_answer(kind, self.inputs[stream], offset)
            return
        output = self.outputs[stream]
        if kind == DATA:
            assert payload
            assert offset == len(output.data), (stream, offset, len(output.data))
            output.data += payload
            if not output.held:
                self.raw(frame(ACK, stream, len(output.data)))
            if stream == 0:
                self._take_lines()
        elif kind == EOF:
            assert offset == len(output.data)
            output.ended = True

    def _take_answer(self, kind: int, stream: Input, offset: int) -> None:
        if kind == STOP:
            stream.stopped = True
            return
        stream.acked = max(stream.acked, offset)
        if not stream.synced:
            stream.synced = True
            stream.sent = min(offset, len(stream.data))
            stream.eof_sent = offset > len(stream.data)

    def _send_inputs(self) -> None:
        for number, stream in self.inputs.items():
            while stream.synced and not stream.stopped and stream.sent < min(len(stream.data), stream.acked + CREDIT):
                end = min(len(stream.data), stream.acked + CREDIT, stream.sent + 32768)
                start, stream.sent = stream.sent, end
                self.raw(frame(DATA, number, start, bytes(stream.data[start:end])))
            if stream.ended and not stream.eof_sent and stream.synced and stream.sent == len(stream.data):
                stream.eof_sent = True
                self.raw(frame(EOF, number, stream.sent))

    def _take_lines(self) -> None:
        data = self.outputs[0].data
        while (end := data.find(b"\n", self._lines)) >= 0:
            message = json.loads(data[self._lines : end])
            self._lines = end + 1
            if "event" in message:
                self.events.append(message)
            elif message["id"] == 0:
                self.refusals.append(message["error"])
            else:
                self.answers[message["id"]] = message

    def until(self, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing after {timeout_s} s")
            self.pump(left)
        return found

    # Requests

    def ask(self, op: str, **args: Any) -> int:
        """Send a request and return its id."""
        number, self.next_id = self.next_id, self.next_id + 1
        self.say({"id": number, "op": op, "args": args})
        return number

    def say(self, message: object) -> None:
        self.inputs[0].data += json.dumps(message).encode() + b"\n"
        self._send_inputs()

    def answer(self, number: int) -> dict[str, Any]:
        self.until(lambda: number in self.answers)
        message = self.answers.pop(number)
        if "error" in message:
            raise Refused(**{("number" if key == "errno" else key): value for key, value in message["error"].items()})
        result: dict[str, Any] = message["result"]
        return result

    def call(self, op: str, **args: Any) -> dict[str, Any]:
        return self.answer(self.ask(op, **args))

    def stream(self, *, output: bool) -> int:
        number, self.next_stream = self.next_stream, self.next_stream + 1
        if output:
            self.outputs[number] = Output()
        else:
            self.inputs[number] = Input()
        return number

    def streams(self, *, stdin: bool = False, stderr: bool = True) -> dict[str, int]:
        return {
            "stdin": self.stream(output=False) if stdin else 0,
            "stdout": self.stream(output=True),
            "stderr": self.stream(output=True) if stderr else 0,
        }

    def write(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.inputs[stream].data += data
        self.inputs[stream].ended = end
        self._send_inputs()

    def stop(self, stream: int) -> None:
        self.raw(frame(STOP, stream, 0))

    def exit_of(self, process: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((e for e in self.events if e.get("process") == process), None)

        event: dict[str, Any] = self.until(found)
        return event

    def read_all(self, stream: int) -> bytes:
        self.until(lambda: self.outputs[stream].ended)
        return bytes(self.outputs[stream].data)
