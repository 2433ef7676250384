"""What is mounted where, in which order, and what is refused in words before anything is made."""

import errno
import os
import socket
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Literal

import pytest

from hypercontainer.engine import mounts, resolve
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import Exhausted, HyperError, InvalidInput
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.record import SocketRecord
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, Mount, PodSpec
from tests.unit.engine.world import ADMIN, ROOTFS


def places(*asked: Mount, image: list[str] | None = None) -> list[tuple[str, str]]:
    return [(mount.type, mount.target) for mount in mounts.plan(asked, image or [])]


def tmpfs(target: str) -> Mount:
    return Mount(type="tmpfs", target=target)


# The source of a bind


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_bound_also_through_a_link(tmp_path: Path, create: bool) -> None:
    (tmp_path / "conf").write_text("kept")
    (tmp_path / "link").symlink_to("conf")
    for name in ("conf", "link"):
        [mount] = mounts.plan([Mount(type="bind", source=f"{tmp_path}/{name}", target="/x", create=create)], [])
        assert mount.source == f"{tmp_path}/{name}"
    assert (tmp_path / "conf").read_text() == "kept"


def test_a_missing_source_is_made_for_v_only(tmp_path: Path) -> None:
    missing = Mount(type="bind", source=f"{tmp_path}/a/b", target="/x")
    with pytest.raises(InvalidInput, match="does not exist"):
        mounts.plan([missing], [])
    mounts.plan([Mount(type="bind", source=missing.source, target="/x", create=True)], [])
    assert (tmp_path / "a/b").is_dir()


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("pipe", os.mkfifo, "only folders, files and sockets of streams"),
        ("dangling", lambda path: path.symlink_to("nowhere"), "does not exist"),
        ("loop", lambda path: path.symlink_to("loop"), "symbolic links"),
        ("file/below", below_a_file, "Not a directory"),
        ("n" * 300, nothing, "name too long"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_source_that_cannot_be_bound_is_refused_in_words(
    tmp_path: Path, name: str, make: Callable[[Path], object], words: str, create: bool
) -> None:
    source = tmp_path / name
    source.parent.mkdir(exist_ok=True)
    make(source)
    with pytest.raises(InvalidInput, match=words) as refused:
        mounts.plan([Mount(type="bind", source=str(source), target="/x", create=create)], [])
    assert str(source) in str(refused.value)


@pytest.mark.parametrize("create", [True, False])
def test_a_socket_has_an_owner(tmp_path: Path, create: bool) -> None:
    """Whether somebody listens there or not."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "s"))
    os.chown(tmp_path / "s", 33, 50)
    (tmp_path / "s").chmod(0o660)
    (tmp_path / "link").symlink_to("s")
    [mount] = mounts.plan([Mount(type="bind", source=f"{tmp_path}/link", target="/x", create=create)], [])
    assert (mount.type, mount.source, mount.shared) == ("bind", f"{tmp_path}/link", False)
    assert mount.socket == SocketRecord(uid=33, gid=50, mode=0o660)
    assert mounts.of_another([mount], read_only=True) == [
        Mount(type="bind", source=mount.source, target="/x", read_only=True)
    ]


def test_a_socket_of_datagrams_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "log"))
        with pytest.raises(InvalidInput, match="only folders, files and sockets of streams"):
            mounts.plan([Mount(type="bind", source=f"{tmp_path}/log", target="/dev/log")], [])


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, Exhausted), (errno.EROFS, InvalidInput), (errno.EACCES, InvalidInput)]
)
def test_a_folder_that_cannot_be_made_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[HyperError]
) -> None:
    def mkdir(*how: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(error, match=os.strerror(number)):
        mounts.plan([Mount(type="bind", source=f"{tmp_path}/new", target="/x", create=True)], [])


# A part of a volume


def test_a_part_of_a_volume_has_one_name() -> None:
    def subpath(path: str, type: Literal["volume", "bind"] = "volume") -> str:
        [mount] = mounts.plan(
            [Mount(type=type, source="/etc" if type == "bind" else "v", target="/x", subpath=path)], []
        )
        assert mounts.of_another([mount], read_only=False)[0].subpath == mount.subpath
        return mount.subpath

    assert [subpath(path) for path in ("", ".", "a/./b/", "a/../b", "./..a")] == ["", "", "a/b", "b", "..a"]
    for path in ("..", "../a", "a/../../b", "/a", "a\0b"):
        with pytest.raises(InvalidInput, match="subpath must be a relative path within the volume"):
            subpath(path)
    with pytest.raises(InvalidInput, match="only a volume has one"):
        subpath("a", "bind")


# Order


@pytest.mark.parametrize("order", list(permutations(["/a/b/c", "/a", "/a/b"])))
def test_what_lies_above_is_mounted_first(order: tuple[str, ...]) -> None:
    assert places(*map(tmpfs, order)) == [("tmpfs", "/a"), ("tmpfs", "/a/b"), ("tmpfs", "/a/b/c")]


def test_an_images_volume_lies_below_or_above_what_was_asked_for_by_its_depth() -> None:
    assert places(tmpfs("/data/sub"), image=["/data", "/data/sub/deep"]) == [
        ("volume", "/data"),
        ("tmpfs", "/data/sub"),
        ("volume", "/data/sub/deep"),
    ]


def test_of_one_depth_the_order_of_the_caller_stays() -> None:
    assert places(tmpfs("/z/z"), tmpfs("/b"), tmpfs("/a"), tmpfs("/a/a"), image=["/c"]) == [
        ("tmpfs", "/b"),
        ("tmpfs", "/a"),
        ("volume", "/c"),
        ("tmpfs", "/z/z"),
        ("tmpfs", "/a/a"),
    ]


# Spelling

SPELT = ["/data", "/data/", "//data", "/data/./", "/./data", "/data//", "/x/../data", "/../data", "///data/."]


@pytest.mark.parametrize("spelt", SPELT)
def test_a_place_has_one_name_however_it_is_spelt(spelt: str) -> None:
    assert places(tmpfs(spelt), image=["/data"]) == [("tmpfs", "/data")]
    assert places(tmpfs("/data"), image=[spelt]) == [("tmpfs", "/data")]
    assert places(image=[spelt, "/data"]) == [("volume", "/data")]
    with pytest.raises(InvalidInput, match="two things at /data"):
        places(tmpfs("/data"), tmpfs(spelt))


@pytest.mark.parametrize("spelt", ["", ".", "./cache", "cache", "/", "//", "/.", "/..", "/a/..", "/a\0b"])
def test_a_place_that_makes_no_sense_is_refused_whoever_names_it(spelt: str) -> None:
    with pytest.raises(InvalidInput, match=r"invalid mount target.*absolute path"):
        places(tmpfs(spelt))
    with pytest.raises(InvalidInput, match=r"invalid volume of the image.*absolute path"):
        places(image=[spelt])


@pytest.mark.parametrize(
    ("spelt", "meant"), [("//", "/"), ("/a/", "/a"), ("//a/./b/../c", "/a/c"), ("/../../a", "/a"), ("/", "/")]
)
def test_a_working_directory_is_normalised_too(spelt: str, meant: str) -> None:
    def working_dir(spec: ContainerSpec, image: ProcessConfig) -> str:
        return resolve.container(spec, "id", image, ROOTFS, name="c").config.process.cwd

    asked = ContainerSpec(image="i", command=["true"], working_dir=spelt)
    assert working_dir(asked, ProcessConfig()) == meant
    assert working_dir(ContainerSpec(image="i", command=["true"]), ProcessConfig(working_dir=spelt)) == meant
    with pytest.raises(InvalidInput, match="working directory 'app'"):
        working_dir(ContainerSpec(image="i", command=["true"]), ProcessConfig(working_dir="app"))


# What comes with a mount


def test_the_options_of_a_tmpfs_reach_the_record_and_unknown_ones_do_not() -> None:
    options = ["exec", "uid=1000", "gid=50", "nr_inodes=9"]
    [mount] = mounts.plan([Mount(type="tmpfs", target="/t", options=options)], [])
    assert mount.options == options
    for bad in ("uid=", "uid=x", "uid=-1", "uid=4294967296", "size", "context=x", "uid=1,mode=1", "ro=1"):
        with pytest.raises(InvalidInput, match="tmpfs option"):
            mounts.plan([Mount(type="tmpfs", target="/t", options=[bad])], [])
    with pytest.raises(InvalidInput, match="only a tmpfs"):
        mounts.plan([Mount(type="volume", target="/t", options=["exec"])], [])


def test_a_new_volume_is_filled_unless_the_caller_says_nocopy() -> None:
    def volume(target: str, *, read_only: bool = False, no_copy: bool = False) -> Mount:
        return Mount(type="volume", source="v", target=target, read_only=read_only, no_copy=no_copy)

    asked = [volume("/a"), volume("/b", no_copy=True), volume("/c", read_only=True)]
    asked += [volume("/d", read_only=True, no_copy=True)]
    assert [mount.populate for mount in mounts.plan(asked, ["/e"])] == [True, False, True, False, True]


# What pods share


async def test_who_shares_files_but_no_locks_is_told_so(engine: LocalEngine, tmp_path: Path) -> None:
    async def warnings(locks: str, *shared: Mount) -> list[str]:
        container = ContainerSpec(image="busybox", command=["true"], mounts=list(shared))
        spec = PodSpec(containers=[container], networks=[EndpointSpec(network="none")], locks=locks)  # type: ignore[arg-type]
        return (await engine.containers.create(spec, by=ADMIN)).warnings

    volume, bind = Mount(type="volume", source="v", target="/v"), Mount(type="bind", source=str(tmp_path), target="/b")
    read_only = Mount(type="bind", source=str(tmp_path), target="/b", read_only=True)
    assert await warnings("", volume, read_only) == []
    assert await warnings("", read_only) == []  # nobody writes there
    [one, other] = await warnings("host", volume, bind)  # the first two keep theirs to themselves
    assert "volume v is shared with" in one and "--locks host" in one
    assert str(tmp_path) in other
    for container in await engine.containers.list(all=True, filters={}):
        await engine.containers.remove(container.id, force=True, volumes=False)
    assert await warnings("host", volume, bind) == []
    assert await warnings("host", volume, bind) == []
