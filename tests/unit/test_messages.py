"""Messages: what holds of all of them, read out of the sources, and the kinds of text that come from elsewhere."""

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.agent.messages import printable
from hypercontainer.errors import HyperError, InvalidInput, reason
from hypercontainer.hyperctl.unpack import parts
from hypercontainer.images import tar
from hypercontainer.sandbox.archive import one_line

ROOT = Path(__file__).parents[2]
SOURCES = [path for path in (ROOT / "hypercontainer").rglob("*.py") if "testing" not in path.parts]
OURS = ("HyperError", "CommandFailed", "GuestError", "InvalidInput", "Unavailable", "NotFound", "Exhausted", "TarError")
# Of the guest's files, those whose errors are about a caller's own words.
GUEST = ("container.c", "mount.c", "privilege.c", "user.c", "volume.c")


def handlers() -> Iterator[tuple[Path, ast.ExceptHandler, set[str]]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                yield path, node, {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}


def raised(handler: ast.ExceptHandler) -> Iterator[tuple[ast.JoinedStr, ast.FormattedValue]]:
    """Each message that quotes the error that was caught as it is."""
    for statement in ast.walk(handler):
        for text in ast.walk(statement) if isinstance(statement, ast.Raise) else ():
            for value in text.values if isinstance(text, ast.JoinedStr) else ():
                quoted = value.value if isinstance(value, ast.FormattedValue) else None
                if isinstance(quoted, ast.Name) and quoted.id == handler.name:
                    assert isinstance(text, ast.JoinedStr) and isinstance(value, ast.FormattedValue)
                    yield text, value


def test_no_message_has_an_errno_name_or_number_in_brackets() -> None:
    """str() of an OSError is "[Errno 2] No such file or directory: '/x'": `strerror` or `reason` is for people."""
    found = [(path, text.lineno) for path, handler, kinds in handlers() for text, _ in raised(handler)
             if kinds & {"OSError", "FileNotFoundError", "PermissionError"}]  # fmt: skip
    assert not found


def test_no_message_says_cannot_twice() -> None:
    found = [(path, text.lineno) for path, handler, kinds in handlers() for text, _ in raised(handler)
             if kinds & {*OURS} and "cannot" in ast.unparse(text)]  # fmt: skip
    doubled = re.compile(r"f?\"[^\"\n]*cannot [^\"\n]*cannot [^\"\n]*\"")
    found += [(path, text.count("\n", 0, match.start()) + 1) for path in SOURCES
              for text in [path.read_text()] for match in doubled.finditer(text)]  # fmt: skip
    assert not found


def test_the_guest_says_more_than_invalid_argument() -> None:
    """`fail` ends in errno's own words; where a check of ours refuses, `fail_as` has room for the reason."""
    text = {name: (ROOT / "guest" / name).read_text() for name in GUEST}
    found = [(name, line) for name in GUEST for line in re.findall(r"\bfail\(err, E(?:INVAL|2BIG), [^\n]*", text[name])]
    assert [name for name, line in found if "seccomp" not in line] == []


def test_a_reason_stands_behind_another() -> None:
    assert reason(HyperError("cannot start qemu: no memory")) == "start qemu: no memory"
    assert reason(FileNotFoundError(errno.ENOENT, "No such file or directory", "/x")) == "No such file or directory"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"cannot open /x: No such file or directory\n", "open /x: No such file or directory"),
        (b"cannot open /x: no\ncannot open /y: no\n", "open /x: no; open /y: no"),
        (b"cannot open /\x1b[2J\xff: no\n", "open /?[2J\ufffd: no"),
        (b"\n", "the guest does not say why"),
    ],
)
def test_what_the_guest_complains_of(said: bytes, shown: str) -> None:
    assert one_line(said) == shown


def test_a_line_that_ends_has_no_question_mark() -> None:
    assert printable("one\ntwo\t3\n") == "one two 3"


def test_bytes_are_shown_as_text() -> None:
    with pytest.raises(tar.TarError) as damaged:
        tar.number(b"hello\0")
    with pytest.raises(InvalidInput) as leads_out:
        parts(b"../x\xff")
    for error in (damaged, leads_out):
        assert "b'" not in str(error.value)
