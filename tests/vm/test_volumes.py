"""Volumes and binds: where a write goes, what a guest makes on the host, how a new volume is filled."""

import itertools
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.lib import mount
from hypercontainer.storage.filling import UNFINISHED
from hypercontainer.testing import busybox, layers
from hypercontainer.testing.daemon import PrivateDaemon, Result, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import time_passes

pytestmark = pytest.mark.vm

KINDS = ("bind", "volume", "tmpfs", "image")
PAIRS = [(above, below) for above, below in itertools.product(KINDS, KINDS)]
ORDERS = ("above", "below")  # which of the two the command line names first


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": ACCELERATOR}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


def inside(daemon: PrivateDaemon, name: str, script: str) -> str:
    done = daemon.ctl("exec", name, "sh", "-c", script)
    return (done.out + done.err).strip()


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


def test_a_folder_of_the_host_is_a_volume_by_name(daemon: PrivateDaemon, tmp_path: Path) -> None:
    options = ("-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}")
    assert daemon.ctl("volume", "create", *options, "named").out == "named\n"
    (tmp_path / "file").write_text("host")
    done = daemon.ctl("run", "--rm", "-v", "named:/d", "busybox", "sh", "-c", "cat /d/file; echo guest >/d/more")
    assert (done.status, done.out, (tmp_path / "more").read_text()) == (0, "host", "guest\n")
    assert daemon.ctl("volume", "rm", "named").status == 0 and (tmp_path / "file").exists()


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
        assert said[12] == "Operation not permitted"
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


# Filling

FILES = [f"f{n:03}" for n in range(400)]  # so many that one is filled for a while


@pytest.fixture(scope="module")
def filling(daemon: PrivateDaemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with FILES in /data."""
    archive = tmp_path_factory.mktemp("image") / "filling.tar"
    own = layers.layer([layers.folder("data"), *(layers.member(f"data/{name}", b"content") for name in FILES)])
    archive.write_bytes(layers.docker_archive([busybox.layer(busybox.find_busybox(), {}), own], ["filling:latest"]))
    assert daemon.ctl("load", "-i", str(archive)).status == 0
    return "filling"


@pytest.fixture
def new(daemon: PrivateDaemon) -> Iterator[Path]:
    """The folder of a volume named new that is."""
    assert daemon.ctl("volume", "create", "new").status == 0
    yield Path(daemon.ctl("volume", "inspect", "-f", "{{.Mountpoint}}", "new").out.strip())
    assert daemon.ctl("volume", "rm", "new").status == 0


@pytest.fixture
def pod(daemon: PrivateDaemon, files: Path, tmp_path: Path) -> Iterator[str]:
    """A pod's name, and that of a container which sees all folders of the pod below /s, and may do there what root of
    its virtual machine may."""
    mounts = [{"volume": "files", "path": "/files", "readOnly": True}]
    first = {"name": "first", "image": "busybox", "command": ["sleep", "100000"], "volumes": mounts}
    spec = {"name": "sees", "containers": [first], "volumes": [{"name": "files", "source": str(files)}]}
    (tmp_path / "pod.yaml").write_text(json.dumps(spec))
    assert daemon.ctl("pod", "run", "-f", str(tmp_path / "pod.yaml")).status == 0
    words = ["--pod", "sees", "--name", "sees", "--privileged", "-v", f"{files}:/files:ro", "busybox"]
    assert daemon.ctl("run", "-d", *words, "sleep", "100000").status == 0
    assert inside(daemon, "sees", "mkdir /s && mount -t virtiofs hyper /s") == ""
    yield "sees"
    assert daemon.ctl("pod", "rm", "-f", "sees").status == 0


def test_a_new_read_only_volume_is_filled_and_stays_as_it_is(daemon: PrivateDaemon, filling: str, new: Path) -> None:
    """Also for root of the virtual machine, who mounts the pod's folders himself."""
    script = "ls /data; mkdir /s; mount -t virtiofs hyper /s; mount -o remount,rw /data; "
    script += "for folder in /data /s/*-0; do touch $folder/x; echo x > $folder/f000; rm $folder/f001; done"
    for run in ("fills it", "finds it filled"):
        words = ["--privileged", "-v", "new:/data:ro", filling, "sh", "-c", script]
        done = daemon.ctl("run", "--rm", *words)
        assert done.out.split() == FILES, run
        assert done.err.count("Read-only file system") == 6, (run, done.err)
        assert sorted(path.name for path in new.iterdir()) == FILES
        assert {path.read_text() for path in new.iterdir()} == {"content"}
    done = daemon.ctl("run", "--rm", "--mount", "type=volume,dst=/data,readonly", filling, "ls", "/data")
    assert done.out.split() == FILES, "an anonymous one"


def test_a_read_only_volume_that_is_not_to_be_filled_is_never_writable(
    daemon: PrivateDaemon, filling: str, new: Path
) -> None:
    assert daemon.ctl("run", "--rm", "-v", "new:/data:ro,nocopy", filling, "ls", "/data").out == ""
    assert list(new.iterdir()) == []


@pytest.mark.parametrize("second", ["ro", "rw"])
def test_pods_that_start_at_once_find_a_new_volume_filled(
    daemon: PrivateDaemon, filling: str, new: Path, second: str
) -> None:
    def run(option: str) -> Result:
        return daemon.ctl("run", "--rm", "-v", f"new:/data:{option}", filling, "ls", "/data")

    with ThreadPoolExecutor(3) as pool:
        for done in pool.map(run, ["rw", "ro", second]):
            assert (done.status, done.out.split()) == (0, FILES), done


def test_a_guest_that_holds_on_to_a_volume_that_it_fills_is_ended(
    daemon: PrivateDaemon, filling: str, new: Path, pod: str
) -> None:
    made = daemon.ctl("create", "--pod", pod, "--name", "fills", "-v", "new:/data:ro", filling, "sleep", "100000")
    place = f"/s/{made.out[:12]}-0/held"
    argv = daemon.argv("exec", "-i", pod, "/files", "grab", place)
    with subprocess.Popen(argv, env=daemon.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        done = daemon.ctl("start", "fills")
        assert done.status == 1
        assert (
            "cannot make volume new read-only after it was filled: a file in it was still open for writing" in done.err
        )
        assert holder.communicate()[0] == "ok\n"
    assert daemon.ctl("wait", pod).out == "255\n"
    assert daemon.ctl("rm", "fills").status == 0


def virtiofsd(daemon: PrivateDaemon, pod: str) -> int:
    """The process that serves the pod's folders."""
    id = json.loads(daemon.ctl("pod", "inspect", pod).out)[0]["Id"]
    parent = (daemon.folder / f"run/pods/{id}/virtiofsd.pid").read_text().splitlines()[1].split()[0]
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_who_goes_on_with_what_was_filled_half(daemon: PrivateDaemon, filling: str, new: Path, pod: str) -> None:
    """However that came: its virtual machine is gone here."""
    server = virtiofsd(daemon, pod)
    vmm = int(daemon.ctl("inspect", "-f", "{{.Vm.Pid}}", pod).out)
    daemon.ctl("create", "--pod", pod, "--name", "fills", "-v", "new:/data", filling, "sleep", "100000")
    with subprocess.Popen(daemon.argv("start", "fills"), env=daemon.env, stderr=subprocess.DEVNULL) as start:
        while not (new / UNFINISHED).exists():
            assert start.poll() is None  # it ended, and we have not seen it at work
        os.kill(server, signal.SIGSTOP)  # it fills no more, and goes with its virtual machine
        os.kill(vmm, signal.SIGKILL)
        assert start.wait() == 1
    assert not (new / FILES[-1]).exists()
    refused = daemon.ctl("run", "--rm", "-v", "new:/data:ro", filling, "true")
    assert (refused.status, "volume new: it is half filled" in refused.err) == (125, True), refused
    (new / FILES[-1]).write_text("written meanwhile")
    done = daemon.ctl("run", "--rm", "-v", "new:/data", filling, "ls", "-A", "/data")
    assert done.out.split() == FILES
    assert [path.name for path in new.iterdir() if path.read_text() != "content"] == [FILES[-1]]
    assert daemon.ctl("rm", "fills").status == 0


def test_hyperd_killed_while_a_read_only_volume_is_filled_refuses_writes_when_it_is_back(
    daemon: PrivateDaemon, filling: str, new: Path, pod: str
) -> None:
    made = daemon.ctl("create", "--pod", pod, "--name", "fills", "-v", "new:/data:ro", filling, "sleep", "100000")
    name = f"/{made.out[:12]}-0"
    server = virtiofsd(daemon, pod)
    with stopped(server):
        with subprocess.Popen(daemon.argv("start", "fills"), env=daemon.env, stderr=subprocess.DEVNULL):
            while f" {name} rw," not in Path(f"/proc/{server}/mountinfo").read_text():
                time_passes()
            daemon.signal(signal.SIGKILL)
        assert list(new.iterdir()) == []
    daemon.start()
    assert inside(daemon, pod, f"echo x > /s{name}/x").endswith("Read-only file system")
    assert daemon.ctl("rm", "fills").status == 0


# File systems of their own


def test_a_tmpfs_is_shared_by_machines_and_outlives_hyperd_not_its_last_user(
    kernels: Path, busybox_archive: Path
) -> None:
    with private_daemon(kernels, {"accelerator": ACCELERATOR}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        options = ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=750,uid=7")
        assert daemon.ctl("volume", "create", *options, "fast").status == 0
        mountpoint = daemon.root / "volumes/fast/_data"
        for name in ("one", "two"):
            assert daemon.ctl("run", "-d", "--name", name, "-v", "fast:/f", "busybox", "sleep", "9999").status == 0
        assert inside(daemon, "one", "echo said by one >/f/x; stat -c '%a %u' /f") == "750 7"
        assert "No space left" in inside(daemon, "one", "dd if=/dev/zero of=/f/y bs=1M count=2; rm /f/y")
        assert daemon.ctl("rm", "-f", "one").status == 0
        daemon.signal(signal.SIGKILL)
        daemon.start()
        assert inside(daemon, "two", "cat /f/x") == "said by one"
        later = ("run", "--rm", "-v", "fast:/f", "busybox", "ls", "/f")
        assert daemon.ctl(*later).out == "x\n" and mount.mounted(mountpoint)
        pid = json.loads(daemon.ctl("inspect", "two").out)[0]["State"]["Pid"]
        daemon.signal(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)  # its machine ends while nobody looks
        daemon.start()
        assert not mount.mounted(mountpoint)
        assert daemon.ctl("rm", "two").status == 0
        assert daemon.ctl(*later).out == ""
        assert not mount.mounted(mountpoint)


def test_a_part_of_a_volume_is_no_way_out_of_it(daemon: PrivateDaemon) -> None:
    make = "mkdir -p /v/deep/er; echo x >/v/deep/er/file; ln -s deep/er /v/in; ln -s /etc /v/out; ln -s ../../.. /v/up"
    assert daemon.ctl("run", "--rm", "-v", "parts:/v", "busybox", "sh", "-c", make).status == 0

    def run(subpath: str, *command: str) -> Result:
        words = f"type=volume,src=parts,dst=/p,volume-subpath={subpath}"
        return daemon.ctl("run", "--rm", "--mount", words, "busybox", *command)

    for subpath in ("deep/er", "in", "./deep/x/../er/"):
        assert run(subpath, "sh", "-c", "ls /p; cat /p/file").out == "file\nx\n"
    assert run("in/file", "cat", "/p").out == "x\n"
    assert run("deep", "sh", "-c", "ls -d /p/..; echo y >/p/new").status == 0
    for subpath, why in (
        ("out", "path concatenation escapes the base directory"),
        ("up/etc", "path concatenation escapes the base directory"),
        ("none", "no such file or directory"),
        ("../etc", "subpath must be a relative path within the volume"),
    ):
        refused = run(subpath, "ls", "/p")
        assert refused.status and why in refused.err, (subpath, refused)
    assert daemon.ctl("run", "--rm", "-v", "parts:/v", "busybox", "cat", "/v/deep/new").out == "y\n"
