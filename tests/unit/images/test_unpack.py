"""Layers -> root file system: what docker's rules make of them, and everything that a hostile one may try."""

import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.images import compression, tar, unpack
from hypercontainer.images.unpack import BadLayer, Layer
from hypercontainer.testing import layers as made
from tests.unit.images.looking import check_erofs, mounted, names

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts what it made")

Members = Sequence[tuple[tarfile.TarInfo, bytes]]


class Box:
    """A root file system that `put` makes of layers; mounted at `tree` from then on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tree, self.image = folder, folder / "tree", folder / "image.erofs"
        self._mounts = ExitStack()
        self.done: list[unpack.LayerDone] = []

    def make(self, *layers: Members | bytes) -> None:
        """Without mounting it; fsck.erofs finds nothing wrong with it."""
        blobs = []
        for number, layer in enumerate(layers):
            path = self.folder / f"layer{number}"
            path.write_bytes(layer if isinstance(layer, bytes) else made.layer(layer))
            blobs.append(Layer(str(path), made.digest(path.read_bytes())))
        self.done = unpack.unpack(str(self.image), blobs)
        check_erofs(self.image)

    def put(self, *layers: Members | bytes) -> list[unpack.LayerDone]:
        self.make(*layers)
        self._mounts.enter_context(mounted(self.image, self.tree))
        return self.done

    def close(self) -> None:
        self._mounts.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    before = len(os.listdir("/proc/self/fd"))
    made_box = Box(tmp_path)
    yield made_box
    made_box.close()
    assert len(os.listdir("/proc/self/fd")) == before


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep


def test_everything_that_a_layer_may_hold(box: Box) -> None:
    [done] = box.put(
        [
            made.folder("./", mode=0o711, mtime=5),
            made.folder("bin", mode=0o2755, gid=7, mtime=6),
            made.member("bin/su", b"#!", mode=0o4755, uid=1, gid=2, mtime=7),
            made.member("bin/ping", b"##", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.k": b"v\0w"}),
            made.member("bin/odd", b"", xattrs={"trusted.overlay.opaque": b"y", "security.selinux": b"x"}),
            made.hardlink("bin/su2", "bin/su"),
            made.symlink("bin/sh", "/bin/busybox", uid=3, gid=4, mtime=8),
            made.member("dev/null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
            made.member("dev/sda", kind=tarfile.BLKTYPE, device=(8, 0), mode=0o660, gid=6),
            made.member("run/fifo", kind=tarfile.FIFOTYPE, mode=0o620),
            made.folder("tmp", mode=0o1777),
            made.member("käse/\udcff", "naïve".encode()),
            made.member("time", b"x", mtime=1234567890.123456789),
            made.member("long/" + "x" * 200 + "/" + "y" * 200, b"deep"),
        ]
    )
    root = box.tree
    assert (done.entries, done.size) == (14, 15)
    see = {name.rstrip("/"): os.lstat(root / name) for name in names(root)}
    assert oct(os.stat(root).st_mode) == "0o40711"
    assert os.stat(root).st_mtime == 5
    assert (see["bin"].st_mode, see["bin"].st_gid, see["bin"].st_mtime) == (stat.S_IFDIR | 0o2755, 7, 6)
    su = see["bin/su"]
    assert (su.st_mode, su.st_uid, su.st_gid, su.st_mtime, su.st_nlink) == (stat.S_IFREG | 0o4755, 1, 2, 7, 2)
    assert see["bin/su2"].st_ino == su.st_ino
    assert os.getxattr(root / "bin/ping", "security.capability") == CAPABILITY
    assert os.getxattr(root / "bin/ping", "user.k") == b"v\0w"
    assert os.listxattr(root / "bin/odd") == []
    sh = see["bin/sh"]
    assert (os.readlink(root / "bin/sh"), sh.st_uid, sh.st_gid, sh.st_mtime) == ("/bin/busybox", 3, 4, 8)
    assert (see["dev/null"].st_rdev, see["dev/null"].st_mode) == (os.makedev(1, 3), stat.S_IFCHR | 0o666)
    assert (see["dev/sda"].st_rdev, see["dev/sda"].st_gid) == (os.makedev(8, 0), 6)
    assert see["run/fifo"].st_mode == stat.S_IFIFO | 0o620
    assert see["tmp"].st_mode == stat.S_IFDIR | 0o1777
    assert (see["dev"].st_mode, see["dev"].st_mtime) == (stat.S_IFDIR | 0o755, 0)  # nobody said
    assert (root / "käse/\udcff").read_bytes() == "naïve".encode()
    assert abs(see["time"].st_mtime_ns - 1234567890_123456789) < 1000


def test_a_later_layer_wins(box: Box) -> None:
    box.put(
        [
            made.folder("a", mode=0o700, uid=5, mtime=9),
            made.member("a/file", b"old"),
            made.member("a/folder/inner", b"1"),
            made.folder("b"),
            made.member("b/x", b"1"),
            made.symlink("link", "a"),
            made.member("twice", b"1"),
            made.hardlink("twice2", "twice"),
        ],
        [
            made.member("a/file", b"new"),
            made.member("a/folder", b"a file now"),
            made.symlink("b", "a"),
            made.folder("link"),
            made.member("twice", b"2"),
        ],
    )
    root = box.tree
    assert (root / "a/file").read_bytes() == b"new"
    assert (root / "a/folder").read_bytes() == b"a file now"
    assert os.readlink(root / "b") == "a"
    assert (root / "link").is_dir() and not (root / "link").is_symlink()
    assert ((root / "twice").read_bytes(), (root / "twice2").read_bytes()) == (b"2", b"1")
    kept = os.stat(root / "a")
    assert (kept.st_mode, kept.st_uid, kept.st_mtime) == (stat.S_IFDIR | 0o700, 5, 9)  # the second layer did not say


def test_whiteouts(box: Box) -> None:
    box.put(
        [
            made.member("a/gone", b"1"),
            made.member("a/stays", b"1"),
            made.member("b/deep/er/gone", b"1"),
            made.member("c/old", b"1"),
            made.member("c/sub/old", b"1"),
            made.member("c/sub/mixed", b"1"),
            made.symlink("d", "a"),
            made.member("e", b"1"),
        ],
        [
            made.member("a/.wh.gone"),
            made.member(".wh.b"),
            made.member("c/new", b"2"),
            made.member("c/sub/new", b"2"),
            made.member("c/.wh..wh..opq"),  # after what it must not hide
            made.member("e", b"2"),
            made.member(".wh.e"),  # hides the lower one only
            made.member("a/.wh.never-there"),
            made.member("nowhere/.wh.x"),
            made.member("nowhere/.wh..wh..opq"),
            made.member(".wh..wh.plnk"),
            made.member(".wh..wh.aufs"),
            made.member(".wh.d"),
        ],
    )
    assert names(box.tree) == ["a/", "a/stays", "c/", "c/new", "c/sub/", "c/sub/new", "e"]
    assert (box.tree / "e").read_bytes() == b"2"


def test_an_opaque_folder_that_comes_first(box: Box) -> None:
    box.put(
        [made.member("a/old", b"1")],
        [made.folder("a"), made.member("a/.wh..wh..opq"), made.member("a/new", b"2")],
    )
    assert names(box.tree) == ["a/", "a/new"]


def test_links_lead_where_they_lead_in_the_container(box: Box) -> None:
    box.put(
        [
            made.folder("usr/lib"),
            made.symlink("lib", "usr/lib"),
            made.symlink("run", "/var/run"),
            made.symlink("usr/up", "../usr/lib"),
            made.symlink("abs", "/etc/../opt"),
        ],
        [
            made.member("lib/a.so", b"1"),
            made.member("run/pid", b"1"),
            made.member("usr/up/b.so", b"1"),
            made.member("abs/secret", b"mine"),
            made.hardlink("c.so", "lib/a.so"),
        ],
    )
    assert {"usr/lib/a.so", "usr/lib/b.so", "var/run/pid", "c.so", "opt/secret"} <= set(names(box.tree))


def test_a_whiteout_does_not_follow_the_last_link(box: Box) -> None:
    box.put([made.member("real/x", b"1"), made.symlink("link", "real")], [made.member(".wh.link")])
    assert names(box.tree) == ["real/", "real/x"]


OUT = "../outside/secret"
HOSTILE: dict[str, tuple[Members, str]] = {
    "climbs": ([made.member("../outside/x", b"1")], "'../outside/x': its name climbs"),
    "climbs later": ([made.member("a/../../outside/x", b"1")], "climbs"),
    "climbs by a folder that is not there": ([made.member("a/b/../../../x", b"1")], "climbs"),
    "hard link out": ([made.hardlink("a", OUT)], "'a': it is a hard link to '../outside/secret'"),
    "hard link absolute": ([made.hardlink("a", "/etc/passwd")], "which is not there"),
    "hard link through a link": ([made.symlink("l", ".."), made.hardlink("a", "l/outside/secret")], "not there"),
    "root is a hard link": ([made.member("a", b"1"), made.hardlink("/", "a")], "replace the root"),
    "hard link to nothing": ([made.hardlink("a", "b/c")], "which is not there"),
    "hard link to a folder": ([made.folder("b"), made.hardlink("a", "b")], "which is a folder"),
    "hard link to itself": ([made.member("a", b"1"), made.hardlink("a", "a")], "itself"),
    "hard link to the root": ([made.hardlink("a", "./")], "not there"),
    "whiteout of ..": ([made.member("a/.wh..."), made.member("a/x")], "whiteout of nothing"),
    "whiteout of .": ([made.member(".wh..")], "whiteout of nothing"),
    "whiteout of nothing": ([made.member(".wh.")], "whiteout of nothing"),
    "root is a link": ([made.symlink("./", "../outside")], "replace the root"),
    "loop": ([made.symlink("a", "b"), made.symlink("b", "a"), made.member("a/x")], "too many symbolic links"),
    "file as a folder": ([made.member("a", b"1"), made.member("a/b", b"1")], "is not a folder"),
    "device as a folder": ([made.member("a", kind=tarfile.CHRTYPE), made.member("a/b", b"1")], "is not a folder"),
    "NUL in a link": ([made.symlink("a", "b\0c" * 40)], "NUL"),
    "long part": ([made.member("x" * 256, b"1")], "more than 255"),
    "long name": ([made.member("/".join(["x" * 200] * 30), b"1")], "bytes"),
    "deep": ([made.member("a/" * 300 + "x", b"1")], "folders deep"),
    "owner": ([made.member("a", uid=2**32 - 1)], "owner"),
    "owner below": ([made.member("a", gid=-1)], "owner"),
    "device number": ([made.member("a", kind=tarfile.CHRTYPE, device=(1 << 13, 0))], "device number"),
    "unknown type": ([made.member("a", b"1", kind=b"Z")], "type 'Z' is not known"),
    "xattrs": ([made.member("a", xattrs={"user.x": b"y" * 70_000})], "extended attributes"),
    "xattr name": ([made.member("a", xattrs={"user." + "x" * 300: b"y"})], "extended attribute"),
    "capability": ([made.member("a", xattrs={"security.capability": b"bogus"})], "extended attribute"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_entries_are_refused_by_name(box: Box, case: str) -> None:
    members, words = HOSTILE[case]
    with pytest.raises(BadLayer, match=r"cannot unpack layer sha256:.*entry ") as e:
        box.put(members)
    assert words in str(e.value)


def test_names_as_kaniko_and_others_write_them(box: Box) -> None:
    box.put(
        [made.folder("opt"), made.member("opt/gone", b"1"), made.member("opt/low", b"low"), made.folder("pages")],
        [
            made.folder("/", mode=0o750),
            made.hardlink("/", "."),
            made.member("/opt/a", b"a"),
            made.hardlink("opt/b", "/opt/a"),
            made.hardlink("/opt/c", "/opt/low"),
            made.member("/opt/.wh.gone"),
            made.member("/.wh..wh.plnk"),
            made.member("opt/../opt/x/../d", b"d"),
            made.member("/../../e", b"e"),
            made.symlink("up", "../../../opt"),
            made.member("up/f", b"f"),
            made.hardlink("g", "up/a"),
        ],
    )
    assert names(box.tree) == [
        *("e", "g", "opt/", "opt/a", "opt/b", "opt/c", "opt/d", "opt/f", "opt/low", "pages/", "up"),
    ]  # fmt: skip
    assert stat.S_IMODE(os.stat(box.tree).st_mode) == 0o750
    assert len({os.stat(box.tree / name).st_ino for name in ("opt/a", "opt/b", "g")}) == 1
    assert (box.tree / "opt/c").read_bytes() == b"low"
    assert (box.tree / "opt/f").read_bytes() == b"f"


def test_a_file_of_a_lower_layer_gives_way_to_a_folder(box: Box) -> None:
    box.put(
        [made.member("a", b"1"), made.member("b", b"2"), made.hardlink("c", "a")],
        [made.member("a/b/x", b"3"), made.member("b/.wh.x"), made.member("b/.wh..wh..opq")],
    )
    assert names(box.tree) == ["a/", "a/b/", "a/b/x", "b", "c"]


def test_an_empty_value_means_the_headers_own(box: Box) -> None:
    info, data = made.member("name", b"1", uid=5, xattrs={"user.empty": b""})
    empty = dict.fromkeys(("path", "size", "uid", "mtime", "linkpath"), "")
    info.pax_headers = {**info.pax_headers, **empty}
    box.put(made.layer([(info, data)]))
    assert names(box.tree) == ["name"]
    assert os.stat(box.tree / "name").st_uid == 5
    assert os.getxattr(box.tree / "name", "user.empty") == b""


def test_what_is_in_the_way_is_never_written_to(box: Box) -> None:
    """A device, a fifo or a link with the name of a file goes; nobody opens it."""
    box.put(
        [
            made.member("null", kind=tarfile.CHRTYPE, device=(1, 3)),
            made.member("fifo", kind=tarfile.FIFOTYPE),
            made.symlink("link", "/etc/passwd"),
            made.symlink("up", OUT),
            made.member("twin", b"old"),
            made.hardlink("twin2", "twin"),
        ],
        [made.member(name, b"mine", mode=0o600) for name in ("null", "fifo", "link", "up", "twin")],
    )
    for name in ("null", "fifo", "link", "up", "twin"):
        assert stat.S_ISREG(os.lstat(box.tree / name).st_mode)
        assert (box.tree / name).read_bytes() == b"mine"
    assert (box.tree / "twin2").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ((50, 999, 9999), "too many entries"),
        ((1000, 200, 9999), "bytes the image is too large"),
        ((1000, 999, 200), "names and attributes of the image"),
    ],
)
def test_too_much(box: Box, monkeypatch: pytest.MonkeyPatch, budget: tuple[int, ...], words: str) -> None:
    monkeypatch.setattr(unpack.Budget.__init__, "__defaults__", budget)
    with pytest.raises(BadLayer, match=words):
        box.make([made.member(f"f{n}", b"12345") for n in range(100)])


def test_zeros_are_holes_wherever_they_lie(box: Box) -> None:
    size = 8 << 20
    files = {
        "zeros": bytes(size),
        "behind": b"x" + bytes(size),
        "before": bytes(size) + b"x",
        "between": (b"x" * 5000).center(size, b"\0"),
        "odd": bytes(size + 4097),
    }
    box.put([made.member(name, content) for name, content in files.items()])
    assert {name: (box.tree / name).read_bytes() == content for name, content in files.items()} == dict.fromkeys(
        files, True
    )
    assert box.image.stat().st_blocks * 512 < size


def test_deep_trees_are_removed_too(box: Box) -> None:
    deep = "/".join(["d"] * 250)
    box.put([made.member(f"{deep}/x", b"1")], [made.member(".wh.d")])
    assert names(box.tree) == []


def test_many_folders(box: Box) -> None:
    box.put(*([made.member(f"d{n}/e/{name}", b"1") for n in range(1500)] for name in "fg"))
    assert len(names(box.tree)) == 1500 * 4


# the reader


def sparse_gnu() -> bytes:
    """GNU's old format by hand: 3 bytes at 0, 4 at 100,000; 1 MiB altogether."""
    info = tarfile.TarInfo("sparse")
    info.size = 7
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    pieces = b"".join(b"%011o\0%011o\0" % pair for pair in ((0, 3), (100_000, 4)))
    header[386 : 386 + len(pieces)] = pieces
    header[483:495] = b"%011o\0" % (1 << 20)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"abcdefg".ljust(512, b"\0") + bytes(1024)


def sparse_pax(form: str) -> bytes:
    info = tarfile.TarInfo("GNUSparseFile.0/sparse")
    content = b"abcdefg"
    if form == "1.0":
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.realsize": str(1 << 20),
        }
        content = b"2\n0\n3\n100000\n4\n".ljust(512, b"\0") + content
    else:
        info.pax_headers = {
            "GNU.sparse.map": "0,3,100000,4",
            "GNU.sparse.size": str(1 << 20),
            "GNU.sparse.name": "sparse",
        }
    info.size = len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0") + bytes(1024)


@pytest.mark.parametrize("make", [sparse_gnu, lambda: sparse_pax("0.1"), lambda: sparse_pax("1.0")])
def test_sparse_files(box: Box, make: Callable[[], bytes]) -> None:
    box.put(make())
    data = (box.tree / "sparse").read_bytes()
    assert (len(data), data[:3], data[100_000:100_004]) == (1 << 20, b"abc", b"defg")
    assert data.count(0) == (1 << 20) - 7
    assert os.stat(box.image).st_blocks * 512 < 1 << 18


@pytest.mark.parametrize("numbers", ["0,3,1,4", "0,3,100000", "0,3,100000,5", "-1,3,5,4", "x", "0,7,9999999999,0"])
def test_absurd_sparse_maps(box: Box, numbers: str) -> None:
    data = sparse_pax("0.1").replace(b"0,3,100000,4", numbers.encode().ljust(12, b" "))
    with pytest.raises(BadLayer, match="tar: "):
        box.put(data)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format(box: Box, form: int) -> None:
    name = "a" * 90 + "/" + "b" * 90 if form == tarfile.USTAR_FORMAT else "a" * 150 + "/" + "b" * 200
    members = [made.member(name, b"1", uid=1000), made.symlink("l", "t" * 99, mtime=5)]
    if form != tarfile.USTAR_FORMAT:
        members += [made.symlink("ll", "t" * 300), made.member("big", b"1", uid=3_000_000, mtime=2**34 - 1)]
    box.put(made.layer(members, form))
    assert os.stat(box.tree / name).st_uid == 1000
    if form != tarfile.USTAR_FORMAT:
        assert (os.stat(box.tree / "big").st_uid, os.readlink(box.tree / "ll")) == (3_000_000, "t" * 300)


def test_an_absurd_extension_header(box: Box) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    with pytest.raises(BadLayer, match="extension headers with 8589934592 bytes more"):
        box.put(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def headers(count: int, size: int) -> bytes:
    """PAX headers that belong to one entry, of keys that nobody knows."""
    blocks = []
    for number in range(count):
        body = b"".join(b"%d %08d=x\n" % (14, number * size + n) for n in range(size))
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, len(body)
        blocks.append(info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512))
    return b"".join(blocks)


def test_extension_headers_add_up(box: Box) -> None:
    assert list(tar.Reader(tar.Stream(iter([headers(10, 1000) + made.layer([made.member("x")])]))))
    tracemalloc.start()
    with pytest.raises(BadLayer, match="1048576 in all at most"):
        box.put(headers(200, 1000))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 << 20


def test_a_sparse_map_without_an_end(box: Box) -> None:
    """It said that terabytes follow, and then nothing came, or nothing but digits."""
    info = tarfile.TarInfo("x")
    info.size = 1 << 41
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    head = info.create_gnu_header(info.get_info(), "utf-8", "strict")
    pax = tarfile.TarInfo.create_pax_global_header(records)
    pax = pax[:156] + b"x" + pax[157:]
    info_sum = sum(pax[:148]) + sum(pax[156:512]) + 256
    pax = pax[:148] + b"%06o\0 " % info_sum + pax[156:]
    for body in (b"", b"7" * 512 * 40, b"1\n" * 10):
        with pytest.raises(BadLayer, match="map of a sparse file"):
            box.put(pax + head + body)
        (box.folder / "image.erofs").unlink()


@pytest.mark.parametrize("cut", [100, 512, 600, 1000, 1536, 5000])
def test_a_tar_cut_short(box: Box, cut: int) -> None:
    whole = made.layer([made.folder("a"), made.member("a/b", b"x" * 4000)])
    path = box.folder / "layer"
    path.write_bytes(whole[:cut])
    with pytest.raises(BadLayer):
        unpack.unpack(str(box.image), [Layer(str(path), made.digest(whole))])


def read(data: bytes) -> list[tuple[tar.Entry, bytes]]:
    """Read everything, in small chunks."""
    reader = tar.Reader(tar.Stream(data[i : i + 700] for i in range(0, len(data), 700)))
    return [(entry, b"".join(bytes(p) for p in reader.data())) for entry in reader]


member_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300
).filter(lambda name: not name.endswith("/"))


@given(
    st.lists(st.tuples(member_names, st.binary(max_size=3000), st.integers(0, 2**31), st.integers(0, 2**33))),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_the_reader_agrees_with_pythons(files: list[tuple[str, bytes, int, int]], form: int) -> None:
    data = made.layer([made.member(n, c, uid=u, mtime=t) for n, c, u, t in files], form)
    with tarfile.open(fileobj=io.BytesIO(data)) as other:
        theirs = [(m.name, m.size, m.uid, m.mtime) for m in other]
    ours = [(e.name.decode(), e.size, e.uid, e.mtime_ns // 10**9) for e, _ in read(data)]
    assert ours == theirs
    assert [content for _, content in read(data)] == [c for _, c, *_ in files]


@given(st.binary(max_size=4000))
@example(b"")
def test_the_reader_survives_anything(data: bytes) -> None:
    try:
        read(data)
    except InvalidInput:
        pass


GOOD = (
    made.layer(
        [
            made.folder("d"),
            made.member("d/f", b"x" * 1000, xattrs={"user.a": b"b"}, mtime=1.5),
            made.symlink("s", "d"),
            made.hardlink("h", "d/f"),
            made.member("l" * 200, b"y"),
        ]
    )
    + sparse_gnu()
    + sparse_pax("1.0")
)


def fix_checksums(data: bytearray) -> None:
    """Let damage get past the first check."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b"        "
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12)), max_size=6))
def test_a_damaged_layer_is_refused_or_makes_a_sound_file_system(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]]
) -> None:
    data = bytearray(GOOD)
    for at, what in damage:
        data[at : at + len(what)] = what
    fix_checksums(data)
    try:
        Box(tmp_path_factory.mktemp("box")).make(bytes(data))
    except InvalidInput:
        pass


NAMES = [
    "a",
    "b",
    "a/b",
    "b/a",
    "a/b/a",
    "./",
    "..",
    "../outside",
    "/",
    "a/..",
    ".wh.a",
    "a/.wh..wh..opq",
    ".wh.b",
    "../outside/secret",
]
KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
entries = st.builds(
    lambda name, kind, link, data: made.member(name, data if kind == tarfile.REGTYPE else b"", kind=kind, link=link),
    st.sampled_from(NAMES),
    st.sampled_from(KINDS),
    st.sampled_from([*NAMES, "../..", "b/..", "../../outside", "x"]),
    st.binary(max_size=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.lists(entries, max_size=8), min_size=1, max_size=3))
def test_any_combination_of_entries_is_refused_or_makes_a_sound_file_system(
    tmp_path_factory: pytest.TempPathFactory, layers: list[Members]
) -> None:
    try:
        Box(tmp_path_factory.mktemp("box")).make(*layers)
    except InvalidInput:
        pass


def skippable(content: bytes, number: int = 0) -> bytes:
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


FRAMES = [zstd.compress(b"one"), zstd.compress(b"two" * 1000)]


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (skippable(b"x" * 100) + FRAMES[0], b"one"),
        (FRAMES[0] + skippable(b"") + skippable(b"x", 15) + FRAMES[1], b"one" + b"two" * 1000),
        (FRAMES[0] + skippable(b"(\xb5/\xfd"), b"one"),  # what is in it is no frame
        (FRAMES[0] + skippable(b"x") + bytes(1000), b"one"),
        (skippable(b"x"), b""),
        (gzip.compress(b"one") + gzip.compress(b"two") + bytes(512), b"onetwo"),
    ],
)
def test_members_and_frames_that_hold_nothing(data: bytes, expected: bytes, chunk: int) -> None:
    chunks = (data[at : at + chunk] for at in range(0, len(data), chunk))
    assert b"".join(compression.plain(chunks)) == expected


@pytest.mark.parametrize(
    "data", [skippable(b"x" * 100)[:50], FRAMES[0] + skippable(b"x" * 100)[:-1], skippable(b"")[:6]]
)
def test_a_skippable_frame_cut_short(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="ends too early"):
        list(compression.plain(iter([data])))


def test_padding_after_the_end_of_a_layer(box: Box) -> None:
    box.put(made.layer([made.member("x", b"1")]) + bytes(100_000) + b"signed by someone")
    assert names(box.tree) == ["x"]


@given(st.binary(max_size=200), st.sampled_from(["gzip", "zstd", "xz", "bzip2"]))
def test_decompression_survives_anything(data: bytes, name: str) -> None:
    magic = next(m for m, n in compression.MAGIC.items() if n == name)
    try:
        for _ in compression.plain(iter([magic, data])):
            pass
    except InvalidInput:
        pass
