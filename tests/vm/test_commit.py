"""commit, diff, export: what a container has made of its image, and what comes of that, in real guests."""

import io
import json
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok, time_passes

pytestmark = pytest.mark.vm

CHANGE = """
set -e
echo new > /etc/new; rm /etc/group; rm -r /var; mkdir /var; echo v > /var/v
mkdir -m 750 /x; cd /x; echo 1 > a; ln a b; ln -s /etc/passwd l; mkfifo p; mknod n c 1 3
chown 1000:2000 a; chmod 4711 a; touch -d '2001-02-03 04:05:06' a
truncate -s 64M hole; echo end >> hole; mv /root /moved
"""
LOOK = """
cat /etc/new /var/v /x/a /x/b; ls /etc/group /root 2> /dev/null
stat -c '%n %f %u %g %h %s %Y' /x/a /x/b /x/l /x/p /x/hole; stat -c '%n %f %u %g %Y' /x /moved /var
stat -c '%t:%T' /x/n; tail -c 4 /x/hole; ls /var
"""


def changed(hyper: PrivateDaemon, name: str) -> str:
    """A container that has made all kinds of changes, and what it sees of them."""
    ok(hyper, "run", "-d", "--name", name, "busybox", "sleep", "1000000")
    ok(hyper, "exec", name, "sh", "-c", CHANGE)
    return hyper.ctl("exec", name, "sh", "-c", LOOK).out


def test_a_running_container_becomes_an_image(hyper: PrivateDaemon) -> None:
    seen = changed(hyper, "one")
    parent = json.loads(ok(hyper, "image", "inspect", "busybox"))[0]["Id"]
    made = ok(hyper, "commit", "-m", "why", "-c", "ENV X=1", "-c", 'CMD ["sh", "-c", "echo $X"]', "one", "mine:1")
    image = json.loads(ok(hyper, "image", "inspect", "mine:1"))[0]
    assert (image["Id"], image["Parent"], image["Comment"]) == (made, parent, "why")
    assert ok(hyper, "run", "--rm", "mine:1") == "1"
    assert hyper.ctl("run", "--rm", "mine:1", "sh", "-c", LOOK).out == seen
    assert ok(hyper, "exec", "one", "echo", "it runs on") == "it runs on"
    ok(hyper, "rm", "-f", "one")
    assert ok(hyper, "run", "--rm", "mine:1") == "1"


def test_a_stopped_container_becomes_an_image_and_an_image_of_that(hyper: PrivateDaemon) -> None:
    hyper.ctl("run", "--name", "two", "busybox", "sh", "-c", "echo 1 > /one; rm /etc/group")
    ok(hyper, "commit", "two", "first")
    ok(hyper, "rm", "two")
    hyper.ctl("run", "--name", "three", "first", "sh", "-c", "rm /one; echo 2 > /two; echo g > /etc/group")
    assert ok(hyper, "diff", "three").splitlines() == ["C /etc", "A /etc/group", "D /one", "A /two"]
    ok(hyper, "commit", "three", "second")
    ok(hyper, "rm", "three")
    assert ok(hyper, "run", "--rm", "second", "sh", "-c", "cat /two /etc/group; ls /one 2> /dev/null || echo gone") == (
        "2\ng\ngone"
    )
    assert [entry["Parent"] != "" for entry in json.loads(ok(hyper, "image", "inspect", "first", "second"))] == [
        True, True,
    ]  # fmt: skip


def test_a_capability_stays(hyper: PrivateDaemon, tmp_path: Path) -> None:
    """One that was set in the container, in a file that the image has."""
    subprocess.run(["cp", "/bin/busybox", tmp_path / "ping"], check=True)
    subprocess.run(["setcap", "cap_net_raw+ep", tmp_path / "ping"], check=True)
    tar = subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--format=pax", "-c", "-C", tmp_path, "ping"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    ok(hyper, "create", "--name", "four", "busybox", "true")
    ok(hyper, "cp", "-", "four:/bin", stdin=tar)
    ok(hyper, "commit", "four", "capable")
    ok(hyper, "rm", "four")
    hyper.ctl("run", "--name", "five", "capable", "true")
    with tarfile.open(fileobj=io.BytesIO(export(hyper, "five", tmp_path))) as archive:
        assert "SCHILY.xattr.security.capability" in archive.getmember("bin/ping").pax_headers
    ok(hyper, "rm", "five")


def export(hyper: PrivateDaemon, name: str, folder: Path) -> bytes:
    ok(hyper, "export", "-o", str(folder / "tree.tar"), name)
    return (folder / "tree.tar").read_bytes()


def test_nothing_was_changed(hyper: PrivateDaemon) -> None:
    hyper.ctl("run", "--name", "six", "busybox", "true")
    assert ok(hyper, "diff", "six") == ""
    made = ok(hyper, "commit", "six")
    image, parent = (json.loads(ok(hyper, "image", "inspect", name))[0] for name in (made, "busybox"))
    assert image["RootFS"] == parent["RootFS"]
    ok(hyper, "rm", "six")


COUNT = "head -c 16777216 /dev/urandom > /big; n=0; while :; do n=$((n + 1)); echo $n > /n; usleep 1000; done"


def test_a_hyperd_that_is_killed_leaves_nothing_standing_still(hyper: PrivateDaemon) -> None:
    """The guest lets the container go on when nobody takes the layer any more."""
    ok(hyper, "run", "-d", "--name", "seven", "busybox", "sh", "-c", COUNT)
    while not hyper.ctl("exec", "seven", "cat", "/n").out.strip():
        time_passes()
    with subprocess.Popen(hyper.argv("commit", "seven"), env=hyper.env, stderr=subprocess.DEVNULL):
        while not any(layer.stat().st_size for layer in (hyper.root / "images/work").glob("*/layer")):
            time_passes()
        hyper.signal(signal.SIGKILL)
    hyper.start()
    before = ok(hyper, "exec", "seven", "cat", "/n")
    while ok(hyper, "exec", "seven", "cat", "/n") == before:
        time_passes()
    made = ok(hyper, "commit", "seven")
    assert ok(hyper, "run", "--rm", made, "stat", "-c", "%s", "/big") == "16777216"
    ok(hyper, "rm", "-f", "seven")


def test_one_of_several_in_a_pod(hyper: PrivateDaemon, tmp_path: Path) -> None:
    containers = [
        {"name": "stays", "image": "busybox", "command": ["sleep", "1000000"]},
        {"name": "ends", "image": "busybox", "command": ["sh", "-c", "echo 1 > /one"]},
    ]
    (tmp_path / "pod.json").write_text(json.dumps({"name": "both", "containers": containers}))
    ok(hyper, "pod", "run", "-f", str(tmp_path / "pod.json"))
    ok(hyper, "wait", "ends")
    ok(hyper, "exec", "stays", "touch", "/two")
    assert (ok(hyper, "diff", "ends"), ok(hyper, "diff", "stays")) == ("A /one", "A /two")
    ok(hyper, "commit", "ends", "of-a-pod")
    assert ok(hyper, "run", "--rm", "of-a-pod", "cat", "/one") == "1"
    ok(hyper, "pod", "rm", "-f", "both")
