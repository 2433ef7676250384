"""Machines that go on from a moment of another one: forks, suspended containers, checkpoints."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import ok
from tests.vm.mortal_copy import STEPS
from tests.vm.test_template import pss_mib

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
WAIT_S = 300.0
# numbers and random words, one a line, also in a file of its own
DIARY = "i=0; while :; do i=$((i+1)); echo $i $(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' ') | tee -a /diary; done"
SLOW = DIARY.replace("; done", "; sleep 0.1; done")


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline, what
        subprocess.run(["sleep", "0.05"], check=True)


def said(hyper: PrivateDaemon, name: str) -> dict[int, str]:
    """Each number of a diary's log, and the word beside it."""
    lines = re.findall(r"^(\d+) ([0-9a-f]{16})$", hyper.ctl("logs", name).out, re.MULTILINE)
    return {int(number): word for number, word in lines}


def goes_on(hyper: PrivateDaemon, name: str, lines: int = 5) -> dict[int, str]:
    """Its diary, once it has got so many lines more."""
    begin = len(said(hyper, name))
    until(lambda: len(said(hyper, name)) >= begin + lines, f"{name} writes nothing")
    return said(hyper, name)


def whole(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.fixture
def source(hyper: PrivateDaemon) -> Iterator[str]:
    """A container that writes a diary; whatever came from it is gone after the test."""
    ok(hyper, "run", "-d", "--name", "source", "busybox", "sh", "-c", SLOW)
    goes_on(hyper, "source", 2)
    yield "source"
    names = hyper.ctl("ps", "-a", "-q").out.split()
    if names:
        ok(hyper, "rm", "-f", *names)
    for line in ok(hyper, "checkpoint", "ls", "--format", "{{.ContainerID}} {{.Name}}").splitlines():
        ok(hyper, "checkpoint", "rm", *line.split())


def identity(hyper: PrivateDaemon, name: str) -> tuple[list[str], float]:
    """What tells it from others, and its clock; the kernel makes the link-local address when it comes to it."""
    addresses = "ip -o addr show dev eth0 scope global | awk '{print $4}'; cat /sys/class/net/eth0/address"
    script = f"hostname; echo $HOSTNAME; {addresses}; cat /etc/hostname; date +%s"
    *own, now = ok(hyper, "exec", name, "sh", "-c", script).split()
    return own, float(now)


def test_forks_go_on_as_machines_of_their_own(hyper: PrivateDaemon, source: str) -> None:
    ok(hyper, "exec", source, "sh", "-c", "echo before > /file")
    ids = ok(hyper, "fork", "-n", "5", "--name", "copy", source).split()
    ok(hyper, "exec", source, "sh", "-c", "echo later > /file")
    names = [f"copy-{n}" for n in range(1, 6)]
    assert ok(hyper, "inspect", "--format", "{{.Id}}", *names).split() == ids
    diaries = [goes_on(hyper, name) for name in names]
    own = goes_on(hyper, source)
    for diary in diaries:
        assert whole(sorted(diary))
    assert whole(sorted(own)) and min(own) == 1
    for number, word in diaries[0].items():
        for other in diaries[1:]:  # what they have in common was written before they were apart
            assert other.get(number) != word or own[number] == word
    assert len({tuple(diary.values())[-1] for diary in diaries}) == 5
    known = [identity(hyper, name) for name in (source, *names)]
    for kind in zip(*(own for own, _ in known), strict=True):
        assert len(set(kind)) == 6, kind
    for (found, now), id in zip(known[1:], ids, strict=True):
        assert found[:2] == [id[:12]] * 2
        assert abs(now - time.time()) < WAIT_S
    for name in names:
        assert ok(hyper, "exec", name, "cat", "/file") == "before"
        written = ok(hyper, "exec", name, "cat", "/diary").splitlines()
        assert whole([int(line.split()[0]) for line in written]) and written[0].startswith("1 ")
        assert (
            ok(hyper, "exec", name, "sh", "-c", "ping -c 1 $(ip route | awk '/default/{print $3}') >/dev/null; echo $?")
            == "0"
        )
    assert ok(hyper, "exec", source, "cat", "/file") == "later"


def test_forks_share_the_memory_that_they_do_not_change(hyper: PrivateDaemon, source: str) -> None:
    ok(hyper, "exec", source, "sh", "-c", "dd if=/dev/urandom of=/dev/shm/much bs=1M count=24 2>/dev/null")
    ok(hyper, "pause", source)  # what it does meanwhile is its own
    ok(hyper, "unpause", source)
    ids = ok(hyper, "fork", "-n", "4", source).split()
    pids = [int(pid) for pid in ok(hyper, "inspect", "--format", "{{.Vm.Pid}}", *ids).split()]
    ok(hyper, "pause", ids[0])
    rollup = [(Path(f"/proc/{pid}/smaps_rollup").read_text(), pss_mib(pid)) for pid in pids]
    private = [sum(map(int, re.findall(r"Private_Dirty: +(\d+)", text))) / 1024 for text, _ in rollup]
    assert max(private) < 60, rollup
    sums = {ok(hyper, "exec", id, "md5sum", "/dev/shm/much") for id in ids[1:]}
    assert sums == {ok(hyper, "exec", source, "md5sum", "/dev/shm/much")}


def test_a_fork_of_a_fork_and_one_without_a_network(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "first", "--network", "none", "busybox", "sh", "-c", SLOW)
    try:
        goes_on(hyper, "first", 1)
        ok(hyper, "fork", "--name", "second", "first")
        ok(hyper, "fork", "--name", "third", "second")
        assert min(goes_on(hyper, "third")) >= 2
        assert ok(hyper, "exec", "third", "hostname") == ok(hyper, "inspect", "--format", "{{.Id}}", "third")[:12]
    finally:
        hyper.ctl("rm", "-f", "first", "second", "third")


def test_what_was_typed_into_the_source_stays_there_and_a_fork_can_be_typed_to(hyper: PrivateDaemon) -> None:
    ok(
        hyper,
        "run",
        "-d",
        "-i",
        "--name",
        "cat",
        "busybox",
        "sh",
        "-c",
        "echo ready; while read x; do echo got $x; done; exit 4",
    )
    try:
        until(lambda: "ready" in hyper.ctl("logs", "cat").out, "it does not start")
        ok(hyper, "fork", "--name", "kitten", "cat")
        done = hyper.ctl("attach", "kitten", stdin=b"milk\n")
        assert (done.status, done.out) == (4, "got milk\n")
        assert hyper.ctl("logs", "cat").out == "ready\n"
        assert ok(hyper, "ps", "-q", "--filter", "name=cat")
    finally:
        hyper.ctl("rm", "-f", "cat", "kitten")


def test_suspended_it_takes_no_memory_and_goes_on_where_it_was(hyper: PrivateDaemon, source: str) -> None:
    own, _ = identity(hyper, source)
    pid = int(ok(hyper, "inspect", "--format", "{{.Vm.Pid}}", source))
    running = subprocess.Popen(
        hyper.argv("exec", source, "sleep", "1000"), env=hyper.env, stderr=subprocess.PIPE, text=True
    )
    until(lambda: "sleep 1000" in hyper.ctl("top", source).out, "exec does not start")
    ok(hyper, "suspend", source)
    _, complaint = running.communicate(timeout=WAIT_S)
    assert running.returncode != 0 and "suspended" in complaint
    until(lambda: not Path(f"/proc/{pid}").exists(), "its QEMU does not end")  # nobody else waits for that
    assert ok(hyper, "ps", "--format", "{{.Names}} {{.Status}}") == "source Suspended"
    before = said(hyper, source)
    for words in (("start", source), ("exec", source, "true"), ("stop", source), ("fork", source)):
        assert "suspended" in hyper.ctl(*words).err
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert said(hyper, source) == before
    ok(hyper, "resume", source)
    after = goes_on(hyper, source)
    assert whole(sorted(after)) and min(after) == 1 and before.items() <= after.items()
    again, now = identity(hyper, source)
    assert again == own
    assert abs(now - time.time()) < WAIT_S
    written = ok(hyper, "exec", source, "cat", "/diary").splitlines()
    assert whole([int(line.split()[0]) for line in written])


def test_a_checkpoint_outlives_its_container(hyper: PrivateDaemon, source: str) -> None:
    own, _ = identity(hyper, source)
    assert ok(hyper, "checkpoint", "create", source, "then") == "then"
    assert ok(hyper, "ps", "-a", "--format", "{{.Names}} {{.State}}") == "source exited"
    last = max(said(hyper, source))
    ok(hyper, "rm", source)
    assert "checkpoint" in hyper.ctl("rmi", "busybox").err
    ok(hyper, "restore", source, "then")
    diary = goes_on(hyper, source)
    assert whole(sorted(diary)) and min(diary) <= last + 1
    assert identity(hyper, source)[0] == own
    ok(hyper, "restore", "--name", "other", source, "then")
    assert goes_on(hyper, "other")
    other, _ = identity(hyper, "other")
    assert not set(other) & set(own)
    assert "then" in ok(hyper, "checkpoint", "ls", source)


def test_restored_in_place_the_disk_is_that_of_the_checkpoint(hyper: PrivateDaemon, source: str) -> None:
    ok(hyper, "exec", source, "sh", "-c", "echo then > /file")
    ok(hyper, "checkpoint", "create", "--leave-running", source, "then")
    ok(hyper, "exec", source, "sh", "-c", "echo later > /file; sync")
    ok(hyper, "stop", "-t", "0", source)
    ok(hyper, "restore", source, "then")
    assert ok(hyper, "exec", source, "cat", "/file") == "then"
    goes_on(hyper, source)


def test_what_cannot_be_copied_is_said(hyper: PrivateDaemon, tmp_path: Path) -> None:
    ok(hyper, "run", "-d", "--name", "tied", "-v", f"{tmp_path}:/data", "busybox", "sleep", "1000")
    try:
        for words in (("fork", "tied"), ("suspend", "tied"), ("checkpoint", "create", "tied", "k")):
            done = hyper.ctl(*words)
            assert done.status and "/data" in done.err, done
        assert ok(hyper, "ps", "-q")
    finally:
        hyper.ctl("rm", "-f", "tied")


def test_a_machine_that_grew_is_copied_with_its_processors_and_refused_with_its_memory(
    hyper: PrivateDaemon, source: str
) -> None:
    ok(hyper, "update", "--cpus", "2", source)
    ok(hyper, "fork", "--name", "copy", source)
    assert ok(hyper, "exec", "copy", "nproc") == "2"
    ok(hyper, "update", "--memory", "512m", source)
    for words in (("fork", source), ("suspend", source), ("checkpoint", "create", source, "k")):
        done = hyper.ctl(*words)
        assert done.status and "memory was added" in done.err, done
    goes_on(hyper, source)
    ok(hyper, "update", "--memory", "512m", "copy")
    goes_on(hyper, "copy")


# hyperd dies


def killed(hyper: PrivateDaemon, step: str, verb: str) -> None:
    """`verb` is done to the source by a hyperd that is killed after `step`; another one takes over."""
    hyper.signal(signal.SIGTERM)
    argv = [sys.executable, "-m", "tests.vm.mortal_copy", str(hyper.config), step, verb]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    hyper.start()


def machines(hyper: PrivateDaemon) -> list[str]:
    """Of pods, not those that wait for one."""
    found = [path.name for path in (Path(str(hyper.settings["run"])) / "pods").iterdir()]
    return [name for name in found if "-" not in name]


def pods(hyper: PrivateDaemon) -> int:
    return len(list((hyper.root / "pods").iterdir()))


@pytest.mark.parametrize("step", STEPS["fork"])
def test_killed_in_a_fork_nothing_of_it_is_left_and_the_source_goes_on(
    hyper: PrivateDaemon, source: str, step: str
) -> None:
    killed(hyper, step, "fork")
    names = ok(hyper, "ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    if step != "thaw":
        assert names == ["source running"]
        assert pods(hyper) == 1
    for name in names:
        assert name.endswith(" running")
        goes_on(hyper, name.split()[0])
    assert whole(sorted(said(hyper, source)))
    assert len(machines(hyper)) == len(names)


@pytest.mark.parametrize("step", STEPS["suspend"])
def test_killed_while_it_suspends_it_goes_on(hyper: PrivateDaemon, source: str, step: str) -> None:
    killed(hyper, step, "suspend")
    assert ok(hyper, "ps", "--format", "{{.State}}") == "running"
    diary = goes_on(hyper, source)
    assert whole(sorted(diary)) and min(diary) == 1
    ok(hyper, "suspend", source)
    ok(hyper, "resume", source)
    goes_on(hyper, source)


@pytest.mark.parametrize("step", STEPS["resume"])
def test_killed_while_it_resumes_it_is_suspended_or_runs(hyper: PrivateDaemon, source: str, step: str) -> None:
    ok(hyper, "suspend", source)
    killed(hyper, step, "resume")
    if step != "thaw":
        assert ok(hyper, "ps", "--format", "{{.State}}") == "suspended"
        until(lambda: machines(hyper) == [], "a QEMU of it stays")
        ok(hyper, "resume", source)
    diary = goes_on(hyper, source)
    assert whole(sorted(diary)) and min(diary) == 1
    written = ok(hyper, "exec", source, "cat", "/diary").splitlines()
    assert whole([int(line.split()[0]) for line in written])


@pytest.mark.parametrize("step", STEPS["checkpoint"])
def test_killed_in_a_checkpoint_there_is_none_and_it_goes_on(hyper: PrivateDaemon, source: str, step: str) -> None:
    killed(hyper, step, "checkpoint")
    goes_on(hyper, source)
    assert ok(hyper, "checkpoint", "ls", "-q") == ""
    assert list((hyper.root / "checkpoints").glob("*/*")) == []


@pytest.mark.parametrize("step", STEPS["restore"])
def test_killed_while_it_restores_it_has_its_own_disk_or_runs(hyper: PrivateDaemon, source: str, step: str) -> None:
    ok(hyper, "checkpoint", "create", "--leave-running", source, "kept")
    ok(hyper, "exec", source, "sh", "-c", "echo later > /file; sync")
    ok(hyper, "stop", "-t", "0", source)
    killed(hyper, step, "restore")
    if ok(hyper, "ps", "-a", "--format", "{{.State}}") == "exited":
        ok(hyper, "start", source)
        assert ok(hyper, "exec", source, "cat", "/file") == "later"
    else:
        assert step == "thaw"
        assert hyper.ctl("exec", source, "cat", "/file").status == 1
    goes_on(hyper, source)


# a disk is full


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0711", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_it_runs_on(kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "small", 64) as root,
        private_daemon(kernels, {"accelerator": ACCELERATOR, "root": str(root), "scratch_mib": 64}) as hyper,
    ):
        ok(hyper, "load", "-i", str(busybox_archive))
        ok(hyper, "run", "-d", "--name", "source", "busybox", "sh", "-c", SLOW)
        goes_on(hyper, "source", 1)
        ok(hyper, "exec", "source", "sh", "-c", "dd if=/dev/urandom of=/dev/shm/much bs=1M count=40 2>/dev/null")
        for words in (("suspend", "source"), ("checkpoint", "create", "source", "k")):
            done = hyper.ctl(*words)
            assert done.status and "No space left on device" in done.err, done
            goes_on(hyper, "source", 2)
        assert ok(hyper, "checkpoint", "ls", "-q") == ""
        assert list(root.glob("pods/*/.*")) == list(root.glob("checkpoints/*/*")) == []
        ok(hyper, "fork", "source")  # in memory there is room
        ok(hyper, "rm", "-f", *ok(hyper, "ps", "-a", "-q").split())


def test_documents_say_what_is_suspended(hyper: PrivateDaemon, source: str) -> None:
    ok(hyper, "suspend", source)
    state = json.loads(ok(hyper, "inspect", source))[0]["State"]
    assert (state["Status"], state["Running"]) == ("suspended", False)
    assert os.path.isdir(hyper.root / "pods")
    ok(hyper, "rm", "-f", source)
