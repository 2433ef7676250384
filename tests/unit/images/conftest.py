"""A store of its own for each test, a disk that is easily full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.images.store import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own that is easily full."""
    if os.geteuid() != 0:
        pytest.skip("mounts a tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
