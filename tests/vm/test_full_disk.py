"""hyperd whose root is on a disk that is full, for real: a small ext4."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.vm.disk import fill, small_disk

pytestmark = pytest.mark.vm

SIZE_MIB = 192
LINES = 20_000


@pytest.fixture
def full(kernels: Path, tmp_path: Path) -> Iterator[tuple[PrivateDaemon, Callable[[], None], Callable[[], None]]]:
    """A hyperd on such a disk, and what fills and frees it."""
    with small_disk(tmp_path, SIZE_MIB) as disk:
        settings = {"root": str(disk / "root"), "factory": "direct", "scratch_mib": 64, "accelerator": "tcg"}
        with private_daemon(kernels, settings) as hyper:
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
    waits = ["sh", "-c", f"until [ -e /go ]; do sleep 0.1; done; {script}"]
    assert hyper.ctl("run", "-d", "--name", "says", "busybox", *waits).status == 0
    hyper.signal(signal.SIGKILL)
    fill()
    hyper.start()
    assert hyper.ctl("rm", "-f", "gone").status == 0
    fill()  # what that gave back
    assert hyper.ctl("exec", "says", "touch", "/go").status == 0
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
