"""Snapshotters of containerd that have disks: these are the machine's, and what it writes is found there."""

import gzip
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.containerd import LIMIT_S, Containerd, containerd

pytestmark = [pytest.mark.interop, pytest.mark.docker, pytest.mark.vm]

RUNTIME = ("--runtime", "io.containerd.hyper.v2")
IMAGE = "docker.io/library/busybox:latest"
SETTINGS = """
[plugins."io.containerd.snapshotter.v1.blockfile"]
root_path = "{folder}/blockfile"
scratch_file = "{scratch}"
fs_type = "ext4"
mount_options = ["loop"]
[plugins."io.containerd.snapshotter.v1.erofs"]
default_size = "64MiB"
"""
WRITE = "echo written > /mine; rm /etc/group; mv /www /moved; chmod 4755 /mine; cat /proc/mounts /proc/partitions"
ROOTS = {"blockfile": "/dev/sd[a-z] / ext4 rw", "erofs": "overlay / overlay rw"}


@pytest.fixture(scope="module")
def daemon(
    shared_hyperd: PrivateDaemon, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containerd]:
    folder = tmp_path_factory.mktemp("snapshotters")
    subprocess.run(["mkfs.ext4", "-q", folder / "scratch", "64M"], check=True, timeout=LIMIT_S)
    settings = SETTINGS.format(folder=folder, scratch=folder / "scratch")
    env = {"HYPER_OCI_HOST": f"unix://{shared_hyperd.folder}/hyper-oci.sock"}
    with containerd(shared_hyperd.bin, env, which="today", settings=settings) as daemon:
        for snapshotter in ROOTS:
            daemon.ok("image", "import", "--local", "--snapshotter", snapshotter, str(busybox_archive))
        yield daemon


@pytest.mark.parametrize("snapshotter", ROOTS)
def test_what_is_a_disk_is_the_machine_s(daemon: Containerd, hyper: PrivateDaemon, snapshotter: str) -> None:
    by = ("--snapshotter", snapshotter)
    try:
        done = daemon("run", *by, *RUNTIME, IMAGE, "one", "sh", "-c", WRITE)
        assert done.status == 0, (done, daemon.log()[-3000:])
        assert re.match(ROOTS[snapshotter], done.out), done.out
        if snapshotter == "blockfile":  # ctr mounts no disks of the other's
            changed = _diff(daemon, *by, "one")
            assert changed["mine"].mode == 0o4755 and "etc/.wh.group" in changed and "moved/index.html" in changed
        again = daemon("run", "--rm", *by, *RUNTIME, IMAGE, "two", "ls", "/mine", "/etc/group")
        assert (again.status, again.out) == (1, "/etc/group\n")
        seen = daemon("run", "--rm", "--read-only", *by, *RUNTIME, IMAGE, "three", "touch", "/mine")
        assert seen.status == 1 and "Read-only file system" in seen.err
    finally:
        daemon.clear()
    assert str(daemon.folder) not in Path(f"/proc/{daemon.process.pid}/mountinfo").read_text()
    assert hyper.ctl("ps", "-a", "-q", "--all-owners") == (0, "", "")


def _diff(daemon: Containerd, *words: str) -> dict[str, tarfile.TarInfo]:
    """What containerd says that a container has changed, which is a layer."""
    done = subprocess.run(
        daemon.argv("snapshots", *words[:2], "diff", *words[2:]), capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, (done.stderr, daemon.log()[-3000:])
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(done.stdout))) as tar:
        return {member.name.rstrip("/"): member for member in tar}
