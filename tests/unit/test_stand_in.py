"""What stands on this host for a process, as lists of processes show it."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.lib import stand_in


@contextmanager
def standing(args: Sequence[str]) -> Iterator[Path]:
    """The folder in /proc of one whose hyperd never comes."""
    with tempfile.TemporaryDirectory() as folder:
        made = stand_in.start(f"{folder}/door", args=args)
        try:
            yield Path(f"/proc/{made.pid}")
        finally:
            made.give_up()


@pytest.mark.parametrize(
    ("args", "name", "line"),
    [
        (["/usr/bin/sleep", "1 000", "é"], b"sleep", "/usr/bin/sleep\0001 000\0é\0".encode()),
        (["-sh"], b"-sh", b"-sh\0"),
        (["a-name-of-more-than-15-bytes", ""], b"a-name-of-more-", b"a-name-of-more-than-15-bytes\0\0"),
        (["two\0words", "\ud800"], b"two", b"two\0words\0?\0"),
        (["sh", "x" * 200_000], b"sh", b"sh\0" + b"x" * (stand_in.SHOWN - 3) + b"\0"),
        ([], b"hyper-standin", stand_in.PROGRAM.encode() + b"\0"),
    ],
    ids=("path", "login shell", "long name", "no words", "too much", "none"),
)
def test_it_is_called_as_the_process_that_it_stands_for(args: list[str], name: bytes, line: bytes) -> None:
    with standing(args) as proc:
        assert (proc / "comm").read_bytes() == name + b"\n"
        assert (proc / "cmdline").read_bytes() == line
        assert os.readlink(proc / "exe") == stand_in.PROGRAM


def test_nothing_of_its_starter_is_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of an engine")
    with standing(["true"]) as proc:
        names = {word.partition(b"=")[0] for word in (proc / "environ").read_bytes().split(b"\0")[:-1]}
        assert names == {b"SOCKET", b"KEY"}
