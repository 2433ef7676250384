"""Containers among the processes of another one, or with its memory and queues, with real guests; and over the death of
hyperd."""

import signal
import subprocess

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

WEB = ("--network", "container:web")


def run(hyper: PrivateDaemon, name: str, *flags: str, sleeps: int = 1000) -> str:
    return ok(hyper, "run", "-d", "--name", name, *flags, "busybox", "sleep", str(sleeps))


def sh(hyper: PrivateDaemon, c: str, script: str) -> str:
    return ok(hyper, "exec", c, "sh", "-c", script)


def seen(hyper: PrivateDaemon, c: str) -> set[str]:
    """The sleeps that it sees, by how long they sleep."""
    return set(sh(hyper, c, "ps -o args | sed -n 's/^sleep //p'").split())


def status(hyper: PrivateDaemon, c: str) -> str:
    return ok(hyper, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", c)


def test_processes_are_shared(hyper: PrivateDaemon) -> None:
    run(hyper, "web", sleeps=1111)
    run(hyper, "side", *WEB, "--pid", "container:web", sleeps=2222)
    run(hyper, "chained", *WEB, "--pid", "container:side", sleeps=3333)
    run(hyper, "apart", *WEB, sleeps=4444)

    def all_is_well() -> None:
        for c in ("web", "side", "chained"):
            assert seen(hyper, c) == {"1111", "2222", "3333"}
            assert sh(hyper, c, "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 1111"
        assert seen(hyper, "apart") == {"4444"}
        assert "sleep 1111" not in ok(hyper, "top", "side")

    all_is_well()
    hyper.signal(signal.SIGKILL)
    hyper.start()
    all_is_well()
    sh(hyper, "side", "kill -9 $(pidof sleep | tr ' ' '\\n' | sort -n | tail -1)")  # the youngest, of another one
    assert ok(hyper, "wait", "chained") == "137"
    ok(hyper, "start", "chained")
    ok(hyper, "restart", "-t", "0", "side")
    all_is_well()
    ok(hyper, "kill", "web")
    assert [ok(hyper, "wait", c) for c in ("web", "side", "chained")] == ["137"] * 3
    assert status(hyper, "apart") == "running 0"
    refused = hyper.ctl("start", "side")
    assert refused.status != 0 and "non running container" in refused.err
    for c in ("web", "side", "chained"):
        ok(hyper, "start", c)
    all_is_well()
    ok(hyper, "rm", "-f", "web")
    assert ok(hyper, "wait", "side") == "137"
    assert "no such container" in hyper.ctl("start", "side").err
    ok(hyper, "rm", "-f", "side", "chained", "apart")


def test_memory_and_queues_are_shared(hyper: PrivateDaemon) -> None:
    run(hyper, "web", "--ipc", "shareable")
    run(hyper, "side", *WEB, "--ipc", "container:web")
    run(hyper, "chained", *WEB, "--ipc", "container:side")
    run(hyper, "apart", *WEB)
    run(hyper, "without", *WEB, "--ipc", "none")
    sh(hyper, "web", "echo here >/dev/shm/file; touch /dev/mqueue/queue")

    def all_is_well() -> None:
        own = [sh(hyper, c, "readlink /proc/self/ns/ipc") for c in ("web", "side", "chained", "apart", "without")]
        assert len(set(own[:3])) == 1 and len(set(own)) == 3
        for c in ("side", "chained"):
            assert sh(hyper, c, "cat /dev/shm/file; ls /dev/mqueue").split() == ["here", "queue"]
        assert sh(hyper, "apart", "ls /dev/shm /dev/mqueue").split() == ["/dev/mqueue:", "/dev/shm:"]
        assert sh(hyper, "without", "ls /dev/mqueue; ls -d /dev/shm 2>&1 || true").startswith("ls: /dev/shm")

    all_is_well()
    hyper.signal(signal.SIGKILL)
    hyper.start()
    all_is_well()
    ok(hyper, "restart", "-t", "0", "side")
    all_is_well()
    refused = hyper.ctl("run", "--rm", *WEB, "--ipc", "container:apart", "busybox", "true")
    assert refused.status != 0 and "non-shareable IPC (hint: use IpcMode:shareable" in refused.err
    ok(hyper, "rm", "-f", "web")
    assert sh(hyper, "side", "cat /dev/shm/file") == "here"
    ok(hyper, "rm", "-f", "side", "chained", "apart", "without")


def test_policies_bring_both_back(hyper: PrivateDaemon) -> None:
    ends = "until [ -e /tmp/go ]; do sleep 0.1; done; rm /tmp/go"
    ok(hyper, "run", "-d", "--name", "web", "--restart", "always", "--ipc", "shareable", "busybox", "sh", "-c", ends)
    both = ("--pid", "container:web", "--ipc", "container:web")
    side = run(hyper, "side", *WEB, *both, "--restart", "always", sleeps=2222)
    sh(hyper, "web", "touch /tmp/go")
    assert ok(hyper, "wait", "side") == "137"
    words = ("--filter", f"container={side}", "--filter", "event=start", "--format", "{{.Actor.ID}}")
    argv = hyper.argv("events", "--since", "1h", *words)
    with subprocess.Popen(argv, env=hyper.env, stdout=subprocess.PIPE, text=True) as told:
        assert told.stdout
        assert told.stdout.readline() == told.stdout.readline() == f"{side}\n"
        told.terminate()
    assert "2222" in seen(hyper, "web")
    ok(hyper, "rm", "-f", "side", "web")
