"""Archives that no honest agent makes, and the proof that none of them did anything outside of its target."""

import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

from hypercontainer.testing import layers as made
from tests.unit import bombs

EVIL = b"evil"
OUT = "../../outside"


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return made.layer(members, tarfile.GNU_FORMAT)


def file(name: str, content: bytes = EVIL, **how: object) -> tuple[tarfile.TarInfo, bytes]:
    return made.member(name, content, **how)  # type: ignore[arg-type]


folder, symlink, hardlink = made.folder, made.symlink, made.hardlink


def special(name: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return made.member(name, kind=kind, device=(8, 0), mode=0o4777)


def renamed(name: bytes, header: bytes = b"x") -> bytes:
    """A file x that an extension header gives another name."""
    if header == b"L":
        return bombs.header(b"L", len(name) + 1) + bombs.body(name + b"\0") + bombs.header(b"0", 0)
    return bombs.pax([(b"path", name)]) + bombs.header(b"0", 0)


def archives() -> dict[str, bytes]:
    """Each as an answer to the question for x."""
    out = f"{OUT}/new"
    names = [".bashrc", ".ssh/authorized_keys", "/etc/cron.d/x", out, "x/../../outside/new", "..", ".", "", "xx"]
    odd = ["y", "x/../y", "./../x", "x\x1b]0;title\x07", "x/\n/y", "-rf"]
    return {
        **{f"file {name!r}": tar(file(name)) for name in names + odd},
        **{f"file {name!r} behind": tar(folder("x"), file(name)) for name in names},
        **{f"folder {name!r}": tar(folder(name), file(f"{name}/y")) for name in names},
        **{f"link {name!r}": tar(symlink(name, OUT), file(f"{name}/new")) for name in names},
        "through a link": tar(folder("x"), symlink("x/l", f"../{OUT}"), file("x/l/new")),
        "through a link in its own place": tar(symlink("x", OUT), file("x/new")),
        "a folder through a link": tar(folder("x"), symlink("x/l", f"../{OUT}"), folder("x/l/new"), folder("x/l")),
        "a file in a link's place": tar(folder("x"), symlink("x/f", f"../{OUT}/secret"), file("x/f")),
        "a link's file": tar(symlink("x", f"{OUT}/secret"), file("x")),
        "a folder's link": tar(folder("x"), symlink("x", OUT), file("x/new")),
        "a hard link out": tar(folder("x"), hardlink("x/h", f"{OUT}/secret"), file("x/h")),
        "a hard link by the root": tar(folder("x"), hardlink("x/h", "/etc/passwd")),
        "a hard link to a link": tar(folder("x"), symlink("x/l", f"../{OUT}/secret"), hardlink("x/h", "x/l")),
        "a hard link to what was here": tar(hardlink("x", "here")),
        "a hard link to itself": tar(hardlink("x", "x")),
        "devices": tar(folder("x"), special("x/sda", tarfile.BLKTYPE), special("x/null", tarfile.CHRTYPE)),
        "a device": tar(special("x", tarfile.CHRTYPE)),
        "a pipe": tar(special("x", tarfile.FIFOTYPE)),
        "an unknown kind": tar(special("x", b"Z")),
        "setuid": tar(folder("x", mode=0o7777), file("x/sh", mode=0o7777)),
        "owners and times": tar(folder("x", uid=2**40, mtime=-5), file("x/f", uid=-1, gid=2**40, mtime=2**70)),
        "a folder that nobody may enter": tar(folder("x", mode=0), file("x/f"), folder("x", mode=0)),
        "deep": tar(*(folder("x/" + "d/" * n) for n in (1, 100, 400))),
        "a long name": tar(folder("x"), file("x/" + "n" * 300)),
        "renamed by PAX": renamed(f"{OUT}/new".encode()),
        "renamed by GNU": renamed(f"{OUT}/new".encode(), b"L"),
        "renamed with a NUL": renamed(b"x\0/y"),
        "linked by PAX": bombs.pax([(b"linkpath", b"../outside")]) + bombs.header(b"2", 0) + tar(file("x/new")),
        "cut short": tar(folder("x"), file("x/f", bytes(9000)))[:4000],
        "no tar": b"what is this? " * 100,
        "nothing": b"",
        "an end": bytes(1024),
        "zeros": bytes(1 << 20),
        "colours": b"\x1b[31m" * 1000,
        **{name: data for name, data in bombs.tars().items() if len(data) < 1 << 20},
    }


# The ways out: what to call, in the folder `here`; the only name that may be there afterwards ("": any)
WAYS: dict[str, tuple[list[str], str]] = {
    "into the folder here": (["c:/x", "."], "x"),
    "into a folder": (["c:/x", "DIR/"], "DIR"),
    "under a new name": (["c:/x", "NEW"], "NEW"),
    "of what a link leads to": (["-L", "c:/x", "."], "x"),
    "with owners": (["-a", "c:/x", "."], "x"),
    "in place of a file": (["c:/x", "FILE"], "FILE"),
    "of what is in a folder": (["c:/x/.", "."], ""),
    "of everything": (["c:/", "NEW"], "NEW"),
    "to stdout": (["c:/x", "-"], "nothing"),
}
Copy = Callable[..., tuple[int, bytes, str]]  # (words, cwd) -> status, stdout, stderr


def prepared(home: Path, way: str) -> Path:
    """The folder `here` in `home`, beside one that nothing may happen to."""
    here, outside = home / "a" / "here", home / "a" / "outside"
    for made_here in (here, outside):
        made_here.mkdir(parents=True)
    (outside / "secret").write_text("classified")
    (home / "outside").symlink_to("a/outside")  # two steps up there is the same
    words, _ = WAYS[way]
    if words[-1] == "DIR/":
        (here / "DIR").mkdir()
    if words[-1] == "FILE":
        (here / "FILE").symlink_to("../outside/secret")
    return here


def check(home: Path, way: str, said: bytes, done: tuple[int, bytes, str]) -> None:
    """Nothing is outside, nothing has privileges, and the words are words."""
    status, out, err = done
    words, only = WAYS[way]
    assert status in (0, 1), done
    assert (out == said) if words[-1] == "-" else not out
    assert len(err) < 2000 and err.count("\n") <= 1 and err.replace("\n", "").isprintable(), err
    assert "Traceback" not in err
    assert (status == 0) == (err == ""), done
    outside = home / "a" / "outside"
    assert sorted(p.name for p in home.iterdir()) == ["a", "outside"]
    assert sorted(p.name for p in (home / "a").iterdir()) == ["here", "outside"]
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert ((outside / "secret").read_text(), (outside / "secret").stat().st_nlink) == ("classified", 1)
    here = home / "a" / "here"
    if only:
        assert {p.name for p in here.iterdir()} <= {only} - {"nothing"}
    if words[-1] == "DIR/":
        assert {p.name for p in (here / "DIR").iterdir()} <= {"x"}
    for place, _, names in os.walk(here):
        for path in (Path(place, name) for name in names):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISLNK(mode), path
            assert stat.S_ISLNK(mode) or not mode & 0o7000, path
        assert not os.stat(place).st_mode & 0o7000, place
