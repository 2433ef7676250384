"""Sockets of this host in containers: an echo, a daemon that is called from its own container, every kind of end."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer.sandbox.relay import MAX_CONNECTIONS
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.vm.conftest import ok, time_passes

pytestmark = pytest.mark.vm

WAIT_S = 300.0
TARGET = "/run/echo.sock"
READY = "cp /caller /c.new && chmod +x /c.new && mv /c.new /c && "  # the caller, which may be running already
LIST = "GET /v1.41/containers/json HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"


class Echo:
    """Who listens on this host: a thread for each that calls."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hyv"))
        self.path = self.folder / "echo"
        self.peers: list[int] = []  # users, as the kernel says
        self.here = 0
        self._lock = threading.Lock()
        self.listen()

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen(256)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        """What is half closed hears the rest."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        with self._lock:
            self.here += 1
            self.peers.append(int.from_bytes(credentials[4:8], "little"))
        try:
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)
        except OSError:
            pass  # it has gone
        with self._lock:
            self.here -= 1

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink()

    def close(self) -> None:
        self.stop()
        self.folder.rmdir()


@pytest.fixture
def echo(hyper: PrivateDaemon) -> Iterator[Echo]:
    echo = Echo()
    yield echo
    hyper.clear()
    until(lambda: not echo.here, "somebody is still connected")
    echo.close()


@pytest.fixture(scope="session")
def image(shared_hyperd: PrivateDaemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with caller.c in it."""
    folder = tmp_path_factory.mktemp("caller")
    caller = zig.program(folder / "caller", Path(__file__).with_name("caller.c"))
    write_archive(folder / "caller.tar", ("caller:latest",), files={"caller": caller.read_bytes()})
    ok(shared_hyperd, "load", "-i", str(folder / "caller.tar"))
    return "caller"


def until(so: Callable[[], object], otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not so():
        assert time.monotonic() < deadline, otherwise
        time_passes()


def bind(path: Path, more: str = "") -> tuple[str, str]:
    return "-v", f"{path}:{TARGET}{more}"


def logs(hyper: PrivateDaemon, name: str) -> str:
    return hyper.ctl("logs", name).out


def test_10_mb_both_ways_and_the_end_of_each(hyper: PrivateDaemon, echo: Echo, image: str) -> None:
    data = os.urandom(1 << 20) * 10
    script = f"{READY} /c {TARGET} | sha256sum"
    done = ok(hyper, "run", "-i", "--rm", *bind(echo.path), image, "sh", "-c", script, stdin=data)
    assert done == f"{hashlib.sha256(data).hexdigest()}  -"
    assert echo.peers == [os.geteuid()]


def test_many_at_once_and_more_than_there_may_be(hyper: PrivateDaemon, echo: Echo, image: str) -> None:
    def run(count: int) -> str:
        script = f"{READY} /c {TARGET} many {count}"
        return ok(hyper, "run", "--rm", *bind(echo.path), image, "sh", "-c", script)

    assert run(MAX_CONNECTIONS) == f"{MAX_CONNECTIONS} heard, 0 ended"
    assert run(MAX_CONNECTIONS + 50) == f"{MAX_CONNECTIONS} heard, 50 ended"
    assert f"the container has {MAX_CONNECTIONS} already" in hyper.log()


def test_it_looks_like_the_hosts(hyper: PrivateDaemon, echo: Echo, image: str) -> None:
    os.chown(echo.path, 33, 50)
    echo.path.chmod(0o660)
    script = f"{READY} stat -c '%F %u %g %a' {TARGET}; echo x | /c {TARGET}"
    for user, status in (("0", 0), ("1000:50", 0), ("1000:1000", 1)):
        words = ("run", "--rm", "-u", user, *bind(echo.path, ":ro"), "--tmpfs", "/t:exec,mode=1777", image)
        done = hyper.ctl(*words, "sh", "-c", script.replace("/c", "/t/c").replace("/t/caller", "/caller"))
        assert (done.status, done.out.splitlines()[0]) == (status, "socket 33 50 660"), done


def test_the_last_words_of_a_container_arrive(hyper: PrivateDaemon, image: str) -> None:
    """Though its machine goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="hyv"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        script = f"{READY} echo goodbye | timeout -s KILL 1 /c {TARGET}; true"
        run = subprocess.Popen(hyper.argv("run", "--rm", *bind(folder / "s"), image, "sh", "-c", script), env=hyper.env)
        listener.settimeout(WAIT_S)
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as said:
            assert run.wait(WAIT_S) == 0
            assert said.read() == b"goodbye\n"
    (folder / "s").unlink()
    folder.rmdir()


def test_a_socket_that_comes_and_goes(hyper: PrivateDaemon, echo: Echo, image: str) -> None:
    ok(hyper, "run", "-d", "--name", "c", *bind(echo.path), image, "sh", "-c", f"{READY} sleep 100000")
    call = ("exec", "-i", "c", "/c", TARGET)
    until(lambda: hyper.ctl(*call, stdin=b"hello").out == "hello", "nobody answers")
    echo.stop()
    assert hyper.ctl(*call, stdin=b"hello").out == ""
    assert f"cannot connect it to {echo.path}: No such file or directory" in hyper.log()
    echo.listen()
    assert ok(hyper, *call, stdin=b"hello") == "hello"
    ok(hyper, "restart", "-t", "0", "c")
    until(lambda: hyper.ctl(*call, stdin=b"hello").out == "hello", "nobody answers after a restart")


def test_a_killed_hyperd_ends_connections_and_the_next_one_takes_others(
    hyper: PrivateDaemon, echo: Echo, image: str
) -> None:
    script = f"{READY} while :; do /c {TARGET} hold; done"
    ok(hyper, "run", "-d", "--name", "c", *bind(echo.path), image, "sh", "-c", script)
    until(lambda: logs(hyper, "c") == "connected\n" and echo.here == 1, "nobody is connected")
    hyper.signal(signal.SIGKILL)
    until(lambda: not echo.here, "the connection did not end here")
    hyper.start()
    until(lambda: logs(hyper, "c") == "connected\nended\nconnected\n" and echo.here == 1, "nobody came back")


def test_a_pause_a_suspension_and_copies(hyper: PrivateDaemon, echo: Echo, image: str) -> None:
    script = f"{READY} while :; do /c {TARGET} hold; done"
    ok(hyper, "run", "-d", "--name", "c", *bind(echo.path), image, "sh", "-c", script)
    until(lambda: logs(hyper, "c") == "connected\n", "nobody is connected")
    ok(hyper, "pause", "c")
    ok(hyper, "unpause", "c")
    ok(hyper, "fork", "--name", "copy", "c")
    until(lambda: "connected\nended\nconnected\n" in "connected\n" + logs(hyper, "copy"), "no copy is connected")
    until(lambda: echo.here == 2, "not both are connected")
    assert logs(hyper, "c") == "connected\n"
    ok(hyper, "rm", "-f", "copy")
    ok(hyper, "suspend", "c")
    until(lambda: not echo.here, "a suspended container is connected")
    ok(hyper, "resume", "c")
    until(lambda: logs(hyper, "c") == "connected\nended\nconnected\n" and echo.here == 1, "nobody came back")
    ok(hyper, "checkpoint", "create", "c", "then")
    until(lambda: not echo.here, "a container that was ended is connected")
    ok(hyper, "restore", "--name", "other", "c", "then")
    until(lambda: logs(hyper, "other") == "ended\nconnected\n" and echo.here == 1, "nobody is connected again")
    ok(hyper, "checkpoint", "rm", "c", "then")


def test_a_container_that_joins_a_pod_that_runs(hyper: PrivateDaemon, echo: Echo, image: str, tmp_path: Path) -> None:
    """It needs no share: the pod was started without one."""
    (tmp_path / "pod.json").write_text(
        json.dumps({"name": "p", "containers": [{"name": "one", "image": "busybox", "command": ["sleep", "100000"]}]})
    )
    ok(hyper, "pod", "run", "-f", str(tmp_path / "pod.json"))
    words = ("run", "-i", "--rm", "--pod", "p", *bind(echo.path), image, "sh", "-c", f"{READY} /c {TARGET}")
    assert ok(hyper, *words, stdin=b"hello") == "hello"
    ok(hyper, "pod", "rm", "-f", "p")


def test_a_daemon_is_asked_from_its_own_container(hyper: PrivateDaemon, image: str) -> None:
    docker = hyper.folder / "hyper-docker.sock"
    script = f"{READY} printf '{LIST}' | /c /var/run/docker.sock open"
    said = ok(
        hyper, "run", "--rm", "--name", "me", "-v", f"{docker}:/var/run/docker.sock:ro", image, "sh", "-c", script
    )
    assert said.startswith("HTTP/1.1 200 OK")
    assert '"Names":["/me"]' in said


def test_what_is_no_stream_is_refused(hyper: PrivateDaemon, image: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hyv"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "log"))
        done = hyper.ctl("run", "--rm", "-v", f"{folder}/log:/dev/log", image, "true")
        assert done.status == 125
        assert "only folders, files and sockets of streams reach into a VM" in done.err
    (folder / "log").unlink()
    folder.rmdir()
