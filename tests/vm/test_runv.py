"""runv: containers of bundles, as an engine has them, with real guests; and over the death of hyperd."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.lib.cgroup import COUNTED
from tests import zig
from tests.vm.runv import LIMIT_S, Runv, until

pytestmark = pytest.mark.vm

MAPPED_BYTES = 8 << 20
MAPPED = """
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int fd = open("/mapped", O_RDWR | O_CREAT, 0644);
	char *bytes;

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		return 1;
	bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return 2;
	memset(bytes, 'm', SIZE);
	return 0;
}
"""


def test_a_run_with_its_stdio_and_its_status(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", "wc -c; echo words >&2; echo made >/made; hostname; exit 3", hostname="inside")
    done = runv("run", "--bundle", str(bundle), "one", stdin=b"x" * 300_000)
    assert done == (3, "300000\ninside\n", "words\n")
    assert (bundle / "rootfs/made").read_text() == "made\n"
    assert runv("state", "one") == (1, "", "container does not exist\n")
    assert runv.ok("list", "-q") == ""


def test_what_a_program_has_mapped_is_on_the_host_when_its_machine_is_gone(runv: Runv, tmp_path: Path) -> None:
    """Nobody asks the guest to write anything before its end."""
    bundle = runv.bundle("/bin/map")
    (tmp_path / "map.c").write_text(MAPPED.replace("SIZE", str(MAPPED_BYTES)))
    zig.program(bundle / "rootfs/bin/map", tmp_path / "map.c")
    runv.ok("run", "--bundle", str(bundle), "mapped")
    assert (bundle / "rootfs/mapped").read_bytes() == b"m" * MAPPED_BYTES


def test_what_cannot_begin_is_stopped(runv: Runv) -> None:
    bundle = runv.bundle("/bin/true")
    assert runv.spawn("create", "--bundle", str(bundle), "late").wait(LIMIT_S) == 0
    pid = runv.state("late")["pid"]
    (bundle / "rootfs/bin/true").unlink()
    failed = runv("start", "late")
    assert failed.status == 1 and "/bin/true: no such file or directory" in failed.err
    until(lambda: runv.state("late")["status"] == "stopped" and not Path(f"/proc/{pid}").exists())
    runv.ok("delete", "late")


def test_its_first_process_is_prepared_behind_its_create(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", "echo begun >/begun; sleep 1000")
    assert runv.spawn("create", "--bundle", str(bundle), "soon").wait(LIMIT_S) == 0
    until(lambda: json.loads(runv.ok("events", "--stats", "soon"))["data"]["pids"]["current"] == 1)
    assert runv.state("soon")["status"] == "created" and not (bundle / "rootfs/begun").exists()
    runv.ok("start", "soon")
    until((bundle / "rootfs/begun").exists)
    assert runv.state("soon")["status"] == "running"
    runv.ok("delete", "--force", "soon")


def test_a_life_verb_by_verb(runv: Runv) -> None:
    bundle, pid_file, log = runv.bundle("sleep", "1000"), runv.folder / "pid", runv.folder / "log"
    process = runv.spawn("create", "--bundle", str(bundle), "--pid-file", str(pid_file), "life")
    assert process.wait(LIMIT_S) == 0
    state, pid = runv.state("life"), int(pid_file.read_text())
    assert (state["status"], state["pid"], state["bundle"]) == ("created", pid, str(bundle))
    assert os.readlink(f"/proc/{pid}/exe").endswith("/hyper-standin")
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert runv("create", "--bundle", str(bundle), "life").err == "container with given ID already exists: life\n"
    runv.ok("start", "life")
    assert runv.state("life")["status"] == "running"
    assert "life" not in runv.hyper.ctl("ps", "-a").out  # which is another engine's
    listed = runv.hyper.ctl("ps", "--all-owners", "--format", "{{.Names}} {{.State}} {{.Owner}}").out
    assert f"life running {runv.folder}/root\n" in listed
    runv.ok("pause", "life")
    assert runv.state("life")["status"] == "paused"
    runv.ok("resume", "life")
    assert runv("exec", "life", "sh", "-c", "cat; exit 7", stdin=b"through") == (7, "through", "")
    found = runv("exec", "life", "nosuch")
    assert found.status == 1 and "nosuch: no such file or directory" in found.err
    assert "stop it first" in runv("delete", "life").err
    runv.ok("kill", "life", "KILL")
    until(lambda: runv.state("life")["status"] == "stopped")
    missing = runv("--log", str(log), "--log-format", "json", "kill", "life", "TERM")
    assert missing.status == 1 and json.loads(log.read_text())["msg"] == "container not running"
    runv.ok("delete", "life")


def test_annotations_size_a_machine_where_the_settings_allow_that(runv: Runv) -> None:
    said = {"io.hypercontainer.memory_mib": "768", "io.hypercontainer.vcpus": "2", "elsewhere/name": "x"}
    bundle = runv.bundle("sh", "-c", "nproc; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo", annotations=said)
    refused = runv("run", "--bundle", str(bundle), "large")
    assert refused.status == 1 and "cannot use annotation io.hypercontainer.memory_mib: hyperd's set" in refused.err
    usual = runv.hyper.config.read_text()
    try:
        runv.hyper.config.write_text(usual + 'annotations = ["memory_mib", "vcpus"]\n')
        runv.hyper.signal(signal.SIGKILL)
        runv.hyper.start()
        processors, mib = runv.ok("run", "--bundle", str(bundle), "large").split()
        assert processors == "2" and int(mib) > 650
    finally:
        runv.hyper.config.write_text(usual)
        runv.hyper.signal(signal.SIGKILL)
        runv.hyper.start()


def test_one_that_was_killed_is_started_by_the_next_call(runv: Runv) -> None:
    process = runv.spawn("run", "--bundle", str(runv.bundle("sh", "-c", "read line; echo got $line")), "kept")
    until(lambda: json.loads(runv("state", "kept").out or '{"status": ""}')["status"] == "running")
    runv.hyper.signal(signal.SIGKILL)
    assert "hyperd does not listen" in runv("state", "kept").err  # whose settings are not known
    callers = [subprocess.Popen([*runv.program, "--config", str(runv.hyper.config), "state", "kept"]) for _ in range(3)]
    assert [caller.wait(LIMIT_S) for caller in callers] == [0, 0, 0]
    started = int((runv.hyper.folder / "run/hyperd.lock").read_text())
    try:
        assert process.stdin and process.stdout
        process.stdin.write(b"it\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got it\n"
        assert process.wait(LIMIT_S) == 0
        groups = {line.partition("::")[2] or line.rpartition(":")[2] for line in cgroups(started)}
        assert groups == {"/"}
    finally:
        os.kill(started, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{started}").exists())
        runv.hyper.start()


def cgroups(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


def test_a_stand_in_keeps_nothing_open_that_the_engine_had(runv: Runv) -> None:
    ours, theirs = os.pipe()
    bundle = runv.bundle("sleep", "1000")
    null = subprocess.DEVNULL
    argv = [*runv.program, "create", "--bundle", str(bundle), "quiet"]
    subprocess.run(argv, stdin=null, stdout=null, pass_fds=[theirs], check=True, timeout=LIMIT_S)
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        assert os.read(ours, 1) == b""  # BlockingIOError: somebody has the other end
    finally:
        os.close(ours)


def test_output_and_input_survive_hyperd_each_byte_once(runv: Runv) -> None:
    script = "while read line; do echo got $line; done; echo end; exit 5"
    process = runv.spawn("run", "--bundle", str(runv.bundle("sh", "-c", script)), "lasting")
    assert process.stdin and process.stdout
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        assert process.stdin
        lines = range(sent, sent + count)
        process.stdin.write(b"".join(b"%d\n" % n for n in lines))
        process.stdin.flush()
        sent += count

    send(10)
    assert [process.stdout.readline() for _ in range(10)] == [b"got %d\n" % n for n in range(10)]
    for _ in range(2):
        runv.hyper.signal(signal.SIGKILL)
        send(1000)
        runv.hyper.start()
        send(1000)
    process.stdin.close()
    rest = process.stdout.read()
    assert rest == b"".join(b"got %d\n" % n for n in range(10, sent)) + b"end\n"
    assert process.wait(LIMIT_S) == 5


def test_an_exec_survives_hyperd_each_byte_once(runv: Runv) -> None:
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000")), "holds").wait(LIMIT_S) == 0
    runv.ok("start", "holds")
    process = runv.spawn("exec", "holds", "sh", "-c", "while read line; do echo got $line; done; exit 5")
    quick = runv.spawn("exec", "holds", "sh", "-c", "read line; echo last words; exit 6")
    assert process.stdin and process.stdout and quick.stdin and quick.stdout
    process.stdin.write(b"first\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got first\n"
    until(lambda: "read line" in runv.ok("ps", "holds", "-o", "args") and len(pids(runv, "holds")) == 3)
    quick.stdin.close()
    for n in range(2):
        runv.hyper.signal(signal.SIGKILL)
        process.stdin.write(b"".join(b"%d\n" % (1000 * n + m) for m in range(1000)))
        process.stdin.flush()
        runv.hyper.start()
    process.stdin.close()
    assert process.stdout.read() == b"".join(b"got %d\n" % n for n in range(2000))
    assert (process.wait(LIMIT_S), quick.stdout.read(), quick.wait(LIMIT_S)) == (5, b"last words\n", 6)
    until(lambda: len(pids(runv, "holds")) == 1)
    assert not list((runv.hyper.folder / "lib/pods").glob("*/*/execs/*"))


def pids(runv: Runv, id: str) -> list[int]:
    found: list[int] = json.loads(runv.ok("ps", "--format", "json", id))
    return found


def test_whoever_kills_the_stand_in_of_an_exec_kills_that(runv: Runv) -> None:
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000")), "stays").wait(LIMIT_S) == 0
    runv.ok("start", "stays")
    process = runv.spawn("exec", "stays", "sleep", "2000")
    until(lambda: "sleep 2000" in runv.ok("ps", "stays", "-o", "args") and len(pids(runv, "stays")) == 2)
    os.kill(pids(runv, "stays")[1], signal.SIGKILL)
    assert process.wait(LIMIT_S) == 137
    until(lambda: "sleep 2000" not in runv.ok("ps", "stays", "-o", "args"))
    assert runv.state("stays")["status"] == "running"


def test_a_container_made_before_hyperd_dies_starts_after(runv: Runv) -> None:
    process = runv.spawn("create", "--bundle", str(runv.bundle("echo", "begun")), "waiting")
    assert process.wait(LIMIT_S) == 0
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    assert runv.state("waiting")["status"] == "created"
    runv.ok("start", "waiting")
    assert process.stdout and process.stdout.read() == b"begun\n"
    runv.ok("delete", "--force", "waiting")


def test_an_exec_before_the_start_survives_hyperd_and_the_start(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", "cat /dev/shm/said; exec sleep 1000")
    process = runv.spawn("create", "--bundle", str(bundle), "held")
    assert process.wait(LIMIT_S) == 0
    early = runv.spawn("exec", "held", "sh", "-c", "echo from before >/dev/shm/said; echo said; cat; exit 7")
    assert early.stdout and early.stdin and early.stdout.readline() == b"said\n"
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    assert runv.state("held")["status"] == "created"
    assert runv("exec", "held", "cat", "/dev/shm/said").out == "from before\n"
    runv.ok("start", "held")
    assert process.stdout and process.stdout.readline() == b"from before\n"
    early.stdin.write(b"and after")
    early.stdin.close()
    assert early.stdout.read() == b"and after" and early.wait(LIMIT_S) == 7
    runv.ok("delete", "--force", "held")


def test_whoever_kills_the_stand_in_of_one_that_is_held_kills_what_is_in_it(runv: Runv) -> None:
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000")), "held").wait(LIMIT_S) == 0
    early = runv.spawn("exec", "held", "sleep", "1000")
    until(lambda: len(json.loads(runv.ok("ps", "--format", "json", "held"))) == 2)
    os.kill(runv.state("held")["pid"], signal.SIGKILL)
    assert early.wait(LIMIT_S) == 137
    runv.ok("delete", "held")


def test_whoever_kills_the_stand_in_kills_the_container(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "1000")
    for state in ("created", "running"):
        assert runv.spawn("create", "--bundle", str(bundle), state).wait(LIMIT_S) == 0
        if state == "running":
            runv.ok("start", state)
        os.kill(runv.state(state)["pid"], signal.SIGKILL)
        until(lambda: runv.state(state)["status"] == "stopped")  # noqa: B023
        runv.ok("delete", state)


def test_a_create_that_dies_in_its_hook_leaves_nothing(runv: Runv) -> None:
    group = f"/runv-{os.getpid()}-dies"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat >state; kill -KILL $PPID"]}
    bundle = runv.bundle("true", linux={"cgroupsPath": group}, hooks={"prestart": [hook]})
    assert runv.spawn("create", "--bundle", str(bundle), "dies").wait(LIMIT_S) == -signal.SIGKILL
    pid = json.loads((bundle / "state").read_text())["pid"]
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert list(Path("/sys/fs/cgroup").glob(f"*{group}")) == []
    assert runv.ok("list", "-q") == ""


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_create_that_is_ended_while_its_hook_hangs_leaves_nothing(runv: Runv, kind: str) -> None:
    """The hook is the caller's, and says no timeout."""
    group = f"/runv-{os.getpid()}-hangs"
    fifo = runv.folder / "begun"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ >{fifo}; exec sleep 1000000"]}
    bundle = runv.bundle("true", linux={"cgroupsPath": group}, hooks={kind: [hook]})
    creating = runv.spawn("create", "--bundle", str(bundle), "hangs")
    pid = int(fifo.read_text())
    creating.kill()
    assert creating.wait(LIMIT_S) == -signal.SIGKILL
    os.kill(pid, signal.SIGKILL)
    runv("delete", "--force", "hangs")
    assert runv.ok("list", "-q") == ""
    until(lambda: list(Path("/sys/fs/cgroup").glob(f"*{group}")) == [])


@pytest.mark.skipif(not Path("/sys/fs/cgroup/cpu/cpu.shares").exists(), reason="cgroups of version 1")
def test_the_host_holds_a_machine_to_its_share(runv: Runv) -> None:
    def line(pid: str) -> str:
        with suppress(OSError):  # it goes just now
            return Path(f"/proc/{pid}/cmdline").read_text()
        return ""

    def ours(group: Path) -> bool:
        with suppress(OSError):  # another one's, which goes just now
            return any(runv.hyper.folder.name in line(pid) for pid in (group / "cgroup.procs").read_text().split())
        return False

    def held() -> list[tuple[str, ...]]:
        groups = [group for group in Path("/sys/fs/cgroup/cpu/hyper").glob("*-*") if ours(group)]
        names = ("cpu.cfs_quota_us", "cpu.shares")
        return [tuple((group / name).read_text().strip() for name in names) for group in groups]

    limits = {"resources": {"cpu": {"quota": 50_000, "period": 100_000, "shares": 512}}}
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000", linux=limits)), "held").wait(LIMIT_S) == 0
    assert held() == [("75000", "512")]
    runv.ok("start", "held")
    runv.ok("update", "--cpu-quota", "80000", "--cpu-share", "256", "held")
    assert held() == [("105000", "256")]
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    runv.ok("update", "--cpu-quota", "-1", "held")
    assert held() == [("-1", "256")]
    runv.ok("delete", "--force", "held")
    until(lambda: held() == [])


@pytest.mark.skipif(not Path("/sys/fs/cgroup/cpu/cpu.shares").exists(), reason="cgroups of version 1")
def test_a_machine_is_in_the_group_of_its_only_container(runv: Runv) -> None:
    group = f"/group-{runv.hyper.folder.name}"

    def value(file: str) -> str:
        return (Path("/sys/fs/cgroup", file.partition(".")[0] + group) / file).read_text().strip()

    def processes() -> list[set[str]]:
        folders = sorted(Path("/sys/fs/cgroup").glob(f"*{group}"))
        return [set((each / "cgroup.procs").read_text().split()) for each in folders if each.parent.name in COUNTED]

    limits = {"cgroupsPath": group, "resources": {"memory": {"limit": 200 << 20}, "cpu": {"quota": 50_000}}}
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000", linux=limits)), "one").wait(LIMIT_S) == 0
    pid = runv.state("one")["pid"]
    assert processes() == [{str(pid)}] * len(COUNTED)
    runv.ok("start", "one")
    there = processes()
    assert len(there[0]) > 2 and there == [there[0]] * len(COUNTED)
    wanted = (str((256 + 256) << 20), "256", "75000")
    assert (value("memory.limit_in_bytes"), value("pids.max"), value("cpu.cfs_quota_us")) == wanted
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    runv.ok("update", "--memory", "400m", "--cpu-quota", "80000", "one")
    assert (value("memory.limit_in_bytes"), value("cpu.cfs_quota_us")) == (str((400 + 256) << 20), "105000")
    assert processes() == there
    runv.ok("delete", "--force", "one")
    assert list(Path("/sys/fs/cgroup").glob(f"*{group}")) == []


def test_a_machine_leaves_the_group_of_a_container_that_goes_before_others(runv: Runv) -> None:
    group = f"/group-{runv.hyper.folder.name}"
    first = runv.bundle("sleep", "1000", linux={"cgroupsPath": group})
    assert runv.spawn("create", "--bundle", str(first), "one").wait(LIMIT_S) == 0
    runv.ok("start", "one")
    own = json.loads((first / "config.json").read_text())["linux"]["namespaces"]
    network = {"type": "network", "path": f"/proc/{runv.state('one')['pid']}/ns/net"}
    namespaces = [*(each for each in own if each["type"] != "network"), network]
    second = runv.bundle("sleep", "1000", linux={"cgroupsPath": f"{group}-2", "namespaces": namespaces})
    assert runv.spawn("create", "--bundle", str(second), "two").wait(LIMIT_S) == 0
    runv.ok("start", "two")
    runv.ok("delete", "--force", "one")
    assert list(Path("/sys/fs/cgroup").glob(f"*{group}")) == []
    assert runv.ok("exec", "two", "echo", "here") == "here\n"
    runv.ok("delete", "--force", "two")
    assert list(Path("/sys/fs/cgroup").glob(f"*{group}*")) == []


def test_deletes_at_once_are_one(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "1000")
    assert runv.spawn("create", "--bundle", str(bundle), "often").wait(LIMIT_S) == 0
    runv.ok("start", "often")
    deletes = [runv.spawn("delete", "--force", "often") for _ in range(4)]
    said = [(process.wait(LIMIT_S), process.stderr.read() if process.stderr else b"") for process in deletes]
    assert said == [(0, b"")] * 4
    assert runv.ok("list", "-q") == ""


def test_an_update_is_the_machines_and_the_limits_inside(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "1000", linux={"resources": {"memory": {"limit": 320 << 20}, "pids": {"limit": 50}}})
    assert runv.spawn("create", "--bundle", str(bundle), "grows").wait(LIMIT_S) == 0
    runv.ok("start", "grows")

    def seen() -> tuple[int, list[str]]:
        script = "sed -n '/^MemTotal/s/[^0-9]//gp' /proc/meminfo; cd /sys/fs/cgroup; cat memory.max pids.max"
        total, *limits = runv.ok("exec", "grows", "sh", "-c", script).split()
        return int(total), limits

    before, limits = seen()
    assert limits == [str(320 << 20), "50"]
    runv.ok("update", "--memory", "640m", "grows")
    after, limits = seen()
    assert limits == [str(640 << 20), "50"] and after > before + (256 << 10)
    runv.ok("update", "--resources", "-", "grows", stdin=b'{"memory": {"limit": 134217728}, "pids": {"limit": -1}}')
    assert seen()[1] == [str(128 << 20), "max"]
    for words, why in (
        (["--memory", "much"], "it is no number"),
        (["--l3-cache-schema", "x"], "has no such limit"),
        (["--cpu-quota", "100000000000"], "1000000 vCPUs"),
    ):
        done = runv("update", *words, "grows")
        assert done.status == 1 and why in done.err, done
    assert seen()[1] == [str(128 << 20), "max"]


def test_processes_and_usage_are_told(runv: Runv) -> None:
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000")), "told").wait(LIMIT_S) == 0
    runv.ok("start", "told")
    assert runv.spawn("exec", "--detach", "told", "sleep", "2000").wait(LIMIT_S) == 0  # which keeps the pipes
    pids = json.loads(runv.ok("ps", "--format", "json", "told"))
    assert pids[0] == runv.state("told")["pid"]
    assert [Path(f"/proc/{pid}/comm").read_text() for pid in pids] == ["sleep\n"] * 2
    shown = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    assert shown == ["sleep\x001000\x00", "sleep\x002000\x00"]
    assert [line.split()[1:] for line in runv.ok("ps", "told", "-o", "pid,args").splitlines()] == [
        ["COMMAND"],
        ["sleep", "1000"],
        ["sleep", "2000"],
    ]
    events = runv.spawn("events", "--interval", "100ms", "told")
    assert events.stdout
    first, second = (json.loads(events.stdout.readline()) for _ in range(2))
    assert (first["type"], first["id"], first["data"]["pids"]["current"]) == ("stats", "told", 2)
    assert second["data"]["cpu"]["usage"]["total"] >= first["data"]["cpu"]["usage"]["total"] > 0
    assert first["data"]["cpu"]["throttling"] == {"periods": 0, "throttledPeriods": 0, "throttledTime": 0}
    assert first["data"]["memory"]["raw"]["pgfault"] > 0
    runv.ok("kill", "--all", "told", "KILL")
    assert events.wait(LIMIT_S) == 0
    until(lambda: runv.state("told")["status"] == "stopped")
    for verb in ("ps", "update", "events", "checkpoint", "restore"):
        done = runv(verb, "told")
        assert done.status == 1 and done.err, verb


def test_a_terminal_goes_to_the_console_socket(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", "tty; stty size; read line; stty size; exit 4")
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": True, "consoleSize": {"height": 11, "width": 77}}
    (bundle / "config.json").write_text(json.dumps(config))
    path = runv.folder / "console"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert runv.spawn("create", "-b", str(bundle), "--console-socket", str(path), "tty").wait(LIMIT_S) == 0
        sock, _ = listening.accept()
        with sock:
            _, [master], _, _ = socket.recv_fds(sock, 100, 1)
    try:
        runv.ok("start", "tty")
        said = b""
        while b"11 77" not in said:
            said += os.read(master, 1000)
        assert said.startswith(b"/dev/pts/0\r\n")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=4H", 30, 100, 0, 0))
        os.write(master, b"go\n")
        until(lambda: runv.state("tty")["status"] == "stopped")
        with suppress(OSError):  # EIO: the other end is closed
            while data := os.read(master, 1000):
                said += data
        assert b"30 100\r\n" in said
    finally:
        os.close(master)
    runv.ok("delete", "tty")


def test_ones_own_terminal_is_passed_on(runv: Runv) -> None:
    assert runv.spawn("create", "--bundle", str(runv.bundle("sleep", "1000")), "own").wait(LIMIT_S) == 0
    runv.ok("start", "own")
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=4H", 20, 60, 0, 0))
    words = [*runv.program, "exec", "-t", "own", "sh", "-c", "stty size; read x; stty size; echo got $x; exit 3"]
    said = b""

    def until_it_says(wanted: bytes) -> None:
        nonlocal said
        while wanted not in said:
            said += os.read(master, 1000)

    try:
        process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave)
        until_it_says(b"20 60\r\n")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=4H", 30, 90, 0, 0))
        process.send_signal(signal.SIGWINCH)
        os.write(master, b"a word\n")
        until_it_says(b"30 90\r\ngot a word\r\n")
        assert process.wait(LIMIT_S) == 3
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_what_the_specification_says_holds_in_the_guest(runv: Runv) -> None:
    given = runv.folder / "given"
    given.write_text("a file of the host\n")
    bundle = runv.bundle(
        "sh", "-c", "mkdir /no; id; ulimit -n; umask; cat /given; grep NoNewPrivs /proc/self/status",
        process={
            "user": {"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}],
        },
        linux={
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
            }
        },
    )  # fmt: skip
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"].append({"destination": "/given", "type": "bind", "source": str(given), "options": ["rbind", "ro"]})
    (bundle / "config.json").write_text(json.dumps(config))
    done = runv("run", "-b", str(bundle), "spec")
    assert done.out.splitlines() == [
        "uid=5 gid=6 groups=6,7", "99", "0027", "a file of the host", "NoNewPrivs:\t1",
    ]  # fmt: skip
    assert "Not supported" in done.err or "not supported" in done.err  # errno 95


def test_limits_of_large_pages_and_a_share_of_disks_hold_in_the_guest(runv: Runv) -> None:
    said = {"hugepageLimits": [{"pageSize": "2MB", "limit": 8 << 20}], "blockIO": {"weight": 500}}
    script = "cd /sys/fs/cgroup; cat hugetlb.2MB.max; cat io.weight"
    bundle = runv.bundle("sh", "-c", script, linux={"resources": said})
    done = runv("run", "-b", str(bundle), "pages")
    assert (done.status, done.out.split()) == (0, [str(8 << 20), "default", "4950"]), done


def test_bad_bundles_are_refused_and_leave_nothing(runv: Runv) -> None:
    bundle = runv.bundle("true")
    whole = (bundle / "config.json").read_text()

    def refused(why: str, change: Callable[[dict[str, Any]], object], *words: str) -> None:
        config = json.loads(whole)
        change(config)
        (bundle / "config.json").write_text(json.dumps(config))
        done = runv("create", "-b", str(bundle), *words, "bad")
        assert done.status == 1 and why in done.err, (why, done)
        assert runv.ok("list", "-q") == ""

    refused("ociVersion '9", lambda c: c.update(ociVersion="9"))
    refused("process is missing", lambda c: c.pop("process"))
    refused("Expected `array", lambda c: c["process"].update(args="true"))
    refused("process.args is empty", lambda c: c["process"].update(args=[]))
    refused("process.cwd", lambda c: c["process"].update(cwd="here"))
    refused("nowhere: No such file", lambda c: c["root"].update(path="nowhere"))
    refused("network namespace", lambda c: c["linux"].update(namespaces=[{"type": "pid"}]))
    refused("pid namespace of this host", lambda c: c["linux"]["namespaces"][0].update(path="/x"))
    refused("no action 'SCMP_NO'", lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_NO"}))
    hook = {"path": "/bin/false"}
    refused("hook prestart #0", lambda c: c.update(hooks={"prestart": [hook]}))
    refused("hooks.startContainer", lambda c: c.update(hooks={"startContainer": [{"path": "bin/false"}]}))
    refused("--console-socket is for", lambda c: None, "--console-socket", "/nowhere")
    refused("cannot send the terminal", lambda c: c["process"].update(terminal=True), "--console-socket", "/nowhere")
    (bundle / "config.json").write_text("{")
    assert "it is no JSON" in runv("create", "-b", str(bundle), "bad").err
    (bundle / "config.json").write_text(whole)
    assert "invalid container id" in runv("create", "-b", str(bundle), "../bad").err
    assert "flag provided but not defined" in runv("create", "--nosuch", "bad").err
    assert "descriptors do not reach" in runv("create", "--preserve-fds", "1", "bad").err
