"""Bytes of docker's streams: frames, detach keys, lines of a log."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import GuestError, InvalidInput, NotFound, Unavailable
from hypercontainer.hyperd.docker import detach, logs
from hypercontainer.hyperd.docker.streams import MULTIPLEXED, RAW, DockerStream, frame, media_type
from hypercontainer.hyperd.docker.versions import Version
from hypercontainer.hyperd.http.framing import Detach
from hypercontainer.model.documents import LogEntry

NEW, OLD = Version(1, 42), Version(1, 41)


def stream(*, tty: bool = False, stdin: bool = True, upgraded: bool = True, keys: bytes = b"") -> DockerStream:
    return DockerStream(NEW, upgraded=upgraded, tty=tty, stdin=stdin, keys=keys)


def test_a_frame_is_docker_s() -> None:
    assert frame(2, b"err") == b"\x02\0\0\0\0\0\0\x03err"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8))
def test_frames_are_taken_apart_again(pieces: list[tuple[int, bytes]]) -> None:
    data, found = b"".join(stream().output(kind, piece) for kind, piece in pieces), []
    while data:
        kind, length = struct.unpack_from(">BxxxI", data)
        found.append((kind, data[8 : 8 + length]))
        data = data[8 + length :]
    assert found == pieces


def test_a_terminal_s_bytes_stay_as_they_are() -> None:
    assert stream(tty=True).output(1, b"\x1b[0m") == b"\x1b[0m"


@pytest.mark.parametrize(
    ("version", "tty", "kind"), [(NEW, False, MULTIPLEXED), (NEW, True, RAW), (OLD, False, RAW), (OLD, True, RAW)]
)
def test_the_kind_has_a_name_of_its_own_since_1_42(version: Version, tty: bool, kind: str) -> None:
    assert media_type(version, tty=tty) == kind


def test_heads() -> None:
    assert stream().head.startswith(b"HTTP/1.1 101 UPGRADED\r\n") and b"Upgrade: tcp\r\n" in stream().head
    plain = stream(upgraded=False).head
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n") and b"Upgrade" not in plain and b"chunked" not in plain


def test_stdin_that_nobody_attached_is_passed_over() -> None:
    assert list(stream(stdin=False).read(b"body of the request")) == []


def test_detach_keys_make_the_client_go() -> None:
    framing = stream(tty=True, keys=detach.keys(""))
    assert list(framing.read(b"ls\n")) == [b"ls\n"]
    *_, last = framing.read(b"\x10\x11")
    assert isinstance(last, Detach)


def test_without_a_terminal_keys_are_bytes() -> None:
    assert list(stream(keys=detach.keys("")).read(b"\x10\x11")) == [b"\x10\x11"]


def test_last_words() -> None:
    assert stream().error(Unavailable("gone")) == frame(2, b"gone\r\n")
    for error in NotFound("container", "web"), GuestError("cannot run x", 2, exec=True):  # its start has said so
        assert stream().error(error) == b""


@pytest.mark.parametrize(
    ("words", "keys"), [("", b"\x10\x11"), ("ctrl-a,x", b"\x01x"), ("ctrl-[,ctrl-_", b"\x1b\x1f"), ("Ctrl-C", b"\x03")]
)
def test_keys_by_their_names(words: str, keys: bytes) -> None:
    assert detach.keys(words) == keys


@pytest.mark.parametrize("words", ["ctrl-", "ctrl-1", "ab", ",", "é", "a," * 40])
def test_what_is_no_key(words: str) -> None:
    with pytest.raises(InvalidInput, match="invalid detach keys"):
        detach.keys(words)


@given(st.lists(st.binary(max_size=5)))
def test_input_without_the_keys_comes_through(pieces: list[bytes]) -> None:
    watch, whole = detach.Watch(b"\x10\x11"), b"".join(pieces)
    out = b""
    for piece in pieces:
        data, left = watch.feed(piece)
        out += data
        if left:
            assert whole.startswith(out + b"\x10\x11")
            return
    assert b"\x10\x11" not in whole
    assert whole in (out, out + b"\x10")


def entry(data: bytes, stream: int = 1) -> LogEntry:
    return LogEntry(stream=1 if stream == 1 else 2, time_ns=1_000_000_001, data=data)


def test_each_line_has_its_time_wherever_its_pieces_end() -> None:
    lines, time = logs.Lines(times=True), b"1970-01-01T00:00:01.000000001Z "
    assert lines.write(entry(b"a\nb")) == [time + b"a\n", time + b"b"]
    assert lines.write(entry(b"err", 2)) == [time + b"err"]
    assert lines.write(entry(b"")) == []
    assert lines.write(entry(b"b\r\nc\n")) == [b"b\r\n", time + b"c\n"]
    assert lines.write(entry(b"\n")) == [time + b"\n"]


def test_details_are_before_each_line_behind_its_time() -> None:
    assert logs.Lines(times=False, details="").write(entry(b"a\nb\n")) == [b" a\n", b" b\n"]
    said = logs.details({"tag": "web 1", "a/b": "c,d"})
    assert logs.Lines(times=True, details=said).write(entry(b"x\n")) == [
        b"1970-01-01T00:00:01.000000001Z a%2Fb=c%2Cd,tag=web+1 x\n"
    ]


@given(st.lists(st.binary(min_size=1, max_size=6)))
def test_without_times_nothing_is_added(pieces: list[bytes]) -> None:
    lines = logs.Lines(times=False)
    parts = [part for piece in pieces for part in lines.write(entry(piece))]
    assert b"".join(parts) == b"".join(pieces) and not any(b"\n" in part[:-1] for part in parts)


@pytest.mark.parametrize(("text", "lines"), [("all", None), ("", None), ("-1", None), ("x", None), ("0", 0), ("7", 7)])
def test_tails(text: str, lines: int | None) -> None:
    assert logs.tail(text) == lines
