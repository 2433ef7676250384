"""Streams of a process: files, and programs that take its output."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim import streams
from hypercontainer.hyperd.shim.streams import Names, Output

NAMES = Names("one", "default")


def program(folder: Path, script: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/bash\ncd {folder}\n{script}\n")
    path.chmod(0o755)
    return f"binary://{path}"


def say(found: Output, *words: bytes) -> None:
    for fd, said in zip(found.fds, words, strict=True):
        os.write(fd, said)
        os.close(fd)


def test_a_program_takes_both(tmp_path: Path) -> None:
    script = 'echo "$@" "$CONTAINER_ID" "$CONTAINER_NAMESPACE" >words; exec 5>&-; cat <&3 >out; cat <&4 >err'
    uri = program(tmp_path, script) + "?a=b%20c&d"
    found = streams.output(uri, uri, NAMES)
    say(found, b"out", b"err")
    assert os.waitstatus_to_exitcode(os.waitpid(found.program, 0)[1]) == 0
    assert (tmp_path / "words").read_text() == "a b c d  one default\n"
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("out", "err")


def test_one_that_is_never_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READY_S", 0.2)
    before, children = os.listdir("/proc/self/fd"), _children()
    with pytest.raises(OSError, match=r"not ready within 0\.2 s"):
        streams.output(program(tmp_path, "exec sleep 1000"), "", NAMES)
    assert os.listdir("/proc/self/fd") == before
    assert _children() <= children


def _children() -> set[str]:
    """Pids of ours, of which other tests may have left some."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(path.parent.name)
    return found


def test_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError, match="nosuch"):
        streams.output(f"binary://{tmp_path}/nosuch", "", NAMES)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_is_made_and_appended_to(tmp_path: Path) -> None:
    for words in ((b"1", b"2"), (b"3", b"4")):
        say(streams.output(f"file://{tmp_path}/a%20folder/log", f"file://{tmp_path}/a%20folder/log", NAMES), *words)
    assert (tmp_path / "a folder/log").read_text() == "1234"


@pytest.mark.parametrize("name", ["npipe://x", "file://relative", "binary://host/path", "file:///a%00b"])
def test_what_is_no_stream_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot use"):
        streams.output(name, "", NAMES)


def test_one_program_takes_both_or_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="one program takes both"):
        streams.output(f"binary://{tmp_path}/a", f"binary://{tmp_path}/b", NAMES)


def test_stdin_is_a_fifo_or_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    for name in (str(tmp_path / "in"), f"fifo://{tmp_path}/in"):
        ours, hold = streams.stdin(name)
        os.write(hold, b"x")
        assert os.read(ours, 9) == b"x"
        os.close(ours)
        os.close(hold)
    with pytest.raises(InvalidInput, match="as a stream"):
        streams.stdin(f"file://{tmp_path}/in")
