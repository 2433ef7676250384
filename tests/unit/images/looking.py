"""Chunks as they arrive from a client; and what is in a store, or in a root file system."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.images.store import ImageStore


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Cut into pieces that respect no boundary."""
    for at in range(0, len(data), 7919):
        yield data[at : at + 7919]


def leftovers(store: ImageStore) -> list[str]:
    """Files in the store that none of its images needs."""
    needed = {"lock", "index.json"}
    for image in store.list():
        record = image.record
        needed |= {store.blob(d).name for d in (record.manifest, record.config, *record.layers)}
        needed.add(f"{record.chain}.erofs")
    every = [path for path in store.root.rglob("*") if not path.is_dir() or path.parent.name == "work"]
    return sorted(str(path.relative_to(store.root)) for path in every if path.name not in needed)


def check_erofs(image: Path) -> None:
    subprocess.run(["fsck.erofs", image], check=True, capture_output=True, timeout=60)


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The root file system as a guest sees it. Skips the test where the kernel cannot."""
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "erofs", "-o", "loop,ro", image, folder], stderr=subprocess.PIPE, text=True, timeout=60
    )
    if mount.returncode and "unknown filesystem" in mount.stderr:
        pytest.skip("this kernel does not mount EROFS")
    assert mount.returncode == 0, mount.stderr
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


def names(folder: Path) -> list[str]:
    """Every path below, with a slash behind folders."""
    out = []
    for here, folders, files in os.walk(folder):
        base = os.path.relpath(here, folder)
        out += [os.path.normpath(os.path.join(base, f)) + "/" * (f in folders) for f in folders + files]
    return sorted(out)
