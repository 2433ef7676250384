"""process.archive of what a container has made of its image: a layer, the list of it, and all that there is."""

import errno
import io
import os
import random
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hypercontainer.images.tar import Reader, Stream
from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import Refused

ROOT = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP"]
PING = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def ask(guest: Guest, mode: str, container: str = "c1", **args: Any) -> tuple[int, bytes, str]:
    streams = guest.host.streams()
    guest.host.call("process.archive", id="tar", container=container, mode=mode, path="/", streams=streams, **args)
    data, errors = guest.host.read_all(streams["stdout"]), guest.host.read_all(streams["stderr"]).decode()
    status = guest.host.exit_of("tar")["status"]
    guest.host.events = [e for e in guest.host.events if e["process"] != "tar"]
    guest.host.call("process.forget", process="tar")
    return status, data, errors


def layer(guest: Guest, mode: str = "layer", **args: Any) -> tarfile.TarFile:
    status, data, errors = ask(guest, mode, **args)
    assert (status, errors) == (0, "")
    return tarfile.open(fileobj=io.BytesIO(data.ljust(10240, b"\0")))


def changes(guest: Guest) -> list[str]:
    status, data, errors = ask(guest, "changes")
    assert (status, errors) == (0, "")
    assert data == b"" or data.endswith(b"\0")
    return [f"{row[:1]} {row[1:]}" for row in data.decode().split("\0")[:-1]]


def sh(guest: Guest, script: str) -> None:
    assert guest.sh(script, capabilities=ROOT) == (0, "", "")


def test_a_container_that_changed_nothing_has_an_empty_layer(running: Guest) -> None:
    sh(running, "cat /etc/passwd /data/file > /dev/null; : > /dev/shm/x; chmod 644 /etc/passwd")
    status, data, errors = ask(running, "layer")
    assert (status, data, errors) == (0, bytes(1024), "")
    assert changes(running) == []


def test_what_was_added_changed_and_deleted(running: Guest) -> None:
    sh(running, "echo new > /etc/new; echo more >> /data/file; rm /data/sub/deep; mkdir -m 700 /srv; chown 5:6 /tmp")
    found = layer(running)
    names = ["data", "data/file", "data/sub", "data/sub/.wh.deep", "etc", "etc/new", "srv", "tmp"]
    assert found.getnames() == names
    assert found.extractfile("data/file").read() == b"of the image\nmore\n"  # type: ignore[union-attr]
    whiteout = found.getmember("data/sub/.wh.deep")
    assert (whiteout.isreg(), whiteout.size) == (True, 0)
    assert (found.getmember("srv").mode, found.getmember("tmp").uid, found.getmember("tmp").gid) == (0o700, 5, 6)
    assert changes(running) == [
        "C /data", "C /data/file", "C /data/sub", "D /data/sub/deep", "C /etc", "A /etc/new", "A /srv", "C /tmp",
    ]  # fmt: skip


def test_a_folder_that_was_replaced_hides_the_image_s(running: Guest) -> None:
    sh(running, "rm -r /data; mkdir -p /data/sub; echo other > /data/sub/mine; ln -s x /data/link")
    found = layer(running)
    assert found.getnames() == ["data", "data/.wh..wh..opq", "data/link", "data/sub", "data/sub/mine"]
    assert changes(running) == [
        "C /data", "D /data/file", "C /data/link", "C /data/sub", "D /data/sub/deep", "A /data/sub/mine",
    ]  # fmt: skip


def test_a_folder_that_was_renamed_is_whole_at_its_new_place(running: Guest) -> None:
    sh(running, "mv /data /moved")
    found = layer(running)
    assert found.getnames() == [".wh.data", "moved", "moved/file", "moved/link", "moved/sub", "moved/sub/deep"]
    assert found.extractfile("moved/sub/deep").read() == b"deeper\n"  # type: ignore[union-attr]
    assert changes(running)[0] == "D /data"
    assert changes(running)[1:] == [f"A /{name}" for name in found.getnames()[1:]]


def test_files_become_folders_and_folders_files(running: Guest) -> None:
    sh(running, "rm /data/file; mkdir /data/file; : > /data/file/x; rm -r /data/sub; echo s > /data/sub")
    found = layer(running)
    assert found.getnames() == ["data", "data/file", "data/file/x", "data/sub"]
    assert (found.getmember("data/file").isdir(), found.getmember("data/sub").isreg()) == (True, True)
    assert changes(running) == ["C /data", "C /data/file", "A /data/file/x", "C /data/sub"]


def test_all_kinds_of_files(running: Guest, lower: Any) -> None:
    sh(
        running,
        """mkdir /x; cd /x; echo 1 > a; ln a b; ln -s /etc/passwd l; mkfifo p; mknod n c 1 3; mknod k b 8 1
        chown -h 3000000:4000000 l; chmod 4711 a; touch -d '2001-02-03 04:05:06' a""",
    )
    os.setxattr(running.folder / "upper-c1/data/x/a", "security.capability", PING)
    os.setxattr(running.folder / "upper-c1/data/x/a", "user.note", b"hi")
    os.utime(running.folder / "upper-c1/data/x/a", ns=(1, 981173106_123456789))
    found = layer(running)
    a = found.getmember("x/a")
    assert (a.mode, a.pax_headers["mtime"], a.size) == (0o4711, "981173106.123456789", 2)
    assert a.pax_headers["SCHILY.xattr.user.note"] == "hi"
    assert a.pax_headers["SCHILY.xattr.security.capability"].encode(errors="surrogateescape") == PING
    assert (found.getmember("x/b").islnk(), found.getmember("x/b").linkname) == (True, "x/a")
    link = found.getmember("x/l")
    assert (link.linkname, link.uid, link.gid) == ("/etc/passwd", 3000000, 4000000)
    kinds = [(found.getmember(f"x/{n}").type, found.getmember(f"x/{n}").devmajor) for n in "pnk"]
    assert kinds == [(tarfile.FIFOTYPE, 0), (tarfile.CHRTYPE, 1), (tarfile.BLKTYPE, 8)]
    assert "C /x/a" not in changes(running)


def test_a_capability_alone_is_a_change(running: Guest) -> None:
    sh(running, "chmod 755 /bin/notexec; chmod 644 /bin/notexec")
    os.setxattr(running.folder / "upper-c1/data/bin/notexec", "security.capability", PING)
    assert changes(running) == ["C /bin", "C /bin/notexec"]
    assert layer(running).getnames() == ["bin", "bin/notexec"]


def test_content_that_was_changed_behind_size_and_time_is_in_the_layer(running: Guest) -> None:
    """docker's comparison sees nothing there; a layer without it would be another file system."""
    sh(running, "touch -r /data/file /tmp/t; echo OF THE IMAGE > /data/file; touch -r /tmp/t /data/file; rm /tmp/t")
    assert changes(running) == []
    assert layer(running).extractfile("data/file").read() == b"OF THE IMAGE\n"  # type: ignore[union-attr]


def test_holes_do_not_travel(running: Guest) -> None:
    sh(running, "truncate -s 1G /h; echo end >> /h; printf x | dd of=/h bs=1 seek=5000000 conv=notrunc 2> /dev/null")
    status, data, errors = ask(running, "layer")
    assert (status, errors, len(data) < 1 << 20) == (0, "", True)
    [entry] = Reader(Stream(iter([data])))
    assert (entry.name, entry.size) == (b"h", (1 << 30) + 4)
    assert entry.sparse is not None
    assert any(at <= 5000000 < at + length for at, length in entry.sparse)
    found = tarfile.open(fileobj=io.BytesIO(data)).extractfile("h")  # noqa: SIM115 in memory
    assert found is not None
    found.seek(5000000)
    assert found.read(2) == b"x\0"


def test_names_that_would_be_whiteouts_are_refused(running: Guest) -> None:
    sh(running, "mkdir /y; : > /y/.wh.z")
    status, _, errors = ask(running, "layer")
    assert status != 0
    assert "y/.wh.z" in errors
    assert changes(running) == ["A /y", "A /y/.wh.z"]


def test_a_tree_is_all_but_what_is_mounted(guest: Guest) -> None:
    mounts = [
        {"type": "dev", "target": "/dev"}, {"type": "devpts", "target": "/dev/pts"},
        {"type": "tmpfs", "target": "/tmp"}, {"type": "proc", "target": "/proc"},
    ]  # fmt: skip
    guest.container(all_mounts=mounts)
    guest.first()
    sh(guest, "echo 1 > /tmp/hidden; rm /data/file")
    names = layer(guest, "tree").getnames()
    assert {"tmp", "proc", "dev", "bin/busybox", "etc/passwd"} <= set(names)
    assert not {"tmp/hidden", "proc/1", "dev/null", "data/file"} & set(names)
    assert layer(guest).getnames() == ["data", "data/.wh.file"]


def end(guest: Guest) -> None:
    guest.host.call("process.signal", process="first", signal=9)
    guest.host.exit_of("first")
    guest.host.events.clear()
    guest.host.call("process.forget", process="first")


def mounted(guest: Guest) -> list[str]:
    outer = guest.process.pid
    [inner] = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    lines = Path(f"/proc/{inner}/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if "/c/" in line.split()[1]]


def go_on(guest: Guest, name: str, old: str) -> None:
    """A container that goes on from where another one has ended, and runs."""
    end(guest)
    guest.container(name, rootfs={"over": old})
    guest.first(container=name)


def test_who_goes_on_has_a_layer_of_its_own(running: Guest) -> None:
    sh(running, "echo 1 > /one; rm /data/file; mv /data/sub /moved; echo x >> /etc/passwd")
    go_on(running, "c2", "c1")
    assert running.sh("cat /one /moved/deep; ls /data", container="c2") == (0, "1\ndeeper\nlink\n", "")
    assert ask(running, "layer", "c2") == (0, bytes(1024), "")
    assert running.sh("rm /one; echo 2 > /data/file; mv /moved /again", container="c2", capabilities=ROOT)[0] == 0
    names = ["again", "again/deep", "data", "data/file", ".wh.moved", ".wh.one"]
    assert layer(running, container="c2").getnames() == names
    assert [c["id"] for c in running.host.call("list")["containers"]] == ["c2"]
    assert mounted(running)
    go_on(running, "c3", "c2")
    assert running.sh("cat /data/file /again/deep; ls /moved", container="c3")[1] == "2\ndeeper\n"
    end(running)
    running.host.call("container.remove", id="c3")
    assert mounted(running) == []


def test_nobody_goes_on_from_what_is_in_use_or_has_no_layer(running: Guest) -> None:
    for old, number in ("c1", errno.EBUSY), ("nosuch", errno.ENOENT):
        with pytest.raises(Refused) as refused:
            running.container("c2", rootfs={"over": old})
        assert refused.value.errno == number
    sh(running, "echo still there > /x")
    with pytest.raises(Refused):
        running.container("c2", rootfs={"over": "c1", "folder": "x"})
    disk = running.folder / "disk"
    shutil.copytree(running.lower, disk, symlinks=True)
    running.container("disk", rootfs={"lower": {"path": str(disk), "type": "ext4"}})
    with pytest.raises(Refused, match="has written to its root itself"):
        running.container("c2", rootfs={"over": "disk"})


def test_what_goes_meanwhile_is_left_out(running: Guest) -> None:
    sh(running, "mkdir /s")
    names = " ".join(map(str, range(300)))
    for n in range(4):
        script = f"mkdir /s/{n}; cd /s/{n}; while :; do touch {names}; mkdir d; rm -r *; done"
        running.start(f"spin{n}", "sh", "-c", script)
    for mode in ("tree", "layer", "changes") * 10:
        status, _, errors = ask(running, mode)
        assert (status, errors) == (0, "")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has gone, or is going


def test_it_stands_still_meanwhile(running: Guest) -> None:
    """And goes on when that is over, however it came to its end."""
    sh(running, "dd if=/dev/zero of=/big bs=1M count=8 2> /dev/null")

    def frozen() -> bool:
        """Whether a group is: that of the container, for those of single processes come and go."""
        return any(_read(path) == "1\n" for path in running.cgroup.glob("**/cgroup.freeze"))

    streams = running.host.streams()
    running.host.call("process.archive", id="tar", container="c1", mode="layer", path="/", streams=streams, freeze=True)
    assert frozen()
    running.host.call("process.signal", process="tar", signal=9)
    running.host.exit_of("tar")
    running.host.events.clear()
    running.host.call("process.forget", process="tar")
    assert not frozen()
    assert layer(running, freeze=True).getnames() == ["big"]
    sh(running, "echo runs on > /ok")


class File(NamedTuple):
    kind: bytes
    mode: int
    owner: tuple[int, int]
    link: str
    content: bytes


Tree = dict[str, File]


def apply(tree: Tree, archive: tarfile.TarFile) -> Tree:
    """OCI's rules, as simply as they can be said."""
    written: set[str] = set()
    for member in archive.getmembers():
        folder, _, base = member.name.rpartition("/")
        if base == ".wh..wh..opq":
            tree = {n: f for n, f in tree.items() if not n.startswith(f"{folder}/") or n in written}
        elif base.startswith(".wh."):
            gone = f"{folder}/{base[4:]}".lstrip("/")
            tree = {n: f for n, f in tree.items() if n != gone and not n.startswith(f"{gone}/")}
        else:
            if not member.isdir() or (member.name in tree and tree[member.name].kind != tarfile.DIRTYPE):
                tree = {n: f for n, f in tree.items() if not n.startswith(f"{member.name}/")}
            tree[member.name] = read(archive, member, tree)
            written.add(member.name)
    return tree


def read(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> File:
    if member.islnk():
        return tree[member.linkname]
    content = archive.extractfile(member) if member.isreg() else None
    link = member.linkname if member.issym() else ""
    data = content.read() if content else b""
    return File(member.type, member.mode, (member.uid, member.gid), link, data)


def script(dice: random.Random) -> Iterator[str]:
    names = [f"/{a}/{b}" for a in ("data", "data/sub", "new", "new/in") for b in "fgh"] + ["/data/file", "/data/sub"]
    places = ["/data", "/data/sub", "/new", "/new/in", *names]
    for _ in range(dice.randint(1, 25)):
        one, other = dice.choice(places), dice.choice(places)
        yield dice.choice(
            [
                f"mkdir -p {one}", f"rm -rf {one}", f"mv {one} {other}", f"mv -T {one} {other}",
                f"echo {dice.random()} > {one}", f"ln {one} {other}", f"ln -s {one} {other}",
                f"chmod 70{dice.randint(0, 7)} {one}", f"chown {dice.randint(0, 9)}:7 {one}",
                f"cp -a {one} {other}", f"mkfifo {one}", f"touch {one}",
            ]
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_image_and_layer_make_the_tree(guest: Guest, seed: int) -> None:
    guest.container()
    guest.first()
    before = apply({}, layer(guest, "tree"))
    lines = list(script(random.Random(seed)))
    guest.sh("exec 2> /dev/null; " + "; ".join(lines), capabilities=ROOT)
    after = apply({}, layer(guest, "tree"))
    made = apply(dict(before), layer(guest))
    assert made == after, lines
    listed = {row[2:] for row in changes(guest)}
    folders = {""} | {name for name, file in after.items() if file.kind == tarfile.DIRTYPE}
    assert {f"/{name}" for name in before.keys() ^ after.keys() if name.rpartition("/")[0] in folders} <= listed


@pytest.mark.parametrize("seed", range(6))
def test_image_and_layers_make_the_tree(running: Guest, seed: int) -> None:
    """Of containers that go on from each other."""
    dice = random.Random(seed)
    made = apply({}, layer(running, "tree"))
    for n in range(1, 6):
        lines = [line for line in script(dice) if "mkfifo" not in line]  # a later echo would wait for a reader
        running.sh("exec 2> /dev/null; " + "; ".join(lines), capabilities=ROOT, container=f"c{n}")
        made = apply(made, layer(running, container=f"c{n}"))
        go_on(running, f"c{n + 1}", f"c{n}")
        assert made == apply({}, layer(running, "tree", container=f"c{n + 1}")), lines
