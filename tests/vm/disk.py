"""A small disk, to be full."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """An ext4 of `size_mib` MiB, without blocks that are root's alone."""
    image, point = folder / "disk.img", folder / "disk"
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image, f"{size_mib}M"], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)
        image.unlink(missing_ok=True)


def fill(disk: Path) -> None:
    """Until not a block is left, by the file `ballast`."""
    with open(disk / "ballast", "ab", buffering=0) as f:
        for size in (1 << 20, 4096):
            try:
                while f.write(b"\0" * size) == size:
                    pass
            except OSError as e:
                assert e.errno == errno.ENOSPC
