"""Disks of another engine's snapshotter: what a shim is asked for them, in containerd's words, without a containerd."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest

from hypercontainer.hyperd.shim import messages as m
from hypercontainer.hyperd.shim.door import AGAIN, SERVICE
from hypercontainer.lib import protobuf, ttrpc
from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]

LIMIT_S = 600.0
MIB = 32  # of a disk
WORDS = "words of the root\n"
SHOW = "cat /file; cat /mine; echo more >> /mine"
T = TypeVar("T")


class RefusedError(Exception):
    """What containerd would tell."""


class Shim:
    """The shim of a container named after its bundle's folder, in a mount namespace of its own."""

    def __init__(self, hyper: PrivateDaemon, bundle: Path, *command: str) -> None:
        self.hyper, self.bundle, self.id = hyper, bundle, bundle.name
        bundle.mkdir()
        self._program("spec", program="runv")
        path = bundle / "config.json"
        config = json.loads(path.read_text())
        config["process"] |= {"args": ["sh", "-c", *command], "terminal": False}
        config["root"] = {"path": "rootfs"}
        path.write_text(json.dumps(config))
        self.address = self._program(*self._who(), "start").removeprefix("unix://")

    def _who(self) -> list[str]:
        return ["-namespace", "test", "-id", self.id, "-address", str(self.bundle.parent / "c.sock")]

    def _program(self, *words: str, program: str = "containerd-shim-hyper-v2") -> str:
        env = {**os.environ, "HYPER_OCI_HOST": f"unix://{self.hyper.folder}/hyper-oci.sock"}
        argv = ["unshare", "--mount", "--propagation", "slave", str(self.hyper.bin / program), *words]
        done = subprocess.run(
            argv, cwd=self.bundle, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="replace").strip()

    def send(self, method: str, wanted: object) -> socket.socket:
        request = ttrpc.Request(service=m.TASK, method=method, payload=protobuf.encode(wanted))
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT_S)
        sock.connect(self.address)
        sock.sendall(ttrpc.Frame(1, ttrpc.REQUEST, 0, protobuf.encode(request)).encode())
        return sock

    def answer(self, sock: socket.socket, kind: type[T]) -> T:
        with sock, sock.makefile("rb") as file:
            header = file.read(ttrpc.HEADER.size)
            answer = protobuf.decode(file.read(ttrpc.length(header)), ttrpc.Response)
        if answer.status and answer.status.code:
            raise RefusedError(answer.status.message)
        return protobuf.decode(answer.payload, kind)

    def call(self, method: str, wanted: object, kind: type[T]) -> T:
        return self.answer(self.send(method, wanted), kind)

    def creation(self, *mounts: m.Mount) -> m.CreateTaskRequest:
        out = f"file://{self.bundle}/out"
        return m.CreateTaskRequest(id=self.id, bundle=str(self.bundle), rootfs=list(mounts), stdout=out, stderr=out)

    def create(self, *mounts: m.Mount) -> None:
        self.call("Create", self.creation(*mounts), m.CreateTaskResponse)

    def run(self) -> str:
        """Start it, wait for its end, delete it; what it has said."""
        self.call("Start", m.StartRequest(id=self.id), m.StartResponse)
        self.call("Wait", m.WaitRequest(id=self.id), m.WaitResponse)
        self.call("Delete", m.DeleteRequest(id=self.id), m.DeleteResponse)
        return (self.bundle / "out").read_text()

    def close(self) -> None:
        """As containerd does it."""
        self.call("Shutdown", m.ShutdownRequest(id=self.id, now=True), m.Empty)
        self._program(*self._who(), "-bundle", str(self.bundle), "delete")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The programs of busybox, and a file, as a file system of each type; and a layer over that."""
    folder = tmp_path_factory.mktemp("images")
    etc = {f"etc/{name}": b"" for name in ("hosts", "hostname", "resolv.conf")}
    content = {"file": WORDS.encode(), "mine": b"mine\n", **etc}
    with tarfile.open(fileobj=BytesIO(busybox.layer(busybox.find_busybox(), content))) as tar:
        tar.extractall(folder / "tree")
    (folder / "over").mkdir()
    (folder / "over/file").write_text("words of a layer\n")
    for argv in (
        ["mkfs.erofs", "-x-1", "erofs", "tree"],
        ["mkfs.erofs", "-x-1", "over.erofs", "over"],
        ["mkfs.ext4", "-q", "-d", "tree", "-E", "root_owner=0:0", "ext4", f"{MIB}M"],
        ["mkfs.ext4", "-q", "-E", "root_owner=0:0", "empty", f"{MIB}M"],
    ):
        subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=120)
    return {name: folder / name for name in ("erofs", "over.erofs", "ext4", "empty")}


@pytest.fixture
def shims(hyper: PrivateDaemon, tmp_path: Path) -> Iterator[Callable[..., Shim]]:
    """Makes one that runs a shell's words; all of them are gone after the test, and nothing is left of them."""
    made: list[Shim] = []

    def make(*command: str) -> Shim:
        made.append(Shim(hyper, tmp_path / f"c{len(made)}", *(command or (SHOW,))))
        return made[-1]

    yield make
    if hyper.process is None:
        hyper.start()
    for shim in made:
        shim.close()
    assert hyper.ctl("ps", "-a", "-q", "--all-owners") == (0, "", "")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def disk(images: dict[str, Path], tmp_path: Path) -> Path:
    """One of ext4 of one's own."""
    return Path(shutil.copy(images["ext4"], tmp_path / "disk.img"))


@pytest.fixture
def device(disk: Path) -> Iterator[str]:
    """A block device."""
    device = subprocess.run(
        ["losetup", "-f", "--show", disk], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


def file(path: Path, *options: str, type: str = "ext4") -> m.Mount:
    return m.Mount(type=type, source=str(path), options=["loop", *options])


def content(disk: Path | str, path: str) -> str:
    """Of a file on a disk of ext4 that nobody uses."""
    argv = ["debugfs", "-R", f"cat {path}", str(disk)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def holders(path: Path | str) -> set[str]:
    """Programs that have it open."""
    wanted, found = os.stat(path), set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.path.samestat(os.stat(fd), wanted):
                found.add((fd.parents[1] / "comm").read_text().partition("-")[0].strip())
        except OSError:
            continue
    return found


def test_a_block_device_is_the_root_and_is_written(shims: Callable[..., Shim], device: str) -> None:
    for before in ("mine\n", "mine\nmore\n"):
        shim = shims()
        shim.create(m.Mount(type="ext4", source=device))
        assert not (shim.bundle / "rootfs/file").exists() and holders(device) == {"qemu"}
        assert shim.run() == WORDS + before
        assert holders(device) == set()
    assert content(device, "/mine") == "mine\nmore\nmore\n"


def test_a_device_that_is_mounted_here_is_nobody_else_s(
    shims: Callable[..., Shim], device: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    subprocess.run(["mount", device, tmp_path / "here"], check=True)
    try:
        with pytest.raises(RefusedError, match=f"cannot mount {device}: Device or resource busy"):
            shims().create(m.Mount(type="ext4", source=device))
    finally:
        subprocess.run(["umount", tmp_path / "here"], check=True)


def test_a_file_is_what_it_was_where_the_shim_is_whatever_has_its_name(
    shims: Callable[..., Shim], hyper: PrivateDaemon, disk: Path, tmp_path: Path
) -> None:
    """It is in a mount namespace that hyperd does not see."""
    shim = shims()
    [pid] = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().endswith(shim.address.encode() + b"\0")
    ]
    (tmp_path / "hidden").mkdir()
    within = ["nsenter", f"--mount=/proc/{pid}/ns/mnt"]
    for argv in (["mount", "-t", "tmpfs", "none", tmp_path / "hidden"], ["cp", disk, tmp_path / "hidden/disk"]):
        subprocess.run([*within, *map(str, argv)], check=True)
    shim.create(file(tmp_path / "hidden/disk"))
    assert shim.run() == WORDS + "mine\n"
    assert list((tmp_path / "hidden").iterdir()) == []


def test_one_machine_has_what_it_writes_and_any_number_what_they_read(shims: Callable[..., Shim], disk: Path) -> None:
    readers = [shims(), shims()]
    for reader in readers:
        reader.create(file(disk, "ro"))
    with pytest.raises(RefusedError, match="lock"):
        shims().create(file(disk))
    for reader in readers:
        assert {WORDS, "mine\n"} <= set(reader.run().splitlines(keepends=True))  # and what it may not, somewhere
    writer = shims()
    writer.create(file(disk))
    for options in ([], ["ro"]):
        with pytest.raises(RefusedError, match="lock"):
            shims().create(file(disk, *options))
    assert writer.run() == WORDS + "mine\n"
    assert content(disk, "/mine") == "mine\nmore\n" and holders(disk) == set()


MADE = ["X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "X-containerd.mkdir.path={{ mount 0 }}/work:0755"]
WRITTEN = [*MADE, "workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 2 }}"]


def layered(images: dict[str, Path], upper: Path) -> Sequence[m.Mount]:
    lowers = [file(images[name], "ro", type="erofs") for name in ("over.erofs", "erofs")]
    return [file(upper, "rw"), *lowers, m.Mount(type="format/mkdir/overlay", source="overlay", options=WRITTEN)]


def test_disks_that_lie_over_each_other(shims: Callable[..., Shim], images: dict[str, Path], tmp_path: Path) -> None:
    uppers = [Path(shutil.copy(images["empty"], tmp_path / f"upper{n}")) for n in range(2)]
    both = [shims(), shims()]
    for shim, upper in zip(both, uppers, strict=True):
        shim.create(*layered(images, upper))
    for shim, upper in zip(both, uppers, strict=True):
        assert shim.run() == "words of a layer\nmine\n"
        assert content(upper, "/upper/mine") == "mine\nmore\n"
    again = shims("cat /mine; mount | head -n 1")
    again.create(*layered(images, uppers[0]))
    assert re.fullmatch(r"mine\nmore\noverlay on / type overlay .*\n", again.run())


def test_layers_below_a_folder_of_this_host_are_mounted_here(
    shims: Callable[..., Shim], images: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("fs", "work"):
        (tmp_path / name).mkdir()
    lowers = [file(images[name], "ro", type="erofs") for name in ("over.erofs", "erofs")]
    said = [f"workdir={tmp_path}/work", f"upperdir={tmp_path}/fs", "lowerdir={{ overlay 0 1 }}"]
    shim = shims()
    shim.create(*lowers, m.Mount(type="format/mkdir/overlay", source="overlay", options=said))
    assert shim.run() == "words of a layer\nmine\n"
    assert (tmp_path / "fs/mine").read_text() == "mine\nmore\n"
    assert sorted(path.name for path in shim.bundle.iterdir() if path.is_dir()) == ["rootfs"]


@pytest.mark.parametrize("moment", ["before it is recorded", "recorded", "plugged"])
def test_hyperd_is_killed_before_a_disk_is_there(
    shims: Callable[..., Shim], hyper: PrivateDaemon, images: dict[str, Path], tmp_path: Path, moment: str
) -> None:
    upper = Path(shutil.copy(images["empty"], tmp_path / "upper"))
    shim = shims()
    pods = set((hyper.root / "pods").glob("*/pod.json"))
    creating = shim.send("Create", shim.creation(*layered(images, upper)))
    deadline = time.monotonic() + LIMIT_S
    reached: dict[str, Callable[[], bool]] = {
        "before it is recorded": lambda: True,
        "recorded": lambda: bool(set((hyper.root / "pods").glob("*/pod.json")) - pods),
        "plugged": lambda: "qemu" in holders(upper),
    }
    while not reached[moment]():
        assert time.monotonic() < deadline
    hyper.signal(signal.SIGKILL)
    hyper.start()
    shim.answer(creating, m.CreateTaskResponse)
    assert shim.run() == "words of a layer\nmine\n"
    assert content(upper, "/upper/mine") == "mine\nmore\n" and holders(upper) == set()


@pytest.mark.parametrize(
    ("mounts", "why"),
    [
        ([m.Mount(type="ext4", source="{disk}")], "it is a file, and the options have no loop"),
        ([m.Mount(type="ext4", source="/dev/null", options=["loop"])], "it is no disk"),
        ([m.Mount(type="ext4", source="{disk}.gone", options=["loop"])], "No such file or directory"),
        ([m.Mount(type="ext4", source="{disk}", options=["loop", "data=journal"])], "with option 'data=journal'"),
        ([m.Mount(type="erofs", source="{disk}", options=["loop"])], "erofs is read-only"),
        ([m.Mount(type="erofs", source="{disk}", options=["loop", "ro"])], "mount erofs from disk 0"),
        ([m.Mount(type="xfs", source="{disk}", options=["loop"])], "with loop"),
        ([m.Mount(type="mkfs/ext4", source="{disk}", options=["loop"])], "cannot mount a 'mkfs/ext4'"),
    ],
)
def test_what_is_refused_leaves_nothing(
    shims: Callable[..., Shim], disk: Path, mounts: list[m.Mount], why: str
) -> None:
    shim = shims()
    with pytest.raises(RefusedError, match=re.escape(why)):
        shim.create(*(m.Mount(type=x.type, source=x.source.format(disk=disk), options=x.options) for x in mounts))
    assert holders(disk) == set()
    shim.create(file(disk))
    assert shim.run() == WORDS + "mine\n"


def test_what_a_hyperd_has_deleted_before_its_death_is_told_by_the_next(
    hyper: PrivateDaemon, shims: Callable[..., Shim], disk: Path
) -> None:
    shim = shims("exit 7")
    shim.create(file(disk))
    shim.call("Start", m.StartRequest(id=shim.id), m.StartResponse)
    shim.call("Wait", m.WaitRequest(id=shim.id), m.WaitResponse)
    wanted = m.DeleteRequest(id=shim.id)
    told = shim.call("Delete", wanted, m.DeleteResponse)
    assert told.exit_status == 7
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(str(hyper.folder / "hyper-oci.sock.shims"))
        who = {"address": "a", "events": "b", "namespace": "test", "id": shim.id, "bundle": str(shim.bundle)}
        for number, flags, service, method, payload in (
            (1, 0, SERVICE, "Serve", json.dumps(who).encode()),
            (3, AGAIN, m.TASK, "Delete", protobuf.encode(wanted)),
        ):
            call = protobuf.encode(ttrpc.Request(service=service, method=method, payload=payload))
            sock.sendall(ttrpc.Frame(number, ttrpc.REQUEST, flags, call).encode())
        assert shim.answer(sock, m.DeleteResponse) == told
