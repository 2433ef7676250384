"""Volumes and binds beside docker's: where a write goes, what crosses and what does not. Each cell of the table in
docs/howto/volumes.md is a line here."""

import itertools
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox, layers
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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """files.c as a program that runs here and in a container."""
    program = tmp_path_factory.mktemp("files") / "files"
    flags = ["-target", "x86_64-linux-musl", "-static", "-Os", "-s", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    source = Path(__file__).with_name("files.c")
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, source, "-o", program], check=True)
    return program


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


# What a guest's root makes on the host


def host_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_no_setid_bit_and_no_file_capability_reaches_the_host(
    daemon: PrivateDaemon, files: Path, tmp_path: Path
) -> None:
    """Through a bind and a volume, by root with every capability of the guest's."""
    (tmp_path / "there").write_text("a program of the host's\n")
    (tmp_path / "there").chmod(0o6755)
    for place in ("/bind", "/volume"):
        script = f"cd {place}; touch plain; mkdir folder; "
        for mode in ("4755", "2755", "6755"):
            script += "".join(f"/files {verb} {mode} {verb}{mode}; " for verb in ("create", "regular"))
            script += f"/files chmod {mode} plain; /files chmod {mode} folder; "
        script += "/files capability plain; cp /bin/busybox copy; chmod u+s copy 2>&1; "
        words = ["-v", f"{files}:/files:ro", "-v", f"{tmp_path}:/bind", "-v", "setid:/volume"]
        done = daemon.ctl("run", "--rm", "--privileged", *words, "busybox", "sh", "-c", script)
        said = done.out.splitlines()
        assert said[:12] == ["Operation not permitted"] * 12
        assert said[12] == "Not supported"
        assert "not permitted" in said[13]
    done = daemon.ctl("run", "--rm", "--privileged", *words, "busybox", "/files", "append", "hostile", "/bind/there")
    assert done.out == "ok\n"
    assert host_mode(tmp_path / "there") == 0o755  # what a guest has written to is no setuid program any more
    volume = Path(daemon.ctl("volume", "inspect", "-f", "{{.Mountpoint}}", "setid").out.strip())
    for folder in (tmp_path, volume):
        for path in folder.iterdir():
            assert not host_mode(path) & 0o6000, path
            assert os.listxattr(path) == []
        assert host_mode(folder / "plain") == 0o644
    assert daemon.ctl("volume", "rm", "setid").status == 0


def test_a_volume_is_filled_without_the_setid_bits_of_the_image(daemon: PrivateDaemon, tmp_path: Path) -> None:
    archive = tmp_path / "setid.tar"
    own = layers.layer([layers.folder("data", mode=0o2775), layers.member("data/program", b"x", mode=0o4755)])
    root = busybox.layer(busybox.find_busybox(), {})
    archive.write_bytes(layers.docker_archive([root, own], ["setid:latest"]))
    assert daemon.ctl("load", "-i", str(archive)).status == 0
    done = daemon.ctl("run", "--rm", "-v", "filled:/data", "setid", "stat", "-c", "%a", "/data", "/data/program")
    assert done.out.split() == ["775", "755"], done
    assert daemon.ctl("volume", "rm", "filled").status == 0
