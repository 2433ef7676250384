"""diff, commit and export beside Debian's dockerd: the same changes, the same words, images that both can run."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.dockerd import Dockerd
from tests.vm.conftest import ok

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and hyperd are root's"),
]

SCRIPTS = [
    "true",
    "echo 1 > /new; mkdir -p /a/b; : > /a/b/c",
    "echo 1 >> /etc/passwd; chmod 700 /home; chown 5:6 /tmp; chmod 755 /www",
    "rm /etc/passwd; rm -r /www; rmdir /var/log",
    "rm -r /www /var; mkdir /www /var; echo 1 > /www/index.html; mkdir /var/log; : > /var/x",
    "rm -r /var; echo 1 > /var; rm /etc/group; mkdir /etc/group; : > /etc/group/in",
    "mv /www /home/moved; mv /etc/passwd /etc/moved",
    "ln /etc/passwd /etc/again; ln -s x /etc/link; mkfifo /p; mknod /n c 1 3",
    "touch /etc/passwd; rm /etc/group; echo 1 > /etc/group",
    "cp -p /etc/passwd /p; cat /p > /etc/passwd; touch -r /p /etc/passwd; rm /p",
    ": > /tmp/x; rm /tmp/x",
    "mkdir /data; mkdir -m 777 /tmp/y; chmod 1777 /tmp/y",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_diff(docker: Dockerd, hyper: PrivateDaemon, script: str) -> None:
    """docker's order is that of a hash table: it is none."""
    lines = []
    for call in (docker.ctl, hyper.ctl):
        name = call("create", "busybox", "sh", "-ec", script).out.strip()
        assert call("start", "-a", name).status == 0
        done = call("diff", name)
        assert (done.status, done.err) == (0, "")
        lines.append(sorted(done.out.splitlines()))
        assert call("rm", name).status == 0
    assert lines[1] == lines[0]


def test_commit(docker: Dockerd, hyper: PrivateDaemon, tmp_path: Path) -> None:
    """The same configuration; and what was committed here runs there."""
    words = ["-a", "I <i@here>", "-m", "why", "-c", "ENV B=2", "-c", "EXPOSE 80", "-c", 'CMD ["cat", "/new"]']
    images = []
    for call in (docker.ctl, hyper.ctl):
        run = ("run", "--name", "made", "-e", "A=1", "-l", "k=v", "-w", "/www", "busybox", "sh", "-c", "echo 1 >/new")
        assert call(*run).status == 0
        done = call("commit", *words, "made", "made:1")
        assert done.status == 0 and done.out.startswith("sha256:")
        images.append(json.loads(call("image", "inspect", "made:1").out)[0])
        history = call("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1").out.splitlines()
        assert history[0] == "sh -c echo 1 >/new|why"
        assert call("run", "--rm", "made:1").out == "1\n"
    for key in ("Author", "Comment", "Architecture", "Os"):
        assert images[1][key] == images[0][key]
    for key in ("Env", "Cmd", "Entrypoint", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "User"):
        theirs, ours = (image["Config"].get(key) for image in images)
        assert (ours or None) == (theirs or None), key
    assert images[0]["Parent"] and images[1]["Parent"]
    assert len(images[0]["RootFS"]["Layers"]) == len(images[1]["RootFS"]["Layers"])
    ok(hyper, "save", "-o", str(tmp_path / "ours.tar"), "made:1")
    assert docker.ctl("load", "-i", str(tmp_path / "ours.tar")).status == 0
    assert docker.ctl("run", "--rm", "made:1").out == "1\n"
    for call in (docker.ctl, hyper.ctl):
        call("rm", "made")


def test_export(docker: Dockerd, hyper: PrivateDaemon, tmp_path: Path) -> None:
    found = []
    for number, call in enumerate((docker.ctl, hyper.ctl)):
        assert call("run", "--name", "out", "-v", "/kept", "busybox", "sh", "-c", SCRIPTS[4]).status == 0
        assert call("export", "-o", str(tmp_path / f"{number}.tar"), "out").status == 0
        call("rm", "-v", "out")
        with tarfile.open(fileobj=io.BytesIO((tmp_path / f"{number}.tar").read_bytes())) as archive:
            made = ("dev/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv")
            found.append({m.name: (m.type, m.mode & 0o7777) for m in archive if not m.name.startswith(made)})
    assert found[1] == found[0]
