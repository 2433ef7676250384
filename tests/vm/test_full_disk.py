"""hyperd whose root is on a disk that is full, for real: a small ext4."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import time_passes
from tests.vm.disk import fill, small_disk

pytestmark = pytest.mark.vm

SIZE_MIB = 192
SETTINGS: dict[str, Value] = {"factory": "direct", "scratch_mib": 64, "accelerator": ACCELERATOR}
LINES = 20_000


@pytest.fixture
def full(
    kernels: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[PrivateDaemon, Callable[[], None], Callable[[], None]]]:
    """A hyperd on such a disk, and what fills and frees it; with other settings, if the test says so."""
    with small_disk(tmp_path, SIZE_MIB) as disk:
        root = str(disk / "root")
        with private_daemon(kernels, SETTINGS | {"root": root} | getattr(request, "param", {})) as hyper:
            archive = tmp_path / "busybox.tar"
            busybox.write_archive(archive)
            assert hyper.ctl("load", "-i", str(archive)).status == 0
            yield hyper, lambda: fill(disk), lambda: (disk / "ballast").unlink(missing_ok=True)
            (disk / "ballast").unlink(missing_ok=True)


def warned(hyper: PrivateDaemon) -> bool:
    return any("takes no more" in line for line in json.loads(hyper.ctl("info", "--format", "json").out)["Warnings"])


def test_a_full_disk_loses_nothing_and_keeps_nobody_from_removing(
    full: tuple[PrivateDaemon, Callable[[], None], Callable[[], None]],
) -> None:
    hyper, fill, free = full
    script = f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); done; exit 7"
    assert hyper.ctl("run", "-d", "--name", "gone", "busybox", "sleep", "1000").status == 0
    waits = ["sh", "-c", f"until [ -e /dev/shm/go ]; do sleep 0.1; done; {script}"]
    assert hyper.ctl("run", "-d", "--name", "says", "busybox", *waits).status == 0
    for name in ("gone", "says"):  # so that neither has anything to write: that is the next test
        assert hyper.ctl("exec", name, "sync").status == 0
    hyper.signal(signal.SIGKILL)
    fill()
    hyper.start()
    assert hyper.ctl("rm", "-f", "gone").status == 0
    while len(list((hyper.folder / "run/pods").iterdir())) > 1:  # its VMM has its disk open until it is gone
        time_passes()
    fill()  # what that gave back
    assert hyper.ctl("exec", "says", "touch", "/dev/shm/go").status == 0
    refused = hyper.ctl("run", "-d", "--name", "new", "busybox", "true")
    assert refused.status == 125 and "No space left on device" in refused.err, refused
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert warned(hyper), hyper.log()
    assert hyper.ctl("ps", "-a", "--format", "{{.Names}}").out.split() == ["says"]
    free()
    assert hyper.ctl("wait", "says").out == "7\n"
    assert hyper.ctl("logs", "says").out == "".join(f"{n}\n" for n in range(LINES))
    assert not warned(hyper)
    assert hyper.ctl("rm", "says").status == 0


def test_a_guest_without_room_stands_still_until_there_is_some(
    full: tuple[PrivateDaemon, Callable[[], None], Callable[[], None]],
) -> None:
    """It writes to its own disk, of which this host's has no block: no error reaches it, and no byte is lost."""
    hyper, fill, free = full
    script = "until [ -e /dev/shm/go ]; do sleep 0.1; done; head -c 8000000 /dev/zero >/file && sync && wc -c </file"
    assert hyper.ctl("run", "-d", "--name", "writes", "busybox", "sh", "-c", script).status == 0
    fill()
    assert hyper.ctl("exec", "writes", "touch", "/dev/shm/go").status == 0
    run_dir = next((hyper.folder / "run/pods").iterdir())
    with pytest.raises(subprocess.TimeoutExpired):  # it does not get on
        hyper.ctl("wait", "writes", timeout_s=5)
    assert run_dir.exists()
    free()
    assert hyper.ctl("wait", "writes").out == "0\n"
    assert hyper.ctl("logs", "writes").out == "8000000\n"
    assert hyper.ctl("rm", "writes").status == 0


@pytest.mark.parametrize("full", [{"factory": "cache"}], indirect=True)
def test_a_guest_that_waits_has_nothing_to_write(
    full: tuple[PrivateDaemon, Callable[[], None], Callable[[], None]],
) -> None:
    """It has mounted a disk of this host's, and is as well as ever when there is room again; so is the next one, which
    is not made meanwhile."""
    hyper, fill, free = full

    def waiting() -> list[str]:
        return [path.name for path in (hyper.folder / "run/pods").glob("waiting-*")]

    assert hyper.ctl("factory", "init").status == 0
    before = waiting()
    fill()
    refused = hyper.ctl("run", "--rm", "busybox", "true")
    assert refused.status == 125 and "no space" in refused.err.lower(), refused
    assert waiting() == before
    free()
    ran = hyper.ctl("run", "--rm", "--timings", "busybox", "sh", "-c", "echo kept > /x && sync && cat /x")
    assert (ran.status, ran.out) == (0, "kept\n") and "claim" in ran.err, ran
    fill()
    assert hyper.ctl("factory", "destroy").status == 0
    hyper.ctl("factory", "init")
    assert waiting() == []
    warnings = json.loads(hyper.ctl("info", "--format", "json").out)["Warnings"]
    assert any("waits for a pod" in line and "scratch disk" in line for line in warnings), warnings
    free()
    assert hyper.ctl("run", "--rm", "busybox", "true").status == 0


def test_hyperd_starts_beside_guests_that_stand_still(
    full: tuple[PrivateDaemon, Callable[[], None], Callable[[], None]],
) -> None:
    hyper, fill, free = full
    writes = "head -c 8000000 /dev/zero >/file && sync && wc -c </file"
    waits = "until [ -e /dev/shm/go ]; do sleep 0.1; done"
    counts = f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); done"
    for name, script in (
        ("goes", f"{waits}; {writes}; sleep 1000"),
        ("says", f"{counts}; {waits}; {writes}; {counts}"),
    ):
        assert hyper.ctl("run", "-d", "--name", name, "busybox", "sh", "-c", script).status == 0
        assert hyper.ctl("exec", name, "sync").status == 0
    fill()
    for name in ("goes", "says"):
        assert hyper.ctl("exec", name, "touch", "/dev/shm/go").status == 0
        while not stands_still(hyper, name):
            pass
    hyper.signal(signal.SIGKILL)
    hyper.start()
    status = hyper.ctl("ps", "--format", "{{.Names}} {{.Status}}").out.splitlines()
    assert len(status) == 2 and all("(Not reached yet)" in line for line in status), (status, hyper.log())
    warnings = json.loads(hyper.ctl("info", "--format", "json").out)["Warnings"]
    assert len([line for line in warnings if "not reached yet" in line]) == 2, warnings
    refused = hyper.ctl("exec", "says", "true")
    assert refused.status != 0 and "stands still until there is room" in refused.err, refused
    removed = hyper.ctl("rm", "-f", "goes")
    assert removed.status == 0, removed
    assert hyper.ctl("ps", "-a", "--format", "{{.Names}}").out.split() == ["says"]
    free()
    assert hyper.ctl("wait", "says").out == "0\n"
    lines = "".join(f"{n}\n" for n in range(LINES))
    assert hyper.ctl("logs", "says").out == lines + "8000000\n" + lines
    warnings = json.loads(hyper.ctl("info", "--format", "json").out)["Warnings"]
    assert not [line for line in warnings if "not reached yet" in line]
    assert hyper.ctl("rm", "says").status == 0


def stands_still(hyper: PrivateDaemon, name: str) -> bool:
    """Its agent does not answer: for want of room, where nothing else keeps it from that."""
    try:
        hyper.ctl("exec", name, "true", timeout_s=3)
    except subprocess.TimeoutExpired:
        return True
    return False
