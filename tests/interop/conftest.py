"""Peers that run for a whole module."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.dockerd import DOCKER, DOCKERD, Dockerd, dockerd


@pytest.fixture(scope="module")
def docker(busybox_archive: Path) -> Iterator[Dockerd]:
    """Debian's dockerd, which knows nothing but busybox."""
    if os.geteuid() != 0:
        pytest.skip("dockerd is root's")
    if not (DOCKERD.exists() and DOCKER.exists()):
        pytest.skip("docker.io is not installed")
    with ExitStack() as stack:
        try:
            docker = stack.enter_context(dockerd())
        except OSError as e:
            pytest.skip(f"dockerd does not run here: {e}")
        assert docker.ctl("load", "-i", str(busybox_archive)).status == 0
        yield docker
