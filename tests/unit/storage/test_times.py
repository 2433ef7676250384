"""Times that tell every change."""

import os
from pathlib import Path

from hypercontainer.storage import times


def test_a_kernel_is_believed_that_has_been_seen_to_tell_every_change(tmp_path: Path) -> None:
    """Another file, on a disk, and more changes: both say the same of this host."""
    file, seen = tmp_path / "file", set()
    for n in range(200):
        file.write_text(f"{n:03}")
        seen.add(file.stat().st_mtime_ns)
    assert not times.exact(tmp_path) or times.proved() == (len(seen) == 200)


def test_a_path_and_what_is_open_there_are_alike(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert times.exact(fd) == times.exact(tmp_path)
    finally:
        os.close(fd)


def test_file_systems_of_a_kernels_own_and_what_is_not_there_tell_nothing(tmp_path: Path) -> None:
    sources: list[Path | int] = [Path("/proc"), Path("/sys"), tmp_path / "nowhere", -1]
    assert [source for source in sources if times.exact(source)] == []
