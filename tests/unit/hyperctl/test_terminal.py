"""At a terminal: raw mode and its end, window sizes, detach keys, hanging up."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator

import pytest

from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd, Stream

ID = "c" * 64
ATTACH = f"/v1/containers/{ID}/attach"
STDIN, STDOUT, RESIZE, SIGNAL, DETACH = 0, 1, 6, 7, 8


class Terminal:
    """A pseudo terminal, and a hyperctl in it."""

    def __init__(self, rows: int, columns: int) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def read_until(self, end: bytes) -> bytes:
        out = b""
        while end not in out:
            out += os.read(self.master, 4096)
        return out

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        for fd in (self.master, self.slave):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(24, 80)
    yield made
    made.close()


@pytest.fixture
def play(hyperd: FakeHyperd) -> FakeHyperd:
    hyperd.answers["POST", "/v1/containers"] = {"Id": ID, "Warnings": []}
    hyperd.answers["POST", ATTACH] = True
    hyperd.answers["POST", "/v1/containers/web/exec"] = True
    return hyperd


def start(hyperctl: Hyperctl, terminal: Terminal, *words: str) -> "subprocess.Popen[bytes]":
    return hyperctl.popen(*words, stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave)


def size(payload: bytes) -> tuple[int, int]:
    document = json.loads(payload)
    return document["rows"], document["columns"]


def test_a_shell(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    seen: list[object] = []

    def script(stream: Stream) -> None:
        seen.append(size(stream.until(RESIZE)))
        stream.send(STDOUT, b"$ ")
        seen.append(stream.until(STDIN))
        stream.send(STDOUT, b"thanks")
        seen.append(size(stream.until(RESIZE)))
        stream.exit(3)

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", "busybox") as process:
        assert terminal.read_until(b"$ ") == b"$ "
        assert terminal.raw
        terminal.type(b"\x03\x1c\r")  # bytes like any other
        terminal.read_until(b"thanks")  # or the new size could overtake them
        terminal.resize(50, 132)
        process.send_signal(signal.SIGWINCH)
        assert process.wait(30) == 3
    assert terminal.as_before
    assert seen == [(24, 80), b"\x03\x1c\r", (50, 132)]
    assert play.requests[0].body["containers"][0] == {"image": "busybox", "tty": True, "open_stdin": True}


def test_exec_says_the_size_at_once(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    play.scripts["/v1/containers/web/exec"] = lambda stream: stream.exit(0)
    with start(hyperctl, terminal, "exec", "-it", "web", "sh") as process:
        assert process.wait(30) == 0
    assert play.requests[0].body == {
        "command": ["sh"], "tty": True, "open_stdin": True, "rows": 24, "columns": 80,
    }  # fmt: skip
    assert terminal.as_before


@pytest.mark.parametrize(
    ("flags", "typed", "sent"),
    [
        ([], b"ab\x10\x11cd", b"ab"),
        (["--detach-keys", "ctrl-a,x"], b"\x10\x11\x01x", b"\x10\x11"),
    ],
)
def test_detach_keys(
    hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal, flags: list[str], typed: bytes, sent: bytes
) -> None:
    seen = bytearray()

    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"$ ")
        while (frame := stream.receive())[0] != DETACH:
            if frame[0] == STDIN:
                seen.extend(frame[1])

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", *flags, "busybox") as process:
        terminal.read_until(b"$ ")
        terminal.type(typed)
        assert process.wait(30) == 0
        assert terminal.read_until(b"\n") == b"hyperctl: read escape sequence: detached\r\n"
    play.hear()
    assert seen == sent
    assert terminal.as_before


def test_a_signal_is_handed_on_and_the_terminal_restored(
    hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal
) -> None:
    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"$ ")
        assert json.loads(stream.until(SIGNAL)) == {"signal": signal.SIGTERM}
        stream.exit(143)

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", "busybox") as process:
        terminal.read_until(b"$ ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert terminal.as_before


def test_attach_has_the_program_paint_anew(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    seen: list[object] = []

    def script(stream: Stream) -> None:
        seen.append(size(stream.until(RESIZE)))
        seen.append(stream.rest or select.select([stream.sock], [], [], 0.1)[0])
        stream.send(STDOUT, b"painted at that size")
        seen.append(size(stream.until(RESIZE)))
        stream.exit(0)

    play.answers["GET", "/v1/containers/web"] = {"Config": {"Tty": True, "OpenStdin": True}, "State": {"Paused": False}}
    play.answers["POST", "/v1/containers/web/attach"] = True
    play.scripts["/v1/containers/web/attach"] = script
    with start(hyperctl, terminal, "attach", "web") as process:
        assert process.wait(30) == 0
    assert seen == [(25, 81), [], (24, 80)]


@pytest.mark.parametrize("how", ["hyperd goes", "an error", "nonsense"])
def test_whatever_happens_the_terminal_is_restored(
    hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal, how: str
) -> None:
    ready = threading.Event()

    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"$ ")
        assert ready.wait(30)
        if how == "an error":
            stream.send(9, {"message": "the guest died", "kind": "guest"})
        elif how == "nonsense":
            stream.send(200, b"?")

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", "busybox") as process:
        terminal.read_until(b"$ ")
        assert terminal.raw
        ready.set()
        assert process.wait(30) == 125
    assert terminal.as_before
    assert terminal.read_until(b"\n").startswith(b"hyperctl: ")


def test_after_a_stop_the_terminal_is_raw_again(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"$ ")
        stream.until(RESIZE)
        assert stream.until(STDIN) == b"x"
        stream.exit(0)

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", "busybox") as process:
        terminal.read_until(b"$ ")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.before)  # as a shell does
        process.send_signal(signal.SIGCONT)
        while not terminal.raw:
            os.sched_yield()
        terminal.type(b"x")
        assert process.wait(30) == 0
    assert terminal.as_before


def test_a_terminal_that_hangs_up_is_an_end_of_stdin(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"$ ")
        stream.until(5)
        stream.exit(9)

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-it", "busybox") as process:
        terminal.read_until(b"$ ")
        terminal.close()
        assert process.wait(30) == 9


def test_without_t_the_terminal_stays_as_it_is(hyperctl: Hyperctl, play: FakeHyperd, terminal: Terminal) -> None:
    def script(stream: Stream) -> None:
        stream.send(STDOUT, b"ready\n")
        assert stream.until(STDIN) == b"line\n"
        stream.exit(0)

    play.scripts[ATTACH] = script
    with start(hyperctl, terminal, "run", "-i", "busybox") as process:
        terminal.read_until(b"ready")
        assert terminal.as_before
        terminal.type(b"line\n")
        assert process.wait(30) == 0


def test_a_pull_on_a_terminal_has_bars(hyperctl: Hyperctl, hyperd: FakeHyperd, terminal: Terminal) -> None:
    from tests.unit.hyperctl.fake import Lines

    terminal.resize(24, 120)
    layer = {"id": "sha256:" + "1" * 64, "action": "Downloading", "current": 500_000, "total": 1_000_000}
    image = {"Id": "sha256:2", "Name": "busybox:latest"}
    hyperd.answers["POST", "/v1/images/pull"] = Lines(layer, {**layer, "current": 1_000_000}, {"images": [image]})
    with start(hyperctl, terminal, "pull", "busybox") as process:
        out = terminal.read_until(b"Pulled: busybox:latest (sha256:2)")
        assert process.wait(30) == 0
    assert b"111111111111: Downloading" in out
    assert "━".encode() in out
