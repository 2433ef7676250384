"""The EROFS writer against the kernel that mounts it and against fsck.erofs."""

import hashlib
import os
import random
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hypercontainer.images import erofs, unpack
from hypercontainer.images.unpack import Layer
from hypercontainer.testing import layers as made
from tests.unit.images.looking import check_erofs, mounted, names

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts what it made")
SIZES = [0, 1, 1023, 1024, 1025, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 100_000, 1 << 20, (1 << 20) + 1]


def write(folder: Path, *layers: bytes, name: str = "image.erofs") -> Path:
    blobs = []
    for number, layer in enumerate(layers):
        path = folder / f"layer{number}"
        path.write_bytes(layer)
        blobs.append(Layer(str(path), made.digest(layer)))
    image = folder / name
    unpack.unpack(str(image), blobs)
    check_erofs(image)
    assert image.stat().st_size % erofs.PAGE == 0
    return image


def test_sizes(tmp_path: Path) -> None:
    data = {f"f{size}": random.Random(size).randbytes(size) for size in SIZES}
    image = write(
        tmp_path, made.layer(made.member(n, d, xattrs={"user.k": b"v" * (len(d) % 99)}) for n, d in data.items())
    )
    with mounted(image, tmp_path / "m") as root:
        assert {name: (root / name).read_bytes() for name in names(root)} == data
        assert {n: os.getxattr(root / n, "user.k") for n in data} == {n: b"v" * (len(d) % 99) for n, d in data.items()}


def test_many_names_in_one_folder(tmp_path: Path) -> None:
    """Blocks of names, each sorted, with names before "." and after it."""
    chosen = {f"{chr(33 + n % 14)}{n * 7919 % 5000:x}" + "y" * (n % 240) for n in range(5000)} - {".", ".."}
    chosen = {name.replace("/", "0") for name in chosen if not name.startswith(".wh.")}
    image = write(tmp_path, made.layer(made.member(f"d/{name}", name.encode()) for name in chosen))
    with mounted(image, tmp_path / "m") as root:
        assert set(os.listdir(root / "d")) == chosen
        assert all((root / "d" / name).read_bytes() == name.encode() for name in chosen)
        assert not (root / "d" / "absent").exists()


def test_links(tmp_path: Path) -> None:
    targets = ["x", "x" * 1024, "x" * 1025, "x" * 4000, "x" * 4032, "x" * 4033, "x" * 4095]
    members = [made.symlink(f"s{len(t)}", t) for t in targets]
    members += [made.member("one", b"1"), *(made.hardlink(f"l{n}", "one") for n in range(300))]
    members += [made.member("fifo", kind=tarfile.FIFOTYPE), made.hardlink("fifo2", "fifo"), made.hardlink("s", "s1")]
    with mounted(write(tmp_path, made.layer(members)), tmp_path / "m") as root:
        assert [os.readlink(root / f"s{len(t)}") for t in targets] == targets
        assert os.stat(root / "l299").st_nlink == 301
        assert os.stat(root / "fifo2").st_ino == os.stat(root / "fifo").st_ino
        assert os.readlink(root / "s") == "x"


def test_folders_count_their_folders(tmp_path: Path) -> None:
    with mounted(write(tmp_path, made.layer(made.folder(f"a/{n}") for n in range(7))), tmp_path / "m") as root:
        assert (os.stat(root).st_nlink, os.stat(root / "a").st_nlink, os.stat(root / "a/3").st_nlink) == (3, 9, 2)
        assert os.stat(root / "a/3/../..").st_ino == os.stat(root).st_ino


def test_large_attributes(tmp_path: Path) -> None:
    """More than fits into a block beside the inode."""
    xattrs = {f"user.{n:03}": bytes([n]) * 3000 for n in range(20)}
    members = [
        made.member("f", b"content", xattrs=xattrs),
        made.folder("d", xattrs=xattrs),
        made.member("d/e", b"x"),
        made.member("g", b"y" * 1000, xattrs={"user.a": b"z" * 3100}),
    ]
    with mounted(write(tmp_path, made.layer(members)), tmp_path / "m") as root:
        for name in ("f", "d"):
            assert {k: os.getxattr(root / name, k) for k in os.listxattr(root / name)} == xattrs
        assert (root / "f").read_bytes() == b"content"
        assert (root / "g").read_bytes() == b"y" * 1000
        assert os.getxattr(root / "g", "user.a") == b"z" * 3100
        assert os.listdir(root / "d") == ["e"]


@pytest.mark.parametrize("device", [(1, 3), (8, 255), (8, 256), (4095, (1 << 20) - 1), (0, 0)])
def test_devices(tmp_path: Path, device: tuple[int, int]) -> None:
    layer = made.layer([made.member("c", kind=tarfile.CHRTYPE, device=device)])
    with mounted(write(tmp_path, layer), tmp_path / "m") as root:
        status = os.lstat(root / "c")
        assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == device


def test_the_same_layers_make_the_same_file(tmp_path: Path) -> None:
    layers = [
        made.layer([made.member(f"d{n}/f", b"x" * n, xattrs={"user.b": b"1", "user.a": b"2"}) for n in range(50)]),
        made.layer([made.member("d7/.wh.f"), made.member("new", b"y" * 9999)]),
    ]
    images = [write(tmp_path, *layers, name=f"{n}.erofs").read_bytes() for n in range(2)]
    assert hashlib.sha256(images[0]).digest() == hashlib.sha256(images[1]).digest()


def test_what_later_layers_replace_takes_no_room(tmp_path: Path) -> None:
    secret = b"secret" * 200_000
    lower = made.layer([made.member("a", secret), made.member("b", secret), made.hardlink("c", "b")])
    image = write(tmp_path, lower, made.layer([made.member("a", b"new"), made.member(".wh.b")]))
    assert image.read_bytes().count(b"secretsecret") * 12 <= len(secret)  # c has it still
    assert image.stat().st_blocks * 512 < 1.1 * len(secret)
    with mounted(image, tmp_path / "m") as root:
        assert ((root / "a").read_bytes(), (root / "c").read_bytes()) == (b"new", secret)


def test_an_empty_image(tmp_path: Path) -> None:
    with mounted(write(tmp_path), tmp_path / "m") as root:
        assert os.listdir(root) == []
        assert stat.S_IMODE(os.stat(root).st_mode) == 0o755


LONG = "c" * 200
paths = st.lists(st.sampled_from(["a", "b", LONG, "-", "ü"]), min_size=1, max_size=4).map("/".join)


TO_THE_BYTE = {f"-/{LONG}": 0, "a": 417, "b/b": 449, f"b/{LONG}": 33, "b/a/a": 545, "-/a/a": 0} | {
    f"{LONG}/a/a/a": 0,
    "-/b/a/a": 0,
}  # the last inode ends where its block does


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(paths, st.integers(0, 9000), max_size=12))
@example(TO_THE_BYTE)
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, files: dict[str, int]) -> None:
    """What is written is what is read; a file that is in the way of a folder is left out."""
    chosen = {p: s for p, s in files.items() if not any(other.startswith(p + "/") for other in files)}
    folder = tmp_path_factory.mktemp("any")
    image = write(folder, made.layer(made.member(p, p[:1].encode() * s, mode=s & 0o7777) for p, s in chosen.items()))
    with mounted(image, folder / "m") as root:
        seen = {name: (root / name).read_bytes() for name in names(root) if not name.endswith("/")}
        modes = {name: stat.S_IMODE(os.stat(root / name).st_mode) for name in seen}
    assert seen == {p: p[:1].encode() * s for p, s in chosen.items()}
    assert modes == {p: s & 0o7777 for p, s in chosen.items()}
