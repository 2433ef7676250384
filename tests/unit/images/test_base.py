"""Layers on top of a root file system that is there: the same file, to the byte, as of all layers."""

import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercontainer.images import base as written
from hypercontainer.images import erofs, unpack
from hypercontainer.images.unpack import BadLayer, Budget, Layer
from hypercontainer.testing import layers as made
from tests.unit.images.looking import check_erofs

SIZES = [0, 1, 1000, 1024, 1025, 4032, 4096, 5000, 70_000]
NAMES = [f"{a}{b}" for a in ("", "a/", "a/b/", "c/") for b in ("x", "y", "z", "a", "b", "l")]
XATTRS = [{}, {"user.k": b"v"}, {"security.capability": bytes(20), "user.long": b"w" * 3500}]


def entries(dice: random.Random) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    written: list[str] = []
    for _ in range(dice.randint(0, 25)):
        name = dice.choice(NAMES)
        folder, _, base = name.rpartition("/")
        how: dict[str, Any] = {
            "mode": dice.choice([0o644, 0o4755]),
            "uid": dice.choice([0, 70_000]),
            "mtime": dice.choice([0, 5.5]),
        }
        kind = dice.randrange(9)
        if kind < 4:
            content = dice.randbytes(dice.choice(SIZES)) if kind else bytes(200_000)
            yield made.member(name, content, xattrs=dice.choice(XATTRS), **how)
            written.append(name)
        elif kind == 4:
            yield made.folder(name, xattrs=dice.choice(XATTRS), **how)
        elif kind == 5:
            yield made.symlink(name, "t" * dice.choice([1, 1025, 4050]))
        elif kind == 6 and written:
            if (target := dice.choice(written)) != name:
                yield made.hardlink(name, target)
        elif kind == 7:
            yield made.member(name, kind=tarfile.CHRTYPE, device=(dice.randrange(300), dice.randrange(70_000)))
        else:
            yield made.member(f"{folder}/.wh.{base}" if dice.random() < 0.8 else f"{folder}/.wh..wh..opq")


class Chain:
    """Layers in a folder, and files made of them in both ways."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.layers = folder, list[Layer]()

    def add(self, data: bytes) -> None:
        path = self.folder / f"layer{len(self.layers)}"
        path.write_bytes(data)
        self.layers.append(Layer(str(path), made.digest(data)))

    def whole(self, name: str) -> Path | None:
        """None when no such image can be."""
        path = self.folder / name
        try:
            unpack.unpack(str(path), self.layers)
        except BadLayer:
            path.unlink()
            return None
        return path

    def on(self, base: Path, below: int, name: str) -> Path:
        path = self.folder / name
        assert len(unpack.unpack(str(path), self.layers, str(base), below)) == len(self.layers) - below
        return path


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 40))
def test_the_same_file_to_the_byte(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    chain = Chain(tmp_path_factory.mktemp("chain"))
    chain.add(made.layer(entries(dice)))
    base = chain.whole("0")
    for number in range(1, 4):
        if base is None:
            return
        chain.add(made.layer(entries(dice)))
        whole = chain.whole(str(number))
        if whole is None:
            with pytest.raises(BadLayer):
                chain.on(base, number, "bad")
            return
        base = chain.on(base, number, f"{number}.on")
        assert base.read_bytes() == whole.read_bytes()
    if base:
        check_erofs(base)


def test_what_a_later_layer_replaced_takes_no_room(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.add(made.layer([made.member("big", random.Random(1).randbytes(8 << 20))]))
    base = chain.whole("base")
    chain.add(made.layer([made.member(".wh.big")]))
    assert base and chain.on(base, 1, "on").stat().st_blocks * 512 < 1 << 20


def test_a_file_of_before_is_not_gone_on_with(tmp_path: Path) -> None:
    """It does not say where its content ends: all layers are unpacked."""
    chain = Chain(tmp_path)
    chain.add(made.layer([made.member("one", b"1" * 5000)]))
    base = chain.whole("base")
    assert base
    with open(base, "r+b") as f:
        f.seek(erofs.SUPERBLOCK_AT + erofs.SUPERBLOCK.size - 44 - 4 - 16)
        f.write(bytes(16))
    chain.add(made.layer([made.member("two", b"2")]))
    path = tmp_path / "on"
    assert len(unpack.unpack(str(path), chain.layers, str(base), 1)) == 2
    assert path.read_bytes() == chain.whole("whole").read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("bounds", [{"entries": 3}, {"size": 6000}])
def test_what_is_below_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int]) -> None:
    chain = Chain(tmp_path)
    chain.add(made.layer(made.member(f"f{n}", b"1" * 2000) for n in range(3)))
    base = chain.whole("base")
    chain.add(made.layer([made.member("one-more", b"2")]))
    monkeypatch.setattr(unpack, "Budget", lambda: Budget(**bounds))
    assert base
    with pytest.raises(BadLayer, match=r"too many entries|too large"):
        chain.on(base, 1, "on")
    assert os.path.exists(base)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("usr/lib/f", True),
        ("lib", True),
        ("lib/f", True),  # by an absolute link
        ("usr/up/usr/lib/f", True),  # by one that climbs above the root
        ("far/f", True),  # by one whose target has a block of its own
        ("no", False),
        ("usr/lib/no", False),
        ("usr/lib/f/below", False),
        ("usr/lib/f/..", False),
        ("dangles", False),
        ("round", False),
        ("many/499", True),  # in a folder of several blocks
        ("many/500", False),
    ],
)
def test_what_is_in_it(tmp_path: Path, path: str, there: bool) -> None:
    long = "/" * 2000 + "usr/lib"
    links = {"lib": "/usr/lib", "usr/up": "../../..", "far": long, "dangles": "usr/no", "round": "round"}
    names = [*(made.symlink(name, target) for name, target in links.items()), made.member("usr/lib/f", b"1" * 70_000)]
    chain = Chain(tmp_path)
    chain.add(made.layer([*names, *(made.member(f"many/{n}", b"") for n in range(500))]))
    image = chain.whole("image")
    assert image
    with open(image, "rb") as f:
        assert written.holds(f.fileno(), path) is there
