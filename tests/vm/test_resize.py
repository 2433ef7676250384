"""Sizes: a guest has more while it runs, and less again; its containers' limits are other ones; nothing is lost."""

import hashlib
import json
import re
import signal
from pathlib import Path

import pytest

from hypercontainer.hypervisor.host.limits import OVERHEAD_MIB
from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

NEED_MIB = 300
ALLOCATE = f"dd if=/dev/zero of=/dev/null bs={NEED_MIB}M count=1"  # into one buffer
BLOCK_KIB = 4096


def run(hyper: PrivateDaemon, *words: str) -> str:
    return ok(hyper, "run", "-d", *words, "busybox", "sleep", "100000")


def sh(hyper: PrivateDaemon, name: str, script: str) -> str:
    return ok(hyper, "exec", name, "sh", "-c", script)


def memory_kib(hyper: PrivateDaemon, name: str) -> int:
    found = re.search(r"MemTotal: +(\d+) kB", sh(hyper, name, "cat /proc/meminfo"))
    assert found
    return int(found[1])


def cpus(hyper: PrivateDaemon, name: str) -> int:
    return int(sh(hyper, name, "nproc"))


def allocated(hyper: PrivateDaemon, name: str) -> bool:
    return hyper.ctl("exec", name, *ALLOCATE.split()).status == 0


def limits_mib(hyper: PrivateDaemon, name: str) -> list[int]:
    """What the VMM may have on the host, beyond its own; [] where cgroups are not ours."""
    vm = json.loads(ok(hyper, "inspect", name))[0]["Vm"]
    folders = [Path(folder) for folder in json.loads((Path(vm["RunDir"]) / "vmm.json").read_text())["cgroups"]]
    files = [folder / name for folder in folders for name in ("memory.max", "memory.limit_in_bytes")]
    return [(int(file.read_text()) >> 20) - OVERHEAD_MIB for file in files if file.exists()]


def resident_mib(hyper: PrivateDaemon, name: str) -> int:
    pid = json.loads(ok(hyper, "inspect", name))[0]["Vm"]["Pid"]
    found = re.search(r"^Rss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) >> 10


def test_a_container_that_runs_is_larger_at_once_and_smaller_again(hyper: PrivateDaemon) -> None:
    run(hyper, "--name", "c")
    before = memory_kib(hyper, "c")
    assert cpus(hyper, "c") == 1
    assert not allocated(hyper, "c")
    assert ok(hyper, "update", "--cpus", "2", "--memory", "640m", "c") == "c"
    assert cpus(hyper, "c") == 2
    assert memory_kib(hyper, "c") == before + (384 << 10)
    assert set(limits_mib(hyper, "c")) <= {640}
    assert allocated(hyper, "c")
    vm = json.loads(ok(hyper, "inspect", "c"))[0]["Vm"]
    assert (vm["Vcpus"], vm["MemoryMib"]) == (2, 640)
    used = resident_mib(hyper, "c")
    assert hyper.ctl("update", "--cpus", "1", "--memory", "256m", "c").status == 0
    assert cpus(hyper, "c") == 1
    assert before <= memory_kib(hyper, "c") <= before + 16 * BLOCK_KIB  # the kernel may sit on some blocks
    assert resident_mib(hyper, "c") < used - NEED_MIB // 2  # the host has it back
    assert ok(hyper, "update", "--cpus", "2", "--memory", "640m", "c") == "c"
    assert (cpus(hyper, "c"), memory_kib(hyper, "c")) == (2, before + (384 << 10))


def test_work_goes_on_while_the_sizes_change(hyper: PrivateDaemon) -> None:
    """What is in memory is where it was, whatever comes and goes around it."""
    run(hyper, "--name", "c", "--shm-size", "100m")
    made = sh(hyper, "c", "head -c 8m /dev/urandom > /dev/shm/x; md5sum /dev/shm/x")
    for memory, processors in (("512m", "2"), ("400m", "1"), ("768m", "4"), ("256m", "2")):
        assert hyper.ctl("update", "--memory", memory, "--cpus", processors, "c").status == 0
        assert sh(hyper, "c", "md5sum /dev/shm/x") == made
        assert cpus(hyper, "c") == int(processors)


def test_a_hyperd_that_is_killed_forgets_no_size(hyper: PrivateDaemon) -> None:
    run(hyper, "--name", "c")
    ok(hyper, "update", "--cpus", "2", "--memory", "512m", "--pids-limit", "50", "c")
    before = memory_kib(hyper, "c")
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert (cpus(hyper, "c"), memory_kib(hyper, "c")) == (2, before)
    ok(hyper, "update", "--cpus", "3", "--memory", "640m", "c")
    assert (cpus(hyper, "c"), memory_kib(hyper, "c")) == (3, before + (128 << 10))
    ok(hyper, "restart", "-t", "0", "c")
    assert cpus(hyper, "c") == 3
    assert memory_kib(hyper, "c") > 512 << 10
    assert sh(hyper, "c", "cat /sys/fs/cgroup/pids.max") == "50"


def test_one_that_does_not_run_is_so_from_its_next_start(hyper: PrivateDaemon) -> None:
    ok(hyper, "create", "--name", "c", "busybox", "sleep", "100000")
    ok(hyper, "update", "--cpus", "2", "--memory", "384m", "c")
    ok(hyper, "start", "c")
    assert cpus(hyper, "c") == 2
    assert 300 << 10 < memory_kib(hyper, "c") < 384 << 10


def test_memory_that_is_in_use_is_not_taken(hyper: PrivateDaemon) -> None:
    run(hyper, "--name", "c", "--shm-size", "400m")
    ok(hyper, "update", "--memory", "640m", "c")
    made = sh(
        hyper, "c", "head -c 300m /dev/zero > /dev/shm/x; head -c 8m /dev/urandom > /dev/shm/y; md5sum /dev/shm/y"
    )
    total = memory_kib(hyper, "c")
    done = hyper.ctl("update", "--memory", "256m", "--cpus", "2", "c")
    assert done.status == 1
    assert re.search(r"cannot shrink memory to 256 MiB: \d+ MiB of 640 are in use", done.err)
    assert (memory_kib(hyper, "c"), cpus(hyper, "c")) == (total, 1)
    assert sh(hyper, "c", "md5sum /dev/shm/y") == made
    sh(hyper, "c", "rm /dev/shm/x")
    assert hyper.ctl("update", "--memory", "256m", "c").status == 0


def test_less_than_it_was_started_with_is_a_limit_inside(hyper: PrivateDaemon) -> None:
    run(hyper, "--name", "c", "--memory", "512m", "--factory", "direct")  # not grown to that size
    assert allocated(hyper, "c")
    done = hyper.ctl("update", "--memory", "280m", "c")
    assert (done.status, done.out) == (0, "c\n")
    assert "keeps 512 MiB of memory until it is started again" in done.err
    assert sh(hyper, "c", "cat /sys/fs/cgroup/memory.max") == str(280 << 20)
    assert not allocated(hyper, "c")
    assert hyper.ctl("update", "--memory", "512m", "c") == (0, "c\n", "")
    assert sh(hyper, "c", "cat /sys/fs/cgroup/memory.max") == "max"
    assert allocated(hyper, "c")


def test_a_small_container_has_all_that_it_asked_for(hyper: PrivateDaemon) -> None:
    """-m is what its programs may use, as docker's is; what the guest's kernel takes is not counted."""
    run(hyper, "--name", "c", "--memory", "64m")
    assert sh(hyper, "c", "cat /sys/fs/cgroup/memory.max") == str(64 << 20)
    assert ok(hyper, "inspect", "-f", "{{.HostConfig.Memory}}", "c") == str(64 << 20)
    assert hyper.ctl("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=48M", "count=1").status == 0
    assert hyper.ctl("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=80M", "count=1").status == 137
    assert hyper.ctl("update", "--memory", "128m", "c") == (0, "c\n", "")
    assert hyper.ctl("exec", "c", "dd", "if=/dev/zero", "of=/dev/null", "bs=80M", "count=1").status == 0
    run(hyper, "--name", "least", "--memory", "6m")
    assert sh(hyper, "least", "cat /sys/fs/cgroup/memory.max") == str(6 << 20)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--cpus", "9"], "cannot give a running virtual machine 9 vCPUs: 8 at most"),
        (["--memory", "100g"], "cannot give a running virtual machine 102400 MiB of memory"),
        (["--memory", "5m"], "cannot limit memory to 5 MiB"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_has_changed(
    hyper: PrivateDaemon, words: list[str], complaint: str
) -> None:
    run(hyper, "--name", "c")
    before = memory_kib(hyper, "c")
    done = hyper.ctl("update", *words, "c")
    assert done.status == 1 and complaint in done.err
    assert (cpus(hyper, "c"), memory_kib(hyper, "c")) == (1, before)


POD = """
name: p
resource: {vcpu: 1, memory: 256}
containers:
- {name: a, image: busybox, command: [sleep, "100000"]}
- {name: b, image: busybox, command: [sleep, "100000"]}
"""


def test_containers_of_a_pod_have_limits_of_their_own(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    ok(hyper, "pod", "run", str(tmp_path / "pod.yaml"))

    def limits(name: str) -> list[str]:
        return sh(hyper, name, "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max").splitlines()

    assert limits("a") == limits("b") == ["max", "max 100000", "max"]
    before = memory_kib(hyper, "a")
    ok(hyper, "update", "--cpus", "0.5", "--memory", "64m", "--pids-limit", "20", "a")
    assert limits("a") == [str(64 << 20), "50000 100000", "20"]
    assert limits("b") == ["max", "max 100000", "max"]
    assert (memory_kib(hyper, "b"), cpus(hyper, "b")) == (before, 1)
    ok(hyper, "update", "--cpus", "2", "--memory", "512m", "b")
    assert limits("b") == [str(512 << 20), "200000 100000", "max"]
    assert (memory_kib(hyper, "a"), cpus(hyper, "a")) == (before + (256 << 10), 2)
    assert allocated(hyper, "b")
    assert not allocated(hyper, "a")
    ok(hyper, "update", "--cpus", "0", "--memory", "0", "--pids-limit", "-1", "a")
    assert limits("a") == ["max", "max 100000", "max"]
    assert allocated(hyper, "a")


def test_a_shared_folder_reaches_memory_that_was_added(hyper: PrivateDaemon, tmp_path: Path) -> None:
    run(hyper, "--name", "c", "-v", f"{tmp_path}:/x")
    ok(hyper, "update", "--memory", "768m", "c")
    made = sh(hyper, "c", "head -c 8m /dev/urandom > /x/file; md5sum < /x/file").split()[
        0
    ]  # added memory is used first
    assert hashlib.md5((tmp_path / "file").read_bytes()).hexdigest() == made
    assert hyper.ctl("update", "--memory", "256m", "c").status == 0
    assert sh(hyper, "c", "md5sum < /x/file").split()[0] == made


def test_a_machine_of_another_size_is_asked_for_at_once(hyper: PrivateDaemon) -> None:
    done = hyper.ctl("run", "--rm", "--cpus", "2", "--memory", "512m", "busybox", "sh", "-c", f"nproc; {ALLOCATE}")
    assert done[:2] == (0, "2\n")
