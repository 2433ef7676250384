"""process.archive: tar out of a container and into it, with tarfile and hostile bytes as peers."""

import errno
import io
import os
import random
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest

ROOT = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"]


def read(guest: Guest, path: str, **args: Any) -> tuple[int, dict[str, tarfile.TarInfo], tarfile.TarFile, str]:
    streams = guest.host.streams()
    guest.host.call("process.archive", id="tar", container="c1", mode="read", path=path, streams=streams, **args)
    data, errors = guest.host.read_all(streams["stdout"]), guest.host.read_all(streams["stderr"]).decode()
    status = finish(guest)
    archive = tarfile.open(fileobj=io.BytesIO(data or bytes(10240)))  # noqa: SIM115 in memory
    return status, {m.name: m for m in archive.getmembers()}, archive, errors


def finish(guest: Guest) -> int:
    status = guest.host.exit_of("tar")["status"]
    guest.host.events = [e for e in guest.host.events if e["process"] != "tar"]
    guest.host.call("process.forget", process="tar")
    assert isinstance(status, int)
    return status


def write(guest: Guest, path: str, data: bytes, **args: Any) -> tuple[int, str]:
    streams = guest.host.streams(stdin=True)
    guest.host.call("process.archive", id="tar", container="c1", mode="write", path=path, streams=streams, **args)
    guest.host.write(streams["stdin"], data, end=True)
    errors = guest.host.read_all(streams["stderr"]).decode()
    return finish(guest), errors


def tar(*members: tuple[tarfile.TarInfo, bytes], how: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=how) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def test_a_folder_comes_out(running: Guest) -> None:
    script = """mkdir -m 750 /d && cd /d && echo x > f && chown 1000:2000 f && chmod 4755 f && ln f g && ln -s f l
    mkfifo p; mkdir sub; touch -d '2001-02-03 04:05:06' sub/old"""
    assert running.sh(script, capabilities=ROOT) == (0, "", "")
    status, found, archive, errors = read(running, "/d")
    assert (status, errors) == (0, "")
    assert set(found) == {"d", "d/f", "d/g", "d/l", "d/p", "d/sub", "d/sub/old"}
    assert found["d"].mode == 0o750
    files = sorted((found["d/f"], found["d/g"]), key=lambda m: m.type)
    assert (files[0].mode, files[0].uid, files[0].gid, files[0].size) == (0o4755, 1000, 2000, 2)
    assert files[1].islnk()
    assert files[1].linkname == files[0].name
    assert archive.extractfile(files[0]).read() == b"x\n"  # type: ignore[union-attr]
    assert (found["d/l"].linkname, found["d/p"].type) == ("f", tarfile.FIFOTYPE)
    assert found["d/sub/old"].mtime == 981173106


@pytest.mark.parametrize(
    ("path", "follow", "names"),
    [
        ("/data/file", False, ["file"]),
        ("/data/link", False, ["link"]),
        ("/data/link", True, ["link"]),
        ("/data/", False, ["data", "data/file", "data/link", "data/sub", "data/sub/deep"]),
        ("data/sub", False, ["sub", "sub/deep"]),
        ("/data/.", False, [".", "./file", "./link", "./sub", "./sub/deep"]),
        ("/data/sub/..", False, [".", "./file", "./link", "./sub", "./sub/deep"]),
        ("/leads/out", False, ["out"]),
        ("/leads/out/passwd", False, ["passwd"]),
    ],
)
def test_how_entries_are_named(running: Guest, path: str, follow: bool, names: list[str]) -> None:
    status, found, archive, errors = read(running, path, follow=follow)
    assert (status, errors, sorted(found)) == (0, "", names)
    if path == "/data/link":
        assert found["link"].issym() is not follow
    if path.endswith("passwd"):
        assert b"home/user" in archive.extractfile("passwd").read()  # type: ignore[union-attr]


def test_long_names_large_numbers_and_attributes(running: Guest) -> None:
    name = "/".join(["a" * 90] * 4)
    script = f"""mkdir -p /x/{name} && echo deep > /x/{name}/file && chown 3000000:4000000 /x/{name}/file
    ln -s /{"b" * 150} /x/long"""
    assert running.sh(script, capabilities=ROOT) == (0, "", "")
    status, found, archive, _ = read(running, "/x")
    info = found[f"x/{name}/file"]
    assert (status, info.uid, info.gid) == (0, 3000000, 4000000)
    assert archive.extractfile(info).read() == b"deep\n"  # type: ignore[union-attr]
    assert found["x/long"].linkname == "/" + "b" * 150


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nothing", errno.ENOENT),
        ("/data/file/below", errno.ENOTDIR),
        ("/leads/nowhere/x", errno.ENOENT),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_what_is_not_there(running: Guest, path: str, why: int) -> None:
    """The exit status is the errno, for programs."""
    status, found, _, errors = read(running, path)
    assert (status, found) == (why, {})
    assert errors.startswith("cannot ")
    assert len(errors.splitlines()) == 1


def test_the_owner_may_be_replaced(running: Guest) -> None:
    _, found, _, _ = read(running, "/etc", owner={"uid": 7, "gid": 8})
    assert {(m.uid, m.gid) for m in found.values()} == {(7, 8)}


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tree_goes_in(running: Guest, how: int) -> None:
    long = "n" * 90 + "/" + "m" * 90
    data = tar(
        member("d", type=tarfile.DIRTYPE, mode=0o711, uid=5, gid=6),
        member("d/f", b"content", mode=0o640, uid=1000, gid=2000, mtime=981173106),
        member("d/hard", type=tarfile.LNKTYPE, linkname="d/f"),
        member("d/soft", type=tarfile.SYMTYPE, linkname="f"),
        member("d/fifo", type=tarfile.FIFOTYPE, mode=0o600),
        member("no/parents/file", b"1"),
        member(long, b"long name"),
        member("empty", b""),
        how=how,
    )
    assert write(running, "/tmp", data) == (0, "")
    script = f"""cd /tmp; stat -c '%a %u %g' d d/f; stat -c '%Y %h' d/f; cat d/hard d/soft no/parents/file {long}
    readlink d/soft; stat -c %F d/fifo; stat -c %s empty"""
    assert running.sh(script, capabilities=ROOT) == (
        0,
        "711 5 6\n640 1000 2000\n981173106 2\ncontentcontent1long namef\nfifo\n0\n",
        "",
    )


def test_the_owner_of_what_goes_in(running: Guest) -> None:
    write(running, "/tmp", tar(member("f", b"x", uid=1, gid=2)), owner={"uid": 1000, "gid": 3000})
    assert running.sh("stat -c '%u %g' /tmp/f")[1] == "1000 3000\n"


@pytest.mark.parametrize(("user", "owner"), [("user", "1000 1000"), ("7:other", "7 3000"), ("7", "7 0"), ("", "1 2")])
def test_what_goes_in_may_be_a_user_s(running: Guest, user: str, owner: str) -> None:
    write(running, "/tmp", tar(member("f", b"x", uid=1, gid=2)), user=user)
    assert running.sh("stat -c '%u %g' /tmp/f")[1] == f"{owner}\n"


def test_what_goes_in_is_nobody_s_who_is_not_there(running: Guest) -> None:
    said = "cannot find user nosuch: /etc/passwd names none\n"
    assert write(running, "/tmp", tar(member("f")), user="nosuch") == (errno.EINVAL, said)


def test_what_is_there_is_replaced(running: Guest) -> None:
    running.sh("cd /tmp; echo old > f; ln f other; ln -s /etc/passwd l; mkdir dir; ln -s dir toward")
    data = tar(
        member("f", b"new"),
        member("l", b"a file now"),
        member("toward", type=tarfile.DIRTYPE),
        member("toward/inside", b"in"),
        member("dir", b"no file over a folder"),
        member("f/x", b"no folder over a file"),
        member("last", b"still unpacked"),
    )
    status, errors = write(running, "/tmp", data)
    assert status == errno.EEXIST
    assert len(errors.splitlines()) == 2
    assert "replace dir" in errors
    assert running.sh("cd /tmp; cat f other l dir/inside last; stat -c %F l toward; head -c 4 /etc/passwd")[1] == (
        "newold\na file nowinstill unpackedregular file\nsymbolic link\nroot"
    )


def test_a_file_of_the_pod_is_written_in_place(running: Guest) -> None:
    assert write(running, "/etc", tar(member("hosts", b"1.2.3.4 x\n", mode=0o644))) == (0, "")
    assert running.sh("cat /etc/hosts")[1] == "1.2.3.4 x\n"


def test_nothing_escapes(running: Guest, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tar(
        member("../escaped", b"x"),
        member("a/../../escaped", b"x"),
        member("/absolute", b"below"),
        member("link", type=tarfile.SYMTYPE, linkname=str(outside)),
        member("link/through", b"x"),
        member("up", type=tarfile.SYMTYPE, linkname="../../../../../../.." + str(outside)),
        member("up/through", b"x"),
        member("hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
        member("hard2", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    )
    status, errors = write(running, "/tmp", data)
    assert status == 1
    assert len([line for line in errors.splitlines() if "'..'" in line]) == 3
    assert list(outside.iterdir()) == []
    assert running.sh(f"cat /tmp/absolute {outside}/through; ls /escaped /tmp/hard 2>&1 | wc -l")[1] == "belowx2\n"


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1024, 1535])
def test_an_archive_that_is_cut_short(running: Guest, cut: int) -> None:
    status, errors = write(running, "/tmp", tar(member("f", b"z" * 1000))[:cut])
    assert (status, "cut short" in errors) == (errno.EPIPE, True)


def block(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"") -> bytes:
    """A member by hand, for what tarfile does not write."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def test_two_pax_headers_before_one_member(running: Guest) -> None:
    """What the first one said was read again after it was gone."""
    for first in (b"17 path=/tmp/one\n", b"16 linkpath=two\n", b"29 SCHILY.xattr.user.a=value\n", b"9 size=3\n"):
        data = block("p", tarfile.XHDTYPE, first) + block("p", tarfile.XHDTYPE, b"11 mtime=5\n")
        assert write(running, "/tmp", data + block("mine", data=b"mine\n") + bytes(1024)) == (0, "")
        assert running.sh("cat /tmp/mine; ls /tmp/tmp 2>&1; rm /tmp/mine")[1].startswith("mine\nls:")


def test_what_a_pax_header_says_is_of_the_member_alone(running: Guest) -> None:
    """Not of the GNU header between the two; and an empty value is none."""
    data = block("p", tarfile.XHDTYPE, b"9 size=3\n") + block("L", tarfile.GNUTYPE_LONGNAME, b"long\0")
    data += block("short", data=b"abc") + block("p", tarfile.XHDTYPE, b"8 path=\n8 size=\n7 uid=\n")
    assert write(running, "/tmp", data + block("own", data=b"own\n") + bytes(1024)) == (0, "")
    assert running.sh("cat /tmp/long /tmp/own")[1] == "abcown\n"


def test_the_17th_attribute_of_a_file_is_complained_of(running: Guest) -> None:
    """The others are kept, and the entries behind it."""
    attributes = {f"SCHILY.xattr.user.a{i:02}": "v" for i in range(17)}
    status, errors = write(running, "/tmp", tar(member("many", b"x", pax_headers=attributes), member("next", b"y")))
    assert (status, "keep more than 16 attributes" in errors) == (errno.E2BIG, True)
    assert running.sh("cat /tmp/many /tmp/next")[1] == "xy"
    _, members, _, _ = read(running, "/tmp/many")
    assert len([key for key in members["many"].pax_headers if key.startswith("SCHILY.xattr.user.a")]) == 16


@pytest.mark.parametrize("record", [b"11 size=1x\n", b"12 size=-12\n", b"18 uid=4294967296\n"])
def test_a_number_that_is_none(running: Guest, record: bytes) -> None:
    status, errors = write(running, "/tmp", block("p", tarfile.XHDTYPE, record) + block("f", data=b"x") + bytes(1024))
    assert status == errno.EINVAL
    assert "of a pax header" in errors


@pytest.mark.parametrize("seed", range(20))
def test_hostile_archives_end(running: Guest, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(tar(member("x" * 120, b"abc"), member("d", type=tarfile.DIRTYPE), member("l", type=tarfile.SYMTYPE,
                         linkname="y" * 150), how=tarfile.PAX_FORMAT if seed % 2 else tarfile.GNU_FORMAT))  # fmt: skip
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data) // 2)] = rng.randrange(256)
    for at in range(0, len(data) - 511, 512):  # checksums made right again, so that the rest is looked at
        header = bytes(data[at : at + 512])
        if header[257:262] == b"ustar" or seed % 3 == 0:
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    write(running, "/tmp", bytes(data))
    assert running.sh("echo fine")[1] == "fine\n"


def test_a_missing_or_wrong_place(running: Guest) -> None:
    for path in ("/nothing", "/data/file"):
        status, errors = write(running, path, tar(member("f", b"x")))
        assert status in (errno.ENOENT, errno.ENOTDIR)
        assert errors.startswith("cannot open")


def test_mounts_are_seen_and_a_stopped_container_can_be_read(guest: Guest) -> None:
    guest.container(mounts=[{"type": "tmpfs", "target": "/t"}], read_only=True)
    assert write(guest, "/t", tar(member("before", b"x"))) == (0, "")
    guest.first()
    guest.sh("echo inside > /t/during")
    _, found, _, _ = read(guest, "/t")
    assert set(found) == {"t", "t/before", "t/during"}
    status, errors = write(guest, "/home", tar(member("f", b"x")))
    assert status == errno.EROFS
    assert "Read-only" in errors


def test_ten_megabytes_there_and_back(running: Guest) -> None:
    data = os.urandom(10 << 20)
    assert write(running, "/tmp", tar(member("big", data))) == (0, "")
    _, found, archive, _ = read(running, "/tmp/big")
    assert stat.S_ISREG(found["big"].mode) or found["big"].isreg()
    assert archive.extractfile("big").read() == data  # type: ignore[union-attr]


def test_nothing_escapes_while_folders_turn_into_links(running: Guest, tmp_path: Path) -> None:
    """Folders that are walked are swapped for links out of the container, as fast as a process in it can."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    for folder in (outside, outside / "sub"):
        (folder / "f").write_text("precious")
    assert running.sh("mkdir -p /race/a/d/sub; cd /race/a; echo own > d/f; echo own > d/sub/f")[0] == 0
    script = f"""cd /race/a; while :; do
    mv d e; ln -s {outside} d; rm d; mv e d; mv d/sub d/was; ln -s {outside} d/sub; rm d/sub; mv d/was d/sub
    done"""
    running.start("swap", "sh", "-c", script)
    walked = 0
    for turn in range(60):
        path, name = [("/race", "a/d/sub/new"), ("/race/a/d", "sub/new"), ("/race/a/d/sub", "new")][turn % 3]
        _, found, archive, _ = read(running, path)
        contents = [archive.extractfile(m).read() for m in found.values() if m.isreg()]  # type: ignore[union-attr]
        walked += len(contents)
        assert set(contents) <= {b"own\n", b"x"}
        write(running, path, tar(member(name, b"x")))
    assert walked
    assert {str(path.relative_to(outside)) for path in outside.rglob("*")} == {"f", "sub", "sub/f"}
    assert (outside / "f").read_text() == (outside / "sub/f").read_text() == "precious"
    running.host.call("process.signal", process="swap", signal=9)
