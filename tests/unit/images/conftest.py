"""A store of its own for each test."""

from pathlib import Path

import pytest

from hypercontainer.images.store import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")
