"""Docker's commands and calls, row by row: hyperd answers as dockerd 20.10, but for reasons that are written down."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import private_daemon
from tests.interop import docker_table
from tests.interop.differ import Answer
from tests.interop.docker_table import Engine, Row
from tests.interop.dockerd import DOCKER, DOCKERD, dockerd

TABLE = docker_table.read()
VERSION = "docker 20.10"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and hyperd are root's"),
    pytest.mark.skipif(not (DOCKERD.exists() and DOCKER.exists()), reason="docker.io is not installed"),
]


class Both:
    """dockerd and hyperd. A chapter is walked through with both at once, when its first row is asked for."""

    def __init__(self, theirs: Engine, ours: Engine, image: Path) -> None:
        self._engines, self._image = (theirs, ours), image
        self.chapter = cache(self._chapter)

    def _chapter(self, name: str) -> dict[Row, tuple[Answer, Answer]]:
        rows = TABLE.chapter(name)
        with ThreadPoolExecutor(2) as pool:
            walks = pool.map(lambda engine: list(engine.answers(rows, self._image)), self._engines)
            return dict(zip(rows, zip(*walks, strict=True), strict=True))


@pytest.fixture(scope="module")
def both(kernels: Path, busybox_archive: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        try:
            docker = stack.enter_context(dockerd(network=True))
        except OSError as e:
            pytest.skip(f"dockerd does not run here: {e}")
        if not docker.version().startswith(VERSION):
            pytest.skip(f"{docker.version()} is not {VERSION}, which the table is about")
        hyper = stack.enter_context(private_daemon(kernels, {"accelerator": "tcg", "memory_mib": 256}))
        theirs = Engine("docker", docker.socket, {str(docker.folder / "data"): "<root>"}, docker.inside)
        ours = Engine("hyper", hyper.folder / "hyper-docker.sock", {str(hyper.root): "<root>"})
        assert docker.ctl("load", "-i", str(busybox_archive)).status == 0
        assert hyper.ctl("load", "-i", str(busybox_archive)).status == 0
        yield Both(theirs, ours, busybox_archive)


@pytest.mark.parametrize("row", TABLE.rows, ids=str)
def test_row(both: Both, row: Row) -> None:
    theirs, ours = both.chapter(row.chapter)[row]
    faults = TABLE.faults(row, theirs, ours)
    assert not faults, "\n".join([row.do, *faults])
