"""hyper-shim, the program itself, between a caller and one hyperd after the other."""

import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.lib import ttrpc
from hypercontainer.lib.ttrpc import Frame
from hypercontainer.shim.main import PROGRAM

AGAIN, END = 0x80, 0
LIMIT_S = 60
GREETING = Frame(1, ttrpc.REQUEST, 0, b"who").encode()


class Shim:
    def __init__(self, folder: Path) -> None:
        self.door, self.path = folder / "door", folder / "shim"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen()
        fd = fcntl.fcntl(listening, fcntl.F_DUPFD, 1000)  # none of the places that it is put in
        ours, theirs = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        actions = [
            (os.POSIX_SPAWN_DUP2, ours, 0), (os.POSIX_SPAWN_DUP2, null, 1),
            (os.POSIX_SPAWN_DUP2, fd, 3), (os.POSIX_SPAWN_CLOSE, fd),
        ]  # fmt: skip
        self.pid = os.posix_spawn(PROGRAM, [PROGRAM, str(self.door), str(self.path)], {}, file_actions=actions)
        os.write(theirs, GREETING)
        for each in (fd, ours, theirs, null):
            os.close(each)
        listening.close()

    def hyperd(self) -> socket.socket:
        """A hyperd that begins to listen, and is greeted."""
        self.door.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.settimeout(LIMIT_S)
            listening.bind(str(self.door))
            listening.listen()
            sock, _ = listening.accept()
        sock.settimeout(LIMIT_S)
        assert receive(sock) == Frame(1, ttrpc.REQUEST, 0, b"who")
        return sock

    def caller(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT_S)
        sock.connect(str(self.path))
        return sock


def receive(sock: socket.socket) -> Frame:
    header = exactly(sock, 10)
    return ttrpc.frame(header, exactly(sock, ttrpc.length(header)))


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return data


def ask(sock: socket.socket, stream: int, data: bytes) -> None:
    sock.sendall(Frame(stream, ttrpc.REQUEST, 0, data).encode())


def answer(sock: socket.socket, stream: int, data: bytes) -> None:
    sock.sendall(Frame(stream, ttrpc.RESPONSE, 0, data).encode())


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path)
    yield shim
    os.kill(shim.pid, 9)
    os.waitpid(shim.pid, 0)


def test_two_callers_with_the_same_numbers(shim: Shim) -> None:
    with shim.hyperd() as hyperd, shim.caller() as one, shim.caller() as other:
        ask(one, 1, b"one")
        first = receive(hyperd)
        ask(other, 1, b"other")
        second = receive(hyperd)
        assert (first.message, second.message, first.flags) == (b"one", b"other", 0)
        assert first.stream != second.stream
        answer(hyperd, second.stream, b"for other")
        answer(hyperd, first.stream, b"for one")
        assert receive(one) == Frame(1, ttrpc.RESPONSE, 0, b"for one")
        assert receive(other) == Frame(1, ttrpc.RESPONSE, 0, b"for other")


def test_what_has_no_answer_is_asked_again(shim: Shim) -> None:
    with shim.caller() as caller:
        with shim.hyperd() as hyperd:
            for number, data in ((1, b"answered"), (3, b"waits"), (5, b"waits too")):
                ask(caller, number, data)
            answered = receive(hyperd)
            answer(hyperd, answered.stream, b"yes")
            assert receive(caller).stream == 1
            assert [receive(hyperd).message for _ in range(2)] == [b"waits", b"waits too"]
        with shim.hyperd() as hyperd:
            again = [receive(hyperd) for _ in range(2)]
            assert [(frame.message, frame.flags) for frame in again] == [(b"waits", AGAIN), (b"waits too", AGAIN)]
            answer(hyperd, again[1].stream, b"done")
            assert receive(caller) == Frame(5, ttrpc.RESPONSE, 0, b"done")


def test_what_comes_while_nobody_is_there_waits_and_is_new(shim: Shim) -> None:
    with shim.caller() as caller:
        ask(caller, 1, b"x" * 1_000_000)
        with shim.hyperd() as hyperd:
            frame = receive(hyperd)
            assert (frame.flags, len(frame.message)) == (0, 1_000_000)


def test_nobody_waits_for_the_answers_of_who_has_gone(shim: Shim) -> None:
    with shim.hyperd() as hyperd:
        with shim.caller() as caller:
            ask(caller, 1, b"left")
            left = receive(hyperd)
        with shim.caller() as caller:
            ask(caller, 1, b"stays")
            stays = receive(hyperd)
            answer(hyperd, left.stream, b"nobody's")
            answer(hyperd, stays.stream, b"mine")
            assert receive(caller).message == b"mine"


@pytest.mark.parametrize("data", [Frame(1, ttrpc.RESPONSE, 0, b"").encode(), ttrpc.HEADER.pack((4 << 20) + 1, 1, 1, 0)])
def test_who_breaks_the_rules_is_left(shim: Shim, data: bytes) -> None:
    with shim.hyperd() as hyperd, shim.caller() as bad, shim.caller() as good:
        bad.sendall(data)
        assert bad.recv(1) == b""
        ask(good, 1, b"words")
        assert receive(hyperd).message == b"words"


def test_it_ends_on_hyperds_word(shim: Shim) -> None:
    with shim.hyperd() as hyperd, shim.caller() as caller:
        ask(caller, 1, b"shut down")
        answer(hyperd, receive(hyperd).stream, b"yes")
        hyperd.sendall(Frame(0, END, 0, b"").encode())
        assert receive(caller).message == b"yes"
        assert caller.recv(1) == b""
    assert not shim.path.exists()


def test_it_is_small() -> None:
    assert os.stat(PROGRAM).st_size < 64 << 10
    said = subprocess.run([PROGRAM], capture_output=True, timeout=LIMIT_S)
    assert said.returncode == 1 and b"not by hand" in said.stderr


def test_who_reads_an_output_does_not_see_that_its_hyperd_dies(shim: Shim, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hold = Frame(0, 4, 0, f"{fifo}\0/nosuch\0".encode())
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        with shim.hyperd() as hyperd:
            hyperd.sendall(hold.encode())
            assert receive(hyperd) == hold  # it is open
        with shim.hyperd() as hyperd:
            assert reader.read(1) is None  # nothing, and not the end
            hyperd.sendall(Frame(0, 4, 0, b"").encode())
            assert receive(hyperd) == Frame(0, 4, 0, b"")
            assert reader.read(1) == b""
