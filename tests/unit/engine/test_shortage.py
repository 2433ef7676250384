"""Lack of memory in a machine, told by the control group of the stand-in: only where it is alone there."""

import os
from pathlib import Path

import pytest

from hypercontainer.engine import shortage

FILES = {
    1: ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.swappiness"),
    2: ("", "memory.current", "memory.max", "memory.swap.max"),
}


def own(version: int) -> str:
    """The path of our own group, whose hierarchy the test makes up."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers if version == 2 else "memory" in controllers.split(","):
            return path
    return "/"


@pytest.fixture(params=[1, 2])
def group(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, int]:
    version: int = request.param
    controller, usage, limit, swap = FILES[version]
    if (path := own(version)) == "/":
        pytest.skip("we are in the root's group")
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("memory")
    folder = tmp_path / controller / path.strip("/")
    folder.mkdir(parents=True)
    (folder / usage).write_text("400000\n")
    (folder / limit).write_text("max" if version == 2 else "9223372036854771712")
    (folder / swap).write_text("60")
    (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return tmp_path, folder, version


def test_who_is_alone_there_is_left_little(group: tuple[Path, Path, int]) -> None:
    root, folder, version = group
    assert shortage.leave_little(os.getpid(), root)
    assert (folder / FILES[version][2]).read_text() == str(400000 + shortage.LEFT)
    assert (folder / FILES[version][3]).read_text() == "0"


def test_nothing_is_changed_where_somebody_else_is(group: tuple[Path, Path, int]) -> None:
    root, folder, version = group
    (folder / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    before = (folder / FILES[version][2]).read_text()
    assert not shortage.leave_little(os.getpid(), root)
    assert (folder / FILES[version][2]).read_text() == before


def test_who_is_gone_is_told_nothing(tmp_path: Path) -> None:
    assert not shortage.leave_little(2**22 + 1, tmp_path)
