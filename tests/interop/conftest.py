"""Peers that run for a whole module."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.interop.cri import Cri, Server, calling, described
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


@pytest.fixture(scope="module")
def frakti(kernels: Path, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDaemon]:
    folder = tmp_path_factory.mktemp("cri")
    with private_daemon(kernels, described(folder)) as daemon:
        loaded = daemon.ctl("load", "-i", str(busybox_archive))
        assert loaded.status == 0, loaded.err
        yield daemon


@pytest.fixture
async def cri(server: Server, tmp_path: Path) -> AsyncIterator[Cri]:
    """A kubelet's calls to the `server` of the test's module."""
    async with calling(server, tmp_path) as made:
        yield made
        await made.clear()
