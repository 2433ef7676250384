"""Volumes and binds beside docker's: where a write goes, what crosses and what does not. Each cell of the table in
docs/howto/volumes.md is a line here."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon

pytestmark = pytest.mark.vm

KINDS = ("bind", "volume", "tmpfs", "image")
PAIRS = [(above, below) for above, below in itertools.product(KINDS, KINDS)]
ORDERS = ("above", "below")  # which of the two the command line names first


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": "tcg"}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


def place(above: str, below: str, order: str) -> str:
    return f"/{order}-{above}-{below}"


def flags(kind: str, target: str, folder: Path) -> list[str]:
    name = target.strip("/").replace("/", "-")
    if kind == "tmpfs":
        return ["--tmpfs", target]
    if kind == "bind":
        (folder / name).mkdir()
        return ["-v", f"{folder / name}:{target}"]
    return ["-v", f"{name}:{target}"] if kind == "volume" else []


def test_a_write_goes_to_the_mount_that_lies_deepest(daemon: PrivateDaemon, tmp_path: Path) -> None:
    """Every kind above every other one, named in either order: the file is where the lower one's files are."""
    words: list[str] = []
    image_volumes: list[str] = []
    script = ""
    for (above, below), order in itertools.product(PAIRS, ORDERS):
        top = place(above, below, order)
        both = [(above, top), (below, f"{top}/sub")]
        for kind, target in both if order == "above" else both[::-1]:
            words += flags(kind, target, tmp_path)
            image_volumes += [target] if kind == "image" else []
        script += f"echo {top} > {top}/sub/written; echo {top} $(stat -f -c %T {top}/sub); "
    archive = tmp_path / "nested.tar"
    busybox.write_archive(archive, ["nested:latest"], config={"Volumes": {path: {} for path in image_volumes}})
    assert daemon.ctl("load", "-i", str(archive)).status == 0
    done = daemon.ctl("run", "--name", "nested", *words, "nested", "sh", "-c", script)
    assert done.status == 0, done
    kind_of = dict(line.split() for line in done.out.splitlines())
    sources = {m["Destination"]: m["Source"] for m in json.loads(daemon.ctl("inspect", "nested").out)[0]["Mounts"]}
    for (above, below), order in itertools.product(PAIRS, ORDERS):
        top = place(above, below, order)
        if below == "tmpfs":
            assert kind_of[top] == "tmpfs"
            if above != "tmpfs":
                assert list(Path(sources[top], "sub").iterdir()) == []
        else:
            assert Path(sources[f"{top}/sub"], "written").read_text() == f"{top}\n"
    assert daemon.ctl("rm", "-v", "nested").status == 0
    assert daemon.ctl("volume", "prune", "-f", "-a").status == 0
