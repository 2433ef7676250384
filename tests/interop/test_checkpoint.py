"""runv checkpoint and restore, with Debian's CRIU in real guests."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from hypercontainer.sandbox import criu
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.dockerd import DOCKERD, dockerd
from tests.vm.runv import LIMIT_S, Runv, until

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`"),
]

# Counts lines of stdin, and keeps what it knows in a variable, in files that are open, in memory, in another process.
COUNTS = """
exec 5>/open; echo kept >/dev/shm/memory; cd /tmp; nc -l -p 8080 -e echo still &
n=0; echo ready
while read line; do n=$((n + 1)); echo "$n $line" >&5; echo "$n $line"; done
"""


def test_processes_go_on_in_another_machine(runv: Runv) -> None:
    bundle, images, work = runv.bundle("sh", "-c", COUNTS, hostname="own"), runv.folder / "images", runv.folder / "work"
    one = runv.spawn("run", "--keep", "--bundle", str(bundle), "one")
    assert one.stdin and one.stdout
    assert one.stdout.readline() == b"ready\n"

    def says(line: str, *, to: object = None) -> str:
        process = to or one
        process.stdin.write(f"{line}\n".encode())  # type: ignore[attr-defined]
        process.stdin.flush()  # type: ignore[attr-defined]
        return str(process.stdout.readline().decode())  # type: ignore[attr-defined]

    assert says("before") == "1 before\n"
    runv.ok("checkpoint", "--image-path", str(images), "--work-path", str(work), "--leave-running", "one")
    assert (work / "dump.log").exists() and not (images / "dump.log").exists()
    assert says("while") == "2 while\n"
    assert runv.state("one")["status"] == "running"
    images = runv.folder / "second"
    runv.ok("checkpoint", "--image-path", str(images), "one")
    assert one.wait(600) == 128 + signal.SIGKILL
    assert runv.state("one")["status"] == "stopped"
    runv.ok("delete", "one")
    (bundle / "rootfs/later").write_text("of the host\n")

    two = runv.spawn("restore", "--image-path", str(images), "--bundle", str(bundle), "two")
    until(lambda: runv("state", "two").status == 0 and runv.state("two")["status"] == "running")
    assert says("after", to=two) == "3 after\n"
    assert (bundle / "rootfs/open").read_text() == "1 before\n2 while\n3 after\n"
    inside = "cat /dev/shm/memory /later; hostname; readlink /proc/1/cwd; nc 127.0.0.1 8080"
    assert runv.ok("exec", "two", "sh", "-c", inside) == "kept\nof the host\nown\n/tmp\nstill\n"
    assert two.stdin
    two.stdin.close()
    assert two.wait(600) == 0
    assert runv.ok("list", "-q") == ""


def test_restored_and_left_alone(runv: Runv) -> None:
    bundle, images = runv.bundle("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"), runv.folder / "images"
    runv.spawn("run", "--detach", "--bundle", str(bundle), "one").wait(LIMIT_S)
    runv.ok("checkpoint", "--image-path", str(images), "one")
    runv.ok("delete", "one")
    pid_file = runv.folder / "pid"
    words = ["restore", "--detach", "--image-path", str(images), "--pid-file", str(pid_file), "--bundle", str(bundle)]
    assert runv.spawn(*words, "one").wait(600) == 0
    state = runv.state("one")
    assert (state["status"], state["pid"]) == ("running", int(pid_file.read_text()))
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    until(lambda: runv("state", "one").status == 0)
    assert runv.state("one")["status"] == "running"
    runv.ok("kill", "one", "TERM")
    until(lambda: runv.state("one")["status"] == "stopped")
    runv.ok("delete", "one")


def test_a_restore_that_fails_after_hyperd_has_died_is_an_end(runv: Runv) -> None:
    """CRIU waits for images that nobody writes, and is killed."""
    bundle, images = runv.bundle("sleep", "1000"), runv.folder / "images"
    images.mkdir()
    for name in ("hyper.mounts", "hyper.pipes"):
        (images / name).touch()
    os.mkfifo(images / "inventory.img")
    client = runv.spawn("restore", "--detach", "--image-path", str(images), "--bundle", str(bundle), "one")
    until((images / "restore.log").exists)
    runv.hyper.signal(signal.SIGKILL)
    assert client.wait(LIMIT_S) == 1
    runv.hyper.start()
    until(lambda: runv("state", "one").status == 0)
    assert runv.state("one")["status"] == "running"
    runv.ok("kill", "one", "KILL")
    until(lambda: runv.state("one")["status"] == "stopped")
    runv.ok("delete", "one")


def test_what_cannot_be_saved_or_restored(runv: Runv) -> None:
    images, bundle = runv.folder / "images", runv.bundle("sleep", "1000")
    missing = runv("restore", "--image-path", str(images), "--bundle", str(bundle), "one")
    assert (missing.status, missing.err) == (1, f"cannot restore a container of {images}: there is no checkpoint\n")
    images.mkdir()
    (images / "inventory.img").touch()
    foreign = runv("restore", "--image-path", str(images), "--bundle", str(bundle), "one")
    assert foreign.status == 1 and "another runtime has made that checkpoint" in foreign.err
    for name in ("hyper.mounts", "hyper.pipes"):
        (images / name).touch()
    broken = runv("restore", "--image-path", str(images), "--bundle", str(bundle), "one")
    assert broken.status == 1 and broken.err.endswith(f"; see {images}/restore.log\n")
    assert runv.ok("list", "-q") == ""
    assert "--tcp-established: connections end" in runv("checkpoint", "--tcp-established", "one").err
    assert runv("checkpoint", "--image-path", str(images), "one").err.startswith("container does not exist")
    runv.spawn("run", "--detach", "--bundle", str(bundle), "one").wait(LIMIT_S)
    exec_ = runv.spawn("exec", "one", "sh", "-c", "echo up; exec sleep 1000")
    assert exec_.stdout and exec_.stdout.readline() == b"up\n"
    assert "processes of exec run in it" in runv("checkpoint", "--image-path", str(images), "one").err
    assert runv.state("one")["status"] == "running"
    names = [mount for mount in Path("/proc/mounts").read_text().splitlines() if "-criu" in mount]
    assert names == []
    assert json.loads(runv.ok("features"))["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true"
    assert os.listdir(runv.hyper.folder / "run/criu")


@pytest.mark.skipif(not DOCKERD.exists(), reason="there is no dockerd: run `make interop`")
def test_docker_saves_a_container_and_starts_it_again(hyper: PrivateDaemon, busybox_archive: Path) -> None:
    env = {"HYPER_OCI_HOST": f"unix://{hyper.folder}/hyper-oci.sock"}
    flags = ["--add-runtime", f"runv={hyper.bin}/runv", "--default-runtime", "runv", "--experimental"]
    with dockerd(flags=flags, env=env) as daemon:

        def ok(*words: str) -> str:
            done = daemon.ctl(*words)
            assert done.status == 0, (words, done)
            return done.out.strip()

        def goes_on() -> bool:
            """dockerd gives its containerd what that may have yet, of the checkpoint's making, until it is swept."""
            done = daemon.ctl("start", "--checkpoint", "then", "one")
            assert done.status == 0 or "already exists" in done.err, done
            return done.status == 0

        ok("load", "-q", "-i", str(busybox_archive))
        script = "n=0; while :; do n=$((n + 1)); echo $n >/next; mv /next /count; sleep 0.1; done"
        ok("run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", script)
        until(lambda: daemon.ctl("exec", "one", "cat", "/count").out.strip().isdecimal())
        ok("checkpoint", "create", "one", "then")
        assert ok("checkpoint", "ls", "one").split()[-1] == "then"
        until(lambda: ok("inspect", "-f", "{{.State.Status}}", "one") == "exited")  # dockerd hears of it a moment later
        ok("cp", "one:/count", str(hyper.folder / "before"))
        until(goes_on)
        assert int(ok("exec", "one", "cat", "/count")) >= int((hyper.folder / "before").read_text())
        ok("rm", "-f", "one")
