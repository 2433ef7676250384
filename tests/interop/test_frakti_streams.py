"""Exec, attach and port-forward of frakti's pods by crictl, over SPDY and over websockets, into machines that boot."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.test_frakti import CRICTL, LIMIT_S, Kubelet, kubelet, pytestmark  # noqa: F401  fixtures

ECHOES = "httpd -p 127.0.0.1:8080 -h /etc; while read word; do echo got $word; done; echo ended; exec sleep 1000000"


@pytest.fixture(params=["spdy", "websocket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def argv(kubelet: Kubelet, *words: str) -> list[str]:  # noqa: F811
    socket = f"unix://{kubelet.hyper.settings['cri_socket']}"
    return [str(CRICTL), "-r", socket, "-i", socket, "-t", "300s", *words]


def ran(kubelet: Kubelet, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:  # noqa: F811
    done = subprocess.run(argv(kubelet, *words), input=stdin, capture_output=True, timeout=LIMIT_S)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def started(kubelet: Kubelet) -> tuple[str, str]:  # noqa: F811
    """A pod, and a container that runs in it."""
    pod = kubelet.pod()
    container = kubelet.made(pod, "main", "sh", "-c", ECHOES, stdin=True)
    kubelet.ok("start", container)
    return pod, container


def test_what_crictl_does(kubelet: Kubelet, started: tuple[str, str], way: str) -> None:  # noqa: F811
    pod, container = started
    exec_ = ("exec", "--transport", way)
    status, out, err = ran(kubelet, *exec_, container, "sh", "-c", "echo out; echo err >&2; exit 4")
    assert status != 0 and out == b"out\n" and b"err\n" in err and b"exit code 4" in err, (out, err)
    data = os.urandom(2 << 20)
    assert ran(kubelet, *exec_, "-i", container, "cat", stdin=data)[:2] == (0, data)
    status, _, err = ran(kubelet, *exec_, container, "/no/such/program")
    assert status != 0 and b"no/such/program" in err, err
    attached(kubelet, container, way)
    with forwarding(kubelet, pod, way) as port:
        wget = ["busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:{port}/hostname"]
        for _ in range(2):
            done = subprocess.run(wget, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
            assert done.stdout == b"pod-host\n"


def attached(kubelet: Kubelet, container: str, way: str) -> None:  # noqa: F811
    words = argv(kubelet, "attach", "--transport", way, "-i", container)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin and client.stdout
        client.stdin.write(b"word\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got word\n"
        client.kill()
    assert kubelet.status(container)["state"] == "CONTAINER_RUNNING"


@contextmanager
def forwarding(kubelet: Kubelet, pod: str, way: str) -> Iterator[int]:  # noqa: F811
    """The port that leads to 8080 of the pod."""
    words = argv(kubelet, "port-forward", "--transport", way, pod, "0:8080")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
        assert client.stdout
        try:
            yield int(client.stdout.readline().decode().split(":")[1].split()[0])
        finally:
            client.kill()


def test_a_terminal(kubelet: Kubelet, started: tuple[str, str], way: str, tmp_path: Path) -> None:  # noqa: F811
    _, container = started
    words = " ".join(argv(kubelet, "exec", "--transport", way, "-it", container, "sh"))
    script = ["script", "-qec", f"stty rows 33 cols 101; exec {words}", "/dev/null"]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin and client.stdout
        client.stdin.write(b"until stty size | grep '33 101'; do :; done; exit\n")
        client.stdin.flush()
        seen = b""
        while b"33 101\r\n" not in seen:
            seen += (piece := os.read(client.stdout.fileno(), 1000))
            assert piece, seen


def test_what_has_ended_has_no_streams(kubelet: Kubelet, started: tuple[str, str]) -> None:  # noqa: F811
    pod, container = started
    kubelet.ok("stop", "-t", "0", container)
    for words in (("exec", container, "true"), ("attach", container)):
        assert "it is exited" in kubelet(*words).err
    kubelet.ok("stopp", pod)
    assert "not ready" in kubelet("port-forward", pod, "0:80").err
