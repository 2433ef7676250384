"""docker's containers, row by row: by runv they are as by runc, but for reasons that are written down."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import Value, private_daemon
from tests.interop import docker_table
from tests.interop.docker_table import RUNTIMES, Both, Engine, Row

TABLE = docker_table.read(RUNTIMES, ("runc", "runv"))
pytestmark = docker_table.MARKS


@pytest.fixture(scope="module")
def both(kernels: Path, busybox_archive: Path) -> Iterator[Both]:
    """Two of one dockerd, that nothing but its default runtime tells apart: names and numbers are the same in both."""
    pool = [{"share": True, "cache": 2}]
    with ExitStack() as stack:
        settings: dict[str, Value] = {"accelerator": "tcg", "factory": "cache", "memory_mib": 256, "pool": pool}
        hyper = stack.enter_context(private_daemon(kernels, settings))
        env = {"HYPER_OCI_HOST": f"unix://{hyper.folder}/hyper-oci.sock"}
        engines = []
        for runtime in TABLE.names:
            flags = ["--add-runtime", f"runv={hyper.bin}/runv", "--default-runtime", runtime]
            daemon = docker_table.daemon(stack, flags=flags, env=env)
            assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
            engines.append(Engine(runtime, daemon.socket, {str(daemon.folder): "<root>"}, daemon.inside))
        yield Both(TABLE, engines[0], engines[1], busybox_archive)


@pytest.mark.parametrize("row", TABLE.rows, ids=str)
def test_row(both: Both, row: Row) -> None:
    both.check(row)
