"""docker's column of the tables in docs/howto/volumes.md is what a real dockerd's containers find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import binds
from tests.binds import FOLDERS, LOCKS, Place, Row
from tests.interop.dockerd import Dockerd

pytestmark = [pytest.mark.interop, pytest.mark.docker]


@pytest.fixture(scope="module")
def places(docker: Dockerd, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    folder = tmp_path_factory.mktemp("shared")
    with binds.places(docker, files, folder, ("one", "two"), "--security-opt", "apparmor=unconfined") as places:
        yield places


@pytest.mark.parametrize("row", FOLDERS + LOCKS, ids=lambda row: row.what)
@pytest.mark.parametrize("kind", ["bind", "volume"])
def test_a_row_is_dockers(places: dict[str, Place], row: Row, kind: str) -> None:
    assert binds.word(row.question(places[kind])) == row.cells[0]
