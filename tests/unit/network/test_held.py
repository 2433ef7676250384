"""A network namespace that somebody else made is held, and let go of."""

import os
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.lib import mount, netns
from tests.interop.netns import namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


def test_it_is_there_until_it_is_let_go(tmp_path: Path) -> None:
    place = tmp_path / "held"
    with namespace("hyheld") as name:
        netns.hold(f"/run/netns/{name}", place)
        was = inode(f"/run/netns/{name}")
    with netns.opened(str(place)) as fd:
        assert netns.identity(fd) == was
    netns.let_go(place)
    netns.let_go(place)
    assert not place.exists() and not mount.mounted(place)


def test_another_one_takes_its_place(tmp_path: Path) -> None:
    place = tmp_path / "held"
    with namespace("hyheld") as one, namespace("hyother") as other:
        for name in (one, other):
            netns.hold(f"/run/netns/{name}", place)
        assert inode(place) == inode(f"/run/netns/{other}")
        netns.let_go(place)


def test_what_is_none_is_not_held(tmp_path: Path) -> None:
    for path, error in (("/proc/self/ns/ipc", InvalidInput), (__file__, NotFound), ("/nosuch", NotFound)):
        with pytest.raises(error):
            netns.hold(path, tmp_path / "held")
    assert list(tmp_path.iterdir()) == []
