"""containerd with our shim: `ctr run --runtime io.containerd.hyper.v2`, beside runc's, and over the death of hyperd."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hypercontainer.hyperd.shim import messages as m
from hypercontainer.hyperd.shim import options
from hypercontainer.lib import protobuf, ttrpc
from hypercontainer.sandbox import criu
from hypercontainer.testing import layers
from hypercontainer.testing.busybox import find_busybox, layer
from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.containerd import CONTAINERD, CTR, PROGRAMS, Containerd, containerd, until

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not (CONTAINERD.exists() and CTR.exists()), reason="there is no containerd: run `make interop`"),
]

RUNTIME = ("--runtime", "io.containerd.hyper.v2")
IMAGE = "docker.io/library/busybox:latest"
LIMIT_S = 600.0
MOMENTS = 12


class Ctr:
    """containerd's client; `run` and `spawn` start a container named `one` in a machine."""

    def __init__(self, daemon: Containerd, hyper: PrivateDaemon) -> None:
        self.daemon, self.hyper = daemon, hyper

    def __call__(self, *words: str, stdin: bytes = b"") -> Result:
        return self.daemon(*words, stdin=stdin)

    def ok(self, *words: str) -> str:
        return self.daemon.ok(*words)

    def run(self, *command: str, stdin: bytes = b"", runtime: tuple[str, ...] = RUNTIME) -> Result:
        return self.daemon("run", "--rm", *runtime, IMAGE, "one", *command, stdin=stdin)

    def run_config(self, **changes: object) -> Result:
        """What says `words` and ends with status 3, of a config.json with changes."""
        root = self.daemon.folder / "busybox"
        if not root.exists():
            for name in ("bin", "dev", "proc", "sys", "tmp", "run", "etc"):
                (root / name).mkdir(parents=True)
            shutil.copy(find_busybox(), root / "bin/sh")
        config = json.loads(self.ok("oci", "spec"))
        config["root"] = {"path": str(root)}
        config["process"] |= {"args": ["sh", "-c", "echo words; exit 3"], "terminal": False}
        path = self.daemon.folder / "config.json"
        path.write_text(json.dumps(config | changes))
        done = self.daemon("run", "--rm", *RUNTIME, "--config", str(path), "one")
        self.daemon("container", "rm", "one")
        return done

    def start(self, *command: str) -> int:
        """One that runs on, and its pid."""
        self.ok("run", "-d", *RUNTIME, IMAGE, "one", *command)
        return self.task("one")[0]

    def spawn(self, *command: str) -> "subprocess.Popen[bytes]":
        argv = self.daemon.argv("run", "--rm", *RUNTIME, IMAGE, "one", *command)
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def task(self, id: str) -> tuple[int, str]:
        """Its pid and its status; (0, "") when there is none."""
        for line in self.ok("task", "ls").splitlines()[1:]:
            if line.split()[0] == id:
                return int(line.split()[1]), line.split()[2]
        return 0, ""

    def task_call(self, method: str, wanted: object) -> bytes:
        """What containerd would ask the shim of `one`, where its client has no words for it."""
        bundle = self.daemon.folder / "state/io.containerd.runtime.v2.task/default/one"
        request = ttrpc.Request(service=m.TASK, method=method, payload=protobuf.encode(wanted))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT_S)
            sock.connect((bundle / "address").read_text().removeprefix("unix://"))
            sock.sendall(ttrpc.Frame(1, ttrpc.REQUEST, 0, protobuf.encode(request)).encode())
            with sock.makefile("rb") as file:
                header = file.read(ttrpc.HEADER.size)
                answer = protobuf.decode(file.read(ttrpc.length(header)), ttrpc.Response)
        assert answer.status is None or not answer.status.code, answer.status.message
        return answer.payload


@pytest.fixture(scope="module", params=PROGRAMS)
def daemon(request: pytest.FixtureRequest, shared_hyperd: PrivateDaemon, busybox_archive: Path) -> Iterator[Containerd]:
    env = {"HYPER_OCI_HOST": f"unix://{shared_hyperd.folder}/hyper-oci.sock"}
    with containerd(shared_hyperd.bin, env, which=request.param) as daemon:
        daemon.ok("image", "import", str(busybox_archive))
        yield daemon


@pytest.fixture
def ctr(daemon: Containerd, hyper: PrivateDaemon) -> Iterator[Ctr]:
    yield Ctr(daemon, hyper)
    if hyper.process is None:
        hyper.start()
    daemon.clear()
    until(lambda: not list(shims(daemon)))
    until(
        lambda: str(daemon.folder) not in Path("/proc/self/mountinfo").read_text()
    )  # a shim's end is no wait for that


def shims(daemon: Containerd) -> Iterator[int]:
    """Pids of those that serve it."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            mine = os.readlink(path.parent / "ns/mnt") == os.readlink(f"/proc/{daemon.process.pid}/ns/mnt")
            if words[0].endswith(b"/hyper-shim") and mine:
                yield int(path.parent.name)


@contextmanager
def ending(client: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """A client that ends with the block, also when that fails."""
    with client:
        try:
            yield client
        finally:
            client.kill()


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        (("sh", "-c", "echo out; echo err >&2; exit 42"), b""),
        (("wc", "-c"), b"x" * 300_000),
        (("sh", "-c", "kill -TERM $$"), b""),
        (("sh", "-c", "yes words | head -c 1000000 | md5sum"), b""),
        (("sh", "-c", "id -u; pwd; ls /; touch /x && ls /x"), b""),
    ],
)
def test_a_run_is_what_it_is_with_runc(ctr: Ctr, command: tuple[str, ...], stdin: bytes) -> None:
    assert ctr.run(*command, stdin=stdin) == ctr.run(*command, stdin=stdin, runtime=())


def test_an_image_of_many_layers(ctr: Ctr, tmp_path: Path) -> None:
    """More than 30 folders below one another, whose names are longer than the page that a mount's options have."""
    files = [
        layers.layer([layers.member("layers/last", b"%d\n" % n), layers.member(f"layers/{n}", b"")]) for n in range(60)
    ]
    archive = tmp_path / "many.tar"
    archive.write_bytes(layers.docker_archive([layer(find_busybox(), {}), *files], ["docker.io/library/many:latest"]))
    ctr.ok("image", "import", str(archive))
    command = ["sh", "-c", "ls /layers | wc -l; cat /layers/last"]
    for runtime in ((), RUNTIME):
        done = ctr("run", "--rm", *runtime, "docker.io/library/many:latest", "one", *command)
        assert done == Result(0, "61\n59\n", "")


def test_it_is_a_machine(ctr: Ctr) -> None:
    assert ctr.run("uname", "-r").out.strip() != os.uname().release


def test_what_cannot_be_run_is_said(ctr: Ctr) -> None:
    done = ctr.run("nosuch")
    assert done.status == 1 and "nosuch: no such file or directory" in done.err
    assert ctr.task("one") == (0, "")
    pod = ("--annotation", "io.kubernetes.cri.container-type=container")
    refused = ctr("run", "--rm", *RUNTIME, *pod, "--annotation", "io.kubernetes.cri.sandbox-id=gone", IMAGE, "two")
    assert refused.status == 1 and "the shim of gone, which serves all of its pod, is gone" in refused.err
    ctr("container", "rm", "two")


def test_an_annotation_that_nobody_allows_is_refused(ctr: Ctr) -> None:
    for name, why in (("memory_mib", "hyperd's settings do not allow it"), ("kernel", "nobody knows it")):
        asking = ("--annotation", f"io.hypercontainer.{name}=4096", "--annotation", "io.elsewhere.name=x")
        refused = ctr("run", "--rm", *RUNTIME, *asking, IMAGE, "one", "true")
        assert refused.status == 1 and f"cannot use annotation io.hypercontainer.{name}: {why}" in refused.err
        ctr("container", "rm", "one")


def test_a_life(ctr: Ctr) -> None:
    pid = ctr.start("sleep", "1000")
    assert ctr.task("one") == (pid, "RUNNING")
    assert Path(f"/proc/{pid}/cmdline").read_text() == "sleep\0001000\0"
    done = ctr("task", "exec", "--exec-id", "e1", "one", "sh", "-c", "cat; echo err >&2; exit 7", stdin=b"through")
    assert (done.out, done.status) == ("through", 7) and "err" in done.err
    assert "nosuch: no such file or directory" in ctr("task", "exec", "--exec-id", "e2", "one", "nosuch").err
    assert str(pid) in ctr.ok("task", "ps", "one")
    until(lambda: re.search(r"pids\.current +1\b", ctr.ok("task", "metrics", "one")) is not None)  # e2's goes just now
    metrics = ctr.ok("task", "metrics", "one")
    used = (
        r"memory\.usage +[1-9]"
        if Path("/sys/fs/cgroup/cgroup.controllers").exists()
        else r"memory\.usage_in_bytes +[1-9]"
    )
    assert re.search(used, metrics), metrics
    ctr.ok("task", "pause", "one")
    assert ctr.task("one") == (pid, "PAUSED")
    ctr.ok("task", "resume", "one")
    assert "not running" not in ctr("task", "rm", "one").err  # it runs: refused
    assert ctr.task("one") == (pid, "RUNNING")
    ctr.ok("task", "kill", "-s", "KILL", "one")
    until(lambda: ctr.task("one")[1] == "STOPPED")
    assert "process already finished" in ctr("task", "kill", "one").err
    assert "exit code 137" in ctr("task", "rm", "one").err
    until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`")
def test_processes_go_on_from_a_checkpoint(ctr: Ctr) -> None:
    ctr.start("sh", "-c", "n=0; while :; do n=$((n + 1)); echo $n >/dev/shm/count; sleep 0.1; done")
    counted = 'until n=$(cat /dev/shm/count) && test -n "$n"; do sleep 0.1; done; echo $n'
    before = int(ctr.ok("task", "exec", "--exec-id", "e1", "one", "sh", "-c", counted))
    try:
        ctr.ok("container", "checkpoint", "--task", "one", "docker.io/library/saved:1")
        assert ctr.task("one")[1] == "RUNNING"
        folder = ctr.daemon.folder / "images"
        said = m.any_of("containerd.runc.v1.CheckpointOptions", options.Checkpoint(exit=True))
        ctr.task_call("Checkpoint", m.CheckpointTaskRequest(id="one", path=str(folder), options=said))
        until(lambda: ctr.task("one")[1] == "STOPPED")
        assert (folder / "inventory.img").exists() and not (folder / "dump.log").exists()
        ctr.ok("container", "restore", "--live", "two", "docker.io/library/saved:1")
        assert int(ctr.ok("task", "exec", "--exec-id", "e1", "two", "sh", "-c", counted)) > before
        bundle = ctr.daemon.folder / "state/io.containerd.runtime.v2.task/default/one"
        missing = m.CreateTaskRequest(id="one", bundle=str(bundle), checkpoint="/nowhere")
        with pytest.raises(AssertionError, match="cannot go on from /nowhere: no checkpoint of this runtime"):
            ctr.task_call("Create", missing)
    finally:
        ctr("image", "rm", "docker.io/library/saved:1")


@pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`")
def test_a_checkpoint_that_fails_says_why(ctr: Ctr) -> None:
    """Its log goes with the bundle."""
    dials = "until nc 127.0.0.1 80 </silence; do :; done"  # it may come before whoever listens
    ctr.start("sh", "-c", f"mkfifo /silence; nc -l -p 80 -e cat & sleep 1000 >/silence & {dials}")
    connected = "until grep -q ' 01 ' /proc/net/tcp; do sleep 0.1; done"
    ctr.ok("task", "exec", "--exec-id", "e1", "one", "sh", "-c", connected)
    said = m.any_of("containerd.runc.v1.CheckpointOptions", options.Checkpoint(exit=True))
    wanted = m.CheckpointTaskRequest(id="one", path=str(ctr.daemon.folder / "unsaved"), options=said)
    with pytest.raises(AssertionError, match=r"CRIU ended with status 1: .*Connected TCP socket"):
        ctr.task_call("Checkpoint", wanted)
    assert ctr.task("one")[1] == "RUNNING"


def test_other_limits(ctr: Ctr) -> None:
    """As the kubelet asks for them: ctr has no words for it."""
    ctr.start("sleep", "1000")
    limits = {"memory": {"limit": 96 << 20}, "cpu": {"shares": 512, "quota": 20_000}, "pids": {"limit": 77}}
    ctr.task_call("Update", m.UpdateTaskRequest(id="one", resources=resources(limits)))
    metrics = ctr.ok("task", "metrics", "one")
    assert re.search(r"pids\.limit +77\b", metrics) and re.search(rf"limit(_in_bytes)? +{96 << 20}\b", metrics), metrics
    ctr("task", "exec", "--exec-id", "busy", "one", "timeout", "1", "sh", "-c", "while :; do :; done")
    metrics = json.loads(ctr.ok("task", "metrics", "--format", "json", "one"))
    cpu, memory = (metrics.get(name) or metrics[name.upper()] for name in ("cpu", "memory"))
    throttled = cpu["throttling"]["throttled_periods"] if "throttling" in cpu else cpu["nr_throttled"]
    assert throttled > 0 and (memory.get("pg_fault") or memory.get("pgfault")) > 0, metrics
    with pytest.raises(AssertionError, match="cannot read resources: Expected `int"):
        ctr.task_call("Update", m.UpdateTaskRequest(id="one", resources=resources({"pids": {"limit": "many"}})))
    with pytest.raises(AssertionError, match="has no resources"):
        ctr.task_call("Update", m.UpdateTaskRequest(id="one"))


def resources(limits: object) -> m.Any:
    url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
    return m.Any(type_url=url, value=json.dumps(limits).encode())


def test_a_program_or_a_file_takes_the_output(ctr: Ctr) -> None:
    program, log = ctr.daemon.folder / "program", ctr.daemon.folder / "log.txt"
    who = 'echo "$1 $CONTAINER_ID $CONTAINER_NAMESPACE" >who; exec 5>&-'
    program.write_text(f"#!/bin/bash\ncd {ctr.daemon.folder}; {who}; cat <&3 >out; cat <&4 >err; mv out all\n")
    program.chmod(0o755)
    command = ("sh", "-c", "echo out; echo err >&2; exit 3")
    for uri in (f"binary://{program}?words=x", f"file://{log}", f"file://{log}"):
        ctr.ok("run", "-d", "--log-uri", uri, *RUNTIME, IMAGE, "one", *command)
        until(lambda: ctr.task("one")[1] == "STOPPED")
        assert "exit code 3" in ctr("task", "rm", "one").err
        ctr.ok("container", "rm", "one")
    until((ctr.daemon.folder / "all").exists)
    assert (ctr.daemon.folder / "who").read_text() == "words one default\n"
    assert (ctr.daemon.folder / "all").read_text() == "out\n"
    assert (ctr.daemon.folder / "err").read_text() == "err\n"
    assert sorted(log.read_text().split()) == ["err", "err", "out", "out"]


def test_hooks(ctr: Ctr) -> None:
    """Where containerd is: it has mounts of its own."""
    seen, there = ctr.daemon.folder / "seen", ctr.daemon.folder / "there"
    there.mkdir()
    script = f"cat >>{seen}; echo >>{seen}; test -e {there}/file || echo elsewhere >>{seen}"
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    subprocess.run([*ctr.daemon.inside(), "mount", "-t", "tmpfs", "hooks", there], check=True)
    subprocess.run([*ctr.daemon.inside(), "touch", there / "file"], check=True)
    try:
        hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 60}] for kind in kinds}
        done = ctr.run_config(hooks=hooks)
        assert (done.out, done.status) == ("words\n", 3), done
        states = [json.loads(line) for line in seen.read_text().splitlines()]
        assert [(state["id"], state["status"]) for state in states] == [
            ("one", "creating"), ("one", "creating"), ("one", states[2]["status"]), ("one", "stopped"),
        ]  # fmt: skip
        failing = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]}
        assert "hook createRuntime #0: /bin/sh ended with status 3: why" in ctr.run_config(hooks=failing).err
        assert ctr.task("one") == (0, "")
        hanging = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"], "timeout": 1}]}
        assert "hook prestart #0: it did not end within 1 s" in ctr.run_config(hooks=hanging).err
    finally:
        subprocess.run([*ctr.daemon.inside(), "umount", there], check=True)


def test_a_terminal(ctr: Ctr) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 99))
    script = 'tty; until [ "$(stty size)" = "33 99" ]; do :; done; echo sized; read x; exit 5'
    argv = ctr.daemon.argv("run", "--rm", "-t", *RUNTIME, IMAGE, "one", "sh", "-c", script)
    with ending(subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)) as client:
        os.close(slave)
        said = b""
        while b"sized" not in said:
            said += os.read(master, 1000)
        assert b"/dev/pts/0" in said
        os.write(master, b"\n")
        assert client.wait(LIMIT_S) == 5
    os.close(master)


def test_containerd_is_told(ctr: Ctr) -> None:
    with ending(subprocess.Popen(ctr.daemon.argv("events"), stdout=subprocess.PIPE)) as events:
        assert events.stdout
        ctr.start("sleep", "1000")
        ctr.ok("task", "exec", "--exec-id", "e1", "one", "true")
        ctr.ok("task", "pause", "one")
        ctr.ok("task", "resume", "one")
        ctr.ok("task", "kill", "-s", "KILL", "one")
        until(lambda: ctr.task("one")[1] == "STOPPED")
        ctr("task", "rm", "one")
        topics, last = [], b""
        while b"/tasks/delete" not in last:
            last = events.stdout.readline()
            topics += re.findall(rb"/tasks/[a-z-]+", last)[:1]
    wanted = ["create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete"]
    assert [topic.decode().removeprefix("/tasks/") for topic in topics] == wanted


def test_hyperd_may_die(ctr: Ctr) -> None:
    with ending(ctr.spawn("sh", "-c", "while read line; do echo got $line; done; exit 9")) as client:
        assert client.stdin and client.stdout
        client.stdin.write(b"1\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got 1\n"
        ctr.hyper.signal(signal.SIGKILL)
        client.stdin.write(b"2\n")
        client.stdin.flush()
        ctr.hyper.start()
        assert client.stdout.readline() == b"got 2\n"
        assert ctr.task("one")[1] == "RUNNING"
        assert ctr("task", "exec", "--exec-id", "e1", "one", "echo", "words").out == "words\n"
        client.stdin.close()
        assert client.wait(LIMIT_S) == 9


def test_an_exec_outlives_hyperd(ctr: Ctr) -> None:
    ctr.start("sleep", "1000")
    script = "while read line; do echo got $line; done; exit 7"
    argv = ctr.daemon.argv("task", "exec", "--exec-id", "e1", "one", "sh", "-c", script)
    with ending(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as client:
        assert client.stdin and client.stdout
        for n in (b"1", b"2", b"3"):
            client.stdin.write(n + b"\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"got " + n + b"\n"
            ctr.hyper.signal(signal.SIGKILL)
            if n == b"3":
                client.stdin.close()
            ctr.hyper.start()
        assert (client.stdout.read(), client.wait(LIMIT_S)) == (b"", 7)
    assert ctr("task", "exec", "--exec-id", "e1", "one", "echo", "words").out == "words\n"  # its name is free again


def test_an_exec_asked_for_while_there_is_no_hyperd(ctr: Ctr) -> None:
    ctr.start("sleep", "1000")
    ctr.hyper.signal(signal.SIGKILL)
    argv = ctr.daemon.argv("task", "exec", "--exec-id", "e1", "one", "sh", "-c", "echo words; exit 7")
    with ending(subprocess.Popen(argv, stdout=subprocess.PIPE)) as client:
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(1)
        ctr.hyper.start()
        assert client.stdout and (client.stdout.read(), client.wait(LIMIT_S)) == (b"words\n", 7)


def test_a_request_waits_for_the_next_hyperd(ctr: Ctr) -> None:
    ctr.start("sleep", "1000")
    ctr.hyper.signal(signal.SIGKILL)
    with ending(subprocess.Popen(ctr.daemon.argv("task", "kill", "-s", "KILL", "one"))) as kill:
        with pytest.raises(subprocess.TimeoutExpired):
            kill.wait(1)
        ctr.hyper.start()
        assert kill.wait(LIMIT_S) == 0
    until(lambda: ctr.task("one")[1] == "STOPPED")
    assert "exit code 137" in ctr("task", "rm", "one").err


def test_containerd_may_die(ctr: Ctr) -> None:
    pid = ctr.start("sleep", "1000")
    ctr.daemon.process.kill()
    ctr.daemon.process.wait(LIMIT_S)
    ctr.daemon.start()
    assert ctr.task("one") == (pid, "RUNNING")
    assert ctr("task", "exec", "--exec-id", "e1", "one", "echo", "words").out == "words\n"


def test_who_kills_the_shim_kills_the_container(ctr: Ctr) -> None:
    pid = ctr.start("sleep", "1000")
    [shim] = shims(ctr.daemon)
    address = (ctr.daemon.folder / "state/io.containerd.runtime.v2.task/default/one/address").read_text()
    socket = Path(address.removeprefix("unix://"))
    assert socket.is_socket()
    os.kill(shim, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    until(lambda: ctr.task("one") == (0, ""))
    until(lambda: not socket.exists())


def test_its_stand_in_is_in_the_control_group_that_is_named(ctr: Ctr) -> None:
    name = f"hyper-{os.getpid()}"
    ctr.ok("run", "-d", "--cgroup", f"/{name}", *RUNTIME, IMAGE, "one", "sleep", "1000")
    groups = Path(f"/proc/{ctr.task('one')[0]}/cgroup").read_text().splitlines()
    assert f"/{name}" in [line.split(":", 2)[2] for line in groups]
    ctr.ok("task", "kill", "--signal", "KILL", "one")
    until(lambda: ctr.task("one")[1] == "STOPPED")
    ctr.ok("task", "rm", "one")
    assert [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")] == []


def test_a_control_group_that_systemd_cannot_make_is_refused(ctr: Ctr) -> None:
    """It is asked, or there is none: either is said."""
    refused = ctr("run", "-d", "--cgroup", "a--b.slice:ctr:one", *RUNTIME, IMAGE, "one", "sleep", "1000")
    assert refused.status == 1 and "cannot make ctr-one.scope in a--b.slice" in refused.err


def test_hyperd_may_die_at_any_moment_of_a_life(ctr: Ctr) -> None:
    since = time.monotonic()
    assert ctr.run("echo", "words") == (0, "words\n", "")
    whole_s = time.monotonic() - since
    for n in range(MOMENTS):
        with ending(ctr.spawn("echo", "words")) as client:
            with suppress(subprocess.TimeoutExpired):
                client.wait(whole_s * n / MOMENTS)
            ctr.hyper.signal(signal.SIGKILL)
            ctr.hyper.start()
            assert client.stdout
            assert (client.stdout.read(), client.wait(LIMIT_S)) == (b"words\n", 0), f"moment {n} of {MOMENTS}"
        until(lambda: ctr.task("one") == (0, ""))
        ctr("container", "rm", "one")
        until(lambda: not list(shims(ctr.daemon)))


def test_an_end_for_lack_of_memory_is_told(ctr: Ctr) -> None:
    with ending(subprocess.Popen(ctr.daemon.argv("events"), stdout=subprocess.PIPE)) as events:
        assert events.stdout
        ctr.ok("run", "-d", "--memory-limit", str(48 << 20), *RUNTIME, IMAGE, "one", "tail", "/dev/zero")
        until(lambda: ctr.task("one")[1] == "STOPPED")
        assert "exit code 137" in ctr("task", "rm", "one").err
        topics, last = [], b""
        while b"/tasks/delete" not in last:
            last = events.stdout.readline()
            topics += re.findall(rb"/tasks/[a-z-]+", last)[:1]
    assert topics == [b"/tasks/create", b"/tasks/start", b"/tasks/oom", b"/tasks/exit", b"/tasks/delete"]
