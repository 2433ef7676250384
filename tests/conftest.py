"""What every suite shares."""

from pathlib import Path

import pytest

from hypercontainer.testing.busybox import write_archive


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker archive of the image busybox:latest: sh, the applets, /etc/passwd, /www/index.html."""
    path = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    write_archive(path)
    return path
