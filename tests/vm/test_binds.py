"""What is found in a shared folder, beside docker: our columns of the tables in docs/howto/volumes.md."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests import binds
from tests.binds import FOLDERS, LOCKS, Place, Row
from tests.conftest import ACCELERATOR
from tests.vm.conftest import GUEST_S

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": ACCELERATOR}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pods one and two have as /bind."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def places(daemon: PrivateDaemon, files: Path, folder: Path) -> Iterator[dict[str, Place]]:
    """Of pods whose locks are their own."""
    with binds.places(daemon, files, folder, ("one", "two"), "--locks", "guest") as places:
        yield places


@pytest.fixture(scope="module")
def host_locks(
    daemon: PrivateDaemon, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Place]]:
    with binds.places(daemon, files, tmp_path_factory.mktemp("host"), ("three", "four"), "--locks", "host") as places:
        yield places


@pytest.mark.parametrize("row", FOLDERS, ids=lambda row: row.what)
@pytest.mark.parametrize("kind", ["bind", "volume", "root"])
def test_a_row_of_folders_is_true(places: dict[str, Place], row: Row, kind: str) -> None:
    _, shared, root = row.cells
    cell = root if kind == "root" else shared
    if cell:
        assert binds.word(row.question(places[kind])) == cell


@pytest.mark.parametrize("row", LOCKS, ids=lambda row: row.what)
@pytest.mark.parametrize("kind", ["bind", "volume"])
def test_a_row_of_locks_is_true(places: dict[str, Place], host_locks: dict[str, Place], row: Row, kind: str) -> None:
    answers = [row.question(place[kind]) for place in (places, host_locks)]
    assert tuple(map(binds.word, answers)) == row.cells[1:]


@pytest.mark.parametrize("kind", binds.KINDS)
def test_waiting_for_a_lock_of_the_hosts_is_refused_for_a_free_one_too(host_locks: dict[str, Place], kind: str) -> None:
    assert host_locks["bind"].one.ask("wait", kind, "free") == "Not supported"


@contextmanager
def pod(daemon: PrivateDaemon, file: Path, name: str, members: tuple[str, ...], **sources: Path) -> Iterator[None]:
    """Its members have each source at the path of its name."""
    mounts = [{"volume": source, "path": f"/{source}"} for source in sources]
    member = {"image": "busybox", "command": ["sleep", "100000"], "volumes": mounts}
    containers = [{"name": name, **member} for name in members]
    volumes = [{"name": source, "source": str(path)} for source, path in sources.items()]
    file.write_text(json.dumps({"name": name, "containers": containers, "volumes": volumes}))
    assert daemon.ctl("pod", "run", "-f", str(file)).status == 0
    yield
    assert daemon.ctl("pod", "rm", "-f", name).status == 0


@pytest.fixture(scope="module")
def one_pod(daemon: PrivateDaemon, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two containers of it share a folder."""
    folder = tmp_path_factory.mktemp("pod")
    with pod(daemon, folder / "pod.yaml", "both", ("five", "six"), bind=folder, files=files):
        five, six = (binds.container(daemon, name, "/bind") for name in ("five", "six"))
        yield Place(five, (six,))


@pytest.mark.parametrize("row", [row for row in FOLDERS + LOCKS if "others" in row.what], ids=lambda row: row.what)
def test_containers_of_one_pod_find_what_dockers_do(one_pod: Place, row: Row) -> None:
    assert binds.word(row.question(one_pod)) == row.cells[0]


def test_what_containers_of_a_pod_share_is_there_for_those_that_stay(daemon: PrivateDaemon, tmp_path: Path) -> None:
    """One that comes has what the source is then, though others have what it was."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def come(name: str) -> None:
        words = ("run", "-d", "--name", name, "--pod", "stays", "-v", f"{folder}:/bind", "busybox", "sleep", "100000")
        assert daemon.ctl(*words).status == 0

    def write(name: str) -> None:
        assert daemon.ctl("exec", name, "touch", f"/bind/{name}").status == 0

    with pod(daemon, tmp_path / "pod.yaml", "stays", ("seven", "eight"), bind=folder):
        assert daemon.ctl("rm", "-f", "seven").status == 0
        write("eight")
        come("nine")
        folder.rename(tmp_path / "old")
        folder.mkdir()
        come("ten")
        write("nine")
        write("ten")
        assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["eight", "nine"]
        assert [path.name for path in folder.iterdir()] == ["ten"]


def test_pods_that_do_not_see_each_others_locks_are_warned_of(
    daemon: PrivateDaemon, places: object, folder: Path
) -> None:
    done = daemon.ctl("create", "--name", "other", "-v", f"{folder}:/bind", "busybox", "true")
    assert f"{folder} is shared with one" in done.err and "locks on its files do not hold" in done.err
    assert daemon.ctl("rm", "other").status == 0


def inside(daemon: PrivateDaemon, script: str) -> str:
    done = daemon.ctl("exec", "one", "sh", "-c", script)
    return (done.out + done.err).strip()


# What the host does is seen at once


def test_what_the_host_does_to_a_file_is_true_in_the_container_at_once(
    daemon: PrivateDaemon, places: object, folder: Path
) -> None:
    """The container has looked at each name a moment before, so its kernel knows an answer."""
    file, new = folder / "file", folder / "new"
    for n in range(5):
        file.write_text("one\n")
        assert inside(daemon, "cat /bind/file") == "one"
        new.write_text("two\n")
        new.rename(file)
        assert inside(daemon, "echo more >> /bind/file; cat /bind/file") == "two\nmore"
        assert file.read_text() == "two\nmore\n"
        with file.open("a") as appended:
            appended.write(f"{n}\n")
        assert inside(daemon, "wc -c < /bind/file; tail -n 1 /bind/file") == f"{file.stat().st_size}\n{n}"
        file.unlink()
        assert inside(daemon, "ls /bind/file; echo again > /bind/file").startswith("ls: ")
        assert file.read_text() == "again\n"
        file.unlink()
        assert inside(daemon, "cat /bind/file").startswith("cat: ")
        file.write_text("back\n")
        assert inside(daemon, "cat /bind/file; cd /bind; ls file") == "back\nfile"


def test_what_the_host_writes_without_a_rest_is_read_to_its_end(
    daemon: PrivateDaemon, places: object, folder: Path
) -> None:
    """The container reads file and folder all the while, the file is as long as before, and several changes fall into
    one tick of the kernel's clock."""
    file, listed = folder / "busy", folder / "listed"
    file.write_text("-----")
    listed.mkdir()
    reads = "until test -e /bind/enough; do cat /bind/busy; ls /bind/listed; done > /dev/null 2>&1 &"
    inside(daemon, reads)
    try:
        for burst in range(10):
            for n in range(50):
                with file.open("r+") as written:
                    written.write(f"{burst:02}.{n:02}")
                (listed / f"{burst:02}.{n:02}").touch()
            assert (
                inside(daemon, "cat /bind/busy; echo; ls /bind/listed | tail -n 1") == f"{burst:02}.49\n{burst:02}.49"
            )
    finally:
        (folder / "enough").touch()


def test_times_by_the_second_are_no_reason_to_believe(daemon: PrivateDaemon, tmp_path: Path) -> None:
    """A file system of small inodes has no room for more of a time."""
    disk, place = tmp_path / "disk", tmp_path / "place"
    place.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-I", "128", disk], check=True, capture_output=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True, timeout=60)
    try:
        (place / "file").write_text("one")
        script = "cat /d/file; read _; cat /d/file"
        argv = daemon.argv("run", "--rm", "-i", "-v", f"{place}:/d", "busybox", "sh", "-c", script)
        with subprocess.Popen(argv, env=daemon.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ran:
            assert ran.stdin and ran.stdout
            assert ran.stdout.read(3) == b"one"
            at = (place / "file").stat().st_mtime_ns
            (place / "file").write_text("two")
            os.utime(place / "file", ns=(at, at))  # as if it were the same second, on however slow a machine
            assert ran.communicate(b"\n", timeout=GUEST_S)[0] == b"two"
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)
