"""A program is looked for as the container would find it."""

import os
from pathlib import Path

import pytest

from hypercontainer.runv.program import NoProgram, check


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name in ("usr/bin", "etc", "mnt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    (tmp_path / "usr/bin/tool").write_text("")
    (tmp_path / "usr/bin/tool").chmod(0o755)
    (tmp_path / "etc/plain").write_text("")
    (tmp_path / "usr/bin/out").symlink_to("../../../../../../../../bin/sh")
    return str(tmp_path)


@pytest.mark.parametrize("words", [["tool"], ["/bin/tool"], ["./tool"], ["../usr/bin/tool"]])
def test_what_is_there(root: str, words: list[str]) -> None:
    check(root, {"args": words, "env": ["A=b", "PATH=/nosuch:/etc:/bin"], "cwd": "/bin"}, [])


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nosuch", "executable file not found in $PATH"),
        ("/nosuch", "no such file or directory"),
        ("/etc/plain/x", "no such file or directory"),
        ("/etc", "permission denied"),
        ("/etc/plain", "permission denied"),
        ("plain", "permission denied"),
        ("out", "executable file not found in $PATH"),  # the host's, which is not there
    ],
)
def test_what_is_not(root: str, word: str, why: str) -> None:
    assert os.path.exists(f"{root}/usr/bin/out")
    with pytest.raises(NoProgram) as found:
        check(root, {"args": [word], "env": ["PATH=/etc:/bin"]}, ["/mnt"])
    assert str(found.value) == f'exec: "{word}": {why}'


def test_what_only_the_machine_sees_is_left_to_it(root: str) -> None:
    check(root, {"args": ["/mnt/tool"]}, ["/mnt"])
    check(root, {"args": ["tool"], "env": ["PATH=/nosuch:/mnt/bin"]}, ["/mnt"])
    with pytest.raises(NoProgram):
        check(root, {"args": ["/mntx/tool"]}, ["/mnt"])
