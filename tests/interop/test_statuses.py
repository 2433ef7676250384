"""The table of statuses is what a real dockerd does."""

import os
from pathlib import Path

import pytest

from tests import statuses
from tests.interop.dockerd import DOCKER, DOCKERD, dockerd

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd is root's"),
    pytest.mark.skipif(not (DOCKERD.exists() and DOCKER.exists()), reason="docker.io is not installed"),
]


def test_the_table_is_dockers(busybox_archive: Path, tmp_path: Path) -> None:
    engine, steps = statuses.read()
    try:
        with dockerd() as docker:
            if docker.version() != engine:
                pytest.skip(f"{docker.version()} is not {engine}, whose words the table has")
            assert docker.ctl("load", "-i", str(busybox_archive)).status == 0
            assert list(statuses.walk(docker.ctl, tmp_path, steps)) == steps
    except OSError as e:
        pytest.skip(f"dockerd does not run here: {e}")
