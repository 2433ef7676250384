"""Docker's commands and calls, row by row: hyperd answers as dockerd 20.10, but for reasons that are written down."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import private_daemon
from tests.interop import docker_table
from tests.interop.docker_table import Both, Engine, Row

TABLE = docker_table.read()
pytestmark = docker_table.MARKS


@pytest.fixture(scope="module")
def both(kernels: Path, busybox_archive: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        docker = docker_table.daemon(stack)
        hyper = stack.enter_context(private_daemon(kernels, {"accelerator": "tcg", "memory_mib": 256}))
        theirs = Engine("docker", docker.socket, {str(docker.folder / "data"): "<root>"}, docker.inside)
        ours = Engine("hyper", hyper.folder / "hyper-docker.sock", {str(hyper.root): "<root>"})
        assert docker.ctl("load", "-i", str(busybox_archive)).status == 0
        assert hyper.ctl("load", "-i", str(busybox_archive)).status == 0
        yield Both(TABLE, theirs, ours, busybox_archive)


@pytest.mark.parametrize("row", TABLE.rows, ids=str)
def test_row(both: Both, row: Row) -> None:
    both.check(row)
