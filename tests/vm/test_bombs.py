"""Guests that take all there is to take: of their machine, and never of what answers for it, or of this host."""

import json
import subprocess
from pathlib import Path

import pytest

from hypercontainer.sandbox.log import Log
from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.unit.budgets import forget_peak, peak
from tests.vm.conftest import ok
from tests.vm.test_run import state

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bomb.c as a program for a container."""
    return zig.program(tmp_path_factory.mktemp("bomb") / "bomb", Path(__file__).with_name("bomb.c"))


def test_a_fork_bomb_is_its_own_containers_trouble(hyper: PrivateDaemon, bomb: Path) -> None:
    """Its machine's agent forks, answers and obeys all the same: there is room for it, and it comes first."""
    ok(hyper, "create", "--name", "bomb", "busybox", "sh", "-c", "/bomb fork & exec sleep 1000000")
    ok(hyper, "cp", str(bomb), "bomb:/bomb")
    ok(hyper, "start", "bomb")
    refused = hyper.ctl("exec", "bomb", "true")
    while refused.status == 0:  # until there are as many as there may be
        refused = hyper.ctl("exec", "bomb", "true")
    assert "cannot start a process where as many run as there may be" in refused.err
    assert ok(hyper, "stats", "--no-stream", "--format", "{{.Name}}", "bomb") == "bomb"
    _, *rows = ok(hyper, "top", "bomb").splitlines()
    assert len(rows) > 200 and "sleep" in rows[0]
    ok(hyper, "kill", "bomb")
    assert ok(hyper, "wait", "bomb") == "137"
    ok(hyper, "start", "bomb")
    ok(hyper, "rm", "-f", "bomb")
    assert hyper.ctl("inspect", "bomb").status == 1


def test_no_socket_leads_to_the_host(hyper: PrivateDaemon, bomb: Path) -> None:
    """AF_VSOCK: QEMU has no such device, whatever a privileged container does."""
    ok(hyper, "run", "-d", "--name", "caller", "--privileged", "busybox", "sleep", "1000000")
    ok(hyper, "cp", str(bomb), "caller:/bomb")
    said = ok(hyper, "exec", "caller", "/bomb", "vsock")
    assert said.startswith(("no socket", "nobody")), said
    assert hyper.ctl("exec", "caller", "ls", "/dev/vsock", "/dev/vhost-vsock").status == 1


def test_who_panics_its_kernel_ends_its_own_machine(hyper: PrivateDaemon) -> None:
    before = len(hyper.log())
    ok(hyper, "run", "-d", "--name", "panic", "--privileged", "busybox", "sleep", "1000000")
    ok(hyper, "run", "-d", "--name", "other", "busybox", "sleep", "1000000")
    hyper.ctl("exec", "panic", "sh", "-c", "echo c > /proc/sysrq-trigger")
    ok(hyper, "wait", "panic")
    assert "kernel panic: sysrq triggered crash" in str(state(hyper, "panic")["Error"])
    ok(hyper, "exec", "other", "true")
    ok(hyper, "start", "panic")  # its disk has its journal
    ok(hyper, "rm", "-f", "panic", "other")
    for word in ("Traceback", "never retrieved", "never awaited"):
        assert word not in hyper.log()[before:]


def test_output_without_an_end_or_a_reader_waits_in_the_guest(hyper: PrivateDaemon) -> None:
    """What a client does not take, and a line that does not end, cost hyperd some chunks each."""
    line = "head -c 60000000 /dev/zero | tr '\\0' x; exec sleep 1000000"
    ok(hyper, "run", "-d", "--name", "flood", "busybox", "sh", "-c", line)
    assert hyper.process
    status = Path(f"/proc/{hyper.process.pid}/status")
    client = subprocess.Popen(hyper.argv("exec", "flood", "yes"), env=hyper.env, stdout=subprocess.PIPE)
    assert client.stdout
    try:
        client.stdout.read(1_000_000)  # and no more
        log = hyper.ctl("logs", "flood")
        while len(log.out) < 10_000_000:
            log = hyper.ctl("logs", "flood")
        assert set(log.out) == {"x"}
        ok(hyper, "exec", "flood", "true")
        memory_kib = int(status.read_text().partition("VmHWM:")[2].split()[0])
        assert memory_kib < 300 << 10
    finally:
        client.kill()
        client.communicate()
    ok(hyper, "rm", "-f", "flood")


@pytest.mark.parametrize("pieces", [1_000, 8_000])
def test_a_log_is_read_by_the_piece_however_large_it_is(hyper: PrivateDaemon, pieces: int) -> None:
    """A line of 32 MB, and one of 256, as with a larger log_max_mib: what hyperd holds of them is the same."""
    id = ok(hyper, "create", "--name", "long", "busybox", "true")
    log = Log(Path(str(json.loads(ok(hyper, "inspect", "long"))[0]["LogPath"])).parent, max_bytes=1 << 30, files=1)
    for n in range(pieces):
        log.append(1, b"x" * 32_000, n)
    log.append(1, b"\nthe end\n", pieces)
    log.close()
    long = pieces * 32_000 + len(b"\nthe end\n")
    assert hyper.process
    for *words, size in ((long,), ("-f", long), ("--tail", "2", long), ("--tail", "1", len(b"the end\n"))):
        forget_peak(hyper.process.pid)
        before = peak(hyper.process.pid)
        assert printed(hyper, "logs", *map(str, words), id) == size
        assert peak(hyper.process.pid) - before < 32 << 20, words
    ok(hyper, "rm", "long")


def printed(hyper: PrivateDaemon, *words: str) -> int:
    """How many bytes hyperctl prints."""
    with subprocess.Popen(hyper.argv(*words), env=hyper.env, stdout=subprocess.PIPE) as client:
        assert client.stdout
        out = client.stdout
        size = sum(len(data) for data in iter(lambda: out.read(1 << 20), b""))
    assert client.returncode == 0
    return size


@pytest.mark.parametrize("count", [500, 5_000])
def test_many_files_are_copied_by_the_piece(hyper: PrivateDaemon, tmp_path: Path, count: int) -> None:
    """Out of a container and into it: hyperd passes on what comes, whatever it is."""
    ok(hyper, "run", "-d", "--name", "many", "busybox", "sleep", "1000000")
    ok(hyper, "exec", "many", "sh", "-c", f"mkdir /many && cd /many && seq {count} | xargs touch")
    assert hyper.process
    for source, target in (("many:/many", str(tmp_path)), (str(tmp_path / "many"), "many:/again")):
        forget_peak(hyper.process.pid)
        before = peak(hyper.process.pid)
        ok(hyper, "cp", source, target)
        assert peak(hyper.process.pid) - before < 8 << 20
    assert len(list((tmp_path / "many").iterdir())) == count
    assert ok(hyper, "exec", "many", "sh", "-c", "ls /again | wc -l") == str(count)
    ok(hyper, "rm", "-f", "many")
