"""cp: where things land, what is sent, and what a hostile archive cannot do."""

import errno
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.errors import GuestError
from hypercontainer.hyperctl import unpack
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd, Refusal, Request

ARCHIVE = "/v1/containers/web/archive"
Entry = tuple[str, dict[str, object], bytes]


def tar(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 1_700_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def folder(name: str, **more: object) -> Entry:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **more}, b""


def file(name: str, data: bytes = b"data", **more: object) -> Entry:
    return name, more, data


def link(name: str, target: str) -> Entry:
    return name, {"type": tarfile.SYMTYPE, "linkname": target, "mode": 0o777}, b""


TREE = tar(folder("d"), file("d/a", b"A"), folder("d/s"), file("d/s/b", b"B" * 1000, mode=0o4755), link("d/l", "a"))


@pytest.fixture
def inside(hyperd: FakeHyperd) -> dict[str, bytes]:
    """What GET archive finds, by path."""
    found: dict[str, bytes] = {}
    absent = Refusal.of(GuestError("cannot read: No such file or directory", errno.ENOENT))
    hyperd.answers["GET", ARCHIVE] = lambda request: found.get(dict(request.query)["path"], absent)
    hyperd.answers["PUT", ARCHIVE] = None
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def listing(top: Path) -> dict[str, str]:
    """Every file below `top`: its content, -> its target, or / for a folder."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "/" if path.is_dir() else path.read_text()[:5]
    return found


CONTENTS = tar(folder("."), file("./a", b"A"), folder("./s"), file("./s/b", b"B" * 1000), link("./l", "a"))
TREE_LISTING = {"a": "A", "l": "-> a", "s": "/", "s/b": "BBBBB"}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("web:/x/d", ".", {"d": "/", **{f"d/{k}": v for k, v in TREE_LISTING.items()}}),
        ("web:x/d", "new", {"new": "/", **{f"new/{k}": v for k, v in TREE_LISTING.items()}}),
        ("web:/x/d/.", ".", TREE_LISTING),
        ("web:/x/d/.", "new", {"new": "/", **{f"new/{k}": v for k, v in TREE_LISTING.items()}}),
        ("web:/x/y/../d/", ".", {"d": "/", **{f"d/{k}": v for k, v in TREE_LISTING.items()}}),
        ("web:/", ".", TREE_LISTING),
        ("web:/f", ".", {"f": "data"}),
        ("web:/f", "g", {"g": "data"}),
    ],
)
def test_out_of_a_container(
    hyperctl: Hyperctl, inside: dict[str, bytes], here: Path, source: str, target: str, expected: dict[str, str]
) -> None:
    inside.update({"/x/d": TREE, "/x/d/.": CONTENTS, "/": CONTENTS, "/f": tar(file("f"))})
    assert hyperctl("cp", source, target) == (0, "", "")
    assert listing(here) == expected


def test_modes_times_and_no_privileges(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path) -> None:
    inside["/x/d"] = TREE
    assert hyperctl("cp", "web:/x/d", ".").status == 0
    found = (here / "d/s/b").stat()
    assert stat.S_IMODE(found.st_mode) == 0o755  # setuid stays in the container
    assert found.st_mtime == 1_700_000_000
    assert (here / "d").stat().st_mtime == 1_700_000_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_with_a(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path) -> None:
    inside["/f"] = tar(file("f", uid=1234, gid=5678))
    assert hyperctl("cp", "-a", "web:/f", "kept").status == 0
    assert hyperctl("cp", "web:/f", "ours").status == 0
    assert ((here / "kept").stat().st_uid, (here / "kept").stat().st_gid) == (1234, 5678)
    assert (here / "ours").stat().st_uid == os.geteuid()


def test_to_stdout_and_from_stdin(hyperctl: Hyperctl, inside: dict[str, bytes], hyperd: FakeHyperd) -> None:
    inside["/x/d"] = TREE
    assert hyperctl.raw("cp", "web:/x/d", "-").stdout == TREE
    assert hyperctl("cp", "-", "web:/x/d", stdin=TREE) == (0, "", "")
    put = hyperd.requests[-1]
    assert (put.method, put.query, put.body) == ("PUT", [("path", "/x/d")], TREE)
    inside["/f"] = tar(file("f"))
    assert hyperctl("cp", "-", "web:/f", stdin=TREE) == (1, "", "hyperctl: cannot copy to web:/f: it is not a folder\n")


def sent(request: Request) -> tuple[str, dict[str, str]]:
    """(folder, what is in the archive)"""
    with tarfile.open(fileobj=io.BytesIO(request.body)) as archive:
        names = {}
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            names[entry.name] = f"-> {entry.linkname}" if entry.issym() else content.read().decode() if content else "/"
    return dict(request.query)["path"], names


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("f", "/dir", ("/dir", {"f": "data"})),
        ("f", "/dir/", ("/dir", {"f": "data"})),
        ("f", "/dir/g", ("/dir", {"g": "data"})),
        ("f", "file", ("/", {"file": "data"})),
        ("f", "/", ("/", {"f": "data"})),
        ("f", "/link", ("/dir", {"f": "data"})),
        ("d", "/dir", ("/dir", {"d": "/", "d/a": "A", "d/l": "-> a"})),
        ("d/", "/dir", ("/dir", {"d": "/", "d/a": "A", "d/l": "-> a"})),
        ("d/.", "/dir", ("/dir", {"a": "A", "l": "-> a"})),
        ("d", "/new", ("/", {"new": "/", "new/a": "A", "new/l": "-> a"})),
        ("d/.", "/dir/new", ("/dir", {"new": "/", "new/a": "A", "new/l": "-> a"})),
        ("d/l", "/dir", ("/dir", {"l": "-> a"})),
    ],
)  # fmt: skip
def test_into_a_container(
    hyperctl: Hyperctl, hyperd: FakeHyperd, inside: dict[str, bytes], here: Path, source: str, target: str,
    expected: tuple[str, dict[str, str]],
) -> None:  # fmt: skip
    (here / "f").write_text("data")
    (here / "d").mkdir()
    (here / "d/a").write_text("A")
    (here / "d/l").symlink_to("a")
    inside.update({"/dir": TREE, "/dir/": TREE, "/": tar(folder(".")), "/file": tar(file("file"))})
    inside["/link"] = tar(link("link", "dir"))
    assert hyperctl("cp", source, f"web:{target}") == (0, "", "")
    assert sent(hyperd.requests[-1]) == expected


def test_links_are_followed_with_l(
    hyperctl: Hyperctl, hyperd: FakeHyperd, inside: dict[str, bytes], here: Path
) -> None:
    (here / "f").write_text("data")
    (here / "l").symlink_to("f")
    inside["/dir"] = TREE
    assert hyperctl("cp", "-L", "l", "web:/dir").status == 0
    assert sent(hyperd.requests[-1]) == ("/dir", {"l": "data"})
    inside.update({"/a/l": tar(link("l", "../b")), "/b": tar(file("b"))})
    assert hyperctl("cp", "-L", "web:/a/l", "copy") == (0, "", "")
    assert (here / "copy").read_text() == "data"
    assert hyperctl("cp", "-L", "web:/a/l", ".") == (0, "", "")
    assert (here / "l").read_text() == "data"  # by the name that was asked for
    inside["/loop"] = tar(link("loop", "loop"))
    assert "too many links" in hyperctl("cp", "-L", "web:/loop", "x").err


def test_what_cannot_be_copied(hyperctl: Hyperctl, hyperd: FakeHyperd, inside: dict[str, bytes], here: Path) -> None:
    (here / "f").write_text("data")
    (here / "d").mkdir()
    inside["/file"] = tar(file("file"))
    for words, message in {
        ("nope", "web:/file"): "cannot copy nope: no such file or folder",
        ("d", "web:/file"): "cannot copy folder d to web:/file: it is a file",
        ("f", "web:/none/"): "cannot copy to web:/none/: there is no such folder",
        ("web:/file", "none/"): "cannot copy to none/: there is no such folder",
        ("web:/file", "none/x"): "No such file or directory",
        ("web:/none", "x"): "cannot read: No such file or directory",
        ("f", "d"): "cp does not copy on the host alone",
        ("web:/f", "web:/g"): "cp does not copy between containers",
    }.items():
        done = hyperctl("cp", *words)
        assert done.status == 1
        assert message in done.err, done.err
    assert listing(here) == {"f": "data", "d": "/"}


def test_a_large_tree_goes_both_ways(
    hyperctl: Hyperctl, hyperd: FakeHyperd, inside: dict[str, bytes], here: Path
) -> None:
    names = [f"d/{i % 7}/{'n' * 120}{i}" for i in range(300)]
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(os.urandom(3000))
    (here / "d/big").write_bytes(os.urandom(3_000_000))
    inside["/"] = tar(folder("."))
    assert hyperctl("cp", "d", "web:/").status == 0
    inside["/d"] = hyperd.requests[-1].body
    assert hyperctl("cp", "web:/d", "e").status == 0
    for name in [*names, "d/big"]:
        assert (here / name).read_bytes() == (here / name.replace("d/", "e/", 1)).read_bytes()


@pytest.fixture
def attack(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path, tmp_path: Path) -> Callable[..., str]:
    """Copies a hostile archive; its complaint. Nothing outside of `here` may change."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")

    def copy(*entries: Entry) -> str:
        inside["/x"] = tar(*entries)
        done = hyperctl("cp", "web:/x", ".")
        assert done.status == 1
        assert listing(outside) == {"secret": "secre"}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "hyper.sock", "outside"]
        assert done.err.startswith("hyperctl: cannot copy ")
        assert done.err.count("\n") == 1
        return done.err

    return copy


def test_names_that_lead_out(attack: Callable[..., str]) -> None:
    for name in ("../outside/new", "x/../../outside/new", "/etc/new", "x/" * 300 + "y"):
        assert "leads out of the target folder" in attack(folder("x"), file(name))
        assert "leads out of the target folder" in attack(file(name))


def test_the_container_does_not_choose_the_name(attack: Callable[..., str], here: Path) -> None:
    for name in (".bashrc", ".", "./.bashrc", ".ssh/authorized_keys", "xx", "y"):
        assert "is not below" in attack(file(name))
        assert "is not below" in attack(folder("x"), file(name))
        assert listing(here).keys() <= {"x"}


def test_nor_by_a_link(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path) -> None:
    inside.update({"/data/log": tar(link("log", "/.bashrc")), "/.bashrc": tar(file(".bashrc", b"evil"))})
    assert hyperctl("cp", "-L", "web:/data/log", ".").status == 0
    assert listing(here) == {"log": "evil"}
    inside["/data/log"] = tar(link("log", "/.ssh"))
    inside["/.ssh"] = tar(folder(".ssh"), file(".ssh/authorized_keys", b"evil"))
    (here / "log").unlink()
    assert hyperctl("cp", "-L", "web:/data/log", ".").status == 0
    assert listing(here) == {"log": "/", "log/authorized_keys": "evil"}


def test_a_link_to_what_was_here_before(attack: Callable[..., str], here: Path) -> None:
    (here / "x").mkdir()
    (here / "x/mine").write_text("mine")
    hard = ("x/h", {"type": tarfile.LNKTYPE, "linkname": "x/mine"}, b"")
    assert "no file of the archive" in attack(folder("x"), hard)
    assert "no file of the archive" in attack(folder("x"), file("x/f"), link("x/f", "mine"), (
        "x/h", {"type": tarfile.LNKTYPE, "linkname": "x/f"}, b""
    ))  # fmt: skip


def test_hard_links_of_one_archive(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path) -> None:
    inside["/x"] = tar(folder("x"), file("x/a"), ("x/b", {"type": tarfile.LNKTYPE, "linkname": "x/a"}, b""))
    assert hyperctl("cp", "web:/x", ".") == (0, "", "")
    assert (here / "x/a").stat().st_nlink == 2


def test_nothing_is_written_through_a_link(attack: Callable[..., str], here: Path) -> None:
    out = "../../outside"
    assert "Not a directory" in attack(folder("x"), link("x/l", out), file("x/l/new"))
    assert "Not a directory" in attack(folder("x"), link("x/l", out), folder("x/l/new"))
    attack(folder("x"), link("x/l", out), folder("x/l"))
    hard = ("x/h", {"type": tarfile.LNKTYPE, "linkname": "x/l/secret"}, b"")
    assert "no file of the archive" in attack(folder("x"), link("x/l", out), hard)
    assert "no file of the archive" in attack(
        folder("x"), link("x/l", f"{out}/secret"), ("x/h", {"type": tarfile.LNKTYPE, "linkname": "x/l"}, b"")
    )
    assert "leads out" in attack(folder("x"), ("x/h", {"type": tarfile.LNKTYPE, "linkname": f"x/{out}/secret"}, b""))


def test_a_link_in_the_place_of_a_file_is_replaced(
    hyperctl: Hyperctl, inside: dict[str, bytes], here: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    inside["/x"] = tar(folder("x"), link("x/f", "../../secret"), file("x/f", b"new"))
    assert hyperctl("cp", "web:/x", ".").status == 0
    assert (secret.read_text(), (here / "x/f").read_text()) == ("secret", "new")
    assert not (here / "x/f").is_symlink()


def test_devices_and_absurd_numbers(attack: Callable[..., str]) -> None:
    device = ("x/sda", {"type": tarfile.BLKTYPE, "devmajor": 8}, b"")
    assert "devices, pipes and sparse files stay in the container" in attack(folder("x"), device)
    attack(folder("x"), ("x/p", {"type": tarfile.FIFOTYPE}, b""))
    attack(folder("x"), file("x/d/f"), file("x/d"))


def test_a_broken_archive(hyperctl: Hyperctl, inside: dict[str, bytes], here: Path) -> None:
    for broken in (TREE[:700], b"x" * 1024, TREE[:100]):
        inside["/d"] = broken
        done = hyperctl("cp", "web:/d", ".")
        assert done.status == 1
        assert "damaged tar" in done.err
    inside["/x"] = tar(file("x", mtime=10**17, uid=2**40, mode=0o7777))
    assert hyperctl("cp", "web:/x", ".").status == 0
    assert "cannot copy 'x'" in hyperctl("cp", "-a", "web:/x", ".").err
    inside["/x"] = tar(folder("x", uid=2**40))
    done = hyperctl("cp", "-a", "web:/x", "folder")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "cannot copy 'folder'" in done.err


def test_folders_are_known_only_as_long_as_we_are_in_them(tmp_path: Path) -> None:
    """There may be a million of them."""
    count = 10_000
    names = ("x", *(f"x/{n // 100}/{n}" if n % 100 else f"x/{n // 100}" for n in range(count)))
    chunks = (tar(folder(name, mode=0o555))[:512] for name in names)
    tracemalloc.start()
    unpack.extract(chunks, str(tmp_path / "x"), "x", "x", keep_owner=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 << 20
    made = [path for path, _, _ in os.walk(tmp_path / "x")]
    assert len(made) == count + 1
    assert {(os.stat(path).st_mode, int(os.stat(path).st_mtime)) for path in made} == {(0o40555, 1_700_000_000)}
