"""Shares: what is mounted is what was asked for, nothing is ever deleted through a mount, nothing is left."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound
from hypercontainer.lib import mount, proc
from hypercontainer.model.container import IdMap, IdRange
from hypercontainer.model.record import ProcessRef
from hypercontainer.storage.share import Share

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")


def mounts(folder: Path) -> list[str]:
    """Those in `folder`: elsewhere others come and go."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if Path(place).is_relative_to(folder)]


def options(path: Path) -> set[str]:
    [line] = [x for x in Path("/proc/self/mountinfo").read_text().splitlines() if x.split()[4] == str(path)]
    return set(line.split()[5].split(","))


@contextmanager
def served(root: Path) -> Iterator[Callable[[str], str]]:
    """The first line that a command says of the folder `root`, in a mount namespace like virtiofsd's."""
    words = ["unshare", "-m", "--propagation", "slave", "sh"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as shell:

        def look(command: str) -> str:
            assert shell.stdin and shell.stdout
            shell.stdin.write(f"{{ {command}; echo; }} 2>&1 | head -1\n")
            shell.stdin.flush()
            return shell.stdout.readline().strip()

        assert look("echo ready") == "ready"
        yield look
        assert shell.stdin
        shell.stdin.close()
        assert shell.wait() == 0


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    share = Share(tmp_path / "share")
    yield share
    share.clear()
    share.clear()
    assert mounts(tmp_path) == []
    assert not share.dir.exists()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "file").write_text("precious")
    return tmp_path / "source"


def test_a_folder_is_shared_for_writing(share: Share, source: Path) -> None:
    share.add("v0", source, False)
    (share.root / "v0" / "new").write_text("x")
    assert (source / "new").read_text() == "x"
    assert {"rw", "nosuid", "nodev", "noexec"} <= options(share.root / "v0")
    assert share.names() == ["v0"]


@pytest.fixture
def sub(source: Path) -> Iterator[Path]:
    """A file system of its own in `source`."""
    place = source / "sub"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    yield place
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def test_read_only_holds_for_root_and_for_what_is_mounted_below(share: Share, source: Path, sub: Path) -> None:
    with served(share.prepare()) as look:
        share.add("v0", source, True)
        for path in ("v0/x", "v0/sub/x"):
            assert "Read-only" in look(f"touch {path}")
        (sub / "x").touch()  # the source itself is as it was
        assert look("ls v0/sub") == "x"


def test_what_is_mounted_below_may_be_written_where_that_is_said(share: Share, source: Path, sub: Path) -> None:
    with served(share.prepare()) as look:
        share.add("v0", source, True, below="own")
        assert "Read-only" in look("touch v0/x")
        assert look("touch v0/sub/x && ls v0/sub") == "x" and (sub / "x").exists()
        subprocess.run(["mount", "-o", "remount,bind,ro", sub], check=True)
        share.add("v1", source, True, below="own")
        assert "Read-only" in look("touch v1/sub/y")  # as on the host


@pytest.mark.parametrize("held", [False, True])
def test_what_is_mounted_below_is_the_servers(share: Share, source: Path, sub: Path, held: bool) -> None:
    """The host unmounts it, and removes its place, whoever is shown it; with what is shared it goes there, too."""
    with served(share.prepare()) as look:
        (sub / "deep").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sub / "deep"], check=True)
        share.add("v0", source, False)
        assert mounts(share.root) == [str(share.root), str(share.root / "v0")]
        assert look("touch v0/sub/x v0/sub/deep/y && ls v0/sub/deep") == "y"
        look("cd v0/sub" if held else "true")
        subprocess.run(["umount", sub / "deep", sub], check=True)
        sub.rmdir()
        share.remove("v0")
        assert look(f"grep -c {share.root}/v0 /proc/self/mountinfo") == "0"


@pytest.fixture
def spreading(source: Path) -> Iterator[Path]:
    """A place in `source`, which is shared with whoever follows it."""
    subprocess.run(["mount", "--bind", source, source], check=True)
    subprocess.run(["mount", "--make-rshared", source], check=True)
    yield source / "sub"
    subprocess.run(["umount", "-R", source], check=True)


def tmpfs(place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def umount(*places: Path) -> None:
    subprocess.run(["umount", *places], check=True)


def test_whose_mounts_can_be_followed(spreading: Path) -> None:
    assert mount.spreads(spreading)
    subprocess.run(["mount", "--make-rslave", spreading.parent], check=True)
    subprocess.run(["mount", "--make-rprivate", spreading.parent], check=True)
    assert not mount.spreads(spreading)


def test_what_is_mounted_later_is_followed(share: Share, source: Path, spreading: Path) -> None:
    """As the guest's virtiofsd sees it; whatever it has looked at, the host can unmount."""
    (spreading / "deep").mkdir()
    with virtiofsd(share) as (server, seen):
        share.add("v0", source, True, below="followed")
        share.follow("v0", [server])
        assert not (seen / "v0/sub").is_mount()
        tmpfs(spreading)
        share.follow("v0", [server])
        (seen / "v0/sub/x").touch()
        assert (spreading / "x").exists() and "nosymfollow" in flags(server, "/v0/sub")
        with pytest.raises(OSError):
            (seen / "v0/x").touch()
        (spreading / "y").mkdir()
        tmpfs(spreading / "y")
        share.follow("v0", [server])
        (seen / "v0/sub/y/z").touch()
        assert share.further("v0", [server])
        held = os.open(seen / "v0/sub/y", os.O_PATH)  # as virtiofsd has what its guest has looked at
        umount(spreading / "y", spreading)
        tmpfs(spreading)  # another one, at the same place
        share.follow("v0", [server])
        assert os.listdir(seen / "v0/sub") == []
        os.close(held)
        umount(spreading)
        (spreading / "deep").rmdir()
        share.follow("v0", [server])
        assert os.listdir(seen / "v0/sub") == [] and not share.further("v0", [server])
        tmpfs(spreading)
        share.follow("v0", [server])
        share.remove("v0", [server])
        assert os.listdir(seen) == [] and rows(server.pid) == rows(server.pid, "/")
        share.follow("v0", [ProcessRef(pid=server.pid, start_time=1)])  # it is gone, and so is that server


def test_what_is_there_already_is_followed(share: Share, source: Path, spreading: Path) -> None:
    tmpfs(spreading)
    with virtiofsd(share) as (server, seen):
        share.add("v0", source, False, below="followed")
        (seen / "v0/sub/x").touch()
        umount(spreading)
        Share(share.dir).follow("v0", [server])  # by a hyperd that comes later
        assert os.listdir(seen / "v0/sub") == []
        spreading.rmdir()


def test_who_is_in_what_is_followed_goes(share: Share, source: Path, spreading: Path) -> None:
    """A share in whose source another one is: that has what is mounted below it in two places."""
    (source / "sub" / "below").mkdir()
    tmpfs(source / "sub" / "below")
    inner = Share(source / "inner")
    with virtiofsd(share) as (server, seen), served(inner.prepare()) as look:
        share.add("v0", source, False, below="followed")
        share.follow("v0", [server])
        inner.add("v1", source / "sub", False)
        share.follow("v0", [server])
        assert look("ls v1") == "below"
        inner.remove("v1")
        inner.clear()
        share.follow("v0", [server])
        assert not (seen / "v0/inner").exists()
    share.clear()


def test_a_share_of_a_hyperd_before_us(share: Share, source: Path, spreading: Path) -> None:
    """Its root was shared with what its folder is on, and all in it was twice."""
    tmpfs(spreading)
    before = Share(source / "before")
    for path in (before.dir, before.dir / "points", before.root):
        path.mkdir()
    subprocess.run(["mount", "--bind", before.dir / "points", before.root], check=True)
    with served(before.prepare()) as look:
        before.add("v0", spreading, False)
        assert {*mounts(before.dir)} == {str(before.dir / place) for place in ("tree", "points/v0", "tree/v0")}
        before.remove("v0")
        before.add("v1", source, False)
        assert look("touch v1/sub/x && ls v1/sub") == "x"
        before.remove("v1")
        assert look("ls") == ""
    before.clear()
    assert not before.dir.exists()


def test_a_file_is_shared(share: Share, source: Path) -> None:
    share.add("f", source / "file", True)
    assert (share.root / "f").read_text() == "precious"
    with pytest.raises(OSError):
        (share.root / "f").write_text("x")
    share.remove("f")
    assert (source / "file").read_text() == "precious"
    assert share.names() == []


def test_a_part_of_a_folder_is_shared(share: Share, source: Path) -> None:
    (source / "link").symlink_to("sub")
    (source / "sub" / "x").write_text("x")
    for n, (subpath, shown) in enumerate([("sub", "sub"), ("link", "sub"), ("sub/../file", "file")]):
        share.add(f"v{n}", source, False, subpath)
        assert share.shows(f"v{n}", source, subpath) and not share.shows(f"v{n}", source)
        assert (share.root / f"v{n}").samefile(source / shown)
    (source / "link").unlink()
    assert not share.shows("v1", source, "link")


@pytest.mark.parametrize(
    ("subpath", "words"),
    [
        ("none", "cannot access path {source}/none: no such file or directory"),
        ("file/x", "cannot access path {source}/file/x: not a directory"),
        ("out", "path concatenation escapes the base directory, base: {source}, subpath: out"),
        ("up/x", "path concatenation escapes the base directory, base: {source}, subpath: up/x"),
        ("loop", "cannot access path {source}/loop: too many levels of symbolic links"),
    ],
)
def test_a_part_that_is_none_is_refused_in_dockers_words(share: Share, source: Path, subpath: str, words: str) -> None:
    (source.parent / "x").write_text("secret")
    for name, target in (("out", "/etc"), ("up", ".."), ("loop", "loop")):
        (source / name).symlink_to(target)
    with pytest.raises(InvalidInput) as refused:
        share.add("v0", source, False, subpath)
    assert str(refused.value) == words.format(source=source)
    assert share.names() == [] and not share.shows("v0", source, subpath)


def test_what_is_shown_is_the_source_until_that_is_replaced(share: Share, source: Path) -> None:
    assert not share.shows("data", source)
    share.add("data", source, read_only=True)
    assert share.shows("data", source)
    source.rename(source.with_name("old"))
    assert not share.shows("data", source)
    source.mkdir()
    assert not share.shows("data", source)
    assert share.shows("data", source.with_name("old"))


def test_a_tree_without_a_place_is_shown_once(share: Share, source: Path) -> None:
    """Whatever is at the path that it came from, as we see that."""
    trees = mount.clones([str(source), str(source / "sub")])
    try:
        share.add_tree("data", trees[0], read_only=False)
        source.rename(source.with_name("old"))
        assert share.shows("data", source, tree=trees[0])
        assert not share.shows("data", source.with_name("old"), tree=trees[1])
        assert not share.shows("other", source, tree=trees[0])
        assert (share.root / "data/file").read_text() == "precious"
    finally:
        for fd in trees:
            os.close(fd)


def test_the_guest_can_make_nothing_beside_its_mounts(share: Share, source: Path) -> None:
    share.add("v0", source, False)
    with pytest.raises(OSError) as e:
        (share.root / "v1").symlink_to("/etc")
    assert e.value.errno == errno.EROFS


def test_the_host_follows_no_link_that_a_guest_made(share: Share, source: Path) -> None:
    share.add("v0", source, False)
    (share.root / "v0" / "link").symlink_to("/etc")
    with pytest.raises(OSError) as e:
        os.listdir(share.root / "v0" / "link")
    assert e.value.errno == errno.ELOOP


def test_a_running_guest_sees_what_is_added_and_loses_what_is_removed(share: Share, source: Path) -> None:
    """Its virtiofsd has a mount namespace of its own, made before."""
    with served(share.prepare()) as look:
        share.add("v0", source, True)
        assert look("cat v0/file") == "precious"
        assert "Read-only" in look("touch v0/x")
        share.remove("v0")
        assert "No such file" in look("ls v0")


def test_whoever_serves_a_share_goes_on_when_it_becomes_another(share: Share, source: Path, tmp_path: Path) -> None:
    waiting = Share(tmp_path / "waiting")
    with served(waiting.prepare()) as look:
        waiting.become(share.root)
        assert look("ls") == ""
        share.add("v0", source, True)
        assert look("cat v0/file") == "precious"
        assert "Read-only" in look("touch v0/x")
        waiting.clear()  # there is none of it: the other one stays as it is
        assert look("cat v0/file") == "precious" and share.names() == ["v0"]
        Share(share.dir).clear()  # as whoever comes after a SIGKILL
        assert look("ls") == ""


def test_a_share_becomes_none_that_is_there(share: Share, source: Path, tmp_path: Path) -> None:
    waiting = Share(tmp_path / "waiting")
    waiting.prepare()
    share.add("v0", source, False)
    with pytest.raises(HyperError, match="cannot move a share"):
        waiting.become(share.root)
    assert waiting.served and share.names() == ["v0"]
    waiting.clear()


def test_containers_of_a_pod_are_made_at_once(share: Share, source: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: share.add(f"v{n}", source, False), range(24)))
    assert len(mounts(share.dir)) == 25
    assert all((share.root / f"v{n}" / "file").exists() for n in range(24))


VIRTIOFSD = next(filter(os.path.exists, ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")), "")


def roots(pid: int) -> int:
    """How many mounts are at `/`: after pivot_root(2) the old one is above the new one until it is taken away."""
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == "/" for line in mounts)


@contextmanager
def virtiofsd(share: Share) -> Iterator[tuple[ProcessRef, Path]]:
    """The real one, which serves `share`, and what it sees. It enters its namespaces when its VMM connects."""
    if "/qemu/" not in VIRTIOFSD:
        pytest.skip("needs QEMU's own virtiofsd")
    path = share.dir.parent / "sock"
    words = [VIRTIOFSD, f"--socket-path={path}", "-f", "-o", f"source={share.prepare()},sandbox=namespace"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as parent, socket.socket(socket.AF_UNIX) as s:
        while s.connect_ex(os.fspath(path)):
            assert parent.poll() is None
        child = Path(f"/proc/{parent.pid}/root")
        while os.listdir(child) != [] or roots(parent.pid) != 1:  # until its root is ours, and nothing is above that
            assert parent.poll() is None
        yield ProcessRef(pid=parent.pid, start_time=proc.start_time(parent.pid) or 0), child
        s.close()
        parent.terminate()


def rows(pid: int, place: str = "") -> list[list[str]]:
    """What a process has mounted, at `place` if that is said."""
    found = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return [row for row in found if row[4] == (place or row[4]) and not row[4].startswith("/proc")]


def flags(server: ProcessRef, place: str) -> str:
    [row] = rows(server.pid, place)
    return row[5]


def test_virtiofsd_itself_sees_what_comes_and_goes(share: Share, source: Path) -> None:
    with virtiofsd(share) as (server, child):
        share.add("v0", source, True)
        assert (child / "v0" / "file").read_text() == "precious"
        with pytest.raises(OSError):
            (child / "v0" / "x").touch()
        writing_is_allowed_and_refused(share, server.pid, child / "v0")
        share.remove("v0")
        assert os.listdir(child) == []


def writing_is_allowed_and_refused(share: Share, server: int, seen: Path) -> None:
    """`seen`: what `server` has of v0, which is read-only."""
    servers = [ProcessRef(pid=server, start_time=proc.start_time(server) or 0)]
    folder = os.open(seen, os.O_PATH)  # as virtiofsd has what its guest has looked at
    for _ in range(2):
        share.allow_writes("v0", servers)
    assert "ro" in options(share.root / "v0")  # here it stays as it was
    with open(os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=folder), "w") as f:
        f.write("filled")
        assert not share.refuse_writes("v0", servers)
        os.mkdir("sub/x", dir_fd=folder)
    for _ in range(2):
        assert share.refuse_writes("v0", servers)
        for path, within in ((seen / "y", None), ("y", folder)):
            with pytest.raises(OSError) as e:
                os.mkdir(path, dir_fd=within)
            assert e.value.errno == errno.EROFS
    assert (seen / "x").read_text() == "filled"
    os.close(folder)
    gone = [ProcessRef(pid=server, start_time=1)]
    share.allow_writes("v0", gone)
    assert share.refuse_writes("v0", gone)
    with pytest.raises(HyperError, match="No such file"):
        share.allow_writes("v1", servers)


def test_removal_while_in_use_deletes_nothing(share: Share, source: Path) -> None:
    share.add("v0", source, False)
    with open(share.root / "v0" / "file") as f:
        share.remove("v0")
        share.remove("v0")
        assert f.read() == "precious"
    assert sorted(os.listdir(source)) == ["file", "sub"]


def test_clear_finds_what_a_sigkill_or_a_reboot_left(share: Share, source: Path) -> None:
    share.prepare()
    (share.dir / "points" / "half").mkdir()  # its mount was never made
    (share.dir / "points" / "file").touch()
    share.add("whole", source, False)
    Share(share.dir).clear()
    assert (source / "file").exists()
    assert not share.dir.exists()


def test_clear_after_a_reboot_has_no_mounts_to_find(share: Share) -> None:
    for path in ("points/v0", "tree"):
        (share.dir / path).mkdir(parents=True)
    share.clear()
    assert not share.dir.exists()


def test_a_missing_source(share: Share, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        share.add("v0", tmp_path / "missing", False)
    assert share.names() == []


def test_what_cannot_be_shared(share: Share, source: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "sock"))
        for path in (tmp_path / "sock", Path("/dev/null"), Path("relative")):
            with pytest.raises(InvalidInput):
                share.add("v0", path, False)
    for name in ("", "..", "a/b", "-x"):
        with pytest.raises(InvalidInput):
            share.add(name, source, False)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HyperError, match="Too many levels"):
        share.add("v0", tmp_path / "loop", False)
    share.add("v0", source, False)
    with pytest.raises(AlreadyExists):
        share.add("v0", source, False)
    assert share.names() == ["v0"]


def ids(outside: int, size: int = 100) -> IdMap:
    ranges = [IdRange(inside=0, outside=outside, size=size)]
    return IdMap(uids=ranges, gids=ranges)


def test_ids_of_a_folder_are_mapped_in_each_way_that_it_is_shown(share: Share, source: Path) -> None:
    share.add("v0", source, False, map=ids(100000))
    share.add("v1", source, True, map=ids(200000))
    share.add("v2", source, True)
    assert [os.stat(share.root / name).st_uid for name in ("v0", "v1", "v2")] == [100000, 200000, 0]


def test_files_of_a_tree_belong_to_others(share: Share, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, tree in (("one", ids(1000)), ("two", None)):
        with opened(source) as fd:
            share.add_tree(name, mount.clone(fd), False, tree)
    assert ((share.root / "one").stat().st_uid, (share.root / "two").stat().st_gid) == (1000, 0)
    assert (source.stat().st_uid, source.stat().st_gid) == (0, 0)


@pytest.mark.parametrize(
    ("place", "map", "why"),
    [("/proc/sys", ids(1000), "the file system there maps none"), ("/tmp", ids(2**32 - 2), "takes no such mappings")],
)
def test_ids_that_cannot_be_mapped_are_refused(share: Share, place: str, map: IdMap, why: str) -> None:
    with opened(Path(place)) as fd:
        tree = mount.clone(fd)
    with pytest.raises(InvalidInput, match=f"cannot map ids of a mount: .*{why}"):
        share.add_tree("one", tree, False, map)
    os.close(tree)
    assert share.names() == []


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    yield fd
    os.close(fd)


ELSEWHERE = """
import os, socket, sys
from hypercontainer.lib import mount
tree = mount.clone(os.open(sys.argv[1], os.O_PATH))
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [tree])
"""


def from_elsewhere(source: Path) -> int:
    """A tree that was made in another mount namespace, which has ended."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = ["unshare", "-m", sys.executable, "-c", ELSEWHERE, str(source), str(theirs.fileno())]
        subprocess.run(argv, check=True, pass_fds=[theirs.fileno()], timeout=60)
        return socket.recv_fds(ours, 1, 1)[1][0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_tree_is_shown_in_several_ways(share: Share, tmp_path: Path, elsewhere: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with opened(source) as fd:
        tree = from_elsewhere(source) if elsewhere else mount.clone(fd)
    for name, read_only in (("rw", False), ("ro", True)):
        share.add_tree(name, tree, read_only, again=True)
        assert share.shows(name, source, tree=tree)
    os.close(tree)
    assert [("ro" in options(share.root / name)) for name in ("ro", "rw")] == [True, False]
