"""The table of statuses is what a real dockerd does."""

from pathlib import Path

import pytest

from tests import statuses
from tests.interop.dockerd import Dockerd

pytestmark = [pytest.mark.interop, pytest.mark.docker]


def test_the_table_is_dockers(docker: Dockerd, tmp_path: Path) -> None:
    engine, steps = statuses.read()
    if docker.version() != engine:
        pytest.skip(f"{docker.version()} is not {engine}, whose words the table has")
    assert list(statuses.walk(docker.ctl, tmp_path, steps)) == steps
